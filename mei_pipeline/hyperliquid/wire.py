"""Wire names of Hyperliquid: one model for each payload, with the venue's name of each field.

This is the only module that spells names of the venue, which has announced new ones; that is why it is longer than
others. Fields that only the simulator sends, and no code of MEI reads, are in `simulator/shapes.py`.

The models read what MEI uses and ignore unknown fields. A field that the venue may leave out or send as null is None
then. Values of which the venue adds new ones without notice, such as states of orders, are plain text. Numbers that the
venue writes as decimal strings are `Decimal`; they must be finite. Times are UTC milliseconds.
"""

from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

Time = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_000)]
"""Time in UTC milliseconds, up to the end of the year 9999."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""Number of things, or an id, which a signed 64-bit integer holds."""

Side = Literal["A", "B"]
"""`B` for a bid or a buyer, `A` for an ask or a seller."""

_LARGEST_EXPONENT = 40


def check_finite(number: Decimal) -> None:
    """Raise `ValueError` if a number is NaN or infinite, or too large or small for any price, size or amount."""
    if not number.is_finite() or abs(number.adjusted()) > _LARGEST_EXPONENT:
        raise ValueError(f"the number is NaN, infinite or outside 1e±{_LARGEST_EXPONENT}: {str(number)[:40]}")


