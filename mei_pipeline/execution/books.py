"""A book of one config, moved step by step by the compiled rules; the arrays of a book are changed in place.

The lane and the fill model of a paper broker hold such a book each. Both prepare a step with the same functions, so
they see the same bars, ages and terms as a sweep does.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels import features as feature_kernel
from kernels.book import Book, make_book
from kernels.market import SYMBOL, FillModel, Floats, Ints, Market, fill_model, model_record
from kernels.params import Value
from mei_pipeline.candles.intervals import DAY_MS, MINUTE_MS, Intervals
from mei_pipeline.errors import ConfigError, DataError, Fatal
from mei_pipeline.execution.events import BarClosed, ConfigOffered, InstrumentChanged
from mei_pipeline.params.identity import ResolvedConfig, benchmark_of
from mei_pipeline.params.table import Table, problems, read_catalog
from mei_pipeline.registry.records import from_dict
from mei_pipeline.replay.run import columns_for
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.combos import Combos, encode_combos
from mei_pipeline.simulation.feature_sets import FeatureSet
from mei_pipeline.simulation.run import load_executor

_LOG_ROWS_PER_SYMBOL = 10
"""At most: closing and opening part at the open and at the close, a level, a settlement, funding and a delisting."""
_MOST_DECIMALS = 18


class StepClock(NamedTuple):
    """Intervals of a config by name and in milliseconds, computed once; see `candles.intervals.Intervals`."""

    step: str
    main: str
    step_ms: int
    main_ms: int
    entry_ms: int
    exit_ms: int


@dataclass(frozen=True)
class BookPlan:
    """A config, encoded for the compiled rules.

    Attributes:
        offered: The config as the lane received it.
        resolved: The resolved config, complete for the parameter table of these kernels.
        combos: The config as a single combo.
        model: Fill model and sizes.
        compiled: Compiled functions of the strategy (`kernels.bind.executor`).
        columns: Kinds, windows and offsets of its feature columns (`kernels.features.encode`).
        index: Number of each symbol.
        clock: Its intervals.
    """

    offered: ConfigOffered
    resolved: ResolvedConfig
    combos: Combos
    model: FillModel
    compiled: ModuleType
    columns: tuple[Ints, Ints, Ints]
    index: Mapping[str, int]
    clock: StepClock

    @property
    def intervals(self) -> Intervals:
        """Intervals of features, entries and exits."""
        return self.resolved.intervals

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols, in the order of all arrays."""
        return self.resolved.symbols

    def step_number(self, step_ms: int) -> int:
        """Return the number of a step, counted from the anchor."""
        return (step_ms - self.offered.anchor_ms) // self.clock.step_ms

    def time_of_step(self, number: int) -> int:
        """Return the open time of a step by its number, UTC milliseconds."""
        return self.offered.anchor_ms + number * self.clock.step_ms


