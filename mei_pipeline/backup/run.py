"""Backup and restore of what can't be made again: the lake, the registry and the lanes.

The configuration of the home and its nights, with their reports, are in it as well, so that a restored lane means what
it meant. A backup is one tar file. Databases are copied through SQLite's own backup, so one that is in use is copied as
of one instant; the lake is copied under its lock. What was written is read back and checked before it replaces an
earlier backup. A restore unpacks beside the home, makes the same checks, and only then moves anything into place.
Sweeps and features are not in it: they are made again. A registry in PostgreSQL is backed up with its own tools.
"""

import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from mei_pipeline import files
from mei_pipeline.backup import archive as tar
from mei_pipeline.backup.archive import PARTS, REGISTRY, Entries
from mei_pipeline.backup.checks import check_content, is_checked
from mei_pipeline.candles.store import Lake, finish_transaction
from mei_pipeline.errors import DataError, MeiError, Refused, Retryable
from mei_pipeline.progress import Progress, silent
from mei_pipeline.registry.home import RESETS_NAME

_SQLITE_SUFFIXES = ("-wal", "-shm", "-journal")  # what SQLite keeps beside a database, and would apply to another one


@dataclass(frozen=True)
class BackupReport:
    """Result of a backup or a restore.

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


def backup(home: Path, out: Path, progress: Progress = silent, *, on_server: bool = False) -> BackupReport:
    """Write the lake, the registry, the lanes, the configuration and the nights of `home` to one tar file.

    Args:
        home: The folder of all state.
        out: The tar file; replaced whole if it exists, once the new one is found good.
        progress: Told of each file.
        on_server: The registry is a database of a server, and not in `home`.

    Raises:
        DataError: There is nothing to back up, or something is damaged or missing; `out` is then as it was.
        Retryable: The disk is full; `out` is then as it was.
        Refused: `out` is a backup with a part that `home` lacks, or lies in a part of `home`.
        Busy: An ingest is running and did not end in time.
    """
    present = [part for part in PARTS if (home / part).exists()]
    if not set(present) & {"lake", "lanes", REGISTRY}:
        raise DataError(f"{home}: has neither lake, lanes nor {REGISTRY}; set MEI_HOME to the home to back up")
    if (home / REGISTRY).exists() and not (home / REGISTRY).is_file():
        raise DataError(f"{home / REGISTRY}: not a file; restore it from an earlier backup")
    for part in present:
        if out.resolve().is_relative_to((home / part).resolve()):
            raise Refused(f"{out}: lies in a part of the home that is backed up; name a file outside {home / part}")
    lake = Lake(home / "lake")
    finish_transaction(lake)
    # A disk that failed and is mounted read-only is the one to be backed up: nobody can write to it meanwhile.
    changes = lake.root.exists() and files.writable(lake.root)
    lock = files.locked(lake.root / ".lock", "backup", wait_s=lake.wait_s) if changes else nullcontext()
    with tempfile.TemporaryDirectory(prefix="mei-backup-") as scratch, files.replacing(out) as temporary:
        with lock:
            entries = tar.write_archive(home, temporary, Path(scratch), progress)
        try:
            _check_written(temporary, entries, Path(scratch) / "home", progress, on_server=on_server)
        except Retryable:
            raise
        except MeiError as error:
            message = str(error).replace(str(Path(scratch) / "home"), str(home)).replace(str(temporary), str(out))
            raise DataError(f"no backup was made, {out} is as it was: {message}") from error
        _keep_parts(out, entries)
    return _report(out, entries)


def restore(
    archive: Path, home: Path, *, force: bool = False, progress: Progress = silent, on_server: bool = False
) -> BackupReport:
    """Put what a backup holds into `home`.

    Args:
        archive: A tar file that `backup` wrote.
        home: The folder of all state.
        force: Replace what `home` has; the old files are moved aside, never deleted.
        progress: Told of each file.
        on_server: The registry is a database of a server, and not in the archive.

    Raises:
        DataError: The archive is missing, damaged, not a backup or of no use; `home` is then as it was.
        Retryable: The disk is full; `home` is then as it was.
        Refused: `home` already has a part that would be replaced and `force` was not given.
        Busy: Another process writes to the lake of `home`.
    """
    # A backup without configuration or nights leaves those of the home: it says nothing about them.
    parts = {*tar.parts_of(tar.read_listing(archive)), "lake", "lanes", REGISTRY, RESETS_NAME}
    present = [part for part in PARTS if part in parts and (home / part).exists()]
    if present and not force:
        raise Refused(
            f"{home}: already has {', '.join(present)}; restore into an empty home (MEI_HOME), or say --force to move "
            "them aside and replace them"
        )
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".restore-", dir=home) as scratch:
            unpacked = Path(scratch)
            entries = tar.unpack(archive, unpacked, progress)
            try:
                check_content(unpacked, entries, on_server=on_server)
            except Retryable:
                raise
            except MeiError as error:
                message = str(error).replace(f"{unpacked}/", "")
                raise DataError(f"{archive}: is of no use, nothing was changed: {message}") from error
            locked = (home / "lake").is_dir()
            with files.locked(home / "lake" / ".lock", "restore") if locked else nullcontext():
                aside = _swap(unpacked, home, present)
    except OSError as error:
        raise files.refused(error, f"{home}: not restored: {files.explain(error)}") from error
    return _report(archive, entries, aside)


def _report(archive: Path, entries: Entries, aside: Path | None = None) -> BackupReport:
    return BackupReport(archive, len(entries), sum(size for _, size in entries.values()), aside)


def _check_written(archive: Path, entries: Entries, folder: Path, progress: Progress, *, on_server: bool) -> None:
    """Read an archive back as a restore would."""
    if tar.unpack(archive, folder, progress, is_checked) != entries:
        raise DataError(f"{archive}: reads back otherwise than it was written; check the disk")
    check_content(folder, entries, on_server=on_server)


def _keep_parts(out: Path, entries: Entries) -> None:
    """Refuse to replace a backup by one that lacks a part of it, as of another home."""
    try:
        before = tar.parts_of(tar.read_listing(out))
    except DataError:
        return  # missing, or nothing to be kept
    if lost := [part for part in before if part not in tar.parts_of(entries)]:
        raise Refused(f"{out}: is a backup with {', '.join(lost)}, which this home lacks; name another file")


def _swap(unpacked: Path, home: Path, present: list[str]) -> Path | None:
    """Move what was unpacked into place and what was there aside; undo it all if one move fails."""
    aside = None
    moves: list[tuple[Path, Path]] = []
    if present:
        aside = next(path for number in count(1) if not (path := home / f"replaced-{number}").exists())
        aside.mkdir()
        names = [*present, *(f"{REGISTRY}{end}" for end in _SQLITE_SUFFIXES)]
        moves += [(home / name, aside / name) for name in names if (home / name).exists()]
    moves += [(unpacked / part, home / part) for part in PARTS if (unpacked / part).exists()]
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            source.rename(target)
            done.append((source, target))
    except OSError:
        for source, target in reversed(done):
            target.rename(source)
        raise
    files.sync_folder(home)
    return aside
