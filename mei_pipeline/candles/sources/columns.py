"""From a file's columns to the lake's: which is which, and how their values are read."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from mei_pipeline.candles.intervals import INTERVALS, interval_of
from mei_pipeline.candles.schema import CANDLES, FUNDING, INSTRUMENTS, Table
from mei_pipeline.candles.sources.formats import DataFile
from mei_pipeline.candles.sources.layouts import Preset
from mei_pipeline.candles.sources.times import read_times
from mei_pipeline.errors import DataError

ALIASES: dict[str, tuple[str, ...]] = {
    "open_ms": (
        *("open_ms", "open_time", "start_time", "start", "start_at", "timestamp"),
        *("datetime", "date", "time", "ts", "t"),
    ),
    "time_ms": (
        *("time_ms", "time", "funding_time", "funding_rate_timestamp", "calc_time", "timestamp"),
        *("datetime", "date"),
    ),
    "rate": ("rate", "funding_rate", "fundingRate", "last_funding_rate"),
    "premium": ("premium",),
    "open": ("open", "Open", "o"),
    "high": ("high", "High", "h"),
    "low": ("low", "Low", "l"),
    "close": ("close", "Close", "c"),
    "volume": ("volume", "Volume", "vol", "v", "base_volume", "volume_base"),
    "trades": ("trades", "num_trades", "number_of_trades", "trade_count", "count", "n"),
    "symbol": ("symbol", "Symbol", "coin", "instrument_name", "instId", "pair", "ticker", "s"),
    "interval": ("interval", "timeframe", "i"),
    "venue": ("venue", "exchange"),
    "source": ("source",),
    "close_ms": ("close_ms", "close_time", "T"),
}
# Volume in coins beside volume in contracts, and volume in money, by which the two are told apart.
COIN_VOLUMES = ("volCcy", "vol_ccy", "volume_ccy", "base_volume", "volume_base")
QUOTE_VOLUMES = ("volCcyQuote", "vol_ccy_quote", "vol_quote", "quote_volume", "quote_asset_volume", "turnover")
CLOSED_FLAGS = ("confirm", "confirmed", "is_closed", "closed", "is_final", "is_complete", "complete")
CONSTANT = "="
CLOSE = "close_ms"
QUOTE = "quote_volume"
COINS = "coin_volume"
CLOSED = "is_closed"
_EXTRA: dict[str, pl.DataType] = {QUOTE: pl.Float64(), COINS: pl.Float64(), CLOSED: pl.Boolean()}
_TIMES = ("open_ms", "time_ms", CLOSE, "from_ms", "listed_ms", "delisted_ms")
_OPTIONAL = ("venue", "source", "trades", "premium")
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
        columns: The lake's column to the file's; a constant is written `=value`. Beside the lake's columns it may have
            `close_ms`, and of candles `QUOTE`, `COINS` and `CLOSED`.
    """

    table: Table
    columns: dict[str, str]


@dataclass(frozen=True)
class Known:
    """What is known of a file's columns before it is opened.

    Attributes:
        stated: The lake's column to the file's, or to `=value`, as the user states it.
        named: The same from the names of file and folders; only for columns that the file lacks.
        preset: The layout that the user states.
        table: What the file holds, where its name says it.
        alone: Whether it is the only file of the ingest.
    """

    stated: Mapping[str, str] = field(default_factory=dict)
    named: Mapping[str, str] = field(default_factory=dict)
    preset: Preset | None = None
    table: Table | None = None
    alone: bool = True


def detect(file: DataFile, found: Sequence[str], known: Known) -> Mapped:
    """Tell what a file holds from its column names.

    Args:
        file: The file, for messages.
        found: Its columns.
        known: What the user and the file's name say.

    Raises:
        DataError: A stated column does not exist, or the file is neither candles nor funding nor instruments.
    """
    picked = {name: _pick(name, found, known) for name in (*ALIASES, *INSTRUMENTS.columns)}
    columns = {name: column for name, column in picked.items() if column is not None}
    table = known.table or _table_of(columns)
    closes = table is CANDLES and CLOSE in columns and (CLOSE in known.stated or "open_ms" not in columns)
    if closes:
        columns["open_ms"] = columns[CLOSE]
    needed = [name for name in table.columns if name not in {*_OPTIONAL, "interval"} and name not in table.nullable]
    told = {*table.columns, *((CLOSE,) if table is CANDLES else ())}
    absent = [name for name in (*needed, *sorted(set(known.stated) & told)) if name not in columns]
    if absent:
        raise DataError(_absent(file, absent[0], found, known, table))
    extra = _extra(found, known) if table is CANDLES else {}
    if closes:
        extra[CLOSE] = columns[CLOSE]
    return Mapped(table, {name: columns[name] for name in table.columns if name in columns} | extra)


