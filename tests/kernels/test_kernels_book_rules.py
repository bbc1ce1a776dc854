"""What fills without asking the strategy, called rule by rule at its edges."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from kernel_kit import blank_book

from kernels import book_rules, liquidation, path
from kernels.book import BAR, INSIDE, LIQUIDATED, NO_MARGIN, SIGNAL, TARGETED, TOO_SMALL
from kernels.ledger import increase
from kernels.market import MODEL, SYMBOL
from kernels.records import record
from kernels.turn import Turn

PARAMS = record(("min_notional_usd", "bump_to_min_notional"))


def one(dtype, **fields):
    """A record of zeros but for some fields."""
    found = np.zeros(1, dtype)[0]
    for name, value in fields.items():
        found[name] = value
    return found


def held(size, *, cash=1000.0, log_rows=0, symbols=1):
    """A book with `size` coins of symbol 0, opened at 100 without a fee; the stop is at 90, the target at 120."""
    book = blank_book((), 1, symbols, tile=8, log_rows=log_rows, steps=0)
    account, position = book.accounts[0], book.positions[0, 0]
    account.cash = account.equity = account.peak = cash
    increase(account, position, 1.0, 0, size, 100.0, 0.0, 10.0, 1.0)
    position["stop"], position["target"] = 90.0, 120.0
    position["exited_long"] = position["exited_short"] = math.nan
    book.active[0, :symbols] = range(symbols)
    account.active = symbols
    return SimpleNamespace(book=book, account=account, position=position)


def turn(at, bars=None, *, t=4, **terms):
    """The book at step `t`, with bars of zeros unless given, free fills, and the same terms for all symbols."""
    symbols = np.zeros(at.book.positions.shape[1], SYMBOL)
    for name, value in terms.items():
        symbols[name] = value
    bars = np.zeros(len(symbols), BAR) if bars is None else bars
    return Turn(at.account, at.book.positions[0], at.book.active[0], bars, symbols, one(MODEL), t, at.book.log)


@pytest.mark.parametrize("size", [1.0, -1.0, 3.0])
@pytest.mark.parametrize("reason", [TARGETED, SIGNAL])
def test_a_close_is_logged_without_a_signal_and_only_an_exit_is_remembered(size, reason):
    at = held(size, log_rows=1)
    at.position["close_frac"], at.position["open_code"] = 1.0, 7.0
    book_rules.close(turn(at, lots=1.0, t=5), 0, abs(size), 110.0, reason, INSIDE)
    row = at.book.log[0]
    assert (float(at.position["size"]), float(at.position["close_frac"]), float(row["size"])) == (0.0, 0.0, -size)
    assert (float(row["code"]), float(row["price"]), float(row["reason"])) == (0.0, 110.0, reason)
    left = [float(at.position[name]) for name in ("exited_long", "exited_short")]
    assert left[0 if size > 0.0 else 1] == 5.0 if reason != SIGNAL else math.isnan(left[0] + left[1])
    assert math.isnan(left[1 if size > 0.0 else 0])


@pytest.mark.parametrize(("size", "price"), [(1.0, 95.0), (0.5, 95.0), (-1.0, 105.0), (-0.5, 105.0)])
def test_the_worst_price_of_a_bar(size, price):
    bar = one(BAR, low=95.0, high=105.0, last_price=101.0)
    assert path.adverse_price(bar, size) == price
    bar["age"] = -1.0
    assert path.adverse_price(bar, size) == 101.0


@pytest.mark.parametrize("size", [1.0, -1.0, 2.5])
def test_liquidation_leaves_nothing_however_small(size):
    at = held(size, log_rows=1)
    at.position["open_size"] = 1.0
    bars = np.zeros(1, BAR)
    bars["low"], bars["high"] = 95.0, 105.0
    liquidation.liquidate(turn(at, bars, lots=1.0, maintenance_frac=1.0), 1.0, INSIDE)
    assert (float(at.position["size"]), float(at.position["open_size"]), float(at.account.liquidations)) == (
        0.0,
        0.0,
        1.0,
    )
    assert float(at.book.log[0]["reason"]) == LIQUIDATED


NO_SIGNAL = {"open": 100.0, "high": 104.0, "low": 96.0, "close": 100.0, "last_price": 101.0, "age": 0.0}


def coasted(size, *bars, cash=1000.0, maintenance=0.0, intrabar=1):
    """How far a book coasts through a quiet bar, these, and a quiet one again; it begins at the first."""
    at = held(size, cash=cash)
    if size < 0.0:
        at.position["stop"], at.position["target"] = 120.0, 80.0
    tile = np.zeros((len(bars) + 2, 1), BAR)
    for place, changes in enumerate(({}, *bars, {})):
        for name, value in (NO_SIGNAL | changes).items():
            tile[place, 0][name] = value
    symbol, model = one(SYMBOL, lots=1.0, maintenance_frac=maintenance), one(MODEL, intrabar=intrabar)
    return book_rules.fast_forward(at.account, at.position, symbol, model, tile, 0, 0, len(tile)), at


@pytest.mark.parametrize("size", [1.0, -1.0, 2.0])
@pytest.mark.parametrize("intrabar", [0, 1])
def test_a_book_coasts_through_what_is_quiet_and_only_marks(size, intrabar):
    taken, at = coasted(size, {"last_price": 103.0, "age": 3.0}, {"last_price": 98.0}, intrabar=intrabar)
    assert taken == 4
    values = [1000.0 + size * (mark - 100.0) for mark in (101.0, 103.0, 98.0, 101.0)]
    peaks = np.maximum.accumulate([1000.0, *values])[1:]
    assert float(at.account.equity) == values[-1]
    assert float(at.account.peak) == max(1000.0, *values)
    assert float(at.account.drawdown) == (peaks - values).max()
    assert float(at.account.drawdown_frac) == ((peaks - values) / peaks).max()
    assert float(at.account.bars_held) == 4.0


@pytest.mark.parametrize(
    ("size", "loud"),
    [
        (1.0, {"low": 90.0}),
        (1.0, {"high": 120.0}),
        (-1.0, {"high": 120.0}),
        (-1.0, {"low": 80.0}),
        (1.0, {"funding": 0.5}),
        (1.0, {"funding": 1.0}),
        (-1.0, {"funding": -0.5}),
        (1.0, {"age": -1.0}),
    ],
)
def test_it_stops_before_a_bar_that_asks_for_more(size, loud):
    taken, at = coasted(size, loud, {})
    assert (taken, float(at.account.bars_held)) == (1, 1.0)
    assert float(at.account.equity) == 1000.0 + size


@pytest.mark.parametrize(
    ("size", "far"), [(1.0, {"low": 80.0}), (1.0, {"high": 130.0}), (-1.0, {"high": 130.0}), (-1.0, {"low": 70.0})]
)
def test_where_stops_are_tested_at_closes_a_range_stops_nothing(size, far):
    assert coasted(size, far, intrabar=0)[0] == 3


@pytest.mark.parametrize(
    ("size", "worst", "enough"),
    [(1.0, {"low": 60.0}, 70.0), (-1.0, {"high": 140.0}, 110.0), (2.0, {"low": 60.0}, 140.0)],
)
def test_it_stops_before_a_bar_at_whose_worst_price_equity_is_below_maintenance(size, worst, enough):
    """40 USD a coin are lost there; maintenance asks for half of the notional."""
    asked = {"maintenance": 0.5, "intrabar": 0}
    assert coasted(size, worst, cash=enough + 1000.0, **asked)[0] == 3
    assert coasted(size, worst, cash=enough * (1.0 + 1e-6), **asked)[0] == 3
    assert coasted(size, worst, cash=enough, **asked)[0] == 1  # so near that the exact rule decides
    assert coasted(size, worst, cash=enough - 1.0, **asked)[0] == 1


def fit_order(wanted, room, *, price=10.0, lots=1.0, least=0.0, venue=0.0, shrinks=True, bump=0.0):
    """Coins, USD and the verdict of an order at leverage 1."""
    symbol = one(SYMBOL, lots=lots, min_notional_usd=venue)
    params = one(PARAMS, min_notional_usd=least, bump_to_min_notional=bump)
    return book_rules.fit_order(wanted, price, 1.0, room, shrinks, symbol, one(MODEL), params)


@pytest.mark.parametrize(
    ("room", "coins"), [(100.0, 5.0), (50.0, 5.0), (49.0, 4.0), (10.0, 1.0), (9.0, 0.0), (0.5, 0.0), (0.0, 0.0)]
)
def test_an_order_shrinks_to_whole_lots_of_what_is_left(room, coins):
    assert fit_order(5.5, room)[0] == coins


def test_an_order_shrinks_into_the_least_room():
    """Less than a USD is left, which is enough for small lots."""
    assert fit_order(1.0, 0.5, lots=100.0)[0] == 0.05


def test_with_nothing_left_it_is_margin_that_is_missing():
    assert fit_order(5.0, 0.0)[1:] == (50.0, NO_MARGIN)
    assert fit_order(5.0, 49.0, shrinks=False) == (0.0, 50.0, NO_MARGIN)
    assert fit_order(0.4, 100.0)[2] == TOO_SMALL


def test_no_number_of_coins_is_no_order():
    symbol, model = one(SYMBOL, lots=1.0), one(MODEL, fee=0.001)
    found = book_rules.fit_order(math.inf, 10.0, 1.0, 100.0, False, symbol, model, one(PARAMS))  # noqa: FBT003 - by position in compiled code
    assert found == (0.0, math.inf, TOO_SMALL)


@pytest.mark.parametrize(("least", "venue"), [(30.0, 0.0), (0.0, 30.0), (30.0, 20.0), (20.0, 30.0)])
def test_the_greater_of_both_least_notionals_counts(least, venue):
    assert fit_order(2.0, 100.0, least=least, venue=venue)[0] == 0.0
    assert fit_order(3.0, 100.0, least=least, venue=venue)[0] == 3.0
    assert fit_order(2.0, 100.0, least=least, venue=venue, bump=1.0)[:2] == (3.0, 30.0)


@pytest.mark.parametrize(
    ("wanted", "price", "coins"),
    [
        (8.0, 10.0, 8.0),  # more than the least stays
        (3.0, 10.0, 3.0),
        (1.0, 10.0, 3.0),
        (0.2, 10.0, 3.0),
        (40.0, 0.5, 60.0),  # worth too little, however many they are
        (0.0, 10.0, 0.0),  # nothing wanted stays nothing
    ],
)
def test_only_what_is_below_the_least_is_raised_to_it(wanted, price, coins):
    assert fit_order(wanted, 1000.0, price=price, least=30.0, bump=1.0)[0] == coins


def test_lots_that_round_to_just_below_the_least_get_one_more():
    """The least over the price rounds down to whole lots that are worth less."""
    lots, least = 100.0, 30.0
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 5000, 20_000)
    prices = least * lots / counts
    for count, price in zip(counts.tolist(), prices.tolist(), strict=True):
        below = count / lots
        if least / price == below and below * price < least:
            break
    else:
        pytest.fail("no such price")
    coins, need, _ = fit_order(0.01, 1e6, price=price, lots=lots, least=least, bump=1.0)
    assert coins == (count + 1) / lots
    assert need == coins * price


def test_a_waiting_order_holds_a_place_where_nothing_is_held_and_the_money_beyond_what_is():
    at = held(2.0, symbols=3)
    bars = np.zeros(3, BAR)
    bars["last_price"] = 10.0
    positions = at.book.positions[0]

    def reserved_by_orders(s, **order):
        for each in positions:
            each["open_size"] = 0.0
        positions[s]["open_leverage"] = 1.0
        for name, value in order.items():
            positions[s][name] = value
        return book_rules.reserved_by_orders(turn(at, bars))

    assert reserved_by_orders(0) == (0.0, 0.0)
    assert reserved_by_orders(1, open_size=1.0) == (10.0, 1.0)
    assert reserved_by_orders(1, open_size=-4.0) == (40.0, 1.0)
    # A reversal holds what it needs beyond the margin that it sets free, an addition all that it needs.
    assert float(at.position["margin"]) == 20.0
    assert reserved_by_orders(0, open_size=-5.0, open_adds=0.0) == (30.0, 0.0)
    assert reserved_by_orders(0, open_size=-1.0, open_adds=0.0) == (0.0, 0.0)
    assert reserved_by_orders(0, open_size=5.0, open_adds=1.0) == (50.0, 0.0)
    positions[2]["size"] = 1.0
    assert reserved_by_orders(2, open_size=1.0, open_adds=1.0) == (10.0, 0.0)
    assert reserved_by_orders(2, open_size=0.05, open_adds=1.0) == (0.5, 0.0)


def test_what_is_worth_just_the_least_is_not_raised():
    """The quotient of both rounds to above the coins, so that raising it would add a lot."""
    lots = 100.0
    for count, price in np.random.default_rng(2).uniform((1, 1), (5000, 90), (20_000, 2)).tolist():
        coins = int(count) / lots
        if coins * price / price > coins:
            break
    else:
        pytest.fail("no such price")
    assert fit_order(coins, 1e6, price=price, lots=lots, least=coins * price, bump=1.0)[0] == coins


def test_what_needs_just_what_is_left_does_not_shrink():
    """The share of the wish that what is left pays for rounds to below the lots, so that shrinking would take one."""
    lots = 100.0
    for wanted, price in np.random.default_rng(3).uniform((1, 1), (50, 90), (20_000, 2)).tolist():
        coins = math.floor(wanted * lots) / lots
        if wanted * (coins * price / (wanted * price)) < coins:
            break
    else:
        pytest.fail("no such wish")
    assert fit_order(wanted, coins * price, price=price, lots=lots)[0] == coins
