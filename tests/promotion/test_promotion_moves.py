"""Pause, resume, renew, resize, roll back, retire; and the ramp of real money."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
import registry_kit as kit
from sqlalchemy import update

from kernels.cache import source_hash
from mei_pipeline.errors import ConfigError, Refused
from mei_pipeline.promotion.moves import pause, resize, retire, rollback
from mei_pipeline.registry import store, tables
from mei_pipeline.registry.database import write_transaction
from mei_pipeline.registry.lanes import config_path, drift, read_pointer_file
from mei_pipeline.registry.render import render

pytestmark = pytest.mark.usefixtures("database")

SHADOW = replace(kit.PAPER1, name="shadow1", mode="shadow")
THERE = "hyperliquid"


@pytest.fixture
def clock():
    return iter(range(100, 1000))


@pytest.fixture
def go(registry, lanes, clock):
    """Promote as a person, at the generation that the lane has."""

    def promote(config_id, lane=kit.PAPER1, size=None, **more):
        pointer = store.lane_pointer(registry, lane.name)
        generation = pointer.generation if pointer else 0
        options = {"by_person": True, "size": size, **more}
        return kit.promote(registry, lanes, lane, config_id, kit.POLICY, generation, kit.at(next(clock)), **options)

    return promote


@pytest.fixture
def live(registry, go):
    """A config in a live lane at the first stage."""
    config_id = kit.judged(registry, venue=THERE)
    go(config_id, kit.PAPER_THERE)
    return go(config_id, kit.LIVE)


def held(registry, lane="paper1"):
    pointer = store.lane_pointer(registry, lane)
    return pointer.config_id, pointer.state, pointer.size_multiplier, pointer.generation


def grow(registry, lanes, clock, size, lane=kit.LIVE):
    return resize(registry, lanes, lane, size, kit.POLICY, kit.at(next(clock)))


def actions(registry, lane="paper1"):
    return [(step.action, step.from_state, step.to_state) for step in store.history(registry, lane=lane)]


# Real money


def test_a_config_goes_live_through_paper_and_the_ramp(registry, lanes, clock, live):
    config_id = live.pointer.config_id
    assert held(registry, "live1") == (config_id, "live_small", 0.25, 1)
    assert store.config_history(registry, config_id).state == "live_small"
    grow(registry, lanes, clock, 0.5)
    assert held(registry, "live1") == (config_id, "live_small", 0.5, 2)
    grow(registry, lanes, clock, 1.0)
    assert held(registry, "live1") == (config_id, "live_full", 1.0, 3)
    steps = store.history(registry, lane="live1")
    assert [(step.from_state, step.to_state, step.size_multiplier) for step in steps] == [
        ("validated", "live_small", 0.25),
        ("live_small", "live_small", 0.5),
        ("live_small", "live_full", 1.0),
    ]
    assert all(step.verdict_id for step in steps)
    file = read_pointer_file(lanes, "live1")
    assert (file.state, file.size_multiplier, file.generation) == ("live_full", 1.0, 3)
    assert store.config_history(registry, config_id).state == "live_full"


@pytest.mark.usefixtures("live")
@pytest.mark.parametrize("size", [1.0, 0.3])
def test_no_stage_is_left_out(registry, lanes, clock, size):
    with pytest.raises(Refused, match="size multiplier"):
        grow(registry, lanes, clock, size)
    assert held(registry, "live1")[2:] == (0.25, 1)


def test_down_goes_by_any_stage_whatever_was_judged_since(registry, lanes, clock, live):
    grow(registry, lanes, clock, 0.5)
    grow(registry, lanes, clock, 1.0)
    kit.judged(registry, verdict="fail", venue=THERE, night="later")
    with pytest.raises(Refused, match="did not pass"):
        kit.promote(registry, lanes, kit.LIVE, live.pointer.config_id, kit.POLICY, 3, kit.at(), by_person=True)
    grow(registry, lanes, clock, 0.25)
    assert held(registry, "live1")[1:] == ("live_small", 0.25, 4)
    with pytest.raises(Refused, match="did not pass"):
        grow(registry, lanes, clock, 0.5)
    assert actions(registry, "live1")[-1] == ("resized", "live_full", "live_small")


def test_a_config_that_was_never_on_paper_does_not_go_live(registry, go):
    config_id = kit.judged(registry, venue=THERE)
    with pytest.raises(Refused, match="never on paper"):
        go(config_id, kit.LIVE)
    assert store.lane_pointer(registry, "live1") is None


@pytest.mark.parametrize("size", [0.5, 1.0])
def test_a_live_lane_is_entered_at_the_first_stage(registry, go, size):
    config_id = kit.judged(registry, venue=THERE)
    go(config_id, kit.PAPER_THERE)
    with pytest.raises(Refused, match=r"is not 0\.25, at which a config enters a live lane"):
        go(config_id, kit.LIVE, size)


def test_real_money_trades_on_one_venue(registry, go):
    config_id = kit.judged(registry)
    go(config_id)
    with pytest.raises(Refused, match="real money trades on hyperliquid only"):
        go(config_id, replace(kit.PAPER1, name="live2", mode="live"))


def test_real_money_takes_no_evidence_of_another_venue(registry, go):
    config_id = kit.judged(registry, venue=THERE, measured="binance")
    with pytest.raises(Refused, match="choose a lane of its venue"):
        go(config_id, kit.LIVE)


@pytest.mark.parametrize("lane", [SHADOW, kit.LIVE])
def test_no_night_moves_a_lane_beside_a_real_account(registry, go, lane):
    with pytest.raises(Refused, match="moves paper lanes only"):
        go(kit.judged(registry, venue=lane.venue), lane, by_person=False)


def test_a_person_moves_a_shadow_lane(registry, go):
    config_id = kit.judged(registry)
    go(config_id, SHADOW)
    assert held(registry, "shadow1") == (config_id, "paper", 1.0, 1)


def test_a_lane_that_turns_live_begins_at_the_first_stage(registry, lanes, clock, go):
    config_id = kit.judged(registry, venue=THERE)
    go(config_id, kit.PAPER_THERE)
    turned = replace(kit.PAPER_THERE, mode="live")
    with pytest.raises(Refused, match=r"is paper, in mode live"):
        grow(registry, lanes, clock, 0.25, turned)
    go(config_id, turned)
    assert held(registry, "paper9") == (config_id, "live_small", 0.25, 2)
    go(config_id, kit.PAPER_THERE)
    assert held(registry, "paper9") == (config_id, "paper", 1.0, 3)


# Sizes without real money


def test_a_paper_lane_has_any_size(registry, lanes, clock, go):
    config_id = kit.judged(registry)
    go(config_id, size=0.4)
    assert held(registry) == (config_id, "paper", 0.4, 1)
    assert grow(registry, lanes, clock, 0.9, kit.PAPER1).moved
    assert not grow(registry, lanes, clock, 0.9, kit.PAPER1).moved
    assert go(config_id, size=0.2).pointer.size_multiplier == 0.2
    assert not go(config_id).moved
    assert actions(registry)[1:] == [("resized", "paper", "paper")] * 2


@pytest.mark.parametrize("size", [0.0, 1.5, float("nan")])
def test_a_size_that_is_none(registry, lanes, clock, go, size):
    config_id = kit.judged(registry)
    with pytest.raises(ConfigError, match="above 0 up to 1"):
        go(config_id, size=size)
    with pytest.raises(ConfigError, match="above 0 up to 1"):
        grow(registry, lanes, clock, size, kit.PAPER1)


def test_nothing_has_no_size_and_no_pause(registry, lanes, clock):
    with pytest.raises(Refused, match="holds no config"):
        grow(registry, lanes, clock, 0.5, kit.PAPER1)
    with pytest.raises(Refused, match="holds no config"):
        pause(registry, lanes, "paper1", kit.at())
    with pytest.raises(Refused, match="holds no config"):
        rollback(registry, lanes, kit.PAPER1, 1, kit.at())


# Pause


def test_a_pause_keeps_the_config_and_a_person_ends_it(registry, lanes, clock, go):
    config_id = kit.judged(registry)
    go(config_id)
    done = pause(registry, lanes, "paper1", kit.at(next(clock), "it misbehaves"))
    assert held(registry) == (config_id, "paused", 1.0, 2)
    assert (done.transition.why, done.transition.verdict_id != "") == ("it misbehaves", True)
    assert read_pointer_file(lanes, "paper1").state == "paused"
    assert store.config_history(registry, config_id).state == "paused"
    assert not pause(registry, lanes, "paper1", kit.at(next(clock))).moved
    with pytest.raises(Refused, match="resume it with"):
        go(config_id, by_person=False)
    with pytest.raises(Refused, match="is paused, in mode paper"):
        grow(registry, lanes, clock, 0.5, kit.PAPER1)
    go(config_id)
    assert held(registry) == (config_id, "paper", 1.0, 3)
    assert actions(registry)[-1] == ("resumed", "paused", "paper")


def test_real_money_comes_back_from_a_pause_at_the_first_stage(registry, lanes, clock, live, go):
    grow(registry, lanes, clock, 0.5)
    pause(registry, lanes, "live1", kit.at(next(clock)))
    assert held(registry, "live1")[1:3] == ("paused", 0.5)
    go(live.pointer.config_id, kit.LIVE)
    assert held(registry, "live1")[1:3] == ("live_small", 0.25)


def test_a_pause_needs_no_verdict_no_kernels_and_no_file_of_the_lane(registry, lanes, go):
    go(kit.judged(registry))
    kit.judged(registry, verdict="fail", night="later")
    with write_transaction(registry) as connection:
        connection.execute(update(tables.evidence).values(basis=kit.rows_text(kit.basis(kernels="k" * 64).as_dict())))
    pause(registry, lanes, "paper1", kit.at(5))
    assert held(registry)[1] == "paused"


def test_another_config_may_take_a_paused_lane(registry, lanes, go):
    one, two = kit.judged(registry, 1), kit.judged(registry, 2)
    go(one)
    pause(registry, lanes, "paper1", kit.at(5))
    go(two)
    assert actions(registry)[-2:] == [("promoted", "validated", "paper"), ("replaced", "paused", "replaced")]


# Renewal


@pytest.mark.parametrize("by_person", [False, True])
def test_new_evidence_renews_the_config_that_holds_the_lane(registry, lanes, go, by_person):
    config_id = kit.judged(registry, data="d")
    go(config_id, size=0.5)
    path = config_path(lanes, "paper1", config_id)
    before = path.read_bytes()
    kit.judged(registry, data="e", night="n2")
    done = go(config_id, by_person=by_person)
    assert held(registry) == (config_id, "paper", 0.5, 2)
    assert (done.moved, done.transition.action) == (True, "renewed")
    assert b"e" * 64 in path.read_bytes() != before
    assert path in done.files
    assert read_pointer_file(lanes, "paper1").provenance.data_hash == "e" * 64
    assert not go(config_id, by_person=by_person).moved


def test_after_a_change_of_kernels_the_same_winner_carries_the_new_ones(registry, lanes, go):
    config_id = kit.judged(registry, kernels=source_hash())
    go(config_id)
    old = kit.rows_text(kit.basis(kernels="k" * 64).as_dict())
    with write_transaction(registry) as connection:  # as if it had been judged before the kernels changed
        connection.execute(update(tables.evidence).values(basis=old, evidence_id="1" * 64))
        connection.execute(update(tables.verdicts).values(evidence_id="1" * 64))
    render(registry, lanes, "paper1")
    assert read_pointer_file(lanes, "paper1").provenance.kernel_hash == "k" * 64
    with pytest.raises(Refused, match=r"measured with kernels kkk.*judge it again"):
        go(config_id)
    kit.judged(registry, night="with the new kernels")
    assert go(config_id).transition.action == "renewed"
    assert read_pointer_file(lanes, "paper1").provenance.kernel_hash == source_hash()


def test_the_same_evidence_judged_again_is_no_renewal(registry, go):
    config_id = kit.judged(registry)
    go(config_id)
    kit.judged(registry, night="n2")
    assert not go(config_id).moved


@pytest.mark.usefixtures("live")
def test_a_step_up_takes_the_newest_evidence_along(registry, lanes, clock):
    kit.judged(registry, venue=THERE, data="e", night="n2")
    done = grow(registry, lanes, clock, 0.5)
    assert done.transition.action == "resized"
    assert read_pointer_file(lanes, "live1").provenance.data_hash == "e" * 64


def test_evidence_of_other_kernels_does_not_promote(registry, go):
    with pytest.raises(Refused, match=f"this checkout has {source_hash()[:12]} and its executor would refuse"):
        go(kit.judged(registry, kernels="k" * 64))


# Rollback


def test_a_rollback_is_a_move_of_its_own(registry, lanes, clock, go):
    one, two, three = (kit.judged(registry, number) for number in (1, 2, 3))
    for config_id in (one, two, three):
        go(config_id)
    before = store.history(registry)
    done = rollback(registry, lanes, kit.PAPER1, 1, kit.at(next(clock), "three loses"))
    assert held(registry) == (two, "paper", 1.0, 4)
    assert (done.transition.action, done.transition.why) == ("rolled back", "three loses")
    assert store.history(registry)[: len(before)] == before
    assert drift(registry, lanes, "paper1").differences == ()
    # Going back again goes further back, and not to where it came from.
    rollback(registry, lanes, kit.PAPER1, 1, kit.at(next(clock)))
    assert held(registry)[0] == one
    with pytest.raises(Refused, match="can go back 0 configs, not 1"):
        rollback(registry, lanes, kit.PAPER1, 1, kit.at(next(clock)))


def test_a_rollback_of_several_steps(registry, lanes, clock, go):
    one, two, three = (kit.judged(registry, number) for number in (1, 2, 3))
    for config_id in (one, two, one, three):
        go(config_id)
    for steps in (0, 3):
        with pytest.raises(Refused, match="can go back 2 configs"):
            rollback(registry, lanes, kit.PAPER1, steps, kit.at(next(clock)))
    rollback(registry, lanes, kit.PAPER1, 2, kit.at(next(clock)))
    assert held(registry)[0] == two


def test_a_rollback_of_real_money_begins_small(registry, lanes, clock, live, go):
    other = kit.judged(registry, 1, venue=THERE)
    go(other, kit.PAPER_THERE)
    grow(registry, lanes, clock, 0.5)
    go(other, kit.LIVE)
    rollback(registry, lanes, kit.LIVE, 1, kit.at(next(clock)))
    assert held(registry, "live1") == (live.pointer.config_id, "live_small", 0.25, 4)


def test_a_verdict_that_fell_later_does_not_hinder_a_rollback(registry, lanes, clock, go):
    one, two = kit.judged(registry, 1), kit.judged(registry, 2)
    go(one)
    go(two)
    kit.judged(registry, 1, "fail", night="later", data="e")
    rollback(registry, lanes, kit.PAPER1, 1, kit.at(next(clock)))
    assert held(registry)[0] == one
    assert read_pointer_file(lanes, "paper1").provenance.data_hash == "d" * 64


def test_a_rollback_needs_a_pass_by_the_kernels_of_now(registry, lanes, clock, go):
    one, two = kit.judged(registry, 1), kit.judged(registry, 2)
    go(one)
    go(two)
    old = kit.rows_text(kit.basis(kernels="k" * 64).as_dict())
    with write_transaction(registry) as connection:
        connection.execute(update(tables.evidence).where(tables.evidence.c.config_id == one).values(basis=old))
    with pytest.raises(Refused, match="never passed with kernels"):
        rollback(registry, lanes, kit.PAPER1, 1, kit.at(next(clock)))
    assert held(registry)[0] == two


@pytest.mark.parametrize(
    ("lane", "words"),
    [
        (replace(kit.PAPER1, manual=True), "is manual"),
        (replace(kit.PAPER1, venue="hyperliquid"), "choose a lane of its venue"),
        (replace(kit.PAPER1, mode="live"), "real money"),
    ],
)
def test_a_lane_that_is_not_rolled_back(registry, lanes, clock, go, lane, words):
    for number in (1, 2):
        go(kit.judged(registry, number))
    with pytest.raises(Refused, match=words):
        rollback(registry, lanes, lane, 1, kit.at(next(clock)))


# Retirement


def test_a_retired_config_trades_nowhere_ever_again(registry, lanes, clock, go):
    one, two = kit.judged(registry, 1), kit.judged(registry, 2)
    go(one)
    go(two)
    done = retire(registry, one, kit.at(next(clock), "it was luck"))
    assert (done.from_state, done.to_state, done.lane, done.why) == ("validated", "retired", "", "it was luck")
    assert retire(registry, one, kit.at(next(clock))) is None
    kit.judged(registry, 1, night="later")
    assert store.config_history(registry, one).state == "retired"
    for call in (
        lambda: go(one),
        lambda: go(one, kit.PAPER2),
        lambda: rollback(registry, lanes, kit.PAPER1, 1, kit.at(next(clock))),
    ):
        with pytest.raises(Refused, match=r"can't go from retired to paper; states that can follow: none"):
            call()
    assert held(registry)[0] == two


def test_a_config_that_trades_is_paused_before_it_is_retired(registry, lanes, clock, go):
    one, two = kit.judged(registry, 1), kit.judged(registry, 2)
    go(one)
    with pytest.raises(Refused, match="trades in paper1; pause the lane"):
        retire(registry, one, kit.at(next(clock)))
    pause(registry, lanes, "paper1", kit.at(next(clock)))
    retire(registry, one, kit.at(next(clock)))
    assert held(registry)[:2] == (one, "paused")
    assert store.config_history(registry, one).state == "retired"
    with pytest.raises(Refused, match="can't go from retired"):
        go(one)
    go(two)
    assert actions(registry)[-1] == ("promoted", "validated", "paper")
    assert store.state_of(registry, one, "paper1") == "retired"


def test_a_candidate_may_be_retired_and_an_unknown_config_not(registry):
    fallen = kit.judged(registry, 1, "fail")
    assert retire(registry, fallen, kit.at()).from_state == "candidate"
    with pytest.raises(Refused, match="not in the registry"):
        retire(registry, "f" * 64, kit.at())


# Races


def test_of_many_who_move_one_lane_each_move_has_a_generation_of_its_own(registry, lanes, go):
    """A pause, a rollback, a step down and two promotions at once: all that count follow one after the other."""
    ids = [kit.judged(registry, number) for number in range(4)]
    go(ids[0])
    go(ids[1])
    barrier = Barrier(5)
    moves = [
        lambda: pause(registry, lanes, "paper1", kit.at(901)),
        lambda: rollback(registry, lanes, kit.PAPER1, 1, kit.at(902)),
        lambda: resize(registry, lanes, kit.PAPER1, 0.5, kit.POLICY, kit.at(903)),
        lambda: kit.promote(registry, lanes, kit.PAPER1, ids[2], kit.POLICY, 2, kit.at(904), by_person=True),
        lambda: kit.promote(registry, lanes, kit.PAPER1, ids[3], kit.POLICY, 2, kit.at(905)),
    ]

    def race(move):
        barrier.wait()
        try:
            return move()
        except Refused as error:
            return error

    with ThreadPoolExecutor(5) as pool:
        outcomes = list(pool.map(race, moves))
    moved = [outcome.pointer.generation for outcome in outcomes if not isinstance(outcome, Refused) and outcome.moved]
    assert sorted(moved) == list(range(3, 3 + len(moved)))
    assert store.lane_pointer(registry, "paper1").generation == 2 + len(moved)
    assert drift(registry, lanes, "paper1").differences == ()
    promoted = [outcome for outcome in outcomes[3:] if not isinstance(outcome, Refused)]
    assert len(promoted) <= 1
