"""Money, funding, liquidation and the book over symbols, told in a few candles; simulation and twin both play them."""

from dataclasses import replace

import naive
import numpy as np
import pytest
import scripted
from kernel_kit import (
    NO_CROSS,
    Case,
    Outcome,
    blank_book,
    candle,
    inputs_of,
    new_book,
    one,
    outcome_of,
    plain_values,
    play,
    read_log,
    run_simulation,
    script_columns,
    script_of,
)
from naive import Bar, Clock, Rules, Sizing, Symbol
from random_markets import on_clock

from kernels.book import REASONS, VERDICTS, closing_size

NEXT = Rules()
CLOSE = Rules(next_open=False, intrabar=False)
LONG = (1.0, 0.0, 5.0, 10.0)
SHORT = (-1.0, 0.0, 5.0, 10.0)
FLAT = candle(100)


def entries(outcome: Outcome) -> list[tuple[int, int, float]]:
    return [(f.t, f.s, f.size) for f in outcome.fills if f.reason == "entry"]


def test_the_ledger_of_one_round_trip(scripted_simulation):
    bars = [FLAT, FLAT, candle(104, 111, 103, 108), FLAT]
    outcome = play(scripted_simulation, [one(bars)], {(0, 0): LONG}, replace(NEXT, fee=0.001), Sizing(units=2.0))
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


def test_an_open_position_is_marked_at_the_last_close_and_is_no_trade(scripted_simulation):
    outcome = play(scripted_simulation, [one([FLAT, FLAT, candle(103), None])], {(0, 0): LONG}, NEXT, Sizing(units=2.0))
    assert outcome.equity == [10_000, 10_000, 10_006, 10_006]
    assert (outcome.results["trades"], outcome.results["open_positions"], outcome.results["bars_held"]) == (0, 1, 3)


@pytest.mark.parametrize(
    ("wish", "paid"),
    [(LONG, 1.03), (SHORT, -1.03)],
    ids=["a long pays a positive rate", "a short receives it"],
)
def test_funding(scripted_simulation, wish, paid):
    outcome = play(
        scripted_simulation,
        [one([FLAT, FLAT, candle(103), FLAT], funding={0: 0.5, 2: 0.01})],
        {(0, 0): wish},
        NEXT,
        Sizing(),
    )
    assert outcome.results["funding_usd"] == pytest.approx(paid)
    assert [(f.t, f.price) for f in outcome.fills if f.reason == "funding"] == [(2, 103)]


def test_a_position_closed_inside_the_bar_pays_no_funding(scripted_simulation):
    bars = [FLAT, FLAT, candle(98, 99, 94, 97)]
    assert (
        play(scripted_simulation, [one(bars, funding={2: 0.01})], {(0, 0): LONG}, NEXT, Sizing()).results["funding_usd"]
        == 0
    )


def test_a_position_opened_at_the_open_pays_what_is_due_at_the_close(scripted_simulation):
    assert (
        play(scripted_simulation, [one([FLAT, FLAT], funding={1: 0.01})], {(0, 0): LONG}, NEXT, Sizing()).results[
            "funding_usd"
        ]
        == 1
    )


def test_a_position_opened_at_the_close_owes_nothing_for_the_bar_before(scripted_simulation):
    rules = replace(NEXT, next_open=False)
    outcome = play(scripted_simulation, [one([FLAT, FLAT], funding={0: 0.5, 1: 0.01})], {(0, 0): LONG}, rules, Sizing())
    assert outcome.results["funding_usd"] == 1


def test_funding_without_a_bar_is_paid_at_the_last_close(scripted_simulation):
    outcome = play(
        scripted_simulation, [one([FLAT, candle(102), None], funding={2: 0.01})], {(0, 0): LONG}, NEXT, Sizing()
    )
    assert outcome.results["funding_usd"] == pytest.approx(1.02)


FAR = (1.0, 0.0, 90.0, 90.0)


GONE = [FLAT, FLAT, candle(102), candle(104, 105, 103, 104), None, None]
SLIDING = replace(CLOSE, fee=0.001, exit_slip=0.01)
MORE = (*FAR, 1.0)
NEAR = (1.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("wishes", "rules", "fills", "equity"),
    [
        ({(0, 0): FAR}, SLIDING, [(0, "entry", 100.0), (3, "delisted", 102.96)], 10_002.75704),
        ({(3, 0): FAR}, CLOSE, [(3, "entry", 104.0), (3, "delisted", 104.0)], 10_000),
        ({(3, 0): FAR}, NEXT, [], 10_000),
        ({(0, 0): FAR, (3, 0): MORE}, NEXT, [(1, "entry", 100.0), (3, "delisted", 104.0)], 10_004),
        ({(1, 0): NEAR}, replace(CLOSE, intrabar=True), [(1, "entry", 100.0), (2, "target", 102.0)], 10_002),
    ],
    ids=["held", "entered at the last close", "ordered at the last close", "an addition waits", "left before"],
)
def test_a_delisted_symbol_is_closed_at_its_last_close(scripted_simulation, wishes, rules, fills, equity):
    """Fee and slippage are those of any close, and what waits for a later bar is dropped."""
    outcome = play(scripted_simulation, [one(GONE, last=3)], wishes, rules, Sizing())
    assert [(f.t, f.reason, f.price) for f in outcome.fills] == [
        (t, reason, pytest.approx(price)) for t, reason, price in fills
    ]
    assert outcome.equity[3:] == pytest.approx([equity] * 3)
    assert outcome.results["open_positions"] == 0


