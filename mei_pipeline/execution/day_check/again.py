"""Repeat parts of a step on copies of a lane's books: decisions, and the fills of the fill model."""

from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from msgspec import structs

from kernels.book import BACKSTOP, FUNDED, MOMENTS
from kernels.lane import list_active
from mei_pipeline.execution.books import StepBook, begin_step, take_bar, take_rate, take_terms
from mei_pipeline.execution.commands import Place
from mei_pipeline.execution.day_check.differences import Difference, GateDifference
from mei_pipeline.execution.day_check.seen_features import SeenFeatures
from mei_pipeline.execution.deciding import decide
from mei_pipeline.execution.events import NO_OVERRIDES, BarClosed, Decided, Event, Fill, Funding, FundingRate
from mei_pipeline.execution.state import LaneBook, LaneState


class ModelRow(NamedTuple):
    """A fill or funding payment, of the fill model or of a journal.

    Attributes:
        symbol: The symbol.
        kind: `fill` or `funding`.
        moment: Moment of a fill; `close` for funding.
        size: Signed coins; 0 for funding.
        price: Price.
        usd: Fee of a fill, or funding paid.
        settled_usd: USD that the venue takes before the fill; None without a settlement.
    """

    symbol: str
    kind: str
    moment: str
    size: float
    price: float
    usd: float
    settled_usd: float | None = None


def copy_of(book: LaneBook, *, features: bool) -> LaneBook:
    """Return a book whose arrays may be changed.

    Args:
        book: The book.
        features: False to leave the features out, so that a new step does not advance them.
    """
    step = book.step
    empty = np.zeros((len(step.plan.symbols), 0))
    copied = replace(
        step,
        market=deepcopy(step.market),
        models=step.models.copy(),
        terms=step.terms.copy(),
        book=deepcopy(step.book),
        main=step.main.copy(),
        counts=step.counts.copy(),
        state=step.state.copy() if features else empty,
        columns=step.columns.copy(),
        rows=step.rows.copy(),
    )
    return replace(book, step=copied)


def fill_until_decision(
    state: LaneState, books: tuple[LaneBook, ...], arrived: list[Event], step_ms: int
) -> dict[str, list[ModelRow]]:
    """Return what the fill model does in a step before its decisions, by config.

    Args:
        state: The lane at the end of the step, for the terms.
        books: Copies of its books at the beginning of the step, without features; changed.
        arrived: Bars and funding rates of the step.
        step_ms: Open time of the step.
    """
    done: dict[str, list[ModelRow]] = {}
    for book in books:
        step = book.step
        for event in arrived:
            if isinstance(event, BarClosed):
                take_bar(step, event)
            elif isinstance(event, FundingRate):
                take_rate(step, event.symbol, event.rate)
        take_terms(step, state.terms, step_ms)
        begin_step(step, step_ms)
        step.account["logged"] = 0
        step.plan.compiled.settle_open_step(step.market, step.models, step.terms, step.book)
        done[book.config_id] = _logged(step)
    return done


def fill_at_close(decided: LaneBook, lane: LaneBook) -> list[ModelRow]:
    """Return what the fill model does after the decisions of a step.

    Args:
        decided: A copy of the book that has decided the step; changed.
        lane: The book of the lane with its recorded decisions.
    """
    step = decided.step
    step.positions[:] = lane.step.positions
    step.book.accounts[:] = lane.step.book.accounts
    list_active(step.book)
    step.account["logged"] = 0
    step.plan.compiled.settle_close_step(step.models, step.terms, step.book)
    return _logged(step)


def _logged(step: StepBook) -> list[ModelRow]:
    rows: list[ModelRow] = []
    settled: float | None = None
    for row in step.book.log[: int(step.account["logged"])]:
        symbol, reason = step.plan.symbols[int(row["symbol"])], int(row["reason"])
        usd, price = float(row["usd"]), float(row["price"])
        if reason == BACKSTOP:
            settled = usd
        elif reason == FUNDED:
            rows.append(ModelRow(symbol, "funding", "close", 0.0, price, usd))
        else:
            rows.append(ModelRow(symbol, "fill", MOMENTS[int(row["moment"])], float(row["size"]), price, usd, settled))
            settled = None
    return rows


def recorded_row(event: Fill | Funding) -> ModelRow:
    """Return a fill or payment of a journal in the form of the fill model."""
    if isinstance(event, Funding):
        return ModelRow(event.symbol, "funding", "close", 0.0, event.price, event.usd)
    size = event.lots / 10.0**event.lot_decimals
    return ModelRow(event.symbol, "fill", event.moment, size, event.price, event.fee_usd, event.settled_usd)


def decide_again(
    state: LaneState, book: LaneBook, features: SeenFeatures | None, *, late: bool
) -> tuple[Decided | None, LaneBook]:
    """Return the decisions of a book at the present step, and the copy of the book that made them.

    Args:
        state: The lane after the end of the step, before its decisions.
        book: The book.
        features: Columns of the sweep; None to use those that the lane carries along.
        late: True if the step came too late for entries.
    """
    copied = copy_of(book, features=True)
    if features is not None:
        features.put_into(copied.step)
    others = tuple(copied if each is book else each for each in state.books)
    return decide(state.with_changes(books=others), copied, late=late), copied


