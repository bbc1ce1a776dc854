from itertools import pairwise, product

import pytest

from mei_pipeline.errors import ConfigError, Refused
from mei_pipeline.registry.lifecycle import (
    HOLDING_STATES,
    NEXT_STATES,
    RAMP,
    TRADING_STATES,
    check_size,
    check_transition,
    entry,
    stage,
)

STATES = ("", "candidate", "validated", "paper", "live_small", "live_full", "paused", "replaced", "retired")
STEPS = {
    ("", "candidate"),
    ("candidate", "validated"),
    ("candidate", "retired"),
    ("validated", "retired"),
    *product(("validated", "paused", "replaced"), ("paper", "live_small")),
    *product(("paper", "live_small", "live_full"), ("paper", "live_small", "paused", "replaced")),
    ("live_small", "live_full"),
    ("live_full", "live_full"),
    ("paused", "replaced"),
}


@pytest.mark.parametrize(("before", "after"), list(product((*STATES, "lost"), repeat=2)))
def test_only_listed_steps_are_legal(before, after):
    if (before, after) in STEPS:
        check_transition("c" * 64, before, after)
    else:
        with pytest.raises(Refused, match="can't go from"):
            check_transition("c" * 64, before, after)


def test_every_state_can_be_reached_and_only_one_is_the_end():
    assert {after for allowed in NEXT_STATES.values() for after in allowed} | {""} == set(STATES) == set(NEXT_STATES)
    assert [state for state in STATES if not NEXT_STATES[state]] == ["retired"]


def test_real_money_begins_small():
    ways_in = {before for before, allowed in NEXT_STATES.items() if "live_full" in allowed}
    assert ways_in == {"live_small", "live_full"}
    assert {state for states in TRADING_STATES.values() for state in states} | {"paused"} == set(HOLDING_STATES)


@pytest.mark.parametrize("size", [0.0, -1.0, 1.01, float("nan"), float("inf")])
def test_a_size_that_is_none(size):
    with pytest.raises(ConfigError, match="above 0 up to 1"):
        check_size("paper1", size)


@pytest.mark.parametrize("mode", ["paper", "shadow"])
def test_without_real_money_any_size_will_do(mode):
    assert entry("l", mode, 0.3) == ("paper", 0.3)
    assert stage("l", mode, 0.3, 0.9) == ("paper", 0.9)


def test_a_live_lane_is_entered_at_the_first_stage():
    assert entry("l", "live", 0.25) == ("live_small", 0.25)
    for size in (0.1, 0.5, 1.0):
        with pytest.raises(Refused, match=r"is not 0\.25, at which a config enters a live lane"):
            entry("l", "live", size)


def test_the_ramp_goes_up_by_one_stage_and_down_by_any():
    for now, size in product(RAMP, repeat=2):
        if size <= now or (now, size) in pairwise(RAMP):
            assert stage("l", "live", now, size) == ("live_full" if size == 1.0 else "live_small", size)
        else:
            with pytest.raises(Refused, match="skips a step"):
                stage("l", "live", now, size)
    with pytest.raises(Refused, match=r"a live lane has 0\.25, 0\.5, 1"):
        stage("l", "live", 0.5, 0.3)
