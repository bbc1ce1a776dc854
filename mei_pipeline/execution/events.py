"""Events of a lane: everything that changes its state, in the order of its journal.

Market data comes from a feed, answers and fills from a broker, requests from people and files. Facts are events that
the lane makes itself; recovery reads them instead of computing them again. An event is a line of JSON in the feed
protocol and a row of the journal, with the name of its class under the key `event`.

`venue_ms` is the time of the event on the clock of the feed or venue, in UTC milliseconds. The clock of a lane is the
latest `venue_ms` that it has seen, so a lane that follows a replay lives in the time of the replay.
"""

from typing import Literal

import msgspec

from mei_pipeline.execution.commands import Order, Place

Kind = Literal["trade", "stop", "target", "liquidation", "adl", "settlement", "manual", "reconciled"]
"""Kind of a fill.

    trade: fill of an order of this lane. stop, target: a level that the fill model tests inside a bar.
    liquidation, adl (auto-deleveraging), settlement (of a delisted symbol): made by the venue.
    manual: made by a person or another program on the same account. reconciled: found by comparing positions.
"""

Moment = Literal["open", "inside", "close"]
"""Part of a step in which the fill model fills an order, as in `kernels.book.MOMENTS`."""


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag=True, omit_defaults=True):
    """An event of a lane.

    Attributes:
        venue_ms: Time of the event, UTC milliseconds; None for an event without a time of its own.
    """

    venue_ms: int | None = None


class BarClosed(Event, frozen=True, kw_only=True):
    """A closed bar. With `confirmed` false it is the last value that the feed saw before its grace period ended."""

    symbol: str
    interval: str
    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    confirmed: bool = True


class BarMissing(Event, frozen=True, kw_only=True):
    """A bar that the feed can't deliver: the venue has no trade in it, or its content is unknown.

    An unknown bar blocks entries of its symbol until the next bar of the same interval.
    """

    symbol: str
    interval: str
    open_ms: int
    reason: Literal["no trade", "unknown"]


class BarRevised(Event, frozen=True, kw_only=True):
    """Another content of a bar that was delivered before. It is kept in the journal and changes no feature."""

    symbol: str
    interval: str
    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class StepClosed(Event, frozen=True, kw_only=True):
    """The end of a step, after its bars of all intervals. Only this event triggers decisions.

    Attributes:
        step_ms: Open time of the step, UTC milliseconds.
        present: Symbols with a bar of the step.
        late_ms: Delay of this event after the end of the grace period, on the clock of the feed.
    """

    step_ms: int
    present: tuple[str, ...]
    late_ms: int = 0


class Mark(Event, frozen=True, kw_only=True):
    """The mark price of a symbol, by which the venue liquidates; it belongs to no step and is not journaled.

    Attributes:
        symbol: The symbol.
        price: Mark price in USD.
        oracle: Oracle price in USD; None if unknown.
    """

    symbol: str
    price: float
    oracle: float | None = None


class FundingRate(Event, frozen=True, kw_only=True):
    """A funding rate that falls due: a fraction of notional that longs pay to shorts."""

    symbol: str
    due_ms: int
    rate: float
    oracle: float | None = None


class InstrumentChanged(Event, frozen=True, kw_only=True):
    """Terms of a symbol, in force from the first step whose close is at or after `from_ms`.

    Attributes:
        symbol: The symbol.
        from_ms: Time from which the terms hold.
        size_decimals: Decimals of sizes; a lot is 10 ** -size_decimals coins.
        min_notional_usd: Minimum notional of an opening order.
        max_leverage: Maximum leverage.
        maintenance_margin_frac: Maintenance margin as a fraction of notional.
        last_open_ms: Open time of the last step with a bar before the symbol's delisting, once the feed knows it.
    """

    symbol: str
    from_ms: int
    size_decimals: int
    min_notional_usd: float
    max_leverage: float
    maintenance_margin_frac: float
    last_open_ms: int | None = None


class FeedHealth(Event, frozen=True, kw_only=True):
    """State of a stream of a symbol; entries of a symbol with a stale stream are blocked."""

    symbol: str
    stream: str
    stale_since_ms: int | None = None


class CaughtUp(Event, frozen=True, kw_only=True):
    """The end of a feed's snapshot; `venue_ms` is the time of the feed."""


class OrderAccepted(Event, frozen=True, kw_only=True):
    """The venue has the order."""

    cloid: str
    oid: str = ""


