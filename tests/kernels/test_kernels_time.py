"""Bar by bar is the same as all at once; the past does not know the future; combos do not know each other."""

import itertools
from dataclasses import replace

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from kernel_kit import (
    Scripted,
    assert_same,
    bits,
    cross_arrays,
    new_book,
    one,
    read_log,
    run_arrays,
    run_cross,
    run_scripted,
    run_twin,
    to_market,
    to_model,
)
from naive import Rules, Sizing
from random_markets import all_rules, all_sizings, scripts, symbol_lists

from kernels import book as kernels_book
from kernels import features, ledger
from kernels.market import Market
from kernels.strategies import ema_cross

CROSS = (3, 7, 4, 2, 1.0, 2.0)


def window(market: Market, t: int) -> Market:
    """Bars t - 1 and t, as an executor holds them; before the first bar there is none."""
    rows = {"open", "high", "low", "close", "age", "funding", "day_end", "block"}
    held = {}
    for name, array in market._asdict().items():
        if name in rows:
            before = array[t - 1] if t else np.full_like(array[0], -1)
            held[name] = np.stack((before, array[t]))
        else:
            held[name] = array
    return Market(**held)


class Executor:
    """Calls the compiled pieces once for each closed bar, and never sees more than two bars."""

    def __init__(self, engine, market, rules: Rules, sizing: Sizing, cross: tuple):
        fast, slow, atr, *_ = cross
        columns = [features.Column("ema", (fast,)), features.Column("ema", (slow,)), features.Column("atr", (atr,))]
        self.engine, self.market, self.model = engine, market, to_model(rules)
        self.columns = features.encode(columns)
        symbols = market.close.shape[1]
        _, self.rows, values = cross_arrays([one([None])] * symbols, sizing, cross)
        self.params = ema_cross.Params(*values[:, 0])
        state_size = sum(map(features.state_size, columns))
        self.values, self.state = np.full((3, symbols), np.nan), np.zeros((symbols, state_size))
        self.book = new_book(symbols, 1, 4096, 0)
        self.account = ledger.open_account(self.model.initial_usd)
        self.curve = ledger.open_curve(self.model.initial_usd)
        self.equity: list[float] = []

    def bar(self, t: int) -> None:
        engine, book, model, params = self.engine, self.book, self.model, self.params
        bars = window(self.market, t)
        logged = int(book.logged[0])
        before = self.values.copy()
        prices = bars.high[1], bars.low[1], bars.close[1]
        features.observe(*self.columns, self.state, self.values, *prices, np.zeros_like(prices[0]))
        columns = np.stack((before, self.values), axis=1)
        account, _ = engine.until_close(self.account, book, bars, model, params, 1)
        engine.decide(account, book, bars, model, columns, self.rows, params, 0, 1)
        if not model.next_open and not model.delay_bars:
            account = engine.fill_waiting(account, book, bars, model, params, 1, kernels_book.AT_CLOSE)
        value = ledger.equity(account, book.positions, book.marks)
        self.account, self.curve = account, ledger.mark(self.curve, value, account.positions > 0)
        self.equity.append(value)
        book.log[kernels_book.LOG_BAR, logged : int(book.logged[0])] = t


@pytest.fixture(scope="module")
def _pieces_kept(cross_engine):
    """Rules are compiled into drivers; called from Python they are compiled once more, and kept like those."""
    rules = (cross_engine.until_close, cross_engine.decide, cross_engine.fill_waiting, ledger.equity, ledger.mark)
    for rule in rules:
        rule.enable_caching()


@pytest.mark.usefixtures("_pieces_kept")
@examples(max_examples=60)
@given(data=st.data())
def test_pieces_called_bar_by_bar_equal_a_run(cross_engine, data):
    symbols = data.draw(symbol_lists(max_bars=40, max_symbols=4))
    rules, sizing = data.draw(all_rules()), data.draw(all_sizings())
    whole = run_cross(cross_engine, symbols, rules, sizing, CROSS)
    live = Executor(cross_engine, to_market(symbols), rules, sizing, CROSS)
    for t in range(len(symbols[0].bars)):
        live.bar(t)
    assert read_log(live.book) == whole.fills
    assert bits(live.equity) == bits(whole.equity)
    account = (live.account.trades, live.account.fees, live.account.funding, live.account.turnover, live.account.wins)
    assert bits(account) == bits(
        [whole.results[n] for n in ("trades", "fees_usd", "funding_usd", "turnover_usd", "wins")]
    )
    assert bits(live.curve[1:3]) == bits([whole.results["max_drawdown_usd"], whole.results["max_drawdown_frac"]])


