"""Mapping of a file's columns to the lake's, and conversion of their values."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from mei_pipeline.candles.intervals import INTERVALS, parse_interval
from mei_pipeline.candles.schema import CANDLES, FUNDING, INSTRUMENTS, LakeTable
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
# Names of volumes in coins, which stand beside a volume in contracts, and of volumes in quote currency. Quote volume
# over volume in coins is a price, so `units.volume_in_coins` can distinguish the two.
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
    CANDLES.name: "symbol, open_ms, open, high, low, close, volume (optional: interval, trades, source)",
    FUNDING.name: "symbol, time_ms, rate (optional: premium, source)",
    INSTRUMENTS.name: ", ".join(name for name in INSTRUMENTS.columns if name not in {"venue", "source"}),
}


@dataclass(frozen=True)
class ColumnMapping:
    """Table and columns of one file.

    Attributes:
        table: The table that the file holds.
        columns: The lake's column to the file's; a constant is written `=value`. Candles may have `close_ms`, `QUOTE`,
            `COINS` and `CLOSED` too, which are not columns of the lake.
    """

    table: LakeTable
    columns: dict[str, str]


@dataclass(frozen=True)
class ColumnHints:
    """Information about a file's columns from the user and from the file's name.

    Attributes:
        stated: The lake's column to the file's, or to `=value`, as the user states it.
        from_names: The same from the names of file and folders; used only for columns that the file lacks.
        preset: The preset that the user states.
        table: The table that the file holds, if its name says so.
        single_file: True if it is the only file of the ingest.
    """

    stated: Mapping[str, str] = field(default_factory=dict)
    from_names: Mapping[str, str] = field(default_factory=dict)
    preset: Preset | None = None
    table: LakeTable | None = None
    single_file: bool = True


def map_columns(file: DataFile, names: Sequence[str], hints: ColumnHints) -> ColumnMapping:
    """Find the table that a file holds and its columns, from the column names.

    Args:
        file: The file, for messages.
        names: Names of the file's columns.
        hints: Information from the user and from the file's name.

    Raises:
        DataError: A stated column does not exist, or the file is neither candles nor funding nor instruments.
    """
    matches = {name: _pick(name, names, hints) for name in (*ALIASES, *INSTRUMENTS.columns)}
    columns = {name: column for name, column in matches.items() if column is not None}
    table = hints.table or _table_of(columns)
    only_closes = table is CANDLES and CLOSE in columns and (CLOSE in hints.stated or "open_ms" not in columns)
    if only_closes:
        columns["open_ms"] = columns[CLOSE]
    required = [name for name in table.columns if name not in {*_OPTIONAL, "interval"} and name not in table.nullable]
    allowed = {*table.columns, *((CLOSE,) if table is CANDLES else ())}
    absent = [name for name in (*required, *sorted(set(hints.stated) & allowed)) if name not in columns]
    if absent:
        raise DataError(_absent(file, absent[0], names, hints, table))
    extra = _extra(names, hints) if table is CANDLES else {}
    if only_closes:
        extra[CLOSE] = columns[CLOSE]
    return ColumnMapping(table, {name: columns[name] for name in table.columns if name in columns} | extra)


def convert(file: DataFile, frame: pl.DataFrame, mapping: ColumnMapping) -> pl.DataFrame:
    """Read the values of a file's columns as the lake's types; columns that the file lacks are not added.

    Raises:
        DataError: A column has another type, or a cell can't be read; the message names file, column and value.
    """
    series = []
    for name, column in mapping.columns.items():
        if column.startswith(CONSTANT):
            raw = pl.repeat(column[len(CONSTANT) :], frame.height, dtype=pl.String, eager=True)
        else:
            raw = frame[column]
        lake_name = "" if column == name or name in _EXTRA else f" ({name})"
        label = f"{file}: column {column!r}{lake_name}"
        kind = mapping.table.columns.get(name, _EXTRA.get(name, pl.Int64()))
        if name in _TIMES:
            series.append(read_times(raw, label, zero_ok=name == "from_ms").alias(name))
        elif name == CLOSED:
            series.append(_is_closed(raw, label).alias(name))
        elif kind == pl.String():
            series.append(_text(raw, label, numbers=name == "interval").alias(name))
        else:
            number = _number(raw, label)
            series.append((_integer(number, label) if kind == pl.Int64() else number).alias(name))
    return pl.DataFrame(series)


def find_column(name: str, columns: Sequence[str], stated: Mapping[str, str]) -> str | None:
    """Return the file's column for one of the lake's; None if the file has none."""
    return _pick(name, columns, ColumnHints(stated))


def interval_names(labels: pl.Series) -> pl.Series:
    """Return MEI's names of intervals: `60`, `60m` and `1H` are `1h`; an unknown label stays as it is."""
    name_of = {label: parse_interval(label) or label for label in labels.unique().drop_nulls().to_list()}
    if all(label == name for label, name in name_of.items()):
        return labels
    return labels.replace(name_of)


