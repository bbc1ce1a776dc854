"""Small rules of the book, called one by one at their edges."""

import math
from fractions import Fraction

import numpy as np
import pytest
from kernel_kit import blank_book

from kernels import book as rules
from kernels import defaults
from kernels.book import LOG, STOPPED, TARGETED
from kernels.ledger import decrease, end_day, increase, mark_to_market, open_account, round_to_lots
from kernels.market import MODEL

NAN = math.nan
NOT = -1


@pytest.mark.parametrize(
    ("size", "low", "high", "reached"),
    [
        (1.0, 96.0, 109.0, NOT),
        (1.0, 95.0, 109.0, STOPPED),
        (1.0, 96.0, 110.0, TARGETED),
        (1.0, 95.0, 110.0, STOPPED),
        (-1.0, 91.0, 104.0, NOT),
        (-1.0, 91.0, 105.0, STOPPED),
        (-1.0, 90.0, 104.0, TARGETED),
        (-1.0, 90.0, 105.0, STOPPED),
    ],
)
def test_a_touch_is_enough_and_the_stop_wins(size, low, high, reached):
    """Five away is the stop, ten away the target."""
    assert rules.touched(size, 100.0 - 5.0 * size, 100.0 + 10.0 * size, low, high) == reached
    assert rules.touched(size, NAN, NAN, low, high) == NOT


@pytest.mark.parametrize(
    ("wanted", "lots", "down", "up"),
    [
        (0.29, 100.0, 0.29, 0.29),
        (0.295, 100.0, 0.29, 0.3),
        (3.7, 1.0, 3.0, 4.0),
        (0.004, 100.0, 0.0, 0.01),
        (0.0, 100.0, 0.0, 0.0),
        (2.0**60, 1.0, 2.0**60, 2.0**60),
    ],
)
def test_whole_lots(wanted, lots, down, up):
    assert rules.whole_lots(wanted, lots) == down
    assert rules.lots_up(wanted, lots) == up


def test_what_is_no_number_of_coins_stays_none():
    assert rules.whole_lots(math.inf, 100.0) == math.inf
    assert math.isnan(rules.whole_lots(NAN, 100.0))


@pytest.mark.parametrize(
    ("size", "frac", "part"),
    [
        (0.005, 1.0, 0.005),
        (-0.005, 1.0, 0.005),
        (3.0, 0.5, 1.5),
        (-3.0, 0.5, 1.5),
        (0.01, 0.5, 0.0),
        (8.0, 2.0, 8.0),
        (3.64, 0.5, 1.82),
        (1.01 + 2.63, 0.5, 1.82),
        (1.0, 0.29, 0.29),
        (1.0, 0.299999, 0.29),
        (2.0**60, 0.5, 2.0**59),
    ],
)
def test_a_part_is_whole_lots_and_the_whole_is_the_whole(size, frac, part):
    assert rules.closing_size(size, frac, 100.0) == part


@pytest.mark.parametrize("lots", [1.0, 10.0, 100.0, 1e5, 1e8])
@pytest.mark.parametrize("frac", [0.1, 0.29, 0.3, 0.5, 0.57, 0.7, 0.99])
def test_a_part_is_the_fraction_of_the_lots_in_decimals(lots, frac):
    """As a person would round it down: in exact decimals."""
    for count in np.random.default_rng(7).integers(1, 10**6, 50).tolist():
        part = math.floor(count * Fraction(str(frac)))
        assert rules.closing_size(count / lots, frac, lots) == part / lots
        assert round_to_lots(count / lots - part / lots, lots) == (count - part) / lots


@pytest.mark.parametrize(
    ("coins", "lots", "size"),
    [(0.1 + 0.2, 10.0, 0.3), (-0.1 - 0.2, 10.0, -0.3), (0.8009999999999998, 1e3, 0.801), (2.0**60, 1e3, 2.0**60)],
)
def test_a_sum_of_sizes_goes_back_to_its_whole_lots(coins, lots, size):
    assert round_to_lots(coins, lots) == size


@pytest.mark.parametrize(("moment", "time"), [(rules.AT_OPEN, 6), (rules.INSIDE, 7), (rules.AT_CLOSE, 7)])
def test_what_happens_at_an_open_happened_when_the_step_before_closed(moment, time):
    assert rules.time_of(7, moment) == time