def test_a_delisting_frees_margin_and_place_for_the_others(scripted_simulation):
    symbols = [one(GONE, last=3), one([FLAT] * 6)]
    wishes = {(0, 0): FAR, (3, 1): FAR, (4, 1): FAR}
    outcome = play(scripted_simulation, symbols, wishes, CLOSE, Sizing(units=60.0, leverage=1.0, places=1))
    assert entries(outcome) == [(0, 0, 60), (4, 1, 60)]
    assert outcome.results["refused"] == 1


def test_an_ending_that_is_no_delisting_leaves_the_position_at_its_last_close(scripted_simulation):
    outcome = play(scripted_simulation, [one(GONE)], {(0, 0): FAR}, CLOSE, Sizing())
    assert [f.reason for f in outcome.fills] == ["entry"]
    assert outcome.equity[-1] == 10_004
    assert outcome.results["open_positions"] == 1


def test_a_symbol_may_be_listed_again(scripted_simulation):
    bars = [*GONE, FLAT, candle(90)]
    outcome = play(scripted_simulation, [one(bars, last=3)], {(0, 0): FAR, (6, 0): FAR}, CLOSE, Sizing())
    assert [(f.t, f.reason) for f in outcome.fills] == [(0, "entry"), (3, "delisted"), (6, "entry")]


def test_a_part_is_of_what_is_held_at_its_fill(scripted_simulation):
    """Half is ordered while 1 coin is held and filled when an addition has made it 2."""
    wishes = {(0, 0): FAR, (3, 0): MORE, (4, 0): HALF}
    outcome = play(scripted_simulation, [one([FLAT] * 8)], wishes, replace(CLOSE, delay_bars=2), Sizing())
    assert [(f.t, f.reason, f.size) for f in outcome.fills] == [(2, "entry", 1), (5, "add", 1), (6, "scripted", -1)]


def test_lots_change_while_a_position_is_held(scripted_simulation):
    """With lots of 0.01, 1.05 coins are held; half of it in whole lots of 0.1 is 0.5, and the rest closes whole."""
    symbol = one([FLAT] * 6, later=((2, {"lots": 10.0}),))
    wishes = {(0, 0): FAR, (3, 0): HALF, (4, 0): OUT}
    outcome = play(scripted_simulation, [symbol], wishes, CLOSE, Sizing(units=1.05))
    assert [(f.t, f.reason, f.size) for f in outcome.fills] == [
        (0, "entry", 1.05), (3, "scripted", -0.5), (4, "scripted", pytest.approx(-0.55)),
    ]  # fmt: skip
    late = play(scripted_simulation, [symbol], {(2, 0): FAR}, CLOSE, Sizing(units=1.05))
    assert entries(late) == [(2, 0, 1.0)]


def test_leverage_and_maintenance_change_in_the_middle_of_a_tile(scripted_simulation):
    """At 10 times, 1 coin takes 10 USD and 1.5 coins 15; from step 2 on at 4 times, 1 coin takes 25 USD."""
    wishes = {(0, 0): FAR, (3, 0): (*FAR, 1.0)}
    sizing = Sizing(leverage=10.0, margin_frac=0.003)
    before = play(scripted_simulation, [one([FLAT] * 5)], wishes, CLOSE, sizing)
    assert [f.reason for f in before.fills] == ["entry", "add"]
    after = play(scripted_simulation, [one([FLAT] * 5, later=((2, {"max_leverage": 4.0}),))], wishes, CLOSE, sizing)
    assert [f.reason for f in after.fills] == ["entry"]
    bars = [FLAT, FLAT, candle(95), candle(95)]
    strict = [one(bars, later=((3, {"maintenance_frac": 0.07}),))]
    outcome = play(scripted_simulation, strict, {(0, 0): FAR}, CLOSE, Sizing(units=900.0, leverage=50.0))
    assert [(f.t, f.reason) for f in outcome.fills] == [(0, "entry"), (3, "liquidation")]


def test_entries_are_served_by_rank_and_ties_in_symbol_order_while_places_last(scripted_simulation):
    symbols = [one([FLAT, FLAT]) for _ in range(4)]
    wishes = {(0, s): (1.0, rank, 5.0, 10.0) for s, rank in enumerate([1.0, 3.0, 1.0, 2.0])}
    outcome = play(scripted_simulation, symbols, wishes, NEXT, Sizing(places=3))
    assert entries(outcome) == [(1, 0, 1), (1, 1, 1), (1, 3, 1)]  # symbol 2 ties with 0 and comes after it
    assert outcome.results["refused"] == 1


