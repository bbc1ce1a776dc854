"""The archive of a backup: one tar file. Its last member, `manifest.json`, has the hash of every other member."""

import hashlib
import io
import json
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath

from mei_pipeline import files
from mei_pipeline.candles.transaction import PENDING
from mei_pipeline.errors import DataError
from mei_pipeline.progress import Progress
from mei_pipeline.registry.home import RESETS_NAME
from mei_pipeline.registry.lanes import STATUS_NAME

REGISTRY = "registry.db"
FOLDERS = ("lake", "lanes", "config", "nights")
PARTS = (*FOLDERS, REGISTRY, RESETS_NAME)
"""Parts of a home in a backup. The resets explain nightly runs that a registry does not know; see `registry.home`."""
MANIFEST = "manifest.json"
FORMAT = 2
_READABLE_FORMATS = (1, 2)  # 1 has neither `config` nor `nights`
_SQLITE = b"SQLite format 3\x00"
_TRANSIENT_SUFFIXES = (".lock", ".tmp", "-wal", "-shm", "-journal", ".holder")
_CHUNK = 1 << 20

Entries = Mapping[str, tuple[str, int]]
"""SHA-256 and size in bytes of each file by its path in the home."""


def parts_of(entries: Entries) -> tuple[str, ...]:
    """Return those of `PARTS` that hold a file."""
    found = {name.partition("/")[0] for name in entries}
    return tuple(part for part in PARTS if part in found)


def write_archive(home: Path, target: Path, scratch: Path, progress: Progress) -> Entries:
    """Write the parts of a home to `target`.

    Args:
        home: The folder of all state.
        target: The tar file.
        scratch: An empty folder for copies of databases.
        progress: Called for each file.

    Raises:
        DataError: A database can't be copied.
    """
    entries: dict[str, tuple[str, int]] = {}
    paths = sorted(_backed_up_files(home))
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for done, path in enumerate(paths):
            name = path.relative_to(home).as_posix()
            source = _consistent_copy(path, scratch)
            entries[name] = (files.sha256_file(source), source.stat().st_size)
            tar.add(source, arcname=name, recursive=False, filter=_normalise_owner)
            progress(done + 1, len(paths), "backup: files")
        text = files.canonical_json({"format": FORMAT, "files": {name: list(entry) for name, entry in entries.items()}})
        member = tarfile.TarInfo(MANIFEST)
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    return entries


def read_listing(archive: Path) -> Entries:
    """Return the files of an archive, which are not read.

    Raises:
        DataError: The archive is missing or not a backup, or has a member with a name that no backup has.
    """
    with _opened(archive) as tar:
        return _listing(archive, tar)


def unpack(archive: Path, folder: Path, progress: Progress, select: Callable[[str], bool] = bool) -> Entries:
    """Check every file of an archive against its hash, and write the files that `select` accepts into an empty folder.

    Raises:
        DataError: As `read_listing`, or a file is damaged, a link or a device.
        Retryable: The disk is full.
    """
    with _opened(archive) as tar:
        entries = _listing(archive, tar)
        members = {member.name: member for member in tar.getmembers()}  # a search by name reads all of them
        for done, (name, (expected, size)) in enumerate(entries.items()):
            member = members[name]
            source = tar.extractfile(member) if member.isreg() else None
            if source is None:
                raise DataError(f"{archive}: {name} is a link or a device, not a file; MEI did not write this archive")
            target = folder / name
            if select(name):
                target.parent.mkdir(parents=True, exist_ok=True)
                with files.replacing(target) as temporary, temporary.open("wb") as out:
                    shutil.copyfileobj(source, out, _CHUNK)
                source.seek(0)
            digest = hashlib.sha256()
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
            if (digest.hexdigest(), member.size) != (expected, size):
                raise DataError(f"{archive}: {name} differs from its hash; the backup is damaged, use another one")
            progress(done + 1, len(entries), "archive: files checked")
    return entries


def is_database(path: Path) -> bool:
    """Return True if a file has the header of an SQLite database."""
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


@contextmanager
def _opened(archive: Path) -> Generator[tarfile.TarFile]:
    try:
        with tarfile.open(archive, "r:") as tar:
            yield tar
    except FileNotFoundError:
        raise DataError(f"{archive}: not found; name a tar file that `mei backup` wrote") from None
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise DataError(f"{archive}: not a complete backup: {error}; use another one") from error
    except OSError as error:
        raise files.refused(error, f"{archive}: can't be unpacked: {files.explain(error)}") from error


def _listing(archive: Path, tar: tarfile.TarFile) -> Entries:
    member = tar.getmember(MANIFEST)
    try:
        listing = json.loads(file.read() if member.isreg() and (file := tar.extractfile(member)) else b"")
        if listing["format"] not in _READABLE_FORMATS:
            raise DataError(
                f"{archive}: backup of format {listing['format']}; this MEI reads {_READABLE_FORMATS[0]} to {FORMAT}"
            )
        entries = {str(name): (str(digest), int(size)) for name, (digest, size) in listing["files"].items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{archive}: its {MANIFEST} is damaged; use another backup") from error
    above = {str(folder) for name in entries for folder in PurePosixPath(name).parents}
    for name in entries:
        if not _is_allowed(name) or name in above:
            raise DataError(f"{archive}: has a member {name!r} that no backup has; MEI did not write this archive")
    return entries


def _is_allowed(name: str) -> bool:
    """Return True for names that `write_archive` writes.

    Such a name stays inside the home, and no program acts on the file when it opens the home, as it does on a journal.
    """
    part, *inside = name.split("/")
    placed = name in {REGISTRY, RESETS_NAME} or (part in FOLDERS and inside)
    plain = name.isprintable() and not {"", ".", "..", PENDING} & {part, *inside}
    return bool(placed and plain and not _is_transient(name))


def _is_transient(name: str) -> bool:
    file = name.rpartition("/")[2]
    return file == "lock" or file.endswith(_TRANSIENT_SUFFIXES)


def _backed_up_files(home: Path) -> Iterator[Path]:
    for part in PARTS:
        root = home / part
        for path in [root] if root.is_file() else root.rglob("*"):
            # The status of an executor is about a process, and may be later than the copy of the lane's journal.
            is_status = part == "lanes" and path.name == STATUS_NAME
            if path.is_file() and not is_status and _is_allowed(path.relative_to(home).as_posix()):
                yield path


def _normalise_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member


def _consistent_copy(path: Path, scratch: Path) -> Path:
    """Return the file itself, or for a database the path of a copy of one state."""
    if not is_database(path):
        return path
    copy = scratch / "database"
    copy.unlink(missing_ok=True)
    try:
        with (
            closing(sqlite3.connect(files.sqlite_uri(path), uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
    except sqlite3.Error as error:
        raise DataError(f"{path}: database not copied: {error}; stop all writers and try again") from error
    return copy
