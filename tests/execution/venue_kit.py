"""A venue of tests: its own ledger in whole lots, orders that rest until the test fills them, and a bad connection."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from execution_kit import DECIMALS

from mei_pipeline.execution.commands import Place
from mei_pipeline.execution.events import (
    AccountSnapshot,
    Event,
    Fill,
    OrderAccepted,
    OrderGone,
    OrderNotFound,
    OrderRefused,
)


@dataclass
class VenueOrder:
    """An order at the venue; `state` is open, filled, gone or refused."""

    place: Place
    state: str = "open"
    filled: int = 0

    @property
    def left(self) -> int:
        return self.place.lots - self.filled


@dataclass
class Venue:
    """The venue.

    Attributes:
        now_ms: Its clock.
        orders: Every order that it received, by client order id.
        positions: Signed lots by symbol.
        fills: Every fill.
        flying: Orders that are on their way to it.
        tells_start: True if its fills tell the position before them.
    """

    now_ms: int
    orders: dict[str, VenueOrder] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)
    flying: dict[str, Place] = field(default_factory=dict)
    tells_start: bool = False

    def open(self) -> list[VenueOrder]:
        return [order for order in self.orders.values() if order.state == "open"]

    def receive(self, place: Place, *, refuse: bool = False) -> Event:
        """Take an order once, and return the answer."""
        order = self.orders.get(place.cloid)
        if order is None:
            against = self.positions.get(place.symbol, 0) * place.lots < 0
            refused = refuse or self.now_ms > place.expires_ms or (place.reduce_only and not against)
            order = self.orders[place.cloid] = VenueOrder(place, "refused" if refused else "open")
        if order.state == "refused":
            return OrderRefused(venue_ms=self.now_ms, cloid=place.cloid, reason="refused")
        return OrderAccepted(venue_ms=self.now_ms, cloid=place.cloid, oid=oid_of(place))

    def fill(self, order: VenueOrder, lots: int, price: float) -> Iterator[Event]:
        """Fill at most this number of lots; a reduce-only order ends when nothing is left to reduce."""
        place = order.place
        side = 1 if place.lots > 0 else -1
        coming = min(lots, abs(order.left))
        if place.reduce_only:
            coming = min(coming, max(-side * self.positions.get(place.symbol, 0), 0))
        if coming:
            order.filled += side * coming
            if not order.left:
                order.state = "filled"
            yield self._fill(place.symbol, side * coming, price, cloid=place.cloid, oid=oid_of(place))
        if place.reduce_only and order.state == "open" and self.positions.get(place.symbol, 0) * side >= 0:
            yield from self.end(order, "nothing to reduce")

    def trade_by_hand(self, symbol: str, lots: int, price: float) -> Fill:
        return self._fill(symbol, lots, price, kind="manual")

    def _fill(self, symbol: str, lots: int, price: float, **values: str) -> Fill:
        held = self.positions.get(symbol, 0)
        self.positions[symbol] = held + lots
        fill = Fill(
            start_lots=held if self.tells_start else None,
            venue_ms=self.now_ms,
            key=f"tid-{len(self.fills)}",
            symbol=symbol,
            lots=lots,
            lot_decimals=DECIMALS,
            price=price,
            fee_usd=0.25,
            **values,
        )
        self.fills.append(fill)
        return fill

    def end(self, order: VenueOrder, reason: str) -> Iterator[Event]:
        """End an open order."""
        if order.state == "open":
            order.state = "gone"
            yield self._gone(order, reason)

    def _gone(self, order: VenueOrder, reason: str) -> OrderGone:
        place = order.place
        return OrderGone(
            venue_ms=self.now_ms, cloid=place.cloid, oid=oid_of(place), reason=reason, filled_lots=order.filled
        )

    def query(self, cloid: str) -> list[Event]:
        """Return the fills of an order and its state."""
        order = self.orders.get(cloid)
        if order is None:
            final = cloid not in self.flying
            return [OrderNotFound(venue_ms=self.now_ms, cloid=cloid, final=final)]
        ended = order.state in {"filled", "gone"}
        state = self._gone(order, order.state) if ended else self.receive(order.place)
        return [*(fill for fill in self.fills if fill.cloid == cloid), state]

    def query_fills(self, since_ms: int) -> list[Event]:
        return [fill for fill in self.fills if (fill.venue_ms or 0) >= since_ms]

    def snapshot(self) -> AccountSnapshot:
        return AccountSnapshot(
            venue_ms=self.now_ms,
            equity_usd=10_000.0,
            margin_usd=0.0,
            positions={symbol: (lots, DECIMALS) for symbol, lots in self.positions.items() if lots},
            open_orders=tuple(order.place.cloid for order in self.open()),
        )


def oid_of(place: Place) -> str:
    return f"o-{place.cloid[-8:]}"
