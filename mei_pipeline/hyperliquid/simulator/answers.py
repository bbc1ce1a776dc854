"""Answers of the info endpoint."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from mei_pipeline.hyperliquid.codec import WrongPayload, decode_request, encode
from mei_pipeline.hyperliquid.simulator.loading import HISTORY_BARS
from mei_pipeline.hyperliquid.simulator.market import SimulatedCoin, SimulatedMarket
from mei_pipeline.hyperliquid.simulator.paths import view_of
from mei_pipeline.hyperliquid.simulator.quotes import (
    book_of,
    candle_of,
    context_of,
    mid_prices,
    recent_trades,
    wire_number,
)
from mei_pipeline.hyperliquid.simulator.shapes import (
    ACCOUNT_ANSWERS,
    ASSET_DATA,
    AccountRequest,
    SentFunding,
    SentMeta,
    SentStatus,
    asset_data,
    spot_meta,
)
from mei_pipeline.hyperliquid.wire import (
    Asset,
    BookRequest,
    Candle,
    CandlesRequest,
    ContextsRequest,
    DexesRequest,
    FundingRequest,
    MarginTable,
    MarginTier,
    MetaRequest,
    MidsRequest,
    SpotMetaRequest,
    StatusRequest,
    TradesRequest,
)

UNKNOWN = b"Failed to deserialize the JSON body into the target type"
FUNDING_ROWS = 500
FLAT_TABLES = 50
"""Margin tables below this number are flat, and their number is their leverage."""

VENUE_INTERVALS = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "8h", "12h", "1d", "3d", "1w", "1M")
_PIECE = 500
_account: msgspec.json.Decoder[AccountRequest] = msgspec.json.Decoder(AccountRequest)


class ReadRequest(NamedTuple):
    """An info request.

    Attributes:
        type: Its `type`; empty if the body is none.
        model: Its content; None if the venue would refuse it.
        coin: Market; None without one.
        interval: Interval of candles; None for others.
    """

    type: str
    model: Any
    coin: str | None = None
    interval: str | None = None


class InfoAnswer(NamedTuple):
    """An answer: HTTP status, body, and number of items in it."""

    status: int
    body: bytes
    items: int = 0


def read_request(body: bytes) -> ReadRequest:
    """Return an info request; its model is None if the simulator does not know it."""
    try:
        model: Any = decode_request(body)
    except WrongPayload:
        return _account_request(body)
    name = str(model.__struct_config__.tag)
    span = model.span if isinstance(model, CandlesRequest) else None
    if span is None and type(model) not in _ANSWERS:
        return _account_request(body)
    if span is not None:
        return ReadRequest(name, model if span.interval in VENUE_INTERVALS else None, span.coin, span.interval)
    return ReadRequest(name, model, getattr(model, "coin", None))


async def answer_to(request: ReadRequest, market: SimulatedMarket, now_ms: int) -> InfoAnswer:
    """Return the answer to a request at a time of the market."""
    if request.model is None:
        return InfoAnswer(422, UNKNOWN)
    if isinstance(request.model, CandlesRequest):
        rows = await candles_in(market, request.model, now_ms)
        return InfoAnswer(200, encode(rows), len(rows))
    if isinstance(request.model, AccountRequest):
        return _account_answer(request.model, market, now_ms)
    answer = _ANSWERS[type(request.model)](market, request.model, now_ms)
    return InfoAnswer(200, encode(answer), _items(answer))


async def candles_in(market: SimulatedMarket, request: CandlesRequest, now_ms: int) -> list[Candle]:
    """Return the candles that overlap a span, oldest first; the last one may be open.

    Only the newest 5,000 of a coin and interval exist. Other tasks run between pieces of a long answer.
    """
    span = request.span
    coin = market.coins.get(span.coin)
    bars = None if coin is None else coin.bars.get(span.interval)
    if coin is None or bars is None:
        return []
    newest = bars.index_at(now_ms)
    end = min(newest, bars.index_at(_clipped(now_ms if span.end_ms is None else span.end_ms)))
    begin = bars.index_at(_clipped(span.start_ms - bars.length_ms)) + 1
    rows: list[Candle] = []
    for index in range(max(begin, newest - HISTORY_BARS + 1), end + 1):
        rows.append(candle_of(coin, span.interval, view_of(coin, bars, index, now_ms)))
        if len(rows) % _PIECE == 0:
            await asyncio.sleep(0)
    return rows


def meta_of(market: SimulatedMarket, now_ms: int) -> SentMeta:
    """Return the perpetuals with the terms in force, and the margin tables that they use.

    A table of one tier states the leverage whose inverse is twice the maintenance margin.
    """
    assets = []
    tables: dict[int, MarginTable] = {}
    for coin in market.coins.values():
        terms = coin.terms_at(now_ms)
        flat = terms.tier_leverage == terms.max_leverage and terms.tier_leverage < FLAT_TABLES
        number = terms.tier_leverage if flat else FLAT_TABLES + terms.tier_leverage
        tier = MarginTier(lower_bound=wire_number(0.0), max_leverage=terms.tier_leverage)
        tables[number] = MarginTable(description=f"{terms.tier_leverage}x", tiers=(tier,))
        assets.append(
            Asset(
                name=coin.name,
                size_decimals=terms.size_decimals,
                max_leverage=terms.max_leverage,
                margin_table_id=number,
                delisted=True if coin.is_delisted(now_ms) else None,
            )
        )
    return SentMeta(universe=tuple(assets), margin_tables=tuple(sorted(tables.items())))


def mids_of(market: SimulatedMarket, now_ms: int) -> dict[str, Any]:
    """Return the mid prices of coins that have begun and are not delisted."""
    mids = ((coin.name, mid_prices(coin, now_ms)) for coin in market.coins.values() if not coin.is_delisted(now_ms))
    return {name: price for name, price in mids if price is not None}


def _contexts(market: SimulatedMarket, _: ContextsRequest, now_ms: int) -> Any:
    return (meta_of(market, now_ms), [context_of(coin, now_ms) for coin in market.coins.values()])


def _book(market: SimulatedMarket, request: BookRequest, now_ms: int) -> Any:
    coin = market.coins.get(request.coin)
    return None if coin is None else book_of(coin, now_ms, request.significant_figures, request.mantissa)


def _trades(market: SimulatedMarket, request: TradesRequest, now_ms: int) -> Any:
    coin = market.coins.get(request.coin)
    return () if coin is None else recent_trades(coin, now_ms)


def _funding(market: SimulatedMarket, request: FundingRequest, now_ms: int) -> Any:
    coin = market.coins.get(request.coin)
    if coin is None:
        return ()
    return funding_rows(coin, request.start_ms, now_ms if request.end_ms is None else min(request.end_ms, now_ms))


def funding_rows(coin: SimulatedCoin, start_ms: int, end_ms: int) -> list[SentFunding]:
    """Return the first rows of funding stamped in [start_ms, end_ms]; an unknown premium is zero."""
    stamps = coin.funding
    rows = zip(stamps.time_ms, stamps.rates, stamps.premiums, strict=True)
    found = [
        SentFunding(coin=coin.name, rate=wire_number(rate), premium=wire_number(premium or 0.0), time_ms=time_ms)
        for time_ms, rate, premium in rows
        if start_ms <= time_ms <= end_ms
    ]
    return found[:FUNDING_ROWS]


_ANSWERS: Mapping[type, Callable[[SimulatedMarket, Any, int], Any]] = {
    MetaRequest: lambda market, _, now_ms: meta_of(market, now_ms),
    ContextsRequest: _contexts,
    SpotMetaRequest: lambda *_: spot_meta(),
    DexesRequest: lambda *_: [None],
    MidsRequest: lambda market, _, now_ms: mids_of(market, now_ms),
    BookRequest: _book,
    TradesRequest: _trades,
    FundingRequest: _funding,
    StatusRequest: lambda _market, _, now_ms: SentStatus(time_ms=now_ms),
}


def _account_request(body: bytes) -> ReadRequest:
    try:
        model = _account.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ReadRequest("", None)
    known = model.type in ACCOUNT_ANSWERS or (model.type == ASSET_DATA and model.coin is not None)
    return ReadRequest(model.type if known else "", model if known else None, model.coin)


def _account_answer(request: AccountRequest, market: SimulatedMarket, now_ms: int) -> InfoAnswer:
    if request.type == ASSET_DATA:
        coin = market.coins.get(request.coin or "")
        answer = None if coin is None else asset_of(coin, request.user, now_ms)
    else:
        answer = ACCOUNT_ANSWERS[request.type](request, now_ms)
    return InfoAnswer(200, encode(answer), _items(answer))


def asset_of(coin: SimulatedCoin, user: str, now_ms: int) -> dict[str, Any]:
    """Return what an empty account can trade of a coin."""
    return asset_data(user, coin.name, coin.terms_at(now_ms).max_leverage, context_of(coin, now_ms).mark_price)


def _items(answer: Any) -> int:
    """Return the number of items of an answer that is a list."""
    return len(answer) if isinstance(answer, Sequence) and not isinstance(answer, str) else 0


def _clipped(time_ms: int) -> int:
    return min(max(time_ms, -(1 << 62)), 1 << 62)
