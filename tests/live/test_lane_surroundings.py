"""A lane on a read-only disk, under a log that is rotated, and over thousands of steps."""

import ctypes
import os
import shutil
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any

import pytest
from paper_kit import CROSS
from session_kit import FROM_MS, LANE, START_MS, SYMBOLS, feed_of, left_in, run_session

from live.bench_home import home_settings, lane_config, make_lane_home
from live.feed_protocol import FeedEnded, Subscribe
from live.lane_feed import Feed
from live.run import log_watch
from live.running import LaneOptions, Watch
from live.session import run_lane
from mei_pipeline.candles.intervals import DAY_MS, HOUR_MS
from mei_pipeline.candles.lake import Lake
from mei_pipeline.candles.sources.synthetic import SyntheticMarket
from mei_pipeline.errors import DataError
from mei_pipeline.execution.events import FeedEvent
from mei_pipeline.execution.lake_events import open_slice, snapshot_of, steps_of
from mei_pipeline.settings import Settings

CLONE_NEWNS, MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 1, 32, 4096, 16384, 1 << 18


def in_own_mounts(check: Callable[[], None]) -> None:
    """Run a check in a thread with mounts of its own; skip the test where that is not allowed."""

    def run() -> bool:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
            return False
        mount("none", "/", MS_REC | MS_PRIVATE)
        check()
        return True

    with ThreadPoolExecutor(1) as pool:
        if not pool.submit(run).result():
            pytest.skip("needs the right to mount")


def mount(source: str, target: str | Path, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), str(target).encode(), None, flags, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(target))


@pytest.mark.parametrize("started", [False, True], ids=["new", "recovered"])
def test_a_lane_on_a_read_only_disk_ends_and_goes_on_when_it_can_write(
    lane_home: Settings, undisturbed: dict[str, Any], started: bool
) -> None:
    if started:
        run_session(lane_home, open_feed=feed_of(lane_home, FROM_MS + 8 * HOUR_MS))
    folder = lane_home.lanes / LANE

    def check() -> None:
        mount(str(folder), folder, MS_BIND)
        mount("none", folder, MS_BIND | MS_REMOUNT | MS_RDONLY)
        with pytest.raises(DataError) as refused:
            run_session(lane_home)
        for word in (str(folder), "Read-only file system", "mount the disk writable"):
            assert word in str(refused.value)
        mount("none", folder, MS_BIND | MS_REMOUNT)
        run_session(lane_home)
        assert left_in(lane_home) == undisturbed

    in_own_mounts(check)


@pytest.mark.parametrize("rotate", ["rename", "truncate", "remove"])
def test_a_lane_whose_log_is_rotated_trades_on(
    lane_home: Settings, undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rotate: str
) -> None:
    log, rotated = tmp_path / "lane.log", tmp_path / "lane.log.1"
    watch = log_watch()

    def hook(place: str) -> None:
        if place == "journal commit" and not rotated.exists():
            shutil.copy(log, rotated)
            {"rename": lambda: log.rename(rotated), "truncate": lambda: os.truncate(log, 0), "remove": log.unlink}[
                rotate
            ]()
        watch.report("a line")

    watch.fault_hook = hook
    with log.open("a") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        run_session(lane_home, watch)
    assert left_in(lane_home) == undisturbed
    rest = {"rename": rotated, "truncate": log, "remove": rotated}[rotate].read_bytes()
    assert rest.count(b"\n") > 1
    assert b"\0" not in rest


@pytest.mark.long
def test_the_memory_of_a_lane_does_not_grow(home: Path) -> None:
    days = 150
    settings = home_settings(home, home / "cache")
    market = SyntheticMarket(seed=5, symbols=SYMBOLS, to_ms=START_MS + days * DAY_MS)
    make_lane_home(settings, market, lane_config("ema_cross", SYMBOLS, CROSS))
    used: list[tuple[int, int, int]] = []

    @contextmanager
    def open_feed(wanted: Subscribe) -> Generator[Feed]:
        part = open_slice(Lake(settings.lake), wanted.venue, wanted.symbols, wanted.intervals, wanted.from_ms)

        class Lazy:
            now_ms: int | None = None

            def __init__(self) -> None:
                self._steps = chain([snapshot_of(part)], steps_of(part))

            def read(self, timeout_s: float) -> list[FeedEvent]:  # noqa: ARG002 - nothing to wait for
                events = next(self._steps, None)
                if events is None:
                    raise FeedEnded("the lake ends here")
                used.append(resources())
                return events

            def ack(self) -> None:
                pass

        yield Lazy()

    options = LaneOptions(LANE, speed=inf, from_ms=START_MS + 20 * DAY_MS, checkpoint_events=2_000)
    result = run_lane(settings, options, Watch(), open_feed)
    assert result.steps == (days - 20) * 24
    memory, files, threads = zip(*used, strict=True)
    fifth = len(used) // 5
    assert max(memory[-fifth:]) - max(memory[2 * fifth : 3 * fifth]) < 2_000_000
    assert max(files[-fifth:]) == max(files[fifth : 2 * fifth])
    assert max(threads[-fifth:]) == max(threads[fifth : 2 * fifth])


def resources() -> tuple[int, int, int]:
    """Resident bytes, open files and threads of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
