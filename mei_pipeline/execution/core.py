"""The core of a lane: `step(state, event)` returns the next state and the commands that follow. It does no I/O.

An event first changes the state (`absorb`). The lane then reacts: it makes facts, which change the state too, and
commands for its process. Recovery absorbs the events and facts of the journal again and reacts to none of them, so it
never decides: the orders of a step come from the journal.

The clock of a lane is the latest time among its events. Timers are due on that clock.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import structs

from mei_pipeline.candles.intervals import interval_ms, iso
from mei_pipeline.errors import Retryable
from mei_pipeline.execution import configs, operating, reactions
from mei_pipeline.execution.booking import (
    EARLY_TIMER,
    book_fill,
    book_funding,
    book_transfer,
    change_order,
    end_wait,
    finish,
    is_finished,
    order_row,
)
from mei_pipeline.execution.books import StepBook, begin_step, take_bar, take_rate, take_terms
from mei_pipeline.execution.commands import Order, Place
from mei_pipeline.execution.deciding import restore_decisions
from mei_pipeline.execution.events import (
    AccountSnapshot,
    BarClosed,
    BarMissing,
    BarRevised,
    Checkpoint,
    ConfigOffered,
    Decided,
    Event,
    Expired,
    FeedHealth,
    Fill,
    Flattened,
    Funding,
    FundingRate,
    HoldsChanged,
    HoldSet,
    HoldState,
    InstrumentChanged,
    OperatorRequested,
    OrderAccepted,
    OrderGone,
    OrderNotFound,
    OrderRefused,
    OrderUnknown,
    OverridesChanged,
    RequestAnswered,
    Retried,
    Sent,
    Started,
    StepClosed,
    Timer,
    Transfer,
    Warmed,
)
from mei_pipeline.execution.orders import advance, needs_query
from mei_pipeline.execution.reactions import LATE_TIMER
from mei_pipeline.execution.rows import DecisionRow, HoldRow, Row
from mei_pipeline.execution.state import Changed, LaneBook, LaneState, Outcome, find_book

RETRY_MS = 1_000
"""Least time between two attempts to close a position."""

OrderNews = OrderAccepted | OrderRefused | OrderUnknown | OrderNotFound | OrderGone | Expired
"""Events about one order that are no fill."""

KEPT_ORDERS = 50
"""Number of ended orders that a lane remembers."""


def step(state: LaneState, event: Event, book: StepBook | None = None) -> Outcome:
    """Move a lane by one event.

    Args:
        state: The state; its arrays are changed in place, so it must not be used again.
        event: The event.
        book: For the fact `Warmed`: the flat book whose features were computed.

    Raises:
        Retryable: The end of a step is missing between the event and the last step.
    """
    before = state
    state, rows = absorb(state, event, book)
    if type(event) in _QUIET:
        return Outcome(state, (), (), rows)
    if isinstance(event, OperatorRequested):
        reaction = operating.answer(before, state, event)
    else:
        reaction = reactions.react(before, state, event)
    for fact in reaction.facts:
        state, more = absorb(state, fact)
        rows += more
    return Outcome(state, reaction.commands, reaction.facts, rows)


def absorb_market(state: LaneState, events: Iterable[Event]) -> Changed:
    """Return the state after market data (`MARKET`), to which a lane never reacts.

    Raises:
        Retryable: As for `step`; events before the one without its step may have changed the arrays of books.
    """
    rows: tuple[Row, ...] = ()
    for event in events:
        state, more = _ABSORBERS.get(type(event), _pass)(state, event)
        if more:
            rows += more
    return Changed(state, rows)


def absorb(state: LaneState, event: Event, book: StepBook | None = None) -> Changed:
    """Return the state after an event, without reacting to it; arguments as for `step`."""
    if isinstance(event, Warmed):
        return configs.open_book(state, event, book)
    return _ABSORBERS.get(type(event), _pass)(state, event)


def _pass(state: LaneState, event: Event) -> Changed:
    return Changed(_at(state, event))


def _at(state: LaneState, event: Event) -> LaneState:
    """Return the state with its clock at the time of an event, if that is later."""
    if event.venue_ms is None or event.venue_ms <= state.clock_ms:
        return state
    return state.with_changes(clock_ms=event.venue_ms)


def _is_known(state: LaneState, close_ms: int) -> bool:
    """Return whether something that ends at a time belongs to a step that has closed, or to no book at all.

    Raises:
        Retryable: It belongs to a later step than the next one.
    """
    next_ms = state.next_step_ms
    if next_ms is None or close_ms <= next_ms:
        return True
    if close_ms > next_ms + state.step_length_ms:
        raise Retryable(
            f"feed: the end of the step {iso(next_ms)} is missing before market data of {iso(close_ms)}; subscribe "
            f"again from that step"
        )
    return False


def _take_bar(state: LaneState, bar: BarClosed) -> Changed:
    if _is_known(state, bar.open_ms + interval_ms(bar.interval)):
        return Changed(state)
    rows: tuple[Row, ...] = ()
    if not is_finished(state):  # at the first bar of a step
        state, rows = finish(state)
    for book in state.books:
        take_bar(book.step, bar)
    if state.unknown_bars and (bar.symbol, bar.interval) in state.unknown_bars:
        state = state.with_changes(unknown_bars=state.unknown_bars - {(bar.symbol, bar.interval)})
    return Changed(state, rows)


def _miss_bar(state: LaneState, bar: BarMissing) -> Changed:
    if bar.reason == "no trade" or _is_known(state, bar.open_ms + interval_ms(bar.interval)):
        return Changed(state)
    state, rows = finish(state)
    return Changed(state.with_changes(unknown_bars=state.unknown_bars | {(bar.symbol, bar.interval)}), rows)


def _take_rate(state: LaneState, event: FundingRate) -> Changed:
    # A feed repeats the events of an incomplete step after a restart, and rates add up.
    if _is_known(state, event.due_ms) or event.due_ms <= state.rates.get(event.symbol, 0):
        return Changed(state)
    state.rates[event.symbol] = event.due_ms
    rows: tuple[Row, ...] = ()
    if not is_finished(state):
        state, rows = finish(state)
    for book in state.books:
        take_rate(book.step, event.symbol, event.rate)
    return Changed(state, rows)


def _take_terms(state: LaneState, event: InstrumentChanged) -> Changed:
    """Keep a change of terms until it is in force; a feed repeats those in force with each snapshot."""
    untimed = structs.replace(event, venue_ms=None)
    known = state.terms.get(event.symbol, ())
    if untimed in known:
        return Changed(state)
    in_force = [change for change in known if change.from_ms <= state.clock_ms]
    kept = tuple(change for change in known if change in in_force[-1:] or change.from_ms > state.clock_ms)
    terms = {**state.terms, event.symbol: tuple(sorted((*kept, untimed), key=lambda change: change.from_ms))}
    return Changed(state.with_changes(terms=terms, terms_due_ms=0))


def _stale(state: LaneState, event: FeedHealth) -> dict[str, tuple[str, ...]]:
    others = tuple(stream for stream in state.stale.get(event.symbol, ()) if stream != event.stream)
    streams = others if event.stale_since_ms is None else (*others, event.stream)
    kept = {symbol: each for symbol, each in state.stale.items() if symbol != event.symbol}
    return {**kept, event.symbol: streams} if streams else kept


def _close_step(state: LaneState, event: StepClosed) -> Changed:
    expected = state.next_step_ms
    if expected is None or event.step_ms < expected:
        return Changed(_at(state, event))
    if event.step_ms > expected:
        raise Retryable(
            f"feed: the step {iso(expected)} is missing before {iso(event.step_ms)}; subscribe again from it"
        )
    state, rows = finish(state)
    state, more = configs.end_drained(state)
    rows += more
    due = state.terms_due_ms <= event.step_ms + state.step_length_ms
    for book in state.books:
        if due:
            take_terms(book.step, state.terms, event.step_ms)
        begin_step(book.step, event.step_ms)
        _count_waits(book)
    if due:
        state = state.with_changes(terms_due_ms=_next_terms(state, event.step_ms + state.step_length_ms))
    moved = tuple(
        book.with_changes(marked=False, since_ms=event.step_ms if book.since_ms is None else book.since_ms)
        for book in state.books
    )
    state = _at(state, event).with_changes(step_ms=event.step_ms, books=moved, orders=_recent(state))
    if event.late_ms > state.setup.max_late_ms:
        state = state.with_changes(timers={**state.timers, LATE_TIMER: state.clock_ms + RETRY_MS})
    return Changed(state, rows)


def _next_terms(state: LaneState, close_ms: int) -> int:
    """Return the time of the next change of any symbol's terms after a time; far in the future if there is none."""
    later = [each.from_ms for changes in state.terms.values() for each in changes if each.from_ms > close_ms]
    return min(later, default=1 << 62)


