"""Feed protocol: the messages between a feed and its consumers, and their lines.

A message is one line of JSON with the name of its type under the key `type`. `docs/reference/feed.md` describes the
order of the messages. Readers ignore unknown fields, so that a later version can add some; an unknown type is an error.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, TypeVar

import msgspec

from mei_pipeline.errors import ConfigError, DataError, MeiError, Retryable
from mei_pipeline.execution.events import FeedEvent

PROTOCOL = 1
"""Version of the protocol. A consumer and a feed of different versions refuse each other."""

MAX_LINE_BYTES = 1 << 18
"""Maximum length of a line, its end included."""

BEAT_S = 1.0
"""Time between two heartbeats of a feed, in seconds."""

SILENT_S = 5.0
"""Time without a byte from a feed after which its consumer gives it up, in seconds."""

_EXCERPT = 120
_LAST_MS = 253_402_300_799_000  # the end of the year 9999: later times have no text

ErrorKind = Literal["config", "data", "retry"]
"""Action that an error asks for: correct the configuration, repair the data, or subscribe again."""


class WrongLine(DataError):
    """A line that is not a message of the protocol; subscribing again can't help."""


class FeedBroken(Retryable):
    """The connection to a feed is lost, or events are missing; subscribe again from the end of the last step."""


class FeedEnded(DataError):
    """The feed has no further events: a replay has reached the end of its lake."""


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="hello"):
    """First message of a feed.

    Attributes:
        protocol: Version of the protocol.
        venue: Venue of all events.
        network: Network of the venue, such as `replay` or `mainnet`.
        boot_id: Id of this start of the feed.
    """

    protocol: int
    # A feed of another version may lack these fields; its version must be readable nevertheless.
    venue: str = ""
    network: str = ""
    boot_id: str = ""


class Subscribe(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="subscribe"):
    """First message of a consumer.

    Attributes:
        protocol: Version of the protocol.
        venue: Venue that the consumer expects.
        network: Network that the consumer expects.
        symbols: Symbols to send.
        intervals: Intervals of bars to send; the finest is the step.
        from_ms: End of the last step that the consumer knows, UTC milliseconds.
    """

    protocol: int
    venue: str = ""
    network: str = ""
    symbols: tuple[str, ...] = ()
    intervals: tuple[str, ...] = ()
    from_ms: Annotated[int, msgspec.Meta(ge=0, le=_LAST_MS)] = 0


class SubscriptionRefused(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="refused"):
    """Answer to a subscription that the feed can't serve. The feed closes the connection."""

    error: ErrorKind
    reason: str


class Numbered(msgspec.Struct, frozen=True, tag_field="type", tag="event"):
    """An event with its number in the connection; the first is 1, and no number is left out."""

    seq: int
    event: FeedEvent


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="heartbeat"):
    """Sign of life with the time on the feed's clock, UTC milliseconds; that of a replay is the time of the market."""

    now_ms: int


class Ack(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="ack"):
    """The consumer has processed all events up to this number."""

    seq: int


class End(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="end"):
    """The feed has no further events."""

    reason: str


class Bye(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="bye"):
    """The feed closes the connection, because the consumer is too slow or an error stops the feed."""

    reason: str
    error: ErrorKind = "retry"


FeedMessage = Hello | SubscriptionRefused | Numbered | Heartbeat | End | Bye
"""A message of a feed."""

ConsumerMessage = Subscribe | Ack
"""A message of a consumer."""

_FEED: msgspec.json.Decoder[FeedMessage] = msgspec.json.Decoder(FeedMessage)
_CONSUMER: msgspec.json.Decoder[ConsumerMessage] = msgspec.json.Decoder(ConsumerMessage)
_WRONG = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_Message = TypeVar("_Message")
_ENCODER = msgspec.json.Encoder()


def encode(messages: Sequence[FeedMessage | ConsumerMessage]) -> bytes:
    """Return the lines of messages."""
    return _ENCODER.encode_lines(messages)


def feed_messages(lines: bytes, first_line: int) -> Iterator[FeedMessage]:
    """Decode lines of a feed; see `_decoded`."""
    return _decoded(_FEED, lines, first_line)


def consumer_messages(lines: bytes, first_line: int) -> Iterator[ConsumerMessage]:
    """Decode lines of a consumer; see `_decoded`."""
    return _decoded(_CONSUMER, lines, first_line)


def cut_lines(received: bytearray) -> bytes:
    """Remove all complete lines from `received`, bytes that have arrived, and return them."""
    end = received.rfind(b"\n") + 1
    lines = bytes(received[:end])
    del received[:end]
    return lines


def check_length(rest: bytearray, line: int) -> None:
    """Raise if the beginning of a line without an end is too long.

    Args:
        rest: Bytes after the last complete line.
        line: Number of the line that they begin.

    Raises:
        WrongLine: They are longer than `MAX_LINE_BYTES`.
    """
    if len(rest) > MAX_LINE_BYTES:
        raise WrongLine(f"line {line}: longer than {MAX_LINE_BYTES} bytes: {_excerpt(rest)}")


def error_of(kind: ErrorKind, reason: str) -> MeiError:
    """Return the error that stands for a refusal or a goodbye."""
    return {"config": ConfigError, "data": DataError, "retry": FeedBroken}[kind](reason)


def kind_of(error: MeiError) -> ErrorKind:
    """Return the kind under which a feed reports an error."""
    if isinstance(error, ConfigError):
        return "config"
    return "retry" if isinstance(error, Retryable) else "data"


def _decoded(decoder: msgspec.json.Decoder[_Message], lines: bytes, first_line: int) -> Iterator[_Message]:
    """Decode complete lines; empty ones are ignored.

    Raises:
        WrongLine: A line is not a message; the error names its number. The messages before it are returned first.
    """
    try:
        yield from decoder.decode_lines(lines)
    except _WRONG:
        # Decoding all lines at once is fast, but its error does not name the line.
        numbered = enumerate(lines.split(b"\n")[:-1], first_line)
        yield from (_one(decoder, line, number) for number, line in numbered if line.strip())


def _one(decoder: msgspec.json.Decoder[_Message], line: bytes, number: int) -> _Message:
    """Decode one line."""
    try:
        return decoder.decode(line)
    except _WRONG as error:
        raise WrongLine(f"line {number}: not a message of protocol {PROTOCOL}: {error}: {_excerpt(line)}") from None


def _excerpt(line: bytes | bytearray) -> str:
    """Return the beginning of a line for an error message."""
    text = bytes(line[:_EXCERPT]).decode(errors="backslashreplace")
    return text if len(line) <= _EXCERPT else f"{text}…"
