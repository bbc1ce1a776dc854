"""Streams of the simulator's WebSocket: which subscriptions are valid, and what acknowledges them."""

from typing import Any, NamedTuple

import msgspec

from mei_pipeline.hyperliquid.codec import encode
from mei_pipeline.hyperliquid.simulator.market import SimulatedMarket
from mei_pipeline.hyperliquid.simulator.shapes import (
    ACCOUNT_STREAMS,
    ASSET_DATA,
    BOOK_DEFAULTS,
    SentFrame,
    StreamRequest,
)
from mei_pipeline.hyperliquid.wire import ACKNOWLEDGED, BBO, BOOK, CANDLE, CONTEXT, ERROR, MIDS, TRADES

_request: msgspec.json.Decoder[StreamRequest] = msgspec.json.Decoder(StreamRequest)
_OF_COIN = (BBO, BOOK, CANDLE, CONTEXT, TRADES)


class StreamKey(NamedTuple):
    """A stream; subscriptions with equal keys get the same messages.

    Attributes:
        type: Kind of the stream.
        coin: Market; empty for a stream of all.
        interval: Interval of candles; empty for others.
        user: Account; empty for market data.
        figures: Significant figures of an order book.
        mantissa: Multiple of the last figure of an order book.
        fast: True for an order book that is sent often.
    """

    type: str
    coin: str = ""
    interval: str = ""
    user: str = ""
    figures: int | None = None
    mantissa: int | None = None
    fast: bool = False


class ReadStream(NamedTuple):
    """A valid subscription: its key, and the normalised fields of its acknowledgement."""

    key: StreamKey
    fields: dict[str, Any]


def read_stream(raw: bytes, market: SimulatedMarket) -> ReadStream | None:
    """Return a subscription; None if it is invalid."""
    try:
        request = _request.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if not _is_valid(request, market):
        return None
    fields = msgspec.to_builtins(request)
    user = (request.user or "").lower()
    if user:
        fields["user"] = user
    if request.type == BOOK:
        fields = {**fields, **{name: fields.get(name, value) for name, value in BOOK_DEFAULTS.items()}}
    key = StreamKey(
        request.type,
        request.coin or "",
        request.interval or "",
        user,
        request.figures,
        request.mantissa,
        request.fast or False,
    )
    return ReadStream(key, fields)


def acknowledgement(method: str, fields: dict[str, Any]) -> bytes:
    """Return the message that acknowledges a subscription or its end."""
    return encode(SentFrame(channel=ACKNOWLEDGED, data={"method": method, "subscription": fields}))


def error_frame(text: str) -> bytes:
    """Return a message about an error."""
    return encode(SentFrame(channel=ERROR, data=text))


def _is_valid(request: StreamRequest, market: SimulatedMarket) -> bool:
    if request.dex:
        return False
    if request.type == MIDS:
        return True
    if request.type in _OF_COIN:
        coin = market.coins.get(request.coin or "")
        return coin is not None and (request.type != CANDLE or request.interval in market.intervals)
    if request.type == ASSET_DATA and request.coin not in market.coins:
        return False
    return request.type in ACCOUNT_STREAMS and request.user is not None
