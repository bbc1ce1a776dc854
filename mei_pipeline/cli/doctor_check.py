"""Result of one check of `mei doctor`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_LISTED = 5  # names given in one line before the rest is counted

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class DoctorCheck:
    """Result of one check of `mei doctor`.

    Attributes:
        name: Subject of the check.
        level: `fail` if a nightly run can't run or would be wrong, `warn` if a person should know.
        state: State that the check read.
        remedy: Action that repairs it; empty if none is needed.
    """

    name: str
    level: Level
    state: str
    remedy: str = ""


def some(names: Sequence[str]) -> str:
    """Return the first names in one line, and the number of the others."""
    listed = "; ".join(names[:_LISTED])
    return listed if len(names) <= _LISTED else f"{listed}; and {len(names) - _LISTED} more"
