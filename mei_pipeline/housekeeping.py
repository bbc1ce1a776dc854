"""Retention of sweeps and feature columns: decide which ones stay, and remove the others."""

import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mei_pipeline import files
from mei_pipeline.candles.intervals import DAY_MS, iso
from mei_pipeline.config.models.pipeline import Retention
from mei_pipeline.errors import Busy, DataError
from mei_pipeline.night.store import current_night
from mei_pipeline.registry.home import open_home_registry
from mei_pipeline.registry.store import ConfigHistory, list_configs
from mei_pipeline.settings import Settings
from mei_pipeline.sweep.catalog import StoredSweep, content_of, note_of, stored_sweep, stored_sweeps
from mei_pipeline.sweep.plan import SweepPlan

FRESH_MS = DAY_MS
"""A folder that was written less than a day ago stays: another process may use it."""


@dataclass(frozen=True)
class PruneReport:
    """Result of a removal.

    Attributes:
        sweeps: Names of the removed folders of sweeps.
        features: Names of the removed folders of feature columns.
        bytes: Total size of the removed files.
    """

    sweeps: tuple[str, ...]
    features: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class RetentionDecision:
    """Decision to keep or remove a sweep.

    Attributes:
        sweep: The sweep.
        configs: Ids of stored configs whose evidence names the sweep.
        kept: Reason to keep it; empty if it is to be removed.
    """

    sweep: StoredSweep
    configs: tuple[str, ...]
    kept: str


@dataclass(frozen=True)
class _SweepOrigin:
    """Data and kernels that a sweep and its feature columns share."""

    data: str
    kernels: str


def retention_decisions(settings: Settings, retention: Retention, now_ms: int) -> list[RetentionDecision]:
    """Return a decision for each sweep, most recently written first.

    These sweeps stay:

    - sweeps named in the evidence of a config that ever passed its gates,
    - sweeps of the current nightly run,
    - running sweeps,
    - sweeps written less than a day ago,
    - the newest finished sweeps, `sweeps_keep` of them,
    - unfinished sweeps, for `unfinished_days` after their last chunk,
    - all sweeps, if results are stored outside the home, where other homes may use them.

    With `tpe`, the searches of a nightly run's folds count as one with its own search. A sweep with an unreadable plan
    counts as finished, because it can't be resumed.

    Args:
        settings: Folders of the home.
        retention: Limits of pipeline.yaml.
        now_ms: The present, in UTC milliseconds.

    Raises:
        DataError: The registry or the current run's plan is damaged.
    """
    return _decide(settings, retention, now_ms, _config_histories(settings), _current(settings))


def prune(settings: Settings, retention: Retention, now_ms: int) -> PruneReport:
    """Remove sweeps that `retention_decisions` does not keep, and feature columns that no remaining sweep uses.

    Args:
        settings: Folders of the home.
        retention: Limits of pipeline.yaml.
        now_ms: The present, in UTC milliseconds.

    Raises:
        DataError: The registry or the current run's plan is damaged; nothing is removed.
    """
    histories, current = _config_histories(settings), _current(settings)
    decided = _decide(settings, retention, now_ms, histories, current)
    origins = {
        _SweepOrigin(entry.basis.data_hash, entry.basis.kernel_hash)
        for story in histories
        if _has_passed(story)
        for entry in story.evidence
    }
    if current is not None:
        origins.add(_SweepOrigin(current.data_hash, current.kernels))
    _finish_removals(settings.sweeps, settings.features)
    removed: list[str] = []
    size = 0
    for decision in decided:
        folder = decision.sweep.folder
        freed = None if decision.kept else _remove_sweep(decision.sweep)
        if freed is None:
            plan = note_of(folder / "plan.json")
            origins.add(_SweepOrigin(str(plan.get("data_hash")), str(plan.get("kernels"))))
        else:
            removed.append(folder.name)
            size += freed
    forgotten = []
    for folder in _folders(settings.features):
        note = note_of(folder / "features.json")
        origin = _SweepOrigin(str(note.get("data")), str(note.get("kernels")))
        if origin not in origins and now_ms - _written_ms(folder) >= FRESH_MS:
            size += _remove(folder)
            forgotten.append(folder.name)
    return PruneReport(tuple(removed), tuple(forgotten), size)


