"""Write files atomically, hash content and hold lock files."""

import errno
import hashlib
import json
import os
import re
import sqlite3
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mei_pipeline.errors import Busy, DataError, MeiError, OutcomeUnknown, Retryable

if TYPE_CHECKING:
    import filelock

_CHUNK = 1 << 20
_ATTEMPTS = 5  # to lock a file that other processes remove at the same time

_FREE_SPACE = "free space on the disk and run the same command again"
_ALLOW = "make it writable for this user"
_DOCTOR_HINT = "; `mei doctor` looks at every folder"
_MOVE = "a file is in the place of a folder, or a folder in the place of a file; move it away"
_ADVICE = {
    errno.ENOSPC: _FREE_SPACE,
    errno.EDQUOT: _FREE_SPACE,
    errno.EFBIG: _FREE_SPACE,
    errno.EACCES: _ALLOW,
    errno.EPERM: _ALLOW,
    errno.EROFS: "mount the disk writable, or use a folder on another one",
    errno.EIO: "the disk fails; read the system's log before anything else",
    errno.ENOTDIR: _MOVE,
    errno.EEXIST: _MOVE,
    errno.EISDIR: _MOVE,
}
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DISK_ERRORS = _FULL | {errno.EROFS, errno.EIO}
_ERRNO_OF_SQLITE = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EACCES,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_IOERR: errno.EIO,
    # SQLite creates the index of its log before it reads, and reports a full disk there as an I/O error.
    sqlite3.SQLITE_IOERR_SHMOPEN: errno.ENOSPC,
    sqlite3.SQLITE_IOERR_SHMSIZE: errno.ENOSPC,
    sqlite3.SQLITE_IOERR_SHMMAP: errno.ENOSPC,
}


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Generator[Path]:
    """Yield a temporary path beside `path`; on success make the file durable and rename it to `path`.

    `path` is the complete old file or the complete new one at any time, also after a crash or on a full disk.

    Args:
        path: The file.
        durable: False for a file that is written often and may be lost or damaged by a power failure.

    Raises:
        Retryable: The disk is full; `path` is the old file.
        DataError: The folder can't be written; `path` is the old file.
        OutcomeUnknown: `path` is the new file, but a power failure may still restore the old one.
    """
    handle = -1
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise refused(error, f"{path}: not written, the previous file is intact: {explain(error)}") from error
    finally:
        if temporary is not None:
            with suppress(OSError):  # a failing disk has already raised above
                temporary.unlink(missing_ok=True)
    if not durable:
        return
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise OutcomeUnknown(
            f"{path}: the new file is in place, but a power failure may undo it, because its folder can't be synced: "
            f"{explain(error)}"
        ) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file at `path` with `data`; see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Replace the file at `path` with `value` as indented JSON with sorted keys."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())


def canonical_json(value: Any) -> bytes:
    """Return a value as canonical JSON: sorted keys, no spaces, UTF-8, no NaN. Content ids are hashes of it."""
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
def locked(path: Path, doing: str = "", *, wait_s: float = 0.0) -> Generator[None]:
    """Hold the lock file at `path`; the operating system releases it when the process dies.

    Args:
        path: The lock file. A note beside it, `<path>.holder`, names the holder if the disk has room for it.
        doing: Work of the holder, for the messages of other processes. Without it there is no note, and the lock needs
            no room on the disk.
        wait_s: Longest wait for another holder, in seconds.

    Raises:
        Busy: Another process holds the lock.
        Retryable: The disk has no room for another file.
        DataError: The lock file or its folder can't be created or opened.
    """
    import filelock  # noqa: PLC0415 - brings asyncio, and most commands lock nothing

    holder = path.with_name(f"{path.name}.holder")
    try:
        lock = _acquire(path, wait_s)
    except filelock.Timeout:
        raise Busy(f"{path}: {_note(holder) or 'another process'}; wait for it to end, or stop it") from None
    except OSError as error:
        raise refused(error, f"{path}: lock not taken: {explain(error, path)}") from error
    try:
        if doing:
            with suppress(OSError):  # the note is only for messages: a full disk must not stop the holder
                holder.write_text(f"{doing}, process {os.getpid()}")
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def lock_holder(path: Path) -> str:
    """Return the holder of the lock file at `path` and its work; empty if no process holds it.

    A killed holder leaves its note, so a note is checked by trying the lock without waiting. If the lock file can't be
    opened, as on a read-only disk, the note is ignored.
    """
    holder = path.with_name(f"{path.name}.holder")
    who = _note(holder)
    if not who:
        return ""
    import filelock  # noqa: PLC0415 - as above

    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return who
    except OSError:
        return ""
    with suppress(OSError):
        holder.unlink(missing_ok=True)
    lock.release()
    return ""


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable if the file system supports it.

    Raises:
        OSError: The folder can't be opened, or the disk failed.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems can't sync folders; their servers keep renames in order.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(handle)


