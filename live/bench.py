"""The benchmark `executor`: latency of a decision, speed of a replay, cost of an idle lane, and time to start.

Each figure comes from the code that trades: the core of a lane with the features and positions of `mei_alpha`, the
journal on the disk of the home, and `python -m live.run` over the socket of a replay feed.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from live.bench_home import LANE, VENUE, home_settings, lane_config, make_lane_home
from live.broker import execute
from live.lane_files import offered_config, read_lane_config
from live.paper_broker import PaperBroker
from mei_pipeline.bench.portfolio import symbol_names
from mei_pipeline.bench.processes import cpu_s, resident_mb
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.candles.lake import Lake
from mei_pipeline.candles.sources.synthetic import DEFAULT_FROM_MS, SyntheticMarket
from mei_pipeline.errors import Fatal
from mei_pipeline.execution.books import make_plan
from mei_pipeline.execution.core import step
from mei_pipeline.execution.events import Event, StepClosed, Timer
from mei_pipeline.execution.journal.opening import create_journal, journal_path
from mei_pipeline.execution.journal.reader import connect_read_only
from mei_pipeline.execution.lake_events import lake_events
from mei_pipeline.execution.state import LaneSetup, LaneState
from mei_pipeline.execution.warmup import warm_book
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import CHECKOUT, Settings, child_environment

SYMBOLS = 50
REPLAY_SYMBOLS = 10
WARM_DAYS = 60
DECIDED_DAYS = 20
REPLAY_DAYS = 120
COMMITS = 200
IDLE_S = 10.0

_EAGER = {
    "trade.entry_min_confidence": "medium",
    "trade.allocation_frac": 0.02,
    "trade.max_open_positions": 20,
    "trade.max_entry_orders_per_step": 20,
}
"""Values that keep a book busy, so that exits and entries are part of the measurement."""

_IDLE_CPU_S = 0.05  # of a second
_QUIET_SECONDS = 3


@dataclass(frozen=True)
class ExecutorFigures:
    """Figures of the executor on this machine.

    Attributes:
        symbols: Symbols of the decision benchmark.
        steps: Number of measured steps.
        positions: Mean number of positions at the measured steps.
        decide_p50_ms: From `StepClosed` to its commands, without the disk, median.
        decide_p99_ms: The same, 99th percentile.
        decide_sweep_p99_ms: The same while a sweep runs on every processor.
        commit_p50_ms: A durable commit of one step's events, median.
        commit_p99_ms: The same, 99th percentile.
        replay_symbols: Symbols of the replay.
        replay_steps: Steps of the replay.
        replay_steps_per_s: Steps per second through the whole lane: feed process, socket, core, paper broker, journal.
        start_lake_s: From the start of the process to its first step, features computed from the lake.
        start_checkpoint_s: The same, from a checkpoint.
        idle_mb: Resident memory of an idle lane.
        idle_feed_mb: Resident memory of its feed process.
        idle_cpu_pct: Processor time of the idle lane and its feed, in percent of one processor.
    """

    symbols: int
    steps: int
    positions: float
    decide_p50_ms: float
    decide_p99_ms: float
    decide_sweep_p99_ms: float
    commit_p50_ms: float
    commit_p99_ms: float
    replay_symbols: int
    replay_steps: int
    replay_steps_per_s: float
    start_lake_s: float
    start_checkpoint_s: float
    idle_mb: float
    idle_feed_mb: float
    idle_cpu_pct: float

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


def run_executor(settings: Settings, progress: Progress = silent) -> ExecutorFigures:
    """Measure the executor in a temporary home beside the home of the settings.

    Args:
        settings: Settings, for the place of the home and the compiled kernels.
        progress: Called after each part.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.home, prefix=".bench-executor-") as folder:
        decided = _make_home(settings, Path(folder) / "decide", SYMBOLS, WARM_DAYS + DECIDED_DAYS)
        progress(1, 6, "executor: home")
        times, positions = _decide(decided)
        progress(2, 6, "executor: decisions")
        with _sweeping(settings):
            busy, _ = _decide(decided)
        progress(3, 6, "executor: decisions beside a sweep")
        commits = _commits(decided)
        replayed = _make_home(settings, Path(folder) / "replay", REPLAY_SYMBOLS, WARM_DAYS + REPLAY_DAYS)
        steps, rate = _replay(replayed)
        progress(4, 6, "executor: replay")
        first_s, again_s = _starts(_make_home(settings, Path(folder) / "start", SYMBOLS, WARM_DAYS + DECIDED_DAYS))
        progress(5, 6, "executor: starts")
        lane_mb, feed_mb, cpu_pct = _idle(_make_home(settings, Path(folder) / "idle", SYMBOLS, WARM_DAYS + 2))
        progress(6, 6, "executor: idle lane")
    return ExecutorFigures(
        symbols=SYMBOLS,
        steps=len(times),
        positions=positions,
        decide_p50_ms=statistics.median(times),
        decide_p99_ms=float(np.percentile(times, 99)),
        decide_sweep_p99_ms=float(np.percentile(busy, 99)),
        commit_p50_ms=statistics.median(commits),
        commit_p99_ms=float(np.percentile(commits, 99)),
        replay_symbols=REPLAY_SYMBOLS,
        replay_steps=steps,
        replay_steps_per_s=rate,
        start_lake_s=first_s,
        start_checkpoint_s=again_s,
        idle_mb=lane_mb,
        idle_feed_mb=feed_mb,
        idle_cpu_pct=cpu_pct,
    )


