import math
import re
from dataclasses import dataclass, replace

import pytest
import registry_kit as kit

from kernels.cache import source_hash
from mei_pipeline.errors import Refused
from mei_pipeline.params.identity import config_id as id_of
from mei_pipeline.registry import store
from mei_pipeline.registry.deploy import (
    Assignment,
    Candidate,
    Change,
    Judged,
    LaneProposal,
    changes,
    promote_proposals,
    propose_deployments,
    store_candidates,
)
from mei_pipeline.registry.lanes import config_path, drift, pointer_path, wanted
from mei_pipeline.registry.records import Lane, Proposal
from mei_pipeline.selection.roles import ROLES, by_rank

pytestmark = pytest.mark.usefixtures("database")

PAPER3 = Lane("a_third", "paper", "synthetic", "conservative")
BOTH = (kit.PAPER2, kit.PAPER1)


@pytest.fixture
def registry(tmp_path):
    return kit.fresh(tmp_path)


@pytest.fixture
def lanes(tmp_path):
    return tmp_path / "lanes"


@dataclass(frozen=True)
class Made:
    judged: tuple[Judged, ...]
    lanes: tuple[LaneProposal, ...]


def by_role(lane):
    return (*ROLES, lane.role).index(lane.role), lane.name


def assign(registry, lanes, assignments, which=BOTH, night=kit.NIGHT):
    return propose_deployments(
        registry, lanes, which, assignments, night_id=night, policy_id=kit.POLICY, occasion=kit.at(9)
    )


def deploy(registry, lanes, candidates, which=BOTH, night=kit.NIGHT):
    """A whole night, the best config to the first lane."""
    judged = store_candidates(registry, candidates, night_id=night, policy_id=kit.POLICY, occasion=kit.at(9))
    which = sorted(which, key=by_role)
    held = {lane.name: wanted(registry, lane.name) for lane in which}
    return Made(judged, assign(registry, lanes, by_rank(judged, which, held, source_hash()), which, night))


def hand_over(registry, lanes, which=BOTH, policy=kit.POLICY, night=None):
    return promote_proposals(registry, lanes, which, policy_id=policy, occasion=kit.at(10), night_id=night)


def number(config_number, venue="synthetic"):
    return id_of(kit.resolved(config_number, venue))


def held(registry):
    return {pointer.lane: pointer.config_id for pointer in store.lane_pointers(registry)}


def test_the_best_go_to_the_lanes_in_the_order_of_roles(registry, lanes):
    which = (PAPER3, *BOTH, Lane("zeta", "paper", "synthetic", "fallback"))
    made = deploy(registry, lanes, [kit.candidate(n, float(n)) for n in range(1, 5)], which)
    assert [(entry.lane, entry.new) for entry in made.lanes] == [
        ("paper1", number(4)),
        ("paper2", number(3)),
        ("zeta", number(2)),
        ("a_third", number(1)),
    ]
    assert store.lane_pointers(registry) == ()
    assert config_path(lanes, "paper1", number(4)).exists()
    assert not pointer_path(lanes, "paper1").exists()


def test_a_role_without_a_rank_comes_last(registry, lanes):
    odd = Lane("a", "paper", "synthetic", "experimental")
    made = deploy(registry, lanes, [kit.candidate(1, 1.0), kit.candidate(2, 2.0)], (odd, kit.PAPER1))
    assert [(entry.lane, entry.new) for entry in made.lanes] == [("paper1", number(2)), ("a", number(1))]


def test_everything_that_was_judged_is_kept(registry, lanes):
    made = deploy(registry, lanes, [kit.candidate(1, 1.0), kit.candidate(2, 5.0, "fail")])
    assert [(entry.config_id, entry.passed, entry.fell_at) for entry in made.judged] == [
        (number(1), True, ()),
        (number(2), False, ("luck: fail",)),
    ]
    story = store.story_of(registry, number(2))
    assert (story.state, story.verdicts[0].passed, len(story.evidence)) == ("candidate", False, 1)


def test_the_same_night_twice_is_one_night(registry, lanes):
    candidates = [kit.candidate(1, 1.0), kit.candidate(2, 2.0, "fail")]
    made = deploy(registry, lanes, candidates)
    stories, proposals = store.list_configs(registry), store.latest_proposals(registry)
    assert deploy(registry, lanes, candidates) == made
    assert (store.list_configs(registry), store.latest_proposals(registry)) == (stories, proposals)


