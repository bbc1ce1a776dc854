"""Assets of selection: walk-forward, candidates, gates and roles."""

from collections import Counter
from collections.abc import Iterator, Sequence

import dagster as dg
import numpy as np
import polars as pl

from assets import run_context
from assets.metadata import Metadata, Result, artefact_metadata, declared, entries, materialized, records, table
from assets.plots import line_plot
from assets.research import ProgressResource, features, night_plan, sweep_results
from assets.run_lock import plan_of
from mei_pipeline.night.plan import NightPlan
from mei_pipeline.night.store import night_folder
from mei_pipeline.pages import cell_text
from mei_pipeline.promotion.assign import Assignment
from mei_pipeline.promotion.pipeline import assign_lanes
from mei_pipeline.registry.home import open_home_registry
from mei_pipeline.report.sections import equity_plots
from mei_pipeline.selection.gates import gate_names
from mei_pipeline.selection.io import CandidateSet, GateResults, read_replays, read_walk_forward
from mei_pipeline.selection.pipeline import judge_candidates, run_walk_forward, select_candidates
from mei_pipeline.selection.plots import equity_plot, fold_plot, logit_plot, selection_bias_plot
from mei_pipeline.selection.segments import Segment
from mei_pipeline.selection.walk_forward import WalkForwardResult
from mei_pipeline.settings import read_settings

