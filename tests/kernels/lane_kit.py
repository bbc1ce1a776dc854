"""Drive a book step by step, as the lane of an executor does: decisions on its book, fills on a broker's.

The fills come from the log of the broker's book. `follow` gives every row to `told`, which may hand it on as it is.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from kernel_kit import Inputs, bits, blank_book

from kernels.book import BACKSTOP, FUNDED, Book
from kernels.lane import adopt_orders, dropped_orders
from kernels.market import Market
from kernels.turn import OutsideLimits, limits_of

WAITS = ("close_wait", "open_wait")
"""Fields that only the broker counts down."""

LISTS = ("active", "logged")
"""Fields of an account that say how its lists are kept."""

_GRID = ("open", "high", "low", "close", "last_price", "age", "funding")
_BY_STEP = ("day_end", "block", "enters", "exits", "ends")
_TERMS = ("lots", "min_notional_usd", "max_leverage", "maintenance_frac", "last")


@dataclass
class Lane:
    """The books of a lane and of its broker, and what was recorded at each step."""

    drivers: ModuleType
    book: Book
    broker: Book
    symbols: np.ndarray
    equity: list[float]
    verdicts: list[list[int]]


def step_market(market: Market, t: int) -> Market:
    """The market of step `t` alone, with the terms that are in force then."""
    v = np.searchsorted(market.since, t, side="right") - 1
    row = int(market.row[t])
    return market._replace(
        **{name: getattr(market, name)[t : t + 1] for name in (*_GRID, *_BY_STEP)},
        **{name: getattr(market, name)[v : v + 1] for name in _TERMS},
        since=market.since[:1],
        row=np.array([min(row, 1) if row < 0 else 1]),
        previous_row=np.array([int(market.previous_row[t] == row)]),
    )


def step_columns(inputs: Inputs, t: int) -> np.ndarray:
    """The columns [C, 2, S] at the main bars that step `t` sees."""
    rows = max(0, int(inputs.market.previous_row[t])), max(0, int(inputs.market.row[t]))
    return np.ascontiguousarray(inputs.columns[:, rows])


def new_lane(drivers: ModuleType, inputs: Inputs, initial_usd: float) -> Lane:
    """Two flat books; the log of the broker is large enough for any step."""
    count = inputs.market.close.shape[1]
    books = [blank_book(drivers.MEMORY, 1, count, 1, 8 * count, 0) for _ in "lb"]
    for book in books:
        drivers.open_books(book, initial_usd)
    return Lane(drivers, *books, inputs.symbols[:1], [], [])


def apply_rows(lane: Lane, rows: np.ndarray, told: Callable | None = None) -> None:
    """Apply rows of a log to the lane's book; `told` may apply a fill in another way."""
    settled = np.nan
    for row in rows:
        s, usd, reason = int(row["symbol"]), float(row["usd"]), int(row["reason"])
        if reason == BACKSTOP:
            settled = usd
        elif reason == FUNDED:
            lane.drivers.apply_funding_step(lane.book, s, usd)
        else:
            fill = s, float(row["size"]), float(row["price"]), usd, settled, reason, int(row["moment"])
            (told or apply_whole)(lane, *fill, int(row["step"]))
            settled = np.nan


def apply_whole(lane: Lane, *fill: float) -> None:
    """Apply a fill of the broker's as it is; all of it must be the book's."""
    assert lane.drivers.apply_fill_step(lane.symbols, lane.book, *fill) == 0.0


def hear(lane: Lane, told: Callable | None = None) -> None:
    """Bring the broker's news to the lane's book: its fills, and the orders that it dropped."""
    account = lane.broker.accounts[0]
    assert int(account["logged"]) <= len(lane.broker.log)
    apply_rows(lane, lane.broker.log[: int(account["logged"])], told)
    lane.broker.accounts["logged"] = 0
    for s, opening, closing in dropped_orders(lane.book, lane.broker):
        lane.drivers.end_order_step(lane.book, s, opening, closing)


def follow(
    lane: Lane,
    inputs: Inputs,
    first: int,
    last: int,
    limits: Callable[[int], OutsideLimits] | None = None,
    told: Callable | None = None,
) -> Iterator[int]:
    """Take the steps one by one; yields each step after it has ended."""
    drivers, models = lane.drivers, inputs.models.copy()
    shared = inputs.column_of[:1], inputs.signal_params[:1], inputs.params[:1]
    for t in range(first, last):
        market = step_market(inputs.market, t)
        models["origin"] = t
        v = int(np.searchsorted(inputs.market.since, t, side="right")) - 1
        lane.symbols = inputs.symbols[v : v + 1]
        drivers.settle_open_step(market, models, lane.symbols, lane.broker)
        hear(lane, told)
        bounds = limits(t) if limits else limits_of()
        drivers.decide_step(market, models, lane.symbols, step_columns(inputs, t), *shared, bounds, lane.book)
        lane.verdicts.append(lane.book.verdict.tolist())
        adopt_orders(lane.book, lane.broker)
        drivers.settle_close_step(models, lane.symbols, lane.broker)
        hear(lane, told)
        drivers.finish_step(lane.book, market.last_price[0], int(market.day_end[0]), int(market.block[0]))
        lane.equity.append(float(lane.book.accounts[0]["equity"]))
        yield t


def assert_equal_books(one: Book, other: Book, besides: tuple[str, ...] = ()) -> None:
    """Equal to the last bit, but for how lists are kept and the fields `besides`."""
    for name in set(one.accounts.dtype.names) - {*LISTS, *besides}:
        assert bits(one.accounts[name]) == bits(other.accounts[name]), name
    for name in set(one.positions.dtype.names) - set(besides):
        assert bits(one.positions[name]) == bits(other.positions[name]), name
    assert bits(one.days) == bits(other.days)
