"""Choose the device that runs combos, and run combos on a GPU.

The domain reaches `kernels.cuda` through this module alone. CuPy is imported only when a GPU may be used. `auto` falls
back to processors and states the reason; `cuda` without a usable GPU is an error.
"""

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kernels.cache import rules_hash
from kernels.cuda import build
from kernels.cuda.launch import CudaDevice, CudaJob, DeviceMemoryFull, LaunchStopped
from kernels.cuda.manifest import CudaUnavailable, KernelManifest, kernel_folder, read_manifest, read_manifests, runs_on
from kernels.cuda.status import StatusKind, kind_of
from kernels.market import FillModel, Floats, Market, model_record, symbol_records
from kernels.strategies import load
from mei_pipeline.errors import ConfigError, DataError, Fatal, Retryable
from mei_pipeline.params.table import read_catalog
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import Settings

DeviceName = Literal["auto", "cpu", "cuda"]


_USE_CPU = "or use --device cpu, which gives the same results"
_RESUMES = "finished chunks are on disk: repeat the command to run the rest"


@dataclass(frozen=True)
class DeviceChoice:
    """The device that runs combos.

    Attributes:
        name: The device; `auto` until both devices have been measured.
        why: Reason of the choice.
        kernels: Folder of the kernels, for a GPU.
        arch: Architecture to compile kernels for before the run; empty if the folder has them.
        gpu_name: Name of the GPU; empty for `cpu`.
    """

    name: DeviceName
    why: str
    kernels: Path | None = None
    arch: str = ""
    gpu_name: str = ""

    def __str__(self) -> str:
        """Return device and reason for people."""
        return f"{'the faster of cuda and cpu' if self.name == 'auto' else self.name} ({self.why})"


def import_cupy() -> Any:
    """Return the module CuPy.

    Raises:
        CudaUnavailable: CuPy is not installed, or can't be loaded.
    """
    try:
        import cupy  # noqa: PLC0415 - an extra, which costs a second to import
    except ImportError as error:
        raise CudaUnavailable(
            f"no GPU in use: CuPy can't be imported ({error}); uv sync --extra gpu installs it"
        ) from None
    return cupy


def choose_device(settings: Settings, requested: DeviceName, strategy: str) -> DeviceChoice:
    """Choose the device that runs the combos of a strategy; nothing is compiled yet.

    Args:
        settings: Settings, for the folder of kernels for GPUs.
        requested: `auto` chooses the faster device.
        strategy: Name of the strategy.

    Returns:
        The choice; its name is `auto` if both devices can be used and a measurement must decide.

    Raises:
        ConfigError: `cuda` is requested and no GPU can be used; the message names the reason and the remedy.
        Retryable: `cuda` is requested and another process has the GPU or its memory.
    """
    if requested == "cpu":
        return DeviceChoice("cpu", "as requested")
    try:
        cupy = import_cupy()
        with _refuse_gpu(cupy, requested):
            return _choose_gpu(settings, strategy, cupy, requested)
    except CudaUnavailable as error:
        if requested == "cuda":
            raise ConfigError(f"--device cuda: {error}") from None
        return DeviceChoice("cpu", str(error))


@contextlib.contextmanager
def _refuse_gpu(cupy: Any, requested: DeviceName) -> Generator[None]:
    """Turn a CUDA error during the search for a device into the reason not to use it."""
    try:
        yield
    except Exception as error:
        kind = kind_of(cupy, error)
        if kind is None:
            raise
        if requested == "cuda" and kind in {"memory", "busy"}:
            raise _error_of(cupy, kind, error) from None
        raise CudaUnavailable(f"no GPU in use: {error}") from None


