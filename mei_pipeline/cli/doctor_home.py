"""Checks of `mei doctor` on a home: disk space, registry, and files of the lanes."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mei_pipeline import files
from mei_pipeline.cli.doctor_check import DoctorCheck, Level, some
from mei_pipeline.errors import DataError, MeiError
from mei_pipeline.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from mei_pipeline.registry.store import Registry

_GIB = 1 << 30
_FAILS_BELOW = 1 * _GIB  # a nightly run of 14 symbols writes about 100 MiB; with less it may stop half-way
_WARNS_BELOW = 10 * _GIB
_KERNELS = 64 << 20  # bytes; those of all strategies take some 3 MiB for each version of their sources
_RUNS_TO_COME = 7  # a week of nightly runs: time to make room
_LEAST_FILES = 2_000  # a sweep, its columns, its nightly run and Dagster's records are a few hundred files
_NEWEST = 5  # folders of a kind whose size is taken


def check_home(settings: Settings) -> list[DoctorCheck]:
    """Check that the folders of a run are writable and have room for this run and later ones."""
    places = {settings.home: run_bytes(settings)}
    if not settings.sweeps.is_relative_to(settings.home):
        places[settings.sweeps] = _largest(settings.sweeps)
    results: list[DoctorCheck] = []
    for folder, needed in places.items():
        existing = _existing(folder)
        if not _open(existing):
            name = "MEI_HOME" if folder == settings.home else "MEI_SWEEPS"
            advice = f"make the folder writable for this user, or set {name} to one that is"
            results.append(DoctorCheck("home", "fail", f"{existing} can't be written", advice))
            continue
        results.append(judge_room(folder, *room(existing), needed))
    return results


def room(folder: Path) -> tuple[int, int]:
    """Return the free bytes and free inodes of the disk of a folder, which need not exist."""
    disk = os.statvfs(_existing(folder))
    left = disk.f_favail if disk.f_files else _LEAST_FILES  # some file systems count no files
    return disk.f_bavail * disk.f_frsize, left


def judge_cache(cache: Path, free: int, files_left: int) -> DoctorCheck:
    """Compare the room on the disk of the cache with what compiled kernels need."""
    advice = "make room for it, or set MEI_CACHE to another folder that this user may write"
    if not _open(_existing(cache)):
        return DoctorCheck("kernels", "fail", f"not compiled yet, and {_existing(cache)} can't be written", advice)
    if free < _KERNELS or files_left < _LEAST_FILES:
        state = f"not compiled yet, and {cache} has room for {free >> 20:,} MiB in {files_left:,} files"
        return DoctorCheck("kernels", "fail", f"{state}; kernels need up to {_KERNELS >> 20} MiB", advice)
    return DoctorCheck("kernels", "ok", "not compiled yet; the next nightly run compiles them once")


def run_bytes(settings: Settings) -> int:
    """Return the bytes that the largest recent run wrote into the home; 0 before the first run."""
    kinds = (settings.features, settings.nights, settings.home / "sweeps")
    return sum(_largest(folder) for folder in kinds)


def judge_room(folder: Path, free: int, files_left: int, needed: int) -> DoctorCheck:
    """Compare the room on a disk with what a run needs.

    Args:
        folder: Folder that runs write to.
        free: Free bytes.
        files_left: How many more files the disk can hold.
        needed: Bytes that a run writes; 0 if none has run yet.
    """
    # A run may write as much again before housekeeping removes older results.
    fails, warns = max(_FAILS_BELOW, 2 * needed), max(_WARNS_BELOW, _RUNS_TO_COME * needed)
    few = files_left < _LEAST_FILES
    level: Level = "fail" if free < fails or few else "warn" if free < warns else "ok"
    state = f"{folder}, {free / _GIB:.1f} GiB free"
    if needed:
        state += f"; a run writes up to {needed / _GIB:.2f} GiB"
    if few:
        state += f"; room for {files_left:,} more files, a run needs up to {_LEAST_FILES:,}"
    advice = "" if level == "ok" else "free space on the disk, or set MEI_HOME to a folder on another one"
    return DoctorCheck("home", level, state, advice)


def check_writable(settings: Settings, book: "Registry") -> list[DoctorCheck]:
    """Report a registry that is readable but not writable."""
    from sqlalchemy import make_url

    if book.database.dialect.name == "postgresql":
        with book.database.connect() as connection:
            closed_server = connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "on"
        advice = "name the primary server in MEI_REGISTRY_URL, or let the server write: default_transaction_read_only"
        state = f"{book.url} takes no writes: the registry is read-only"
        return [DoctorCheck("registry", "fail", state, advice)] if closed_server else []
    path = Path(make_url(settings.registry).database or "")
    closed = [str(each) for each in (path, path.parent) if not files.writable(each)]
    if not closed:
        return []
    advice = "make the file and its folder writable for this user; a run and every promotion writes to it"
    return [DoctorCheck("registry", "fail", f"{some(closed)} can't be written: the registry is read-only", advice)]


def check_nights(settings: Settings) -> list[DoctorCheck]:
    """Check that the plans of nightly runs can be read; those of another version of MEI can't."""
    from mei_pipeline.night.store import stored_nights

    nights = stored_nights(settings)
    if not nights:
        return [DoctorCheck("nightly runs", "ok", "none yet; mei nightly runs one")]
    damaged = [night.problem for night in nights if night.plan is None and not night.of_other_version]
    if damaged:
        advice = "mei nightly plans a new one; delete the folder of a damaged one, or restore it from a backup"
        return [DoctorCheck("nightly runs", "warn", some(damaged), advice)]
    others = [night.id for night in nights if night.of_other_version]
    if not others:
        return [DoctorCheck("nightly runs", "ok", f"{len(nights)} nightly runs can be read")]
    state = f"{len(others)} of {len(nights)} nightly runs are of another version and unreadable: {some(others)}"
    return [
        DoctorCheck("nightly runs", "ok", state, "nothing; their reports are still nights/<id>/report.html of the home")
    ]


