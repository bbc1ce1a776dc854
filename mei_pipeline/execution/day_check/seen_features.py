"""Feature columns of a book, computed as a sweep computes them, over the bars that a lane saw."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import numpy as np

from kernels import features as feature_kernel
from kernels.market import Floats
from mei_pipeline.candles.intervals import Intervals, iso
from mei_pipeline.candles.lake import Lake
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.execution.books import BookPlan, StepBook
from mei_pipeline.execution.events import BarClosed, Warmed
from mei_pipeline.simulation.loading import load_bars

_decode_bar = msgspec.json.Decoder(BarClosed).decode
_decode_warmed = msgspec.json.Decoder(Warmed).decode


@dataclass(frozen=True)
class SeenFeatures:
    """Columns of a config at the last main bars before some time.

    Attributes:
        first_row: Number of the first row in `values`, counted in main bars since the first one of the lane's warm-up.
        values: [C, R, S] feature columns.
    """

    first_row: int
    values: Floats

    def put_into(self, step: StepBook) -> None:
        """Replace the columns that a book carried along by those of the sweep's computation."""
        row = int(step.rows[0]) - 1
        if row < 0:
            return
        step.columns[:, 1] = self.values[:, row - self.first_row]
        step.columns[:, 0] = self.values[:, max(row - 1, 0) - self.first_row]


class HistoryChanged(Exception):
    """The bars of the lake from which a lane computed its first features are others now."""


def warmed_at(connection: sqlite3.Connection, config_id: str, seq: int) -> Warmed | None:
    """Return the last fact about the first features of a config, at or before an event."""
    rows = connection.execute("SELECT body FROM events WHERE event = 'Warmed' AND seq <= ? ORDER BY seq DESC", (seq,))
    facts = (_decode_warmed(body) for (body,) in rows)
    return next((fact for fact in facts if fact.config_id == config_id), None)


def seen_bars(connection: sqlite3.Connection, to_ms: int) -> list[BarClosed]:
    """Return the bars of the journal that close by a time, in the order in which they arrived."""
    rows = connection.execute(
        "SELECT body FROM events WHERE event = 'BarClosed' AND venue_ms <= ? ORDER BY seq", (to_ms,)
    )
    return [_decode_bar(body) for (body,) in rows]


def compute_seen_features(
    lake: Lake, plan: BookPlan, warmed: Warmed, bars: Iterable[BarClosed], from_ms: int, to_ms: int
) -> SeenFeatures:
    """Compute the columns of a config at the main bars that close in (from_ms - 2 bars, to_ms].

    Bars before the lane's start come from the lake, later ones are those that the lane saw.

    Args:
        lake: The lake.
        plan: The config.
        warmed: The fact about its first features.
        bars: Bars of the journal, oldest first.
        from_ms: Beginning of the steps for which they are computed.
        to_ms: Their end.

    Raises:
        HistoryChanged: The bars before the lane's start are others now.
    """
    length = plan.intervals.main_ms
    history = _history(lake, plan, warmed)
    # The lake's bars end with the last main bar that was closed at the lane's start.
    start_ms = warmed.anchor_ms + len(history[0]) * length
    rows = max((to_ms - start_ms) // length, 0)
    later = np.full((4, rows, len(plan.symbols)), np.nan)
    for bar in bars:
        s, row = plan.index.get(bar.symbol, -1), (bar.open_ms - start_ms) // length
        if bar.interval == plan.intervals.main and s >= 0 and 0 <= row < rows:
            later[:, row, s] = (bar.high, bar.low, bar.close, bar.volume)
    high, low, close, volume = (
        np.ascontiguousarray(np.concatenate((old, new))) for old, new in zip(history, later, strict=True)
    )
    first = max((from_ms - warmed.anchor_ms) // length - 2, 0)
    values = np.empty((len(plan.columns[0]), len(close) - first, len(plan.symbols)))
    kinds, windows, offsets = plan.columns
    scratch = np.empty((len(plan.symbols), int(np.diff(offsets).max(initial=0))))
    for c in range(len(kinds)):  # one at a time: all columns over years of minutes are gigabytes
        whole = np.empty((1, *close.shape))
        column = (kinds[c : c + 1], windows[c : c + 1], offsets[c : c + 2])
        feature_kernel.build(*column, high, low, close, volume, whole, scratch)
        values[c] = whole[0, first:]
    return SeenFeatures(first, values)


def _history(lake: Lake, plan: BookPlan, warmed: Warmed) -> tuple[Floats, ...]:
    """Return high, low, close and volume [T, S] of the main bars before the lane's start."""
    length = plan.intervals.main_ms
    end_ms = warmed.anchor_ms + (warmed.until_ms - warmed.anchor_ms) // length * length
    try:
        bars = load_bars(
            lake, plan.resolved.venue, Intervals(plan.intervals.main), plan.symbols, warmed.anchor_ms, end_ms
        )
    except (ConfigError, DataError) as error:
        raise HistoryChanged(f"the bars before {iso(end_ms)} can't be read any more: {error}") from error
    if bars.data_hash != warmed.data_hash:
        raise HistoryChanged(f"the bars, funding or terms before {iso(end_ms)} have changed since the lane read them")
    _, high, low, close = bars.prices
    return high, low, close, bars.volume
