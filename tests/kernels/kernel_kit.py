"""Run the compiled engine on what `naive` describes, and compare the two."""

from dataclasses import dataclass
from types import ModuleType

import naive
import numpy as np
from naive import Bar, Fill, Rules, Sizing, Symbol

from kernels import book as kernels_book
from kernels import features
from kernels.ledger import BLOCKS, POSITION_FIELDS
from kernels.market import FillModel, Floats, Ints, Market
from kernels.strategies import ema_cross

Script = list[list[tuple[float, float, float, float]]]
"""[T][S] of side, rank, stop distance, target distance."""


@dataclass(frozen=True)
class Outcome:
    """What a run says: figures, fills, equity at each close and daily returns by block."""

    results: dict[str, float]
    fills: list[Fill]
    equity: list[float]
    days: Floats


@dataclass
class Scripted:
    """The scripted strategy for the twin."""

    script: Script

    def wish(self, t: int, s: int, age: int) -> tuple[float, float]:  # noqa: ARG002 - other strategies need the age
        side, rank, _, _ = self.script[t][s]
        return side, rank

    def distances(self, t: int, s: int) -> tuple[float, float]:
        _, _, stop, target = self.script[t][s]
        return stop, target


def calendar(bars: int, bars_per_day: int) -> tuple[Ints, Ints]:
    """Which bars end a day, and the block of each bar."""
    t = np.arange(bars)
    return (t % bars_per_day == bars_per_day - 1).astype(np.int64), (t * BLOCKS // bars).astype(np.int64)


def to_market(symbols: list[Symbol], bars_per_day: int = 4) -> Market:
    """The arrays that the engine reads."""
    count = len(symbols[0].bars)
    prices = np.full((4, count, len(symbols)), np.nan)
    age = np.full((count, len(symbols)), -1, dtype=np.int64)
    for s, symbol in enumerate(symbols):
        for t, bar in enumerate(symbol.bars):
            if bar is not None:
                prices[:, t, s] = bar.open, bar.high, bar.low, bar.close
                age[t, s] = symbol.age(t)
    day_end, block = calendar(count, bars_per_day)
    return Market(
        *prices,
        age=age,
        funding=np.array([symbol.funding for symbol in symbols]).T.copy(),
        lots=np.array([symbol.lots for symbol in symbols]),
        min_notional_usd=np.array([symbol.min_notional_usd for symbol in symbols]),
        max_leverage=np.array([symbol.max_leverage for symbol in symbols]),
        maintenance_frac=np.array([symbol.maintenance_frac for symbol in symbols]),
        day_end=day_end,
        block=block,
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


def sizing_values(sizing: Sizing) -> list[float]:
    """Encoded sizing parameters, in the order that both strategies end with."""
    units = sizing.frac is None
    return [float(units), 0.0 if units else sizing.frac, sizing.units, sizing.leverage, float(sizing.places)]


def new_book(symbols: int, combos: int, log_rows: int, bars: int):
    return kernels_book.Book(
        positions=np.zeros((POSITION_FIELDS, symbols)),
        orders=np.zeros((kernels_book.ORDER_FIELDS, symbols)),
        marks=np.zeros(symbols),
        wants=np.zeros(symbols),
        ranks=np.zeros(symbols),
        log=np.zeros((kernels_book.LOG_FIELDS, log_rows)),
        logged=np.zeros(1, dtype=np.int64),
        equity=np.zeros(bars),
        days=np.zeros((BLOCKS, 3, combos)),
    )


def read_log(book) -> list[Fill]:
    count = int(book.logged[0])
    assert count <= book.log.shape[1]
    return [
        Fill(int(t), int(s), kernels_book.REASONS[int(reason)], kernels_book.MOMENTS[int(moment)], *map(float, rest))
        for t, s, reason, moment, *rest in book.log[:, :count].T
    ]


def run_arrays(engine, market, model, columns, rows, values, first, last) -> Outcome:
    """Run combo 0 with everything recorded."""
    bars, symbols = market.close.shape
    book = new_book(symbols, 1, 8 * bars * symbols + 8, bars)
    out = np.zeros((len(engine.RESULTS), 1))
    engine.run_range(market, model, columns, rows, values, 0, 1, first, last, book, out)
    results = dict(zip(engine.RESULTS, map(float, out[:, 0]), strict=True))
    return Outcome(results, read_log(book), book.equity[first:last].tolist(), book.days[:, :, 0])


def scripted_arrays(script: Script, sizing: Sizing) -> tuple[Floats, Ints, Floats]:
    columns = np.array(script, dtype=np.float64).transpose(2, 0, 1).copy()
    return columns, np.arange(4).reshape(4, 1), np.array(sizing_values(sizing)).reshape(-1, 1)


def run_scripted(
    engine: ModuleType, symbols: list[Symbol], rules: Rules, sizing: Sizing, script: Script, first: int = 0
) -> Outcome:
    """The compiled engine on a script."""
    columns, rows, values = scripted_arrays(script, sizing)
    return run_arrays(engine, to_market(symbols), to_model(rules), columns, rows, values, first, len(symbols[0].bars))


def cross_arrays(symbols: list[Symbol], sizing: Sizing, cross: tuple) -> tuple[Floats, Ints, Floats]:
    """Columns, rows and values of one `ema_cross` combo (fast, slow, window, warmup, sl, tp)."""
    market = to_market(symbols)
    fast, slow, window, *_ = cross
    wanted = [features.Column("ema", (fast,)), features.Column("ema", (slow,)), features.Column("atr", (window,))]
    columns = np.empty((3, *market.close.shape))
    scratch = np.empty((market.close.shape[1], max(map(features.state_size, wanted))))
    volume = np.zeros_like(market.close)
    features.build(*features.encode(wanted), market.high, market.low, market.close, volume, columns, scratch)
    values = np.array([*map(float, cross), *sizing_values(sizing)]).reshape(-1, 1)
    assert len(values) == len(ema_cross.PARAMETERS)
    return columns, np.arange(3).reshape(3, 1), values


def run_cross(
    engine: ModuleType, symbols: list[Symbol], rules: Rules, sizing: Sizing, cross: tuple, first: int = 0
) -> Outcome:
    """The compiled engine with `ema_cross`."""
    columns, rows, values = cross_arrays(symbols, sizing, cross)
    return run_arrays(engine, to_market(symbols), to_model(rules), columns, rows, values, first, len(symbols[0].bars))


def run_twin(symbols: list[Symbol], rules: Rules, sizing: Sizing, strategy: naive.Strategy, first: int = 0) -> Outcome:
    """The plain Python twin."""
    bars = len(symbols[0].bars)
    book = naive.Book(symbols, rules, sizing, strategy).run(first, bars)
    day_end, block = calendar(bars, 4)
    days = np.zeros((BLOCKS, 3))
    returns = naive.daily(book.equity, rules.initial_usd, [bool(end) for end in day_end[first:]])
    for value, number in zip(returns, block[first:], strict=True):
        if value is not None:
            n, one, two = (float(x) for x in days[number])
            days[number] = n + 1, one + value, two + value * value
    return Outcome(book.results(), book.fills, book.equity, days)


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


def play(engine: ModuleType, symbols: list[Symbol], wishes: dict, rules: Rules, sizing: Sizing) -> Outcome:
    """Play `wishes` {(t, s): (side, rank, stop, target)} with engine and twin, which must agree."""
    script = [[wishes.get((t, s), NO_OPINION) for s in range(len(symbols))] for t in range(len(symbols[0].bars))]
    kernel = run_scripted(engine, symbols, rules, sizing, script)
    assert_same(kernel, run_twin(symbols, rules, sizing, Scripted(script)))
    return kernel
