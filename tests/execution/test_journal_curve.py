"""The equity of a journal as a curve of few points."""

import sqlite3

import numpy as np
import pytest

from mei_pipeline.errors import DataError
from mei_pipeline.execution.journal.curve import equity_curve
from mei_pipeline.execution.journal.schema import upgrade

MINUTE_MS = 60_000
FIRST_MS = 1_735_689_600_000


def journal_of(values: list[float]) -> sqlite3.Connection:
    """A journal with an equity at each minute."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("BEGIN")
    upgrade(connection, 0)
    peaks = np.maximum.accumulate(values) if values else np.empty(0)
    drawdowns = np.maximum.accumulate(peaks - values) if values else np.empty(0)
    connection.executemany(
        "INSERT INTO equity VALUES (?, ?, 0.0, 0.0, 0, ?)",
        [
            (FIRST_MS + number * MINUTE_MS, value, float(drawdown))
            for number, (value, drawdown) in enumerate(zip(values, drawdowns, strict=True))
        ],
    )
    connection.execute("COMMIT")
    return connection


def test_a_lane_before_its_first_step_has_no_point() -> None:
    curve = equity_curve(journal_of([]))
    assert (curve.step_ms.tolist(), curve.equity_usd.tolist(), curve.drawdown_usd) == ([], [], 0.0)


def test_a_short_curve_has_every_point() -> None:
    values = [100.0, 90.0, 120.0, 60.0, 70.0]
    curve = equity_curve(journal_of(values))
    assert curve.step_ms.tolist() == [FIRST_MS + number * MINUTE_MS for number in range(5)]
    assert (curve.equity_usd.tolist(), curve.drawdown_usd) == (values, 60.0)


@pytest.mark.parametrize("count", [7, 1_000, 1_003])
def test_a_long_curve_is_thinned_and_keeps_its_extremes_and_its_end(count: int) -> None:
    values = np.round(10_000.0 + np.cumsum(np.random.default_rng(count).normal(size=count)), 3)
    values[count // 3] = 1.0  # of one step only
    values[count // 2] = 99_999.0
    curve = equity_curve(journal_of(values.tolist()), parts=20)
    assert len(curve.step_ms) <= 41
    assert (np.diff(curve.step_ms) > 0).all()
    steps = (curve.step_ms - FIRST_MS) // MINUTE_MS
    assert curve.equity_usd.tolist() == values[steps].tolist()
    assert {count // 3, count // 2, count - 1} <= set(steps.tolist())
    assert curve.drawdown_usd == (np.maximum.accumulate(values) - values).max()


def test_a_database_without_equity_is_an_error() -> None:
    with pytest.raises(DataError, match="equity"):
        equity_curve(sqlite3.connect(":memory:"))
