"""What the search found, judged on days that it never saw."""

from collections import Counter

import dagster as dg
import polars as pl

from assets import surroundings
from assets.metadata import Result, artefact_metadata, declared, records, table
from assets.research import ProgressResource, sweep_results
from mei_pipeline.night import night_bars, night_features, night_folder, read_plan
from mei_pipeline.selection.candidates import Candidates, candidates_frame, choose, write_candidates
from mei_pipeline.sweep.results import open_results, sweep_folder

GROUP = "selection"
OWNERS = ("team:research",)
COLUMNS = candidates_frame(Candidates("", 0, {}, ())).schema
DOCS = {
    "combo": "Number of the combo in the sweep.",
    "config": "First digits of the config's id.",
    "passed": "Whether it passed every gate.",
    "sharpe in": "Annual Sharpe ratio over the days of the search.",
    "sharpe out": "Annual Sharpe ratio over the holdout.",
    "return out %": "Net profit over the holdout, percent of the initial balance.",
    "drawdown out %": "Deepest fall of equity in the holdout, percent of the peak.",
    "trades out": "Closed round trips in the holdout.",
    "reason": "Each gate that it did not pass, or that it passed all.",
}


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"json", "polars"},
    deps=[sweep_results],
    check_specs=[
        dg.AssetCheckSpec(
            "unique_ids", asset="candidates", blocking=True, description="No two finalists are the same config."
        )
    ],
    metadata=declared(COLUMNS, DOCS),
)
def candidates(progress: ProgressResource) -> Result:
    """The night's finalists, one row each: figures in and out of sample, and the reason why each fell or passed.

    From the sweep's rows: the best by Sharpe ratio among those with enough trades and a profit, each replayed over the
    holdout from flat and held to every threshold of policy.yaml. A night in which all of them fall is a good night: the
    reasons are the result.
    """
    settings, _ = surroundings.read_all()
    plan = read_plan(settings)
    bars = night_bars(settings, plan)
    results = open_results(sweep_folder(settings.sweeps, plan.sweep), plan.sweep)
    chosen = choose(settings, plan, bars, night_features(settings, plan, bars), results, progress)
    write_candidates(settings, plan, chosen)
    frame = candidates_frame(chosen)
    path = night_folder(settings, plan) / "candidates.json"
    return dg.MaterializeResult(
        metadata={
            **artefact_metadata(path, frame=frame, docs=DOCS),
            "candidates": table(frame, frame.height),
            "fell_before": records([{"reason": why, "combos": count} for why, count in chosen.fell.items()]),
            "finalists": dg.MetadataValue.int(frame.height),
            "passed": dg.MetadataValue.int(int(frame["passed"].sum())),
        },
        check_results=[_unique_ids(chosen, frame)],
    )


def _unique_ids(chosen: Candidates, frame: pl.DataFrame) -> dg.AssetCheckResult:
    counts = Counter(finalist.config_id for finalist in chosen.finalists)
    twice = [{"config": config_id, "finalists": count} for config_id, count in counts.items() if count > 1]
    return dg.AssetCheckResult(
        check_name="unique_ids",
        passed=not twice,
        description=f"{frame.height} finalists, {len(counts)} configs",
        metadata={"duplicates": records(twice)},
    )
