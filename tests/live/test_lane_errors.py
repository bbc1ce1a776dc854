"""Wrong input of a lane's process: one clear error and its exit code; nothing is lost, and no order is sent."""

import errno
import json
import shutil
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from disk_kit import refusing
from session_kit import FROM_MS, LANE, START_MS, SYMBOLS, Steps, feed_of, left_in, run_session

from live.bench_home import lane_config, promote_config
from live.feed_protocol import FeedBroken, FeedEnded, Subscribe
from live.lane_feed import Feed
from live.run import run
from live.running import Watch
from mei_pipeline.candles.intervals import DAY_MS, HOUR_MS, iso
from mei_pipeline.errors import ConfigError, DataError, MeiError, Refused
from mei_pipeline.execution.commands import Alert  # noqa: TC001 - of annotations
from mei_pipeline.execution.events import FeedEvent, StepClosed
from mei_pipeline.execution.journal.opening import adopt_journal, journal_path, lock_path
from mei_pipeline.files import locked
from mei_pipeline.registry.lanes import config_path, pointer_path, read_pointer_file
from mei_pipeline.settings import Settings

WINDOWS = {"indicators.ema_fast_window": 3, "indicators.ema_slow_window": 9, "entry.warmup_bars": 20}
DAMAGE = "DROP TRIGGER events_update; DELETE FROM checkpoints; UPDATE events SET body = '{' WHERE event = 'Decided'"


@pytest.fixture
def command(
    lane_home: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Runs the command, which must fail; returns the error that it prints for programs."""
    monkeypatch.setenv("MEI_CONFIG", str(lane_home.config))
    monkeypatch.setenv("MEI_CACHE", str(lane_home.cache))

    def fail(*arguments: str, lane: str = LANE, watch: Watch | None = None) -> dict[str, Any]:
        code = run(["--lane", lane, "--feed", "replay", "--json", *arguments], watch or Watch())
        printed = capsys.readouterr()
        failure = json.loads(printed.out)["error"]
        assert failure["exit_code"] == code > 0
        assert "Traceback" not in printed.err
        return failure

    return fail


def journal(settings: Settings, lane: str = LANE) -> Path:
    return journal_path(settings.lanes, lane)


def change_journal(settings: Settings, sql: str) -> bytes:
    """Change a journal behind the lane's back, and return its content then."""
    with closing(sqlite3.connect(journal(settings))) as connection:
        connection.executescript(sql)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return journal(settings).read_bytes()


def test_an_unknown_lane(command: Callable[..., dict[str, Any]], lane_home: Settings) -> None:
    failure = command(lane="benhc")
    assert (failure["kind"], failure["exit_code"]) == ("ConfigError", ConfigError.exit_code)
    assert "benhc" in failure["message"]
    assert f"known: {LANE}" in failure["message"]
    assert not (lane_home.lanes / "benhc").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--speed", "0"), ("--speed", "'0'", "a number above 0, or max")),
        (("--speed", "fast"), ("--speed", "'fast'", "a number above 0, or max")),
        (("--from", "yesterday"), ("--from", "'yesterday'", "ISO time")),
        (("--misbehave", "partial=2"), ("misbehave: partial", "'2'", "from 0 to 1")),
        (("--misbehave", "slow=0.1"), ("misbehave", "'slow'", "allowed are partial")),
        (("--from", "2025-01-02T00:30Z"), ("--from", "2025-01-02 00:30Z", "no 1h bar", "2025-01-01 00:00Z")),
        (("--from", "2025-01-01"), ("2025-01-01 00:00Z", "anchor", "start later")),
        (("--from", "2025-02-01"), ("2025-02-01 00:00Z", "2025-01-05 00:00Z", "mei ingest")),
        (("--to", "2020-01-01"), ("--to: 2020-01-01 00:00Z", LANE, "2025-01-02 00:00Z", "later")),
        (("--from", "2025-01-03", "--to", "2025-01-02T23:00Z"), ("--to: 2025-01-02 23:00Z", "2025-01-03 00:00Z")),
        (("--surprise",), ("--surprise",)),
    ],
)
def test_a_wrong_option(
    command: Callable[..., dict[str, Any]], lane_home: Settings, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    failure = command(*arguments)
    assert failure["exit_code"] in {ConfigError.exit_code, DataError.exit_code}
    for word in words:
        assert word in failure["message"]
    if journal(lane_home).exists():
        assert left_in(lane_home)["orders"] == [0, 0, 0]


def without_pointer(settings: Settings) -> None:
    pointer_path(settings.lanes, LANE).unlink()


def without_config(settings: Settings) -> None:
    pointer = read_pointer_file(settings.lanes, LANE)
    assert pointer is not None
    config_path(settings.lanes, LANE, pointer.config_id).unlink()


def with_a_changed_config(settings: Settings) -> None:
    pointer = read_pointer_file(settings.lanes, LANE)
    assert pointer is not None
    path = config_path(settings.lanes, LANE, pointer.config_id)
    path.write_text(path.read_text().replace("ema_fast_window: 3", "ema_fast_window: 4"))


def with_a_damaged_pointer(settings: Settings) -> None:
    pointer_path(settings.lanes, LANE).write_text("schema_version: 1\nlane: [\n")


def with_another_venue(settings: Settings) -> None:
    path = settings.config / "lanes" / f"{LANE}.yaml"
    path.write_text(path.read_text().replace("venue: synthetic", "venue: binance"))


def with_a_live_mode(settings: Settings) -> None:
    path = settings.config / "lanes" / f"{LANE}.yaml"
    path.write_text(path.read_text().replace("mode: paper", "mode: live"))


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (without_pointer, "Refused", (LANE, "no config is promoted", "mei registry promote")),
        (without_config, "DataError", ("configs", "missing", "hand-over")),
        (with_a_changed_config, "DataError", ("configs",)),
        (with_a_damaged_pointer, "DataError", ("promoted.yaml", "not YAML")),
        (with_another_venue, "Refused", ("venue", "synthetic", "binance")),
        (with_a_live_mode, "Refused", (LANE, "mode live")),
    ],
)
def test_a_new_lane_with_wrong_files_leaves_no_journal(
    command: Callable[..., dict[str, Any]],
    lane_home: Settings,
    change: Callable[[Settings], None],
    kind: str,
    words: tuple[str, ...],
) -> None:
    change(lane_home)
    failure = command()
    assert failure["kind"] == kind
    for word in words:
        assert word in failure["message"]
    assert not journal(lane_home).exists()


