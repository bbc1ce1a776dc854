"""Forget old results and feature columns, and never those of the current night or of a config that ever passed."""

import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mei_pipeline import files
from mei_pipeline.candles.intervals import iso
from mei_pipeline.config.models.pipeline import Retention
from mei_pipeline.errors import Busy
from mei_pipeline.night_plan import planned_nights, read_plan
from mei_pipeline.registry.home import open_home_registry
from mei_pipeline.registry.store import ConfigHistory, list_configs
from mei_pipeline.settings import Settings
from mei_pipeline.sweep.catalog import StoredSweep, content_of, note_of, stored_sweep, stored_sweeps
from mei_pipeline.sweep.plan import SweepPlan

DAY_MS = 24 * 3_600_000
FRESH_MS = DAY_MS
"""A folder that was written less than a day ago may be in somebody's hands and stays."""


@dataclass(frozen=True)
class PruneReport:
    """What was removed.

    Attributes:
        sweeps: Folders of sweeps.
        features: Folders of feature columns.
        bytes: What they held.
    """

    sweeps: tuple[str, ...]
    features: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class RetentionDecision:
    """What housekeeping makes of a sweep.

    Attributes:
        sweep: The sweep.
        configs: Ids of stored configs whose evidence names it.
        kept: Why it stays; empty where it goes.
    """

    sweep: StoredSweep
    configs: tuple[str, ...]
    kept: str


@dataclass(frozen=True)
class _SweepOrigin:
    """What a sweep and its feature columns have in common."""

    data: str
    kernels: str


def retention_decisions(settings: Settings, retention: Retention, now_ms: int) -> list[RetentionDecision]:
    """Which sweeps stay, and why, the one written last first.

    Those stay that the evidence of a config names which ever passed its gates, those of the current night, those that
    are running, those written less than a day ago, the newest finished ones, and the unfinished ones for as long as
    they may be resumed. The searches by `tpe` that a night makes for its folds count as one with its own. A sweep whose
    plan this version can't read counts as finished: it can't be resumed. All sweeps stay where results are kept outside
    the home.

    Args:
        settings: Where things are.
        retention: How much is kept.
        now_ms: The present.

    Raises:
        DataError: The registry or the current night's plan is damaged.
    """
    return _fates(settings, retention, now_ms, _config_histories(settings), _current(settings))


def prune(settings: Settings, retention: Retention, now_ms: int) -> PruneReport:
    """Remove sweeps that `retention_decisions` does not keep, and feature columns that no remaining sweep used.

    Args:
        settings: Where things are.
        retention: How much is kept.
        now_ms: The present.

    Raises:
        DataError: The registry or the current night's plan is damaged; then nothing is removed.
    """
    histories, current = _config_histories(settings), _current(settings)
    decided = _fates(settings, retention, now_ms, histories, current)
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


def _fates(
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
            kept = "current night"
        elif not settings.sweeps.is_relative_to(settings.home):
            kept = "results lie outside the home, where other homes may keep theirs"
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
    """Whether the config passed every gate at any time, without which none is promoted."""
    return any(verdict.passed for verdict in story.verdicts)


def _configs_by_sweep(histories: Iterable[ConfigHistory]) -> defaultdict[str, set[str]]:
    """By short id of a sweep, the configs whose evidence names it."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for story in histories:
        for entry in story.evidence:
            found[str(entry.metrics.get("sweep_id", ""))[:16]].add(story.config.config_id)
    return found


def _search(plan: SweepPlan) -> str:
    """What a night's search has in common with those that `tpe` makes for its folds, each over days of its own."""
    whole = replace(plan, from_ms=0, to_ms=0) if plan.search.method == "tpe" else plan
    return whole.id[:16]


def _current(settings: Settings) -> SweepPlan | None:
    """The search of the current night."""
    return read_plan(settings).sweep if planned_nights(settings) else None


def _folders(root: Path) -> list[Path]:
    return [path for path in sorted(root.glob("[!.]*")) if path.is_dir()]


def _finish_removals(*roots: Path) -> None:
    for root in roots:
        for unfinished in root.glob(".*.removed"):
            shutil.rmtree(unfinished)


def _written_ms(folder: Path) -> int:
    """When the newest file of the folder was written."""
    times = [path.stat().st_mtime for path in content_of(folder)]
    return int(max(times, default=folder.stat().st_mtime) * 1000)


def _remove_sweep(sweep: StoredSweep) -> int | None:
    """Bytes that were freed; None where somebody has taken the sweep up again since it was looked at."""
    with suppress(Busy), files.locked(sweep.folder / "lock", "housekeeping"):
        if stored_sweep(sweep.folder).written_ms == sweep.written_ms:
            return _remove(sweep.folder)
    return None


def _remove(folder: Path) -> int:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    # Renamed first, so that a removal cut off half way leaves nothing that looks like a result.
    gone = folder.with_name(f".{folder.name}.removed")
    folder.rename(gone)
    shutil.rmtree(gone)
    return size
