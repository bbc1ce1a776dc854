"""Funding: the hour of a print, one print per hour, and the venue's cadence.

A venue stamps a funding payment some milliseconds after its hour, and sometimes minutes late; the lake keeps the stamp.
Symbol and hour identify a payment, so a payment that two sources report, each with its own rounding, is stored once.

Two prints of one hour agree if neither rate nor premium differs by more than 1e-8: venues publish at least eight
decimals, and 1e-8 of the notional is a cent per million. Of prints that agree the lake keeps the most precise: more
decimals in the rate, then in the premium, then the earlier stamp, then the source's name. The order in which they came
does not matter. If prints of one input disagree, all of them are refused. A later input that disagrees with the lake is
a revision, as with candles.
"""

from decimal import Decimal
from itertools import pairwise
from typing import Any

import polars as pl

from mei_pipeline.candles.intervals import HOUR_MS, MINUTE_MS
from mei_pipeline.candles.quality import FilteredRows, Findings, count_by_symbol, group_findings

HOUR = "hour_ms"
SAME_FRAC = 1e-8


def hour_of() -> pl.Expr:
    """Return the full hour of a print stamped `time_ms`: rounded to the nearest minute, then down to the hour.

    Rounding to the minute accepts a stamp up to 30 s early. Rounding down assigns a print up to 59 minutes late to the
    hour that was due. The nearest hour would assign a print 31 minutes late to the next payment.
    """
    return (pl.col("time_ms") + MINUTE_MS // 2) // HOUR_MS * HOUR_MS


def filter_funding(frame: pl.DataFrame, as_of_ms: int) -> FilteredRows:
    """Split the funding of one venue into one print per symbol and hour, and findings about the other prints."""
    tests = {
        "null": pl.any_horizontal([pl.col(name).is_null() for name in ("symbol", "time_ms", "rate")])
        | (pl.col("symbol") == ""),
        "non_finite": ~pl.col("rate").is_finite() | ~pl.col("premium").fill_null(0.0).is_finite(),
        "future": pl.col("time_ms") >= as_of_ms,
    }
    tested = frame.with_columns(**{f"_{name}": test.fill_null(value=False) for name, test in tests.items()})
    findings = [item for name in tests for item in group_findings(tested.filter(pl.col(f"_{name}")), name)]
    refusing = pl.any_horizontal([f"_{name}" for name in tests])
    bad = tested.filter(refusing)
    rest = tested.filter(~refusing).select(frame.columns).with_columns(hour_of().alias(HOUR))
    accepted, conflicts, copies = _unique_prints(rest)
    findings += [*group_findings(conflicts, "conflict"), *group_findings(copies, "duplicate")]
    refused = count_by_symbol(pl.concat([bad.select("symbol"), conflicts.select("symbol")]))
    return FilteredRows(accepted, refused, count_by_symbol(copies), Findings() + Findings(tuple(findings)))


def more_precise(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any] | None:
    """Return the more precise of two prints of one hour; None if they disagree."""
    if not (_agree(old["rate"], new["rate"]) and _agree(old["premium"], new["premium"])):
        return None
    return min(old, new, key=_rank)


def cadence_changes(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the times at which the number of hours between two payments of a symbol changes permanently.

    A change counts if at least three gaps in a row have the new length: a single longer gap is a missing payment.

    Args:
        frame: Funding, sorted by symbol and time.

    Returns:
        Columns symbol, time_ms (first payment of the new cadence), before_hours, after_hours.
    """
    rows = []
    for (symbol,), group in frame.group_by("symbol", maintain_order=True):
        hours = group.select(hour_of() // HOUR_MS).to_series().to_list()
        gaps = [after - before for before, after in pairwise(hours)]
        current = 0
        for index in range(len(gaps) - 2):
            if gaps[index] != current and gaps[index] == gaps[index + 1] == gaps[index + 2]:
                if current:
                    rows.append((symbol, hours[index + 1] * HOUR_MS, current, gaps[index]))
                current = gaps[index]
    schema = {"symbol": pl.String, "time_ms": pl.Int64, "before_hours": pl.Int64, "after_hours": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _unique_prints(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    key = ["symbol", HOUR]
    frame = frame.sort(*key, "time_ms", "source", maintain_order=True)
    many = pl.len().over(key) > 1
    single, groups = frame.filter(~many), frame.filter(many)
    kept: list[dict[str, Any]] = []
    conflicts: list[dict[str, Any]] = []
    copies: list[dict[str, Any]] = []
    # Only hours with several prints are compared in Python; there are few of them.
    for _, group in groups.group_by(key, maintain_order=True):
        prints = sorted(group.iter_rows(named=True), key=_rank)
        if all(more_precise(prints[0], other) is not None for other in prints[1:]):
            kept.append(prints[0])
            copies += prints[1:]
        else:
            conflicts += prints
    frames = [pl.DataFrame(rows, schema=frame.schema) for rows in (kept, conflicts, copies)]
    return pl.concat([single, frames[0]]).sort(key), frames[1], frames[2]


def _rank(row: dict[str, Any]) -> tuple[int, int, int, str]:
    return -_decimals(row["rate"]), -_decimals(row["premium"]), row["time_ms"], row["source"]


def _decimals(value: float | None) -> int:
    if value is None:
        return -1
    exponent = Decimal(repr(value)).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _agree(one: float | None, other: float | None) -> bool:
    return one is None or other is None or abs(one - other) <= SAME_FRAC
