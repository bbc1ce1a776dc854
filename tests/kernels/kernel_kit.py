"""Run a compiled simulation on what `naive` describes, any strategy on any clock, and compare it with the twin."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import NamedTuple

import naive
import numba
import numpy as np
import scripted
from naive import Bar, Clock, Fill, Rules, Sizing, Symbol

from kernels import features
from kernels.blocks import BLOCKS
from kernels.book import MOMENTS, REASONS, Book, make_book
from kernels.market import FillModel, Floats, Ints, Market, last_prices_of, model_record, symbol_records
from kernels.params import Parameter, Value, record_of
from kernels.strategies import ema_cross

Script = list[list[tuple[float, ...]]]
"""[T][S], by main bar: side, rank, stop distance, target distance; and, where there are any, coins to add, the
fraction that the strategy's own exit closes, and the minutes that must have passed since an exit left the side."""

STEPS_PER_DAY = 4

RESULTS = {
    "equity_usd": "equity",
    "max_drawdown_usd": "drawdown",
    "max_drawdown_frac": "drawdown_frac",
    "trades": "trades",
    "wins": "wins",
    "gross_profit_usd": "gross_profit",
    "gross_loss_usd": "gross_loss",
    "fees_usd": "fees",
    "funding_usd": "funding",
    "turnover_usd": "turnover",
    "fills": "fills",
    "bars_held": "bars_held",
    "open_positions": "open_positions",
    "liquidations": "liquidations",
    "refused": "refused",
}
"""Results of the twin, and the field of the account that holds each."""


