"""Whether a strategy's module is whole: a person who writes one is told what it lacks before anything compiles."""

import dis
import inspect
import keyword
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numba

from kernels import bind, defaults, strategies
from kernels.book import ORDER_FIELDS
from kernels.features import KINDS, Use
from kernels.ledger import POSITION_FIELDS
from kernels.limits import limits
from kernels.params import Parameter
from mei_pipeline.errors import Fatal
from mei_pipeline.params.paths import closest

_MODEL = "ema_cross"  # the strategy that has the least of each
_DATA = ("NAME", "PARAMETERS", "FEATURES")


def load_strategy(name: str) -> ModuleType:
    """The module of strategy `name`, which must exist.

    Raises:
        Fatal: It can't be imported, or it is not whole; one line per problem.
    """
    where = f"strategy {name} (kernels/strategies/{name})"
    try:
        module = strategies.load(name)
    except Exception as error:
        raise Fatal(f"{where}: can't be imported: {type(error).__name__}: {error}") from error
    if found := list(problems(name, module)):
        raise Fatal("\n".join(f"{where}: {problem}" for problem in found))
    return module


def problems(name: str, module: ModuleType) -> Iterator[str]:
    """What is wrong with the module of strategy `name`, beyond the table of its parameters."""
    rules = {rule: _reference(rule) for rule in (*bind.REQUIRED, *bind.OPTIONAL) if rule.islower()}
    for attribute in (*_DATA, *bind.REQUIRED):
        if not hasattr(module, attribute):
            wanted = f"a function of {_arguments(rules[attribute])}" if attribute in rules else f"see {_MODEL}"
            yield f"{attribute} is missing; {wanted}"
    if getattr(module, "NAME", name) != name:
        yield f"NAME is {module.NAME!r}; it must be that of the module, {name!r}"
    for rule, reference in rules.items():
        if hasattr(module, rule):
            yield from _of_rule(rule, getattr(module, rule), reference)
    if hasattr(module, "PARAMETERS"):
        yield from _of_benchmark(module)
        table = {parameter.path: parameter for parameter in module.PARAMETERS}
        yield from _of_limits(table)
        yield from _of_features(getattr(module, "FEATURES", ()), table)
    taken = {*POSITION_FIELDS, *ORDER_FIELDS}
    for field in getattr(module, "MEMORY", ()):
        if field in taken or not _is_name(field):
            yield f"MEMORY: {field!r} {'is a field of every slot' if field in taken else 'is no name'}; take another"


def _of_rule(rule: str, given: Any, reference: Callable[..., Any]) -> Iterator[str]:
    if not callable(given):
        yield f"{rule} is no function; it must be one of {_arguments(reference)}"
        return
    if not hasattr(given, "py_func") and not numba.config.DISABLE_JIT:  # pyrefly: ignore[missing-attribute]  # numba fills its config when it is imported
        yield f"{rule} is not compiled; put @device of kernels.jit above it"
    if len(inspect.signature(_plain(given)).parameters) != len(inspect.signature(reference).parameters):
        yield f"{rule} takes {_arguments(_plain(given))}; it must take {_arguments(reference)}"


def _of_limits(table: dict[str, Parameter]) -> Iterator[str]:
    missing = [parameter.path for parameter in limits() if parameter.path not in table]
    if missing:
        yield f"PARAMETERS: {missing[0]} is missing; add *limits() of kernels.limits"


def _of_benchmark(module: ModuleType) -> Iterator[str]:
    """The switches without which a rule must not read the benchmark symbol; a search asks them whether it needs one."""
    switches = getattr(module, "BENCHMARK", None)
    readers = [rule for rule in ("signal", "trace") if _reads_lead(getattr(module, rule, None))]
    readers += ["context"] if hasattr(module, "context") else []
    if switches is None and readers:
        yield f"BENCHMARK is missing; {readers[0]} is given the benchmark symbol: name the switches that make it look"
    table = {parameter.path: parameter for parameter in module.PARAMETERS}
    for path in switches or ():
        if path not in table or table[path].kind != "bool":
            yield f"BENCHMARK: {path} is no parameter of kind bool; name a switch"


def _reads_lead(rule: Any) -> bool:
    code = getattr(_plain(rule), "__code__", None)
    return code is not None and any(
        step.argval == "is_lead" for step in dis.get_instructions(code) if step.opname.startswith("LOAD")
    )


def _of_features(features: tuple[Use, ...], table: dict[str, Parameter]) -> Iterator[str]:
    names = [use.name for use in features]
    for index, use in enumerate(features):
        where = f"FEATURES: {use.name}"
        if not _is_name(use.name) or use.name in names[:index]:
            yield f"{where}: {'is there twice' if use.name in names[:index] else 'is no name'}; take another name"
        if use.kind not in KINDS:
            yield f"{where}: unknown kind {use.kind!r}; {closest(use.kind, KINDS)}known: {', '.join(KINDS)}"
            continue
        windows = KINDS[use.kind].windows
        if len(use.paths) != len(windows):
            wanted = f"{len(windows)}: {', '.join(windows)}" if windows else "none"
            yield f"{where}: {len(use.paths)} paths are given; the windows of {use.kind} are {wanted}"
        for path in use.paths:
            yield from (f"{where}: {path}: {problem}" for problem in _of_window(path, table))


def _of_window(path: str, table: dict[str, Parameter]) -> Iterator[str]:
    if path not in table:
        yield f"unknown parameter; {closest(path, table)}it must be one of PARAMETERS"
    elif table[path].role != "feature":
        yield f"has the role {table[path].role}; the parameter of a window has the role feature"
    elif table[path].kind != "int" or table[path].low < 1:
        yield "is the length of a window; its kind must be int and its least value 1 or more"


def _reference(rule: str) -> Callable[..., Any]:
    """A function with the arguments that `rule` must have."""
    return _plain(getattr(strategies.load(_MODEL) if rule in bind.REQUIRED else defaults, rule))


def _plain(rule: Any) -> Callable[..., Any]:
    """The Python function of a compiled one."""
    plain: Callable[..., Any] = getattr(rule, "py_func", rule)
    return plain


def _arguments(function: Callable[..., Any]) -> str:
    return f"({', '.join(inspect.signature(function).parameters)})"


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text) and not text.startswith("_")
