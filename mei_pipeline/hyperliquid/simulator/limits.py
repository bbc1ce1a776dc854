"""Limits of the venue per IP address: weights of requests, connections, subscriptions and messages."""

from collections import Counter, deque
from dataclasses import dataclass, field

from mei_pipeline.hyperliquid.simulator.shapes import ITEM_SURCHARGES, WEIGHT, WEIGHTS

WEIGHT_PER_MINUTE = 1_200
CONNECTIONS = 10
CONNECTS_PER_MINUTE = 30
SUBSCRIPTIONS = 1_000
MESSAGES_PER_MINUTE = 2_000
_WINDOW_S = 60.0


def weight_of(request_type: str) -> int:
    """Return the weight of an info request by its `type`."""
    return WEIGHTS.get(request_type, WEIGHT)


def surcharge_of(request_type: str, items: int) -> int:
    """Return the weight that the items of an answer add."""
    each = ITEM_SURCHARGES.get(request_type)
    return 0 if each is None else items // each


@dataclass
class MinuteCount:
    """Amounts of the last minute."""

    total: int = 0
    _amounts: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, now_s: float, amount: int) -> None:
        """Add an amount at a time, in seconds."""
        self._amounts.append((now_s, amount))
        self.total += amount

    def within(self, now_s: float) -> int:
        """Return the sum of the minute that ends now."""
        while self._amounts and self._amounts[0][0] <= now_s - _WINDOW_S:
            self.total -= self._amounts.popleft()[1]
        return self.total

    def free_in(self, now_s: float) -> float:
        """Return the seconds until the oldest amount leaves the minute."""
        return max(0.0, self._amounts[0][0] + _WINDOW_S - now_s) if self._amounts else 0.0


@dataclass
class AddressUse:
    """Use of the venue by one IP address."""

    weight: MinuteCount = field(default_factory=MinuteCount)
    connects: MinuteCount = field(default_factory=MinuteCount)
    messages: MinuteCount = field(default_factory=MinuteCount)
    connections: int = 0
    subscriptions: int = 0
    weight_ever: int = 0


@dataclass
class SimulatorCounters:
    """Counts since the start, and the use of each IP address.

    Attributes:
        enforced: True if requests beyond the limits are refused.
        requests: Info requests by `type`.
        statuses: HTTP answers by status.
        addresses: Use by IP address.
        opened: WebSockets opened.
        sent: Messages sent to WebSockets.
        received: Messages received from WebSockets.
        too_slow: WebSockets closed because their client read too slowly.
        idle: WebSockets closed because nothing was sent for a minute.
        refused: Requests and connections refused because of a limit.
        faults: Faults applied, by kind.
    """

    enforced: bool = False
    requests: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    addresses: dict[str, AddressUse] = field(default_factory=dict)
    opened: int = 0
    sent: int = 0
    received: int = 0
    too_slow: int = 0
    idle: int = 0
    refused: int = 0
    faults: Counter[str] = field(default_factory=Counter)

    def use_of(self, address: str) -> AddressUse:
        """Return the use of an IP address."""
        return self.addresses.setdefault(address, AddressUse())

    def charge(self, address: str, weight: int, now_s: float) -> None:
        """Count the weight of a request or of its answer."""
        use = self.use_of(address)
        use.weight.add(now_s, weight)
        use.weight_ever += weight

    def wait_s(self, address: str, weight: int, now_s: float) -> float | None:
        """Return the seconds after which a refused request may come again; None if the limits allow it."""
        use = self.use_of(address)
        if not self.enforced or use.weight.within(now_s) + weight <= WEIGHT_PER_MINUTE:
            return None
        self.refused += 1
        return use.weight.free_in(now_s)

    def may_connect(self, address: str, now_s: float) -> bool:
        """Count a new WebSocket and return True if the limits allow it."""
        use = self.use_of(address)
        use.connects.add(now_s, 1)
        allowed = use.connects.within(now_s) <= CONNECTS_PER_MINUTE and use.connections < CONNECTIONS
        if allowed or not self.enforced:
            return True
        self.refused += 1
        return False

    def as_dict(self, now_s: float) -> dict[str, object]:
        """Return the counts for the control endpoint."""
        return {
            "requests": dict(self.requests),
            "statuses": {str(status): count for status, count in self.statuses.items()},
            "weights": {
                address: {"minute": use.weight.within(now_s), "total": use.weight_ever}
                for address, use in self.addresses.items()
            },
            "connections": {
                "open": sum(use.connections for use in self.addresses.values()),
                "opened": self.opened,
                "subscriptions": sum(use.subscriptions for use in self.addresses.values()),
                "too_slow": self.too_slow,
                "idle": self.idle,
            },
            "messages": {"sent": self.sent, "received": self.received},
            "refused": self.refused,
            "faults": dict(self.faults),
        }
