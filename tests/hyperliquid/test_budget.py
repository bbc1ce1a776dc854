import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mei_pipeline.errors import Busy
from mei_pipeline.hyperliquid import budget as budget_module
from mei_pipeline.hyperliquid.budget import (
    RateBudget,
    budget_path,
    largest_surcharge,
    surcharge_of,
    weight_of,
)
from mei_pipeline.hyperliquid.wire import (
    BookRequest,
    CandleSpan,
    CandlesRequest,
    FundingRequest,
    MetaRequest,
    MidsRequest,
    StatusRequest,
    TradesRequest,
)

HOUR_MS = 3_600_000
START_S = 1_700_000_000.5


class FakeTime:
    """A clock that moves when something sleeps."""

    def __init__(self):
        self.now = START_S

    def clock(self):
        return self.now

    async def sleep(self, seconds):
        assert seconds > 0
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
def time():
    return FakeTime()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shared" / "simulator.budget"


@pytest.fixture
def make(path, time):
    return lambda: RateBudget(path, clock=time.clock, sleep=time.sleep)


def spend(budget, weight, priority="market data", times=1):
    async def run():
        for _ in range(times):
            await budget.spend(weight, priority)

    asyncio.run(run())


def waited(time, budget, weight, priority):
    before = time.now
    spend(budget, weight, priority)
    return time.now - before


def span(rows):
    return CandlesRequest(span=CandleSpan(coin="BTC", interval="1h", start_ms=0, end_ms=(rows - 2) * HOUR_MS))


def test_weights_are_those_of_the_venue():
    light = (BookRequest(coin="BTC"), MidsRequest(), StatusRequest())
    assert [weight_of(request) for request in light] == [2, 2, 2]
    assert [weight_of(request) for request in (MetaRequest(), span(10), TradesRequest(coin="BTC"))] == [20, 20, 20]
    assert surcharge_of(span(5000), 5000) == 83
    assert surcharge_of(span(5000), 59) == 0
    assert surcharge_of(FundingRequest(coin="BTC", start_ms=0), 500) == 25
    assert surcharge_of(TradesRequest(coin="BTC"), 20) == 1
    assert surcharge_of(MetaRequest(), 1000) == 0


def test_the_surcharge_is_known_before_the_answer_as_far_as_the_request_limits_it():
    assert largest_surcharge(span(60)) == 1
    assert largest_surcharge(span(9999)) == 83
    assert largest_surcharge(CandlesRequest(span=CandleSpan(coin="BTC", interval="1h", start_ms=0))) == 83
    odd = CandleSpan(coin="BTC", interval="1M", start_ms=0, end_ms=1)
    assert largest_surcharge(CandlesRequest(span=odd)) == 83
    assert largest_surcharge(FundingRequest(coin="BTC", start_ms=0, end_ms=38 * HOUR_MS)) == 2
    assert largest_surcharge(FundingRequest(coin="BTC", start_ms=0)) == 25
    assert largest_surcharge(FundingRequest(coin="BTC", start_ms=HOUR_MS * 9, end_ms=0)) == 0
    assert largest_surcharge(MetaRequest()) == 0


def test_networks_have_a_file_each(tmp_path):
    assert budget_path(tmp_path, "mainnet") != budget_path(tmp_path, "testnet")


def test_market_data_leaves_a_reserve_for_entries_and_entries_one_for_exits(make, time):
    spend(make(), 20, "market data", times=45)
    assert time.now == START_S
    spend(make(), 20, "entry", times=9)
    spend(make(), 20, "exit", times=6)
    assert time.now == START_S
    assert waited(time, make(), 20, "exit") >= 60


def test_an_exit_never_waits_behind_waiting_market_data(make, time):
    budget = make()
    ended = []

    async def ask():
        await budget.spend(100, "market data")
        ended.append(time.now)

    async def run():
        waiting = [asyncio.create_task(ask()) for _ in range(20)]
        while not ended or time.now < START_S + 5:  # noqa: ASYNC110 - the fake clock moves while others run
            await asyncio.sleep(0)
        for _ in range(3):
            before = time.now
            await budget.spend(100, "exit")
            assert time.now == before
        assert len(ended) == 9
        await asyncio.gather(*waiting)

    asyncio.run(run())
    assert len(ended) == 20


