"""Compiled CUDA kernels on disk: a folder per strategy and architecture, with a manifest."""

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
    """No GPU, kernels or compiler can be used; the message says what to do."""


@dataclass(frozen=True)
class CompiledKernel:
    """A compiled kernel.

    Attributes:
        entry: Name of the entry point in the machine code.
        sha256: Hash of the machine code, the file `<name>.cubin`.
        registers: Number of 32-bit registers per thread.
        stack_bytes: Local memory per thread.
        spill_stores_bytes: Stores to local memory of values that did not fit the registers.
        spill_loads_bytes: Loads of these values.
        arguments: Arguments in order.
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
        strategy: Name of the strategy.
        arch: Architecture, such as `sm_90`.
        rules: Hash of the sources (`kernels.cache.rules_hash`).
        cuda: Least CUDA version of the driver, such as 13.0.
        versions: Versions of the packages of the compiler.
        options: Options of the compiler.
        kernels: Kernels by name.
    """

    strategy: str
    arch: str
    rules: str
    cuda: str
    versions: dict[str, str]
    options: dict[str, Any]
    kernels: dict[str, CompiledKernel]


def kernel_folder(root: Path, strategy: str, arch: str) -> Path:
    """Return the folder of a strategy's kernels for an architecture."""
    return root / f"{strategy}.{arch}"


def capability_of(arch: str) -> tuple[int, int]:
    """Return the compute capability of an architecture: 9.0 for sm_90, 12.0 for sm_120.

    Raises:
        CudaUnavailable: `arch` is not an architecture.
    """
    match = _ARCH.fullmatch(arch)
    if match is None:
        raise CudaUnavailable(
            f"{arch!r} is not an architecture; write sm_ and the compute capability, such as sm_90 for an H100 or H200"
        )
    return int(match[1]), int(match[2])


def runs_on(arch: str, capability: tuple[int, int]) -> bool:
    """Return whether code for `arch` runs on a device: equal major version, and a minor version up to its own."""
    major, minor = capability_of(arch)
    return major == capability[0] and minor <= capability[1]


def to_text(manifest: KernelManifest) -> str:
    """Return a manifest as JSON."""
    kernels = {
        name: dataclasses.asdict(kernel) | {"arguments": [each._asdict() for each in kernel.arguments]}
        for name, kernel in manifest.kernels.items()
    }
    return json.dumps({"format": FORMAT, **dataclasses.asdict(manifest), "kernels": kernels}, indent=1) + "\n"


def read_manifest(folder: Path) -> KernelManifest:
    """Return the manifest of a folder, after a check of the machine code against its hashes.

    Raises:
        CudaUnavailable: The manifest is missing, damaged or of another version of MEI.
    """
    path = folder / MANIFEST
    try:
        raw = json.loads(path.read_text())
        if raw.pop("format") != FORMAT:
            raise CudaUnavailable(f"{path}: the kernels belong to another version of MEI; compile them again")
        kernels = {
            name: CompiledKernel(**kernel | {"arguments": tuple(_argument(each) for each in kernel["arguments"])})
            for name, kernel in raw["kernels"].items()
        }
        manifest = KernelManifest(**raw | {"kernels": kernels})
        for name, kernel in kernels.items():
            if sha256_of(folder / f"{name}.cubin") != kernel.sha256:
                raise CudaUnavailable(
                    f"{folder / name}.cubin: its hash differs from {MANIFEST}; compile the kernels again"
                )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CudaUnavailable(
            f"{path}: can't be read ({type(error).__name__}: {error}); compile the kernels again"
        ) from None
    return manifest


def _argument(raw: dict[str, Any]) -> KernelArgument:
    return KernelArgument(**raw | {"words": tuple(raw["words"])})


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_manifests(root: Path) -> list[KernelManifest]:
    """Return the manifests of all kernels below a folder, sorted by folder.

    Raises:
        CudaUnavailable: A manifest can't be read.
    """
    return [read_manifest(path.parent) for path in sorted(root.glob(f"*/{MANIFEST}"))]