def _choose_gpu(settings: Settings, strategy: str, cupy: Any, requested: DeviceName) -> DeviceChoice:
    """Return the choice of the first GPU, with kernels on disk or a compiler for them."""
    name, capability, driver = _first_device(cupy)
    arch = f"sm_{capability[0]}{capability[1]}"
    best = _best_kernels(settings.kernels, strategy, capability)
    if isinstance(best, KernelManifest):
        folder, compiles, needed = kernel_folder(settings.kernels, strategy, best.arch), "", best.cuda
    else:
        if not build.can_compile():
            raise CudaUnavailable(
                f"{name} can't be used: {best or f'no kernels of {strategy} for {arch} in {settings.kernels}'}; "
                f"run `mei kernels build --arch {arch} --out DIR` where the group cuda is installed, and set "
                f"MEI_KERNELS to that folder"
            )
        folder, compiles, needed = kernel_folder(settings.kernels, strategy, arch), arch, build.cuda_release()
    if driver < _version_number(needed):
        raise CudaUnavailable(
            f"{name}: its driver supports CUDA {driver // 1000}.{driver % 1000 // 10}, the kernels need {needed}; "
            f"install a newer driver (580 or later for CUDA 13)"
        )
    why = f"{name}, {arch}, kernels {'to be compiled' if compiles else folder}"
    return DeviceChoice(requested, why, folder, compiles, name)


def _first_device(cupy: Any) -> tuple[str, tuple[int, int], int]:
    """Return name, compute capability and driver version of the first device."""
    runtime = cupy.cuda.runtime
    driver = int(runtime.driverGetVersion())
    if driver == 0:
        raise CudaUnavailable("no GPU in use: CuPy finds no NVIDIA driver")
    if int(runtime.getDeviceCount()) == 0:
        raise CudaUnavailable("no GPU in use: the driver shows no device")
    properties = runtime.getDeviceProperties(0)
    return properties["name"].decode(), (int(properties["major"]), int(properties["minor"])), driver


def _best_kernels(root: Path, strategy: str, capability: tuple[int, int]) -> KernelManifest | str:
    """Return the best kernels for the device, or the reason why the existing ones do not fit."""
    fitting: list[KernelManifest] = []
    problem = ""
    for folder in sorted(root.glob(f"{strategy}.sm_*")):
        try:
            manifest = read_manifest(folder)
        except CudaUnavailable as error:
            problem = str(error)
            continue
        if not runs_on(manifest.arch, capability):
            problem = problem or f"{folder} is for {manifest.arch}"
        elif manifest.rules != rules_hash():
            problem = (
                f"{folder}: compiled from other sources than these ({manifest.rules[:16]}, not {rules_hash()[:16]})"
            )
        else:
            fitting.append(manifest)
    # Sorted by architecture: the last one that fits is the closest to the device.
    return fitting[-1] if fitting else problem


def _version_number(version: str) -> int:
    """Return a version as CUDA counts it: 13.0 is 13000."""
    major, minor = map(int, version.split("."))
    return major * 1000 + minor * 10


@dataclass
class Gpu:
    """A GPU with the kernels of one strategy.

    Attributes:
        device: The device.
    """

    device: CudaDevice
    _loaded: tuple[Market, FillModel, Floats] | None = field(default=None, repr=False)

    def run(
        self, market: Market, model: FillModel, columns: Floats, job: CudaJob, stop: Callable[[], bool] = lambda: False
    ) -> tuple[NDArray[np.record], Floats]:
        """Run combos.

        Args:
            market: The market with the symbol groups of the combos; copied to the device unless the last run left it
                there.
            model: Fill model.
            columns: [C, T, S] feature columns.
            job: The combos, in order of their signal group.
            stop: Called between tiles of steps; the run stops when it returns True.

        Returns:
            [K] records of `ledger.ACCOUNT`, and [BLOCKS, 3, K] daily returns.

        Raises:
            Retryable: The run was stopped; or the device was lost, is taken, or has too little memory.
            ConfigError: The driver does not fit.
            Fatal: The kernels are defective.
        """
        with translate_cuda_errors(self.device.cupy):
            if not self._has(market, model, columns):
                self._loaded = None
                self.device.load(market, symbol_records(market), model_record(model, market), columns)
                self._loaded = market, model, columns
            return self.device.run(job, stop)

    def close(self) -> None:
        """Release the memory of the device; the next run copies the market again."""
        self._loaded = None
        with contextlib.suppress(Exception):  # a lost device has no memory to release
            self.device.clear()

    def _has(self, market: Market, model: FillModel, columns: Floats) -> bool:
        """Return whether these arrays are on the device."""
        if self._loaded is None:
            return False
        loaded, by_model, on_columns = self._loaded
        # Symbol groups and benchmark are new arrays for each chunk: they are compared by value, the rest by identity.
        renewed = loaded._replace(symbol_group=market.symbol_group, benchmark=market.benchmark)
        same = all(one is other for one, other in zip(renewed, market, strict=True))
        equal = np.array_equal(loaded.symbol_group, market.symbol_group) and np.array_equal(
            loaded.benchmark, market.benchmark
        )
        return same and equal and by_model == model and on_columns is columns


