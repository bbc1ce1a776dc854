"""The inbox: what is replaced, what never is lost, and what an overflow leaves."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from socket_kit import bbo, trade

from mei_pipeline.hyperliquid.codec import decode_message, encode
from mei_pipeline.hyperliquid.inbox import Arrived, Inbox, Lost, Opened, RefusedStream, Subscribed, Unreadable
from mei_pipeline.hyperliquid.wire import Subscription

STREAM = Subscription(type="bbo", coin="BTC")


def arrived(message: dict, seen_s: float = 0.0) -> Arrived:
    return Arrived(decode_message(encode(message)), seen_s)


def candle(coin: str, interval: str, open_ms: int, close: str) -> dict:
    prices = dict.fromkeys("ohl", "1.0") | {"c": close, "v": "1.0"}
    return {"channel": "candle", "data": prices | {"t": open_ms, "T": open_ms + 1, "s": coin, "i": interval, "n": 1}}


def context(coin: str, mark: str) -> dict:
    names = ("funding", "openInterest", "prevDayPx", "dayNtlVlm", "oraclePx", "markPx")
    return {"channel": "activeAssetCtx", "data": {"coin": coin, "ctx": dict.fromkeys(names, mark)}}


def mids(price: str) -> dict:
    return {"channel": "allMids", "data": {"mids": {"BTC": price}}}


def book(price: str) -> dict:
    level = {"px": price, "sz": "1.0", "n": 1}
    return {"channel": "l2Book", "data": {"coin": "BTC", "time": 1, "levels": [[level], [level]]}}


coins = st.sampled_from(["BTC", "ETH"])
prices = st.integers(1, 9).map(str)
replaceable = st.one_of(
    st.builds(bbo, coins, st.just(1), prices),
    st.builds(context, coins, prices),
    st.builds(mids, prices),
    st.builds(candle, coins, st.sampled_from(["1h", "15m"]), st.sampled_from([0, 3_600_000]), prices),
).map(arrived)
kept = st.one_of(
    st.integers(0, 99).map(trade).map(arrived),
    prices.map(book).map(arrived),
    st.just(Opened()),
    st.just(Lost("gone")),
    st.just(Subscribed(STREAM)),
    st.just(RefusedStream(STREAM, "no")),
    st.just(Unreadable("<html>")),
)
READ = "read"


def subject(item: object) -> object:
    """Return what a message is about, in the words of the policy; the item itself if nothing replaces it."""
    if not isinstance(item, Arrived):
        return None
    channel, data = item.message
    return {
        "bbo": lambda: (channel, data.coin),
        "activeAssetCtx": lambda: (channel, data.coin),
        "allMids": lambda: (channel,),
        "candle": lambda: (channel, data.coin, data.interval, data.open_ms),
    }.get(channel, lambda: None)()


def policy(items: list) -> list:
    """Return what a consumer that reads now must get: a message goes if a later one of its connection replaces it."""
    left = []
    for number, item in enumerate(items):
        later = items[number + 1 :]
        breaks = [place for place, other in enumerate(later) if isinstance(other, Lost)]
        same = later[: breaks[0]] if breaks else later
        if subject(item) is None or subject(item) not in [subject(other) for other in same]:
            left.append(item)
    return left


def read(inbox: Inbox) -> list:
    return asyncio.run(inbox.get())


@given(st.lists(st.lists(replaceable | kept, min_size=1, max_size=30), max_size=4))
def test_only_replaced_messages_are_left_out_and_the_order_is_kept(batches: list[list]) -> None:
    inbox = Inbox(1000)
    put = got = 0
    for batch in batches:
        assert all(inbox.put(item) for item in batch)
        items = read(inbox)
        assert items == policy(batch)
        put, got = put + len(batch), got + len(items)
    assert put == got + inbox.replaced
    assert inbox.dropped == 0


@given(st.integers(1, 8), st.lists(replaceable | kept | st.just(READ), max_size=60))
def test_an_overflow_is_told_and_every_item_is_accounted_for(limit: int, script: list) -> None:
    inbox = Inbox(limit)
    put = got = overflows = 0
    waiting: list = []
    for step in [*script, READ]:
        if step == READ:
            if not waiting:
                continue
            items = read(inbox)
            assert len(items) <= limit
            assert items == policy(waiting)
            assert not inbox.overflowed
            got, waiting = got + len(items), []
            continue
        put += 1
        fits = len(policy([*waiting, step])) <= limit
        assert inbox.put(step) == fits
        if fits:
            waiting.append(step)
        else:
            overflows += 1
            assert inbox.overflowed
            waiting = [Lost(f"inbox: the consumer is behind: more than {limit} items wait; all of them are discarded")]
    assert put + overflows == got + inbox.replaced + inbox.dropped


def test_an_older_quote_does_not_replace_a_newer_one() -> None:
    inbox = Inbox(10)
    newer = arrived(bbo(time_ms=20))
    inbox.put(newer)
    inbox.put(arrived(bbo(time_ms=10)))
    assert read(inbox) == [newer]
    assert inbox.replaced == 1


def test_an_overtaken_candle_does_not_replace_the_final_one() -> None:
    final, update = (candle("BTC", "1h", 0, "1.0") for _ in range(2))
    final["data"]["v"] = "2.0"
    for order in ((final, update), (update, final)):
        inbox = Inbox(10)
        for each in order:
            inbox.put(arrived(each))
        assert read(inbox) == [arrived(final)]
        assert inbox.replaced == 1


def test_the_consumer_waits_for_an_item_and_the_socket_for_the_consumer() -> None:
    async def scenario() -> None:
        inbox = Inbox(10)
        reading = asyncio.create_task(inbox.get())
        await asyncio.sleep(0)
        assert not reading.done()
        inbox.put(Opened())
        emptied = asyncio.create_task(inbox.emptied())
        await asyncio.sleep(0)
        assert await reading == [Opened()]
        await emptied

    asyncio.run(scenario())


def test_a_cancelled_read_takes_nothing() -> None:
    async def scenario() -> None:
        inbox = Inbox(10)
        reading = asyncio.create_task(inbox.get())
        await asyncio.sleep(0)
        inbox.put(Opened())
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert await inbox.get() == [Opened()]

    asyncio.run(scenario())
