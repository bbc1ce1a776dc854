"""Money, funding, liquidation and the book over symbols, told in a few candles; engine and twin both play them."""

from dataclasses import replace

import pytest
from kernel_kit import Outcome, candle, one, play
from naive import Rules, Sizing

NEXT = Rules()
CLOSE = Rules(next_open=False, intrabar=False)
LONG = (1.0, 0.0, 5.0, 10.0)
SHORT = (-1.0, 0.0, 5.0, 10.0)
FLAT = candle(100)


def entries(outcome: Outcome) -> list[tuple[int, int, float]]:
    return [(f.t, f.s, f.size) for f in outcome.fills if f.reason == "entry"]


def test_the_ledger_of_one_round_trip(scripted_engine):
    bars = [FLAT, FLAT, candle(104, 111, 103, 108), FLAT]
    outcome = play(scripted_engine, [one(bars)], {(0, 0): LONG}, replace(NEXT, fee=0.001), Sizing(units=2.0))
    assert outcome.equity == pytest.approx([10_000, 9_999.8, 10_000 - 0.2 + 20 - 0.22, 10_019.58])
    assert outcome.results == pytest.approx({
        "equity_usd": 10_019.58,
        "max_drawdown_usd": 0.2,
        "max_drawdown_frac": 0.2 / 10_000,
        "trades": 1,
        "wins": 1,
        "gross_profit_usd": 19.58,
        "gross_loss_usd": 0,
        "fees_usd": 0.42,
        "funding_usd": 0,
        "turnover_usd": 420,
        "fills": 2,
        "bars_held": 1,
        "open_positions": 0,
        "liquidations": 0,
        "refused": 0,
    })  # fmt: skip


def test_an_open_position_is_marked_at_the_last_close_and_is_no_trade(scripted_engine):
    outcome = play(scripted_engine, [one([FLAT, FLAT, candle(103), None])], {(0, 0): LONG}, NEXT, Sizing(units=2.0))
    assert outcome.equity == [10_000, 10_000, 10_006, 10_006]
    assert (outcome.results["trades"], outcome.results["open_positions"], outcome.results["bars_held"]) == (0, 1, 3)


@pytest.mark.parametrize(
    ("wish", "paid"),
    [(LONG, 1.03), (SHORT, -1.03)],
    ids=["a long pays a positive rate", "a short receives it"],
)
def test_funding(scripted_engine, wish, paid):
    outcome = play(
        scripted_engine,
        [one([FLAT, FLAT, candle(103), FLAT], funding={0: 0.5, 2: 0.01})],
        {(0, 0): wish},
        NEXT,
        Sizing(),
    )
    assert outcome.results["funding_usd"] == pytest.approx(paid)
    assert [(f.t, f.price) for f in outcome.fills if f.reason == "funding"] == [(2, 103)]


def test_a_position_closed_inside_the_bar_pays_no_funding(scripted_engine):
    bars = [FLAT, FLAT, candle(98, 99, 94, 97)]
    assert (
        play(scripted_engine, [one(bars, funding={2: 0.01})], {(0, 0): LONG}, NEXT, Sizing()).results["funding_usd"]
        == 0
    )


def test_a_position_opened_at_the_open_pays_what_is_due_at_the_close(scripted_engine):
    assert (
        play(scripted_engine, [one([FLAT, FLAT], funding={1: 0.01})], {(0, 0): LONG}, NEXT, Sizing()).results[
            "funding_usd"
        ]
        == 1
    )


def test_a_position_opened_at_the_close_owes_nothing_for_the_bar_before(scripted_engine):
    rules = replace(NEXT, next_open=False)
    outcome = play(scripted_engine, [one([FLAT, FLAT], funding={0: 0.5, 1: 0.01})], {(0, 0): LONG}, rules, Sizing())
    assert outcome.results["funding_usd"] == 1


def test_funding_without_a_bar_is_paid_at_the_last_close(scripted_engine):
    outcome = play(scripted_engine, [one([FLAT, candle(102), None], funding={2: 0.01})], {(0, 0): LONG}, NEXT, Sizing())
    assert outcome.results["funding_usd"] == pytest.approx(1.02)


FAR = (1.0, 0.0, 90.0, 90.0)
TEN_TIMES = Sizing(units=900.0, leverage=10.0)  # 90,000 USD of notional on 10,000 USD