GROUP = "selection"
OWNERS = ("team:research",)
COLUMNS = {
    "rank": pl.Int64(),
    "combo": pl.Int64(),
    "config": pl.String(),
    "sharpe in": pl.Float64(),
    "sharpe out": pl.Float64(),
    "return out %": pl.Float64(),
    "drawdown out %": pl.Float64(),
    "trades out": pl.Int64(),
    "sharpe holdout": pl.Float64(),
    "return holdout %": pl.Float64(),
}
DOCS = {
    "rank": "Rank of the candidate in the folds, from 0 for the best.",
    "combo": "Number of the combo in the sweep.",
    "config": "First digits of the config's id.",
    "sharpe in": "Annual Sharpe ratio on the days of the search, which selected the combo.",
    "sharpe out": "Annual Sharpe ratio of the rank's stitched out-of-sample equity.",
    "return out %": "Net return of the stitched out-of-sample equity.",
    "drawdown out %": "Maximum drawdown of the stitched out-of-sample equity, percent of its peak.",
    "trades out": "Closed trades of the out-of-sample segments.",
    "sharpe holdout": "Annual Sharpe ratio of the config on the holdout, which selects nothing.",
    "return holdout %": "Net return of the config on the holdout.",
}
RETURNS = {"rank": pl.Int64(), "day_ms": pl.Int64(), "return": pl.Float64()}
RETURN_DOCS = {
    "rank": DOCS["rank"],
    "day_ms": "Start of the day, UTC milliseconds.",
    "return": "Net return of the day, a fraction of equity.",
}
VERDICTS = {
    "gate": pl.String(),
    "rank": pl.Int64(),
    "value": pl.Float64(),
    "threshold": pl.Float64(),
    "verdict": pl.String(),
    "explanation": pl.String(),
}
VERDICT_DOCS = {
    "gate": "Name of the gate.",
    "rank": DOCS["rank"],
    "value": "Measured value; null without evidence.",
    "threshold": "Limit that the policy sets.",
    "verdict": "pass, fail or no evidence.",
    "explanation": "Value and limit in words.",
}
ROLES = {"lane": pl.String(), "config": pl.String(), "reason": pl.String()}
ROLE_DOCS = {
    "lane": "Name of the lane.",
    "config": "First digits of the id of the assigned config; null without one.",
    "reason": "Reason for the config, or for none.",
}
WARN = dg.AssetCheckSeverity.WARN


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"numpy", "numba"},
    pool="gpu",
    deps=[night_plan, features, sweep_results],
    check_specs=[
        dg.AssetCheckSpec(
            "holdout_untouched",
            asset="walk_forward",
            blocking=True,
            description="No fold uses a day of the holdout, and no test day of a fold is one of its train days.",
        )
    ],
    metadata=declared(RETURNS, RETURN_DOCS),
)
def walk_forward(context: dg.AssetExecutionContext, progress: ProgressResource) -> Result:
    """Walk-forward results: out-of-sample returns of the selected combos, one stitched record per rank.

    In every fold, the block sums of the search rank the combos on the train days. The best ones then run from flat on
    the test days. The n-th best of all folds, one after another, are the stitched record of rank n. The holdout is not
    used.
    """
    settings, config = run_context.read_all()
    plan = plan_of(settings, context)
    walk, stitched_by_rank = run_walk_forward(settings, plan, config.pipeline.compute, progress)
    path = night_folder(settings, plan) / "walk_forward.json"
    wrong = _touching(plan, walk)
    return materialized(
        metadata={
            **artefact_metadata(
                path,
                rows=sum(len(each.returns) for each in stitched_by_rank),
                plots={
                    "equity_out_of_sample": [_equity_plot(stitched_by_rank)],
                    "fold_plan": [fold_plot(walk.folds, plan.to_ms)],
                },
            ),
            **entries(folds=len(walk.folds), ranks=len(walk.ranks)),
        },
        check_results=[
            dg.AssetCheckResult(check_name="holdout_untouched", passed=not wrong, metadata={"touching": records(wrong)})
        ],
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"json", "polars"},
    deps=[sweep_results, walk_forward],
    check_specs=[
        dg.AssetCheckSpec(
            "unique_ids", asset="candidates", blocking=True, description="No two candidates are the same config."
        )
    ],
    metadata=declared(COLUMNS, DOCS),
)
def candidates(context: dg.AssetExecutionContext) -> Result:
    """Candidates of the nightly run, one row each: out-of-sample results of their rank, and results on the holdout.

    The candidate of a rank is the combo with that rank on all days of the search. The holdout ranks nothing.
    """
    settings = read_settings()
    plan = plan_of(settings, context)
    chosen = select_candidates(settings, plan)
    frame = candidates_frame(chosen)
    equity = equity_plots(chosen.candidates, read_walk_forward(settings, plan)[1], read_replays(settings, plan))
    path = night_folder(settings, plan) / "candidates.json"
    return materialized(
        metadata={
            **artefact_metadata(
                path,
                frame=frame,
                docs=DOCS,
                plots={"equity": equity or [equity_plot("Equity: no candidate", {})]},
            ),
            "candidates": table(frame, frame.height),
            "rejected_before": records([{"reason": why, "combos": count} for why, count in chosen.rejected.items()]),
            "candidate_count": dg.MetadataValue.int(frame.height),
        },
        check_results=[_unique_ids(chosen, frame)],
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"json", "numpy"},
    deps=[candidates],
    check_specs=[
        dg.AssetCheckSpec(
            "all_computed",
            asset="gate_results",
            blocking=True,
            description="Every gate of the policy has a verdict on every candidate.",
        ),
        *(
            dg.AssetCheckSpec(name, asset="gate_results", description="This gate was computed for every candidate.")
            for name in gate_names()
        ),
    ],
    metadata=declared(VERDICTS, VERDICT_DOCS),
)
def gate_results(context: dg.AssetExecutionContext, progress: ProgressResource) -> Result:
    """Verdicts of every gate on every candidate: value, threshold, and pass, fail or no evidence.

    Gates test worse markets, holdout symbols, crises, concentration, the parameter plateau and the bootstrap. Others
    correct for selection bias: the probability of backtest overfitting, the deflated Sharpe ratio with all trials of
    these days in the registry, and SPA tests. A run that rejects all candidates succeeds.
    """
    settings = read_settings()
    plan = plan_of(settings, context)
    results = judge_candidates(settings, plan, open_home_registry(settings), run_context.now_ms(), progress)
    path = night_folder(settings, plan) / "gates.json"
    context.log.info("%s of %s passed", sum(each.passed for each in results.judgements), len(results.judgements))
    return materialized(
        metadata={
            **artefact_metadata(path, frame=_verdicts(results), docs=VERDICT_DOCS, plots=_gate_plots(results)),
            **_gate_metadata(results),
        },
        check_results=list(_computed(results)),
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"json", "sqlite"},
    deps=[gate_results],
    check_specs=[
        dg.AssetCheckSpec(
            "distinct_configs", asset="role_assignments", blocking=True, description="No config is assigned two lanes."
        )
    ],
    metadata=declared(ROLES, ROLE_DOCS),
)
def role_assignments(context: dg.AssetExecutionContext) -> Result:
    """Assignment of accepted configs to lanes, one row per lane with the reason.

    Candidates and incumbents are compared on the same days. An incumbent keeps its lane until it fails, or until it ran
    for `min_run_days` and a better candidate exists.
    """
    settings, config = run_context.read_all()
    plan = plan_of(settings, context)
    assigned = assign_lanes(settings, config, plan, run_context.now_ms())
    path = night_folder(settings, plan) / "roles.json"
    rows = [{"lane": each.lane, "config": each.config_id, "reason": each.reason} for each in assigned]
    context.log.info("%s lanes, %s assigned", len(rows), sum(each.config_id is not None for each in assigned))
    return materialized(
        metadata=artefact_metadata(path, frame=pl.DataFrame(rows, schema=ROLES), docs=ROLE_DOCS),
        check_results=[_distinct(assigned)],
    )


