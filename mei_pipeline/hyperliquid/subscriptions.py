"""Subscriptions of one connection: what is sent, what the venue has answered, and when it is dead.

No clock and no I/O: the socket gives the time, sends the commands and passes on the answers.
"""

import math
from collections import deque
from collections.abc import Container, Iterable
from dataclasses import dataclass, field

import msgspec

from mei_pipeline.hyperliquid.codec import WrongPayload, decode_command
from mei_pipeline.hyperliquid.inbox import RefusedStream, Subscribed
from mei_pipeline.hyperliquid.wire import (
    ALREADY_BEGUN,
    ALREADY_ENDED,
    PingCommand,
    SocketCommand,
    SubscribeCommand,
    Subscription,
    SubscriptionAnswer,
    UnsubscribeCommand,
)

_MINUTE_S = 60.0
_LONGEST_WAIT = 32  # times ack_s


class Unanswered(Exception):
    """The venue does not answer on this connection."""


@dataclass(frozen=True)
class SocketLimits:
    """Times and limits of a socket. Those of the venue count per IP, so MEI's are lower.

    Attributes:
        ping_s: Time between two pings, in seconds; the venue closes a connection that was idle for 60 s.
        pong_s: Time after a ping without a pong until the connection counts as dead, in seconds.
        ack_s: Time after a subscription without an acknowledgement until it is sent again, in seconds; it doubles at
            each attempt. The connection counts as dead if none at all is answered.
        open_s: Time for opening a connection, in seconds.
        close_s: Time for closing one, in seconds.
        backoff_s: Shortest and longest time between two connections, in seconds; it doubles at each failure.
        steady_s: Age of a connection whose loss is no failure, in seconds.
        connects_per_minute: Connections that are tried in any minute; the venue allows 30.
        messages_per_minute: Messages that are sent in any minute; the venue allows 2,000.
        subscriptions: Streams of one socket; the venue allows 1,000.
        message_bytes: Size of the largest message that is accepted.
    """

    ping_s: float = 20.0
    pong_s: float = 10.0
    ack_s: float = 10.0
    open_s: float = 10.0
    close_s: float = 2.0
    backoff_s: tuple[float, float] = (0.25, 30.0)
    steady_s: float = 60.0
    connects_per_minute: int = 20
    messages_per_minute: int = 1500
    subscriptions: int = 1000
    message_bytes: int = 4 << 20


class Pace:
    """Limit on the number of events in any minute."""

    def __init__(self, per_minute: int) -> None:
        self._limit = per_minute
        self._times_s: deque[float] = deque()

    def count(self, now_s: float) -> None:
        """Count an event."""
        self._times_s.append(now_s)

    def room(self, now_s: float) -> int:
        """Return how many events are allowed now."""
        while self._times_s and self._times_s[0] + _MINUTE_S <= now_s:
            self._times_s.popleft()
        return max(0, self._limit - len(self._times_s))

    def wait_s(self, now_s: float) -> float:
        """Return the time until an event is allowed, in seconds."""
        return 0.0 if self.room(now_s) else self._times_s[-self._limit] + _MINUTE_S - now_s


