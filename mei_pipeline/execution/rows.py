"""Rows of a journal's projections: what people read about a lane, written in the transaction of the event behind it.

`core.step` returns the rows that an event changes. A row replaces the one with the same key; `KEYS` has the key of each
class. Times are UTC milliseconds, money is USD, sizes are signed coins.
"""

import msgspec


class OrderRow(msgspec.Struct, frozen=True, kw_only=True):
    """An order and its intent.

    Attributes:
        cloid: Client order id.
        origin: Step or request of the intent; with symbol, purpose and attempt unique.
        symbol: The symbol.
        purpose: Purpose of the intent.
        attempt: Attempt of the intent.
        config_id: Config of the book.
        state: State of the order (`orders.State`).
        lots: Signed lots.
        lot_decimals: Decimals of a lot.
        limit_price: Limit price as text; None if the fill model prices the order.
        tif: Time in force.
        reduce_only: True for an order that may only close.
        expires_ms: Time after which the venue must not accept it.
        oid: Id at the venue; empty if unknown.
        filled_lots: Signed lots that were filled.
        reason: Reason of its end or of its unknown state.
        created_ms: Time of the decision.
        updated_ms: Time of the last change.
    """

    cloid: str
    origin: str
    symbol: str
    purpose: str
    attempt: int
    config_id: str
    state: str
    lots: int
    lot_decimals: int
    limit_price: str | None
    tif: str
    reduce_only: bool
    expires_ms: int
    oid: str
    filled_lots: int
    reason: str
    created_ms: int
    updated_ms: int


class FillRow(msgspec.Struct, frozen=True, kw_only=True):
    """A fill as the book took it; the columns after `key` and `cloid` are those of `replay.run.Replay.fills`.

    Attributes:
        key: Id of the fill at the venue; a fill that passes through zero has two rows, the second with `/2`, and a
            settlement with the venue is a row of its own, with `/0`.
        cloid: The order; empty if none of this lane caused it.
        config_id: Config of the book.
        kind: Kind of the fill (`events.Kind`).
        time_ms: Time of the fill.
        step: Number of the step, counted from the anchor.
        symbol: The symbol.
        reason: Reason, as in a log of the kernels: entry, add, signal, stop, …
        moment: `open`, `inside` or `close` of the step.
        size: Signed coins.
        price: Price.
        fee_usd: Fee.
        cash_usd: Change of the account's cash.
        held: Signed coins of the position after it.
        signal: Signal code of the order that opened.
        trade: Number of the trade, counted from 1 in the order of opening.
    """

    key: str
    cloid: str
    config_id: str
    kind: str
    time_ms: int
    step: int
    symbol: str
    reason: str
    moment: str
    size: float
    price: float
    fee_usd: float
    cash_usd: float
    held: float
    signal: int
    trade: int


class FundingRow(msgspec.Struct, frozen=True, kw_only=True):
    """A funding payment as the book took it.

    `usd` is what the account paid; `cash_usd` is the change of its cash, which rounding may let differ in the last bit.
    """

    key: str
    config_id: str
    time_ms: int
    step: int
    symbol: str
    usd: float
    cash_usd: float
    price: float
    held: float
    trade: int


class PositionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A position; a row of size 0 removes it. Stop and target are None without one."""

    config_id: str
    symbol: str
    size: float
    entry_price: float
    stop: float | None
    target: float | None
    margin_usd: float
    leverage: float
    opened_ms: int
    trade: int
    updated_ms: int


class TradeRow(msgspec.Struct, frozen=True, kw_only=True):
    """A trade, from flat to flat; exit columns are None while it is open.

    Attributes:
        trade: Number of the trade.
        config_id: Config of the book.
        symbol: The symbol.
        side: `long` or `short`.
        entry_ms: Time of the first fill.
        exit_ms: Time of the last fill.
        entry_price: Average price of all opening fills, weighted by size.
        exit_price: Average price of all closing fills, weighted by size.
        size: Largest size held, in coins.
        adds: Number of additions.
        partials: Number of partial closes.
        reason: Reason of the last close.
        fees_usd: Fees.
        funding_usd: Funding paid.
        pnl_usd: Profit, net of fees, funding and settlements.
    """

    trade: int
    config_id: str
    symbol: str
    side: str
    entry_ms: int
    exit_ms: int | None
    entry_price: float
    exit_price: float | None
    size: float
    adds: int
    partials: int
    reason: str | None
    fees_usd: float
    funding_usd: float
    pnl_usd: float


class DecisionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A decision about a symbol with a signal, position or order.

    Attributes:
        step_ms: Open time of the step.
        config_id: Config of the book.
        symbol: The symbol.
        verdict: Verdict (`kernels.book.VERDICTS`).
        signal: Signal code; 0 for none.
        note: Reason of a block; else empty.
    """

    step_ms: int
    config_id: str
    symbol: str
    verdict: str
    signal: int
    note: str


class EquityRow(msgspec.Struct, frozen=True, kw_only=True):
    """Equity of the lane at the close of a step, over all its books."""

    step_ms: int
    equity_usd: float
    cash_usd: float
    margin_usd: float
    open_positions: int
    drawdown_usd: float


class ConfigChangeRow(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the config in force.

    Attributes:
        time_ms: Clock of the lane.
        config_id: The config.
        generation: Generation of the pointer.
        size_multiplier: Size multiplier.
        change: `opened`, `resized`, `paused`, `resumed`, `draining`, `closed`, `waiting` or `refused`.
        reason: Reason of a refusal; else empty.
    """

    time_ms: int
    config_id: str
    generation: int
    size_multiplier: float
    change: str
    reason: str


class HoldRow(msgspec.Struct, frozen=True, kw_only=True):
    """A hold that was set or lifted.

    Attributes:
        name: Name of the hold.
        symbol: Its symbol; empty for all symbols.
        owner: The person or service that set it.
        effect: `close_only` or `halt`.
        reason: Reason in words.
        since_ms: Clock of the lane when it came into force; 0 before the first book.
        own: True for a hold of the executor itself.
        lifted_ms: Clock of the lane when it was lifted; None while it is in force.
    """

    name: str
    symbol: str
    owner: str
    effect: str
    reason: str
    since_ms: int
    own: bool
    lifted_ms: int | None


Row = (
    OrderRow
    | FillRow
    | FundingRow
    | PositionRow
    | TradeRow
    | DecisionRow
    | EquityRow
    | ConfigChangeRow
    | HoldRow
)  # fmt: skip

KEYS: dict[type, tuple[str, ...]] = {
    OrderRow: ("cloid",),
    FillRow: ("key",),
    FundingRow: ("key",),
    PositionRow: ("config_id", "symbol"),
    TradeRow: ("trade",),
    DecisionRow: ("step_ms", "config_id", "symbol"),
    EquityRow: ("step_ms",),
    ConfigChangeRow: ("time_ms", "generation", "change"),
    HoldRow: ("name", "since_ms"),
}
"""Key of each class. A fill or funding payment with a key that exists is a defect: the writer refuses it."""
