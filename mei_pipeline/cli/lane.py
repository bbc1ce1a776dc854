"""`mei lane`: show, change and operate lanes."""

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mei_pipeline.cli import journals, lane_holds, lane_requests, lane_tables, lane_why, output
from mei_pipeline.cli.groups import Group
from mei_pipeline.cli.lane_following import is_running
from mei_pipeline.cli.lane_holds import check_lane, hold_table, make_hold, send_holds
from mei_pipeline.cli.lane_tables import OWNER, executor_rows
from mei_pipeline.cli.moves import SHORT, WHO, audit, configured_lane, open_for_move, print_move
from mei_pipeline.cli.options import result_options
from mei_pipeline.cli.symbols import check_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mei_pipeline.config.load import LaneConfigs
    from mei_pipeline.registry.holds import Hold
    from mei_pipeline.registry.store import Registry
    from mei_pipeline.settings import Settings


@click.group("lane", cls=Group)
def lane_group() -> None:
    """Inspect and operate lanes: status, orders and trades; pause, halt, resume, flatten; holds and sizes."""


@lane_group.command("list")
@result_options
def show_list(as_json: bool) -> None:
    """List the lanes with their config, executor status and holds."""
    settings, files, book = open_for_move()
    lanes = [_lane_values(settings, files, book, name) for name in _names(files, book)]
    if as_json:
        output.print_json({"lanes": lanes})
        return
    output.table(
        "Lanes",
        (
            "lane",
            "mode",
            "venue",
            "role",
            "config",
            "state",
            "size multiplier",
            "generation",
            "executor",
            "holds",
            "files",
        ),
        [
            (
                lane["lane"],
                lane["mode"],
                lane["venue"],
                "manual" if lane["manual"] else lane["role"],
                *_pointer_cells(lane["pointer"]),
                _executor_state(lane),
                ", ".join(lane["holds"]) or None,
                "as the registry says" if not lane["problems"] else f"{len(lane['problems'])} problems",
            )
            for lane in lanes
        ],
        important=("lane", "config", "state", "executor", "holds", "mode", "files", "size multiplier", "role"),
    )


@lane_group.command("show")
@click.argument("name", metavar="LANE")
@result_options
def show_one(name: str, as_json: bool) -> None:
    """Show one lane: pointer, executor status, holds, differences from the registry, and history."""
    from mei_pipeline.cli.registry import print_transitions
    from mei_pipeline.registry.store import history

    settings, files, book = open_for_move()
    if name not in _names(files, book):
        configured_lane(files, name)
    values, transitions = _lane_values(settings, files, book, name), history(book, lane=name)
    if as_json:
        output.print_json({**values, "history": [vars(transition) for transition in transitions]})
        return
    pointer = values["pointer"] or {}
    rows = [
        *((key, values[key]) for key in ("mode", "venue", "role", "manual")),
        *((key, pointer.get(key)) for key in ("state", "size_multiplier", "generation")),
        ("executor", _executor_state(values)),
        *executor_rows(values["status"] or {}),
        ("in effect", values["effect"]),
        *(("problem", problem) for problem in values["problems"]),
    ]
    # An id is wider than a column beside the names of the others.
    output.table(f"Lane {name}, config {pointer.get('config_id', 'none')}", ("", "value"), rows)
    reported = values["status"]["holds"] if values["status"] else {}
    own = {key: hold for key, hold in reported.items() if hold["owner"] == OWNER}
    hold_table("Holds", {**own, **values["holds"]})
    print_transitions(transitions)


@lane_group.command("set")
@click.argument("name", metavar="LANE")
@click.option(
    "--size-multiplier",
    "size",
    type=float,
    help="New size multiplier; larger in a live lane: next stage.",
)
@click.option(
    "--hold",
    type=(str, click.Choice(["close_only", "halt"])),
    metavar="NAME EFFECT",
    help="Set a hold. close_only: no new positions; halt: no trading, exits included.",
)
@click.option("--symbol", callback=check_option, help="Only symbol of the hold; default: all symbols.")
@click.option("--lift", metavar="NAME", help="Lift a hold.")
@click.option("--why", default="", help="The reason; a size and a hold need one.")
@WHO
@result_options
def change(
    name: str,
    size: float | None,
    hold: tuple[str, str] | None,
    symbol: str | None,
    lift: str | None,
    why: str,
    who: str | None,
    as_json: bool,
) -> None:
    """Change the size multiplier of LANE, or set or lift a named hold, as services do. A hold needs no registry.

    `mei lane pause`, `halt` and `resume` set and lift the holds of a person.
    """
    if [size, hold, lift].count(None) != 2:  # noqa: PLR2004 - one of the three is given
        raise click.UsageError("give one of --size-multiplier, --hold and --lift")
    if symbol is not None and hold is None:
        raise click.UsageError("--symbol names the symbol of a --hold")
    if size is not None:
        from mei_pipeline.promotion.moves import resize

        settings, files, book = open_for_move()
        because = audit(who, why, "mei lane set")
        lane = configured_lane(files, name)
        print_move(resize(book, settings.lanes, lane, size, files.policy.selection.id, because), as_json)
    else:
        holds = _hold(name, hold, symbol, lift, who, why)
        _print_holds(name, holds, as_json)
        send_holds(name, holds, f"hold {hold[0]} ({hold[1]}) set" if hold else f"hold {lift} lifted")


