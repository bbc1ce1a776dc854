"""Buy and hold beside a replay: of the benchmark symbol, or of all symbols in equal parts."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from market_kit import DAY_MS, HOUR_MS, START_MS, VENUE
from page_kit import read_page
from replay_kit import FROM_MS, TO_MS, cross, inputs

from mei_pipeline.candles.intervals import Intervals
from mei_pipeline.replay.benchmark import benchmark_dict, benchmark_on, hold
from mei_pipeline.replay.page import page_of
from mei_pipeline.replay.report import report_of
from mei_pipeline.replay.risk import annual_sharpe, max_drawdown_pct
from mei_pipeline.replay.run import ReplayInputs, replay
from mei_pipeline.simulation.bars import Bars, Steps
from mei_pipeline.simulation.window import Window

NAN = np.nan


def bars_of(**closes):
    """Hourly bars by symbol whose open is one below the close."""
    close = np.array(list(closes.values()), dtype=float).T
    count, width = close.shape
    times, rows = START_MS + HOUR_MS * np.arange(count), np.arange(count)
    prices = np.stack((close - 1.0, close, close - 1.0, close))
    present, ones = ~np.isnan(close), np.ones(count, dtype=np.int64)
    age = np.where(present, rows[:, None], -1)
    steps = Steps("1h", times, prices, present, age, np.zeros((count, width)), rows, rows, ones, ones)
    return Bars(VENUE, Intervals("1h"), tuple(closes), START_MS, "", times, prices, close, age, steps, pl.DataFrame())


def stage_on(bars, first=0, **config):
    """A stage over all bars from `first` on, of which only what a benchmark reads is filled in."""
    cut = Window(START_MS + first * HOUR_MS, bars.end_ms, first, len(bars.open_ms), None)
    return ReplayInputs(bars, cut, None, replace(cross(), initial_balance_usd=100.0, **config), None, None)


def test_a_holding_is_bought_at_the_first_open_of_the_window():
    on = stage_on(bars_of(AAA=[5.0, 11.0, 20.0, 5.0]), 1)
    assert hold(on.bars, on.cut, ("AAA",), 100.0) == pytest.approx([110.0, 200.0, 50.0])


def test_equal_parts_are_not_rebalanced():
    on = stage_on(bars_of(AAA=[11.0, 20.0, 40.0], BBB=[11.0, 5.0, 5.0]))
    assert hold(on.bars, on.cut, ("AAA", "BBB"), 100.0) == pytest.approx([110.0, 125.0, 225.0])


def test_a_symbol_counts_at_its_last_close_where_it_has_no_bar_and_as_cash_before_its_first():
    on = stage_on(bars_of(AAA=[NAN, 11.0, 20.0, 30.0], BBB=[11.0, NAN, 20.0, NAN]))
    assert hold(on.bars, on.cut, ("AAA", "BBB"), 100.0) == pytest.approx([105.0, 110.0, 200.0, 250.0])


def test_a_bar_before_the_window_is_not_bought():
    on = stage_on(bars_of(AAA=[3.0, NAN, 11.0], BBB=[3.0, 11.0, 11.0]), 1)
    assert hold(on.bars, on.cut, ("AAA",), 100.0) == pytest.approx([100.0, 110.0])


@pytest.mark.parametrize(
    ("names", "wanted", "held", "name"),
    [
        (("ETHUSDT", "XBTUSD"), "", ("XBTUSD",), "buy and hold of XBTUSD"),
        (("BTC", "ETH"), "ETH", ("ETH",), "buy and hold of ETH"),
        (("BTC/USDC:USDC", "BTC/USDT:USDT"), "", ("BTC/USDC:USDC", "BTC/USDT:USDT"), None),
        (("ADA", "ETH"), "", ("ADA", "ETH"), "equal-weight buy and hold of ADA, ETH"),
        (tuple(f"COIN{index}" for index in range(9)), "", None, "equal-weight buy and hold of 9 symbols"),
    ],
)
def test_the_benchmark_is_that_of_the_config_else_bitcoin_else_all_symbols(names, wanted, held, name):
    found = benchmark_on(stage_on(bars_of(**{each: [11.0, 12.0] for each in names}), benchmark=wanted))
    assert found.symbols == (held or names)
    assert found.name == (name or "equal-weight buy and hold of BTC/USDC:USDC, BTC/USDT:USDT")


def test_a_wanted_benchmark_comes_before_that_of_the_config():
    on = stage_on(bars_of(BTC=[11.0, 12.0], ETH=[11.0, 12.0], SOL=[11.0, 12.0]), benchmark="ETH")
    assert [benchmark_on(on, wanted).symbols for wanted in ("SOL", "")] == [("SOL",), ("ETH",)]


def test_a_benchmark_symbol_without_a_bar_in_the_window_is_not_held():
    found = benchmark_on(stage_on(bars_of(BTC=[5.0, NAN, NAN], ETH=[5.0, 11.0, 20.0]), 1))
    assert found.symbols == ("ETH",)
    assert found.equity == pytest.approx([110.0, 200.0])
    assert benchmark_on(stage_on(bars_of(BTC=[5.0, NAN]), 1)) is None
    assert benchmark_dict(None, stage_on(bars_of(BTC=[5.0, NAN]), 1)) is None


def test_the_figures_of_a_benchmark_are_those_of_its_equity():
    closes = 100.0 + np.random.default_rng(1).normal(0.0, 1.0, 24 * 20).cumsum()
    on = stage_on(bars_of(BTC=closes))
    told = benchmark_dict(benchmark_on(on), on)
    equity = 100.0 * closes / (closes[0] - 1.0)
    ends = np.concatenate(([100.0], equity[23::24]))
    assert told == {
        "name": "buy and hold of BTC",
        "symbols": ["BTC"],
        "return_pct": pytest.approx(equity[-1] - 100.0),
        "sharpe": pytest.approx(annual_sharpe(ends[1:] / ends[:-1] - 1.0)),
        "max_drawdown_pct": pytest.approx(max_drawdown_pct(equity, 100.0)),
    }


def test_a_report_and_its_page_compare_the_strategy_with_buy_and_hold(mei_settings):
    on = inputs(mei_settings, cross())
    run = replay(mei_settings, on)
    report = report_of(on, run)
    page = read_page(page_of(on, run, report))
    assert report["benchmark"]["symbols"] == ["AAA", "BBB", "CCC"]
    assert page.heads[0] == ["figure", "strategy", "equal-weight buy and hold of AAA, BBB, CCC"]
    rolling = report["rolling_sharpe"]
    assert (rolling["window_days"], len(rolling["by_day"])) == (20, 21)
    last = (TO_MS - FROM_MS) // DAY_MS
    assert list(rolling["by_day"])[:: last - 20] == ["2025-01-30", "2025-02-19"]
    assert report["drawdowns"][0]["depth_pct"] == pytest.approx(report["metrics"]["max_drawdown_pct"])
    for title in ("Rolling Sharpe ratio, 20 days", "Worst drawdowns", "Distribution of daily returns, percent"):
        assert f"\n{title}\n" in page.words
    assert f"{report['figures']['value_at_risk_pct']:.2f} %Value at risk, 5 %" in page.words