def _count_waits(book: LaneBook) -> None:
    """Count down the bars that the parts of waiting orders still wait, as the fill model does."""
    step = book.step
    for s in step.book.active[0, : int(step.account["active"])].tolist():
        if step.market.age[0, s] < 0:
            continue
        position = step.positions[s]
        for part, wait in (("close_frac", "close_wait"), ("open_size", "open_wait")):
            if position[part] != 0.0 and position[wait] > 0.0:
                position[wait] -= 1.0


def _recent(state: LaneState) -> Mapping[str, Order]:
    """Return the orders without the oldest ended ones."""
    if len(state.orders) <= 2 * KEPT_ORDERS:
        return state.orders
    ended = [cloid for cloid, order in state.orders.items() if order.ended]
    forgotten = set(ended[: max(len(ended) - KEPT_ORDERS, 0)])
    return {cloid: order for cloid, order in state.orders.items() if cloid not in forgotten}


def _take_decisions(state: LaneState, fact: Decided) -> Changed:
    book = find_book(state, fact.config_id)
    if book is None:
        return Changed(state)
    restore_decisions(book, fact)
    rows: tuple[Row, ...] = tuple(
        DecisionRow(
            step_ms=fact.step_ms,
            config_id=fact.config_id,
            symbol=symbol,
            verdict=verdict,
            signal=fact.codes.get(symbol, 0),
            note=fact.blocked.get(symbol, fact.blocked.get("*", "")) if verdict == "blocked" else "",
        )
        for symbol, verdict in fact.verdicts.items()
    )
    state, more = _register(state, fact.orders)
    return Changed(state, rows + more)


