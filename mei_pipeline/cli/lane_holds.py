"""`mei lane pause`, `halt` and `resume`: set and lift the holds of a lane, or of all lanes, by one small file."""

import re
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.lane_following import TIMEOUT, wait_for_holds
from mei_pipeline.cli.moves import WHO, audit, configured_lane
from mei_pipeline.cli.options import DURATION, result_options
from mei_pipeline.cli.symbols import check_option

if TYPE_CHECKING:
    from mei_pipeline.registry.holds import Hold
    from mei_pipeline.settings import Settings

_VERBS = ("pause", "halt")
_LANE = click.argument("name", metavar="[LANE]", required=False)
_ALL = click.option("--all", "everywhere", is_flag=True, help="All lanes, by the file lanes/control.yaml.")
_SYMBOL = click.option("--symbol", callback=check_option, help="Only this symbol; default: all symbols.")
_WHY = click.option("--why", help="Reason; it is shown wherever the hold is.")
_FOR = click.option(
    "--for", "length_ms", type=DURATION, help="Time after which the hold ends by itself, such as 30m, 2h or 1d."
)


def _setting(verb: str, effect: str, help_text: str) -> click.Command:
    """Return the command that sets the hold `verb`."""

    @click.command(verb, help=help_text)
    @_LANE
    @_ALL
    @_SYMBOL
    @_FOR
    @_WHY
    @WHO
    @TIMEOUT
    @result_options
    def command(
        name: str | None,
        everywhere: bool,
        symbol: str | None,
        length_ms: int | None,
        why: str | None,
        who: str | None,
        timeout_s: float,
        as_json: bool,
    ) -> None:
        from mei_pipeline.settings import read_settings

        settings = read_settings()
        lane = _lane(settings, name, everywhere=everywhere)
        hold = make_hold(effect, symbol, length_ms, who, why or f"by `mei lane {verb}`")
        _report(settings, lane, {hold_name(verb, symbol): hold}, timeout_s, as_json=as_json)

    return command


pause = _setting(
    "pause",
    "close_only",
    "Stop new positions of LANE until `mei lane resume`; exits continue. It needs one small file, and no registry.",
)
halt = _setting(
    "halt",
    "halt",
    "Stop every order of LANE, exits included, until `mei lane resume`. It needs one small file, and no registry.",
)


