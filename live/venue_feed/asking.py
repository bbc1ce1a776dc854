"""Requests for history: the bars and rates that a feed has to ask for, and the time of the next attempt."""

from collections.abc import Sequence
from dataclasses import dataclass

from live.venue_feed.bars import PROMPT_S, BarTrack
from live.venue_feed.clock import VenueClock
from live.venue_feed.health import StreamState
from live.venue_feed.rates import RateTrack
from mei_pipeline.candles.intervals import HOUR_MS

AUDIT_S = 600.0
"""Shortest time between two comparisons of final bars with an answer, in seconds."""

SILENT_S = 60.0
"""Time without a message of a candle stream after which its open bar is asked for, in seconds."""

LOOKBACK_BARS = 50
"""Bars before the first wanted one that are asked for, to know if the symbol has begun."""

BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Times after attempts without a result, in seconds."""

_AUDIT_TRACK_S = 4.0  # 100 bars of weight 20 a minute, a quarter of what the venue allows
_ACTIVE = 2


@dataclass(frozen=True)
class CandleAsk:
    """Ask for the bars of a symbol and interval since a time."""

    symbol: str
    interval: str
    from_ms: int


@dataclass(frozen=True)
class FundingAsk:
    """Ask for the funding of a symbol since a time."""

    symbol: str
    from_ms: int


@dataclass
class AskState:
    """Attempts of one track.

    Attributes:
        busy: True while an answer is awaited.
        failures: Number of attempts in a row without a result.
        next_s: Earliest time of the next attempt, in seconds of the machine.
        audit_s: Time of the next comparison of final bars with an answer.
    """

    busy: bool = False
    failures: int = 0
    next_s: float = 0.0
    audit_s: float = 0.0

    def end(self, now_s: float, *, done: bool) -> None:
        """Note the end of an attempt."""
        self.busy = False
        self.next_s = now_s if done else now_s + BACKOFF_S[min(self.failures, len(BACKOFF_S) - 1)]
        self.failures = 0 if done else self.failures + 1

    def hurry(self, now_s: float) -> None:
        """Make attempts more frequent again, because the stream has moved to another bar."""
        self.failures = min(self.failures, _ACTIVE)
        self.next_s = min(self.next_s, now_s + BACKOFF_S[_ACTIVE])


def candle_ask(
    track: BarTrack, ask: AskState, stream: StreamState | None, clock: VenueClock, now_s: float
) -> CandleAsk | None:
    """Return the request that a track needs now."""
    if ask.busy or now_s < ask.next_s:
        return None
    length_ms, now_ms = track.length_ms, clock.now_ms(now_s)
    if not track.loaded:
        from_ms = max(track.since_ms - LOOKBACK_BARS * length_ms, 0)
    elif is_pending(track, now_ms - clock.span_ms(PROMPT_S)) or (
        track.newest_ms is not None and track.newest_ms > track.next_ms
    ):
        from_ms = track.next_ms
    elif now_s >= ask.audit_s and track.checked_ms < track.next_ms:
        from_ms = track.checked_ms
    elif stream is not None and stream.acknowledged and now_s - stream.heard_s > SILENT_S:
        from_ms = track.next_ms
    else:
        return None
    ask.busy = True
    return CandleAsk(track.symbol, track.interval, from_ms)


def is_pending(track: BarTrack, now_ms: float) -> bool:
    """Return True if a bar has ended that is not known."""
    return track.next_ms + track.length_ms <= now_ms


def funding_ask(track: RateTrack, ask: AskState, clock: VenueClock, now_s: float) -> FundingAsk | None:
    """Return the request that the funding of a symbol needs now."""
    if ask.busy or now_s < ask.next_s or track.next_ms > clock.now_ms(now_s) - clock.span_ms(PROMPT_S):
        return None
    ask.busy = True
    return FundingAsk(track.symbol, track.next_ms - HOUR_MS // 2)


def audit_period_s(tracks: Sequence[object]) -> float:
    """Return the time between two comparisons of a track, which leaves most of the venue's allowance unused."""
    return max(AUDIT_S, _AUDIT_TRACK_S * len(tracks))