@dataclass
class Subscriptions:
    """State of the streams of one connection.

    Attributes:
        limits: Times and limits.
        opened_s: Time at which the connection was opened, in seconds.
        active: Streams that the venue has acknowledged.
        refused: Streams that the venue has refused.
        renewing: Streams that are to be ended and begun again.
    """

    limits: SocketLimits
    opened_s: float
    active: set[Subscription] = field(default_factory=set)
    refused: set[Subscription] = field(default_factory=set)
    renewing: set[Subscription] = field(default_factory=set)
    _due_s: dict[Subscription, float] = field(default_factory=dict)
    _ending_s: dict[Subscription, float] = field(default_factory=dict)
    _attempts: dict[Subscription, int] = field(default_factory=dict)
    _heard: bool = False
    _ping_s: float | None = None
    _pinged_s: float = -math.inf

    def overdue(self, now_s: float) -> list[RefusedStream]:
        """Give up waiting for answers that are overdue; `due` sends those commands again.

        Returns:
            The streams whose acknowledgement was missing more than once.

        Raises:
            Unanswered: There is no pong, or no answer to any subscription.
        """
        if self._ping_s is not None and now_s >= self._ping_s + self.limits.pong_s:
            raise Unanswered(f"no answer to a ping within {self.limits.pong_s:g} s")
        late = [each for each, due_s in self._due_s.items() if now_s >= due_s]
        if late and not self._heard:
            raise Unanswered(f"none of {len(self._due_s)} subscriptions acknowledged within {self.limits.ack_s:g} s")
        for each in late:
            del self._due_s[each]
        for each in [each for each, due_s in self._ending_s.items() if now_s >= due_s]:
            del self._ending_s[each]
        return [
            RefusedStream(each, f"no acknowledgement, {attempts} times")
            for each in late
            if (attempts := self._attempts[each]) > 1
        ]

    def due(self, wanted: Iterable[Subscription], now_s: float, room: int) -> list[SocketCommand]:
        """Return the commands that are due, and count them as sent.

        A ping is sent even without room. A stream whose end was sent is not begun again before that is answered:
        otherwise an acknowledgement could belong to the earlier command.

        Args:
            wanted: All streams that the connection should have.
            now_s: Present time, in seconds.
            room: Largest number of commands.
        """
        commands: list[SocketCommand] = []
        if self._ping_s is None and now_s >= self._next_ping_s:
            self._ping_s = self._pinged_s = now_s
            commands.append(PingCommand())
        streams = dict.fromkeys(wanted)
        self.refused.intersection_update(streams)
        for each in self._to_end(streams):
            if len(commands) >= room:
                return commands
            self._end(each, now_s)
            commands.append(UnsubscribeCommand(subscription=each))
        busy = self.active | self.refused | self._due_s.keys() | self._ending_s.keys()
        for each in streams:
            if len(commands) >= room:
                break
            if each not in busy:
                self._begin(each, now_s)
                commands.append(SubscribeCommand(subscription=each))
        return commands

    def next_s(self) -> float:
        """Return the time at which something is due, in seconds."""
        ping_s = self._next_ping_s if self._ping_s is None else self._ping_s + self.limits.pong_s
        return min(ping_s, *self._due_s.values(), *self._ending_s.values(), math.inf)

    def pong(self) -> None:
        """Take the answer to a ping."""
        self._ping_s = None

    def answered(self, answer: SubscriptionAnswer) -> Subscribed | None:
        """Take an acknowledgement; returns the stream that it begins, if any."""
        if answer.method == "unsubscribe":
            if (ended := _match(answer.subscription, self._ending_s)) is not None:
                del self._ending_s[ended]
            return None
        return self._acknowledged(answer.subscription)

    def failed(self, text: str) -> Subscribed | RefusedStream | None:
        """Take an error of the venue, which names its subscription by repeating it."""
        named = _subscription_in(text)
        if named is None:
            return RefusedStream(None, text)
        if text.lower().startswith(ALREADY_BEGUN):
            return self._acknowledged(named)
        ended = _match(named, self._ending_s)
        if ended is not None:
            del self._ending_s[ended]
        if ended is not None or text.lower().startswith(ALREADY_ENDED):
            return None
        refused = _match(named, self._due_s) or _match(named, self.active)
        if refused is not None:
            self._heard = True
            self._due_s.pop(refused, None)
            self.active.discard(refused)
            self.refused.add(refused)
        return RefusedStream(refused, text)

    @property
    def _next_ping_s(self) -> float:
        return max(self._pinged_s, self.opened_s) + self.limits.ping_s

    def _to_end(self, streams: Container[Subscription]) -> list[Subscription]:
        begun = dict.fromkeys((*self.active, *self._due_s, *self.refused))
        self.renewing.intersection_update(begun)
        return [each for each in begun if each not in streams or each in self.renewing]

    def _end(self, subscription: Subscription, now_s: float) -> None:
        for streams in (self.active, self.refused, self.renewing):
            streams.discard(subscription)
        self._due_s.pop(subscription, None)
        self._attempts.pop(subscription, None)
        self._ending_s[subscription] = now_s + self.limits.ack_s

    def _begin(self, subscription: Subscription, now_s: float) -> None:
        attempts = self._attempts[subscription] = self._attempts.get(subscription, 0) + 1
        self._due_s[subscription] = now_s + self.limits.ack_s * min(2 ** (attempts - 1), _LONGEST_WAIT)

    def _acknowledged(self, named: Subscription) -> Subscribed | None:
        begun = _match(named, self._due_s)
        if begun is None:
            return None
        self._heard = True
        del self._due_s[begun]
        self._attempts.pop(begun)
        self.active.add(begun)
        return Subscribed(begun)


def _match(named: Subscription, streams: Iterable[Subscription]) -> Subscription | None:
    """Return the stream all of whose fields the venue repeats; it may have added others."""
    if named in streams:
        return named
    for each in streams:
        if all(value in (None, getattr(named, name)) for name, value in msgspec.structs.asdict(each).items()):
            return each
    return None


def _subscription_in(text: str) -> Subscription | None:
    """Return the subscription in an error text, alone or as part of its command."""
    body = text[text.find("{") : text.rfind("}") + 1]
    try:
        return msgspec.json.decode(body, type=Subscription)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    try:
        command = decode_command(body)
    except WrongPayload:
        return None
    return command.subscription if isinstance(command, SubscribeCommand | UnsubscribeCommand) else None
