"""Hash of the kernels, and the folder of their machine code.

numba notices an edit only in the file of the cached function, not in the files that it calls. The name of the folder is
therefore a hash of all kernel sources and of the compiler's version.
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
    """Return the hex SHA-256 of all Python sources below `folder`."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@functools.cache
def source_hash(folder: Path = SOURCES) -> str:
    """Return the hex SHA-256 of all Python sources below `folder` and of the versions of the compiler."""
    versions = (numba.__version__, llvmlite.__version__, np.__version__, *map(str, sys.version_info[:2]))
    return hashlib.sha256("|".join((rules_hash(folder), *versions)).encode()).hexdigest()


def use_cache(folder: Path) -> Path:
    """Keep compiled kernels in a subfolder of `folder` that belongs to these sources.

    Returns:
        The subfolder in use. The first call in a process decides.
    """
    return cache_in(folder / source_hash()[:16])