def test_margin_goes_by_rank_and_a_smaller_wish_still_fits_after_a_refusal(scripted_simulation):
    symbols = [one([candle(price)] * 2) for price in (100, 400, 600)]
    wishes = {(0, s): (1.0, rank, 5.0, 10.0) for s, rank in enumerate([1.0, 2.0, 3.0])}
    outcome = play(
        scripted_simulation, symbols, wishes, NEXT, Sizing(units=12.0, leverage=1.0)
    )  # 7,200, then 4,800, then 1,200
    assert entries(outcome) == [(1, 0, 12), (1, 2, 12)]


def test_sizes_of_one_bar_come_from_the_same_equity(scripted_simulation):
    symbols = [one([FLAT, FLAT]) for _ in range(2)]
    rules = replace(NEXT, next_open=False, fee=0.01)
    outcome = play(scripted_simulation, symbols, {(0, 0): LONG, (0, 1): LONG}, rules, Sizing(frac=0.5, leverage=10.0))
    assert entries(outcome) == [(0, 0, 50), (0, 1, 50)]


def test_a_reversal_keeps_its_place_and_its_margin(scripted_simulation):
    symbols = [one([FLAT] * 5), one([FLAT] * 5)]
    wishes = {(0, 0): LONG, (2, 0): SHORT, (2, 1): (1.0, 9.0, 5.0, 10.0)}
    outcome = play(scripted_simulation, symbols, wishes, NEXT, Sizing(units=95.0, leverage=1.0, places=1))
    assert entries(outcome) == [(1, 0, 95), (3, 0, -95)]
    assert outcome.results["refused"] == 1


def test_what_closes_at_this_bar_is_not_free_yet(scripted_simulation):
    rules = replace(CLOSE)
    symbols = [one([FLAT, candle(94), FLAT]), one([FLAT] * 3)]
    outcome = play(scripted_simulation, symbols, {(0, 0): LONG, (1, 1): LONG}, rules, Sizing(places=1))
    assert [(f.t, f.s, f.reason) for f in outcome.fills] == [(0, 0, "entry"), (1, 0, "stop")]
    assert outcome.results["refused"] == 1


def test_a_waiting_order_holds_its_place_and_its_margin(scripted_simulation):
    symbols = [one([FLAT, None, None, FLAT]), one([FLAT] * 4)]
    wishes = {(0, 0): LONG, (1, 1): LONG}
    for sizing in (Sizing(places=1), Sizing(units=60.0, leverage=1.0)):
        outcome = play(scripted_simulation, symbols, wishes, NEXT, sizing)
        assert entries(outcome) == [(3, 0, sizing.units)]
        assert outcome.results["refused"] == 1


def test_a_waiting_reversal_holds_its_margin_once(scripted_simulation):
    symbols = [one([FLAT] * 6), one([FLAT] * 6)]
    wishes = {(0, 0): LONG, (2, 0): SHORT, (3, 1): LONG}
    outcome = play(scripted_simulation, symbols, wishes, replace(NEXT, delay_bars=1), Sizing(units=45.0, leverage=1.0))
    assert entries(outcome) == [(2, 0, 45), (4, 0, -45), (5, 1, 45)]


def test_a_waiting_reversal_lends_nothing_of_what_it_will_set_free(scripted_simulation):
    # 45 coins from 100 hold 4,500; at 60, 3,700 is free, and the smaller short that waits will set 1,800 free.
    fallen = one([*[FLAT] * 3, *[candle(60)] * 3])
    wishes = {(0, 0): FAR, (3, 0): SHORT, (4, 1): LONG}
    sizing = Sizing(units=45.0, leverage=1.0)
    outcome = play(scripted_simulation, [fallen, one([FLAT] * 6)], wishes, replace(NEXT, delay_bars=1), sizing)
    assert entries(outcome) == [(2, 0, 45), (5, 0, -45)]
    assert outcome.results["refused"] == 1


def test_a_day_that_begins_with_nothing_counts_and_returns_nothing(scripted_simulation):
    symbol = one([FLAT, FLAT, candle(80), candle(80), *[candle(90)] * 4], maintenance_frac=0.0)
    outcome = play(scripted_simulation, [symbol], {(0, 0): FAR}, NEXT, Sizing(units=500.0, leverage=10.0))
    assert outcome.equity[3:5] == [0, 5_000]
    assert [row.tolist() for row in outcome.days if row[0]] == [[1, -1, 1], [1, 0, 0]]


def test_daily_returns_in_blocks(scripted_simulation):
    bars = [FLAT, FLAT, FLAT, candle(110), *[candle(110)] * 3, candle(99), candle(99)]
    outcome = play(
        scripted_simulation, [one(bars)], {(0, 0): FAR}, NEXT, Sizing(units=10.0)
    )  # four bars a day: +1 %, then about -1.09 %
    second = 9_990 / 10_100 - 1
    assert outcome.equity == [10_000, 10_000, 10_000, *[10_100] * 4, 9_990, 9_990]
    days = {block: row.tolist() for block, row in enumerate(outcome.days) if row[0]}
    assert days == {
        5: [1, pytest.approx(0.01), pytest.approx(1e-4)],
        12: [1, pytest.approx(second), pytest.approx(second**2)],
    }


