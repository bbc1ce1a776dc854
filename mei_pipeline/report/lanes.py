"""The section of a report on lanes: incumbents, assigned configs and reasons, and transitions in the registry."""

from mei_pipeline.candles.intervals import iso
from mei_pipeline.report.document import Block, Paragraph, Section, Table
from mei_pipeline.report.facts import Facts, LaneOutcome
from mei_pipeline.svg import value_text

SHORT = 12
"""Number of digits of an id in a report."""


def short(config_id: str | None) -> str | None:
    """Return the first digits of an id."""
    return None if config_id is None else config_id[:SHORT]


def move_of(lane: LaneOutcome) -> str:
    """Describe the move of a lane."""
    if lane.before == lane.assigned:
        return f"{lane.lane} renewed {short(lane.assigned)}"
    return f"{lane.lane} {short(lane.before) or 'empty'} → {short(lane.assigned)}"


def lanes_section(facts: Facts) -> Section:
    """Return the section on lanes."""
    if not facts.lanes:
        return Section("Lanes", (Paragraph("config/lanes has no lane, so no config can be promoted."),))
    rows = [
        (
            each.lane,
            short(each.before),
            short(each.assigned),
            _result(each),
            each.reason,
            short(each.now.config_id) if each.now else None,
            each.now.generation if each.now else None,
            each.now.state if each.now else None,
        )
        for each in facts.lanes
    ]
    heading = ("lane", "held before", "assigned", "outcome", "reason", "holds now", "generation", "state")
    blocks: list[Block] = [Table("", heading, tuple(rows))]
    if differing := [
        (each.lane, change.path, *(None if value is None else value_text(value) for value in (change.old, change.new)))
        for each in facts.lanes
        for change in each.changes
    ]:
        blocks.append(Table("Changed parameters", ("lane", "parameter", "before", "assigned"), tuple(differing)))
    if facts.incumbents:
        blocks.append(_incumbents(facts))
    if facts.steps:
        blocks.append(_transitions(facts))
    return Section("Lanes", tuple(blocks))


def _transitions(facts: Facts) -> Table:
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
    heading = ("at", "config", "lane", "from", "to", "action", "reason")
    return Table("Transitions of this nightly run in the registry", heading, tuple(rows))


def _result(lane: LaneOutcome) -> str:
    if lane.moved:
        return "moved" if lane.before != lane.assigned else "renewed"
    if not lane.proposed:
        return "not proposed yet"
    if lane.assigned is not None:
        return "proposed, not applied"
    return "still empty" if lane.before is None else "unchanged"


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
        "trades since", "has failed",
    )  # fmt: skip
    return Table("Incumbents, replayed on the test days of the candidates", heading, tuple(rows))
