"""Reactions of a lane to an event: facts that it records, and commands for its process."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mei_pipeline.execution import configs
from mei_pipeline.execution.booking import EARLY_TIMER
from mei_pipeline.execution.books import to_coins
from mei_pipeline.execution.commands import (
    Alert,
    Cancel,
    Command,
    Order,
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
    OverridesChanged,
    Retried,
    Sent,
    Started,
    StepClosed,
    Timer,
    Warmed,
)
from mei_pipeline.execution.openings import unwanted
from mei_pipeline.execution.orders import QUERY_GAP_MS, answered_ms, is_proven_dead, needs_query
from mei_pipeline.execution.state import LaneState, Reaction, alive, find_book

QUERY_AGAIN_MS = QUERY_GAP_MS
"""Time between two queries of an unknown order."""

LATE_TIMER = "late"
"""Name of the timer that sends the closing orders of late steps."""

FILLS_BEFORE_MS = 60_000
"""Overlap of a query of fills with those that the lane knows."""

FILLS_BEFORE_EARLY_MS = 86_400_000
"""Reach of a query of the fills that an early one waits for."""

OWNER = "executor"
"""Owner of the holds that a lane sets itself."""

KERNELS_HOLD = "kernels"
"""Name of the hold of a lane whose config was measured by other kernels."""

_MOST_DECIMALS = 12

_MISMATCHES = 2
"""Number of snapshots in a row that must differ from the books before a symbol is held."""


_Answer = OrderAccepted | OrderRefused | OrderUnknown | OrderNotFound | OrderGone


def react(before: LaneState, state: LaneState, event: Event) -> Reaction:  # noqa: C901, PLR0911 - one branch per event
    """Return what follows from an event that turned the state `before` into `state`."""
    match event:
        case StepClosed():
            return _react_to_step(before, state, event)
        case Fill():
            return _with_reversal(before, state, _react_to_fill(before, state, event))
        case OrderRefused() | OrderGone() | OrderNotFound() | OrderUnknown() | OrderAccepted():
            return _with_reversal(before, state, _react_to_answer(before, state, event))
        case Timer():
            return _react_to_timer(before, state, event)
        case CaughtUp():
            return release(state)
        case HoldsChanged():
            return _react_to_holds(before, state)
        case OverridesChanged():
            return _react_to_overrides(before, state)
        case ConfigOffered():
            hold = _kernel_hold(state)
            return Reaction(hold.facts, (*hold.commands, *_offered(before, state, event)))
        case Warmed():
            hold, leaving = _kernel_hold(state), withdraw(state)
            commands = (*configs.book_commands(before, state), *leaving.commands, *hold.commands)
            return Reaction((*hold.facts, *leaving.facts), commands)
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
    withdrawn, cancels = withdraw(state, dropped)
    told = (*configs.book_commands(before, state), *configs.next_warm(state))
    new = [Order(place=place) for fact in decisions for place in fact.orders]
    if late:
        # One closing order is sent after the last of several late steps, at the timer or at the next step in time.
        return Reaction((*decisions, *withdrawn), (*told, *cancels))
    reaction = release(state, new, without=dropped)
    return Reaction((*decisions, *withdrawn, *reaction.facts), (*told, *cancels, *reaction.commands))


def withdraw(state: LaneState, dropped: Iterable[str] = ()) -> Reaction:
    """Return the facts and commands that end orders: those that are dropped, and unwanted opening orders.

    A cancel may be lost with the process or on its way, so it is sent again at each step and start.
    """
    leaving = {cloid: state.orders[cloid] for cloid in dropped}
    # The venue has nothing to cancel of an order that is gone; its fills are still on their way.
    leaving |= {order.place.cloid: order for order in unwanted(state) if order.gone_lots is None}
    facts = (_expired(state, order, "withdrawn before it was sent") for order in leaving.values() if _is_new(order))
    return Reaction(tuple(facts), tuple(Cancel(cloid) for cloid, order in leaving.items() if not _is_new(order)))


def _is_new(order: Order) -> bool:
    return order.state == "NEW"


def _with_reversal(before: LaneState, state: LaneState, reaction: Reaction) -> Reaction:
    """Return a reaction that also sends or drops the opening orders of a reversal whose closing order has ended."""
    first = [order.place.after for order in alive(state) if _is_new(order) and order.place.after in before.orders]
    if not any(state.orders[cloid].ended and not before.orders[cloid].ended for cloid in first):
        return reaction
    sending = release(state)
    return Reaction((*reaction.facts, *sending.facts), (*reaction.commands, *sending.commands))


def release(state: LaneState, new: Iterable[Order] = (), without: Iterable[str] = ()) -> Reaction:
    """Return the facts and commands that send every order that may be sent now.

    An opening order expires if its time has passed, if it is unwanted, or if the closing order of its reversal has left
    a position. Under a hold that halts its symbol an order waits.

    Args:
        state: The lane.
        new: Orders that are not in the state yet.
        without: Client order ids of orders that are to be cancelled.
    """
    cancelled = set(without)
    added = {order.place.cloid: order for order in new}
    known = {**state.orders, **added}
    waiting = [
        order for order in (*alive(state), *added.values()) if _is_new(order) and order.place.cloid not in cancelled
    ]
    if not waiting:
        return Reaction()
    leaving = [order.place.cloid for order in unwanted(state)]
    expired = [order for order in waiting if order.place.opens and _is_late(state, order, known, leaving)]
    ready = [
        order
        for order in waiting
        if order not in expired
        and not state.is_halted(order.place.symbol)
        and (order.place.tif == "model" or _has_ended(known, order.place.after))
    ]
    facts: list[Event] = [_expired(state, order, "it was not sent in time") for order in expired]
    if ready:
        facts.append(Sent(venue_ms=state.clock_ms, cloids=tuple(order.place.cloid for order in ready)))
    return Reaction(tuple(facts), (Send(tuple(order.place for order in ready)),) if ready else ())


def _is_late(state: LaneState, order: Order, known: Mapping[str, Order], leaving: Sequence[str]) -> bool:
    """Return whether it is too late to send an opening order."""
    place = order.place
    if state.clock_ms > place.expires_ms or place.cloid in leaving:
        return True
    # The fill model takes both orders of a reversal at once and fills them in order.
    if place.tif == "model" or not place.after or not _has_ended(known, place.after):
        return False
    book = find_book(state, place.config_id)
    return book is None or book.step.size_of(place.symbol) != 0.0


def _has_ended(known: Mapping[str, Order], cloid: str) -> bool:
    """Return whether the order that another one waits for has ended; an order that is forgotten has."""
    return cloid not in known or known[cloid].ended


def _expired(state: LaneState, order: Order, reason: str) -> Expired:
    return Expired(venue_ms=state.clock_ms, cloid=order.place.cloid, reason=reason)


def _react_to_fill(before: LaneState, state: LaneState, fill: Fill) -> Reaction:
    """Ask for the fills before an early one, and hold a symbol with foreign fills."""
    if fill in state.early:
        # The answer repeats this fill, too.
        if fill in before.early:
            return Reaction()
        return Reaction(commands=(QueryFills((fill.venue_ms or state.clock_ms) - FILLS_BEFORE_EARLY_MS),))
    return _foreign_hold(before, state, fill.symbol)


def _foreign_hold(before: LaneState, state: LaneState, symbol: str) -> Reaction:
    """Hold a symbol whose foreign coins have changed; a hold that a person lifted stays lifted until then."""
    name = f"foreign-{symbol.lower()}"
    foreign = state.foreign.get(symbol, 0.0)
    if foreign in {0.0, before.foreign.get(symbol, 0.0)} or name in state.own_holds:
        return Reaction()
    text = f"{symbol}: a fill of {state.foreign[symbol]} coins belongs to no position of this lane"
    return _hold(state, name, text, symbol)


def _hold(state: LaneState, name: str, reason: str, symbol: str = "") -> Reaction:
    """Return the fact that sets a hold of the executor, an alert, and the end of the opening orders under it."""
    hold = HoldState(owner=OWNER, effect="close_only", reason=reason, since_ms=state.clock_ms, symbol=symbol)
    orders = [order for order in alive(state, symbol=symbol) if order.place.opens and order.gone_lots is None]
    leaving = withdraw(state, [order.place.cloid for order in orders])
    facts = (HoldSet(venue_ms=state.clock_ms, name=name, hold=hold), *leaving.facts)
    return Reaction(facts, (*leaving.commands, Alert(f"hold-{name}", "critical", reason)))


def _react_to_answer(before: LaneState, state: LaneState, event: _Answer) -> Reaction:
    order = state.orders.get(event.cloid)
    if order is None:
        return Reaction()
    cloid = order.place.cloid
    match event:
        case OrderUnknown() if order.state == "UNKNOWN" and before.orders[cloid].state != "UNKNOWN":
            # The timer repeats the query: an answer that is lost again must not cause the next query at once.
            return Reaction(commands=(Query(cloid),))
        case OrderNotFound() if order.state == "UNKNOWN":
            return _react_to_not_found(state, order, event)
        case OrderRefused() if order.state == "REJECTED" and not before.orders[cloid].ended:
            text = f"{order.place.symbol}: {order.place.intent.purpose} order refused: {event.reason}"
            return Reaction(commands=(Alert(f"refused-{order.place.symbol}", "warning", text),))
        case OrderGone() if not order.ended and before.orders[cloid].gone_lots is None:
            return Reaction(commands=(Query(cloid),))
        case _:
            return Reaction()


def _react_to_not_found(state: LaneState, order: Order, event: OrderNotFound) -> Reaction:
    """Send an order again that never arrived, while it is in time; let it expire once it can't arrive any more."""
    place = order.place
    answer_ms = answered_ms(event, state.clock_ms)
    if is_proven_dead(order, answer_ms) or (event.final and answer_ms > place.expires_ms):
        return Reaction((_expired(state, order, "the venue does not know it"),))
    # An answer may be older than the last repetition of the order, so an order that may still arrive does not expire.
    leaving = place.opens and (state.clock_ms > place.expires_ms or order in unwanted(state))
    if event.final and not leaving and not state.is_halted(place.symbol):
        return Reaction((Sent(venue_ms=state.clock_ms, cloids=(place.cloid,)),), (Send((place,)),))
    return Reaction()


