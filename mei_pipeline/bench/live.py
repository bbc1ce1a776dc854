"""The work of an executor, "live": one bar of 50 symbols with 20 positions held, arrays prepared in place.

`Follower` is what an executor does at the close of a bar: new values of the columns, then one step of the engine. Its
book is the one of a replay, to the last bit.
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
from mei_pipeline.bench.work import Work
from mei_pipeline.errors import ConfigError
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.feature_sets import FeatureSet
from mei_pipeline.simulation.run import Combos, encode_combos, load_simulation

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
"""Values with which a book is soon full, and stays so; every exit is still asked for."""


class Message(NamedTuple):
    """What becomes known when a step closes.

    Attributes:
        prices: [6, S] the fields `PRICES` of the market.
        clock: [5] whether a day ends, the block of days, whether entries and exits are decided, and whether a symbol's
            last bar before its delisting closes.
        age: [S] main bars of each symbol that have closed, less one.
    """

    prices: Floats
    clock: Ints
    age: Ints


def message_of(market: Market, t: int) -> Message:
    """What becomes known of `market` when step `t` closes."""
    return Message(
        np.array([getattr(market, name)[t] for name in PRICES]),
        np.array([getattr(market, name)[t] for name in _CLOCK]),
        market.age[t],
    )


class Follower:
    """One combo over one market, advanced a bar at a time; all arrays are allocated once.

    The market that the engine sees has a single step; the model's `origin` says which one of all it is.
    """

    def __init__(
        self, compiled: ModuleType, model: FillModel, features: FeatureSet, combos: Combos, market: Market
    ) -> None:
        """Begin flat, before the first bar of `market`, of which only the terms of the symbols are used."""
        symbols = market.close.shape[1]
        self._compiled = compiled
        self._kinds = kernel.encode(features.columns)
        self._state = np.zeros((symbols, int(self._kinds[2][-1])))
        self._columns = np.full((len(features.columns), 2, symbols), np.nan)
        self._nothing = np.empty((len(features.columns), 2, 0))
        self._prices = np.full((len(PRICES), 1, symbols), np.nan)
        self._clock = np.zeros((len(_CLOCK), 1), np.int64)
        views: dict[str, Any] = {
            **dict(zip(PRICES, self._prices, strict=True)),
            **dict(zip(_CLOCK, self._clock, strict=True)),
        }
        self._market = combos.on(market)._replace(
            **views,
            age=market.age[:1].copy(),
            row=np.ones(1, np.int64),
            before=np.zeros(1, np.int64),
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
        """Put the bars of step `t` into place, as an executor does with what the venue sends."""
        self._prices[:, 0] = message.prices
        self._clock[:, 0] = message.clock
        self._market.age[0] = message.age
        self._model["origin"] = t

    def observe(self, volume: Floats) -> None:
        """Advance the columns by the bars in place; `volume` [S] belongs to them."""
        here = self._market
        kernel.observe(*self._kinds, self._state, self._columns, here.high[0], here.low[0], here.close[0], volume)

    def observe_nothing(self) -> None:
        """Advance the columns of no symbol: what the call alone costs."""
        none = self._prices[0, 0, :0]
        kernel.observe(*self._kinds, self._state, self._nothing, none, none, none, none)

    def decide(self) -> None:
        """Move the book through the step."""
        self._compiled.run(self._market, *self._fixed, 0, 1, self.book)

    def decide_nothing(self) -> None:
        """Call the engine for no step: what the call alone costs."""
        self._compiled.run(self._market, *self._fixed, 0, 0, self.book)


@dataclass(frozen=True)
class LiveFigures:
    """What a bar costs; medians of the bars that were measured, in microseconds.

    Attributes:
        work: Name of the work.
        device: What ran it.
        symbols: Symbols of the market.
        positions: Positions held at each bar measured, on average.
        bars: How many bars were measured.
        us_per_bar: All of what follows, calls included.
        prepare_us: Bars put into place.
        observe_us: Columns advanced, with the call.
        observe_call_us: Of that, what a call for no symbol costs.
        decide_us: The engine's step, with its call.
        call_us: Of that, what a call for no step costs.
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
        """The figures by name."""
        return asdict(self)


def run_live(
    settings: Settings, work: Work | None = None, *, places: int = 20, progress: Progress = silent
) -> LiveFigures:
    """Follow a market bar by bar and time the bars at which all places are taken.

    Args:
        settings: Says where compiled kernels are kept.
        work: Market and grid, whose first combo is followed; by default sixty days of the portfolio's.
        places: Positions that a bar must hold to count; no more are opened.
        progress: Told of each day.

    Raises:
        ConfigError: The book never holds so many positions.
    """
    made = work or make(days=_DAYS, combos=1, progress=progress)
    follower = follow(settings, made, {"trade.max_open_positions": places, **_EAGER})
    bars, cut = made.bars, made.cut
    taken: list[tuple[float, ...]] = []
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
            taken.append(parts)
            held.append(positions)
    if not taken:
        raise ConfigError(f"live: {places} positions were never held in {len(bars.symbols)} symbols; ask for fewer")
    prepare, observe, observe_call, call, decide = (statistics.median(part) for part in zip(*taken, strict=True))
    return LiveFigures(
        work="live",
        device="cpu",
        symbols=len(bars.symbols),
        positions=statistics.fmean(held),
        bars=len(taken),
        us_per_bar=prepare + observe + decide,
        prepare_us=prepare,
        observe_us=observe,
        observe_call_us=observe_call,
        decide_us=decide,
        call_us=call,
    )


def follow(settings: Settings, work: Work, changes: Mapping[str, Value] | None = None) -> Follower:
    """A follower of the first combo of `work`, with some values changed, flat before the first bar."""
    plan = work.plan
    features = FeatureSet("", Path(), plan.columns(), np.empty(0))
    values = {**plan.combo(int(work.numbers[0])), **(changes or {})}
    combos = encode_combos(
        plan.strategy, features, values, 1, plan.symbols, plan.symbol_params, benchmark=plan.benchmark
    )
    model = fill_model(plan.market, plan.initial_balance_usd)
    return Follower(load_simulation(settings, plan.strategy), model, features, combos, work.cut.market)


def _us(function: Callable[..., None], *arguments: Any) -> float:
    """Microseconds of a call."""
    start = time.perf_counter_ns()
    function(*arguments)
    return (time.perf_counter_ns() - start) / 1000.0