def _decide(
    settings: Settings,
    retention: Retention,
    now_ms: int,
    histories: Sequence[ConfigHistory],
    current: SweepPlan | None,
) -> list[RetentionDecision]:
    named, proven = _configs_by_sweep(histories), _configs_by_sweep(story for story in histories if _has_passed(story))
    tonight = set() if current is None else {current.id[:16], _search(current)}
    found, places = list[RetentionDecision](), dict[str, int]()
    for sweep in stored_sweeps(settings.sweeps):
        search = sweep.id if sweep.plan is None else _search(sweep.plan)
        passed = len(proven[sweep.id])
        resumable_ms = sweep.written_ms + retention.unfinished_days * DAY_MS
        complete = sweep.state in {"done", "unreadable"}
        place = places.setdefault(search, len(places)) if complete else 0
        if sweep.holder:
            kept = "running"
        elif passed:
            kept = f"evidence of {passed} config{'s' * (passed > 1)} that passed"
        elif {sweep.id, search} & tonight:
            kept = "current nightly run"
        elif not settings.sweeps.is_relative_to(settings.home):
            kept = "results are outside the home, where other homes may keep theirs"
        elif complete and place < retention.sweeps_keep:
            kept = f"among the newest {retention.sweeps_keep}"
        elif not complete and now_ms < resumable_ms:
            kept = f"may be resumed until {iso(resumable_ms)}"
        else:
            kept = "written today" if now_ms - sweep.written_ms < FRESH_MS else ""
        found.append(RetentionDecision(sweep, tuple(sorted(named[sweep.id])), kept))
    return found


def _config_histories(settings: Settings) -> tuple[ConfigHistory, ...]:
    return list_configs(open_home_registry(settings))


def _has_passed(story: ConfigHistory) -> bool:
    """Return True if the config ever passed every gate, so that it may hold a lane."""
    return any(verdict.passed for verdict in story.verdicts)


def _configs_by_sweep(histories: Iterable[ConfigHistory]) -> defaultdict[str, set[str]]:
    """Return the ids of configs whose evidence names a sweep, by the sweep's short id."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for story in histories:
        for entry in story.evidence:
            found[str(entry.metrics.get("sweep_id", ""))[:16]].add(story.config.config_id)
    return found


def _search(plan: SweepPlan) -> str:
    """Return an id that a search shares with the searches of its folds, which differ in their days alone."""
    search = replace(plan, from_ms=0, to_ms=0) if plan.search.method == "tpe" else plan
    return search.id[:16]


def _current(settings: Settings) -> SweepPlan | None:
    """Return the search of the current nightly run; None without one that this version can read.

    Raises:
        DataError: The plan is damaged, so nothing tells which sweep it needs.
    """
    night = current_night(settings)
    if night is None or night.of_other_version:
        return None
    if night.plan is None:
        raise DataError(night.problem)
    return night.plan.sweep


def _folders(root: Path) -> list[Path]:
    return [path for path in sorted(root.glob("[!.]*")) if path.is_dir()]


def _finish_removals(*roots: Path) -> None:
    for root in roots:
        for unfinished in root.glob(".*.removed"):
            shutil.rmtree(unfinished)


def _written_ms(folder: Path) -> int:
    """Return the time at which the newest file of a folder was written, in UTC milliseconds."""
    times = [path.stat().st_mtime for path in content_of(folder)]
    return int(max(times, default=folder.stat().st_mtime) * 1000)


def _remove_sweep(sweep: StoredSweep) -> int | None:
    """Remove a sweep and return its size in bytes; None if it was resumed after the decision."""
    with suppress(Busy), files.locked(sweep.folder / "lock", "housekeeping"):
        if stored_sweep(sweep.folder).written_ms == sweep.written_ms:
            return _remove(sweep.folder)
    return None


def _remove(folder: Path) -> int:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    # Rename first: a removal that is interrupted then leaves no folder that looks like a result.
    gone = folder.with_name(f".{folder.name}.removed")
    folder.rename(gone)
    shutil.rmtree(gone)
    return size
