"""A line of `mei doctor`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_LISTED = 5  # names given in one line before the rest is counted

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of the report of `mei doctor`.

    Attributes:
        name: The subject of the check.
        level: `fail` if a nightly run can't run or would be wrong, `warn` if a person should know.
        found: The state that the check met.
        do: The remedy; empty if none is needed.
    """

    name: str
    level: Level
    found: str
    do: str = ""


def some(names: Sequence[str]) -> str:
    """Return the first names in one line, and the number of the others."""
    shown = "; ".join(names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown}; and {len(names) - _LISTED} more"
