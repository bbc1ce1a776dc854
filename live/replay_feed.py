"""A feed that serves the lake: `python -m live.replay_feed --socket PATH --venue VENUE --speed N|max`.

A replay lives in the time of its market. Its steps leave at `speed` times the real speed, or as fast as the consumer
acknowledges them. While the consumer is behind, the time of the replay stands still, so no step is ever late.

Unlike the feed of a venue, a replay sends no bars in its snapshot: its consumer reads earlier bars from the lake.
"""

import contextlib
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from pathlib import Path

import click

from live.feed_protocol import Subscribe
from live.feed_server import FeedServer, Identity, OpenStream, Taken, listen
from mei_pipeline import streams
from mei_pipeline.candles.intervals import iso
from mei_pipeline.candles.lake import Lake
from mei_pipeline.errors import ConfigError, MeiError
from mei_pipeline.execution.events import FeedEvent
from mei_pipeline.execution.lake_events import EventSlice, open_slice, snapshot_of, steps_of
from mei_pipeline.settings import CHECKOUT, Settings, one_thread_for_children, read_settings
from mei_pipeline.text import printable
from mei_pipeline.times import Time

NETWORK = "replay"
"""Network of every replay."""

_POLL_S = 60.0
_STOP_S = 5.0
_STDIN = 0


@dataclass(frozen=True)
class Span:
    """Steps that a replay serves: the earliest open time and the latest end, UTC milliseconds; None for no bound."""

    from_ms: int | None = None
    to_ms: int | None = None


class LakeStream:
    """Steps of a part of a lake at the pace of a replay; see `feed_server.Stream`."""

    realtime = False

    def __init__(self, part: EventSlice, speed: float, now_s: float, to_ms: int | None = None) -> None:
        """Begin at the first step.

        Args:
            part: The steps.
            speed: Seconds of the market per second of the clock; infinite for no limit.
            now_s: Present time of the server's clock.
            to_ms: End of the replay as it was chosen, UTC milliseconds; None for the end of the lake.
        """
        self._part = part
        self._to_ms = to_ms
        self._speed = speed
        self._steps = steps_of(part)
        self._next = next(self._steps, None)
        self._close_ms = part.from_ms + part.step_ms
        self._market_ms = float(part.from_ms)
        self._seen_s = now_s

    def snapshot(self) -> Sequence[FeedEvent]:
        """Return the terms in force and `CaughtUp`."""
        return snapshot_of(self._part)

    def take(self, now_s: float, room: int) -> Taken:
        """Return the steps that are due, at most `room`."""
        if self._speed < inf:
            self._market_ms += (now_s - self._seen_s) * self._speed * 1000.0
        self._seen_s = now_s
        due: list[list[FeedEvent]] = []
        while self._next is not None and len(due) < room and self._is_due():
            due.append(self._next)
            self._market_ms = max(self._market_ms, float(self._close_ms))
            self._next = next(self._steps, None)
            self._close_ms += self._part.step_ms
        if self._next is None:
            return Taken(due, inf, self._end())
        if self._is_due():
            # The consumer is behind, and the market waits for it.
            self._market_ms = min(self._market_ms, float(self._close_ms))
            return Taken(due, inf)
        return Taken(due, (self._close_ms - self._market_ms) / self._speed / 1000.0)

    def now_ms(self, now_s: float) -> int:  # noqa: ARG002 - `take` has moved the market to this time
        """Return the time of the market."""
        return int(self._market_ms)

    def _end(self) -> str:
        end_ms = self._part.end_ms
        if self._to_ms is not None and self._to_ms < end_ms + self._part.step_ms:
            return f"the replay ends at {iso(end_ms)}, the last step before --to"
        return f"the lake ends at {iso(end_ms)}; run `mei ingest` for later bars"

    def _is_due(self) -> bool:
        return self._speed == inf or self._close_ms <= self._market_ms


def lake_streams(lake: Lake, speed: float, span: Span) -> OpenStream:
    """Return the function that opens the stream of a subscription to a lake."""

    def open_stream(wanted: Subscribe, now_s: float) -> LakeStream:
        if span.from_ms is not None and wanted.from_ms < span.from_ms:
            raise ConfigError(
                f"from_ms {wanted.from_ms}, {iso(wanted.from_ms)}: this replay begins {iso(span.from_ms)}"
            )
        part = open_slice(lake, wanted.venue, wanted.symbols, wanted.intervals, wanted.from_ms, span.to_ms)
        return LakeStream(part, speed, now_s, span.to_ms)

    return open_stream