def check_intervals(file: DataFile, frame: pl.DataFrame) -> None:
    """Raise DataError if a file names an interval that MEI does not have.

    Raises:
        DataError: The column `interval` has an unknown value.
    """
    unknown = frame.filter(~pl.col("interval").is_in(list(INTERVALS)).fill_null(value=False))
    if unknown.height:
        raise DataError(
            f"{file}: column 'interval' has {unknown['interval'][0]!r}; allowed: {', '.join(INTERVALS)}; "
            "read the rows of one interval with --interval"
        )


def _table_of(columns: Mapping[str, str]) -> LakeTable:
    if {"size_decimals", "symbol"} <= columns.keys():
        return INSTRUMENTS
    if "rate" in columns and not {"open", "high", "low", "close"} & columns.keys():
        return FUNDING
    return CANDLES


def _extra(names: Sequence[str], hints: ColumnHints) -> dict[str, str]:
    """Return the columns of candles that help to read the others: further volumes, and the flag of closed bars."""
    columns = {CLOSED: _find(CLOSED_FLAGS, names)}
    # A stated volume is used as it is, so no other volume is needed.
    if "volume" not in hints.stated:
        columns |= {QUOTE: _find(QUOTE_VOLUMES, names), COINS: _find(COIN_VOLUMES, names)}
    return {name: column for name, column in columns.items() if column is not None}


def _absent(file: DataFile, name: str, columns: Sequence[str], hints: ColumnHints, table: LakeTable) -> str:
    """Return the message about an absent column, with the likeliest remedy."""
    stated = [hints.stated[name]] if name in hints.stated else []
    tried = ", ".join(dict.fromkeys((*stated, *_aliases(name, hints.preset))))
    message = f"{file}: no column for {name!r} of {table.name} (looked for {tried}); found: {', '.join(columns)}; "
    if len(columns) == 1 and re.search(r"[;\t|]", columns[0]):
        return f"{message}separate the columns by commas"
    if {"price", "side"} <= {_letters(column) for column in columns}:
        return f"{message}these are single trades, not bars; fetch candles"
    message += f"expected {_EXPECTED[table.name]}; name it with --columns {name}=NAME"
    if name == "symbol":
        message += ", begin the file's name with it as in BTCUSDT-1h-2024-12.csv"
        constant = f"give one value for all rows with --columns {name}==VALUE"
        return (
            f"{message}, or {constant}"
            if hints.single_file
            else f"{message}, or ingest each file by itself and {constant}"
        )
    if name == "volume":
        return f"{message}, or give one value for all rows with --columns {name}==VALUE"
    if columns[0] == "column_1":
        return f"{message} such as --columns {name}=column_1, or name the file's format with --preset"
    return message


def _aliases(target: str, preset: Preset | None = None) -> tuple[str, ...]:
    if preset is not None and target in preset.columns:
        return preset.columns[target]
    return ALIASES.get(target, (target,))


def _pick(target: str, columns: Sequence[str], hints: ColumnHints) -> str | None:
    if target in hints.stated:
        column = hints.stated[target]
        return column if column.startswith(CONSTANT) or column in columns else None
    other_spellings = target not in {"venue", "source"}
    aliases = _aliases(target, hints.preset)
    return _find(aliases, columns, other_spellings=other_spellings) or hints.from_names.get(target)


def _find(names: Sequence[str], columns: Sequence[str], *, other_spellings: bool = True) -> str | None:
    """Return the first of `names` among the columns; else the first in another spelling (`Open Time`)."""
    exact = next((name for name in names if name in columns), None)
    if exact is not None or not other_spellings:
        return exact
    # Single letters match exactly only: Hyperliquid's `T` is the close of a bar, its `t` the open.
    # Reversed, so that the first of two columns with the same letters is used.
    spelled = {_letters(column): column for column in reversed(columns) if len(column) > 1}
    return next((spelled[_letters(name)] for name in names if len(name) > 1 and _letters(name) in spelled), None)


def _letters(name: str) -> str:
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


def _integer(number: pl.Series, label: str) -> pl.Series:
    odd = (number.is_not_null() & ((number % 1 != 0) | ~(number.abs() < 2.0**63))).fill_null(value=False)
    if odd.any():
        raise DataError(f"{label} has {number.filter(odd)[0]!r}, expected a whole number")
    return number.cast(pl.Int64)