@pytest.mark.parametrize(("next_open", "delay", "wait"), [(1, 0, 0), (1, 2, 2), (0, 0, 0), (0, 1, 0), (0, 3, 2)])
def test_bars_that_an_order_lets_pass(next_open, delay, wait):
    model = np.zeros(1, MODEL)[0]
    model.next_open, model.delay_bars = next_open, delay
    assert rules.wait_of(model) == wait


def test_symbols_without_position_and_order_are_dropped_from_the_active_ones():
    book = blank_book((), 1, 4, tile=1, log_rows=0, steps=0)
    account, positions, active = book.accounts[0], book.positions[0], book.active[0]
    for s in (2, 0, 3, 1, 0):
        rules.activate(account, active, s)
    assert (account.active, active.tolist()) == (4, [0, 1, 2, 3])
    positions[1]["size"], positions[3]["open_size"] = 2.0, -1.0
    rules.deactivate(account, positions, active)
    assert (account.active, active[:2].tolist()) == (2, [1, 3])


def test_a_log_that_is_full_is_counted_on():
    book = blank_book((), 1, 1, tile=1, log_rows=1, steps=0)
    account = book.accounts[0]
    account.fees, account.cash, book.positions[0, 0]["size"] = 3.0, 90.0, 2.5
    for step in (5, 6):
        rules.log_row(
            account, book.log, book.positions[0, 0], step, 2, rules.ENTRY, rules.INSIDE, 1.5, 99.0, 0.5, 1.0, 100.0, 45
        )
    assert account.logged == 2
    row = book.log[0]
    told = {name: float(row[name]) for name in LOG.names}
    wanted = (5, 2, rules.ENTRY, rules.INSIDE, 1.5, 99.0, 2.0, -10.0, 2.5, 45, 0.5)
    assert told == dict(zip(LOG.names, wanted, strict=True))


@pytest.mark.parametrize(("price", "wins"), [(100.5, 1.0), (100.0, 0.0), (99.5, 0.0)])
def test_the_least_profit_is_a_win_and_none_is_not(price, wins):
    book = blank_book((), 1, 1, tile=1, log_rows=0, steps=0)
    account, position = book.accounts[0], book.positions[0, 0]
    increase(account, position, 1.0, 0, 1.0, 100.0, 0.0, 10.0, 1.0)
    decrease(account, position, 1.0, -1.0, price, 0.0, 1.0)
    assert (account.trades, account.wins) == (1.0, wins)


@pytest.mark.parametrize(("before", "change"), [(0.5, 1.0), (0.0, 0.0), (-1.0, 0.0)])
def test_the_return_of_a_day_that_begins_with_little_or_nothing(before, change):
    book = blank_book((), 1, 1, tile=1, log_rows=0, steps=0)
    account = book.accounts[0]
    open_account(account, before)
    mark_to_market(account, 1.0)
    end_day(account, book.days, 3, 0)
    assert book.days[3, :, 0].tolist() == [1.0, change, change]


def test_a_strategy_without_a_rule_has_no_exits_no_additions_and_no_rank_and_refuses_nothing():
    assert defaults.context(NAN, NAN, 0, -1, NAN) == 0.0
    assert defaults.manage(NAN, 100.0, 1.0, NAN, NAN, NAN) == (-1, 1.0)
    assert defaults.admits(NAN, 1, leaving=False, minutes=0.0, now=NAN, params=NAN)
    assert defaults.rank(1, NAN, NAN) == 0.0
    assert defaults.add(NAN, 1, 1e4, 100.0, 60.0, NAN, NAN) == 0.0


def test_a_strategy_that_does_not_say_more_has_no_exits_additions_ranks_or_gates():
    position = np.zeros(1, rules.position_dtype(()))[0]
    assert defaults.context(0, 0, 0, 0, 0) == 0.0
    assert defaults.manage(position, 100.0, 1.0, 0, 0, 0) == (-1, 1.0)
    assert defaults.admits(position, 1, 0, np.nan, 0, 0)
    assert defaults.rank(1, 0, 0) == 0.0
    assert defaults.add(position, 1, 10_000.0, 100.0, 60.0, 0, 0) == 0.0
    gates = np.zeros((2, 3))
    defaults.trace(100.0, 5, 0, 0, 0, 0.0, 0, gates)
    assert np.isnan(gates).all()
