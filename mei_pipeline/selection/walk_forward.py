"""Walk-forward: what the way of choosing earns on days that the choice had not seen.

In every fold the best combos of the days before are chosen, and run from flat on the days after. The n-th best of all
folds, one after the other, are slot n: the record of always trading what is n-th best at the time. The config that slot
n stands for is what it would choose now, on all days of the search.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from kernels.ledger import BLOCKS
from kernels.params import Value
from mei_pipeline.config.models import WalkForward
from mei_pipeline.params.identity import Resolved, make_resolved
from mei_pipeline.params.table import read_catalog
from mei_pipeline.progress import Progress, silent
from mei_pipeline.selection.folds import Fold, folds_of, train_before
from mei_pipeline.selection.legs import Chain, Ground, Leg, chain, flat_leg, on_symbols, run_leg
from mei_pipeline.selection.picks import Pick, pick
from mei_pipeline.sweep.plan import SweepPlan


@dataclass(frozen=True)
class Slot:
    """The n-th best choice of every fold, and of all days of the search.

    Attributes:
        number: n, from 0.
        final: What it chooses on all days that the policy lets it choose on now.
        picks: What it chose in each fold; None where nothing had made money.
    """

    number: int
    final: Pick
    picks: tuple[Pick | None, ...]


@dataclass(frozen=True)
class Walk:
    """The choices of a walk-forward.

    Attributes:
        folds: The folds, oldest first.
        slots: The slots, best first; those without a final choice are left out.
    """

    folds: tuple[Fold, ...]
    slots: tuple[Slot, ...]


def choose(plan: SweepPlan, chunks: Iterable[pl.DataFrame], policy: WalkForward, count: int) -> Walk:
    """Choose `count` combos in every fold of a search, and on all of its days.

    Args:
        plan: The search.
        chunks: Its rows, each with at least `picks.COLUMNS`.
        policy: How the days are cut.
        count: How many slots.

    Raises:
        ConfigError: The policy leaves a fold no day.
    """
    folds = folds_of(plan.from_ms, plan.to_ms, policy)
    *by_fold, finals = pick(chunks, [*(fold.train for fold in folds), train_before(BLOCKS, policy)], count)
    slots = [
        Slot(number, final, tuple(picks[number] if number < len(picks) else None for picks in by_fold))
        for number, final in enumerate(finals)
    ]
    return Walk(folds, tuple(slots))


def resolved_combo(plan: SweepPlan, params: Mapping[str, Value]) -> Resolved:
    """The config that a combo of the sweep is."""
    return make_resolved(
        read_catalog(),
        strategy=plan.strategy,
        venue=plan.venue,
        interval=plan.interval,
        symbols=plan.symbols,
        initial_balance_usd=plan.initial_balance_usd,
        params=params,
        market=plan.market,
        symbol_params=plan.symbol_params,
        entry_interval=plan.entry_interval,
        exit_interval=plan.exit_interval,
    )


def run_slot(
    ground: Ground,
    plan: SweepPlan,
    walk: Walk,
    slot: Slot,
    market: Mapping[str, Value] | None = None,
    progress: Callable[[], None] | None = None,
) -> Chain:
    """Run a slot's choice of every fold on the fold's days, and join them.

    Args:
        ground: What it is run on; the bars may be those of other symbols than the search's.
        plan: The search.
        walk: The folds.
        slot: The slot.
        market: Market parameters that differ from the search's.
        progress: Called after each fold.
    """
    legs: list[Leg] = []
    for fold, chosen in zip(walk.folds, slot.picks, strict=True):
        if chosen is None:
            legs.append(flat_leg(fold.test_ms))
        else:
            resolved = resolved_combo(plan, plan.combo(chosen.combo))
            if ground.bars.symbols != plan.symbols:
                resolved = on_symbols(resolved, ground.bars.symbols)
            legs.append(run_leg(ground, resolved, fold.test_ms, market))
        if progress:
            progress()
    return chain(legs)


def run_slots(ground: Ground, plan: SweepPlan, walk: Walk, progress: Progress = silent) -> tuple[Chain, ...]:
    """The chain of every slot."""
    total = len(walk.slots) * len(walk.folds)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(done, total, "legs out of sample")

    return tuple(run_slot(ground, plan, walk, slot, progress=step) for slot in walk.slots)


def judged_days(folds: Sequence[Fold]) -> int:
    """Days that all folds together are judged on."""
    return sum(fold.days for fold in folds)
