"""The size of a planted edge: the measuring book against a naive twin, and the table against the book."""

from dataclasses import replace

import numpy as np
import pytest
from example_kit import examples
from hypothesis import given
from hypothesis import strategies as st

from mei_pipeline.candles.intervals import HOUR_MS
from mei_pipeline.candles.sources import synthetic_calibration as calibration
from mei_pipeline.candles.sources.synthetic import SyntheticMarket
from mei_pipeline.candles.sources.synthetic_config import DEFAULT_FROM_MS
from mei_pipeline.candles.sources.synthetic_edge import COST_BPS, SLIPPAGE_BPS, TABLES, drift_for
from mei_pipeline.candles.sources.synthetic_hours import make_hours
from mei_pipeline.config.load import load_config
from mei_pipeline.errors import ConfigError
from mei_pipeline.settings import CHECKOUT


def naive_profit(bars, fast_window, slow_window, stop_atr, target_atr):  # noqa: C901  (the events of a bar in their order)
    """Profit before fees and notional traded of one combination on one symbol; bars are (open, high, low, close)."""
    fast = slow = bars[0][3]
    atr = bars[0][1] - bars[0][2]
    above, order, distance = False, 0, 0.0
    side, entry, stop, target = 0, 0.0, 0.0, 0.0
    profit = traded = 0.0
    for at, (begin, high, low, close) in enumerate(bars):
        if order:
            if side:
                profit += side * (begin - entry) / entry
                traded += begin / entry
            side, entry = order, begin
            stop, target = entry - side * stop_atr * distance, entry + side * target_atr * distance
            traded += 1.0
            order = 0
        if side:
            price = None
            if (low <= stop) if side > 0 else (high >= stop):
                price = min(begin, stop) if side > 0 else max(begin, stop)
            elif (high >= target) if side > 0 else (low <= target):
                price = max(begin, target) if side > 0 else min(begin, target)
            if price is not None:
                profit += side * (price - entry) / entry
                traded += price / entry
                side = 0
        if at:
            before = bars[at - 1][3]
            atr += (max(high, before) - min(low, before) - atr) / 14
            fast += 2 / (fast_window + 1) * (close - fast)
            slow += 2 / (slow_window + 1) * (close - slow)
        if (fast > slow) != above and at >= 200:
            order, distance = (1 if fast > slow else -1), atr
        above = fast > slow
    if side:
        profit += side * (bars[-1][3] - entry) / entry
    return profit, traded


@examples(3)
@given(st.integers(0, 10_000), st.sampled_from([0.002, 0.01, 0.03]))
def test_trading_equals_the_naive_twin(seed, gap):
    random = np.random.default_rng(seed)
    count = 24 * 20
    close = 100.0 * np.exp(np.cumsum(0.01 * random.standard_normal((count, 1, 2)), axis=0))
    begin = np.concatenate((close[:1], close[:-1])) * np.exp(gap * random.standard_normal(close.shape))
    high = np.maximum(begin, close) * np.exp(np.abs(0.006 * random.standard_normal(close.shape)))
    low = np.minimum(begin, close) * np.exp(-np.abs(0.006 * random.standard_normal(close.shape)))
    bars = np.stack((begin, high, low, close))
    days = list(calibration.trade_days(bars))
    profit, traded = (np.sum([day[part] for day in days], axis=0) for part in (0, 1))
    assert len(days) == 20
    for fast, fast_window in enumerate(calibration.FAST):
        for slow, slow_window in enumerate(calibration.SLOW):
            for pair, (stop, target) in enumerate(calibration.STOPS):
                for symbol in range(2):
                    twin = naive_profit(bars[:, :, 0, symbol].T, fast_window, slow_window, stop, target)
                    mine = (profit[fast, slow, pair, 0, symbol], traded[fast, slow, pair, 0, symbol])
                    assert mine == pytest.approx(twin, rel=1e-9, abs=1e-9)


@pytest.mark.long
def test_a_stated_edge_is_what_the_best_parameters_earn():
    market = SyntheticMarket(seed=5_000, edge_sharpe=4.0)
    earned = calibration.measure(market, (10,), years=10)
    best, _, _, stop, _ = earned.best(0)
    assert best == pytest.approx(4.0, abs=1.2)
    assert stop == calibration.STOPS[-1][0]
    assert 0.0 < earned.best(0, calibration.TIGHT)[0] < best
    assert (earned.net < earned.gross).all()


