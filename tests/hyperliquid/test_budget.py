"""The weight of a minute holds over all processes, and an exit never waits behind market data."""

import asyncio
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mei_pipeline.hyperliquid.budget import PER_MINUTE, Priority, RateBudget, surcharge_of, weight_of
from mei_pipeline.hyperliquid.wire import (
    CandleSpan,
    CandlesRequest,
    ContextsRequest,
    FundingRequest,
    MetaRequest,
    MidsRequest,
    StatusRequest,
)


class World:
    """A clock that sleeping moves, and the times at which something was sent."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 1_000_000.25
        self.path = folder / "budget" / "simulator.json"
        self.slept: list[float] = []

    def budget(self, per_minute: int = PER_MINUTE) -> RateBudget:
        return RateBudget(self.path, per_minute=per_minute, clock=lambda: self.now_s, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0.0
        self.slept.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)

    def spend(self, weight: int, priority: Priority = "market data", per_minute: int = PER_MINUTE) -> float:
        """The time at which a request may be sent."""
        asyncio.run(self.budget(per_minute).spend(weight, priority))
        return self.now_s


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_weights() -> None:
    assert (weight_of(StatusRequest()), weight_of(MidsRequest()), weight_of(MetaRequest())) == (2, 2, 20)
    candles = CandlesRequest(span=CandleSpan(coin="BTC", interval="1h", start_ms=0))
    assert (weight_of(candles), surcharge_of(candles, 5000)) == (20, 83)
    assert surcharge_of(FundingRequest(coin="BTC", start_ms=0), 500) == 25
    assert surcharge_of(ContextsRequest(), 200) == 0


@given(st.lists(st.tuples(st.integers(1, 100), st.sampled_from(("exit", "entry", "market data"))), max_size=60))
def test_no_minute_holds_more_than_allowed(
    tmp_path_factory: pytest.TempPathFactory, spent: list[tuple[int, Priority]]
) -> None:
    world = World(tmp_path_factory.mktemp("budget"))
    sent = [(world.spend(weight, priority, 300), weight) for weight, priority in spent]
    for end_s, _ in sent:
        assert sum(weight for at_s, weight in sent if end_s - 60.0 <= at_s <= end_s) <= 300


def test_each_priority_leaves_a_reserve_for_the_more_urgent(world: World) -> None:
    start_s = world.now_s
    while world.now_s == start_s:
        world.spend(20)
    world.now_s = start_s
    world.path.unlink()
    for priority in ("market data", "entry", "exit"):
        before = world.budget().used
        while world.spend(20, priority) == start_s:
            pass
        assert world.budget().used >= before
        world.now_s = start_s
    # The three that had to wait are counted at their later times, which are not over yet.
    assert world.budget().used <= PER_MINUTE


def test_an_exit_goes_at_once_while_market_data_waits(world: World) -> None:
    start_s = world.now_s
    for _ in range(42):
        world.spend(20)
    assert world.now_s == start_s
    assert world.spend(20, "exit") == start_s
    assert world.spend(20, "entry") == start_s
    assert world.spend(20) >= start_s + 60.0


def test_what_an_answer_weighs_counts(world: World) -> None:
    world.budget().charge(PER_MINUTE)
    start_s = world.now_s
    assert world.spend(2, "exit") > start_s + 59.0
    world.budget().charge(0)
    assert world.budget().used == 2


def test_after_a_refusal_for_the_rate_all_wait_and_exits_go_first(world: World) -> None:
    world.budget().pause(30.0)
    start_s = world.now_s
    ends = {}
    for priority in ("exit", "entry", "market data"):
        world.now_s = start_s
        ends[priority] = world.spend(2, priority)
    assert start_s + 30.0 == ends["exit"] < ends["entry"] < ends["market data"] <= start_s + 31.0
    world.budget().pause(float("inf"))
    assert world.spend(2, "exit") <= world.now_s + 120.0


def test_more_than_a_whole_minute_is_sent_in_an_empty_one(world: World) -> None:
    start_s = world.now_s
    assert world.spend(5000) == start_s
    assert world.spend(5000) > start_s + 60.0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"seconds": {"x": 1}}',
        b'{"seconds": {"1": -5}, "paused_until_s": 0}',
        b"\xff\x00",
        b'{"seconds": {}, "paused_until_s": NaN}',
    ],
)
def test_a_damaged_file_counts_as_empty(world: World, content: bytes) -> None:
    world.path.parent.mkdir()
    world.path.write_bytes(content)
    start_s = world.now_s
    assert world.spend(20) == start_s
    assert sum(json.loads(world.path.read_bytes())["seconds"].values()) == 20


def test_a_clock_that_jumps_back_forgets_nothing_and_waits_at_most_a_minute(world: World) -> None:
    world.budget().charge(PER_MINUTE)
    world.budget().pause(100.0)
    world.now_s -= 10_000.0
    start_s = world.now_s
    assert 60.0 <= world.spend(2, "exit") - start_s <= 121.0


def test_without_a_folder_a_process_counts_for_itself(tmp_path: Path) -> None:
    world = World(tmp_path)
    (tmp_path / "budget").write_text("a file")
    budget = world.budget()
    start_s = world.now_s
    asyncio.run(budget.spend(PER_MINUTE, "market data"))
    asyncio.run(budget.spend(20, "exit"))
    assert world.now_s > start_s + 59.0


def spend_often(path: Path, times: int, hold: bool) -> None:
    budget = RateBudget(path, clock=lambda: 1_000_000.0)
    if hold:
        with budget._usage():  # noqa: SLF001 - dies with the lock
            os.kill(os.getpid(), signal.SIGKILL)
    for _ in range(times):
        budget.charge(1)


def run_all(works: list[Callable[[], multiprocessing.process.BaseProcess]]) -> list[int | None]:
    processes = [work() for work in works]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


def test_processes_share_the_budget_and_one_that_is_killed_keeps_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "budget.json"
    fork = multiprocessing.get_context("fork")
    make = [lambda hold=hold: fork.Process(target=spend_often, args=(path, 200, hold)) for hold in (False, True, False)]
    assert run_all(make) == [0, -signal.SIGKILL, 0]
    assert RateBudget(path, clock=lambda: 1_000_000.0).used == 400
