"""Checks of the module of a strategy, so that an author learns of all problems before anything compiles."""

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

_MODEL = "ema_cross"  # the smallest strategy, named as an example in messages
_DATA = ("NAME", "PARAMETERS", "FEATURES")
_IS_BENCHMARK = 2  # position of the argument `is_benchmark` of `signal` and `trace`


def load_strategy(name: str) -> ModuleType:
    """Return the module of strategy `name`, which must exist.

    Raises:
        Fatal: It can't be imported or has problems; one line per problem.
    """
    where = f"strategy {name} (kernels/strategies/{name})"
    try:
        module = strategies.load(name)
    except Exception as error:
        raise Fatal(f"{where}: can't be imported: {type(error).__name__}: {error}") from error
    if problems := list(module_problems(name, module)):
        raise Fatal("\n".join(f"{where}: {problem}" for problem in problems))
    return module


def module_problems(name: str, module: ModuleType) -> Iterator[str]:
    """Yield the problems of the module of strategy `name`, except those of its table of parameters."""
    rules = {rule: _reference(rule) for rule in (*bind.REQUIRED, *bind.OPTIONAL) if rule.islower()}
    for attribute in (*_DATA, *bind.REQUIRED):
        if not hasattr(module, attribute):
            expected = f"a function of {_arguments(rules[attribute])}" if attribute in rules else f"see {_MODEL}"
            yield f"{attribute} is missing; {expected}"
    if getattr(module, "NAME", name) != name:
        yield f"NAME is {module.NAME!r}; it must be that of the module, {name!r}"
    for rule, reference in rules.items():
        if hasattr(module, rule):
            yield from _rule_problems(rule, getattr(module, rule), reference)
    if hasattr(module, "PARAMETERS"):
        yield from _benchmark_problems(module)
        table = {parameter.path: parameter for parameter in module.PARAMETERS}
        yield from _limit_problems(table)
        yield from _feature_problems(getattr(module, "FEATURES", ()), table)
    reserved = {*POSITION_FIELDS, *ORDER_FIELDS}
    for field in getattr(module, "MEMORY", ()):
        if field in reserved or not _is_name(field):
            problem = "is a field of every position" if field in reserved else "is not a valid name"
            yield f"MEMORY: {field!r} {problem}; use another name"


def _rule_problems(rule: str, function: Any, reference: Callable[..., Any]) -> Iterator[str]:
    if not callable(function):
        yield f"{rule} is not a function; it must be one of {_arguments(reference)}"
        return
    if not hasattr(function, "py_func") and not numba.config.DISABLE_JIT:  # pyrefly: ignore[missing-attribute]  # numba fills its config when it is imported
        yield f"{rule} is not compiled; decorate it with @device of kernels.jit"
    if len(inspect.signature(python_function(function)).parameters) != len(inspect.signature(reference).parameters):
        yield f"{rule} takes {_arguments(python_function(function))}; it must take {_arguments(reference)}"


def _limit_problems(table: dict[str, Parameter]) -> Iterator[str]:
    missing = [parameter.path for parameter in limits() if parameter.path not in table]
    if missing:
        yield f"PARAMETERS: {missing[0]} is missing; add *limits() of kernels.limits"


def _benchmark_problems(module: ModuleType) -> Iterator[str]:
    """Yield problems of the switches without which a rule must not read the benchmark symbol.

    A sweep reads these switches to decide if it needs a benchmark symbol.
    """
    switches = getattr(module, "BENCHMARK", None)
    readers = [rule for rule in ("signal", "trace") if _reads_benchmark(getattr(module, rule, None))]
    readers += ["context"] if hasattr(module, "context") else []
    if switches is None and readers:
        yield f"BENCHMARK is missing; {readers[0]} reads the benchmark symbol: list the switches that make it do so"
    table = {parameter.path: parameter for parameter in module.PARAMETERS}
    for path in switches or ():
        if path not in table or table[path].kind != "bool":
            yield f"BENCHMARK: {path} is not a parameter of kind bool; name a switch"


def _reads_benchmark(rule: Any) -> bool:
    """Return True if `signal` or `trace` loads its argument `is_benchmark`."""
    code = getattr(python_function(rule), "__code__", None)
    if code is None or code.co_argcount <= _IS_BENCHMARK:
        return False
    # A strategy may give its arguments other names, so the position decides.
    argument = code.co_varnames[_IS_BENCHMARK]
    loads = (step.argval for step in dis.get_instructions(code) if step.opname.startswith("LOAD"))
    return any(argument in (loaded if isinstance(loaded, tuple) else (loaded,)) for loaded in loads)


def _feature_problems(features: tuple[Use, ...], table: dict[str, Parameter]) -> Iterator[str]:
    names = [use.name for use in features]
    for index, use in enumerate(features):
        where = f"FEATURES: {use.name}"
        if not _is_name(use.name) or use.name in names[:index]:
            problem = "is listed twice" if use.name in names[:index] else "is not a valid name"
            yield f"{where}: {problem}; use another name"
        if use.kind not in KINDS:
            yield f"{where}: unknown kind {use.kind!r}; {closest(use.kind, KINDS)}known: {', '.join(KINDS)}"
            continue
        windows = KINDS[use.kind].windows
        if len(use.paths) != len(windows):
            expected = f"{len(windows)}: {', '.join(windows)}" if windows else "none"
            yield f"{where}: {len(use.paths)} paths; the windows of {use.kind} are {expected}"
        for path in use.paths:
            yield from (f"{where}: {path}: {problem}" for problem in _window_problems(path, table))


def _window_problems(path: str, table: dict[str, Parameter]) -> Iterator[str]:
    if path not in table:
        yield f"unknown parameter; {closest(path, table)}it must be one of PARAMETERS"
    elif table[path].role != "feature":
        yield f"has the role {table[path].role}; the parameter of a window needs the role feature"
    elif table[path].kind != "int" or table[path].low < 1:
        yield "is the length of a window; it needs the kind int and a lower bound of at least 1"


def _reference(rule: str) -> Callable[..., Any]:
    """Return a function with the arguments that `rule` must have."""
    return python_function(getattr(strategies.load(_MODEL) if rule in bind.REQUIRED else defaults, rule))


def python_function(rule: Any) -> Callable[..., Any]:
    """Return the Python function behind a compiled one; calling it a few times is faster than compiling."""
    function: Callable[..., Any] = getattr(rule, "py_func", rule)
    return function


def _arguments(function: Callable[..., Any]) -> str:
    return f"({', '.join(inspect.signature(function).parameters)})"


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text) and not text.startswith("_")
