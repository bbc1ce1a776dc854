"""A lane whose disk is full or fails goes on from its journal when the disk works again, and loses nothing."""

import resource
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import pytest
from disk_kit import refusing
from session_kit import FROM_MS, LANE, feed_of, left_in, run_session

from live.running import Watch
from mei_pipeline.errors import DataError, Retryable
from mei_pipeline.execution.commands import Alert
from mei_pipeline.execution.journal.opening import journal_path, lock_path
from mei_pipeline.settings import Settings

FULL = 28  # ENOSPC
FAILS = 5  # EIO


@dataclass
class Report:
    """What a watch was told."""

    alerts: list[Alert] = field(default_factory=list)
    naps: list[float] = field(default_factory=list)

    def watch(self, **changes: Any) -> Watch:
        return Watch(**{"alert": self.alerts.append, "sleep": self.naps.append, **changes})


def failing(name: str, number: int) -> Any:
    """A hook that fails at the n-th place of a name, as a full disk does there."""
    left = number

    def hook(place: str) -> None:
        nonlocal left
        left -= place == name
        if place == name and left == 0:
            raise Retryable("the disk is full")

    return hook


@pytest.mark.parametrize("number", [1, 4, 14, 26])
def test_a_lane_goes_on_after_the_nth_commit_failed(
    lane_home: Settings, undisturbed: dict[str, Any], number: int
) -> None:
    report = Report()
    result = run_session(lane_home, report.watch(fault_hook=failing("journal commit", number)))
    assert left_in(lane_home) == undisturbed
    assert result.steps == 14
    assert [alert.key for alert in report.alerts] == ["session"]
    assert sum(report.naps) == 1.0


@pytest.fixture
def limit_of_files() -> Generator[Callable[[int], None]]:
    """Sets the largest size of a file: writes beyond it fail, as on a disk without room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 40_000, 100_000, 300_000])
def test_a_lane_goes_on_when_a_full_disk_has_room_again(
    lane_home: Settings, undisturbed: dict[str, Any], limit_of_files: Callable[[int], None], room: int
) -> None:
    run_session(lane_home, open_feed=feed_of(lane_home, FROM_MS))
    report = Report()

    def free_some(seconds: float) -> None:
        report.naps.append(seconds)
        if len(report.naps) == 8:
            limit_of_files(1 << 30)

    limit_of_files(room)
    result = run_session(lane_home, report.watch(sleep=free_some))
    assert result.steps == 14
    assert left_in(lane_home) == undisturbed
    assert {alert.key for alert in report.alerts} == {"session"}


@pytest.mark.parametrize(("error", "text"), [(FULL, "No space left"), (FAILS, "Input/output error")])
def test_a_lane_trades_on_without_its_status_file(
    lane_home: Settings, undisturbed: dict[str, Any], error: int, text: str
) -> None:
    report = Report()
    with refusing(lambda path, writes: error if writes and "status.json" in path.name else 0):
        run_session(lane_home, report.watch())
    assert left_in(lane_home) == undisturbed
    [alert] = report.alerts
    assert alert.key == "status-file"
    assert "status.json: not written" in alert.text
    assert text in alert.text


def test_a_lane_does_not_start_without_its_lock(lane_home: Settings) -> None:
    lock = lock_path(lane_home.lanes, LANE)
    with refusing(lambda path, writes: FAILS if writes and path == lock else 0), pytest.raises(DataError) as error:
        run_session(lane_home)
    assert str(lock) in str(error.value)
    assert not journal_path(lane_home.lanes, LANE).exists()


def test_a_lane_that_is_stopped_while_its_disk_is_full_ends(lane_home: Settings) -> None:
    watch = Watch(fault_hook=failing("journal commit", 5))

    def stop(_seconds: float) -> None:
        watch.stopping = True

    watch.sleep = stop
    with pytest.raises(Retryable, match="the disk is full"):
        run_session(lane_home, watch)


def test_pauses_grow_while_nothing_succeeds(lane_home: Settings) -> None:
    report = Report()

    def never(place: str) -> None:
        if place == "journal commit" and len(report.naps) < 200:
            raise Retryable("the disk is full")

    run_session(lane_home, report.watch(fault_hook=never))
    pauses = [alert.text.rsplit(" ", 2)[1] for alert in report.alerts]
    assert pauses == ["1", "2", "4", "8", "16", "30"]
