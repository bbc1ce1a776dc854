"""Compiled kernels on disk: a folder for each strategy and architecture, and a manifest that says what they are."""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernels.cuda.layout import KernelArgument

FORMAT = 1
MANIFEST = "manifest.json"

_ARCH = re.compile(r"sm_([1-9]\d*)(\d)")


class CudaUnavailable(Exception):
    """Kernels that can't be used, and what to do about it."""


@dataclass(frozen=True)
class CompiledKernel:
    """One kernel.

    Attributes:
        entry: Its name in the machine code.
        sha256: Hash of its machine code, the file `<name>.cubin`.
        registers: 32-bit registers of a thread.
        stack_bytes: Local memory of a thread.
        spill_stores_bytes: Of it, what did not fit the registers, written.
        spill_loads_bytes: The same, read.
        arguments: What it is handed, in order.
    """

    entry: str
    sha256: str
    registers: int
    stack_bytes: int
    spill_stores_bytes: int
    spill_loads_bytes: int
    arguments: tuple[KernelArgument, ...]


@dataclass(frozen=True)
class KernelManifest:
    """The kernels of one strategy for one architecture.

    Attributes:
        strategy: The strategy.
        arch: The architecture, as `sm_90`.
        rules: Hash of the sources they were made from (`kernels.cache.rules_hash`).
        cuda: CUDA version whose driver takes the machine code, as 13.0.
        versions: Versions of what made them, by package.
        options: What the compilers were told.
        kernels: The kernels by name.
    """

    strategy: str
    arch: str
    rules: str
    cuda: str
    versions: dict[str, str]
    options: dict[str, Any]
    kernels: dict[str, CompiledKernel]


def kernel_folder(root: Path, strategy: str, arch: str) -> Path:
    """The folder of a strategy's kernels for an architecture."""
    return root / f"{strategy}.{arch}"


def capability_of(arch: str) -> tuple[int, int]:
    """Compute capability of an architecture: sm_90 is 9.0, sm_120 is 12.0.

    Raises:
        CudaUnavailable: It is none.
    """
    found = _ARCH.fullmatch(arch)
    if found is None:
        raise CudaUnavailable(
            f"{arch!r} is no architecture; it reads sm_ and the compute capability, as sm_90 for an H100 or H200"
        )
    return int(found[1]), int(found[2])


def runs_on(arch: str, capability: tuple[int, int]) -> bool:
    """Whether machine code for `arch` runs on a device: the same major version, and no older a minor one."""
    major, minor = capability_of(arch)
    return major == capability[0] and minor <= capability[1]


def to_text(manifest: KernelManifest) -> str:
    """The manifest as the JSON that is written."""
    kernels = {
        name: dataclasses.asdict(kernel) | {"arguments": [each._asdict() for each in kernel.arguments]}
        for name, kernel in manifest.kernels.items()
    }
    return json.dumps({"format": FORMAT, **dataclasses.asdict(manifest), "kernels": kernels}, indent=1) + "\n"


def read(folder: Path) -> KernelManifest:
    """The manifest of a folder, whose machine code is what it says.

    Raises:
        CudaUnavailable: There is none, it is damaged, or it was written by another version of MEI.
    """
    path = folder / MANIFEST
    try:
        raw = json.loads(path.read_text())
        if raw.pop("format") != FORMAT:
            raise CudaUnavailable(f"{path}: kernels of another version of MEI; make them again")
        kernels = {
            name: CompiledKernel(**kernel | {"arguments": tuple(_argument(each) for each in kernel["arguments"])})
            for name, kernel in raw["kernels"].items()
        }
        manifest = KernelManifest(**raw | {"kernels": kernels})
        for name, kernel in kernels.items():
            if sha256_of(folder / f"{name}.cubin") != kernel.sha256:
                raise CudaUnavailable(f"{folder / name}.cubin: not what {MANIFEST} says; make the kernels again")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CudaUnavailable(
            f"{path}: can't be read ({type(error).__name__}: {error}); make the kernels again"
        ) from None
    return manifest


def _argument(raw: dict[str, Any]) -> KernelArgument:
    return KernelArgument(**raw | {"words": tuple(raw["words"])})


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_manifests(root: Path) -> list[KernelManifest]:
    """Every strategy's kernels below a folder, sorted.

    Raises:
        CudaUnavailable: A manifest can't be read.
    """
    return [read(path.parent) for path in sorted(root.glob(f"*/{MANIFEST}"))]
