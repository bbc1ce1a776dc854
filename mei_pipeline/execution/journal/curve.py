"""The equity of a lane as a curve of few points, for pictures."""

import sqlite3
from typing import NamedTuple

import numpy as np

from kernels.market import Floats, Ints
from mei_pipeline.execution.journal.failures import translated
from mei_pipeline.execution.journal.reader import path_of

PARTS = 200
"""Number of parts of equal length into which a curve is divided."""

# SQLite takes the other columns of a row from the row with the least or the greatest value.
_CURVE = """
WITH span AS (SELECT min(step_ms) AS first, (max(step_ms) - min(step_ms)) / ?1 + 1 AS width FROM v_equity),
    part AS (SELECT step_ms, equity_usd, (step_ms - first) / width AS number FROM v_equity, span)
SELECT step_ms, equity_usd FROM (
    SELECT step_ms, min(equity_usd) AS equity_usd FROM part GROUP BY number
    UNION SELECT step_ms, max(equity_usd) FROM part GROUP BY number
    UNION SELECT max(step_ms), equity_usd FROM part
) WHERE step_ms IS NOT NULL ORDER BY step_ms
"""


class EquityCurve(NamedTuple):
    """Equity over time.

    Attributes:
        step_ms: [N] open times of steps, ascending, UTC milliseconds; N is 0 before the first step.
        equity_usd: [N] equity at the close of each of them.
        drawdown_usd: Maximum drawdown over all steps, also those that are left out.
    """

    step_ms: Ints
    equity_usd: Floats
    drawdown_usd: float


def equity_curve(connection: sqlite3.Connection, parts: int = PARTS) -> EquityCurve:
    """Return the least and the greatest equity of each part of a lane's time, and the last one.

    Args:
        connection: A connection to a journal.
        parts: Number of parts; the curve has at most 2 `parts` + 1 points.

    Raises:
        DataError: The file is damaged.
    """
    with translated(path_of(connection)):
        points = connection.execute(_CURVE, (parts,)).fetchall()
        [drawdown] = connection.execute("SELECT ifnull(max(drawdown_usd), 0.0) FROM v_equity").fetchone()
    times, values = zip(*points, strict=True) if points else ((), ())
    return EquityCurve(np.array(times, np.int64), np.array(values, np.float64), float(drawdown))
