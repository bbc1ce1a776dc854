"""The socket's limits: connections and messages a minute, what it holds, how it stops, and which errors it takes."""

import asyncio
import gc
import os
import socket as sockets
import ssl
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from socket_kit import LIMITS, WANTED, FakeTime, following, reply, scripted_venue, trade, until
from websockets import exceptions
from websockets.frames import Close

import mei_pipeline.hyperliquid.socket as module
from mei_pipeline.hyperliquid.inbox import Lost, Opened
from mei_pipeline.hyperliquid.subscriptions import Pace, SocketLimits
from mei_pipeline.hyperliquid.wire import PingCommand, Subscription

VENUE_MESSAGES, VENUE_CONNECTS = 2000, 30
PATIENT = SocketLimits(ping_s=1e6, pong_s=1e6, ack_s=1e6, close_s=0.05)


def most_in_a_minute(times_s: list[float]) -> int:
    return max(sum(start <= each < start + 60 for each in times_s) for start in times_s)


async def hang_up(connection, _command) -> None:
    connection.transport.abort()


@pytest.mark.parametrize("jitter", [0.0, 0.999])
def test_connects_in_any_minute_stay_below_the_limit(jitter):
    async def scenario():
        time = FakeTime()
        limits = SocketLimits(close_s=0.05, backoff_s=(0.25, 1.0))
        async with (
            scripted_venue(time, answer=hang_up) as venue,
            following(venue.url, time, limits=limits, jitter=lambda: jitter) as follower,
        ):
            await follower.opened(70)
            assert most_in_a_minute(venue.opened_s) == limits.connects_per_minute < VENUE_CONNECTS

    asyncio.run(scenario())


@pytest.mark.parametrize(("jitter", "share"), [(0.0, 0.5), (0.5, 0.75), (0.998, 0.999)])
def test_times_between_failures_double_up_to_the_longest_and_vary(jitter, share):
    async def scenario():
        time = FakeTime()
        async with following("ws://127.0.0.1:1/ws", time, jitter=lambda: jitter) as follower:
            for number in range(1, 12):
                await follower.lost(number)
                await until(lambda: time.sleepers)
                time.advance_to_next()
            assert follower.all_of(Opened) == []
            assert time.slept_s[:11] == [pytest.approx(share * min(30, 0.25 * 2**each)) for each in range(1, 12)]

    asyncio.run(scenario())


def test_a_connection_that_held_makes_the_next_wait_short():
    async def scenario():
        time = FakeTime()
        async with scripted_venue(time, answer=hang_up) as venue, following(venue.url, time) as follower:
            await follower.opened(8)
            await follower.lost(8)
            venue.answer = reply
            await follower.opened(9)
            await follower.settled()
            time.now_s += LIMITS.steady_s
            venue.connections[-1].transport.abort()
            await follower.lost(len(follower.all_of(Lost)) + 1)
            await until(lambda: time.sleepers)
            assert time.slept_s[-1] == 0.75 * 0.25

    asyncio.run(scenario())


def test_a_thousand_subscriptions_stay_below_the_limit_of_messages_over_reconnects():
    wanted = [Subscription(type="bbo", coin=f"C{number}") for number in range(1000)]

    async def scenario():
        time = FakeTime()
        async with (
            scripted_venue(time) as venue,
            following(venue.url, time, wanted, limits=PATIENT) as follower,
        ):
            for number in range(1, 4):
                await follower.opened(number)
                while len(follower.acknowledged()) < len(wanted):
                    heard = len(follower.items)
                    await asyncio.sleep(0.01)
                    if len(follower.items) == heard and min(time.sleepers.values(), default=1e9) < 1e5:
                        time.advance_to_next()
                assert set(venue.streams()) == set(wanted)
                venue.connections[-1].transport.abort()
                await follower.lost(number)
            assert len(venue.received_s) == 3 * len(wanted)
            assert most_in_a_minute(venue.received_s) == PATIENT.messages_per_minute < VENUE_MESSAGES
            assert venue.received_s[-1] - venue.received_s[0] < 180

    asyncio.run(scenario())


def test_a_ping_is_sent_even_while_subscriptions_wait_for_room():
    limits = SocketLimits(messages_per_minute=2, close_s=0.05)

    async def scenario():
        time = FakeTime()
        async with scripted_venue(time) as venue, following(venue.url, time, limits=limits) as follower:
            await until(lambda: len(follower.acknowledged()) == 2)
            await time.advance(limits.ping_s)
            await until(lambda: PingCommand() in venue.received[0])
            assert len(venue.streams()) == 2

    asyncio.run(scenario())


@given(st.integers(1, 5), st.lists(st.floats(0, 40), max_size=60))
def test_a_pace_holds_in_any_minute(limit: int, gaps_s: list[float]):
    pace = Pace(limit)
    now_s = 0.0
    counted_s = []
    for gap_s in gaps_s:
        now_s += gap_s
        if not pace.room(now_s):
            assert pace.wait_s(now_s) > 0
            now_s += pace.wait_s(now_s) + 1e-9
        assert pace.room(now_s) > 0
        assert pace.wait_s(now_s) == 0
        pace.count(now_s)
        counted_s.append(now_s)
    assert not counted_s or most_in_a_minute(counted_s) <= limit


def held() -> tuple[int, int, int]:
    """Return the numbers of tasks, descriptors and objects."""
    gc.collect()
    return len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")), len(gc.get_objects())  # noqa: PTH208 - a count


