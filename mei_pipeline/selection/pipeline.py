"""A night's way from the rows of its search to verdicts: each station reads what lies before it, and writes a file.

A station can be run again alone.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime

import numpy as np
import polars as pl

from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.config.models import Engine
from mei_pipeline.night_plan import NightPlan, night_bars, night_features, others_bars
from mei_pipeline.params.identity import config_id
from mei_pipeline.progress import Progress, silent
from mei_pipeline.registry import trials as known_looks
from mei_pipeline.registry.database import Registry
from mei_pipeline.replay.record import Headline
from mei_pipeline.selection.evaluation import Evidence, known
from mei_pipeline.selection.io import (
    Candidates,
    Finalist,
    Gated,
    chosen_days,
    finalists_of,
    read_walk,
    write_candidates,
    write_gated,
    write_walk,
)
from mei_pipeline.selection.ranking import COLUMNS
from mei_pipeline.selection.segments import Ground, Leg, run_leg
from mei_pipeline.selection.statistics.sharpe import track_record
from mei_pipeline.selection.verdicts import Look, judge_chains, luck_of, own_looks
from mei_pipeline.selection.walk_forward import Walk, choose, least_trades, run_slots
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.window import cut_window
from mei_pipeline.sweep.plan import SweepPlan, resolved_combo
from mei_pipeline.sweep.results import open_results, sweep_folder
from mei_pipeline.sweep.run import run_sweep

_BINS = 40


def walk_night(
    settings: Settings, plan: NightPlan, where: Engine | None = None, progress: Progress = silent
) -> tuple[Walk, tuple[Leg, ...]]:
    """Choose in every fold of the night's search and run the choices on the days after; write both down.

    Where folds have searches of their own, those are run first; one that was cut off goes on.

    Args:
        settings: Where things are.
        plan: The night.
        where: `engine` of pipeline.yaml: what runs searches; by default this machine.
        progress: Told of combos, then of legs.

    Raises:
        ConfigError: The policy leaves a fold no day.
        DataError: The sweep is not whole, or the lake has changed.
        Busy, Retryable: See `run_sweep`.
    """
    ground = _ground(settings, plan)

    def rows(search: SweepPlan) -> Iterator[pl.DataFrame]:
        if search.id != plan.sweep.id:
            cut = cut_window(ground.bars, search.from_ms, search.to_ms)
            run_sweep(settings, search, cut, ground.features, where=where, progress=progress)
        return _rows(settings, search)

    policy = plan.selection
    walk = choose(plan.sweep, rows, policy.walk_forward, policy.finalists, policy.gates.min_round_trips)
    chains = run_slots(ground, plan.sweep, walk, progress)
    write_walk(settings, plan, walk, chains)
    return walk, chains


def candidates_night(settings: Settings, plan: NightPlan) -> Candidates:
    """Name the config that each slot stands for, run it on the holdout, count the combos that were not chosen.

    Raises:
        DataError: The walk-forward of the night has not run, or the lake has changed.
    """
    walk, chains = read_walk(settings, plan)
    ground = _ground(settings, plan)
    finalists = []
    replays: dict[str, Leg] = {}
    chosen_on, last_days = chosen_days(plan), (plan.holdout_ms, plan.to_ms)
    for slot, chain in zip(walk.slots, chains, strict=True):
        params = plan.sweep.combo(slot.final.combo)
        resolved = resolved_combo(plan.sweep, params)
        inside, holdout = (run_leg(ground, resolved, days) for days in (chosen_on, last_days))
        replays |= {f"in sample {slot.number}": inside, f"holdout {slot.number}": holdout}
        finalists.append(
            Finalist(
                slot=slot.number,
                combo=slot.final.combo,
                config_id=config_id(resolved),
                params=params,
                in_sample_sharpe=slot.final.sharpe,
                picks=tuple(pick.combo if pick else None for pick in slot.picks),
                out_of_sample=_headline(chain),
                holdout=_headline(holdout),
            )
        )
    found = Candidates(
        plan.id, plan.sweep.combos, _fell(settings, plan, walk, [each.combo for each in finalists]), tuple(finalists)
    )
    write_candidates(settings, plan, found, replays)
    return found


def gate_night(
    settings: Settings, plan: NightPlan, registry: Registry, now_ms: int, progress: Progress = silent
) -> Gated:
    """Measure and judge every finalist; what is judged is stored as a look at these days before a verdict is known.

    Raises:
        DataError: An earlier station has not run, or has run again since, or the lake has changed.
        Busy: Another process holds the registry.
    """
    walk, chains = read_walk(settings, plan)
    finalists_of(settings, plan, walk)  # of these very choices
    if not chains:
        gated = Gated(plan.id, None, ((), ()), None, ())
    else:
        seen = _look(plan, own_looks(plan.sweep, walk, chains), registry, now_ms)
        ground, others = _ground(settings, plan), _others(settings, plan)
        evidence = Evidence(ground, others, plan.sweep, walk, plan.selection, plan.to_ms)
        judged = judge_chains(evidence, chains, _rows(settings, plan.sweep), seen, progress)
        logit = judged.overfitting.logits
        finite = logit[np.isfinite(logit)]
        counts, edges = np.histogram(finite, _BINS) if len(finite) else (np.empty(0), np.empty(0))
        logits = (tuple(map(float, edges)), tuple(map(int, counts)))
        luck = luck_of(judged.sums, plan.sweep.combos)
        gated = Gated(plan.id, judged.search, logits, luck, judged.judgements)
    write_gated(settings, plan, gated)
    return gated


def _ground(settings: Settings, plan: NightPlan) -> Ground:
    bars = night_bars(settings, plan)
    return Ground(settings, bars, night_features(settings, plan, bars))


def _others(settings: Settings, plan: NightPlan) -> Ground | None:
    bars = others_bars(settings, plan)
    return None if bars is None else Ground(settings, bars, night_features(settings, plan, bars))


def _rows(settings: Settings, search: SweepPlan) -> Iterator[pl.DataFrame]:
    """What choices read of the rows of a search, chunk by chunk."""
    return open_results(sweep_folder(settings.sweeps, search), search).frames(COLUMNS)


def _fell(settings: Settings, plan: NightPlan, walk: Walk, chosen: Sequence[int]) -> dict[str, int]:
    """How many of the combos that were not chosen fell, by reason."""
    few = losers = others = 0
    least = least_trades(plan.sweep, walk.folds, plan.selection.gates.min_round_trips)
    # One that is chosen by the sum of its days, or on the last of them, may have lost on the whole.
    for rows in open_results(sweep_folder(settings.sweeps, plan.sweep), plan.sweep).frames(
        ("combo", "trades", "net_pnl_usd")
    ):
        free = rows.filter(~pl.col("combo").is_in(list(chosen)))
        earned = free.filter(pl.col("net_pnl_usd") > 0.0)
        rare = int((earned["trades"] < least).sum())
        losers, few, others = losers + free.height - earned.height, few + rare, others + earned.height - rare
    return {
        "no profit on the days of the search": losers,
        f"fewer than {np.ceil(least):.0f} trades on the days of the search, too few for `min_round_trips`": few,
        "not among the best on the days of the search, or the same as one of them": others,
    }


def _headline(leg: Leg) -> Headline:
    return Headline(
        days=len(leg.returns),
        return_pct=100.0 * leg.return_frac,
        sharpe=known(track_record(leg.returns).annual),
        max_drawdown_pct=100.0 * leg.max_drawdown_frac,
        round_trips=len(leg.trip_profits),
    )


def _look(plan: NightPlan, own: Sequence[Look], registry: Registry, now_ms: int) -> list[Look]:
    """Store tonight's looks, and give every look at these days, oldest first and tonight's last."""
    first, last = (_day(own[0].days_ms[place]) for place in (0, -1))
    for slot, look in enumerate(own):
        days = (look.days_ms - look.days_ms[0]) // DAY_MS
        returns = np.zeros(int(days[-1]) + 1)
        returns[days] = look.returns
        seen = known_looks.Look(
            night_id=plan.id,
            slot=f"slot {slot}",
            config_ids=(look.config_id,),
            venue=plan.sweep.venue,
            first_day=first,
            last_day=last,
            returns=tuple(returns.tolist()),
            data_hash=plan.sweep.data_hash,
            policy_id=plan.selection.id,
        )
        known_looks.add_look(registry, seen, now_ms)
    return [*map(_series, known_looks.looks_between(registry, plan.sweep.venue, first, last)), *own]


def _series(look: known_looks.Look) -> Look:
    first = (look.first_day - date(1970, 1, 1)).days
    days_ms = DAY_MS * (first + np.arange(len(look.returns), dtype=np.int64))
    return Look(look.config_ids[0], days_ms, np.array(look.returns))


def _day(time_ms: int) -> date:
    return datetime.fromtimestamp(time_ms / 1000, UTC).date()