class OrderRefused(Event, frozen=True, kw_only=True):
    """The venue or the broker refused the order; it has no effect."""

    cloid: str
    reason: str


class OrderUnknown(Event, frozen=True, kw_only=True):
    """The answer to an order or a query was lost: the order may be at the venue or not."""

    cloid: str
    reason: str


class OrderNotFound(Event, frozen=True, kw_only=True):
    """The answer to a query: the venue knows no order with this id.

    Attributes:
        cloid: The order.
        final: True if the venue can't receive the order any more, so that sending it again is safe.
    """

    cloid: str
    final: bool = False


class OrderGone(Event, frozen=True, kw_only=True):
    """The order is at the venue no more; `filled_lots` of it were filled."""

    cloid: str
    reason: str
    oid: str = ""
    filled_lots: int = 0


class Fill(Event, frozen=True, kw_only=True):
    """Lots that were traded.

    Attributes:
        key: Id of the fill, unique at the venue.
        cloid: The order; empty for a fill that no order of this lane caused.
        oid: Id of the order at the venue.
        symbol: The symbol.
        lots: Signed number of lots, above zero for a buy.
        lot_decimals: Decimals of a lot: the size is lots / 10 ** lot_decimals coins.
        price: Price in USD.
        fee_usd: Fee; negative for a rebate.
        fee_token: Token of the fee.
        start_lots: Signed lots held at the venue before the fill; None if unknown.
        kind: See `Kind`.
        settled_usd: USD that the venue takes with the position (negative: a loss that it bears), before the fill; None
            for a fill without such a settlement.
        step_ms: Open time of the step in which the fill model filled it; None for a real fill.
        moment: Part of that step.
    """

    key: str
    symbol: str
    lots: int
    lot_decimals: int
    price: float
    fee_usd: float
    cloid: str = ""
    oid: str = ""
    fee_token: str = "USDC"  # noqa: S105 - a coin
    start_lots: int | None = None
    kind: Kind = "trade"
    settled_usd: float | None = None
    step_ms: int | None = None
    moment: Moment = "close"


class Funding(Event, frozen=True, kw_only=True):
    """A funding payment: `usd` that the account pays; negative if it receives."""

    key: str
    symbol: str
    usd: float
    price: float = 0.0
    step_ms: int | None = None


class Transfer(Event, frozen=True, kw_only=True):
    """A deposit, or a withdrawal if `usd` is negative."""

    key: str
    usd: float


class AccountSnapshot(Event, frozen=True, kw_only=True):
    """The account as the venue has it.

    Attributes:
        equity_usd: Equity; None if unknown.
        margin_usd: Initial margin in use.
        positions: Signed lots and their decimals, by symbol; symbols without a position are left out.
        open_orders: Ids of the open orders that carry this lane's tag.
    """

    equity_usd: float | None
    margin_usd: float
    positions: dict[str, tuple[int, int]]
    open_orders: tuple[str, ...]


class Timer(Event, frozen=True, kw_only=True):
    """A timer of the lane that is due."""

    name: str
    due_ms: int


class ConfigOffered(Event, frozen=True, kw_only=True):
    """The config that a lane's pointer names, read from its files.

    Attributes:
        config_id: The config.
        generation: Generation of the pointer.
        state: State of the config in the lane (`registry.lifecycle`); `paused` allows no entries.
        size_multiplier: Factor on the equity that sizing uses.
        kernel_hash: Kernels of its evidence.
        anchor_ms: First bar of the features of its evidence.
        config: The config, as `registry.records.as_dict` returns it.
    """

    config_id: str
    generation: int
    state: str
    size_multiplier: float
    kernel_hash: str
    anchor_ms: int
    config: dict[str, object]


class OperatorRequested(Event, frozen=True, kw_only=True):
    """A request of a person or program to the lane, read from a file (`execution.requests`).

    Times are those of the machine, not of the lane, because a person writes the request.

    Attributes:
        id: Id of the request; it is executed at most once.
        who: The person or program.
        why: Reason in words; may be empty.
        verb: What to do (`operating.VERBS`).
        arguments: Lists of names by the name of the argument.
        created_ms: Time of the request.
        expires_ms: Time from which it must not be executed.
        taken_ms: Time at which the lane read it.
    """

    id: str
    who: str
    verb: str
    arguments: dict[str, tuple[str, ...]]
    created_ms: int
    expires_ms: int
    taken_ms: int
    why: str = ""


