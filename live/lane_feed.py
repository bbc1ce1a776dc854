"""The feed of a lane, as its session uses it: events to read, and an acknowledgement of those that are processed."""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from live.feed_client import connect
from live.feed_protocol import Subscribe
from live.replay_feed import Span, start_replay_feed, stop_replay_feed
from mei_pipeline.execution.events import FeedEvent
from mei_pipeline.settings import Settings


class Feed(Protocol):
    """A subscription to market data; `feed_client.FeedClient` describes its methods and errors."""

    @property
    def now_ms(self) -> int | None:
        """Time on the feed's clock; None while it is unknown."""
        ...

    def read(self, timeout_s: float) -> Sequence[FeedEvent]:
        """Return the events that have arrived; wait for the first one up to `timeout_s` seconds."""
        ...

    def ack(self) -> None:
        """Report that all events that `read` has returned are processed."""
        ...


OpenFeed = Callable[[Subscribe], AbstractContextManager[Feed]]
"""Subscribes to market data; leaving the context ends the subscription."""


def replay_opener(settings: Settings, speed: float, to_ms: int | None) -> OpenFeed:
    """Return the function that starts a replay of the home's lake in a process of its own, and subscribes to it.

    Args:
        settings: Settings of the home.
        speed: Seconds of the market per second; infinite for as fast as the lane can follow.
        to_ms: End of the replay, UTC milliseconds; None for the end of the lake.
    """

    @contextmanager
    def open_feed(wanted: Subscribe) -> Generator[Feed]:
        feed = start_replay_feed(settings, wanted.venue, speed, Span(to_ms=to_ms))
        try:
            client = connect(feed.path, wanted)
            try:
                yield client
            finally:
                client.close()
        finally:
            stop_replay_feed(feed)

    return open_feed
