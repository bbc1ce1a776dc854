"""The broker of a paper lane: a fill model on books of its own.

The broker holds the truth of a paper account: positions, cash and orders at the venue. It moves its books through the
same bars and with the same compiled rules as a sweep, so the fills of a lane equal those of a replay bit for bit.

It writes no file. After a restart it takes over the books that the lane recovered from its journal: whatever the lane
did not journal has not happened.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from kernels.lane import adopt_levels, list_active
from live import paper_orders
from live.broker import Answer
from live.paper_books import PaperBook, copy_arrivals, copy_bars
from live.paper_fills import events_of_log
from mei_pipeline.execution.booking import apply_fill
from mei_pipeline.execution.books import (
    StepBook,
    begin_step,
    clear_step,
    equity_of,
    make_step_book,
    size_decimals,
    take_terms,
    to_lots,
)
from mei_pipeline.execution.commands import Order, Place
from mei_pipeline.execution.events import (
    AccountSnapshot,
    Decided,
    Event,
    Fill,
    Funding,
    OrderAccepted,
    OrderGone,
    OrderNotFound,
    OrderRefused,
    StepClosed,
)
from mei_pipeline.execution.orders import advance
from mei_pipeline.execution.state import LaneState, alive, find_book

KEPT_FILLS = 5_000
"""Number of fills and payments that `query_fills` can repeat."""

KEPT_ORDERS = 100
"""Number of ended orders that the broker remembers."""


class Portion(NamedTuple):
    """The part of an order that fills at its next moment.

    Attributes:
        lots: Number of lots, at least 1 and fewer than the order has left.
        drops_rest: True if the order ends with this fill.
    """

    lots: int
    drops_rest: bool


Portions = Callable[[Order, int], Portion | None]
"""Returns the part of an order that fills in the step with an open time; None for all of it."""


class PaperBroker:
    """A broker that fills orders by the fill model; see `live.broker.Broker` for its methods.

    Args:
        portions: Splits orders, as a venue does; None to fill them completely, as the fill model does.
    """

    def __init__(self, portions: Portions | None = None) -> None:
        self._portions = portions
        self._books: dict[str, PaperBook] = {}
        self._orders: dict[str, Order] = {}
        self._working: dict[str, None] = {}  # ids of the orders that have not ended, oldest first
        self._history: deque[Fill | Funding] = deque(maxlen=KEPT_FILLS)
        self._outbox: list[Event] = []
        self._clock_ms = 0
        self._open_step_ms: int | None = None  # step between `open_step` and `close_step`

    def observe(self, event: Event, state: LaneState) -> Sequence[Event]:
        """Take the decisions of a lane; other facts have no effect."""
        self._clock_ms = max(self._clock_ms, state.clock_ms, event.venue_ms or 0)
        if isinstance(event, Decided):
            self._follow(event, state)
        return ()

    def _follow(self, fact: Decided, state: LaneState) -> None:
        """Take over the levels of positions, and the reasons of waiting closing orders, from the book that decided."""
        lane = find_book(state, fact.config_id)
        book = self._books.get(fact.config_id)
        if lane is None or book is None:
            return
        self._books[fact.config_id] = book = PaperBook(book.step, lane.step)
        chosen = np.array([book.step.plan.index[symbol] for symbol in fact.positions], dtype=np.int64)
        adopt_levels(lane.step.book, book.step.book, chosen)
        for s in chosen.tolist():
            paper_orders.follow_reason(book, s)

    def open_step(self, event: StepClosed, state: LaneState) -> Sequence[Event]:
        """Move the books through the next step, up to its decisions."""
        if event.step_ms != state.next_step_ms:
            return ()
        self._clock_ms = max(self._clock_ms, event.venue_ms or 0)
        self._open_step_ms = event.step_ms
        changed = state.terms_due_ms <= event.step_ms + state.step_length_ms
        # A lane marks its last step at the first bar or rate of the next one; before, its bars are those of the last.
        arrived = all(book.marked for book in state.books)
        events: list[Event] = []
        for book in self._books.values():
            if arrived:
                copy_arrivals(book.lane, book.step)
            if changed:
                take_terms(book.step, state.terms, event.step_ms)
            begin_step(book.step, event.step_ms)
        for book in self._books.values():
            events += self._settle(book, at_close=False)
        return events

    def close_step(self, event: StepClosed) -> Sequence[Event]:
        """Fill what is due at the close of the step, and end it."""
        if event.step_ms != self._open_step_ms:
            return ()
        self._open_step_ms = None
        events: list[Event] = []
        for book in self._books.values():
            events += self._settle(book, at_close=True)
            clear_step(book.step)
        return events

    def _settle(self, book: PaperBook, *, at_close: bool) -> list[Event]:
        """Move a book through one half of a step, and return what happened to it."""
        step = book.step
        portions = self._take_portions(book, at_close=at_close)
        events: list[Event] = self._drop_against(book)
        before = step.sizes.tolist()
        step.account["logged"] = 0
        if at_close:
            step.plan.compiled.settle_close_step(step.models, step.terms, step.book)
        else:
            step.plan.compiled.settle_open_step(step.market, step.models, step.terms, step.book)
        for happened in events_of_log(book, before, self._alive(book)):
            events.append(happened)
            self._history.append(happened)
            if isinstance(happened, Fill) and happened.cloid:
                order = self._orders[happened.cloid]
                paper_orders.count_once(book, order)
                self._store(advance(order, happened, self._clock_ms))
        for cloid, part in portions:
            paper_orders.put_back(book, self._orders[cloid], part)
        if portions or any(type(event) is not Funding for event in events):
            list_active(step.book)
        dropped = {cloid for cloid, part in portions if part.portion.drops_rest}
        return events + [
            self._end(order, "the rest is dropped" if order.place.cloid in dropped else "the fill model dropped it")
            for order in self._alive(book)
            if not paper_orders.has_part(book, order)
        ]

    def _take_portions(self, book: PaperBook, *, at_close: bool) -> list[tuple[str, paper_orders.Part]]:
        """Shorten the orders that fill only in part at this moment."""
        step = book.step
        if self._portions is None:
            return []
        taken = []
        for order in self._alive(book):
            if not paper_orders.is_due(book, order, at_close=at_close):
                continue
            portion = self._portions(order, int(step.plan.time_of_step(int(step.models["origin"][0]))))
            if portion is not None and 0 < portion.lots < paper_orders.lots_left(book, order):
                taken.append((order.place.cloid, paper_orders.shorten(book, order, portion)))
        return taken

    def _drop_against(self, book: PaperBook) -> list[Event]:
        """Drop entries that would meet a position, because the order that closes it was lost or fills only in part."""
        events: list[Event] = []
        for order in self._alive(book):
            if order.place.opens and paper_orders.meets_position(book, order):
                paper_orders.clear_part(book, order)
                events.append(self._end(order, "the position is not closed"))
        return events

    def _alive(self, book: PaperBook) -> list[Order]:
        """Return the orders of a book that have not ended, in the order in which they were placed."""
        if not self._working:
            return []
        config_id = book.config_id
        orders = [self._orders[cloid] for cloid in self._working]
        return [order for order in orders if order.place.config_id == config_id]

    def _store(self, order: Order) -> None:
        """Keep an order in its present state."""
        cloid = order.place.cloid
        self._orders[cloid] = order
        if order.ended:
            self._working.pop(cloid, None)
        else:
            self._working[cloid] = None

    def _end(self, order: Order, reason: str) -> OrderGone:
        """End an order at the venue, and return the news of it."""
        gone = OrderGone(
            venue_ms=self._clock_ms,
            cloid=order.place.cloid,
            oid=order.oid,
            reason=reason,
            filled_lots=order.filled_lots,
        )
        self._store(advance(order, gone, self._clock_ms))
        return gone

    def poll(self, now_ms: int) -> Sequence[Event]:
        """Return what was learned about orders that were placed again."""
        self._clock_ms = max(self._clock_ms, now_ms)
        events = tuple(self._outbox)
        self._outbox.clear()
        return events

    def place(self, orders: Sequence[Place]) -> Sequence[Answer]:
        """Accept or refuse each order; the accepted ones fill at the next moment of their kind."""
        answers = [self._place(place) for place in orders]
        for book in self._books.values():
            list_active(book.step.book)
        if len(self._orders) > 2 * KEPT_ORDERS + len(self._working):
            ended = [cloid for cloid in self._orders if cloid not in self._working]
            for cloid in ended[:-KEPT_ORDERS]:
                del self._orders[cloid]
        return answers

    def _place(self, place: Place) -> Answer:
        known = self._orders.get(place.cloid)
        if known is not None:
            if known.state == "REJECTED":
                return OrderRefused(venue_ms=self._clock_ms, cloid=place.cloid, reason=known.reason)
            self._outbox += self._news(known) if known.ended else ()
            return OrderAccepted(venue_ms=self._clock_ms, cloid=place.cloid, oid=known.oid)
        book = self._books.get(place.config_id)
        order = Order(place=place, created_ms=self._clock_ms)
        answer: Answer
        if (reason := self._refusal(book, place)) is not None or book is None:
            answer = OrderRefused(venue_ms=self._clock_ms, cloid=place.cloid, reason=reason or "")
        else:
            answer = OrderAccepted(venue_ms=self._clock_ms, cloid=place.cloid, oid=f"paper-{place.cloid[-16:]}")
            paper_orders.put_part(book, place)
        self._store(advance(order, answer, self._clock_ms))
        return answer

    def _refusal(self, book: PaperBook | None, place: Place) -> str | None:
        """Return why an order can't be accepted; None if it can."""
        if book is None:
            return f"no book of config {place.config_id[:12]}"
        if place.symbol not in book.step.plan.index:
            return f"{place.symbol} is not a symbol of config {place.config_id[:12]}"
        if self._clock_ms > place.expires_ms:
            return f"it expired at {place.expires_ms} ms; the time is {self._clock_ms} ms"
        waits = [order for order in self._alive(book) if order.place.symbol == place.symbol]
        if any(order.place.opens == place.opens for order in waits):
            return f"another {'opening' if place.opens else 'closing'} order of {place.symbol} waits"
        return paper_orders.clash(book, place, closes=any(order.place.cloid == place.after for order in waits))

    def cancel(self, cloid: str) -> Sequence[Event]:
        """Cancel an order; return its end, also if it ended before."""
        order = self._orders.get(cloid)
        if order is None:
            return (OrderNotFound(venue_ms=self._clock_ms, cloid=cloid, final=True),)
        if order.ended:
            return self._news(order)
        book = self._books[order.place.config_id]
        paper_orders.clear_part(book, order)
        list_active(book.step.book)
        return (self._end(order, "cancelled"),)

    def query(self, cloid: str) -> Sequence[Event]:
        """Return the fills and the state of an order. An order that never arrived can't arrive later."""
        order = self._orders.get(cloid)
        if order is None:
            return (OrderNotFound(venue_ms=self._clock_ms, cloid=cloid, final=True),)
        fills = [event for event in self._history if isinstance(event, Fill) and event.cloid == cloid]
        return (*fills, *self._news(order))

    def _news(self, order: Order) -> tuple[Event, ...]:
        """Return the state of an order as events."""
        cloid = order.place.cloid
        if order.state == "REJECTED":
            return (OrderRefused(venue_ms=self._clock_ms, cloid=cloid, reason=order.reason),)
        if not order.ended:
            return (OrderAccepted(venue_ms=self._clock_ms, cloid=cloid, oid=order.oid),)
        return (
            OrderGone(
                venue_ms=self._clock_ms,
                cloid=cloid,
                oid=order.oid,
                reason=order.reason or "filled",
                filled_lots=order.filled_lots,
            ),
        )

    def query_fills(self, since_ms: int) -> Sequence[Event]:
        """Return the latest fills and payments again, as far back as the broker remembers them."""
        return tuple(event for event in self._history if (event.venue_ms or 0) >= since_ms)

    def snapshot(self) -> Sequence[Event]:
        """Return equity, margin, positions and open orders over all books."""
        return (
            AccountSnapshot(
                venue_ms=self._clock_ms,
                equity_usd=sum(equity_of(book.step) for book in self._books.values()),
                margin_usd=sum(float(book.step.account["margin"]) for book in self._books.values()),
                positions=dict(self._positions()),
                open_orders=tuple(self._working),
            ),
        )

    def _positions(self) -> Iterator[tuple[str, tuple[int, int]]]:
        sizes: dict[str, float] = {}
        decimals: dict[str, int] = {}
        for book in self._books.values():
            for s in np.flatnonzero(book.step.sizes).tolist():
                symbol = book.step.plan.symbols[s]
                sizes[symbol] = sizes.get(symbol, 0.0) + float(book.step.sizes[s])
                decimals[symbol] = size_decimals(book.step, s)
        for symbol, size in sizes.items():
            yield symbol, to_lots(size, decimals[symbol])

    def open_book(self, step: StepBook, usd: float, from_config_id: str) -> None:
        """Begin a flat book over the same bars as the lane's; `usd` moves over from the book that gives it up."""
        giver = self._books.get(from_config_id)
        if giver is not None:
            giver.step.plan.compiled.apply_transfer_step(giver.step.book, -float(usd))
        own = make_step_book(step.plan, float(usd), decides=False)
        copy_bars(step, own)
        self._books[step.plan.offered.config_id] = PaperBook(own, step)

    def close_book(self, config_id: str, usd: float, to_config_id: str) -> None:  # noqa: ARG002 - the books' own cash counts
        """End a flat book; its cash moves to another book."""
        closed = self._books.pop(config_id)
        heir = self._books[to_config_id].step
        heir.plan.compiled.apply_transfer_step(heir.book, float(closed.step.account["cash"]))

    def rebuild(self, state: LaneState) -> None:
        """Take over the books of a recovered lane.

        Orders without an answer never arrived: their parts are left out. Fills that the lane knows and has not booked
        yet are part of the account. If the last step is not marked to market, `close_step` of it is still to come.
        """
        for known in (self._books, self._orders, self._working, self._outbox, self._history):
            known.clear()
        self._clock_ms = state.clock_ms
        self._open_step_ms = None if all(book.marked for book in state.books) else state.step_ms
        for lane in state.books:
            own = make_step_book(lane.step.plan, 0.0, decides=False)
            copy_bars(lane.step, own)
            for theirs, ours in ((lane.step.book.accounts, own.book.accounts), (lane.step.positions, own.positions)):
                ours[:] = theirs
            self._books[lane.config_id] = PaperBook(own, lane.step)
        for order in state.orders.values():
            if (order.accepted or order.state == "REJECTED") and order.place.config_id in self._books:
                self._store(order)
        for fill in state.early:
            self._take_early(state, fill)
        for book in self._books.values():
            # Of two orders of one kind the earlier one was to be cancelled when the process ended.
            latest = {(order.place.symbol, order.place.opens): order for order in alive(state, book.config_id)}
            for order in self._alive(book):
                newest = latest[order.place.symbol, order.place.opens].place.cloid == order.place.cloid
                if not (newest and paper_orders.has_part(book, order)):
                    self._end(order, "cancelled")
            paper_orders.keep_parts(book, self._alive(book))
            list_active(book.step.book)

    def _take_early(self, state: LaneState, fill: Fill) -> None:
        """Book a fill that the lane has received and not booked, because it waits for an earlier one."""
        order = self._orders.get(fill.cloid)
        holders = [book.config_id for book in self._books.values() if book.step.size_of(fill.symbol) != 0.0]
        owner = order.place.config_id if order is not None else next(iter(holders), "")
        lane = find_book(state, owner)
        if lane is not None:
            apply_fill(state, replace(lane, step=self._books[owner].step), fill, order)
        if order is not None:
            self._store(advance(order, fill, self._clock_ms))
