"""One module per strategy: its parameters, its features, its decision functions.

A strategy module has `NAME`, `PARAMETERS`, `FEATURES` and the compiled rules `signal`, `size`, `plan` and `begin`;
`ema_cross` shows the least of each. What else it may have, and what holds where it does not, is in `kernels.defaults`.
"""

import functools
import importlib
import pkgutil
from types import ModuleType


def names() -> list[str]:
    """Names of all strategies, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


@functools.cache
def load(name: str) -> ModuleType:
    """The module of strategy `name`.

    Raises:
        KeyError: There is no such strategy; the message names those that exist.
    """
    if name not in names():
        raise KeyError(f"unknown strategy {name!r}; known: {', '.join(names())}")
    return importlib.import_module(f"kernels.strategies.{name}")