def _register(state: LaneState, placed: tuple[Place, ...]) -> Changed:
    """Add new orders to the state."""
    if not placed:
        return Changed(state)
    clock = state.clock_ms
    known = state.orders
    new = {
        place.cloid: Order(place=place, created_ms=clock, updated_ms=clock)
        for place in placed
        if place.cloid not in known
    }
    return Changed(
        state.with_changes(orders={**state.orders, **new}), tuple(order_row(order) for order in new.values())
    )


def _change_orders(state: LaneState, event: Event, cloids: tuple[str, ...]) -> Changed:
    """Advance several orders by one event."""
    rows: tuple[Row, ...] = ()
    for cloid in cloids:
        order = state.orders.get(cloid)
        if order is not None:
            state, more = change_order(state, advance(order, event, state.clock_ms), order)
            rows += more
    return Changed(state, rows)


def _watch(before: LaneState, changed: Changed) -> Changed:
    """Set the timers of orders that changed: for the rest of an ended closing order, and for the next query."""
    state = changed.state
    if state.orders is before.orders:
        return changed
    timers = dict(state.timers)
    for cloid, order in state.orders.items():
        known = before.orders[cloid]
        if order is known:
            continue
        if order.ended and not known.ended and not order.place.opens and order.left_lots:
            timers[f"retry:{cloid}"] = state.clock_ms + RETRY_MS
        if needs_query(order):
            timers[f"query:{cloid}"] = state.clock_ms + reactions.QUERY_AGAIN_MS
    return Changed(state.with_changes(timers=timers) if timers != state.timers else state, changed.rows)


def _take_timer(state: LaneState, event: Timer) -> Changed:
    """Return the state without a timer that is due; queries go on until the order's news are complete."""
    timers = {name: due for name, due in state.timers.items() if name != event.name}
    kind, _, cloid = event.name.partition(":")
    order = state.orders.get(cloid)
    if kind == "query" and order is not None and needs_query(order):
        timers[event.name] = state.clock_ms + reactions.QUERY_AGAIN_MS
    state = state.with_changes(timers=timers)
    return _watch(state, end_wait(state, cloid)) if kind == EARLY_TIMER else Changed(state)


