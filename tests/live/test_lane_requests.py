"""Requests to a lane: while it runs, while no process runs it, and over every kind of death."""

import errno
import json
import sqlite3
import time
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import session_kit as kit
from disk_kit import refusing
from session_kit import TO_MS, left_in, run_session

from live.bench_home import LANE
from live.feed_protocol import FeedEnded, Subscribe
from live.lane_feed import Feed
from live.operate import operate_lane
from live.running import Watch
from mei_pipeline.errors import Busy, DataError, Retryable
from mei_pipeline.execution.events import CaughtUp, StepClosed
from mei_pipeline.execution.journal.opening import journal_path, lock_path
from mei_pipeline.execution.requests import RequestFile, read_result, requests_folder, submit
from mei_pipeline.files import locked
from mei_pipeline.registry.holds import Hold, set_hold
from mei_pipeline.registry.lanes import read_status
from mei_pipeline.settings import Settings


class Died(BaseException):
    """The end of a process."""


@pytest.fixture
def holding(holding_home: Path, home: Path) -> Settings:
    """A home with a lane that holds a position, is paused, and was stopped."""
    return copied(holding_home, home)


@pytest.fixture(scope="module")
def expected(holding_home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a lane leaves that was operated without a fault, and that was run to the end then."""
    settings = copied(holding_home, tmp_path_factory.mktemp("expected") / "home")
    ask(settings)
    operate_lane(settings, LANE, Watch())
    run_session(settings)
    return left_in(settings)


def copied(home: Path, to: Path) -> Settings:
    settings = kit.copy_home(home, to)
    hold = {"owner": "anna", "effect": "close_only", "reason": "so", "since_ms": 1}
    set_hold(settings.lanes, LANE, "pause", Hold.model_validate(hold))
    return settings


def ask(settings: Settings, request_id: str = "r1", verb: str = "flatten", **changes: Any) -> Path:
    values = {
        "schema_version": 1, "id": request_id, "lane": LANE, "who": "anna", "verb": verb, "arguments": {},
        "created_ms": 1, "expires_ms": None,
    } | changes  # fmt: skip
    if values["expires_ms"] is None:
        values["expires_ms"] = now_ms() + 600_000
    return submit(settings.lanes, RequestFile.model_validate(values))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def result_of(settings: Settings, request_id: str = "r1") -> str | None:
    found = read_result(settings.lanes, LANE, request_id)
    return None if found is None else found.state


def requests_in(settings: Settings) -> list[str]:
    with closing(sqlite3.connect(journal_path(settings.lanes, LANE))) as connection:
        rows = connection.execute("SELECT body FROM events WHERE event = 'OperatorRequested' ORDER BY seq")
        return [json.loads(body)["id"] for (body,) in rows]


def test_a_lane_that_runs_flattens_at_its_next_look(holding: Settings, expected: dict[str, Any]) -> None:
    ask(holding)
    run_session(holding)
    assert result_of(holding) == "done"
    assert read_status(holding.lanes, LANE).positions == {}
    left = left_in(holding)["tables"]
    assert [(row[2], row[4]) for row in left["orders"] if row[0] == "request:r1"] == [("flatten", "FILLED")]
    assert "manual" in {row[4] for row in left["fills"]}
    # A request to a lane that was stopped has the same effect.
    assert left == expected["tables"]


def test_a_lane_that_commits_in_batches_executes_a_request_once(holding: Settings, expected: dict[str, Any]) -> None:
    ask(holding)
    run_session(holding, durable=False)
    assert (result_of(holding), requests_in(holding)) == ("done", ["r1"])
    assert left_in(holding)["tables"] == expected["tables"]


def test_a_stopped_lane_is_operated_without_a_step(holding: Settings) -> None:
    before = read_status(holding.lanes, LANE)
    ask(holding)
    operate_lane(holding, LANE, Watch())
    result = read_result(holding.lanes, LANE, "r1")
    assert (result.state, result.who, result.lane_ms) == ("done", "anna", before.clock_ms)
    after = read_status(holding.lanes, LANE)
    # The fill model fills the order when the lane runs again.
    assert (after.last_step_ms, after.positions, after.open_orders) == (before.last_step_ms, before.positions, 1)
    assert set(after.holds) == {"pause"}
    operate_lane(holding, LANE, Watch())
    assert requests_in(holding) == ["r1"]
    run_session(holding)
    assert (read_status(holding.lanes, LANE).positions, requests_in(holding)) == ({}, ["r1"])


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.long)])
def test_a_lane_that_dies_anywhere_executes_a_request_once(
    holding_home: Path, home: Path, expected: dict[str, Any], every: int
) -> None:
    names: list[str] = []
    for point in range(1 + every // 2, 99, every):
        settings = copied(holding_home, home / str(point))
        ask(settings)

        def die(name: str) -> None:
            names.append(name)
            raise Died

        try:
            operate_lane(settings, LANE, Watch(fault_hook=kit.kill_at(point, die)))
        except Died:
            operate_lane(settings, LANE, Watch())
        else:
            break
        finally:
            assert (result_of(settings), requests_in(settings)) == ("done", ["r1"]), names
        with closing(sqlite3.connect(journal_path(settings.lanes, LANE))) as connection:
            found = connection.execute("SELECT attempt, state FROM orders WHERE origin = 'request:r1'").fetchall()
        assert found == [(1, "SENT")], names
    assert every > 1 or {"journal commit", "journal committed", "before Send", "after Send"} <= set(names)
    run_session(settings)
    assert left_in(settings)["tables"] == expected["tables"]


def test_a_result_that_was_not_written_is_written_from_the_journal(holding: Settings) -> None:
    ask(holding)
    alerts: list[Any] = []
    with refusing(lambda path, writes: errno.ENOSPC if writes and ".result.json" in path.name else 0):
        operate_lane(holding, LANE, Watch(alert=alerts.append))
    assert (result_of(holding), requests_in(holding)) == (None, ["r1"])
    assert [alert.key for alert in alerts if alert.key.startswith("requests")] == ["requests-result"]
    operate_lane(holding, LANE, Watch())
    assert (result_of(holding), requests_in(holding)) == ("done", ["r1"])


def test_a_full_disk_executes_nothing(holding: Settings) -> None:
    ask(holding)

    def full(name: str) -> None:
        if name == "journal commit":
            raise Retryable("the disk is full")

    with pytest.raises(Retryable):
        operate_lane(holding, LANE, Watch(fault_hook=full))
    assert (result_of(holding), requests_in(holding)) == (None, [])
    assert len(list(requests_folder(holding.lanes, LANE).iterdir())) == 1
    operate_lane(holding, LANE, Watch())
    assert result_of(holding) == "done"


def test_requests_of_two_writers_are_both_answered(holding: Settings) -> None:
    ask(holding, "r1", created_ms=2)
    ask(holding, "r2", who="bert", arguments={"symbols": ("ETH", "BTC")}, created_ms=1)
    ask(holding, "r3", verb="lift", arguments={"holds": ("pause",)})
    ask(holding, "r4", expires_ms=now_ms() - 1)
    operate_lane(holding, LANE, Watch())
    assert [result_of(holding, name) for name in ("r1", "r2", "r3", "r4")] == ["done", "done", "refused", "expired"]
    assert requests_in(holding) == ["r2", "r3", "r4", "r1"]
    # The later one takes the place of the earlier one, so there is one order left to fill.
    assert read_status(holding.lanes, LANE).open_orders == 1
    run_session(holding)
    assert read_status(holding.lanes, LANE).positions == {}


def test_a_halted_lane_refuses(holding: Settings) -> None:
    hold = {"owner": "anna", "effect": "halt", "reason": "so", "since_ms": 1}
    set_hold(holding.lanes, None, "halt", Hold.model_validate(hold))
    ask(holding)
    operate_lane(holding, LANE, Watch())
    assert result_of(holding) == "refused"
    assert read_status(holding.lanes, LANE).health == "halted"
    assert "request:r1" not in {row[0] for row in left_in(holding)["tables"]["orders"]}


def test_a_lane_is_operated_by_one_process(holding: Settings) -> None:
    ask(holding)
    with (
        locked(lock_path(holding.lanes, LANE), "running lane"),
        pytest.raises(Busy, match="running lane"),
    ):
        operate_lane(holding, LANE, Watch())
    assert requests_in(holding) == []


def test_a_lane_that_never_ran_is_not_operated(lane_home: Settings) -> None:
    with pytest.raises(DataError, match="the lane never ran in this home"):
        operate_lane(lane_home, LANE, Watch())


def test_a_lane_without_a_step_is_not_operated(lane_home: Settings) -> None:
    def die(_name: str) -> None:
        raise Died

    for point in range(1, 9):  # until the journal exists, and before its first event
        with suppress(Died):
            run_session(lane_home, Watch(fault_hook=kit.kill_at(point, die)))
        if journal_path(lane_home.lanes, LANE).exists():
            break
    with pytest.raises(DataError, match="it has taken no step yet"):
        operate_lane(lane_home, LANE, Watch())


class Quiet:
    """A feed that hands out its snapshot, then whole steps; before the first of them it is quiet."""

    now_ms: int | None = None

    def __init__(self, events: list[Any], happens: list[Any]) -> None:
        self.events, self.happens, self.pieces = events, happens, 0

    def read(self, timeout_s: float) -> list[Any]:  # noqa: ARG002 - nothing to wait for
        if self.pieces == 1 and self.happens:
            self.happens.pop(0)()
            return []
        if not self.events:
            raise FeedEnded("the lake ends here")
        end = 1 + next(i for i, event in enumerate(self.events) if isinstance(event, StepClosed | CaughtUp))
        piece, self.events = self.events[:end], self.events[end:]
        self.pieces += 1
        return piece

    def ack(self) -> None:
        """Nothing waits for it."""


def test_holds_and_requests_are_followed_between_two_steps(holding: Settings) -> None:
    seen: list[Any] = []
    first_ms = read_status(holding.lanes, LANE).last_step_ms

    def halt() -> None:
        hold = {"owner": "anna", "effect": "close_only", "reason": "so", "since_ms": 1}
        set_hold(holding.lanes, None, "halt", Hold.model_validate(hold))

    def look() -> None:
        status = read_status(holding.lanes, LANE)
        seen.append((sorted(status.holds), status.last_step_ms, result_of(holding)))

    happens = [look, halt, look, lambda: ask(holding), look]

    @contextmanager
    def open_feed(wanted: Subscribe) -> Generator[Feed]:
        yield Quiet(kit.events_of(holding, wanted, TO_MS), happens)

    run_session(holding, open_feed=open_feed)
    (before, _, none), (after, step_ms, _), (_, same_ms, state) = seen
    assert (before, after) == (["pause"], ["all/halt", "pause"])
    assert step_ms == same_ms == first_ms
    assert (none, state) == (None, "done")
    (order,) = [row for row in left_in(holding)["tables"]["orders"] if row[0] == "request:r1"]
    assert order[4] == "FILLED"


def test_a_request_waits_while_a_step_is_on_its_way(holding: Settings) -> None:
    """Bars of a step come before its end; orders between them would belong to no step."""
    seen: list[Any] = []

    @contextmanager
    def open_feed(wanted: Subscribe) -> Generator[Feed]:
        events = kit.events_of(holding, wanted, TO_MS)
        first = 1 + next(i for i, event in enumerate(events) if isinstance(event, StepClosed))
        parts = [events[: first + 1], [], events[first + 1 :]]

        class Parts(Quiet):
            def read(self, timeout_s: float) -> list[Any]:  # noqa: ARG002 - as above
                if len(parts) == 2:
                    ask(holding)
                if len(parts) == 1:
                    seen.append(result_of(holding))
                if not parts:
                    raise FeedEnded("the lake ends here")
                return parts.pop(0)

        yield Parts([], [])

    run_session(holding, open_feed=open_feed)
    assert (seen, result_of(holding)) == ([None], "done")