@examples(max_examples=150)
@given(data=st.data())
def test_what_happens_later_does_not_change_what_was_done(scripted_engine, data):
    symbols = data.draw(symbol_lists())
    rules, sizing, script = data.draw(all_rules()), data.draw(all_sizings()), data.draw(scripts(symbols))
    bars = len(symbols[0].bars)
    t = data.draw(st.integers(0, bars))
    other = data.draw(scripts(symbols))
    factor = data.draw(st.sampled_from([0.1, 1.5, 8.0]))
    changed = [
        replace(
            symbol,
            bars=symbol.bars[:t]
            + [bar and naive.Bar(*(factor * x for x in vars(bar).values())) for bar in symbol.bars[t:]],
            funding=symbol.funding[:t] + [rate + 0.01 for rate in symbol.funding[t:]],
        )
        for symbol in symbols
    ]
    one_way = run_scripted(scripted_engine, symbols, rules, sizing, script)
    other_way = run_scripted(scripted_engine, changed, rules, sizing, script[:t] + other[t:])
    assert [fill for fill in one_way.fills if fill.t < t] == [fill for fill in other_way.fills if fill.t < t]
    assert bits(one_way.equity[:t]) == bits(other_way.equity[:t])


@examples(max_examples=60)
@given(data=st.data())
def test_a_close_decides_nothing_before_its_time(cross_engine, data):
    """Features included: cutting the data off after bar t leaves everything up to t as it was."""
    symbols = data.draw(symbol_lists())
    rules, sizing = data.draw(all_rules()), data.draw(all_sizings())
    t = data.draw(st.integers(1, len(symbols[0].bars)))
    cut = [replace(symbol, bars=symbol.bars[:t], funding=symbol.funding[:t]) for symbol in symbols]
    whole = run_cross(cross_engine, symbols, rules, sizing, CROSS)
    short = run_cross(cross_engine, cut, rules, sizing, CROSS)
    assert [fill for fill in whole.fills if fill.t < t] == short.fills
    assert bits(whole.equity[:t]) == bits(short.equity)


@examples(max_examples=40)
@given(data=st.data())
def test_combos_do_not_know_each_other(cross_engine, data):
    symbols = data.draw(symbol_lists(max_symbols=3))
    rules, sizing = data.draw(all_rules()), data.draw(all_sizings())
    combos = data.draw(st.lists(st.tuples(st.floats(0.1, 3), st.floats(0.1, 3)), min_size=2, max_size=7))
    columns, rows, values = cross_arrays(symbols, sizing, CROSS)
    count = len(combos)
    values, rows = np.repeat(values, count, axis=1), np.repeat(rows, count, axis=1)
    values[4:6] = np.array(combos).T
    rows[:2, ::2] = rows[1::-1, ::2].copy()  # every other combo has fast and slow the other way round
    market, model, bars = to_market(symbols), to_model(rules), len(symbols[0].bars)
    bounds = sorted({0, count, *data.draw(st.lists(st.integers(0, count), max_size=3))})
    chunks = data.draw(st.permutations(list(itertools.pairwise(bounds))))
    out = np.full((len(cross_engine.RESULTS), count), -7.0)
    book = new_book(len(symbols), count, 0, 0)
    for start, stop in chunks:
        cross_engine.run_range(market, model, columns, rows, values, start, stop, 0, bars, book, out)
    for k in range(count):
        alone = run_arrays(cross_engine, market, model, columns, rows[:, [k]], values[:, [k]], 0, bars)
        assert bits(out[:, k]) == bits(list(alone.results.values()))
        assert bits(book.days[:, :, k]) == bits(alone.days)


def test_a_range_leaves_other_combos_alone(cross_engine):
    symbols = [one([naive.Bar(9, 9, 9, 9)] * 8)]
    columns, rows, values = (
        np.repeat(a, 3, axis=-1) if a.ndim == 2 else a for a in cross_arrays(symbols, Sizing(), CROSS)
    )
    out, book = np.full((len(cross_engine.RESULTS), 3), -7.0), new_book(1, 3, 0, 0)
    book.days[:] = -7.0
    cross_engine.run_range(to_market(symbols), to_model(Rules()), columns, rows, values, 1, 2, 0, 8, book, out)
    assert (out[:, [0, 2]] == -7).all()
    assert (book.days[:, :, [0, 2]] == -7).all()
    assert (out[:, 1] != -7).all()


