"""Whether combos run on a GPU, and running them there: the one door between the domain and `kernels.cuda`.

`auto` needs a GPU and kernels for it to choose from, and says so where there are none; `cuda` without either is an
error. CuPy is imported here alone, when a GPU is asked for.
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
from kernels.cuda.manifest import CudaUnavailable, KernelManifest, kernel_folder, read, read_manifests, runs_on
from kernels.cuda.status import StatusKind, kind_of
from kernels.market import FillModel, Floats, Market, model_record, symbol_records
from kernels.strategies import load
from mei_pipeline.errors import ConfigError, DataError, Fatal, Retryable
from mei_pipeline.params.table import read_catalog
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import Settings

DeviceName = Literal["auto", "cpu", "cuda"]

DEVICES: tuple[DeviceName, ...] = ("auto", "cpu", "cuda")

_INSTEAD = "or use --device cpu, which gives the same results"
_RESUMES = "finished chunks are on disk: the same command goes on with the rest"


@dataclass(frozen=True)
class DeviceChoice:
    """What runs combos.

    Attributes:
        name: The engine; `auto` until both have been measured.
        why: Why that one.
        kernels: Folder of its kernels, for a GPU.
        arch: Architecture to compile them for first; empty where they are there.
        gpu_name: Name of the GPU; empty for `cpu`.
    """

    name: DeviceName
    why: str
    kernels: Path | None = None
    arch: str = ""
    gpu_name: str = ""

    def __str__(self) -> str:
        """Both, for people."""
        return f"{'the faster of cuda and cpu' if self.name == 'auto' else self.name} ({self.why})"


def find_cupy() -> Any:
    """The module CuPy.

    Raises:
        CudaUnavailable: It is not installed, or can't be loaded.
    """
    try:
        import cupy  # noqa: PLC0415 - an extra, which costs a second to import
    except ImportError as error:
        raise CudaUnavailable(
            f"no GPU in use: CuPy can't be imported ({error}); uv sync --extra gpu installs it"
        ) from None
    return cupy


def choose(settings: Settings, wanted: DeviceName, strategy: str) -> DeviceChoice:
    """Choose what runs the combos of a strategy; nothing is compiled yet.

    Args:
        settings: Say where kernels for GPUs are.
        wanted: `auto` for the faster one, where a GPU can be used.
        strategy: The strategy.

    Returns:
        The choice; `auto` where both can be used, and measuring decides.

    Raises:
        ConfigError: `cuda`, and there is no GPU that can be used: why, and what to do.
        Retryable: `cuda`, and another process has the GPU or its memory.
    """
    if wanted == "cpu":
        return DeviceChoice("cpu", "as asked for")
    try:
        cupy = find_cupy()
        with _no_device(cupy, wanted):
            return _usable(settings, strategy, cupy, wanted)
    except CudaUnavailable as error:
        if wanted == "cuda":
            raise ConfigError(f"--device cuda: {error}") from None
        return DeviceChoice("cpu", str(error))


@contextlib.contextmanager
def _no_device(cupy: Any, wanted: DeviceName) -> Generator[None]:
    """Turn an error of CUDA while a device is looked for into a reason against it."""
    try:
        yield
    except Exception as error:
        kind = kind_of(cupy, error)
        if kind is None:
            raise
        if wanted == "cuda" and kind in {"memory", "busy"}:
            raise _explained(cupy, kind, error) from None
        raise CudaUnavailable(f"no GPU in use: {error}") from None


def _usable(settings: Settings, strategy: str, cupy: Any, wanted: DeviceName) -> DeviceChoice:
    name, capability, driver = _device(cupy)
    arch = f"sm_{capability[0]}{capability[1]}"
    found = _kernels(settings.kernels, strategy, capability)
    if isinstance(found, KernelManifest):
        place, compiles, needed = kernel_folder(settings.kernels, strategy, found.arch), "", found.cuda
    else:
        if not build.can_compile():
            raise CudaUnavailable(
                f"{name} is there, but {found or f'no kernels of {strategy} for {arch} in {settings.kernels}'}; "
                f"run `mei kernels build --arch {arch} --out DIR` where the group cuda is installed, and name that "
                f"folder in MEI_KERNELS"
            )
        place, compiles, needed = kernel_folder(settings.kernels, strategy, arch), arch, build.cuda_release()
    if driver < _number(needed):
        raise CudaUnavailable(
            f"{name}: its driver knows CUDA {driver // 1000}.{driver % 1000 // 10}, the kernels need {needed}; "
            f"install a newer driver (580 or later for CUDA 13)"
        )
    why = f"{name}, {arch}, kernels {'to be compiled' if compiles else place}"
    return DeviceChoice(wanted, why, place, compiles, name)


def _device(cupy: Any) -> tuple[str, tuple[int, int], int]:
    """Name, compute capability and driver version of the first device."""
    runtime = cupy.cuda.runtime
    driver = int(runtime.driverGetVersion())
    if driver == 0:
        raise CudaUnavailable("no GPU in use: CuPy finds no NVIDIA driver")
    if int(runtime.getDeviceCount()) == 0:
        raise CudaUnavailable("no GPU in use: the driver shows no device")
    properties = runtime.getDeviceProperties(0)
    return properties["name"].decode(), (int(properties["major"]), int(properties["minor"])), driver


def _kernels(root: Path, strategy: str, capability: tuple[int, int]) -> KernelManifest | str:
    """The best kernels for the device, or why those that are there don't fit."""
    fit: list[KernelManifest] = []
    problem = ""
    for place in sorted(root.glob(f"{strategy}.sm_*")):
        try:
            manifest = read(place)
        except CudaUnavailable as error:
            problem = str(error)
            continue
        if not runs_on(manifest.arch, capability):
            problem = problem or f"{place} is for {manifest.arch}"
        elif manifest.rules != rules_hash():
            problem = f"{place} was made from other rules than these ({manifest.rules[:16]}, not {rules_hash()[:16]})"
        else:
            fit.append(manifest)
    return fit[-1] if fit else problem