def candidates_frame(chosen: CandidateSet) -> pl.DataFrame:
    """Return one row per candidate for people."""
    rows = [
        (
            each.rank,
            each.combo,
            each.config_id[:12],
            each.in_sample_sharpe,
            each.out_of_sample.sharpe,
            each.out_of_sample.return_pct,
            each.out_of_sample.max_drawdown_pct,
            each.out_of_sample.trades,
            each.holdout.sharpe,
            each.holdout.return_pct,
        )
        for each in chosen.candidates
    ]
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


def _touching(plan: NightPlan, walk: WalkForwardResult) -> list[dict[str, object]]:
    return [
        {"fold": number, "chosen until": fold.train_ms[1], "judged": list(fold.test_ms)}
        for number, fold in enumerate(walk.folds, 1)
        if fold.test_ms[1] > plan.holdout_ms or fold.train_ms[1] > fold.test_ms[0]
    ]


def _equity_plot(stitched_by_rank: Sequence[Segment]) -> str:
    if not stitched_by_rank:
        return line_plot(
            "Equity out of sample", "no combo was selected", np.zeros(1, dtype=np.int64), {"": np.full(1, np.nan)}
        )
    series = {
        f"rank {i}": np.cumprod(1.0 + stitched.returns, dtype=np.float64)
        for i, stitched in enumerate(stitched_by_rank[:4])
    }
    facts = f"{len(stitched_by_rank[0].returns)} days, folds stitched, start = 1"
    return line_plot("Equity out of sample", facts, stitched_by_rank[0].days_ms, series)


def _unique_ids(chosen: CandidateSet, frame: pl.DataFrame) -> dg.AssetCheckResult:
    counts = Counter(candidate.config_id for candidate in chosen.candidates)
    twice = [{"config": config_id, "candidates": count} for config_id, count in counts.items() if count > 1]
    return dg.AssetCheckResult(
        check_name="unique_ids",
        passed=not twice,
        description=f"{frame.height} candidates, {len(counts)} configs",
        metadata={"duplicates": records(twice)},
    )


def _verdicts(results: GateResults) -> pl.DataFrame:
    rows = [
        (gate.name, each.rank, gate.value, gate.threshold, gate.verdict, gate.explanation)
        for each in results.judgements
        for gate in each.gates
    ]
    return pl.DataFrame(rows, schema=VERDICTS, orient="row")


def _gate_metadata(results: GateResults) -> Metadata:
    matrix = []
    for name in dict.fromkeys(gate.name for each in results.judgements for gate in each.gates):
        row: dict[str, object] = {"gate": name}
        for each in results.judgements:
            gate = next(gate for gate in each.gates if gate.name == name)
            row["threshold"] = gate.threshold
            row[f"rank {each.rank}"] = f"{cell_text(gate.value)} {gate.verdict}"
        matrix.append(row)
    search = results.search
    return entries(
        gates=records(matrix),
        passed=sum(each.passed for each in results.judgements),
        trials=search.trials if search else 0,
        effective_trials=search.effective_trials if search else 0.0,
    )


def _gate_plots(results: GateResults) -> dict[str, list[str]]:
    probability = results.search.overfitting_probability if results.search else None
    return {
        "overfitting": [logit_plot(*results.logits, probability)],
        "selection_bias": [selection_bias_plot(results.selection_bias)],
    }


def _computed(results: GateResults) -> Iterator[dg.AssetCheckResult]:
    """Yield a check per gate: was it computed for every candidate? A gate that is not in the policy passes."""
    in_policy = {gate.name for each in results.judgements for gate in each.gates}
    missing = [
        {"rank": each.rank, "gate": name}
        for each in results.judgements
        for name in sorted(in_policy - {gate.name for gate in each.gates})
    ]
    yield dg.AssetCheckResult(check_name="all_computed", passed=not missing, metadata={"missing": records(missing)})
    for name in gate_names():
        found = [gate for each in results.judgements for gate in each.gates if gate.name == name]
        evidence = sum(gate.verdict != "no evidence" for gate in found)
        words = "not in the policy, or no candidate" if not found else f"{evidence} of {len(found)} with evidence"
        passed = not found or len(found) == len(results.judgements)
        yield dg.AssetCheckResult(check_name=name, passed=passed, severity=WARN, description=words)


def _distinct(assigned: Sequence[Assignment]) -> dg.AssetCheckResult:
    counts = Counter(each.config_id for each in assigned if each.config_id)
    twice = [{"config": config_id, "lanes": count} for config_id, count in counts.items() if count > 1]
    return dg.AssetCheckResult(
        check_name="distinct_configs", passed=not twice, metadata={"configs_with_two_lanes": records(twice)}
    )
