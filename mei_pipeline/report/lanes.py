"""What a report says of the lanes: who held them, who was chosen and why, and what the registry noted."""

from mei_pipeline.candles.intervals import iso
from mei_pipeline.report.document import Block, Paragraph, Section, Table
from mei_pipeline.report.facts import Facts, LaneOutcome
from mei_pipeline.svg import value_text

SHORT = 12
"""Digits of an id that are shown."""


def short(config_id: str | None) -> str | None:
    """The first digits of an id."""
    return None if config_id is None else config_id[:SHORT]


def move_of(lane: LaneOutcome) -> str:
    """A lane that moved, in words."""
    if lane.before == lane.assigned:
        return f"{lane.lane} renewed {short(lane.assigned)}"
    return f"{lane.lane} {short(lane.before) or 'empty'} → {short(lane.assigned)}"


def lanes_section(facts: Facts) -> Section:
    """The section."""
    if not facts.lanes:
        return Section("Lanes", (Paragraph("config/lanes has no lane: there is nothing to deploy to."),))
    rows = [
        (
            each.lane,
            short(each.before),
            short(each.assigned),
            _became(each),
            each.reason,
            short(each.now.config_id) if each.now else None,
            each.now.generation if each.now else None,
            each.now.state if each.now else None,
        )
        for each in facts.lanes
    ]
    heading = ("lane", "held before", "chosen", "outcome", "why", "holds now", "generation", "state")
    blocks: list[Block] = [Table("", heading, tuple(rows))]
    if differing := [
        (each.lane, change.path, *(None if value is None else value_text(value) for value in (change.old, change.new)))
        for each in facts.lanes
        for change in each.changes
    ]:
        blocks.append(Table("What changes", ("lane", "parameter", "before", "chosen"), tuple(differing)))
    if facts.incumbents:
        blocks.append(_incumbents(facts))
    if facts.steps:
        blocks.append(_noted(facts))
    return Section("Lanes", tuple(blocks))


def _noted(facts: Facts) -> Table:
    rows = [
        (
            iso(step.at_ms // 1000 * 1000),
            short(step.config_id),
            step.lane or None,
            step.from_state or None,
            step.to_state,
            step.action,
            step.why,
        )
        for step in facts.steps
    ]
    heading = ("at", "config", "lane", "from", "to", "action", "why")
    return Table("What the registry noted of this night", heading, tuple(rows))


def _became(lane: LaneOutcome) -> str:
    if lane.moved:
        return "moved" if lane.before != lane.assigned else "renewed"
    if not lane.proposed:
        return "not proposed yet"
    if lane.assigned is not None:
        return "proposed, not applied"
    return "stays empty" if lane.before is None else "stays as it was"


def _incumbents(facts: Facts) -> Table:
    rows = [
        (
            each.lane,
            short(each.config_id),
            iso(each.since_ms // 1000 * 1000),
            each.sharpe,
            each.drawdown_pct,
            each.profit_factor,
            each.trades,
            each.failed or (f"no; {each.unfit}" if each.unfit else "no"),
        )
        for each in facts.incumbents
    ]
    heading = (
        "lane", "config", "since", "Sharpe on the same days", "drawdown since, %", "profit factor since",
        "round trips since", "has failed",
    )  # fmt: skip
    return Table("Incumbents, replayed on the days on which candidates were judged", heading, tuple(rows))
