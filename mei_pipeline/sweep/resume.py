"""Go on with a search from its own plan, where rules and data are still what they were."""

from kernels.cache import source_hash
from mei_pipeline.candles.lake import Lake
from mei_pipeline.errors import DataError, Refused
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.sweep.plan import SweepPlan


def planned_bars(settings: Settings, plan: SweepPlan) -> Bars:
    """The bars that the plan was made for.

    Raises:
        Refused: The plan was made with other rules than those of this checkout.
        DataError: The lake has other bars, funding or instruments now, or lacks some.
    """
    if plan.kernels != source_hash():
        raise Refused(
            f"sweep {plan.id[:16]}: its kernels are {plan.kernels[:12]}, those here {source_hash()[:12]}; "
            f"check out the version that it was made with, or search anew with `mei sweep run`"
        )
    lake = Lake(settings.lake)
    bars = load_bars(lake, plan.venue, plan.intervals, plan.symbols, plan.anchor_ms, plan.slice_ms)
    if bars.data_hash != plan.data_hash:
        raise DataError(
            f"sweep {plan.id[:16]}: lake {lake.root} has changed since it was planned: bars, funding or instruments of "
            f"{plan.venue} are others now. `mei lake show` lists the ingests and `mei lake undo` takes one back; or "
            f"search anew with `mei sweep run`"
        )
    return bars
