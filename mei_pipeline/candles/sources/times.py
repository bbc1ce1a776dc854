"""Conversion of a file's times to UTC milliseconds: dates, texts, and numbers since 1970 in s, ms, µs or ns."""

import polars as pl

from mei_pipeline.candles.intervals import iso
from mei_pipeline.errors import DataError

_EARLIEST_MS, _LATEST_MS = 1_230_768_000_000, 4_102_444_800_000  # the years 2009 to 2099
_WRITTEN = (
    r"^(\d{4})[-./](\d\d)[-./](\d\d)(?:[T ](\d\d:\d\d)(:\d\d(?:\.\d+)?)?)?(?: ?(?:Z|UTC|([+-]\d\d)(?::?(\d\d))?))?$"
)
_EXPECTED = "expected a date and time, or an integer in ms or s since 1970"
# The unit is recognised row by row, because joined files may mix units: Binance Vision changed from ms to µs in 2025.
# Seconds, milliseconds, microseconds and nanoseconds since 1970 differ by factors of 1,000: 1e11 is the year 5138 in s
# and March 1973 in ms.
_MS, _US, _NS = 10**11, 10**14, 10**17
_LARGEST = 2.0**63
_EMPTY = ["", "null", "none", "na", "n/a", "nan", "nat"]


def read_times(raw: pl.Series, label: str, *, zero_ok: bool = False) -> pl.Series:
    """Read a column of times.

    Args:
        raw: The column as the file has it.
        label: File and column, for messages.
        zero_ok: Accept 0, which means from 1970 on.

    Returns:
        Milliseconds since 1970, null where a cell is empty.

    Raises:
        DataError: A cell is not a time, or lies outside the years 2009 to 2099.
    """
    if isinstance(raw.dtype, pl.Datetime):
        time = raw.dt.epoch("ms")
    elif isinstance(raw.dtype, pl.Date):
        time = raw.cast(pl.Datetime("ms")).dt.epoch("ms")
    elif isinstance(raw.dtype, pl.String):
        time = _text(raw, label)
    elif raw.dtype.is_integer():
        time = _epoch(_sized(raw, label))
    elif raw.dtype.is_float():
        time = _epoch(_sized(raw.fill_nan(None).cast(pl.Float64), label))
    elif isinstance(raw.dtype, pl.Null):
        time = raw.cast(pl.Int64)
    else:
        raise DataError(f"{label} is {raw.dtype}, {_EXPECTED}")
    outside = (time < _EARLIEST_MS) | (time >= _LATEST_MS)
    if zero_ok:
        outside &= time != 0
    if outside.any():
        row = outside.arg_true()[0]
        raise DataError(f"{label} reads as {_time_text(time[row])} in row {row + 1}, {_EXPECTED}")
    return time


def _sized(raw: pl.Series, label: str) -> pl.Series:
    """Return numbers that fit into 64 bits.

    Raises:
        DataError: A number does not fit; it is not a time in any unit.
    """
    number = raw if raw.dtype.is_float() else raw.cast(pl.Int64, strict=False)
    odd = raw.abs() >= _LARGEST if raw.dtype.is_float() else number.is_null() & raw.is_not_null()
    if odd.any():
        row = odd.arg_true()[0]
        raise DataError(f"{label} has {raw[row]!r} in row {row + 1}, {_EXPECTED}")
    return number


def _time_text(time_ms: int) -> str:
    try:
        return iso(time_ms)
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"


def _epoch(raw: pl.Series) -> pl.Series:
    least, most = raw.abs().min(), raw.abs().max()
    if least is None:
        return raw.cast(pl.Int64)
    if raw.dtype.is_integer() and least >= _MS and most < _US:  # pyrefly: ignore[unsupported-operation]  # of integers both are
        return raw
    number = pl.col(raw.name)
    size = number.abs()
    scaled = (
        pl.when(size < _MS)
        .then((number * 1000).round() if raw.dtype.is_float() else number * 1000)
        .when(size < _US)
        .then(number.round() if raw.dtype.is_float() else number)
        .when(size < _NS)
        .then(number // 1_000)
        .otherwise(number // 1_000_000)
    )
    return raw.to_frame().select(scaled.cast(pl.Int64)).to_series()


def _text(raw: pl.Series, label: str) -> pl.Series:
    text = raw.str.strip_chars()
    number = text.cast(pl.Float64, strict=False)
    # `nan`, `inf` and numbers too large for any unit are not times: below they are an empty cell or an error.
    number = number.set(~(number.abs() < _LARGEST), None)
    time = _epoch(number)
    rest = text.filter(number.is_null())
    if rest.is_empty():
        return time
    written = _written(rest)
    unread = written.is_null() & rest.is_not_null() & ~rest.str.to_lowercase().is_in(_EMPTY)
    if unread.any():
        value = rest.filter(unread)[0]
        row = int((text == value).arg_true()[0])
        raise DataError(
            f"{label} has {value!r} in row {row + 1}, expected a date and time such as 2025-05-01T00:00:00Z, "
            "or an integer in ms or s since 1970"
        )
    return time.clone().scatter(number.is_null().arg_true(), written)


def _written(text: pl.Series) -> pl.Series:
    year, month, day, minute, second, hour_off, minute_off = (
        pl.col("part").struct.field(str(group)) for group in range(1, 8)
    )
    return (
        pl.DataFrame({"text": text})
        .select(pl.col("text").str.extract_groups(_WRITTEN).alias("part"))
        .select(
            pl.concat_str(
                *(year, pl.lit("-"), month, pl.lit("-"), day, pl.lit("T")),
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
