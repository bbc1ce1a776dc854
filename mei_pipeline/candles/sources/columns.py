"""From a file's columns to the lake's: which is which, and how their values are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mei_pipeline.candles.intervals import INTERVALS, iso
from mei_pipeline.candles.schema import CANDLES, FUNDING, INSTRUMENTS, Table
from mei_pipeline.errors import DataError

ALIASES: dict[str, tuple[str, ...]] = {
    "open_ms": ("open_ms", "open_time", "timestamp", "datetime", "date", "time", "ts", "t"),
    "time_ms": ("time_ms", "time", "funding_time", "fundingTime", "calc_time", "timestamp", "datetime", "date"),
    "rate": ("rate", "funding_rate", "fundingRate", "last_funding_rate"),
    "premium": ("premium",),
    "open": ("open", "Open", "o"),
    "high": ("high", "High", "h"),
    "low": ("low", "Low", "l"),
    "close": ("close", "Close", "c"),
    "volume": ("volume", "Volume", "vol", "v"),
    "trades": ("trades", "num_trades", "count", "n"),
    "symbol": ("symbol", "Symbol", "coin", "s"),
    "interval": ("interval", "timeframe", "i"),
    "venue": ("venue", "exchange"),
    "source": ("source",),
}
CONSTANT = "="
CLOSE = "close_ms"
_TIMES = ("open_ms", "time_ms", CLOSE, "from_ms", "listed_ms", "delisted_ms")
_OPTIONAL = ("venue", "source", "trades", "premium")
_EARLIEST_MS, _LATEST_MS = 1_230_768_000_000, 4_102_444_800_000  # the years 2009 to 2099
_WRITTEN = r"^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d(?:\.\d+)?)?)?(?: ?(?:Z|UTC|([+-]\d\d)(?::?(\d\d))?))?$"
_EXPECTED = {
    CANDLES.name: "symbol, open_ms, open, high, low, close, volume (and interval, trades, source where there are any)",
    FUNDING.name: "symbol, time_ms, rate (and premium, source where there are any)",
    INSTRUMENTS.name: ", ".join(name for name in INSTRUMENTS.columns if name not in {"venue", "source"}),
}


@dataclass(frozen=True)
class Mapped:
    """How one file is read.

    Attributes:
        table: What the file holds.
        columns: The lake's column to the file's; a constant is written `=value`.
    """

    table: Table
    columns: dict[str, str]


def detect(path: Path, found: Sequence[str], stated: Mapping[str, str]) -> Mapped:
    """Tell what a file holds from its column names.

    Args:
        path: The file, for messages.
        found: Its columns.
        stated: The lake's column to the file's, or to `=value`; for what differs from the known names.

    Raises:
        DataError: A stated column does not exist, or the file is neither candles nor funding nor instruments.
    """
    columns = {name: _pick(name, found, stated) for name in (*ALIASES, CLOSE, *INSTRUMENTS.columns)}
    known = {name: column for name, column in columns.items() if column is not None}
    if {"size_decimals", "symbol"} <= known.keys():
        table = INSTRUMENTS
    elif "rate" in known and not {"open", "high", "low", "close"} & known.keys():
        table = FUNDING
    else:
        table = CANDLES
        if CLOSE in stated and CLOSE in known:
            known["open_ms"] = known[CLOSE]
    needed = [name for name in table.columns if name not in {*_OPTIONAL, "interval"} and name not in table.nullable]
    absent = [name for name in (*needed, *(set(stated) & set(table.columns))) if name not in known]
    if absent:
        tried = ", ".join(dict.fromkeys((*([stated[absent[0]]] if absent[0] in stated else []), *_names(absent[0]))))
        raise DataError(
            f"{path}: no column for {absent[0]!r} of {table.name} (looked for {tried}); found: {', '.join(found)}; "
            f"expected {_EXPECTED[table.name]}; name it with --columns {absent[0]}=NAME, or give one value for all "
            f"rows with --columns {absent[0]}==VALUE"
        )
    extra = (CLOSE,) if CLOSE in stated and CLOSE in known and table is CANDLES else ()
    return Mapped(table, {name: known[name] for name in (*table.columns, *extra) if name in known})


def convert(path: Path, frame: pl.DataFrame, mapped: Mapped) -> pl.DataFrame:
    """Read the values of a file's columns as the lake's types; columns that the file lacks are not added.

    Raises:
        DataError: A column has another type, or a cell can't be read; the message names file, column and value.
    """
    series = []
    for name, column in mapped.columns.items():
        if column.startswith(CONSTANT):
            raw = pl.repeat(column[len(CONSTANT) :], frame.height, dtype=pl.String, eager=True)
        else:
            raw = frame[column]
        label = f"{path}: column {column!r} ({name})" if column != name else f"{path}: column {name!r}"
        kind = mapped.table.columns.get(name, pl.Int64())
        if name in _TIMES:
            series.append(_time(raw, label, zero_ok=name == "from_ms").alias(name))
        elif kind == pl.String():
            series.append(_text(raw, label).alias(name))
        else:
            number = _number(raw, label)
            whole = kind == pl.Int64() and _whole(number, label)
            series.append((number.cast(pl.Int64) if whole else number).alias(name))
    return pl.DataFrame(series)


def check_intervals(path: Path, frame: pl.DataFrame) -> None:
    """Refuse a file that names an interval that MEI does not know.

    Raises:
        DataError: It does.
    """
    unknown = frame.filter(~pl.col("interval").is_in(list(INTERVALS)).fill_null(value=False))
    if unknown.height:
        raise DataError(
            f"{path}: column 'interval' has {unknown['interval'][0]!r}; allowed: {', '.join(INTERVALS)}; "
            "state the interval of all its rows with --interval"
        )


def _names(target: str) -> tuple[str, ...]:
    return ALIASES.get(target, (target,))


def _pick(target: str, found: Sequence[str], stated: Mapping[str, str]) -> str | None:
    if target in stated:
        column = stated[target]
        return column if column.startswith(CONSTANT) or column in found else None
    return next((name for name in _names(target) if name in found), None)


def _text(raw: pl.Series, label: str) -> pl.Series:
    if isinstance(raw.dtype, pl.String | pl.Categorical | pl.Enum | pl.Null):
        return raw.cast(pl.String)
    raise DataError(f"{label} is {raw.dtype}, expected text")


def _number(raw: pl.Series, label: str) -> pl.Series:
    if raw.dtype.is_numeric() or isinstance(raw.dtype, pl.Null):
        return raw.cast(pl.Float64)
    if isinstance(raw.dtype, pl.String):
        text = raw.str.strip_chars()
        empty = text.str.to_lowercase().is_in(["", "null", "none", "na", "n/a"])
        number = text.cast(pl.Float64, strict=False)
        unread = number.is_null() & raw.is_not_null() & ~empty
        if unread.any():
            row = unread.arg_true()[0]
            raise DataError(f"{label} has {raw[row]!r} in row {row + 1}, expected a number")
        return number
    raise DataError(f"{label} is {raw.dtype}, expected a number")


def _whole(number: pl.Series, label: str) -> bool:
    odd = (number.is_not_null() & ((number % 1 != 0) | ~number.is_finite())).fill_null(value=False)
    if odd.any():
        raise DataError(f"{label} has {number.filter(odd)[0]!r}, expected a whole number")
    return True


def _time(raw: pl.Series, label: str, *, zero_ok: bool) -> pl.Series:
    if isinstance(raw.dtype, pl.Datetime):
        time = raw.dt.epoch("ms")
    elif isinstance(raw.dtype, pl.Date):
        time = raw.cast(pl.Datetime("ms")).dt.epoch("ms")
    elif isinstance(raw.dtype, pl.String):
        number = raw.str.strip_chars().cast(pl.Float64, strict=False)
        numeric = number.is_not_null().any()
        time = _epoch(_number(raw, label)) if numeric else _written(raw, label)
    elif raw.dtype.is_integer():
        time = _epoch(raw)
    elif raw.dtype.is_float():
        time = _epoch(raw.fill_nan(None))
    elif isinstance(raw.dtype, pl.Null):
        time = raw.cast(pl.Int64)
    else:
        raise DataError(f"{label} is {raw.dtype}, expected a date and time, or an integer in ms or s since 1970")
    middle = time.drop_nulls().median()
    if isinstance(middle, int | float) and not _EARLIEST_MS <= middle < _LATEST_MS and not (zero_ok and middle == 0):
        raise DataError(
            f"{label} reads as {_when(middle)}, expected a date and time, or an integer in ms or s since 1970"
        )
    return time


def _when(time_ms: float) -> str:
    try:
        return iso(int(time_ms))
    except (ValueError, OverflowError, OSError):
        return f"{time_ms:.0f} ms"


def _epoch(raw: pl.Series) -> pl.Series:
    # Seconds, milliseconds, microseconds and nanoseconds since 1970 lie a factor of 1,000 apart.
    middle = raw.drop_nulls().abs().median()
    size = float(middle) if isinstance(middle, int | float) else 0.0
    if size < 1e11:  # noqa: PLR2004  (the year 5138 in s, March 1973 in ms)
        return (raw * 1000).round().cast(pl.Int64) if raw.dtype.is_float() else raw.cast(pl.Int64) * 1000
    if size < 1e14:  # noqa: PLR2004  (ms)
        return raw.round().cast(pl.Int64) if raw.dtype.is_float() else raw.cast(pl.Int64)
    divisor = 1_000 if size < 1e17 else 1_000_000  # noqa: PLR2004  (µs or ns)
    return raw.cast(pl.Int64) // divisor


def _written(raw: pl.Series, label: str) -> pl.Series:
    day, minute, second, hour_off, minute_off = (pl.col("part").struct.field(str(group)) for group in range(1, 6))
    time = (
        pl.DataFrame({"text": raw.str.strip_chars()})
        .select(pl.col("text").str.extract_groups(_WRITTEN).alias("part"))
        .select(
            pl.concat_str(
                day,
                pl.lit("T"),
                minute.fill_null("00:00"),
                second.fill_null(":00"),
                hour_off.fill_null("+00"),
                pl.lit(":"),
                minute_off.fill_null("00"),
            ).str.to_datetime("%+", time_unit="ms", time_zone="UTC", strict=False)
        )
        .to_series()
        .dt.epoch("ms")
    )
    unread = time.is_null() & raw.is_not_null() & (raw.str.strip_chars() != "")
    if unread.any():
        row = unread.arg_true()[0]
        raise DataError(
            f"{label} has {raw[row]!r} in row {row + 1}, expected a date and time such as 2025-05-01T00:00:00Z, "
            "or an integer in ms or s since 1970"
        )
    return time
