"""Compiled simulations, once for all tests; the session fixture `compiled_kernels` keeps their machine code."""

from types import ModuleType, SimpleNamespace

import pytest
import scripted

from kernels import bind


@pytest.fixture(scope="session")
def cross_simulation() -> ModuleType:
    return bind.simulation("ema_cross")


@pytest.fixture(scope="session")
def scripted_simulation() -> ModuleType:
    return bind.bind(scripted)


@pytest.fixture(scope="session")
def cross_drivers() -> ModuleType:
    return bind.executor("ema_cross")


@pytest.fixture(scope="session")
def scripted_drivers(scripted_simulation) -> ModuleType:
    return bind.bind_executor(scripted_simulation, scripted.NAME)


@pytest.fixture(scope="session")
def lean_simulation() -> ModuleType:
    """The simulation of the scripted strategy without exits of its own."""
    return bind.bind(SimpleNamespace(**{**vars(scripted), "NAME": f"{scripted.NAME}_lean", "EXITS": ()}))
