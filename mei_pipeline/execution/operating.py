"""Requests of people and programs to a lane: close positions, and lift holds that the executor set itself.

A request is answered once: its answer is a fact of the same transaction as what it does. Holds of people need no
request, because they are in files (`registry.holds`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kernels.book import MANUAL, wait_of
from mei_pipeline.candles.intervals import DAY_MS, iso
from mei_pipeline.execution.commands import Alert, Order, Place
from mei_pipeline.execution.deciding import closing_order
from mei_pipeline.execution.events import Event, Flattened, HoldSet, OperatorRequested, RequestAnswered
from mei_pipeline.execution.reactions import KERNELS_HOLD, release, withdraw
from mei_pipeline.execution.state import LaneBook, LaneState, Reaction, alive, find_book

LONGEST_MS = 7 * DAY_MS
"""Longest time between reading a request and its expiry. A request with a later expiry is refused."""

_wait_of = getattr(wait_of, "py_func", wait_of)


class _Refused(NamedTuple):
    """Reason why a request is not executed."""

    reason: str


class _Done(NamedTuple):
    """The effect of a request.

    Attributes:
        text: What is done, in words.
        reaction: Facts and commands.
    """

    text: str
    reaction: Reaction = Reaction()


def answer(before: LaneState, state: LaneState, request: OperatorRequested) -> Reaction:
    """Return what follows from a request: its answer, and the facts and commands of a request that is executed.

    A request whose id has an answer changes nothing, whatever it asks for.
    """
    if request.id in before.answers:
        return Reaction()
    if request.expires_ms <= request.taken_ms:
        text = f"it expired {iso(request.expires_ms)}, and the lane read it {iso(request.taken_ms)}"
        return _answered(state, request, "expired", text)
    result = _refusal(request) or VERBS[request.verb].execute(state, request)
    if isinstance(result, _Refused):
        return _answered(state, request, "refused", result.reason)
    answered = _answered(state, request, "done", result.text)
    facts, commands = result.reaction
    return Reaction((*answered.facts, *facts), (*commands, *answered.commands))


def _answered(state: LaneState, request: OperatorRequested, result: str, text: str) -> Reaction:
    fact = RequestAnswered(
        venue_ms=state.clock_ms,
        id=request.id,
        who=request.who,
        verb=request.verb,
        state=result,  # pyrefly: ignore[bad-argument-type]  # one of the three
        text=text,
        taken_ms=request.taken_ms,
        expires_ms=request.expires_ms,
    )
    why = f" ({request.why})" if request.why else ""
    told = f"request {request.id} of {request.who}{why}: {request.verb}: {result}: {text}"
    return Reaction((fact,), (Alert(f"request-{request.id}", "info", told),))


def _refusal(request: OperatorRequested) -> _Refused | None:
    """Return why a request of any verb is refused."""
    if request.expires_ms > request.taken_ms + LONGEST_MS:
        return _Refused(
            f"expires_ms {request.expires_ms}: more than {LONGEST_MS // DAY_MS} days ahead; choose an earlier time"
        )
    verb = VERBS.get(request.verb)
    if verb is None:
        return _Refused(f"verb {request.verb!r}: unknown; allowed are {', '.join(VERBS)}")
    unknown = [name for name in request.arguments if name != verb.argument]
    return _Refused(f"argument {unknown[0]!r}: unknown; {request.verb} takes {verb.argument}") if unknown else None


def keep_answer(state: LaneState, fact: RequestAnswered) -> LaneState:
    """Return the state with an answer, and without those of requests that expired long ago.

    A request that is read again after its answer is forgotten has expired.
    """
    kept = {name: each for name, each in state.answers.items() if each.expires_ms + LONGEST_MS > fact.taken_ms}
    return state.with_changes(answers={**kept, fact.id: fact})


def _flatten(state: LaneState, request: OperatorRequested) -> _Done | _Refused:
    """Close the positions of the named symbols, or all, and cancel the other orders of these symbols."""
    traded = {symbol: None for book in state.books for symbol in book.step.plan.symbols}
    chosen = dict.fromkeys(request.arguments.get("symbols", ())) or traded
    if unknown := [symbol for symbol in chosen if symbol not in traded]:
        return _Refused(f"symbol {unknown[0]}: the lane trades {', '.join(traded) or 'nothing'}")
    held = [(book, symbol) for book in state.books for symbol in chosen if book.step.size_of(symbol) != 0.0]
    dropped = {order.place.cloid: order.place.symbol for symbol in chosen for order in alive(state, symbol=symbol)}
    busy = dict.fromkeys((*(symbol for _, symbol in held), *dropped.values()))
    if not busy:
        return _Done("no position and no order to close")
    if halted := [symbol for symbol in busy if state.is_halted(symbol)]:
        return _Refused(
            f"a hold halts every order of {', '.join(halted)}, closing ones too; lift it with `mei lane resume`, and "
            "stop entries with `mei lane pause` instead"
        )
    places = tuple(_closing(state, book, symbol, f"request:{request.id}") for book, symbol in held)
    fact = Flattened(venue_ms=state.clock_ms, orders=places)
    facts, cancels = withdraw(state, dropped)
    sending = release(state, [Order(place=place) for place in places], without=dropped)
    closing = ", ".join(f"{symbol} {book.step.size_of(symbol):g}" for book, symbol in held) or "no position"
    text = f"closing {closing}{f'; earlier orders to cancel: {len(dropped)}' if dropped else ''}"
    return _Done(text, Reaction((fact, *facts, *sending.facts), (*cancels, *sending.commands)))


def _closing(state: LaneState, book: LaneBook, symbol: str, origin: str) -> Place:
    s = book.step.plan.index[symbol]
    _close_part(book, s)
    return closing_order(state, book, s, origin, "flatten")


def close_parts(state: LaneState, orders: Sequence[Place]) -> None:
    """Put the closing parts of a flattening into the books; a book that has them already stays as it is."""
    for place in orders:
        book = find_book(state, place.config_id)
        if book is not None:
            _close_part(book, book.step.plan.index[place.symbol])


def _close_part(book: LaneBook, s: int) -> None:
    """Order the close of a position by hand, which no signal takes back."""
    position = book.step.positions[s]
    if position["close_frac"] == 0.0:
        position["close_wait"] = _wait_of(book.step.models[0])
    position["close_frac"], position["close_left"] = np.float64(1.0), np.float64(0.0)
    position["close_reason"] = MANUAL


def _lift(state: LaneState, request: OperatorRequested) -> _Done | _Refused:
    """Lift holds that the executor set itself."""
    names = tuple(dict.fromkeys(request.arguments.get("holds", ())))
    known = ", ".join(state.own_holds) or "none"
    if not names:
        return _Refused(f"holds: empty; name the holds to lift; the executor has set {known}")
    if unknown := [name for name in names if name not in state.own_holds]:
        return _Refused(f"hold {unknown[0]}: the executor has not set it; it has set {known}")
    if KERNELS_HOLD in names:
        return _Refused(
            f"hold {KERNELS_HOLD}: it ends by itself when a config is promoted that these kernels measured; run a "
            "nightly run, or promote such a config"
        )
    facts: tuple[Event, ...] = tuple(HoldSet(venue_ms=state.clock_ms, name=name, hold=None) for name in names)
    alerts = tuple(Alert(f"hold-{name}", "info", f"hold {name} is lifted by {request.who}") for name in names)
    return _Done(f"lifted {', '.join(names)}", Reaction(facts, alerts))


class Verb(NamedTuple):
    """A verb of requests.

    Attributes:
        argument: Name of its only argument, a list of names.
        execute: Returns the effect of a request, or why it is refused.
    """

    argument: str
    execute: Callable[[LaneState, OperatorRequested], _Done | _Refused]


VERBS: Mapping[str, Verb] = {"flatten": Verb("symbols", _flatten), "lift": Verb("holds", _lift)}
"""Verbs that a request may have."""
