"""Read the bars of some symbols from the lake onto one time grid."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernels.market import Floats, Ints
from mei_pipeline import files
from mei_pipeline.candles import funding
from mei_pipeline.candles.intervals import HOUR_MS, Intervals, interval_ms, iso
from mei_pipeline.candles.lake import Lake, candles_hash, frame_hash, read_candles, read_funding, read_instruments
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.simulation.bars import PRICES, Bars, main_ages, make_steps
from mei_pipeline.simulation.extents import stored_extent_ms
from mei_pipeline.simulation.terms import TRADED_BY, history_of, traded_by


class _Grid(NamedTuple):
    """Bars of an interval on its grid: open_ms [T], prices [4, T, S], volume [T, S], present [T, S], and their hash."""

    open_ms: Ints
    prices: Floats
    volume: Floats
    present: NDArray[np.bool_]
    data_hash: str


class _Slice(NamedTuple):
    """The part of a lake to read: symbols by column, bars that open in [anchor_ms, to_ms)."""

    lake: Lake
    venue: str
    symbols: tuple[str, ...]
    anchor_ms: int
    to_ms: int


def load_bars(
    lake: Lake, venue: str, intervals: Intervals | str, symbols: Sequence[str], anchor_ms: int, to_ms: int
) -> Bars:
    """Read the bars of `symbols` in [anchor_ms, to_ms) from the lake.

    Args:
        lake: The lake.
        venue: Venue to read.
        intervals: Intervals of features, entries and exits; one name stands for all three.
        symbols: Symbols to read; sorted by name, so that equal sets give equal arrays.
        anchor_ms: Open time of the first main bar and of the first step.
        to_ms: End of the last bar, exclusive, on the main interval's grid.

    Raises:
        ConfigError: There is no symbol, or the anchor is off the main interval's grid, before the lake's first bar or
            not before the end.
        DataError: The lake has no bars of an interval, a symbol has no bar in the slice, or its instrument is unknown.
    """
    used = intervals if isinstance(intervals, Intervals) else Intervals(intervals)
    part = _Slice(lake, venue, tuple(sorted(set(symbols))), anchor_ms, to_ms)
    _check_slice(part, used)
    main = _read_grid(part, used.main)
    fine = main if used.step == used.main else _read_grid(part, used.step)
    main_age = main_ages(main.present)
    due = _funding_due(part, used.step_ms, len(fine.open_ms))
    instruments = _instrument_history(part)
    return Bars(
        venue=venue,
        intervals=used,
        symbols=part.symbols,
        anchor_ms=anchor_ms,
        data_hash=files.sha256_json(
            {
                "bars": [main.data_hash] if fine is main else [main.data_hash, fine.data_hash],
                "funding": frame_hash(due, ("due_ms", "rate"), f"funding {venue}"),
                "instruments": frame_hash(
                    traded_by(instruments, anchor_ms),
                    ("from_ms", *TRADED_BY, "delisted_ms"),
                    f"instruments {venue}",
                ),
            }
        ),
        open_ms=main.open_ms,
        prices=main.prices,
        volume=main.volume,
        age=main_age,
        steps=make_steps(used, fine.open_ms, fine.prices, _rates_by_step(part, due, len(fine.open_ms)), main_age),
        instruments=instruments,
    )


def _check_slice(part: _Slice, used: Intervals) -> None:
    """Refuse a slice that can't be read, before reading it."""
    anchor_ms, to_ms, main = part.anchor_ms, part.to_ms, used.main
    if not part.symbols:
        raise ConfigError("symbols: the list is empty; name at least one symbol")
    if anchor_ms % used.main_ms or anchor_ms >= to_ms:
        raise ConfigError(
            f"anchor of {main} is {anchor_ms} ms, {iso(anchor_ms)}; it must lie on the {main} grid and before the end, "
            f"{iso(to_ms)}"
        )
    extents = {name: stored_extent_ms(part.lake, part.venue, name) for name in used.read}
    first_ms, last_ms = extents[main]
    if last_ms <= anchor_ms:
        raise DataError(
            f"anchor of {main} is {iso(anchor_ms)}, but the last {main} bar of {part.venue} in lake {part.lake.root} "
            f"ends {iso(last_ms)}; run `mei ingest`, or set an earlier anchor under `anchors` in pipeline.yaml"
        )
    # Recursive features start at the anchor. With an anchor before the data, a backfill would change their values.
    if anchor_ms < first_ms:
        raise ConfigError(
            f"anchor of {main} is {iso(anchor_ms)}, but the first {main} bar of {part.venue} in lake {part.lake.root} "
            f"opens {iso(first_ms)}: a backfill would move the start of features. Set anchors.{main} in pipeline.yaml "
            f"to {iso(first_ms)} or later, or ingest earlier bars"
        )


