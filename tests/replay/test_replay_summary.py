"""The figures of a report against figures worked out by hand."""

import math

import numpy as np
import polars as pl
import pytest
from market_kit import DAY_MS, HOUR_MS, START_MS
from replay_kit import alpha, cross, stage

from mei_pipeline.replay.report import report_of
from mei_pipeline.replay.risk import cagr_pct, calmar, daily_returns, longest_drawdown_days, sortino
from mei_pipeline.replay.run import replay
from mei_pipeline.replay.summary import DOCS, figures, monthly_returns
from mei_pipeline.sweep.metrics import DOCS as METRICS


def test_growth_is_compounded_over_years():
    assert cagr_pct(100.0, 121.0, 730) == pytest.approx(10.0)
    assert cagr_pct(100.0, 50.0, 365) == pytest.approx(-50.0)


@pytest.mark.parametrize(("final", "days"), [(110.0, 364), (0.0, 730), (-5.0, 730)])
def test_growth_is_not_given_for_less_than_a_year_or_for_a_ruin(final, days):
    assert cagr_pct(100.0, final, days) is None


def test_calmar_is_growth_over_the_deepest_fall():
    assert calmar(30.0, 12.0) == 2.5
    assert calmar(None, 12.0) is None
    assert calmar(30.0, 0.0) is None


def test_sortino_counts_every_day_and_punishes_losses_only():
    returns = np.array([0.02, -0.01, 0.03, 0.0])
    # mean 0.01; of the squares 0, 0.0001, 0, 0 the mean is 0.000025, its root 0.005
    assert sortino(returns) == pytest.approx(2.0 * math.sqrt(365.0))
    assert sortino(np.array([0.01, 0.02])) is None
    assert sortino(np.array([])) is None


def test_the_longest_drawdown_ends_where_the_old_peak_is_reached_again():
    times = START_MS + DAY_MS * np.arange(1, 8)
    equity = np.array([110.0, 105.0, 108.0, 110.0, 120.0, 100.0, 90.0])
    assert longest_drawdown_days(times, equity, START_MS, 100.0) == 3.0  # from day 1 to day 4
    assert longest_drawdown_days(times, equity[::-1].copy(), START_MS, 100.0) == 4.0  # from day 3 to the end
    assert longest_drawdown_days(times, np.arange(101.0, 108.0), START_MS, 100.0) == 0.0
    assert longest_drawdown_days(times, np.full(7, 99.0), START_MS, 100.0) == 7.0


def test_daily_returns_go_from_midnight_to_midnight():
    times = START_MS + HOUR_MS * np.arange(1, 73)
    values = np.full(72, 5.0)
    values[[23, 47, 71]] = 110.0, 0.0, 50.0
    equity = pl.DataFrame({"close_ms": times, "equity_usd": values})
    assert daily_returns(equity, 100.0).tolist() == pytest.approx([0.1, -1.0, 0.0])


def test_a_month_ends_with_the_close_at_its_last_midnight():
    times = [START_MS + 31 * DAY_MS, START_MS + 31 * DAY_MS + HOUR_MS, START_MS + 40 * DAY_MS]
    equity = pl.DataFrame({"close_ms": times, "equity_usd": [110.0, 105.0, 99.0]})
    assert monthly_returns(equity, 100.0) == pytest.approx({"2025-01": 10.0, "2025-02": -10.0})


@pytest.fixture(params=[cross, alpha])
def played(request, mei_settings):
    on = stage(mei_settings, request.param())
    return on, replay(mei_settings, on)


def test_figures_agree_with_the_metrics_of_a_sweep_row(played):
    on, run = played
    told = figures(on, run)
    assert list(told) == list(DOCS)
    assert not set(DOCS) & set(METRICS)
    assert told["wins"] + told["losses"] == run.metrics["trades"]
    assert told["wins"] / run.metrics["trades"] == run.metrics["win_rate"]
    factor = -told["wins"] * told["average_win_usd"] / (told["losses"] * told["average_loss_usd"])
    assert factor == pytest.approx(run.metrics["profit_factor"], rel=1e-9)
    assert told["final_balance_usd"] - told["initial_balance_usd"] == run.metrics["net_pnl_usd"]
    assert told["funding_paid_usd"] - told["funding_received_usd"] == pytest.approx(run.metrics["funding_usd"])
    assert told["funding_long_usd"] + told["funding_short_usd"] == pytest.approx(run.metrics["funding_usd"])
    assert told["cagr_pct"] is told["calmar"] is None
    returns = daily_returns(run.equity, 10_000.0)
    assert len(returns) == told["days"] == 40
    assert returns.mean() / returns.std(ddof=1) * math.sqrt(365) == pytest.approx(run.metrics["sharpe"], rel=1e-9)


def test_a_report_adds_up(played):
    on, run = played
    report = report_of(on, run)
    assert report["bars"] == 40 * 24 * 3
    assert report["metrics"]["trades"] == run.metrics["trades"]
    for key in ("by_symbol", "by_side", "by_reason", "by_month"):
        assert sum(group["trades"] for group in report[key].values()) == run.metrics["trades"]
        assert sum(group["pnl_usd"] for group in report[key].values()) == pytest.approx(run.trades["pnl_usd"].sum())
    assert set(report["by_tier"]) <= {"low", "medium", "high"}
    assert bool(report["by_tier"]) == (on.resolved.strategy == "mei_alpha")
    grown = np.prod([1.0 + value / 100.0 for value in report["monthly_return_pct"].values()])
    assert 100.0 * (grown - 1.0) == pytest.approx(run.metrics["return_pct"])
    assert "less than a year" in report["notes"][0]


def test_a_report_of_no_trades_has_no_means(mei_settings):
    on = stage(mei_settings, cross(**{"entry.warmup_bars": 5000}))
    told = figures(on, replay(mei_settings, on))
    assert told["expectancy_usd"] is told["average_win_usd"] is told["sortino"] is None
    assert told["wins"] == told["longest_drawdown_days"] == told["funding_paid_usd"] == 0.0
