"""Assign accepted configs to lanes.

A lane has a role: `primary` takes the best config, `fallback` the best config that is not correlated with it,
`conservative` the config with the smallest maximum drawdown. An incumbent keeps its lane until it fails, or until it
has run for its minimum time and a better config is available.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kernels.market import Floats
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.config.models import Roles
from mei_pipeline.registry.records import Lane

ROLES = ("primary", "fallback", "conservative")
"""Roles in the order in which they choose; other roles follow by name and choose like `primary`."""

FEWEST_TRADES = 30
"""Fewest trades of an incumbent that fails by its profit factor: with fewer, it is mostly noise."""


@dataclass(frozen=True)
class Assignment:
    """Assignment of a config to a lane.

    Attributes:
        lane: The lane.
        config_id: The config; None leaves the lane as it is.
        reason: Reason for this config, or "nothing, because …".
    """

    lane: str
    config_id: str | None
    reason: str


@dataclass(frozen=True)
class AcceptedConfig:
    """A config that passed every gate of the nightly run.

    Attributes:
        config_id: Its id.
        sharpe: Annual Sharpe ratio out of sample.
        max_drawdown_pct: Maximum drawdown out of sample.
        returns: [D] daily returns out of sample; the same days for all.
    """

    config_id: str
    sharpe: float
    max_drawdown_pct: float
    returns: Floats


@dataclass(frozen=True)
class Incumbent:
    """The config that holds a lane, replayed by the nightly run.

    Attributes:
        config_id: Its id.
        since_ms: Time at which it took the lane, UTC milliseconds.
        sharpe: Annual Sharpe ratio on the test days of the candidates; it may have been selected on some of them.
        returns: [D] daily returns on these days.
        drawdown_pct: Maximum drawdown since it took the lane; None before its first complete day.
        profit_factor: Profit factor since it took the lane; None without a loss.
        trades: Closed trades since it took the lane.
        unfit: Reason that it can't be replayed; empty if it was. Its figures are then unknown and it keeps its lane.
        other_kernels: True if it was accepted with other kernels than the present ones: an executor would refuse it.
    """

    config_id: str
    since_ms: int
    sharpe: float
    returns: Floats
    drawdown_pct: float | None
    profit_factor: float | None
    trades: int
    unfit: str = ""
    other_kernels: bool = False


def role_order(lane: Lane) -> tuple[int, str, str]:
    """Return a sort key of lanes: those that choose first sort first."""
    return (ROLES.index(lane.role) if lane.role in ROLES else len(ROLES), lane.role, lane.name)


def failure(incumbent: Incumbent, policy: Roles) -> str:
    """Return the reason that an incumbent has failed; empty if it has not."""
    return _failure_by_results(incumbent, policy) or (
        "was accepted with other kernels" if incumbent.other_kernels else ""
    )


def _failure_by_results(incumbent: Incumbent, policy: Roles) -> str:
    """Return the reason that an incumbent has failed by its results; empty if it has not.

    An incumbent that failed so can't take its lane again in the same nightly run.
    """
    if incumbent.unfit:
        return ""  # Missing candles say nothing about the config.
    drawdown, factor = incumbent.drawdown_pct, incumbent.profit_factor
    if drawdown is not None and drawdown > policy.max_incumbent_drawdown_pct:
        return f"drawdown of {drawdown:.4g} % since it took the lane exceeds {policy.max_incumbent_drawdown_pct:g} %"
    enough = incumbent.trades >= FEWEST_TRADES and factor is not None
    if enough and factor is not None and factor < policy.min_incumbent_profit_factor:
        return f"profit factor {factor:.4g} over {incumbent.trades} trades since it took the lane"
    return ""


def correlation(one: Floats, other: Floats) -> float:
    """Return the correlation of two series of daily returns [D]; 0 if one of them does not vary."""
    if one.std() == 0.0 or other.std() == 0.0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def assign(
    lanes: Sequence[Lane],
    accepted: Sequence[AcceptedConfig],
    incumbents: Mapping[str, Incumbent],
    policy: Roles,
    now_ms: int,
    none_accepted: str = "no config passed",
) -> tuple[Assignment, ...]:
    """Assign a config, or none, to each lane, in the order in which roles choose.

    Args:
        lanes: Lanes that a nightly run may move, all of one venue.
        accepted: Configs that passed every gate.
        incumbents: The config that holds a lane, by name of the lane.
        policy: Conditions to replace an incumbent, and the greatest correlation between roles.
        now_ms: The time, UTC milliseconds.
        none_accepted: Reason that `accepted` is empty.
    """
    kept: dict[str, str] = {}
    for lane in lanes:
        incumbent = incumbents.get(lane.name)
        if incumbent and not failure(incumbent, policy):
            days = (now_ms - incumbent.since_ms) // DAY_MS
            if days < policy.min_run_days:
                kept[lane.name] = f"nothing, because the incumbent has run {days} of {policy.min_run_days} days"
    taken: dict[str, Floats] = {incumbents[name].config_id: incumbents[name].returns for name in kept}
    assignments = []
    for lane in sorted(lanes, key=role_order):
        incumbent = incumbents.get(lane.name)
        if lane.name in kept:
            chosen, reason = None, kept[lane.name]
        else:
            # The config of another lane is barred: if that lane kept it, the config would hold two lanes.
            barred = {each.config_id for name, each in incumbents.items() if name != lane.name}
            if incumbent and _failure_by_results(incumbent, policy):
                barred.add(incumbent.config_id)
            chosen, reason = _choose(lane, accepted, incumbent, taken, barred, policy)
            if not accepted:
                reason = f"nothing, because {none_accepted}"
            if chosen is None and incumbent is not None:
                reason = _reason_to_keep(incumbent, reason, policy)
                taken[incumbent.config_id] = incumbent.returns
            elif chosen is not None:
                taken[chosen.config_id] = chosen.returns
        assignments.append(Assignment(lane.name, chosen.config_id if chosen else None, reason))
    return tuple(assignments)


def _choose(
    lane: Lane,
    accepted: Sequence[AcceptedConfig],
    incumbent: Incumbent | None,
    taken: Mapping[str, Floats],
    barred: set[str],
    policy: Roles,
) -> tuple[AcceptedConfig | None, str]:
    """Return the config that takes a lane and the reason; None if the incumbent keeps it."""
    free = [
        each
        for each in accepted
        if each.config_id not in taken
        and each.config_id not in barred
        and all(correlation(each.returns, other) <= policy.max_correlation for other in taken.values())
    ]
    if not free:
        return None, (
            f"nothing, because each of {len(accepted)} accepted configs is in another lane, failed in this one, or "
            f"correlates with another lane by more than {policy.max_correlation:g}"
        )
    among = f"of {len(free)} {'config' if len(free) == 1 else 'configs'} that no other lane takes"
    if lane.role == "conservative":
        best = min(free, key=lambda each: (each.max_drawdown_pct, each.config_id))
        why = f"smallest drawdown {among}: {best.max_drawdown_pct:.4g} % out of sample"
    else:
        best = min(free, key=lambda each: (-each.sharpe, each.config_id))
        why = f"best Sharpe ratio {among}: {best.sharpe:.4g} out of sample"
    if incumbent is None:
        return best, why
    if incumbent.config_id == best.config_id:
        if incumbent.other_kernels:
            return best, f"{why}; it holds the lane and was judged again with these kernels"
        return None, f"nothing, because {best.config_id[:12]}, {why}, holds the lane"
    return _replace(incumbent, best, why, policy)


def _replace(incumbent: Incumbent, best: AcceptedConfig, why: str, policy: Roles) -> tuple[AcceptedConfig | None, str]:
    """Return the best config and the reason if it replaces the incumbent; None if it does not."""
    failed = failure(incumbent, policy)
    if failed:
        return best, f"{why}; the incumbent failed: {failed}"
    if incumbent.unfit:
        return None, (
            f"nothing, because {best.config_id[:12]} can't be compared with the incumbent, which {incumbent.unfit}; "
            f"restore what its replay needs, or promote another config by hand"
        )
    if best.sharpe < incumbent.sharpe + policy.min_gain_sharpe:
        return None, (
            f"nothing, because {best.config_id[:12]} has a Sharpe ratio of {best.sharpe:.4g} on days on which the "
            f"incumbent has {incumbent.sharpe:.4g}; it must be at least {policy.min_gain_sharpe:g} higher"
        )
    return best, f"{why}; the incumbent has {incumbent.sharpe:.4g} on the same days"


def _reason_to_keep(incumbent: Incumbent, reason: str, policy: Roles) -> str:
    failed = failure(incumbent, policy)
    if not failed:
        return reason
    return f"{reason}; the incumbent failed ({failed}) and keeps its lane until a config is accepted or it is paused"
