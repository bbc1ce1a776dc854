"""Decode and encode what Hyperliquid and MEI send each other.

Nothing that arrives raises an error but `WrongPayload`: the venue may answer with HTML, with half a document or with
fields of another type.
"""

import re
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

import msgspec

from mei_pipeline.errors import DataError
from mei_pipeline.hyperliquid.numbers import text_of
from mei_pipeline.hyperliquid.wire import ANSWERS, CHANNELS, Envelope, InfoRequest, SocketCommand, Wire, check_numbers
from mei_pipeline.text import printable

_EXCERPT = 120
_PROBLEM = 300
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
_request: msgspec.json.Decoder[InfoRequest] = msgspec.json.Decoder(InfoRequest)
_command: msgspec.json.Decoder[SocketCommand] = msgspec.json.Decoder(SocketCommand)
_encoder = msgspec.json.Encoder()


# msgspec writes a Decimal as `str` does, with an exponent below 1e-6; the venue never writes one. A quotation mark
# after one of these characters begins a value, because one inside a text follows a backslash.
_exponent = re.compile(rb'(?<=[:,\[])"(-?\d+(?:\.\d+)?E[+-]\d+)"(?!:)')


def encode(message: Any) -> bytes:
    """Return the JSON of a model, or of a list of models. Numbers are in plain notation, without an exponent."""
    return _exponent.sub(_plain, _encoder.encode(message))


def _plain(found: re.Match[bytes]) -> bytes:
    return f'"{text_of(Decimal(found[1].decode()))}"'.encode()


def decode_answer(request: Wire, body: bytes) -> Any:
    """Return the answer to a request, of the type in `wire.ANSWERS`.

    Raises:
        WrongPayload: The body is no such answer.
    """
    return _decoded(_answers[type(request)], body, f"answer to {_name_of(request)}")


def decode_message(text: bytes | str) -> VenueMessage:
    """Return a message of the WebSocket.

    Raises:
        WrongPayload: It is no message, or the data of a known channel have another form.
    """
    envelope = _decoded(_envelope, text, "message")
    decoder = _channels.get(envelope.channel)
    data = None if decoder is None else _decoded(decoder, envelope.data, f"message on channel {envelope.channel}")
    return VenueMessage(envelope.channel, data)


def decode_request(body: bytes) -> InfoRequest:
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
        value = decoder.decode(body)
        check_numbers(value, "$")
    except _WRONG as error:
        problem = str(error)[:_PROBLEM]
        raise WrongPayload(printable(f"Hyperliquid: {what}: {problem}: {_excerpt(body)}")) from None
    return value


def _excerpt(body: Any) -> str:
    """Return the beginning of a body on one line."""
    begin = body[: _EXCERPT + 1] if isinstance(body, str) else bytes(memoryview(body)[: _EXCERPT + 1])
    text = begin if isinstance(begin, str) else begin.decode(errors="backslashreplace")
    text = " ".join(text.split())
    return f"{text[:_EXCERPT]}…" if len(begin) > _EXCERPT else text
