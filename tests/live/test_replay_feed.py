"""The lake as a feed: its pace, and whole replays over a socket."""

import math
import os
import select
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path

import pytest
from click.testing import CliRunner
from market_kit import DAY_MS, HOUR_MS, START_MS, SYMBOLS, VENUE, fill_lake

from live.feed_client import FeedClient, connect, subscription
from live.feed_protocol import FeedBroken, FeedEnded
from live.feed_server import listen
from live.replay_feed import NETWORK, LakeStream, Span, main, serve_lake, start_replay_feed, stop_replay_feed
from mei_pipeline.candles.lake import Lake
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.execution.events import FeedEvent, StepClosed
from mei_pipeline.execution.lake_events import lake_events, open_slice
from mei_pipeline.settings import Settings

END_MS = START_MS + 10 * DAY_MS


def everything(client: FeedClient) -> tuple[list[FeedEvent], str]:
    """All events of a replay, each acknowledged, and the reason of its end."""
    events: list[FeedEvent] = []
    try:
        while True:
            events += client.read(10.0)
            client.ack()
    except FeedEnded as error:
        return events, str(error)


def read_on(client: FeedClient) -> None:
    """Read without end."""
    while True:
        client.read(10.0)


def closes(steps: list[list[FeedEvent]]) -> list[int]:
    """Hours from the start to the closes of steps."""
    ends = [step[-1] for step in steps]
    return [(end.step_ms - START_MS) // HOUR_MS + 1 for end in ends if isinstance(end, StepClosed)]


@pytest.fixture
def lake(mei_settings: Settings) -> Lake:
    return fill_lake(mei_settings, days=10)


def stream_of(lake: Lake, speed: float) -> LakeStream:
    return LakeStream(open_slice(lake, VENUE, SYMBOLS, ("1h",), START_MS), speed, 50.0)


def test_steps_leave_at_the_speed_of_the_market(lake: Lake) -> None:
    stream = stream_of(lake, 3600.0)  # an hour a second
    assert stream.take(50.0, 64) == ([], 1.0, "")
    assert stream.now_ms(50.0) == START_MS
    assert stream.take(50.75, 64) == ([], 0.25, "")
    assert stream.now_ms(50.75) == START_MS + 45 * 60_000
    taken = stream.take(53.5, 64)
    assert (closes(taken.steps), taken.wait_s) == ([1, 2, 3], 0.5)
    assert stream.now_ms(53.5) == START_MS + 3 * HOUR_MS + 30 * 60_000


def test_the_market_waits_for_its_consumer(lake: Lake) -> None:
    stream = stream_of(lake, 3600.0)
    taken = stream.take(60.0, 2)
    assert (closes(taken.steps), taken.wait_s) == ([1, 2], math.inf)
    assert stream.now_ms(60.0) == START_MS + 3 * HOUR_MS
    assert stream.take(70.0, 0) == ([], math.inf, "")
    assert stream.now_ms(70.0) == START_MS + 3 * HOUR_MS
    taken = stream.take(70.5, 5)
    assert (closes(taken.steps), taken.wait_s) == ([3], 0.5)


def test_a_replay_without_a_pace_waits_for_acknowledgements_alone(lake: Lake) -> None:
    stream = stream_of(lake, math.inf)
    taken = stream.take(50.0, 64)
    assert (closes(taken.steps), taken.wait_s) == (list(range(1, 65)), math.inf)
    assert stream.now_ms(50.0) == START_MS + 64 * HOUR_MS
    taken = stream.take(50.0, 1000)
    assert closes(taken.steps) == list(range(65, 241))
    assert taken.ended == "the lake ends at 2025-01-11 00:00Z; run `mei ingest` for later bars"


@pytest.mark.parametrize(
    ("to_ms", "reason"),
    [
        (START_MS + 2 * HOUR_MS, "the replay ends at 2025-01-01 02:00Z, the last step before --to"),
        (START_MS + 3 * HOUR_MS - 1, "the replay ends at 2025-01-01 02:00Z, the last step before --to"),
        (START_MS + 90 * DAY_MS, "the lake ends at 2025-01-11 00:00Z; run `mei ingest` for later bars"),
    ],
)
def test_the_end_of_a_replay_names_its_cause(lake: Lake, to_ms: int, reason: str) -> None:
    part = open_slice(lake, VENUE, SYMBOLS, ("1h",), START_MS, to_ms)
    assert LakeStream(part, math.inf, 50.0, to_ms).take(50.0, 1000).ended == reason


@pytest.fixture
def served(lake: Lake, tmp_path: Path) -> Generator[Path]:
    """The socket of a replay in a thread of this process."""
    path = tmp_path / "feed"
    reader, writer = os.pipe()
    with listen(path) as listener:
        span = Span(START_MS + DAY_MS)
        thread = threading.Thread(target=serve_lake, args=(listener, lake, VENUE, math.inf, span, [reader]))
        thread.start()
        yield path
        os.close(writer)
        thread.join()
        os.close(reader)


def subscribe(path: Path, from_ms: int, symbols: tuple[str, ...] = SYMBOLS, venue: str = VENUE) -> FeedClient:
    return connect(path, subscription(venue, NETWORK, symbols, ["1h"], from_ms))


def test_a_replay_sends_what_the_lake_holds_and_ends(served: Path, lake: Lake) -> None:
    client = subscribe(served, START_MS + DAY_MS)
    events, reason = everything(client)
    assert events == list(lake_events(lake, VENUE, SYMBOLS, ("1h",), START_MS + DAY_MS))
    assert reason == "the lake ends at 2025-01-11 00:00Z; run `mei ingest` for later bars"
    client.close()
    middle = START_MS + 6 * DAY_MS + HOUR_MS
    client = subscribe(served, middle)
    later, _ = everything(client)
    client.close()
    steps = later[len(SYMBOLS) + 1 :]
    assert sum(isinstance(event, StepClosed) for event in steps) == (END_MS - middle) // HOUR_MS
    assert steps == events[-len(steps) :]
    with pytest.raises(ConfigError, match="this replay begins 2025-01-02 00:00Z"):
        subscribe(served, START_MS)
    with pytest.raises(DataError, match="no 1h bar of ZZZ at test"):
        subscribe(served, middle, ("AAA", "ZZZ"))
    with pytest.raises(ConfigError, match="it serves venue test on network replay, not venue other"):
        subscribe(served, middle, venue="other")


def test_a_replay_of_its_own_process_ends_when_it_is_stopped(lake: Lake, mei_settings: Settings) -> None:
    to_ms = START_MS + 2 * DAY_MS
    feed = start_replay_feed(mei_settings, VENUE, math.inf, Span(START_MS, to_ms))
    assert feed.path.parent.stat().st_mode & 0o777 == 0o700
    client = subscribe(feed.path, START_MS)
    events, _ = everything(client)
    assert events == list(lake_events(lake, VENUE, SYMBOLS, ("1h",), START_MS, to_ms))
    stop_replay_feed(feed)
    assert feed.process.returncode == 0
    assert not feed.path.parent.exists()
    client.close()
    stop_replay_feed(feed)  # a second time


@pytest.mark.long
def test_a_replay_that_was_killed_breaks_its_consumer(lake: Lake, mei_settings: Settings) -> None:  # noqa: ARG001 - the replay reads it
    feed = start_replay_feed(mei_settings, VENUE, 3600.0)
    client = subscribe(feed.path, START_MS)
    feed.process.kill()
    with pytest.raises(FeedBroken, match="feed: it closed the connection"):
        read_on(client)
    client.close()
    stop_replay_feed(feed)
    assert not feed.path.parent.exists()


_LANE = """
import sys, time
from live.replay_feed import start_replay_feed
from mei_pipeline.settings import read_settings
feed = start_replay_feed(read_settings(), "test", 3600.0)
print(feed.process.pid, feed.path, flush=True)
time.sleep(600)
"""


@pytest.mark.long
def test_a_replay_ends_and_cleans_up_when_its_lane_is_killed(lake: Lake) -> None:  # noqa: ARG001 - the replay reads it
    with subprocess.Popen([sys.executable, "-c", _LANE], stdout=subprocess.PIPE, text=True) as lane:
        pid, path = lane.stdout.readline().split()
        client = subscribe(Path(path), START_MS)
        process = os.pidfd_open(int(pid))
        lane.kill()
        client.read(0.0)
        with pytest.raises(FeedBroken, match="feed: it closed the connection"):
            read_on(client)
        client.close()
    assert select.select([process], [], [], 10.0)[0] == [process]
    os.close(process)
    assert not Path(path).parent.exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--speed", "0"], 2, "'0': write a number above 0, or max"),
        (["--speed", "inf"], 2, "'inf': write a number above 0, or max"),
        (["--speed", "fast"], 2, "'fast': write a number above 0, or max"),
        (["--from", "May"], 2, "'May': write an ISO time such as 2026-11-01T00:00Z"),
        (["--to", "9999-12-31T23:59:59-23:59"], 2, "write an ISO time"),
        ([], 2, "error: /nowhere/feed: can't listen there: No such file or directory; choose another path"),
    ],
)
def test_wrong_options_are_named(options: list[str], code: int, message: str) -> None:
    result = CliRunner().invoke(main, ["--socket", "/nowhere/feed", "--venue", VENUE, *options])
    assert result.exit_code == code
    assert message in " ".join(result.output.split())


def test_a_folder_for_temporary_files_with_a_long_path_is_named(
    mei_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(ConfigError, match=r"AF_UNIX path too long.*: set TMPDIR to a folder"):
        start_replay_feed(mei_settings, VENUE, math.inf)
    assert list(folder.iterdir()) == []