def test_a_lane_with_a_journal_goes_on_without_its_pointer(lane_home: Settings, undisturbed: dict[str, Any]) -> None:
    run_session(lane_home, open_feed=feed_of(lane_home, FROM_MS + 8 * HOUR_MS))
    without_pointer(lane_home)
    alerts: list[Alert] = []
    run_session(lane_home, Watch(alert=alerts.append))
    assert [alert.key for alert in alerts] == ["promoted-file"]
    assert left_in(lane_home) == undisturbed


@pytest.mark.parametrize(
    ("sql", "kind", "words"),
    [
        ("UPDATE meta SET lane = 'paper9'", "Refused", ("lane paper9", LANE)),
        ("UPDATE meta SET machine_id = 'ff'", "Refused", ("another machine", "id ff", "take-over")),
        ("UPDATE meta SET venue = 'binance'", "Refused", ("venue binance", "synthetic")),
        ("UPDATE meta SET feed = 'simulator'", "Refused", ("feed simulator", "replay")),
        ("PRAGMA user_version = 99", "DataError", ("99", "newer MEI")),
        ("PRAGMA application_id = 5", "DataError", ("another program",)),
        ("DROP TABLE events", "DataError", ("events",)),
        (
            DAMAGE,
            "DataError",
            ("event", "backup"),
        ),
    ],
)
def test_a_wrong_journal_is_left_as_it_is(
    command: Callable[..., dict[str, Any]], lane_home: Settings, sql: str, kind: str, words: tuple[str, ...]
) -> None:
    run_session(lane_home, open_feed=feed_of(lane_home, FROM_MS + 3 * HOUR_MS))
    content = change_journal(lane_home, sql)
    failure = command()
    assert failure["kind"] == kind
    for word in (str(journal(lane_home)), *words):
        assert word in failure["message"]
    assert journal(lane_home).read_bytes() == content


def die_and_lose_the_log(settings: Settings, *, durable: bool, keep: bool = False) -> None:
    """Leave the files of a lane that was killed, without the log of its journal unless it is kept."""
    kept = settings.home / "kept"
    folder = settings.lanes / LANE

    def copy(place: str) -> None:
        if place == "after Send":
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(folder, kept)

    run_session(settings, Watch(fault_hook=copy), feed_of(settings, FROM_MS + 12 * HOUR_MS), durable=durable)
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)
    if not keep:
        (folder / "journal.db-wal").unlink()


