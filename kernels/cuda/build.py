"""Compile the kernels of a strategy for an architecture, without device or driver: libNVVM to PTX, ptxas to cubins.

The machine code rounds every operation as the CPU does. While numba-cuda compiles, this module sets two things that
numba-cuda has no option for: the compute capability of the target, and libNVVM's `fma=0`. Link-time optimisation is
off, because it would ignore that option. Only this module imports numba-cuda.
"""

import contextlib
import importlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np

from kernels import bind as binding
from kernels.cache import rules_hash
from kernels.cuda.layout import KERNELS, KernelArgument, arguments_of, types_of
from kernels.cuda.manifest import (
    MANIFEST,
    CompiledKernel,
    CudaUnavailable,
    KernelManifest,
    capability_of,
    kernel_folder,
    sha256_of,
    to_text,
)
from kernels.params import record_of
from kernels.strategies import load

_THREADS = Path(__file__).with_name("threads.py")
_ADVICE = "it comes with the dependency group cuda: uv sync --group cuda"
_OPTIONS = {"fma": 0, "lto": False, "fastmath": False}

_ENTRY = re.compile(r"\.visible \.entry (\w+)\((.*?)\)", re.DOTALL)
_PARAMETER = re.compile(r"\.param \.(\w+)")
_RELEASE = re.compile(r"release (\d+\.\d+)")
_REPORT = {
    "registers": re.compile(r"Used (\d+) registers"),
    "stack_bytes": re.compile(r"(\d+) bytes stack frame"),
    "spill_stores_bytes": re.compile(r"(\d+) bytes spill stores"),
    "spill_loads_bytes": re.compile(r"(\d+) bytes spill loads"),
}


def bind(strategy: str, cuda: Any, target: str) -> ModuleType:
    """Load `threads.py` for a strategy.

    Args:
        strategy: Name of the strategy.
        cuda: The module `cuda` of numba-cuda, of numba's CUDA simulator, or a stand-in.
        target: Suffix of the module's name, different for each target.
    """
    simulation = binding.simulation(strategy)
    rules = {
        name: getattr(simulation, name)
        for name in ("open_books", "gather", "compute_signals", "count_idle_steps", "advance_book")
    }
    scope = {**rules, "cuda": cuda, "PARAMS": record_of(load(strategy).PARAMETERS)}
    return binding.load_source(_THREADS, f"kernels.cuda.threads_{strategy}_{target}", scope)


def can_compile() -> bool:
    """Return whether the compiler for CUDA is installed."""
    return all(_version(name) for name in ("numba-cuda", "nvidia-nvvm", "nvidia-cuda-nvcc"))


def build(strategy: str, arch: str, root: Path) -> KernelManifest:
    """Compile the kernels of a strategy into their folder below `root`; an error leaves the old folder as it was.

    Raises:
        CudaUnavailable: The compiler is missing, or does not support the architecture.
        KeyError: There is no such strategy.
    """
    code = compile_ptx(strategy, arch)
    root.mkdir(parents=True, exist_ok=True)
    folder = kernel_folder(root, strategy, arch)
    temporary = Path(tempfile.mkdtemp(dir=root, prefix=f".{folder.name}."))
    try:
        kernels = {name: _assemble(temporary, strategy, name, arch, ptx) for name, ptx in code.items()}
        manifest = KernelManifest(strategy, arch, rules_hash(), cuda_release(), _versions(), _OPTIONS, kernels)
        (temporary / MANIFEST).write_text(to_text(manifest))
        temporary.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def compile_ptx(strategy: str, arch: str) -> dict[str, str]:
    """Return the PTX of each kernel of a strategy.

    Raises:
        CudaUnavailable: See `build`.
        KeyError: See `build`.
    """
    capability = capability_of(arch)
    with cuda_compiler(capability) as cuda:
        threads = bind(strategy, cuda, arch)
        code = {}
        for name in KERNELS:
            kernel = getattr(threads, name)
            try:
                code[name] = compile_kernel(cuda, kernel, types_of(kernel, load(strategy)), capability, f"mei_{name}")
            except (cuda.cudadrv.error.CCSupportError, cuda.cudadrv.error.NvvmError) as error:
                raise CudaUnavailable(f"{arch}: the compiler does not support this architecture: {error}") from None
            _check(code[name], arguments_of(kernel, load(strategy)), name)
    return code