def _start(state: LaneState, fact: Started) -> Changed:
    """Return the state at the start of a process: orders without an answer are unknown, the account is not compared."""
    state, rows = _change_orders(state.with_changes(reconciled=False, mismatches=0), fact, tuple(state.orders))
    queries = {f"query:{cloid}" for cloid, order in state.orders.items() if needs_query(order)}
    timers = {**state.timers, **dict.fromkeys(queries, state.clock_ms + reactions.QUERY_AGAIN_MS)}
    return Changed(state.with_changes(timers=timers), rows)


def _take_holds(state: LaneState, event: HoldsChanged) -> Changed:
    rows: list[Row] = []
    for name, hold in event.holds.items():
        if state.holds.get(name) != hold:
            rows.append(_hold_row(name, hold, own=False, lifted_ms=None))
    for name, hold in state.holds.items():
        if name not in event.holds or event.holds[name].since_ms != hold.since_ms:
            rows.append(_hold_row(name, hold, own=False, lifted_ms=state.clock_ms))
    return Changed(state.with_changes(holds=event.holds), tuple(rows))


def _set_own_hold(state: LaneState, fact: HoldSet) -> Changed:
    kept = {name: hold for name, hold in state.own_holds.items() if name != fact.name}
    if fact.hold is None:
        lifted = state.own_holds.get(fact.name)
        rows = () if lifted is None else (_hold_row(fact.name, lifted, own=True, lifted_ms=state.clock_ms),)
        return Changed(state.with_changes(own_holds=kept), rows)
    row = _hold_row(fact.name, fact.hold, own=True, lifted_ms=None)
    return Changed(state.with_changes(own_holds={**kept, fact.name: fact.hold}), (row,))


def _hold_row(name: str, hold: HoldState, *, own: bool, lifted_ms: int | None) -> HoldRow:
    return HoldRow(
        name=name,
        symbol=hold.symbol,
        owner=hold.owner,
        effect=hold.effect,
        reason=hold.reason,
        since_ms=hold.since_ms,
        own=own,
        lifted_ms=lifted_ms,
    )


def _flatten(state: LaneState, fact: Flattened) -> Changed:
    operating.close_parts(state, fact.orders)
    return _register(state, fact.orders)


def _take_fill(state: LaneState, fill: Fill) -> Changed:
    return _watch(state, book_fill(_at(state, fill), fill))


def _take_answer(state: LaneState, event: OrderNews) -> Changed:
    return _watch(state, _change_orders(_at(state, event), event, (event.cloid,)))


_ABSORBERS: dict[type[Event], Callable[[LaneState, Any], Changed]] = {
    BarClosed: _take_bar,
    BarMissing: _miss_bar,
    FundingRate: _take_rate,
    StepClosed: _close_step,
    InstrumentChanged: _take_terms,
    FeedHealth: lambda state, event: Changed(_at(state, event).with_changes(stale=_stale(state, event))),
    Decided: _take_decisions,
    Sent: lambda state, event: _change_orders(state, event, event.cloids),
    Retried: lambda state, event: _register(state, (event.order,)),
    **dict.fromkeys((OrderAccepted, OrderRefused, OrderUnknown, OrderNotFound, OrderGone, Expired), _take_answer),
    Fill: _take_fill,
    Funding: lambda state, event: book_funding(_at(state, event), event),
    Transfer: lambda state, event: book_transfer(_at(state, event), event),
    Timer: lambda state, event: _take_timer(_at(state, event), event),
    AccountSnapshot: lambda state, event: Changed(reactions.compare(_at(state, event), event)),
    ConfigOffered: lambda state, event: configs.take_offer(_at(state, event), event),
    HoldsChanged: lambda state, event: _take_holds(_at(state, event), event),
    OverridesChanged: lambda state, event: Changed(
        _at(state, event).with_changes(overrides=structs.replace(event, venue_ms=None))
    ),
    HoldSet: _set_own_hold,
    RequestAnswered: lambda state, fact: Changed(operating.keep_answer(state, fact)),
    Flattened: _flatten,
    Started: _start,
    Checkpoint: lambda state, _event: finish(state),
}
"""Change of the state by each class of events; other events only move the clock."""

MARKET = frozenset({BarClosed, BarMissing, BarRevised, FundingRate, InstrumentChanged})
"""Classes of market data. A step has dozens of such events, and a lane never reacts to them."""

_QUIET = MARKET | {FeedHealth, Funding}
"""Classes of events that a lane never reacts to."""
