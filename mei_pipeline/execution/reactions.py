"""What a lane does about an event: facts that it records, and commands for its process."""

from collections.abc import Iterable
from dataclasses import replace

from mei_pipeline.execution import configs
from mei_pipeline.execution.books import to_coins
from mei_pipeline.execution.commands import (
    Alert,
    Cancel,
    Command,
    Order,
    Place,
    Query,
    QueryFills,
    Send,
    Snapshot,
)
from mei_pipeline.execution.deciding import decide, next_attempt
from mei_pipeline.execution.events import (
    AccountSnapshot,
    CaughtUp,
    ConfigOffered,
    Event,
    Expired,
    Fill,
    HoldsChanged,
    HoldSet,
    HoldState,
    OrderAccepted,
    OrderGone,
    OrderNotFound,
    OrderRefused,
    OrderUnknown,
    Retried,
    Sent,
    Started,
    StepClosed,
    Timer,
    Warmed,
)
from mei_pipeline.execution.orders import QUERY_GAP_MS, is_proven_dead
from mei_pipeline.execution.state import LaneState, Reaction, alive

QUERY_AGAIN_MS = QUERY_GAP_MS
"""Time between two queries of an unknown order."""

LATE_TIMER = "late"
"""Name of the timer that sends the closing orders of late steps."""

FILLS_BEFORE_MS = 60_000
"""Overlap of a query of fills with those that the lane knows."""

OWNER = "executor"
"""Owner of the holds that a lane sets itself."""

KERNELS_HOLD = "kernels"
"""Name of the hold of a lane whose config was measured by other kernels."""

_MISMATCHES = 2
"""Number of snapshots in a row that must differ from the books before a symbol is held."""


_Answer = OrderAccepted | OrderRefused | OrderUnknown | OrderNotFound | OrderGone


def react(before: LaneState, state: LaneState, event: Event) -> Reaction:  # noqa: C901, PLR0911 - one branch per event
    """Return what follows from an event that turned the state `before` into `state`."""
    match event:
        case StepClosed():
            return _react_to_step(before, state, event)
        case Fill():
            return _react_to_fill(state, event)
        case OrderRefused() | OrderGone() | OrderNotFound() | OrderUnknown() | OrderAccepted():
            return _react_to_answer(before, state, event)
        case Timer():
            return _react_to_timer(state, event)
        case CaughtUp():
            return release(state)
        case HoldsChanged():
            return _react_to_holds(before, state)
        case ConfigOffered():
            return Reaction(_kernel_hold(state, event), _offered(state, event))
        case Warmed():
            newest = state.books[-1]
            leaving = [order for book in state.books[:-1] for order in _opening(alive(state, book.config_id))]
            cancels = tuple(Cancel(order.place.cloid) for order in leaving)
            return Reaction(_kernel_hold(state, newest.config), (*configs.book_commands(before, state), *cancels))
        case Started():
            return _react_to_start(state)
        case AccountSnapshot():
            return _react_to_snapshot(before, state, event)
        case _:
            return Reaction()


def _react_to_step(before: LaneState, state: LaneState, event: StepClosed) -> Reaction:
    if state.step_ms != event.step_ms or before.step_ms == state.step_ms:
        return Reaction()  # a repeated step
    late = event.late_ms > state.setup.max_late_ms
    decisions = tuple(fact for book in state.books if (fact := decide(state, book, late=late)) is not None)
    dropped = dict.fromkeys(cloid for fact in decisions for cloid in fact.cancels)
    unsent = [order for order in alive(state) if order.place.cloid in dropped and order.state == "NEW"]
    withdrawn = tuple(_expired(state, order, "cancelled before it was sent") for order in unsent)
    cancels = tuple(Cancel(cloid) for cloid in dropped if state.orders[cloid].state != "NEW")
    told = (*configs.book_commands(before, state), *configs.next_warm(state))
    new = [Order(place=place) for fact in decisions for place in fact.orders]
    if late:
        # One closing order is sent after the last of several late steps, at the timer or at the next step in time.
        return Reaction((*decisions, *withdrawn), (*told, *cancels))
    reaction = release(state, new, without=dropped)
    return Reaction((*decisions, *withdrawn, *reaction.facts), (*told, *cancels, *reaction.commands))