def _make_home(settings: Settings, home: Path, symbols: int, days: int) -> Settings:
    """Return the settings of a new home with a market of some symbols and days."""
    names = symbol_names(symbols)
    market = SyntheticMarket(symbols=names, interval="1h", to_ms=DEFAULT_FROM_MS + days * DAY_MS, venue=VENUE)
    made = home_settings(home, settings.cache)
    make_lane_home(made, market, lane_config("mei_alpha", names, _EAGER, initial_balance_usd=100_000.0))
    return made


def _decide(settings: Settings) -> tuple[list[float], float]:
    """Return the time from `StepClosed` to its commands for each step, in ms, and the mean number of positions."""
    config = read_lane_config(settings, LANE)
    offer = offered_config(settings, LANE, config)
    setup = LaneSetup(
        LANE, "paper", ("00000000",), config.equity_usd, offer.kernel_hash, lambda each: make_plan(settings, each)
    )
    lake = Lake(settings.lake)
    start_ms = DEFAULT_FROM_MS + WARM_DAYS * DAY_MS
    broker = PaperBroker()
    state = step(LaneState(setup), offer).state
    book, warmed = warm_book(lake, setup.make_plan(offer), start_ms)
    state = _carry_out(step(state, warmed, book), broker)[0]
    state = _carry_all(state, broker, broker.snapshot())
    times: list[float] = []
    held: list[float] = []
    symbols = book.plan.symbols
    for event in lake_events(lake, VENUE, symbols, ("1h",), start_ms, None):
        if not isinstance(event, StepClosed):
            state = step(state, event).state
            continue
        state = _carry_all(state, broker, broker.open_step(event, state))
        began = time.perf_counter_ns()
        outcome = step(state, event)
        times.append((time.perf_counter_ns() - began) / 1e6)
        state, answers = _carry_out(outcome, broker)
        state = _carry_all(state, broker, (*answers, *broker.close_step(event)))
        held.append(float(state.books[-1].step.account["open_positions"]))
    return times, statistics.fmean(held)


def _carry_out(outcome: Any, broker: PaperBroker) -> tuple[LaneState, Sequence[Event]]:
    """Execute the commands of an outcome, and return the state and the answers."""
    for fact in outcome.facts:
        broker.observe(fact, outcome.state)
    return outcome.state, [event for command in outcome.commands for event in execute(broker, outcome.state, command)]


def _carry_all(state: LaneState, broker: PaperBroker, events: Sequence[Event]) -> LaneState:
    waiting = list(events)
    while waiting:
        outcome = step(state, waiting.pop(0))
        state, answers = _carry_out(outcome, broker)
        waiting += answers
    return state


@contextmanager
def _sweeping(settings: Settings) -> Generator[None]:
    """Run sweeps on every processor meanwhile."""
    command = [sys.executable, "-m", "mei_pipeline.cli.main", "bench", "w1", "--repeats", "100000"]
    environment = child_environment(settings)
    process = subprocess.Popen(  # noqa: S603 - our own module
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, cwd=CHECKOUT
    )
    try:
        _wait_until_busy(process.pid)
        yield
    finally:
        process.kill()
        process.wait()


def _wait_until_busy(pid: int, longest_s: float = 60.0) -> None:
    """Wait until a process uses more than one processor, or the time is over."""
    before = cpu_s(pid)
    for _ in range(int(longest_s / 0.5)):
        time.sleep(0.5)
        now = cpu_s(pid)
        if now - before > 0.5 * 1.2:
            return
        before = now


