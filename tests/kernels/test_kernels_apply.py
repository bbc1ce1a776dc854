"""Fills as a venue reports them: in parts, late, through zero, with its own fees; compared with exact fractions."""

import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest
from example_kit import examples
from hypothesis import given
from hypothesis import strategies as st
from kernel_kit import blank_book

from kernels.book import AT_CLOSE, LIQUIDATED, MANUAL, OWN_EXITS, SIGNAL, STOPPED
from kernels.lane import list_active
from kernels.market import SYMBOL

LOTS = 100
NAN = math.nan
START = 10_000.0
NO_FEE = 0.0


@dataclass
class Twin:
    """Account and position in whole lots and fractions, as this page of rules says."""

    lots: int = 0
    cost: Fraction = Fraction(0)
    cash: Fraction = Fraction(START)
    opening: int = 0
    entry_order: bool = False
    opening_filled: bool = False
    closing: int = 0
    reason: int = -1
    closing_filled: bool = False
    adds: int = 0
    parts: int = 0
    trades: int = 0
    liquidations: int = 0
    levels: list[Fraction] = field(default_factory=list)

    def fill(self, lots: int, price: float, fee: float, settled: float, reason: int) -> int:
        """Lots that are not the book's."""
        side, left, unpaid = (1 if lots > 0 else -1), abs(lots), Fraction(fee)
        if self.lots * side < 0:
            coins = min(left, abs(self.lots))
            share = unpaid * coins / left
            self.reduce(side * coins, Fraction(price), share, settled, reason)
            unpaid, left = unpaid - share, left - coins
        if left and self.opening * side > 0:
            coins = min(left, abs(self.opening))
            self.increase(side * coins, Fraction(price), unpaid * coins / left)
            left -= coins
        return side * left

    def reduce(self, lots: int, price: Fraction, fee: Fraction, settled: float, reason: int) -> None:
        settles = not math.isnan(settled)
        entry = self.cost / self.lots
        self.cash -= (Fraction(settled) if settles else 0) + Fraction(lots, LOTS) * price - lots * entry + fee
        self.lots += lots
        self.cost = entry * self.lots
        own = bool(self.closing) and reason == self.reason
        self.parts += not (own and self.closing_filled)
        if own:
            self.closing = max(0, self.closing - abs(lots))
            self.closing_filled = self.closing > 0
        if self.lots == 0:
            self.trades += 1
            self.closing = self.adds = self.parts = 0
            self.closing_filled = False
            self.liquidations += settles or reason == LIQUIDATED
            self.cash = Fraction(0) if settles else self.cash

    def increase(self, lots: int, price: Fraction, fee: Fraction) -> None:
        self.entry_order = self.entry_order or self.lots == 0
        self.adds += not self.entry_order and not self.opening_filled
        self.cash -= fee
        self.cost += lots * price / LOTS
        self.lots += lots
        self.opening -= lots
        if self.entry_order and not (self.opening_filled and self.opening):
            self.levels.append(self.cost * LOTS / self.lots)
        self.opening_filled = self.opening != 0