class RequestAnswered(Event, frozen=True, kw_only=True):
    """Fact: the answer to a request. Nothing is executed without it, so it proves whether a request was.

    Attributes:
        id: The request.
        who: Its author.
        verb: Its verb.
        state: `done`: executed; `refused`: a rule forbids it; `expired`: it was read too late. Only the first has an
            effect.
        text: What was done, or why it was not.
        taken_ms: Time at which the lane read it, on the clock of the machine.
        expires_ms: Its expiry, on the same clock.
    """

    id: str
    who: str
    verb: str
    state: Literal["done", "refused", "expired"]
    text: str
    taken_ms: int
    expires_ms: int


class Flattened(Event, frozen=True, kw_only=True):
    """Fact: these orders close positions on request, in the place of what the book had ordered to close of them."""

    orders: tuple[Place, ...]


class HoldState(msgspec.Struct, frozen=True, kw_only=True):
    """A hold that is in force; see `registry.holds.Hold`.

    An empty symbol stands for all symbols. `since_ms` is the clock of the lane when it came into force.
    """

    owner: str
    effect: Literal["close_only", "halt"]
    reason: str
    since_ms: int
    symbol: str = ""
    expires_ms: int | None = None


class HoldsChanged(Event, frozen=True, kw_only=True):
    """All holds from files, by name; they replace the earlier ones. Holds of the executor itself are kept apart."""

    holds: dict[str, HoldState]


class OverridesChanged(Event, frozen=True, kw_only=True):
    """The limits that strategy_overrides.yaml sets on promoted configs; they replace the earlier ones.

    Attributes:
        excluded: Symbols that must not be entered.
        size_multiplier: Factor on the size multiplier of the config, above 0 and up to 1.
    """

    excluded: tuple[str, ...] = ()
    size_multiplier: float = 1.0


NO_OVERRIDES = OverridesChanged()
"""The limits of a file that sets none."""


class HoldSet(Event, frozen=True, kw_only=True):
    """Fact: the executor set a hold of its own, or lifted it (None)."""

    name: str
    hold: HoldState | None


class Started(Event, frozen=True, kw_only=True):
    """Fact: a process took over the lane. Orders whose answers may have been lost are unknown from here on.

    Attributes:
        kernel_hash: Kernels of the process.
        mode: Mode of the lane.
        feed: Kind of the feed.
        faults: Faults that a paper broker was told to make, as in `--misbehave`; empty for none.
    """

    kernel_hash: str
    mode: str
    feed: str
    faults: str = ""


class Warmed(Event, frozen=True, kw_only=True):
    """Fact: the features of a config were computed from the lake.

    Attributes:
        config_id: The config.
        anchor_ms: First bar.
        until_ms: End of the last bar that was read.
        data_hash: Hash of the bars that were read.
        approximate: True if the lake lacks bars between the anchor of the evidence and its own first bar.
    """

    config_id: str
    anchor_ms: int
    until_ms: int
    data_hash: str
    approximate: bool = False


class Decided(Event, frozen=True, kw_only=True):
    """Fact: the decisions of one book at a step. A step without a signal, position or order has no such fact.

    Attributes:
        step_ms: Open time of the step.
        config_id: Config of the book.
        late: True if the step came too late for entries.
        blocked: Symbols that could not enter, with the reasons.
        reserved_margin_usd: Margin that other books hold.
        reserved_places: Places that other books hold.
        other_usd: Equity of other books that sizes count.
        size_multiplier: Factor on the equity that sizing used.
        verdicts: Verdict of each symbol with a signal, position or order, by symbol (`kernels.book.VERDICTS`).
        codes: Signal code of each symbol with a signal.
        positions: Fields of positions that the decisions changed, by symbol and field; None stands for NaN.
        refused: `account.refused` after the decisions.
        orders: New orders, in the order in which they are sent.
        cancels: Orders to cancel, before the new ones are sent.
    """

    step_ms: int
    config_id: str
    late: bool = False
    blocked: dict[str, str] = msgspec.field(default_factory=dict)
    reserved_margin_usd: float = 0.0
    reserved_places: int = 0
    other_usd: float = 0.0
    size_multiplier: float = 1.0
    verdicts: dict[str, str] = msgspec.field(default_factory=dict)
    codes: dict[str, int] = msgspec.field(default_factory=dict)
    positions: dict[str, dict[str, float | None]] = msgspec.field(default_factory=dict)
    refused: float = 0.0
    orders: tuple[Place, ...] = ()
    cancels: tuple[str, ...] = ()


class Retried(Event, frozen=True, kw_only=True):
    """Fact: a further attempt of a closing order whose last attempt ended with a remainder."""

    order: Place


