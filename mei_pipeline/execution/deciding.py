"""Decisions of a step: call the compiled rules on a book, and read the orders out of it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from kernels.book import NO_SIGNAL, VERDICTS, closing_size
from kernels.lane import list_active
from kernels.turn import limits_of
from mei_pipeline.execution import books
from mei_pipeline.execution.commands import Intent, Order, Place, Purpose
from mei_pipeline.execution.events import Decided
from mei_pipeline.execution.orders import cloid_of
from mei_pipeline.execution.state import LaneBook, LaneState, alive

_closing_size = getattr(closing_size, "py_func", closing_size)


def blocked_symbols(state: LaneState, book: LaneBook) -> dict[str, str]:
    """Return the symbols that must not enter a book now, with the reason; `*` stands for all of them."""
    if (reason := _blocks_all(state, book)) is not None:
        return {"*": reason}
    if not (
        state.holds
        or state.own_holds
        or state.stale
        or state.unknown_bars
        or state.overrides.excluded
        or len(state.books) > 1
    ):
        return {}  # at almost every step, and symbols are many
    blocked: dict[str, str] = {}
    for symbol in book.step.plan.symbols:
        if (reason := _blocks(state, book, symbol)) is not None:
            blocked[symbol] = reason
    return blocked


def _blocks_all(state: LaneState, book: LaneBook) -> str | None:
    if book.draining:
        return "the config is draining"
    if book.config.kernel_hash != state.setup.kernel_hash:
        return "other kernels measured the config"
    if book.config.state == "paused":
        return "the config is paused"
    if not state.reconciled:
        return "the account is not compared with the books yet"
    held = next((name for name, hold in state.effects.items() if not hold.symbol), None)
    return None if held is None else f"hold {held}"


def _blocks(state: LaneState, book: LaneBook, symbol: str) -> str | None:
    for other in state.books:
        # An order of the other book may still be filled, although it is to be cancelled.
        if other is not book and (other.step.size_of(symbol) != 0.0 or alive(state, other.config_id, symbol)):
            return f"held by config {other.config_id[:12]}, which is draining"
    if state.effects:
        held = next((name for name, hold in state.effects.items() if hold.symbol == symbol), None)
        if held is not None:
            return f"hold {held}"
    if symbol in state.overrides.excluded:
        return "excluded in strategy_overrides.yaml"
    if symbol in state.stale:
        return f"stale: {', '.join(state.stale[symbol])}"
    if any(unknown == symbol for unknown, _ in state.unknown_bars):
        return "its last bar is unknown"
    return None


def decide(state: LaneState, book: LaneBook, *, late: bool) -> Decided | None:
    """Decide the current step of a book; return None if it has no signal, position or order.

    The orders are left in the arrays of the book; the fact holds what changed in them.
    """
    step = book.step
    plan, kernel_book = step.plan, step.book
    blocked = blocked_symbols(state, book)
    others = [other.step for other in state.books if other is not book]
    margin = sum(float(other.account["margin"]) for other in others)
    places = sum(int(other.account["open_positions"]) for other in others)
    elsewhere = sum(books.equity_of(other) for other in others)
    words = step.words.copy()
    before = words.view(step.positions.dtype)[:, 0]
    size_multiplier = book.config.size_multiplier * state.overrides.size_multiplier
    step.models["size_mult"] = size_multiplier
    plan.compiled.decide_step(
        step.market,
        step.models,
        step.terms,
        step.columns,
        plan.combos.column_of[:1],
        plan.combos.signal_params[:1],
        plan.combos.params[:1],
        limits_of(
            reserved_margin_usd=margin,
            reserved_places=places,
            other_usd=elsewhere,
            late=late,
            may_enter=_may_enter(plan, blocked),
        ),
        kernel_book,
    )
    verdicts, codes = kernel_book.verdict, kernel_book.codes[0]
    named = ((verdicts != NO_SIGNAL) | (codes != 0) | (step.sizes != 0.0)).nonzero()[0].tolist()
    # As integers, NaN equals itself and 0.0 differs from -0.0.
    differs = words != step.words
    changed = differs.any(axis=1).nonzero()[0].tolist()
    if not named and not changed:
        return None
    symbols = plan.symbols
    orders = _Orders(state, book, before, changed)
    placed = tuple(orders.new())
    return Decided(
        venue_ms=state.clock_ms,
        step_ms=state.step_ms or 0,
        config_id=book.config_id,
        late=late,
        blocked=blocked,
        reserved_margin_usd=margin,
        reserved_places=places,
        other_usd=elsewhere,
        size_multiplier=size_multiplier,
        verdicts={symbols[s]: VERDICTS[int(verdicts[s])] for s in named},
        codes={symbols[s]: int(codes[s]) for s in named if codes[s]},
        positions={symbols[s]: _fields(step.positions[s], differs[s]) for s in changed},
        refused=float(step.account["refused"]),
        orders=placed,
        cancels=tuple(orders.gone),
    )


def _may_enter(plan: books.BookPlan, blocked: Mapping[str, str]) -> list[int]:
    """Return 0 for each symbol that must not enter, else 1; an empty list if all may."""
    if not blocked:
        return []
    if "*" in blocked:
        return [0] * len(plan.symbols)
    return [int(symbol not in blocked) for symbol in plan.symbols]


def _fields(position: Any, chosen: NDArray[np.bool_]) -> dict[str, float | None]:
    """Return the chosen fields of a position, with None for NaN. Every field has 8 bytes, in the order of the names."""
    names, values = position.dtype.names, position.tolist()
    return {names[i]: None if math.isnan(values[i]) else values[i] for i in chosen.nonzero()[0].tolist()}


def restore_decisions(book: LaneBook, fact: Decided) -> None:
    """Write the fields that the decisions changed into a book; a book that was just decided has them already."""
    step = book.step
    names = step.positions.dtype.names
    for symbol, fields in fact.positions.items():
        position = step.positions[step.plan.index[symbol]]
        for name, value in fields.items():
            if name in names:  # other kernels may have recorded the fact
                position[name] = np.nan if value is None else value
    step.account["refused"] = fact.refused
    if fact.positions:
        list_active(step.book)


@dataclass
class _Orders:
    """The orders of a decision, from the records before and after it.

    Attributes:
        state: The lane.
        book: The book that decided.
        before: Records before.
        changed: Numbers of the records that changed.
        gone: Receives the ids of orders to cancel.
    """

    state: LaneState
    book: LaneBook
    before: NDArray[Any]
    changed: list[int]

    def __post_init__(self) -> None:
        self.gone: list[str] = []

    def new(self) -> Iterator[Place]:
        """Yield the new orders: per symbol the closing part, then the opening part."""
        for s in self.changed:
            old, now = self.before[s], self.book.step.positions[s]
            symbol = self.book.step.plan.symbols[s]
            waiting = alive(self.state, self.book.config_id, symbol)
            closing = self._closing(s, old, now, [order for order in waiting if not order.place.opens])
            if closing is not None:
                yield closing
            opening = self._opening(s, symbol, old, now, [order for order in waiting if order.place.opens], closing)
            if opening is not None:
                yield opening

    def _closing(self, s: int, old: Any, now: Any, waiting: list[Order]) -> Place | None:
        if now["close_frac"] == old["close_frac"]:
            return None
        self.gone += [order.place.cloid for order in waiting]
        if now["close_frac"] == 0.0:
            return None
        return closing_order(self.state, self.book, s, f"step:{self.state.step_ms}", "exit")

    def _opening(
        self, s: int, symbol: str, old: Any, now: Any, waiting: list[Order], closing: Place | None
    ) -> Place | None:
        if now["open_size"] == old["open_size"]:
            return None
        self.gone += [order.place.cloid for order in waiting]
        if now["open_size"] == 0.0:
            return None
        purpose: Purpose = "add" if now["open_adds"] != 0.0 else "entry"
        intent = Intent(f"step:{self.state.step_ms}", symbol, purpose)
        lots, decimals = books.to_lots(float(now["open_size"]), books.size_decimals(self.book.step, s))
        return Place(
            intent=intent,
            cloid=cloid_of(self.state.setup.book_ids[0], intent),
            config_id=self.book.config_id,
            symbol=symbol,
            lots=lots,
            lot_decimals=decimals,
            expires_ms=self.state.clock_ms + self.state.setup.max_late_ms,
            after=closing.cloid if closing is not None else "",
            leverage=float(now["open_leverage"]),
            signal=int(now["open_code"]),
            notes=(float(now["note_a"]), float(now["note_b"]), float(now["note_c"])),
        )


def closing_order(state: LaneState, book: LaneBook, s: int, origin: str, purpose: Purpose, attempt: int = 1) -> Place:
    """Return the order for the closing part of a position, as far as it is not filled."""
    position = book.step.positions[s]
    symbol = book.step.plan.symbols[s]
    size = float(position["size"])
    coins = float(position["close_left"])
    if coins == 0.0:
        coins = float(_closing_size(size, float(position["close_frac"]), float(book.step.terms["lots"][0, s])))
    lots, decimals = books.to_lots(-coins if size > 0.0 else coins, books.size_decimals(book.step, s))
    intent = Intent(origin, symbol, purpose, attempt)
    return Place(
        intent=intent,
        cloid=cloid_of(state.setup.book_ids[0], intent),
        config_id=book.config_id,
        symbol=symbol,
        lots=lots,
        lot_decimals=decimals,
        expires_ms=state.clock_ms + state.setup.max_late_ms,
        reduce_only=True,
    )


def next_attempt(state: LaneState, ended: Order) -> Place | None:
    """Return a further attempt of a closing order that ended with a remainder; None if nothing is left to close."""
    book = next((each for each in state.books if each.config_id == ended.place.config_id), None)
    if book is None:
        return None
    s = book.step.plan.index[ended.place.symbol]
    position = book.step.positions[s]
    intent = ended.place.intent
    later = [order for order in alive(state, book.config_id, ended.place.symbol) if not order.place.opens]
    if position["size"] == 0.0 or position["close_frac"] == 0.0 or later:
        return None
    # An order that was thought dead and ended a second time is not the last attempt.
    attempts = [
        order.place.intent.attempt
        for order in state.orders.values()
        if structs.replace(order.place.intent, attempt=intent.attempt) == intent
    ]
    return closing_order(state, book, s, intent.origin, intent.purpose, max(attempts) + 1)
