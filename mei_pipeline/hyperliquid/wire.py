"""Wire names of Hyperliquid: one model for each payload, with the venue's name of each field.

This is the only module that spells names of the venue, which has announced new ones. The models read what MEI uses
and ignore unknown fields. Numbers that the venue writes as decimal strings are `Decimal`; they must be finite. Times
are UTC milliseconds.
"""

from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

Time = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_000)]
"""Time in UTC milliseconds, up to the end of the year 9999."""

Count = Annotated[int, msgspec.Meta(ge=0)]

_LARGEST_EXPONENT = 40


def check_finite(number: Decimal) -> None:
    """Raise `ValueError` if a number is NaN or infinite, or too large or small for any price, size or amount."""
    if not number.is_finite() or (number and abs(number.adjusted()) > _LARGEST_EXPONENT):
        raise ValueError(f"not a number that a venue can mean: {number}")


class Wire(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of a payload. Fields that have their defaults are left out when it is encoded."""

    def __post_init__(self) -> None:
        """Check every number."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if type(value) is Decimal:
                check_finite(value)


# --- markets


class Asset(
    Wire,
    frozen=True,
    rename={
        "size_decimals": "szDecimals",
        "max_leverage": "maxLeverage",
        "margin_table_id": "marginTableId",
        "delisted": "isDelisted",
        "only_isolated": "onlyIsolated",
        "margin_mode": "marginMode",
    },
):
    """A perpetual of `meta`; its place in the list is its id in orders.

    Attributes:
        name: Name of the market, such as `BTC`.
        size_decimals: Decimals of sizes.
        max_leverage: Maximum leverage of the smallest positions.
        margin_table_id: Number of its margin table; below 50 a flat table with that leverage. None in old answers.
        delisted: True once it is no longer traded.
        only_isolated: True if positions are isolated.
        margin_mode: `strictIsolated`, `noCross`, or None.
    """

    name: str
    size_decimals: Annotated[int, msgspec.Meta(ge=0, le=12)]
    max_leverage: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    margin_table_id: int | None = None
    delisted: bool | None = None
    only_isolated: bool | None = None
    margin_mode: str | None = None


class MarginTier(Wire, frozen=True, rename={"lower_bound": "lowerBound", "max_leverage": "maxLeverage"}):
    """A tier of a margin table: the leverage of positions from a notional on, USD."""

    lower_bound: Decimal
    max_leverage: int


class MarginTable(Wire, frozen=True, rename={"tiers": "marginTiers"}):
    """A margin table."""

    description: str = ""
    tiers: tuple[MarginTier, ...] = ()


class Meta(Wire, frozen=True, rename={"margin_tables": "marginTables", "collateral_token": "collateralToken"}):
    """Answer to `meta`: the perpetuals of a dex.

    Attributes:
        universe: The markets, delisted ones too.
        margin_tables: Number and content of each margin table.
        collateral_token: Index of the token of margin; 0 for USDC.
    """

    universe: tuple[Asset, ...]
    margin_tables: tuple[tuple[int, MarginTable], ...] = ()
    collateral_token: int = 0


class AssetContext(
    Wire,
    frozen=True,
    rename={
        "open_interest": "openInterest",
        "previous_day_price": "prevDayPx",
        "day_notional": "dayNtlVlm",
        "oracle_price": "oraclePx",
        "mark_price": "markPx",
        "mid_price": "midPx",
        "impact_prices": "impactPxs",
        "day_volume": "dayBaseVlm",
    },
):
    """State of a market: prices in USD, open interest and volume in coins.

    `funding` is the hourly rate that falls due at the next full hour, as far as it is known. `mid_price`, `premium` and
    `impact_prices` are None for a market without a book.
    """

    funding: Decimal
    open_interest: Decimal
    previous_day_price: Decimal
    day_notional: Decimal
    oracle_price: Decimal
    mark_price: Decimal
    premium: Decimal | None = None
    mid_price: Decimal | None = None
    impact_prices: tuple[Decimal, ...] | None = None
    day_volume: Decimal | None = None


class Candle(
    Wire,
    frozen=True,
    rename={
        "open_ms": "t",
        "close_ms": "T",
        "coin": "s",
        "interval": "i",
        "open": "o",
        "close": "c",
        "high": "h",
        "low": "l",
        "volume": "v",
        "trades": "n",
    },
):
    """A candle. `close_ms` is its last millisecond; `volume` is in coins; prices are those of trades."""

    open_ms: Time
    close_ms: Time
    coin: str
    interval: str
    open: Decimal
    close: Decimal
    high: Decimal
    low: Decimal
    volume: Decimal
    trades: Count = 0


class FundingHour(Wire, frozen=True, rename={"rate": "fundingRate", "time_ms": "time"}):
    """A row of `fundingHistory`: the rate of the hour that ended at about `time_ms`."""

    coin: str
    rate: Decimal
    time_ms: Time
    premium: Decimal | None = None


class Level(Wire, frozen=True, rename={"price": "px", "size": "sz", "orders": "n"}):
    """A level of an order book."""

    price: Decimal
    size: Decimal
    orders: Count = 0


class OrderBook(Wire, frozen=True, rename={"time_ms": "time"}):
    """An order book: bids with the highest first, then asks with the lowest first."""

    coin: str
    levels: tuple[tuple[Level, ...], tuple[Level, ...]]
    time_ms: Time = 0


class BestQuote(Wire, frozen=True, rename={"time_ms": "time", "quotes": "bbo"}):
    """The best bid and ask; None for an empty side."""

    coin: str
    time_ms: Time
    quotes: tuple[Level | None, Level | None]


class Trade(Wire, frozen=True, rename={"price": "px", "size": "sz", "time_ms": "time", "trade_id": "tid"}):
    """A trade. `side` is that of the aggressor: `B` bought, `A` sold."""

    coin: str
    side: Literal["A", "B"]
    price: Decimal
    size: Decimal
    time_ms: Time
    trade_id: int = 0
    hash: str = ""
    users: tuple[str, ...] = ()


class ExchangeStatus(Wire, frozen=True, rename={"time_ms": "time", "special": "specialStatuses"}):
    """The clock of the venue, and special states; None for none."""

    time_ms: Time
    special: Any = None


class SpotPair(Wire, frozen=True, rename={"canonical": "isCanonical"}):
    """A spot pair: indices of its base and quote token."""

    name: str
    tokens: tuple[int, ...]
    index: int
    canonical: bool = False


class SpotToken(
    Wire,
    frozen=True,
    rename={
        "size_decimals": "szDecimals",
        "wei_decimals": "weiDecimals",
        "token_id": "tokenId",
        "canonical": "isCanonical",
    },
):
    """A token. The list of tokens has gaps: look it up by `index`."""

    name: str
    size_decimals: int
    wei_decimals: int
    index: int
    token_id: str = ""
    canonical: bool = False


class SpotMeta(Wire, frozen=True):
    """Answer to `spotMeta`."""

    universe: tuple[SpotPair, ...]
    tokens: tuple[SpotToken, ...]


# --- requests of the info endpoint


class MetaRequest(Wire, frozen=True, tag_field="type", tag="meta"):
    """Ask for the perpetuals of a dex; answered by `Meta`."""

    dex: str | None = None


class ContextsRequest(Wire, frozen=True, tag_field="type", tag="metaAndAssetCtxs"):
    """Ask for the perpetuals and the state of each; answered by `Meta` and a list of `AssetContext`."""

    dex: str | None = None


class SpotMetaRequest(Wire, frozen=True, tag_field="type", tag="spotMeta"):
    """Ask for tokens and spot pairs; answered by `SpotMeta`."""


class DexesRequest(Wire, frozen=True, tag_field="type", tag="perpDexs"):
    """Ask for the perpetual dexes; the first one is null."""


class MidsRequest(Wire, frozen=True, tag_field="type", tag="allMids"):
    """Ask for all mid prices; answered by an object of prices by coin."""

    dex: str | None = None


class BookRequest(Wire, frozen=True, tag_field="type", tag="l2Book", rename={"significant_figures": "nSigFigs"}):
    """Ask for an order book; answered by `OrderBook`, or null for an unknown coin."""

    coin: str
    significant_figures: int | None = None
    mantissa: int | None = None


class TradesRequest(Wire, frozen=True, tag_field="type", tag="recentTrades"):
    """Ask for the latest trades; answered by a list of `Trade`, newest first."""

    coin: str


class CandleSpan(Wire, frozen=True, rename={"start_ms": "startTime", "end_ms": "endTime"}):
    """Candles that overlap [start_ms, end_ms]; to the present without an end."""

    coin: str
    interval: str
    start_ms: int
    end_ms: int | None = None


class CandlesRequest(Wire, frozen=True, tag_field="type", tag="candleSnapshot", rename={"span": "req"}):
    """Ask for candles; answered by a list of `Candle`, oldest first, the newest 5,000 at most."""

    span: CandleSpan


class FundingRequest(
    Wire, frozen=True, tag_field="type", tag="fundingHistory", rename={"start_ms": "startTime", "end_ms": "endTime"}
):
    """Ask for funding rates; answered by a list of `FundingHour`, oldest first, 500 at most."""

    coin: str
    start_ms: int
    end_ms: int | None = None


class StatusRequest(Wire, frozen=True, tag_field="type", tag="exchangeStatus"):
    """Ask for the venue's clock; answered by `ExchangeStatus`."""


MarketRequest = (
    MetaRequest
    | ContextsRequest
    | SpotMetaRequest
    | DexesRequest
    | MidsRequest
    | BookRequest
    | TradesRequest
    | CandlesRequest
    | FundingRequest
    | StatusRequest
)
"""A request that needs no account."""

ANSWERS: dict[type[Wire], Any] = {
    MetaRequest: Meta,
    ContextsRequest: tuple[Meta, tuple[AssetContext, ...]],
    SpotMetaRequest: SpotMeta,
    DexesRequest: tuple[Any, ...],
    MidsRequest: dict[str, Decimal],
    BookRequest: OrderBook | None,
    TradesRequest: tuple[Trade, ...],
    CandlesRequest: tuple[Candle, ...],
    FundingRequest: tuple[FundingHour, ...],
    StatusRequest: ExchangeStatus,
}
"""Type of the answer to each request."""


# --- messages of the WebSocket


class Subscription(Wire, frozen=True):
    """A stream, such as `{"type": "candle", "coin": "BTC", "interval": "1h"}`.

    Attributes:
        type: Kind of the stream.
        coin: Market; None for a stream of all.
        interval: Interval of candles; None for other streams.
        user: Account; None for market data.
    """

    type: str
    coin: str | None = None
    interval: str | None = None
    user: str | None = None


CANDLE, BBO, CONTEXT, MIDS, TRADES, BOOK = "candle", "bbo", "activeAssetCtx", "allMids", "trades", "l2Book"
"""Kinds of streams, which are also their channels."""


class SubscribeCommand(Wire, frozen=True, tag_field="method", tag="subscribe"):
    """Begin a stream."""

    subscription: Subscription


class UnsubscribeCommand(Wire, frozen=True, tag_field="method", tag="unsubscribe"):
    """End a stream."""

    subscription: Subscription


class PingCommand(Wire, frozen=True, tag_field="method", tag="ping"):
    """Ask for a sign of life, which is a message on the channel `pong`."""


class PostRequest(Wire, frozen=True):
    """A request of the REST interface inside a WebSocket."""

    type: str
    payload: msgspec.Raw


class PostCommand(Wire, frozen=True, tag_field="method", tag="post"):
    """Send a request over the WebSocket; the answer has the same id."""

    id: int
    request: PostRequest


SocketCommand = SubscribeCommand | UnsubscribeCommand | PingCommand | PostCommand
"""A message to the venue."""


class Envelope(Wire, frozen=True):
    """A message of the venue; `data` is decoded by its channel."""

    channel: str
    data: msgspec.Raw = msgspec.Raw(b"null")


class SubscriptionAnswer(Wire, frozen=True):
    """Acknowledgement of a subscription; the venue adds fields to it, so compare those that were sent."""

    method: Literal["subscribe", "unsubscribe"]
    subscription: Subscription


class Mids(Wire, frozen=True):
    """All mid prices, by coin."""

    mids: dict[str, Decimal]


class CoinContext(Wire, frozen=True, rename={"context": "ctx"}):
    """State of one market."""

    coin: str
    context: AssetContext


ACKNOWLEDGED, PONG, ERROR = "subscriptionResponse", "pong", "error"
"""Channels that belong to no stream."""

CHANNELS: dict[str, Any] = {
    ACKNOWLEDGED: SubscriptionAnswer,
    PONG: None | Any,
    ERROR: str,
    MIDS: Mids,
    BBO: BestQuote,
    BOOK: OrderBook,
    TRADES: tuple[Trade, ...],
    CANDLE: Candle,
    CONTEXT: CoinContext,
}
"""Type of the data of each channel that is known; other channels are ignored."""
