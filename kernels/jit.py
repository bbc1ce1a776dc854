"""Compilation of kernels: every rule is compiled with the same options for every target.

Fast math and contraction are off, because results must agree bit for bit between sweep, replay and executor. Division
follows IEEE (`error_model="numpy"`): a zero denominator gives an infinity, which the rules test for, and never an
exception on one target alone.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import sigutils, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.cpu import CPUTargetOptions
from numba.core.options import TargetOptions
from numba.core.registry import CPUDispatcher

Function = TypeVar("Function", bound=Callable[..., Any])

# numba has this flag, but no public option for it. Without the flag, LLVM must assume that a store to one array changes
# the others, and does not vectorise loops over more than a few arrays.
CPUTargetOptions.noalias = TargetOptions.Mapping("noalias")  # type: ignore[no-untyped-call]  # numba is untyped here

# Kernels allocate nothing: scratch memory is an argument. Without the runtime (`_nrt`), reading an array out of a
# NamedTuple costs no reference count, and an allocation fails to compile.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": False, "_nrt": False}


class _OncePerType(CPUDispatcher):
    """A dispatcher that compiles once per types of arguments; numba's own compiles again for each constant."""

    def compile(self, sig: Any) -> Any:
        arguments, _ = sigutils.normalize_signature(sig)  # type: ignore[no-untyped-call]
        return super().compile(tuple(types.unliteral(each) for each in arguments))  # type: ignore[no-untyped-call]


_NO_ENTRY: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


class _LinkedCode(JITCodeLibrary):
    """The code of a rule: linked into each caller, whose driver is optimised as a whole, and never run by itself.

    numba would optimise it in full at each call level, and then emit machine code that nothing calls: a quarter of the
    compile time.
    """

    def _optimize_final_module(self) -> None:
        codegen: Any = self._codegen
        passes, builder = codegen._module_pass_manager(  # noqa: SLF001 - numba has no option for it
            loop_vectorize=False, slp_vectorize=False, cost="cheap"
        )
        passes.run(self._final_module, builder)

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:  # noqa: ARG002 - as numba calls it
        return 0

    @property
    def codegen(self) -> Any:
        return self

    def set_env(self, name: str, environment: Any) -> None:
        """Do nothing: what numba asks `codegen` for is an address in the machine code that isn't there."""


class _RuleCompiler(Compiler):
    """numba's compiler, with `_LinkedCode` for the result."""

    def __init__(self, typing: Any, target: Any, _library: Any, *args: Any) -> None:
        super().__init__(typing, target, _LinkedCode(target.codegen(), "rule"), *args)


class _Rule(_OncePerType):
    """A dispatcher that compiles a rule for compiled callers only.

    Entries from Python for all rules would take a quarter of the compile time. A call from Python goes to a second
    dispatcher, which compiles the rule again with an entry.
    """

    def __init__(self, function: Any, targetoptions: Any) -> None:
        super().__init__(function, targetoptions=targetoptions, pipeline_class=_RuleCompiler)

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
    """Return a dispatcher for a function; the function itself if NUMBA_DISABLE_JIT is set."""
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]  # numba fills its config when it is imported
        return function
    return dispatcher(function, targetoptions={"nopython": True, "boundscheck": None, **_OPTIONS, **options})


_drivers: list[Any] = []
_caching: list[Path] = []


def device(function: Function) -> Function:
    """Compile a scalar rule that is inlined into the compiled functions that call it, on every target."""
    compiled: Function = _compiled(function, _Rule, forceinline=True, **_NO_ENTRY)
    return compiled


def rare(function: Function) -> Function:
    """Compile a rule that runs rarely: a call costs less than inlined code at every call site."""
    compiled: Function = _compiled(function, _Rule, **_NO_ENTRY)
    return compiled


def lanes(function: Function) -> Function:
    """Compile a loop over symbols that LLVM vectorises; its arrays must not overlap."""
    compiled: Function = _compiled(function, _Rule, noalias=True, **_NO_ENTRY)
    return compiled


def driver(function: Function) -> Function:
    """Compile a loop that Python calls; it releases the GIL, and `cache_in` keeps its machine code on disk."""
    # numba names cache files by qualified name, and `kernels.bind` loads one source file under several module names.
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
        The folder in use. The first call in a process decides.
    """
    if _caching:
        return _caching[0]
    folder.mkdir(parents=True, exist_ok=True)
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]  # numba fills its config when it is imported
    _caching.append(folder)
    for compiled in _drivers:
        compiled.enable_caching()
    return folder
