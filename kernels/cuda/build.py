"""Compile the kernels of a strategy for an architecture, without device or driver: libNVVM makes PTX, ptxas cubins.

The machine code rounds every operation as the CPU does. Two things that numba-cuda does not offer are put in place
while it compiles: an answer to which device is meant, and libNVVM's `fma=0`. Nothing is optimised at link time, which
would lose that option. Only this module imports numba-cuda.
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
    """The threads of a strategy.

    Args:
        strategy: Name of the strategy.
        cuda: What the kernels call `cuda`: the module of numba-cuda, of its simulator, or a stand-in.
        target: What tells this module from that of another target.
    """
    simulation = binding.simulation(strategy)
    rules = {
        name: getattr(simulation, name)
        for name in ("open_books", "gather", "compute_signals", "count_idle_steps", "advance_book")
    }
    scope = {**rules, "cuda": cuda, "PARAMS": record_of(load(strategy).PARAMETERS)}
    return binding.load_source(_THREADS, f"kernels.cuda.threads_{strategy}_{target}", scope)


def can_compile() -> bool:
    """Whether what compiles is installed."""
    return all(_version(name) for name in ("numba-cuda", "nvidia-nvvm", "nvidia-cuda-nvcc"))


def build(strategy: str, arch: str, root: Path) -> KernelManifest:
    """Compile the kernels of a strategy into a folder of their own below `root`, whole or not at all.

    Raises:
        CudaUnavailable: What compiles is missing, or does not know the architecture.
        KeyError: There is no such strategy.
    """
    code = compile_ptx(strategy, arch)
    root.mkdir(parents=True, exist_ok=True)
    place = kernel_folder(root, strategy, arch)
    fresh = Path(tempfile.mkdtemp(dir=root, prefix=f".{place.name}."))
    try:
        kernels = {name: _assemble(fresh, strategy, name, arch, ptx) for name, ptx in code.items()}
        manifest = KernelManifest(strategy, arch, rules_hash(), cuda_release(), _versions(), _OPTIONS, kernels)
        (fresh / MANIFEST).write_text(to_text(manifest))
        fresh.chmod(0o755)
        shutil.rmtree(place, ignore_errors=True)
        fresh.rename(place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return manifest


def compile_ptx(strategy: str, arch: str) -> dict[str, str]:
    """PTX of each kernel of a strategy.

    Raises:
        CudaUnavailable: As for `build`.
        KeyError: As for `build`.
    """
    capability = capability_of(arch)
    with cuda_compiler(capability) as cuda:
        threads = bind(strategy, cuda, arch)
        found = {}
        for name in KERNELS:
            kernel = getattr(threads, name)
            try:
                found[name] = compile_kernel(cuda, kernel, types_of(kernel, load(strategy)), capability, f"mei_{name}")
            except (cuda.cudadrv.error.CCSupportError, cuda.cudadrv.error.NvvmError) as error:
                raise CudaUnavailable(f"{arch}: the compiler does not take this architecture: {error}") from None
            _check(found[name], arguments_of(kernel, load(strategy)), name)
    return found


@contextlib.contextmanager
def cuda_compiler(capability: tuple[int, int]) -> Iterator[Any]:
    """numba-cuda, told which device is meant and to round every operation.

    Raises:
        CudaUnavailable: It is not installed.
    """
    if not can_compile():
        raise CudaUnavailable(f"no compiler for CUDA; {_ADVICE}")
    # Imported here: whoever runs on processors alone need not have it.
    cuda: Any = importlib.import_module("numba.cuda")
    dispatcher: Any = importlib.import_module("numba.cuda.dispatcher")
    unit: Any = importlib.import_module("numba.cuda.cudadrv.nvvm").CompilationUnit
    if getattr(cuda, "implementation", "") != "NVIDIA":
        raise CudaUnavailable(
            "numba.cuda is not that of the package numba-cuda; install it into this environment itself"
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
    """PTX of one kernel, whose entry is called `entry`."""
    code, _ = cuda.compile(kernel, signature, device=False, abi="numba", cc=capability, fastmath=False, output="ptx")
    text: str = code
    return text.replace(parameters_of(text)[0], entry)


def parameters_of(ptx: str) -> tuple[str, list[str]]:
    """The entry of a PTX file, and the kind of each of its parameters."""
    found = _ENTRY.findall(ptx)
    if len(found) != 1:
        raise CudaUnavailable(f"PTX with {len(found)} entries instead of one")
    name, parameters = found[0]
    return name, _PARAMETER.findall(parameters)


def _check(ptx: str, arguments: list[KernelArgument], name: str) -> None:
    """Hold what will be handed over against what the code takes."""
    wanted = [
        "f64" if argument.dtype == "float64" and not argument.order else "u64"
        for argument in arguments
        for _ in argument.words
    ]
    found = parameters_of(ptx)[1]
    if found != wanted:
        raise CudaUnavailable(
            f"kernel {name}: takes {len(found)} words, {len(wanted)} would be handed over; numba-cuda changed"
        )


def _assemble(folder: Path, strategy: str, name: str, arch: str, ptx: str) -> CompiledKernel:
    source, target = folder / f"{name}.ptx", folder / f"{name}.cubin"
    source.write_text(ptx)
    command: list[str | Path] = [find_ptxas(), "-v", f"-arch={arch}", "--fmad=false", "-o", target, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - own words
    if done.returncode:
        raise CudaUnavailable(f"{arch}: ptxas refuses the kernel {name}: {done.stderr.strip()}")
    figures = {figure: int(pattern.findall(done.stderr)[-1]) for figure, pattern in _REPORT.items()}
    kernel = getattr(bind(strategy, _Signatures, "signatures"), name)
    arguments = tuple(arguments_of(kernel, load(strategy)))
    return CompiledKernel(parameters_of(ptx)[0], sha256_of(target), **figures, arguments=arguments)


class _Signatures:
    """A `cuda` for kernels that no one calls."""


def find_ptxas() -> Path:
    """The assembler of the wheel, never another one of this machine: machine code depends on its version.

    Raises:
        CudaUnavailable: It is not installed.
    """
    files = importlib.metadata.files("nvidia-cuda-nvcc") if _version("nvidia-cuda-nvcc") else None
    found = next((Path(str(file.locate())) for file in files or () if file.name == "ptxas"), None)
    if found is None or not os.access(found, os.X_OK):
        raise CudaUnavailable(f"no ptxas; {_ADVICE}")
    return found


def cuda_release() -> str:
    """CUDA version of the assembler, as 13.0: a driver of it or later takes the machine code."""
    told = subprocess.run([find_ptxas(), "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603 - own words
    found = _RELEASE.search(told)
    if found is None:
        raise CudaUnavailable(f"{find_ptxas()} --version says no release")
    return found[1]


def _versions() -> dict[str, str]:
    own = {"numba": numba.__version__, "numpy": np.__version__}
    return own | {name: _version(name) for name in ("numba-cuda", "nvidia-nvvm", "nvidia-cuda-nvcc")}


def _version(package: str) -> str:
    """Version of an installed package, or nothing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
