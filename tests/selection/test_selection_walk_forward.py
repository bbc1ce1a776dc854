"""Folds, choices and legs of the judgement by walk-forward, and its gates."""

from dataclasses import fields, replace

import numpy as np
import polars as pl
import pytest
from pydantic import TypeAdapter

from kernels.blocks import BLOCKS
from kernels.market import fill_model
from mei_pipeline.candles.intervals import DAY_MS, Intervals
from mei_pipeline.candles.sources.synthetic_config import DEFAULT_FROM_MS, SyntheticMarket
from mei_pipeline.config.load import load_config
from mei_pipeline.config.models import SweepSpec, WalkForward
from mei_pipeline.errors import ConfigError
from mei_pipeline.replay.run import encode_replay_inputs, replay
from mei_pipeline.selection.evaluation import (
    EvaluationInputs,
    Measurements,
    recent_probability,
    sharpe_without_best_symbol,
    veto_probability,
)
from mei_pipeline.selection.folds import folds_of
from mei_pipeline.selection.gates import (
    GATES,
    apply_gates,
    min_holdout_probability,
    min_recent_probability,
    min_sharpe_without_best_symbol,
)
from mei_pipeline.selection.ranking import COLUMNS, RankedCombo, neighbour_means, rank_combos
from mei_pipeline.selection.search_statistics import own_trials
from mei_pipeline.selection.segments import MarketData, Segment, flat_segment, run_segment, stitch
from mei_pipeline.selection.selection_bias import estimate_selection_bias
from mei_pipeline.selection.stress import neighbours
from mei_pipeline.selection.verdicts import judge_ranks
from mei_pipeline.selection.walk_forward import least_trades, run_ranks, select_combos
from mei_pipeline.settings import CHECKOUT
from mei_pipeline.simulation.combos import encode_combos
from mei_pipeline.simulation.memory import features_of, synthetic_bars
from mei_pipeline.simulation.run import run_combos
from mei_pipeline.simulation.window import cut_window
from mei_pipeline.sweep.metrics import sharpe
from mei_pipeline.sweep.plan import make_plan, resolved_combo
from mei_pipeline.sweep.results import chunk_frame

ANCHORED = WalkForward(window="anchored", train_blocks=4, test_blocks=1, embargo_days=1)
SPEC = SweepSpec.model_validate(
    {
        "strategy": "ema_cross",
        "venue": "synthetic",
        "interval": "1h",
        "market": {"fill": "next_open", "stops": "intrabar", "taker_fee_bps": 4.5, "exit_slippage_bps": 2.0},
        "params": {"trade.size_frac": 0.3, "entry.warmup_bars": 50},
        "axes": {
            "indicators.ema_fast_window": (5, 12),
            "indicators.ema_slow_window": (30, 50, 80),
            "trade.sl_atr_mult": (2.0, 50.0),
        },
    }
)
SEARCHED, HOLDOUT = 80, 10
FROM_MS, TO_MS = DEFAULT_FROM_MS, DEFAULT_FROM_MS + SEARCHED * DAY_MS


@pytest.fixture(scope="module")
def bars():
    end_ms = TO_MS + HOLDOUT * DAY_MS
    market = SyntheticMarket(seed=4, symbols=("BTC", "ETH", "SOL"), to_ms=end_ms, edge_sharpe=4.0)
    return synthetic_bars(market, Intervals("1h"))


@pytest.fixture(scope="module")
def plan(bars):
    return make_plan(SPEC, bars, FROM_MS, TO_MS)


def market_data_of(settings, bars, plan):
    return MarketData(settings, bars, features_of(bars, plan.columns()))


def rows_of(data, plan):
    numbers = np.arange(plan.combos)
    values = {**plan.params, **plan.axis_values(numbers)}
    combos = encode_combos(plan.strategy, data.features, values, len(numbers), plan.symbols, benchmark=plan.benchmark)
    cut = cut_window(data.bars, plan.from_ms, plan.to_ms)
    model = fill_model(plan.market, plan.initial_balance_usd)
    outcome = run_combos(data.settings, cut, model, data.features, combos)
    return chunk_frame(plan, numbers, outcome, cut.last - cut.first)


