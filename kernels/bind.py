"""Compile the engine for a strategy.

The rules in `engine.py` are written once and call the strategy through module globals. numba freezes globals when it
compiles, so each strategy gets a module of its own, made from the same source file.
"""

import functools
import importlib.util
import sys
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from kernels import defaults
from kernels.features import Use
from kernels.jit import device
from kernels.strategies import load

_SIMULATE = Path(__file__).with_name("simulate.py")

REQUIRED = ("signal", "size", "plan", "begin")
"""Rules that every strategy has; those of `defaults` are its to replace."""

OPTIONAL = ("context", "manage", "admits", "rank", "add", "trace", "MEMORY", "EXITS", "GATES")


@functools.cache
def simulation(strategy: str) -> ModuleType:
    """The engine of strategy `strategy`.

    Raises:
        KeyError: There is no such strategy.
    """
    return bind(load(strategy))


def bind(strategy: ModuleType) -> ModuleType:
    """A new engine that calls the strategy module `strategy`; its `NAME` tells its machine code from other engines'.

    Raises:
        AttributeError: The strategy lacks a rule that every strategy has.
    """
    scope = {rule: getattr(strategy, rule) for rule in REQUIRED}
    scope |= {rule: getattr(strategy, rule, getattr(defaults, rule)) for rule in OPTIONAL}
    return load_source(_SIMULATE, f"kernels.simulate_{strategy.NAME}", scope | {"read": reader(strategy.FEATURES)})


def load_source(path: Path, name: str, scope: Mapping[str, Any]) -> ModuleType:
    """A new module `name` out of the source file `path`, whose globals hold `scope` when it runs."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path}: not a loadable module")
    module = importlib.util.module_from_spec(spec)
    module.__dict__.update(scope)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def reader(features: Sequence[Use]) -> Callable[..., Any]:
    """A compiled function that reads the features of symbol s at main row t out of columns [C, T, S].

    Its source is generated: a kernel can't unpack an array into a tuple of a length that it does not know.
    """
    record = namedtuple("Features", [use.name for use in features])  # type: ignore[misc]  # noqa: PYI024 - names are data
    fields = ", ".join(f"columns[rows[{i}], t, s]" for i in range(len(features)))
    scope: dict[str, Any] = {"Features": record}
    exec(f"def read(columns, rows, t, s):\n    return Features({fields})\n", scope)  # noqa: S102 - own text
    compiled: Callable[..., Any] = device(scope["read"])
    return compiled
