"""Calls that compile the functions of the executor for a strategy, with little data of the final types."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.book import AT_CLOSE, MANUAL
from kernels.turn import limits_of
from mei_pipeline.candles.intervals import HOUR_MS
from mei_pipeline.execution.books import StepBook, begin_step, end_step, make_plan, make_step_book, take_bar, take_terms
from mei_pipeline.execution.events import BarClosed, ConfigOffered, InstrumentChanged
from mei_pipeline.params.identity import config_id, resolve_config
from mei_pipeline.params.table import read_catalog
from mei_pipeline.registry.records import as_dict
from mei_pipeline.settings import Settings

DRIVERS = (
    "settle_open_step",
    "decide_step",
    "settle_close_step",
    "apply_fill_step",
    "end_order_step",
    "apply_funding_step",
    "apply_transfer_step",
    "finish_step",
)
"""Compiled functions of `kernels/executor.py`, in the order of `driver_calls`."""

_SYMBOLS = ("BTC", "ETH")
_USD = 10_000.0


def driver_calls(settings: Settings, strategy: str) -> list[tuple[Any, Callable[[], Any]]]:
    """Return each function of `DRIVERS` for a strategy, and a call of it; make the calls in this order.

    Args:
        settings: Settings, for the folder of compiled kernels.
        strategy: Name of the strategy.
    """
    step = _first_step(settings, strategy)
    compiled, combos = step.plan.compiled, step.plan.combos
    decided = (step.columns, combos.column_of[:1], combos.signal_params[:1], combos.params[:1], limits_of(), step.book)
    calls: tuple[Callable[[], Any], ...] = (
        lambda: compiled.settle_open_step(step.market, step.models, step.terms, step.book),
        lambda: compiled.decide_step(step.market, step.models, step.terms, *decided),
        lambda: compiled.settle_close_step(step.models, step.terms, step.book),
        lambda: compiled.apply_fill_step(step.terms, step.book, 0, 1.0, 100.0, 0.0, np.nan, MANUAL, AT_CLOSE, 0),
        lambda: compiled.end_order_step(step.book, 0, True, True),  # noqa: FBT003 - by position in compiled code
        lambda: compiled.apply_funding_step(step.book, 0, 0.0),
        lambda: compiled.apply_transfer_step(step.book, 0.0),
        lambda: end_step(step),
    )
    return [(getattr(compiled, name), call) for name, call in zip(DRIVERS, calls, strict=True)]


def _first_step(settings: Settings, strategy: str) -> StepBook:
    """Return a flat book at its first step, with one bar for each symbol."""
    resolved = resolve_config(
        read_catalog(),
        strategy=strategy,
        venue="synthetic",
        interval="1h",
        symbols=_SYMBOLS,
        initial_balance_usd=_USD,
        params={},
        market={},
    )
    offer = ConfigOffered(
        config_id=config_id(resolved),
        generation=1,
        state="paper",
        size_multiplier=1.0,
        kernel_hash="",
        anchor_ms=0,
        config=as_dict(resolved),
    )
    step = make_step_book(make_plan(settings, offer), _USD)
    terms = {symbol: (_terms_of(symbol),) for symbol in _SYMBOLS}
    take_terms(step, terms, 0)
    for symbol in _SYMBOLS:
        take_bar(
            step,
            BarClosed(
                symbol=symbol, interval="1h", open_ms=0, open=100.0, high=101.0, low=99.0, close=100.0, volume=1.0
            ),
        )
    begin_step(step, 0)
    return step


def _terms_of(symbol: str) -> InstrumentChanged:
    return InstrumentChanged(
        venue_ms=HOUR_MS,
        symbol=symbol,
        from_ms=0,
        size_decimals=2,
        min_notional_usd=10.0,
        max_leverage=10.0,
        maintenance_margin_frac=0.05,
    )