def test_every_shipped_search_pays_the_slippage_that_a_stated_edge_is_net_of():
    config = load_config(CHECKOUT / "config")
    for name, spec in config.sweeps.items():
        slippage = {spec.market[f"market.{side}_slippage_bps"] for side in ("entry", "exit")}
        assert slippage == {SLIPPAGE_BPS}, name
    assert config.sweeps["experiment"].market["market.taker_fee_bps"] + SLIPPAGE_BPS == COST_BPS


@pytest.mark.parametrize(("strategy", "symbols"), [(name, count) for name in TABLES for count in TABLES[name].symbols])
def test_the_table_is_monotone_in_edge_and_diversification(strategy, symbols):
    table = TABLES[strategy]
    column = [row[table.symbols.index(symbols)] for row in table.sharpe.values()]
    assert column == sorted(column)
    assert list(table.sharpe) == sorted(table.sharpe)
    assert column[0] < 0.1
    for drift, sharpe in zip(table.sharpe, column, strict=True):
        if sharpe > 0.0:
            assert drift_for(sharpe, symbols, strategy) == pytest.approx(drift)


def test_an_edge_is_stated_for_a_strategy():
    assert drift_for(3.0, 10, "mei_alpha") > drift_for(3.0, 10) == drift_for(3.0, 10, "ema_cross")


@pytest.mark.parametrize("strategy", TABLES)
def test_an_edge_beyond_the_table_is_refused_with_the_greatest(strategy):
    greatest = list(TABLES[strategy].sharpe.values())[-1][-1]
    text = rf"edge_sharpe is 40; allowed: at most {greatest:.1f}, which the best {strategy} earns with 60 symbols at"
    with pytest.raises(ConfigError, match=text):
        drift_for(40.0, 60, strategy)


def test_an_edge_of_a_strategy_without_a_table_is_refused():
    with pytest.raises(ConfigError, match="calibrated for nothing; allowed: ema_cross, mei_alpha"):
        drift_for(3.0, 10, "nothing")


@given(st.floats(0.3, 6.0), st.floats(0.3, 6.0), st.integers(1, 60))
def test_more_edge_needs_more_drift(one, other, symbols):
    low, high = sorted((one, other))
    assert 0.0 < drift_for(low, symbols) <= drift_for(high, symbols)
    assert drift_for(low, symbols) >= drift_for(low, symbols + 1)


FIRST_HALF_MS = DEFAULT_FROM_MS + 20 * 24 * HOUR_MS


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ({}, {("BTC", 0), ("BTC", 1), ("ETH", 0), ("ETH", 1)}),
        ({"edge_symbols": ("ETH",)}, {("ETH", 0), ("ETH", 1)}),
        ({"edge_to_ms": FIRST_HALF_MS}, {("BTC", 0), ("ETH", 0)}),
        ({"edge_to_ms": DEFAULT_FROM_MS}, set()),
    ],
)
def test_an_edge_is_where_and_when_it_is_planted(change, moved):
    market = SyntheticMarket(seed=3, symbols=("BTC", "ETH"), edge_size=0.2, **change)
    hours = 40 * 24
    drift = make_hours(market, hours).drift.reshape(2, hours // 2, 2)
    found = {(name, half) for half in (0, 1) for at, name in enumerate(market.symbols) if drift[half, :, at].any()}
    assert found == moved


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"edge_symbols": ("NOPE",)}, "edge_symbols are .*NOPE.*allowed: symbols of the market, BTC, ETH"),
        ({"edge_to_ms": DEFAULT_FROM_MS + 1}, "edge_to_ms is .* full hour"),
        ({"edge_to_ms": 0}, "edge_to_ms is 0"),
    ],
)
def test_an_edge_of_no_symbol_or_time_of_the_market_is_refused(change, text):
    with pytest.raises(ConfigError, match=text):
        SyntheticMarket(seed=3, symbols=("BTC", "ETH"), edge_size=0.2, **change)


def test_no_edge_is_no_drift():
    assert drift_for(0.0, 10) == 0.0
    assert SyntheticMarket().trend_drift == 0.0
    assert SyntheticMarket(edge_size=0.07).trend_drift == 0.07
    assert replace(SyntheticMarket(), edge_sharpe=3.0).trend_drift == drift_for(3.0, 10)
