"""The benchmark `feed`: messages of a venue through the feed service to a lane.

The exchange simulator, `python -m live.feed` and the consumer are three processes on this machine. A step of the market
takes a second, and its last messages leave the simulator at its end, so the time from there to `StepClosed` at the
consumer is the whole lag. The part of it between feed and lane is measured in a run of its own.
"""

import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from live.feed_client import FeedClient, connect, subscription
from live.feed_protocol import Subscribe
from live.feed_server import FeedServer, Identity, Taken, listen
from mei_pipeline.bench.portfolio import symbol_names
from mei_pipeline.bench.processes import cpu_s, resident_mb
from mei_pipeline.candles.intervals import interval_ms
from mei_pipeline.candles.sources.synthetic import DEFAULT_FROM_MS
from mei_pipeline.errors import Fatal
from mei_pipeline.execution.events import BarClosed, BarMissing, CaughtUp, FeedEvent, FundingRate, StepClosed
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import CHECKOUT, Settings, child_environment

SYMBOLS = 50
INTERVALS = ("15m", "1h")
SECONDS = 600
SPEED = 900.0  # a step of 15 minutes per second
UPDATES = 10.0  # of 100 candle streams, and a message of each of 50 contexts per second

_VENUE, _NETWORK = "synthetic", "simulator"
_START_S = 60.0
_STEPS = 200
_PAUSE_S = 0.02


@dataclass(frozen=True)
class FeedFigures:
    """Figures of the feed of a venue on this machine.

    Attributes:
        seconds: Length of the measurement.
        symbols: Symbols that the lane follows.
        messages_per_s: Messages that the feed received from the simulator, per second.
        steps: Steps that the lane received.
        missing_steps: Steps of the span that it did not receive.
        unconfirmed_bars: Bars that it received as unconfirmed or unknown.
        losses: Connections that the feed lost, also because its inbox overflowed.
        lag_p50_ms: From the end of a step at the simulator to `StepClosed` at the lane, median.
        lag_p99_ms: The same, 99th percentile.
        feed_to_lane_p50_ms: From the feed's server to the lane, for a step of all symbols, median.
        feed_to_lane_p99_ms: The same, 99th percentile.
        feed_cpu_pct: Processor time of the feed, in percent of one processor.
        feed_mb: Resident memory of the feed after half of the time, when it keeps as many bars as it ever does.
        feed_end_mb: The same at the end.
    """

    seconds: int
    symbols: int
    messages_per_s: float
    steps: int
    missing_steps: int
    unconfirmed_bars: int
    losses: int
    lag_p50_ms: float
    lag_p99_ms: float
    feed_to_lane_p50_ms: float
    feed_to_lane_p99_ms: float
    feed_cpu_pct: float
    feed_mb: float
    feed_end_mb: float

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


def run_feed(settings: Settings, seconds: int = SECONDS, progress: Progress = silent) -> FeedFigures:
    """Measure the feed in a temporary home.

    Args:
        settings: Settings, for the environment of the processes.
        seconds: Length of the measurement.
        progress: Called once a second.

    Raises:
        Fatal: A process does not start.
    """
    with tempfile.TemporaryDirectory(prefix="mei-bench-feed-") as folder:
        home = settings.model_copy(update={"home": Path(folder)})
        alone = _feed_to_lane(Path(folder))
        errors = Path(folder) / "feed.log"
        with _simulator(home) as (url, start_ms), errors.open("wb") as log, _feed(home, url, log) as (pid, path):
            wanted = subscription(_VENUE, _NETWORK, symbol_names(SYMBOLS), INTERVALS, start_ms)
            client = connect(path, wanted)
            try:
                measured = _follow(client, url, pid, seconds, progress)
            finally:
                client.close()
        losses = errors.read_text().count("lost") if errors.exists() else 0
    return FeedFigures(
        seconds=seconds,
        symbols=SYMBOLS,
        messages_per_s=measured.messages / seconds,
        steps=len(measured.lags_ms),
        missing_steps=measured.missing,
        unconfirmed_bars=measured.unconfirmed,
        losses=losses,
        lag_p50_ms=statistics.median(measured.lags_ms),
        lag_p99_ms=float(np.percentile(measured.lags_ms, 99)),
        feed_to_lane_p50_ms=statistics.median(alone),
        feed_to_lane_p99_ms=float(np.percentile(alone, 99)),
        feed_cpu_pct=100.0 * measured.cpu_s / seconds,
        feed_mb=measured.first_mb,
        feed_end_mb=measured.last_mb,
    )


