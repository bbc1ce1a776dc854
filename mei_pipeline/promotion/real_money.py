"""Conditions of real money: the least time of a config at each stage, and a refusal that names all reasons."""

from collections.abc import Callable, Iterable

from sqlalchemy import Connection

from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.errors import Refused
from mei_pipeline.registry import rows
from mei_pipeline.registry.lifecycle import PAPER
from mei_pipeline.registry.records import Lane, Pointer

Check = Callable[[], object]


def check_all(lane: str, config_id: str, checks: Iterable[Check]) -> None:
    """Run every check of a config that is to trade real money.

    Raises:
        Refused: A check failed; if several did, the message has a line for each.
    """
    reasons = [reason.removeprefix(f"lane {lane}: ") for check in checks if (reason := _refusal(check))]
    if len(reasons) > 1:
        lines = "".join(f"\n- {reason}" for reason in reasons)
        raise Refused(f"lane {lane}: config {config_id[:12]} can't trade real money at that size yet:{lines}")
    if reasons:
        raise Refused(f"lane {lane}: {reasons[0]}")


def check_paper(connection: Connection, lane: Lane, config_id: str, now_ms: int) -> None:
    """Check that a config was on paper for long enough to enter a live lane, in all paper and shadow lanes together.

    Raises:
        Refused: It was never on paper, or for fewer days than `min_paper_days` of the lane.
    """
    where = f"lane {lane.name}: config {config_id[:12]}"
    if not rows.was_in_state(connection, config_id, PAPER):
        raise Refused(f"{where} was never on paper; promote it to a paper lane first")
    days = _ms_on_paper(connection, config_id, now_ms) / DAY_MS
    if days < lane.min_paper_days:
        raise Refused(
            f"{where} was on paper for {days:.1f} days; "
            f"real_money.min_paper_days of policy.yaml is {lane.min_paper_days:g}"
        )


def check_stage(connection: Connection, lane: Lane, now: Pointer, now_ms: int) -> None:
    """Check that a config traded at its size for long enough to trade at the next size of a live lane.

    Raises:
        Refused: It has been at this size for fewer days than `min_stage_days` of the lane.
    """
    since_ms = now_ms
    for step in reversed(rows.transitions_of(connection, now.config_id, now.lane)):
        if (step.to_state, step.size_multiplier) != (now.state, now.size_multiplier):
            break
        since_ms = step.at_ms
    days = (now_ms - since_ms) / DAY_MS
    if days < lane.min_stage_days:
        raise Refused(
            f"lane {lane.name}: config {now.config_id[:12]} has been at size multiplier {now.size_multiplier:g} for "
            f"{days:.1f} days; real_money.min_stage_days of policy.yaml is {lane.min_stage_days:g}"
        )


def _refusal(check: Check) -> str:
    try:
        check()
    except Refused as error:
        return str(error)
    return ""


def _ms_on_paper(connection: Connection, config_id: str, now_ms: int) -> int:
    """Return the milliseconds that a config was on paper; time in two lanes at once counts once."""
    held: set[str] = set()
    total, last_ms = 0, 0
    for step in rows.transitions_of(connection, config_id):
        total += step.at_ms - last_ms if held else 0
        last_ms = step.at_ms
        if step.lane:  # only the retirement of a config has no lane, and a retired config holds none
            (held.add if step.to_state == PAPER else held.discard)(step.lane)
    return total + (now_ms - last_ms if held else 0)
