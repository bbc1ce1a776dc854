"""The committed searches: wide enough, every axis moves something, and no two combos are one."""

import numpy as np
import polars as pl
import pytest
from market_kit import DAY_MS, START_MS, VENUE, fill_lake
from result_kit import read_results

from kernels.market import fill_model
from kernels.strategies import load
from mei_pipeline.config.load import load_config
from mei_pipeline.config.models import SweepSpec
from mei_pipeline.settings import CHECKOUT, Settings
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.combos import encode_combos
from mei_pipeline.simulation.feature_sets import build_features
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.simulation.run import run_combos
from mei_pipeline.simulation.window import cut_window
from mei_pipeline.sweep.plan import SweepPlan, make_plan
from mei_pipeline.sweep.run import run_sweep
from mei_pipeline.sweep.search.tpe import is_scale

DAYS = 90
SYMBOLS = ("AAA", "BBB", "BTC", "CCC")
UNSEEN = {"trade.enable_stagnation_exit"}  # volatility never dies in these bars


@pytest.fixture
def bars(mei_settings: Settings) -> Bars:
    """Trends of two and a half days, with the benchmark symbol among them."""
    lake = fill_lake(mei_settings, days=DAYS, symbols=SYMBOLS, drift=0.002)
    return load_bars(lake, VENUE, "1h", SYMBOLS, START_MS, START_MS + DAYS * DAY_MS)


def spec(name: str) -> SweepSpec:
    return load_config(CHECKOUT / "config").sweep(name)


def run(settings: Settings, plan: SweepPlan, bars: Bars) -> pl.DataFrame:
    features = build_features(bars, plan.columns(), settings.features)
    return read_results(run_sweep(settings, plan, cut_window(bars, plan.from_ms, plan.to_ms), features).folder, plan)


@pytest.mark.parametrize("name", ["smoke", "nightly", "cross"])
def test_every_axis_of_a_committed_search_moves_results(name: str, mei_settings: Settings, bars: Bars) -> None:
    plan = make_plan(spec(name), bars, START_MS + 10 * DAY_MS, START_MS + DAYS * DAY_MS)
    rows = run(mei_settings, plan, bars)
    axes = [path for path, _ in plan.axes]
    assert rows.select(axes).n_unique() == plan.combos
    for path in axes:
        # A switch is compared with the first of the values that it lets vary.
        others = [axis for axis in axes if axis != path and path not in plan.when.get(axis, {})]
        alone = rows.unique([*others, path], keep="first", maintain_order=True)
        spread = alone.group_by(others).agg(pl.col("net_pnl_usd").n_unique())
        assert spread["net_pnl_usd"].max() > 1, f"{name}: {path} changes nothing"


def test_every_axis_of_the_wide_search_moves_results(mei_settings: Settings, bars: Bars) -> None:
    """Each value alone beside a few combos in which every condition holds."""
    plan = make_plan(spec("deep"), bars, START_MS + 10 * DAY_MS, START_MS + DAYS * DAY_MS)
    features = build_features(bars, plan.columns(), mei_settings.features)
    rng = np.random.default_rng(1)
    sizes = [len(values) for _, values in plan.axes]
    asked = {path: value for conditions in plan.when.values() for path, value in conditions.items()}
    alone = []
    for _ in range(8):
        base = [values.index(asked[path]) if path in asked else rng.integers(len(values)) for path, values in plan.axes]
        for axis, size in enumerate(sizes):
            alone += [(axis, [*base[:axis], value, *base[axis + 1 :]]) for value in range(size)]
    digits = np.array([combo for _, combo in alone]).T
    plan.grid.settle(digits)
    numbers = plan.grid.numbers(digits)
    values = {**plan.params, **plan.axis_values(numbers)}
    combos = encode_combos(plan.strategy, features, values, len(numbers), plan.symbols, benchmark=plan.benchmark)
    cut = cut_window(bars, plan.from_ms, plan.to_ms)
    model = fill_model(plan.market, plan.initial_balance_usd)
    equity = run_combos(mei_settings, cut, model, features, combos).results["equity_usd"]
    axes = np.array([axis for axis, _ in alone])
    for axis, (path, _) in enumerate(plan.axes):
        groups = equity[axes == axis].reshape(8, sizes[axis])
        assert (groups != groups[:, :1]).any() or path in UNSEEN, f"{path} changes nothing"


def test_the_wide_search_is_wider_than_any_that_could_be_run(bars: Bars) -> None:
    plan = make_plan(spec("deep"), bars, START_MS + 10 * DAY_MS, START_MS + DAYS * DAY_MS)
    nightly = make_plan(spec("nightly"), bars, plan.from_ms, plan.to_ms)
    assert plan.search.method == "tpe"
    assert {path for path, _ in nightly.axes} <= {path for path, _ in plan.axes}
    assert plan.grid.combos > 1_000_000_000 * nightly.combos
    assert plan.search.min_trades > load_config(CHECKOUT / "config").policy.selection.gates.min_trades
    assert all(is_scale(values) for _, values in plan.axes if not {type(value) for value in values} & {bool, str})


def test_the_search_of_a_night_covers_every_kind_of_rule(bars: Bars) -> None:
    plan = make_plan(spec("nightly"), bars, START_MS + 10 * DAY_MS, START_MS + DAYS * DAY_MS)
    roles = {parameter.path: parameter.role for parameter in load("mei_alpha").PARAMETERS}
    found = [roles[path] for path, _ in plan.axes]
    assert len(found) >= 12
    # Sizing scales profit and drawdown alike: it is a choice about risk, not a finding.
    kinds = ("feature", "entry", "exit")
    assert {role: found.count(role) >= 2 for role in kinds} == dict.fromkeys(kinds, True)
    assert 4_000 <= plan.combos <= 60_000
    assert 200 <= make_plan(spec("smoke"), bars, plan.from_ms, plan.to_ms).combos <= 400


@pytest.mark.parametrize("name", ["smoke", "nightly"])
def test_not_every_combo_waits_for_the_rarest_tier(name: str) -> None:
    asked, path = spec(name), "trade.entry_min_confidence"
    assert {*(asked.axis_values(path) if path in asked.axes else (asked.params[path],))} - {"high"}
