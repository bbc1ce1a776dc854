"""A paper lane does what a replay of its config does, byte for byte."""

import numpy as np
from paper_kit import (
    config,
    events_of,
    fills_of,
    make_bars,
    replay_of,
    replayed_verdicts,
    start_lane,
    trades_of,
    verdicts_of,
)
from polars.testing import assert_frame_equal

from mei_pipeline.execution.rows import EquityRow
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.run import RESULTS

CROSS = {"indicators.ema_fast_window": 3, "indicators.ema_slow_window": 9, "entry.warmup_bars": 50}


def check_equal(settings: Settings, bars: Bars, resolved) -> None:
    lane = start_lane(settings, bars, resolved).run(events_of(bars))
    made = replay_of(settings, bars, resolved)
    assert made.fills.height > 100
    assert_frame_equal(fills_of(lane.rows), made.fills, check_exact=True)
    trades = trades_of(lane.rows)
    assert_frame_equal(trades, made.trades.select(trades.columns), check_exact=True)
    equity = [row.equity_usd for row in lane.rows if isinstance(row, EquityRow)]
    assert np.array_equal(equity, made.equity["equity_usd"].to_numpy())
    assert verdicts_of(lane) == replayed_verdicts(made, bars)
    account = lane.state.books[0].step.account
    for name, fieldname in RESULTS.items():
        assert float(account[fieldname]) == float(made.outcome.results[name][0]), name
    assert lane.alerts == []


def test_cross(mei_settings: Settings) -> None:
    bars = make_bars()
    check_equal(mei_settings, bars, config("ema_cross", bars, CROSS, {"market.fill": "close"}))
