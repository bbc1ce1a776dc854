"""Step by step is the same as all at once; the past does not know the future; combos do not know each other."""

import itertools
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import naive
import numpy as np
import pytest
from example_kit import examples
from hypothesis import given
from hypothesis import strategies as st
from kernel_kit import (
    Case,
    Outcome,
    Script,
    Scripted,
    assert_same,
    bits,
    blank_book,
    build,
    inputs_of,
    new_book,
    one,
    outcome_of,
    plain_values,
    read_log,
    run_cross,
    run_scripted,
    run_simulation,
    run_twin,
    to_market,
    to_model,
)
from naive import Fill, Rules, Sizing
from random_markets import (
    CLOCKS,
    SHAPES,
    all_rules,
    all_sizings,
    on_clock,
    random_case,
    random_values,
    scripts,
    symbol_lists,
)

from kernels import bind, features
from kernels.book import Book
from kernels.market import Market
from kernels.params import SIGNAL_ROLES, Value
from kernels.strategies import load
from mei_pipeline.params.benchmark import preferred
from mei_pipeline.params.grid import CodedValues
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.combos import encode_combos
from mei_pipeline.simulation.feature_sets import FeatureSet
from mei_pipeline.simulation.run import record_combo, run_block, run_combos
from mei_pipeline.simulation.window import Window

CROSS = (3, 7, 4, 2, 1.0, 2.0)

STRATEGIES = ("ema_cross", "mei_alpha")

PAYMENTS = {"funding", "backstop"}
"""Reasons of rows that move cash and no size."""

BY_STEP = {
    "open",
    "high",
    "low",
    "close",
    "last_price",
    "age",
    "funding",
    "day_end",
    "block",
    "enters",
    "exits",
    "ends",
}
"""Arrays of the market that have a row for each step; `row` and `before` have one too, and count main rows."""


@dataclass
class Executor:
    """Calls what live trading calls, once for each closed bar, and never holds more than two main bars."""

    simulation: ModuleType
    strategy: ModuleType
    case: Case
    equity: list[float] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)

    def __post_init__(self) -> None:
        symbols = len(self.case.symbols)
        self.whole = inputs_of(self.strategy, self.case)
        wanted = {
            features.Column(use.kind, tuple(int(values[path]) for path in use.paths))
            for values in self.case.groups[0]
            for use in self.strategy.FEATURES
        }
        self.encoded = features.encode(sorted(wanted))
        self.state = np.zeros((symbols, sum(map(features.state_size, wanted))))
        self.columns = np.full((len(wanted), 2, symbols), np.nan)
        self.book = blank_book(self.simulation.MEMORY, 1, symbols, 1, 64 * symbols, 1)
        self.simulation.open_books(self.book, self.case.rules.initial_usd)

    def market(self, t: int) -> Market:
        """One step; the last main bar that has closed is row 1, the one before it row 0."""
        whole, clock = self.whole.market, self.case.clock
        row, before = clock.row(t), clock.before(t)
        held = {name: array[t : t + 1] if name in BY_STEP else array for name, array in whole._asdict().items()}
        held["row"] = np.array([1 if row >= 0 else -1])
        held["previous_row"] = np.array([1 - (row - before) if row >= 0 else -1])
        return Market(**held)

    def observe(self, row: int) -> None:
        """Move the features on by the main bar `row`."""
        bars = [symbol.main_bars[row] for symbol in self.case.symbols]
        prices = [
            np.array([getattr(bar, name) if bar else np.nan for bar in bars])
            for name in ("high", "low", "close", "volume")
        ]
        features.observe(*self.encoded, self.state, self.columns, *prices)

    def step(self, t: int, *, trades: bool) -> None:
        """What is known of step t, and what is done with it."""
        clock, book = self.case.clock, self.book
        if clock.row(t) != clock.row(t - 1):
            self.observe(clock.row(t))
        if not trades:
            return
        book.accounts["logged"] = 0
        self.whole.models["origin"] = t
        self.simulation.run(*self.whole._replace(market=self.market(t), columns=self.columns), 0, 1, book)
        self.equity.append(float(book.equity[0]))
        self.fills += read_log(self.simulation, book)


