"""The record that a promoted config was accepted on, beside the figures of a replay.

A replay of the complete window includes the days that the config was chosen on. A good result on them is no evidence.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from pydantic import AliasChoices, Field, TypeAdapter, ValidationError

from mei_pipeline.errors import ConfigError
from mei_pipeline.replay.risk import annual_sharpe, daily_returns, max_drawdown_pct
from mei_pipeline.replay.run import Replay, ReplayInputs

COLUMNS = (("search", "search"), ("out_of_sample", "out of sample"), ("holdout", "holdout"))
"""Keys of the three parts of a record and their names."""
ROWS = (
    ("days", "days"),
    ("return_pct", "return, %"),
    ("sharpe", "Sharpe ratio, annual"),
    ("max_drawdown_pct", "maximum drawdown, %"),
    ("trades", "trades"),
)
"""Keys of the figures of a part and their names."""
MEANING = (
    "Search: this replay on the days that the config was chosen on, which is no evidence. Out of sample: the result "
    "that the gates judged, on the test days of each fold, which its selection had not seen. Holdout: the config on "
    "the last days, which no selection has seen."
)
"""Explanation of the three parts."""


@dataclass(frozen=True)
class PeriodResult:
    """Result of a config on some days; None stands for a missing value.

    Attributes:
        days: Number of days.
        return_pct: Net return.
        sharpe: Annual Sharpe ratio of daily returns.
        max_drawdown_pct: Maximum drawdown of mark-to-market equity.
        trades: Closed trades.
    """

    days: int
    return_pct: float
    sharpe: float | None
    max_drawdown_pct: float
    # Evidence is never rewritten: that of the version before has its trades under the old name.
    trades: Annotated[int, Field(validation_alias=AliasChoices("trades", "round_trips"))]


@dataclass(frozen=True)
class PromotionRecord:
    """Record in the file of a promoted config; times are UTC milliseconds.

    Attributes:
        from_ms: Start of the first day of the search.
        holdout_ms: End of the search and start of the holdout.
        to_ms: End of the holdout.
        out_of_sample: Result of the configs of one rank on the test days of the folds.
        holdout: Result of the config on the holdout.
        folds_ms: Start and end of the test days of each fold; empty in older files.
    """

    from_ms: int
    holdout_ms: int
    to_ms: int
    out_of_sample: PeriodResult
    holdout: PeriodResult
    folds_ms: tuple[tuple[int, int], ...] = ()


_RECORD = TypeAdapter(PromotionRecord)


def parse_record(evidence: Mapping[str, Any], path: Path) -> PromotionRecord | None:
    """Return the record in the evidence of a config file; None if it has none.

    Raises:
        ConfigError: A key of the record is missing or has a wrong value.
    """
    metrics = evidence.get("metrics")
    if not isinstance(metrics, Mapping) or "out_of_sample" not in metrics:
        return None
    try:
        return _RECORD.validate_python(metrics)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, ("evidence", "metrics", *first["loc"])))
        raise ConfigError(
            f"{path}: {key}: {first['msg']}: {first['input']!r}; the next hand-over writes the file again"
        ) from error


def record_dict(record: PromotionRecord | None, inputs: ReplayInputs, run: Replay) -> dict[str, Any] | None:
    """Return the record as JSON values, with the result of a replay on the days of the search as `search`."""
    if record is None:
        return None
    search = _on_search(record, inputs, run)
    return {**asdict(record), "search": None if search is None else asdict(search)}


def record_spans(record: Mapping[str, Any] | None) -> tuple[tuple[str, int, int], ...]:
    """Return the days of the search, of each fold and of the holdout: name, start and end in UTC milliseconds."""
    if record is None:
        return ()
    folds = [("out of sample", first, end) for first, end in record["folds_ms"]]
    search, holdout = (record["from_ms"], record["holdout_ms"]), (record["holdout_ms"], record["to_ms"])
    return (("search", *search), *folds, ("holdout", *holdout))


def record_rows(record: Mapping[str, Any]) -> tuple[tuple[object, ...], ...]:
    """Return one row for each of `ROWS` with the figure of each of `COLUMNS`."""
    return tuple((name, *((record[part] or {}).get(key) for part, _ in COLUMNS)) for key, name in ROWS)


def _on_search(record: PromotionRecord, inputs: ReplayInputs, run: Replay) -> PeriodResult | None:
    """Return the result of the replay on the days of the search; None if its window does not contain all of them."""
    from_ms, to_ms = record.from_ms, record.holdout_ms
    if inputs.cut.from_ms > from_ms or inputs.cut.to_ms < to_ms:
        return None
    # A close at `from_ms` is the end of the day before: its equity is the capital that the search starts with.
    close_ms = pl.col("close_ms")
    before = run.equity.filter(close_ms <= from_ms)["equity_usd"]
    start = float(before[-1]) if len(before) else inputs.resolved.initial_balance_usd
    part = run.equity.filter((close_ms > from_ms) & (close_ms <= to_ms))
    equity = part["equity_usd"].to_numpy()
    returns = daily_returns(part, start)
    closed = run.trades.filter((pl.col("exit_ms") >= from_ms) & (pl.col("exit_ms") < to_ms))
    return PeriodResult(
        days=len(returns),
        return_pct=100.0 * float(equity[-1] / start - 1.0) if start > 0.0 else 0.0,
        sharpe=annual_sharpe(returns),
        max_drawdown_pct=max_drawdown_pct(equity, start) if start > 0.0 else 0.0,
        trades=closed.height,
    )