class Sent(Event, frozen=True, kw_only=True):
    """Fact: these orders are handed to the broker next. It is on disk before the broker receives them."""

    cloids: tuple[str, ...]


class Expired(Event, frozen=True, kw_only=True):
    """Fact: an order ended without reaching the venue."""

    cloid: str
    reason: str


class OpenTrade(msgspec.Struct, frozen=True, kw_only=True):
    """A trade that is not closed, and the sums behind its averages; the columns are those of `rows.TradeRow`."""

    trade: int
    config_id: str
    symbol: str
    side: str
    entry_ms: int
    opened: float = 0.0
    opened_usd: float = 0.0
    closed: float = 0.0
    closed_usd: float = 0.0
    size: float = 0.0
    adds: int = 0
    closes: int = 0
    fees_usd: float = 0.0
    funding_usd: float = 0.0
    pnl_usd: float = 0.0


class PackedBook(msgspec.Struct, frozen=True, kw_only=True):
    """A book of a lane in a checkpoint. Fields go by name, so that later kernels with other records can read it.

    Attributes:
        plan: The config with which the book was opened.
        config: The config as it was offered last; its size multiplier and state may be newer.
        draining: True if the book only exits.
        since_ms: Open time of the first step that it decided; None before.
        account: Fields of the account; None stands for NaN.
        positions: Fields of each position or order that is not empty, by symbol; None stands for NaN.
        counts: Number of main bars of each symbol since the anchor.
        last_prices: Last known close of each symbol; None before its first bar.
        features: State [S, N] and columns [C, 2, S] of the features, as little-endian float64, deflated.
        rows: Main bars of the grid since the anchor.
    """

    plan: ConfigOffered
    config: ConfigOffered
    draining: bool
    since_ms: int | None
    account: dict[str, float | None]
    positions: dict[str, dict[str, float | None]]
    counts: dict[str, int]
    last_prices: dict[str, float | None]
    features: bytes
    rows: int


class PackedLane(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a lane in a checkpoint; see `state.LaneState` for the fields."""

    kernel_hash: str
    clock_ms: int
    step_ms: int | None
    books: tuple[PackedBook, ...]
    waiting: ConfigOffered | None
    orders: tuple[Order, ...]
    keys: tuple[str, ...]
    terms: dict[str, tuple[InstrumentChanged, ...]]
    stale: dict[str, tuple[str, ...]]
    unknown_bars: tuple[tuple[str, str], ...]
    holds: dict[str, HoldState]
    own_holds: dict[str, HoldState]
    timers: dict[str, int]
    trades: tuple[OpenTrade, ...]
    trade_count: int
    foreign: dict[str, float]
    peak_usd: float
    drawdown_usd: float
    last_fill_ms: int
    early: tuple[Fill, ...] = ()
    transfers_usd: float = 0.0
    answers: dict[str, RequestAnswered] = msgspec.field(default_factory=dict)
    overrides: OverridesChanged = NO_OVERRIDES
    initial_usd: float = 0.0


class Checkpoint(Event, frozen=True, kw_only=True):
    """Fact: the complete state of the lane. Recovery starts at the last one."""

    state: PackedLane


EVENTS: tuple[type[Event], ...] = tuple(Event.__subclasses__())
"""Every class of events."""

AnyEvent = (
    BarClosed
    | BarMissing
    | BarRevised
    | StepClosed
    | Mark
    | FundingRate
    | InstrumentChanged
    | FeedHealth
    | CaughtUp
    | OrderAccepted
    | OrderRefused
    | OrderUnknown
    | OrderNotFound
    | OrderGone
    | Fill
    | Funding
    | Transfer
    | AccountSnapshot
    | Timer
    | ConfigOffered
    | HoldsChanged
    | OperatorRequested
    | RequestAnswered
    | Flattened
    | OverridesChanged
    | HoldSet
    | Started
    | Warmed
    | Decided
    | Retried
    | Sent
    | Expired
    | Checkpoint
)
"""Any event; the union that JSON is decoded to."""

FeedEvent = (
    BarClosed | BarMissing | BarRevised | StepClosed | Mark | FundingRate | InstrumentChanged | FeedHealth | CaughtUp
)
"""Any event that a feed sends; the union that its lines are decoded to."""

FACTS = (RequestAnswered, Flattened, HoldSet, Started, Warmed, Decided, Retried, Sent, Expired, Checkpoint)
"""Events that a lane makes itself."""