@click.command()
@_LANE
@_ALL
@click.option("--hold", "names", multiple=True, metavar="NAME", help="Lift this hold; may be repeated.")
@click.option("--owner", help="Lift all holds of this person or service.")
@click.option("--symbol", callback=check_option, help="Lift only holds of this symbol.")
@WHO
@TIMEOUT
@result_options
def resume(
    name: str | None,
    everywhere: bool,
    names: tuple[str, ...],
    owner: str | None,
    symbol: str | None,
    who: str | None,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Lift the holds that `pause` and `halt` set on LANE.

    With --hold or --owner other holds are lifted. A hold that the executor set itself is lifted by its name, by a
    request that the lane answers. `mei registry promote` resumes a lane that `mei registry pause` paused.
    """
    from mei_pipeline.registry.holds import lift_holds
    from mei_pipeline.settings import read_settings

    if names and (owner or symbol):
        raise click.UsageError("--hold names the holds; leave out --owner and --symbol")
    settings = read_settings()
    lane = _lane(settings, name, everywhere=everywhere)
    own = _own_holds(settings, lane, names)
    if own:
        from mei_pipeline.cli.lane_requests import ask, make_request, raise_unless_done

        request = make_request(settings, str(lane), "lift", {"holds": own}, who, "by `mei lane resume`")
        raise_unless_done(ask(settings, request, timeout_s))
    in_file = tuple(each for each in names if each not in own)
    lifted: Mapping[str, Hold] = {}
    if in_file or not own:
        lifted, _ = lift_holds(settings.lanes, lane, _chooser(in_file, owner, symbol))
    _report(settings, lane, dict.fromkeys(lifted), timeout_s, as_json=as_json, own=own)
    if lane is not None and (left := _left(settings, lane)):
        output.warn(f"lane {lane} is still stopped by {'; '.join(left)}")


def _left(settings: "Settings", lane: str) -> list[str]:
    """Return what stops a lane besides the holds of its own file, each with the command that ends it."""
    from mei_pipeline.errors import MeiError
    from mei_pipeline.registry.holds import ALL_LANES, read_holds, unexpired
    from mei_pipeline.registry.lanes import read_pointer_file

    found: list[str] = []
    with suppress(MeiError):  # other commands report a file that can't be read
        everywhere = unexpired(read_holds(settings.lanes, None), _now_ms())
        found += (f"hold {ALL_LANES}{name}: `mei lane resume --all`" for name in everywhere)
    with suppress(MeiError):
        found += (f"hold {name}: `mei lane resume {lane} --hold {name}`" for name in _in_journal(settings, lane))
    with suppress(MeiError):
        pointer = read_pointer_file(settings.lanes, lane)
        if pointer is not None and pointer.state == "paused":
            found.append("`mei registry pause`: `mei registry promote`")
    return found


def _own_holds(settings: "Settings", lane: str | None, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the names that are holds which the executor of a lane set itself.

    Raises:
        ConfigError: A name is neither such a hold nor one of the file.
    """
    from mei_pipeline.errors import ConfigError
    from mei_pipeline.registry.holds import read_holds

    known = read_holds(settings.lanes, lane)
    others = [each for each in names if each not in known]
    own = _in_journal(settings, lane) if others and lane is not None else ()
    if missing := [each for each in others if each not in own]:
        where = "the file of all lanes" if lane is None else f"lane {lane}"
        has = ", ".join((*known, *own)) or "none"
        raise ConfigError(f"--hold {missing[0]}: {where} has no such hold; it has: {has}")
    return tuple(others)


def _in_journal(settings: "Settings", lane: str) -> tuple[str, ...]:
    """Return the names of the holds of the executor that a lane's journal has in force; none without a journal."""
    from mei_pipeline.execution.journal.failures import translated
    from mei_pipeline.execution.journal.opening import journal_path
    from mei_pipeline.execution.journal.reader import connect_read_only

    path = journal_path(settings.lanes, lane)
    if not path.exists():
        return ()
    with closing(connect_read_only(path)) as journal, translated(path):
        rows = journal.execute("SELECT name FROM v_holds WHERE own = 1 AND lifted_ms IS NULL ORDER BY name")
        return tuple(name for (name,) in rows)


def _chooser(names: tuple[str, ...], owner: str | None, symbol: str | None) -> "Callable[[str, Hold], bool]":
    """Return the function that chooses the holds to lift."""

    def chosen(name: str, hold: "Hold") -> bool:
        if names:
            return name in names
        if symbol is not None and hold.symbol != symbol:
            return False
        return hold.owner == owner if owner is not None else name.partition("-")[0] in _VERBS

    return chosen


def _report(
    settings: "Settings",
    lane: str | None,
    changes: "Mapping[str, Hold | None]",
    timeout_s: float,
    *,
    as_json: bool,
    own: tuple[str, ...] = (),
) -> None:
    """Set the holds of a change, wait until running lanes have them in force, and print the result.

    Args:
        settings: Settings of the home.
        lane: The lane; None for all lanes.
        changes: Holds to set by name, and None for those that were lifted.
        timeout_s: Longest wait for a lane, in seconds.
        as_json: Print a JSON object.
        own: Holds of the executor that were lifted.

    Raises:
        OutcomeUnknown: A running lane did not follow in time.
    """
    from mei_pipeline.registry.holds import ALL_LANES, read_holds, set_hold, unexpired

    for key, hold in changes.items():
        if hold is not None:
            set_hold(settings.lanes, lane, key, hold)
    prefix = ALL_LANES if lane is None else ""
    outcome = wait_for_holds(settings, lane, {prefix + key: hold for key, hold in changes.items()}, timeout_s)
    holds = unexpired(read_holds(settings.lanes, lane), _now_ms())
    lifted = [*own, *(key for key, hold in changes.items() if hold is None)]
    values = {key: hold.model_dump() for key, hold in holds.items()}
    if as_json:
        output.print_json({"lane": lane, "holds": values, "lifted": lifted, "lanes": outcome})
    else:
        if lifted:
            output.echo(f"lifted: {', '.join(lifted)}")
        elif not changes:
            output.echo("no hold to lift")
        hold_table(f"Holds of {lane or 'all lanes'}", values)
        output.table("", ("lane", "it"), [(key, _OUTCOMES[value]) for key, value in outcome.items()])
    send_holds(lane or "all", holds, _words(changes))
    if late := [key for key, value in outcome.items() if value == "unknown"]:
        from mei_pipeline.errors import OutcomeUnknown

        raise OutcomeUnknown(
            f"lane {', '.join(late)}: runs, but has not followed within {timeout_s:g} s; the change is in its file, "
            "and the lane follows when it next looks; `mei lane status` shows the holds in force"
        )


_OUTCOMES = {
    "followed": "has followed",
    "stopped": "is not running; it follows when it starts",
    "unknown": "runs, and has not followed in time",
}


def _words(changes: "Mapping[str, Hold | None]") -> str:
    return "; ".join(
        f"hold {key} lifted" if hold is None else f"hold {key} ({hold.effect}) set" for key, hold in changes.items()
    )


def _lane(settings: "Settings", name: str | None, *, everywhere: bool) -> str | None:
    """Return the lane of a command; None for all lanes."""
    if everywhere == (name is not None):
        raise click.UsageError("name a LANE, or give --all for all lanes")
    if name is not None:
        check_lane(settings, name)
    return name


def check_lane(settings: "Settings", name: str) -> None:
    """Raise `ConfigError` for a lane that has neither a folder in the home nor a file in the configuration."""
    from mei_pipeline.config.load import load_lanes
    from mei_pipeline.registry.lanes import lane_folder

    if not lane_folder(settings.lanes, name).is_dir():
        configured_lane(load_lanes(settings.config), name)


def hold_name(verb: str, symbol: str | None) -> str:
    """Return the name of the hold of a command: the verb, and the symbol in lower case."""
    return verb if symbol is None else f"{verb}-{re.sub(r'[^a-z0-9]+', '-', symbol.lower()).strip('-')}"[:64]


def make_hold(effect: str, symbol: str | None, length_ms: int | None, who: str | None, why: str) -> "Hold":
    """Return a hold of a person that begins now.

    Raises:
        ConfigError: The person or the reason is missing.
    """
    from mei_pipeline.registry.holds import Hold

    because = audit(who, why, "mei lane")
    return Hold.model_validate(
        {
            "owner": because.who,
            "effect": effect,
            "reason": because.why,
            "since_ms": because.now_ms,
            "symbol": symbol,
            "expires_ms": None if length_ms is None else because.now_ms + length_ms,
        }
    )


def hold_table(title: str, holds: Mapping[str, Mapping[str, Any]]) -> None:
    """Print holds as a table."""
    from mei_pipeline.candles.intervals import iso

    rows = [
        (
            key,
            hold["effect"],
            hold["symbol"] or "all",
            hold["owner"],
            hold["reason"],
            None if hold.get("expires_ms") is None else iso(hold["expires_ms"]),
        )
        for key, hold in holds.items()
    ]
    output.table(title, ("hold", "effect", "symbol", "owner", "reason", "ends"), rows, important=("hold", "effect"))


def send_holds(name: str, holds: "Mapping[str, Hold]", change: str) -> None:
    """Send an alert about a changed hold, after the result is printed, since a slow receiver blocks its sender."""
    from mei_pipeline.notify import send_alert
    from mei_pipeline.settings import read_settings

    if not change:
        return
    listed = [
        f"{key}: {hold.effect}{f' of {hold.symbol}' if hold.symbol else ''}, {hold.owner}: {hold.reason}"
        for key, hold in holds.items()
    ]
    send_alert(read_settings(), f"MEI: lane {name}: {change}", "\n".join(["holds:", *(listed or ["none"])]))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
