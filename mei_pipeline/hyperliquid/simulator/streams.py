"""Subscribers of each stream, and the faults on the messages that they get."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mei_pipeline.hyperliquid.codec import encode
from mei_pipeline.hyperliquid.simulator.connection import SocketConnection
from mei_pipeline.hyperliquid.simulator.faults import Fault, FaultPoint, FaultSchedule, Place
from mei_pipeline.hyperliquid.simulator.limits import SimulatorCounters
from mei_pipeline.hyperliquid.simulator.shapes import SentFrame
from mei_pipeline.hyperliquid.simulator.subscriptions import StreamKey
from mei_pipeline.hyperliquid.wire import BBO, CANDLE, CONTEXT

HTML = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<center>502 Bad Gateway</center>\r\n"
"""Page of a proxy, as clients get it instead of JSON."""
_PLACES: dict[str, Place] = {CANDLE: "candle", BBO: "bbo", CONTEXT: "context"}


@dataclass
class SimulatorFaults:
    """Faults of a run; without a schedule there are none.

    Attributes:
        schedule: Decides about the faults.
        now_s: Monotonic clock of the machine, seconds.
        counters: Counts of the simulator.
    """

    schedule: FaultSchedule | None
    now_s: Callable[[], float]
    counters: SimulatorCounters

    def at(self, where: Place, **details: Any) -> tuple[Fault, ...]:
        """Return the faults of an event; `details` are further fields of `FaultPoint`."""
        if self.schedule is None:
            return ()
        faults = self.schedule.at(FaultPoint(where=where, now_s=self.now_s(), **details))
        for fault in faults:
            self.counters.faults[fault.do] += 1
        return faults


@dataclass
class SocketStreams:
    """Subscribers of each stream.

    Attributes:
        faults: Faults of the messages.
        subscribers: Connections of each stream, in the order of their subscriptions.
    """

    faults: SimulatorFaults
    subscribers: dict[StreamKey, dict[SocketConnection, None]] = field(default_factory=dict)

    def add(self, key: StreamKey, connection: SocketConnection) -> None:
        """Begin a stream of a connection."""
        self.subscribers.setdefault(key, {})[connection] = None
        connection.keys[key] = None

    def remove(self, key: StreamKey, connection: SocketConnection) -> None:
        """End a stream of a connection."""
        connection.keys.pop(key, None)
        connections = self.subscribers.get(key, {})
        connections.pop(connection, None)
        if not connections:
            self.subscribers.pop(key, None)

    def publish(self, key: StreamKey, data: object, open_ms: int | None = None, *, final: bool = False) -> None:
        """Send the data of a stream to its subscribers; the message is encoded once.

        Args:
            key: The stream.
            data: Content of the message.
            open_ms: Open time of the bar of a candle.
            final: True for the final values of a bar.
        """
        connections = self.subscribers.get(key)
        if not connections:
            return
        frame = encode(SentFrame(channel=key.type, data=data))
        for connection in tuple(connections):
            self.deliver(connection, key, frame, open_ms, final=final)

    def deliver(
        self,
        connection: SocketConnection,
        key: StreamKey,
        frame: bytes,
        open_ms: int | None = None,
        *,
        final: bool = False,
    ) -> None:
        """Send a message of a stream to one connection, with the faults of the plan."""
        if self.faults.schedule is None:
            connection.send(frame)
            return
        symbol, place = key.coin or None, _PLACES.get(key.type)
        faults = self.faults.at("socket", symbol=symbol)
        if place is not None:
            faults += self.faults.at(place, symbol=symbol, interval=key.interval or None, open_ms=open_ms, final=final)
        send_with(connection, frame, faults)


def send_with(connection: SocketConnection, frame: bytes, faults: tuple[Fault, ...]) -> None:
    """Send a message with faults."""
    delay_s = sum(fault.delay_s for fault in faults)
    kinds = {fault.do for fault in faults}
    held = connection.take_held()
    if "drop" in kinds:
        end_with(connection, next(fault for fault in faults if fault.do == "drop"))
        return
    if "half_open" in kinds:
        connection.muted = True
        return
    if "html" in kinds:
        frame = HTML
    if "truncated" in kinds:
        frame = frame[: len(frame) // 2]
    frames = [frame] * (0 if kinds & {"silent", "missing_candle"} else 2 if "duplicate" in kinds else 1)
    if "reorder" in kinds:
        connection.held = [*held, *frames]
        return
    for each in frames:
        if delay_s > 0.0:
            asyncio.get_running_loop().call_later(delay_s, connection.send, each)
        else:
            connection.send(each)
    for each in held:
        connection.send(each)


def end_with(connection: SocketConnection, fault: Fault) -> None:
    """End a connection as a fault says: by a close frame, or by a reset of TCP."""
    if fault.close_code is None:
        connection.abort()
    else:
        connection.close(fault.close_code)
