"""The benchmark `live`: the work of an executor at the close of a bar, for 50 symbols and 20 positions.

`Follower` advances the feature columns and takes one step of the simulation, in arrays that are allocated once. Its
book equals that of a replay, to the last bit.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from kernels import features as kernel
from kernels.book import Book, make_book
from kernels.market import FillModel, Floats, Ints, Market, fill_model, model_record, symbol_records
from kernels.params import Value
from mei_pipeline.bench.portfolio import make
from mei_pipeline.bench.work import BenchWork
from mei_pipeline.errors import ConfigError
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.combos import Combos, encode_combos
from mei_pipeline.simulation.feature_sets import FeatureSet
from mei_pipeline.simulation.run import load_simulation

PRICES = ("open", "high", "low", "close", "last_price", "funding")
_CLOCK = ("day_end", "block", "enters", "exits", "ends")
_DAYS = 60
_EAGER: dict[str, Value] = {
    "trade.entry_min_confidence": "medium",
    "trade.allocation_frac": 0.02,
    "trade.max_entry_orders_per_step": 256,
    "trade.sl_atr_mult": 20.0,
    "trade.tp_atr_mult": 50.0,
    "trade.trailing_start_atr": 50.0,
    "trade.enable_breakeven_stop": False,
    "trade.enable_stagnation_exit": False,
    "trade.enable_rsi_overextension_exit": False,
}
"""Parameter values that fill a book soon and keep it full, while all exits are still tested."""


class Message(NamedTuple):
    """Data of a step that are known at its close.

    Attributes:
        prices: [6, S] the fields `PRICES` of the market.
        clock: [5] the fields `day_end`, `block`, `enters`, `exits` and `ends` of the market.
        age: [S] number of closed main bars of each symbol, minus one.
    """

    prices: Floats
    clock: Ints
    age: Ints


def message_of(market: Market, t: int) -> Message:
    """Return the data of step `t` of a market."""
    return Message(
        np.array([getattr(market, name)[t] for name in PRICES]),
        np.array([getattr(market, name)[t] for name in _CLOCK]),
        market.age[t],
    )


class Follower:
    """A combo that is advanced bar by bar; all arrays are allocated once.

    The market of the simulation has a single step. `origin` of the model is the number of that step.
    """

    def __init__(
        self, compiled: ModuleType, model: FillModel, features: FeatureSet, combos: Combos, market: Market
    ) -> None:
        """Start flat, before the first bar; only the terms of the symbols are read from `market`."""
        symbols = market.close.shape[1]
        self._compiled = compiled
        self._kinds = kernel.encode(features.columns)
        self._state = np.zeros((symbols, int(self._kinds[2][-1])))
        self._columns = np.full((len(features.columns), 2, symbols), np.nan)
        self._no_columns = np.empty((len(features.columns), 2, 0))
        self._prices = np.full((len(PRICES), 1, symbols), np.nan)
        self._clock = np.zeros((len(_CLOCK), 1), np.int64)
        views: dict[str, Any] = {
            **dict(zip(PRICES, self._prices, strict=True)),
            **dict(zip(_CLOCK, self._clock, strict=True)),
        }
        self._market = combos.apply_to(market)._replace(
            **views,
            age=market.age[:1].copy(),
            row=np.ones(1, np.int64),
            previous_row=np.zeros(1, np.int64),
        )
        self.book: Book = make_book(compiled.MEMORY, 1, symbols, 1)
        compiled.open_books(self.book, model.initial_usd)
        self._model = model_record(model, self._market)
        self._fixed = (
            self._model,
            symbol_records(self._market),
            self._columns,
            combos.column_of,
            combos.signal_params,
            combos.signal_group_of[:1],
            combos.params[:1],
        )

    def prepare(self, message: Message, t: int) -> None:
        """Write the bars of step `t` into the arrays, as an executor does with data of the venue."""
        self._prices[:, 0] = message.prices
        self._clock[:, 0] = message.clock
        self._market.age[0] = message.age
        self._model["origin"] = t

    def observe(self, volume: Floats) -> None:
        """Advance the columns by the bars of `prepare` and their `volume` [S]."""
        market = self._market
        kernel.observe(*self._kinds, self._state, self._columns, market.high[0], market.low[0], market.close[0], volume)

    def observe_nothing(self) -> None:
        """Advance the columns of zero symbols, to measure the cost of the call."""
        empty = self._prices[0, 0, :0]
        kernel.observe(*self._kinds, self._state, self._no_columns, empty, empty, empty, empty)

    def decide(self) -> None:
        """Move the book through the step of `prepare`."""
        self._compiled.run(self._market, *self._fixed, 0, 1, self.book)

    def decide_nothing(self) -> None:
        """Call the simulation for zero steps, to measure the cost of the call."""
        self._compiled.run(self._market, *self._fixed, 0, 0, self.book)


@dataclass(frozen=True)
class LiveFigures:
    """Times per bar in microseconds, as medians over the measured bars.

    Attributes:
        work: Name of the work.
        device: Device that ran it.
        symbols: Number of symbols.
        positions: Mean number of positions at the measured bars.
        bars: Number of measured bars.
        us_per_bar: Sum of `prepare_us`, `observe_us` and `decide_us`.
        prepare_us: Time to write the bars into the arrays.
        observe_us: Time to advance the columns, calls included.
        observe_call_us: Time of a call for zero symbols, a part of `observe_us`.
        decide_us: Time of the step of the simulation, call included.
        call_us: Time of a call for zero steps, a part of `decide_us`.
    """

    work: str
    device: str
    symbols: int
    positions: float
    bars: int
    us_per_bar: float
    prepare_us: float
    observe_us: float
    observe_call_us: float
    decide_us: float
    call_us: float

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


def run_live(
    settings: Settings, work: BenchWork | None = None, *, places: int = 20, progress: Progress = silent
) -> LiveFigures:
    """Follow a market bar by bar, and measure the bars at which all places are taken.

    Args:
        settings: Settings, for the folder of compiled kernels.
        work: Market and grid, whose first combo is followed; by default sixty days of the portfolio's.
        places: Number of positions, which is also the limit of the book, at which bars are measured.
        progress: Called after each day of the market.

    Raises:
        ConfigError: The book never holds that many positions.
    """
    bench_work = work or make(days=_DAYS, combos=1, progress=progress)
    follower = follow(settings, bench_work, {"trade.max_open_positions": places, **_EAGER})
    bars, cut = bench_work.bars, bench_work.cut
    timings: list[tuple[float, ...]] = []
    held: list[float] = []
    for t in range(cut.first, cut.last):
        message = message_of(cut.market, t)
        parts = (
            _us(follower.prepare, message, t),
            _us(follower.observe, bars.volume[t]),
            _us(follower.observe_nothing),
            _us(follower.decide_nothing),
            _us(follower.decide),
        )
        positions = float(follower.book.accounts["open_positions"][0])
        if positions >= places:
            timings.append(parts)
            held.append(positions)
    if not timings:
        raise ConfigError(
            f"live: the book never holds {places} positions in {len(bars.symbols)} symbols; choose fewer places"
        )
    prepare, observe, observe_call, call, decide = (statistics.median(part) for part in zip(*timings, strict=True))
    return LiveFigures(
        work="live",
        device="cpu",
        symbols=len(bars.symbols),
        positions=statistics.fmean(held),
        bars=len(timings),
        us_per_bar=prepare + observe + decide,
        prepare_us=prepare,
        observe_us=observe,
        observe_call_us=observe_call,
        decide_us=decide,
        call_us=call,
    )


def follow(settings: Settings, work: BenchWork, changes: Mapping[str, Value] | None = None) -> Follower:
    """Return a follower of the first combo of `work`, with the values of `changes`."""
    plan = work.plan
    features = FeatureSet("", Path(), plan.columns(), np.empty(0))
    values = {**plan.combo(int(work.numbers[0])), **(changes or {})}
    combos = encode_combos(
        plan.strategy, features, values, 1, plan.symbols, plan.symbol_params, benchmark=plan.benchmark
    )
    model = fill_model(plan.market, plan.initial_balance_usd)
    return Follower(load_simulation(settings, plan.strategy), model, features, combos, work.cut.market)


def _us(function: Callable[..., None], *arguments: Any) -> float:
    """Return the duration of a call in microseconds."""
    start = time.perf_counter_ns()
    function(*arguments)
    return (time.perf_counter_ns() - start) / 1000.0
