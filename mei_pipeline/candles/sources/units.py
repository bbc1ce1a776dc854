"""Meaning of a file's columns: open times from close times, volume in coins, open bars, distance of bars."""

import re

import polars as pl

from mei_pipeline.candles.excluded_rows import exclude_rows
from mei_pipeline.candles.intervals import INTERVALS, MINUTE_MS, SECOND_MS, interval_ms
from mei_pipeline.candles.sources.columns import CLOSE, CLOSED, COINS, QUOTE
from mei_pipeline.candles.sources.formats import DataFile
from mei_pipeline.candles.sources.layouts import is_one
from mei_pipeline.errors import DataError

_CONTRACTS = re.compile(r".*-(?:SWAP|\d{6})|.*USD_(?:PERP|\d{6})")
_INVERSE = re.compile(r".*USD(?:[-_]?(?:PERP|SWAP|\d{6}|[FGHJKMNQUVXZ]\d{2}))?|.*/USD:.*")
_CONTRACT_USD = (1, 10, 100)


def open_from_close(interval: str) -> pl.Expr:
    """Return open times from close times.

    Venues stamp a close within the last second of its bar, or at the open of the next bar.
    """
    step = interval_ms(interval)
    close = pl.col(CLOSE)
    late = step - close % step
    return (close - step + pl.when(late <= SECOND_MS).then(late).otherwise(0)).alias("open_ms")


def exclude_open_bars(frame: pl.DataFrame) -> pl.DataFrame:
    """Exclude the bars that the file flags as open."""
    return exclude_rows(frame, "still_open", ~pl.col(CLOSED)).drop(CLOSED) if CLOSED in frame.columns else frame


def volume_in_coins(file: DataFile, frame: pl.DataFrame, columns: dict[str, str]) -> pl.DataFrame:
    """Return candles with volume in coins, if a file has volumes in other units too.

    Quote volume over volume in coins is the average price of a bar, which lies inside the bar. A volume in contracts
    differs by the size of a contract.

    Args:
        file: The file, for messages.
        frame: Candles of the file, with `QUOTE` and `COINS` if it has them.
        columns: The lake's column to the file's, for messages.

    Raises:
        DataError: None of the volumes of a symbol is in coins.
    """
    extra = [name for name in (QUOTE, COINS) if name in frame.columns]
    if not extra:
        return frame
    column_of = {}
    for (symbol,), rows in frame.group_by("symbol", maintain_order=True):
        name = _coin_column(str(symbol), rows)
        if name is None:
            raise DataError(
                f"{file}: column {columns['volume']!r} (volume) of {symbol} is not in coins: column {columns[QUOTE]!r} "
                f"divided by it is not a price of its bars; name the volume in coins with --columns volume=NAME"
            )
        column_of[symbol] = name
    names = set(column_of.values())
    if names == {"volume"}:
        return frame.drop(extra)
    column = pl.col("symbol").replace_strict(column_of, default="volume", return_dtype=pl.String)
    volume = pl.col("volume")
    for name in names - {"volume"}:
        volume = pl.when(column == name).then(pl.col(name)).otherwise(volume)
    return frame.with_columns(volume.alias("volume")).drop(extra)


def check_spacing(file: DataFile, frame: pl.DataFrame, interval: str, origin: str) -> None:
    """Raise DataError if the most frequent distance of a symbol's bars is not the interval.

    Args:
        file: The file, for messages.
        frame: Candles of the file, of one interval.
        interval: The interval.
        origin: Origin of the interval, for messages.

    Raises:
        DataError: The most frequent distance is smaller than the interval, or is larger and occurs more than once.
    """
    step = interval_ms(interval)
    # Two passes: the first is cheap and settles sorted files; the second sorts the symbols that remain.
    doubtful = _symbols_off_step(frame, step)
    if doubtful.is_empty():
        return
    apart = pl.col("open_ms").drop_nulls().sort().diff()
    near = _near(apart, step)
    rows = frame.select("symbol", "open_ms").filter(pl.col("symbol").is_in(doubtful.implode()))
    counts = rows.group_by("symbol").agg(fits=near.sum(), pairs=(apart > 0).sum())
    doubtful = counts.filter(pl.col("fits") * 2 < pl.col("pairs"))["symbol"]
    distances = (
        rows.filter(pl.col("symbol").is_in(doubtful.implode()))
        .group_by("symbol")
        .agg(apart=pl.when(near).then(step).otherwise(apart))
        .explode("apart")
        .filter(pl.col("apart") > 0)
        .group_by("symbol", "apart")
        .len()
        .sort(pl.col("len"), pl.col("apart") == step, -pl.col("apart"), descending=True)
        .unique("symbol", keep="first", maintain_order=True)
        .filter((pl.col("apart") < step) | ((pl.col("apart") > step) & (pl.col("len") > 1)))
        .sort("symbol")
    )
    if distances.is_empty():
        return
    symbol, length, _ = distances.row(0)
    actual = next((name for name, size in INTERVALS.items() if size == length), None)
    name = actual or f"{length / MINUTE_MS:g} minutes"
    option = "--columns interval==" if origin.startswith("column") else "--interval "
    allowed = f"state it with {option}{actual}" if actual else f"allowed: {', '.join(INTERVALS)}"
    raise DataError(f"{file}: the bars of {symbol} are mostly {name} apart, but {origin} says {interval}; {allowed}")


def _near(apart: pl.Expr, step: int) -> pl.Expr:
    # A distance within 1 % of the interval fits: the quality rule `off_grid` reports times that are late by moments.
    return (apart.abs() - step).abs() * 100 < step


def _symbols_off_step(frame: pl.DataFrame, step: int) -> pl.Series:
    """Return symbols with fewer than half of their rows one step after the row before; unsorted rows are among them."""
    fits = (pl.col("symbol") == pl.col("symbol").shift(1)) & _near(pl.col("open_ms").diff(), step)
    counts = frame.select("symbol", fits=fits).group_by("symbol").agg(pl.len(), pl.col("fits").sum())
    return counts.filter(pl.col("fits") * 2 < pl.col("len") - 1)["symbol"]


def _coin_column(symbol: str, rows: pl.DataFrame) -> str | None:
    """Return the column with the volume in coins of one symbol: `volume`, `COINS` or `QUOTE`; None if none fits."""
    if COINS in rows.columns and _CONTRACTS.fullmatch(symbol):
        return COINS
    middle = (rows["high"] + rows["low"]) / 2
    traded = rows["volume"] > 0
    if not traded.any():
        return "volume"
    if QUOTE not in rows.columns:
        # In files of OKX this column is in coins for contracts, but in quote currency for spot markets.
        return "volume" if is_one((rows[COINS] / rows["volume"] / middle).filter(traded)) else COINS
    for name in ("volume", COINS):
        if name in rows.columns and is_one((rows[QUOTE] / rows[name] / middle).filter(traded)):
            return name
    # The volume of an inverse contract is in contracts of 1, 10 or 100 USD, and its quote volume is in coins.
    ratios = (rows["volume"] / rows[QUOTE] / middle).filter(traded)
    return QUOTE if _INVERSE.fullmatch(symbol) and any(is_one(ratios * dollars) for dollars in _CONTRACT_USD) else None
