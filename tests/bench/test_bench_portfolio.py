"""The committed work of a night has the size it claims, and its bars are those that a lake would give."""

import numpy as np
import pytest

from mei_pipeline.bench import portfolio
from mei_pipeline.bench.work import run_work
from mei_pipeline.candles.intervals import DAY_MS, Intervals
from mei_pipeline.candles.lake import Lake, merge_candles, merge_funding, merge_instruments
from mei_pipeline.candles.resample import resample
from mei_pipeline.candles.sources.synthetic import SyntheticMarket, SyntheticSource
from mei_pipeline.config.load import read_sweep
from mei_pipeline.errors import ConfigError
from mei_pipeline.params.table import read_catalog
from mei_pipeline.simulation.feature_sets import build_features
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.simulation.memory import features_of
from mei_pipeline.simulation.window import cut_window

DAYS = 17


@pytest.fixture(scope="module")
def small():
    return {exits: portfolio.make(exits, symbols=4, days=DAYS, combos=130) for exits in ("", "5m")}


def lake_bars(root, names, intervals):
    market = SyntheticMarket(symbols=names, interval="5m")
    end_ms = market.from_ms + DAYS * DAY_MS
    source, lake = SyntheticSource(market), Lake(root)
    for frame in source.candles("5m", market.from_ms, end_ms):
        merge_candles(lake, frame, now_ms=end_ms + DAY_MS)
        merge_candles(lake, resample(frame, "1h"), now_ms=end_ms + DAY_MS)
    for frame in source.funding(market.from_ms, end_ms):
        merge_funding(lake, frame, now_ms=end_ms + DAY_MS)
    merge_instruments(lake, source.instruments(), now_ms=end_ms + DAY_MS)
    return load_bars(lake, market.venue, intervals, names, market.from_ms, end_ms)


@pytest.mark.parametrize("intervals", [Intervals("1h"), Intervals("1h", "30m", "5m")], ids=["1h", "5m"])
def test_bars_in_memory_are_those_of_a_lake(tmp_path, intervals):
    names = portfolio.symbol_names(3)
    ours = portfolio.market_bars(intervals, symbols=3, days=DAYS)
    if intervals.step == "1h":
        theirs = lake_bars(tmp_path, names, intervals)
        fields = cut_window(theirs, ours.anchor_ms, ours.end_ms).market
    else:
        theirs = lake_bars(tmp_path, names, Intervals("1h", "5m", "5m"))
        fields = cut_window(theirs, ours.anchor_ms, ours.end_ms).market
        thirty = np.tile([0, 0, 0, 0, 0, 1], DAYS * 24 * 2)
        fields = fields._replace(enters=thirty)
    assert ours.symbols == theirs.symbols
    assert np.array_equal(ours.prices, theirs.prices)
    np.testing.assert_allclose(ours.volume, theirs.volume, rtol=1e-12)
    assert np.array_equal(ours.age, theirs.age)
    found = cut_window(ours, ours.anchor_ms, ours.end_ms).market
    for name in found._fields:
        last = -1 if name == "funding" else None  # the payment at the very end is not in the lake yet
        assert np.array_equal(getattr(found, name)[:last], getattr(fields, name)[:last]), name


def test_columns_in_memory_are_those_on_disk(small, tmp_path):
    work = small[""]
    columns = work.plan.columns()
    ours = features_of(work.bars, columns)
    assert ours.columns == columns
    assert np.array_equal(ours.values, build_features(work.bars, columns, tmp_path).values, equal_nan=True)


@pytest.mark.parametrize("exits", ["", "5m"])
def test_all_arrays_lie_as_those_of_a_lake_do(small, exits):
    # numba compiles a function again for an array of another order.
    bars = small[exits].bars
    arrays = (*bars.prices, bars.volume, bars.age, *bars.steps.prices, bars.steps.age, bars.steps.funding)
    assert all(array.flags.c_contiguous for array in arrays)


def test_the_grid_has_twelve_axes_and_one_place_for_each_of_twenty_positions():
    spec = read_sweep(portfolio.GRID)
    assert len(spec.axes) >= 12
    assert spec.params["trade.max_open_positions"] == 20
    roles = {read_catalog().strategy("mei_alpha")[path].role for path in spec.axes}
    assert roles == {"feature", "entry", "exit", "sizing"}


def test_exits_at_finer_bars_see_the_same_main_bars(small):
    hourly, fine = small[""], small["5m"]
    assert np.array_equal(hourly.bars.prices, fine.bars.prices)
    assert np.array_equal(hourly.bars.volume, fine.bars.volume)
    assert (hourly.steps, fine.steps) == (DAYS * 24, DAYS * 288)
    assert (fine.plan.interval, fine.plan.entry_interval, fine.plan.exit_interval) == ("1h", "", "5m")


def test_figures_of_a_small_book(small, mei_settings):
    figures, outcome = run_work(mei_settings, small["5m"], "portfolio", threads=2)
    assert (figures.combos, figures.symbols, figures.steps, figures.axes) == (130, 4, DAYS * 288, 12)
    assert figures.trades_min <= figures.trades_mean <= figures.trades_max
    assert figures.trades_per_year == pytest.approx(figures.trades_mean * 365 / DAYS)
    assert figures.trades_mean == outcome.results["trades"].mean()
    assert figures.ns_per_combo_bar == pytest.approx(figures.simulate_cpu_s * 1e9 / (130 * DAYS * 288))
    assert 0.0 <= figures.held_frac <= 1.0


@pytest.mark.long
def test_a_combo_trades_300_to_1000_times_a_year(mei_settings):
    figures, _ = run_work(mei_settings, portfolio.make(combos=1024), "portfolio")
    assert (figures.symbols, figures.steps) == (50, 8760)
    assert 300 <= figures.trades_mean <= 1000


@pytest.mark.parametrize(("exits", "why"), [("4h", "divide"), ("1m", "market has bars of 5m")])
def test_exits_that_the_market_can_not_have_are_refused(exits, why):
    with pytest.raises(ConfigError, match=why):
        portfolio.make(exits, symbols=1, days=DAYS)