def release(state: LaneState, new: Iterable[Order] = (), without: Iterable[str] = ()) -> Reaction:
    """Return the facts and commands that send every order that may be sent now.

    An opening order whose time has passed expires. Under a hold that halts the lane nothing is sent.

    Args:
        state: The lane.
        new: Orders that are not in the state yet.
        without: Client order ids of orders that are to be cancelled.
    """
    cancelled = set(without)
    waiting = [order for order in (*alive(state), *new) if order.state == "NEW" and order.place.cloid not in cancelled]
    if not waiting or state.halted:
        return Reaction()
    expired = [order for order in waiting if order.place.opens and state.clock_ms > order.place.expires_ms]
    ready = [order for order in waiting if order not in expired and _is_ready(state, order.place, waiting)]
    facts: list[Event] = [_expired(state, order, "it was not sent in time") for order in expired]
    if ready:
        facts.append(Sent(venue_ms=state.clock_ms, cloids=tuple(order.place.cloid for order in ready)))
    return Reaction(tuple(facts), (Send(tuple(order.place for order in ready)),) if ready else ())


def _is_ready(state: LaneState, place: Place, waiting: Iterable[Order]) -> bool:
    """Return whether an order need not wait for the closing order of its reversal.

    The fill model takes both at once and fills them in order; at a venue the closing order must have ended.
    """
    if not place.after or place.tif == "model":
        return True
    first = state.orders.get(place.after)
    return first is None or first.ended or place.after not in {order.place.cloid for order in waiting}


def _expired(state: LaneState, order: Order, reason: str) -> Expired:
    return Expired(venue_ms=state.clock_ms, cloid=order.place.cloid, reason=reason)


def _react_to_fill(state: LaneState, fill: Fill) -> Reaction:
    name = f"foreign-{fill.symbol.lower()}"
    if state.foreign.get(fill.symbol, 0.0) == 0.0 or name in state.own_holds:
        return Reaction()
    text = f"{fill.symbol}: a fill of {state.foreign[fill.symbol]} coins belongs to no position of this lane"
    hold = HoldState(owner=OWNER, effect="close_only", reason=text, since_ms=state.clock_ms, symbol=fill.symbol)
    return Reaction((HoldSet(venue_ms=state.clock_ms, name=name, hold=hold),), (Alert(name, "critical", text),))


def _react_to_answer(before: LaneState, state: LaneState, event: _Answer) -> Reaction:
    order = state.orders.get(event.cloid)
    if order is None:
        return Reaction()
    cloid = order.place.cloid
    match event:
        case OrderUnknown() if order.state == "UNKNOWN":
            return Reaction(commands=(Query(cloid),))
        case OrderNotFound() if order.state == "UNKNOWN":
            return _react_to_not_found(state, order, event)
        case OrderRefused() if order.state == "REJECTED" and not before.orders[cloid].ended:
            text = f"{order.place.symbol}: {order.place.intent.purpose} order refused: {event.reason}"
            return Reaction(commands=(Alert(f"refused-{order.place.symbol}", "warning", text),))
        case OrderGone() if not order.ended:
            return Reaction(commands=(QueryFills(state.last_fill_ms - FILLS_BEFORE_MS),))
        case _:
            return Reaction()


def _react_to_not_found(state: LaneState, order: Order, event: OrderNotFound) -> Reaction:
    """Send an order again that never arrived, while it is in time; let it expire once it can't arrive any more."""
    place = order.place
    in_time = not place.opens or state.clock_ms <= place.expires_ms
    if event.final and in_time and not state.halted:
        return Reaction((Sent(venue_ms=state.clock_ms, cloids=(place.cloid,)),), (Send((place,)),))
    if (event.final and not in_time) or is_proven_dead(order, state.clock_ms):
        return Reaction((_expired(state, order, "the venue does not know it"),))
    return Reaction()


def _react_to_timer(state: LaneState, event: Timer) -> Reaction:
    kind, _, cloid = event.name.partition(":")
    order = state.orders.get(cloid)
    if kind == LATE_TIMER:
        return release(state)
    if order is None:
        return Reaction()
    if kind == "query" and order.state == "UNKNOWN":
        return Reaction(commands=(Query(cloid),))
    if kind == "retry" and (place := next_attempt(state, order)) is not None:
        fact = Retried(venue_ms=state.clock_ms, order=place)
        sending = release(state, [Order(place=place)])
        return Reaction((fact, *sending.facts), sending.commands)
    return Reaction()


