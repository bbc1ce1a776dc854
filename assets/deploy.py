"""Assets that store the proposals of a nightly run and move the lanes' pointers."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import polars as pl

from assets import run_context
from assets.metadata import Metadata, Result, artefact_metadata, declared, entries, materialized, records, short
from assets.run_lock import plan_of
from assets.selection import role_assignments
from mei_pipeline import files
from mei_pipeline.errors import MeiError
from mei_pipeline.notify import send_moves
from mei_pipeline.params.identity import config_id, resolve_config
from mei_pipeline.params.table import read_catalog
from mei_pipeline.promotion.pipeline import ProposalResult, propose_configs
from mei_pipeline.promotion.promote_proposals import LanePromotion, promote_proposals
from mei_pipeline.promotion.propose import LaneProposal
from mei_pipeline.registry.database import Registry
from mei_pipeline.registry.home import open_home_registry
from mei_pipeline.registry.lanes import configured_lanes
from mei_pipeline.registry.records import Pointer
from mei_pipeline.registry.store import get_config, lane_pointers, passing_verdict

GROUP = "deploy"
OWNERS = ("team:trading",)
PROPOSALS = {"lane": pl.String(), "role": pl.String(), "old": pl.String(), "new": pl.String(), "reason": pl.String()}
PROPOSAL_DOCS = {
    "lane": "Name of the lane.",
    "role": "Role of the lane in config/lanes.",
    "old": "First digits of the id of the config that holds the lane; null without one.",
    "new": "First digits of the id of the proposed config; null without one.",
    "reason": "Reason for the config, or for none.",
}
MOVES = {
    "lane": pl.String(),
    "config": pl.String(),
    "generation": pl.Int64(),
    "moved": pl.Boolean(),
    "transition": pl.String(),
    "reason": pl.String(),
}
MOVE_DOCS = {
    "lane": "Name of the lane.",
    "config": "First digits of the id of the config that holds the lane now; null without one.",
    "generation": "Number of moves of the lane so far.",
    "moved": "True if this run moved the lane.",
    "transition": "First digits of the id of the lane's last transition in the registry.",
    "reason": "Reason for the move, or for none.",
}


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"sqlite", "yaml"},
    deps=[role_assignments],
    check_specs=[
        dg.AssetCheckSpec(
            "config_valid",
            asset="deployments",
            blocking=True,
            description="Every proposed config is complete, its values are allowed, and its id is that of its content.",
        ),
        dg.AssetCheckSpec(
            "gates_passed",
            asset="deployments",
            blocking=True,
            description="The latest verdict on every proposed config under the present policy is a pass.",
        ),
    ],
    metadata=declared(PROPOSALS, PROPOSAL_DOCS),
)
def deployments(context: dg.AssetExecutionContext) -> Result:
    """Proposals of the nightly run, one row per lane: the present config, the proposed config and the reason.

    Every candidate is stored in the registry with its evidence and verdict. Accepted configs are proposed for lanes. No
    pointer moves here, so a proposal can be read and checked before it takes effect. A run that proposes nothing
    succeeds, and states the reason.
    """
    settings, config = run_context.read_all()
    plan = plan_of(settings, context)
    why = f"night {plan.id[:16]}, profile {plan.profile}"
    found = propose_configs(
        settings,
        config,
        plan,
        run_context.audit(context, why, f"night {plan.id}"),
    )
    registry = open_home_registry(settings)
    return materialized(
        metadata=_proposal_metadata(settings.lanes, found),
        check_results=[
            _config_valid(registry, found.lanes),
            _gates_passed(registry, found.lanes, plan.selection.id),
        ],
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"sqlite", "yaml"},
    deps=[deployments],
    metadata=declared(MOVES, MOVE_DOCS),
)
def promoted(context: dg.AssetExecutionContext) -> Iterator[Result]:
    """Configs of the lanes, one row per lane: moves the pointers as proposed and writes the lanes' files.

    The step can be launched alone at any time, so it checks each proposal again and refuses a config without a passing
    verdict under the present policy. Only paper lanes move, and only if they did not move since the proposal. Running
    the step again changes nothing. Its version is the hash of all pointers.
    """
    settings, config = run_context.read_lanes()  # a wrong sweep file stops no hand-over
    for problem in config.unusable.values():
        context.log.warning(problem)
    registry = open_home_registry(settings)
    outcomes = promote_proposals(
        registry,
        settings.lanes,
        configured_lanes(config.lanes),
        policy_id=config.policy.selection.id,
        audit=run_context.audit(context, "proposal of a night", f"job {context.run.job_name}"),
    )
    pointers = lane_pointers(registry)
    yield materialized(
        metadata=_move_metadata(settings.lanes, outcomes, pointers), data_version=dg.DataVersion(version_of(pointers))
    )
    moved = [(each.lane, each.pointer.config_id, each.reason) for each in outcomes if each.moved and each.pointer]
    send_moves(settings, f"{context.run.job_name} moved", moved)
    failed = [outcome.error for outcome in outcomes if outcome.error]
    if failed:
        # All lanes are processed before the run fails. The gravest error decides, because its exit code is the advice.
        gravest = max(failed, key=lambda error: error.exit_code)
        raise type(gravest)("; ".join(f"{each.lane}: {each.refused}" for each in outcomes if each.refused))


def version_of(pointers: Sequence[Pointer]) -> str:
    """Return the hash of all pointers."""
    return files.sha256_json([vars(pointer) for pointer in pointers])


def _proposal_metadata(folder: Any, found: ProposalResult) -> Metadata:
    rows = [{name: getattr(lane, name) for name in PROPOSALS} for lane in found.lanes]
    frame = pl.DataFrame(rows, schema=PROPOSALS)
    changes = [
        {"lane": lane.lane, "parameter": change.path, "old": change.old, "new": change.new}
        for lane in found.lanes
        for change in lane.changes
    ]
    proposed = sum(lane.new is not None for lane in found.lanes)
    return {
        **artefact_metadata(folder, digest=files.sha256_json(rows), frame=frame, docs=PROPOSAL_DOCS),
        **entries(
            diff=records(changes), judged=len(found.candidates), proposed=proposed, outcome=_outcome(found.lanes)
        ),
    }


def _outcome(lanes: Sequence[LaneProposal]) -> str:
    news = [f"{lane.lane}: {short(lane.old or 'empty')} → {short(lane.new)}" for lane in lanes if lane.new]
    reasons = dict.fromkeys(lane.reason for lane in lanes)
    return "; ".join(news) or next(iter(reasons), "nothing, because config/lanes has no lane")


def _move_metadata(folder: Any, outcomes: Sequence[LanePromotion], pointers: Sequence[Pointer]) -> Metadata:
    rows = [
        {
            "lane": outcome.lane,
            "config": short(outcome.pointer.config_id) if outcome.pointer else None,
            "generation": outcome.pointer.generation if outcome.pointer else None,
            "moved": outcome.moved,
            "transition": short(outcome.pointer.transition_id) if outcome.pointer else None,
            "reason": short(outcome.reason),
        }
        for outcome in outcomes
    ]
    moves = [row["transition"] for row in rows if row["moved"]]
    written = [{"lane": outcome.lane, "file": path.name} for outcome in outcomes for path in outcome.files]
    return {
        **artefact_metadata(
            folder, digest=version_of(pointers), frame=pl.DataFrame(rows, schema=MOVES), docs=MOVE_DOCS
        ),
        "moved": dg.MetadataValue.int(len(moves)),
        "transition_ids": dg.MetadataValue.json(moves),
        "lanes": dg.MetadataValue.json(rows),
        "files_written": records(written),
    }


def _config_valid(registry: Registry, lanes: Sequence[LaneProposal]) -> dg.AssetCheckResult:
    problems = []
    for lane in lanes:
        if lane.new is not None:
            try:
                stored = get_config(registry, lane.new).resolved
                found = config_id(resolve_config(read_catalog(), **vars(stored)))
            except MeiError as error:
                problems.append({"lane": lane.lane, "config": lane.new, "problem": str(error)})
            else:
                if found != lane.new:
                    problems.append({"lane": lane.lane, "config": lane.new, "problem": f"its content has id {found}"})
    return _verdict("config_valid", lanes, problems)


def _gates_passed(registry: Registry, lanes: Sequence[LaneProposal], policy_id: str) -> dg.AssetCheckResult:
    problems = [
        {"lane": lane.lane, "config": lane.new, "problem": f"no passing verdict under policy {policy_id[:12]}"}
        for lane in lanes
        if lane.new is not None and passing_verdict(registry, lane.new, policy_id) is None
    ]
    return _verdict("gates_passed", lanes, problems)


def _verdict(name: str, lanes: Sequence[LaneProposal], problems: list[dict[str, Any]]) -> dg.AssetCheckResult:
    proposed = sum(lane.new is not None for lane in lanes)
    return dg.AssetCheckResult(
        check_name=name,
        passed=not problems,
        description=f"{proposed} configs proposed, {len(problems)} wrong",
        metadata={"problems": records(problems)},
    )
