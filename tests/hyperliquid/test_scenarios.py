"""Every fault of the exchange simulator, and the promise of the client or the socket that it tests.

Feeds have scenarios of their own in `tests/live`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scenario_kit import IMPATIENT, PATIENT, QUARTER_MS, WANTED, Follower, following, market, plan_of
from simulator_kit import Running, simulate

from mei_pipeline.errors import Retryable
from mei_pipeline.hyperliquid.budget import Priority, RateBudget, weight_of
from mei_pipeline.hyperliquid.client import InfoClient
from mei_pipeline.hyperliquid.inbox import Arrived, InboxItem, Lost, Opened, RefusedStream, Subscribed, Unreadable
from mei_pipeline.hyperliquid.network import endpoints_of
from mei_pipeline.hyperliquid.simulator.faults import ACTIONS, FaultPlan
from mei_pipeline.hyperliquid.wire import BBO, CANDLE, MetaRequest, StatusRequest, Subscription

MESSAGES = ("socket", "candle", "bbo", "context")
EXTRA: dict[str, dict[str, Any]] = {
    "delay": {"delay_s": 0.05},
    "late_candle": {"delay_s": 0.3},
    "429": {"retry_after_s": 3},
    "clock_skew": {"skew_ms": 300_000},
}
AT_CONNECT = [("connect", do) for do in ("half_open", "refuse", "429", "500", "502", "503", "html")]
BREAKING = [*AT_CONNECT, *((where, do) for where in ("subscription", *MESSAGES) for do in ("drop", "half_open"))]
HARMLESS = [("connect", "delay"), ("subscription", "delay"), ("subscription", "silent")]
SPOILT = [(where, do) for where in MESSAGES for do in ("html", "truncated")]
LOST_OR_MOVED = [(where, do) for where in MESSAGES for do in ("delay", "duplicate", "reorder", "silent")]
OF_BARS = [("candle", "late_candle"), ("candle", "missing_candle")]
FAILING = [("info", do) for do in ("drop", "half_open", "refuse", "429", "500", "502", "503", "html", "truncated")]
ELSEWHERE = [("info", "delay"), ("subscription", "refuse"), ("clock", "clock_skew")]


def follow(scenario: Callable[[Follower], Awaitable[None]], *rules: dict[str, Any]) -> None:
    """Run a scenario of a socket for each rule, all at once, each with a simulator of its own."""

    async def run(rule: dict[str, Any]) -> None:
        missing = rule["do"] in {"half_open", "silent"}
        try:
            async with following(plan_of(rule), IMPATIENT if missing else PATIENT) as follower:
                await scenario(follower)
        except BaseException as error:
            error.add_note(f"fault: {rule}")
            raise

    async def main() -> None:
        await asyncio.gather(*map(run, rules))

    asyncio.run(main())


def places_of(do: str, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """The places at which a fault has this scenario."""
    return [where for where, each in pairs if each == do]


def actions_in(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """The faults of a scenario."""
    return list(dict.fromkeys(do for _, do in pairs))


class MovedTime:
    """The clock of a client and of its simulator, which sleeping moves."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.running.time.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.running.time.now_s += seconds
        await asyncio.sleep(0)


class CountedBudget(RateBudget):
    """A budget that counts what is spent."""

    spent = 0

    async def spend(self, weight: int, priority: Priority = "market data") -> None:
        await super().spend(weight, priority)
        self.spent += weight


@dataclass(frozen=True)
class Reader:
    """A client of a running simulator, its budget, and the clock of all three."""

    running: Running
    client: InfoClient
    budget: CountedBudget
    time: MovedTime

    async def requests(self) -> int:
        """Number of requests that the simulator has got."""
        return sum((await self.running.control("counters"))["requests"].values())

    async def meta(self, patience_s: float = 0.0) -> list[str]:
        """The names of the markets."""
        meta = await self.client.ask(MetaRequest(), patience_s=patience_s)
        return [asset.name for asset in meta.universe]

    async def venue_ms(self) -> int:
        """The venue's clock."""
        return (await self.client.ask(StatusRequest())).time_ms


def ask(plan: FaultPlan, folder: Path, scenario: Callable[[Reader], Awaitable[None]]) -> None:
    """Run a scenario of a client, whose pauses take no time of the machine."""

    async def main(running: Running) -> None:
        time = MovedTime(running)
        budget = CountedBudget(folder / "budget", clock=time, sleep=time.sleep)
        endpoints = endpoints_of("simulator", running.url)
        async with InfoClient(endpoints, budget, clock=time, sleep=time.sleep, timeout_s=0.3) as client:
            await scenario(Reader(running, client, budget, time))

    simulate(market(), main, plan=plan)


def test_every_fault_of_every_place_has_a_scenario() -> None:
    """A fault that can be planned is one that something of MEI withstands."""
    scenarios = [*BREAKING, *HARMLESS, *SPOILT, *LOST_OR_MOVED, *OF_BARS, *FAILING, *ELSEWHERE]
    assert sorted(scenarios) == sorted((where, do) for where, actions in ACTIONS.items() for do in actions)