@dataclass(frozen=True)
class StepBook:
    """A book and the arrays of its current step.

    Attributes:
        plan: The config.
        market: Arrays of one step; bars are NaN until they arrive.
        models: [1] record of `kernels.market.MODEL`.
        terms: [1, S] records of `kernels.market.SYMBOL`.
        book: Account, positions, orders and log.
        main: [4, S] high, low, close and volume of the main bars that end with this step; NaN until they arrive.
        counts: [S] number of main bars of each symbol since the anchor.
        state: [S, N] state of the feature columns; N is 0 for a book that decides nothing.
        columns: [C, 2, S] feature columns at the main bar before the last one, and at the last one.
        rows: [1] number of main bars of the grid since the anchor.
    """

    plan: BookPlan
    market: Market
    models: NDArray[np.record]
    terms: NDArray[np.record]
    book: Book
    main: Floats
    counts: Ints
    state: Floats
    columns: Floats
    rows: Ints

    # A field of a numpy record takes several times as long to read as that of a plain structure, and a view of an array
    # as long as some reads. The views stay valid: the arrays of a book are changed in place and never replaced.

    @cached_property
    def account(self) -> Any:
        """Account, as a plain structure of `kernels.ledger.ACCOUNT`."""
        return _plain(self.book.accounts)[0]

    @cached_property
    def positions(self) -> Any:
        """[S] positions and orders, as plain structures of `kernels.book.position_dtype`."""
        return _plain(self.book.positions)[0]

    @cached_property
    def words(self) -> Ints:
        """[S, N] the bytes of `positions` as 64-bit integers, to copy and compare them."""
        return self.book.positions.view(np.int64).reshape(len(self.positions), -1)

    @cached_property
    def sizes(self) -> Floats:
        """[S] signed coins held."""
        return np.asarray(self.positions["size"])

    @cached_property
    def log(self) -> Any:
        """[N] log, as plain structures of `kernels.book.LOG`."""
        return _plain(self.book.log)

    @cached_property
    def last_steps(self) -> Ints:
        """[S] step of the symbol's last bar before its delisting; -1 while it is listed."""
        return np.asarray(_plain(self.terms)["last"][0])

    def size_of(self, symbol: str) -> float:
        """Return the signed coins held of a symbol; 0 for a symbol that is not in the book."""
        s = self.plan.index.get(symbol, -1)
        return float(self.sizes[s]) if s >= 0 else 0.0


def _plain(records: NDArray[np.record]) -> NDArray[Any]:
    """Return a view of records without their Python class."""
    return records.view(np.dtype((np.void, records.dtype)))


def make_plan(settings: Settings, offered: ConfigOffered) -> BookPlan:
    """Encode a config.

    A config that other kernels measured may have parameters that these kernels do not know, or lack some. It then gets
    the defaults of the missing ones; it may only exit.

    Raises:
        DataError: The config does not have the id that it claims.
        ConfigError: The strategy is unknown, or the config reads a benchmark symbol that it does not have.
    """
    resolved = _complete(from_dict(offered.config, offered.config_id))
    if (offered.anchor_ms % resolved.intervals.main_ms) != 0:
        raise DataError(
            f"config {offered.config_id[:12]}: anchor {offered.anchor_ms} ms is not the open time of a bar of "
            f"{resolved.interval}; promote it again"
        )
    columns = columns_for(resolved)
    combos = encode_combos(
        resolved.strategy,
        FeatureSet("", Path(), columns, np.empty(0)),
        resolved.params,
        1,
        resolved.symbols,
        resolved.symbol_params,
        benchmark=benchmark_of(read_catalog(), resolved, resolved.symbols),
    )
    return BookPlan(
        offered=offered,
        resolved=resolved,
        combos=combos,
        model=fill_model(resolved.market, resolved.initial_balance_usd),
        compiled=load_executor(settings, resolved.strategy),
        columns=feature_kernel.encode(columns),
        index={symbol: s for s, symbol in enumerate(resolved.symbols)},
        clock=_clock_of(resolved.intervals),
    )


def _clock_of(intervals: Intervals) -> StepClock:
    return StepClock(
        intervals.step, intervals.main, intervals.step_ms, intervals.main_ms, intervals.entry_ms, intervals.exit_ms
    )


def _complete(resolved: ResolvedConfig) -> ResolvedConfig:
    """Return the config with a value for every parameter of the present tables, and for no other."""
    catalog = read_catalog()
    if resolved.strategy not in catalog.strategies:
        raise ConfigError(f"config: strategy {resolved.strategy!r}: {catalog.unknown_strategy(resolved.strategy)}")
    table = catalog.strategies[resolved.strategy]
    own = {symbol: _known(table, values) for symbol, values in resolved.symbol_params.items()}
    return replace(
        resolved,
        params={path: each.default for path, each in table.items()} | _known(table, resolved.params),
        market={path: each.default for path, each in catalog.market.items()} | _known(catalog.market, resolved.market),
        symbol_params={symbol: values for symbol, values in own.items() if values},
    )


