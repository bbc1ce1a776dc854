"""Hand a night's finalists to the registry, and learn what it proposes for each lane."""

from dataclasses import dataclass

from kernels.cache import source_hash
from mei_pipeline.config.load import Config
from mei_pipeline.night import NightPlan
from mei_pipeline.registry.deploy import Candidate, Judged, LaneProposal, propose_deployments, store_candidates
from mei_pipeline.registry.engine import open_registry
from mei_pipeline.registry.lanes import lanes_of, wanted
from mei_pipeline.registry.records import Basis, Occasion
from mei_pipeline.selection.candidates import Candidates, Finalist, resolved_combo
from mei_pipeline.selection.roles import by_rank
from mei_pipeline.settings import Settings


@dataclass(frozen=True)
class Deployments:
    """What a night stored and proposed."""

    judged: tuple[Judged, ...]
    lanes: tuple[LaneProposal, ...]


def propose(
    settings: Settings, config: Config, plan: NightPlan, candidates: Candidates, occasion: Occasion
) -> Deployments:
    """Store every finalist with its evidence and verdict, and propose those that passed. No pointer moves.

    Raises:
        Busy, DataError, Fatal, Refused: See `registry.deploy.propose_deployments`.
    """
    registry = open_registry(settings.registry)
    judged = store_candidates(
        registry,
        [_candidate(plan, finalist) for finalist in candidates.finalists],
        night_id=plan.id,
        policy_id=plan.selection.id,
        occasion=occasion,
    )
    lanes = lanes_of(config.lanes)
    held = {lane.name: wanted(registry, lane.name) for lane in lanes}
    proposals = propose_deployments(
        registry,
        settings.lanes,
        lanes,
        by_rank(judged, lanes, held, source_hash()),
        night_id=plan.id,
        policy_id=plan.selection.id,
        occasion=occasion,
    )
    return Deployments(judged, proposals)


def _candidate(plan: NightPlan, finalist: Finalist) -> Candidate:
    sweep = plan.sweep
    basis = Basis(
        kernel_hash=source_hash(),
        fill_model=dict(sweep.market),
        venue=sweep.venue,
        data_hash=sweep.data_hash,
        anchor_ms=sweep.anchor_ms,
    )
    measured = {
        "sweep_id": sweep.id,
        "combo": finalist.combo,
        "combos": sweep.combos,
        "from_ms": sweep.from_ms,
        "holdout_ms": plan.holdout_ms,
        "to_ms": plan.to_ms,
        "in_sample": dict(finalist.in_sample),
        "out_of_sample": dict(finalist.out_of_sample),
    }
    score = finalist.out_of_sample["sharpe"]
    return Candidate(
        resolved=resolved_combo(sweep, finalist.params),
        basis=basis,
        metrics=measured,
        gates=finalist.gates,
        score=float("nan") if score is None else score,
    )
