"""Which of those that passed takes which lane."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_kit import selection_of

from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.promotion.assign import (
    FEWEST_TRADES,
    AcceptedConfig,
    Incumbent,
    assign,
    correlation,
    failure,
    role_order,
)
from mei_pipeline.registry.records import Lane

NOW_MS = 1000 * DAY_MS
DAYS = 60
PRIMARY, FALLBACK, SAFE = (
    Lane(name, "paper", "test", role)
    for name, role in (("paper1", "primary"), ("paper2", "fallback"), ("paper3", "conservative"))
)


def policy(**changes):
    return selection_of(**changes).roles


def returns(seed):
    return np.random.default_rng(seed).normal(0.001, 0.01, DAYS)


def standing(name, sharpe, fall=10.0, series=None):
    return AcceptedConfig(name, sharpe, fall, returns(hash_of(name)) if series is None else series)


def hash_of(name):
    return sum(map(ord, name))


def incumbent(name, sharpe=1.0, **changes):
    base = Incumbent(name, NOW_MS - 100 * DAY_MS, sharpe, returns(hash_of(name)), 5.0, 1.5, 100)
    return replace(base, **changes)


def chosen(lanes, passed, incumbents=None, rules=None, **more):
    found = assign(lanes, passed, incumbents or {}, rules or policy(), NOW_MS, **more)
    assert sorted(each.lane for each in found) == sorted(lane.name for lane in lanes)
    return {each.lane: each.config_id for each in found}


def reason(lane, passed, incumbents=None, rules=None, **more):
    (found,) = assign([lane], passed, incumbents or {}, rules or policy(), NOW_MS, **more)
    return found.reason


# Empty lanes


def test_lanes_choose_in_the_order_of_their_roles_and_equal_scores_go_by_id():
    odd = Lane("a", "paper", "test", "experimental")
    lanes = [odd, SAFE, FALLBACK, PRIMARY]
    assert [lane.role for lane in sorted(lanes, key=role_order)] == [
        "primary",
        "fallback",
        "conservative",
        "experimental",
    ]
    passed = [standing(name, 1.0, 10.0) for name in "dcba"]
    assert chosen(lanes, passed) == {"paper1": "a", "paper2": "b", "paper3": "c", "a": "d"}


def test_the_best_is_primary_and_the_one_that_fell_least_is_conservative():
    passed = [standing("a", 3.0, 30.0), standing("b", 2.0, 20.0), standing("c", 1.5, 9.0), standing("d", 1.0, 8.0)]
    assert chosen([PRIMARY, SAFE], passed) == {"paper1": "a", "paper3": "d"}
    reason = assign([PRIMARY, SAFE], passed, {}, policy(), NOW_MS)[1].reason
    assert "smallest drawdown of 3 configs that no other lane takes: 8 %" in reason


def test_who_moves_like_a_lane_that_is_taken_is_for_no_other():
    base = returns(1)
    alike = standing("b", 2.0, series=base + 1e-4 * returns(2))
    passed = [standing("a", 3.0, series=base), alike, standing("c", 1.0)]
    rules = policy(max_correlation=0.9)
    assert chosen([PRIMARY, FALLBACK], passed, rules=rules) == {"paper1": "a", "paper2": "c"}
    assert chosen([PRIMARY, FALLBACK], passed) == {"paper1": "a", "paper2": "b"}
    assert chosen([PRIMARY, FALLBACK], passed[:2], rules=rules) == {"paper1": "a", "paper2": None}
    (_, second) = assign([PRIMARY, FALLBACK], passed[:2], {}, rules, NOW_MS)
    assert second.reason == (
        "nothing, because each of 2 accepted configs is in another lane, failed in this one, or correlates with "
        "another lane by more than 0.9"
    )


def test_correlation_of_what_does_not_vary_is_none():
    assert correlation(np.zeros(DAYS), returns(1)) == correlation(returns(1), np.full(DAYS, 0.25)) == 0.0
    assert correlation(returns(1), -returns(1)) == pytest.approx(-1.0)


def test_nobody_passed():
    found = assign([PRIMARY, SAFE], [], {"paper3": incumbent("x")}, policy(), NOW_MS, "all fell")
    assert [(each.config_id, each.reason) for each in found] == [(None, "nothing, because all fell")] * 2


# Incumbents


@pytest.mark.parametrize(("days", "config_id"), [(0, None), (6, None), (7, "a"), (400, "a")])
def test_an_incumbent_keeps_its_lane_until_it_has_run_its_time(days, config_id):
    held = {"paper1": incumbent("x", since_ms=NOW_MS - days * DAY_MS - 1)}
    rules = policy(min_run_days=7)
    assert chosen([PRIMARY], [standing("a", 9.0)], held, rules) == {"paper1": config_id}
    if config_id is None:
        words = f"nothing, because the incumbent has run {days} of 7 days"
        assert reason(PRIMARY, [standing("a", 9.0)], held, rules) == words


@pytest.mark.parametrize(("sharpe", "config_id"), [(1.0, None), (1.24, None), (1.25, "a"), (3.0, "a")])
def test_only_one_that_is_better_by_enough_replaces_an_incumbent(sharpe, config_id):
    rules = policy(min_gain_sharpe=0.25)
    assert chosen([PRIMARY], [standing("a", sharpe)], {"paper1": incumbent("x")}, rules) == {"paper1": config_id}


UNFIT = {"unfit": "can't be replayed: no bars", "sharpe": 0.0, "drawdown_pct": None, "profit_factor": None}
FAILED = [
    ({"drawdown_pct": 20.1}, "drawdown of 20.1 % since it took the lane exceeds 20 %"),
    ({"profit_factor": 0.79, "trades": FEWEST_TRADES}, "profit factor 0.79 over 30 trades since it took the"),
    ({"other_kernels": True}, "was accepted with other kernels"),
    ({"other_kernels": True, "unfit": UNFIT["unfit"]}, "was accepted with other kernels"),
]
SOUND = [
    {"drawdown_pct": 20.0},
    {"profit_factor": 0.8},
    {"profit_factor": 0.1, "trades": FEWEST_TRADES - 1},
    {"profit_factor": None, "drawdown_pct": None, "trades": 0},
]
STRICT = {"max_incumbent_drawdown_pct": 20, "min_incumbent_profit_factor": 0.8, "min_run_days": 365}


@pytest.mark.parametrize(("changes", "words"), FAILED)
def test_a_failed_incumbent_is_replaced_whatever_its_time_and_its_score(changes, words):
    held = {"paper1": incumbent("x", 99.0, **changes)}
    rules = policy(**STRICT)
    assert failure(held["paper1"], rules).startswith(words)
    assert chosen([PRIMARY], [standing("a", 0.1)], held, rules) == {"paper1": "a"}
    assert f"the incumbent failed: {words}" in reason(PRIMARY, [standing("a", 0.1)], held, rules)
    stays = reason(PRIMARY, [], held, rules, none_accepted="all fell")
    assert stays.startswith(f"nothing, because all fell; the incumbent failed ({words}")
    assert stays.endswith("and keeps its lane until a config is accepted or it is paused")


@pytest.mark.parametrize("changes", SOUND)
def test_a_sound_incumbent_has_not_failed(changes):
    held = {"paper1": incumbent("x", **changes)}
    assert failure(held["paper1"], policy(**STRICT)) == ""
    assert chosen([PRIMARY], [standing("a", 99.0)], held, policy(**STRICT)) == {"paper1": None}


@pytest.mark.parametrize(("days", "words"), [(3, "has run 3 of 7 days"), (400, "can't be replayed: no bars")])
def test_an_incumbent_that_cannot_be_replayed_has_not_failed_and_keeps_its_lane(days, words):
    held = {"paper1": incumbent("x", since_ms=NOW_MS - days * DAY_MS, **UNFIT)}
    rules = policy(**(STRICT | {"min_run_days": 7}))
    assert failure(held["paper1"], rules) == ""
    assert chosen([PRIMARY], [standing("a", 99.0)], held, rules) == {"paper1": None}
    assert words in reason(PRIMARY, [standing("a", 99.0)], held, rules)
    assert reason(PRIMARY, [], held, rules, none_accepted="all fell").startswith("nothing, because ")


def test_an_incumbent_that_cannot_be_replayed_may_be_judged_anew_with_these_kernels():
    held = {"paper1": incumbent("a", **UNFIT, other_kernels=True)}
    assert chosen([PRIMARY], [standing("a", 3.0)], held, policy(**STRICT)) == {"paper1": "a"}


def test_the_best_that_holds_the_lane_is_left_there():
    held = {"paper1": incumbent("a", 0.0)}
    passed = [standing("a", 3.0), standing("b", 2.0)]
    assert chosen([PRIMARY], passed, held) == {"paper1": None}
    assert reason(PRIMARY, passed, held).endswith("holds the lane")


def test_the_best_that_was_let_in_with_other_kernels_is_assigned_anew():
    held = {"paper1": incumbent("a", other_kernels=True)}
    passed = [standing("a", 3.0), standing("b", 2.0)]
    assert chosen([PRIMARY], passed, held, policy(min_run_days=365)) == {"paper1": "a"}
    assert reason(PRIMARY, passed, held).endswith("it holds the lane and was judged again with these kernels")


@pytest.mark.parametrize("changes", [changes for changes, _ in FAILED[:2]])
@pytest.mark.parametrize("other_kernels", [True, False])
def test_one_that_lost_does_not_follow_itself(changes, other_kernels):
    held = {"paper1": incumbent("a", **(changes | {"other_kernels": other_kernels}))}
    passed = [standing("a", 3.0), standing("b", 2.0)]
    assert chosen([PRIMARY], passed, held, policy(**STRICT)) == {"paper1": "b"}
    assert chosen([PRIMARY], passed[:1], held, policy(**STRICT)) == {"paper1": None}


def test_what_holds_a_lane_is_for_no_other_one():
    held = {"paper1": incumbent("x", 0.0), "paper2": incumbent("a", 3.0)}
    # If paper1 took it and nobody came after it in paper2, it would hold both.
    assert chosen([PRIMARY, FALLBACK], [standing("a", 3.0)], held) == {"paper1": None, "paper2": None}
    more = [standing("a", 3.0), standing("b", 2.0)]
    assert chosen([PRIMARY, FALLBACK], more, held) == {"paper1": "b", "paper2": None}


def test_a_candidate_that_moves_like_an_incumbent_that_stays_is_not_taken():
    young = incumbent("x", since_ms=NOW_MS - DAY_MS)
    rules = policy(max_correlation=0.9, min_run_days=7)
    twin = standing("a", 9.0, series=young.returns * 2)
    assert chosen([PRIMARY, FALLBACK], [twin], {"paper2": young}, rules) == {"paper1": None, "paper2": None}


NAMES = st.sampled_from("abcdef")
SHARPES = st.sampled_from((-1.0, 0.0, 0.5, 1.0, 1.2, 3.0))
HELD = st.builds(
    lambda name, sharpe, days, fall, other, unfit: incumbent(
        name, sharpe, since_ms=NOW_MS - days * DAY_MS, drawdown_pct=fall, other_kernels=other, unfit=unfit
    ),
    NAMES,
    SHARPES,
    st.sampled_from((0, 3, 30)),
    st.sampled_from((None, 1.0, 50.0)),
    st.booleans(),
    st.sampled_from(("", "can't be replayed")),
)


@given(
    lanes=st.permutations([PRIMARY, FALLBACK, SAFE, Lane("d", "paper", "test", "odd")]),
    passed=st.lists(st.tuples(NAMES, SHARPES), unique_by=lambda each: each[0], max_size=6),
    held=st.lists(HELD, unique_by=lambda each: each.config_id, max_size=4),
    limit=st.sampled_from((0.0, 0.3, 1.0)),
)
def test_whatever_stands_no_config_has_two_lanes_and_the_order_of_lanes_is_nothing(lanes, passed, held, limit):
    rules = policy(max_correlation=limit, min_run_days=7, min_gain_sharpe=0.25, max_incumbent_drawdown_pct=20)
    standings = [standing(name, sharpe) for name, sharpe in passed]
    incumbents = dict(zip(("d", "paper1", "paper2", "paper3"), held, strict=False))
    found = chosen(lanes, standings, incumbents, rules)
    after = {name: each.config_id for name, each in incumbents.items()} | {k: v for k, v in found.items() if v}
    assert len(set(after.values())) == len(after)
    assert set(found.values()) <= {None, *(name for name, _ in passed)}
    assert found == chosen(sorted(lanes, key=lambda lane: lane.name), standings[::-1], incumbents, rules)
    for name, each in incumbents.items():
        if not failure(each, rules) and (each.unfit or each.since_ms > NOW_MS - 7 * DAY_MS):
            assert found[name] is None
