"""Bind the simulation and the executor's drivers to a strategy.

The rules of a few files call the functions of the strategy through module globals. numba treats globals as constants
when it compiles, so each of these files is loaded once per strategy, as a module of its own. A file also gets the
functions of the files before it.
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

SOURCES = ("signals", "apply", "settle", "decide", "simulate")
"""Files of the simulation, in the order in which they are loaded."""

REQUIRED = ("signal", "size", "plan", "begin")
"""Functions that every strategy must define."""

OPTIONAL = ("context", "manage", "admits", "rank", "add", "trace", "MEMORY", "EXITS", "GATES")
"""Names that a strategy may define; `kernels.defaults` has the values for the others."""


@functools.cache
def simulation(strategy: str) -> ModuleType:
    """Return the simulation of the strategy with the name `strategy`.

    Raises:
        KeyError: There is no such strategy.
    """
    return bind(load(strategy))


@functools.cache
def executor(strategy: str) -> ModuleType:
    """Return the executor's drivers (`executor.py`) for the strategy with the name `strategy`.

    Raises:
        KeyError: There is no such strategy.
    """
    return bind_executor(simulation(strategy), strategy)


def bind(strategy: ModuleType) -> ModuleType:
    """Return a new simulation (`simulate.py`) that calls the functions of the module `strategy`.

    numba keeps the machine code on disk under the `NAME` of the strategy, which must therefore be unique.

    Raises:
        AttributeError: The strategy lacks a required function.
    """
    scope = {rule: getattr(strategy, rule) for rule in REQUIRED}
    scope |= {rule: getattr(strategy, rule, getattr(defaults, rule)) for rule in OPTIONAL}
    scope["read"] = reader(strategy.FEATURES)
    for source in SOURCES[:-1]:
        module = _load(source, strategy.NAME, scope)
        scope |= {
            name: value for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
        }
    return _load(SOURCES[-1], strategy.NAME, scope)


def bind_executor(simulation: ModuleType, name: str) -> ModuleType:
    """Return a new module of the executor's drivers, with the functions of a simulation of the strategy `name`."""
    scope = {key: value for key, value in vars(simulation).items() if not key.startswith("_")}
    return _load("executor", name, scope)


def _load(source: str, strategy: str, scope: Mapping[str, Any]) -> ModuleType:
    path = Path(__file__).with_name(f"{source}.py")
    return load_source(path, f"kernels.{source}_{strategy}", scope)


def load_source(path: Path, name: str, scope: Mapping[str, Any]) -> ModuleType:
    """Load the source file `path` as a new module `name`, with `scope` in its globals before it runs."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path}: not a loadable module")
    module = importlib.util.module_from_spec(spec)
    module.__dict__.update(scope)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def reader(features: Sequence[Use]) -> Callable[..., Any]:
    """Return a compiled function that reads the features of symbol s at main row t from columns [C, T, S].

    The source of the function is generated, because numba can't unpack an array into a tuple of unknown length.
    """
    record = namedtuple("Features", [use.name for use in features])  # type: ignore[misc]  # noqa: PYI024 - names are data
    fields = ", ".join(f"columns[column_of[{i}], t, s]" for i in range(len(features)))
    scope: dict[str, Any] = {"Features": record}
    exec(f"def read(columns, column_of, t, s):\n    return Features({fields})\n", scope)  # noqa: S102 - own text
    compiled: Callable[..., Any] = device(scope["read"])
    return compiled
