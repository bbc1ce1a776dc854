"""Membership of a book: which symbol has bars from when to when, and which one ended before the window did."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mei_pipeline.candles.intervals import iso
from mei_pipeline.simulation.bars import Bars


@dataclass(frozen=True)
class Member:
    """A symbol of a book in a window.

    Attributes:
        symbol: Its name.
        first_ms: Open time of its first bar in the window; None without one.
        last_ms: End of its last bar in the window; None without one.
        bars: Steps of the window at which it has a bar.
        missing: Steps without a bar between its first and its last, or the end of the window if it did not end.
        ended: `delisted` or `no bars` where it ended in the window, else empty; see `endings`.
    """

    symbol: str
    first_ms: int | None
    last_ms: int | None
    bars: int
    missing: int
    ended: str

    @property
    def missing_frac(self) -> float:
        """Share of its steps that have no bar; 0 where it has none at all."""
        return self.missing / (self.bars + self.missing) if self.bars else 0.0


def members_of(bars: Bars, from_ms: int, to_ms: int) -> tuple[Member, ...]:
    """Membership of every symbol in the window [from_ms, to_ms), in the order of the symbols."""
    steps = bars.steps
    inside = np.flatnonzero((steps.open_ms >= from_ms) & (steps.open_ms < to_ms))
    ended = {each.symbol: each for each in bars.endings if inside[0] <= each.step <= inside[-1]}
    found = []
    for s, symbol in enumerate(bars.symbols):
        there = inside[steps.present[inside, s]]
        end = ended.get(s)
        if not len(there):
            found.append(Member(symbol, None, None, 0, 0, ""))
            continue
        gone = end is not None and end.step == there[-1]
        until = there[-1] if gone else inside[-1]
        found.append(
            Member(
                symbol=symbol,
                first_ms=int(steps.open_ms[there[0]]),
                last_ms=int(steps.open_ms[there[-1]]) + steps.step_ms,
                bars=len(there),
                missing=int(until - there[0] + 1 - len(there)),
                ended=end.why if end is not None and gone else "",
            )
        )
    return tuple(found)


def member_dicts(members: Sequence[Member]) -> list[dict[str, Any]]:
    """Membership as JSON values: times as text, null without a bar; `missing_pct` in percent of the symbol's steps."""
    return [
        {
            **asdict(member),
            "from": None if member.first_ms is None else iso(member.first_ms),
            "to": None if member.last_ms is None else iso(member.last_ms),
            "missing_pct": 100.0 * member.missing_frac,
            "ended": member.ended or None,
        }
        for member in members
    ]


MEMBER_HEADING = ("symbol", "first bar", "last bar ends", "bars missing, %", "ended")
