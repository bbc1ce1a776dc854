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
        lots: Signed number of lots, above zero for a buy.
        lot_decimals: Decimals of a lot: the size is lots / 10 ** lot_decimals coins.
        limit: Limit price; None where the fill model prices the order.
        tif: Time in force: `ioc`, or `model` where the fill model decides when it fills.
        reduce_only: True for an order that may only close.
        trigger: Price that activates the order; None for none.
        expires_ms: Time after which the venue must not accept the order.
        after: Closing order of the same reversal; this order is sent when that one has left the book flat.
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

    @property
    def opens(self) -> bool:
        """True for an order that opens a position or adds to one."""
        return self.intent.purpose in {"entry", "add"}


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


class SetTimer(msgspec.Struct, frozen=True):
    """Send the event `Timer` when the clock of the lane has reached `due_ms`."""

    name: str
    due_ms: int


class Alert(msgspec.Struct, frozen=True):
    """Tell people. Alerts with the same key are one alert until the key is quiet."""

    key: str
    severity: Severity
    text: str


Command = Send | Cancel | Query | QueryFills | Snapshot | SetTimer | Alert
