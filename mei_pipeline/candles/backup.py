"""Backup and restore of what can't be made again: the lake, the registry and the lanes.

A backup is one tar file. Databases are copied through SQLite's own backup, so one that is in use is copied as of one
instant; the lake is copied under its lock. The last member, `manifest.json`, has the hash of every other one. A restore
unpacks beside the home, compares every hash, and only then moves anything into place. Sweeps, nights and features are
not in it: they are made again. A registry in PostgreSQL is backed up with its own tools.
"""

import io
import json
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mei_pipeline import files
from mei_pipeline.candles.store import Lake, settle
from mei_pipeline.candles.transaction import PENDING
from mei_pipeline.errors import DataError, Refused
from mei_pipeline.progress import Progress, silent

KEPT = ("lake", "lanes", "registry.db")
MANIFEST = "manifest.json"
FORMAT = 1
_SQLITE = b"SQLite format 3\x00"
_PASSING = (".lock", ".tmp", "-wal", "-shm", "-journal", ".holder")


@dataclass(frozen=True)
class BackupReport:
    """What a backup or a restore handled.

    Attributes:
        archive: The tar file.
        files: Number of files.
        bytes: Their size.
        aside: Where a restore put what it replaced, if anything.
    """

    archive: Path
    files: int
    bytes: int
    aside: Path | None = None


def backup(home: Path, out: Path, progress: Progress = silent) -> BackupReport:
    """Write the lake, the registry and the lanes of `home` to one tar file.

    Args:
        home: The folder of all state.
        out: The tar file; replaced whole if it exists.
        progress: Told of each file.

    Raises:
        DataError: There is nothing to back up, a file can't be read, or the disk is full; `out` is then as it was.
        Busy: An ingest is running and did not end in time.
    """
    if not any((home / name).exists() for name in KEPT):
        raise DataError(f"{home}: has neither {', '.join(KEPT)}; set MEI_HOME to the home to back up")
    lake = Lake(home / "lake")
    settle(lake)
    with tempfile.TemporaryDirectory(prefix="mei-backup-") as scratch, files.replacing(out) as temporary:
        if lake.root.exists():
            with files.locked(lake.root / ".lock", "backup", wait_s=lake.wait_s):
                entries = _write(home, temporary, Path(scratch), progress)
        else:
            entries = _write(home, temporary, Path(scratch), progress)
    return BackupReport(out, len(entries), sum(size for _, size in entries.values()))


def restore(archive: Path, home: Path, *, force: bool = False, progress: Progress = silent) -> BackupReport:
    """Put the lake, the registry and the lanes of a backup into `home`.

    Args:
        archive: A tar file that `backup` wrote.
        home: The folder of all state.
        force: Replace what `home` has; the old files are moved aside, never deleted.
        progress: Told of each file.

    Raises:
        DataError: The archive is missing, damaged or not a backup, or the disk is full; `home` is then as it was.
        Refused: `home` already has a lake, lanes or a registry and `force` was not given.
        Busy: Another process writes to the lake of `home`.
    """
    present = [name for name in KEPT if (home / name).exists()]
    if present and not force:
        raise Refused(
            f"{home}: already has {', '.join(present)}; restore into an empty home (MEI_HOME), or say --force to move "
            "them aside and replace them"
        )
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=home) as scratch:
        unpacked = Path(scratch)
        entries = _unpack(archive, unpacked, progress)
        if (home / "lake").exists():
            with files.locked(home / "lake" / ".lock", "restore"):
                aside = _swap(unpacked, home, present)
        else:
            aside = _swap(unpacked, home, present)
    return BackupReport(archive, len(entries), sum(size for _, size in entries.values()), aside)


def _write(home: Path, target: Path, scratch: Path, progress: Progress) -> dict[str, tuple[str, int]]:
    entries: dict[str, tuple[str, int]] = {}
    paths = sorted(_kept(home))
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for done, path in enumerate(paths):
            name = path.relative_to(home).as_posix()
            source = _consistent(path, scratch)
            entries[name] = (files.sha256_file(source), source.stat().st_size)
            tar.add(source, arcname=name, recursive=False, filter=_plain)
            progress(done + 1, len(paths), "backup: files")
        listing = {"format": FORMAT, "files": {name: list(entry) for name, entry in entries.items()}}
        text = files.canonical_json(listing)
        member = tarfile.TarInfo(MANIFEST)
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    return entries


def _kept(home: Path) -> Iterator[Path]:
    for name in KEPT:
        root = home / name
        for path in [root] if root.is_file() else root.rglob("*"):
            inside = path.relative_to(home).parts
            if path.is_file() and PENDING not in inside and not path.name.endswith(_PASSING):
                yield path


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member


def _consistent(path: Path, scratch: Path) -> Path:
    """The file itself, or of a database a copy as of one instant."""
    with path.open("rb") as file:
        if file.read(len(_SQLITE)) != _SQLITE:
            return path
    copy = scratch / "database"
    copy.unlink(missing_ok=True)
    try:
        with (
            closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
    except sqlite3.Error as error:
        raise DataError(f"{path}: database can't be copied: {error}; stop what writes to it and try again") from error
    return copy


def _unpack(archive: Path, folder: Path, progress: Progress) -> dict[str, tuple[str, int]]:
    try:
        with tarfile.open(archive, "r:") as tar:
            entries = _listing(archive, tar)
            for done, (name, (expected, _)) in enumerate(entries.items()):
                source = tar.extractfile(name)
                if source is None:
                    raise DataError(f"{archive}: {name} is not a file; use another backup")
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with files.replacing(target) as temporary, temporary.open("wb") as out:
                    shutil.copyfileobj(source, out)
                if files.sha256_file(target) != expected:
                    raise DataError(f"{archive}: {name} differs from its hash; the backup is damaged, use another one")
                progress(done + 1, len(entries), "restore: files")
    except FileNotFoundError:
        raise DataError(f"{archive}: no such file; give the path of a tar file that `mei backup` wrote") from None
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise DataError(f"{archive}: is not a whole backup ({error}); use another one") from error
    except OSError as error:
        raise DataError(f"{archive}: can't be unpacked: {error}; nothing was changed") from error
    return entries


def _listing(archive: Path, tar: tarfile.TarFile) -> dict[str, tuple[str, int]]:
    member = tar.extractfile(MANIFEST)
    try:
        listing = json.loads(member.read() if member else b"")
        if listing["format"] != FORMAT:
            raise DataError(f"{archive}: backup of format {listing['format']}, this MEI reads {FORMAT}")
        entries = {str(name): (str(digest), int(size)) for name, (digest, size) in listing["files"].items()}
    except (ValueError, TypeError) as error:
        raise DataError(f"{archive}: its {MANIFEST} is damaged; use another backup") from error
    for name in entries:
        parts = PurePosixPath(name).parts
        if not parts or parts[0] not in KEPT or ".." in parts or name.startswith("/"):
            raise DataError(f"{archive}: holds {name!r}, which is no part of a backup; it was not written by MEI")
    return entries


def _swap(unpacked: Path, home: Path, present: list[str]) -> Path | None:
    aside = None
    if present:
        number = 1 + sum(path.name.startswith("replaced-") for path in home.iterdir())
        aside = home / f"replaced-{number}"
        aside.mkdir()
    for name in KEPT:
        if aside is not None and (home / name).exists():
            (home / name).rename(aside / name)
        if (unpacked / name).exists():
            (unpacked / name).rename(home / name)
    return aside
