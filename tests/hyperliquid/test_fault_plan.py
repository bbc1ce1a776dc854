"""A fault plan says exactly which events have a fault; what it can't mean is refused by file, key and value."""

from pathlib import Path

import pytest

from mei_pipeline.errors import ConfigError
from mei_pipeline.hyperliquid.simulator.faults import (
    ACTIONS,
    Fault,
    FaultPlan,
    FaultPoint,
    FaultSchedule,
    read_fault_plan,
)


def plan_of(tmp_path: Path, text: str, symbols: tuple[str, ...] | None = None) -> FaultPlan:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    return read_fault_plan(path, symbols)


def rules(tmp_path: Path, *lines: str) -> FaultSchedule:
    return FaultSchedule(plan_of(tmp_path, "faults:\n" + "".join(f"  - {{{line}}}\n" for line in lines)), seed=3)


def hit(schedule: FaultSchedule, points: list[FaultPoint]) -> list[int]:
    """Numbers of the points that have a fault, counted from 1."""
    return [number for number, point in enumerate(points, 1) if schedule.at(point)]


def infos(count: int, **changes: object) -> list[FaultPoint]:
    return [FaultPoint("info", float(now), **changes) for now in range(count)]  # pyrefly: ignore[bad-argument-type]  # names of fields


def test_at_every_and_chance(tmp_path: Path) -> None:
    assert hit(rules(tmp_path, "where: info, do: 502, at: 3"), infos(9)) == [3]
    assert hit(rules(tmp_path, "where: info, do: 502, every: 4"), infos(9)) == [4, 8]
    found = hit(rules(tmp_path, "where: info, do: drop, chance: 0.5"), infos(200))
    assert 60 < len(found) < 140
    assert found == hit(rules(tmp_path, "where: info, do: drop, chance: 0.5"), infos(200))
    assert hit(rules(tmp_path, "where: info, do: drop, chance: 1"), infos(3)) == [1, 2, 3]


def test_a_fault_lasts_for_a_time_or_for_a_number_of_events(tmp_path: Path) -> None:
    assert hit(rules(tmp_path, "where: info, do: 503, at: 2, for_s: 2.5"), infos(9)) == [2, 3, 4]
    assert hit(rules(tmp_path, "where: info, do: 503, at: 2, for_events: 4"), infos(9)) == [2, 3, 4, 5]


def test_filters_count_only_what_they_match(tmp_path: Path) -> None:
    schedule = rules(tmp_path, "where: info, do: html, at: 2, request: candleSnapshot, symbol: BTC")
    asked = [
        *infos(3, request="meta"),
        *infos(1, request="candleSnapshot", symbol="BTC"),
        *infos(1, request="candleSnapshot", symbol="ETH"),
        *infos(1, request="candleSnapshot", symbol="BTC"),
    ]
    assert hit(schedule, asked) == [6]
    assert (schedule.counts[0].events, schedule.counts[0].fired) == (2, 1)


def test_a_silent_stream_is_that_of_one_symbol(tmp_path: Path) -> None:
    schedule = rules(tmp_path, "where: bbo, do: silent, at: 1, for_s: 10")
    points = [FaultPoint("bbo", float(now), symbol=symbol) for now in range(4) for symbol in ("BTC", "ETH")]
    assert [points[number - 1].symbol for number in hit(schedule, points)] == ["BTC"] * 4


def test_all_messages_of_a_bar_are_one_event(tmp_path: Path) -> None:
    schedule = rules(tmp_path, "where: candle, do: missing_candle, at: 2")
    points = [
        FaultPoint("candle", 0.0, symbol="BTC", interval="1h", open_ms=bar, final=final)
        for bar in (0, 1, 2)
        for final in (False, False, True)
    ]
    assert hit(schedule, points) == [4, 5, 6]
    late = rules(tmp_path, "where: candle, do: late_candle, delay_s: 3, every: 1")
    assert hit(late, points) == [3, 6, 9]
    assert late.at(points[2]) == (Fault("late_candle", 0, delay_s=3),)


def test_a_rule_more_does_not_move_the_faults_of_the_others(tmp_path: Path) -> None:
    chance = "where: info, do: drop, chance: 0.3"
    alone, both = rules(tmp_path, chance), rules(tmp_path, chance, "where: info, do: 500, chance: 0.3")
    first = [any(fault.rule == 0 for fault in both.at(point)) for point in infos(100)]
    assert first == [bool(alone.at(point)) for point in infos(100)]


def test_parameters_reach_the_fault(tmp_path: Path) -> None:
    schedule = rules(
        tmp_path,
        "where: info, do: 429, at: 1, retry_after_s: 7",
        "where: clock, do: clock_skew, at: 1, skew_ms: -90000",
        "where: socket, do: drop, at: 1, close_code: 1001",
        "where: info, do: delay, at: 1, delay_s: 0.5",
    )
    assert schedule.at(FaultPoint("info", 0.0)) == (Fault("429", 0, retry_after_s=7), Fault("delay", 3, delay_s=0.5))
    assert schedule.at(FaultPoint("clock", 0.0)) == (Fault("clock_skew", 1, skew_ms=-90_000),)
    assert schedule.at(FaultPoint("socket", 0.0)) == (Fault("drop", 2, close_code=1001),)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("where: nowhere, do: drop, at: 1", "where"),
        ("where: info, do: explode, at: 1", "do"),
        ("where: bbo, do: 502, at: 1", "502 is not a fault of bbo; one of drop"),
        ("where: info, do: 502", "at: missing; the rule needs at, every or chance"),
        ("where: info, do: 502, at: 1, every: 2", "every: the rule has at already"),
        ("where: info, do: 502, at: 0", "at"),
        ("where: info, do: 502, chance: 1.5", "chance"),
        ("where: info, do: 502, at: 1, for_s: 1, for_events: 2", "for_events: the rule has for_s already"),
        ("where: info, do: delay, at: 1", "delay_s: missing; delay needs it"),
        ("where: info, do: drop, at: 1, delay_s: 2", "delay_s: drop takes none"),
        ("where: info, do: drop, at: 1, close_code: 1000", "close_code: info has no WebSocket to close"),
        ("where: connect, do: refuse, at: 1, symbol: BTC", "symbol: connect has no symbol"),
        ("where: info, do: 502, at: 1, request: candle", "request"),
        ("where: subscription, do: silent, at: 1, stream: quotes", "stream"),
        ("where: info, do: 502, at: 1, wen: 2", "wen"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(tmp_path: Path, rule: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rules(tmp_path, rule)
    assert "plan.yaml" in str(caught.value)
    assert words in str(caught.value)


def test_an_unknown_symbol_is_refused_with_those_of_the_market(tmp_path: Path) -> None:
    text = "faults:\n  - {where: bbo, do: silent, at: 1, symbol: DOGE}\n"
    assert plan_of(tmp_path, text).faults[0].symbol == "DOGE"
    with pytest.raises(ConfigError, match=r"faults\[0\].*'DOGE' is not a symbol of the market; one of BTC, ETH"):
        plan_of(tmp_path, text, ("BTC", "ETH"))


def test_every_place_has_faults() -> None:
    assert all(ACTIONS.values())