@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from(["exit", "entry", "market data"]), st.integers(1, 150), st.floats(0, 20), st.integers(0, 60)
        ),
        max_size=40,
    )
)
def test_no_minute_has_more_than_the_limit(tmp_path_factory, requests):
    time = FakeTime()
    budget = RateBudget(tmp_path_factory.mktemp("b") / "f", per_minute=300, clock=time.clock, sleep=time.sleep)
    spent = []

    async def run():
        for priority, weight, delay, back in requests:
            await budget.spend(weight, priority)
            returned = min(back, weight)
            budget.charge(-returned)
            spent.append((time.now, weight - returned))
            time.now += delay

    asyncio.run(run())
    for at, _ in spent:
        assert sum(weight for other, weight in spent if at <= other < at + 60) <= 300


def test_a_request_heavier_than_the_share_goes_out_when_nothing_else_was_spent(path, time):
    budget = RateBudget(path, per_minute=100, clock=time.clock, sleep=time.sleep)
    assert waited(time, budget, 103, "market data") == 0
    assert waited(time, budget, 103, "market data") >= 60


def test_items_count_and_weight_that_was_not_used_is_given_back(make, time):
    budget = make()
    spend(budget, 900)
    budget.charge(-500)
    assert waited(time, budget, 500, "market data") == 0
    budget.charge(300)
    budget.charge(0)
    assert waited(time, budget, 1, "exit") >= 60


def test_more_is_never_given_back_than_was_spent(make, time):
    budget = make()
    spend(budget, 10)
    budget.charge(-1000)
    spend(budget, 900)
    assert waited(time, budget, 20, "market data") >= 60


CHILD = """
import asyncio, sys
from pathlib import Path
from mei_pipeline.hyperliquid.budget import RateBudget

async def run():
    budget = RateBudget(Path(sys.argv[1]), per_minute=400)
    count = 0
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        while True:
            await asyncio.wait_for(budget.spend(2, "market data"), 1.5)
            count += 1
    except TimeoutError:
        print(count, flush=True)

asyncio.run(run())
"""