@pytest.mark.parametrize("seeds", [range(10), pytest.param(range(10, 40), marks=pytest.mark.long)])
@pytest.mark.parametrize("name", STRATEGIES)
def test_one_step_at_a_time_equals_a_run(name, seeds):
    simulation, strategy = bind.simulation(name), load(name)
    filled = 0
    for seed in seeds:
        case = random_case(np.random.default_rng(seed), strategy.PARAMETERS)
        whole = run_simulation(simulation, strategy, case)
        live = Executor(simulation, strategy, case)
        for t in range(case.steps):
            live.step(t, trades=t >= case.first)
        assert live.fills == whole.fills
        assert bits(live.equity) == bits(whole.equity)
        assert bits(live.book.days[:, :, 0]) == bits(whole.days)
        filled += len(whole.fills)
    assert filled > 2 * len(seeds)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_run_may_stop_and_go_on(name):
    """The book holds all that goes from one call to the next, whatever the tile of each."""
    simulation, strategy = bind.simulation(name), load(name)
    for seed in range(15):
        rng = np.random.default_rng(seed)
        case = random_case(rng, strategy.PARAMETERS)
        inputs, book = inputs_of(strategy, case), new_book(simulation, case, tile=int(rng.integers(1, 40)))
        cuts = sorted({case.first, case.steps, *rng.integers(case.first, case.steps + 1, 4).tolist()})
        for start, stop in itertools.pairwise(cuts):
            simulation.run(*inputs, start, stop, book)
        assert_same(outcome_of(simulation, book, case.first), run_simulation(simulation, strategy, case))


