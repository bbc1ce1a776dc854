"""The ledger balances over any stream of fills, funding and prices."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from example_kit import examples
from hypothesis import given
from hypothesis import strategies as st
from kernel_kit import fields_win

from kernels import ledger
from kernels.blocks import BLOCKS
from kernels.jit import driver
from kernels.ledger import ACCOUNT, POSITION_FIELDS
from kernels.records import record

OPEN, PART, CLOSE, FUND, MARK = range(5)
SYMBOLS = 3
START = 1024.0

POSITION = fields_win(record(POSITION_FIELDS))
EVENT = record(("amount", "price"), ("kind", "symbol"))


@driver
def replay(events, fee, positions, account, days, accounts, held):
    """Apply a stream of events; accounts[i] and held[i] are account and positions after event i.

    An event is an opening fill of a signed size, a closing fill of a part or of the whole, funding at a rate, or a mark
    of all positions at one price; one that makes no sense for what is held does nothing.
    """
    for i in range(events.shape[0]):
        event = events[i]
        position = positions[event.symbol]
        if event.kind == OPEN:
            if position.size * event.amount >= 0.0:
                paid = ledger.fee_of(event.amount, event.price, fee)
                ledger.increase(account[0], position, np.inf, i, event.amount, event.price, paid, 4.0, 1.0)
        elif event.kind == MARK:
            value = account[0].cash
            for s in range(positions.shape[0]):
                open_one = positions[s]
                if open_one.size != 0.0:
                    value += open_one.size * (event.price - open_one.entry)
            ledger.mark_to_market(account[0], value)
            ledger.end_day(account[0], days, 0, 0)
        elif position.size != 0.0:
            if event.kind == FUND:
                ledger.fund(account[0], position, position.size * event.price * event.amount)
            else:
                size = -position.size if event.kind == CLOSE else -position.size * 0.5
                ledger.decrease(
                    account[0], position, np.inf, size, event.price, ledger.fee_of(size, event.price, fee), 1.0
                )
        accounts[i] = account[0]
        for s in range(positions.shape[0]):
            held[i, s] = positions[s]


@driver
def open_all(account, positions, usd):
    """Start with cash only."""
    ledger.open_account(account[0], usd)
    for s in range(positions.shape[0]):
        ledger.flatten(positions[s])


# Quarters and halves keep every sum of a stream exact, so the books must balance to the last bit.
quarters = st.integers(-16, 16).filter(bool).map(lambda n: n / 4)


def streams(amounts: st.SearchStrategy[float], prices: st.SearchStrategy[float], most: int) -> st.SearchStrategy[list]:
    """Lists of (kind, symbol, amount, price)."""
    return st.lists(st.tuples(st.integers(OPEN, MARK), st.integers(0, SYMBOLS - 1), amounts, prices), max_size=most)


exact_streams = streams(quarters, st.integers(1, 1000).map(float), 12)
real_streams = streams(st.floats(-5, 5).filter(bool), st.floats(0.01, 1e5), 40)


def applied(stream, fee):
    """Account, positions and days at the end; accounts and positions after each event."""
    events = np.array([(amount, price, kind, s) for kind, s, amount, price in stream], EVENT)
    account, positions, days = np.zeros(1, ACCOUNT), np.zeros(SYMBOLS, POSITION), np.zeros((BLOCKS, 3, 1))
    accounts, held = np.zeros(len(stream), ACCOUNT), np.zeros((len(stream), SYMBOLS), POSITION)
    open_all(account, positions, START)
    replay(events, fee, positions, account, days, accounts, held)
    return account[0], positions, days[0, :, 0], accounts, held


def value_of(stream, fee: Fraction) -> tuple[Fraction, Fraction, Fraction]:
    """Equity, fees and funding in exact fractions: what came in and went out for coins, plus the coins at 512 USD."""
    money, coins = Fraction(START), [Fraction(0)] * SYMBOLS
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


def open_profit(positions, price: float) -> float:
    return float(sum(size * (price - entry) for size, entry in zip(positions["size"], positions["entry"], strict=True)))


@examples(300)
@given(stream=exact_streams, fee=st.sampled_from([0.0, 0.0078125]))
def test_equity_is_what_the_coins_and_the_money_are_worth(stream, fee):
    account, positions, *_ = applied(stream, fee)
    value, fees, funding = value_of(stream, Fraction(fee))
    # An average entry price is a quotient: only there is rounding.
    assert account["cash"] + open_profit(positions, 512.0) == pytest.approx(float(value), rel=1e-12, abs=1e-9)
    assert (account["fees"], account["funding"]) == (float(fees), float(funding))


@examples(300)
@given(stream=real_streams, fee=st.sampled_from([0.0, 0.00045, 0.01]), mark=st.floats(0.01, 1e5))
def test_the_books_balance_after_every_event(stream, fee, mark):
    """Cash and open profit are the start, what was traded for, less fees and funding; told apart from the ledger."""
    *_, accounts, held = applied(stream, fee)
    coins, paid = [0.0] * SYMBOLS, 0.0
    fees = funding = turnover = 0.0
    fills = trades = 0
    for (kind, s, amount, price), account, positions in zip(stream, accounts, held, strict=True):
        traded = 0.0
        if kind == OPEN and coins[s] * amount >= 0:
            traded = amount
        elif kind in (PART, CLOSE):
            traded = -coins[s] * (1.0 if kind == CLOSE else 0.5)
        elif kind == FUND:
            funding += coins[s] * price * amount
        trades += kind == CLOSE and traded != 0
        coins[s] += traded
        paid += traded * price
        turnover += abs(traded) * price
        fees += abs(traded) * price * fee
        fills += traded != 0
        moved = 1.0 + turnover + abs(funding) + sum(map(abs, coins)) * mark
        near = 1e-9 * moved
        gross = sum(map(mark.__mul__, coins)) - paid
        equity = float(account["cash"]) + open_profit(positions, mark)
        assert equity - START == pytest.approx(gross - fees - funding, rel=1e-9, abs=near)
        assert positions["size"].tolist() == pytest.approx(coins, rel=1e-12, abs=1e-300)
        assert (account["fills"], account["trades"], account["open_positions"]) == (
            fills,
            trades,
            sum(map(bool, coins)),
        )
        assert account["margin"] == pytest.approx(float(positions["margin"].sum()), rel=1e-9, abs=near * 1e-3)
        assert account["fees"] == pytest.approx(fees, rel=1e-9)
        assert account["funding"] == pytest.approx(funding, rel=1e-9, abs=near)
        assert account["turnover"] == pytest.approx(turnover, rel=1e-9)
        realised = account["gross_profit"] - account["gross_loss"] + positions["trade_pnl"].sum()
        assert account["cash"] - START == pytest.approx(float(realised), rel=1e-9, abs=near)


@examples(300)
@given(stream=exact_streams, fee=st.sampled_from([0.0, 0.0078125]))
def test_margins_places_and_round_trips_add_up(stream, fee):
    account, positions, _, accounts, held = applied(stream, fee)
    assert account["open_positions"] == np.count_nonzero(positions["size"])
    assert account["margin"] == pytest.approx(float(positions["margin"].sum()), rel=1e-12)
    # A position at its own entry price holds a quarter of its notional.
    notional = np.abs(held["size"]) * held["entry"]
    assert held["margin"].ravel().tolist() == pytest.approx((notional / 4).ravel().tolist(), rel=1e-12)
    assert not accounts["margin"][accounts["open_positions"] == 0].any()
    flat = positions[positions["size"] == 0]
    for name in set(POSITION_FIELDS) - {"stop", "target", "exited", "exited_side"}:
        assert not flat[name].any()
    assert np.isnan(flat["stop"]).all()
    assert np.isnan(flat["target"]).all()
    assert account["wins"] <= account["trades"]
    assert (np.diff(accounts["trades"]) >= 0).all()


@examples(200)
@given(stream=real_streams)
def test_peak_drawdown_and_days_are_those_of_the_marks(stream):
    account, _, days, accounts, _ = applied(stream, 0.00045)
    curve = [
        START,
        *(float(after["equity"]) for event, after in zip(stream, accounts, strict=True) if event[0] == MARK),
    ]
    peaks = np.maximum.accumulate(curve)
    assert account["peak"] == peaks[-1]
    assert account["drawdown"] == (peaks - curve).max()
    assert account["drawdown_frac"] == pytest.approx(((peaks - curve) / peaks).max(), rel=1e-12)
    returns = [b / a - 1 if a > 0 else 0.0 for a, b in itertools.pairwise(curve)]
    assert days.tolist() == pytest.approx([len(returns), sum(returns), sum(r * r for r in returns)], rel=1e-12)


def test_a_flat_book_holds_no_margin_whatever_the_order_of_closing():
    stream = [(OPEN, s, price, 1.0) for s, price in enumerate((0.1, 0.2, 0.3))]
    account, *_ = applied([*stream, *[(CLOSE, s, 0.0, 1.0) for s in range(SYMBOLS)]], 0.0)
    assert (account["margin"], account["open_positions"], account["trades"]) == (0, 0, 3)


def test_adding_averages_the_entry_and_a_part_is_no_trade():
    stream = [(OPEN, 0, 1.0, 100.0), (OPEN, 0, 3.0, 200.0), (PART, 0, 0.0, 275.0)]
    account, positions, *_ = applied(stream, 0.0)
    expected = {
        "size": 2.0,
        "entry": 175.0,
        "margin": 87.5,
        "leverage": 4.0,
        "trade_pnl": 200.0,
        "opened": 0.0,
        "added": 1.0,
        "adds": 1.0,
        "parts": 1.0,
    }
    assert {name: float(positions[0][name]) for name in expected} == expected
    assert [float(account[name]) for name in ("cash", "margin", "trades", "fills")] == [1224.0, 87.5, 0, 3]


def test_a_round_trip_without_profit_is_no_win():
    account, *_ = applied([(OPEN, 0, 1.0, 100.0), (CLOSE, 0, 0.0, 100.0)], 0.0)
    names = ("trades", "wins", "gross_profit", "gross_loss")
    assert [float(account[name]) for name in names] == [1, 0, 0, 0]
