"""A lane subscribes to the feed that its file or an option names, and to no other network."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from math import inf
from pathlib import Path

import pytest
from session_kit import LANE, START_MS, TO_MS, Steps, left_in, run_session

from live.feed_protocol import Subscribe
from live.feed_server import FeedServer, Identity, listen
from live.lane_feed import Feed, network_of, socket_path, venue_opener
from live.lane_files import read_lane_config
from live.replay_feed import Span, lake_streams
from live.run import run
from live.running import LaneOptions, Watch
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.candles.lake import Lake
from mei_pipeline.errors import ConfigError, MeiError
from mei_pipeline.settings import Settings


@contextmanager
def served(settings: Settings, network: str) -> Generator[Path]:
    """A feed of the lake at the socket of a venue's feed, in a thread of this process."""
    path = socket_path(settings, "synthetic", network)
    path.parent.mkdir(parents=True, exist_ok=True)
    ended = threading.Event()
    with listen(path) as listener:
        streams = lake_streams(Lake(settings.lake), inf, Span(to_ms=TO_MS))
        server = FeedServer(listener, Identity("synthetic", network, "boot"), streams)

        def serve() -> None:
            while not ended.is_set():
                server.poll(0.05)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path
        finally:
            ended.set()
            thread.join()
            server.close()


def edit(settings: Settings, text: str) -> None:
    path = settings.config / "lanes" / f"{LANE}.yaml"
    path.write_text(path.read_text() + text)


def test_a_lane_follows_the_feed_of_a_venue(lane_home: Settings, undisturbed: dict[str, object]) -> None:
    with served(lane_home, "simulator"):
        result = run_session(lane_home, open_feed=venue_opener(lane_home), feed="simulator")
    assert "the replay ends" in result.reason
    found = left_in(lane_home)
    assert found["tables"] == undisturbed["tables"]


def test_the_lane_file_names_the_feed(
    lane_home: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("live.run.read_settings", lambda: lane_home)
    edit(lane_home, "feed: hyperliquid\n")
    assert run(["--lane", LANE], Watch()) == 2
    assert "network: missing; the feed hyperliquid needs mainnet or testnet" in capfd.readouterr().err
    for option in ("--from", "--to"):
        assert run(["--lane", LANE, option, "2025-01-03"], Watch()) == 2
        assert f"{option}: the feed hyperliquid has a time of its own" in capfd.readouterr().err
    assert run(["--lane", LANE, "--speed", "max"], Watch()) == 2
    assert run(["--lane", LANE, "--feed", "mainnet"], Watch()) == 2


def test_networks_are_never_guessed(lane_home: Settings) -> None:
    known = read_lane_config(lane_home, LANE)
    assert network_of(LANE, known, "replay") == "replay"
    assert network_of(LANE, known, "simulator") == "simulator"
    named = known.model_copy(update={"network": "testnet"})
    assert network_of(LANE, named, "hyperliquid") == "testnet"
    for feed in ("replay", "simulator"):
        with pytest.raises(ConfigError, match="network: testnet, but the feed"):
            network_of(LANE, named, feed)


def test_a_feed_of_another_network_is_refused(lane_home: Settings) -> None:
    with served(lane_home, "mainnet") as path:
        path.rename(socket_path(lane_home, "synthetic", "simulator"))
        with pytest.raises(MeiError, match="network"):
            run_session(lane_home, open_feed=venue_opener(lane_home), feed="simulator")


def test_a_missing_feed_is_waited_for(lane_home: Settings) -> None:
    watch = Watch()
    alerts: list[str] = []
    watch.alert = lambda alert: alerts.append(alert.text)

    def stop(_seconds: float) -> None:
        watch.stopping = True

    watch.sleep = stop
    with pytest.raises(MeiError):
        run_session(lane_home, watch, open_feed=venue_opener(lane_home), feed="simulator")
    assert len(alerts) == 1
    assert "no feed listens" in alerts[0]
    assert "python -m live.feed" in alerts[0]


def test_a_home_with_a_long_path_has_its_socket_elsewhere(tmp_path: Path) -> None:
    near, far = (Settings(home=Path("/home") / name, config=tmp_path) for name in ("a", "b" * 120))
    assert socket_path(near, "v", "mainnet") == near.feeds / "v.mainnet"
    found = socket_path(far, "v", "mainnet")
    assert len(str(found)) <= 107
    assert found == socket_path(far, "v", "mainnet") != socket_path(far, "v", "testnet")
    with listen_in(found):
        assert found.exists()


@contextmanager
def listen_in(path: Path) -> Generator[None]:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with listen(path):
        yield
    path.unlink()


def test_commits_to_a_feed_of_a_venue_wait_for_the_disk() -> None:
    assert LaneOptions("a", speed=inf).is_durable is False
    assert LaneOptions("a", speed=1.0).is_durable is True
    assert LaneOptions("a", feed="simulator").is_durable is True
    assert LaneOptions("a", feed="simulator", durable=False).is_durable is False


def test_a_new_lane_on_a_venue_begins_at_the_end_of_the_lake(lane_home: Settings) -> None:
    asked: list[Subscribe] = []

    @contextmanager
    def open_feed(wanted: Subscribe) -> Generator[Feed]:
        asked.append(wanted)
        yield Steps([], 1)

    run_session(lane_home, open_feed=open_feed, feed="simulator", from_ms=None)
    [wanted] = asked
    assert (wanted.network, wanted.from_ms) == ("simulator", START_MS + 4 * DAY_MS)