def _react_to_timer(before: LaneState, state: LaneState, event: Timer) -> Reaction:
    kind, _, cloid = event.name.partition(":")
    order = state.orders.get(cloid)
    if kind == LATE_TIMER:
        return release(state)
    if kind == EARLY_TIMER:
        return _foreign_hold(before, state, cloid)
    if order is None:
        return Reaction()
    if kind == "query" and needs_query(order):
        return Reaction(commands=(Query(cloid),))
    if kind == "retry" and (place := next_attempt(state, order)) is not None:
        fact = Retried(venue_ms=state.clock_ms, order=place)
        sending = release(state, [Order(place=place)])
        return Reaction((fact, *sending.facts), sending.commands)
    return Reaction()


def _react_to_holds(before: LaneState, state: LaneState) -> Reaction:
    new = [
        name
        for name, hold in state.holds.items()
        if name not in before.holds or before.holds[name].effect != hold.effect
    ]
    lifted = [name for name in before.holds if name not in state.holds]
    alerts = [
        Alert(f"hold-{name}", "warning", f"hold {name} ({state.holds[name].effect}): {state.holds[name].reason}")
        for name in new
    ]
    alerts += [Alert(f"hold-{name}", "info", f"hold {name} is lifted") for name in lifted]
    facts, cancels = withdraw(state)
    sending = release(state, without=[fact.cloid for fact in facts if isinstance(fact, Expired)])
    return Reaction((*facts, *sending.facts), (*cancels, *sending.commands, *alerts))


