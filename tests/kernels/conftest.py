"""Compiled engines, once for all tests; the session's `compiled_kernels` keeps their machine code for the next run."""

from types import ModuleType

import numba
import pytest
import scripted
from warm import lean

from kernels import bind

ABOUT_COMPILING = ("cuda", "launch", "simulator", "sources")
"""Ends of the names of files that test plain Python around the compiled rules."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Spare compiled rules the tracer of the coverage: it sees nothing of them, and doubles the time of their twins."""
    compiled = not numba.config.DISABLE_JIT
    if compiled and not item.path.stem.endswith(ABOUT_COMPILING):
        item.add_marker("no_cover")


@pytest.fixture(scope="session")
def cross_engine() -> ModuleType:
    return bind.engine("ema_cross")


@pytest.fixture(scope="session")
def scripted_engine() -> ModuleType:
    return bind.bind(scripted)


@pytest.fixture(scope="session")
def lean_engine() -> ModuleType:
    """The engine of the scripted strategy without exits of its own."""
    return bind.bind(lean())