@pytest.mark.parametrize(
    ("candidates", "words"),
    [
        ([], "no config of synthetic was judged"),
        ([kit.candidate(1, 1.0, venue="binance")], "no config of synthetic was judged"),
        ([kit.candidate(1, 1.0, "fail"), kit.candidate(2, 2.0, "no evidence")], "none of 2 passed"),
        ([kit.candidate(1, math.nan)], r"none of 1 passed; most fell at score: no evidence \(1\)"),
        ([Candidate(kit.resolved(), kit.basis(), {}, (), 1.0)], "no gate was computed"),
        ([kit.candidate(1, 3.0), kit.candidate(1, 3.0, "fail")], "none of 2 passed"),
    ],
)
def test_nothing_and_why(registry, lanes, candidates, words):
    made = deploy(registry, lanes, candidates, [kit.PAPER1])
    assert made.lanes[0].new is None
    assert re.match(f"nothing, because .*{words}", made.lanes[0].reason)
    assert hand_over(registry, lanes, [kit.PAPER1])[0].reason == made.lanes[0].reason
    assert store.lane_pointers(registry) == ()


def test_fewer_than_lanes(registry, lanes):
    made = deploy(registry, lanes, [kit.candidate(1, 1.0), kit.candidate(1, 0.5), kit.candidate(2, 9.0, "fail")])
    assert [entry.new for entry in made.lanes] == [number(1), None]
    assert made.lanes[1].reason == "nothing, because 1 of 3 passed and this lane takes number 2"


def test_scores_that_are_none_disturb_nobody(registry, lanes):
    scores = [math.nan, 2.0, math.nan, 3.0, math.inf, 1.0]
    made = deploy(registry, lanes, [kit.candidate(n, score) for n, score in enumerate(scores)])
    assert [entry.new for entry in made.lanes] == [number(3), number(1)]


def test_equal_scores_go_by_id(registry, lanes):
    made = deploy(registry, lanes, [kit.candidate(n, 1.0) for n in range(5)])
    assert [entry.new for entry in made.lanes] == sorted(number(n) for n in range(5))[:2]


def test_lanes_that_no_night_moves_take_nothing(registry, lanes):
    live = Lane("live", "live", "synthetic", "primary")
    manual = Lane("hand", "paper", "synthetic", "primary", manual=True)
    made = deploy(registry, lanes, [kit.candidate(1, 1.0)], (live, manual, kit.PAPER1))
    assert {entry.lane: entry.new for entry in made.lanes} == {"hand": None, "live": None, "paper1": number(1)}
    assert [entry.reason for entry in made.lanes[:2]] == [
        "nothing, because the lane is manual",
        "nothing, because a lane of mode live is moved by a person",
    ]


def test_each_venue_has_its_own_ranks(registry, lanes):
    other = Lane("there", "paper", "binance", "fallback")
    made = deploy(registry, lanes, [kit.candidate(1, 1.0), kit.candidate(2, 0.5, venue="binance")], (kit.PAPER1, other))
    assert [entry.new for entry in made.lanes] == [number(1), number(2, "binance")]


def test_a_night_is_handed_over_once(registry, lanes):
    deploy(registry, lanes, [kit.candidate(1, 1.0), kit.candidate(2, 2.0)])
    first = hand_over(registry, lanes)
    assert [(entry.lane, entry.moved, entry.refused) for entry in first] == [("paper1", True, ""), ("paper2", True, "")]
    assert held(registry) == {"paper1": number(2), "paper2": number(1)}
    assert first[0].files
    again = hand_over(registry, lanes)
    assert [(entry.moved, entry.files, entry.refused) for entry in again] == [(False, (), "")] * 2
    assert [entry.pointer for entry in again] == [entry.pointer for entry in first]


def test_the_next_night_says_old_new_and_difference(registry, lanes):
    deploy(registry, lanes, [kit.candidate(1, 1.0)])
    hand_over(registry, lanes)
    same = deploy(registry, lanes, [kit.candidate(1, 1.0)], night="night 2")
    assert re.match("nothing, because .* holds the lane", same.lanes[0].reason)
    assert hand_over(registry, lanes)[0].moved is False
    made = deploy(registry, lanes, [kit.candidate(1, 1.0), kit.candidate(2, 2.0)], night="night 3")
    assert (made.lanes[0].old, made.lanes[0].new) == (number(1), number(2))
    assert made.lanes[0].changes == (Change("indicators.ema_fast_window", 9, 10),)
    # The first config leaves one lane and takes the other.
    assert [entry.moved for entry in hand_over(registry, lanes)] == [True, True]
    assert held(registry) == {"paper1": number(2), "paper2": number(1)}
    trigger = {step.trigger for step in store.history(registry, lane="paper2")}
    assert trigger == {"night night 3"}


def test_everything_differs_from_nothing():
    found = changes(None, kit.resolved())
    assert Change("market.taker_fee_bps", None, 4.5) in found
    assert Change("symbols", None, ["BTC", "ETH"]) in found
    assert changes(kit.resolved(), kit.resolved()) == ()


