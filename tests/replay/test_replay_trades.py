"""Fills become trades: tables of fills with the trades that a person would write down."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from market_kit import HOUR_MS, START_MS
from replay_kit import alpha, bars_of, inputs

from mei_pipeline.replay.run import replay
from mei_pipeline.replay.trades import SCHEMA, split_trades, trade_numbers

OHLC = [
    (100.0, 101.0, 99.0, 100.0),
    (100.0, 110.0, 95.0, 105.0),
    (105.0, 120.0, 104.0, 118.0),
    (118.0, 119.0, 90.0, 112.0),
    (112.0, 130.0, 80.0, 111.0),
    (111.0, 112.0, 70.0, 108.0),
]


def fill(bar, reason, moment, size, price, *, fee=0.0, cash=0.0, signal=0):
    at = START_MS + HOUR_MS * (bar + (moment == "close"))
    return {"time_ms": at, "bar": bar, "symbol": "AAA", "reason": reason, "moment": moment, "size": size,
            "price": price, "fee_usd": fee, "cash_usd": cash, "signal": signal}  # fmt: skip


def trades_of_fills(*fills, strategy="ema_cross"):
    held = pl.col("size").cum_sum().round(2)
    return split_trades(pl.DataFrame(fills).with_columns(held=held), bars_of("AAA", OHLC), strategy)


def test_a_trade_lasts_from_flat_to_flat_whatever_happens_between():
    told, trades, holding = trades_of_fills(
        fill(0, "entry", "close", 2.0, 100.0, fee=1.0, cash=-1.0),
        fill(1, "add", "close", 1.0, 106.0, fee=0.5, cash=-0.5),
        fill(2, "take_profit_partial", "close", -1.0, 118.0, fee=0.5, cash=15.5),
        fill(2, "funding", "close", 0.0, 118.0, cash=-0.3),
        fill(3, "stop_loss", "close", -2.0, 112.0, fee=1.0, cash=19.0),
    )
    (row,) = trades.to_dicts()
    assert list(row) == list(SCHEMA)
    assert (row["symbol"], row["side"], row["reason"]) == ("AAA", "long", "stop_loss")
    assert (row["adds"], row["partials"], row["bars"], row["minutes"]) == (1, 1, 3, 180.0)
    assert (row["size"], row["total_size"]) == (3.0, 3.0)
    assert row["entry_price"] == pytest.approx(102.0)
    assert row["exit_price"] == pytest.approx(114.0)
    assert (row["entry_ms"], row["exit_ms"]) == (START_MS + HOUR_MS, START_MS + 4 * HOUR_MS)
    assert row["fees_usd"] == pytest.approx(3.0)
    assert row["funding_usd"] == pytest.approx(0.3)
    assert row["pnl_usd"] == pytest.approx(32.7)
    assert row["return_pct"] == pytest.approx(100.0 * 32.7 / 306.0)
    # Bar 1 against an entry of 100, bars 2 and 3 against the average of 102.
    assert row["mfe_pct"] == pytest.approx(100.0 * 18.0 / 102.0)
    assert row["mae_pct"] == pytest.approx(100.0 * -12.0 / 102.0)
    assert told.columns[-2:] == ["trade", "held"]
    assert told["held"].to_list() == [2.0, 3.0, 2.0, 2.0, 0.0]
    assert holding.is_empty()


def test_an_addition_after_a_partial_close_opens_more_than_was_ever_held():
    _, trades, _ = trades_of_fills(
        fill(0, "entry", "close", 2.0, 100.0),
        fill(1, "take_profit_partial", "close", -1.0, 105.0),
        fill(2, "add", "close", 1.0, 118.0),
        fill(3, "trailing_stop", "close", -2.0, 112.0),
    )
    (row,) = trades.to_dicts()
    assert (row["size"], row["total_size"], row["entry_price"]) == (2.0, 3.0, pytest.approx(106.0))


@pytest.mark.parametrize(
    ("entry", "leaving", "minutes"),
    [
        ((1, "open"), (3, "open"), 120.0),
        ((1, "open"), (1, "close"), 60.0),
        ((1, "open"), (1, "inside"), 0.0),
        ((0, "close"), (1, "inside"), 0.0),
        ((0, "close"), (3, "inside"), 120.0),
        ((0, "close"), (3, "close"), 180.0),
    ],
)
def test_minutes_and_bars_are_the_time_from_entry_to_exit(entry, leaving, minutes):
    """An entry at a close is at the open of the next bar, where what happens inside that bar is stamped, too."""
    _, trades, _ = trades_of_fills(
        fill(entry[0], "entry", entry[1], 1.0, 100.0), fill(leaving[0], "stop", leaving[1], -1.0, 99.0)
    )
    (row,) = trades.to_dicts()
    assert row["minutes"] == minutes == (row["exit_ms"] - row["entry_ms"]) / 60_000
    assert row["bars"] == minutes / 60


def test_a_settlement_of_the_backstop_belongs_to_its_trade():
    told, trades, _ = trades_of_fills(
        fill(0, "entry", "close", 2.0, 100.0, fee=1.0, cash=-1.0),
        fill(1, "funding", "close", 0.0, 105.0, cash=-0.5),
        fill(2, "backstop", "open", 0.0, 40.0, cash=30.0),
        fill(2, "liquidation", "open", -2.0, 40.0, cash=-120.0),
    )
    (row,) = trades.to_dicts()
    assert (row["reason"], row["pnl_usd"], row["funding_usd"], row["partials"]) == ("liquidation", -91.5, 0.5, 0)
    assert told["trade"].to_list() == [0, 0, 0, 0]


def test_what_is_opened_in_lots_is_a_whole_number_of_lots():
    told, trades, _ = trades_of_fills(
        fill(0, "entry", "close", 0.1, 100.0),
        fill(1, "add", "close", 0.2, 100.0),
        fill(2, "signal", "close", -0.3, 100.0),
    )
    assert told["held"].to_list() == [0.1, 0.3, 0.0]
    assert trades.select("size", "total_size").row(0) == (0.3, 0.3)


def test_a_flip_ends_one_trade_and_begins_another():
    told, trades, holding = trades_of_fills(
        fill(0, "entry", "close", 1.0, 100.0),
        fill(2, "signal", "close", -1.0, 118.0, cash=18.0),
        fill(2, "entry", "close", -1.0, 118.0),
        fill(3, "funding", "close", 0.0, 112.0, cash=0.2),
    )
    assert trades["side"].to_list() == ["long"]
    assert told["trade"].to_list() == [0, 0, 1, 1]
    assert holding.select("side", "size", "entry_price", "realised_usd").row(0) == ("short", 1.0, 118.0, 0.2)


def test_a_short_gains_when_the_price_falls():
    _, trades, _ = trades_of_fills(fill(0, "entry", "close", -1.0, 100.0), fill(1, "target", "close", 1.0, 97.0))
    assert trades.select("side", "mae_pct", "mfe_pct").row(0) == ("short", -10.0, 5.0)


@pytest.mark.parametrize(
    ("entry", "leaving", "worst", "best"),
    [
        ((0, "close"), (2, "close", 118.0), -5.0, 20.0),  # the bar of the exit counts whole
        ((1, "open"), (2, "close", 118.0), -5.0, 20.0),  # so does that of an entry at its open
        ((0, "close"), (2, "open", 105.0), -5.0, 10.0),  # of the bar of an exit at its open only that price
        ((0, "close"), (5, "inside", 75.0), -25.0, 30.0),  # of a bar that stopped it out only the price of the stop
        ((4, "close"), (5, "inside", 90.0), -10.0, 0.0),
        ((1, "open"), (1, "inside", 96.0), -4.0, 0.0),
    ],
)
def test_what_a_position_saw(entry, leaving, worst, best):
    (opened, how), (closed, moment, price) = entry, leaving
    _, trades, _ = trades_of_fills(fill(opened, "entry", how, 1.0, 100.0), fill(closed, "stop", moment, -1.0, price))
    row = trades.row(0, named=True)
    assert (row["mae_pct"], row["mfe_pct"]) == (pytest.approx(worst), pytest.approx(best))


def test_no_fills_make_no_trades():
    _, trades, holding = split_trades(
        pl.DataFrame(fill(0, "entry", "close", 1.0, 1.0) | {"held": 1.0}).clear(), bars_of("AAA", OHLC), "ema_cross"
    )
    assert trades.is_empty()
    assert list(trades.columns) == list(SCHEMA)
    assert holding.is_empty()


def test_signals_are_told_where_the_strategy_has_words_for_them():
    code = -(1 + 2 * 2 + 8 * 3 + 32)  # short, tier high, mode 3, may open
    _, trades, _ = trades_of_fills(
        fill(0, "entry", "close", -1.0, 100.0, signal=code), fill(1, "signal", "close", 1.0, 99.0), strategy="mei_alpha"
    )
    assert trades.select("tier", "mode").row(0) == ("high", "slow drift")
    _, trades, _ = trades_of_fills(
        fill(0, "entry", "close", 1.0, 100.0, signal=1), fill(1, "signal", "close", -1.0, 99.0)
    )
    assert trades.select("tier", "mode").row(0) == (None, None)


def test_trades_are_those_that_the_ledger_counts(mei_settings):
    run = replay(mei_settings, inputs(mei_settings, alpha()))
    trades = run.trades
    assert trades["adds"].sum() > 0 < trades["partials"].sum()
    assert trades.height == run.metrics["trades"] > 20
    assert (trades["pnl_usd"] > 0).mean() == run.metrics["win_rate"]
    closed = run.fills.join(run.holding, on=["symbol"], how="anti")
    assert run.holding.height or closed["fee_usd"].sum() == pytest.approx(trades["fees_usd"].sum())
    open_booked = run.holding["realised_usd"].sum()
    assert trades["pnl_usd"].sum() + open_booked == pytest.approx(run.fills["cash_usd"].sum(), abs=1e-9)
    assert run.holding.height == run.metrics["open_positions"]
    sign = pl.when(pl.col("side") == "long").then(1.0).otherwise(-1.0)
    gross = sign * pl.col("total_size") * (pl.col("exit_price") - pl.col("entry_price"))
    assert (
        trades.select((gross - pl.col("fees_usd") - pl.col("funding_usd") - pl.col("pnl_usd")).abs().max()).item()
        < 1e-8
    )
    assert (trades["mae_pct"] <= 0).all()
    assert (trades["mfe_pct"] >= 0).all()


rows = st.lists(st.tuples(st.integers(0, 2), st.integers(-2, 2)), max_size=40)


@given(rows)
def test_trades_are_numbered_as_they_are_opened(fills):
    held = [0, 0, 0]
    under_way: dict[int, int] = {}
    expected, after, opened = [], [], 0
    for symbol, size in fills:
        if symbol not in under_way:
            under_way[symbol], opened = opened, opened + 1
        held[symbol] += size
        expected.append(under_way[symbol])
        after.append(held[symbol])
        if size and held[symbol] == 0:
            del under_way[symbol]
    symbols, sizes = (np.array([row[part] for row in fills], dtype=np.int64) for part in (0, 1))
    assert trade_numbers(symbols, sizes.astype(float), np.array(after, dtype=float)).tolist() == expected
