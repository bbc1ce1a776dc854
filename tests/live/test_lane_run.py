"""The command that runs a lane: its result, its signals, and the replay that it starts."""

import errno
import io
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any

import pytest
from session_kit import CHANGE_MS, FROM_MS, LANE, START_MS, TO_MS, Steps, feed_of, left_in, run_session

from live.feed_protocol import Subscribe
from live.lane_feed import Feed
from live.run import log_watch, main, run, stop_on_signals
from live.running import Watch
from mei_pipeline.candles.intervals import DAY_MS, HOUR_MS
from mei_pipeline.execution.commands import Alert
from mei_pipeline.execution.events import FeedEvent
from mei_pipeline.execution.journal.frames import view_frame
from mei_pipeline.execution.journal.opening import journal_path, lock_path
from mei_pipeline.execution.journal.reader import connect_read_only
from mei_pipeline.execution.journal.schema import VIEWS
from mei_pipeline.files import lock_holder
from mei_pipeline.registry.holds import Hold, lift_hold, set_hold
from mei_pipeline.settings import CHECKOUT, Settings


def iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat()


COMMAND = ["--lane", LANE, "--feed", "replay", "--from", iso(FROM_MS), "--to", iso(TO_MS)]


@pytest.fixture
def variables(lane_home: Settings, compiled_kernels: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Sets the variables of the command, and returns them for its processes."""
    shutil.copytree(compiled_kernels, lane_home.cache / "kernels" / compiled_kernels.name)
    own = {"MEI_CONFIG": str(lane_home.config), "MEI_CACHE": str(lane_home.cache)}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    return {**os.environ, **own, "MEI_HOME": str(lane_home.home)}


@pytest.mark.usefixtures("variables")
def test_a_lane_over_the_replay_that_it_starts(
    lane_home: Settings, undisturbed: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*COMMAND, "--json"], log_watch()) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["lane"], result["steps"]) == (LANE, 14)
    assert result["reason"] == "the replay ends at 2025-01-03 20:00Z, the last step before --to"
    assert "0 open orders" in result["state"]
    assert left_in(lane_home) == undisturbed
    assert lock_holder(lock_path(lane_home.lanes, LANE)) == ""
    assert run(COMMAND, log_watch()) == 0  # nothing is left to do
    assert "; 0 steps; last step 2025-01-03 19:00Z; positions: BTC" in capsys.readouterr().out


def test_help_needs_no_lane(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"], Watch()) == 0
    assert "Run a lane of the home" in capsys.readouterr().out


@pytest.mark.parametrize("module", ["run", "replay_feed"])
def test_ctrl_c_during_the_imports_ends_at_once_without_a_traceback(module: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", f"live.{module}", "--help"]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "numpy" in line:  # one of the first modules of many
                break
        process.send_signal(signal.SIGINT)
        output, messages = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    assert [line for line in messages.splitlines() if "import time:" not in line] == ["interrupted"]


@pytest.mark.usefixtures("handlers", "variables")
def test_a_lane_whose_output_nobody_reads_trades_on(
    lane_home: Settings, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` does when it has seen enough
    with closing(io.TextIOWrapper(io.FileIO(writer, "w"), write_through=True)) as pipe, monkeypatch.context() as patch:
        for name in ("stdout", "stderr"):
            patch.setattr(sys, name, pipe)
        patch.setattr(sys, "argv", ["live.run", *COMMAND])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 0
    assert left_in(lane_home) == undisturbed


@pytest.fixture
def handlers() -> Generator[None]:
    """Puts the handlers of signals back."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_and_the_second_ends(number: signal.Signals) -> None:
    watch, ended, before = Watch(), [], signal.getsignal(signal.SIGHUP)
    stop_on_signals(watch, ended.append)
    assert signal.getsignal(signal.SIGHUP) == before
    signal.raise_signal(number)
    assert (watch.stopping, ended) == (True, [])
    signal.raise_signal(number)
    assert ended == [128 + number]


@pytest.mark.parametrize(("reads", "size"), [(1, 1), (1, 100), (4, 7), (36, 1), (37, 1), (38, 1)])
def test_a_stopped_lane_goes_on_as_if_it_had_not_stopped(
    lane_home: Settings, undisturbed: dict[str, Any], reads: int, size: int
) -> None:
    watch = Watch()
    left = reads

    class Stopping(Steps):
        def read(self, timeout_s: float) -> list[FeedEvent]:
            nonlocal left
            left -= 1
            if left == 0:
                watch.stopping = True  # as a signal does, while the lane works on what follows
            return super().read(timeout_s)

    @contextmanager
    def open_feed(wanted: Subscribe) -> Generator[Feed]:
        with feed_of(lane_home, size=10_000)(wanted) as whole:
            yield Stopping(whole.read(0.0), size)

    result = run_session(lane_home, watch, open_feed)
    assert result.reason == "stopped"
    assert result.steps < 14
    run_session(lane_home)
    assert left_in(lane_home) == undisturbed


def test_a_lane_at_a_speed_waits_for_the_disk_at_each_commit(lane_home: Settings) -> None:
    places: dict[float, list[str]] = {inf: [], 1e6: []}
    for speed, seen in places.items():
        run_session(lane_home, Watch(fault_hook=seen.append), speed=speed, durable=None)
    assert "journal commit" not in places[inf]
    assert "journal commit" in places[1e6]


def test_no_order_leaves_before_its_intent_is_in_the_journal(lane_home: Settings) -> None:
    seen: list[int] = []

    def look(place: str) -> None:
        if place == "before Send":
            with closing(sqlite3.connect(journal_path(lane_home.lanes, LANE))) as other:
                [(count,)] = other.execute("SELECT count(*) FROM orders WHERE state = 'SENT' AND oid = ''")
                seen.append(count)

    run_session(lane_home, Watch(fault_hook=look))
    assert seen == [1, 2, 3]


def test_the_times_of_each_view_are_on_the_clock_of_the_lane(lane_home: Settings) -> None:
    hold = Hold(owner="anna", effect="close_only", reason="a test", since_ms=int(time.time() * 1000))
    run_session(lane_home, open_feed=feed_of(lane_home, CHANGE_MS))
    set_hold(lane_home.lanes, LANE, "stop", hold)
    run_session(lane_home, open_feed=feed_of(lane_home, CHANGE_MS + 2 * HOUR_MS))
    lift_hold(lane_home.lanes, LANE, "stop")
    run_session(lane_home)
    with closing(connect_read_only(journal_path(lane_home.lanes, LANE))) as journal:
        times = {
            f"{view}.{column.name}": column.drop_nulls()
            for view in VIEWS
            for column in view_frame(journal, view).iter_columns()
            if column.name.endswith("_ms")
        }
    of_the_machine = {name for name in times if name in {"events.seen_ms", "meta.created_ms"}}
    assert len(of_the_machine) == 2
    for name, column in times.items():
        assert len(column) > 0
        market = ((column == 0) | column.is_between(START_MS, TO_MS + DAY_MS)).all()
        assert market != (name in of_the_machine), name


def test_a_log_that_can_not_be_written_stops_no_lane(
    lane_home: Settings, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Full())
        run_session(lane_home, log_watch())
        log_watch().alert(Alert("key", "critical", "text"))
    assert left_in(lane_home) == undisturbed


def start(variables: dict[str, str], *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "live.run", *COMMAND, *options],
        cwd=CHECKOUT,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def wait_for_step(settings: Settings, steps: int, process: subprocess.Popen[str]) -> None:
    """Wait until the journal of a running lane has so many steps, or the lane has ended."""
    path = journal_path(settings.lanes, LANE)
    while process.poll() is None:
        if path.exists():
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as reader:
                [(count,)] = reader.execute("SELECT count(*) FROM events WHERE event = 'StepClosed'")
            if count >= steps:
                return
        time.sleep(0.05)


@pytest.mark.long
def test_sigterm_ends_after_the_step(
    lane_home: Settings, undisturbed: dict[str, Any], variables: dict[str, str]
) -> None:
    with start(variables, "--speed", "20000", "--json") as process:
        wait_for_step(lane_home, 4, process)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    result = json.loads(output)
    assert (process.returncode, result["reason"]) == (0, "stopped")
    assert 4 <= result["steps"] < 14
    run_session(lane_home)
    assert left_in(lane_home) == undisturbed


@pytest.mark.long
def test_a_lane_that_is_killed_at_random_moments(
    lane_home: Settings, undisturbed: dict[str, Any], variables: dict[str, str]
) -> None:
    chance = random.Random(5)  # noqa: S311 - no secret
    for kills in range(6):
        with start(variables, "--speed", "20000") as process:
            wait_for_step(lane_home, kills * 2 + 1, process)
            time.sleep(chance.uniform(0.0, 0.4))
            process.kill()
    with start(variables) as process:
        assert process.wait(timeout=120) == 0
    assert left_in(lane_home) == undisturbed
