"""Files written whole or not at all, content hashes and locks: the one module that knows how bytes reach the disk."""

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from mei_pipeline.errors import Busy, DataError

_CHUNK = 1 << 20


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success make it durable and rename it onto `path`.

    The file at `path` is the old one or the new one at every instant, also across a crash or a full disk.

    Raises:
        DataError: The disk is full, or the folder can't be written.
    """
    handle = -1
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise DataError(f"{path}: not written, the previous file is intact: {_explain(error)}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file at `path` with `data`, whole and durable (see `replacing`)."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Replace the file at `path` with `value` as indented JSON with sorted keys."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())


def canonical_json(value: Any) -> bytes:
    """One byte string per value: sorted keys, no spaces, UTF-8, no NaN. What content ids are hashes of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def locked(path: Path, doing: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file at `path`; it is released by the operating system when the process dies.

    Args:
        path: The lock file; `<path>.holder` says who holds it and what for.
        doing: What the holder is doing, for the message that others get.
        wait_s: How long to wait for another holder, in seconds.

    Raises:
        Busy: Another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = path.with_name(f"{path.name}.holder")
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=wait_s)
    except filelock.Timeout:
        who = holder.read_text() if holder.exists() else "another process"
        raise Busy(f"{path}: {who}; wait for it to end, or stop it") from None
    try:
        holder.write_text(f"{doing}, process {os.getpid()}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def holder_of(path: Path) -> str:
    """Who holds the lock file at `path`, and what for; empty where nobody does.

    A holder that was killed leaves its note behind. Only where there is a note the lock is tried, for an instant.
    """
    holder = path.with_name(f"{path.name}.holder")
    try:
        who = holder.read_text()
        lock = filelock.FileLock(path)
        lock.acquire(timeout=0)
    except FileNotFoundError:
        return ""
    except filelock.Timeout:
        return who
    holder.unlink(missing_ok=True)
    lock.release()
    return ""


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _explain(error: OSError) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return f"{error.strerror}: free space on the disk and run the same command again"
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"{error.strerror}: make the folder writable for this user"
    return str(error)