class Pair:
    """The book of the kernels and its twin, to which the same things happen."""

    def __init__(self, drivers):
        self.drivers = drivers
        self.book = blank_book(drivers.MEMORY, 1, 2, 1, 64, 0)
        drivers.open_books(self.book, START)
        self.symbols = np.zeros((1, 2), SYMBOL)
        self.symbols["lots"] = LOTS
        self.twin = Twin()

    @property
    def position(self):
        return self.book.positions[0, 1]

    @property
    def account(self):
        return self.book.accounts[0]

    def order(self, lots: int, *, adds: bool = False) -> None:
        position = self.position
        position["open_size"], position["open_leverage"], position["open_adds"] = lots / LOTS, 5.0, float(adds)
        position["open_filled"], position["note_a"], position["note_b"] = 0.0, 3.0, 4.0
        self.twin.opening, self.twin.entry_order, self.twin.opening_filled = lots, not adds, False

    def order_close(self, lots: int, reason: int) -> None:
        position = self.position
        position["close_frac"], position["close_reason"], position["close_left"] = 1.0, reason, 0.0
        if lots < abs(self.twin.lots):
            position["close_frac"] = (lots + 0.5) / abs(self.twin.lots)  # rounded down to the lots
        self.twin.closing, self.twin.reason, self.twin.closing_filled = lots, reason, False

    def fill(self, lots, price=100.0, fee=NO_FEE, settled=NAN, reason=SIGNAL, t=7) -> int:
        """Apply a fill to both; returns the lots that are not the book's."""
        step = self.symbols, self.book, 1, lots / LOTS, price, fee, settled, reason, AT_CLOSE, t
        left = self.drivers.apply_fill_step(*step)
        expected = self.twin.fill(lots, price, fee, settled, reason)
        assert left == expected / LOTS
        self.check()
        return expected

    def end(self, *, opening: bool = False, closing: bool = False) -> None:
        self.drivers.end_order_step(self.book, 1, opening, closing)
        if opening:
            if self.twin.opening_filled and self.twin.entry_order and self.twin.lots:
                self.twin.levels.append(self.twin.cost * LOTS / self.twin.lots)
            self.twin.opening, self.twin.opening_filled = 0, False
        if closing:
            self.twin.closing, self.twin.closing_filled = 0, False
        self.check()

    def check(self) -> None:
        position, twin = self.position, self.twin
        assert position["size"] == twin.lots / LOTS
        assert position["open_size"] == twin.opening / LOTS
        assert bool(position["open_filled"]) == twin.opening_filled
        assert (position["close_frac"] != 0.0) == (twin.closing != 0)
        assert position["close_left"] == (twin.closing / LOTS if twin.closing_filled else 0.0)
        assert self.account["cash"] == pytest.approx(float(twin.cash), rel=1e-12, abs=1e-9)
        assert (position["adds"], position["parts"]) == (twin.adds, twin.parts)
        assert (self.account["trades"], self.account["liquidations"]) == (twin.trades, twin.liquidations)
        assert self.account["open_positions"] == (twin.lots != 0)
        if twin.lots == 0:
            assert self.account["margin"] == 0.0
        else:
            assert position["entry"] == pytest.approx(float(twin.cost * LOTS / twin.lots), rel=1e-12)
            side = 1.0 if twin.lots > 0 else -1.0
            assert position["stop"] == pytest.approx(float(twin.levels[-1]) - side * 3.0, rel=1e-12)


@pytest.fixture
def pair(scripted_drivers):
    return Pair(scripted_drivers)


@examples(300)
@given(data=st.data())
def test_any_stream_of_fills_and_drops(scripted_drivers, data):
    """Whole lots stay exact, and the cash is what the fractions say."""
    pair = Pair(scripted_drivers)
    twin = pair.twin
    prices, fees = st.sampled_from([99.5, 100.0, 101.25]), st.sampled_from([0.0, 0.25, -0.125])
    for _ in range(data.draw(st.integers(1, 25))):
        move = data.draw(st.sampled_from("oaccffffxyzl"))
        if move == "o" and not twin.opening and not twin.lots:
            pair.order(data.draw(st.integers(1, 9)) * data.draw(st.sampled_from([-1, 1])))
        elif move == "o" and not twin.opening:  # a reversal
            pair.order(-int(math.copysign(data.draw(st.integers(1, 9)), twin.lots)))
        elif move == "a" and twin.lots and not twin.opening:
            pair.order(int(math.copysign(data.draw(st.integers(1, 9)), twin.lots)), adds=True)
        elif move == "c" and twin.lots and not twin.closing:
            lots = data.draw(st.integers(1, abs(twin.lots)))
            pair.order_close(lots, data.draw(st.sampled_from([SIGNAL, STOPPED, OWN_EXITS])))
        elif move == "x":
            pair.end(opening=True)
        elif move == "y":
            pair.end(closing=True)
        elif move in "fz":
            lots = data.draw(st.integers(1, 12)) * data.draw(st.sampled_from([-1, 1]))
            reason = twin.reason if twin.closing and move == "f" else MANUAL
            pair.fill(lots, data.draw(prices), data.draw(fees), NAN, reason)
        elif move == "l" and twin.lots:
            settled = data.draw(st.sampled_from([NAN, -3.0, 0.0, 12.5]))
            pair.fill(-twin.lots, data.draw(prices), 0.0, settled, LIQUIDATED)


