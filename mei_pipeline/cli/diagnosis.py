"""A line of `mei doctor`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_LISTED = 5  # names given in one line before the rest is counted

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: What was looked at.
        level: `fail` where a night can't run or would be wrong, `warn` where a person should know.
        found: What is there.
        do: What to do about it; empty where nothing is to be done.
    """

    name: str
    level: Level
    found: str
    do: str = ""


def some(names: Sequence[str]) -> str:
    """The first names in one line, and how many more there are."""
    shown = "; ".join(names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown}; and {len(names) - _LISTED} more"
