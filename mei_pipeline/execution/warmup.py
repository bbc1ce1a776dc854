"""Compute the features of a book from the lake, from the anchor to the next step of a lane."""

import numpy as np

from kernels import features as feature_kernel
from mei_pipeline.candles.intervals import Intervals, iso
from mei_pipeline.candles.lake import Lake
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.execution.books import BookPlan, StepBook, make_step_book
from mei_pipeline.execution.events import Warmed
from mei_pipeline.simulation.extents import stored_extent_ms
from mei_pipeline.simulation.loading import load_bars


def warm_book(lake: Lake, plan: BookPlan, until_ms: int, *, approximate: bool = False) -> tuple[StepBook, Warmed]:
    """Return a flat book whose features have seen every main bar that closes by `until_ms`, and the fact of it.

    Args:
        lake: The lake.
        plan: The config.
        until_ms: Open time of the next step.
        approximate: True to start at the lake's first bar if the lake begins after the anchor.

    Raises:
        ConfigError: The lake begins after the anchor, and `approximate` is False.
        DataError: The lake ends before `until_ms`, or lacks a symbol.
    """
    venue, main = plan.resolved.venue, plan.resolved.interval
    length = plan.intervals.main_ms
    anchor_ms = plan.offered.anchor_ms
    end_ms = anchor_ms + (until_ms - anchor_ms) // length * length
    first_ms, last_ms = stored_extent_ms(lake, venue, main)
    if last_ms < end_ms:
        raise DataError(
            f"lake {lake.root}: the last {main} bar of {venue} ends {iso(last_ms)}, but the lane is at "
            f"{iso(until_ms)}; run `mei ingest`"
        )
    if anchor_ms < first_ms and not approximate:
        raise ConfigError(
            f"config {plan.offered.config_id[:12]}: its features begin {iso(anchor_ms)}, but the first {main} bar of "
            f"{venue} in lake {lake.root} opens {iso(first_ms)}; ingest earlier bars, or set `warmup: approximate` in "
            f"the lane's file"
        )
    start_ms = max(anchor_ms, -(-(first_ms - anchor_ms) // length) * length + anchor_ms) if approximate else anchor_ms
    if start_ms >= end_ms:
        raise DataError(
            f"config {plan.offered.config_id[:12]}: no {main} bar closes between its anchor, {iso(start_ms)}, and the "
            f"lane's next step, {iso(until_ms)}; start later"
        )
    bars = load_bars(lake, venue, Intervals(main), plan.symbols, start_ms, end_ms)
    step = make_step_book(plan, plan.model.initial_usd)
    _, high, low, close = bars.prices
    feature_kernel.warm(*plan.columns, step.state, step.columns, high, low, close, bars.volume)
    present = ~np.isnan(close)
    step.counts[:] = present.sum(axis=0)
    step.rows[0] = len(close)
    step.market.last_price[0] = bars.steps.last_prices[-1]
    return step, Warmed(
        venue_ms=until_ms,
        config_id=plan.offered.config_id,
        anchor_ms=start_ms,
        until_ms=until_ms,
        data_hash=bars.data_hash,
        approximate=start_ms != anchor_ms,
    )