def _read_grid(part: _Slice, interval: str) -> _Grid:
    """Read the bars of `interval` in the slice."""
    step_ms = interval_ms(interval)
    length = (part.to_ms - part.anchor_ms) // step_ms
    # The last bar of the slice must have closed by its end.
    end_ms = part.anchor_ms + length * step_ms
    frame = read_candles(part.lake, part.venue, interval, part.symbols, part.anchor_ms, end_ms)
    missing = sorted(set(part.symbols) - set(frame["symbol"].unique()))
    if missing:
        raise DataError(_missing_bars_message(part, interval, missing[0]))
    column = {name: index for index, name in enumerate(part.symbols)}
    t = ((frame["open_ms"] - part.anchor_ms) // step_ms).to_numpy()
    s = frame["symbol"].replace_strict(column, return_dtype=pl.Int64).to_numpy()
    values = np.full((len(PRICES) + 1, length, len(part.symbols)), np.nan)
    for index, name in enumerate((*PRICES, "volume")):
        values[index, t, s] = frame[name].to_numpy()
    open_ms = part.anchor_ms + step_ms * np.arange(length, dtype=np.int64)
    prices, volume = values[: len(PRICES)], values[len(PRICES)]
    return _Grid(open_ms, prices, volume, ~np.isnan(prices[-1]), candles_hash(frame, part.venue, interval))


def _missing_bars_message(part: _Slice, interval: str, symbol: str) -> str:
    """Return the message about a symbol without a bar in the slice, with the times of its bars outside it."""
    bounds = f"{iso(part.anchor_ms)} and {iso(part.to_ms)}"
    text = f"lake {part.lake.root}: no {interval} bar of {symbol} at {part.venue} between {bounds}"
    times = read_candles(part.lake, part.venue, interval, [symbol])["open_ms"]
    if times.is_empty():
        return f"{text}, nor at any other time; run `mei ingest` for it, or leave it out of the symbols"
    stored = f"{iso(times[0])} and {iso(times[-1] + interval_ms(interval))}"
    return f"{text}; its bars lie between {stored}: choose days that they cover, or leave it out of the symbols"


def _funding_due(part: _Slice, step_ms: int, length: int) -> pl.DataFrame:
    """Return the funding due in the slice: symbol, time when it was due, step that it belongs to, rate."""
    # A venue may stamp a payment up to an hour after it was due.
    frame = read_funding(part.lake, part.venue, part.symbols, part.anchor_ms, part.to_ms + HOUR_MS)
    # A payment belongs to the step with open < due <= close, so one due at a close belongs to the step that ends there.
    due = pl.col("due_ms")
    return (
        frame.with_columns(due_ms=funding.hour_of())
        .with_columns(step=(due - part.anchor_ms + step_ms - 1) // step_ms - 1)
        .filter(pl.col("step").is_between(0, length - 1))
        .select("symbol", "due_ms", "step", "rate")
    )


def _rates_by_step(part: _Slice, due: pl.DataFrame, length: int) -> Floats:
    """Return the sum of the funding rates of each step, [T, S], from the frame of `_funding_due`."""
    column = {name: index for index, name in enumerate(part.symbols)}
    s = due["symbol"].replace_strict(column, return_dtype=pl.Int64).to_numpy()
    rates = np.zeros((length, len(column)))
    np.add.at(rates, (due["step"].to_numpy(), s), due["rate"].to_numpy())
    return rates


def _instrument_history(part: _Slice) -> pl.DataFrame:
    """Return the instruments of the symbols over time (`terms.history_of`)."""
    history = history_of(read_instruments(part.lake, part.venue, part.symbols), part.anchor_ms, part.to_ms)
    unknown = sorted(set(part.symbols) - set(history["symbol"]))
    if unknown:
        raise DataError(
            f"lake {part.lake.root}: unknown instrument {unknown[0]} at {part.venue}; run `mei ingest` for it"
        )
    return history
