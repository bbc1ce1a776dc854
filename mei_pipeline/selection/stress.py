"""Results of a rank in worse markets, with neighbouring parameters, and in crises."""

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
    """Return the market parameters of each worse market, by the name of its gate."""
    fee, entry, leave = (
        float(plan.market[f"market.{name}"]) for name in ("taker_fee_bps", "entry_slippage_bps", "exit_slippage_bps")
    )
    markets: dict[str, dict[str, Value]] = {
        f"slippage_plus_{bps:g}_bps": {
            "market.entry_slippage_bps": entry + bps,
            "market.exit_slippage_bps": leave + bps,
        }
        for bps in policy.slippage_bps
    }
    markets |= {f"fee_times_{factor:g}": {"market.taker_fee_bps": fee * factor} for factor in policy.fee_multiples}
    markets["delay"] = {"market.delay_bars": int(plan.market["market.delay_bars"]) + policy.delay_bars}
    return markets


def stress_returns(
    data: MarketData, plan: SweepPlan, walk: WalkForwardResult, rank: Rank, policy: Stress
) -> dict[str, float]:
    """Return the net return of a rank out of sample in each worse market, percent, by the name of its gate."""
    return {
        name: 100.0 * run_rank(data, plan, walk, rank, market).return_frac
        for name, market in worse_markets(plan, policy).items()
    }


def neighbours(plan: SweepPlan, number: int) -> list[dict[str, Value]]:
    """Return the parameters of the combos one step up or down on one axis from combo `number`, by path.

    Steps follow the order of values in the sweep's file. An axis that does not vary for the combo has no neighbours.
    """
    own = plan.combo(number)
    combos: list[dict[str, Value]] = []
    for path, values in plan.axes:
        if any(own[name] != value for name, value in plan.when.get(path, {}).items()):
            continue
        place = values.index(own[path])
        combos += [{**own, path: values[at]} for at in (place - 1, place + 1) if 0 <= at < len(values)]
    return combos


def plateau_frac(data: MarketData, plan: SweepPlan, rank: Rank) -> float | None:
    """Return the share of the neighbours that keep at least half of the Sharpe ratio of a rank's combo.

    Sharpe ratios are those of all days of the search. None without a neighbour.
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
    """Return the maximum drawdown of a rank's combo in each crisis from the search's first day to `to_ms`, percent."""
    resolved = resolved_combo(plan, plan.combo(rank.final.combo))
    drawdowns = {}
    for name, crisis in sorted(policy.crises.items()):
        if plan.from_ms <= crisis.from_ms and crisis.to_ms <= to_ms:
            segment = run_segment(data, resolved, (crisis.from_ms, crisis.to_ms))
            drawdowns[name] = 100.0 * segment.max_drawdown_frac
    return drawdowns
