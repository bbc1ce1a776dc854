"""The sweeps that lie on disk: which there are, how far each has come, and which one a short id means."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mei_pipeline import files
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.sweep.plan import SweepPlan
from mei_pipeline.sweep.results import chunk_path, read_plan

State = Literal["running", "unfinished", "done", "unreadable"]


@dataclass(frozen=True)
class StoredSweep:
    """A sweep on disk.

    Attributes:
        folder: Where it lies; its name is the short id.
        plan: Its plan; None where that is damaged or of another version.
        problem: Why the plan can't be read; empty where it can.
        done: Combos in chunks that are on disk.
        holder: Who is running it; empty for nobody.
        bytes: Size of its files.
        written_ms: When the newest of them was written.
    """

    folder: Path
    plan: SweepPlan | None
    problem: str
    done: int
    holder: str
    bytes: int
    written_ms: int

    @property
    def id(self) -> str:
        """The short id."""
        return self.folder.name

    @property
    def state(self) -> State:
        """How far it has come."""
        if self.holder:
            return "running"
        if self.plan is None:
            return "unreadable"
        return "done" if self.done == self.plan.combos else "unfinished"


def stored_sweeps(root: Path) -> list[StoredSweep]:
    """Every sweep below the folder of all sweeps, the one written last first."""
    found = [stored_sweep(folder) for folder in sweep_folders(root)]
    return sorted(found, key=lambda sweep: (-sweep.written_ms, sweep.id))


def sweep_folders(root: Path) -> list[Path]:
    """Folders of all sweeps; one that is being removed is none."""
    return [path for path in sorted(root.glob("[!.]*")) if path.is_dir()]


def stored_sweep(folder: Path) -> StoredSweep:
    """What lies in the folder of one sweep."""
    plan, problem = None, ""
    try:
        plan = read_plan(folder)
    except DataError as error:
        problem = str(error)
    stats = [path.stat() for path in content_of(folder)]
    return StoredSweep(
        folder=folder,
        plan=plan,
        problem=problem,
        done=_done(folder, plan) if plan else 0,
        holder=files.lock_holder(folder / "lock"),
        bytes=sum(stat.st_size for stat in stats),
        written_ms=int(max((stat.st_mtime for stat in stats), default=folder.stat().st_mtime) * 1000),
    )


def content_of(folder: Path) -> list[Path]:
    """Files of a folder, its lock aside: looking at that changes nothing."""
    return [path for path in folder.rglob("*") if path.is_file() and path.name not in {"lock", "lock.holder"}]


def note_of(path: Path) -> dict[str, Any]:
    """A note as it lies there; empty where it can't be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def find_sweep(root: Path, prefix: str) -> tuple[StoredSweep, SweepPlan]:
    """The one sweep whose id begins with `prefix`, and its plan.

    Raises:
        ConfigError: No sweep or several begin so; the message lists those that there are.
        DataError: Its plan is damaged or of another version.
    """
    folders = sweep_folders(root)
    found = [folder for folder in folders if prefix and folder.name.startswith(prefix[: len(folder.name)])]
    if len(found) != 1:
        listed = ", ".join(folder.name for folder in found or folders) or "none yet; `mei sweep run` makes one"
        what = "several begin so" if found else "no such sweep"
        raise ConfigError(f"sweep {prefix!r}: {what}; there are {listed}")
    sweep = stored_sweep(found[0])
    if sweep.plan is None:
        raise DataError(sweep.problem)
    if not sweep.plan.id.startswith(prefix):
        raise ConfigError(f"sweep {prefix!r}: no such sweep; {sweep.id} is {sweep.plan.id}")
    return sweep, sweep.plan


def _done(folder: Path, plan: SweepPlan) -> int:
    names = {path.name for path in (folder / "chunks").glob("*.parquet")}
    return sum(len(plan.chunk(index)) for index in range(plan.chunks) if chunk_path(folder, plan, index).name in names)