class _Measured(NamedTuple):
    lags_ms: list[float]
    missing: int
    unconfirmed: int
    messages: int
    cpu_s: float
    first_mb: float
    last_mb: float


def _follow(client: FeedClient, url: str, pid: int, seconds: int, progress: Progress) -> _Measured:
    """Follow the feed like a lane, for some seconds after its snapshot."""
    lags_ms: list[float] = []
    steps_ms: list[int] = []
    unconfirmed = 0
    while not any(isinstance(event, CaughtUp) for event in client.read(_START_S)):
        client.ack()
    offset_ms, speed = _clock(url)
    begin_s, messages, used_s = time.monotonic(), _messages(url), cpu_s(pid)
    first_mb = 0.0
    while (elapsed_s := time.monotonic() - begin_s) < seconds:
        for event in client.read(0.5):
            if isinstance(event, StepClosed):
                end_s = (event.step_ms + interval_ms(INTERVALS[0]) - offset_ms) / 1000.0 / speed
                lags_ms.append(1000.0 * (time.monotonic() - end_s))
                steps_ms.append(event.step_ms)
                progress(min(int(elapsed_s), seconds), seconds, "feed: seconds")
            unconfirmed += isinstance(event, BarMissing) or (isinstance(event, BarClosed) and not event.confirmed)
        client.ack()
        if not first_mb and elapsed_s >= seconds / 2:
            first_mb = resident_mb(pid)
    if not steps_ms:
        raise Fatal("bench feed: no step arrived; run it for longer")
    expected = (steps_ms[-1] - steps_ms[0]) // interval_ms(INTERVALS[0]) + 1
    return _Measured(
        lags_ms=lags_ms,
        missing=expected - len(set(steps_ms)),
        unconfirmed=unconfirmed,
        messages=_messages(url) - messages,
        cpu_s=cpu_s(pid) - used_s,
        first_mb=first_mb,
        last_mb=resident_mb(pid),
    )


