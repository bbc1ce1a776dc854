"""Folders of nightly runs below `nights/`: write a plan, read it, and find a run by the first digits of its id."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mei_pipeline import files
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.night.plan import PLAN_TYPE, NightPlan
from mei_pipeline.settings import Settings

PLAN_FORMAT = 2
"""Format of the files of a nightly run. Files of another format are unreadable; format 1 had no number."""
_PLAN_NAME = "plan.json"
_SHORT = 16  # digits of an id in the name of a folder


@dataclass(frozen=True)
class StoredNight:
    """A nightly run on disk.

    Attributes:
        id: Short id, the name of its folder.
        plan: Its plan; None if it is damaged or of another version.
        problem: Reason why the plan can't be read and what to do; empty if it can.
        of_other_version: Another version of MEI wrote the plan.
    """

    id: str
    plan: NightPlan | None
    problem: str
    of_other_version: bool


def night_folder(settings: Settings, plan: NightPlan) -> Path:
    """Return the folder with the results of a nightly run."""
    return settings.nights / plan.id[:_SHORT]


def write_night_plan(settings: Settings, plan: NightPlan) -> Path:
    """Store a plan as `nights/<id>/plan.json`, make it the current one, and return its folder."""
    folder = night_folder(settings, plan)
    content = {"format": PLAN_FORMAT, **PLAN_TYPE.dump_python(plan, mode="json")}
    files.write_bytes(folder / _PLAN_NAME, json.dumps(content, indent=2).encode() + b"\n")
    # The pointer comes last: a crash before it leaves the previous run the current one.
    files.write_bytes(settings.nights / "current", plan.id[:_SHORT].encode() + b"\n")
    return folder


def read_night_plan(settings: Settings, night: str = "") -> NightPlan:
    """Return the plan of a nightly run; of the current one by default.

    Raises:
        DataError: The run does not exist, or its plan is damaged or of another version; the message says what to do.
    """
    stored = stored_night(settings, night or _current_id(settings))
    if stored.plan is None:
        raise DataError(stored.problem)
    return stored.plan


def current_night(settings: Settings) -> StoredNight | None:
    """Return the nightly run that was planned last; None before the first.

    Raises:
        DataError: Runs exist, and none of them is the current one.
    """
    return stored_night(settings, _current_id(settings)) if planned_nights(settings) else None


def stored_night(settings: Settings, night: str) -> StoredNight:
    """Return a nightly run by its id, with the reason if its plan can't be read.

    Raises:
        DataError: The run does not exist.
    """
    path = settings.nights / night[:_SHORT] / _PLAN_NAME
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        known = ", ".join(planned_nights(settings)) or "none"
        raise DataError(f"{path}: no such nightly run; known: {known}") from None
    except (OSError, ValueError) as error:
        return _unreadable(path, f"damaged plan of a nightly run: {error}")
    written = content.pop("format", 1) if isinstance(content, dict) else PLAN_FORMAT
    if written != PLAN_FORMAT:
        problem = f"written by another version of MEI: its format is {written}, this version reads {PLAN_FORMAT}"
        return _unreadable(path, problem, of_other_version=True)
    return _validated(path, content)


def planned_nights(settings: Settings) -> list[str]:
    """Return the short ids of all nightly runs, oldest first."""
    paths = sorted(settings.nights.glob(f"*/{_PLAN_NAME}"), key=lambda path: path.stat().st_mtime)
    return [path.parent.name for path in paths]


def stored_nights(settings: Settings) -> list[StoredNight]:
    """Return all nightly runs, oldest first, with the reason for each that can't be read."""
    return [stored_night(settings, night) for night in planned_nights(settings)]


def find_night(settings: Settings, prefix: str) -> NightPlan:
    """Return the plan of the one nightly run whose id begins with `prefix`.

    Raises:
        ConfigError: No run or several runs have an id that begins so; the message lists them.
        DataError: Its plan is damaged or of another version; the message says what to do.
    """
    known = planned_nights(settings)
    found = [name for name in known if prefix and name.startswith(prefix[: len(name)])]
    if len(found) != 1:
        listed = ", ".join(_listed(settings, name) for name in found or known) or "none yet; `mei nightly` runs one"
        problem = "several ids begin so" if found else "no such nightly run"
        raise ConfigError(f"night {prefix!r}: {problem}; there are {listed}")
    plan = read_night_plan(settings, found[0])
    if not plan.id.startswith(prefix):
        raise ConfigError(f"night {prefix!r}: no such nightly run; {found[0]} is {plan.id}")
    return plan


def _current_id(settings: Settings) -> str:
    current = settings.nights / "current"
    if not current.exists():
        raise DataError(
            f"{settings.nights}: no nightly run was planned yet; materialise night_plan or run `mei nightly`"
        )
    return current.read_text().strip()


def _validated(path: Path, content: Any) -> StoredNight:
    try:
        # JSON mode reads a list as a tuple and a text as a time, as the dump wrote them.
        plan = PLAN_TYPE.validate_json(json.dumps(content))
    except ValidationError as error:
        return _unreadable(path, f"damaged plan of a nightly run: {error.error_count()} wrong values")
    return StoredNight(path.parent.name, plan, "", of_other_version=False)


def _unreadable(path: Path, problem: str, *, of_other_version: bool = False) -> StoredNight:
    advice = "run `mei nightly` for a new one"
    if (path.parent / "report.html").exists():
        advice = f"its report is still {path.parent / 'report.html'}; {advice}"
    return StoredNight(path.parent.name, None, f"{path}: {problem}; {advice}", of_other_version)


def _listed(settings: Settings, night: str) -> str:
    return night if stored_night(settings, night).plan else f"{night} (unreadable)"
