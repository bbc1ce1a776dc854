"""Terms of the venue by step: lots, least notional, leverage and maintenance margin as they were in force at each time.

A kernel has one record of a symbol. Where an instrument changes within the bars there is a *version* of all records
for each stretch of steps between two changes; where nothing changes there is one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from kernels.market import Floats, Ints
from mei_pipeline.candles.instruments import SOURCE, drop_replaced_defaults
from mei_pipeline.simulation.endings import Ending

TRADED_BY = ("size_decimals", "min_notional_usd", "max_leverage", "maintenance_margin_frac")
"""What a simulation reads of an instrument."""


class Terms(NamedTuple):
    """Terms of S symbols in V versions; arrays are those of `kernels.market.Market`.

    Attributes:
        since: [V] first step at which a version holds; that of the first is 0.
        lots: [V, S] lots per base coin.
        min_notional_usd: [V, S] least notional of an opening order.
        max_leverage: [V, S] greatest leverage.
        maintenance_frac: [V, S] maintenance margin as a fraction of notional.
        last: [V, S] step of the last bar before a delisting; -1 for none.
    """

    since: Ints
    lots: Floats
    min_notional_usd: Floats
    max_leverage: Floats
    maintenance_frac: Floats
    last: Ints


def history_of(instruments: pl.DataFrame, anchor_ms: int, to_ms: int) -> pl.DataFrame:
    """Return the rows that are in force at some time in [anchor_ms, to_ms], by symbol and time.

    The first row of a symbol holds from the anchor on, even where it was stated for a later time. A delisting after the
    end is not known in it, nor one that a later row took back before it came. Rows that change nothing that is traded
    by, nor the source, are left out.
    """
    ahead = pl.col("from_ms").shift(-1).over("symbol")
    happened = (pl.col("delisted_ms") <= to_ms) & (ahead.is_null() | (ahead >= pl.col("delisted_ms")))
    known = (
        drop_replaced_defaults(instruments)
        .filter(pl.col("from_ms") <= to_ms)
        .sort("symbol", "from_ms")
        .with_columns(delisted_ms=pl.when(happened).then("delisted_ms"))
        .filter(ahead.is_null() | (ahead > anchor_ms))
    )
    return _changes(known, (*TRADED_BY, "delisted_ms", "source"))


def traded_by(history: pl.DataFrame, anchor_ms: int) -> pl.DataFrame:
    """Return what a simulation reads of a history, to be hashed: times from the anchor on, changes alone."""
    changes = _changes(history, (*TRADED_BY, "delisted_ms"))
    first = pl.col("symbol").is_first_distinct()
    return changes.with_columns(from_ms=pl.when(first).then(anchor_ms).otherwise("from_ms"))


def terms_of(
    history: pl.DataFrame, symbols: Sequence[str], anchor_ms: int, step_ms: int, endings: Sequence[Ending]
) -> Terms:
    """Return the terms of each step.

    A row holds from the first step at or before whose close it is in force: orders are made at closes.

    Args:
        history: At least one row of each symbol, by symbol and time; `from_ms` may be missing where nothing changes.
        symbols: The symbols, in the order of the arrays.
        anchor_ms: Open time of the first step.
        step_ms: Length of a step.
        endings: Symbols that end.
    """
    rows: dict[str, list[tuple[int, tuple[float, ...]]]] = {name: [] for name in symbols}
    times = history["from_ms"].to_list() if "from_ms" in history.columns else [0] * history.height
    values = history.select(*(pl.col(name).cast(pl.Float64) for name in TRADED_BY)).rows()
    for name, from_ms, row in zip(history["symbol"], times, values, strict=True):
        since = max(-(-(from_ms - anchor_ms) // step_ms) - 1, 0) if rows[name] else 0
        if not rows[name] or rows[name][-1][1] != row:
            rows[name].append((since, row))
    bounds = {since for each in rows.values() for since, _ in each}
    # A record knows one end: where a symbol was listed again, the next version begins behind the first end.
    bounds |= {each.step + 1 for each in endings if sum(each.symbol == other.symbol for other in endings) > 1}
    since = np.array(sorted(bounds), dtype=np.int64)
    held = np.array([[_in_force(rows[name], bound) for name in symbols] for bound in since.tolist()])
    last = np.full(held.shape[:2], -1, dtype=np.int64)
    for ending in endings:
        last[np.searchsorted(since, ending.step, side="right") - 1, ending.symbol] = ending.step
    decimals, least, leverage, maintenance = (np.ascontiguousarray(held[..., i]) for i in range(len(TRADED_BY)))
    return Terms(since, 10.0**decimals, least, leverage, maintenance, last)


def changed_symbols(history: pl.DataFrame) -> list[str]:
    """Return the symbols whose terms change."""
    changes = _changes(history, TRADED_BY)
    return sorted(changes.filter(pl.col("symbol").is_duplicated())["symbol"].unique())


def assumed_symbols(history: pl.DataFrame) -> list[str]:
    """Return the symbols of which some terms were stated by no source."""
    if "source" not in history.columns:
        return []
    return sorted(history.filter(pl.col("source") == SOURCE)["symbol"].unique())


def _changes(history: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Rows that differ in `columns` from the row of the same symbol before."""
    there = [pl.col(name) for name in columns if name in history.columns]
    differs = [value.ne_missing(value.shift(1).over("symbol")) for value in there]
    return history.filter(pl.any_horizontal(pl.col("symbol").is_first_distinct(), *differs))


def _in_force(rows: Sequence[tuple[int, tuple[float, ...]]], step: int) -> tuple[float, ...]:
    return [row for since, row in rows if since <= step][-1]
