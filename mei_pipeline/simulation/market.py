"""From the lake to arrays: the bars of some symbols on one time grid, as the kernels read them."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernels.blocks import BLOCKS
from kernels.market import Floats, Ints, Market, last_prices_of
from mei_pipeline import files
from mei_pipeline.candles import funding
from mei_pipeline.candles.intervals import HOUR_MS, MINUTE_MS, Intervals, interval_ms, iso
from mei_pipeline.candles.lake import (
    Lake,
    candles_hash,
    extent_ms,
    frame_hash,
    read_candles,
    read_funding,
    read_instruments,
)
from mei_pipeline.candles.lake import symbols as stored_symbols
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.names import symbol_problem
from mei_pipeline.simulation.endings import ENDED_AFTER_MS, Ending, endings_of
from mei_pipeline.simulation.terms import TRADED_BY, Terms, history_of, terms_of, traded_by

DAY_MS = 86_400_000
_DELISTED = {"symbol": pl.String, "delisted_ms": pl.Int64}
_PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Steps:
    """The steps of a simulation: bars of the finest interval in use, and where they lie among the main bars.

    Attributes:
        interval: Length of a step.
        open_ms: [T] open time of each step; the first is the anchor.
        prices: [4, T, S] open, high, low, close; NaN where there is no bar.
        present: [T, S] whether the symbol has a bar.
        age: [T, S] main bars of the symbol that have closed at the close of the step, less one; -1 where it has no bar
            at the step or no main bar of it has closed.
        funding: [T, S] funding rates due in (open, close] of each step, summed.
        row: [T] last main bar that has closed at the close of the step; -1 before the first.
        before: [T] main bar to compare with: where a main bar closes, the one before `row` (0 at row 0); else `row`.
        enters: [T] 1 at each close of the entry interval, else 0.
        exits: [T] 1 at each close of the exit interval, else 0.
    """

    interval: str
    open_ms: Ints
    prices: Floats
    present: NDArray[np.bool_]
    age: Ints
    funding: Floats
    row: Ints
    before: Ints
    enters: Ints
    exits: Ints

    @property
    def step_ms(self) -> int:
        """Length of a step in milliseconds."""
        return interval_ms(self.interval)

    @property
    def close_ms(self) -> Ints:
        """[T] time at which each step has closed."""
        return self.open_ms + self.step_ms

    @functools.cached_property
    def last_prices(self) -> Floats:
        """[T, S] last known close at each step; every window of the same bars shares them."""
        return last_prices_of(self.prices[3])


@dataclass(frozen=True)
class Bars:
    """Main bars of S symbols from an anchor on, the steps between them, and what the kernels must know of the symbols.

    Attributes:
        venue: Venue of all bars.
        intervals: Intervals of features, entries and exits.
        symbols: Names, in the order of the arrays' last axis.
        anchor_ms: Open time of the first bar of the grid.
        data_hash: Content hash of all that was read, independent of how the lake stores it: the bars of every interval,
            the funding due between the anchor and the end, and what holds of each instrument when.
        open_ms: [T] open time of each main bar.
        prices: [4, T, S] open, high, low, close of main bars; NaN where there is no bar.
        volume: [T, S] volume of main bars in base coin; NaN where there is no bar.
        age: [T, S] main bars the symbol had before; -1 where there is no bar.
        steps: What a simulation goes through; with one interval its arrays are those of the main bars.
        instruments: What holds of each symbol when: rows by symbol and `from_ms`, one of each at least.
    """

    venue: str
    intervals: Intervals
    symbols: tuple[str, ...]
    anchor_ms: int
    data_hash: str
    open_ms: Ints
    prices: Floats
    volume: Floats
    age: Ints
    steps: Steps
    instruments: pl.DataFrame

    @property
    def interval(self) -> str:
        """Interval of the main bars."""
        return self.intervals.main

    @property
    def interval_ms(self) -> int:
        """Length of a main bar in milliseconds."""
        return self.intervals.main_ms

    @property
    def end_ms(self) -> int:
        """End of the last main bar of the grid."""
        return self.anchor_ms + len(self.open_ms) * self.interval_ms

    @functools.cached_property
    def endings(self) -> tuple[Ending, ...]:
        """Symbols that end before the bars do, by step."""
        known = self.instruments if "delisted_ms" in self.instruments.columns else pl.DataFrame(schema=_DELISTED)
        rows = known.select(*_DELISTED).drop_nulls().iter_rows()
        delisted = [(self.symbols.index(name), int(time_ms)) for name, time_ms in rows]
        return endings_of(self.steps.present, self.steps.open_ms, self.steps.step_ms, delisted)

    @functools.cached_property
    def terms(self) -> Terms:
        """Terms of the venue by step."""
        return terms_of(self.instruments, self.symbols, self.anchor_ms, self.steps.step_ms, self.endings)

    @property
    def candles(self) -> int:
        """How many bars were read, of every interval."""
        main = int((self.age >= 0).sum())
        return main if self.steps.interval == self.interval else main + int(self.steps.present.sum())


@dataclass(frozen=True)
class Window:
    """Whole UTC days of `Bars` that are traded.

    Attributes:
        from_ms: Start of the first day.
        to_ms: End of the last day, exclusive.
        first: Index of the first step.
        last: One past the index of the last step.
        market: Arrays of all steps, with the days of this window cut into blocks.
    """

    from_ms: int
    to_ms: int
    first: int
    last: int
    market: Market

    @property
    def days(self) -> int:
        """Number of days."""
        return (self.to_ms - self.from_ms) // DAY_MS


class _Grid(NamedTuple):
    """Bars of an interval on its grid: open_ms [T], prices [4, T, S], volume [T, S], present [T, S], and their hash."""

    open_ms: Ints
    prices: Floats
    volume: Floats
    present: NDArray[np.bool_]
    data_hash: str


class _Slice(NamedTuple):
    """What to read: symbols by column, bars that open in [anchor_ms, to_ms)."""

    lake: Lake
    venue: str
    names: tuple[str, ...]
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
        anchor_ms: Open time of the first main bar, where the grid of the steps starts, too.
        to_ms: End of the last bar, exclusive, on the main interval's grid.

    Raises:
        ConfigError: An interval does not divide the main one, there is no symbol, or the anchor is off the main
            interval's grid, before the lake's first bar or not before the end.
        DataError: The lake has no bars of an interval, a symbol has none in the slice, or no instrument is known for
            it.
    """
    used = intervals if isinstance(intervals, Intervals) else Intervals(intervals)
    part = _Slice(lake, venue, tuple(sorted(set(symbols))), anchor_ms, to_ms)
    _check(part, used)
    main = _grid(part, used.main)
    fine = main if used.step == used.main else _grid(part, used.step)
    age = np.where(main.present, np.cumsum(main.present, axis=0) - 1, -1).astype(np.int64)
    paid = _funding(part, used.step_ms, len(fine.open_ms))
    instruments = _instruments(part)
    return Bars(
        venue=venue,
        intervals=used,
        symbols=part.names,
        anchor_ms=anchor_ms,
        data_hash=files.sha256_json(
            {
                "bars": [main.data_hash] if fine is main else [main.data_hash, fine.data_hash],
                "funding": frame_hash(paid, ("due_ms", "rate"), f"funding {venue}"),
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
        age=age,
        steps=_steps(used, main, fine, age, _rates(part, paid, len(fine.open_ms))),
        instruments=instruments,
    )


def _check(part: _Slice, used: Intervals) -> None:
    """Refuse a slice that can't be read, before anything is."""
    anchor_ms, to_ms, main = part.anchor_ms, part.to_ms, used.main
    if not part.names:
        raise ConfigError("symbols: none given; at least one is needed")
    if anchor_ms % used.main_ms or anchor_ms >= to_ms:
        raise ConfigError(
            f"anchor of {main} is {anchor_ms} ms, {iso(anchor_ms)}; it must lie on the {main} grid and before the end, "
            f"{iso(to_ms)}"
        )
    extents = {name: stored_ms(part.lake, part.venue, name) for name in used.read}
    first_ms, last_ms = extents[main]
    if last_ms <= anchor_ms:
        raise DataError(
            f"anchor of {main} is {iso(anchor_ms)}, but the last {main} bar of {part.venue} in lake {part.lake.root} "
            f"ends {iso(last_ms)}; run `mei ingest`, or set an earlier anchor under `anchors` in pipeline.yaml"
        )
    if anchor_ms < first_ms:
        raise ConfigError(
            f"anchor of {main} is {iso(anchor_ms)}, but the first {main} bar of {part.venue} in lake {part.lake.root} "
            f"opens {iso(first_ms)}: a backfill would move the start of features. Set anchors.{main} in pipeline.yaml "
            f"to {iso(first_ms)} or later, or ingest earlier bars"
        )


def _grid(part: _Slice, interval: str) -> _Grid:
    """Bars of `interval` of the slice."""
    step = interval_ms(interval)
    length = (part.to_ms - part.anchor_ms) // step
    # A bar that the end cuts has not closed.
    end_ms = part.anchor_ms + length * step
    frame = read_candles(part.lake, part.venue, interval, part.names, part.anchor_ms, end_ms)
    missing = sorted(set(part.names) - set(frame["symbol"].unique()))
    if missing:
        raise DataError(_nothing_of(part, interval, missing[0]))
    column = {name: index for index, name in enumerate(part.names)}
    t = ((frame["open_ms"] - part.anchor_ms) // step).to_numpy()
    s = frame["symbol"].replace_strict(column, return_dtype=pl.Int64).to_numpy()
    values = np.full((len(_PRICES) + 1, length, len(part.names)), np.nan)
    for index, name in enumerate((*_PRICES, "volume")):
        values[index, t, s] = frame[name].to_numpy()
    opened = part.anchor_ms + step * np.arange(length, dtype=np.int64)
    prices, volume = values[: len(_PRICES)], values[len(_PRICES)]
    return _Grid(opened, prices, volume, ~np.isnan(prices[-1]), candles_hash(frame, part.venue, interval))


def _nothing_of(part: _Slice, interval: str, name: str) -> str:
    """Why `name` has no bar in the slice, and what to do."""
    bounds = f"{iso(part.anchor_ms)} and {iso(part.to_ms)}"
    text = f"lake {part.lake.root}: no {interval} bar of {name} at {part.venue} between {bounds}"
    times = read_candles(part.lake, part.venue, interval, [name])["open_ms"]
    if times.is_empty():
        return f"{text}, nor at any other time; run `mei ingest` for it, or leave it out of the symbols"
    there = f"{iso(times[0])} and {iso(times[-1] + interval_ms(interval))}"
    return f"{text}; its bars lie between {there}: choose days that they cover, or leave it out of the symbols"


def _steps(used: Intervals, main: _Grid, fine: _Grid, main_age: Ints, rates: Floats) -> Steps:
    """The steps of the slice; with one interval they are the main bars themselves."""
    passed = fine.open_ms + used.step_ms - main.open_ms[0]
    row = passed // used.main_ms - 1
    closes_main = passed % used.main_ms == 0
    return Steps(
        interval=used.step,
        open_ms=fine.open_ms,
        prices=fine.prices,
        present=fine.present,
        age=main_age if fine is main else _age(main.present, fine.present, row),
        funding=rates,
        row=row,
        before=np.where(closes_main, np.maximum(row - 1, 0), row),
        # Shorter intervals divide the main one, so their grids pass through the anchor.
        enters=(passed % used.entry_ms == 0).astype(np.int64),
        exits=(passed % used.exit_ms == 0).astype(np.int64),
    )


def _age(main: NDArray[np.bool_], fine: NDArray[np.bool_], row: Ints) -> Ints:
    """[T, S] main bars of each symbol that have closed at each step, less one; -1 where it has no step or none."""
    none = np.zeros((1, main.shape[1]), dtype=np.int64)
    closed = np.concatenate((none, np.cumsum(main, axis=0)))[row + 1]
    return np.where(fine, closed - 1, -1)


def _funding(part: _Slice, step: int, length: int) -> pl.DataFrame:
    """Funding due in the slice, by symbol and time: when it was due, the step that it belongs to, the rate."""
    # A print may be stamped up to an hour after it was due.
    frame = read_funding(part.lake, part.venue, part.names, part.anchor_ms, part.to_ms + HOUR_MS)
    # Due at a bar's close belongs to that bar: its open is before, its close is at or after.
    due = pl.col("due_ms")
    return (
        frame.with_columns(due_ms=funding.hour_of())
        .with_columns(step=(due - part.anchor_ms + step - 1) // step - 1)
        .filter(pl.col("step").is_between(0, length - 1))
        .select("symbol", "due_ms", "step", "rate")
    )


def _rates(part: _Slice, paid: pl.DataFrame, length: int) -> Floats:
    """[T, S] funding of each step, from what `_funding` found."""
    column = {name: index for index, name in enumerate(part.names)}
    s = paid["symbol"].replace_strict(column, return_dtype=pl.Int64).to_numpy()
    rates = np.zeros((length, len(column)))
    np.add.at(rates, (paid["step"].to_numpy(), s), paid["rate"].to_numpy())
    return rates


def _instruments(part: _Slice) -> pl.DataFrame:
    """What holds of each symbol when; see `terms.history_of`."""
    known = history_of(read_instruments(part.lake, part.venue, part.names), part.anchor_ms, part.to_ms)
    unknown = sorted(set(part.names) - set(known["symbol"]))
    if unknown:
        raise DataError(
            f"lake {part.lake.root}: unknown instrument {unknown[0]} at {part.venue}; run `mei ingest` for it"
        )
    return known


def stored_ms(lake: Lake, venue: str, interval: str) -> tuple[int, int]:
    """Open time of the first bar of `interval` that the lake has of any symbol, and end of the last.

    Raises:
        DataError: It has none.
    """
    found = extent_ms(lake, venue, interval)
    if found is None:
        raise DataError(
            f"lake {lake.root}: no {interval} bars of {venue}; run `mei ingest`, with {interval} among `intervals` of "
            f"pipeline.yaml or in the files that it is given"
        )
    return found[0], found[1] + interval_ms(interval)


def common_symbols(lake: Lake, venue: str, intervals: Intervals) -> tuple[list[str], dict[str, str]]:
    """Symbols that the lake has bars of for every interval that is read, and why each other one is left out.

    Raises:
        DataError: The lake has no bars of an interval.
    """
    held: list[str] = []
    absent: dict[str, str] = {}
    for interval in intervals.read:
        stored_ms(lake, venue, interval)
        stored = {name: symbol_problem(name) for name in stored_symbols(lake, venue, interval)}
        # Names were not held to a rule by every version that wrote lakes; such a symbol could never be promoted.
        absent |= {ascii(name): f"the name is not allowed: {problem}" for name, problem in stored.items() if problem}
        names = [name for name, problem in stored.items() if not problem]
        if interval == intervals.main:
            held = names
        absent |= {name: f"no {interval} bars in the lake" for name in held if name not in names}
    return [name for name in held if name not in absent], absent


Extents = dict[str, tuple[int, int]]
"""Open time of the first bar and end of the last, by symbol."""


def last_bar_ms(extents: Sequence[Extents]) -> int:
    """Return the end of the last bar that any symbol has; of several intervals the earliest such end."""
    return min(max(end for _, end in each.values()) for each in extents)


def last_common_ms(lake: Lake, venue: str, intervals: Intervals | str, symbols: Sequence[str]) -> int:
    """Return the end of the last bar that every symbol has that has not ended, of each interval that is read.

    Raises:
        DataError: A symbol has no bars.
    """
    found = []
    for each in extents_ms(lake, venue, intervals, symbols):
        ends = [end for _, end in each.values()]
        found.append(min(end for end in ends if max(ends) - end < ENDED_AFTER_MS))
    return min(found)


def extents_ms(lake: Lake, venue: str, intervals: Intervals | str, symbols: Sequence[str]) -> list[Extents]:
    """Return what the lake has of each of `symbols`, for each interval that is read.

    Raises:
        DataError: A symbol has no bars.
    """
    used = intervals if isinstance(intervals, Intervals) else Intervals(intervals)
    found = []
    for interval in used.read:
        opened = pl.col("open_ms")
        frame = read_candles(lake, venue, interval, symbols).group_by("symbol")
        rows = frame.agg(first=opened.min(), end=opened.max() + interval_ms(interval)).iter_rows()
        extents = {str(name): (int(first), int(end)) for name, first, end in rows}
        if missing := sorted(set(symbols) - set(extents)):
            raise DataError(f"lake {lake.root}: no {interval} bar of {missing[0]} at {venue}; run `mei ingest`")
        found.append(extents)
    return found


def window(bars: Bars, from_ms: int, to_ms: int, least_days: int = BLOCKS) -> Window:
    """Cut whole UTC days [from_ms, to_ms) out of `bars` and split them into `BLOCKS` equal time blocks.

    Args:
        bars: The bars.
        from_ms: Start of the first day.
        to_ms: End of the last day, exclusive.
        least_days: Fewest days; where they may be fewer than blocks, some blocks have none.

    Raises:
        ConfigError: The bounds are not UTC midnights inside the bars, or leave fewer days than these.
        DataError: No symbol can be traded at any step.
    """
    if from_ms % DAY_MS or to_ms % DAY_MS or not bars.anchor_ms <= from_ms < to_ms <= bars.end_ms:
        raise ConfigError(
            f"window {from_ms}..{to_ms} ms: must be UTC midnights between {bars.anchor_ms} and {bars.end_ms} ms"
        )
    days = (to_ms - from_ms) // DAY_MS
    if days < least_days:
        raise ConfigError(f"window of {days} days: at least {least_days} days are needed, one for each time block")
    steps = bars.steps
    step = steps.step_ms
    first, last = (from_ms - bars.anchor_ms) // step, (to_ms - bars.anchor_ms) // step
    if not (steps.age[first:last] >= 0).any():
        raise DataError(
            f"window {iso(from_ms)} to {iso(to_ms)}: no symbol has a {steps.interval} bar after a closed "
            f"{bars.interval} bar in it; choose other days, or run `mei ingest`; `mei coverage` shows what there is"
        )
    ends = steps.close_ms
    inside = (steps.open_ms >= from_ms) & (ends <= to_ms)
    day = np.clip((steps.open_ms - from_ms) // DAY_MS, 0, days - 1)
    ending = np.zeros(len(steps.open_ms), dtype=np.int64)
    ending[[each.step for each in bars.endings]] = 1
    market = Market(
        open=steps.prices[0],
        high=steps.prices[1],
        low=steps.prices[2],
        close=steps.prices[3],
        last_price=steps.last_prices,
        age=steps.age,
        funding=steps.funding,
        **bars.terms._asdict(),
        day_end=(inside & (ends % DAY_MS == 0)).astype(np.int64),
        block=(day * BLOCKS // days).astype(np.int64),
        row=steps.row,
        before=steps.before,
        enters=steps.enters,
        exits=steps.exits,
        ends=ending,
        symbol_group=np.zeros(len(bars.symbols), dtype=np.int64),
        benchmark=np.array([-1], dtype=np.int64),
        minutes=np.array([step / MINUTE_MS]),
    )
    return Window(from_ms, to_ms, first, last, market)


def closed_at_end(cut: Window) -> Window:
    """Return the window with every position closed at its end.

    Every symbol that is still listed then is delisted at the last step, so the ledger itself books the close: at the
    last known close, with exit slippage, and with the fee of the slipped notional.
    """
    final = cut.last - 1
    listed = (cut.market.last < 0) | (cut.market.last > final)
    ends = cut.market.ends.copy()
    ends[final] = 1
    return replace(cut, market=cut.market._replace(last=np.where(listed, final, cut.market.last), ends=ends))


def context_only(bars: Bars, symbol: str) -> Bars:
    """The same bars, with `symbol` to be looked at and never traded: no step of it counts as one that has a bar."""
    column = bars.symbols.index(symbol)
    age = bars.steps.age.copy()
    age[:, column] = -1
    return replace(bars, steps=replace(bars.steps, age=age))
