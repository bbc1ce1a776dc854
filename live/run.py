"""`python -m live.run --lane NAME`: run a lane until its feed ends or it is stopped.

SIGTERM or Ctrl-C stops the lane after the step in progress; a second one ends the process at once. Either way the
journal holds every fact, and the next start goes on from there.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from types import FrameType
from typing import get_args

import click

from live.lane_files import read_lane_config
from live.misbehaviour import parse_misbehaviour
from live.replay_feed import Speed
from live.running import LaneOptions, Watch
from live.session import run_lane
from mei_pipeline import streams
from mei_pipeline.config.models import FeedKind
from mei_pipeline.errors import ConfigError, MeiError
from mei_pipeline.execution.commands import Alert
from mei_pipeline.failures import failure_of
from mei_pipeline.log import stderr_log
from mei_pipeline.settings import read_settings
from mei_pipeline.text import printable
from mei_pipeline.times import Time

_LEVELS = {"info": "info", "warning": "warning", "critical": "error"}


@click.command()
@click.option("--lane", required=True, help="Lane to run; its file is lanes/NAME.yaml of the configuration.")
@click.option(
    "--feed",
    type=click.Choice(get_args(FeedKind)),
    help="Market data: replay serves the bars of the lake; simulator and hyperliquid are served by `python -m "
    "live.feed`.  [default: that of the lane's file]",
)
@click.option("--speed", type=Speed(), help="Market seconds per second of a replay, or max.  [default: max]")
@click.option(
    "--from", "from_ms", type=Time(), help="First step of a new lane on a replay or the simulator, as ISO time."
)
@click.option("--to", "to_ms", type=Time(), help="End of a replay, as ISO time.  [default: end of the lake]")
@click.option("--misbehave", help="Faults of the paper broker, such as partial=0.2,late=0.1,seed=7.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.pass_obj
def command(
    watch: Watch,
    lane: str,
    feed: str | None,
    speed: float | None,
    from_ms: int | None,
    to_ms: int | None,
    misbehave: str | None,
    as_json: bool,
) -> None:
    """Run a lane of the home (MEI_HOME) until its feed ends, or until SIGTERM or Ctrl-C."""
    settings = read_settings()
    chosen = feed or read_lane_config(settings, lane).feed
    named = {"--to": to_ms, "--speed": speed, "--from": from_ms if chosen == "hyperliquid" else None}
    if chosen != "replay" and (wrong := [name for name, value in named.items() if value is not None]):
        raise ConfigError(f"{wrong[0]}: the feed {chosen} has a time of its own; leave the option out")
    options = LaneOptions(
        lane=lane,
        feed=chosen,
        speed=inf if speed is None else speed,
        from_ms=from_ms,
        to_ms=to_ms,
        misbehaviour=None if misbehave is None else parse_misbehaviour(misbehave),
    )
    result = run_lane(settings, options, watch)
    if as_json:
        _print_json({"lane": lane, "reason": result.reason, "steps": result.steps, "state": result.state})
    else:
        click.echo(printable(f"lane {lane}: {result.reason}; {result.steps} steps; {result.state}"))


def run(arguments: Sequence[str], watch: Watch) -> int:
    """Run the command and return its exit code; each error becomes a message on stderr.

    With `--json` among the arguments the error is also one JSON object on stdout.
    """
    try:
        code = command.main(args=list(arguments), prog_name="python -m live.run", standalone_mode=False, obj=watch)
        sys.stdout.flush()
    except streams.ReaderGone:
        return 0
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one place of this process that catches all
        failure = failure_of(error, lambda text: click.echo(printable(text), err=True))
        if isinstance(error, click.UsageError):
            error.show()
        else:
            click.echo(printable(f"error: {failure.message}"), err=True)
    else:
        return code if isinstance(code, int) else 0
    if "--json" in arguments:
        # A standard output that is closed or full changes nothing: stderr has the message.
        with suppress(streams.ReaderGone, MeiError):
            _print_json({"error": failure._asdict()})
            sys.stdout.flush()
    return failure.exit_code


def _print_json(value: object) -> None:
    click.echo(printable(json.dumps(value, sort_keys=True)))


def stop_on_signals(watch: Watch, end: Callable[[int], object] = os._exit) -> None:
    """Stop the lane at the first SIGINT or SIGTERM, and end the process at the second.

    Args:
        watch: Signals of the lane.
        end: Ends the process with an exit code, without waiting for anything.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        if watch.stopping:
            end(128 + number)
        watch.stopping = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def log_watch() -> Watch:
    """Return a watch that reports to the log on stderr."""
    return Watch(alert=_log_alert, report=_log_line)


def _log_alert(alert: Alert) -> None:
    # A log on a full disk must not stop a lane.
    with suppress(OSError):
        getattr(stderr_log(), _LEVELS[alert.severity])(alert.text, key=alert.key)


def _log_line(line: str) -> None:
    with suppress(OSError):
        stderr_log().info(line)


def main() -> None:
    """Entry point of `python -m live.run`."""
    streams.watch_stdout()
    streams.forgive_stderr()
    watch = log_watch()
    stop_on_signals(watch)
    sys.exit(run(sys.argv[1:], watch))


if __name__ == "__main__":
    main()