@pytest.mark.parametrize("kind", ["anchored", "rolling"])
@pytest.mark.parametrize(("train", "test", "embargo"), [(4, 1, 1), (3, 4, 2), (8, 8, 0), (1, 1, 0)])
def test_no_fold_is_judged_on_a_day_that_it_or_a_later_one_of_the_past_chose_on(kind, train, test, embargo):
    policy = WalkForward(window=kind, train_blocks=train, test_blocks=test, embargo_days=embargo)
    folds = folds_of(FROM_MS, TO_MS, policy)
    assert len(folds) == (BLOCKS - train) // test
    for fold in folds:
        assert fold.test_ms[0] - fold.train_ms[1] == embargo * DAY_MS
        assert fold.train_ms[0] == FROM_MS or kind == "rolling"
        assert fold.train[1] - fold.train[0] == (fold.train[1] if kind == "anchored" else train)
    judged = [day for fold in folds for day in range(*fold.test_ms, DAY_MS)]
    assert judged == sorted(set(judged))
    assert judged[-1] < TO_MS


def test_folds_cut_days_as_the_window_of_a_sweep_does(bars):
    block = cut_window(bars, FROM_MS, TO_MS).market.block
    for fold in folds_of(FROM_MS, TO_MS, replace_embargo(ANCHORED, 0)):
        hour = (fold.test_ms[0] - DEFAULT_FROM_MS) // 3_600_000
        assert (block[hour - 1], block[hour]) == (fold.test[0] - 1, fold.test[0])


def replace_embargo(policy, days):
    return policy.model_copy(update={"embargo_days": days})


def test_an_embargo_that_leaves_no_day_is_refused():
    with pytest.raises(ConfigError, match=r"embargo_days: 5 days leave none of 5 test days"):
        folds_of(FROM_MS, TO_MS, replace_embargo(ANCHORED, 5))


@pytest.mark.parametrize("cut", [1, 3, 7, 100])
def test_choices_are_those_of_all_rows_at_once_whatever_the_chunks(cut):
    rng = np.random.default_rng(cut)
    count = 40
    sums = {name: rng.normal(0.0, 0.01, (count, BLOCKS)) for name in ("day_sum",)}
    sums["day_sum"][7] = sums["day_sum"][3]  # two that do the same
    squares = np.abs(rng.normal(0.001, 0.0002, (count, BLOCKS)))
    squares[7] = squares[3]
    columns = {"day_count": np.full((count, BLOCKS), 5.0), **sums, "day_sum_sq": squares}
    arrays = [pl.Series(name, value, dtype=pl.Array(pl.Float64, BLOCKS)) for name, value in columns.items()]
    trades = rng.integers(0, 20, count)
    trades[7] = trades[3]
    rows = pl.DataFrame([pl.Series("combo", np.arange(count)), pl.Series("trades", trades), *arrays])
    spans = [(0, 4), (0, 16), (8, 12)]
    chosen = rank_combos([rows[start : start + cut] for start in range(0, count, cut)], spans, 5, 9.5)
    for (first, last), selected in zip(spans, chosen, strict=True):
        ratio = sharpe(*(columns[n][:, first:last].sum(axis=1) for n in ("day_count", "day_sum", "day_sum_sq")))
        order = [k for k in np.argsort(-ratio, kind="stable") if ratio[k] > 0.0 and k != 7 and trades[k] >= 10][:5]
        assert [each.combo for each in selected] == order
        assert [each.sharpe for each in selected] == ratio[order].tolist()


@pytest.mark.parametrize("at_once", [5, 100])
def test_combos_of_a_grid_are_ranked_by_the_mean_ratio_of_those_around_them(mei_settings, bars, plan, at_once):
    rows = rows_of(market_data_of(mei_settings, bars, plan), plan)
    number = {tuple(plan.combo(k).values()): k for k in range(plan.combos)}
    beside = [[k, *(number[tuple(each.values())] for each in neighbours(plan, k))] for k in range(plan.combos)]
    spans = [(0, 4), (0, BLOCKS)]
    found = neighbour_means([rows[7:], rows[:7]], spans, plan.grid, at_once)
    for (first, last), ranks in zip(spans, found, strict=True):
        own = sharpe(*(rows[name].to_numpy()[:, first:last].sum(axis=1) for name in COLUMNS[2:]))
        once = [np.mean([own[k] for k in ks]) for ks in beside]
        assert ranks == pytest.approx([np.mean([once[k] for k in ks]) for ks in beside])
    walk = select_combos(plan, lambda _: [rows], ANCHORED, 1)
    fit = [k for k in range(plan.combos) if own[k] > 0.0]
    assert walk.ranks[0].final.combo == max(fit, key=lambda k: found[1][k])
    assert walk.ranks[0].final.sharpe == own[walk.ranks[0].final.combo]


