"""Commands of a lane: what `core.step` asks its process to do.

The process journals the event that caused a command, and the command's own facts, before it executes the command.
Orders are identified by a client order id, which is derived from the intent of the order. Sending an order again under
the same id is a repetition of the same attempt.
"""

from decimal import Decimal
from typing import Literal

import msgspec

Purpose = Literal["entry", "add", "exit", "flatten"]
"""Purpose of an order: open a position, add to one, close one by a rule of the strategy, close one by hand."""

Severity = Literal["info", "warning", "critical"]


class Intent(msgspec.Struct, frozen=True, order=True):
    """The reason for an order, unique in a lane.

    Attributes:
        origin: The step (`step:<open time in ms>`) or request (`request:<id>`) that caused the order.
        symbol: The symbol.
        purpose: See `Purpose`.
        attempt: 1, or one more than the attempt before, which must have ended.
    """

    origin: str
    symbol: str
    purpose: Purpose
    attempt: int = 1


class Place(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An order to send.

    Attributes:
        intent: Its reason.
        cloid: Client order id, `0x` and 32 hexadecimal digits (`orders.cloid_of`).
        config_id: Config of the book that wants the order.
        symbol: The symbol.
        lots: Signed number of lots, above zero for a buy. The first attempt of a closing order of the fill model closes
            a fraction of what is held at its fill, which may be more or less than these lots.
        lot_decimals: Decimals of a lot: the size is lots / 10 ** lot_decimals coins.
        limit: Limit price; None if the fill model prices the order.
        tif: Time in force: `ioc`, or `model` where the fill model decides when it fills.
        reduce_only: True for an order that may only close.
        trigger: Price that activates the order; None for none.
        expires_ms: Time after which the venue must not accept the order.
        after: Closing order of the same reversal; this order is sent when that one has left the book flat.
        leverage: Leverage of an opening order; 0 for a closing one.
        signal: Signal code of an opening order; 0 for a closing one.
        notes: Values of the decision that the strategy reads when an opening order is filled.
    """

    intent: Intent
    cloid: str
    config_id: str
    symbol: str
    lots: int
    lot_decimals: int
    expires_ms: int
    limit: Decimal | None = None
    tif: Literal["ioc", "model"] = "model"
    reduce_only: bool = False
    trigger: Decimal | None = None
    after: str = ""
    leverage: float = 0.0
    signal: int = 0
    notes: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def opens(self) -> bool:
        """True for an order that opens a position or adds to one."""
        return self.intent.purpose in {"entry", "add"}


State = Literal["NEW", "SENT", "UNKNOWN", "PARTIAL", "FILLED", "CANCELLED", "REJECTED", "EXPIRED"]

ENDED: frozenset[str] = frozenset({"FILLED", "CANCELLED", "REJECTED", "EXPIRED"})
"""States that end an order."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An order of a lane.

    Attributes:
        place: The order as it was decided.
        state: Its state.
        created_ms: Clock of the lane when it was decided.
        updated_ms: Clock of the lane at its last change.
        accepted: True once the venue has confirmed it.
        oid: Id at the venue; empty if unknown.
        filled_lots: Signed lots that were filled.
        gone_lots: Signed lots that the venue says were filled when the order ended; None before. Fills may follow.
        not_found_ms: Time of the first answer that the venue does not know it; None without one.
        reason: Reason of its end, or of its unknown state.
    """

    place: Place
    state: State = "NEW"
    created_ms: int = 0
    updated_ms: int = 0
    accepted: bool = False
    oid: str = ""
    filled_lots: int = 0
    gone_lots: int | None = None
    not_found_ms: int | None = None
    reason: str = ""

    @property
    def ended(self) -> bool:
        """True in a state that ends an order."""
        return self.state in ENDED

    @property
    def left_lots(self) -> int:
        """Signed lots that are not filled; 0 if the fill model filled more than was ordered."""
        left = self.place.lots - self.filled_lots
        return left if left * self.place.lots > 0 else 0


class Send(msgspec.Struct, frozen=True):
    """Send orders to the broker, in this order. The fact `Sent` is journaled first."""

    orders: tuple[Place, ...]


class Cancel(msgspec.Struct, frozen=True):
    """Cancel an order."""

    cloid: str


class Query(msgspec.Struct, frozen=True):
    """Ask for the state of an order: its fills, then `OrderAccepted`, `OrderGone` or `OrderNotFound`."""

    cloid: str


class QueryFills(msgspec.Struct, frozen=True):
    """Ask for all fills since a time; those that the lane knows are repeated and have no effect."""

    since_ms: int


class Snapshot(msgspec.Struct, frozen=True):
    """Ask for an `AccountSnapshot`."""


class Warm(msgspec.Struct, frozen=True):
    """Compute the features of the waiting config from the lake. The answer is the fact `Warmed`, with the book."""

    config_id: str


class OpenBook(msgspec.Struct, frozen=True):
    """Tell a broker with a fill model that a book begins, with `usd` of cash that older books give up.

    Attributes:
        config_id: Config of the new book.
        usd: Its cash.
        from_config_id: Config of the book that gives the cash; empty for the first book of a lane.
    """

    config_id: str
    usd: float
    from_config_id: str = ""


class CloseBook(msgspec.Struct, frozen=True):
    """Tell a broker with a fill model that a flat book ends and gives its cash to another book."""

    config_id: str
    usd: float
    to_config_id: str


class Alert(msgspec.Struct, frozen=True):
    """Tell people. Alerts with the same key are one alert until the key is quiet."""

    key: str
    severity: Severity
    text: str


Command = Send | Cancel | Query | QueryFills | Snapshot | Warm | OpenBook | CloseBook | Alert