@pytest.mark.parametrize("do", actions_in(BREAKING))
def test_every_wanted_stream_is_subscribed_again(do: str) -> None:
    """Every wanted stream is subscribed again after a broken, refused or dead connection.

    No message counts that arrives before the stream's acknowledgement, and the loss is reported with its address.
    """

    async def scenario(follower: Follower) -> None:
        await follower.until(lambda: follower.of(Lost) and follower.delivers())
        assert (await follower.faults())[do] >= 1
        assert follower.early() == []
        losses = follower.of(Lost)
        assert all(loss.reason.startswith(follower.endpoints.socket_url) for loss in losses)
        assert not do.isdigit() or do in losses[0].reason
        assert len(follower.of(Opened)) <= len(losses) + 1
        assert len(losses) <= 2, losses

    numbers = {"connect": 1, "subscription": 3}
    follow(
        scenario,
        *(
            {"where": where, "do": do, "at": numbers.get(where, 12), "for_events": 2 if where == "connect" else 1}
            for where in places_of(do, BREAKING)
        ),
    )


def test_an_orderly_close_is_a_loss_too() -> None:
    """Every wanted stream is subscribed again after the venue closes the connection, with whatever code."""
    codes = (1000, 1001, 1012)

    async def scenario(follower: Follower) -> None:
        await follower.until(lambda: follower.of(Lost) and follower.delivers())
        assert any(str(code) in follower.of(Lost)[0].reason for code in codes)

    follow(scenario, *({"where": "socket", "do": "drop", "at": 12, "close_code": code} for code in codes))


@pytest.mark.parametrize(("where", "do"), HARMLESS)
def test_a_slow_answer_costs_no_connection(where: str, do: str) -> None:
    """A stream whose acknowledgement is late or lost is asked for again on the same connection.

    It is reported if the acknowledgement is missing twice.
    """
    times = 2 if do == "silent" else 1
    rule = {"where": where, "do": do, "at": 1 if where == "connect" else 2, "for_events": times, **EXTRA.get(do, {})}

    async def scenario(follower: Follower) -> None:
        await follower.until(follower.delivers)
        assert await follower.faults() == {do: times}
        assert follower.of(Lost) == []
        missing = [item.subscription for item in follower.of(RefusedStream)]
        assert missing == ([WANTED[1]] if do == "silent" else [])

    follow(scenario, rule)


def test_a_refused_stream_is_named_and_the_others_go_on() -> None:
    """A refused stream is reported by name, costs no other stream, and `renew` brings it back."""
    refused = Subscription(type=BBO, coin="BTC")

    async def scenario(follower: Follower) -> None:
        await follower.until(lambda: follower.of(RefusedStream) and len(follower.messages(BBO, "ETH")) > 2)
        assert [item.subscription for item in follower.of(RefusedStream)] == [refused]
        assert follower.messages(BBO, "BTC") == []
        await follower.socket.renew(refused)
        await follower.until(follower.delivers)
        assert follower.of(Lost) == []

    follow(scenario, {"where": "subscription", "stream": BBO, "symbol": "BTC", "do": "refuse", "at": 1})


@pytest.mark.parametrize("do", actions_in(SPOILT))
def test_a_message_that_is_no_json_is_reported_and_skipped(do: str) -> None:
    """Nonsense of the venue is reported, is never data, and ends neither the connection nor another stream."""

    async def scenario(follower: Follower) -> None:
        await follower.until(lambda: len(follower.of(Unreadable)) >= 3 and follower.delivers())
        assert follower.of(Lost) == []
        assert all("Hyperliquid: message: " in item.text for item in follower.of(Unreadable))

    follow(scenario, *({"where": where, "do": do, "every": 5} for where in places_of(do, SPOILT)))


@pytest.mark.parametrize("do", actions_in(LOST_OR_MOVED))
def test_a_message_that_is_lost_late_or_double_costs_nothing_else(do: str) -> None:
    """Of quotes that were repeated, exchanged or late, a consumer that is behind gets the newest one only."""

    async def scenario(follower: Follower) -> None:
        newest: dict[str, int] = {}
        put = follower.inbox.put

        def spy(item: InboxItem) -> bool:
            if isinstance(item, Arrived) and item.message.channel == BBO:
                quote = item.message.data
                newest[quote.coin] = max(newest.get(quote.coin, 0), quote.time_ms)
            return put(item)

        follower.inbox.put = spy  # pyrefly: ignore[bad-assignment]  # the same signature
        await follower.until(follower.delivers)
        replaced = follower.inbox.replaced
        while follower.inbox.replaced < replaced + 20:  # noqa: ASYNC110 - the consumer is behind, it gets no event
            await asyncio.sleep(0.01)
        follower.items.clear()
        follower.items += await follower.inbox.get()
        assert [len(follower.messages(BBO, coin)) for coin in ("BTC", "ETH")] == [1, 1]
        assert {coin: follower.messages(BBO, coin)[0].time_ms for coin in newest} == newest
        assert (await follower.faults())[do] >= 1
        assert follower.of(Lost) == []

    rule = {"do": do, "every": 3, **EXTRA.get(do, {})}
    follow(scenario, *({"where": where, **rule} for where in places_of(do, LOST_OR_MOVED)))