def _known(table: Table, values: Mapping[str, Value]) -> dict[str, Value]:
    """Return the values that a table allows."""
    wrong = problems(table, values)
    return {path: value for path, value in values.items() if path not in wrong}


def make_step_book(plan: BookPlan, initial_usd: float, *, decides: bool = True) -> StepBook:
    """Return a flat book before its first step.

    Args:
        plan: The config.
        initial_usd: Cash of the account.
        decides: False for a book of a fill model, which needs no features.
    """
    count = len(plan.symbols)
    book = make_book(plan.compiled.MEMORY, 1, count, 1, log_rows=_LOG_ROWS_PER_SYMBOL * count)
    plan.compiled.open_books(book, float(initial_usd))
    width = int(plan.columns[2][-1]) if decides else 0
    intervals = plan.intervals
    market = plan.combos.apply_to(_empty_market(count, intervals.step_ms / MINUTE_MS))
    terms = np.zeros((1, count), SYMBOL)
    terms["symbol_group"][0] = plan.combos.symbol_group
    terms["last"][0] = -1
    return StepBook(
        plan=plan,
        market=market,
        models=model_record(plan.model, market),
        terms=terms,
        book=book,
        main=np.full((4, count), np.nan),
        counts=np.zeros(count, np.int64),
        state=np.zeros((count, width)),
        columns=np.full((len(plan.columns[0]), 2, count), np.nan),
        rows=np.zeros(1, np.int64),
    )


def _empty_market(count: int, minutes: float) -> Market:
    """Return the arrays of one step of `count` symbols without bars; the kernels of a lane take terms as records."""
    prices: dict[str, Any] = {
        name: np.full((1, count), np.nan) for name in ("open", "high", "low", "close", "last_price")
    }
    terms: dict[str, Any] = {
        name: np.zeros((1, count)) for name in ("lots", "min_notional_usd", "max_leverage", "maintenance_frac")
    }
    clock: dict[str, Any] = {
        name: np.zeros(1, np.int64) for name in ("day_end", "block", "previous_row", "enters", "exits", "ends")
    }
    return Market(
        **prices,
        age=np.full((1, count), -1, np.int64),
        funding=np.zeros((1, count)),
        since=np.zeros(1, np.int64),
        **terms,
        last=np.full((1, count), -1, np.int64),
        row=np.full(1, -1, np.int64),
        **clock,
        symbol_group=np.zeros(count, np.int64),
        benchmark=np.full(1, -1, np.int64),
        minutes=np.array([minutes]),
    )


def take_bar(book: StepBook, bar: BarClosed) -> None:
    """Write a bar that ends with the current step into the arrays."""
    s = book.plan.index.get(bar.symbol, -1)
    if s < 0:
        return
    clock, market = book.plan.clock, book.market
    if bar.interval == clock.step:
        market.open[0, s] = bar.open
        market.high[0, s] = bar.high
        market.low[0, s] = bar.low
        market.close[0, s] = bar.close
    if bar.interval == clock.main:
        main = book.main
        main[0, s] = bar.high
        main[1, s] = bar.low
        main[2, s] = bar.close
        main[3, s] = bar.volume


def take_rate(book: StepBook, symbol: str, rate: float) -> None:
    """Add a funding rate that falls due in the current step."""
    s = book.plan.index.get(symbol, -1)
    if s >= 0:
        book.market.funding[0, s] += rate


