"""The state of a lane: books, orders, terms, holds and timers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

from mei_pipeline.execution.books import BookPlan, StepBook
from mei_pipeline.execution.commands import ENDED, Command, Order
from mei_pipeline.execution.events import (
    NO_OVERRIDES,
    ConfigOffered,
    Event,
    Fill,
    HoldState,
    InstrumentChanged,
    OpenTrade,
    OverridesChanged,
    RequestAnswered,
)
from mei_pipeline.execution.rows import Row

MAX_LATE_MS = 10_000
"""Delay after which a step is too late for entries, unless the lane says otherwise."""


@dataclass(frozen=True)
class LaneSetup:
    """The part of a lane that does not change while it runs.

    Attributes:
        lane: Name of the lane.
        mode: `paper`, `shadow` or `live`.
        book_ids: Book id of the journal, then the former ones.
        equity_usd: Initial equity.
        kernel_hash: Hash of the kernels of this process.
        make_plan: Encodes a config.
        max_late_ms: Delay after which a step is too late for entries.
    """

    lane: str
    mode: str
    book_ids: tuple[str, ...]
    equity_usd: float
    kernel_hash: str
    make_plan: Callable[[ConfigOffered], BookPlan]
    max_late_ms: int = MAX_LATE_MS


_Changing = TypeVar("_Changing")


def _with_changes(before: _Changing, changes: Mapping[str, object]) -> _Changing:
    after: _Changing = object.__new__(type(before))
    after.__dict__.update(before.__dict__, **changes)
    if len(after.__dict__) != len(before.__dict__):
        raise TypeError(f"{type(before).__name__} has no field {min(changes.keys() - before.__dict__.keys())}")
    return after


@dataclass(frozen=True)
class LaneBook:
    """A book of a lane; the arrays of `step` are changed in place.

    Attributes:
        step: The book.
        config: Its config as it was offered last.
        draining: True if the book only exits.
        since_ms: Open time of the first step that it decided; None before.
        marked: True if its last step is marked to market.
    """

    step: StepBook
    config: ConfigOffered
    draining: bool = False
    since_ms: int | None = None
    marked: bool = True

    def with_changes(self, **changes: object) -> "LaneBook":
        """Return a copy with other values of some fields; see `LaneState.with_changes`."""
        return _with_changes(self, changes)

    @property
    def config_id(self) -> str:
        """The config."""
        return self.config.config_id


@dataclass(frozen=True)
class LaneState:
    """The state of a lane.

    Attributes:
        setup: The part that does not change.
        clock_ms: Latest time that the lane has seen, UTC milliseconds.
        step_ms: Open time of the last step; None before the first one.
        books: Books, the oldest first; only the last one enters.
        waiting: Config that waits for its features, or for an older book to drain.
        orders: Orders that have not ended, and the latest ended ones, by client order id.
        keys: Keys of the latest fills, payments and transfers, in order; changed in place.
        rates: Time of the latest funding rate of each symbol; changed in place.
        terms: Changes of the terms of each symbol, oldest first.
        terms_due_ms: Time of the next change that is not in force; 0 if one was received since the last step.
        stale: Streams that are stale, by symbol.
        unknown_bars: Symbols and intervals whose last bar is unknown.
        holds: Holds from files, by name.
        own_holds: Holds that the executor set, by name.
        overrides: Limits of strategy_overrides.yaml on promoted configs.
        timers: Time at which each timer is due, by name.
        reconciled: True once the account has agreed with the books after the start of this process.
        mismatches: Number of account snapshots in a row that differed from the books.
        trades: Open trades, by config and symbol.
        trade_count: Number of trades opened so far.
        early: Fills that wait for an earlier one of their symbol.
        foreign: Signed coins of fills that belong to no position of this lane, by symbol.
        initial_usd: Equity with which the first book was opened; 0 before.
        peak_usd: Highest equity of the lane so far.
        drawdown_usd: Maximum drawdown so far.
        last_fill_ms: Time of the latest fill.
        transfers_usd: Sum of all deposits, less all withdrawals.
        answers: Answers to the latest requests, by id.
    """

    setup: LaneSetup
    clock_ms: int = 0
    step_ms: int | None = None
    books: tuple[LaneBook, ...] = ()
    waiting: ConfigOffered | None = None
    orders: Mapping[str, Order] = field(default_factory=dict)
    keys: dict[str, None] = field(default_factory=dict)
    rates: dict[str, int] = field(default_factory=dict)
    terms: Mapping[str, tuple[InstrumentChanged, ...]] = field(default_factory=dict)
    terms_due_ms: int = 0
    stale: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unknown_bars: frozenset[tuple[str, str]] = frozenset()
    holds: Mapping[str, HoldState] = field(default_factory=dict)
    own_holds: Mapping[str, HoldState] = field(default_factory=dict)
    overrides: OverridesChanged = NO_OVERRIDES
    timers: Mapping[str, int] = field(default_factory=dict)
    reconciled: bool = False
    mismatches: int = 0
    trades: Mapping[tuple[str, str], OpenTrade] = field(default_factory=dict)
    trade_count: int = 0
    early: tuple[Fill, ...] = ()
    foreign: Mapping[str, float] = field(default_factory=dict)
    initial_usd: float = 0.0
    peak_usd: float = 0.0
    drawdown_usd: float = 0.0
    last_fill_ms: int = 0
    transfers_usd: float = 0.0
    answers: Mapping[str, RequestAnswered] = field(default_factory=dict)

    def with_changes(self, **changes: object) -> "LaneState":
        """Return a copy with other values of some fields, as `dataclasses.replace`, which takes ten times as long.

        A lane changes its state several times at each step.

        Raises:
            TypeError: There is no such field.
        """
        return _with_changes(self, changes)

    @property
    def step_length_ms(self) -> int:
        """Length of a step; 0 before the first book."""
        return self.books[-1].step.plan.clock.step_ms if self.books else 0

    @property
    def next_step_ms(self) -> int | None:
        """Open time of the next step; None before the first book."""
        if self.step_ms is None:
            return None
        return self.step_ms + (self.books[-1].step.plan.clock.step_ms if self.books else 0)

    @property
    def effects(self) -> dict[str, HoldState]:
        """All holds, those of the executor included."""
        return {**self.holds, **self.own_holds}

    def is_held(self, symbol: str) -> bool:
        """Return whether a hold or strategy_overrides.yaml forbids entries of a symbol."""
        return symbol in self.overrides.excluded or any(hold.symbol in {"", symbol} for hold in self.effects.values())

    def is_halted(self, symbol: str) -> bool:
        """Return whether a hold forbids every order of a symbol."""
        return any(hold.effect == "halt" and hold.symbol in {"", symbol} for hold in self.effects.values())


class Changed(NamedTuple):
    """A new state, and the rows of the journal that changed with it."""

    state: LaneState
    rows: tuple[Row, ...] = ()


class Reaction(NamedTuple):
    """Facts and commands that follow from an event. The facts change the state before the commands are executed."""

    facts: tuple[Event, ...] = ()
    commands: tuple[Command, ...] = ()


class Outcome(NamedTuple):
    """The result of `core.step`.

    Attributes:
        state: The state after the event and its facts.
        commands: What the process does next, after the event, the facts and the rows are in the journal.
        facts: Facts to journal after the event, in this order.
        rows: Rows of the journal that changed.
    """

    state: LaneState
    commands: tuple[Command, ...]
    facts: tuple[Event, ...]
    rows: tuple[Row, ...]


def find_book(state: LaneState, config_id: str) -> LaneBook | None:
    """Return the book of a config; None if there is none."""
    return next((book for book in state.books if book.config_id == config_id), None)


def holder_of(state: LaneState, symbol: str) -> LaneBook | None:
    """Return the book that holds a position of a symbol; None if no book does."""
    return next((book for book in state.books if book.step.size_of(symbol) != 0.0), None)


def with_book(state: LaneState, changed: LaneBook) -> LaneState:
    """Return the state with a book in the place of the one with the same config."""
    return replace(state, books=tuple(changed if book.config_id == changed.config_id else book for book in state.books))


def alive(state: LaneState, config_id: str = "", symbol: str = "") -> list[Order]:
    """Return the orders that have not ended, of one config or symbol if named."""
    return [
        order
        for order in state.orders.values()
        if order.state not in ENDED
        and (not config_id or order.place.config_id == config_id)
        and (not symbol or order.place.symbol == symbol)
    ]
