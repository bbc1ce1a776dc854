"""The WebSocket of the exchange simulator: commands of clients."""

import asyncio
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from mei_pipeline.hyperliquid.codec import encode
from mei_pipeline.hyperliquid.simulator.answers import answer_to, asset_of, read_request
from mei_pipeline.hyperliquid.simulator.connection import SocketConnection
from mei_pipeline.hyperliquid.simulator.limits import MESSAGES_PER_MINUTE, SUBSCRIPTIONS, surcharge_of, weight_of
from mei_pipeline.hyperliquid.simulator.shapes import (
    ACCOUNT_STREAMS,
    ASSET_DATA,
    SentFrame,
    StreamCommand,
    post_data,
    snapshot_data,
)
from mei_pipeline.hyperliquid.simulator.state import HOST, SIMULATOR, ExchangeSimulator, fault_answer
from mei_pipeline.hyperliquid.simulator.streams import end_with
from mei_pipeline.hyperliquid.simulator.subscriptions import ReadStream, acknowledgement, error_frame, read_stream
from mei_pipeline.hyperliquid.wire import PONG, PostRequest

_LARGEST_MESSAGE = 1 << 18
_command: msgspec.json.Decoder[StreamCommand] = msgspec.json.Decoder(StreamCommand)
_post: msgspec.json.Decoder[PostRequest] = msgspec.json.Decoder(PostRequest)


async def handle_socket(request: web.Request) -> web.StreamResponse:
    """Serve a WebSocket until it ends."""
    simulator = request.app[SIMULATOR]
    counters, address = simulator.counters, request.remote or HOST
    faults = simulator.faults.at("connect")
    half_open = any(fault.do == "half_open" for fault in faults)
    answer = await fault_answer(request, tuple(fault for fault in faults if fault.do != "half_open"))
    if answer is not None:
        return answer
    if not counters.may_connect(address, simulator.clock.machine_s()):
        return web.Response(status=429, text="Too Many Requests")
    # Compression would cost more than all the rest, for messages of 150 bytes on loopback.
    socket = web.WebSocketResponse(compress=False, max_msg_size=_LARGEST_MESSAGE)
    await socket.prepare(request)
    options = simulator.options
    connection = SocketConnection(socket, request.transport, address, counters, options.queue_limit, options.idle_s)
    connection.muted = half_open
    counters.opened += 1
    counters.use_of(address).connections += 1
    simulator.connections.add(connection)
    writer = asyncio.create_task(connection.write())
    try:
        async for message in socket:
            if message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
                text = message.data if isinstance(message.data, str) else message.data.decode(errors="replace")
                await _receive(simulator, connection, text)
    finally:
        _forget(simulator, connection)
        writer.cancel()
        await asyncio.wait([writer])
    return socket


def _forget(simulator: ExchangeSimulator, connection: SocketConnection) -> None:
    """End the streams of a connection."""
    use = simulator.counters.use_of(connection.address)
    use.connections -= 1
    use.subscriptions -= len(connection.keys)
    for key in tuple(connection.keys):
        simulator.streams.remove(key, connection)
    simulator.connections.discard(connection)


async def _receive(simulator: ExchangeSimulator, connection: SocketConnection, text: str) -> None:
    """Carry out a command of a client."""
    counters, now_s = simulator.counters, simulator.clock.machine_s()
    counters.received += 1
    use = counters.use_of(connection.address)
    use.messages.add(now_s, 1)
    if use.messages.within(now_s) > MESSAGES_PER_MINUTE and counters.enforced:
        counters.refused += 1
        connection.send(error_frame(f"Cannot send more than {MESSAGES_PER_MINUTE} messages per minute."))
        return
    try:
        command = _command.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        command = StreamCommand(method="")
    if command.method == "ping":
        connection.send(encode(SentFrame(channel=PONG)))
    elif command.method == "subscribe":
        await _subscribe(simulator, connection, bytes(command.subscription))
    elif command.method == "unsubscribe":
        _unsubscribe(simulator, connection, bytes(command.subscription))
    elif command.method == "post" and command.id is not None:
        await _answer_post(simulator, connection, command.id, bytes(command.request))
    else:
        connection.send(error_frame(f"Error parsing JSON into valid websocket request: {text}"))


