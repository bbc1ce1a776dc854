"""The identity of this machine, which a journal keeps so that a copy of it on another machine does not trade."""

import hashlib
import re
import secrets
from pathlib import Path

from mei_pipeline import files

SYSTEM_FILE = Path("/etc/machine-id")
OWN_NAME = "machine-id"
"""File in the cache with a random id, for systems without `SYSTEM_FILE`, such as most containers."""

_ID = re.compile(r"[0-9a-f]{32}")


def machine_id(cache: Path, system_file: Path = SYSTEM_FILE) -> str:
    """Return 32 hexadecimal digits that stay the same on this machine.

    They are a hash of the id in `system_file`, which programs should not show. Without one they are a hash of a random
    id, which the first call stores in the cache.

    Args:
        cache: Folder of the cache (`Settings.cache`).
        system_file: File with the id of the system.

    Raises:
        DataError: The random id can't be written.
        Retryable: The disk is full.
    """
    found = _read(system_file) or _read(cache / OWN_NAME)
    if not found:
        found = secrets.token_hex(16)
        files.write_bytes(cache / OWN_NAME, f"{found}\n".encode())
    return hashlib.sha256(f"mei journal {found}".encode()).hexdigest()[:32]


def _read(path: Path) -> str:
    """Return the id in a file; empty if it has none, as in the image of a system that never started."""
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return text if _ID.fullmatch(text) else ""
