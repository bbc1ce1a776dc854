"""`python -m live.run --lane NAME --feed replay`: run a lane until its feed ends or it is stopped.

SIGTERM or Ctrl-C stops the lane after the step in progress; a second one ends the process at once. Either way the
journal holds every fact, and the next start goes on from there.
"""

import json
import os
import signal
import sys
from types import FrameType

import click

from live.misbehaviour import parse_misbehaviour
from live.replay_feed import Speed, Time
from live.session import LaneOptions, Watch, run_lane
from mei_pipeline.errors import MeiError
from mei_pipeline.execution.commands import Alert
from mei_pipeline.log import stderr_log
from mei_pipeline.settings import read_settings

_LEVELS = {"info": "info", "warning": "warning", "critical": "error"}


@click.command()
@click.option("--lane", required=True, help="Lane to run; its file is lanes/NAME.yaml of the configuration.")
@click.option(
    "--feed", type=click.Choice(["replay"]), required=True, help="Market data: replay serves the bars of the lake."
)
@click.option(
    "--speed", type=Speed(), default="max", show_default=True, help="Market seconds per second of a replay, or max."
)
@click.option("--from", "from_ms", type=Time(), help="First step of a new lane on a replay, as ISO time.")
@click.option("--to", "to_ms", type=Time(), help="End of the replay, as ISO time.  [default: end of the lake]")
@click.option("--misbehave", help="Faults of the paper broker, such as partial=0.2,late=0.1,seed=7.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
def main(
    lane: str, feed: str, speed: float, from_ms: int | None, to_ms: int | None, misbehave: str | None, as_json: bool
) -> None:
    """Run a lane of the home (MEI_HOME) until its feed ends, or until SIGTERM or Ctrl-C."""
    watch = Watch(alert=_log_alert, report=_log_line)
    _stop_on_signals(watch)
    try:
        options = LaneOptions(
            lane=lane,
            feed=feed,
            speed=speed,
            from_ms=from_ms,
            to_ms=to_ms,
            misbehaviour=None if misbehave is None else parse_misbehaviour(misbehave),
        )
        result = run_lane(read_settings(), options, watch)
    except MeiError as error:
        click.echo(f"error: {error}", err=True)
        if as_json:
            failure = {"kind": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
            click.echo(json.dumps({"error": failure}))
        sys.exit(error.exit_code)
    if as_json:
        click.echo(json.dumps({"lane": lane, "reason": result.reason, "steps": result.steps, "state": result.state}))
    else:
        click.echo(f"lane {lane}: {result.reason}; {result.steps} steps; {result.state}")


def _stop_on_signals(watch: Watch) -> None:
    """Stop the lane at the first SIGINT or SIGTERM, and end the process at the second."""

    def stop(number: int, _frame: FrameType | None) -> None:
        if watch.stopping:
            os._exit(128 + number)
        watch.stopping = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _log_alert(alert: Alert) -> None:
    getattr(stderr_log(), _LEVELS[alert.severity])(alert.text, key=alert.key)


def _log_line(line: str) -> None:
    stderr_log().info(line)


if __name__ == "__main__":
    main()
