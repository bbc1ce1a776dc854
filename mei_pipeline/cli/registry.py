"""`mei registry`: what was found, what was judged, and what runs where."""

from typing import TYPE_CHECKING, Any

import click

from mei_pipeline.cli import output

if TYPE_CHECKING:
    from mei_pipeline.registry.records import Evidence, Gate, Transition, Verdict
    from mei_pipeline.registry.store import ConfigStory, Registry

_SHORT = 12  # hex digits of an id in a table; `show` takes any prefix that is unique
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")


@click.group("registry")
def registry() -> None:
    """Look at configs, their evidence and verdicts, and which config holds which lane."""


@registry.command("list")
@_JSON
def show_list(as_json: bool) -> None:
    """List the lanes with what holds them, and every config with its state and verdicts."""
    from mei_pipeline.registry.store import lane_pointers, list_configs

    book = _open()
    pointers, stories = lane_pointers(book), list_configs(book)
    if as_json:
        output.print_json(
            {"lanes": [vars(pointer) for pointer in pointers], "configs": [_summary(story) for story in stories]}
        )
        return
    output.table(
        "Lanes",
        ("lane", "config", "generation", "size multiplier"),
        [(entry.lane, entry.config_id[:_SHORT], entry.generation, entry.size_multiplier) for entry in pointers],
    )
    output.table(
        "Configs",
        ("config", "strategy", "venue", "state", "lanes", "verdicts passed", "of", "found"),
        [
            (
                story.config.config_id[:_SHORT],
                story.config.resolved.strategy,
                story.config.resolved.venue,
                story.state,
                ", ".join(story.lanes) or None,
                sum(verdict.passed for verdict in story.verdicts),
                len(story.verdicts),
                _utc(story.config.created_ms),
            )
            for story in stories
        ],
    )


@registry.command("show")
@click.argument("config")
@_JSON
def show_one(config: str, as_json: bool) -> None:
    """Show the config whose id begins with CONFIG: parameters, evidence, every gate, history."""
    from mei_pipeline.registry.records import as_dict
    from mei_pipeline.registry.store import resolve_id, story_of

    book = _open()
    story = story_of(book, resolve_id(book, config))
    if as_json:
        output.print_json(
            {
                **_summary(story),
                "resolved": as_dict(story.config.resolved),
                "evidence": [_evidence(entry) for entry in story.evidence],
                "gates": [_gate(verdict, gate) for verdict in story.verdicts for gate in verdict.gates],
                "history": [vars(entry) for entry in story.transitions],
            }
        )
        return
    _print_story(story)


@registry.command("history")
@click.option("--lane", help="Only what concerns this lane.")
@_JSON
def show_history(lane: str | None, as_json: bool) -> None:
    """Show every transition, oldest first."""
    from mei_pipeline.registry.store import history

    steps = history(_open(), lane=lane)
    if as_json:
        output.print_json({"history": [vars(step) for step in steps]})
    else:
        _print_steps(steps)


def _open() -> "Registry":
    from mei_pipeline.registry.store import open_registry
    from mei_pipeline.settings import read_settings

    return open_registry(read_settings().registry)


def _print_story(story: "ConfigStory") -> None:
    from mei_pipeline.registry.deploy import changes

    output.table(
        "Config",
        ("", "value"),
        [
            ("config id", story.config.config_id),
            ("state", story.state),
            ("holds", ", ".join(story.lanes) or None),
            *((change.path, _plain(change.new)) for change in changes(None, story.config.resolved)),
        ],
    )
    output.table(
        "Evidence",
        ("evidence", "venue", "kernels", "data", "measured", "metric", "value"),
        [
            (
                entry.evidence_id[:_SHORT],
                entry.basis.venue,
                entry.basis.kernel_hash[:_SHORT],
                entry.basis.data_hash[:_SHORT],
                _utc(entry.created_ms),
                name,
                _plain(value),
            )
            for entry in story.evidence
            for name, value in entry.metrics.items()
        ],
    )
    output.table(
        "Gates",
        ("night", "policy", "gate", "value", "threshold", "verdict", "explanation"),
        [
            (
                verdict.night_id,
                verdict.policy_id[:_SHORT],
                gate.name,
                gate.value,
                gate.threshold,
                gate.verdict,
                gate.explanation,
            )
            for verdict in story.verdicts
            for gate in verdict.gates
        ],
    )
    _print_steps(story.transitions)


def _print_steps(steps: "tuple[Transition, ...]") -> None:
    output.table(
        "History",
        ("when", "config", "lane", "from", "to", "generation", "trigger", "who", "why"),
        [
            (
                _utc(step.at_ms),
                step.config_id[:_SHORT],
                step.lane or None,
                step.from_state or None,
                step.to_state,
                step.generation,
                step.trigger,
                step.who,
                step.why,
            )
            for step in steps
        ],
    )


def _summary(story: "ConfigStory") -> dict[str, Any]:
    return {
        "config_id": story.config.config_id,
        "strategy": story.config.resolved.strategy,
        "venue": story.config.resolved.venue,
        "state": story.state,
        "lanes": list(story.lanes),
        "created_ms": story.config.created_ms,
        "verdicts": [
            {
                "verdict_id": verdict.verdict_id,
                "evidence_id": verdict.evidence_id,
                "policy_id": verdict.policy_id,
                "night_id": verdict.night_id,
                "passed": verdict.passed,
                "at_ms": verdict.at_ms,
            }
            for verdict in story.verdicts
        ],
    }


def _evidence(entry: "Evidence") -> dict[str, Any]:
    return {
        "evidence_id": entry.evidence_id,
        **entry.basis.as_dict(),
        "metrics": dict(entry.metrics),
        "created_ms": entry.created_ms,
    }


def _gate(verdict: "Verdict", gate: "Gate") -> dict[str, Any]:
    from mei_pipeline.registry.records import finite_or_none

    return {
        **vars(gate),
        "value": finite_or_none(gate.value),
        "threshold": finite_or_none(gate.threshold),
        "verdict_id": verdict.verdict_id,
        "night_id": verdict.night_id,
    }


def _plain(value: Any) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _utc(time_ms: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


COMMANDS: list[click.Command] = [registry]
