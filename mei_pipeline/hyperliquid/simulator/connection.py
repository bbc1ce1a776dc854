"""A WebSocket of a client: a bounded queue of messages, and the task that sends them."""

import asyncio
import socket
import struct
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from aiohttp import WSCloseCode, WSMsgType, web

from mei_pipeline.hyperliquid.simulator.limits import SimulatorCounters

if TYPE_CHECKING:
    from mei_pipeline.hyperliquid.simulator.subscriptions import StreamKey

QUEUE_LIMIT = 20_000
IDLE_S = 60.0
_INTERNAL_ERROR = 1011
_NO_LINGER = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport | None) -> None:
    """Reset a TCP connection, so that the client sees an error and no orderly end."""
    if transport is None:
        return
    tcp = transport.get_extra_info("socket")
    if tcp is not None:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


class SocketConnection:
    """A WebSocket of a client.

    Attributes:
        address: IP address of the client.
        keys: Streams to which it has subscribed.
        muted: True once nothing more is sent although the connection stays open.
        held: Messages that wait for the next one, which is sent before them.
    """

    def __init__(
        self,
        websocket: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        address: str,
        counters: SimulatorCounters,
        limit: int = QUEUE_LIMIT,
        idle_s: float = IDLE_S,
    ) -> None:
        """Take over an open WebSocket.

        Args:
            websocket: The WebSocket.
            transport: Its TCP connection.
            address: IP address of the client.
            counters: Counts of the simulator.
            limit: Messages that may wait; beyond them the client counts as too slow.
            idle_s: Seconds after which a connection is closed to which nothing was sent.
        """
        self.address = address
        self.keys: dict[StreamKey, None] = {}
        self.muted = False
        self.held: list[bytes] = []
        self._socket = websocket
        self._transport = transport
        self._counters = counters
        self._limit = limit
        self._idle_s = idle_s
        self._waiting: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._closed = False
        self._code: int = _INTERNAL_ERROR

    def send(self, frame: bytes) -> None:
        """Queue a message; if too many wait, reset the connection."""
        if self.muted or self._closed:
            return
        self._waiting.append(frame)
        self._wake.set()
        if len(self._waiting) > self._limit:
            self._counters.too_slow += 1
            self.abort()

    def take_held(self) -> list[bytes]:
        """Return the messages that wait for the next one, and hold none."""
        held = list(self.held)
        self.held.clear()
        return held

    def abort(self) -> None:
        """Reset the TCP connection; what waits is lost."""
        self._closed = True
        self._waiting.clear()
        self._wake.set()
        reset(self._transport)

    def close(self, code: int) -> None:
        """Send what waits, then a close frame, and end the connection."""
        self._closed = True
        self._code = code
        self._wake.set()

    async def write(self) -> None:
        """Send messages until the connection ends."""
        with suppress(ConnectionError, asyncio.CancelledError):
            while not self._closed or self._waiting:
                if not await self._has_messages():
                    self._counters.idle += 1
                    self.close(WSCloseCode.OK)
                    break
                while self._waiting:
                    await self._socket.send_frame(self._waiting.popleft(), WSMsgType.TEXT)
                    self._counters.sent += 1
            await self._socket.close(code=self._code)

    async def _has_messages(self) -> bool:
        """Wait for a message or the end; return False if neither came in time."""
        self._wake.clear()
        if self._waiting or self._closed:
            return True
        try:
            async with asyncio.timeout(None if self.muted else self._idle_s):
                await self._wake.wait()
        except TimeoutError:
            return self.muted
        return True
