"""Sweeps on disk: list them, read their state, and find one by a short id."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mei_pipeline import files
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.sweep.plan import SweepPlan
from mei_pipeline.sweep.results import CHUNKS, chunk_path, read_plan

State = Literal["running", "unfinished", "done", "unreadable"]


@dataclass(frozen=True)
class StoredSweep:
    """A sweep on disk.

    Attributes:
        folder: Its folder; the name is the short id.
        plan: Its plan; None if it is damaged or of another version.
        problem: Reason why the plan can't be read and what to do; empty if it can.
        done: Combos in chunks that are on disk.
        holder: Process that runs it; empty if none does.
        bytes: Total size of its files.
        written_ms: Time at which the newest file was written.
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
        """Short id."""
        return self.folder.name

    @property
    def state(self) -> State:
        """State: running, unfinished, done or unreadable."""
        if self.holder:
            return "running"
        if self.plan is None:
            return "unreadable"
        return "done" if self.done == self.plan.combos else "unfinished"


def stored_sweeps(root: Path) -> list[StoredSweep]:
    """Return every sweep below the folder of all sweeps, most recently written first."""
    sweeps = [stored_sweep(folder) for folder in sweep_folders(root)]
    return sorted(sweeps, key=lambda sweep: (-sweep.written_ms, sweep.id))


def sweep_folders(root: Path) -> list[Path]:
    """Return the folders of all sweeps, without those that are being removed."""
    return [path for path in sorted(root.glob("[!.]*")) if path.is_dir()]


def stored_sweep(folder: Path) -> StoredSweep:
    """Return the state of the sweep in a folder."""
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
    """Return the files of a folder except its lock, so that reading a state changes nothing."""
    return [path for path in folder.rglob("*") if path.is_file() and path.name not in {"lock", "lock.holder"}]


def note_of(path: Path) -> dict[str, Any]:
    """Return the content of a JSON note; empty if it is missing or unreadable."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def find_sweep(root: Path, prefix: str) -> tuple[StoredSweep, SweepPlan]:
    """Return the one sweep whose id begins with `prefix`, and its plan.

    Raises:
        ConfigError: No sweep or several sweeps have an id that begins so; the message lists them.
        DataError: Its plan is damaged or of another version; the message says what to do.
    """
    # The name of a folder is the beginning of the id, so a full id is longer than the name.
    folders = sweep_folders(root)
    matches = [folder for folder in folders if prefix and folder.name.startswith(prefix[: len(folder.name)])]
    if len(matches) != 1:
        listed = ", ".join(folder.name for folder in matches or folders) or "none yet; `mei sweep run` makes one"
        problem = "several ids begin so" if matches else "no such sweep"
        raise ConfigError(f"sweep {prefix!r}: {problem}; there are {listed}")
    sweep = stored_sweep(matches[0])
    if sweep.plan is None:
        raise DataError(sweep.problem)
    if not sweep.plan.id.startswith(prefix):
        raise ConfigError(f"sweep {prefix!r}: no such sweep; {sweep.id} is {sweep.plan.id}")
    return sweep, sweep.plan


def _done(folder: Path, plan: SweepPlan) -> int:
    names = {path.name for path in (folder / CHUNKS).glob("*.parquet")}
    return sum(len(plan.chunk(index)) for index in range(plan.chunks) if chunk_path(folder, plan, index).name in names)
