"""Backup and restore of data that can't be computed again: the lake, the registry and the lanes.

A backup is one tar file. It also has the configuration and the nightly runs with their reports, which explain the
lanes. It has no sweeps and features, which can be computed again. A registry in PostgreSQL needs PostgreSQL's tools.

Databases are copied through SQLite's backup function, so a database in use is copied as one state; the lake is copied
under its lock. The new archive is read back and checked before it replaces an earlier one. A restore unpacks beside the
home and makes the same checks before it moves anything into place.
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
from mei_pipeline.execution.journal.opening import check_no_lane_runs
from mei_pipeline.progress import Progress, silent
from mei_pipeline.registry.home import RESETS_NAME

_SQLITE_SUFFIXES = ("-wal", "-shm", "-journal")
"""Files beside a database. A restore moves them aside, because SQLite would apply them to the restored database."""


@dataclass(frozen=True)
class BackupReport:
    """Result of a backup or a restore.

    Attributes:
        archive: The tar file.
        files: Number of files.
        bytes: Total size of the files.
        aside: Folder to which a restore moved the files that it replaced; None without such files.
    """

    archive: Path
    files: int
    bytes: int
    aside: Path | None = None


def backup(home: Path, out: Path, progress: Progress = silent, *, on_server: bool = False) -> BackupReport:
    """Write the lake, the registry, the lanes, the configuration and the nightly runs of `home` to one tar file.

    Args:
        home: The folder of all state.
        out: The tar file; an existing one is replaced after the new one passed all checks.
        progress: Called for each file.
        on_server: The registry is a database of a server, and not in `home`.

    Raises:
        DataError: There is nothing to back up, or a file is damaged or missing; `out` is unchanged.
        Retryable: The disk is full; `out` is unchanged.
        Refused: `out` is a backup with a part that `home` lacks, or is inside a part of `home`.
        Busy: An ingest is running and did not end in time.
    """
    present = [part for part in PARTS if (home / part).exists()]
    if not set(present) & {"lake", "lanes", REGISTRY}:
        raise DataError(f"{home}: has neither lake, lanes nor {REGISTRY}; set MEI_HOME to the home to back up")
    if (home / REGISTRY).exists() and not (home / REGISTRY).is_file():
        raise DataError(f"{home / REGISTRY}: not a file; restore it from an earlier backup")
    for part in present:
        if out.resolve().is_relative_to((home / part).resolve()):
            raise Refused(f"{out}: inside a part of the home that is backed up; name a file outside {home / part}")
    lake = Lake(home / "lake")
    finish_transaction(lake)
    # A lake on a read-only disk, such as one that failed, can be backed up without a lock: no process can write to it.
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
            raise DataError(f"no backup was written, {out} is unchanged: {message}") from error
        _keep_parts(out, entries)
    return _report(out, entries)


def restore(
    archive: Path, home: Path, *, force: bool = False, progress: Progress = silent, on_server: bool = False
) -> BackupReport:
    """Put the content of a backup into `home`.

    Args:
        archive: A tar file that `backup` wrote.
        home: The folder of all state.
        force: Replace existing parts of `home`; the old files are moved aside, never deleted.
        progress: Called for each file.
        on_server: The registry is a database of a server, and not in the archive.

    Raises:
        DataError: The archive is missing, not a backup, damaged or inconsistent; `home` is unchanged.
        Retryable: The disk is full; `home` is unchanged.
        Refused: `home` already has a part that would be replaced, and `force` was not given.
        Busy: Another process writes to the lake of `home`, or a lane of `home` is running.
    """
    # Format 1 has neither configuration nor nightly runs; a restore of it keeps those of the home.
    parts = {*tar.parts_of(tar.read_listing(archive)), "lake", "lanes", REGISTRY, RESETS_NAME}
    present = [part for part in PARTS if part in parts and (home / part).exists()]
    if present and not force:
        raise Refused(
            f"{home}: already has {', '.join(present)}; restore into an empty home (MEI_HOME), or use --force to move "
            "them aside and replace them"
        )
    check_no_lane_runs(home / "lanes")
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
                raise DataError(f"{archive}: can't be restored, nothing was changed: {message}") from error
            locked = (home / "lake").is_dir()
            with files.locked(home / "lake" / ".lock", "restore") if locked else nullcontext():
                aside = _swap(unpacked, home, present)
    except OSError as error:
        raise files.refused(error, f"{home}: not restored: {files.explain(error)}") from error
    return _report(archive, entries, aside)


def _report(archive: Path, entries: Entries, aside: Path | None = None) -> BackupReport:
    return BackupReport(archive, len(entries), sum(size for _, size in entries.values()), aside)


def _check_written(archive: Path, entries: Entries, folder: Path, progress: Progress, *, on_server: bool) -> None:
    """Read an archive back and check it, as a restore does."""
    if tar.unpack(archive, folder, progress, is_checked) != entries:
        raise DataError(f"{archive}: differs from what was written when read back; check the disk")
    check_content(folder, entries, on_server=on_server)


def _keep_parts(out: Path, entries: Entries) -> None:
    """Raise if a new backup lacks a part that the present one has, as after a mistake in MEI_HOME."""
    try:
        before = tar.parts_of(tar.read_listing(out))
    except DataError:
        return  # no backup yet, or a damaged file that may be replaced
    if lost := [part for part in before if part not in tar.parts_of(entries)]:
        raise Refused(f"{out}: the backup has {', '.join(lost)}, which this home lacks; name another file")


def _swap(unpacked: Path, home: Path, present: list[str]) -> Path | None:
    """Move existing parts aside and unpacked parts into place; undo all moves if one fails."""
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