def test_a_rank_orders_only_combos_that_made_money_and_have_the_trades():
    sums = np.array([[0.04, 0.02, -0.01, 0.03]]).T * np.ones((4, BLOCKS))
    arrays = {"day_count": 0.0 * sums + 5.0, "day_sum": sums, "day_sum_sq": 0.0 * sums + 0.01}
    series = [pl.Series(name, value, dtype=pl.Array(pl.Float64, BLOCKS)) for name, value in arrays.items()]
    rows = pl.DataFrame([pl.Series("combo", range(4)), pl.Series("trades", [9, 9, 9, 1]), *series])
    (selected,) = rank_combos([rows[:2], rows[2:]], [(0, 4)], 4, 5, np.array([[1.0, 2.0, 4.0, 3.0]]))
    assert [each.combo for each in selected] == [1, 0]
    assert selected[0].sharpe < selected[1].sharpe


def test_a_choice_that_was_written_without_its_own_ratio_is_ranked_by_it():
    old = TypeAdapter(RankedCombo).validate_python({"loss": -2.0, "combo": 3, "behaviour": [0.1, 0.2]})
    assert old.sharpe == 2.0
    assert RankedCombo(-2.0, 3, (0.1, 0.2), 2.5).sharpe == 2.5


@pytest.mark.parametrize("train", [4, 12])
def test_a_rate_of_trades_that_just_reaches_the_gate_on_the_judged_days_is_enough(plan, train):
    folds = folds_of(FROM_MS, TO_MS, WalkForward(window="anchored", train_blocks=train, test_blocks=1, embargo_days=1))
    days = sum(fold.days for fold in folds)
    least = least_trades(plan, folds, 60)
    assert least * days / SEARCHED == pytest.approx(60)
    assert least_trades(plan, folds, 0) == 0


def test_a_combo_that_trades_too_seldom_for_the_gate_is_not_chosen(mei_settings, bars, plan):
    rows = rows_of(market_data_of(mei_settings, bars, plan), plan)
    folds = folds_of(FROM_MS, TO_MS, ANCHORED)
    wanted = int(rows["trades"].median() * sum(fold.days for fold in folds) / SEARCHED)
    few = set(rows.filter(pl.col("trades") < least_trades(plan, folds, wanted))["combo"])
    free, held = (select_combos(plan, lambda _: [rows], ANCHORED, 12, least) for least in (0, wanted))
    picked = [
        {each.combo for rank in walk.ranks for each in (rank.final, *rank.selected) if each} for walk in (free, held)
    ]
    assert few & picked[0]
    assert picked[1]
    assert not few & picked[1]
    assert select_combos(plan, lambda _: [rows], ANCHORED, 12, 10**6).ranks == ()


def test_a_leg_is_the_replay_less_the_cost_of_closing(mei_settings, bars, plan):
    data = market_data_of(mei_settings, bars, plan)
    days = (FROM_MS + 20 * DAY_MS, FROM_MS + 45 * DAY_MS)
    still_held = 0
    for number in range(plan.combos):
        resolved = resolved_combo(plan, plan.combo(number))
        segment = run_segment(data, resolved, days)
        run = replay(mei_settings, encode_replay_inputs(bars, cut_window(bars, *days), data.features, resolved))
        held = run.holding
        marks = {name: bars.steps.prices[3][45 * 24 - 1, s] for s, name in enumerate(bars.symbols)}
        cost = sum(
            size * marks[name] * (2.0 + 4.5 * (1.0 - {"long": 2.0, "short": -2.0}[side] / 1e4)) / 1e4
            for name, side, size in held.select("symbol", "side", "size").iter_rows()
        )
        final = run.equity["equity_usd"][-1] - cost
        assert segment.curve[-1] * 10_000.0 == pytest.approx(final, rel=1e-12)
        assert np.prod(1.0 + segment.returns) == pytest.approx(segment.curve[-1])
        assert segment.trade_profits.sum() == pytest.approx(segment.curve[-1] - 1.0)
        assert len(segment.trade_profits) == run.trades.height + held.height
        assert (segment.returns[~segment.held] == 0.0).all()
        still_held += held.height
    assert still_held > 0