def test_stop_and_target_come_from_the_first_fill_and_from_the_average_in_the_end(pair):
    pair.order(4)
    pair.fill(1, 100.0)
    assert (pair.position["stop"], pair.position["target"]) == (97.0, 104.0)
    pair.fill(1, 102.0)
    assert pair.position["stop"] == 97.0
    pair.fill(2, 105.0)
    assert (pair.position["stop"], pair.position["target"]) == (100.0, 107.0)
    assert (pair.position["opened"], pair.position["leverage"]) == (7.0, 5.0)


def test_a_remainder_that_is_dropped_leaves_levels_of_the_average(pair):
    pair.order(4)
    pair.fill(1, 100.0)
    pair.fill(1, 102.0)
    pair.end(opening=True)
    assert (pair.position["stop"], pair.position["open_size"], pair.position["open_filled"]) == (98.0, 0.0, 0.0)


def test_an_addition_counts_once_and_moves_no_level(pair):
    pair.order(2)
    pair.fill(2, 100.0)
    pair.order(3, adds=True)
    for lots in (1, 1, 1):
        pair.fill(lots, 110.0)
    assert (pair.position["adds"], pair.position["stop"]) == (1.0, 97.0)


def test_a_close_in_parts_counts_once_and_is_remembered_once(pair):
    pair.order(9)
    pair.fill(9)
    pair.order_close(5, STOPPED)
    for lots in (2, 2):
        pair.fill(-lots, reason=STOPPED)
    assert (pair.position["close_left"], pair.position["parts"]) == (0.01, 1.0)
    pair.fill(-1, reason=STOPPED)
    assert (pair.position["close_frac"], pair.position["size"]) == (0.0, 0.04)
    assert (pair.position["exited_long"], math.isnan(pair.position["exited_short"])) == (7.0, True)
    pair.order_close(4, SIGNAL)
    pair.fill(-4, reason=SIGNAL, t=9)
    assert (pair.position["size"], pair.position["exited_long"], pair.account["trades"]) == (0.0, 7.0, 1.0)


def test_a_fill_of_an_order_that_is_gone_is_foreign(pair):
    pair.order(4)
    pair.end(opening=True)
    assert pair.fill(4) == 4
    assert pair.account["fills"] == 0.0


def test_a_fill_through_zero_is_split_with_its_fee(pair):
    pair.order(3)
    pair.fill(3)
    pair.order_close(3, SIGNAL)
    pair.order(-4)
    assert pair.fill(-8, fee=0.8) == -1
    assert (pair.position["size"], pair.account["trades"]) == (-0.04, 1.0)
    assert pair.account["fees"] == pytest.approx(0.7)
    assert pair.fill(9, fee=0.9, reason=MANUAL) == 5  # no order waits


def test_a_persons_close_takes_lots_off_the_closing_part(pair):
    pair.order(9)
    pair.fill(9)
    pair.order_close(8, SIGNAL)
    pair.fill(-1)
    pair.drivers.apply_fill_step(pair.symbols, pair.book, 1, -0.05, 100.0, 0.0, NAN, MANUAL, AT_CLOSE, 8)
    assert (pair.position["size"], pair.position["close_left"]) == (0.03, 0.03)