def writable(path: Path) -> bool:
    """Return True if this process may write to an existing file or folder; False on a read-only disk."""
    return os.access(path, os.W_OK, effective_ids=True)


def sqlite_uri(path: Path) -> str:
    """Return the URI for reading an SQLite database, also in a folder that can't be written.

    A database in WAL mode needs a file beside it even for reading. If that file can't be created and the log is empty,
    `immutable` makes SQLite read the database without it.
    """
    log = path.with_name(f"{path.name}-wal")
    immutable = not (writable(path.parent) or (log.exists() and log.stat().st_size))
    return f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if immutable else ''}"


def explain(error: OSError, named: Path | None = None) -> str:
    """Return the cause of a failed operation on a file and the advice for it; the path `named` is not repeated."""
    filename = "" if error.filename in {None, str(named)} else f"{error.filename}: "
    cause = f"{filename}{error.strerror}" if error.strerror else str(error)
    return f"{cause}: {_ADVICE[error.errno]}" if error.errno in _ADVICE else str(error)


def refused(error: OSError, text: str) -> DataError | Retryable:
    """Return MEI's error for an operation on a file that failed and changed nothing.

    A full disk may have room later, so the same command may succeed; any other cause needs a person first.
    """
    return Retryable(text) if error.errno in _FULL else DataError(text)


def storage_error(error: BaseException) -> MeiError | None:
    """Return MEI's error if the cause of an error is a full, failing or read-only disk, or a missing permission.

    Args:
        error: Any error; its chain of causes is searched.

    Returns:
        `Retryable` for a full disk, else `DataError`, with the file and the advice; None for any other cause.
    """
    cause: BaseException | None = error
    while cause is not None:
        number, text = _storage(cause)
        if number:
            return refused(OSError(number, ""), text)
        cause = cause.__cause__
    return None


def _storage(error: BaseException) -> tuple[int, str]:
    """Return the errno behind an error and its message; 0 without a known errno."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0)
        number = _ERRNO_OF_SQLITE.get(code, _ERRNO_OF_SQLITE.get(code & 0xFF, 0))
        return number, f"database: {error}: {_ADVICE.get(number, '')}{_DOCTOR_HINT}"
    if isinstance(error, OSError) and error.errno in _ADVICE and (error.filename or error.errno in _DISK_ERRORS):
        return error.errno, explain(error) + ("" if error.filename else _DOCTOR_HINT)
    # Libraries in Rust, such as Polars, have the errno only in the text of their errors.
    found = re.search(r"\(os error (\d+)\)", str(error))
    number = int(found[1]) if found and int(found[1]) in _DISK_ERRORS else 0
    return number, f"{error}: {_ADVICE.get(number, '')}"


def _acquire(path: Path, wait_s: float) -> "filelock.BaseFileLock":
    """Take the lock; create the lock file and its folder again if another process removes them at the same time."""
    import filelock  # noqa: PLC0415 - as above

    attempt = 1
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(path)
            lock.acquire(timeout=wait_s)
        except (FileNotFoundError, filelock.Timeout):
            if path.exists() or attempt == _ATTEMPTS:
                raise
            attempt += 1
        else:
            return lock


def _note(holder: Path) -> str:
    try:
        return holder.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
