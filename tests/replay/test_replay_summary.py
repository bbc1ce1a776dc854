"""The figures of a report against figures worked out by hand."""

import math

import numpy as np
import polars as pl
import pytest
from market_kit import DAY_MS, HOUR_MS, START_MS
from replay_kit import alpha, cross, inputs

from mei_pipeline.replay.report import report_of
from mei_pipeline.replay.risk import daily_returns, max_drawdown_pct
from mei_pipeline.replay.run import replay
from mei_pipeline.replay.summary import DOCS, figures, monthly_returns
from mei_pipeline.sweep.metrics import DOCS as METRICS


def test_a_month_ends_with_the_close_at_its_last_midnight():
    times = [START_MS + 31 * DAY_MS, START_MS + 31 * DAY_MS + HOUR_MS, START_MS + 40 * DAY_MS]
    equity = pl.DataFrame({"close_ms": times, "equity_usd": [110.0, 105.0, 99.0]})
    assert monthly_returns(equity, 100.0) == pytest.approx({"2025-01": 10.0, "2025-02": -10.0})


@pytest.fixture(params=[cross, alpha])
def played(request, mei_settings):
    on = inputs(mei_settings, request.param())
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
    assert max_drawdown_pct(run.equity["equity_usd"].to_numpy(), 10_000.0) == pytest.approx(
        run.metrics["max_drawdown_pct"]
    )
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
    assert "Growth and Calmar ratio need a year" in report["notes"][0]


def test_a_report_of_no_trades_has_no_means(mei_settings):
    on = inputs(mei_settings, cross(**{"entry.warmup_bars": 5000}))
    told = figures(on, replay(mei_settings, on))
    assert told["expectancy_usd"] is told["average_win_usd"] is told["sortino"] is None
    assert told["wins"] == told["longest_drawdown_days"] == told["funding_paid_usd"] == 0.0
