"""Bounded queue between the venue's socket and its one consumer.

Policy while the consumer is behind:

- Of messages of one connection that replace each other only the newest is kept, at the place of its arrival: quotes and
  contexts by coin, candles by coin, interval and open time, mid prices. A quote is older if the venue's time in it is,
  a candle if its volume is smaller.
- Every other item is kept: trades, books, `Opened`, `Lost`, `Subscribed`, `RefusedStream`, `Unreadable`.
- An item beyond the limit discards everything that waits and leaves one `Lost` in its place. The socket then closes its
  connection, and opens another one after the consumer has read the `Lost`.
"""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import count

from mei_pipeline.hyperliquid.codec import VenueMessage
from mei_pipeline.hyperliquid.wire import BBO, CANDLE, CONTEXT, MIDS, Subscription


@dataclass(frozen=True)
class Arrived:
    """A message of a stream.

    Attributes:
        message: The message.
        seen_s: Time of its arrival on the socket's clock, in seconds.
    """

    message: VenueMessage
    seen_s: float


@dataclass(frozen=True)
class Opened:
    """A new connection is open; no stream is subscribed on it yet."""


@dataclass(frozen=True)
class Lost:
    """The connection is closed or could not be opened: no stream delivers until it is `Subscribed` again."""

    reason: str


@dataclass(frozen=True)
class Subscribed:
    """The venue has acknowledged a stream on the present connection."""

    subscription: Subscription


@dataclass(frozen=True)
class RefusedStream:
    """The venue refused a stream or did not acknowledge it.

    Attributes:
        subscription: The stream; None if the venue's text names none that is wanted.
        text: Text of the venue, or the acknowledgement that is missing.
    """

    subscription: Subscription | None
    text: str


@dataclass(frozen=True)
class Unreadable:
    """A message that is not what the venue documents; it was skipped."""

    text: str


InboxItem = Arrived | Opened | Lost | Subscribed | RefusedStream | Unreadable


class Inbox:
    """Bounded queue for one consumer in the socket's event loop.

    Attributes:
        replaced: Number of messages that a newer one replaced before they were read.
        dropped: Number of items that overflows discarded; each overflow also left a `Lost`.
        overflowed: True from an overflow until the consumer reads.
    """

    def __init__(self, limit: int) -> None:
        """Create an empty inbox.

        Args:
            limit: Largest number of items that wait, above the number of subscriptions.
        """
        self._limit = limit
        self._items: dict[Hashable, InboxItem] = {}
        self._numbers = count()
        self._losses = 0
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self.replaced = 0
        self.dropped = 0
        self.overflowed = False

    def put(self, item: InboxItem) -> bool:
        """Add an item.

        Returns:
            False if the inbox overflowed: the item and all that waited are discarded, and a `Lost` waits instead.
        """
        key: Hashable = next(self._numbers)
        if (shared := _key_of(item)) is not None:
            key = self._losses, shared
        if isinstance(item, Lost):
            self._losses += 1
        if key in self._items:
            self.replaced += 1
            if _is_older(item, self._items[key]):
                return True
            del self._items[key]
        kept = len(self._items) < self._limit
        if kept:
            self._items[key] = item
        else:
            self._overflow()
        self._filled.set()
        self._emptied.clear()
        return kept

    async def get(self) -> list[InboxItem]:
        """Wait for items and return all of them, oldest first."""
        await self._filled.wait()
        items = list(self._items.values())
        self._items.clear()
        self.overflowed = False
        self._filled.clear()
        self._emptied.set()
        return items

    async def emptied(self) -> None:
        """Wait until the consumer has read everything."""
        await self._emptied.wait()

    def _overflow(self) -> None:
        self.dropped += len(self._items) + 1
        self._items.clear()
        self._losses += 1
        self._items[next(self._numbers)] = Lost(
            f"inbox: the consumer is behind: more than {self._limit} items wait; all of them are discarded"
        )
        self.overflowed = True


def _key_of(item: InboxItem) -> Hashable:
    """Return the key that an item shares with those that it replaces; None if it replaces none."""
    if not isinstance(item, Arrived):
        return None
    channel, data = item.message
    if channel in {BBO, CONTEXT}:
        return channel, data.coin
    if channel == CANDLE:
        return channel, data.coin, data.interval, data.open_ms
    return channel if channel == MIDS else None


def _is_older(item: InboxItem, other: InboxItem) -> bool:
    """Return True if a message that another one shares its key with was overtaken by it."""
    if not (isinstance(item, Arrived) and isinstance(other, Arrived)):
        return False
    this, known = item.message.data, other.message.data
    if item.message.channel == BBO:
        return bool(this.time_ms < known.time_ms)
    # A bar has no time of its message, but its volume and its trades only grow.
    return item.message.channel == CANDLE and (this.volume, this.trades) < (known.volume, known.trades)
