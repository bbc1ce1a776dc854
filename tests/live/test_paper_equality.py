"""A paper lane does what a replay of its config does, byte for byte."""

import numpy as np
import pytest
from paper_kit import (
    ALPHA,
    CROSS,
    START_MS,
    config,
    events_of,
    fills_of,
    instruments,
    make_bars,
    replay_of,
    replayed_verdicts,
    start_lane,
    trades_of,
    verdicts_of,
    with_tick,
)
from polars.testing import assert_frame_equal

from mei_pipeline.candles.intervals import DAY_MS, HOUR_MS
from mei_pipeline.execution.rows import EquityRow
from mei_pipeline.params.identity import ResolvedConfig
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.run import RESULTS

BOLD = {"trade.size_frac": 8.0, "trade.leverage": 20.0, "trade.shrink_to_fit": True, "trade.sl_atr_mult": 20.0}
CHANGING = instruments(
    AAA={START_MS + 20 * DAY_MS + HOUR_MS // 3: {"size_decimals": 3.0, "max_leverage": 5.0}},
    BBB={START_MS + 15 * DAY_MS: {"size_decimals": 1.0}, START_MS + 25 * DAY_MS: {"min_notional_usd": 900.0}},
)


def check_equal(settings: Settings, bars: Bars, resolved: ResolvedConfig, least: int = 60) -> set[str]:
    """Compare everything that both give; return the reasons of the fills."""
    lane = start_lane(settings, bars, resolved).run(events_of(bars))
    made = replay_of(settings, bars, resolved)
    assert made.fills.height > least
    assert_frame_equal(fills_of(lane.rows), made.fills, check_exact=True)
    trades = trades_of(lane.rows)
    assert_frame_equal(trades, made.trades.select(trades.columns), check_exact=True)
    equity = [row.equity_usd for row in lane.rows if isinstance(row, EquityRow)]
    assert np.array_equal(equity, made.equity["equity_usd"].to_numpy())
    assert verdicts_of(lane) == replayed_verdicts(made, bars)
    account = lane.state.books[0].step.account
    for name, column in RESULTS.items():
        assert float(account[column]) == float(made.outcome.results[name][0]), name
    assert lane.alerts == []
    return set(made.fills["reason"])


@pytest.mark.parametrize(
    ("fill", "delay", "stops"),
    [("close", 0, "intrabar"), ("close", 2, "close"), ("next_open", 0, "close"), ("next_open", 2, "intrabar")],
)
def test_every_fill_model(mei_settings: Settings, fill: str, delay: int, stops: str) -> None:
    bars = make_bars(terms=CHANGING)
    market = {"market.fill": fill, "market.delay_bars": delay, "market.stops": stops, "market.exit_slippage_bps": 2.0}
    check_equal(mei_settings, bars, config("ema_cross", bars, CROSS, market))


@pytest.mark.parametrize(("fill", "delay", "sub"), [("close", 0, 1), ("next_open", 1, 1), ("close", 1, 4)])
def test_additions_and_partial_closes(mei_settings: Settings, sub: int, fill: str, delay: int) -> None:
    bars = make_bars(seed=3, sub=sub, terms=CHANGING)
    market = {"market.fill": fill, "market.delay_bars": delay}
    reasons = check_equal(mei_settings, bars, config("mei_alpha", bars, ALPHA, market))
    assert {"entry", "add", "funding"} <= reasons


def test_sub_bars(mei_settings: Settings) -> None:
    bars = make_bars(sub=4)
    check_equal(mei_settings, bars, config("ema_cross", bars, CROSS, {"market.fill": "close"}))


@pytest.mark.parametrize("fill", ["close", "next_open"])
def test_a_delisting(mei_settings: Settings, fill: str) -> None:
    bars = make_bars(ends={"AAA": 30 * 24 + 5, "CCC": 25 * 24})
    far = {**CROSS, "trade.sl_atr_mult": 50.0, "trade.tp_atr_mult": 50.0}
    assert "delisted" in check_equal(mei_settings, bars, config("ema_cross", bars, far, {"market.fill": fill}))


@pytest.mark.parametrize(("jumps", "reason"), [({}, "liquidation"), ({300: 0.8, 500: 1.3, 700: 0.7}, "backstop")])
def test_a_liquidation(mei_settings: Settings, jumps: dict[int, float], reason: str) -> None:
    bars = make_bars(noise=0.02, jumps=jumps)
    assert reason in check_equal(mei_settings, bars, config("ema_cross", bars, CROSS | BOLD, {}), least=40)


@pytest.mark.parametrize(("strategy", "params"), [("ema_cross", CROSS), ("mei_alpha", ALPHA)])
def test_small_differences_are_caught(mei_settings: Settings, strategy: str, params: dict[str, object]) -> None:
    bars = make_bars()
    resolved, dearer = (
        config(strategy, bars, params, {"market.fill": "close", "market.taker_fee_bps": fee}) for fee in (4.5, 5.5)
    )
    made = replay_of(mei_settings, bars, resolved).fills
    assert not fills_of(start_lane(mei_settings, bars, dearer).run(events_of(bars)).rows).equals(made)
    fill = made.filter((made["moment"] == "close") & (made["size"] != 0.0)).row(20, named=True)
    other = with_tick(bars, fill["bar"], bars.symbols.index(fill["symbol"]), 0.001)
    assert not fills_of(start_lane(mei_settings, other, resolved).run(events_of(other)).rows).equals(made)