def _number(version: str) -> int:
    major, minor = map(int, version.split("."))
    return major * 1000 + minor * 10


@dataclass
class Gpu:
    """A GPU with the kernels of one strategy."""

    device: CudaDevice
    _loaded: tuple[Market, FillModel, Floats] | None = field(default=None, repr=False)

    def run(
        self, market: Market, model: FillModel, columns: Floats, job: CudaJob, stop: Callable[[], bool] = lambda: False
    ) -> tuple[NDArray[np.record], Floats]:
        """Run combos.

        Args:
            market: The market, with the combos' groups; brought to the device unless it is there from the last time.
            model: How orders become fills.
            columns: [C, T, S] feature columns.
            job: The combos, in order of their entry set.
            stop: Asked between tiles of steps.

        Returns:
            [K] records of `ledger.ACCOUNT`, and [BLOCKS, 3, K] daily returns.

        Raises:
            Retryable: Stopped; the device was lost, is taken, or has no memory.
            ConfigError: Its driver does not fit.
            Fatal: The kernels are defective.
        """
        with explained(self.device.cupy):
            if not self._has(market, model, columns):
                self._loaded = None
                self.device.load(market, symbol_records(market), model_record(model, market), columns)
                self._loaded = market, model, columns
            return self.device.run(job, stop)

    def close(self) -> None:
        """Give the memory of the device back; the next run brings the market to it again."""
        self._loaded = None
        with contextlib.suppress(Exception):  # a device that was lost has none to give
            self.device.clear()

    def _has(self, market: Market, model: FillModel, columns: Floats) -> bool:
        """Whether these very arrays are on the device; what combos say of a market is made anew for each chunk."""
        if self._loaded is None:
            return False
        there, by_model, on_columns = self._loaded
        renewed = there._replace(symbol_group=market.symbol_group, benchmark=market.benchmark)
        same = all(one is other for one, other in zip(renewed, market, strict=True))
        equal = np.array_equal(there.symbol_group, market.symbol_group) and np.array_equal(
            there.benchmark, market.benchmark
        )
        return same and equal and by_model == model and on_columns is columns


@contextlib.contextmanager
def explained(cupy: Any) -> Generator[None]:
    """Raise what CUDA raises as an error that says what to do.

    Raises:
        Retryable: The work was stopped, or the device was lost, is taken, or lacks memory.
        ConfigError: The driver does not fit.
        Fatal: A kernel or its launch is defective.
    """
    try:
        yield
    except LaunchStopped:
        raise Retryable("stopped; finished chunks are on disk, the same command goes on") from None
    except DeviceMemoryFull as error:
        raise _explained(cupy, "memory", error) from None
    except Exception as error:
        kind = kind_of(cupy, error)
        if kind is None:
            raise
        raise _explained(cupy, kind, error) from None


def _explained(cupy: Any, kind: StatusKind, error: Exception) -> Retryable | ConfigError | Fatal:
    if kind == "memory":
        found = f"too little memory of the GPU is free: {error}{_room(cupy)}"
        return Retryable(f"{found}; wait for other work on it to end, {_INSTEAD}; {_RESUMES}")
    if kind == "busy":
        return Retryable(f"the GPU is taken ({error}); wait for other work on it to end, {_INSTEAD}; {_RESUMES}")
    if kind == "driver":
        return ConfigError(f"the driver of the GPU does not fit ({error}); install driver 580 or later, {_INSTEAD}")
    if kind == "defect":
        return Fatal(f"a kernel failed on the GPU ({error}): a defect; --device cpu does the same work without it")
    return Retryable(f"the GPU was lost ({error}); {_RESUMES}")


def _room(cupy: Any) -> str:
    """Return the free memory in words, if the device still answers."""
    with contextlib.suppress(Exception):
        free, total = (size / (1 << 20) for size in cupy.cuda.runtime.memGetInfo())
        return f" ({free:,.0f} of {total:,.0f} MiB are free)"
    return ""


def open_gpu(choice: DeviceChoice, strategy: str) -> Gpu | None:
    """What was chosen, ready to run; None is the CPU.

    Raises:
        DataError: Kernels can't be written where they belong.
        ConfigError: They do not fit after all.
        Retryable: The device is taken, was lost, or has no memory.
        Fatal: The kernels are defective.
    """
    if choice.kernels is None:
        return None
    try:
        if choice.arch:
            build.build(strategy, choice.arch, choice.kernels.parent)
        cupy = find_cupy()
        with explained(cupy):
            return Gpu(CudaDevice(cupy, load(strategy), read(choice.kernels), choice.kernels))
    except OSError as error:
        raise DataError(f"{choice.kernels}: kernels can't be written: {error}") from None
    except CudaUnavailable as error:
        raise ConfigError(f"--device cuda: {error}") from None


def build_kernels(root: Path, arch: str, strategies: Sequence[str] = (), progress: Progress = silent) -> None:
    """Compile the kernels of strategies (none named: of all) for an architecture into a folder.

    Raises:
        ConfigError: There is no such strategy or architecture, or what compiles is missing.
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


def manifests(root: Path) -> list[KernelManifest]:
    """What kernels lie in a folder.

    Raises:
        DataError: One can't be read.
    """
    try:
        return read_manifests(root)
    except CudaUnavailable as error:
        raise DataError(str(error)) from None