def test_a_chain_goes_on_where_the_leg_before_ended(mei_settings, bars, plan):
    data = market_data_of(mei_settings, bars, plan)
    resolved = resolved_combo(plan, plan.combo(3))
    cuts = [FROM_MS + day * DAY_MS for day in (10, 25, 30, 50)]
    segments = [run_segment(data, resolved, (cuts[0], cuts[1])), flat_segment((cuts[1], cuts[2]))]
    segments.append(run_segment(data, resolved, (cuts[2], cuts[3])))
    joined = stitch(segments)
    assert joined.days_ms.tolist() == list(range(cuts[0], cuts[3], DAY_MS))
    assert joined.return_frac == pytest.approx(np.prod(1.0 + joined.returns) - 1.0)
    assert joined.max_drawdown_frac >= max(segment.max_drawdown_frac for segment in segments) - 1e-12


def changed_after(bars, time_ms):
    """The same bars, but for prices from `time_ms` on."""
    after = bars.steps.open_ms >= time_ms
    factor = np.where(after, np.exp(np.cumsum(np.where(after, 0.01, 0.0)) * np.sin(np.arange(len(after)))), 1.0)
    prices = bars.prices * factor[None, :, None]
    prices[1], prices[2] = prices.max(axis=0), prices.min(axis=0)
    return replace(bars, prices=prices, steps=replace(bars.steps, prices=prices))


def test_what_comes_later_changes_no_choice_and_no_leg(mei_settings, bars, plan):
    data = market_data_of(mei_settings, bars, plan)
    before = select_combos(plan, lambda _: [rows_of(data, plan)], ANCHORED, 3)
    seventh = before.folds[6]
    other = market_data_of(mei_settings, changed_after(bars, seventh.test_ms[1]), plan)
    after = select_combos(plan, lambda _: [rows_of(other, plan)], ANCHORED, 3)
    for one, two in zip(before.ranks, after.ranks, strict=False):
        assert one.selected[:7] == two.selected[:7]
        for fold, chosen in zip(before.folds[:7], one.selected[:7], strict=True):
            if chosen is not None:
                resolved = resolved_combo(plan, plan.combo(chosen.combo))
                first, second = (run_segment(g, resolved, fold.test_ms) for g in (data, other))
                assert all(np.array_equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(first))
    resolved = resolved_combo(plan, plan.combo(0))
    later = [run_segment(each, resolved, before.folds[8].test_ms).returns for each in (data, other)]
    assert not np.array_equal(*later)  # what was changed does matter to what comes later


def test_neighbours_are_one_step_on_one_axis(plan):
    own = plan.combo(0)
    found = neighbours(plan, 0)
    assert len(found) == 3
    for each in found:
        assert sum(each[path] != own[path] for path in own) == 1


@pytest.fixture(scope="module")
def policy():
    found = load_config(CHECKOUT / "config").policy.selection
    assert found is not None
    return found


def judged(settings, bars, plan, policy):
    data = market_data_of(settings, bars, plan)
    rows = [rows_of(data, plan)]
    walk = select_combos(plan, lambda _: rows, policy.walk_forward, policy.candidates)
    stitched_by_rank = run_ranks(data, plan, walk)
    inputs = EvaluationInputs(data, None, plan, walk, policy, TO_MS + HOLDOUT * DAY_MS)
    return judge_ranks(inputs, stitched_by_rank, rows, own_trials(plan, walk, stitched_by_rank)).judgements


def test_every_gate_that_is_asked_for_is_computed_for_every_candidate(mei_settings, bars, plan, policy):
    found = judged(mei_settings, bars, plan, policy)
    assert found
    for each in found:
        names = [gate.name for gate in each.gates]
        assert {each.__name__ for each in GATES} <= set(names)
        assert len(names) == len(set(names))
        assert {gate.name: gate.verdict for gate in each.gates}["min_holdout_symbols_sharpe"] == "no evidence"
        assert not each.passed  # no evidence never promotes


def test_the_holdout_chooses_nothing_and_moves_no_gate_but_its_own(mei_settings, bars, plan, policy):
    one = judged(mei_settings, bars, plan, policy)
    other = changed_after(bars, TO_MS)
    two = judged(mei_settings, other, plan, policy)
    assert [each.config_id for each in one] == [each.config_id for each in two]
    for before, after in zip(one, two, strict=True):
        moved = [gate.name for gate, changed in zip(before.gates, after.gates, strict=True) if gate != changed]
        assert moved == ["min_holdout_probability"]
    holdout, resolved = (TO_MS, TO_MS + HOLDOUT * DAY_MS), resolved_combo(plan, plan.combo(0))
    segments = [
        run_segment(market_data_of(mei_settings, each, plan), resolved, holdout).returns for each in (bars, other)
    ]
    assert not np.array_equal(*segments)  # what was changed does matter to the days after


