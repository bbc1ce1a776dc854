"""Go through the events of a day, and repeat each step from the state that the lane had before it.

Each step begins at the recorded state, so a difference does not spread into later steps: each one has a cause of its
own. A step is repeated in three parts: the fill model up to the decisions, the decisions, the fill model at the close.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from mei_pipeline.execution.booking import finish
from mei_pipeline.execution.books import BookPlan, StepBook
from mei_pipeline.execution.core import absorb
from mei_pipeline.execution.day_check.again import (
    ModelRow,
    copy_of,
    decide_again,
    decide_undisturbed,
    describe_difference,
    different_symbols,
    fill_at_close,
    fill_until_decision,
    gate_of,
    recorded_row,
    row_differences,
)
from mei_pipeline.execution.day_check.causes import Trouble, cause_of_block, crossed_orders, trouble_of
from mei_pipeline.execution.day_check.differences import Difference, GateDifference
from mei_pipeline.execution.day_check.seen_features import SeenFeatures
from mei_pipeline.execution.events import (
    BarClosed,
    BarMissing,
    Decided,
    Event,
    Fill,
    Flattened,
    Funding,
    FundingRate,
    Started,
    StepClosed,
    Transfer,
)
from mei_pipeline.execution.state import LaneBook, LaneState, find_book

FeaturesOf = Callable[[BookPlan], SeenFeatures | None]
"""Returns the columns of a config as a sweep computes them; None if they can't be computed."""

GatesOf = Callable[[str], tuple[Any, tuple[str, ...]]]
"""Returns the compiled function that evaluates the gates of a strategy, and their names."""

BookOf = Callable[[LaneState, Event], StepBook | None]
"""Returns the book that a fact `Warmed` is about (`recovery.book_of`)."""

_MARKET = (BarClosed, BarMissing, FundingRate, StepClosed)


@dataclass(frozen=True)
class WalkPlan:
    """Inputs of a walk beside the events.

    Attributes:
        from_ms: Beginning of the steps to repeat.
        to_ms: Their end.
        features: See `FeaturesOf`.
        gates: See `GatesOf`.
        book_of: See `BookOf`.
        late: Spans of steps in which a fill of a symbol was missing, because it arrived late: first step and step of
            its arrival, UTC milliseconds.
        started: Start of the process that journaled the first event.
        last_step_ms: Last step of the journal; what is missing in it may still come.
    """

    from_ms: int
    to_ms: int
    features: FeaturesOf
    gates: GatesOf
    book_of: BookOf
    late: Mapping[str, tuple[tuple[int, int], ...]]
    started: Started
    last_step_ms: int | None


@dataclass
class _Closing:
    """A step whose `StepClosed` was taken, until the next one begins.

    Attributes:
        step_ms: Open time of the step.
        late_ms: Delay of its end.
        again: Repeated decisions and the copy that made them, by config, until the recorded ones were compared.
        copies: The copies, until the fill model has filled at the close.
        expected: Fills of the fill model at the close, by config; None before.
    """

    step_ms: int
    late_ms: int
    again: dict[str, tuple[Decided | None, LaneBook]]
    copies: dict[str, LaneBook]
    expected: dict[str, list[ModelRow]] | None = None


