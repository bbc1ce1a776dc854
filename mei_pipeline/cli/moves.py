"""`mei registry promote|pause|retire|rollback`: moves of lanes and configs by a person, with name and reason.

Each writes the lane's files by itself, so that it works while Dagster is down.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.configs import config_id_of
from mei_pipeline.cli.options import result_options

if TYPE_CHECKING:
    from mei_pipeline.config.load import LaneConfigs
    from mei_pipeline.promotion.promote import Promotion
    from mei_pipeline.registry.records import AuditContext, Lane, Pointer
    from mei_pipeline.registry.store import Registry
    from mei_pipeline.settings import Settings

SHORT = 12  # hex digits of an id in a table; commands take any prefix that is unique


WHO = click.option("--who", help="Person who decides; default: the login name.")
WHY = click.option("--why", required=True, help="Reason; it is stored for good.")
LANE = click.option("--lane", "name", required=True, help="The lane.")


@click.command()
@click.argument("config")
@LANE
@WHY
@WHO
@click.option("--size", type=float, help="Size multiplier; a live lane has 0.25, 0.5 and 1, one after the other.")
@click.option("--generation", type=click.IntRange(min=0), help="Only if the lane is still at this generation.")
@result_options
def promote(
    config: str, name: str, why: str, who: str | None, size: float | None, generation: int | None, as_json: bool
) -> None:
    """Put a config into a lane, resume a paused lane, or change its size.

    CONFIG is the beginning of an id, or a lane that holds the config. The rules of a nightly run apply: the newest
    verdict under the current policy must be a pass, with these kernels, on the lane's venue. A config that already
    holds the lane and has new evidence is renewed.
    """
    from mei_pipeline.promotion import promote

    settings, files, book = open_for_move()
    lane = configured_lane(files, name)
    pointer = lane_pointer(book, name)
    request = promote.PromotionRequest(
        lane,
        config_id_of(config, book),
        generation if generation is not None else pointer.generation if pointer else 0,
        audit(who, why, "mei registry promote"),
        by_person=True,
        size=size,
    )
    print_move(promote.promote(book, settings.lanes, request, files.policy.selection.id), as_json)


@click.command()
@LANE
@WHY
@WHO
@result_options
def pause(name: str, why: str, who: str | None, as_json: bool) -> None:
    """Stop new positions of a lane until a person promotes a config to it; exits continue. Always allowed.

    `mei lane pause` does so without the registry, until `mei lane resume`.
    """
    from mei_pipeline.config.load import load_lanes
    from mei_pipeline.promotion import moves
    from mei_pipeline.registry.home import open_home_registry
    from mei_pipeline.settings import read_settings

    settings = read_settings()
    book = open_home_registry(settings)
    if lane_pointer(book, name) is None:  # a lane that holds a config is paused without its file
        configured_lane(load_lanes(settings.config), name)
    print_move(moves.pause(book, settings.lanes, name, audit(who, why, "mei registry pause")), as_json)


@click.command()
@LANE
@WHY
@WHO
@click.option("--steps", type=click.IntRange(min=1), default=1, show_default=True, help="How many configs to go back.")
@result_options
def rollback(name: str, why: str, who: str | None, steps: int, as_json: bool) -> None:
    """Put an earlier config of a lane back, as a new move; a live lane restarts at size 0.25.

    The config must have passed once with the kernels of this checkout; later verdicts do not count.
    """
    from mei_pipeline.promotion import moves

    settings, files, book = open_for_move()
    lane = configured_lane(files, name)
    print_move(moves.rollback(book, settings.lanes, lane, steps, audit(who, why, "mei registry rollback")), as_json)


@click.command()
@click.argument("config")
@WHY
@WHO
@result_options
def retire(config: str, why: str, who: str | None, as_json: bool) -> None:
    """Exclude a config from trading for good; its lanes are paused first.

    CONFIG is the beginning of an id, or a lane that holds the config.
    """
    from mei_pipeline.promotion import moves
    from mei_pipeline.registry.home import open_home_registry
    from mei_pipeline.settings import read_settings

    book = open_home_registry(read_settings())
    config_id = config_id_of(config, book)
    done = moves.retire(book, config_id, audit(who, why, "mei registry retire"))
    if as_json:
        output.print_json({"moved": done is not None, "config_id": config_id, "transition": done and vars(done)})
    else:
        outcome = "retired" if done else "was retired already"
        output.table("", ("config", "outcome"), [(config_id[:SHORT], outcome)])


def open_for_move() -> "tuple[Settings, LaneConfigs, Registry]":
    """Return the settings, the configured lanes and the registry."""
    from mei_pipeline.config.load import load_lanes
    from mei_pipeline.registry.home import open_home_registry
    from mei_pipeline.settings import read_settings

    settings = read_settings()
    return settings, load_lanes(settings.config), open_home_registry(settings)


def configured_lane(files: "LaneConfigs", name: str) -> "Lane":
    """Return the configured lane of a name.

    Raises:
        ConfigError: `config/lanes` has no file for it, or the file is invalid.
    """
    from mei_pipeline.errors import ConfigError
    from mei_pipeline.registry.lanes import configured_lanes

    if name in files.unusable and name not in files.lanes:
        raise ConfigError(files.unusable[name])
    lanes = {lane.name: lane for lane in configured_lanes(files.lanes)}
    if name not in lanes:
        raise ConfigError(f"lane {name}: {files.folder / 'lanes'} has no file of it; it has: {', '.join(lanes)}")
    stages = files.policy.real_money
    return replace(lanes[name], min_paper_days=stages.min_paper_days, min_stage_days=stages.min_stage_days)


def lane_pointer(book: "Registry", name: str) -> "Pointer | None":
    """Return the pointer of a lane."""
    from mei_pipeline.registry.store import lane_pointer

    return lane_pointer(book, name)


def audit(who: str | None, why: str, trigger: str) -> "AuditContext":
    """Return the audit context of a command: time, person, reason.

    Raises:
        ConfigError: The person or the reason is missing.
    """
    import time

    from mei_pipeline.errors import ConfigError
    from mei_pipeline.registry.records import AuditContext

    who = login_name() if who is None else who.strip()
    if not who or len(who) > 200:  # noqa: PLR2004 - what the registry keeps of a name
        raise ConfigError(f"--who {who!r}: name the person who decides, in at most 200 characters")
    if not why.strip():
        raise ConfigError("--why '': give a reason; it is kept with the move")
    return AuditContext(int(time.time() * 1000), who, why.strip(), trigger)


def login_name() -> str:
    """Return the login name of this process; empty if the system has none."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def print_move(done: "Promotion", as_json: bool) -> None:
    """Print the new state of a lane."""
    from mei_pipeline.notify import send_moves
    from mei_pipeline.settings import read_settings

    pointer, transition = done.pointer, done.transition
    if as_json:
        output.print_json(
            {
                "moved": done.moved,
                "lane": vars(pointer),
                "transition": vars(transition),
                "files": [str(path) for path in done.files],
            }
        )
    else:
        _show_move(done)
    if done.moved:  # after the result: a receiver may keep its sender waiting
        send_moves(
            read_settings(),
            transition.action,
            [(pointer.lane, pointer.config_id, f"{transition.why} ({transition.who})")],
        )


def _show_move(done: "Promotion") -> None:
    pointer = done.pointer
    rows: list[tuple[Any, ...]] = [
        (
            pointer.lane,
            done.transition.action if done.moved else "nothing to do",
            pointer.config_id[:SHORT],
            pointer.state,
            pointer.size_multiplier,
            pointer.generation,
        )
    ]
    output.table("", ("lane", "outcome", "config", "state", "size multiplier", "generation"), rows)


MOVES = [promote, pause, rollback, retire]