def _react_to_holds(before: LaneState, state: LaneState) -> Reaction:
    new = [name for name in state.holds if name not in before.holds]
    lifted = [name for name in before.holds if name not in state.holds]
    alerts = [
        Alert(f"hold-{name}", "warning", f"hold {name} ({state.holds[name].effect}): {state.holds[name].reason}")
        for name in new
    ]
    alerts += [Alert(f"hold-{name}", "info", f"hold {name} is lifted") for name in lifted]
    opening = _opening(alive(state)) if any(not state.holds[name].symbol for name in new) else []
    # Orders that were not sent yet expire by themselves; those at the venue are cancelled.
    cancels = [Cancel(order.place.cloid) for order in opening if order.state != "NEW"]
    sending = release(state)
    return Reaction(sending.facts, (*cancels, *sending.commands, *alerts))


def _opening(orders: Iterable[Order]) -> list[Order]:
    return [order for order in orders if order.place.opens]


def _offered(state: LaneState, offer: ConfigOffered) -> tuple[Command, ...]:
    return configs.next_warm(state) if state.waiting is offer else ()


def _kernel_hold(state: LaneState, config: ConfigOffered) -> tuple[Event, ...]:
    """Return the fact that sets or lifts the hold of a lane whose newest config other kernels measured."""
    other = config.kernel_hash != state.setup.kernel_hash
    if other == (KERNELS_HOLD in state.own_holds):
        return ()
    if not other:
        return (HoldSet(venue_ms=state.clock_ms, name=KERNELS_HOLD, hold=None),)
    reason = (
        f"config {config.config_id[:12]} was measured by kernels {config.kernel_hash[:12]}, this process has "
        f"{state.setup.kernel_hash[:12]}; positions keep their exits, and no entry is made until it is measured again"
    )
    hold = HoldState(owner=OWNER, effect="close_only", reason=reason, since_ms=state.clock_ms)
    return (HoldSet(venue_ms=state.clock_ms, name=KERNELS_HOLD, hold=hold),)


def _react_to_start(state: LaneState) -> Reaction:
    """Return the commands of a start: ask for everything whose answer may have been lost."""
    unknown = tuple(Query(order.place.cloid) for order in alive(state) if order.state == "UNKNOWN")
    facts = _kernel_hold(state, state.books[-1].config) if state.books else ()
    alert = tuple(
        Alert(f"hold-{fact.name}", "critical", fact.hold.reason)
        for fact in facts
        if isinstance(fact, HoldSet) and fact.hold is not None
    )
    return Reaction(facts, (*unknown, QueryFills(state.last_fill_ms - FILLS_BEFORE_MS), Snapshot(), *alert))


def differences(state: LaneState, snapshot: AccountSnapshot) -> dict[str, str]:
    """Return the difference between the account and the books, in words, by symbol."""
    held: dict[str, float] = {}
    for book in state.books:
        for symbol in book.step.plan.symbols:
            size = book.step.size_of(symbol)
            if size != 0.0:
                held[symbol] = held.get(symbol, 0.0) + size
    venue = {symbol: to_coins(*lots) for symbol, lots in snapshot.positions.items()}
    return {
        symbol: f"the account holds {venue.get(symbol, 0.0):g} coins, the books {held.get(symbol, 0.0):g}"
        for symbol in sorted(held.keys() | venue.keys())
        if held.get(symbol, 0.0) != venue.get(symbol, 0.0)
    }


def compare(state: LaneState, snapshot: AccountSnapshot) -> LaneState:
    """Return the state after an account snapshot: whether the account agrees with the books."""
    if snapshot.equity_usd is None:
        return replace(state, reconciled=False)
    if differences(state, snapshot):
        # After the last difference the symbols that differ are held, and the others may enter.
        again = state.mismatches + 1
        return replace(state, mismatches=again, reconciled=again >= _MISMATCHES)
    return replace(state, reconciled=True, mismatches=0)


def _react_to_snapshot(before: LaneState, state: LaneState, snapshot: AccountSnapshot) -> Reaction:
    """Ask again after a first difference, and hold the symbols that still differ after the second one."""
    found = differences(state, snapshot)
    if not found or state.mismatches == before.mismatches:
        return Reaction()
    if state.mismatches < _MISMATCHES:
        return Reaction(commands=(QueryFills(state.last_fill_ms - FILLS_BEFORE_MS), Snapshot()))
    facts: list[Event] = []
    commands: list[Command] = []
    for symbol, text in found.items():
        name = f"mismatch-{symbol.lower()}"
        if name in state.own_holds:
            continue
        hold = HoldState(
            owner=OWNER, effect="close_only", reason=f"{symbol}: {text}", since_ms=state.clock_ms, symbol=symbol
        )
        facts.append(HoldSet(venue_ms=state.clock_ms, name=name, hold=hold))
        commands.append(Alert(name, "critical", f"{symbol}: {text}"))
    return Reaction(tuple(facts), tuple(commands))
