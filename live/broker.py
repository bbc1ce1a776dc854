"""The broker of a lane: it executes commands and reports what happened as events.

A lane calls its broker in this order for each event of its feed:

1. `open_step` for the end of a step, after the lane took the market data of that step.
2. The lane takes the events that came back, then its own event.
3. `observe` for each fact that the lane made, then one method for each command.
4. `close_step` after the commands of a step; `poll` after every event, and while the feed is silent.

All events that a broker returns are taken by the lane in the order in which they come. Any order is legal: a fill may
come before the answer to its order, twice, or late.
"""

from collections.abc import Sequence
from typing import Protocol

from mei_pipeline.execution.books import StepBook
from mei_pipeline.execution.commands import (
    Cancel,
    CloseBook,
    Command,
    OpenBook,
    Place,
    Query,
    QueryFills,
    Send,
    Snapshot,
)
from mei_pipeline.execution.events import Event, OrderAccepted, OrderRefused, OrderUnknown, StepClosed
from mei_pipeline.execution.state import LaneState, find_book

Answer = OrderAccepted | OrderRefused | OrderUnknown
"""Answer to an order."""


class Broker(Protocol):
    """A venue, or a fill model in its place."""

    def observe(self, event: Event, state: LaneState) -> Sequence[Event]:
        """Take a fact that the lane made.

        Args:
            event: The fact.
            state: The lane after it.
        """

    def open_step(self, event: StepClosed, state: LaneState) -> Sequence[Event]:
        """Return what happened in a step before its decisions; a step that is not the next one has no effect.

        Args:
            event: The end of the step.
            state: The lane before it takes the event.
        """

    def close_step(self, event: StepClosed) -> Sequence[Event]:
        """Return what happened at the close of a step after its decisions; once for each step."""

    def poll(self, now_ms: int) -> Sequence[Event]:
        """Return events that have become due.

        Args:
            now_ms: Clock of the lane.
        """

    def place(self, orders: Sequence[Place]) -> Sequence[Answer]:
        """Place orders; return one answer for each, in their order. An order with a known id is never placed twice."""

    def cancel(self, cloid: str) -> Sequence[Event]:
        """Cancel an order; return its end, or `OrderNotFound`."""

    def query(self, cloid: str) -> Sequence[Event]:
        """Return the fills of an order, then `OrderAccepted`, `OrderRefused`, `OrderGone` or `OrderNotFound`."""

    def query_fills(self, since_ms: int) -> Sequence[Event]:
        """Return all fills and payments since a time, oldest first."""

    def snapshot(self) -> Sequence[Event]:
        """Return an `AccountSnapshot`."""

    def open_book(self, step: StepBook, usd: float, from_config_id: str) -> None:
        """Begin the book of a config.

        Args:
            step: The lane's book.
            usd: Its cash.
            from_config_id: Config of the book that gives up this cash; empty for the first book.
        """

    def close_book(self, config_id: str, usd: float, to_config_id: str) -> None:
        """End a flat book, which gives `usd` of cash to another one."""

    def rebuild(self, state: LaneState) -> None:
        """Take over the state of a lane that was recovered, in place of everything that the broker knows."""


def execute(broker: Broker, state: LaneState, command: Command) -> Sequence[Event]:
    """Execute a command that concerns the broker, and return its answers; other commands have no effect."""
    match command:
        case Send():
            return broker.place(command.orders)
        case Cancel():
            return broker.cancel(command.cloid)
        case Query():
            return broker.query(command.cloid)
        case QueryFills():
            return broker.query_fills(command.since_ms)
        case Snapshot():
            return broker.snapshot()
        case OpenBook():
            book = find_book(state, command.config_id)
            if book is not None:
                broker.open_book(book.step, command.usd, command.from_config_id)
        case CloseBook():
            broker.close_book(command.config_id, command.usd, command.to_config_id)
        case _:
            pass
    return ()