def check_numbers(value: Any, name: str) -> None:
    """Check the numbers in tuples and objects; models have checked their own.

    Raises:
        ValueError: A number fails `check_finite`. The message names its place, which begins with `name`.
    """
    if type(value) is Decimal:
        try:
            check_finite(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    elif type(value) is tuple:
        for place, part in enumerate(value):
            check_numbers(part, f"{name}[{place}]")
    elif type(value) is dict:
        for key, part in value.items():
            check_numbers(part, f"{name}.{key}")


class Wire(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of a payload. Fields that have their defaults are left out when it is encoded."""

    def __post_init__(self) -> None:
        """Check every number; an error names the field as the venue spells it."""
        for name, wire_name in zip(self.__struct_fields__, self.__struct_encode_fields__, strict=True):
            value = getattr(self, name)
            if isinstance(value, (Decimal, tuple, dict)):
                check_numbers(value, wire_name)


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
    margin_table_id: Count | None = None
    delisted: bool | None = None
    only_isolated: bool | None = None
    margin_mode: str | None = None


class MarginTier(Wire, frozen=True, rename={"lower_bound": "lowerBound", "max_leverage": "maxLeverage"}):
    """A tier of a margin table: the leverage of positions from a notional on, USD."""

    lower_bound: Decimal
    max_leverage: Count


class MarginTable(Wire, frozen=True, rename={"tiers": "marginTiers"}):
    """A margin table."""

    description: str | None = None
    tiers: tuple[MarginTier, ...] = ()


class Meta(Wire, frozen=True, rename={"margin_tables": "marginTables", "collateral_token": "collateralToken"}):
    """Answer to `meta`: the perpetuals of a dex.

    Attributes:
        universe: The markets, delisted ones too.
        margin_tables: Number and content of each margin table.
        collateral_token: Index of the token of margin; 0 for USDC.
    """

    universe: tuple[Asset, ...]
    margin_tables: tuple[tuple[Count, MarginTable], ...] = ()
    collateral_token: Count = 0


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
    side: Side
    price: Decimal
    size: Decimal
    time_ms: Time
    trade_id: Count = 0
    hash: str = ""
    users: tuple[str, ...] = ()


class ExchangeStatus(Wire, frozen=True, rename={"time_ms": "time", "special": "specialStatuses"}):
    """The clock of the venue, and special states; None for none."""

    time_ms: Time
    special: Any = None


class SpotPair(Wire, frozen=True, rename={"canonical": "isCanonical"}):
    """A spot pair: indices of its base and quote token."""

    name: str
    tokens: tuple[Count, ...]
    index: Count
    canonical: bool | None = None


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
    index: Count
    token_id: str | None = None
    canonical: bool | None = None


class SpotMeta(Wire, frozen=True):
    """Answer to `spotMeta`."""

    universe: tuple[SpotPair, ...]
    tokens: tuple[SpotToken, ...]


class PerpDex(Wire, frozen=True, rename={"full_name": "fullName"}):
    """An entry of `perpDexs`: a dex of perpetuals that somebody deployed."""

    name: str
    full_name: str | None = None
    deployer: str | None = None


class SpotContext(
    Wire,
    frozen=True,
    rename={
        "previous_day_price": "prevDayPx",
        "day_notional": "dayNtlVlm",
        "mark_price": "markPx",
        "mid_price": "midPx",
        "circulating_supply": "circulatingSupply",
        "day_volume": "dayBaseVlm",
    },
):
    """State of a spot pair; prices in the quote token, `mid_price` is None without a book."""

    previous_day_price: Decimal
    day_notional: Decimal
    mark_price: Decimal
    mid_price: Decimal | None = None
    circulating_supply: Decimal | None = None
    day_volume: Decimal | None = None


# --- accounts: orders and fills


class OpenOrder(
    Wire,
    frozen=True,
    rename={
        "limit_price": "limitPx",
        "size": "sz",
        "order_id": "oid",
        "time_ms": "timestamp",
        "original_size": "origSz",
        "client_id": "cloid",
        "reduce_only": "reduceOnly",
    },
):
    """A row of `openOrders`, and the order in `orderUpdates`.

    Attributes:
        coin: Market.
        side: Side of the order.
        limit_price: Limit.
        size: Size that is not yet filled, in coins.
        order_id: The venue's id.
        time_ms: Time at which the venue took the order.
        original_size: Size of the order when it was placed; None in old answers.
        client_id: Id that the client chose: `0x` and 32 hexadecimal digits.
        reduce_only: True if it can only make a position smaller.
    """

    coin: str
    side: Side
    limit_price: Decimal
    size: Decimal
    order_id: Count
    time_ms: Time
    original_size: Decimal | None = None
    client_id: str | None = None
    reduce_only: bool | None = None


class FullOrder(
    OpenOrder,
    frozen=True,
    kw_only=True,
    rename={
        "kind": "orderType",
        "time_in_force": "tif",
        "trigger": "isTrigger",
        "trigger_price": "triggerPx",
        "trigger_condition": "triggerCondition",
        "position_level": "isPositionTpsl",
    },
):
    """An order with all that the venue knows of it: a row of `frontendOpenOrders`.

    Attributes:
        kind: `Limit`, `Market`, `Stop Market`, `Take Profit Limit` …; new kinds appear without notice.
        time_in_force: `Gtc`, `Ioc`, `Alo` …; None for an order with a trigger.
        trigger: True if it waits for a trigger price.
        trigger_price: That price; 0 without one.
        trigger_condition: The condition in words, `N/A` without one.
        position_level: True for a stop or target of the whole position.
        children: Stops and targets that begin with this order. The venue lists them as rows of their own too.
    """

    kind: str
    trigger: bool
    trigger_price: Decimal
    time_in_force: str | None = None
    trigger_condition: str | None = None
    position_level: bool | None = None
    children: "tuple[FullOrder, ...]" = ()


class OrderUpdate(Wire, frozen=True, rename={"status_ms": "statusTimestamp"}):
    """A message on `orderUpdates`: an order and its new status."""

    order: OpenOrder
    status: str
    status_ms: Time


class OrderReport(Wire, frozen=True, rename={"status_ms": "statusTimestamp"}):
    """A row of `historicalOrders`: an order and its status.

    Only `open` and `triggered` are states of a live order. New states appear without notice.
    """

    order: FullOrder
    status: str
    status_ms: Time


class OrderLookup(Wire, frozen=True, rename={"report": "order"}):
    """Answer to `orderStatus`: `status` is `order`, or `unknownOid` without a report."""

    status: str
    report: OrderReport | None = None


class FillLiquidation(Wire, frozen=True, rename={"user": "liquidatedUser", "mark_price": "markPx"}):
    """The liquidation to which a fill belongs; the fill of the counterparty has it too, so compare the user."""

    mark_price: Decimal
    method: str
    user: str | None = None


class VenueFill(
    Wire,
    frozen=True,
    rename={
        "price": "px",
        "size": "sz",
        "time_ms": "time",
        "start_position": "startPosition",
        "direction": "dir",
        "closed_profit": "closedPnl",
        "order_id": "oid",
        "trade_id": "tid",
        "client_id": "cloid",
        "fee_token": "feeToken",
        "builder_fee": "builderFee",
        "twap_id": "twapId",
    },
):
    """A fill of an account.

    Attributes:
        coin: Market.
        side: Side of the account's order.
        price: Price.
        size: Size in coins.
        time_ms: Time of the fill.
        start_position: Position before the fill, negative for a short one.
        direction: Text for display, such as `Open Long`.
        closed_profit: Realised profit without fees and funding, USD.
        order_id: The venue's id of the order.
        crossed: True if the account took liquidity.
        fee: Fee, with that of the builder; negative for a rebate.
        hash: Hash of the transaction; all zeros for some fills.
        trade_id: Number of the trade; None in old answers. A fill is known by time, coin and this number together.
        client_id: Id that the client chose for the order.
        fee_token: Token of the fee; None in old answers.
        builder_fee: Part of the fee that the builder gets.
        twap_id: Number of the TWAP order.
        liquidation: The liquidation, if it is one.
    """

    coin: str
    side: Side
    price: Decimal
    size: Decimal
    time_ms: Time
    start_position: Decimal
    direction: str
    closed_profit: Decimal
    order_id: Count
    crossed: bool
    fee: Decimal
    hash: str | None = None
    trade_id: Count | None = None
    client_id: str | None = None
    fee_token: str | None = None
    builder_fee: Decimal | None = None
    twap_id: Count | None = None
    liquidation: FillLiquidation | None = None


class TwapSliceFill(Wire, frozen=True, rename={"twap_id": "twapId"}):
    """A fill of a TWAP order."""

    fill: VenueFill
    twap_id: Count


# --- accounts: positions and balances


class Leverage(Wire, frozen=True, rename={"kind": "type", "raw_usd": "rawUsd"}):
    """Leverage of a position: `cross`, or `isolated` with its margin less its debt in `raw_usd`, USD."""

    kind: str
    value: Count
    raw_usd: Decimal | None = None


class CumulativeFunding(
    Wire, frozen=True, rename={"all_time": "allTime", "since_open": "sinceOpen", "since_change": "sinceChange"}
):
    """Funding that a market has cost, USD; negative for income."""

    all_time: Decimal
    since_open: Decimal
    since_change: Decimal


class VenuePosition(
    Wire,
    frozen=True,
    rename={
        "size": "szi",
        "entry_price": "entryPx",
        "notional": "positionValue",
        "unrealised_profit": "unrealizedPnl",
        "return_on_equity": "returnOnEquity",
        "liquidation_price": "liquidationPx",
        "margin_used": "marginUsed",
        "max_leverage": "maxLeverage",
        "funding": "cumFunding",
    },
):
    """A position.

    Attributes:
        coin: Market.
        size: Size in coins, negative for a short position.
        entry_price: Mean price of the fills that opened it.
        notional: Absolute size times mark price, USD.
        unrealised_profit: Size times the distance of the mark price from the entry price, USD.
        margin_used: Margin, USD.
        leverage: Leverage.
        return_on_equity: Profit over the margin at entry, as a fraction.
        liquidation_price: Price of liquidation; None if no price liquidates it.
        max_leverage: Maximum leverage of the market.
        funding: Funding so far.
    """

    coin: str
    size: Decimal
    entry_price: Decimal | None
    notional: Decimal
    unrealised_profit: Decimal
    margin_used: Decimal
    leverage: Leverage
    return_on_equity: Decimal | None = None
    liquidation_price: Decimal | None = None
    max_leverage: Count | None = None
    funding: CumulativeFunding | None = None


class HeldPosition(Wire, frozen=True, rename={"mode": "type"}):
    """A position and its mode, which is `oneWay`."""

    position: VenuePosition
    mode: str = ""


class MarginSummary(
    Wire,
    frozen=True,
    rename={
        "value": "accountValue",
        "notional": "totalNtlPos",
        "raw_usd": "totalRawUsd",
        "margin_used": "totalMarginUsed",
    },
):
    """Margin of an account, USD: equity, sum of absolute notionals, cash less debt, and margin in use."""

    value: Decimal
    notional: Decimal
    raw_usd: Decimal
    margin_used: Decimal


class PerpAccount(
    Wire,
    frozen=True,
    rename={
        "positions": "assetPositions",
        "cross": "crossMarginSummary",
        "total": "marginSummary",
        "cross_maintenance": "crossMaintenanceMarginUsed",
        "time_ms": "time",
    },
):
    """Answer to `clearinghouseState`: the account of perpetuals.

    An account in a unified or portfolio mode has its money in `SpotAccount`, and zeros here.

    Attributes:
        positions: Positions; a coin without one is absent.
        cross: Margin of cross positions.
        withdrawable: USD that could be withdrawn.
        total: Margin of all positions; None if the venue leaves it out.
        cross_maintenance: Maintenance margin of cross positions, USD.
        time_ms: Time of the answer; None in old answers.
    """

    positions: tuple[HeldPosition, ...]
    cross: MarginSummary
    withdrawable: Decimal
    total: MarginSummary | None = None
    cross_maintenance: Decimal | None = None
    time_ms: Time | None = None


class SpotBalance(Wire, frozen=True, rename={"entry_notional": "entryNtl"}):
    """Balance of a token: total, the part that orders hold, and its cost in USD."""

    coin: str
    total: Decimal
    hold: Decimal
    token: Count | None = None
    entry_notional: Decimal | None = None


class SpotAccount(
    Wire,
    frozen=True,
    rename={"portfolio_margin": "portfolioMarginEnabled", "available": "tokenToAvailableAfterMaintenance"},
):
    """Answer to `spotClearinghouseState`: balances, and in unified modes what is free of each token by its index."""

    balances: tuple[SpotBalance, ...]
    portfolio_margin: bool | None = None
    available: tuple[tuple[Count, Decimal], ...] | None = None


class ActiveAsset(
    Wire,
    frozen=True,
    rename={"max_sizes": "maxTradeSzs", "available": "availableToTrade", "mark_price": "markPx"},
):
    """Answer to `activeAssetData`: leverage, largest sizes and free margin of a buy and a sell."""

    user: str
    coin: str
    leverage: Leverage
    max_sizes: tuple[Decimal, Decimal]
    available: tuple[Decimal, Decimal]
    mark_price: Decimal | None = None


# --- accounts: payments


class FundingPayment(Wire, frozen=True, rename={"size": "szi", "rate": "fundingRate", "samples": "nSamples"}):
    """A payment of funding.

    Attributes:
        coin: Market.
        usdc: Change of the cash, USD; negative if the account paid.
        size: Position in coins, negative for a short one.
        rate: Hourly rate.
        samples: Number of samples that an old payment was made of.
        type: `funding` in answers, None in messages.
    """

    coin: str
    usdc: Decimal
    size: Decimal
    rate: Decimal
    samples: Count | None = None
    type: str | None = None


class TimedFundingPayment(FundingPayment, frozen=True, kw_only=True, rename={"time_ms": "time"}):
    """A payment of funding in a message."""

    time_ms: Time


class FundingUpdate(Wire, frozen=True, rename={"time_ms": "time"}):
    """A row of `userFunding`."""

    time_ms: Time
    delta: FundingPayment
    hash: str | None = None


class LedgerDelta(Wire, frozen=True, rename={"to_perp": "toPerp", "usdc_value": "usdcValue", "fee_token": "feeToken"}):
    """A change of the balance: a deposit, withdrawal, transfer or liquidation.

    Attributes:
        type: Kind of the change; new kinds appear without notice. The other fields depend on it.
        usdc: Amount, USD.
        amount: Amount of `token`.
        token: Token.
        usdc_value: Value of the amount, USD.
        fee: Fee in `fee_token`.
        fee_token: Token of the fee; empty for USDC.
        to_perp: True for a transfer to the account of perpetuals.
        user: Sender.
        destination: Receiver.
    """

    type: str
    usdc: Decimal | None = None
    amount: Decimal | None = None
    token: str | None = None
    usdc_value: Decimal | None = None
    fee: Decimal | None = None
    fee_token: str | None = None
    to_perp: bool | None = None
    user: str | None = None
    destination: str | None = None


class LedgerUpdate(Wire, frozen=True, rename={"time_ms": "time"}):
    """A row of `userNonFundingLedgerUpdates`."""

    time_ms: Time
    delta: LedgerDelta
    hash: str | None = None


class Delegation(Wire, frozen=True, rename={"undelegate": "isUndelegate"}):
    """An amount given to a validator, or taken back."""

    validator: str
    amount: Decimal
    undelegate: bool = False


class StakingAmount(Wire, frozen=True):
    """An amount moved to or from staking."""

    amount: Decimal
    phase: str | None = None


class DelegatorDelta(Wire, frozen=True, rename={"deposit": "cDeposit"}):
    """A change of a staking balance; one of the fields is set, none for a kind that MEI does not know."""

    delegate: Delegation | None = None
    deposit: StakingAmount | None = None
    withdrawal: StakingAmount | None = None


class DelegatorUpdate(Wire, frozen=True, rename={"time_ms": "time"}):
    """A row of `delegatorHistory`."""

    time_ms: Time
    delta: DelegatorDelta
    hash: str | None = None


# --- accounts: limits, roles and fees


class RateLimit(
    Wire,
    frozen=True,
    rename={"volume": "cumVlm", "used": "nRequestsUsed", "cap": "nRequestsCap", "surplus": "nRequestsSurplus"},
):
    """Answer to `userRateLimit`: actions used and allowed since the account began, and its volume in USD."""

    volume: Decimal
    used: Count
    cap: Count
    surplus: Count | None = None


class RoleData(Wire, frozen=True):
    """The account behind an agent (`user`) or sub-account (`master`)."""

    user: str | None = None
    master: str | None = None


class AccountRole(Wire, frozen=True):
    """Answer to `userRole`: `user`, `agent`, `vault`, `subAccount` or `missing`."""

    role: str
    data: RoleData | None = None


class Agent(Wire, frozen=True, rename={"valid_until_ms": "validUntil"}):
    """An address that may sign orders for an account."""

    name: str
    address: str
    valid_until_ms: Time | None = None


class PortfolioSpan(
    Wire, frozen=True, rename={"values": "accountValueHistory", "profits": "pnlHistory", "volume": "vlm"}
):
    """History of an account over a span: times with equity and profit in USD, and the volume in USD."""

    values: tuple[tuple[Time, Decimal], ...]
    profits: tuple[tuple[Time, Decimal], ...]
    volume: Decimal


class FeeTier(
    Wire,
    frozen=True,
    rename={
        "volume_from": "ntlCutoff",
        "taker": "cross",
        "maker": "add",
        "spot_taker": "spotCross",
        "spot_maker": "spotAdd",
    },
):
    """Fees from a 14-day volume in USD on, as fractions of the notional."""

    volume_from: Decimal
    taker: Decimal
    maker: Decimal
    spot_taker: Decimal | None = None
    spot_maker: Decimal | None = None


class MakerTier(Wire, frozen=True, rename={"share_from": "makerFractionCutoff", "maker": "add"}):
    """Maker fee from a share of the venue's maker volume on; negative for a rebate."""

    share_from: Decimal
    maker: Decimal


class FeeTiers(Wire, frozen=True, rename={"by_volume": "vip", "by_maker_share": "mm"}):
    """Tiers of fees."""

    by_volume: tuple[FeeTier, ...] = ()
    by_maker_share: tuple[MakerTier, ...] = ()


class FeeSchedule(
    Wire, frozen=True, rename={"taker": "cross", "maker": "add", "spot_taker": "spotCross", "spot_maker": "spotAdd"}
):
    """Fees of the lowest tier, as fractions of the notional, and the other tiers."""

    taker: Decimal
    maker: Decimal
    spot_taker: Decimal | None = None
    spot_maker: Decimal | None = None
    tiers: FeeTiers | None = None


class DailyVolume(Wire, frozen=True, rename={"taker": "userCross", "maker": "userAdd"}):
    """Volume of a day, USD: of the account as taker and maker, and of the venue."""

    date: str
    taker: Decimal
    maker: Decimal
    exchange: Decimal


class UserFees(
    Wire,
    frozen=True,
    rename={
        "taker": "userCrossRate",
        "maker": "userAddRate",
        "spot_taker": "userSpotCrossRate",
        "spot_maker": "userSpotAddRate",
        "schedule": "feeSchedule",
        "volumes": "dailyUserVlm",
        "referral_discount": "activeReferralDiscount",
    },
):
    """Answer to `userFees`: fees of an account as fractions of the notional, the schedule, and recent volumes."""

    taker: Decimal
    maker: Decimal
    spot_taker: Decimal | None = None
    spot_maker: Decimal | None = None
    schedule: FeeSchedule | None = None
    volumes: tuple[DailyVolume, ...] | None = None
    referral_discount: Decimal | None = None


class VaultEquity(Wire, frozen=True, rename={"vault": "vaultAddress", "locked_until_ms": "lockedUntilTimestamp"}):
    """Equity in a vault, USD."""

    vault: str
    equity: Decimal
    locked_until_ms: Time | None = None


# --- requests of the info endpoint: market data


class MetaRequest(Wire, frozen=True, tag_field="type", tag="meta"):
    """Ask for the perpetuals of a dex; answered by `Meta`."""

    dex: str | None = None


class ContextsRequest(Wire, frozen=True, tag_field="type", tag="metaAndAssetCtxs"):
    """Ask for the perpetuals and the state of each; answered by `Meta` and a list of `AssetContext`."""

    dex: str | None = None


class SpotMetaRequest(Wire, frozen=True, tag_field="type", tag="spotMeta"):
    """Ask for tokens and spot pairs; answered by `SpotMeta`."""


class AllMetasRequest(Wire, frozen=True, tag_field="type", tag="allPerpMetas"):
    """Ask for the perpetuals of every dex; answered by a list of `Meta`."""


class DexesRequest(Wire, frozen=True, tag_field="type", tag="perpDexs"):
    """Ask for the perpetual dexes; answered by a list of `PerpDex`, of which the first one is null."""


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
    | AllMetasRequest
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


# --- requests of the info endpoint: accounts


class OfUser(Wire, frozen=True, kw_only=True):
    """A request about an account: the address of the account itself, never of an agent, which gets an empty answer."""

    user: str


class OfUserDex(OfUser, frozen=True, kw_only=True):
    """A request about an account on a dex; the first dex without one."""

    dex: str | None = None


class OfUserSpan(OfUser, frozen=True, kw_only=True, rename={"start_ms": "startTime", "end_ms": "endTime"}):
    """A request about an account from `start_ms` to `end_ms`, both included; to the present without an end."""

    start_ms: Time
    end_ms: Time | None = None


class PerpAccountRequest(OfUserDex, frozen=True, kw_only=True, tag_field="type", tag="clearinghouseState"):
    """Ask for positions and margin; answered by `PerpAccount`."""


class SpotAccountRequest(OfUser, frozen=True, kw_only=True, tag_field="type", tag="spotClearinghouseState"):
    """Ask for balances; answered by `SpotAccount`."""


class OpenOrdersRequest(OfUserDex, frozen=True, kw_only=True, tag_field="type", tag="openOrders"):
    """Ask for live orders; answered by a list of `OpenOrder`."""


class FullOrdersRequest(OfUserDex, frozen=True, kw_only=True, tag_field="type", tag="frontendOpenOrders"):
    """Ask for live orders with triggers; answered by a list of `FullOrder`."""


class PastOrdersRequest(OfUser, frozen=True, kw_only=True, tag_field="type", tag="historicalOrders"):
    """Ask for the newest 2,000 orders; answered by a list of `OrderReport`."""


class OrderRequest(OfUser, frozen=True, kw_only=True, tag_field="type", tag="orderStatus", rename={"order_id": "oid"}):
    """Ask for an order by the venue's id or the client's; answered by `OrderLookup`."""

    order_id: Count | str


class FillsRequest(
    OfUser, frozen=True, kw_only=True, tag_field="type", tag="userFills", rename={"aggregate": "aggregateByTime"}
):
    """Ask for the newest 2,000 fills; answered by a list of `VenueFill`, newest first."""

    aggregate: bool | None = None


class FillsSpanRequest(
    OfUserSpan,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="userFillsByTime",
    rename={"aggregate": "aggregateByTime"},
):
    """Ask for fills of a span; answered by a list of `VenueFill`, 2,000 at most."""

    aggregate: bool | None = None


class PaymentsRequest(OfUserSpan, frozen=True, kw_only=True, tag_field="type", tag="userFunding"):
    """Ask for payments of funding; answered by a list of `FundingUpdate`."""


class LedgerRequest(OfUserSpan, frozen=True, kw_only=True, tag_field="type", tag="userNonFundingLedgerUpdates"):
    """Ask for other changes of the balance; answered by a list of `LedgerUpdate`."""


class RateLimitRequest(OfUser, frozen=True, kw_only=True, tag_field="type", tag="userRateLimit"):
    """Ask for the budget of actions; answered by `RateLimit`."""


class RoleRequest(OfUser, frozen=True, kw_only=True, tag_field="type", tag="userRole"):
    """Ask for the role of an address; answered by `AccountRole`."""


class AgentsRequest(OfUser, frozen=True, kw_only=True, tag_field="type", tag="extraAgents"):
    """Ask for the agents of an account; answered by a list of `Agent`."""


class PortfolioRequest(OfUser, frozen=True, kw_only=True, tag_field="type", tag="portfolio"):
    """Ask for the history of an account; answered by a list of names and `PortfolioSpan`."""


class FeesRequest(OfUser, frozen=True, kw_only=True, tag_field="type", tag="userFees"):
    """Ask for fees; answered by `UserFees`."""


class TwapFillsRequest(OfUser, frozen=True, kw_only=True, tag_field="type", tag="userTwapSliceFills"):
    """Ask for fills of TWAP orders; answered by a list of `TwapSliceFill`."""


class VaultsRequest(OfUser, frozen=True, kw_only=True, tag_field="type", tag="userVaultEquities"):
    """Ask for equity in vaults; answered by a list of `VaultEquity`."""


class DelegatorRequest(OfUser, frozen=True, kw_only=True, tag_field="type", tag="delegatorHistory"):
    """Ask for changes of staking; answered by a list of `DelegatorUpdate`."""


class AbstractionRequest(OfUser, frozen=True, kw_only=True, tag_field="type", tag="userAbstraction"):
    """Ask for the mode of an account; answered by its name, such as `default` or `unifiedAccount`."""


class ActiveAssetRequest(OfUser, frozen=True, kw_only=True, tag_field="type", tag="activeAssetData"):
    """Ask for leverage and largest sizes in a market; answered by `ActiveAsset`."""

    coin: str


AccountRequest = (
    PerpAccountRequest
    | SpotAccountRequest
    | OpenOrdersRequest
    | FullOrdersRequest
    | PastOrdersRequest
    | OrderRequest
    | FillsRequest
    | FillsSpanRequest
    | PaymentsRequest
    | LedgerRequest
    | RateLimitRequest
    | RoleRequest
    | AgentsRequest
    | PortfolioRequest
    | FeesRequest
    | TwapFillsRequest
    | VaultsRequest
    | DelegatorRequest
    | AbstractionRequest
    | ActiveAssetRequest
)
"""A request about an account. It needs no key: accounts are public."""

InfoRequest = MarketRequest | AccountRequest
"""A request to the info endpoint."""


ANSWERS: dict[type[Wire], Any] = {
    MetaRequest: Meta,
    ContextsRequest: tuple[Meta, tuple[AssetContext, ...]],
    SpotMetaRequest: SpotMeta,
    AllMetasRequest: tuple[Meta, ...],
    DexesRequest: tuple[PerpDex | None, ...],
    MidsRequest: dict[str, Decimal],
    BookRequest: OrderBook | None,
    TradesRequest: tuple[Trade, ...],
    CandlesRequest: tuple[Candle, ...],
    FundingRequest: tuple[FundingHour, ...],
    StatusRequest: ExchangeStatus,
    PerpAccountRequest: PerpAccount,
    SpotAccountRequest: SpotAccount,
    OpenOrdersRequest: tuple[OpenOrder, ...],
    FullOrdersRequest: tuple[FullOrder, ...],
    PastOrdersRequest: tuple[OrderReport, ...],
    OrderRequest: OrderLookup,
    FillsRequest: tuple[VenueFill, ...],
    FillsSpanRequest: tuple[VenueFill, ...],
    PaymentsRequest: tuple[FundingUpdate, ...],
    LedgerRequest: tuple[LedgerUpdate, ...],
    RateLimitRequest: RateLimit,
    RoleRequest: AccountRole,
    AgentsRequest: tuple[Agent, ...],
    PortfolioRequest: tuple[tuple[str, PortfolioSpan], ...],
    FeesRequest: UserFees,
    TwapFillsRequest: tuple[TwapSliceFill, ...],
    VaultsRequest: tuple[VaultEquity, ...],
    DelegatorRequest: tuple[DelegatorUpdate, ...],
    AbstractionRequest: str,
    ActiveAssetRequest: ActiveAsset,
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
        dex: Dex; None for the first one.
    """

    type: str
    coin: str | None = None
    interval: str | None = None
    user: str | None = None
    dex: str | None = None


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

    id: Count
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


class DexContexts(Wire, frozen=True, rename={"contexts": "ctxs"}):
    """State of every market: the name of each dex, empty for the first one, and contexts in the order of its `Meta`."""

    contexts: tuple[tuple[str, tuple[AssetContext, ...]], ...]


class SpotMarketContext(Wire, frozen=True, rename={"context": "ctx"}):
    """State of one spot pair."""

    coin: str
    context: SpotContext


class CancelledOrder(Wire, frozen=True, rename={"order_id": "oid"}):
    """An order that the venue cancelled."""

    coin: str
    order_id: Count


class AccountLiquidation(
    Wire,
    frozen=True,
    rename={
        "liquidation_id": "lid",
        "user": "liquidated_user",
        "notional": "liquidated_ntl_pos",
        "value": "liquidated_account_value",
    },
):
    """A liquidation: notional and equity of the account that was liquidated, USD."""

    user: str
    notional: Decimal
    value: Decimal
    liquidation_id: Count | None = None
    liquidator: str | None = None


class UserEvent(Wire, frozen=True, rename={"cancelled": "nonUserCancel"}):
    """An event of an account; one of the fields is set, none for a kind that MEI does not know."""

    fills: tuple[VenueFill, ...] | None = None
    funding: TimedFundingPayment | None = None
    liquidation: AccountLiquidation | None = None
    cancelled: tuple[CancelledOrder, ...] | None = None


class UserStream(Wire, frozen=True, kw_only=True, rename={"snapshot": "isSnapshot"}):
    """A message about one account.

    `snapshot` is true for the first message, which repeats known rows after each new connection, and otherwise false
    or absent.
    """

    user: str
    snapshot: bool | None = None


class UserFills(UserStream, frozen=True, kw_only=True):
    """Fills of an account."""

    fills: tuple[VenueFill, ...]


class UserFundings(UserStream, frozen=True, kw_only=True):
    """Payments of funding of an account."""

    fundings: tuple[TimedFundingPayment, ...]


class UserLedger(UserStream, frozen=True, kw_only=True, rename={"updates": "nonFundingLedgerUpdates"}):
    """Other changes of the balance of an account."""

    updates: tuple[LedgerUpdate, ...]


class UserTwapFills(UserStream, frozen=True, kw_only=True, rename={"fills": "twapSliceFills"}):
    """Fills of TWAP orders of an account."""

    fills: tuple[TwapSliceFill, ...]


class UserPerpAccount(Wire, frozen=True, rename={"account": "clearinghouseState"}):
    """Positions and margin of an account on a dex."""

    user: str
    account: PerpAccount
    dex: str = ""


class UserOrders(Wire, frozen=True):
    """Live orders of an account on a dex."""

    user: str
    orders: tuple[FullOrder, ...]
    dex: str = ""


class PostResponse(Wire, frozen=True):
    """Answer inside a WebSocket: `type` is `info`, `action` or `error`; the payload depends on it."""

    type: str
    payload: msgspec.Raw = msgspec.Raw(b"null")


class PostAnswer(Wire, frozen=True):
    """Answer to a `PostCommand` with the same id."""

    id: Count
    response: PostResponse


GREETING = b"Websocket connection established."
"""First text of older servers, which is no JSON."""

ALREADY_BEGUN, ALREADY_ENDED = "already subscribed", "already unsubscribed"
"""Beginnings, in lower case, of errors that answer commands without effect."""

ACKNOWLEDGED, PONG, ERROR = "subscriptionResponse", "pong", "error"
"""Channels that belong to no stream."""

CHANNELS: dict[str, Any] = {
    ACKNOWLEDGED: SubscriptionAnswer,
    PONG: Any,
    ERROR: str,
    MIDS: Mids,
    BBO: BestQuote,
    BOOK: OrderBook,
    TRADES: tuple[Trade, ...],
    CANDLE: Candle,
    CONTEXT: CoinContext,
    "activeSpotAssetCtx": SpotMarketContext,
    "allDexsAssetCtxs": DexContexts,
    "activeAssetData": ActiveAsset,
    "orderUpdates": tuple[OrderUpdate, ...],
    "user": UserEvent,
    "userFills": UserFills,
    "userFundings": UserFundings,
    "userNonFundingLedgerUpdates": UserLedger,
    "userTwapSliceFills": UserTwapFills,
    "clearinghouseState": UserPerpAccount,
    "openOrders": UserOrders,
    "post": PostAnswer,
}
"""Type of the data of each channel that is known; other channels are ignored."""
