"""A book that is opened forgets everything that it held before, and a position remembers when it began."""

import numpy as np
from kernel_kit import blank_book

from kernels.blocks import BLOCKS
from kernels.ledger import increase

USD = {"cash": 500.0, "equity": 500.0, "peak": 500.0, "day_equity": 500.0}
NOTHING_YET = {"stop", "target", "exited_long", "exited_short"}
ROUND_TRIP = ("size", "entry", "margin", "leverage", "trade_pnl", "opened", "added", "adds", "parts")
ORDER = ("close_frac", "open_size")


def test_accounts_positions_orders_and_days(scripted_simulation):
    book = blank_book(scripted_simulation.MEMORY, 2, 3, tile=1, log_rows=0, steps=0)
    for array in (book.accounts, book.positions):
        for name in array.dtype.names:
            array[name] = 7
    book.days[:] = 7.0
    scripted_simulation.open_books(book, 500.0)
    for k in range(2):
        account = book.accounts[k]
        assert {name: float(account[name]) for name in account.dtype.names} == {
            name: USD.get(name, 0.0) for name in account.dtype.names
        }
        for s in range(3):
            position = book.positions[k, s]
            assert all(position[name] == 0.0 for name in (*ROUND_TRIP, *ORDER))
            assert all(np.isnan(position[name]) for name in NOTHING_YET)
    assert book.days.shape == (BLOCKS, 3, 2)
    assert not book.days.any()


def test_a_position_knows_when_it_was_opened_and_when_it_was_added_to():
    book = blank_book((), 1, 1, tile=1, log_rows=0, steps=0)
    account, position = book.accounts[0], book.positions[0, 0]
    increase(account, position, 1.0, 5, 1.0, 100.0, 0.0, 10.0, 1.0)
    assert (position.opened, position.added, position.adds) == (5.0, 5.0, 0.0)
    increase(account, position, 1.0, 8, 1.0, 100.0, 0.0, 10.0, 1.0)
    assert (position.opened, position.added, position.adds) == (5.0, 8.0, 1.0)