OTHERS = {"search", "stress", "crises", "holdout_symbols_sharpe"}
"""What is no figure, or is not measured here."""


@pytest.mark.parametrize("field", [f.name for f in fields(Measurements) if f.name not in OTHERS])
def test_what_was_not_measured_never_passes(mei_settings, bars, plan, policy, field):
    measured = judged_once(mei_settings, bars, plan, policy)
    before = {gate.name: gate.verdict for gate in apply_gates(measured, policy.gates)}
    lost = apply_gates(replace(measured, **{field: float("nan")}), policy.gates)
    rejected = [gate.name for gate in lost if gate.verdict == "no evidence" and before[gate.name] != "no evidence"]
    assert len(rejected) == (0 if field == "return_pct" else 1)


_ONCE = []


def judged_once(settings, bars, plan, policy):
    if not _ONCE:
        _ONCE.append(judged(settings, bars, plan, policy)[0].measured)
    return _ONCE[0]


DAYS = np.arange(60, dtype=np.int64) * DAY_MS


@pytest.mark.parametrize(
    ("returns", "verdict"),
    [
        (-0.01 + 0.001 * np.cos(np.arange(42)), "fail"),
        (0.01 + 0.001 * np.cos(np.arange(42)), "pass"),
        (-0.001 + 0.01 * np.cos(np.arange(42)), "pass"),  # a loss that luck explains
        (np.zeros(42), "pass"),  # nothing traded, nothing lost
        (np.array([-0.5]), "pass"),  # one day has no deviation
        (np.full(42, -0.01), "no evidence"),
    ],
)
def test_the_holdout_is_a_veto_on_a_significant_loss(returns, verdict):
    value = veto_probability(returns)
    assert min_holdout_probability(measured_with(holdout_probability=value), 0.05).verdict == verdict


def record(returns, symbols=(0,), shares=(1.0,)):
    """A chain whose round trips end daily and share out each day's return among the symbols."""
    profits = np.outer(returns, shares).ravel()
    trips = np.tile(symbols, len(returns)), profits, np.repeat(DAYS[: len(returns)], len(symbols))
    return Segment(DAYS[: len(returns)], returns, returns != 0.0, np.cumprod(1.0 + returns), *trips)


NOISE = 0.01 * np.cos(2.4 * np.arange(60))


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [((0.4, 0.3, 0.3), "pass"), ((1.0, 0.0, 0.0), "no evidence"), ((1.4, -0.2, -0.2), "fail")],
)
def test_without_its_best_symbol_a_record_still_earns(shares, verdict):
    value = sharpe_without_best_symbol(record(0.004 + NOISE, (0, 1, 2), shares))
    assert min_sharpe_without_best_symbol(measured_with(sharpe_without_best_symbol=value), 0.5).verdict == verdict


def test_a_symbol_alone_is_no_evidence_of_others():
    assert sharpe_without_best_symbol(record(0.004 + NOISE)) is None
    assert sharpe_without_best_symbol(record(np.zeros(60))) is None


def test_what_is_left_without_the_best_symbol_is_counted_on_the_day_of_its_end():
    segment = record(0.004 + NOISE, (0, 1), (0.6, 0.4))
    expected = sharpe(
        np.float64(60), np.float64((0.4 * segment.returns).sum()), np.float64(((0.4 * segment.returns) ** 2).sum())
    )
    assert sharpe_without_best_symbol(segment) == pytest.approx(float(expected))


def test_a_record_that_died_halfway_has_no_recent_edge():
    alive, dead = 0.006 + NOISE, NOISE - 0.001
    found = [recent_probability(days) for days in (alive, np.concatenate((alive[:30], dead[30:])))]
    verdicts = [min_recent_probability(measured_with(recent_probability=value), 0.8).verdict for value in found]
    assert verdicts == ["pass", "fail"]
    assert recent_probability(np.concatenate((alive[:30], np.zeros(30)))) is None


def measured_with(**changes):
    """Measurements of a rank of which only `changes` are known."""
    numbers = {f.name: None for f in fields(Measurements)} | {
        "trades": 0,
        "return_pct": 0.0,
        "stress": {},
        "crises": {},
    }
    return Measurements(**(numbers | changes))


def test_luck_is_unknown_where_no_trial_differs_between_blocks():
    n, total, squares = (np.full((BLOCKS, 3), value) for value in (10.0, 0.1, 0.5))
    assert estimate_selection_bias((n, total, squares), 3) is None
