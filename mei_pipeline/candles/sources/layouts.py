"""Presets of venues and tools, and the columns of files without a header."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from mei_pipeline.errors import ConfigError

_OHLC = ("open", "high", "low", "close")
BINANCE = (
    *("open_time", *_OHLC, "volume", "close_time", "quote_volume", "count"),
    *("taker_buy_volume", "taker_buy_quote_volume", "ignore"),
)
BYBIT = ("startTime", *_OHLC, "volume", "turnover")
OKX = ("ts", *_OHLC, "vol", "volCcy", "volCcyQuote", "confirm")
CCXT = ("timestamp", *_OHLC, "volume")
WITH_CLOSE_TIME = ("open_time", *_OHLC, "volume", "close_time")
MIN_SOUND_FRAC = 0.9  # a few wrong rows do not hide a layout; the quality rules refuse them


@dataclass(frozen=True)
class Preset:
    """Column names and layouts of one venue or tool.

    Attributes:
        columns: The lake's column to its names in files, in the order in which they are tried.
        positions: Columns of a file without a header, one tuple per layout.
        venue: The venue, if only one venue uses the preset.
        freqtrade: True if file names follow freqtrade's pattern.
    """

    columns: Mapping[str, tuple[str, ...]]
    positions: tuple[tuple[str, ...], ...] = ()
    venue: str | None = None
    freqtrade: bool = False


_WORDS = {name: (name,) for name in (*_OHLC, "volume")}
_LETTERS = {"open": ("o",), "high": ("h",), "low": ("l",), "close": ("c",), "volume": ("v",)}

PRESETS: dict[str, Preset] = {
    "binance-vision": Preset(
        _WORDS | {"open_ms": ("open_time",), "trades": ("count", "number_of_trades", "trades")}, (BINANCE,), "binance"
    ),
    "bybit": Preset(_WORDS | {"open_ms": ("startTime", "start", "start_at", "timestamp")}, (BYBIT, CCXT), "bybit"),
    "okx": Preset(
        {name: (name,) for name in _OHLC}
        | {"open_ms": ("ts", "open_time"), "volume": ("vol",), "symbol": ("instrument_name", "instId", "symbol")},
        (OKX,),
        "okx",
    ),
    "ccxt": Preset(_WORDS | {"open_ms": ("timestamp", "datetime")}, (CCXT,)),
    "tradingview": Preset(_WORDS | {"open_ms": ("time",), "volume": ("Volume", "volume")}),
    "freqtrade": Preset(_WORDS | {"open_ms": ("date",)}, (("date", *CCXT[1:]),), freqtrade=True),
    "hyperliquid": Preset(
        _LETTERS | {"open_ms": ("t",), "symbol": ("s", "coin"), "interval": ("i",)}, (), "hyperliquid"
    ),
}


def find_preset(name: str) -> Preset:
    """Return the preset `name`.

    Raises:
        ConfigError: There is no such preset.
    """
    try:
        return PRESETS[name]
    except KeyError:
        raise ConfigError(f"preset {name!r} is not known; allowed: {', '.join(PRESETS)}") from None


def guess_layout(rows: pl.DataFrame, preset: Preset | None = None) -> tuple[str, ...] | None:
    """Return column names for a file without a header, from the number of its columns and their values.

    Args:
        rows: First rows of the file.
        preset: Preset whose layouts are tried; all layouts when None.

    Returns:
        The venue's column names; None if the values fit no layout.
    """
    width = rows.width
    numbers = rows.select(pl.all().cast(pl.Float64, strict=False))
    if preset is not None:
        return next((names for names in preset.positions if len(names) == width), None)
    if width < len(CCXT) or not _are_candles(numbers):
        return None
    last = numbers.to_series(width - 1)
    if width == len(BINANCE) and _is_close_time(numbers, 6):
        return BINANCE
    if width == len(OKX) and last.is_in([0.0, 1.0]).all():
        return OKX
    # Seven columns are ambiguous: the last one is a close time, or Bybit's turnover.
    if width == len(BYBIT):
        return WITH_CLOSE_TIME if _is_close_time(numbers, 6) else BYBIT if _is_turnover(numbers) else None
    return CCXT if width == len(CCXT) else None


def _are_candles(numbers: pl.DataFrame) -> bool:
    opened, high, low, close = (numbers.to_series(at) for at in range(1, 5))
    sound = (high >= opened) & (high >= close) & (low <= opened) & (low <= close) & (low > 0)
    return int(sound.sum()) >= MIN_SOUND_FRAC * numbers.height


def _is_close_time(numbers: pl.DataFrame, at: int) -> bool:
    # 1 % of a time since 1970 is about half a year, longer than any bar.
    begin, end = numbers.to_series(0), numbers.to_series(at)
    return bool(((end > begin) & (end < begin * 1.01)).all())


def _is_turnover(numbers: pl.DataFrame) -> bool:
    """Return True if the seventh column is the sixth times the price, or, as with inverse contracts, by the price."""
    middle = (numbers.to_series(2) + numbers.to_series(3)) / 2
    volume, turnover = numbers.to_series(5), numbers.to_series(6)
    return any(is_one(one / other / middle) for one, other in ((turnover, volume), (volume, turnover)))


def is_one(ratios: pl.Series) -> bool:
    """Return True if the median of the ratios is about 1.

    The ratios are average prices of bars over the middles of the bars. An average price lies inside its bar.
    """
    least, most = 0.8, 1.25
    middle = ratios.filter(ratios.is_finite()).median()
    return isinstance(middle, int | float) and least <= middle <= most