def test_liquidation_at_the_low_when_equity_there_is_below_maintenance(scripted_engine):
    bars = [FLAT, FLAT, candle(100, 100, 90, 99), FLAT]  # at 90: 10,000 - 9,000 = 1,000 against 1 % of 81,000
    assert play(scripted_engine, [one(bars)], {(0, 0): FAR}, NEXT, TEN_TIMES).results["liquidations"] == 0
    bars[2] = candle(100, 100, 89.7, 99)  # at 89.7: 730 against 807.30
    outcome = play(scripted_engine, [one(bars)], {(0, 0): FAR}, NEXT, TEN_TIMES)
    assert [(f.t, f.reason, f.moment, f.price) for f in outcome.fills[1:]] == [(2, "liquidation", "inside", 89.7)]
    assert outcome.equity[2:] == pytest.approx([730, 730])
    assert outcome.results["liquidations"] == 1


@pytest.mark.parametrize(("low", "liquidations"), [(80.0, 0), (79.99, 1)])
def test_equity_equal_to_maintenance_is_enough(scripted_engine, low, liquidations):
    symbol = one([FLAT, FLAT, candle(100, 100, low, 99)], maintenance_frac=0.0)
    outcome = play(scripted_engine, [symbol], {(0, 0): FAR}, NEXT, Sizing(units=500.0, leverage=10.0))
    assert outcome.results["liquidations"] == liquidations


def test_a_stop_comes_before_liquidation(scripted_engine):
    bars = [FLAT, FLAT, candle(100, 100, 80, 99)]
    outcome = play(scripted_engine, [one(bars)], {(0, 0): (1.0, 0.0, 5.0, 90.0)}, NEXT, TEN_TIMES)
    assert [(f.reason, f.price) for f in outcome.fills[1:]] == [("stop", 95)]


def test_liquidation_closes_every_position_and_cancels_every_order(scripted_engine):
    falls = [FLAT, FLAT, FLAT, candle(100, 100, 80, 99), FLAT, FLAT]
    calm = [FLAT, FLAT, FLAT, candle(100, 101, 99, 100), FLAT, FLAT]
    wishes = {(0, 0): FAR, (0, 1): (1.0, 0.0, 90.0, 90.0), (2, 2): LONG}
    sizing = Sizing(units=450.0, leverage=20.0)
    outcome = play(scripted_engine, [one(falls), one(calm), one([*calm[:3], None, FLAT, FLAT])], wishes, NEXT, sizing)
    closed = [(f.t, f.s, f.reason, f.price) for f in outcome.fills if f.reason != "entry"]
    assert closed == [(3, 0, "liquidation", 80), (3, 1, "liquidation", 99)]
    assert entries(outcome) == [(1, 0, 450), (1, 1, 450)]


def test_a_gap_can_cost_more_than_there_was_and_nothing_trades_after_that(scripted_engine):
    bars = [FLAT, FLAT, candle(80), candle(80), candle(80)]
    for sizing in (Sizing(frac=9.0, leverage=10.0), TEN_TIMES):
        outcome = play(scripted_engine, [one(bars)], {(0, 0): FAR, (2, 0): FAR}, NEXT, sizing)
        assert outcome.equity == [10_000, 10_000, -8_000, -8_000, -8_000]
        assert (outcome.results["refused"], outcome.results["max_drawdown_frac"]) == (1, 1.8)


def test_entries_are_served_by_rank_and_ties_in_symbol_order_while_places_last(scripted_engine):
    symbols = [one([FLAT, FLAT]) for _ in range(4)]
    wishes = {(0, s): (1.0, rank, 5.0, 10.0) for s, rank in enumerate([1.0, 3.0, 1.0, 2.0])}
    outcome = play(scripted_engine, symbols, wishes, NEXT, Sizing(places=3))
    assert entries(outcome) == [(1, 0, 1), (1, 1, 1), (1, 3, 1)]  # symbol 2 ties with 0 and comes after it
    assert outcome.results["refused"] == 1


def test_margin_goes_by_rank_and_a_smaller_wish_still_fits_after_a_refusal(scripted_engine):
    symbols = [one([candle(price)] * 2) for price in (100, 400, 600)]
    wishes = {(0, s): (1.0, rank, 5.0, 10.0) for s, rank in enumerate([1.0, 2.0, 3.0])}
    outcome = play(
        scripted_engine, symbols, wishes, NEXT, Sizing(units=12.0, leverage=1.0)
    )  # 7,200, then 4,800, then 1,200
    assert entries(outcome) == [(1, 0, 12), (1, 2, 12)]