def test_a_silent_symbol_is_silent_alone() -> None:
    """A stream that goes silent for one symbol leaves all others flowing, and `renew` brings it back."""
    silent = Subscription(type=BBO, coin="BTC")

    async def scenario(follower: Follower) -> None:
        await follower.until(follower.delivers)
        before = len(follower.messages(BBO, "ETH"))
        await follower.until(lambda: len(follower.messages(BBO, "ETH")) >= before + 10)
        assert len(follower.messages(BBO, "BTC")) == 3
        await follower.socket.renew(silent)
        await follower.until(lambda: len(follower.messages(BBO, "BTC")) >= 5)
        assert follower.of(Lost) == []
        assert [item.subscription for item in follower.of(Subscribed)].count(silent) == 2

    follow(scenario, {"where": "bbo", "symbol": "BTC", "do": "silent", "at": 4, "for_s": 0.5})


@pytest.mark.parametrize(("where", "do"), OF_BARS)
def test_a_bar_that_the_socket_lacks_is_known_over_rest(where: str, do: str, tmp_path: Path) -> None:
    """A bar whose messages are lost or late is asked for, and the answer has its final values at once."""
    opens: list[int] = []

    async def scenario(follower: Follower) -> None:
        def bars() -> list[int]:
            return list(dict.fromkeys(candle.open_ms for candle in follower.messages(CANDLE)))

        await follower.until(lambda: len(bars()) >= 4)
        opens.extend(bars())
        hit = market().start_ms + QUARTER_MS
        assert (hit in opens) == (do == "late_candle")
        async with InfoClient(follower.endpoints, RateBudget(tmp_path / "budget")) as client:
            (row,) = await client.candles("BTC", "15m", hit, hit + QUARTER_MS - 1)
        assert row.open_ms == hit
        if do == "late_candle":
            overtaken = [candle for candle in follower.messages(CANDLE) if candle.open_ms >= hit]
            assert row not in overtaken
            await follower.until(lambda: row in follower.messages(CANDLE))

    follow(scenario, {"where": where, "symbol": "BTC", "do": do, "at": 2, **EXTRA.get(do, {})})


@pytest.mark.parametrize(("where", "do"), FAILING)
def test_a_failed_read_is_an_error_that_may_pass(where: str, do: str, tmp_path: Path) -> None:
    """Half an answer, an error page or no answer is never an answer: the error names address and request."""

    async def scenario(reader: Reader) -> None:
        with pytest.raises(Retryable, match=r"http://127\.0\.0\.1:\d+/info: meta: "):
            await reader.meta()
        assert await reader.requests() == 1

    ask(plan_of({"where": where, "do": do, "every": 1, **EXTRA.get(do, {})}), tmp_path, scenario)


@pytest.mark.parametrize(("where", "do"), FAILING)
def test_a_read_rides_out_failures_within_the_budget(where: str, do: str, tmp_path: Path) -> None:
    """A patient read is tried again with growing pauses, and every attempt is paid for from the budget."""

    async def scenario(reader: Reader) -> None:
        begun_s = reader.time()
        assert await reader.meta(60.0) == ["BTC", "ETH"]
        assert await reader.requests() == 4
        assert reader.budget.spent == 4 * weight_of(MetaRequest())
        assert reader.time() - begun_s >= (9.0 if do == "429" else 0.8)

    rule = {"where": where, "do": do, "at": 1, "for_events": 3, **EXTRA.get(do, {})}
    ask(plan_of(rule), tmp_path, scenario)


def test_a_slow_answer_is_an_answer(tmp_path: Path) -> None:
    """A read waits for an answer that is late, and asks once."""

    async def scenario(reader: Reader) -> None:
        await reader.meta()
        assert await reader.requests() == 1

    ask(plan_of({"where": "info", "do": "delay", "at": 1, "delay_s": 0.05}), tmp_path, scenario)


def test_a_read_rides_out_ten_minutes_of_502(tmp_path: Path) -> None:
    """A read rides out ten minutes of 502 without a storm of requests, and gives up when its patience ends."""

    async def scenario(reader: Reader) -> None:
        begun_s = reader.time()
        with pytest.raises(Retryable, match="HTTP 502"):
            await reader.meta(120.0)
        assert 119.0 <= reader.time() - begun_s <= 121.0
        await reader.meta(900.0)
        assert 600.0 <= reader.time() - begun_s <= 660.0
        assert await reader.requests() < 60

    ask(plan_of({"where": "info", "do": "502", "at": 1, "for_s": 600}), tmp_path, scenario)


def test_a_clock_that_is_off_is_read_as_the_venue_tells_it(tmp_path: Path) -> None:
    """The clock of the venue is what the venue says, so that an error of minutes can be noticed."""

    async def scenario(reader: Reader) -> None:
        right = await reader.venue_ms()
        wrong = await reader.venue_ms()
        assert wrong - right == 300_000

    ask(plan_of({"where": "clock", "do": "clock_skew", "at": 2, **EXTRA["clock_skew"]}), tmp_path, scenario)
