"""Run a lane again and again, each time killed at another point, and print what every run has left as JSON.

Run as `python lane_crash_run.py FOLDER CACHE MODE`. Each run is a fork of this process, which has loaded the kernels
and touched no frame. Modes:

    every   SIGKILL at the n-th point, for every n until a run is clean; then once more to the end
    change  as `every`, while another config is promoted; `change-some` at every 13th point
    twice   SIGKILL at the n-th point, then at the m-th of the run after it
"""

import json
import os
import shutil
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from session_kit import (
    CHANGE_MS,
    CONFIG,
    FROM_MS,
    LANE,
    OTHER,
    START_MS,
    TO_MS,
    events_of,
    feed_of,
    kill_at,
    left_in,
    make_home,
    run_session,
)

from kernels import features as feature_kernel
from kernels.cache import source_hash, use_cache
from live.bench_home import home_settings, promote_config
from live.feed_client import subscription
from live.feed_protocol import Subscribe
from live.lane import LaneProcess
from live.lane_feed import Feed, OpenFeed
from live.lane_files import offered_config, read_lane_config
from live.paper_broker import PaperBroker
from live.replay_feed import NETWORK
from live.running import Watch
from mei_pipeline.execution.books import BookPlan, StepBook, make_plan, make_step_book
from mei_pipeline.execution.events import AnyEvent, Event, FeedEvent, StepClosed, Warmed
from mei_pipeline.execution.journal.opening import create_journal, journal_path
from mei_pipeline.execution.state import LaneSetup, LaneState
from mei_pipeline.settings import Settings

MOST_POINTS = 2_000
PIECES = 6
EVERY = {"change-some": 13}


def main(folder: Path, cache: Path, mode: str) -> None:
    os.environ["POLARS_MAX_THREADS"] = "1"  # before its first frame
    use_cache(cache)
    start = folder / "start"
    forked(lambda: make_home(start))
    load_kernels(folder, start)
    changes = mode.startswith("change")
    undisturbed = attempt(folder, start, (), changes=changes)
    runs = []
    for points in plans(mode):
        made = attempt(folder, start, points, changes=changes)
        runs.append(made)
        if len(made["died"]) < len(points) and len(points) == 1:
            break
    sys.stdout.write(json.dumps({"undisturbed": undisturbed, "runs": runs}))


def plans(mode: str) -> Sequence[tuple[int, ...]]:
    """The points at which the runs die."""
    if mode == "twice":
        rng = np.random.default_rng(11)
        return [(int(k), int(j)) for k, j in zip(rng.integers(1, 100, 12), rng.integers(1, 35, 12), strict=True)]
    return [(point,) for point in range(1, MOST_POINTS, EVERY.get(mode, 1))]


def attempt(folder: Path, start: Path, points: tuple[int, ...], *, changes: bool) -> dict[str, Any]:
    """Run a lane in a copy of the home, killed at each of some points in turn, and at last to the end."""
    home = folder / "run"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(start, home)
    died = []
    for point in points:
        said, status = forked(lambda: run(home, point, changes=changes))  # noqa: B023 - called before the loop goes on
        if status == 0:
            break
        if status != signal.SIGKILL:
            raise SystemExit(f"point {point}: {said} {status}")
        died.append((home / "point").read_text())
    result, status = forked(lambda: run(home, 0, changes=changes))
    return {
        "points": points,
        "died": died,
        "status": status,
        "result": result,
        "left": left_in(home_settings(home)),
    }


def run(home: Path, point: int, *, changes: bool = False) -> str:
    """Run the lane; at the n-th point write its name and die."""

    def die(name: str) -> None:
        (home / "point").write_text(name)
        os.kill(os.getpid(), signal.SIGKILL)

    settings = home_settings(home)
    feed = feed_of(settings, size=1 + point % PIECES)  # pieces end anywhere in a step
    if changes:
        # A promotion counts from the step after which the lane reads it; a killed one must not read it earlier.
        if not has_step(settings, CHANGE_MS):
            promote_config(settings, CONFIG, START_MS)
        feed = changing(settings, feed)
    # Every other run has a checkpoint every two or three steps.
    often = {"checkpoint_events": 20} if point % 2 else {}
    return run_session(settings, Watch(fault_hook=kill_at(point, die)), feed, **often).state


def has_step(settings: Settings, step_ms: int) -> bool:
    """Whether the journal has a step."""
    path = journal_path(settings.lanes, LANE)
    if not path.exists():
        return False
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT count(*) FROM events WHERE event = 'StepClosed' AND step_ms >= ?"
        return bool(connection.execute(query, (step_ms,)).fetchone()[0])


def changing(settings: Settings, open_feed: OpenFeed) -> OpenFeed:
    """A feed during which another config is promoted, before it hands out the end of a step."""

    class Changing:
        now_ms: int | None = None

        def __init__(self, feed: Feed) -> None:
            self.feed = feed
            self.ack = feed.ack

        def read(self, timeout_s: float) -> Sequence[FeedEvent]:
            events = self.feed.read(timeout_s)
            if any(isinstance(event, StepClosed) and event.step_ms >= CHANGE_MS for event in events):
                promote_config(settings, OTHER, START_MS, generation=2)
            return events

    @contextmanager
    def opened(wanted: Subscribe) -> Generator[Feed]:
        with open_feed(wanted) as feed:
            yield Changing(feed)

    return opened


def load_kernels(folder: Path, start: Path) -> None:
    """Move a lane through the span in this process, whose features come from no lake, so that no thread starts."""
    settings = home_settings(start)
    texts, _ = forked(lambda: [msgspec.json.encode(event).decode() for event in span_of(settings)])
    offer = offered_config(settings, LANE, read_lane_config(settings, LANE))
    lane_setup = {"lane": LANE, "mode": "paper", "kernel_hash": source_hash()}
    setup = LaneSetup(
        **lane_setup, book_ids=("0" * 8,), equity_usd=10_000.0, make_plan=lambda config: make_plan(settings, config)
    )
    journal = create_journal(
        folder / "warm.db", lane=LANE, venue="v", feed="f", kernel_hash="k", machine_id="m", now_ms=0
    )
    lane = LaneProcess(LaneState(setup), journal, PaperBroker(), warm_flat, FROM_MS, print, durable=False)
    for event in (offer, *(msgspec.json.decode(text, type=AnyEvent) for text in texts)):
        lane.take(event)
    journal.close()


def warm_flat(plan: BookPlan, until_ms: int) -> tuple[StepBook, Warmed]:
    """A book over a market in which nothing has happened."""
    rows = (until_ms - START_MS) // plan.intervals.main_ms
    step = make_step_book(plan, 10_000.0)
    flat = np.full((rows, len(plan.symbols)), 100.0)
    feature_kernel.warm(*plan.columns, step.state, step.columns, flat, flat, flat, flat)
    config_id = plan.offered.config_id
    return step, Warmed(venue_ms=until_ms, config_id=config_id, anchor_ms=START_MS, until_ms=until_ms, data_hash="")


def span_of(settings: Settings) -> Sequence[Event]:
    wanted = subscription(CONFIG.venue, NETWORK, CONFIG.symbols, CONFIG.intervals.read, FROM_MS)
    return events_of(settings, wanted, TO_MS)


def forked(action: Callable[[], Any]) -> tuple[Any, int]:
    """Run `action` in a fork; return its result (None if it died) and the status it ended with."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        try:
            with os.fdopen(send, "wb") as pipe:
                pipe.write(json.dumps(action(), default=str).encode())
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(text) if text else None, status


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