async def _subscribe(simulator: ExchangeSimulator, connection: SocketConnection, raw: bytes) -> None:
    stream = read_stream(raw, simulator.market)
    if stream is None:
        connection.send(error_frame(f"Invalid subscription {raw.decode()}"))
        return
    key = stream.key
    if key in connection.keys:
        connection.send(error_frame(f"Already subscribed: {raw.decode()}"))
        return
    use = simulator.counters.use_of(connection.address)
    if simulator.counters.enforced and use.subscriptions >= SUBSCRIPTIONS:
        simulator.counters.refused += 1
        connection.send(error_frame(f"Cannot subscribe to more than {SUBSCRIPTIONS} channels."))
        return
    faults = simulator.faults.at(
        "subscription", symbol=key.coin or None, interval=key.interval or None, stream=key.type
    )
    for fault in faults:
        if fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if fault.do == "refuse":
            connection.send(error_frame(f"Invalid subscription {raw.decode()}"))
            return
        if fault.do == "drop":
            end_with(connection, fault)
            return
        if fault.do == "half_open":
            connection.muted = True
        if fault.do == "silent":
            return
    use.subscriptions += 1
    connection.send(acknowledgement("subscribe", stream.fields))
    simulator.streams.add(key, connection)
    _send_first(simulator, connection, stream)


def _send_first(simulator: ExchangeSimulator, connection: SocketConnection, stream: ReadStream) -> None:
    """Send the message with which a stream begins."""
    key, now_ms = stream.key, simulator.clock.now_ms()
    data: Any
    if key.type in ACCOUNT_STREAMS:
        if key.type == ASSET_DATA:
            data = asset_of(simulator.market.coins[key.coin], key.user, now_ms)
        else:
            data = None if ACCOUNT_STREAMS[key.type] is None else snapshot_data(key.type, key.user)
    else:
        data = simulator.pusher.first_message(key, now_ms)
    if data is not None:
        frame = encode(SentFrame(channel=key.type, data=data))
        simulator.streams.deliver(connection, key, frame, getattr(data, "open_ms", None))


def _unsubscribe(simulator: ExchangeSimulator, connection: SocketConnection, raw: bytes) -> None:
    stream = read_stream(raw, simulator.market)
    if stream is None:
        connection.send(error_frame(f"Invalid subscription {raw.decode()}"))
        return
    if stream.key not in connection.keys:
        connection.send(error_frame(f"Already unsubscribed: {raw.decode()}"))
        return
    simulator.counters.use_of(connection.address).subscriptions -= 1
    simulator.streams.remove(stream.key, connection)
    connection.send(acknowledgement("unsubscribe", stream.fields))


async def _answer_post(simulator: ExchangeSimulator, connection: SocketConnection, number: int, raw: bytes) -> None:
    """Answer a request that came over the WebSocket; orders are refused, because the simulator only reads."""
    try:
        request = _post.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        connection.send(error_frame(f"Error parsing JSON into valid websocket request: {raw.decode()}"))
        return
    asked = read_request(bytes(request.payload)) if request.type == "info" else None
    counters, now_s = simulator.counters, simulator.clock.machine_s()
    if asked is None or asked.model is None:
        payload: Any = "the exchange simulator knows no such request"
        connection.send(_post_frame(number, "error", payload))
        return
    weight = weight_of(asked.type)
    if counters.wait_s(connection.address, weight, now_s) is not None:
        connection.send(_post_frame(number, "error", "429 Too Many Requests"))
        return
    counters.requests[asked.type] += 1
    _, body, items = await answer_to(asked, simulator.market, simulator.clock.now_ms())
    counters.charge(connection.address, weight + surcharge_of(asked.type, items), now_s)
    connection.send(_post_frame(number, "info", {"type": asked.type, "data": msgspec.Raw(body)}))


def _post_frame(number: int, kind: str, payload: Any) -> bytes:
    return encode(SentFrame(channel="post", data=post_data(number, kind, payload)))
