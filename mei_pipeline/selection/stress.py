"""What becomes of a slot in worse markets, with other parameters, and in bad days."""

from collections.abc import Mapping

import numpy as np

from kernels.market import fill_model
from kernels.params import Value
from mei_pipeline.config.models import Selection, Stress
from mei_pipeline.params.grid import CodedValues
from mei_pipeline.selection.segments import MarketData, run_segment
from mei_pipeline.selection.walk_forward import Rank, WalkForwardResult, run_rank
from mei_pipeline.simulation.combos import encode_combos
from mei_pipeline.simulation.run import run_combos
from mei_pipeline.simulation.window import cut_window
from mei_pipeline.sweep.metrics import sharpe
from mei_pipeline.sweep.plan import SweepPlan, resolved_combo


def worse_markets(plan: SweepPlan, policy: Stress) -> dict[str, dict[str, Value]]:
    """Market parameters of each worse market, by the name of its gate."""
    fee, entry, leave = (
        float(plan.market[f"market.{name}"]) for name in ("taker_fee_bps", "entry_slippage_bps", "exit_slippage_bps")
    )
    found: dict[str, dict[str, Value]] = {
        f"slippage_plus_{bps:g}_bps": {
            "market.entry_slippage_bps": entry + bps,
            "market.exit_slippage_bps": leave + bps,
        }
        for bps in policy.slippage_bps
    }
    found |= {f"fee_times_{factor:g}": {"market.taker_fee_bps": fee * factor} for factor in policy.fee_multiples}
    found["delay"] = {"market.delay_bars": int(plan.market["market.delay_bars"]) + policy.delay_bars}
    return found


def stressed(
    data: MarketData, plan: SweepPlan, walk: WalkForwardResult, rank: Rank, policy: Stress
) -> dict[str, float]:
    """Net return in percent of a slot out of sample in each worse market, by the name of its gate."""
    return {
        name: 100.0 * run_rank(data, plan, walk, rank, market).return_frac
        for name, market in worse_markets(plan, policy).items()
    }


def neighbours(plan: SweepPlan, number: int) -> list[dict[str, Value]]:
    """Parameters of the combos one step up or down on one axis from combo `number`, by path.

    An axis that does not vary for the combo has no neighbours; values stand in the order of the sweep's file.
    """
    own = plan.combo(number)
    found: list[dict[str, Value]] = []
    for path, values in plan.axes:
        if any(own[name] != wanted for name, wanted in plan.when.get(path, {}).items()):
            continue
        place = values.index(own[path])
        found += [{**own, path: values[at]} for at in (place - 1, place + 1) if 0 <= at < len(values)]
    return found


def plateau(data: MarketData, plan: SweepPlan, rank: Rank) -> float | None:
    """Share of the neighbours that keep at least half of the Sharpe ratio of a slot's final choice.

    Both over all days of the search. None without a neighbour.
    """
    own, *others = combos = [plan.combo(rank.final.combo), *neighbours(plan, rank.final.combo)]
    if not others:
        return None
    values = {path: CodedValues(tuple(combo[path] for combo in combos), np.arange(len(combos))) for path in own}
    encoded = encode_combos(
        plan.strategy, data.features, values, len(combos), plan.symbols, plan.symbol_params, benchmark=plan.benchmark
    )
    cut = cut_window(data.bars, plan.from_ms, plan.to_ms)
    outcome = run_combos(data.settings, cut, fill_model(plan.market, plan.initial_balance_usd), data.features, encoded)
    ratios = sharpe(*outcome.days.sum(axis=0))
    return float((ratios[1:] >= 0.5 * ratios[0]).mean()) if ratios[0] > 0.0 else 0.0


def crisis_drawdowns(
    data: MarketData, plan: SweepPlan, rank: Rank, policy: Selection, to_ms: int
) -> Mapping[str, float]:
    """Deepest fall in percent of a slot's final choice in each crisis between the search's first day and `to_ms`."""
    resolved = resolved_combo(plan, plan.combo(rank.final.combo))
    found = {}
    for name, crisis in sorted(policy.crises.items()):
        if plan.from_ms <= crisis.from_ms and crisis.to_ms <= to_ms:
            segment = run_segment(data, resolved, (crisis.from_ms, crisis.to_ms))
            found[name] = 100.0 * segment.max_drawdown_frac
    return found
