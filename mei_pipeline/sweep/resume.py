"""Load the bars of a stored plan, if rules and data have not changed."""

from kernels.cache import source_hash
from mei_pipeline.candles.lake import Lake
from mei_pipeline.errors import DataError, Refused
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.sweep.plan import SweepPlan


def planned_bars(settings: Settings, plan: SweepPlan) -> Bars:
    """Return the bars of a plan.

    Raises:
        Refused: The plan was made with other kernels than those of this checkout.
        DataError: The lake has other bars, funding or instruments now, or lacks some.
    """
    if plan.kernels != source_hash():
        raise Refused(
            f"sweep {plan.id[:16]}: made with kernels {plan.kernels[:12]}, this checkout has {source_hash()[:12]}; "
            f"check out the version that made it, or start a new sweep with `mei sweep run`"
        )
    lake = Lake(settings.lake)
    bars = load_bars(lake, plan.venue, plan.intervals, plan.symbols, plan.anchor_ms, plan.slice_ms)
    if bars.data_hash != plan.data_hash:
        raise DataError(
            f"sweep {plan.id[:16]}: bars, funding or instruments of {plan.venue} in lake {lake.root} have changed "
            f"since the sweep was planned; undo an ingest with `mei lake undo` (`mei lake show` lists ingests), or "
            f"start a new sweep with `mei sweep run`"
        )
    return bars
