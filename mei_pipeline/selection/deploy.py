"""Hand a night's finalists to the registry, and learn what it proposes for each lane."""

from collections.abc import Mapping

from kernels.cache import source_hash
from mei_pipeline.config.load import Config
from mei_pipeline.config.models import LaneConfig
from mei_pipeline.night import NightPlan
from mei_pipeline.registry.deploy import Candidate, Deployments, propose_deployments
from mei_pipeline.registry.engine import open_registry
from mei_pipeline.registry.records import Basis, Lane, Occasion
from mei_pipeline.selection.candidates import Candidates, Finalist, resolved_combo
from mei_pipeline.settings import Settings


def lanes_of(config: Mapping[str, LaneConfig]) -> tuple[Lane, ...]:
    """The configured lanes as the registry knows them, by name."""
    return tuple(Lane(name, lane.mode, lane.venue, lane.role, lane.manual) for name, lane in sorted(config.items()))


def propose(
    settings: Settings, config: Config, plan: NightPlan, candidates: Candidates, occasion: Occasion
) -> Deployments:
    """Store every finalist with its evidence and verdict, and propose those that passed. No pointer moves.

    Raises:
        Busy, DataError, Fatal: See `registry.deploy.propose_deployments`.
    """
    return propose_deployments(
        open_registry(settings.registry),
        settings.lanes,
        lanes_of(config.lanes),
        [_candidate(plan, finalist) for finalist in candidates.finalists],
        night_id=plan.id,
        policy_id=plan.selection.id,
        occasion=occasion,
    )


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
