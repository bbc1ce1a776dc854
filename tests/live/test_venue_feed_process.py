"""The feed of a venue as a process, its errors, and a service under load and faults."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from market_kit import HOUR_MS, START_MS, SYMBOLS, VENUE, fill_lake
from venue_chain_kit import read_until, run, running_chain
from venue_feed_kit import T0

from live.feed import main
from live.feed_client import connect, subscription
from live.feed_protocol import encode
from live.feed_server import ConnectionLimits
from live.lane_feed import socket_path
from live.venue_feed.clock import VenueClock
from live.venue_feed.service import Reporter
from live.venue_feed.venue_clock import ClockReading, better, check_clock
from mei_pipeline.errors import ConfigError
from mei_pipeline.execution.events import StepClosed
from mei_pipeline.hyperliquid.inbox import Lost, RefusedStream, Unreadable
from mei_pipeline.hyperliquid.simulator.loading import load_lake
from mei_pipeline.settings import CHECKOUT, Settings


def invoke(home: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of the command in a home."""
    result = CliRunner().invoke(main, arguments, env={"MEI_HOME": str(home)})
    return result.exit_code, result.output


@contextmanager
def started(*command: str, home: Path) -> Generator[subprocess.Popen[str]]:
    """A process of this checkout."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=CHECKOUT,
        env={**os.environ, "MEI_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def test_a_feed_process_serves_a_simulator_process(mei_settings: Settings) -> None:
    fill_lake(mei_settings, days=10)
    home = mei_settings.home
    start_ms = START_MS + 200 * HOUR_MS
    simulator = ("mei_pipeline.hyperliquid.simulator", "--port", "0", "--venue", VENUE, "--speed", "7200")
    with started(*simulator, "--from", "2025-01-09T07:30Z", home=home) as venue:
        url = next(found[0] for line in venue.stdout if (found := re.findall(r"http://[\d.]+:\d+", line)))
        command = ("live.feed", "--network", "simulator", "--venue", VENUE, "--simulator-url", url)
        with started(*command, home=home) as feed:
            assert "consumers can connect" in feed.stdout.readline()
            path = socket_path(mei_settings, VENUE, "simulator")
            wanted = subscription(VENUE, "simulator", SYMBOLS, ["1h"], start_ms)
            events = read_until(path, wanted, lambda event: isinstance(event, StepClosed))
            assert events[-1].present == SYMBOLS
            code, output = invoke(home, "--network", "simulator", "--venue", VENUE, "--simulator-url", url)
            assert code == 5, output
            assert "feed of test on simulator" in output
            for other, text in (
                (("binance", "simulator"), "not venue binance"),
                ((VENUE, "mainnet"), "on network mainnet"),
            ):
                with pytest.raises(ConfigError, match=text):
                    connect(path, subscription(*other, SYMBOLS, ["1h"], start_ms))
            feed.send_signal(signal.SIGINT)
            assert feed.wait(20) == 0
            assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--network", "moon"), 2, "allowed: mainnet, testnet, simulator"),
        (("--network", "simulator", "--simulator-url", "http://example.com:1"), 2, "not an address of this machine"),
        (("--network", "mainnet", "--simulator-url", "http://127.0.0.1:1"), 2, "leave the option out"),
        (
            ("--network", "simulator", "--simulator-url", "http://127.0.0.1:1", "--patience", "0"),
            5,
            "no exchange simul",
        ),
    ],
)
def test_a_wrong_option_is_one_clear_error(tmp_path: Path, arguments: tuple[str, ...], code: int, text: str) -> None:
    status, output = invoke(tmp_path, *arguments)
    assert (status, output.count("error:")) == (code, 1), output
    assert text in output


def test_a_folder_of_sockets_that_can_not_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "feeds").write_text("a file")
    status, output = invoke(tmp_path, "--network", "simulator", "--patience", "0")
    assert (status, output.count("error:")) == (3, 1), output
    assert "feeds: can't be made: " in output


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12_345)
    status, output = invoke(tmp_path, "--network", "simulator", "--patience", "0")
    assert (status, output.count("error:")) == (2, 1), output
    assert "another user owns it" in output


def test_a_clock_that_is_off_is_an_error() -> None:
    clock = VenueClock(10.0, float(T0))
    check_clock(clock, 10.0, T0 / 1000.0 + 59.0)
    with pytest.raises(ConfigError, match=r"clock: this machine's is off by \+300 s: it shows 2026-01-01 00:05Z"):
        check_clock(clock, 10.0, T0 / 1000.0 + 300.0)


def test_the_better_of_two_readings_is_kept_unless_they_contradict_each_other() -> None:
    good = ClockReading(VenueClock(0.0, 1000.0), 0.001)
    rough = ClockReading(VenueClock(10.0, 11_040.0), 0.05)
    assert better(good, rough, 10.0) is good
    jumped = ClockReading(VenueClock(10.0, 99_000.0), 0.05)
    assert better(good, jumped, 10.0) is jumped
    assert better(rough, good, 10.0) is good


def test_reports_are_not_repeated_within_a_minute() -> None:
    said: list[str] = []
    now_s = [0.0]
    reporter = Reporter(said.append, lambda: now_s[0])
    reporter.say(["a", "a", "b"])
    now_s[0] = 61.0
    reporter.say(["a"])
    assert said == ["a", "b", "a"]


def test_items_of_the_socket_reach_the_core_and_the_reports(mei_settings: Settings, tmp_path: Path) -> None:
    loaded = load_lake(fill_lake(mei_settings, days=10))

    async def scenario() -> list[str]:
        async with running_chain(tmp_path, loaded, VENUE, 1.0) as chain:
            for item in (Lost("lost"), RefusedStream(None, "refused"), Unreadable("unreadable")):
                chain.service.inbox.put(item)
            await asyncio.sleep(0.2)
            return chain.said

    assert {"lost", "refused", "unreadable"} <= set(run(scenario()))


def test_a_consumer_that_stops_reading_is_told_so_and_others_go_on(mei_settings: Settings, tmp_path: Path) -> None:
    loaded = load_lake(fill_lake(mei_settings, days=10))
    start_ms = loaded.start_ms // HOUR_MS * HOUR_MS

    async def scenario() -> tuple[bytes, int]:
        limits = ConnectionLimits(queue_bytes=50_000)
        async with running_chain(tmp_path, loaded, VENUE, 7200.0, limits=limits) as chain:
            service = chain.service
            idle = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            idle.connect(str(chain.path))
            idle.sendall(encode([subscription(VENUE, "simulator", SYMBOLS, ["1h"], start_ms)]))
            wanted = subscription(VENUE, "simulator", SYMBOLS, ["1h"], start_ms)
            reading = asyncio.create_task(
                asyncio.to_thread(
                    read_until,
                    chain.path,
                    wanted,
                    lambda event: isinstance(event, StepClosed) and event.step_ms >= start_ms + 4 * HOUR_MS,
                )
            )
            events = await reading
            slow = service.core.streams[0]
            for _ in range(4000):
                slow.add_news(events[-1])
            del slow
            await asyncio.sleep(0.1)
            idle.settimeout(5.0)
            received = await asyncio.to_thread(_everything, idle)
            return received, len([event for event in events if isinstance(event, StepClosed)])

    received, steps = run(scenario())
    assert b"the consumer is too slow" in received.splitlines()[-1]
    assert steps == 5


def _everything(connection: socket.socket) -> bytes:
    received = b""
    with connection:
        while chunk := connection.recv(65536):
            received += chunk
    return received
