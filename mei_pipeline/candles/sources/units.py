"""What the columns of a file's candles mean: the length of its bars, coins or contracts, closed bars or open ones."""

import re

import polars as pl

from mei_pipeline.candles.excluded_rows import mark
from mei_pipeline.candles.intervals import INTERVALS, MINUTE_MS, interval_ms
from mei_pipeline.candles.sources.columns import CLOSE, CLOSED, COINS, QUOTE
from mei_pipeline.candles.sources.formats import DataFile
from mei_pipeline.candles.sources.layouts import is_one
from mei_pipeline.errors import DataError

_CONTRACTS = re.compile(r".*-(?:SWAP|\d{6})|.*USD_(?:PERP|\d{6})")
SECOND_MS = 1_000
_INVERSE = re.compile(r".*USD(?:[-_]?(?:PERP|SWAP|\d{6}|[FGHJKMNQUVXZ]\d{2}))?|.*/USD:.*")
_CONTRACT_USD = (1, 10, 100)


def open_of(interval: str) -> pl.Expr:
    """Open times from close times: venues stamp a close in the last second of the bar or as the first of the next."""
    step = interval_ms(interval)
    close = pl.col(CLOSE)
    late = step - close % step
    return (close - step + pl.when(late <= SECOND_MS).then(late).otherwise(0)).alias("open_ms")


def mark_open(frame: pl.DataFrame) -> pl.DataFrame:
    """Mark bars that their source says are still open."""
    return mark(frame, "still_open", ~pl.col(CLOSED)).drop(CLOSED) if CLOSED in frame.columns else frame


def coins_of(file: DataFile, frame: pl.DataFrame, columns: dict[str, str]) -> pl.DataFrame:
    """Take the volume in coins where a file has other volumes too.

    The volume in money over the volume in coins is the average price of a bar, which lies inside it. A volume in
    contracts is off by the size of a contract.

    Args:
        file: The file, for messages.
        frame: Its candles, with `QUOTE` and `COINS` where it has them.
        columns: The lake's column to the file's, for messages.

    Raises:
        DataError: None of the volumes of a symbol is in coins.
    """
    extra = [name for name in (QUOTE, COINS) if name in frame.columns]
    if not extra:
        return frame
    chosen = {}
    for (symbol,), rows in frame.group_by("symbol", maintain_order=True):
        name = _coin_column(str(symbol), rows)
        if name is None:
            raise DataError(
                f"{file}: column {columns['volume']!r} (volume) of {symbol} is not in coins: column {columns[QUOTE]!r} "
                f"divided by it is not a price of its bars; name the volume in coins with --columns volume=NAME"
            )
        chosen[symbol] = name
    names = set(chosen.values())
    if names == {"volume"}:
        return frame.drop(extra)
    taken = pl.col("symbol").replace_strict(chosen, default="volume", return_dtype=pl.String)
    volume = pl.col("volume")
    for name in names - {"volume"}:
        volume = pl.when(taken == name).then(pl.col(name)).otherwise(volume)
    return frame.with_columns(volume.alias("volume")).drop(extra)


def check_spacing(file: DataFile, frame: pl.DataFrame, interval: str, origin: str) -> None:
    """Refuse bars whose commonest distance is not their interval, for each symbol of a file.

    Args:
        file: The file, for messages.
        frame: Its candles of one interval.
        interval: Their interval.
        origin: Who says so, for messages.

    Raises:
        DataError: Two bars in a row of a symbol lie closer than the interval, or most often further apart.
    """
    step = interval_ms(interval)
    doubtful = _unlike_before(frame, step)
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
    found = next((name for name, size in INTERVALS.items() if size == length), None)
    name = found or f"{length / MINUTE_MS:g} minutes"
    option = "--columns interval==" if origin.startswith("column") else "--interval "
    allowed = f"state it with {option}{found}" if found else f"allowed: {', '.join(INTERVALS)}"
    raise DataError(f"{file}: the bars of {symbol} are mostly {name} apart, but {origin} says {interval}; {allowed}")


def _near(apart: pl.Expr, step: int) -> pl.Expr:
    # Times that are late by moments are the business of the rule `off_grid`.
    return (apart.abs() - step).abs() * 100 < step


def _unlike_before(frame: pl.DataFrame, step: int) -> pl.Series:
    """Symbols of whose rows fewer than half lie one step from the row before: it may be their order, too."""
    fits = (pl.col("symbol") == pl.col("symbol").shift(1)) & _near(pl.col("open_ms").diff(), step)
    counts = frame.select("symbol", fits=fits).group_by("symbol").agg(pl.len(), pl.col("fits").sum())
    return counts.filter(pl.col("fits") * 2 < pl.col("len") - 1)["symbol"]


def _coin_column(symbol: str, rows: pl.DataFrame) -> str | None:
    if COINS in rows.columns and _CONTRACTS.fullmatch(symbol):
        return COINS
    middle = (rows["high"] + rows["low"]) / 2
    traded = rows["volume"] > 0
    if not traded.any():
        return "volume"
    if QUOTE not in rows.columns:
        # Of a spot market, OKX gives money where it gives coins of a contract.
        return "volume" if is_one((rows[COINS] / rows["volume"] / middle).filter(traded)) else COINS
    for name in ("volume", COINS):
        if name in rows.columns and is_one((rows[QUOTE] / rows[name] / middle).filter(traded)):
            return name
    # Of an inverse contract the volume is in contracts of some dollars, and what is called quote volume is in coins.
    ratios = (rows["volume"] / rows[QUOTE] / middle).filter(traded)
    return QUOTE if _INVERSE.fullmatch(symbol) and any(is_one(ratios * dollars) for dollars in _CONTRACT_USD) else None
