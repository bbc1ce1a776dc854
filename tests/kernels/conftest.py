"""Compiled engines, once for all tests; their machine code outlives the run."""

from types import ModuleType

import pytest
import scripted

from kernels import bind, cache


@pytest.fixture(scope="session")
def kernel_cache(pytestconfig: pytest.Config):
    return cache.use_cache(pytestconfig.cache.mkdir("kernels"))


@pytest.fixture(scope="session")
def cross_engine(kernel_cache) -> ModuleType:  # noqa: ARG001 - it must be first
    return bind.engine("ema_cross")


@pytest.fixture(scope="session")
def scripted_engine(kernel_cache) -> ModuleType:  # noqa: ARG001 - as above
    return bind.bind(scripted)