def test_sizes_of_one_bar_come_from_the_same_equity(scripted_engine):
    symbols = [one([FLAT, FLAT]) for _ in range(2)]
    rules = replace(NEXT, next_open=False, fee=0.01)
    outcome = play(scripted_engine, symbols, {(0, 0): LONG, (0, 1): LONG}, rules, Sizing(frac=0.5, leverage=10.0))
    assert entries(outcome) == [(0, 0, 50), (0, 1, 50)]


def test_a_reversal_keeps_its_place_and_its_margin(scripted_engine):
    symbols = [one([FLAT] * 5), one([FLAT] * 5)]
    wishes = {(0, 0): LONG, (2, 0): SHORT, (2, 1): (1.0, 9.0, 5.0, 10.0)}
    outcome = play(scripted_engine, symbols, wishes, NEXT, Sizing(units=95.0, leverage=1.0, places=1))
    assert entries(outcome) == [(1, 0, 95), (3, 0, -95)]
    assert outcome.results["refused"] == 1


def test_what_closes_at_this_bar_is_not_free_yet(scripted_engine):
    rules = replace(CLOSE)
    symbols = [one([FLAT, candle(94), FLAT]), one([FLAT] * 3)]
    outcome = play(scripted_engine, symbols, {(0, 0): LONG, (1, 1): LONG}, rules, Sizing(places=1))
    assert [(f.t, f.s, f.reason) for f in outcome.fills] == [(0, 0, "entry"), (1, 0, "stop")]
    assert outcome.results["refused"] == 1


def test_a_waiting_order_holds_its_place_and_its_margin(scripted_engine):
    symbols = [one([FLAT, None, None, FLAT]), one([FLAT] * 4)]
    wishes = {(0, 0): LONG, (1, 1): LONG}
    for sizing in (Sizing(places=1), Sizing(units=60.0, leverage=1.0)):
        outcome = play(scripted_engine, symbols, wishes, NEXT, sizing)
        assert entries(outcome) == [(3, 0, sizing.units)]
        assert outcome.results["refused"] == 1


def test_a_waiting_reversal_holds_its_margin_once(scripted_engine):
    symbols = [one([FLAT] * 6), one([FLAT] * 6)]
    wishes = {(0, 0): LONG, (2, 0): SHORT, (3, 1): LONG}
    outcome = play(scripted_engine, symbols, wishes, replace(NEXT, delay_bars=1), Sizing(units=45.0, leverage=1.0))
    assert entries(outcome) == [(2, 0, 45), (4, 0, -45), (5, 1, 45)]


def test_a_waiting_reversal_lends_nothing_of_what_it_will_set_free(scripted_engine):
    # 45 coins from 100 hold 4,500; at 60, 3,700 is free, and the smaller short that waits will set 1,800 free.
    fallen = one([*[FLAT] * 3, *[candle(60)] * 3])
    wishes = {(0, 0): FAR, (3, 0): SHORT, (4, 1): LONG}
    sizing = Sizing(units=45.0, leverage=1.0)
    outcome = play(scripted_engine, [fallen, one([FLAT] * 6)], wishes, replace(NEXT, delay_bars=1), sizing)
    assert entries(outcome) == [(2, 0, 45), (5, 0, -45)]
    assert outcome.results["refused"] == 1


def test_a_day_that_begins_with_nothing_counts_and_returns_nothing(scripted_engine):
    symbol = one([FLAT, FLAT, candle(80), candle(80), *[candle(90)] * 4], maintenance_frac=0.0)
    outcome = play(scripted_engine, [symbol], {(0, 0): FAR}, NEXT, Sizing(units=500.0, leverage=10.0))
    assert outcome.equity[3:5] == [0, 5_000]
    assert [row.tolist() for row in outcome.days if row[0]] == [[1, -1, 1], [1, 0, 0]]


def test_daily_returns_in_blocks(scripted_engine):
    bars = [FLAT, FLAT, FLAT, candle(110), *[candle(110)] * 3, candle(99), candle(99)]
    outcome = play(
        scripted_engine, [one(bars)], {(0, 0): FAR}, NEXT, Sizing(units=10.0)
    )  # four bars a day: +1 %, then about -1.09 %
    second = 9_990 / 10_100 - 1
    assert outcome.equity == [10_000, 10_000, 10_000, *[10_100] * 4, 9_990, 9_990]
    days = {block: row.tolist() for block, row in enumerate(outcome.days) if row[0]}
    assert days == {
        5: [1, pytest.approx(0.01), pytest.approx(1e-4)],
        12: [1, pytest.approx(second), pytest.approx(second**2)],
    }
