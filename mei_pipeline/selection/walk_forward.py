"""Walk-forward: the out-of-sample result of the selection of combos.

Every fold selects the best combos of its train days and runs them from flat on its test days. The n-th best combos of
all folds, stitched together, are rank n: the record of a trader who always trades the n-th best combo. The config of
rank n is the combo that it selects now, on all days of the search.
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
from mei_pipeline.selection.folds import Fold, folds_of, train_before
from mei_pipeline.selection.ranking import RankedCombo, neighbour_means, rank_combos
from mei_pipeline.selection.segments import MarketData, Segment, flat_segment, on_symbols, run_segment, stitch
from mei_pipeline.simulation.window import block_starts_ms
from mei_pipeline.sweep.plan import SweepPlan, resolved_combo


@dataclass(frozen=True)
class Rank:
    """The n-th best combos of all folds.

    Attributes:
        number: n, from 0.
        final: The combo that it selects now, on the last train days.
        selected: The combo of each fold; None if no further combo made money on its train days.
    """

    number: int
    final: RankedCombo
    selected: tuple[RankedCombo | None, ...]


@dataclass(frozen=True)
class WalkForwardResult:
    """The combos that a walk-forward selected.

    Attributes:
        folds: The folds, oldest first.
        ranks: The ranks, best first; those without a final combo are left out.
    """

    folds: tuple[Fold, ...]
    ranks: tuple[Rank, ...]


RowsOf = Callable[[SweepPlan], Iterable[pl.DataFrame]]
"""Returns the rows of a search, chunk by chunk, with at least `ranking.COLUMNS`; runs the search if necessary."""


def select_combos(plan: SweepPlan, rows: RowsOf, policy: WalkForward, count: int, trades: int = 0) -> WalkForwardResult:
    """Select `count` combos in every fold of a search, and on all of its days.

    Combos of a grid are ranked by the mean Sharpe ratio of the combos around them. Combos of a random search and of
    `tpe` have few neighbours among the rows and are ranked by their own Sharpe ratio.

    Args:
        plan: The search.
        rows: Returns the rows of the search, or of the search of a fold.
        policy: Folds.
        count: Number of ranks.
        trades: Fewest closed trades of the stitched segments. A combo that trades too seldom to reach it is not
            selected, because it could not pass the gate.

    Raises:
        ConfigError: The policy leaves a fold no test day.
    """
    folds = folds_of(plan.from_ms, plan.to_ms, policy)
    spans = [*(fold.train for fold in folds), train_before(BLOCKS, policy)]
    # The combos of a grid and of a random search do not depend on the days, so one search serves all folds. `tpe` tries
    # combos near those that did well on its days, so one search would leak test days into the selection.
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
    """Return the closed trades on the days of a search at the rate of `trades` on the test days of all folds."""
    return trades * (search.to_ms - search.from_ms) / DAY_MS / test_days(folds)


def rank_config(plan: SweepPlan, rank: Rank) -> ResolvedConfig:
    """Return the config of a rank."""
    return resolved_combo(plan, plan.combo(rank.final.combo))


def own_searches(plan: SweepPlan, spans: Sequence[tuple[int, int]]) -> tuple[SweepPlan, ...]:
    """Return the search of `plan` over the days of each span of blocks; over all blocks it equals `plan`."""
    starts = block_starts_ms(plan.from_ms, plan.to_ms)
    return tuple(replace(plan, from_ms=starts[first], to_ms=starts[end]) for first, end in spans)


def check_folds(plan: SweepPlan, policy: WalkForward) -> None:
    """Check that the days of a search can be cut into folds, before the search runs.

    Raises:
        ConfigError: The policy leaves a fold no test day, or the search of a fold of `tpe` fewer days than time blocks.
    """
    folds = folds_of(plan.from_ms, plan.to_ms, policy)
    days = min(fold.train_ms[1] - fold.train_ms[0] for fold in folds) // DAY_MS
    if plan.search.method == "tpe" and days < BLOCKS:
        raise ConfigError(
            f"policy.yaml: selection.walk_forward.train_blocks: {policy.train_blocks} blocks leave {days} days to the "
            f"search of a fold, which needs {BLOCKS} with method tpe; use more train_blocks or a longer window"
        )


def run_rank(
    data: MarketData,
    plan: SweepPlan,
    walk: WalkForwardResult,
    rank: Rank,
    market: Mapping[str, Value] | None = None,
    progress: Callable[[], None] | None = None,
) -> Segment:
    """Run the combo of a rank in every fold on the fold's test days, and stitch the segments.

    Args:
        data: Bars and features, of the search's symbols or of others.
        plan: The search.
        walk: The folds.
        rank: The rank.
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
    """Return the stitched segments of every rank."""
    total = len(walk.ranks) * len(walk.folds)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(done, total, "out-of-sample segments")

    return tuple(run_rank(data, plan, walk, rank, progress=step) for rank in walk.ranks)


def test_days(folds: Sequence[Fold]) -> int:
    """Return the number of test days of all folds."""
    return sum(fold.days for fold in folds)
