"""The ledger balances over any stream of fills and funding."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from kernels import ledger
from kernels.jit import driver
from kernels.ledger import POSITION_FIELDS, Account, Position

OPEN, PART, CLOSE, FUND = range(4)
SYMBOLS = 3


@driver
def replay(initial, kinds, symbols, amounts, prices, fee, positions, accounts):
    """Apply a stream of events; accounts[:, i] is what the account holds after event i.

    An event is an opening fill of a signed size, a closing fill of a part or of the whole, or funding at a rate; one
    that makes no sense for what is held does nothing.
    """
    account = ledger.open_account(initial)
    for i in range(kinds.shape[0]):
        s = symbols[i]
        held = ledger.get_position(positions, s)
        if kinds[i] == OPEN:
            if held.size * amounts[i] >= 0.0:
                account, held = ledger.increase(account, held, amounts[i], prices[i], fee, 4.0)
        elif held.size != 0.0:
            if kinds[i] == FUND:
                account, held = ledger.fund(account, held, amounts[i], prices[i])
            else:
                size = -held.size if kinds[i] == CLOSE else -held.size * 0.5
                account, held = ledger.decrease(account, held, size, prices[i], fee)
        ledger.put_position(positions, s, held)
        for j, value in enumerate(account):
            accounts[j, i] = value


# Quarters and halves keep every sum of a stream exact, so the books must balance to the last bit.
quarters = st.integers(-16, 16).filter(bool).map(lambda n: n / 4)
events = st.lists(
    st.tuples(st.integers(OPEN, FUND), st.integers(0, SYMBOLS - 1), quarters, st.integers(1, 1000).map(float)),
    max_size=12,
)


def applied(stream, fee):
    kinds, symbols, amounts, prices = (list(column) for column in zip(*stream, strict=True)) if stream else [[]] * 4
    positions, accounts = np.zeros((POSITION_FIELDS, SYMBOLS)), np.zeros((len(Account._fields), len(stream)))
    replay(
        1024.0,
        np.array(kinds, np.int64),
        np.array(symbols, np.int64),
        np.array(amounts, np.float64),
        np.array(prices, np.float64),
        fee,
        positions,
        accounts,
    )
    last = Account(*accounts[:, -1]) if stream else Account(1024.0, *[0.0] * (len(Account._fields) - 1))
    return last, [Position(*column) for column in positions.T], [Account(*column) for column in accounts.T]


def value_of(stream, fee: Fraction) -> tuple[Fraction, Fraction, Fraction]:
    """Equity, fees and funding in exact fractions: what came in and went out for coins, plus the coins at 512 USD."""
    money, coins = Fraction(1024), [Fraction(0)] * SYMBOLS
    fees = funding = Fraction(0)
    for kind, s, amount, price in stream:
        traded = Fraction(0)
        if kind == OPEN and coins[s] * Fraction(amount) >= 0:
            traded = Fraction(amount)
        elif kind in (PART, CLOSE):
            traded = -coins[s] / (1 if kind == CLOSE else 2)
        elif kind == FUND:
            funding += coins[s] * Fraction(price) * Fraction(amount)
        coins[s] += traded
        money -= traded * Fraction(price)
        fees += abs(traded) * Fraction(price) * fee
    return money - fees - funding + sum(coins) * 512, fees, funding


@examples(max_examples=300)
@given(stream=events, fee=st.sampled_from([0.0, 0.0078125]))
def test_equity_is_what_the_coins_and_the_money_are_worth(stream, fee):
    account, positions, _ = applied(stream, fee)
    equity = account.cash + sum(p.size * (512.0 - p.entry) for p in positions if p.size)
    value, fees, funding = value_of(stream, Fraction(fee))
    # An average entry price is a quotient: only there is rounding.
    assert equity == pytest.approx(float(value), rel=1e-12, abs=1e-9)
    assert (account.fees, account.funding) == (float(fees), float(funding))


@examples(max_examples=300)
@given(stream=events, fee=st.sampled_from([0.0, 0.0078125]))
def test_margins_places_and_round_trips_add_up(stream, fee):
    account, positions, steps = applied(stream, fee)
    assert account.positions == sum(p.size != 0 for p in positions)
    assert account.margin == pytest.approx(sum(p.margin for p in positions), rel=1e-12)
    assert all(step.margin == 0 for step in steps if step.positions == 0)
    assert all(p == Position(0, 0, 0, 0, 0, 0) for p in positions if p.size == 0)
    assert account.wins <= account.trades
    realised = account.gross_profit - account.gross_loss + sum(p.trip_pnl for p in positions)
    assert account.cash - 1024 == pytest.approx(realised, rel=1e-12, abs=1e-9)


def test_a_flat_book_holds_no_margin_whatever_the_order_of_closing():
    stream = [(OPEN, s, price, 1.0) for s, price in enumerate((0.1, 0.2, 0.3))]
    account, _, _ = applied([*stream, *[(CLOSE, s, 0.0, 1.0) for s in range(SYMBOLS)]], 0.0)
    assert (account.margin, account.positions, account.trades) == (0, 0, 3)


def test_adding_averages_the_entry_and_a_part_is_no_trade():
    account, positions, _ = applied([(OPEN, 0, 1.0, 100.0), (OPEN, 0, 3.0, 200.0), (PART, 0, 0.0, 275.0)], 0.0)
    assert positions[0] == Position(2.0, 175.0, 0.0, 0.0, 87.5, 200.0)
    assert (account.cash, account.margin, account.trades, account.fills) == (1224.0, 87.5, 0, 3)


def test_a_round_trip_without_profit_is_no_win():
    account, _, _ = applied([(OPEN, 0, 1.0, 100.0), (CLOSE, 0, 0.0, 100.0)], 0.0)
    assert (account.trades, account.wins, account.gross_profit, account.gross_loss) == (1, 0, 0, 0)
