"""Notes of a report: each fact of data and book that a reader must know, in one sentence with figures and units."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from market_kit import DAY_MS, HOUR_MS, START_MS
from replay_kit import bars_of

from mei_pipeline.candles.intervals import Intervals
from mei_pipeline.notes import book_notes, data_notes, window_notes
from mei_pipeline.simulation.bars import Bars

HOURS = 20 * 24
END_MS = START_MS + HOURS * HOUR_MS


def join(*parts: str) -> str:
    """A note that is too long for a line here."""
    return " ".join(parts)


def market(
    missing: tuple[int, ...] = (),
    first: int = 0,
    last: int = HOURS,
    delisted_ms: int | None = None,
    paid: tuple[float, float] = (1.0, 1.0),
    sources: tuple[str, str] = ("venue", "venue"),
) -> Bars:
    """Two symbols over twenty days; what is said is said of BBB."""
    one = bars_of("AAA", [(1.0, 1.0, 1.0, 1.0)] * HOURS)
    hours = np.arange(HOURS)
    there = (hours >= first) & (hours < last) & ~np.isin(hours, missing)
    steps = replace(
        one.steps,
        present=np.column_stack((np.ones(HOURS, dtype=bool), there)),
        funding=np.full((HOURS, 2), 0.0001) * np.array(paid),
    )
    instruments = pl.DataFrame(
        {"symbol": ["AAA", "BBB"], "source": sources, "delisted_ms": [None, delisted_ms]},
        schema_overrides={"delisted_ms": pl.Int64},
    )
    return replace(one, symbols=("AAA", "BBB"), steps=steps, instruments=instruments)


@pytest.mark.parametrize(
    ("bars", "notes"),
    [
        (market(), []),
        (market(missing=(100, 101, 102)), ["0.312 % of the bars are missing, 3 of 960; most of BBB, 0.625 %."]),
        (
            market(delisted_ms=END_MS - 10 * HOUR_MS),
            [
                join(
                    "BBB was delisted 2025-01-20 14:00Z, and has 10 bars after it in the window: they are traded as a",
                    "new listing. Undo their ingest if there was none.",
                )
            ],
        ),
        (market(first=60), ["BBB has its first bar in the window 2025-01-03 12:00Z, 2.5 days after its start."]),
        (
            market(last=HOURS - 240),
            [
                join(
                    "BBB ended 2025-01-11 00:00Z, 10.0 days before the window does: the data has no later bar.",
                    "Open positions were closed there, at the last close.",
                )
            ],
        ),
        (
            market(last=HOURS - 10, delisted_ms=END_MS - 10 * HOUR_MS),
            [
                join(
                    "BBB ended 2025-01-20 14:00Z, 10 hours before the window does: it was delisted. Open positions",
                    "were closed there, at the last close.",
                )
            ],
        ),
        (
            market(last=HOURS - 10),
            [
                join(
                    "BBB has its last bar 10 hours before the window's end, 2025-01-20 14:00Z: open positions",
                    "keep that close as last price.",
                ),
                "1.04 % of the bars are missing, 10 of 960; most of BBB, 2.08 %.",
            ],
        ),
        (
            market(paid=(1.0, 0.0)),
            ["BBB has no funding rate in the window, 1 of 2 symbols do: where there is none, funding counts as 0."],
        ),
        (market(paid=(0.0, 0.0)), ["No symbol has a funding rate in the window: funding counts as 0."]),
        (
            market(sources=("venue", "default")),
            [
                join(
                    "Lot size, least notional, greatest leverage and maintenance margin of BBB are assumed: no source",
                    "stated them. Ingest the venue's instruments.",
                )
            ],
        ),
    ],
)
def test_notes_on_the_data(bars: Bars, notes: list[str]) -> None:
    assert data_notes(bars, START_MS, END_MS) == notes


def test_notes_on_the_book() -> None:
    times = START_MS + HOUR_MS * np.arange(1, 5, dtype=np.int64)
    assert book_notes(times, np.array([5.0, 4.0, 3.0, 1.0]), 0.0) == []
    assert book_notes(times, np.array([5.0, 0.0, -3.5, 1.0]), 1.0) == [
        "The account was liquidated once.",
        "Equity was at or below zero at 2 of 4 closes, first at 2025-01-01 02:00Z; the lowest was -3.50 USD.",
    ]
    assert book_notes(times, np.ones(4), 3.0) == ["The account was liquidated 3 times."]


def test_a_window_that_the_bars_of_one_interval_end_says_so() -> None:
    used = Intervals("1h", exit="15m")
    long, short = {"AAA": (START_MS, END_MS)}, {"AAA": (START_MS, END_MS - 5 * DAY_MS), "BBB": (START_MS, START_MS + 1)}
    assert window_notes([long, short], used, END_MS - 5 * DAY_MS) == [
        join(
            "The window ends 2025-01-16 00:00Z: the last 15m bar of any symbol, of AAA, ends 2025-01-16 00:00Z; 1h",
            "bars continue for 5.0 days.",
        )
    ]
    assert window_notes([long, long], used, END_MS) == []
    assert window_notes([long], Intervals("1h"), END_MS) == []
