"""Strategies, one module each, with parameters, features and decision functions.

A strategy module defines `NAME`, `PARAMETERS`, `FEATURES` and the compiled functions `signal`, `size`, `plan` and
`begin`; `ema_cross` is a minimal example. Optional names and their defaults are in `kernels.defaults`.
"""

import functools
import importlib
import pkgutil
from types import ModuleType


def names() -> list[str]:
    """Return the names of all strategies, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


@functools.cache
def load(name: str) -> ModuleType:
    """Return the module of the strategy `name`.

    Raises:
        KeyError: There is no such strategy; the message names those that exist.
    """
    if name not in names():
        raise KeyError(f"unknown strategy {name!r}; known: {', '.join(names())}")
    return importlib.import_module(f"kernels.strategies.{name}")