def _offered(before: LaneState, state: LaneState, offer: ConfigOffered) -> tuple[Command, ...]:
    if reason := configs.refusal(before, offer):
        text = f"config {offer.config_id[:12]} of generation {offer.generation} is refused: {reason}"
        return (Alert("config-refused", "warning", text),)
    return configs.next_warm(state) if state.waiting is offer else ()


def _kernel_hold(state: LaneState) -> Reaction:
    """Return the fact that sets or lifts the hold of a lane whose newest book has a config of other kernels."""
    if not state.books:
        return Reaction()
    config = state.books[-1].config
    other = config.kernel_hash != state.setup.kernel_hash
    if other == (KERNELS_HOLD in state.own_holds):
        return Reaction()
    if not other:
        return Reaction((HoldSet(venue_ms=state.clock_ms, name=KERNELS_HOLD, hold=None),))
    reason = (
        f"config {config.config_id[:12]} was measured by kernels {config.kernel_hash[:12]}, this process has "
        f"{state.setup.kernel_hash[:12]}; positions keep their exits, and no entry is made until it is measured again"
    )
    return _hold(state, KERNELS_HOLD, reason)


def _react_to_overrides(before: LaneState, state: LaneState) -> Reaction:
    """Report limits that changed, and withdraw the opening orders of symbols that are excluded now."""
    limits = state.overrides
    if limits == before.overrides:
        return Reaction()
    text = (
        f"strategy_overrides.yaml: excluded symbols: {', '.join(limits.excluded) or 'none'}; sizes times "
        f"{limits.size_multiplier:g}"
    )
    facts, cancels = withdraw(state)
    return Reaction(facts, (*cancels, Alert("overrides", "info", text)))