def decide_undisturbed(state: LaneState, book: LaneBook, features: SeenFeatures | None) -> Decided | None:
    """As `decide_again`, without holds, stale streams, lateness, other books, or anything else that blocks entries."""
    kernel_hash = state.setup.kernel_hash
    config = structs.replace(book.config, kernel_hash=kernel_hash, state="paper")
    alone = replace(book, config=config, draining=False)
    free = state.with_changes(
        books=(alone,),
        holds={},
        own_holds={},
        stale={},
        unknown_bars=frozenset(),
        reconciled=True,
        overrides=NO_OVERRIDES,
    )
    return decide_again(free, alone, features, late=False)[0]


def different_symbols(one: Decided | None, other: Decided | None) -> list[str]:
    """Return the symbols about which two decisions differ, apart from ids and times of orders."""
    first, second = (_by_symbol(each) for each in (one, other))
    return sorted(symbol for symbol in first.keys() | second.keys() if first.get(symbol) != second.get(symbol))


def _by_symbol(fact: Decided | None) -> dict[str, tuple[Any, ...]]:
    if fact is None:
        return {}
    symbols = {*fact.verdicts, *fact.codes, *fact.positions, *(order.symbol for order in fact.orders)}
    return {symbol: tuple(part_of(fact, symbol).values()) for symbol in symbols}


def part_of(fact: Decided | None, symbol: str) -> dict[str, Any]:
    """Return what a decision says about a symbol: verdict, signal, orders and changed fields of the position."""
    if fact is None:
        return {"verdict": "none", "signal": 0, "order": (), "position": {}}
    return {
        "verdict": fact.verdicts.get(symbol, "none"),
        "signal": fact.codes.get(symbol, 0),
        "order": tuple(_order(order) for order in fact.orders if order.symbol == symbol),
        "position": fact.positions.get(symbol, {}),
    }


def _order(place: Place) -> tuple[str, int, int, float, int, tuple[float, float, float]]:
    return (place.intent.purpose, place.lots, place.lot_decimals, place.leverage, place.signal, place.notes)


def describe_difference(recorded: Decided | None, again: Decided | None, symbol: str) -> tuple[str, str, str]:
    """Return the name of the first part in which two decisions about a symbol differ, and both values as text."""
    one, other = part_of(recorded, symbol), part_of(again, symbol)
    name = next(name for name in one if one[name] != other[name])
    if name == "position":
        fields = sorted(one[name].keys() | other[name].keys())
        name_of = next(each for each in fields if one[name].get(each) != other[name].get(each))
        return name_of, repr(one[name].get(name_of)), repr(other[name].get(name_of))
    if name == "order":
        return name, _orders_text(one[name]), _orders_text(other[name])
    return name, str(one[name]), str(other[name])


def _orders_text(orders: tuple[Any, ...]) -> str:
    return ", ".join(f"{purpose} {lots / 10**decimals:g}" for purpose, lots, decimals, *_ in orders) or "none"


def gate_of(
    explain: Any, names: tuple[str, ...], carried: LaneBook, again: LaneBook, symbol: str
) -> GateDifference | None:
    """Return the first gate whose value or result differs between two books at the same step.

    If none differs, return the first closed one; None if all are open or not in use.

    Args:
        explain: Compiled function of the strategy (`simulate.explain`).
        names: Names of its gates.
        carried: The lane's book, with the features that it carried along.
        again: The copy that decided again.
        symbol: The symbol.
    """
    tables = []
    for book in (carried, again):
        step, combos = book.step, book.step.plan.combos
        out = np.full((len(names), 3), np.nan)
        s = step.plan.index[symbol]
        explain(step.market, step.columns, combos.column_of, combos.signal_params, 0, 0, s, out)
        tables.append(out)
    different = [i for i in range(len(names)) if not np.array_equal(tables[0][i], tables[1][i], equal_nan=True)]
    closed = np.flatnonzero(tables[1][:, 2] == 0.0).tolist()
    for i in (*different, *closed)[:1]:
        value, threshold, state = tables[1][i].tolist()
        return GateDifference(names[i], float(tables[0][i, 0]), value, threshold, state == 1.0)
    return None


def row_differences(
    step_ms: int, config_id: str, recorded: ModelRow | None, expected: ModelRow | None, reason: str, *, modelled: bool
) -> Difference | None:
    """Return the difference between a recorded fill and that of the fill model; None if they are equal.

    Args:
        step_ms: Open time of the step.
        config_id: Config of the book.
        recorded: The recorded one; None if there is none.
        expected: That of the fill model; None if there is none.
        reason: What the broker did to the order; empty if it did nothing unusual.
        modelled: True if the fill model made the recorded one, so that it must be equal.
    """
    if recorded == expected:
        return None
    if recorded is None or expected is None:
        [known] = filter(None, (recorded, expected))
        what, one, other = known.kind, _row_text(recorded), _row_text(expected)
    else:
        known = recorded
        names = {"size": "size", "price": "price", "usd": "fee_usd" if known.kind == "fill" else "usd"}
        names |= {"moment": "moment", "settled_usd": "settled_usd"}
        field = next(name for name in names if getattr(recorded, name) != getattr(expected, name))
        what, one, other = names[field], repr(getattr(recorded, field)), repr(getattr(expected, field))
    kind = "fill" if reason or not modelled else "logic"
    return Difference(kind, step_ms, config_id, known.symbol, what, one, other, reason)


def _row_text(row: ModelRow | None) -> str:
    if row is None:
        return "none"
    return f"{row.usd!r} USD" if row.kind == "funding" else f"{row.size!r} at {row.price!r}"
