"""The socket over real connections: what it asks, what it tells, and how it comes back."""

import asyncio
import socket as sockets
from collections import Counter
from http import HTTPStatus

import pytest
from socket_kit import (
    LIMITS,
    WANTED,
    FakeTime,
    acknowledgement,
    bbo,
    error,
    following,
    reply,
    reset,
    scripted_venue,
    trade,
    until,
)
from websockets.datastructures import Headers
from websockets.http11 import Response

from mei_pipeline.errors import ConfigError
from mei_pipeline.hyperliquid.codec import encode
from mei_pipeline.hyperliquid.inbox import Lost, Opened, RefusedStream, Subscribed, Unreadable
from mei_pipeline.hyperliquid.wire import PingCommand, SubscribeCommand, Subscription, UnsubscribeCommand

QUOTES, CANDLES = WANTED[:2]


async def close_normally(connection) -> None:
    await connection.close(1000)


async def close_without_a_frame(connection) -> None:
    connection.transport.close()


async def reset_by_tcp(connection) -> None:
    reset(connection)


async def send_half_a_frame(connection) -> None:
    connection.transport.write(b"\x81\x7e\x01")
    connection.transport.close()


async def break_the_protocol(connection) -> None:
    connection.transport.write(b"<html>502 Bad Gateway</html>" * 10)


BREAKS = (close_normally, close_without_a_frame, reset_by_tcp, send_half_a_frame, break_the_protocol)


@pytest.mark.parametrize("greeting", ["", "Websocket connection established."])
def test_streams_are_acknowledged_and_deliver(greeting):
    async def scenario():
        time = FakeTime()
        async with scripted_venue(time, greeting=greeting) as venue, following(venue.url, time) as follower:
            await follower.settled()
            time.now_s = 1003.5
            await venue.say(bbo(), {"channel": "notOurs", "data": {}}, trade(7))
            await until(lambda: len(follower.messages()) == 2)
            assert follower.items[0] == Opened()
            assert Counter(follower.all_of(Subscribed)) == Counter(map(Subscribed, WANTED))
            assert [(each.message.channel, each.seen_s) for each in follower.items[-2:]] == [
                ("bbo", 1003.5),
                ("trades", 1003.5),
            ]
            assert len(follower.items) == 1 + len(WANTED) + 2
            assert Counter(venue.streams()) == Counter(WANTED)

    asyncio.run(scenario())


@pytest.mark.parametrize("broken", BREAKS)
def test_every_break_is_told_and_all_streams_come_back(broken):
    async def scenario():
        time = FakeTime()
        async with scripted_venue(time) as venue, following(venue.url, time) as follower:
            for number in range(1, 4):
                await follower.opened(number)
                await follower.settled()
                assert Counter(venue.streams(number - 1)) == Counter(WANTED)
                await broken(venue.connections[-1])
                lost = await follower.lost(number)
                assert lost.reason.startswith(venue.url)
            assert len(follower.all_of(Lost)) == 3

    asyncio.run(scenario())


def test_a_half_open_connection_is_noticed_by_the_missing_pong():
    async def scenario():
        time = FakeTime()
        async with scripted_venue(time) as venue, following(venue.url, time) as follower:
            await follower.settled()
            await time.advance(LIMITS.ping_s)
            await until(lambda: PingCommand() in venue.received[0])
            await venue.say(bbo())
            await until(follower.messages)
            await time.advance(LIMITS.pong_s)  # that ping was answered
            venue.connections[0].transport.pause_reading()
            await asyncio.sleep(0.01)
            assert follower.all_of(Lost) == []
            await time.advance(LIMITS.ping_s - LIMITS.pong_s)
            await until(lambda: time.now_s + LIMITS.pong_s in time.sleepers.values())
            await time.advance(LIMITS.pong_s)
            lost = await follower.lost(1)
            assert "no answer to a ping within 10 s" in lost.reason
            await follower.opened(2)
            await follower.settled()

    asyncio.run(scenario())


def test_a_venue_that_acknowledges_nothing_is_left():
    async def silence(connection, command):
        pass

    async def scenario():
        time = FakeTime()
        async with scripted_venue(time, answer=silence) as venue, following(venue.url, time) as follower:
            await until(lambda: len(venue.received) == 1 and len(venue.streams()) == len(WANTED))
            await time.advance(LIMITS.ack_s)
            assert "none of 4 subscriptions acknowledged within 10 s" in (await follower.lost(1)).reason
            venue.answer = reply
            await follower.opened(2)
            await follower.settled()

    asyncio.run(scenario())