def test_launched_alone_it_refuses_what_did_not_pass(registry, lanes):
    fallen, unjudged = kit.judged(registry, 1, "fail"), store.add_config(registry, kit.resolved(2), kit.at())
    store.propose(
        registry,
        [
            Proposal(kit.NIGHT, "paper1", fallen, kit.POLICY, 0, "by mistake", 5),
            Proposal(kit.NIGHT, "paper2", unjudged, kit.POLICY, 0, "by mistake", 5),
        ],
    )
    outcomes = hand_over(registry, lanes)
    assert ["did not pass" in outcomes[0].refused, "no verdict" in outcomes[1].refused] == [True, True]
    assert store.lane_pointers(registry) == ()
    assert not pointer_path(lanes, "paper1").exists()


def test_launched_alone_it_refuses_a_verdict_of_another_policy(registry, lanes):
    deploy(registry, lanes, [kit.candidate(1, 1.0)])
    outcomes = hand_over(registry, lanes, policy=kit.OTHER_POLICY)
    assert "no verdict under policy" in outcomes[0].refused
    assert store.lane_pointers(registry) == ()


def test_launched_alone_without_any_night_it_does_nothing(registry, lanes):
    outcomes = hand_over(registry, lanes)
    assert [(entry.reason, entry.pointer) for entry in outcomes] == [("nothing was proposed", None)] * 2


def test_one_refusal_does_not_stop_the_others(registry, lanes):
    deploy(registry, lanes, [kit.candidate(1, 1.0), kit.candidate(2, 2.0)])
    kit.judged(registry, 2, "fail", night="a later look")
    outcomes = hand_over(registry, lanes)
    assert [bool(entry.refused) for entry in outcomes] == [True, False]
    assert held(registry) == {"paper2": number(1)}


def test_a_proposal_for_a_lane_that_is_gone_is_refused(registry, lanes):
    deploy(registry, lanes, [kit.candidate(1, 1.0)])
    outcomes = hand_over(registry, lanes, which=[])
    assert [(entry.lane, "no file of it" in entry.refused) for entry in outcomes] == [("paper1", True)]
    assert store.lane_pointers(registry) == ()


def test_a_lane_that_was_changed_to_live_is_refused(registry, lanes):
    deploy(registry, lanes, [kit.candidate(1, 1.0)], [kit.PAPER1])
    outcomes = hand_over(registry, lanes, [replace(kit.PAPER1, mode="live")])
    assert "only paper lanes" in outcomes[0].refused


def test_a_rollback_is_not_undone(registry, lanes):
    deploy(registry, lanes, [kit.candidate(1, 1.0)], [kit.PAPER1], "night 1")
    hand_over(registry, lanes, [kit.PAPER1])
    deploy(registry, lanes, [kit.candidate(2, 2.0)], [kit.PAPER1], "night 2")
    hand_over(registry, lanes, [kit.PAPER1])
    kit.promote(registry, lanes, kit.PAPER1, number(1), kit.POLICY, 2, kit.at(99, "the new one misbehaves"))
    outcomes = hand_over(registry, lanes, [kit.PAPER1])
    assert outcomes[0].reason == "nothing, because the lane moved after the proposal: generation 3, not 1"
    assert held(registry) == {"paper1": number(1)}


def test_an_older_night_can_be_named(registry, lanes):
    deploy(registry, lanes, [kit.candidate(1, 1.0)], [kit.PAPER1], "night 1")
    deploy(registry, lanes, [kit.candidate(2, 2.0)], [kit.PAPER1], "night 2")
    hand_over(registry, lanes, [kit.PAPER1], night="night 1")
    assert held(registry) == {"paper1": number(1)}


def test_a_hand_over_repairs_the_files(registry, lanes):
    deploy(registry, lanes, [kit.candidate(1, 1.0)], [kit.PAPER1])
    hand_over(registry, lanes, [kit.PAPER1])
    pointer_path(lanes, "paper1").write_text("torn")
    outcomes = hand_over(registry, lanes, [kit.PAPER1])
    assert outcomes[0].files == (pointer_path(lanes, "paper1"),)
    assert drift(registry, lanes, "paper1").differences == ()


def test_a_second_look_that_fails_keeps_the_lane_and_blocks_a_promotion(registry, lanes):
    deploy(registry, lanes, [kit.candidate(1, 1.0)], [kit.PAPER1])
    hand_over(registry, lanes, [kit.PAPER1])
    deploy(registry, lanes, [kit.candidate(1, 1.0, "fail")], [kit.PAPER1], "night 2")
    assert hand_over(registry, lanes, [kit.PAPER1])[0].moved is False
    assert held(registry) == {"paper1": number(1)}
    with pytest.raises(Refused, match="did not pass"):
        kit.promote(registry, lanes, kit.PAPER2, number(1), kit.POLICY, 0, kit.at())
