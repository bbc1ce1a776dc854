"""Symbols of a book in a window: first and last bar, missing bars, and ends."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mei_pipeline.candles.intervals import iso
from mei_pipeline.simulation.bars import Bars


@dataclass(frozen=True)
class Member:
    """A symbol of a book, in a window.

    Attributes:
        symbol: Name of the symbol.
        first_ms: Open time of the first bar in the window; None if there is no bar.
        last_ms: End of the last bar in the window; None if there is no bar.
        bars: Number of steps with a bar.
        missing: Number of steps without a bar after the first bar. The count ends at the last bar of a symbol that
            ended, and at the end of the window for other symbols.
        ended: `delisted` or `no bars` if the symbol ended in the window, else empty; see `endings`.
    """

    symbol: str
    first_ms: int | None
    last_ms: int | None
    bars: int
    missing: int
    ended: str

    @property
    def missing_frac(self) -> float:
        """Share of the steps without a bar; 0 for a symbol without any bar."""
        return self.missing / (self.bars + self.missing) if self.bars else 0.0


def members_of(bars: Bars, from_ms: int, to_ms: int) -> tuple[Member, ...]:
    """Return the membership of every symbol in the window [from_ms, to_ms), in the order of the symbols."""
    steps = bars.steps
    inside = np.flatnonzero((steps.open_ms >= from_ms) & (steps.open_ms < to_ms))
    ended = {ending.symbol: ending for ending in bars.endings if inside[0] <= ending.step <= inside[-1]}
    members = []
    for s, symbol in enumerate(bars.symbols):
        with_bar = inside[steps.present[inside, s]]
        end = ended.get(s)
        if not len(with_bar):
            members.append(Member(symbol, None, None, 0, 0, ""))
            continue
        # A symbol that was listed again has bars after its end.
        ends_here = end is not None and end.step == with_bar[-1]
        until = with_bar[-1] if ends_here else inside[-1]
        members.append(
            Member(
                symbol=symbol,
                first_ms=int(steps.open_ms[with_bar[0]]),
                last_ms=int(steps.open_ms[with_bar[-1]]) + steps.step_ms,
                bars=len(with_bar),
                missing=int(until - with_bar[0] + 1 - len(with_bar)),
                ended=end.why if end is not None and ends_here else "",
            )
        )
    return tuple(members)


def member_dicts(members: Sequence[Member]) -> list[dict[str, Any]]:
    """Return members as JSON values: times as text, null without a bar; `missing_pct` as a percentage of its steps."""
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