@pytest.mark.parametrize(("settled", "cash"), [(NAN, START + 5.0), (0.0, 0.0), (START + 5.0, 0.0), (-3.0, 0.0)])
def test_a_settlement_that_leaves_the_account_flat_leaves_nothing(pair, settled, cash):
    pair.order(100)
    pair.fill(100, 100.0)
    pair.fill(-100, 105.0, 0.0, settled, LIQUIDATED)
    assert (pair.account["cash"], pair.account["liquidations"]) == (cash, 1.0)


def test_an_addition_whose_position_is_gone_becomes_an_entry(pair):
    pair.order(2)
    pair.fill(2)
    pair.order(4, adds=True)
    pair.fill(-2, reason=MANUAL)
    pair.fill(1, 110.0)
    pair.fill(3, 114.0)
    assert pair.position["adds"] == 0.0
    assert pair.position["stop"] == pytest.approx(110.0)


def test_funding_belongs_to_the_trade_that_is_open(pair):
    pair.drivers.apply_funding_step(pair.book, 1, 2.0)
    assert (pair.account["cash"], pair.account["funding"], pair.position["trade_pnl"]) == (START - 2.0, 2.0, 0.0)
    pair.twin.cash -= 2
    pair.order(3)
    pair.fill(3)
    pair.drivers.apply_funding_step(pair.book, 1, -0.5)
    assert (pair.account["cash"], pair.account["funding"], pair.position["trade_pnl"]) == (START - 1.5, 1.5, 0.5)


@pytest.mark.parametrize(
    ("equity", "peak", "day", "usd", "after"),
    [
        (80.0, 100.0, 90.0, 40.0, (120.0, 150.0, 135.0)),
        (80.0, 100.0, 80.0, -40.0, (40.0, 50.0, 40.0)),
        (80.0, 100.0, 90.0, -80.0, (0.0, 0.0, 0.0)),
        (80.0, 100.0, 90.0, -90.0, (-10.0, -10.0, -10.0)),
        (0.0, 100.0, 90.0, 50.0, (50.0, 50.0, 50.0)),
        (-20.0, 100.0, 90.0, 50.0, (30.0, 30.0, 30.0)),
    ],
)
def test_a_transfer_is_no_profit_and_no_drawdown(pair, equity, peak, day, usd, after):
    account = pair.account
    account["cash"], account["equity"], account["peak"], account["day_equity"] = 70.0, equity, peak, day
    account["drawdown"], account["drawdown_frac"] = 33.0, 0.25
    pair.drivers.apply_transfer_step(pair.book, usd)
    assert (account["equity"], account["peak"], account["day_equity"]) == after
    assert (account["cash"], account["drawdown"], account["drawdown_frac"]) == (70.0 + usd, 33.0, 0.25)


def test_a_peak_that_is_the_equity_stays_the_equity(pair):
    """A third has no exact product that leads back to it."""
    pair.account["equity"] = pair.account["peak"] = pair.account["day_equity"] = 0.1 + 0.2
    pair.drivers.apply_transfer_step(pair.book, 0.7)
    assert pair.account["peak"] == pair.account["day_equity"] == pair.account["equity"]


def test_a_step_ends_with_the_equity_and_the_day(pair):
    pair.order(3)
    list_active(pair.book)
    pair.fill(3)
    pair.drivers.finish_step(pair.book, np.array([NAN, 110.0]), 1, 2)
    assert pair.account["equity"] == START + 0.03 * 10.0
    assert pair.book.days[2, :, 0] == pytest.approx([1.0, 0.3 / START, (0.3 / START) ** 2])
    assert pair.account["active"] == 1
    pair.fill(-3, reason=MANUAL)
    pair.drivers.finish_step(pair.book, np.array([NAN, 110.0]), 0, 2)
    assert (pair.account["active"], pair.account["equity"]) == (0, START)
