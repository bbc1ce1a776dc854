"""What the kernels are, as one hash, and where their machine code is kept.

numba notices an edit only in the file that holds the cached function, not in the files it calls. The folder is
therefore named by a hash of every kernel source and of the compiler's version: another source is another folder.
"""

import functools
import hashlib
import sys
from pathlib import Path

import llvmlite
import numba
import numpy as np

from kernels.jit import cache_in

SOURCES = Path(__file__).resolve().parent


def rules_hash(folder: Path = SOURCES) -> str:
    """Hex SHA-256 of all Python sources below `folder`."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@functools.cache
def source_hash(folder: Path = SOURCES) -> str:
    """Hex SHA-256 of all Python sources below `folder` and of the versions that turn them into machine code."""
    versions = (numba.__version__, llvmlite.__version__, np.__version__, *map(str, sys.version_info[:2]))
    return hashlib.sha256("|".join((rules_hash(folder), *versions)).encode()).hexdigest()


def use_cache(folder: Path) -> Path:
    """Keep compiled kernels under `folder`, in a subfolder of this source's own.

    Returns:
        The subfolder in use: the first call decides for the process.
    """
    return cache_in(folder / source_hash()[:16])
