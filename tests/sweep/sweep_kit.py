"""Sweeps on disk whose figures a test makes up: what the readers say of them can be worked out by hand."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
from market_kit import DAY_MS, START_MS, spec

from kernels.blocks import BLOCKS
from mei_pipeline.candles.intervals import Intervals
from mei_pipeline.sweep.metrics import DOCS
from mei_pipeline.sweep.plan import SweepPlan, make_plan
from mei_pipeline.sweep.results import Results, open_results, sweep_folder, write_chunk, write_plan

FAST, SLOW, STOP = "indicators.ema_fast_window", "indicators.ema_slow_window", "trade.sl_atr_mult"


def plan_of(symbols: tuple[str, ...] = ("AAA",), **changes: Any) -> SweepPlan:
    """A plan over bars that nobody has."""
    bars: Any = SimpleNamespace(
        venue="test",
        interval="1h",
        intervals=Intervals("1h"),
        symbols=symbols,
        anchor_ms=START_MS,
        end_ms=START_MS + 60 * DAY_MS,
        data_hash="data",
    )
    return make_plan(spec(**changes), bars, START_MS, START_MS + 40 * DAY_MS)


Figures = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def rows_of(plan: SweepPlan, numbers: Iterable[int], figures: Figures) -> pl.DataFrame:
    """Rows as a chunk has them; every metric that `figures` doesn't tell of a row's combo and axes is 1."""
    wanted = np.array(list(numbers), dtype=np.int64)
    axes = {path: of.to_list() for path, of in plan.axis_values(wanted).items()}
    points = [{"combo": int(k)} | {path: axes[path][place] for path in axes} for place, k in enumerate(wanted)]
    rows = [point | dict.fromkeys(DOCS, 1.0) | dict(figures(point)) for point in points]
    frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(pl.col("trades").cast(pl.Int64))
    blocks = np.ones((frame.height, BLOCKS))
    names = ("day_count", "day_sum", "day_sum_sq")
    return frame.with_columns(pl.Series(name, blocks, dtype=pl.Array(pl.Float64, BLOCKS)) for name in names)


def store(
    root: Path, plan: SweepPlan, figures: Figures, *, partial: bool = False, skip: tuple[int, ...] = ()
) -> Results:
    """Write a sweep below the folder of all sweeps, but for some chunks, and open it."""
    folder = sweep_folder(root, plan)
    write_plan(folder, plan)
    for index in range(plan.chunks):
        if index not in skip:
            write_chunk(folder, plan, index, rows_of(plan, plan.chunk(index), figures))
    return open_results(folder, plan, partial=partial)
