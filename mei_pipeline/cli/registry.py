"""`mei registry`: configs, evidence, verdicts and lanes."""

import json
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.configs import config_id_of
from mei_pipeline.cli.groups import Group
from mei_pipeline.cli.moves import MOVES, SHORT, WHO, WHY, audit, configured_lane
from mei_pipeline.cli.options import result_options

if TYPE_CHECKING:
    from mei_pipeline.registry.records import Evidence, Gate, Transition, Verdict
    from mei_pipeline.registry.store import ConfigHistory, Registry

_NIGHT = 16  # digits of a nightly run's id that people see
_DATE = len("2026-11-30")
_LABELS = {
    "from_ms": "search from",
    "holdout_ms": "holdout from",
    "to_ms": "until",
    "folds_ms": "days of the folds",
    "in_sample_sharpe": "in sample: Sharpe ratio",
}

_Row = dict[str, Any]


@click.group("registry", cls=Group)
def registry() -> None:
    """Inspect configs, evidence and verdicts, and move configs into and out of lanes."""


for move in MOVES:
    registry.add_command(move)


@registry.command("list")
@result_options
def show_list(as_json: bool) -> None:
    """List the lanes with their configs, and all configs with state and verdicts."""
    from mei_pipeline.registry.store import lane_pointers, list_configs

    book = _open()
    pointers, histories = lane_pointers(book), list_configs(book)
    if as_json:
        output.print_json(
            {"lanes": [vars(pointer) for pointer in pointers], "configs": [_summary(story) for story in histories]}
        )
        return
    output.table(
        "Lanes",
        ("lane", "config", "state", "size multiplier", "generation"),
        [
            (entry.lane, entry.config_id[:SHORT], entry.state, entry.size_multiplier, entry.generation)
            for entry in pointers
        ],
    )
    output.table(
        "Configs",
        ("config", "strategy", "venue", "state", "lanes", "verdicts passed", "of", "created"),
        [
            (
                story.config.config_id[:SHORT],
                story.config.resolved.strategy,
                story.config.resolved.venue,
                story.state,
                ", ".join(story.lanes) or None,
                sum(verdict.passed for verdict in story.verdicts),
                len(story.verdicts),
                _utc(story.config.created_ms),
            )
            for story in histories
        ],
        important=("config", "state", "lanes", "strategy", "venue"),
    )


@registry.command("show")
@click.argument("config")
@result_options
def show_one(config: str, as_json: bool) -> None:
    """Show a config: parameters, evidence, every gate, history.

    CONFIG is the beginning of an id, or a lane that holds the config.
    """
    from mei_pipeline.registry.records import as_dict
    from mei_pipeline.registry.store import config_history

    book = _open()
    story = config_history(book, config_id_of(config, book))
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
@click.option("--lane", help="Only transitions of this lane.")
@click.option("--config", help="Only transitions of this config: the beginning of its id, or a lane that holds it.")
@result_options
def show_history(lane: str | None, config: str | None, as_json: bool) -> None:
    """Show every transition, oldest first."""
    from mei_pipeline.config.load import load_lanes
    from mei_pipeline.registry.store import history
    from mei_pipeline.settings import read_settings

    book = _open()
    transitions = history(book, config_id=config and config_id_of(config, book), lane=lane)
    if lane is not None and not transitions:
        configured_lane(load_lanes(read_settings().config), lane)
    if as_json:
        output.print_json({"history": [vars(transition) for transition in transitions]})
    else:
        print_transitions(transitions)


@registry.command("diff")
@click.argument("old", metavar="A")
@click.argument("new", metavar="B")
@result_options
def show_difference(old: str, new: str, as_json: bool) -> None:
    """Show the parameters in which configs A and B differ; each is the beginning of an id, or a lane."""
    from mei_pipeline.promotion.propose import parameter_changes
    from mei_pipeline.registry.store import get_config

    book = _open()
    before, after = (get_config(book, config_id_of(config, book)) for config in (old, new))
    changes = parameter_changes(before.resolved, after.resolved)
    if as_json:
        output.print_json(
            {"a": before.config_id, "b": after.config_id, "changes": [vars(change) for change in changes]}
        )
        return
    columns = ("parameter", before.config_id[:SHORT], after.config_id[:SHORT])
    output.table("Differences", columns, [(change.path, _plain(change.old), _plain(change.new)) for change in changes])


@registry.command("export")
@click.option("--format", "form", type=click.Choice(["json", "ndjson"]), default="json", show_default=True,
              help="One object with a list per table, or one object per row and line.")  # fmt: skip
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file; default: stdout.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object: the export, or with --out what was written."
)
def export(form: str, out: Path | None, as_json: bool) -> None:
    """Write a snapshot of the whole registry as JSON."""
    from mei_pipeline.registry.export import TABLES, export_rows
    from mei_pipeline.registry.tables import SCHEMA_VERSION

    if as_json and out is None and form != "json":
        raise click.UsageError(f"--format {form} prints many objects and --json one; name a file with --out")
    written = dict.fromkeys((table.name for table in TABLES), 0)
    rows = _counted(export_rows(_open()), written)
    with _written(out) as file:
        if form == "ndjson":
            file.writelines(f"{_line({'table': name, **row})}\n" for name, row in rows)
        else:
            snapshot: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **{table.name: [] for table in TABLES}}
            for name, row in rows:
                snapshot[name].append(row)
            file.write(f"{_line(snapshot)}\n")
    if as_json and out is not None:
        output.print_json({"file": str(out), "format": form, "rows": written})