@examples(max_examples=150)
@given(data=st.data())
def test_the_order_of_symbols_matters_only_where_ranks_tie(scripted_engine, data):
    """Prices in whole dollars, whole coins and no fee make every sum exact, whatever its order."""
    count, bars = data.draw(st.integers(2, 5)), 30
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    symbols, script = [], np.zeros((bars, count, 4))
    for s in range(count):
        closes = np.maximum(100 + rng.integers(-9, 10, bars).cumsum(), 5)
        opens = np.concatenate(([100], closes[:-1]))
        rows = np.column_stack((opens, np.maximum(opens, closes) + 2, np.minimum(opens, closes) - 2, closes))
        symbols.append(one([naive.Bar(*map(float, row)) if rng.random() < 0.9 else None for row in rows], lots=1.0))
        script[:, s, 0] = rng.choice([-1, 0, 0, 1], bars)
        script[:, s, 2:] = rng.integers(3, 20, (bars, 2))
    script[:, :, 1] = rng.permuted(np.tile(np.arange(count), (bars, 1)), axis=1)
    rules = replace(data.draw(all_rules()), fee=0.0, entry_slip=0.0, exit_slip=0.0)
    sizing = Sizing(
        units=20.0, leverage=data.draw(st.sampled_from([1.0, 16.0])), places=data.draw(st.integers(1, count))
    )
    order = data.draw(st.permutations(range(count)))
    ours = run_scripted(scripted_engine, symbols, rules, sizing, script.tolist())
    theirs = run_scripted(scripted_engine, [symbols[s] for s in order], rules, sizing, script[:, list(order)].tolist())
    assert ours.results == theirs.results
    assert ours.equity == theirs.equity
    renamed = [replace(fill, s=order[fill.s]) for fill in theirs.fills]
    assert sorted(map(repr, ours.fills)) == sorted(map(repr, renamed))


@examples(max_examples=150)
@given(data=st.data())
def test_the_log_explains_the_account(scripted_engine, data):
    symbols = data.draw(symbol_lists(max_bars=40))
    rules, sizing, script = data.draw(all_rules()), data.draw(all_sizings()), data.draw(scripts(symbols))
    outcome = run_scripted(scripted_engine, symbols, rules, sizing, script)
    results, fills = outcome.results, outcome.fills
    size = dict.fromkeys(range(len(symbols)), 0.0)
    closed = 0
    for fill in fills:
        assert (fill.size == 0) == (fill.reason == "funding")
        if fill.reason == "entry":
            assert size[fill.s] == 0
        elif fill.reason != "funding":
            assert size[fill.s] == -fill.size
            closed += 1
        size[fill.s] += fill.size
    assert results["trades"] == closed
    assert results["fills"] == sum(fill.reason != "funding" for fill in fills)
    assert results["open_positions"] == sum(held != 0 for held in size.values())
    if results["open_positions"] == 0 and results["turnover_usd"] < 1e15:
        gained = results["gross_profit_usd"] - results["gross_loss_usd"]
        near = pytest.approx(
            results["equity_usd"] - rules.initial_usd, rel=1e-9, abs=1e-12 * (1e4 + results["turnover_usd"])
        )
        assert sum(fill.cash for fill in fills) == near
        assert gained == near


def test_a_run_may_start_anywhere_with_what_was_known_before(scripted_engine):
    rng = np.random.default_rng(4)
    closes = [float(100 + x) for x in rng.integers(-9, 10, 40).cumsum() + 50]
    symbols = [one([naive.Bar(c, c + 2, c - 2, c) for c in closes])]
    script = [[(float(rng.choice([-1, 0, 1])), 0.0, 6.0, 9.0)] for _ in closes]
    late = run_scripted(scripted_engine, symbols, Rules(), Sizing(), script, first=20)
    quiet = [[(0.0, 0.0, 0.0, 0.0)]] * 20 + script[20:]
    whole = run_scripted(scripted_engine, symbols, Rules(), Sizing(), quiet)
    assert late.fills == whole.fills
    assert late.equity == whole.equity[20:]
    assert_same(late, run_twin(symbols, Rules(), Sizing(), Scripted(script), first=20))