def test_a_venue_that_reads_nothing_is_left_even_while_sending_blocks():
    wanted = [Subscription(type="bbo", coin=f"{number:010000}") for number in range(1000)]

    async def scenario():
        time = FakeTime()
        own = sockets.create_server(("127.0.0.1", 0))
        own.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)

        async def handle(connection):
            connection.transport.pause_reading()
            await connection.wait_closed()

        async with scripted_venue(time, sock=own) as venue:
            venue.handle = handle
            async with following(venue.url, time, wanted) as follower:
                await follower.opened(1)
                await until(lambda: time.now_s + LIMITS.ack_s in time.sleepers.values())
                await time.advance(LIMITS.ack_s)
                assert "none of 1000 subscriptions" in (await follower.lost(1)).reason

    asyncio.run(scenario())


def test_a_missing_acknowledgement_is_told_and_asked_again():
    async def all_but_candles(connection, command):
        if isinstance(command, PingCommand) or command.subscription != CANDLES:
            await reply(connection, command)

    async def scenario():
        time = FakeTime()
        async with scripted_venue(time, answer=all_but_candles) as venue, following(venue.url, time) as follower:
            for attempt, wait_s in ((1, 10), (2, 20)):
                await until(lambda: len(follower.acknowledged()) == len(WANTED) - 1)
                await until(lambda: venue.streams().count(CANDLES) == attempt)  # noqa: B023 - called at once
                assert follower.all_of(RefusedStream) == []
                await time.advance(wait_s)
            venue.answer = reply  # before the third attempt arrives
            await follower.settled()
            assert follower.all_of(RefusedStream) == [RefusedStream(CANDLES, "no acknowledgement, 2 times")]
            assert follower.all_of(Lost) == []
            assert len(venue.received) == 1

    asyncio.run(scenario())


def test_a_refused_stream_is_told_once_and_the_others_go_on():
    async def refuse_candles(connection, command):
        if isinstance(command, SubscribeCommand) and command.subscription == CANDLES:
            await connection.send(encode(error(f"Invalid subscription {encode(CANDLES).decode()}")).decode())
        else:
            await reply(connection, command)

    async def scenario():
        time = FakeTime()
        async with scripted_venue(time, answer=refuse_candles) as venue, following(venue.url, time) as follower:
            await follower.settled(set(WANTED) - {CANDLES})
            await until(lambda: follower.all_of(RefusedStream))
            (refused,) = follower.all_of(RefusedStream)
            assert refused.subscription == CANDLES
            assert refused.text.startswith("Invalid subscription")
            follower.socket.want(WANTED)
            await venue.say(bbo())
            await until(follower.messages)
            assert venue.streams().count(CANDLES) == 1
            venue.answer = reply
            await follower.socket.renew(CANDLES)
            await follower.settled()

    asyncio.run(scenario())


def test_an_error_that_names_no_stream_is_told():
    async def scenario():
        time = FakeTime()
        async with scripted_venue(time) as venue, following(venue.url, time) as follower:
            await follower.settled()
            await venue.say(error("Cannot send more than 2000 messages per minute."))
            await until(lambda: follower.all_of(RefusedStream))
            assert follower.items[-1] == RefusedStream(None, "Cannot send more than 2000 messages per minute.")

    asyncio.run(scenario())


def test_an_open_connection_is_sent_the_differences():
    async def scenario():
        time = FakeTime()
        async with scripted_venue(time) as venue, following(venue.url, time, [QUOTES, CANDLES]) as follower:
            await follower.settled([QUOTES, CANDLES])
            del venue.received[0][:]
            follower.socket.want([CANDLES, WANTED[2]])
            await until(lambda: Subscribed(WANTED[2]) in follower.items)
            assert venue.received == [
                [UnsubscribeCommand(subscription=QUOTES), SubscribeCommand(subscription=WANTED[2])],
            ]
            follower.socket.want([])
            await until(lambda: len(venue.received[0]) == 4)
            await close_normally(venue.connections[0])
            await follower.opened(2)
            assert venue.received[1] == []

    asyncio.run(scenario())


def test_one_stream_is_renewed():
    async def scenario():
        time = FakeTime()
        async with scripted_venue(time) as venue, following(venue.url, time) as follower:
            await follower.settled()
            del venue.received[0][:]
            await follower.socket.renew(CANDLES)
            await until(lambda: follower.all_of(Subscribed).count(Subscribed(CANDLES)) == 2)
            assert venue.received == [
                [UnsubscribeCommand(subscription=CANDLES), SubscribeCommand(subscription=CANDLES)]
            ]

    asyncio.run(scenario())


def test_a_renewal_without_a_connection_waits_for_the_next_one():
    async def scenario():
        time = FakeTime()
        async with scripted_venue(time) as venue, following(venue.url, time) as follower:
            await follower.settled()
            await close_normally(venue.connections[0])
            await follower.lost(1)
            await follower.socket.renew(CANDLES)
            await follower.opened(2)
            await follower.settled()
            assert venue.received[1] == [SubscribeCommand(subscription=each) for each in WANTED]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "garbage", ["<html>502</html>", "{", b"\xff\xfe", "[]", '{"channel":"bbo","data":{"coin":5}}', '{"channel":7}']
)
def test_nonsense_is_told_and_skipped(garbage):
    async def scenario():
        time = FakeTime()
        async with scripted_venue(time) as venue, following(venue.url, time) as follower:
            await follower.settled()
            await venue.say(garbage, bbo())
            await until(follower.messages)
            assert [type(each) for each in follower.items[-2:-1]] == [Unreadable]
            assert follower.items[-2].text.startswith("Hyperliquid: ")
            assert follower.all_of(Lost) == []

    asyncio.run(scenario())