@contextlib.contextmanager
def translate_cuda_errors(cupy: Any) -> Generator[None]:
    """Translate errors of CUDA to errors of MEI, which say what to do.

    Raises:
        Retryable: The run was stopped, or the device was lost, is taken, or has too little memory.
        ConfigError: The driver does not fit.
        Fatal: A kernel or its launch is defective.
    """
    try:
        yield
    except LaunchStopped:
        raise Retryable(f"the run was stopped; {_RESUMES}") from None
    except DeviceMemoryFull as error:
        raise _error_of(cupy, "memory", error) from None
    except Exception as error:
        kind = kind_of(cupy, error)
        if kind is None:
            raise
        raise _error_of(cupy, kind, error) from None


def _error_of(cupy: Any, kind: StatusKind, error: Exception) -> Retryable | ConfigError | Fatal:
    """Return the error of MEI for a class of CUDA errors."""
    if kind == "memory":
        problem = f"too little memory of the GPU is free: {error}{_free_memory(cupy)}"
        return Retryable(f"{problem}; wait for other work on it to end, {_USE_CPU}; {_RESUMES}")
    if kind == "busy":
        return Retryable(f"the GPU is taken ({error}); wait for other work on it to end, {_USE_CPU}; {_RESUMES}")
    if kind == "driver":
        return ConfigError(f"the driver of the GPU does not fit ({error}); install driver 580 or later, {_USE_CPU}")
    if kind == "defect":
        return Fatal(f"a kernel failed on the GPU ({error}): a defect; use --device cpu, which gives the same results")
    return Retryable(f"the GPU was lost ({error}); {_RESUMES}")


def _free_memory(cupy: Any) -> str:
    """Return the free memory in words, if the device still answers."""
    with contextlib.suppress(Exception):
        free, total = (size / (1 << 20) for size in cupy.cuda.runtime.memGetInfo())
        return f" ({free:,.0f} of {total:,.0f} MiB are free)"
    return ""


def open_gpu(choice: DeviceChoice, strategy: str) -> Gpu | None:
    """Open the chosen GPU; return None for processors.

    Raises:
        DataError: Kernels can't be written to their folder.
        ConfigError: The kernels do not fit the device.
        Retryable: The device is taken, was lost, or has too little memory.
        Fatal: The kernels are defective.
    """
    if choice.kernels is None:
        return None
    try:
        if choice.arch:
            build.build(strategy, choice.arch, choice.kernels.parent)
        cupy = import_cupy()
        with translate_cuda_errors(cupy):
            return Gpu(CudaDevice(cupy, load(strategy), read_manifest(choice.kernels), choice.kernels))
    except OSError as error:
        raise DataError(f"{choice.kernels}: kernels can't be written: {error}") from None
    except CudaUnavailable as error:
        raise ConfigError(f"--device cuda: {error}") from None


def build_kernels(root: Path, arch: str, strategies: Sequence[str] = (), progress: Progress = silent) -> None:
    """Compile the kernels of strategies for an architecture into a folder; an empty list stands for all strategies.

    Raises:
        ConfigError: There is no such strategy or architecture, or the compiler is missing.
        DataError: The folder can't be written.
    """
    catalog = read_catalog()
    names = list(strategies) or list(catalog.strategies)
    for name in names:
        catalog.strategy(name)
    try:
        for done, name in enumerate(names):
            progress(done, len(names), "strategies")
            build.build(name, arch, root)
        progress(len(names), len(names), "strategies")
    except OSError as error:
        raise DataError(f"{root}: kernels can't be written: {error}") from None
    except CudaUnavailable as error:
        raise ConfigError(str(error)) from None


def list_manifests(root: Path) -> list[KernelManifest]:
    """Return the manifests of the kernels in a folder.

    Raises:
        DataError: A manifest can't be read.
    """
    try:
        return read_manifests(root)
    except CudaUnavailable as error:
        raise DataError(str(error)) from None