def test_two_processes_share_the_limit(path):
    children = [
        subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout.readline() == b"ready\n"
    for child in children:
        child.stdin.write(b"\n")
        child.stdin.flush()
    counts = [int(child.communicate()[0]) for child in children]
    assert sum(counts) == 150, counts


def test_a_pause_holds_other_processes_and_exits_are_the_first_to_go_on(make, time):
    make().pause(10)
    assert waited(time, make(), 2, "exit") == pytest.approx(10)
    assert waited(time, make(), 2, "entry") == pytest.approx(1, abs=0.2)
    assert waited(time, make(), 2, "market data") == pytest.approx(1, abs=0.4)
    # Requests stay apart for a minute.
    assert waited(time, make(), 2, "market data") >= 1
    assert waited(time, make(), 2, "exit") == 0
    time.now += 60
    spend(make(), 2, times=20)
    assert waited(time, make(), 2, "market data") == 0


def test_many_waiting_requests_do_not_storm_after_a_pause(make, time):
    budgets = [make() for _ in range(3)]
    budgets[0].pause(1)
    ended = []

    async def ask(budget):
        await budget.spend(2, "market data")
        ended.append(time.now)

    async def run():
        await asyncio.gather(*(ask(budget) for budget in budgets for _ in range(10)))

    asyncio.run(run())
    assert ended[0] >= START_S + 3
    assert all(later - earlier >= 0.99 for earlier, later in pairwise(ended))


def test_pauses_in_a_row_become_longer_but_late_refusals_do_not_count(make, time):
    budget = make()
    waits = []
    for _ in range(8):
        for _ in range(20):
            budget.pause(0)
        waits.append(waited(time, budget, 2, "exit"))
    assert waits[:4] == pytest.approx([1, 2, 4, 8])
    assert waits[7] == pytest.approx(60)
    time.now += 200
    budget.pause(0)
    assert waited(time, budget, 2, "exit") == pytest.approx(1)


@pytest.mark.parametrize("seconds", [1e9, float("inf")])
def test_no_pause_is_longer_than_ten_minutes(make, time, seconds):
    make().pause(seconds)
    assert waited(time, make(), 2, "exit") == pytest.approx(600)


def test_a_later_refusal_can_ask_for_more_time(make, time):
    make().pause(1)
    make().pause(30)
    assert waited(time, make(), 2, "exit") == pytest.approx(30)


DAMAGED = [
    b"\x00" * 40,
    b"{",
    b'{"spent": [[1700000000, -5]]}\n',
    b'{"spent": 1}\n',
    b'{"pause_s": 1e30}\n',
    b'{"other": 1}\n',
    b"[" * 60_000,
    b"\xff\xfe\n",
    b"\n",
]


@pytest.mark.parametrize("content", DAMAGED)
def test_after_damage_market_data_waits_a_minute_and_exits_do_not(make, path, time, content):
    path.parent.mkdir()
    path.write_bytes(content)
    assert waited(time, make(), 20, "exit") == 0
    assert waited(time, make(), 20, "entry") == 0
    assert waited(time, make(), 20, "market data") >= 59
    assert path.read_bytes().startswith(b"{")


@given(content=st.binary(max_size=200) | st.from_regex(rb'\A\{"spent":\[\[\d{1,20},\d{1,12}\]\]\}\Z'))
def test_no_content_stops_an_exit(tmp_path_factory, content):
    time = FakeTime()
    path = tmp_path_factory.mktemp("b") / "f"
    path.write_bytes(content)
    spend(RateBudget(path, clock=time.clock, sleep=time.sleep), 2, "exit")
    assert time.now <= START_S + 62


def test_a_file_that_is_removed_is_made_again(make, path, time):
    budget = make()
    spend(budget, 20)
    path.unlink()
    spend(budget, 20)
    assert path.exists()
    assert time.now == START_S


def test_a_file_removed_while_it_is_being_locked_is_not_used(make, path, monkeypatch):
    spend(make(), 20)
    real = fcntl.flock

    def flock(handle, how):
        real(handle, how)
        monkeypatch.undo()
        path.unlink()

    monkeypatch.setattr(fcntl, "flock", flock)
    spend(make(), 40)
    assert b",40]" in path.read_bytes()


def test_a_writer_killed_before_it_cut_off_the_old_end_leaves_a_readable_file(make, path, time):
    spend(make(), 900)
    path.write_bytes(path.read_bytes() + b'00,1]],"last":[0]}\n')
    assert waited(time, make(), 20, "market data") >= 60


@pytest.mark.parametrize("back_s", [1, 3600, 86_400 * 400])
def test_a_clock_that_jumps_back_costs_a_minute_at_most(make, time, back_s):
    budget = make()
    spend(budget, 900)
    budget.pause(5)
    time.now -= back_s
    assert waited(time, budget, 20, "exit") == pytest.approx(5)
    assert 55 <= waited(time, budget, 20, "market data") <= 65


def hold(path):
    handle = os.open(path, os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def test_an_exit_passes_a_process_that_keeps_the_lock_and_is_counted_afterwards(make, path, time):
    budget = make()
    spend(budget, 20)
    handle = hold(path)
    assert waited(time, budget, 700, "exit") == pytest.approx(1)
    with pytest.raises(Busy, match=str(path)):
        spend(budget, 20, "market data")
    with pytest.raises(Busy):
        spend(budget, 20, "entry")
    budget.charge(490)
    budget.pause(7)
    os.close(handle)
    # 1,200 minus 20, 700 and 490 is less than 20.
    assert waited(time, budget, 20, "exit") >= 58
    assert b'"pause_s":7.0' in path.read_bytes()


def test_a_lock_that_is_released_soon_is_waited_for(make, path, time):
    spend(make(), 20)
    handles = [hold(path)]

    async def sleep(seconds):
        await time.sleep(seconds)
        if time.now > START_S + 0.5 and handles:
            os.close(handles.pop())

    budget = RateBudget(path, clock=time.clock, sleep=sleep)
    assert 0.5 < waited(time, budget, 20, "market data") < 0.6


HOLDER = """
import fcntl, os, sys, time
handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(handle, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


def test_a_process_killed_while_it_holds_the_lock_does_not_keep_it(make, path, time):
    path.parent.mkdir()
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(Busy):
        spend(make(), 20, "market data")
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert waited(time, make(), 20, "market data") == 0


def test_without_a_file_the_budget_counts_in_memory(make, path, time, capsys):
    path.mkdir(parents=True)  # a folder in its place
    budget = make()
    spend(budget, 900)
    budget.pause(3)
    assert waited(time, budget, 20, "exit") == pytest.approx(3)
    assert waited(time, budget, 20, "market data") >= 56
    assert capsys.readouterr().err.count("rate budget is not shared") == 1
    path.rmdir()
    budget.charge(1)
    assert b'"spent":[[' in path.read_bytes()


def test_weight_spent_on_a_full_disk_is_written_when_there_is_room(make, time, monkeypatch):
    budget = make()
    spend(budget, 100)
    with monkeypatch.context() as patch:
        patch.setattr(budget_module.os, "pwrite", lambda *_: 3)
        spend(budget, 800)
    budget.charge(1)
    assert waited(time, make(), 20, "market data") >= 60
