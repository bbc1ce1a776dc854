"""The second part of `mei demo --trade`: the promoted config trades on paper, over days that nobody has seen yet."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mei_pipeline.demo import AS_OF, TRADED_DAYS, Demo, extend_market
from mei_pipeline.errors import Fatal
from mei_pipeline.settings import Settings

LANE = "paper1"
REAL_SECONDS = 12.0
"""Length of the first run, which is killed in the middle of a position, if it ran to its end."""

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
        equal: True if every trade, fill and payment equals that of a replay of the same bars, to the last bit.
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
    _run("max")
    return _result(settings, end_ms, restarts)


def _compile(settings: Settings) -> None:
    """Compile the functions of the lane, in this process: it has compiled most of their parts for the search."""
    from live.lane_files import offered_config, read_lane_config
    from mei_pipeline.execution.precompile import driver_calls

    offer = offered_config(settings, LANE, read_lane_config(settings, LANE))
    for _, call in driver_calls(settings, str(offer.config["strategy"])):
        call()


def _command(speed: str) -> list[str]:
    return [
        *(sys.executable, "-m", "live.run", "--lane", LANE, "--feed", "replay"),
        *("--speed", speed, "--from", AS_OF, "--json"),
    ]


def _run_and_kill(settings: Settings) -> int:
    """Run the lane until it has closed a trade and holds a position, then kill it; return the number of kills."""
    from mei_pipeline.candles.intervals import DAY_MS
    from mei_pipeline.execution.journal.opening import journal_path

    speed = TRADED_DAYS * DAY_MS / 1000.0 / REAL_SECONDS
    path = journal_path(settings.lanes, LANE)
    process = subprocess.Popen(_command(f"{speed:.0f}"), stdout=subprocess.DEVNULL)  # noqa: S603 - our own module
    deadline_s = time.monotonic() + _LONGEST_S
    while process.poll() is None and time.monotonic() < deadline_s:
        if _holds_after_a_trade(path):
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return 1
        time.sleep(_POLL_S)
    if process.poll() is None:
        process.kill()
    process.wait()
    return 0


def _holds_after_a_trade(path: Path) -> bool:
    from mei_pipeline.errors import MeiError
    from mei_pipeline.execution.journal.reader import connect_read_only

    if not path.exists():
        return False
    try:
        with closing(connect_read_only(path)) as journal:
            (closed,) = journal.execute("SELECT count(*) FROM v_trades WHERE exit_ms IS NOT NULL").fetchone()
            (held,) = journal.execute("SELECT count(*) FROM v_positions").fetchone()
    except MeiError:
        return False  # the lane is creating it
    return bool(closed and held)


def _run(speed: str) -> dict[str, Any]:
    finished = subprocess.run(_command(speed), stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 - as above
    lines = finished.stdout.splitlines()
    answer: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    if finished.returncode != 0:
        raise Fatal(f"lane {LANE}: ended with exit code {finished.returncode}: {answer.get('error', 'no answer')}")
    return answer


def _result(settings: Settings, end_ms: int, restarts: int) -> Trading:
    """Return the figures of the lane's journal, compared with a replay."""
    from live.lane_files import offered_config, read_lane_config
    from mei_pipeline.execution.equivalence import compare_trades
    from mei_pipeline.execution.journal.opening import journal_path
    from mei_pipeline.execution.journal.reader import connect_read_only

    config = read_lane_config(settings, LANE)
    offer = offered_config(settings, LANE, config)
    with closing(connect_read_only(journal_path(settings.lanes, LANE))) as journal:
        first_ms, steps = journal.execute(
            "SELECT min(step_ms), count(DISTINCT step_ms) FROM v_events WHERE event = 'StepClosed'"
        ).fetchone()
        (held,) = journal.execute("SELECT count(*) FROM v_positions").fetchone()
        (equity,) = journal.execute("SELECT equity_usd FROM v_equity ORDER BY step_ms DESC LIMIT 1").fetchone()
        compared = compare_trades(settings, journal, offer, config.equity_usd, first_ms, end_ms)
    return Trading(
        lane=LANE,
        config_id=offer.config_id,
        steps=steps,
        trades=compared.lane.height,
        open_positions=held,
        fills=compared.lane_fills.filter(compared.lane_fills["size"] != 0.0).height,
        pnl_usd=equity - config.equity_usd,
        restarts=restarts,
        equal=compared.equal,
    )