def take_terms(book: StepBook, changes: Mapping[str, tuple[InstrumentChanged, ...]], step_ms: int) -> None:
    """Put the terms into force that hold at the close of a step.

    Args:
        book: The book.
        changes: Changes of each symbol, oldest first; the first one of a symbol holds from the beginning.
        step_ms: Open time of the step.
    """
    close_ms = step_ms + book.plan.clock.step_ms
    for symbol, s in book.plan.index.items():
        known = changes.get(symbol, ())
        held = [change for i, change in enumerate(known) if i == 0 or change.from_ms <= close_ms]
        if not held:
            continue
        now = held[-1]
        last = -1 if now.last_open_ms is None else book.plan.step_number(now.last_open_ms)
        book.terms[0, s] = (
            10.0**now.size_decimals,
            now.min_notional_usd,
            now.max_leverage,
            now.maintenance_margin_frac,
            book.terms["symbol_group"][0, s],
            last,
        )


def begin_step(book: StepBook, step_ms: int) -> None:
    """Complete the arrays of a step after all of its bars: features, ages, last prices and times."""
    market, clock = book.market, book.plan.clock
    close_ms = step_ms + clock.step_ms
    passed_ms = close_ms - book.plan.offered.anchor_ms
    closes_main = passed_ms % clock.main_ms == 0
    if closes_main:
        high, low, close, volume = book.main
        if book.state.shape[1]:
            feature_kernel.observe(*book.plan.columns, book.state, book.columns, high, low, close, volume)
        np.add(book.counts, ~np.isnan(close), out=book.counts)
        book.rows[0] += 1
    present = ~np.isnan(market.close[0])
    market.age.fill(-1)
    np.subtract(book.counts, 1, out=market.age[0], where=present)
    np.copyto(market.last_price[0], market.close[0], where=present)
    market.row[0] = 1 if book.rows[0] else -1
    # The row before the first one is the first one itself, as in a sweep.
    market.previous_row[0] = 0 if closes_main and book.rows[0] > 1 else 1
    market.enters[0] = passed_ms % clock.entry_ms == 0
    market.exits[0] = passed_ms % clock.exit_ms == 0
    market.day_end[0] = close_ms % DAY_MS == 0
    t = book.plan.step_number(step_ms)
    market.ends[0] = np.count_nonzero(book.last_steps == t) != 0
    book.models["origin"] = t


def end_step(book: StepBook) -> None:
    """Mark the book to market at the close of its current step, and clear the bars of that step."""
    market = book.market
    book.plan.compiled.finish_step(book.book, market.last_price[0], int(market.day_end[0]), int(market.block[0]))
    clear_step(book)


def clear_step(book: StepBook) -> None:
    """Remove the bars and funding rates of the current step."""
    market = book.market
    for prices in (market.open, market.high, market.low, market.close):
        prices.fill(np.nan)
    market.funding.fill(0.0)
    market.age.fill(-1)
    book.main.fill(np.nan)


def equity_of(book: StepBook) -> float:
    """Return cash plus unrealised profit at last prices, in USD."""
    return float(book.account["cash"]) + unrealised_of(book)


def unrealised_of(book: StepBook) -> float:
    """Return the unrealised profit at last prices, in USD."""
    total = 0.0
    for s in book.sizes.nonzero()[0].tolist():
        position = book.positions[s]
        total += float(position["size"]) * (float(book.market.last_price[0, s]) - float(position["entry"]))
    return total


def to_lots(coins: float, decimals: int) -> tuple[int, int]:
    """Return signed coins as a whole number of lots, and the decimals of such a lot.

    A position that was opened when lots were smaller may need smaller lots than today's.

    Raises:
        Fatal: The size is no whole number of any lot.
    """
    for more in range(decimals, max(decimals, _MOST_DECIMALS) + 1):
        lots = round(coins * 10.0**more)
        if lots / 10.0**more == coins:
            return lots, more
    raise Fatal(f"size {coins!r}: not a whole number of lots of {decimals} decimals or more")


def to_coins(lots: int, decimals: int) -> float:
    """Return the signed coins of a number of lots."""
    return lots / 10.0**decimals


def size_decimals(book: StepBook, s: int) -> int:
    """Return the decimals of sizes of symbol number `s`."""
    return round(math.log10(float(book.terms["lots"][0, s])))