def test_a_journal_that_lost_its_log_is_refused(
    command: Callable[..., dict[str, Any]], lane_home: Settings, undisturbed: dict[str, Any]
) -> None:
    die_and_lose_the_log(lane_home, durable=True)
    content = journal(lane_home).read_bytes()
    for failure in (command(), command()):
        assert (failure["kind"], failure["exit_code"]) == ("DataError", 3)
        for word in (f"{journal(lane_home)}: ends with event", "journal.db-wal was removed", "status.json"):
            assert word in failure["message"]
    assert journal(lane_home).read_bytes() == content
    with pytest.raises(DataError, match=r"journal\.db-wal was removed"):
        adopt_journal(journal(lane_home), "b" * 32)
    (lane_home.lanes / LANE / "status.json").unlink()
    run_session(lane_home)
    assert left_in(lane_home)["tables"]["equity"] == undisturbed["tables"]["equity"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda status: status.stat(),
        lambda status: status.unlink(),
        lambda status: status.write_bytes(b""),
        lambda status: status.write_text(status.read_text().replace('"book_id": "', '"book_id": "0')),
    ],
    ids=["complete", "no status", "damaged status", "status of another journal"],
)
def test_a_journal_with_its_log_goes_on(
    lane_home: Settings, undisturbed: dict[str, Any], spoil: Callable[[Path], object]
) -> None:
    die_and_lose_the_log(lane_home, durable=True, keep=True)
    spoil(lane_home.lanes / LANE / "status.json")
    run_session(lane_home)
    assert left_in(lane_home) == undisturbed


def test_a_lane_that_does_not_wait_for_the_disk_repeats_what_its_log_had(
    lane_home: Settings, undisturbed: dict[str, Any]
) -> None:
    die_and_lose_the_log(lane_home, durable=False)
    run_session(lane_home)
    assert left_in(lane_home)["tables"]["equity"] == undisturbed["tables"]["equity"]


def test_a_journal_that_was_copied_to_another_lane(command: Callable[..., dict[str, Any]], lane_home: Settings) -> None:
    run_session(lane_home, open_feed=feed_of(lane_home, FROM_MS))
    lanes = lane_home.config / "lanes"
    shutil.copy(lanes / f"{LANE}.yaml", lanes / "second.yaml")
    promote_config(lane_home, lane_config("ema_cross", SYMBOLS, WINDOWS), START_MS, lane="second")
    shutil.copy(journal(lane_home), journal(lane_home, "second"))
    failure = command(lane="second")
    assert (failure["kind"], failure["exit_code"]) == ("Refused", Refused.exit_code)
    assert f"{journal(lane_home, 'second')}: the journal of lane {LANE}, not second" in failure["message"]


def test_a_second_process_names_the_first(command: Callable[..., dict[str, Any]], lane_home: Settings) -> None:
    with locked(lock_path(lane_home.lanes, LANE), f"running lane {LANE}"):
        failure = command()
    assert (failure["kind"], failure["exit_code"]) == ("Busy", 5)
    assert f"running lane {LANE}, process " in failure["message"]
    assert not journal(lane_home).exists()


def test_a_read_only_home(command: Callable[..., dict[str, Any]], lane_home: Settings) -> None:
    def rule(path: Path, writes: bool) -> int:
        return errno.EROFS if writes and path.is_relative_to(lane_home.home) else 0

    with refusing(rule):
        failure = command()
    assert failure["kind"] == "DataError"
    assert str(lane_home.lanes / LANE) in failure["message"]
    assert "mount the disk writable" in failure["message"]


def test_a_defect_leaves_a_traceback_in_the_logs(command: Callable[..., dict[str, Any]], lane_home: Settings) -> None:
    def fail(_place: str) -> None:
        raise ZeroDivisionError("by nothing")

    failure = command(watch=Watch(fault_hook=fail))
    assert (failure["kind"], failure["exit_code"]) == ("ZeroDivisionError", 1)
    [kept] = lane_home.logs.glob("error-*.txt")
    assert str(kept) in failure["message"]
    assert "ZeroDivisionError: by nothing" in kept.read_text()