@dataclass(frozen=True)
class Case:
    """A market and parameters for it: values of every path, and values that single symbols have instead."""

    symbols: list[Symbol]
    rules: Rules
    values: Mapping[str, Value]
    own: Mapping[int, Mapping[str, Value]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    clock: Clock = naive.HOURLY
    first: int = 0

    @property
    def steps(self) -> int:
        return len(self.symbols[0].bars)

    @property
    def groups(self) -> tuple[list[Mapping[str, Value]], list[int]]:
        """The distinct sets of values, the base first, and which each symbol has."""
        distinct: list[Mapping[str, Value]] = [self.values]
        groups = []
        for s in range(len(self.symbols)):
            values = {**self.values, **self.own.get(s, {})}
            if values not in distinct:
                distinct.append(values)
            groups.append(distinct.index(values))
        return distinct, groups


@dataclass(frozen=True)
class Outcome:
    """What a run says: figures, fills, equity at each close and daily returns by block."""

    results: dict[str, float]
    fills: list[Fill]
    equity: list[float]
    days: Floats


@dataclass
class Scripted(naive.Strategy):
    """The scripted strategy for the twin."""

    script: Script
    clock: Clock = naive.HOURLY

    def seen(self, t: int, s: int) -> tuple[float, ...]:
        """What the script says at the last main bar."""
        return padded(self.script[self.clock.row(t)][s])

    def wish(self, t: int, s: int, age: int) -> tuple[float, float]:  # noqa: ARG002 - other strategies need the age
        side, rank, *_ = self.seen(t, s)
        return side, rank

    def admits(self, t: int, s: int, minutes: float) -> bool:
        return minutes >= self.seen(t, s)[6]

    def distances(self, t: int, s: int) -> tuple[float, float]:
        _, _, stop, target, *_ = self.seen(t, s)
        return stop, target

    def addition(self, t: int, s: int, position: naive.Position, value: float, minutes: float) -> float:  # noqa: ARG002 - as above
        return self.seen(t, s)[4]

    def leave(self, t: int, s: int, position: naive.Position) -> tuple[str, float] | None:  # noqa: ARG002 - as above
        fraction = self.seen(t, s)[5]
        return ("scripted", fraction) if fraction else None


def padded(wish: tuple[float, ...]) -> tuple[float, ...]:
    """A wish with all of its columns."""
    return (*wish, *[0.0] * (len(scripted.FEATURES) - len(wish)))


def grid(series: list[list[Bar | None]], name: str) -> Floats:
    """[T, S] of one price, NaN where there is no bar."""
    columns = [[getattr(bar, name) if bar else np.nan for bar in bars] for bars in series]
    return np.array(columns, dtype=np.float64).T.copy()


def calendar(steps: int) -> tuple[Ints, Ints]:
    """Which steps end a day, and the block of each step."""
    t = np.arange(steps)
    return (t % STEPS_PER_DAY == STEPS_PER_DAY - 1).astype(np.int64), (t * BLOCKS // max(steps, 1)).astype(np.int64)


def to_market(case: Case) -> Market:
    """The arrays that the simulation reads."""
    symbols, clock, steps = case.symbols, case.clock, range(case.steps)
    prices = [grid([symbol.bars for symbol in symbols], name) for name in ("open", "high", "low", "close")]
    day_end, block = calendar(case.steps)
    since = sorted({0, *(step for symbol in symbols for step, _ in symbol.later)})
    benchmark = next((case.names.index(name) for name in ("BTC", "BTCUSDT") if name in case.names), -1)
    return Market(
        *prices,
        last_price=last_prices_of(prices[3]),
        age=np.array([[symbol.age(t, clock) for symbol in symbols] for t in steps], dtype=np.int64),
        funding=np.array([symbol.funding for symbol in symbols]).T.copy(),
        since=np.array(since, dtype=np.int64),
        **{
            name: np.array([[float(getattr(symbol.at(t), name)) for symbol in symbols] for t in since])
            for name in ("lots", "min_notional_usd", "max_leverage", "maintenance_frac")
        },
        last=np.array([[symbol.last for symbol in symbols] for _ in since], dtype=np.int64),
        day_end=day_end,
        block=block,
        row=np.array([clock.row(t) for t in steps], dtype=np.int64),
        previous_row=np.array([clock.before(t) for t in steps], dtype=np.int64),
        enters=np.array([clock.enters(t) for t in steps], dtype=np.int64),
        exits=np.array([clock.exits(t) for t in steps], dtype=np.int64),
        ends=np.array([any(symbol.last == t for symbol in symbols) for t in steps], dtype=np.int64),
        symbol_group=np.array(case.groups[1], dtype=np.int64),
        benchmark=np.array([benchmark], dtype=np.int64),
        minutes=np.array([clock.minutes]),
    )


def to_model(rules: Rules) -> FillModel:
    return FillModel(
        int(rules.next_open),
        int(rules.intrabar),
        rules.delay_bars,
        rules.fee,
        rules.entry_slip,
        rules.exit_slip,
        rules.initial_usd,
    )


def build(symbols: list[Symbol], wanted: list[features.Column]) -> Floats:
    """Feature columns [C, T, S] over the main bars."""
    prices = [grid([symbol.main_bars for symbol in symbols], name) for name in ("high", "low", "close", "volume")]
    out = np.empty((len(wanted), *prices[0].shape))
    scratch = np.empty((len(symbols), max(map(features.state_size, wanted))))
    features.build(*features.encode(wanted), *prices, out, scratch)
    return out


def columns_of(strategy: ModuleType, case: Case) -> tuple[Floats, Ints]:
    """Every feature column of a case, and the rows [1, G, F] of each group."""
    columns = [
        [features.Column(use.kind, tuple(int(values[path]) for path in use.paths)) for use in strategy.FEATURES]
        for values in case.groups[0]
    ]
    wanted = sorted({column for row in columns for column in row})
    return build(case.symbols, wanted), np.array([[[wanted.index(column) for column in row] for row in columns]])


def encode(parameters: list[Parameter], groups: list[Mapping[str, Value]]) -> np.ndarray:
    """[1, G] records."""
    rows = [tuple(parameter.encode(values[parameter.path]) for parameter in parameters) for values in groups]
    return np.array([rows], dtype=record_of(parameters))


class Inputs(NamedTuple):
    """What `run` is given besides steps and book."""

    market: Market
    models: np.ndarray
    symbols: np.ndarray
    columns: Floats
    column_of: Ints
    signal_params: np.ndarray
    signal_group_of: Ints
    params: np.ndarray


def inputs_of(
    strategy: ModuleType, case: Case, given: tuple[Floats, Ints] | None = None, size_mult: float = 1.0
) -> Inputs:
    """The arrays of one combo; columns and rows may be given instead of built."""
    columns, rows = given or columns_of(strategy, case)
    shaping = [parameter for parameter in strategy.PARAMETERS if parameter.role in {"feature", "entry"}]
    market = to_market(case)
    return Inputs(
        market,
        model_record(to_model(case.rules)._replace(size_mult=size_mult), market),
        symbol_records(market),
        columns,
        rows,
        encode(shaping, case.groups[0]),
        np.zeros(1, dtype=np.int64),
        encode(list(strategy.PARAMETERS), case.groups[0]),
    )


class PlainRecord(np.record):
    """A record whose fields hide numpy's attributes, `size` for one, as they do in compiled code."""

    def __getattribute__(self, name: str) -> object:
        fields = super().__getattribute__("dtype").fields
        return self[name] if name in fields else super().__getattribute__(name)


def fields_win(dtype: np.dtype) -> np.dtype:
    """The record for compiled and uncompiled kernels alike."""
    return np.dtype((PlainRecord, dtype)) if numba.config.DISABLE_JIT else dtype


def blank_book(memory: tuple[str, ...], combos: int, symbols: int, tile: int, log_rows: int, steps: int) -> Book:
    """A book that compiled and uncompiled simulations read alike."""
    book = make_book(memory, combos, symbols, tile, log_rows=log_rows, recorded_steps=steps)
    return book._replace(positions=book.positions.view(fields_win(book.positions.dtype)))


def new_book(
    simulation: ModuleType, case: Case, *, tile: int = 64, log_rows: int = -1, combos: int = 1, recorded: bool = True
) -> Book:
    """A flat book that records everything."""
    symbols = len(case.symbols)
    rows = 8 * case.steps * symbols + 8 if log_rows < 0 else log_rows
    book = blank_book(simulation.MEMORY, combos, symbols, tile, rows, case.steps if recorded else 0)
    simulation.open_books(book, case.rules.initial_usd)
    return book


def read_log(simulation: ModuleType, book: Book) -> list[Fill]:
    count = int(book.accounts[0].logged)
    assert count <= len(book.log)
    reasons = (*REASONS, *simulation.EXITS)
    return [
        Fill(
            int(row["step"]),
            int(row["symbol"]),
            reasons[int(row["reason"])],
            MOMENTS[int(row["moment"])],
            *(float(row[name]) for name in ("size", "price", "fee", "cash", "held")),
        )
        for row in book.log[:count]
    ]


def outcome_of(simulation: ModuleType, book: Book, first: int = 0, k: int = 0, *, fills: bool = True) -> Outcome:
    """What a book says of combo k; fills and equity are those of the last combo that ran."""
    results = {name: float(book.accounts[k][account_field]) for name, account_field in RESULTS.items()}
    logged = read_log(simulation, book) if fills else []
    return Outcome(results, logged, book.equity[first:].tolist(), book.days[:, :, k].copy())


def run_simulation(
    simulation: ModuleType,
    strategy: ModuleType,
    case: Case,
    given: tuple[Floats, Ints] | None = None,
    tile: int = 64,
    size_mult: float = 1.0,
) -> Outcome:
    """What the compiled simulation does; columns and rows may be given instead of built."""
    book = new_book(simulation, case, tile=tile)
    simulation.run(*inputs_of(strategy, case, given, size_mult), case.first, case.steps, book)
    return outcome_of(simulation, book, case.first)


def twin_of(case: Case, strategy: naive.Strategy, sizing: Sizing | None = None) -> Outcome:
    """What the plain Python twin does."""
    book = naive.Book(case.symbols, case.rules, sizing or Sizing(), strategy, case.clock).run(case.first, case.steps)
    day_end, block = calendar(case.steps)
    days = np.zeros((BLOCKS, 3))
    returns = naive.daily(book.equity, case.rules.initial_usd, [bool(end) for end in day_end[case.first :]])
    for value, number in zip(returns, block[case.first :], strict=True):
        if value is not None:
            n, one, two = (float(x) for x in days[number])
            days[number] = n + 1, one + value, two + value * value
    return Outcome(book.results(), book.fills, book.equity, days)


CROSS_PATHS = (
    "indicators.ema_fast_window",
    "indicators.ema_slow_window",
    "indicators.atr_window",
    "entry.warmup_bars",
    "trade.sl_atr_mult",
    "trade.tp_atr_mult",
)


NO_CROSS = (1, 1, 1, 1, 1.0, 1.0)
"""Windows and distances for a strategy that has none."""


def plain_values(sizing: Sizing, cross: tuple) -> dict[str, Value]:
    """Parameters of `ema_cross`, which the scripted strategy has too: (fast, slow, window, warmup, sl, tp)."""
    units = sizing.frac is None
    return {
        **dict(zip(CROSS_PATHS, cross, strict=True)),
        "trade.size_mode": "units" if units else "equity",
        "trade.size_frac": 0.0 if units else sizing.frac,
        "trade.size_units": sizing.units,
        "trade.leverage": sizing.leverage,
        "trade.max_open_positions": sizing.places,
        "trade.max_total_margin_frac": sizing.margin_frac,
        "trade.max_entry_orders_per_step": sizing.orders,
        "trade.min_notional_usd": sizing.min_notional_usd,
        "trade.bump_to_min_notional": sizing.bump,
        "trade.shrink_to_fit": sizing.shrink,
    }


def script_columns(script: Script) -> tuple[Floats, Ints]:
    """The columns of a script, and their rows."""
    whole = [[padded(wish) for wish in row] for row in script]
    count = len(scripted.FEATURES)
    return np.array(whole, dtype=np.float64).transpose(2, 0, 1).copy(), np.arange(count).reshape(1, 1, count)


def run_scripted(
    simulation: ModuleType,
    symbols: list[Symbol],
    rules: Rules,
    sizing: Sizing,
    script: Script,
    first: int = 0,
    clock: Clock = naive.HOURLY,
) -> Outcome:
    """The compiled simulation on a script."""
    case = Case(symbols, rules, plain_values(sizing, NO_CROSS), clock=clock, first=first)
    return run_simulation(simulation, scripted, case, script_columns(script))


def run_cross(
    simulation: ModuleType,
    symbols: list[Symbol],
    rules: Rules,
    sizing: Sizing,
    cross: tuple,
    first: int = 0,
    clock: Clock = naive.HOURLY,
) -> Outcome:
    """The compiled simulation with `ema_cross` (fast, slow, window, warmup, sl, tp)."""
    case = Case(symbols, rules, plain_values(sizing, cross), clock=clock, first=first)
    return run_simulation(simulation, ema_cross, case)


def run_twin(
    symbols: list[Symbol],
    rules: Rules,
    sizing: Sizing,
    strategy: naive.Strategy,
    first: int = 0,
    clock: Clock = naive.HOURLY,
) -> Outcome:
    """The plain Python twin of a plain strategy."""
    return twin_of(Case(symbols, rules, {}, clock=clock, first=first), strategy, sizing)


def bits(values) -> list[int]:
    """Floats as their bits, every NaN alike."""
    array = np.asarray(values, dtype=np.float64)
    return np.where(np.isnan(array), np.nan, array).view(np.int64).ravel().tolist()


def assert_same(kernel: Outcome, twin: Outcome) -> None:
    """Equal to the last bit."""
    for ours, theirs in zip(kernel.fills, twin.fills, strict=False):
        assert ours == theirs or bits(list(vars(ours).values())[4:]) == bits(list(vars(theirs).values())[4:])
        assert (ours.t, ours.s, ours.reason, ours.moment) == (theirs.t, theirs.s, theirs.reason, theirs.moment)
    assert len(kernel.fills) == len(twin.fills)
    assert bits(kernel.equity) == bits(twin.equity)
    assert kernel.results.keys() == twin.results.keys()
    for name, value in kernel.results.items():
        assert bits([value]) == bits([twin.results[name]]), name
    assert bits(kernel.days) == bits(twin.days)


def candle(*prices: float) -> Bar:
    """A bar of (open, high, low, close), or of one price."""
    return Bar(*(prices if len(prices) == 4 else prices * 4))


NO_OPINION = (0.0, 0.0, 0.0, 0.0)


def one(bars: list[Bar | None], funding: dict[int, float] | None = None, **terms: float) -> Symbol:
    """A symbol with lots of 0.01 coins and funding rates by bar."""
    rates = [(funding or {}).get(t, 0.0) for t in range(len(bars))]
    return Symbol(bars, rates, **{"lots": 100.0, **terms})


def script_of(wishes: Mapping[tuple[int, int], tuple[float, ...]], rows: int, symbols: int) -> Script:
    """The script that says `wishes` {(main bar, s): wish} and else nothing."""
    return [[wishes.get((row, s), NO_OPINION) for s in range(symbols)] for row in range(rows)]


def play(
    simulation: ModuleType,
    symbols: Sequence[Symbol],
    wishes: dict,
    rules: Rules,
    sizing: Sizing,
    clock: Clock = naive.HOURLY,
) -> Outcome:
    """Play `wishes` {(main bar, s): wish} with simulation and twin, which must agree."""
    script = script_of(wishes, len(symbols[0].main_bars), len(symbols))
    kernel = run_scripted(simulation, list(symbols), rules, sizing, script, clock=clock)
    assert_same(kernel, run_twin(list(symbols), rules, sizing, Scripted(script, clock), clock=clock))
    return kernel
