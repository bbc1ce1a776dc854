"""From the rows of a search to verdicts: choose in every fold, run, measure, judge. No files, no registry."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from kernels.market import Floats, Ints
from kernels.params import Value
from mei_pipeline.config.models import Judgement
from mei_pipeline.market import DAY_MS
from mei_pipeline.params.identity import Resolved, config_id
from mei_pipeline.progress import Progress, silent
from mei_pipeline.registry.records import Gate, all_pass
from mei_pipeline.selection.candidates import resolved_combo
from mei_pipeline.selection.gates import judge
from mei_pipeline.selection.legs import Ground, Leg, run_leg
from mei_pipeline.selection.measured import Evidence, Measured, Search, basket_returns, known, measure
from mei_pipeline.selection.statistics.overfitting import Overfitting, pbo
from mei_pipeline.selection.statistics.spa import spa
from mei_pipeline.selection.statistics.trials import align, effective_trials, statistic_correlation
from mei_pipeline.selection.walk_forward import Slot, Walk, choose, run_slots
from mei_pipeline.sweep.plan import SweepPlan

MOST_TRIALS = 50_000
"""Trials that the probability of overfitting is computed of; of more, evenly spaced ones."""

_SEED = 20_260_102
_SUMS = ("day_count", "day_sum", "day_sum_sq")

Rows = Callable[[], Iterable[pl.DataFrame]]
"""Gives the rows of a search, chunk after chunk; asked more than once."""


@dataclass(frozen=True)
class Look:
    """A series of daily returns that was judged on days out of sample, tonight or before.

    Attributes:
        days_ms: [D] the days.
        returns: [D] their returns.
    """

    days_ms: Ints
    returns: Floats


@dataclass(frozen=True)
class Candidate:
    """What a slot stands for, and what its gates say.

    Attributes:
        slot: The choices.
        params: Every parameter of the final choice by path.
        resolved: The config.
        config_id: Its id.
        chain: What the slot earned out of sample.
        holdout: What the config did on the days after the search; reported, and chooses nothing.
        measured: What the gates look at.
        gates: Their verdicts.
    """

    slot: Slot
    params: Mapping[str, Value]
    resolved: Resolved
    config_id: str
    chain: Leg
    holdout: Leg
    measured: Measured
    gates: tuple[Gate, ...]

    @property
    def passed(self) -> bool:
        """Whether it passed every gate."""
        return all_pass(self.gates)

    @property
    def reason(self) -> str:
        """Why it fell, or that it did not."""
        failed = [gate for gate in self.gates if gate.verdict != "pass"]
        return "; ".join(f"{gate.name}: {gate.explanation}" for gate in failed) or "passed every gate"


@dataclass(frozen=True)
class Judged:
    """A night's verdicts.

    Attributes:
        walk: The folds and choices.
        candidates: One for each slot, the best on the days of the search first.
        overfitting: Of the search; None where nothing was chosen.
        search: What all gates have in common; None where nothing was chosen.
        basket: [D] daily returns of holding all symbols on the days out of sample.
    """

    walk: Walk
    candidates: tuple[Candidate, ...]
    overfitting: Overfitting | None
    search: Search | None
    basket: Floats


def judge_search(
    ground: Ground,
    others: Ground | None,
    plan: SweepPlan,
    rows: Rows,
    policy: Judgement,
    to_ms: int,
    looks: Sequence[Look] = (),
    progress: Progress = silent,
) -> Judged:
    """Judge what a search found.

    Args:
        ground: Bars and columns of the search's symbols, from the anchor to `to_ms`.
        others: Those of symbols that the search never saw.
        plan: The search.
        rows: Its rows.
        policy: The thresholds.
        to_ms: End of the days after the search, the holdout.
        looks: What was judged before on some of these days.
        progress: Told of each leg out of sample, and of each candidate.

    Raises:
        ConfigError: The policy leaves a fold no day.
    """
    walk = choose(plan, rows(), policy.walk_forward, policy.finalists)
    if not walk.slots:
        return Judged(walk, (), None, None, np.empty(0))
    chains = run_slots(ground, plan, walk, progress)
    days_ms = chains[0].days_ms
    basket = basket_returns(ground.bars, days_ms)
    overfitting = overfitting_of(plan, rows())
    search = _search(overfitting, chains, [*looks, *(Look(each.days_ms, each.returns) for each in chains)], basket)
    evidence = Evidence(ground, others, plan, walk, policy, to_ms)
    found = []
    for slot, chain in zip(walk.slots, chains, strict=True):
        found.append(_candidate(evidence, slot, chain, search))
        progress(len(found), len(chains), "candidates")
    return Judged(walk, tuple(found), overfitting, search, basket)


def overfitting_of(plan: SweepPlan, chunks: Iterable[pl.DataFrame]) -> Overfitting:
    """Probability of backtest overfitting of a search, of at most `MOST_TRIALS` evenly spaced trials."""
    step = -(-plan.combos // MOST_TRIALS)
    parts: list[list[Floats]] = [[], [], []]
    seen = 0
    for rows in chunks:
        kept = slice(-seen % step, None, step)
        for part, name in zip(parts, _SUMS, strict=True):
            part.append(rows[name].to_numpy()[kept].T)
        seen += rows.height
    n, total, squares = (np.concatenate(part, axis=1) for part in parts)
    return pbo(n, total, squares, seed=_SEED)


def _search(overfitting: Overfitting, chains: Sequence[Leg], looks: Sequence[Look], basket: Floats) -> Search:
    """What the gates of all slots have in common."""
    days = chains[0].days_ms
    touching = [look for look in looks if np.isin(look.days_ms, days).any()]
    series = align([look.days_ms // DAY_MS for look in touching], [look.returns for look in touching])
    effective = effective_trials(statistic_correlation(series), seed=_SEED)
    returns = np.column_stack([chain.returns for chain in chains])
    scale = float(returns.std(axis=0).max()) / float(basket.std()) if basket.std() > 0.0 else 0.0
    return Search(
        overfitting_probability=known(overfitting.pbo),
        loss_probability=known(overfitting.loss_probability),
        looks=len(touching),
        effective_looks=effective,
        nothing_p=known(spa(returns, seed=_SEED).p_consistent),
        basket_p=known(spa(returns, basket * scale, seed=_SEED).p_consistent),
    )


def _candidate(evidence: Evidence, slot: Slot, chain: Leg, search: Search) -> Candidate:
    plan = evidence.plan
    params = plan.combo(slot.final.combo)
    resolved = resolved_combo(plan, params)
    found = measure(evidence, slot, chain, search)
    return Candidate(
        slot=slot,
        params=params,
        resolved=resolved,
        config_id=config_id(resolved),
        chain=chain,
        holdout=run_leg(evidence.ground, resolved, (plan.to_ms, evidence.to_ms)),
        measured=found,
        gates=judge(found, evidence.policy.gates),
    )
