"""The feed of a lane, as its session uses it: events to read, and an acknowledgement of those that are processed.

A replay of the lake is started for its lane, in a process of its own. The feed of a venue runs by itself
(`python -m live.feed`) and serves all lanes of the machine.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from live.feed_client import connect
from live.feed_protocol import FeedBroken, Subscribe
from live.replay_feed import NETWORK, Span, start_replay_feed, stop_replay_feed
from mei_pipeline.config.models import LaneConfig
from mei_pipeline.errors import ConfigError
from mei_pipeline.execution.events import FeedEvent
from mei_pipeline.settings import Settings

LONGEST_SOCKET_PATH = 107
"""Longest path of a Unix socket on Linux, in bytes."""


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


def network_of(lane: str, lane_config: LaneConfig, feed: str) -> str:
    """Return the network of the market data of a lane, which is never guessed.

    Args:
        lane: Name of the lane.
        lane_config: Its file.
        feed: Kind of the feed: `replay`, `simulator` or `hyperliquid`.

    Raises:
        ConfigError: The lane's file names no network, and the feed needs one, or it names one for another feed.
    """
    named = lane_config.network
    if feed == "hyperliquid":
        if named is None:
            raise ConfigError(f"lanes/{lane}.yaml: network: missing; the feed {feed} needs mainnet or testnet")
        return named
    if named is not None:
        raise ConfigError(f"lanes/{lane}.yaml: network: {named}, but the feed {feed} has none; remove the key")
    return NETWORK if feed == "replay" else feed


def socket_path(settings: Settings, venue: str, network: str) -> Path:
    """Return the Unix socket at which the feed of a venue and network listens, for all lanes of the home.

    It lies in `feeds/` of the home, or in a folder for temporary files if the path of the home is too long for that.
    """
    path = settings.feeds / f"{venue}.{network}"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    home = hashlib.sha256(os.fsencode(settings.feeds.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"mei-{os.getuid()}" / f"{home}.{venue}.{network}"


def venue_opener(settings: Settings) -> OpenFeed:
    """Return the function that subscribes to the running feed of a venue."""

    @contextmanager
    def open_feed(wanted: Subscribe) -> Generator[Feed]:
        path = socket_path(settings, wanted.venue, wanted.network)
        try:
            client = connect(path, wanted)
        except FeedBroken as error:
            command = f"python -m live.feed --network {wanted.network} --venue {wanted.venue}"
            raise FeedBroken(f"{error}: `{command}`") from error
        try:
            yield client
        finally:
            client.close()

    return open_feed


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