ADD = (1.0, 0.0, 90.0, 90.0, 1.0)
NO_SIDE_MORE = (0.0, 0.0, 90.0, 90.0, 1.0)
HALF = (0.0, 0.0, 0.0, 0.0, 0.0, 0.5)
OUT = (0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def test_average_entry_and_margin_of_an_addition_and_of_a_part(scripted_simulation):
    """1 at 100 and 1 at 110, each at 10 times: 105 and 21 USD of margin; half of it at 115 leaves 10.50 USD."""
    bars = [FLAT, candle(110), candle(115), candle(120)]
    case = Case([one(bars)], CLOSE, plain_values(Sizing(), NO_CROSS))
    given = script_columns(script_of({(0, 0): FAR, (1, 0): ADD, (2, 0): HALF}, 4, 1))
    inputs, book, seen = inputs_of(scripted, case, given), new_book(scripted_simulation, case), []
    for t in range(4):
        scripted_simulation.run(*inputs, t, t + 1, book)
        position, account = book.positions[0, 0], book.accounts[0]
        seen.append(tuple(float(position[name]) for name in ("size", "entry", "margin", "adds", "parts")))
        assert account["margin"] == position["margin"]
    assert seen == [(1, 100, 10, 0, 0), (2, 105, 21, 1, 0), (1, 105, 10.5, 1, 1), (1, 105, 10.5, 1, 1)]
    assert outcome_of(scripted_simulation, book).equity == [10_000, 10_010, 10_020, 10_025]
    assert (book.accounts[0]["trades"], book.accounts[0]["fills"]) == (0, 3)


def test_a_round_trip_with_additions_and_parts_is_one_trade(scripted_simulation):
    bars = [FLAT, candle(110), candle(115), candle(99)]
    wishes = {(0, 0): FAR, (1, 0): ADD, (2, 0): HALF, (3, 0): SHORT}
    outcome = play(scripted_simulation, [one(bars)], wishes, replace(CLOSE, fee=0.001), Sizing())
    fees = 0.1 + 0.11 + 0.115 + 0.099
    assert (outcome.results["trades"], outcome.results["wins"]) == (1, 1)
    assert outcome.results["gross_profit_usd"] == pytest.approx(10 - 6 - fees)


def test_additions_come_before_entries_whatever_their_rank(scripted_simulation):
    symbols = [one([FLAT] * 2), one([FLAT] * 2)]
    wishes = {(0, 1): FAR, (1, 0): (1.0, 9.0, 5.0, 10.0), (1, 1): (1.0, 0.0, 5.0, 10.0, 50.0)}
    outcome = play(scripted_simulation, symbols, wishes, CLOSE, Sizing(units=50.0, leverage=1.0))
    assert [(f.t, f.s, f.reason) for f in outcome.fills] == [(0, 1, "entry"), (1, 1, "add")]
    assert outcome.results["refused"] == 1


def test_an_addition_that_waits_holds_its_margin_and_no_place(scripted_simulation):
    symbols = [one([FLAT] * 6), one([FLAT] * 6)]
    wishes = {(0, 0): FAR, (2, 0): (1.0, 0.0, 5.0, 10.0, 50.0), (3, 1): LONG}
    rules = replace(NEXT, delay_bars=1)
    outcome = play(scripted_simulation, symbols, wishes, rules, Sizing(units=40.0, leverage=1.0))
    assert outcome.results["refused"] == 1  # 4,000 held, 5,000 wait, 4,000 wanted
    outcome = play(scripted_simulation, symbols, wishes, rules, Sizing(units=5.0, leverage=1.0, places=2))
    assert entries(outcome) == [(2, 0, 5), (5, 1, 5)]


def test_an_addition_needs_a_signal(scripted_simulation):
    """A long and a short that have no opinion add nothing, beside one that has."""
    symbols = [one([FLAT] * 2) for _ in range(3)]
    wishes = {(0, 0): FAR, (0, 1): FAR, (0, 2): (-1.0, 0.0, 90.0, 90.0)}
    wishes |= {(1, 0): ADD, (1, 1): NO_SIDE_MORE, (1, 2): NO_SIDE_MORE}
    outcome = play(scripted_simulation, symbols, wishes, CLOSE, Sizing())
    assert [(f.t, f.s, f.reason) for f in outcome.fills[3:]] == [(1, 0, "add")]


def test_one_order_of_a_symbol_waits_at_a_time(scripted_simulation):
    """More is wanted while an addition waits, beside another symbol's addition: it is not asked for."""
    symbols = [one([FLAT] * 7), one([FLAT] * 7)]
    wishes = {(0, 0): FAR, (0, 1): FAR, (2, 0): ADD, (3, 0): (1.0, 0.0, 90.0, 90.0, 5.0), (3, 1): ADD}
    outcome = play(scripted_simulation, symbols, wishes, replace(NEXT, delay_bars=1), Sizing())
    assert [(f.t, f.s, f.size) for f in outcome.fills if f.reason == "add"] == [(4, 0, 1), (5, 1, 1)]


def test_a_refused_addition_takes_nothing(scripted_simulation):
    """5,000 of 10,000 USD are held: an addition of 6,000 is refused, and an entry of 5,000 still fits."""
    symbols = [one([FLAT] * 2), one([FLAT] * 2)]
    wishes = {(0, 0): FAR, (1, 0): (1.0, 0.0, 90.0, 90.0, 60.0), (1, 1): FAR}
    sizing = Sizing(units=50.0, leverage=1.0)
    outcome = play(scripted_simulation, symbols, wishes, CLOSE, sizing)
    assert [(f.t, f.s, f.reason) for f in outcome.fills] == [(0, 0, "entry"), (1, 1, "entry")]
    assert outcome.results["refused"] == 0
    told = verdicts(scripted_simulation, symbols, wishes, CLOSE, sizing)
    assert [told[0][1], told[1][1]] == ["no margin left", "entry ordered"]


@pytest.mark.parametrize(
    ("turned_at", "next_at", "served"),
    [(100.0, 100.0, True), (100 + 1 / 128, 100.0, True), (100 + 1 / 128, 100 + 1 / 256, False)],
    ids=["the same margin", "a little more", "a little more, which is then missing"],
)
def test_a_reversal_takes_no_place_and_only_the_margin_beyond_what_it_holds(
    scripted_simulation, turned_at, next_at, served
):
    """50 coins hold 5,000 USD; 1/128 USD higher, 50 need 0.39 more, which the old 50 have gained. 5,000 are left."""
    symbols = [one([FLAT, candle(turned_at)]), one([FLAT, candle(next_at)])]
    wishes = {(0, 0): FAR, (1, 0): (-1.0, 9.0, 90.0, 90.0), (1, 1): FAR}
    outcome = play(scripted_simulation, symbols, wishes, CLOSE, Sizing(units=50.0, leverage=1.0, places=2))
    assert entries(outcome) == [(0, 0, 50), (1, 0, -50), *([(1, 1, 50)] if served else [])]


def test_one_step_orders_no_more_entries_than_allowed(scripted_simulation):
    symbols = [one([FLAT] * 4) for _ in range(3)]
    wishes = {(0, s): (1.0, rank, 90.0, 90.0) for s, rank in enumerate([1.0, 3.0, 2.0])} | {(1, 0): FAR}
    outcome = play(scripted_simulation, symbols, wishes, CLOSE, Sizing(orders=1))
    assert entries(outcome) == [(0, 1, 1), (1, 0, 1)]
    assert outcome.results["refused"] == 2


def test_a_reversal_is_an_order_of_its_step_and_closes_even_without_one(scripted_simulation):
    symbols = [one([FLAT] * 2), one([FLAT] * 2)]
    wishes = {(0, 0): FAR, (1, 0): SHORT, (1, 1): (1.0, 9.0, 5.0, 10.0)}
    outcome = play(scripted_simulation, symbols, wishes, CLOSE, Sizing(orders=1))
    assert [(f.t, f.s, f.reason) for f in outcome.fills] == [(0, 0, "entry"), (1, 0, "signal"), (1, 1, "entry")]


def test_the_cap_of_margin_is_of_the_whole_book(scripted_simulation):
    symbols = [one([FLAT] * 2) for _ in range(3)]
    wishes = {(0, s): LONG for s in range(3)}
    outcome = play(scripted_simulation, symbols, wishes, CLOSE, Sizing(units=15.0, leverage=1.0, margin_frac=0.3))
    assert entries(outcome) == [(0, 0, 15), (0, 1, 15)]
    outcome = play(
        scripted_simulation, symbols, wishes, CLOSE, Sizing(units=20.0, leverage=1.0, margin_frac=0.3, shrink=True)
    )
    assert entries(outcome) == [(0, 0, 20), (0, 1, 10)]


def test_a_multiplier_scales_the_equity_that_sizes_and_the_cap_see(scripted_simulation):
    """Half of the equity counts: a half of it is 25 coins at 100, and at most 5,000 USD become margin."""
    case = Case([one([FLAT] * 2)], CLOSE, plain_values(Sizing(frac=0.5, leverage=1.0), NO_CROSS))
    given = script_columns(script_of({(0, 0): LONG}, 2, 1))
    assert entries(run_simulation(scripted_simulation, scripted, case, given, size_mult=1.0)) == [(0, 0, 50)]
    assert entries(run_simulation(scripted_simulation, scripted, case, given, size_mult=0.5)) == [(0, 0, 25)]
    for units, fills in ((50.0, [(0, 0, 50)]), (50.01, [])):
        case = replace(case, values=plain_values(Sizing(units=units, leverage=1.0), NO_CROSS))
        assert entries(run_simulation(scripted_simulation, scripted, case, given, size_mult=0.5)) == fills


def test_symbols_with_values_of_their_own(scripted_simulation):
    """Size, leverage, least notional and what happens below it are a symbol's; places and the cap are the book's."""
    values = plain_values(Sizing(units=1.0, leverage=1.0, min_notional_usd=50.0), NO_CROSS)
    own = {
        1: {"trade.size_units": 2.0, "trade.leverage": 4.0},
        2: {"trade.size_units": 0.4},
        3: {"trade.size_units": 0.4, "trade.bump_to_min_notional": True},
        4: {"trade.size_units": 1000.0, "trade.shrink_to_fit": True},
        5: {"trade.size_units": 0.4, "trade.min_notional_usd": 0.0},
    }
    ranks = [9.0, 8.0, 7.0, 6.0, 1.0, 5.0]
    case = Case([one([FLAT] * 2) for _ in ranks], CLOSE, values, own)
    given = script_columns(script_of({(0, s): (1.0, rank, 5.0, 10.0) for s, rank in enumerate(ranks)}, 2, 6))
    columns, rows = given
    given = columns, np.repeat(rows, len(case.groups[0]), axis=1)
    outcome = run_simulation(scripted_simulation, scripted, case, given)
    # 10,000 less 100, 200 / 4, 50 and 40 leave 9,760 USD of margin for symbol 4.
    assert entries(outcome) == [(0, 0, 1), (0, 1, 2), (0, 3, 0.5), (0, 4, 97.6), (0, 5, 0.4)]
    assert outcome.results["refused"] == 1


def verdicts(simulation, symbols: list[Symbol], wishes: dict, rules: Rules, sizing: Sizing) -> list[list[str]]:
    """What became of each symbol, by symbol and step."""
    case = Case(symbols, rules, plain_values(sizing, NO_CROSS))
    book = new_book(simulation, case)
    simulation.run(
        *inputs_of(scripted, case, script_columns(script_of(wishes, case.steps, len(symbols)))), 0, case.steps, book
    )
    return [[VERDICTS[code] for code in steps] for steps in book.verdicts.T.tolist()]


def test_every_symbol_is_told_what_became_of_its_signal(scripted_simulation):
    symbols = [one([FLAT] * 4) for _ in range(4)]
    wishes = {(0, 0): FAR, (1, 0): FAR, (2, 0): ADD, (3, 0): SHORT}
    wishes |= {(0, s): (1.0, -float(s), 5.0, 10.0) for s in (1, 2, 3)}
    told = verdicts(scripted_simulation, symbols, wishes, CLOSE, Sizing(places=3, orders=2))
    quiet = ["no signal"] * 3
    assert told[0] == ["entry ordered", "held, no addition", "addition ordered", "entry ordered"]
    assert told[1:] == [["entry ordered", *quiet], ["no entry orders left", *quiet], ["no entry orders left", *quiet]]
    assert verdicts(scripted_simulation, symbols[:2], wishes, CLOSE, Sizing(places=1))[1][0] == "no places left"
    assert (
        verdicts(scripted_simulation, symbols[:1], wishes, CLOSE, Sizing(units=0.001))[0][0]
        == "below the least notional"
    )
    assert verdicts(scripted_simulation, symbols[:1], wishes, CLOSE, Sizing(units=1001.0))[0][0] == "no margin left"
    assert (
        verdicts(scripted_simulation, symbols[:2], wishes, CLOSE, Sizing(places=1, orders=2))[1][0] == "no places left"
    )
    late = verdicts(scripted_simulation, symbols[:1], wishes, replace(NEXT, delay_bars=1), Sizing())[0]
    assert late == ["entry ordered", "order waits already", "addition ordered", "entry ordered"]


def test_exits_are_asked_of_positions_that_nothing_closes_yet(scripted_simulation):
    """Not of an entry that waits, and not again of a stop that waits."""
    quiet = "no signal"
    late = replace(CLOSE, delay_bars=2)
    waits = verdicts(scripted_simulation, [one([FLAT] * 4)], {(0, 0): FAR, (1, 0): OUT, (3, 0): OUT}, late, Sizing())
    assert waits == [["entry ordered", quiet, quiet, "closing"]]
    falls = one([*[FLAT] * 3, candle(94), candle(94), candle(94)])
    told = verdicts(scripted_simulation, [falls], {(0, 0): LONG}, late, Sizing())
    assert told == [["entry ordered", quiet, quiet, "closing", quiet, quiet]]


def test_an_order_that_is_cancelled_and_not_replaced_is_told_why_not(scripted_simulation):
    """A short is stopped, a long waits, and a short that has to rest cancels it, beside another symbol's addition."""
    symbols = [one([FLAT, FLAT, candle(100, 106, 100, 106), FLAT, FLAT, FLAT]), one([FLAT] * 6)]
    short_rests = (-1.0, 0.0, 90.0, 90.0, 1.0, 0.0, 1e6)
    rules = replace(NEXT, delay_bars=1)
    wishes = {(0, 0): SHORT, (0, 1): FAR, (2, 0): LONG, (3, 0): short_rests, (3, 1): ADD}
    outcome = play(scripted_simulation, symbols, wishes, rules, Sizing())
    assert [(f.t, f.s, f.reason) for f in outcome.fills] == [
        (2, 0, "entry"), (2, 1, "entry"), (2, 0, "stop"), (5, 1, "add"),
    ]  # fmt: skip
    assert verdicts(scripted_simulation, symbols, wishes, rules, Sizing())[0][3] == "not admitted"


def test_the_log_tells_the_signal_that_asked_for_a_fill(scripted_simulation):
    """Entries and additions have one; what closes, and funding, has none."""
    bars = [FLAT, FLAT, FLAT, candle(100, 100, 94, 96), FLAT]
    case = Case([one(bars, {2: 0.01})], NEXT, plain_values(Sizing(), NO_CROSS))
    book = new_book(scripted_simulation, case)
    wishes = {(0, 0): (-1.0, 0.0, 6.0, 6.0), (1, 0): (-1.0, 0.0, 6.0, 6.0, 1.0)}
    scripted_simulation.run(*inputs_of(scripted, case, script_columns(script_of(wishes, 5, 1))), 0, 5, book)
    rows = book.log[: int(book.accounts[0].logged)]
    told = [(REASONS[int(row["reason"])], int(row["code"])) for row in rows]
    assert told == [("entry", -1), ("add", -1), ("funding", 0), ("target", 0)]


def test_a_book_lists_the_symbols_with_a_position_or_an_order(scripted_simulation):
    """The first is ordered at 0, filled at 1 and stopped inside 2; the second is ordered at 1 and stays."""
    symbols = [one([FLAT, FLAT, candle(100, 101, 94, 98), FLAT]), one([FLAT] * 4)]
    case = Case(symbols, NEXT, plain_values(Sizing(), NO_CROSS))
    wishes = {(0, 0): LONG, (1, 1): LONG}
    inputs = inputs_of(scripted, case, script_columns(script_of(wishes, 4, 2)))
    book, listed = new_book(scripted_simulation, case), []
    for t in range(4):
        scripted_simulation.run(*inputs, t, t + 1, book)
        listed.append(book.active[0, : int(book.accounts[0].active)].tolist())
    assert listed == [[0], [0, 1], [1], [1]]


def test_a_book_may_be_moved_by_one_step_at_a_time_and_is_told_which_it_is(scripted_simulation):
    """As the executor does: a market of one step, a book that keeps one, and the number of the step."""
    bars = [FLAT, candle(101), candle(104, 112, 103, 108), candle(103), candle(99)]
    case = Case([one(bars)], NEXT, plain_values(Sizing(), NO_CROSS))
    inputs = inputs_of(scripted, case, script_columns(script_of({(0, 0): LONG, (2, 0): SHORT}, 5, 1)))
    whole = new_book(scripted_simulation, case)
    scripted_simulation.run(*inputs, 0, 5, whole)
    expected = [(fill.t, fill.reason, fill.price) for fill in read_log(scripted_simulation, whole)]
    assert expected == [(1, "entry", 101), (2, "target", 111), (3, "entry", 103)]
    book = blank_book(scripted_simulation.MEMORY, 1, 1, tile=1, log_rows=8, steps=1)
    scripted_simulation.open_books(book, 10_000.0)
    equity, told, opened = [], [], []
    for t in range(5):
        now = {name: array[t : t + 1] for name, array in inputs.market._asdict().items() if len(array) == case.steps}
        inputs.models["origin"] = t
        scripted_simulation.run(*inputs._replace(market=inputs.market._replace(**now)), 0, 1, book)
        equity.append(float(book.equity[0]))
        told.append(VERDICTS[book.verdicts[0, 0]])
        opened.append(float(book.positions[0, 0]["opened"]))
    assert [(fill.t, fill.reason, fill.price) for fill in read_log(scripted_simulation, book)] == expected
    assert equity == whole.equity.tolist()
    assert told == [VERDICTS[code] for code in whole.verdicts[:, 0]]
    assert opened == [0, 0, 0, 2, 2]


def test_opens_come_first_then_stops_then_targets_then_funding(scripted_simulation):
    """Each in symbol order, but for stops, which are in the order in which the path reaches them."""
    stopped, nearer = [FLAT, candle(100, 101, 94, 98)], [FLAT, candle(100, 101, 90, 98)]
    taken = [FLAT, candle(100, 111, 99, 98)]
    symbols = [one(bars, {1: 0.01}) for bars in ([FLAT] * 2, taken, stopped, nearer, stopped, [FLAT] * 2)]
    outcome = play(scripted_simulation, symbols, {(0, s): LONG for s in range(6)}, NEXT, Sizing())
    assert [(f.s, f.reason) for f in outcome.fills] == [
        *[(s, "entry") for s in range(6)],
        (3, "stop"),
        (2, "stop"),
        (4, "stop"),
        (1, "target"),
        (0, "funding"),
        (5, "funding"),
    ]


def test_at_the_close_each_symbol_closes_before_it_opens(scripted_simulation):
    symbols = [one([FLAT] * 2), one([FLAT] * 2)]
    wishes = {(0, 0): FAR, (0, 1): FAR, (1, 0): (-1.0, 1.0, 5.0, 10.0), (1, 1): (-1.0, 2.0, 5.0, 10.0)}
    outcome = play(scripted_simulation, symbols, wishes, CLOSE, Sizing())
    assert [(f.s, f.reason) for f in outcome.fills[2:]] == [(0, "signal"), (0, "entry"), (1, "signal"), (1, "entry")]


QUARTERS = Clock(per_main=4, enter_every=4, exit_every=1, minutes=15.0)
HALVES = Clock(per_main=2, enter_every=1, exit_every=2, minutes=30.0)


def fine(bars: list[Bar | None], clock: Clock, funding: dict[int, float] | None = None, **terms: float) -> Symbol:
    """A symbol whose main bars are made of these steps."""
    return on_clock(one(bars, funding, **terms), clock)


def test_exits_are_decided_at_closes_of_shorter_bars(scripted_simulation):
    """Long at the close of the first hour; the close of the quarter at 94 sells, not the close of the hour."""
    bars = [*[FLAT] * 4, candle(98), candle(94), candle(96), candle(101)]
    outcome = play(scripted_simulation, [fine(bars, QUARTERS)], {(0, 0): LONG}, CLOSE, Sizing(), QUARTERS)
    assert [(f.t, f.reason, f.price) for f in outcome.fills] == [(3, "entry", 100), (5, "stop", 94)]
    hourly = Clock(4, 4, 4, 15.0)
    outcome = play(scripted_simulation, [fine(bars, hourly)], {(0, 0): LONG}, CLOSE, Sizing(), hourly)
    assert [(f.t, f.reason) for f in outcome.fills] == [(3, "entry")]


def test_inside_a_main_bar_the_features_of_the_last_closed_one_are_known(scripted_simulation):
    """Entries every half hour: the signal of bar 0 is first seen at its close, at step 1, and still at step 2."""
    wishes = {(0, 0): FAR, (1, 0): SHORT}
    symbol = fine([candle(100 + t) for t in range(5)], HALVES)
    outcome = play(scripted_simulation, [symbol], wishes, CLOSE, Sizing(), HALVES)
    assert [(f.t, f.reason, f.price) for f in outcome.fills] == [
        (1, "entry", 101),
        (3, "signal", 103),
        (3, "entry", 103),
    ]
    late = fine([candle(100), None, *[candle(100 + t) for t in range(2, 5)]], HALVES)
    outcome = play(scripted_simulation, [late], {(0, 0): FAR}, CLOSE, Sizing(), HALVES)
    assert [(f.t, f.price) for f in outcome.fills] == [(2, 102)]  # no bar at step 1, so the signal waits for one


def test_with_finer_steps_stops_funding_and_liquidation_are_those_of_the_finest_bar(scripted_simulation):
    low = candle(100, 100, 94, 99)
    rules = replace(NEXT, next_open=True)
    symbol = fine([*[FLAT] * 5, low, FLAT, FLAT], QUARTERS, funding={4: 0.5, 6: 0.01})
    outcome = play(scripted_simulation, [symbol], {(0, 0): LONG}, rules, Sizing(), QUARTERS)
    assert [(f.t, f.reason, f.price) for f in outcome.fills] == [
        (4, "entry", 100),
        (4, "funding", 100),
        (5, "stop", 95),
    ]
    fall = fine([*[FLAT] * 5, candle(100, 100, 89.7, 99), FLAT, FLAT], QUARTERS)
    outcome = play(scripted_simulation, [fall], {(0, 0): FAR}, NEXT, Sizing(units=900.0, leverage=10.0), QUARTERS)
    assert [(f.t, f.reason) for f in outcome.fills] == [(4, "entry"), (5, "liquidation")]


def test_a_delay_counts_the_finest_bars(scripted_simulation):
    symbol = fine([candle(100 + t) for t in range(8)], QUARTERS)
    outcome = play(scripted_simulation, [symbol], {(0, 0): FAR}, replace(NEXT, delay_bars=2), Sizing(), QUARTERS)
    assert entries(outcome) == [(6, 0, 1)]


@pytest.mark.parametrize("rules", [replace(NEXT, exit_slip=0.03), replace(CLOSE, exit_slip=0.03, delay_bars=1)])
def test_after_a_close_that_costs_all_there_is_no_waiting_entry_is_filled(scripted_simulation, rules):
    """The delisted coin leaves less than its slippage costs; the other symbol's entry waits for the next bar."""
    rules = replace(rules, initial_usd=1_000.0)
    ends = one([FLAT, FLAT, candle(92.5), None, None, None], maintenance_frac=0.01, last=2)
    other = one([FLAT] * 3 + [FLAT, candle(110), candle(110)], maintenance_frac=0.0)
    wishes = {(0, 0): FAR, (2, 1): FAR}
    sizing = Sizing(units=100.0, leverage=50.0, margin_frac=20.0)
    outcome = play(scripted_simulation, [ends, other], wishes, rules, sizing)
    assert [f.reason for f in outcome.fills] == ["entry", "backstop", "delisted"]
    assert outcome.equity[-1] == 0.0
    assert outcome.results["liquidations"] == 1


@pytest.mark.parametrize(
    ("held", "frac", "closed"), [(0.15, 0.5, 0.0), (0.95, 0.5, 0.4), (1.05, 0.95, 0.9), (1.2, 0.5, 0.6)]
)
def test_a_part_of_what_lies_between_lots_is_rounded_down(held, frac, closed):
    assert closing_size(held, frac, 10.0) == naive.part(held, frac, 10.0) == closed