def test_a_lake_without_the_anchor(lane_home: Settings) -> None:
    promote_config(lane_home, lane_config("ema_cross", SYMBOLS, WINDOWS), START_MS - 5 * DAY_MS)
    with pytest.raises(ConfigError, match="2024-12-27 00:00Z") as error:
        run_session(lane_home)
    assert "warmup: approximate" in str(error.value)
    assert left_in(lane_home)["orders"] == [0, 0, 0]
    path = lane_home.config / "lanes" / f"{LANE}.yaml"
    path.write_text(path.read_text() + "warmup: approximate\n")
    lines: list[str] = []
    alerts: list[Alert] = []
    run_session(lane_home, Watch(alert=alerts.append, report=lines.append))
    assert any("2025-01-01 00:00Z" in text for text in (*lines, *(alert.text for alert in alerts)))
    assert left_in(lane_home)["orders"][0] > 0


def test_a_lake_without_a_symbol(lane_home: Settings) -> None:
    promote_config(lane_home, lane_config("ema_cross", (*SYMBOLS, "SOL"), WINDOWS), START_MS)
    with pytest.raises(MeiError, match="SOL") as error:
        run_session(lane_home)
    assert "mei ingest" in str(error.value)
    assert left_in(lane_home)["orders"] == [0, 0, 0]


def test_a_lane_subscribes_again_after_a_gap(lane_home: Settings, undisturbed: dict[str, Any]) -> None:
    gap_ms = FROM_MS + 5 * HOUR_MS
    wanted: list[Subscribe] = []

    @contextmanager
    def open_feed(subscription: Subscribe) -> Generator[Feed]:
        wanted.append(subscription)
        with feed_of(lane_home)(subscription) as whole:
            if len(wanted) > 1:
                yield whole
                return
            events = read_all(whole)
        yield Steps([event for event in events if not (isinstance(event, StepClosed) and event.step_ms == gap_ms)], 4)

    alerts: list[Alert] = []
    result = run_session(lane_home, Watch(alert=alerts.append, sleep=lambda _s: None), open_feed)
    assert [each.from_ms for each in wanted] == [FROM_MS, gap_ms]
    assert [alert.key for alert in alerts] == ["session"]
    assert "2025-01-03 11:00Z" in alerts[0].text
    assert result.steps == 14
    assert left_in(lane_home) == undisturbed


def read_all(feed: Feed) -> list[FeedEvent]:
    events: list[FeedEvent] = []
    with suppress(FeedEnded):
        while True:
            events += feed.read(0.0)
    return events


def test_a_lane_subscribes_again_after_a_broken_feed(lane_home: Settings, undisturbed: dict[str, Any]) -> None:
    pieces = iter([0, 3, 10, 1000])

    class Breaking(Steps):
        def read(self, timeout_s: float) -> list[FeedEvent]:
            if self.acknowledged == self.longest:
                raise FeedBroken("feed: it closed the connection")
            return super().read(timeout_s)

    @contextmanager
    def open_feed(subscription: Subscribe) -> Generator[Feed]:
        with feed_of(lane_home)(subscription) as whole:
            breaking = Breaking(read_all(whole), 3)
        breaking.longest = next(pieces)
        yield breaking

    alerts: list[Alert] = []
    run_session(lane_home, Watch(alert=alerts.append, sleep=lambda _s: None), open_feed)
    assert len(alerts) == 3
    assert left_in(lane_home) == undisturbed


def test_a_lane_beyond_the_end_of_the_replay_names_the_option_and_goes_on_later(
    command: Callable[..., dict[str, Any]], lane_home: Settings, undisturbed: dict[str, Any]
) -> None:
    run_session(lane_home, open_feed=feed_of(lane_home, FROM_MS + 8 * HOUR_MS))
    failure = command("--to", iso(FROM_MS))
    assert failure["exit_code"] == ConfigError.exit_code
    assert all(word in failure["message"] for word in ("--to", iso(FROM_MS), iso(FROM_MS + 8 * HOUR_MS)))
    run_session(lane_home)
    assert left_in(lane_home) == undisturbed


def test_a_from_time_of_a_lane_with_a_journal_changes_nothing(lane_home: Settings, undisturbed: dict[str, Any]) -> None:
    run_session(lane_home, open_feed=feed_of(lane_home, FROM_MS + 8 * HOUR_MS))
    lines: list[str] = []
    run_session(lane_home, Watch(report=lines.append), from_ms=FROM_MS + HOUR_MS)
    assert any("--from" in line and "2025-01-03 14:00Z" in line for line in lines)
    assert left_in(lane_home) == undisturbed
