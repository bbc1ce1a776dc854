"""Staleness of the venue's streams, per symbol and stream."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from mei_pipeline.execution.events import FeedHealth

CONTEXT_STREAM = "context"
"""Name of the stream of funding and prices of a symbol."""


class StreamId(NamedTuple):
    """A stream of a symbol: `candle 1h`, or `CONTEXT_STREAM`."""

    symbol: str
    name: str


@dataclass
class StreamState:
    """State of one stream.

    Attributes:
        stale_since_ms: Time of the venue since when nothing can be relied on; None if the stream is good.
        acknowledged: True if the venue has acknowledged it on the present connection.
        confirmed: True if a message or an agreeing answer has come since then.
        missed: True until the bars that may have been missed before the acknowledgement are asked for.
        heard_s: Time of the machine at its last sign of life.
    """

    stale_since_ms: int | None
    acknowledged: bool = False
    confirmed: bool = False
    missed: bool = False
    heard_s: float = 0.0


@dataclass
class StreamHealth:
    """States of all streams.

    Attributes:
        states: States by stream.
        news: Events of changes that consumers have not got yet.
    """

    states: dict[StreamId, StreamState] = field(default_factory=dict)
    news: list[FeedHealth] = field(default_factory=list)

    def follow(self, streams: Iterable[StreamId], now_ms: int, now_s: float) -> None:
        """Set the streams that are wanted; a new one is stale until the venue delivers it."""
        wanted = set(streams)
        self.states = {stream: state for stream, state in self.states.items() if stream in wanted}
        for stream in sorted(wanted - set(self.states)):
            self.states[stream] = StreamState(now_ms, heard_s=now_s)
            self._tell(stream, now_ms, now_ms)

    def lose(self, now_ms: int) -> None:
        """Make every stream stale, because the connection is lost."""
        for stream, state in self.states.items():
            state.acknowledged = state.confirmed = False
            state.missed = True
            self._spoil(stream, state, now_ms)

    def spoil(self, stream: StreamId, now_ms: int, *, acknowledged: bool = True) -> None:
        """Make one stream stale, because it misses messages or is refused."""
        if (state := self.states.get(stream)) is not None:
            state.acknowledged, state.confirmed = state.acknowledged and acknowledged, False
            self._spoil(stream, state, now_ms)

    def acknowledge(self, stream: StreamId, now_ms: int, now_s: float, *, missed: bool) -> None:
        """Note the venue's acknowledgement; `missed` says that something may have happened before it."""
        if (state := self.states.get(stream)) is not None:
            state.acknowledged, state.confirmed, state.heard_s = True, False, now_s
            state.missed = missed
            self._mend(stream, state, now_ms)

    def hear(self, stream: StreamId, now_ms: int, now_s: float) -> None:
        """Note a message, or an answer that agrees with the messages."""
        if (state := self.states.get(stream)) is not None:
            state.heard_s, state.confirmed = now_s, state.acknowledged
            if state.stale_since_ms is not None:
                self._mend(stream, state, now_ms)

    def catch_up(self, stream: StreamId, now_ms: int) -> None:
        """Note that everything that may have been missed was asked for."""
        if (state := self.states.get(stream)) is not None and state.missed:
            state.missed = False
            self._mend(stream, state, now_ms)

    def stale(self, symbols: Iterable[str]) -> list[FeedHealth]:
        """Return the stale streams of symbols."""
        wanted = set(symbols)
        return [
            FeedHealth(venue_ms=state.stale_since_ms, symbol=stream.symbol, stream=stream.name, stale_since_ms=since_ms)
            for stream, state in sorted(self.states.items())
            if stream.symbol in wanted and (since_ms := state.stale_since_ms) is not None
        ]

    def _spoil(self, stream: StreamId, state: StreamState, now_ms: int) -> None:
        if state.stale_since_ms is None:
            state.stale_since_ms = now_ms
            self._tell(stream, now_ms, now_ms)

    def _mend(self, stream: StreamId, state: StreamState, now_ms: int) -> None:
        if state.stale_since_ms is not None and state.acknowledged and state.confirmed and not state.missed:
            state.stale_since_ms = None
            self._tell(stream, now_ms, None)

    def _tell(self, stream: StreamId, now_ms: int, since_ms: int | None) -> None:
        self.news.append(FeedHealth(venue_ms=now_ms, symbol=stream.symbol, stream=stream.name, stale_since_ms=since_ms))
