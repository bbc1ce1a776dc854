"""Which of those that passed takes which lane.

A lane has a role: `primary` takes the best, `fallback` the best that moves differently, `conservative` the one that
fell least. An incumbent keeps its lane until it fails, or until it has run its time and a better one is there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kernels.market import Floats
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.config.models import Roles
from mei_pipeline.promotion.propose import Assignment
from mei_pipeline.registry.records import Lane

ROLES = ("primary", "fallback", "conservative")
"""The roles, first choice first; another role comes after these, by name, and chooses like `primary`."""

FEWEST_TRADES = 30
"""Round trips from which on a profit factor says that an incumbent has failed."""


@dataclass(frozen=True)
class AcceptedConfig:
    """A config that passed every gate tonight.

    Attributes:
        config_id: Its id.
        sharpe: Annual Sharpe ratio out of sample.
        max_drawdown_pct: Deepest fall out of sample.
        returns: [D] daily returns out of sample; the same days for all.
    """

    config_id: str
    sharpe: float
    max_drawdown_pct: float
    returns: Floats


@dataclass(frozen=True)
class Incumbent:
    """The config that holds a lane, replayed tonight.

    Attributes:
        config_id: Its id.
        since_ms: When it took the lane.
        sharpe: Annual Sharpe ratio on the days on which tonight's candidates were judged; its own choice may have seen
            them.
        returns: [D] its daily returns on those days.
        drawdown_pct: Deepest fall since it took the lane; None before its first whole day.
        profit_factor: Since it took the lane; None without round trips.
        trades: Since it took the lane.
        unfit: Why it can't be replayed tonight; empty if it was. If not, the figures above are unknown and it keeps
            its lane.
        other_kernels: It was let in with other kernels than the present ones, and an executor would refuse it.
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
    """Sorts lanes: first choice first."""
    return (ROLES.index(lane.role) if lane.role in ROLES else len(ROLES), lane.role, lane.name)


def failure(incumbent: Incumbent, policy: Roles) -> str:
    """Why an incumbent has failed; empty where it has not."""
    return _lost(incumbent, policy) or ("was let in with other kernels" if incumbent.other_kernels else "")


def _lost(incumbent: Incumbent, policy: Roles) -> str:
    """Why an incumbent has failed by what it did; such a one does not follow itself."""
    if incumbent.unfit:
        return ""  # Missing candles say nothing about the config.
    fall, factor = incumbent.drawdown_pct, incumbent.profit_factor
    if fall is not None and fall > policy.max_incumbent_drawdown_pct:
        return f"fell {fall:.4g} % since it took the lane; {policy.max_incumbent_drawdown_pct:g} % are allowed"
    enough = incumbent.trades >= FEWEST_TRADES and factor is not None
    if enough and factor is not None and factor < policy.min_incumbent_profit_factor:
        return f"profit factor {factor:.4g} over {incumbent.trades} round trips since it took the lane"
    return ""


def correlation(one: Floats, other: Floats) -> float:
    """Correlation of two series of daily returns [D]; 0 where one of them does not vary."""
    if one.std() == 0.0 or other.std() == 0.0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def assign(
    lanes: Sequence[Lane],
    passed: Sequence[AcceptedConfig],
    incumbents: Mapping[str, Incumbent],
    policy: Roles,
    now_ms: int,
    rejected: str = "no config passed",
) -> tuple[Assignment, ...]:
    """What each lane shall run, first choice first.

    A config that holds a lane is for no other one: if its own lane found nobody else, it would hold two.

    Args:
        lanes: Lanes that a night may move, all of one venue.
        passed: Configs that passed tonight.
        incumbents: What holds each lane, by its name.
        policy: When an incumbent may be replaced, and how different roles must be.
        now_ms: The present.
        rejected: Why there is no candidate, where there is none.
    """
    kept: dict[str, str] = {}
    for lane in lanes:
        incumbent = incumbents.get(lane.name)
        if incumbent and not failure(incumbent, policy):
            days = (now_ms - incumbent.since_ms) // DAY_MS
            if days < policy.min_run_days:
                kept[lane.name] = f"nothing, because the incumbent has run {days} of {policy.min_run_days} days"
    taken: dict[str, Floats] = {incumbents[name].config_id: incumbents[name].returns for name in kept}
    found = []
    for lane in sorted(lanes, key=role_order):
        incumbent = incumbents.get(lane.name)
        if lane.name in kept:
            chosen, reason = None, kept[lane.name]
        else:
            barred = {each.config_id for name, each in incumbents.items() if name != lane.name}
            if incumbent and _lost(incumbent, policy):
                barred.add(incumbent.config_id)
            chosen, reason = _choose(lane, passed, incumbent, taken, barred, policy)
            if not passed:
                reason = f"nothing, because {rejected}"
            if chosen is None and incumbent is not None:
                reason = _stays(incumbent, reason, policy)
                taken[incumbent.config_id] = incumbent.returns
            elif chosen is not None:
                taken[chosen.config_id] = chosen.returns
        found.append(Assignment(lane.name, chosen.config_id if chosen else None, reason))
    return tuple(found)


def _choose(
    lane: Lane,
    passed: Sequence[AcceptedConfig],
    incumbent: Incumbent | None,
    taken: Mapping[str, Floats],
    barred: set[str],
    policy: Roles,
) -> tuple[AcceptedConfig | None, str]:
    """The candidate that takes a lane, and why; None where the incumbent is as good."""
    free = [
        each
        for each in passed
        if each.config_id not in taken
        and each.config_id not in barred
        and all(correlation(each.returns, other) <= policy.max_correlation for other in taken.values())
    ]
    if not free:
        return None, (
            f"nothing, because each of {len(passed)} that passed is in another lane, lost this one, or correlates with "
            f"another lane by more than {policy.max_correlation:g}"
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
            return best, f"{why}; it holds the lane and was judged anew with these kernels"
        return None, f"nothing, because {best.config_id[:12]}, {why}, holds the lane"
    return _against(incumbent, best, why, policy)


def _against(incumbent: Incumbent, best: AcceptedConfig, why: str, policy: Roles) -> tuple[AcceptedConfig | None, str]:
    """Whether the best candidate replaces another config that holds the lane, and why."""
    failed = failure(incumbent, policy)
    if failed:
        return best, f"{why}; the incumbent failed: {failed}"
    if incumbent.unfit:
        return None, (
            f"nothing, because {best.config_id[:12]} can't be compared with the incumbent, which {incumbent.unfit}; "
            f"make it replayable, or a person promotes another config"
        )
    wanted = incumbent.sharpe + policy.min_gain_sharpe
    if best.sharpe < wanted:
        return None, (
            f"nothing, because {best.config_id[:12]} has a Sharpe ratio of {best.sharpe:.4g} on days on which the "
            f"incumbent has {incumbent.sharpe:.4g}; {policy.min_gain_sharpe:g} more are asked for"
        )
    return best, f"{why}; the incumbent has {incumbent.sharpe:.4g} on the same days"


def _stays(incumbent: Incumbent, reason: str, policy: Roles) -> str:
    failed = failure(incumbent, policy)
    return (
        f"{reason}; the incumbent failed ({failed}) and stays until something passed or it is paused"
        if failed
        else reason
    )
