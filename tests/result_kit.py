"""Results of finished sweeps in memory."""

from pathlib import Path

import polars as pl

from mei_pipeline.sweep.plan import SweepPlan
from mei_pipeline.sweep.results import open_results


def read_results(folder: Path, plan: SweepPlan) -> pl.DataFrame:
    """Return all rows of a finished sweep.

    Chunks are in the order in which they were chosen, and rows of a chunk by number.
    """
    return pl.concat(open_results(folder, plan).frames())
