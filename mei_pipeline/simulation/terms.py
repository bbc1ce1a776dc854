"""Terms of the venue by step: lots, minimum notional, leverage and maintenance margin in force at each time.

A kernel reads one record per symbol. If an instrument changes within the bars, there is one *version* of all records
for each range of steps between two changes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from kernels.market import Floats, Ints
from mei_pipeline.candles.instruments import SOURCE, drop_replaced_defaults
from mei_pipeline.simulation.endings import Ending

TRADED_BY = ("size_decimals", "min_notional_usd", "max_leverage", "maintenance_margin_frac")
"""Columns of an instrument that a simulation reads."""


class Terms(NamedTuple):
    """Terms of S symbols in V versions, with the arrays of `kernels.market.Market`.

    Attributes:
        since: [V] first step of each version; 0 for the first version.
        lots: [V, S] lots per base coin.
        min_notional_usd: [V, S] minimum notional of an opening order.
        max_leverage: [V, S] maximum leverage.
        maintenance_frac: [V, S] maintenance margin as a fraction of notional.
        last: [V, S] step of the last bar before a delisting; -1 if there is none.
    """

    since: Ints
    lots: Floats
    min_notional_usd: Floats
    max_leverage: Floats
    maintenance_frac: Floats
    last: Ints


def history_of(instruments: pl.DataFrame, anchor_ms: int, to_ms: int) -> pl.DataFrame:
    """Return the rows in force at some time in [anchor_ms, to_ms], sorted by symbol and time.

    The first row of a symbol holds from the anchor on, even if it was stated for a later time. Delistings after the end
    are dropped, and so are delistings that a later row took back before they happened. Rows that change neither the
    terms nor the source are dropped.
    """
    ahead = pl.col("from_ms").shift(-1).over("symbol")
    happened = (pl.col("delisted_ms") <= to_ms) & (ahead.is_null() | (ahead >= pl.col("delisted_ms")))
    in_range = (
        drop_replaced_defaults(instruments)
        .filter(pl.col("from_ms") <= to_ms)
        .sort("symbol", "from_ms")
        .with_columns(delisted_ms=pl.when(happened).then("delisted_ms"))
        .filter(ahead.is_null() | (ahead > anchor_ms))
    )
    return _changes(in_range, (*TRADED_BY, "delisted_ms", "source"))


def traded_by(history: pl.DataFrame, anchor_ms: int) -> pl.DataFrame:
    """Return the changes that a simulation reads, with times from the anchor on; the data hash covers these rows."""
    changes = _changes(history, (*TRADED_BY, "delisted_ms"))
    first = pl.col("symbol").is_first_distinct()
    return changes.with_columns(from_ms=pl.when(first).then(anchor_ms).otherwise("from_ms"))


def terms_of(
    history: pl.DataFrame, symbols: Sequence[str], anchor_ms: int, step_ms: int, endings: Sequence[Ending]
) -> Terms:
    """Return the terms of each step.

    A row holds from the first step whose close is at or after its time, because orders are decided at closes.

    Args:
        history: At least one row per symbol, sorted by symbol and time; `from_ms` may be missing if nothing changes.
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
    # A record holds a single end. For a symbol that was listed again, the next version begins after the first end.
    bounds |= {each.step + 1 for each in endings if sum(each.symbol == other.symbol for other in endings) > 1}
    since = np.array(sorted(bounds), dtype=np.int64)
    held = np.array([[_in_force(rows[name], bound) for name in symbols] for bound in since.tolist()])
    last = np.full(held.shape[:2], -1, dtype=np.int64)
    for ending in endings:
        last[np.searchsorted(since, ending.step, side="right") - 1, ending.symbol] = ending.step
    decimals, least, leverage, maintenance = (np.ascontiguousarray(held[..., i]) for i in range(len(TRADED_BY)))
    return Terms(since, 10.0**decimals, least, leverage, maintenance, last)


def changed_symbols(history: pl.DataFrame) -> list[str]:
    """Return the symbols with a change of terms."""
    changes = _changes(history, TRADED_BY)
    return sorted(changes.filter(pl.col("symbol").is_duplicated())["symbol"].unique())


def assumed_symbols(history: pl.DataFrame) -> list[str]:
    """Return the symbols with assumed terms, which no source has stated."""
    if "source" not in history.columns:
        return []
    return sorted(history.filter(pl.col("source") == SOURCE)["symbol"].unique())


def _changes(history: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Return the rows that differ in `columns` from the previous row of the same symbol."""
    present = [pl.col(name) for name in columns if name in history.columns]
    differs = [value.ne_missing(value.shift(1).over("symbol")) for value in present]
    return history.filter(pl.any_horizontal(pl.col("symbol").is_first_distinct(), *differs))


def _in_force(rows: Sequence[tuple[int, tuple[float, ...]]], step: int) -> tuple[float, ...]:
    """Return the terms in force at a step; `rows` are pairs of first step and terms, sorted."""
    return [row for since, row in rows if since <= step][-1]