def check_lanes(settings: Settings) -> list[DoctorCheck]:
    """Check that the files of each lane are sound and match the registry, and list halted lanes."""
    names = sorted(path.name for path in settings.lanes.iterdir() if path.is_dir()) if settings.lanes.is_dir() else []
    if not names:
        return [DoctorCheck("lanes", "ok", "none yet")]
    book = _registry_of(settings)
    damaged: list[str] = []
    halted: list[str] = []
    for name in names:
        damaged += _problems(settings, book, name)
        halted += _halts(settings.lanes, name)
    results = []
    if damaged:
        advice = "mei lane list names them all; a file that the registry can write again is written by the next run"
        results.append(DoctorCheck("lanes", "fail", some(damaged), advice))
    if halted:
        advice = "mei lane set LANE --lift NAME, once the reason is gone"
        results.append(DoctorCheck("lanes", "warn", f"trading is halted: {some(halted)}", advice))
    whose = "their files are as the registry says" if book else "their files are sound"
    return results or [DoctorCheck("lanes", "ok", f"{len(names)} lanes; {whose}")]


def _registry_of(settings: Settings) -> "Registry | None":
    """Return the registry; None if it is missing or unreadable, which another check reports."""
    from mei_pipeline.registry.database import schema_version
    from mei_pipeline.registry.store import open_registry
    from mei_pipeline.registry.tables import SCHEMA_VERSION

    if not settings.registry_url and not (settings.home / "registry.db").is_file():
        return None
    try:
        if schema_version(settings.registry) != SCHEMA_VERSION:
            return None
        return open_registry(settings.registry)
    except MeiError:
        return None


def _problems(settings: Settings, book: "Registry | None", lane: str) -> list[str]:
    """Yield the problems of the files of a lane, except its holds."""
    from mei_pipeline.execution.journal.opening import journal_path
    from mei_pipeline.execution.journal.reader import check_integrity
    from mei_pipeline.registry.lanes import drift, lane_folder, read_pointer_file, read_status

    problems = list(drift(book, settings.lanes, lane).differences) if book else []
    checks: list[Callable[[], object]] = [partial(read_status, settings.lanes, lane)]
    if book is None:
        checks.append(partial(read_pointer_file, settings.lanes, lane))
    configs = sorted((lane_folder(settings.lanes, lane) / "configs").glob("*.yaml"))
    checks += [partial(_parse, path) for path in configs]
    if (journal := journal_path(settings.lanes, lane)).exists():
        checks.append(partial(check_integrity, journal))
    for check in checks:
        try:
            check()
        except MeiError as error:
            problems.append(str(error))
    return problems


def _parse(path: Path) -> object:
    from mei_pipeline.registry.config_file import parse_config

    return parse_config(path, path.read_bytes())


def _halts(lanes: Path, lane: str) -> list[str]:
    import time

    from mei_pipeline.registry.holds import read_all_holds

    try:
        holds = read_all_holds(lanes, lane, time.time_ns() // 1_000_000)
    except DataError as error:
        return [f"lane {lane}, because its holds can't be read: {error}"]
    return [
        f"lane {lane}, hold {name} of {hold.owner}: {hold.reason}"
        for name, hold in sorted(holds.items())
        if hold.effect == "halt"
    ]


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _open(existing: Path) -> bool:
    return existing.is_dir() and files.writable(existing)


def _largest(folder: Path) -> int:
    """Return the bytes of the largest of the latest folders in `folder`."""
    if not folder.is_dir():
        return 0
    inside = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    return max((_bytes(path) for path in inside[-_NEWEST:]), default=0)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
