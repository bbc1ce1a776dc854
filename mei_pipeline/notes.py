"""Notes of a report: facts about the data and the book that limit what its figures prove."""

from collections.abc import Iterable, Sequence

import numpy as np

from kernels.market import Floats, Ints
from mei_pipeline.candles.intervals import DAY_MS, HOUR_MS, Intervals, iso
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.extents import Extents
from mei_pipeline.simulation.members import Member, members_of
from mei_pipeline.simulation.terms import assumed_symbols, changed_symbols

_NAMED = 5  # symbols that a note names; it counts the rest
_SHOWN_HOURS = 48.0  # shorter durations are given in hours, longer ones in days


def data_notes(bars: Bars, from_ms: int, to_ms: int) -> list[str]:
    """Return notes on the bars, funding and instruments of the window [from_ms, to_ms), as sentences."""
    members = members_of(bars, from_ms, to_ms)
    return [
        *_membership(members, from_ms, to_ms),
        *_traded_again(bars, from_ms, to_ms),
        *_missing(members),
        *_funding(bars, from_ms, to_ms),
        *_instruments(bars),
    ]


def window_notes(extents: Sequence[Extents], intervals: Intervals, to_ms: int) -> list[str]:
    """Return a note if the bars of one interval end the window a day or more before those of another.

    Args:
        extents: Extents of the lake for each interval that is read; see `extents_ms`.
        intervals: The intervals.
        to_ms: End of the window, UTC milliseconds.
    """
    ends = {
        name: max((end, symbol) for symbol, (_, end) in each.items())
        for name, each in zip(intervals.read, extents, strict=True)
    }
    first, last = min(ends, key=lambda name: ends[name]), max(ends, key=lambda name: ends[name])
    if ends[last][0] - to_ms < DAY_MS or ends[first][0] - to_ms >= DAY_MS:
        return []
    end_ms, symbol = ends[first]
    more = _time(ends[last][0] - end_ms)
    text = f"The window ends {iso(to_ms)}: the last {first} bar of any symbol, of {symbol}, ends {iso(end_ms)}"
    return [f"{text}; {last} bars continue for {more}."]


def book_notes(close_ms: Ints, equity: Floats, liquidations: float) -> list[str]:
    """Return notes on a book that was liquidated or had no equity left.

    Args:
        close_ms: [T] close time of each step, UTC milliseconds.
        equity: [T] mark-to-market equity at each close, USD.
        liquidations: Number of liquidations of the account.
    """
    found = []
    if liquidations > 0:
        found.append(f"The account was liquidated {'once' if liquidations == 1 else f'{liquidations:.0f} times'}.")
    below = np.flatnonzero(equity <= 0.0)
    if len(below):
        found.append(
            f"Equity was at or below zero at {len(below):,} of {len(equity):,} closes, first at "
            f"{iso(int(close_ms[below[0]]))}; the lowest was {float(equity.min()):,.2f} USD."
        )
    return found


def _membership(members: Sequence[Member], from_ms: int, to_ms: int) -> list[str]:
    found = []
    for member in members:
        if member.first_ms is None or member.last_ms is None:
            found.append(f"{member.symbol} has no bar in the window.")
            continue
        if member.first_ms > from_ms:
            late = _time(member.first_ms - from_ms)
            found.append(
                f"{member.symbol} has its first bar in the window {iso(member.first_ms)}, {late} after its start."
            )
        early = _time(to_ms - member.last_ms)
        if member.ended:
            why = "it was delisted" if member.ended == "delisted" else "the data has no later bar"
            text = f"{member.symbol} ended {iso(member.last_ms)}, {early} before the window does: {why}"
            found.append(f"{text}. Open positions were closed there, at the last close.")
        elif member.last_ms < to_ms:
            text = f"{member.symbol} has its last bar {early} before the window's end, {iso(member.last_ms)}"
            found.append(f"{text}: open positions keep that close as last price.")
    return found


def _traded_again(bars: Bars, from_ms: int, to_ms: int) -> list[str]:
    """Return a note on each symbol with bars after its delisting, which is traded as if it were listed again."""
    steps = bars.steps
    inside = (steps.open_ms >= from_ms) & (steps.open_ms < to_ms)
    found = []
    for each in bars.endings:
        later = np.flatnonzero(steps.present[each.step + 1 :, each.symbol] & inside[each.step + 1 :])
        if len(later):
            delisted = iso(int(steps.close_ms[each.step]))
            found.append(
                f"{bars.symbols[each.symbol]} was delisted {delisted}, and has {len(later):,} bars after it in the "
                "window: they are traded as a new listing. Undo their ingest if there was none."
            )
    return found


def _missing(members: Sequence[Member]) -> list[str]:
    missing, bars = (sum(getattr(member, name) for member in members) for name in ("missing", "bars"))
    if not missing:
        return []
    worst = max(members, key=lambda member: member.missing_frac)
    share = f"{100.0 * missing / (missing + bars):.3g} % of the bars are missing, {missing:,} of {missing + bars:,}"
    return [f"{share}; most of {worst.symbol}, {100.0 * worst.missing_frac:.3g} %."]


def _funding(bars: Bars, from_ms: int, to_ms: int) -> list[str]:
    steps = bars.steps
    inside = (steps.open_ms >= from_ms) & (steps.open_ms < to_ms)
    paid = (steps.funding[inside] != 0.0).any(axis=0)
    if paid.all():
        return []
    if not paid.any():
        return ["No symbol has a funding rate in the window: funding counts as 0."]
    without = [name for name, has_rate in zip(bars.symbols, paid, strict=True) if not has_rate]
    text = (
        f"{_names(without)} {_has(without)} no funding rate in the window, {int(paid.sum())} of {len(paid)} symbols do"
    )
    return [f"{text}: where there is none, funding counts as 0."]


def _instruments(bars: Bars) -> list[str]:
    changed = changed_symbols(bars.instruments)
    found = [f"The venue's terms of {_names(changed)} change within the bars; each step uses those in force."] * bool(
        changed
    )
    assumed = assumed_symbols(bars.instruments)
    if not assumed:
        return found
    text = f"Lot size, least notional, greatest leverage and maintenance margin of {_names(assumed)} are assumed"
    return [*found, f"{text}: no source stated them. Ingest the venue's instruments."]


def _names(symbols: Sequence[str]) -> str:
    rest = len(symbols) - _NAMED
    shown: Iterable[str] = symbols if rest <= 1 else symbols[:_NAMED]
    return ", ".join(shown) + (f" and {rest} more" if rest > 1 else "")


def _has(symbols: Sequence[str]) -> str:
    return "has" if len(symbols) == 1 else "have"


def _time(ms: int) -> str:
    hours = ms / HOUR_MS
    return f"{hours:.3g} hours" if hours < _SHOWN_HOURS else f"{hours / 24.0:,.1f} days"
