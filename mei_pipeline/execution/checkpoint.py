"""Checkpoints: the state of a lane as JSON values, and back.

Accounts and positions go by field name, and NaN is None. Kernels with other records can therefore read a checkpoint; a
field that it lacks starts at its value in a flat book. Features are binary: other kernels compute them anew.
"""

import zlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np

from kernels.lane import list_active
from mei_pipeline.execution.booking import finish
from mei_pipeline.execution.books import BookPlan, StepBook, make_step_book, take_terms
from mei_pipeline.execution.events import Checkpoint, PackedBook, PackedLane
from mei_pipeline.execution.state import LaneBook, LaneSetup, LaneState

Warmer = Callable[[BookPlan, int], StepBook]
"""Returns a flat book whose features end at a time (UTC milliseconds), computed from the lake."""

_LEVEL = 1  # of deflate: the fastest; feature states are mostly repeated values


def pack(state: LaneState) -> PackedLane:
    """Return a state as a checkpoint, in which its last step is marked to market (`booking.finish`).

    The state stays as it is: it is marked when the lane takes the fact `Checkpoint`.
    """
    state = finish(replace(state, books=tuple(_copy_of(book) for book in state.books))).state
    return PackedLane(
        kernel_hash=state.setup.kernel_hash,
        clock_ms=state.clock_ms,
        step_ms=state.step_ms,
        books=tuple(_pack_book(book) for book in state.books),
        waiting=state.waiting,
        orders=tuple(state.orders.values()),
        keys=tuple(state.keys),
        terms=dict(state.terms),
        stale=dict(state.stale),
        unknown_bars=tuple(sorted(state.unknown_bars)),
        holds=dict(state.holds),
        own_holds=dict(state.own_holds),
        timers=dict(state.timers),
        trades=tuple(state.trades.values()),
        trade_count=state.trade_count,
        foreign=dict(state.foreign),
        peak_usd=state.peak_usd,
        drawdown_usd=state.drawdown_usd,
        last_fill_ms=state.last_fill_ms,
        early=state.early,
        transfers_usd=state.transfers_usd,
        answers=dict(state.answers),
        overrides=state.overrides,
        initial_usd=state.initial_usd,
    )


def checkpoint_of(state: LaneState) -> Checkpoint:
    """Return the fact that recovery can start from."""
    return Checkpoint(venue_ms=state.clock_ms, state=pack(state))


def unpack(setup: LaneSetup, packed: PackedLane, warm: Warmer) -> LaneState:
    """Return the state of a checkpoint.

    Args:
        setup: The part of the lane that does not change.
        packed: The checkpoint.
        warm: Computes the features of a book again if other kernels wrote the checkpoint.
    """
    same_kernels = packed.kernel_hash == setup.kernel_hash
    state = LaneState(
        setup=setup,
        clock_ms=packed.clock_ms,
        step_ms=packed.step_ms,
        waiting=packed.waiting,
        orders={order.place.cloid: order for order in packed.orders},
        keys=dict.fromkeys(packed.keys),
        terms=packed.terms,
        stale=packed.stale,
        unknown_bars=frozenset(packed.unknown_bars),
        holds=packed.holds,
        own_holds=packed.own_holds,
        timers=packed.timers,
        trades={(trade.config_id, trade.symbol): trade for trade in packed.trades},
        trade_count=packed.trade_count,
        foreign=packed.foreign,
        peak_usd=packed.peak_usd,
        drawdown_usd=packed.drawdown_usd,
        last_fill_ms=packed.last_fill_ms,
        early=packed.early,
        transfers_usd=packed.transfers_usd,
        initial_usd=packed.initial_usd,
        answers=packed.answers,
        overrides=packed.overrides,
    )
    books = tuple(_unpack_book(state, book, None if same_kernels else warm) for book in packed.books)
    return replace(state, books=books)


def _copy_of(book: LaneBook) -> LaneBook:
    """Return a book whose arrays may be marked to market."""
    step = book.step
    copied = replace(step, market=deepcopy(step.market), book=deepcopy(step.book), main=step.main.copy())
    return replace(book, step=copied)


def _pack_book(book: LaneBook) -> PackedBook:
    step = book.step
    symbols = step.plan.symbols
    fresh = make_step_book(step.plan, 0.0, decides=False).positions
    used = [s for s in range(len(symbols)) if step.positions[s].tobytes() != fresh[s].tobytes()]
    prices = step.market.last_price[0]
    return PackedBook(
        plan=step.plan.offered,
        config=book.config,
        draining=book.draining,
        since_ms=book.since_ms,
        account=_fields(step.account),
        positions={symbols[s]: _fields(step.positions[s]) for s in used},
        counts={symbol: int(step.counts[s]) for s, symbol in enumerate(symbols)},
        last_prices={symbol: None if np.isnan(prices[s]) else float(prices[s]) for s, symbol in enumerate(symbols)},
        features=zlib.compress(step.state.tobytes() + step.columns.tobytes(), _LEVEL),
        rows=int(step.rows[0]),
    )


def _fields(record: Any) -> dict[str, float | None]:
    values = {name: float(record[name]) for name in record.dtype.names}
    return {name: None if np.isnan(value) else value for name, value in values.items()}


def _restore(record: Any, fields: dict[str, float | None]) -> None:
    for name, value in fields.items():
        if name in record.dtype.names:
            record[name] = np.nan if value is None else value


def _unpack_book(state: LaneState, packed: PackedBook, warm: Warmer | None) -> LaneBook:
    plan = state.setup.make_plan(packed.plan)
    if warm is None:
        step = make_step_book(plan, 0.0)
        _restore_features(step, packed.features)
    else:
        step = warm(plan, (state.step_ms or 0) + plan.clock.step_ms)
    for s, symbol in enumerate(plan.symbols):
        step.counts[s] = packed.counts[symbol]
        price = packed.last_prices[symbol]
        step.market.last_price[0, s] = np.nan if price is None else price
        _restore(step.positions[s], packed.positions.get(symbol, {}))
    step.rows[0] = packed.rows
    _restore(step.account, packed.account)
    list_active(step.book)
    take_terms(step, state.terms, state.step_ms or 0)
    return LaneBook(step, packed.config, packed.draining, packed.since_ms, marked=True)


def _restore_features(step: StepBook, data: bytes) -> None:
    values = np.frombuffer(zlib.decompress(data), "<f8")
    states = step.state.size
    step.state[:] = values[:states].reshape(step.state.shape)
    step.columns[:] = values[states:].reshape(step.columns.shape)
