"""How MEI compiles a function, so that every rule is compiled with the same options on every target.

No fastmath and no contraction: results must agree bit for bit between the sweep, the replay and the executor.
Division follows IEEE (`error_model="numpy"`), so a zero denominator gives an infinity that the rules test for, never an
exception that one target would raise and another would not.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import sigutils, types
from numba.core.cpu import CPUTargetOptions
from numba.core.options import TargetOptions
from numba.core.registry import CPUDispatcher

Function = TypeVar("Function", bound=Callable[..., Any])

# numba has the flag and no public way to it. Without it LLVM must assume that a store to one array changes the others,
# and vectorises nothing that reads more than a few of them.
CPUTargetOptions.noalias = TargetOptions.Mapping("noalias")  # type: ignore[no-untyped-call]  # numba is untyped here

# Kernels allocate nothing: scratch memory is an argument. Without the runtime (`_nrt`), reading an array out of a
# NamedTuple costs no reference count, and an allocation fails to compile.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": False, "_nrt": False}


class _OncePerType(CPUDispatcher):
    """Compiles a rule once for the types of its arguments. numba's own does it anew for each constant in a call."""

    def compile(self, sig: Any) -> Any:
        arguments, _ = sigutils.normalize_signature(sig)  # type: ignore[no-untyped-call]
        return super().compile(tuple(types.unliteral(each) for each in arguments))  # type: ignore[no-untyped-call]


_NO_ENTRY: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


class _Rule(_OncePerType):
    """Compiles a rule for compiled callers alone: an entry from Python to each would take a quarter of all compiling.

    A call from Python goes to a second dispatcher, which compiles the rule once more with its entry.
    """

    def add_overload(self, cres: Any) -> None:
        self.overloads[tuple(cres.signature.args)] = cres  # numba's own also makes it callable from Python

    def enable_caching(self) -> None:
        self._from_python.enable_caching()

    def _compile_for_args(self, *args: Any, **kws: Any) -> Any:
        return self._from_python._compile_for_args(*args, **kws)  # noqa: SLF001 - the entry, which numba then calls

    @functools.cached_property
    def _from_python(self) -> Any:
        options = {name: value for name, value in self.targetoptions.items() if name not in _NO_ENTRY}
        return _OncePerType(self.py_func, targetoptions=options)


def _compiled(function: Any, dispatcher: type[CPUDispatcher], **options: Any) -> Any:
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]  # numba fills its config when it is imported
        return function
    return dispatcher(function, targetoptions={"nopython": True, "boundscheck": None, **_OPTIONS, **options})


_drivers: list[Any] = []
_caching: list[Path] = []


def device(function: Function) -> Function:
    """Compile a scalar rule; callable from drivers of every target and inlined into them."""
    compiled: Function = _compiled(function, _Rule, forceinline=True, **_NO_ENTRY)
    return compiled


def rare(function: Function) -> Function:
    """Compile a rule that seldom runs: a call costs less than the same code in every place that calls it."""
    compiled: Function = _compiled(function, _Rule, **_NO_ENTRY)
    return compiled


def lanes(function: Function) -> Function:
    """Compile a loop over symbols that LLVM turns into vector code; its arrays must not overlap."""
    compiled: Function = _compiled(function, _Rule, noalias=True, **_NO_ENTRY)
    return compiled


def driver(function: Function) -> Function:
    """Compile a loop that the host calls; it releases the GIL, and `cache_in` keeps its machine code on disk."""
    # numba names cache files by qualified name, and one source file may be loaded under several module names.
    function.__qualname__ = f"{function.__module__}.{function.__qualname__}"
    compiled: Function = _compiled(function, _OncePerType, nogil=True)
    if compiled is function:
        return function  # NUMBA_DISABLE_JIT is set: there is no machine code to keep
    _drivers.append(compiled)
    if _caching:
        _drivers[-1].enable_caching()
    return compiled


def cache_in(folder: Path) -> Path:
    """Keep the machine code of all drivers, present and future, in `folder`.

    Returns:
        The folder in use: the first call decides for the process.
    """
    if _caching:
        return _caching[0]
    folder.mkdir(parents=True, exist_ok=True)
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]  # numba fills its config when it is imported
    _caching.append(folder)
    for compiled in _drivers:
        compiled.enable_caching()
    return folder