def convert(file: DataFile, frame: pl.DataFrame, mapped: Mapped) -> pl.DataFrame:
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
        ours = "" if column == name or name in _EXTRA else f" ({name})"
        label = f"{file}: column {column!r}{ours}"
        kind = mapped.table.columns.get(name, _EXTRA.get(name, pl.Int64()))
        if name in _TIMES:
            series.append(read_times(raw, label, zero_ok=name == "from_ms").alias(name))
        elif name == CLOSED:
            series.append(_is_closed(raw, label).alias(name))
        elif kind == pl.String():
            series.append(_text(raw, label, numbers=name == "interval").alias(name))
        else:
            number = _number(raw, label)
            whole = kind == pl.Int64() and _whole(number, label)
            series.append((number.cast(pl.Int64) if whole else number).alias(name))
    return pl.DataFrame(series)


def find_column(name: str, found: Sequence[str], stated: Mapping[str, str]) -> str | None:
    """The file's column for one of the lake's, if it has one."""
    return _pick(name, found, Known(stated))


def interval_names(labels: pl.Series) -> pl.Series:
    """MEI's names of a file's labels of intervals: `60`, `60m` and `1H` are `1h`; an unknown label stays as it is."""
    known = {label: interval_of(label) or label for label in labels.unique().drop_nulls().to_list()}
    if all(label == name for label, name in known.items()):
        return labels
    return labels.replace(known)


def check_intervals(file: DataFile, frame: pl.DataFrame) -> None:
    """Refuse a file that names an interval that MEI does not know.

    Raises:
        DataError: It does.
    """
    unknown = frame.filter(~pl.col("interval").is_in(list(INTERVALS)).fill_null(value=False))
    if unknown.height:
        raise DataError(
            f"{file}: column 'interval' has {unknown['interval'][0]!r}; allowed: {', '.join(INTERVALS)}; "
            "take the rows of one interval with --interval"
        )


def _table_of(columns: Mapping[str, str]) -> Table:
    if {"size_decimals", "symbol"} <= columns.keys():
        return INSTRUMENTS
    if "rate" in columns and not {"open", "high", "low", "close"} & columns.keys():
        return FUNDING
    return CANDLES


def _extra(found: Sequence[str], known: Known) -> dict[str, str]:
    columns = {CLOSED: _find(CLOSED_FLAGS, found)}
    if "volume" not in known.stated:
        columns |= {QUOTE: _find(QUOTE_VOLUMES, found), COINS: _find(COIN_VOLUMES, found)}
    return {name: column for name, column in columns.items() if column is not None}


def _absent(file: DataFile, name: str, found: Sequence[str], known: Known, table: Table) -> str:
    stated = [known.stated[name]] if name in known.stated else []
    tried = ", ".join(dict.fromkeys((*stated, *_names(name, known.preset))))
    message = f"{file}: no column for {name!r} of {table.name} (looked for {tried}); found: {', '.join(found)}; "
    if len(found) == 1 and re.search(r"[;\t|]", found[0]):
        return f"{message}separate the columns by commas"
    if {"price", "side"} <= {_plain(column) for column in found}:
        return f"{message}these are single trades, not bars; fetch candles"
    message += f"expected {_EXPECTED[table.name]}; name it with --columns {name}=NAME"
    if name == "symbol":
        message += ", let the file's name begin with it as in BTCUSDT-1h-2024-12.csv"
        constant = f"give one value for all rows with --columns {name}==VALUE"
        return (
            f"{message}, or {constant}" if known.alone else f"{message}, or ingest each file by itself and {constant}"
        )
    if name == "volume":
        return f"{message}, or give one value for all rows with --columns {name}==VALUE"
    if found[0] == "column_1":
        return f"{message} such as --columns {name}=column_1, or say with --preset who wrote the file"
    return message


def _names(target: str, preset: Preset | None = None) -> tuple[str, ...]:
    if preset is not None and target in preset.columns:
        return preset.columns[target]
    return ALIASES.get(target, (target,))


def _pick(target: str, found: Sequence[str], known: Known) -> str | None:
    if target in known.stated:
        column = known.stated[target]
        return column if column.startswith(CONSTANT) or column in found else None
    alike = target not in {"venue", "source"}
    return _find(_names(target, known.preset), found, alike=alike) or known.named.get(target)


def _find(names: Sequence[str], found: Sequence[str], *, alike: bool = True) -> str | None:
    """The first of `names` that a file has; else the first that it writes in another way (`Open Time`)."""
    exact = next((name for name in names if name in found), None)
    if exact is not None or not alike:
        return exact
    # One letter says too little: `T` is the close of a bar of Hyperliquid, `t` its open.
    plain = {_plain(column): column for column in reversed(found) if len(column) > 1}
    return next((plain[_plain(name)] for name in names if len(name) > 1 and _plain(name) in plain), None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _is_closed(raw: pl.Series, label: str) -> pl.Series:
    text = raw.cast(pl.String).str.strip_chars().str.to_lowercase()
    closed = text.is_in(["1", "true", "yes", "1.0"])
    odd = ~closed & ~text.is_in(["0", "false", "no", "0.0", ""])
    if odd.fill_null(value=False).any():
        raise DataError(
            f"{label} has {raw.filter(odd)[0]!r}, expected 1 or true for a closed bar, 0 or false for an open one"
        )
    return closed


def _text(raw: pl.Series, label: str, *, numbers: bool) -> pl.Series:
    if (numbers and raw.dtype.is_integer()) or isinstance(raw.dtype, pl.String | pl.Categorical | pl.Enum | pl.Null):
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
