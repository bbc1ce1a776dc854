"""Compile the engine for a strategy.

The rules in `engine.py` are written once and call the strategy through a module global. numba freezes globals when it
compiles, so each strategy gets a module of its own, made from the same source file.
"""

import functools
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from kernels.strategies import load

_ENGINE = Path(__file__).with_name("engine.py")


@functools.cache
def engine(strategy: str) -> ModuleType:
    """The engine of strategy `strategy`.

    Raises:
        KeyError: There is no such strategy.
    """
    return bind(load(strategy))


def bind(strategy: ModuleType) -> ModuleType:
    """A new engine that calls the strategy module `strategy`; its `NAME` tells its machine code from other engines'."""
    name = f"kernels.engine_{strategy.NAME}"
    spec = importlib.util.spec_from_file_location(name, _ENGINE)
    if spec is None or spec.loader is None:
        raise ImportError(f"{_ENGINE}: not a loadable module")
    module = importlib.util.module_from_spec(spec)
    module.__dict__["strategy"] = strategy
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
