"""MEI's own client and socket read the exchange simulator, and count the same weights."""

import asyncio
from pathlib import Path
from typing import Any

from feed_kit import HOLED, SYMBOLS
from simulator_kit import ACCOUNT, START_MS, Running, lake_market, simulate, small_market

from mei_pipeline.candles.intervals import HOUR_MS
from mei_pipeline.candles.lake import read_candles, read_funding
from mei_pipeline.hyperliquid import budget
from mei_pipeline.hyperliquid.client import InfoClient
from mei_pipeline.hyperliquid.codec import encode
from mei_pipeline.hyperliquid.inbox import Arrived, Inbox, Subscribed
from mei_pipeline.hyperliquid.network import endpoints_of
from mei_pipeline.hyperliquid.simulator.answers import read_request
from mei_pipeline.hyperliquid.simulator.limits import surcharge_of, weight_of
from mei_pipeline.hyperliquid.simulator.state import SimulatorOptions
from mei_pipeline.hyperliquid.socket import VenueSocket
from mei_pipeline.hyperliquid.wire import (
    BookRequest,
    CandleSpan,
    CandlesRequest,
    ContextsRequest,
    DexesRequest,
    FundingRequest,
    MetaRequest,
    MidsRequest,
    PerpAccountRequest,
    RoleRequest,
    SpotMetaRequest,
    StatusRequest,
    Subscription,
    TradesRequest,
)

REQUESTS = (
    MetaRequest(),
    ContextsRequest(),
    SpotMetaRequest(),
    DexesRequest(),
    MidsRequest(),
    BookRequest(coin="BTC"),
    TradesRequest(coin="BTC"),
    CandlesRequest(span=CandleSpan(coin="BTC", interval="1h", start_ms=0)),
    FundingRequest(coin="BTC", start_ms=0),
    StatusRequest(),
    PerpAccountRequest(user=ACCOUNT),
    RoleRequest(user=ACCOUNT),
)


def test_both_sides_count_the_same_weights() -> None:
    for request in REQUESTS:
        asked = read_request(encode(request))
        assert asked.model is not None
        assert weight_of(asked.type) == budget.weight_of(request)
        for rows in (0, 19, 20, 500, 5_000):
            assert surcharge_of(asked.type, rows) == budget.surcharge_of(request, rows)


def test_the_client_decodes_every_answer(tmp_path: Path) -> None:
    lake, loaded = lake_market(tmp_path)

    async def scenario(running: Running) -> None:
        endpoints = endpoints_of("simulator", running.url)
        shared = budget.RateBudget(tmp_path / "budget", per_minute=100_000)
        async with InfoClient(endpoints, shared) as client:
            for request in REQUESTS[:10]:
                named = {"coin": HOLED} if hasattr(request, "coin") else {}
                assert await client.ask(type(request)(**{**_fields(request), **named})) is not None
            for symbol in SYMBOLS:
                rows = await client.candles(symbol, "15m", 0, START_MS - 1)
                stored = read_candles(lake, "test", "15m", [symbol], None, START_MS)
                got = [(row.open_ms, float(row.open), float(row.close), float(row.volume)) for row in rows]
                assert got == stored.select("open_ms", "open", "close", "volume").rows()
            funding = await client.funding(HOLED, START_MS - 20 * HOUR_MS, START_MS)
            kept = read_funding(lake, "test", [HOLED], START_MS - 20 * HOUR_MS, START_MS + 1)
            assert [(row.time_ms, float(row.rate)) for row in funding] == kept.select("time_ms", "rate").rows()

    simulate(loaded, scenario)


def _fields(request: Any) -> dict[str, Any]:
    return {name: getattr(request, name) for name in request.__struct_fields__}


def test_the_socket_follows_the_streams() -> None:
    loaded = small_market()
    wanted = (
        Subscription(type="bbo", coin="BTC"),
        Subscription(type="candle", coin="ETH", interval="15m"),
        Subscription(type="activeAssetCtx", coin="BTC"),
        Subscription(type="l2Book", coin="ETH"),
        Subscription(type="allMids"),
    )

    async def scenario(running: Running) -> None:
        inbox = Inbox(10_000)
        socket = VenueSocket(endpoints_of("simulator", running.url), inbox)
        socket.want(wanted)
        task = asyncio.create_task(socket.run())
        acknowledged, channels = set(), set()
        while len(acknowledged) < len(wanted) or len(channels) < len(wanted):
            running.time.now_s += 1.0
            for item in await inbox.get():
                if isinstance(item, Subscribed):
                    acknowledged.add(item.subscription)
                elif isinstance(item, Arrived):
                    channels.add(item.message.channel)
        task.cancel()
        await asyncio.wait([task])
        assert acknowledged == set(wanted)

    simulate(loaded, scenario, SimulatorOptions(updates=20.0))