def serve_lake(listener: socket.socket, lake: Lake, venue: str, speed: float, span: Span, wake: Sequence[int]) -> None:
    """Serve a lake until a descriptor of `wake` has input or is closed."""
    server = FeedServer(listener, Identity(venue, NETWORK, secrets.token_hex(8)), lake_streams(lake, speed, span))
    try:
        while not server.poll(_POLL_S, wake):
            pass
    finally:
        server.close()


@dataclass(frozen=True)
class ReplayFeed:
    """A replay in a process of its own, and the socket at which it listens."""

    process: subprocess.Popen[bytes]
    path: Path


def start_replay_feed(settings: Settings, venue: str, speed: float, span: Span = Span()) -> ReplayFeed:
    """Start a replay of the home's lake, for one lane. It ends with this process, however this process ends.

    The socket listens at once: `feed_client.connect` waits until the process is up.

    Args:
        settings: Settings of the home.
        venue: The venue.
        speed: Seconds of the market per second; infinite for as fast as the consumer acknowledges.
        span: Steps to serve.

    Raises:
        ConfigError: The folder for temporary files has too long a path.
    """
    folder = Path(tempfile.mkdtemp(prefix="mei-feed-"))  # for this user only
    path = folder / "feed"
    try:
        listener = listen(path)
    except ConfigError as error:
        folder.rmdir()
        raise ConfigError(f"{error}: set TMPDIR to a folder with a short path") from error
    command = [sys.executable, "-m", "live.replay_feed", "--socket", str(path), "--venue", venue]
    command += ["--speed", "max" if speed == inf else repr(speed), "--lake", str(settings.lake)]
    command += [] if span.from_ms is None else ["--from", _iso_text(span.from_ms)]
    command += [] if span.to_ms is None else ["--to", _iso_text(span.to_ms)]
    with listener, one_thread_for_children():
        process = subprocess.Popen(  # noqa: S603 - the command is made above, from this environment's own module
            [*command, "--handed-over", str(listener.fileno())],
            stdin=subprocess.PIPE,  # closed when this process ends, however it ends: the sign to end as well
            cwd=CHECKOUT,
            start_new_session=True,  # Ctrl-C is for the lane, which stops its feed last
            pass_fds=[listener.fileno()],
        )
    return ReplayFeed(process, path)


def stop_replay_feed(feed: ReplayFeed) -> None:
    """End the process of a replay and remove its socket."""
    if feed.process.stdin is not None:
        feed.process.stdin.close()
    try:
        feed.process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        feed.process.kill()
        feed.process.wait()
    _remove(feed.path, private=True)


def _remove(path: Path, *, private: bool) -> None:
    """Remove a socket, and its folder if that is private to it."""
    path.unlink(missing_ok=True)
    if private:
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def _iso_text(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat()


class Speed(click.ParamType[float]):
    """A speed above zero, or `max`."""

    name = "speed"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Convert the text of an option."""
        if value == "max":
            return inf
        try:
            speed = float(value)
        except ValueError:
            speed = 0.0
        if not 0.0 < speed < inf:
            self.fail(f"{value!r}: write a number above 0, or max", param, ctx)
        return speed


@click.command()
@click.option("--socket", "path", type=click.Path(path_type=Path), required=True, help="Unix socket to listen at.")
@click.option("--venue", required=True, help="Venue of the lake to serve.")
@click.option("--speed", type=Speed(), default="max", show_default=True, help="Market seconds per second, or max.")
@click.option("--from", "from_ms", type=Time(), help="Earliest step to serve, as ISO time.")
@click.option("--to", "to_ms", type=Time(), help="End of the last step to serve, as ISO time.")
@click.option("--lake", type=click.Path(path_type=Path), help="Folder of the lake.  [default: that of MEI_HOME]")
@click.option("--handed-over", type=int, hidden=True)
def main(
    path: Path,
    venue: str,
    speed: float,
    from_ms: int | None,
    to_ms: int | None,
    lake: Path | None,
    handed_over: int | None,
) -> None:
    """Serve the bars of the lake as a feed, until Ctrl-C."""
    # A lane that starts a replay hands over the listening socket; the end of its own process closes stdin.
    private = handed_over is not None
    try:
        folder = lake if lake is not None else read_settings().lake
        with socket.socket(fileno=handed_over) if private else listen(path) as listener:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: sys.exit(0))
            try:
                serve_lake(listener, Lake(folder), venue, speed, Span(from_ms, to_ms), [_STDIN] if private else [])
            finally:
                _remove(path, private=private)
    except MeiError as error:
        click.echo(printable(f"error: {error}"), err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    streams.forgive_stderr()
    main()
