"""Fault plans of the exchange simulator: the file, and which events its faults hit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mei_pipeline.errors import ConfigError
from mei_pipeline.hyperliquid.simulator.faults import (
    ACTIONS,
    NO_FAULTS,
    Fault,
    FaultPlan,
    FaultPoint,
    FaultRule,
    FaultSchedule,
    read_fault_plan,
)


def plan_of(*rules):
    """A plan of rules as YAML would give them."""
    return FaultPlan(faults=tuple(FaultRule.model_validate(rule) for rule in rules))


def hits(schedule, points):
    """Numbers of the points, from 1, that have a fault."""
    return [number for number, point in enumerate(points, 1) if schedule.at(point)]


def quotes(count, symbol="BTC", step_s=1.0):
    """Messages with quotes, one after another."""
    return [FaultPoint("bbo", number * step_s, symbol=symbol) for number in range(count)]


@pytest.fixture
def write(tmp_path):
    """Write a plan and return its path."""

    def write(text):
        path = tmp_path / "faults.yaml"
        path.write_text(text)
        return path

    return write


def problem(path, symbols=None):
    """The one line that a wrong plan gives, without the folder."""
    with pytest.raises(ConfigError) as caught:
        read_fault_plan(path, symbols)
    return str(caught.value).removeprefix(f"{path}:")


def test_a_plan_is_read_from_a_file(write):
    plan = read_fault_plan(
        write(
            "faults:\n"
            "  - {where: info, request: candleSnapshot, every: 50, for_s: 2.5, do: 429, retry_after_s: 3}\n"
            "  - {where: candle, symbol: BTC, interval: 1h, at: 12, do: late_candle, delay_s: 5}\n"
            "  - {where: socket, chance: 0.01, do: drop}\n"
        ),
        {"BTC", "ETH"},
    )
    first, second, third = plan.faults
    assert (first.do, first.request, first.every, first.for_s, first.retry_after_s) == (
        "429",
        "candleSnapshot",
        50,
        2.5,
        3,
    )
    assert (second.symbol, second.interval, second.at, second.delay_s) == ("BTC", "1h", 12, 5)
    assert (third.where, third.chance, third.close_code) == ("socket", 0.01, None)


def test_a_plan_without_a_market_may_name_any_symbol(write):
    assert (
        read_fault_plan(write("faults: [{where: bbo, symbol: DOGE, do: silent, at: 1}]\n")).faults[0].symbol == "DOGE"
    )


def test_a_plan_may_have_no_faults(write):
    assert read_fault_plan(write("faults: []\n")) == NO_FAULTS
    assert FaultSchedule(NO_FAULTS).at(FaultPoint("connect", 0.0)) == ()


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ("{where: sockt, do: drop, at: 1}", "faults[0].where: sockt is not allowed; one of connect, info, clock"),
        ("{where: info, do: explode, at: 1}", "faults[0].do: explode is not allowed; one of drop, half_open, refuse"),
        ("{where: info, do: 504, at: 1}", "faults[0].do: '504' is not allowed; one of drop, half_open, refuse"),
        ("{where: info, do: off, at: 1}", "faults[0].do: off is not allowed; one of drop"),
        ("{on: info, where: info, do: drop, at: 1}", "faults[0].on: unknown key; allowed: where, do, symbol"),
        ("{where: info, do: drop}", "faults[0].at: missing; the rule needs at, every or chance"),
        (
            "{where: info, do: drop, at: 1, chance: 0.5}",
            "faults[0].chance: the rule has at already; one of at, every, chance",
        ),
        ("{where: info, do: drop, at: 0}", "faults[0].at: 0 is not allowed; a whole number from 1"),
        ("{where: info, do: drop, every: 1.5}", "faults[0].every: 1.5 is not allowed; a whole number from 1"),
        ("{where: info, do: drop, chance: 1.5}", "faults[0].chance: 1.5 is not allowed; a number above 0"),
        ("{where: info, do: drop, chance: true}", "faults[0].chance: true is not allowed; a number above 0"),
        ("{where: info, do: drop, at: 1, for_s: 0}", "faults[0].for_s: 0 is not allowed; a number of seconds above 0"),
        ("{where: info, do: drop, at: 1, for_s: 1, for_events: 2}", "faults[0].for_events: the rule has for_s already"),
        (
            "{where: bbo, do: late_candle, at: 1, delay_s: 1}",
            "faults[0].do: late_candle is not a fault of bbo; one of drop",
        ),
        ("{where: bbo, do: delay, at: 1}", "faults[0].delay_s: missing; delay needs it"),
        (
            "{where: bbo, do: drop, at: 1, delay_s: 1}",
            "faults[0].delay_s: drop takes none; allowed for delay, late_candle",
        ),
        ("{where: clock, do: clock_skew, at: 1}", "faults[0].skew_ms: missing; clock_skew needs it"),
        ("{where: info, do: 502, at: 1, retry_after_s: 1}", "faults[0].retry_after_s: 502 takes none; allowed for 429"),
        ("{where: info, do: drop, at: 1, close_code: 1006}", "faults[0].close_code: info has no WebSocket to close"),
        ("{where: info, do: drop, at: 1, request: candles}", "faults[0].request: candles is not allowed; one of meta"),
        (
            "{where: subscription, do: silent, at: 1, stream: quotes}",
            "faults[0].stream: quotes is not allowed; one of candle",
        ),
        (
            "{where: connect, do: refuse, at: 1, symbol: BTC}",
            "faults[0].symbol: connect has no symbol; allowed for info",
        ),
        ("{where: bbo, do: drop, at: 1, interval: 7m}", "faults[0].interval: 7m is not allowed; one of 1m, 3m"),
        (
            "{where: bbo, do: drop, at: 1, symbol: DOGE}",
            "faults[0].symbol: 'DOGE' is not a symbol of the market; one of BTC, ETH",
        ),
    ],
)
def test_a_wrong_rule_is_one_error_with_place_key_value_and_what_is_allowed(write, rule, line):
    place, _, rest = problem(write(f"faults:\n  - {rule}\n"), ("BTC", "ETH")).partition(": ")
    assert place.startswith("2:")
    assert rest.startswith(line)
    assert "\n" not in rest


@pytest.mark.parametrize("text", ["", "faults:\n", "- 1\n", "fault: []\n", "faults: 3\n"])
def test_a_file_that_is_no_plan_says_what_a_plan_has(write, text):
    assert "faults" in problem(write(text))


def test_all_errors_of_a_plan_are_reported_at_once(write):
    text = problem(write("faults:\n  - {where: info, do: drop}\n  - {where: bbo, do: delay, at: 1}\n"))
    assert "faults[0].at" in text
    assert "faults[1].delay_s" in text


@pytest.mark.parametrize(("where", "do"), [(where, do) for where, actions in ACTIONS.items() for do in actions])
def test_every_fault_of_every_place_hits_its_event_and_no_other_kind(where, do):
    extra = {"delay": {"delay_s": 2.0}, "late_candle": {"delay_s": 2.0}, "clock_skew": {"skew_ms": -5}}.get(do, {})
    schedule = FaultSchedule(plan_of({"where": where, "do": do, "every": 1, **extra}))
    point = {"symbol": "BTC", "interval": "1h", "open_ms": 0, "final": True}
    (fault,) = schedule.at(FaultPoint(where, 0.0, **point))
    assert fault == Fault(do, 0, extra.get("delay_s", 0.0), extra.get("skew_ms", 0))
    assert not any(schedule.at(FaultPoint(other, 0.0, **point)) for other in ACTIONS if other != where)


def test_parameters_reach_the_fault():
    schedule = FaultSchedule(
        plan_of(
            {"where": "info", "do": "429", "at": 1, "retry_after_s": 7},
            {"where": "socket", "do": "drop", "at": 1, "close_code": 1001},
        )
    )
    assert schedule.at(FaultPoint("info", 0.0)) == (Fault("429", 0, retry_after_s=7),)
    assert schedule.at(FaultPoint("socket", 0.0)) == (Fault("drop", 1, close_code=1001),)


def test_at_hits_one_event_and_every_hits_multiples():
    assert hits(FaultSchedule(plan_of({"where": "bbo", "do": "drop", "at": 3})), quotes(9)) == [3]
    assert hits(FaultSchedule(plan_of({"where": "bbo", "do": "drop", "every": 4})), quotes(9)) == [4, 8]


def test_only_matching_events_are_counted():
    rule = {"where": "candle", "do": "silent", "symbol": "BTC", "interval": "1h", "at": 2}
    schedule = FaultSchedule(plan_of(rule))
    points = [
        FaultPoint("candle", 0.0, symbol=symbol, interval=interval)
        for symbol, interval in (("BTC", "1h"), ("ETH", "1h"), ("BTC", "1m"), ("BTC", "1h"), ("BTC", "1h"))
    ]
    assert hits(schedule, points) == [4]
    assert [(count.events, count.fired) for count in schedule.counts] == [(3, 1)]


def test_requests_and_streams_are_told_apart_by_their_type():
    schedule = FaultSchedule(
        plan_of(
            {"where": "info", "do": "500", "request": "meta", "every": 1},
            {"where": "subscription", "do": "silent", "stream": "bbo", "every": 1},
        )
    )
    assert schedule.at(FaultPoint("info", 0.0, request="meta"))
    assert not schedule.at(FaultPoint("info", 0.0, request="allMids"))
    assert schedule.at(FaultPoint("subscription", 0.0, stream="bbo"))
    assert not schedule.at(FaultPoint("subscription", 0.0, stream="candle"))


def test_a_fault_lasts_for_seconds_or_for_events():
    assert hits(FaultSchedule(plan_of({"where": "bbo", "do": "silent", "at": 2, "for_s": 3})), quotes(9)) == [2, 3, 4]
    events = {"where": "bbo", "do": "silent", "every": 5, "for_events": 2}
    assert hits(FaultSchedule(plan_of(events)), quotes(12)) == [5, 6, 10, 11]


def test_a_fault_of_a_stream_stays_with_the_symbol_that_it_hit():
    schedule = FaultSchedule(plan_of({"where": "bbo", "do": "silent", "at": 3, "for_s": 100}))
    points = [point for pair in zip(quotes(4, "BTC"), quotes(4, "ETH"), strict=True) for point in pair]
    assert hits(schedule, points) == [3, 5, 7]


def test_a_fault_of_the_venue_hits_requests_of_all_kinds():
    schedule = FaultSchedule(plan_of({"where": "info", "do": "502", "at": 2, "for_s": 10}))
    points = [
        FaultPoint("info", float(now), request=kind) for now, kind in enumerate(("meta", "allMids", "meta", "l2Book"))
    ]
    assert hits(schedule, points) == [2, 3, 4]


@pytest.mark.parametrize("do", ["missing_candle", "late_candle"])
def test_a_fault_of_a_bar_counts_bars_and_is_the_same_on_every_connection(do):
    extra = {"delay_s": 3} if do == "late_candle" else {}
    schedule = FaultSchedule(plan_of({"where": "candle", "do": do, "at": 2, **extra}))
    # Three messages of each bar to two connections; the second connection lags behind by a bar.
    sent = [(bar, part) for bar in range(4) for part in range(3)]
    order = [*sent[:3], *(one for pair in zip(sent[3:], sent, strict=False) for one in pair), *sent[-3:]]
    hit = [
        (bar, part)
        for bar, part in order
        if schedule.at(FaultPoint("candle", 0.0, "BTC", "1h", open_ms=bar * 3_600_000, final=part == 2))
    ]
    per_connection = [(1, 2)] if do == "late_candle" else [(1, 0), (1, 1), (1, 2)]
    assert sorted(hit) == sorted(2 * per_connection)


def test_faults_by_chance_occur_at_about_that_rate_and_depend_on_the_seed():
    rule = {"where": "bbo", "do": "drop", "chance": 0.1}
    first = hits(FaultSchedule(plan_of(rule), 1), quotes(5000))
    assert 400 <= len(first) <= 600
    assert first == hits(FaultSchedule(plan_of(rule), 1), quotes(5000))
    assert first != hits(FaultSchedule(plan_of(rule), 2), quotes(5000))


@given(seed=st.integers(0, 2**32), chance=st.floats(0.05, 1), more=st.sampled_from(["bbo", "candle"]))
def test_a_further_rule_moves_no_fault_of_the_others(seed, chance, more):
    first = {"where": "bbo", "do": "drop", "chance": chance}
    second = {"where": more, "do": "delay", "delay_s": 1, "chance": 0.5}
    both = FaultSchedule(plan_of(first, second), seed)
    one = FaultSchedule(plan_of(first), seed)
    for point in quotes(50):
        assert [fault for fault in both.at(point) if fault.rule == 0] == list(one.at(point))


def test_faults_of_one_event_come_in_the_order_of_the_plan():
    rules = [{"where": "bbo", "do": do, "at": 1} for do in ("duplicate", "reorder", "drop")]
    (point,) = quotes(1)
    assert [fault.do for fault in FaultSchedule(plan_of(*rules)).at(point)] == ["duplicate", "reorder", "drop"]