@registry.command("reset")
@WHY
@WHO
@result_options
def reset(why: str, who: str | None, as_json: bool) -> None:
    """Replace a lost registry by an empty one.

    Only for a registry that is missing or empty although lanes hold configs or nightly runs judged some. All trials
    are lost, and each lane is empty until the next promotion; its pointer file is kept under another name.
    """
    from mei_pipeline.registry.home import reset_registry
    from mei_pipeline.settings import read_settings

    done, kept = reset_registry(read_settings(), audit(who, why, "mei registry reset"))
    if as_json:
        output.print_json({"reset": vars(done), "files": [str(path) for path in kept]})
        return
    rows = [
        ("registry", "empty"),
        ("nightly runs given up", ", ".join(done.nights) or None),
        *(
            (f"lane {lane}", f"holds no config; its pointer is kept as {path}")
            for lane, path in zip(done.lanes, kept, strict=True)
        ),
    ]
    output.table("", ("subject", "outcome"), rows)


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _counted(rows: Iterable[tuple[str, _Row]], counts: dict[str, int]) -> Iterator[tuple[str, _Row]]:
    """Yield the same rows, and count them by table in `counts`."""
    for name, row in rows:
        counts[name] += 1
        yield name, row


@contextmanager
def _written(out: Path | None) -> Generator[TextIO]:
    """Open stdout, or a file that appears only when it is complete."""
    import sys

    from mei_pipeline.files import replacing

    if out is None:
        yield sys.stdout
    else:
        with replacing(out) as temporary, temporary.open("w") as file:
            yield file


def _open() -> "Registry":
    from mei_pipeline.registry.home import open_home_registry
    from mei_pipeline.settings import read_settings

    return open_home_registry(read_settings())


def _print_story(story: "ConfigHistory") -> None:
    from mei_pipeline.promotion.propose import parameter_changes

    output.table(
        f"Config {story.config.config_id}",
        ("", "value"),
        [
            ("state", story.state),
            ("holds", ", ".join(story.lanes) or None),
            *((change.path, _plain(change.new)) for change in parameter_changes(None, story.config.resolved)),
        ],
    )
    for entry in story.evidence:
        basis = entry.basis
        output.table(
            f"Evidence {entry.evidence_id[:SHORT]} of {_utc(entry.created_ms)}, measured on {basis.venue} with kernels "
            f"{basis.kernel_hash[:SHORT]} and data {basis.data_hash[:SHORT]}",
            ("figure", "value"),
            list(_figures(entry.metrics)),
        )
    output.table(
        "Gates",
        ("nightly run", "policy", "gate", "value", "threshold", "verdict", "explanation"),
        [
            (
                verdict.night_id[:_NIGHT],
                verdict.policy_id[:SHORT],
                gate.name,
                gate.value,
                gate.threshold,
                gate.verdict,
                gate.explanation,
            )
            for verdict in story.verdicts
            for gate in verdict.gates
        ],
        important=("gate", "verdict", "value", "threshold", "nightly run", "explanation"),
    )
    print_transitions(story.transitions)


def print_transitions(transitions: "tuple[Transition, ...]") -> None:
    """Print transitions as a table."""
    output.table(
        "History",
        ("when", "config", "lane", "action", "from", "to", "size multiplier", "generation", "trigger", "who", "why"),
        [
            (
                _utc(transition.at_ms),
                transition.config_id[:SHORT],
                transition.lane or None,
                transition.action,
                transition.from_state or None,
                transition.to_state,
                transition.size_multiplier,
                transition.generation,
                _shortened(transition.trigger),
                _shortened(transition.who),
                transition.why,
            )
            for transition in transitions
        ],
        important=("when", "action", "lane", "config", "to", "why", "size multiplier", "who"),
    )


def _summary(story: "ConfigHistory") -> dict[str, Any]:
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


def _figures(metrics: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield a line for each figure of an evidence; one that has parts has a line for each."""
    from mei_pipeline.text import column_heading

    for name, value in metrics.items():
        if isinstance(value, dict):
            where = name.replace("_", " ")
            yield from ((f"{where}: {column_heading(part)}", _plain(each)) for part, each in value.items())
        elif name.endswith("_ms"):
            yield _LABELS.get(name, name), _times(value)
        elif name.endswith("_id"):
            yield name.removesuffix("_id"), _shortened(value)
        else:
            yield _LABELS.get(name) or column_heading(name), _plain(value)


def _times(value: Any) -> str:
    """Return a time, or the days of a list of spans, for people."""
    from mei_pipeline.candles.intervals import iso

    if isinstance(value, list):
        return ", ".join(f"{iso(first)[:_DATE]} to {iso(end - 1)[:_DATE]}" for first, end in value)
    return iso(value)


def _shortened(text: str) -> str:
    """Return the person or trigger of a move, with ids as short as other commands print them."""
    text = re.sub(r"\b[0-9a-f]{64}\b", lambda match: match[0][:_NIGHT], text)
    return re.sub(r"\b([0-9a-f]{8})(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", r"\1", text)


def _plain(value: Any) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _utc(time_ms: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


COMMANDS: list[click.Command] = [registry]