@st.composite
def full_scripts(draw: st.DrawFn, symbols: list[naive.Symbol]) -> Script:
    """Scripts with additions, exits of the strategy's own, and rests after exits."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    more, out, rest = (
        rng.choice([0.0, 0.0, *some], (len(symbols[0].bars), len(symbols)))
        for some in ([0.3, 2.0, 1e6], [0.0, 0.0, 0.5, 0.01, 1.0], [0.0, 60.0, 600.0])
    )
    return [
        [(*wish, float(more[t, s]), float(out[t, s]), float(rest[t, s])) for s, wish in enumerate(row)]
        for t, row in enumerate(draw(scripts(symbols)))
    ]


@examples(150)
@given(data=st.data())
def test_what_happens_later_does_not_change_what_was_done(scripted_simulation, data):
    clock = data.draw(st.sampled_from(CLOCKS))
    symbols = data.draw(symbol_lists())
    rules, sizing, script = data.draw(all_rules()), data.draw(all_sizings()), data.draw(full_scripts(symbols))
    bars = len(symbols[0].bars)
    t = data.draw(st.integers(0, bars))
    other = data.draw(full_scripts(symbols))
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
    known = clock.row(t - 1) + 1  # what the main bars that have closed say
    one_way, other_way = (
        run_scripted(
            scripted_simulation, [on_clock(symbol, clock) for symbol in these], rules, sizing, wishes, clock=clock
        )
        for these, wishes in ((symbols, script), (changed, script[:known] + other[known:]))
    )
    assert [fill for fill in one_way.fills if fill.t < t] == [fill for fill in other_way.fills if fill.t < t]
    assert bits(one_way.equity[:t]) == bits(other_way.equity[:t])


@examples(60)
@given(data=st.data())
def test_a_close_decides_nothing_before_its_time(cross_simulation, data):
    """Features included: cutting the data off after bar t leaves everything up to t as it was."""
    clock = data.draw(st.sampled_from(CLOCKS))
    symbols = data.draw(symbol_lists())
    rules, sizing = data.draw(all_rules()), data.draw(all_sizings())
    t = data.draw(st.integers(1, len(symbols[0].bars)))
    cut = [replace(symbol, bars=symbol.bars[:t], funding=symbol.funding[:t]) for symbol in symbols]
    whole, short = (
        run_cross(cross_simulation, [on_clock(symbol, clock) for symbol in these], rules, sizing, CROSS, clock=clock)
        for these in (symbols, cut)
    )
    assert [fill for fill in whole.fills if fill.t < t] == short.fills
    assert bits(whole.equity[:t]) == bits(short.equity)


def columns_for(strategy: ModuleType, values: list[dict[str, Value]], symbols: list[naive.Symbol]) -> FeatureSet:
    """Every column that one of the sets of values reads."""
    wanted = {
        features.Column(use.kind, tuple(int(one_set[path]) for path in use.paths))
        for one_set in values
        for use in strategy.FEATURES
    }
    ordered = tuple(sorted(wanted))
    return FeatureSet("", Path(), ordered, build(symbols, list(ordered)))


def several(rng: np.random.Generator, strategy: ModuleType, base: dict[str, Value]) -> list[dict[str, Value]]:
    """Combos that share what shapes signals, or parts of it, in any order."""
    others = [base, *(random_values(rng, strategy.PARAMETERS) for _ in range(2))]
    shaping = {parameter.path for parameter in strategy.PARAMETERS if parameter.role in SIGNAL_ROLES}
    paths = [parameter.path for parameter in strategy.PARAMETERS]
    combos = []
    for _ in range(int(rng.integers(2, 9))):
        seen, done = rng.integers(0, len(others), 2)
        combos.append({path: others[seen if path in shaping else done][path] for path in paths})
    return combos


@pytest.mark.parametrize("seeds", [range(8), pytest.param(range(8, 24), marks=pytest.mark.long)])
@pytest.mark.parametrize("name", STRATEGIES)
def test_combos_do_not_know_each_other(mei_settings: Settings, name: str, seeds: range):
    """Alone, in any order, block and tile, on any number of threads, and replayed: the same bits."""
    simulation, strategy = bind.simulation(name), load(name)
    shared = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        case = random_case(rng, strategy.PARAMETERS, str(rng.choice(["", "", *SHAPES])))
        # Lone positions between levels inside bars are passed over in a way of their own.
        case = replace(case, rules=replace(case.rules, intrabar=seed % 2 == 0, next_open=seed % 4 < 2))
        values = several(rng, strategy, dict(case.values))
        names = tuple(case.names)
        own = {names[s]: dict(by_path) for s, by_path in case.own.items()}
        columns = columns_for(
            strategy, [{**one_set, **by_path} for one_set in values for by_path in [{}, *own.values()]], case.symbols
        )
        every_combo = np.arange(len(values))
        params = {path: CodedValues(tuple(one_set[path] for one_set in values), every_combo) for path in values[0]}
        combos = encode_combos(name, columns, params, len(values), names, own, benchmark=preferred(names))
        shared += len(values) - len(combos.signal_params)
        market, model = combos.apply_to(to_market(case)), to_model(case.rules)
        alone = [run_simulation(simulation, strategy, replace(case, values=one_set)) for one_set in values]
        window = Window(0, 0, case.first, case.steps, market)
        for threads in (1, 3):
            swept = run_combos(mei_settings, window, model, columns, combos, threads)
            for k, expected in enumerate(alone):
                assert bits([swept.results[key][k] for key in expected.results]) == bits(
                    list(expected.results.values())
                )
                assert bits(swept.days[:, :, k]) == bits(expected.days)
        order = rng.permutation(len(values))
        cut = int(rng.integers(0, len(values) + 1))
        for block in ((0, cut), (cut, len(values))):
            book = run_block(
                simulation,
                market,
                model,
                columns.values,
                combos.take(order),
                block,
                (case.first, case.steps),
                tile=int(rng.choice([1, 5, 64])),
            )
            for place, k in enumerate(order[slice(*block)]):
                assert same_figures(simulation, book, place, alone[k])
        k = int(rng.integers(len(values)))
        replayed = record_combo(mei_settings, window, model, columns, combos, k)
        assert bits(replayed.equity) == bits(alone[k].equity)
        assert bits(replayed.log["cash"]) == bits([fill.cash for fill in alone[k].fills])
        assert {key: float(value[0]) for key, value in replayed.outcome.results.items()} == alone[k].results
    assert shared > len(seeds) // 2


def same_figures(simulation: ModuleType, book: Book, place: int, expected: Outcome) -> bool:
    """Whether a combo of a book that keeps no log has the figures that are expected."""
    found = outcome_of(simulation, book, 0, place, fills=False)
    return bits(list(found.results.values())) == bits(list(expected.results.values())) and bits(found.days) == bits(
        expected.days
    )


def test_a_flat_book_skips_what_is_quiet_and_ends_its_days(cross_simulation):
    """A sweep keeps no equity and passes over quiet steps; its daily returns are those of a replay."""
    rng = np.random.default_rng(3)
    closes = [*[100.0] * 50, *(100 + rng.normal(0, 1, 30).cumsum()), *[90.0] * 50]
    case = Case([one([naive.Bar(c, c, c, c) for c in closes])], Rules(), plain_values(Sizing(), CROSS))
    strategy = load("ema_cross")
    whole = run_simulation(cross_simulation, strategy, case)
    assert whole.results["fills"] > 2
    for tile in (1, 3, 64, 256):
        book = new_book(cross_simulation, case, tile=tile, log_rows=0, recorded=False)
        cross_simulation.run(*inputs_of(strategy, case), 0, case.steps, book)
        assert same_figures(cross_simulation, book, 0, whole)
    assert whole.days[:, 0].sum() == len(closes) // 4


@examples(150)
@given(data=st.data())
def test_the_order_of_symbols_matters_only_where_ranks_tie(scripted_simulation, data):
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
    ours = run_scripted(scripted_simulation, symbols, rules, sizing, script.tolist())
    theirs = run_scripted(
        scripted_simulation, [symbols[s] for s in order], rules, sizing, script[:, list(order)].tolist()
    )
    assert ours.results == theirs.results
    assert ours.equity == theirs.equity
    renamed = [replace(fill, s=order[fill.s]) for fill in theirs.fills]
    assert sorted(map(repr, ours.fills)) == sorted(map(repr, renamed))


@examples(150)
@given(data=st.data())
def test_the_log_explains_the_account(scripted_simulation, data):
    symbols = data.draw(symbol_lists(max_bars=40))
    rules, sizing, script = data.draw(all_rules()), data.draw(all_sizings()), data.draw(full_scripts(symbols))
    outcome = run_scripted(scripted_simulation, symbols, rules, sizing, script)
    assert_same(outcome, run_twin(symbols, rules, sizing, Scripted(script)))
    results, fills = outcome.results, outcome.fills
    size = dict.fromkeys(range(len(symbols)), 0.0)
    closed = 0
    for fill in fills:
        assert (fill.size == 0) == (fill.reason in PAYMENTS)
        held = size[fill.s]
        if fill.reason == "entry":
            assert held == 0
        elif fill.reason == "add":
            assert held * fill.size > 0
        elif fill.reason == "scripted":
            assert held * fill.size < 0
            assert abs(fill.size) <= abs(held)
        elif fill.reason not in PAYMENTS:
            assert held == -fill.size
        assert fill.held == pytest.approx(held + fill.size, abs=1e-9)
        size[fill.s] = fill.held
        closed += fill.size != 0 and size[fill.s] == 0
    assert results["trades"] == closed
    assert results["fills"] == sum(fill.reason not in PAYMENTS for fill in fills)
    assert results["open_positions"] == sum(held != 0 for held in size.values())
    if results["open_positions"] == 0 and results["turnover_usd"] < 1e15:
        gained = results["gross_profit_usd"] - results["gross_loss_usd"]
        near = pytest.approx(
            results["equity_usd"] - rules.initial_usd, rel=1e-9, abs=1e-12 * (1e4 + results["turnover_usd"])
        )
        assert sum(fill.cash for fill in fills) == near
        assert gained == near


def test_a_run_may_start_anywhere_with_what_was_known_before(scripted_simulation):
    rng = np.random.default_rng(4)
    closes = [float(100 + x) for x in rng.integers(-9, 10, 40).cumsum() + 50]
    symbols = [one([naive.Bar(c, c + 2, c - 2, c) for c in closes])]
    script = [[(float(rng.choice([-1, 0, 1])), 0.0, 6.0, 9.0)] for _ in closes]
    late = run_scripted(scripted_simulation, symbols, Rules(), Sizing(), script, first=20)
    quiet = [[(0.0, 0.0, 0.0, 0.0)]] * 20 + script[20:]
    whole = run_scripted(scripted_simulation, symbols, Rules(), Sizing(), quiet)
    assert late.fills == whole.fills
    assert late.equity == whole.equity[20:]
    assert_same(late, run_twin(symbols, Rules(), Sizing(), Scripted(script), first=20))