@contextmanager
def _process(command: Sequence[str], home: Settings, **pipes: Any) -> Generator["subprocess.Popen[str]"]:
    environment = child_environment(home) | {"MEI_HOME": str(home.home)}
    with subprocess.Popen(  # noqa: S603 - modules of this checkout
        [sys.executable, "-m", *command], cwd=CHECKOUT, env=environment, text=True, **pipes
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def _simulator(home: Settings) -> Generator[tuple[str, int]]:
    """Run a simulator; yield its address and the open time of a step that lies before its clock."""
    command = ["mei_pipeline.hyperliquid.simulator", "--port", "0", "--synthetic", "7", "--speed", str(SPEED)]
    command += ["--symbols", ",".join(symbol_names(SYMBOLS)), "--intervals", ",".join(INTERVALS)]
    command += ["--updates", str(UPDATES), "--from", "2025-01-02T00:00"]
    with _process(command, home, stdout=subprocess.PIPE) as process:
        line = process.stdout.readline() if process.stdout is not None else ""
        if "http://" not in line:
            raise Fatal(f"bench feed: the simulator does not start: {line}")
        url = "http://" + line.partition("http://")[2].split()[0].rstrip(":")
        yield url, DEFAULT_FROM_MS + 24 * 3_600_000


@contextmanager
def _feed(home: Settings, url: str, log: IO[bytes]) -> Generator[tuple[int, Path]]:
    """Run the feed service; yield its process id and its socket."""
    path = home.home / "feed"
    command = ["live.feed", "--network", _NETWORK, "--simulator-url", url, "--venue", _VENUE, "--socket", str(path)]
    with _process(command, home, stderr=log) as process:
        deadline_s = time.monotonic() + _START_S
        while not path.exists():
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise Fatal("bench feed: the feed does not start")
            time.sleep(0.05)
        yield process.pid, path


def _ask(url: str, kind: str) -> Any:
    request = urllib.request.Request(f"{url}/simulator", json.dumps({"type": kind}).encode())  # noqa: S310 - loopback
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - as above
        return json.load(answer)


def _clock(url: str) -> tuple[float, float]:
    """Return the market's time at zero of this machine's monotonic clock, in milliseconds, and the speed."""
    readings = []
    for _ in range(5):
        before_s = time.monotonic()
        answer = _ask(url, "clock")
        after_s = time.monotonic()
        middle_s = (before_s + after_s) / 2.0
        readings.append((after_s - before_s, answer["now_ms"] - middle_s * 1000.0 * answer["speed"], answer["speed"]))
    _, offset_ms, speed = min(readings)
    return offset_ms, speed


def _messages(url: str) -> int:
    return int(_ask(url, "counters")["messages"]["sent"])


class _StampedSteps:
    """A stream that hands out a step of all symbols when it is told to, and notes the time."""

    realtime = True

    def __init__(self) -> None:
        symbols = symbol_names(SYMBOLS)
        bars = {"open": 100.0, "high": 101.25, "low": 99.5, "close": 100.75, "volume": 12345.678}
        self._bars: list[FeedEvent] = [BarClosed(symbol=name, interval="15m", open_ms=0, **bars) for name in symbols]
        self._bars += [FundingRate(symbol=name, due_ms=0, rate=0.0000125) for name in symbols]
        self._present = tuple(symbols)
        self.sent_s: list[float] = []
        self.asked = 0

    def opened(self, wanted: Subscribe, now_s: float) -> "_StampedSteps":  # noqa: ARG002 - as the protocol says
        return self

    def snapshot(self) -> Sequence[FeedEvent]:
        return [CaughtUp()]

    def take(self, now_s: float, room: int) -> Taken:  # noqa: ARG002 - as the protocol says
        if self.asked <= len(self.sent_s):
            return Taken((), float("inf"))
        self.sent_s.append(time.monotonic())
        return Taken([[*self._bars, StepClosed(step_ms=len(self.sent_s), present=self._present)]], float("inf"))

    def now_ms(self, now_s: float) -> int:  # noqa: ARG002 - as the protocol says
        return 0


def _feed_to_lane(folder: Path) -> list[float]:
    """Return the times in milliseconds from a server to its consumer, for steps of all symbols one after the other."""
    stream, ended = _StampedSteps(), threading.Event()
    reader, writer = os.pipe()
    with listen(folder / "alone") as listener:
        server = FeedServer(listener, Identity(_VENUE, _NETWORK, "bench"), stream.opened)

        def serve() -> None:
            while not ended.is_set():
                server.poll(0.5, [reader])
                while select.select([reader], [], [], 0.0)[0]:
                    os.read(reader, 1)
                    stream.asked += 1

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            client = connect(folder / "alone", Subscribe(protocol=1, venue=_VENUE, network=_NETWORK))
            client.read(1.0)
            times = [_one_step(client, stream, writer) for _ in range(_STEPS)]
            client.close()
        finally:
            ended.set()
            thread.join()
            server.close()
            os.close(reader)
            os.close(writer)
    return times


def _one_step(client: FeedClient, stream: _StampedSteps, writer: int) -> float:
    """Ask the stream for a step; return the milliseconds from its stamp to its end at the consumer."""
    time.sleep(_PAUSE_S)
    os.write(writer, b"1")
    while not any(isinstance(event, StepClosed) for event in client.read(1.0)):
        pass
    return 1000.0 * (time.monotonic() - stream.sent_s[-1])