def _hold(
    name: str,
    hold: tuple[str, str] | None,
    symbol: str | None,
    lift: str | None,
    who: str | None,
    why: str,
) -> "dict[str, Hold]":
    from mei_pipeline.registry.holds import lift_hold, set_hold
    from mei_pipeline.settings import read_settings

    settings = read_settings()
    check_lane(settings, name)
    if hold is None:
        return lift_hold(settings.lanes, name, str(lift))
    return set_hold(settings.lanes, name, hold[0], make_hold(hold[1], symbol, None, who, why))


def _print_holds(name: str, holds: "dict[str, Hold]", as_json: bool) -> None:
    from mei_pipeline.registry.holds import strictest_effect

    values = {key: hold.model_dump() for key, hold in holds.items()}
    if as_json:
        output.print_json({"lane": name, "holds": values, "effect": strictest_effect(holds)})
        return
    hold_table(f"Holds of {name}", values)


def _names(files: "LaneConfigs", book: "Registry") -> list[str]:
    """Return the names of lanes that have a config file, valid or not, or hold a config."""
    from mei_pipeline.registry.store import lane_pointers

    return sorted({*files.lanes, *files.unusable, *(pointer.lane for pointer in lane_pointers(book))})


def _lane_values(settings: "Settings", files: "LaneConfigs", book: "Registry", name: str) -> dict[str, Any]:
    """Return a lane as configuration, registry, executor and files state it; unreadable parts become problems."""
    from mei_pipeline.errors import ConfigError
    from mei_pipeline.registry.lanes import Drift, drift, is_acknowledged
    from mei_pipeline.registry.store import get_config

    lane = files.lanes.get(name)
    try:
        state = drift(book, settings.lanes, name)
    except ConfigError as error:  # the name of a file that no lane can have
        state = Drift(name, None, None, (str(error),))
    problems = list(state.differences)
    venue = get_config(book, state.pointer.config_id).resolved.venue if state.pointer else lane and lane.venue
    if name in files.unusable:
        problems.append(files.unusable[name])
    elif lane is None:
        problems.append(f"{files.folder / 'lanes'} has no file of it")
    elif lane.venue != venue:
        where = files.folder / "lanes" / f"{name}.yaml"
        problems.append(
            f"{where}: venue {lane.venue}, but the config that holds the lane is for {venue}; correct the file, or set"
            " MEI_CONFIG to the configuration of this home"
        )
    status, holds = _read(settings.lanes, name, problems)
    pointer = state.pointer
    return {
        "lane": name,
        "mode": lane and lane.mode,
        "venue": venue,
        "role": lane and lane.role,
        "manual": lane and lane.manual,
        "pointer": pointer and vars(pointer),
        "status": status and status.model_dump(),
        "acknowledged": pointer is not None and is_acknowledged(pointer, status),
        "running": is_running(settings, name),
        "holds": {key: hold.model_dump() for key, hold in (holds or {}).items()},
        "effect": _effect(status, holds),
        "problems": problems,
    }


def _read(lanes_folder: Path, name: str, problems: list[str]) -> tuple[Any, "dict[str, Hold] | None"]:
    """Return the executor status and the holds; None for a damaged file, which is added to `problems`."""
    from mei_pipeline.errors import ConfigError, DataError
    from mei_pipeline.registry.holds import read_all_holds
    from mei_pipeline.registry.lanes import read_status

    values: list[Any] = []
    for read in (read_status, partial(read_all_holds, now_ms=time.time_ns() // 1_000_000)):
        try:
            values.append(read(lanes_folder, name))
        except (ConfigError, DataError) as error:
            problems.append(str(error))
            values.append(None)
    return values[0], values[1]


def _effect(status: Any, holds: "Mapping[str, Hold] | None") -> str | None:
    """Return the strictest effect on a lane: of the holds in its file, and of those that the executor set itself.

    If the file can't be read, an executor keeps the last holds that it read, and opens nothing.
    """
    from mei_pipeline.registry.holds import strictest_effect

    reported = status.holds if status is not None else {}
    if holds is None:
        return strictest_effect(reported) or "close_only"
    return strictest_effect({**{key: hold for key, hold in reported.items() if hold.owner == OWNER}, **holds})


def _pointer_cells(pointer: dict[str, Any] | None) -> tuple[Any, Any, Any, Any]:
    if pointer is None:
        return None, None, None, None
    return pointer["config_id"][:SHORT], pointer["state"], pointer["size_multiplier"], pointer["generation"]


def _executor_state(lane: dict[str, Any]) -> str:
    status = lane["status"]
    if status is None:
        return "no status"
    known = "no config" if status["generation"] is None else f"generation {status['generation']}"
    if not lane["running"]:
        return f"not running, {'in force' if lane['acknowledged'] else known}"
    return f"{'in force' if lane['acknowledged'] else f'runs {known}'}, {status['health']}"


for _command in (
    *(lane_tables.status, lane_tables.positions, lane_tables.orders, lane_tables.trades, lane_why.why),
    *(lane_holds.pause, lane_holds.halt, lane_holds.resume, lane_requests.flatten),
    *(journals.export, journals.take_over),
):
    lane_group.add_command(_command)

COMMANDS: list[click.Command] = [lane_group]