def test_reconnects_leave_no_task_descriptor_or_object_behind():
    rounds = 60

    async def scenario():
        time = FakeTime()
        async with scripted_venue(time) as venue, following(venue.url, time) as follower:
            marks = []
            for number in range(1, 2 * rounds + 1):
                await follower.opened(1)
                await follower.settled()
                if number in {rounds, 2 * rounds}:
                    for record in (venue.received, venue.received_s, venue.opened_s, time.slept_s):
                        record.clear()
                    marks.append(held())
                venue.connections[-1].transport.abort()
                await follower.lost(len(follower.all_of(Lost)) + 1)
                await until(lambda: not venue.connections)
                del follower.items[:-1]
            # A few tasks may just be ending; a leak would leave one thing of a kind for each connection.
            for before, after in zip(*marks, strict=True):
                assert after - before < rounds / 2

    asyncio.run(scenario())


def tasks_besides_this() -> set[asyncio.Task]:
    return asyncio.all_tasks() - {asyncio.current_task()}


def test_cancelling_closes_the_connection_normally():
    async def scenario():
        time = FakeTime()
        async with scripted_venue(time) as venue:
            before = tasks_besides_this()
            async with following(venue.url, time) as follower:
                await follower.settled()
                (connection,) = venue.connections
            await connection.wait_closed()
            assert connection.close_code == 1000
            assert follower.all_of(Lost) == []
            await until(lambda: tasks_besides_this() <= before)

    asyncio.run(scenario())


def test_cancelling_ends_every_wait():
    async def never_answer(reader, writer):
        await reader.read()
        writer.close()

    async def scenario():
        time = FakeTime()
        async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
            async with following(url, time):
                await asyncio.sleep(0.01)  # within the handshake
        async with following(url, time) as follower:
            await follower.lost(1)  # between two attempts
        async with scripted_venue(time) as venue, following(venue.url, time, room=5) as follower:
            await follower.settled()
            follower.reads = False
            await venue.say(trade(0))  # the consumer stops after the read that it has begun
            await until(follower.messages)
            await venue.say(*(trade(number) for number in range(20)))
            await until(lambda: follower.inbox.overflowed)  # until the consumer reads
        assert tasks_besides_this() == set()

    asyncio.run(scenario())


def test_cancelling_at_the_moment_of_a_break_is_not_forgotten(monkeypatch):
    async def scenario():
        time = FakeTime()
        async with scripted_venue(time) as venue, following(venue.url, time) as follower:
            await follower.settled()

            def fail(_body):
                follower.task.cancel()
                raise ConnectionResetError

            monkeypatch.setattr(module, "decode_message", fail)
            await venue.say(trade(1))
            await until(follower.task.done)
            assert follower.all_of(Lost) == []

    asyncio.run(scenario())


def test_a_venue_that_never_answers_the_upgrade_is_left():
    async def never_answer(reader, writer):
        await reader.read()
        writer.close()

    async def scenario():
        time = FakeTime()
        async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
            async with following(url, time, limits=SocketLimits(open_s=0.01)) as follower:
                assert "timed out during opening handshake" in (await follower.lost(1)).reason

    asyncio.run(scenario())


def below(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for each in kind.__subclasses__():
        yield from below(each)


ERRORS = sorted(
    {*below(exceptions.WebSocketException), *below(OSError), *below(ssl.SSLError), sockets.gaierror, EOFError},
    key=lambda kind: f"{kind.__module__}.{kind.__name__}",
)
ERRORS = [kind for kind in ERRORS if kind.__module__ in {"builtins", "socket", "ssl", "asyncio.exceptions"}
          or kind.__module__.startswith("websockets")]  # fmt: skip


def instance_of(kind: type[Exception]) -> Exception:
    """Return an error, made without the arguments that its class wants."""
    if issubclass(kind, exceptions.ConnectionClosed):
        return kind(Close(1006, ""), None)
    made = kind.__new__(kind)
    made.__dict__ |= {
        "value": "",
        "name": "",
        "field": "",
        "reason": "",
        "scheme": "",
        "proxy": "",
        "msg": "",
        "uri": "",
    }
    return made


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_no_error_of_a_lower_layer_escapes(kind, monkeypatch):
    async def scenario():
        time = FakeTime()

        def fail(*_args, **_settings):
            raise instance_of(kind)

        monkeypatch.setattr(module, "_Connect", fail)
        monkeypatch.setattr(module, "_text_of", lambda error: type(error).__name__)
        async with following("ws://127.0.0.1:1/ws", time) as follower:
            assert (await follower.lost(1)).reason.endswith(f"connection failed: {kind.__name__}")
            assert not follower.task.done()

    asyncio.run(scenario())


def test_a_defect_of_our_own_is_not_taken_for_a_broken_connection(monkeypatch):
    async def scenario():
        time = FakeTime()
        async with scripted_venue(time) as venue:
            monkeypatch.setattr(module, "decode_message", lambda _body: 1 / 0)
            socket = module.VenueSocket(
                module.Endpoints("simulator", "", venue.url), module.Inbox(10), clock=time.clock, sleep=time.sleep
            )
            socket.want(WANTED)
            with pytest.raises(ZeroDivisionError):
                await socket.run()
            await until(lambda: not venue.connections)

    asyncio.run(scenario())