@contextlib.contextmanager
def cuda_compiler(capability: tuple[int, int]) -> Iterator[Any]:
    """Yield numba-cuda, set up for a compute capability and to round every operation.

    Raises:
        CudaUnavailable: It is not installed.
    """
    if not can_compile():
        raise CudaUnavailable(f"no compiler for CUDA; {_ADVICE}")
    # Imported here, because numba-cuda is optional: runs on processors do not need it.
    cuda: Any = importlib.import_module("numba.cuda")
    dispatcher: Any = importlib.import_module("numba.cuda.dispatcher")
    unit: Any = importlib.import_module("numba.cuda.cudadrv.nvvm").CompilationUnit
    if getattr(cuda, "implementation", "") != "NVIDIA":
        raise CudaUnavailable(
            "numba.cuda does not come from the package numba-cuda; install numba-cuda into this environment"
        )

    class Device:
        compute_capability = capability

    before = dispatcher.get_current_device, unit.__init__

    def begin(self: Any, options: dict[str, Any]) -> None:
        before[1](self, {**options, "fma": 0})

    dispatcher.get_current_device, unit.__init__ = lambda: Device, begin
    try:
        yield cuda
    finally:
        dispatcher.get_current_device, unit.__init__ = before


def compile_kernel(
    cuda: Any, kernel: Callable[..., Any], signature: tuple[Any, ...], capability: tuple[int, int], entry: str
) -> str:
    """Return the PTX of one kernel, with the entry point `entry`."""
    code, _ = cuda.compile(kernel, signature, device=False, abi="numba", cc=capability, fastmath=False, output="ptx")
    text: str = code
    return text.replace(parameters_of(text)[0], entry)


def parameters_of(ptx: str) -> tuple[str, list[str]]:
    """Return the entry point of a PTX text, and the type of each of its parameters."""
    entries = _ENTRY.findall(ptx)
    if len(entries) != 1:
        raise CudaUnavailable(f"PTX with {len(entries)} entry points instead of one")
    name, parameters = entries[0]
    return name, _PARAMETER.findall(parameters)


def _check(ptx: str, arguments: list[KernelArgument], name: str) -> None:
    """Refuse PTX whose parameters differ from the arguments that a launch passes."""
    expected = [
        "f64" if argument.dtype == "float64" and not argument.order else "u64"
        for argument in arguments
        for _ in argument.words
    ]
    kinds = parameters_of(ptx)[1]
    if kinds != expected:
        raise CudaUnavailable(
            f"kernel {name}: it takes {len(kinds)} words, but a launch passes {len(expected)}; numba-cuda has changed"
        )


def _assemble(folder: Path, strategy: str, name: str, arch: str, ptx: str) -> CompiledKernel:
    """Write PTX and cubin of a kernel into a folder, and return its description."""
    source, target = folder / f"{name}.ptx", folder / f"{name}.cubin"
    source.write_text(ptx)
    command: list[str | Path] = [find_ptxas(), "-v", f"-arch={arch}", "--fmad=false", "-o", target, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed arguments
    if done.returncode:
        raise CudaUnavailable(f"{arch}: ptxas rejects kernel {name}: {done.stderr.strip()}")
    resources = {resource: int(pattern.findall(done.stderr)[-1]) for resource, pattern in _REPORT.items()}
    kernel = getattr(bind(strategy, _Signatures, "signatures"), name)
    arguments = tuple(arguments_of(kernel, load(strategy)))
    return CompiledKernel(parameters_of(ptx)[0], sha256_of(target), **resources, arguments=arguments)


class _Signatures:
    """A stand-in for `cuda` in kernels that are inspected but never run."""


def find_ptxas() -> Path:
    """Return the path of the assembler.

    It is always that of the wheel, never another one of this machine, because machine code depends on its version.

    Raises:
        CudaUnavailable: It is not installed.
    """
    files = importlib.metadata.files("nvidia-cuda-nvcc") if _version("nvidia-cuda-nvcc") else None
    path = next((Path(str(file.locate())) for file in files or () if file.name == "ptxas"), None)
    if path is None or not os.access(path, os.X_OK):
        raise CudaUnavailable(f"no ptxas; {_ADVICE}")
    return path


def cuda_release() -> str:
    """Return the CUDA version of the assembler, such as 13.0; drivers from that version on load its code."""
    output = subprocess.run([find_ptxas(), "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603 - fixed arguments
    match = _RELEASE.search(output)
    if match is None:
        raise CudaUnavailable(f"{find_ptxas()} --version: no release in its output; reinstall nvidia-cuda-nvcc")
    return match[1]


def _versions() -> dict[str, str]:
    """Return the versions of the packages that make machine code."""
    own = {"numba": numba.__version__, "numpy": np.__version__}
    return own | {name: _version(name) for name in ("numba-cuda", "nvidia-nvvm", "nvidia-cuda-nvcc")}


def _version(package: str) -> str:
    """Return the version of an installed package; empty if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
