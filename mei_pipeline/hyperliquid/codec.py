"""Decode and encode what Hyperliquid and MEI send each other.

Nothing that arrives raises an error but `WrongPayload`: the venue may answer with HTML, with half a document or with
fields of another type.
"""

from typing import Any, NamedTuple, TypeVar

import msgspec

from mei_pipeline.errors import DataError
from mei_pipeline.hyperliquid.wire import ANSWERS, CHANNELS, Envelope, MarketRequest, SocketCommand, Wire, check_finite

_EXCERPT = 120
_Model = TypeVar("_Model")
_WRONG = (msgspec.MsgspecError, ValueError, RecursionError)


class WrongPayload(DataError):
    """Bytes that are not what the venue documents."""


class VenueMessage(NamedTuple):
    """A message of the venue.

    Attributes:
        channel: Its channel.
        data: Its content, of the type in `wire.CHANNELS`; None on a channel that MEI does not use.
    """

    channel: str
    data: Any


_answers: dict[type[Wire], msgspec.json.Decoder[Any]] = {
    request: msgspec.json.Decoder(answer) for request, answer in ANSWERS.items()
}
_channels = {channel: msgspec.json.Decoder(data) for channel, data in CHANNELS.items()}
_envelope = msgspec.json.Decoder(Envelope)
_request: msgspec.json.Decoder[MarketRequest] = msgspec.json.Decoder(MarketRequest)
_command: msgspec.json.Decoder[SocketCommand] = msgspec.json.Decoder(SocketCommand)
_encoder = msgspec.json.Encoder()


def encode(message: Any) -> bytes:
    """Return the JSON of a model, or of a list of models."""
    return _encoder.encode(message)


def decode_answer(request: Wire, body: bytes) -> Any:
    """Return the answer to a request, of the type in `wire.ANSWERS`.

    Raises:
        WrongPayload: The body is no such answer.
    """
    return _checked(_decoded(_answers[type(request)], body, f"answer to {_name_of(request)}"))


def decode_message(text: bytes | str) -> VenueMessage:
    """Return a message of the WebSocket.

    Raises:
        WrongPayload: It is no message, or the data of a known channel have another form.
    """
    envelope = _decoded(_envelope, text, "message")
    decoder = _channels.get(envelope.channel)
    data = None if decoder is None else _decoded(decoder, envelope.data, f"message on channel {envelope.channel}")
    return VenueMessage(envelope.channel, _checked(data))


def decode_request(body: bytes) -> MarketRequest:
    """Return a request to the info endpoint.

    Raises:
        WrongPayload: It is none that MEI knows.
    """
    return _decoded(_request, body, "request")


def decode_command(text: bytes | str) -> SocketCommand:
    """Return a message to the venue's WebSocket.

    Raises:
        WrongPayload: It is none.
    """
    return _decoded(_command, text, "command")


def _name_of(request: Wire) -> str:
    return str(request.__struct_config__.tag)


def _decoded(decoder: msgspec.json.Decoder[_Model], body: Any, what: str) -> _Model:
    try:
        return decoder.decode(body)
    except _WRONG as error:
        raise WrongPayload(f"Hyperliquid: {what}: {error}: {_excerpt(body)}") from None


def _checked(value: Any) -> Any:
    """Check the numbers of an object of prices by coin; models check their own."""
    prices = getattr(value, "mids", value)
    if isinstance(prices, dict):
        for price in prices.values():
            try:
                check_finite(price)
            except ValueError as error:
                raise WrongPayload(f"Hyperliquid: prices: {error}") from None
    return value


def _excerpt(body: Any) -> str:
    text = body if isinstance(body, str) else bytes(body).decode(errors="backslashreplace")
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…"