def _commits(settings: Settings) -> list[float]:
    """Return the time of durable commits of a small transaction, in ms."""
    path = journal_path(settings.lanes, LANE)
    times = []
    with closing(
        create_journal(path, lane=LANE, venue=VENUE, feed="replay", kernel_hash="", machine_id="bench", now_ms=0)
    ) as journal:
        for number in range(COMMITS):
            journal.append(Timer(name="bench", due_ms=number), number)
            began = time.perf_counter_ns()
            journal.commit()
            times.append((time.perf_counter_ns() - began) / 1e6)
    return times


def _command(settings: Settings, *options: str) -> tuple[list[str], dict[str, str]]:
    command = [sys.executable, "-m", "live.run", "--lane", LANE, "--feed", "replay", *options]
    return command, child_environment(settings)


def _run(settings: Settings, *options: str) -> float:
    """Run the lane to the end of its replay, and return the seconds that it took."""
    command, environment = _command(settings, *options)
    began = time.perf_counter()
    finished = subprocess.run(  # noqa: S603 - our own module
        command, capture_output=True, text=True, env=environment, cwd=CHECKOUT, check=False
    )
    if finished.returncode != 0:
        raise Fatal(f"bench executor: the lane ended with exit code {finished.returncode}: {finished.stderr}")
    return time.perf_counter() - began


def _at(days: float) -> str:
    return str(np.datetime64(DEFAULT_FROM_MS + int(days * DAY_MS), "ms")) + "Z"


def _replay(settings: Settings) -> tuple[int, float]:
    """Return the number of steps of a replay at the speed `max`, and the steps per second between first and last."""
    _run(settings, "--from", _at(WARM_DAYS), "--speed", "max")
    with closing(connect_read_only(journal_path(settings.lanes, LANE))) as journal:
        steps, first_ms, last_ms = journal.execute(
            "SELECT count(*), min(seen_ms), max(seen_ms) FROM v_events WHERE event = 'StepClosed'"
        ).fetchone()
    return steps, 1000.0 * (steps - 1) / max(last_ms - first_ms, 1)


def _starts(settings: Settings) -> tuple[float, float]:
    """Return the seconds of two runs of one step: features from the lake, and from the checkpoint of the first run."""
    from_ms = ("--from", _at(WARM_DAYS))
    first = _first_step_s(settings, *from_ms, "--to", _at(WARM_DAYS + 1 / 24))
    return first, _first_step_s(settings, *from_ms, "--to", _at(WARM_DAYS + 2 / 24))


def _first_step_s(settings: Settings, *options: str) -> float:
    """Return the seconds from the start of a process to its last step."""
    began_ms = time.time_ns() / 1e6
    _run(settings, *options)
    with closing(connect_read_only(journal_path(settings.lanes, LANE))) as journal:
        (seen_ms,) = journal.execute("SELECT max(seen_ms) FROM v_events WHERE event = 'StepClosed'").fetchone()
    return float(seen_ms - began_ms) / 1000.0


def _idle(settings: Settings) -> tuple[float, float, float]:
    """Return memory of an idle lane and of its feed in MB, and the processor time of both in percent."""
    # A step of an hour at real speed: the lane waits all the time.
    command, environment = _command(settings, "--from", _at(WARM_DAYS), "--speed", "1")
    process = subprocess.Popen(  # noqa: S603 - our own module
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, cwd=CHECKOUT
    )
    try:
        _wait_until_idle(process.pid)
        pids = [process.pid, *_children(process.pid)]
        before = sum(map(cpu_s, pids))
        time.sleep(IDLE_S)
        used = sum(map(cpu_s, pids)) - before
        memory = [resident_mb(pid) for pid in pids]
    finally:
        process.kill()
        process.wait()
    return memory[0], sum(memory[1:]), 100.0 * used / IDLE_S


def _wait_until_idle(pid: int, longest_s: float = 60.0) -> None:
    """Wait until a process has a child and neither has used the processor for some seconds."""
    quiet = 0
    for _ in range(int(longest_s)):
        before = cpu_s(pid)
        time.sleep(1.0)
        quiet = quiet + 1 if cpu_s(pid) - before < _IDLE_CPU_S and _children(pid) else 0
        if quiet == _QUIET_SECONDS:
            return


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
