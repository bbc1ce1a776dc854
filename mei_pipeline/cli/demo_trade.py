"""The second part of `mei demo --trade`: the promoted config trades on paper, over days that nobody has seen yet.

Lane `paper1` is killed once in the middle of a position, and goes on. In the last week another config is promoted to it
while it runs: its book opens, and the older one drains. Then every day of the lane is repeated.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from mei_pipeline.candles.intervals import DAY_MS, iso
from mei_pipeline.demo import AS_OF, TRADED_DAYS, Demo, extend_market
from mei_pipeline.errors import Fatal
from mei_pipeline.execution.journal.opening import journal_path
from mei_pipeline.settings import Settings

LANE = "paper1"
OTHER_LANE = "paper2"
"""Lane whose config is promoted to `LANE` while that one runs."""

REAL_SECONDS = 12.0
"""Length of the first run, which is killed in the middle of a position, if it ran to its end."""

SECOND_DAYS, SECOND_SECONDS = 7, 8.0
"""Days in which the second config is promoted, and the time that they take."""

_POLL_S = 0.05
_LONGEST_S = 120.0


@dataclass(frozen=True)
class Trading:
    """The result of the demo's trading.

    Attributes:
        lane: The lane.
        config_id: Its config.
        steps: Number of steps.
        trades: Number of closed trades.
        open_positions: Number of positions at the end.
        fills: Number of fills.
        pnl_usd: Profit, open positions included.
        restarts: Number of restarts after a kill in the middle of a position.
        equal: True if every trade, fill and payment before the second config equals that of a replay of the same bars,
            to the last bit.
        second_config_id: The config that was promoted while the lane ran; empty if the lane ended before.
        drained: True if the book of the first config was flat before the end, and was closed.
        days: Number of days that were repeated.
        verdict: Verdict on all days (`day_check.differences.worst_verdict`).
    """

    lane: str
    config_id: str
    steps: int
    trades: int
    open_positions: int
    fills: int
    pnl_usd: float
    restarts: int
    equal: bool
    second_config_id: str
    drained: bool
    days: int
    verdict: str

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return asdict(self)


def trade(settings: Settings, demo: Demo, say: Callable[[str], None]) -> Trading:
    """Let the demo's market go on, and run lane `paper1` through it; kill it once while it holds a position.

    Args:
        settings: Settings of the demo's home.
        demo: The demo.
        say: Receives a line of text at each stage.

    Raises:
        MeiError: The lane ended with an error.
    """
    end_ms = extend_market(settings, demo)
    say(f"the market goes on for {TRADED_DAYS} days; lane {LANE} trades them on paper")
    _compile(settings)
    restarts = _run_and_kill(settings)
    say(f"lane {LANE}: killed with SIGKILL in the middle of a position, and started again")
    change_ms = end_ms - SECOND_DAYS * DAY_MS
    _run("max", change_ms)
    first = _first_part(settings, change_ms)
    second = _run_and_promote(settings)
    _run("max")
    say(f"lane {LANE}: {OTHER_LANE}'s config was promoted to it while it ran")
    result = _result(settings, first, second, restarts)
    _repeat_last_day(settings)
    return result


def _compile(settings: Settings) -> None:
    """Compile the functions of the lane, in this process: it has compiled most of their parts for the search."""
    from live.lane_files import offered_config, read_lane_config
    from mei_pipeline.execution.precompile import driver_calls

    offer = offered_config(settings, LANE, read_lane_config(settings, LANE))
    for _, call in driver_calls(settings, str(offer.config["strategy"])):
        call()


def _command(speed: str, to_ms: int | None = None) -> list[str]:
    return [
        *(sys.executable, "-m", "live.run", "--lane", LANE, "--feed", "replay"),
        *("--speed", speed, "--from", AS_OF, "--json"),
        *(() if to_ms is None else ("--to", iso(to_ms))),
    ]


def _run_and_kill(settings: Settings) -> int:
    """Run the lane until it has closed a trade and holds a position, then kill it; return the number of kills."""
    speed = TRADED_DAYS * DAY_MS / 1000.0 / REAL_SECONDS
    process = subprocess.Popen(_command(f"{speed:.0f}"), stdout=subprocess.DEVNULL)  # noqa: S603 - our own module
    if _wait(process, lambda: _holds_after_a_trade(settings)):
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return 1
    process.kill()
    process.wait()
    return 0


def _wait(process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> bool:
    """Wait until a running lane has reached something; return False if it ends before, or takes too long."""
    deadline_s = time.monotonic() + _LONGEST_S
    while process.poll() is None and time.monotonic() < deadline_s:
        if reached():
            return True
        time.sleep(_POLL_S)
    return False


def _run_and_promote(settings: Settings) -> str:
    """Run the lane on, promote another config to it while it holds a position, and return that config's id."""
    from mei_pipeline.execution.journal.reader import connect_read_only

    speed = SECOND_DAYS * DAY_MS / 1000.0 / SECOND_SECONDS
    process = subprocess.Popen(_command(f"{speed:.0f}"), stdout=subprocess.DEVNULL)  # noqa: S603 - our own module
    with closing(connect_read_only(journal_path(settings.lanes, LANE))) as journal:
        (before,) = journal.execute("SELECT max(step_ms) FROM v_events WHERE event = 'StepClosed'").fetchone()
    config_id = ""
    if _wait(process, lambda: _holds_since(settings, before)):
        why = "shown by the demo: the first config drains"
        move = ("registry", "promote", OTHER_LANE, "--lane", LANE, "--who", "demo", "--why", why, "--json")
        done = subprocess.run(  # noqa: S603 - our own module
            [sys.executable, "-m", "mei_pipeline.cli.main", *move], stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode != 0:
            process.kill()
            raise Fatal(f"lane {LANE}: promotion ended with exit code {done.returncode}")
        config_id = str(json.loads(done.stdout)["lane"]["config_id"])
    process.wait()
    return config_id


def _holds_after_a_trade(settings: Settings) -> bool:
    return _asked(settings, "SELECT count(*) FROM v_trades WHERE exit_ms IS NOT NULL") > 0 and _holds(settings)


def _holds_since(settings: Settings, before_ms: int) -> bool:
    """Return whether a lane has gone on since a step, and holds a position."""
    steps = f"SELECT count(*) FROM v_equity WHERE step_ms > {before_ms}"  # noqa: S608 - a number
    return _asked(settings, steps) > 0 and _holds(settings)


def _holds(settings: Settings) -> bool:
    return _asked(settings, "SELECT count(*) FROM v_positions") > 0


def _asked(settings: Settings, query: str) -> int:
    """Return the number that a query of the lane's journal gives; 0 while there is no journal."""
    from mei_pipeline.errors import MeiError
    from mei_pipeline.execution.journal.reader import connect_read_only

    path = journal_path(settings.lanes, LANE)
    if not path.exists():
        return 0
    try:
        with closing(connect_read_only(path)) as journal:
            return int(journal.execute(query).fetchone()[0])
    except MeiError:
        return 0  # the lane is creating it


def _run(speed: str, to_ms: int | None = None) -> dict[str, Any]:
    finished = subprocess.run(_command(speed, to_ms), stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 - as above
    lines = finished.stdout.splitlines()
    answer: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    if finished.returncode != 0:
        raise Fatal(f"lane {LANE}: ended with exit code {finished.returncode}: {answer.get('error', 'no answer')}")
    return answer


def _first_part(settings: Settings, end_ms: int) -> tuple[str, bool]:
    """Return the config of a lane that has held no other, and whether its trades are those of a replay."""
    from live.lane_files import offered_config, read_lane_config
    from mei_pipeline.execution.equivalence import compare_trades
    from mei_pipeline.execution.journal.reader import connect_read_only

    config = read_lane_config(settings, LANE)
    offer = offered_config(settings, LANE, config)
    with closing(connect_read_only(journal_path(settings.lanes, LANE))) as journal:
        (first_ms,) = journal.execute("SELECT min(step_ms) FROM v_events WHERE event = 'StepClosed'").fetchone()
        compared = compare_trades(settings, journal, offer, config.equity_usd, first_ms, end_ms)
    return offer.config_id, compared.equal


def _result(settings: Settings, first: tuple[str, bool], second: str, restarts: int) -> Trading:
    """Return the figures of the lane's journal, and the verdict on all of its days."""
    from live.lane_files import read_lane_config
    from mei_pipeline.execution.day_check.check import check_day, days_of
    from mei_pipeline.execution.day_check.differences import worst_verdict

    config = read_lane_config(settings, LANE)
    days = list(days_of(settings, LANE))
    verdict = worst_verdict([check_day(settings, LANE, config, day_ms) for day_ms in days])
    config_id, equal = first
    closed = f"SELECT count(*) FROM v_config_changes WHERE change = 'closed' AND config_id = '{config_id}'"  # noqa: S608 - an id
    return Trading(
        lane=LANE,
        config_id=config_id,
        steps=_asked(settings, "SELECT count(DISTINCT step_ms) FROM v_events WHERE event = 'StepClosed'"),
        trades=_asked(settings, "SELECT count(*) FROM v_trades WHERE exit_ms IS NOT NULL"),
        open_positions=_asked(settings, "SELECT count(*) FROM v_positions"),
        fills=_asked(settings, "SELECT count(*) FROM v_fills WHERE size <> 0.0"),
        pnl_usd=_equity(settings) - config.equity_usd,
        restarts=restarts,
        equal=equal,
        second_config_id=second,
        drained=_asked(settings, closed) > 0,
        days=len(days),
        verdict=verdict,
    )


def _repeat_last_day(settings: Settings) -> None:
    """Repeat the last complete day by the job of Dagster too, so that the web page shows it."""
    from assets.jobs import REPLAY
    from assets.lane_days import partition_of
    from assets.run import open_instance, run_job
    from mei_pipeline.config.load import load_config
    from mei_pipeline.execution.day_check.check import complete_days

    config = load_config(settings.config)
    day = iso(complete_days(settings, LANE)[-1])[:10]
    with open_instance(settings, config) as instance:
        run_job(REPLAY, settings, config, instance, partition=partition_of(LANE, day))


def _equity(settings: Settings) -> float:
    from mei_pipeline.execution.journal.reader import connect_read_only

    with closing(connect_read_only(journal_path(settings.lanes, LANE))) as journal:
        return float(journal.execute("SELECT equity_usd FROM v_equity ORDER BY step_ms DESC LIMIT 1").fetchone()[0])
