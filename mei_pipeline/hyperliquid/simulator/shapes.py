"""Payloads that only the exchange simulator needs: complete models, acknowledgements, and answers for an empty account.

`wire` has the payloads that MEI reads. Its models leave out fields that have their defaults; the venue sends them.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec

from mei_pipeline.hyperliquid.wire import (
    AssetContext,
    Candle,
    ExchangeStatus,
    FundingHour,
    Meta,
    SpotMeta,
    SpotPair,
    SpotToken,
    Wire,
)


class SentCandle(Candle, frozen=True, kw_only=True, omit_defaults=False):
    """A candle with all its fields."""


class SentContext(AssetContext, frozen=True, kw_only=True, omit_defaults=False):
    """State of a market with all its fields."""


class SentMeta(Meta, frozen=True, kw_only=True, omit_defaults=False):
    """Perpetuals with all fields."""


class SentFunding(FundingHour, frozen=True, kw_only=True, omit_defaults=False):
    """A row of funding with all its fields."""


class SentStatus(ExchangeStatus, frozen=True, kw_only=True, omit_defaults=False):
    """State of the venue with all its fields."""


class SentFrame(Wire, frozen=True):
    """A message of the WebSocket."""

    channel: str
    data: Any = None


class SentContextOf(Wire, frozen=True, rename={"context": "ctx"}):
    """State of one market."""

    coin: str
    context: SentContext


class StreamRequest(Wire, frozen=True, rename={"figures": "nSigFigs", "aggregate": "aggregateByTime"}):
    """A subscription with the parameters that the venue knows.

    Attributes:
        type: Kind of the stream.
        coin: Market.
        interval: Interval of candles.
        user: Account.
        dex: Dex; empty for the first one.
        figures: Significant figures of an order book.
        mantissa: Multiple of the last figure of an order book.
        fast: True for a book of few levels that is sent often.
        aggregate: True for fills added up by order.
    """

    type: str
    coin: str | None = None
    interval: str | None = None
    user: str | None = None
    dex: str | None = None
    figures: int | None = None
    mantissa: int | None = None
    fast: bool | None = None
    aggregate: bool | None = None


class StreamCommand(Wire, frozen=True):
    """A message of a client; `subscription` is decoded after the method is known."""

    method: str
    subscription: msgspec.Raw = msgspec.Raw(b"null")
    id: Annotated[int, msgspec.Meta(ge=0)] | None = None
    request: msgspec.Raw = msgspec.Raw(b"null")


class AccountRequest(Wire, frozen=True):
    """A request about an account."""

    type: str
    user: str
    coin: str | None = None
    oid: int | str | None = None


BOOK_DEFAULTS: Mapping[str, Any] = {"nSigFigs": None, "mantissa": None, "fast": False}
"""Parameters of a book that an acknowledgement has although the client sent none."""

ACCOUNT_STREAMS: Mapping[str, str | None] = {
    "orderUpdates": None,
    "userEvents": None,
    "userFills": "fills",
    "userFundings": "fundings",
    "userNonFundingLedgerUpdates": "nonFundingLedgerUpdates",
    "activeAssetData": None,
}
"""Streams of an account; those with a snapshot have the name of its list."""

ASSET_DATA = "activeAssetData"
REFUSED_STREAM = "webData2"
"""Stream that the venue refuses since 2026, though it is documented."""


def snapshot_data(stream: str, user: str) -> dict[str, Any]:
    """Return the first message of a stream of an empty account."""
    return {"isSnapshot": True, "user": user, str(ACCOUNT_STREAMS[stream]): []}


def post_data(number: int, kind: str, payload: Any) -> dict[str, Any]:
    """Return the answer to a request that came over the WebSocket."""
    return {"id": number, "response": {"type": kind, "payload": payload}}


def spot_meta() -> SpotMeta:
    """Return tokens and pairs: the one pair with a name of its own."""
    usdc = SpotToken(
        name="USDC",
        size_decimals=8,
        wei_decimals=8,
        index=0,
        token_id="0x6d1e7cde53ba9467b783cb7c530ce054",  # noqa: S106 - an address, no secret
        canonical=True,
    )
    purr = SpotToken(
        name="PURR",
        size_decimals=0,
        wei_decimals=5,
        index=1,
        token_id="0xc1fb593aeffbeb02f85e0308e9956a90",  # noqa: S106 - an address, no secret
        canonical=True,
    )
    return SpotMeta(universe=(SpotPair(name="PURR/USDC", tokens=(1, 0), index=0, canonical=True),), tokens=(usdc, purr))


_NOTHING: list[Any] = []


def _margin() -> dict[str, str]:
    return dict.fromkeys(("accountValue", "totalNtlPos", "totalRawUsd", "totalMarginUsed"), "0.0")


def _perpetuals(_: AccountRequest, now_ms: int) -> Any:
    return {
        "marginSummary": _margin(),
        "crossMarginSummary": _margin(),
        "crossMaintenanceMarginUsed": "0.0",
        "withdrawable": "0.0",
        "assetPositions": _NOTHING,
        "time": now_ms,
    }


def _rate_limit(_: AccountRequest, _now_ms: int) -> Any:
    return {"cumVlm": "0.0", "nRequestsUsed": 0, "nRequestsCap": 10_000, "nRequestsSurplus": 0}


def _fees(_: AccountRequest, _now_ms: int) -> Any:
    rates = {"cross": "0.00045", "add": "0.00015", "spotCross": "0.0007", "spotAdd": "0.0004"}
    return {
        "dailyUserVlm": _NOTHING,
        "feeSchedule": {
            **rates,
            "tiers": {"vip": _NOTHING, "mm": _NOTHING},
            "referralDiscount": "0.04",
            "stakingDiscountTiers": _NOTHING,
        },
        "userCrossRate": rates["cross"],
        "userAddRate": rates["add"],
        "userSpotCrossRate": rates["spotCross"],
        "userSpotAddRate": rates["spotAdd"],
        "activeReferralDiscount": "0.0",
    }


def asset_data(user: str, coin: str, leverage: int, mark: Any) -> dict[str, Any]:
    """Return what an empty account can trade of a coin."""
    return {
        "user": user,
        "coin": coin,
        "leverage": {"type": "cross", "value": leverage},
        "maxTradeSzs": ["0.0", "0.0"],
        "availableToTrade": ["0.0", "0.0"],
        "markPx": mark,
    }


def _empty(_: AccountRequest, _now_ms: int) -> Any:
    return _NOTHING


ACCOUNT_ANSWERS: Mapping[str, Callable[[AccountRequest, int], Any]] = {
    "clearinghouseState": _perpetuals,
    "spotClearinghouseState": lambda _, __: {"balances": _NOTHING},
    "orderStatus": lambda _, __: {"status": "unknownOid"},
    "userAbstraction": lambda _, __: "disabled",
    "userRole": lambda _, __: {"role": "missing"},
    "userRateLimit": _rate_limit,
    "userFees": _fees,
    **dict.fromkeys(
        (
            "openOrders",
            "frontendOpenOrders",
            "historicalOrders",
            "userFills",
            "userFillsByTime",
            "userFunding",
            "userNonFundingLedgerUpdates",
            "userTwapSliceFills",
            "extraAgents",
            "subAccounts",
            "portfolio",
            "userVaultEquities",
            "delegatorHistory",
        ),
        _empty,
    ),
}
"""Answers for an account that never traded, by `type` of the request."""

ITEM_SURCHARGES: Mapping[str, int] = {
    "candleSnapshot": 60,
    **dict.fromkeys(
        (
            "recentTrades",
            "historicalOrders",
            "userFills",
            "userFillsByTime",
            "fundingHistory",
            "userFunding",
            "userNonFundingLedgerUpdates",
            "userTwapSliceFills",
        ),
        20,
    ),
}
"""Items of an answer that cost one more, by `type` of the request."""

WEIGHTS: Mapping[str, int] = {
    **dict.fromkeys(
        ("l2Book", "allMids", "clearinghouseState", "orderStatus", "spotClearinghouseState", "exchangeStatus"), 2
    ),
    "userRole": 60,
}
"""Weights of requests that differ from `WEIGHT`."""

WEIGHT = 20