def test_a_message_that_is_too_large_ends_the_connection():
    async def scenario():
        time = FakeTime()
        async with scripted_venue(time) as venue, following(venue.url, time) as follower:
            await follower.settled()
            await venue.say("x" * (LIMITS.message_bytes + 1))
            assert "1009" in (await follower.lost(1)).reason

    asyncio.run(scenario())


def test_a_flood_of_quotes_leaves_the_newest_of_each_coin():
    async def scenario():
        time = FakeTime()
        async with scripted_venue(time) as venue, following(venue.url, time, room=50) as follower:
            await follower.settled()
            follower.reads = False
            await venue.say(bbo("ETH"))  # the consumer stops after the read that it has begun
            await until(follower.messages)
            await venue.say(*(bbo(coin, number) for number in range(1, 500) for coin in ("BTC", "ETH")))
            await until(lambda: follower.inbox.replaced == 2 * 498)
            follower.reads = True
            await until(lambda: len(follower.messages()) == 3)
            assert [(each.data.coin, each.data.time_ms) for each in follower.messages()[1:]] == [
                ("BTC", 499),
                ("ETH", 499),
            ]
            assert follower.inbox.dropped == 0
            assert follower.all_of(Lost) == []

    asyncio.run(scenario())


def test_a_consumer_that_stops_reading_loses_the_connection_and_is_told():
    async def scenario():
        time = FakeTime()
        async with scripted_venue(time) as venue, following(venue.url, time, room=50) as follower:
            await follower.settled()
            follower.reads = False
            await venue.say(bbo())
            await until(follower.messages)
            await venue.say(*(trade(number) for number in range(60)))
            await until(lambda: follower.inbox.overflowed and not venue.connections)
            time.advance_to(3600)
            await asyncio.sleep(0.02)
            assert len(venue.opened_s) == 1
            assert follower.inbox.dropped == 51
            follower.reads = True
            lost = await follower.lost(1)
            assert lost.reason.startswith("inbox: the consumer is behind: more than 50 items wait")
            await follower.opened(2)
            await follower.settled()
            assert len(follower.all_of(Lost)) == 1
            assert [each.channel for each in follower.messages()] == ["bbo"]

    asyncio.run(scenario())


def answer_status(status, **headers):
    def process_request(_connection, _request):
        return Response(status, "", Headers(headers), b"<html>no</html>")

    return process_request


@pytest.mark.parametrize(
    ("respond", "told"),
    [
        (answer_status(HTTPStatus.BAD_GATEWAY), "HTTP 502"),
        (answer_status(HTTPStatus.TOO_MANY_REQUESTS), "HTTP 429"),
        (answer_status(HTTPStatus.OK), "HTTP 200"),
        (answer_status(HTTPStatus.FOUND, Location="ws://127.0.0.1:9/ws"), "HTTP 302"),
    ],
)
def test_an_upgrade_that_is_refused_is_told(respond, told):
    async def scenario():
        time = FakeTime()
        async with scripted_venue(time, process_request=respond) as venue, following(venue.url, time) as follower:
            assert told in (await follower.lost(1)).reason
            assert follower.items == [await follower.lost(1)]

    asyncio.run(scenario())


@pytest.mark.parametrize("body", [b"<html>502 Bad Gateway</html>\r\n\r\n", b"", b"\x00\xff" * 100, b"HTTP/1.1 101"])
def test_something_else_than_an_upgrade_is_told(body):
    async def handle(_reader, writer):
        writer.write(body)
        await writer.drain()
        writer.close()

    async def scenario():
        time = FakeTime()
        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
            async with following(url, time) as follower:
                assert (await follower.lost(1)).reason.startswith(f"{url}: connection failed: ")

    asyncio.run(scenario())


def test_too_many_streams_are_refused_before_the_venue_does():
    async def scenario():
        time = FakeTime()
        wanted = [Subscription(type="bbo", coin=str(number)) for number in range(1001)]
        async with scripted_venue(time) as venue, following(venue.url, time, []) as follower:
            with pytest.raises(ConfigError, match="1001 streams are wanted, but one feed can have at most 1000"):
                follower.socket.want(wanted)

    asyncio.run(scenario())


def test_the_kits_acknowledgement_adds_fields():
    assert acknowledgement(SubscribeCommand(subscription=QUOTES))["data"]["subscription"].keys() > {"type", "coin"}
