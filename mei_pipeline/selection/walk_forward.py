"""Walk-forward: what the way of choosing earns on days that the choice had not seen.

In every fold the best combos of the days before are chosen, and run from flat on the days after. The n-th best of all
folds, one after the other, are slot n: the record of always trading what is n-th best at the time. The config that slot
n stands for is what it would choose now, on all days of the search.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from kernels.blocks import BLOCKS
from kernels.params import Value
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.config.models import WalkForward
from mei_pipeline.errors import ConfigError
from mei_pipeline.params.identity import ResolvedConfig
from mei_pipeline.progress import Progress, silent
from mei_pipeline.selection.folds import Fold, block_starts_ms, folds_of, train_before
from mei_pipeline.selection.ranking import RankedCombo, neighbour_means, rank_combos
from mei_pipeline.selection.segments import MarketData, Segment, flat_segment, on_symbols, run_segment, stitch
from mei_pipeline.sweep.plan import SweepPlan, resolved_combo


@dataclass(frozen=True)
class Rank:
    """The n-th best choice of every fold, and of all days of the search.

    Attributes:
        number: n, from 0.
        final: What it chooses on all days that the policy lets it choose on now.
        selected: What it chose in each fold; None where nothing had made money.
    """

    number: int
    final: RankedCombo
    selected: tuple[RankedCombo | None, ...]


@dataclass(frozen=True)
class WalkForwardResult:
    """The choices of a walk-forward.

    Attributes:
        folds: The folds, oldest first.
        ranks: The slots, best first; those without a final choice are left out.
    """

    folds: tuple[Fold, ...]
    ranks: tuple[Rank, ...]


RowsOf = Callable[[SweepPlan], Iterable[pl.DataFrame]]
"""Gives the rows of a search, chunk after chunk, each with at least `selected.COLUMNS`; runs it where that is not done."""


def select_combos(plan: SweepPlan, rows: RowsOf, policy: WalkForward, count: int, trades: int = 0) -> WalkForwardResult:
    """Choose `count` combos in every fold of a search, and on all of its days.

    Combos of a grid are ranked by the mean Sharpe ratio of the combos around them. Those of a sample and of `tpe` have
    few neighbours among the rows and are ranked by their own.

    The combos of a grid and of a sample do not depend on the days, so one search serves all folds. `tpe` tries what did
    well on the days that it searches: there each fold chooses from a search of its own, over its own days.

    Args:
        plan: The search.
        rows: The rows of it, and of the search of any fold.
        policy: How the days are cut.
        count: How many slots.
        trades: Fewest closed round trips that a chain of all folds may have. A combo whose rate of trades does not
            reach it is not chosen: it could not pass the gate.

    Raises:
        ConfigError: The policy leaves a fold no day.
    """
    folds = folds_of(plan.from_ms, plan.to_ms, policy)
    spans = [*(fold.train for fold in folds), train_before(BLOCKS, policy)]
    if plan.search.method == "tpe":
        chosen = [
            rank_combos(rows(search), [(0, BLOCKS)], count, least_trades(search, folds, trades))[0]
            for search in own_searches(plan, spans)
        ]
    else:
        smoothed = neighbour_means(rows(plan), spans, plan.grid) if plan.search.method == "grid" else None
        chosen = rank_combos(rows(plan), spans, count, least_trades(plan, folds, trades), smoothed)
    *by_fold, finals = chosen
    ranks = [
        Rank(number, final, tuple(selected[number] if number < len(selected) else None for selected in by_fold))
        for number, final in enumerate(finals)
    ]
    return WalkForwardResult(folds, tuple(ranks))


def least_trades(search: SweepPlan, folds: Sequence[Fold], trades: int) -> float:
    """Closed trades on the days of a search at the rate that makes `trades` on the days of all folds."""
    return trades * (search.to_ms - search.from_ms) / DAY_MS / test_days(folds)


def rank_config(plan: SweepPlan, rank: Rank) -> ResolvedConfig:
    """The config that a slot stands for."""
    return resolved_combo(plan, plan.combo(rank.final.combo))


def own_searches(plan: SweepPlan, spans: Sequence[tuple[int, int]]) -> tuple[SweepPlan, ...]:
    """The search of `plan` over the days of each span of blocks alone; over all blocks it is `plan` itself."""
    starts = block_starts_ms(plan.from_ms, plan.to_ms)
    return tuple(replace(plan, from_ms=starts[first], to_ms=starts[end]) for first, end in spans)


def check_folds(plan: SweepPlan, policy: WalkForward) -> None:
    """Refuse days that can't be cut into folds before anything is searched.

    Raises:
        ConfigError: The policy leaves a fold no day, or the search of a fold of `tpe` fewer days than time blocks.
    """
    folds = folds_of(plan.from_ms, plan.to_ms, policy)
    days = min(fold.train_ms[1] - fold.train_ms[0] for fold in folds) // DAY_MS
    if plan.search.method == "tpe" and days < BLOCKS:
        raise ConfigError(
            f"policy.yaml: selection.walk_forward.train_blocks: {policy.train_blocks} leave {days} days to the search "
            f"of a fold, which needs {BLOCKS} with method tpe; use more of them or a longer window"
        )


def run_rank(
    data: MarketData,
    plan: SweepPlan,
    walk: WalkForwardResult,
    rank: Rank,
    market: Mapping[str, Value] | None = None,
    progress: Callable[[], None] | None = None,
) -> Segment:
    """Run a slot's choice of every fold on the fold's days, and join them.

    Args:
        data: What it is run on; the bars may be those of other symbols than the search's.
        plan: The search.
        walk: The folds.
        rank: The slot.
        market: Market parameters that differ from the search's.
        progress: Called after each fold.
    """
    segments: list[Segment] = []
    for fold, chosen in zip(walk.folds, rank.selected, strict=True):
        if chosen is None:
            segments.append(flat_segment(fold.test_ms))
        else:
            resolved = resolved_combo(plan, plan.combo(chosen.combo))
            if data.bars.symbols != plan.symbols:
                resolved = on_symbols(resolved, data.bars.symbols)
            segments.append(run_segment(data, resolved, fold.test_ms, market))
        if progress:
            progress()
    return stitch(segments)


def run_ranks(
    data: MarketData, plan: SweepPlan, walk: WalkForwardResult, progress: Progress = silent
) -> tuple[Segment, ...]:
    """The chain of every slot."""
    total = len(walk.ranks) * len(walk.folds)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(done, total, "legs out of sample")

    return tuple(run_rank(data, plan, walk, rank, progress=step) for rank in walk.ranks)


def test_days(folds: Sequence[Fold]) -> int:
    """Days that all folds together are judged on."""
    return sum(fold.days for fold in folds)