@dataclass
class Walk:
    """A walk through the events of a day.

    Attributes:
        plan: What it needs beside the events.
        state: The lane after the last event.
        differences: Differences so far.
        repeated: Open times of the steps that were repeated.
        decisions: Number of decisions that were repeated.
        fills: Number of fills and payments that were compared.
        foreign_kernels: Kernels of steps that were left out because others than the present ones decided them.
    """

    plan: WalkPlan
    state: LaneState
    differences: list[Difference] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)
    decisions: int = 0
    fills: int = 0
    foreign_kernels: set[str] = field(default_factory=set)
    _started: Started = field(init=False)
    _crossed: set[tuple[str, str]] = field(default_factory=set)
    _begun: tuple[LaneBook, ...] | None = None
    _arrived: list[Event] = field(default_factory=list)
    _recorded: dict[str, list[ModelRow]] = field(default_factory=lambda: defaultdict(list))
    _closing: _Closing | None = None

    def __post_init__(self) -> None:
        self._started = self.plan.started

    def take_all(self, events: Iterable[Event]) -> None:
        """Take the events of a journal, oldest first."""
        for event in events:
            self._take(event)
        self._end_step()

    @property
    def _inside(self) -> bool:
        """True if the next step is one of those to repeat, and the present kernels decided it."""
        next_ms = self.state.next_step_ms
        inside = next_ms is not None and self.plan.from_ms <= next_ms < self.plan.to_ms
        if inside and self._started.kernel_hash != self.state.setup.kernel_hash:
            self.foreign_kernels.add(self._started.kernel_hash)
            return False
        return inside

    def _take(self, event: Event) -> None:
        if isinstance(event, Started):
            self._started = event
        if self._begun is None and self._begins(event):
            self._end_step()
            if self._inside:
                self.state = finish(self.state).state
                self._begun = tuple(copy_of(book, features=False) for book in self.state.books)
                self._crossed = crossed_orders(self.state)
        if self._closing is not None and not isinstance(event, Decided):
            self._fill_at_close(self._closing)
        if self._begun is not None and isinstance(event, StepClosed) and event.step_ms == self.state.next_step_ms:
            self._close(event, self._begun)
            return
        if self._begun is not None and isinstance(event, BarClosed | FundingRate):
            self._arrived.append(event)
        if self._closing is not None and isinstance(event, Decided):
            self._compare_decisions(self._closing, event)
        if isinstance(event, Fill | Funding | Transfer | Flattened):
            self._note(event)
        before = self.state
        self.state = absorb(before, event, self.plan.book_of(before, event)).state
        if self.state.orders is not before.orders and self._repeats(before):
            self._note_end(before)

    def _repeats(self, state: LaneState) -> bool:
        """Return whether the last step of a state is one of those to repeat."""
        return state.step_ms is not None and self.plan.from_ms <= state.step_ms < self.plan.to_ms

    def _begins(self, event: Event) -> bool:
        """Return whether an event is the first of the next step."""
        if isinstance(event, Fill | Funding):
            return event.step_ms is not None and event.step_ms == self.state.next_step_ms
        return isinstance(event, _MARKET)

    def _close(self, event: StepClosed, begun: tuple[LaneBook, ...]) -> None:
        """Compare the step up to its decisions, and decide it again."""
        expected = fill_until_decision(self.state, begun, self._arrived, event.step_ms)
        for book in begun:
            self._compare_rows(event.step_ms, book.config_id, expected[book.config_id])
        self._begun = None
        self._arrived.clear()
        self._recorded.clear()
        self.state = absorb(self.state, event).state
        late = event.late_ms > self.state.setup.max_late_ms
        again = {
            book.config_id: decide_again(self.state, book, self.plan.features(book.step.plan), late=late)
            for book in self.state.books
        }
        copies = {config_id: copied for config_id, (_, copied) in again.items()}
        self._closing = _Closing(event.step_ms, event.late_ms if late else 0, again, copies)
        self.repeated.append(event.step_ms)

    def _compare_decisions(self, closing: _Closing, recorded: Decided | None, config_id: str = "") -> None:
        """Compare the decisions of a book with the repeated ones, and these with those of an undisturbed lane."""
        config_id = config_id if recorded is None else recorded.config_id
        book = find_book(self.state, config_id)
        if config_id not in closing.again or book is None:
            return
        again, copied = closing.again.pop(config_id)
        self.decisions += 1
        features = self.plan.features(book.step.plan)
        symbols = different_symbols(recorded, again)
        for symbol in symbols:
            what, one, other = describe_difference(recorded, again, symbol)
            gate = self._gate(book, copied, symbol)
            self.differences.append(Difference("logic", closing.step_ms, config_id, symbol, what, one, other, "", gate))
        if recorded is not None and again is not None:
            for name in ("late", "blocked", "reserved_places", "size_multiplier", "refused", "cancels"):
                one, other = (repr(getattr(fact, name)) for fact in (recorded, again))
                if one != other:
                    self.differences.append(Difference("logic", closing.step_ms, config_id, "", name, one, other))
        if again is None or symbols or not self._is_limited(again):
            return
        free = decide_undisturbed(self.state, book, features)
        for symbol in different_symbols(again, free):
            what, one, other = describe_difference(again, free, symbol)
            kind, reason = cause_of_block(again, symbol, closing.late_ms, self.state.overrides.size_multiplier)
            self.differences.append(Difference(kind, closing.step_ms, config_id, symbol, what, one, other, reason))

    def _is_limited(self, fact: Decided) -> bool:
        """Return whether something outside a book has limited its decisions."""
        limits = self.state.overrides.size_multiplier != 1.0 or len(self.state.books) > 1
        return fact.late or bool(fact.blocked) or limits

    def _gate(self, book: LaneBook, copied: LaneBook, symbol: str) -> GateDifference | None:
        explain, names = self.plan.gates(book.step.plan.resolved.strategy)
        return gate_of(explain, names, book, copied, symbol)

    def _fill_at_close(self, closing: _Closing) -> None:
        """Fill at the close of a step once all of its decisions are known."""
        if closing.expected is not None:
            return
        for config_id in tuple(closing.again):
            self._compare_decisions(closing, None, config_id)
        self._crossed = crossed_orders(self.state)
        closing.expected = {
            config_id: fill_at_close(copied, book)
            for config_id, copied in closing.copies.items()
            if (book := find_book(self.state, config_id)) is not None
        }

    def _end_step(self) -> None:
        """Compare the fills at the close of the last step."""
        closing = self._closing
        if closing is None:
            return
        self._fill_at_close(closing)
        for config_id, rows in (closing.expected or {}).items():
            self._compare_rows(closing.step_ms, config_id, rows)
        self._recorded.clear()
        self._closing = None

    def _note(self, event: Fill | Funding | Transfer | Flattened) -> None:
        """Keep a fill or payment for its comparison; one that the fill model can't have made is a difference."""
        inside = self.plan.from_ms <= self.state.clock_ms <= self.plan.to_ms
        if isinstance(event, Flattened):
            if inside:
                self._note_flatten(event)
            return
        if event.key in self.state.keys:
            return
        step_ms = self.state.step_ms or 0
        if isinstance(event, Transfer):
            if inside:
                text = f"{event.usd!r} USD"
                self.differences.append(
                    Difference("config", step_ms, "", "", "transfer", text, "none", "a person moved cash")
                )
            return
        present = self._closing.step_ms if self._closing is not None else self.state.next_step_ms
        if event.step_ms is not None and event.step_ms == present and (self._closing or self._begun is not None):
            self._recorded[self._owner(event)].append(recorded_row(event))
        elif inside:
            self._note_other(event, step_ms)

    def _note_flatten(self, fact: Flattened) -> None:
        for place in fact.orders:
            size = f"{place.lots / 10**place.lot_decimals!r}"
            where = (self.state.step_ms or 0, place.config_id, place.symbol)
            reason = "a person closed the position by a request"
            self.differences.append(Difference("config", *where, "flatten order", size, "none", reason))

    def _note_other(self, event: Fill | Funding, step_ms: int) -> None:
        row = recorded_row(event)
        text = f"{row.usd!r} USD" if row.kind == "funding" else f"{row.size!r} at {row.price!r}"
        if event.step_ms is None:
            kind = event.kind if isinstance(event, Fill) else "funding"
            reason = f"the venue reported it (kind {kind}), and the fill model has no such event"
        elif event.step_ms < step_ms:
            reason = f"it arrived {(step_ms - event.step_ms) // self.state.step_length_ms} steps late"
        else:
            return  # of a step that was not repeated
        self.differences.append(Difference("fill", step_ms, "", event.symbol, row.kind, text, "none", reason))

    def _owner(self, event: Fill | Funding) -> str:
        """Return the config that a fill or payment belongs to."""
        order = self.state.orders.get(event.cloid) if isinstance(event, Fill) else None
        if order is not None:
            return order.place.config_id
        holders = [book.config_id for book in self.state.books if book.step.size_of(event.symbol) != 0.0]
        return next(iter(holders), self.state.books[-1].config_id)

    def _compare_rows(self, step_ms: int, config_id: str, expected: list[ModelRow]) -> None:
        recorded = self._recorded.pop(config_id, [])
        self.fills += len(recorded)
        modelled = self.state.setup.mode == "paper"
        complete = step_ms != self.plan.last_step_ms
        for one, other in _pairs(recorded, expected):
            [symbol, *_] = (row.symbol for row in (one, other) if row is not None)
            trouble = self._trouble(config_id, symbol, step_ms)
            if one is None and (not complete or (trouble is not None and trouble.noted)):
                continue
            reason = "" if trouble is None else trouble.text
            if not reason and self._started.faults and (one is None or other is None):
                reason = f"the broker was told to make faults: {self._started.faults}"
            difference = row_differences(step_ms, config_id, one, other, reason, modelled=modelled)
            if difference is not None:
                self.differences.append(difference)

    def _trouble(self, config_id: str, symbol: str, step_ms: int) -> Trouble | None:
        """Return what the broker did to the orders of a symbol in a step; None for nothing unusual."""
        if any(first <= step_ms <= last for first, last in self.plan.late.get(symbol, ())):
            return Trouble("fill", "a fill or payment of the symbol arrived late", noted=False)
        if (config_id, symbol) in self._crossed:
            return Trouble("fill", "the cancel of an order was on its way", noted=False)
        orders = (order for order in self.state.orders.values() if order.place.symbol == symbol)
        troubles = (trouble_of(order) for order in orders if order.updated_ms >= step_ms)
        return next((trouble for trouble in troubles if trouble is not None), None)

    def _note_end(self, before: LaneState) -> None:
        """Note each order that an event has ended before it was filled."""
        for cloid, order in self.state.orders.items():
            known = before.orders.get(cloid)
            if known is order or (known is not None and known.ended):
                continue
            trouble = trouble_of(order)
            if trouble is not None and trouble.noted:
                place, step_ms = order.place, self.state.step_ms or 0
                sizes = (lots / 10**place.lot_decimals for lots in (order.filled_lots, place.lots))
                filled, ordered = (f"{size!r} filled" for size in sizes)
                what = f"{place.intent.purpose} order"
                self.differences.append(
                    Difference(
                        trouble.kind, step_ms, place.config_id, place.symbol, what, filled, ordered, trouble.text
                    )
                )


def _pairs(recorded: list[ModelRow], expected: list[ModelRow]) -> Iterator[tuple[ModelRow | None, ModelRow | None]]:
    """Yield the rows of both lists in pairs, within a symbol and kind: first equal ones, then the others in order.

    A broker may report the fills of a step in another order than the fill model, such as those of a reversal.
    """
    groups: dict[tuple[str, str], tuple[list[ModelRow], list[ModelRow]]] = {}
    for number, rows in enumerate((recorded, expected)):
        for row in rows:
            groups.setdefault((row.symbol, row.kind), ([], []))[number].append(row)
    for ours, theirs in groups.values():
        for row in tuple(ours):
            if row in theirs:
                ours.remove(row)
                theirs.remove(row)
                yield row, row
        yield from zip_longest(ours, theirs)
