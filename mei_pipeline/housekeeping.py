"""Forget old results and feature columns, and never what a stored config's evidence or the current night names."""

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mei_pipeline import files
from mei_pipeline.errors import Busy
from mei_pipeline.night import known_nights, read_plan
from mei_pipeline.registry.engine import open_registry
from mei_pipeline.registry.records import Evidence
from mei_pipeline.registry.store import list_configs
from mei_pipeline.settings import Settings

FRESH_MS = 24 * 3_600_000
"""A folder that was written less than a day ago may be in somebody's hands and stays."""


@dataclass(frozen=True)
class Pruned:
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
class _Origin:
    """What a sweep and its feature columns have in common."""

    data: str
    kernels: str


def prune(settings: Settings, keep: int, now_ms: int) -> Pruned:
    """Remove all but the newest `keep` sweeps, and the feature columns that no remaining sweep was made from.

    Sweeps and columns that the evidence of a stored config names stay, those of the current night, those being worked
    on, and those written less than a day ago. So do all sweeps where results are kept outside the home.

    Args:
        settings: Where things are.
        keep: How many sweeps stay whatever becomes of their configs.
        now_ms: The present.

    Raises:
        DataError: The registry or the current night's plan is damaged; then nothing is removed.
    """
    evidence = _evidence(settings)
    sweep_ids = {str(entry.metrics.get("sweep_id", ""))[:16] for entry in evidence}
    origins = {_Origin(entry.basis.data_hash, entry.basis.kernel_hash) for entry in evidence}
    if known_nights(settings):
        current = read_plan(settings).sweep
        sweep_ids.add(current.id[:16])
        origins.add(_Origin(current.data_hash, current.kernels))
    own = settings.sweeps.is_relative_to(settings.home)  # elsewhere results of other homes may lie
    newest_first = sorted(_folders(settings.sweeps), key=_written_ms, reverse=True)
    removed, size = [], 0
    for index, folder in enumerate(newest_first):
        if not own or index < keep or folder.name in sweep_ids or now_ms - _written_ms(folder) < FRESH_MS:
            plan = _read(folder / "plan.json")
            origins.add(_Origin(str(plan.get("data_hash")), str(plan.get("kernels"))))
        else:
            with suppress(Busy), files.locked(folder / "lock", "housekeeping"):
                size += _remove(folder)
                removed.append(folder.name)
    forgotten = []
    for folder in _folders(settings.features):
        note = _read(folder / "features.json")
        origin = _Origin(str(note.get("data")), str(note.get("kernels")))
        if origin not in origins and now_ms - _written_ms(folder) >= FRESH_MS:
            size += _remove(folder)
            forgotten.append(folder.name)
    return Pruned(tuple(removed), tuple(forgotten), size)


def _evidence(settings: Settings) -> list[Evidence]:
    return [entry for story in list_configs(open_registry(settings.registry)) for entry in story.evidence]


def _folders(root: Path) -> list[Path]:
    for unfinished in root.glob(".*.removed"):
        shutil.rmtree(unfinished)
    return [path for path in sorted(root.glob("[!.]*")) if path.is_dir()]


def _written_ms(folder: Path) -> int:
    """When the newest file directly in the folder or one below it was written."""
    times = [path.stat().st_mtime for path in (folder, *folder.rglob("*"))]
    return int(max(times) * 1000)


def _read(path: Path) -> dict[str, Any]:
    """A note as it lies there; empty where it can't be read: such a folder belongs to nothing."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remove(folder: Path) -> int:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    # Renamed first, so that a removal cut off half way leaves nothing that looks like a result.
    gone = folder.with_name(f".{folder.name}.removed")
    folder.rename(gone)
    shutil.rmtree(gone)
    return size