def _react_to_start(state: LaneState) -> Reaction:
    """Return the facts and commands of a start: ask for all news that may have been lost, send lost cancels again.

    Opening orders that were not sent expire.
    """
    orders = alive(state)
    hold, leaving = (
        _kernel_hold(state),
        withdraw(state, [o.place.cloid for o in orders if o.place.opens and _is_new(o)]),
    )
    queries = tuple(Query(order.place.cloid) for order in orders if not _is_new(order))
    # A lane that died before its first book was computed has no step at which it could ask again.
    warm = () if state.books else configs.next_warm(state)
    news = (QueryFills(state.last_fill_ms - FILLS_BEFORE_MS), Snapshot())
    return Reaction((*hold.facts, *leaving.facts), (*queries, *news, *leaving.commands, *warm, *hold.commands))


def differences(state: LaneState, snapshot: AccountSnapshot) -> dict[str, str]:
    """Return the difference between the account and the lane, in words, by symbol.

    The lane has its books, and the coins that it knows to be foreign.
    """
    held = dict(state.foreign)
    for book in state.books:
        for symbol in book.step.plan.symbols:
            size = book.step.size_of(symbol)
            if size != 0.0:
                held[symbol] = held.get(symbol, 0.0) + size
    differing = {}
    for symbol in sorted(held.keys() | snapshot.positions.keys()):
        lots, decimals = snapshot.positions.get(symbol, (0, _MOST_DECIMALS))
        # Sums of coins are rounded; the account has whole lots.
        venue, own = to_coins(lots, decimals), round(held.get(symbol, 0.0), decimals)
        if venue != own:
            differing[symbol] = f"the account holds {venue:g} coins, the lane {own:g}"
    return differing


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
    """Ask again after a first difference, and hold the symbols that still differ after the second one.

    An order that the account does not list has ended or is being filled, so the lane asks for its news.
    """
    found = differences(state, snapshot)
    working = set(snapshot.open_orders)
    lost = [order for order in alive(state) if order.accepted and order.place.cloid not in working]
    queries = tuple(Query(order.place.cloid) for order in lost if not needs_query(order))
    if not found or state.mismatches == before.mismatches:
        return Reaction(commands=queries)
    if state.mismatches < _MISMATCHES:
        return Reaction(commands=(*queries, QueryFills(state.last_fill_ms - FILLS_BEFORE_MS), Snapshot()))
    facts: list[Event] = []
    commands: list[Command] = list(queries)
    for symbol, text in found.items():
        name = f"mismatch-{symbol.lower()}"
        if name not in state.own_holds:
            setting = _hold(state, name, f"{symbol}: {text}", symbol)
            facts += setting.facts
            commands += setting.commands
    return Reaction(tuple(facts), tuple(commands))
