import math
import re
import shutil
from dataclasses import dataclass, replace

import pytest
import registry_kit as kit
from sqlalchemy import update

from kernels.cache import source_hash
from mei_pipeline.errors import DataError, Fatal, Refused
from mei_pipeline.params.identity import config_id as id_of
from mei_pipeline.promotion.assign import Assignment, role_order
from mei_pipeline.promotion.moves import pause, retire
from mei_pipeline.promotion.promote_proposals import promote_proposals
from mei_pipeline.promotion.propose import (
    CandidateRecord,
    LaneProposal,
    ParameterChange,
    StoredCandidate,
    parameter_changes,
    propose_assignments,
    store_candidates,
)
from mei_pipeline.registry import store, tables
from mei_pipeline.registry.database import write_transaction
from mei_pipeline.registry.lanes import config_path, drift, lane_files, pointer_path
from mei_pipeline.registry.records import Lane, Proposal

pytestmark = pytest.mark.usefixtures("database")

PAPER3 = Lane("a_third", "paper", "synthetic", "conservative")
BOTH = (kit.PAPER2, kit.PAPER1)


@dataclass(frozen=True)
class Made:
    judged: tuple[StoredCandidate, ...]
    lanes: tuple[LaneProposal, ...]


def assign(registry, lanes, assignments, which=BOTH, night=kit.NIGHT):
    return propose_assignments(
        registry, lanes, which, assignments, night_id=night, policy_id=kit.POLICY, audit=kit.at(9)
    )


def deploy(registry, lanes, candidates, which=BOTH, night=kit.NIGHT):
    """A whole night, the best config to the first lane."""
    judged = store_candidates(registry, candidates, night_id=night, policy_id=kit.POLICY, audit=kit.at(9))
    which = sorted(which, key=role_order)
    return Made(judged, assign(registry, lanes, kit.by_rank(registry, judged, which), which, night))


def hand_over(registry, lanes, which=BOTH, policy=kit.POLICY, night=None):
    return promote_proposals(registry, lanes, which, policy_id=policy, audit=kit.at(10), night_id=night)


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
    assert [(entry.config_id, entry.passed, entry.rejected_at) for entry in made.judged] == [
        (number(1), True, ()),
        (number(2), False, ("luck: fail",)),
    ]
    story = store.config_history(registry, number(2))
    assert (story.state, story.verdicts[0].passed, len(story.evidence)) == ("candidate", False, 1)


def test_the_same_night_twice_is_one_night(registry, lanes):
    candidates = [kit.candidate(1, 1.0), kit.candidate(2, 2.0, "fail")]
    made = deploy(registry, lanes, candidates)
    histories, proposals = store.list_configs(registry), store.latest_proposals(registry)
    assert deploy(registry, lanes, candidates) == made
    assert (store.list_configs(registry), store.latest_proposals(registry)) == (histories, proposals)


@pytest.mark.parametrize(
    ("candidate", "rejected_at"),
    [
        (kit.candidate(1, 1.0), ()),
        (kit.candidate(1, 1.0, "fail"), ("luck: fail",)),
        (kit.candidate(1, 1.0, "no evidence"), ("luck: no evidence",)),
        (kit.candidate(1, math.nan), ("score: no evidence",)),
        (kit.candidate(1, math.inf), ("score: no evidence",)),
        (CandidateRecord(kit.resolved(), kit.basis(), {}, (), 1.0), ("no gate was computed",)),
    ],
)
def test_who_fell_and_at_what(registry, candidate, rejected_at):
    (judged,) = store_candidates(registry, [candidate], night_id=kit.NIGHT, policy_id=kit.POLICY, audit=kit.at())
    assert (judged.passed, judged.rejected_at) == (not rejected_at, rejected_at)


def test_where_nobody_is_left_nothing_moves(registry, lanes):
    made = deploy(registry, lanes, [kit.candidate(1, 1.0, "fail")], [kit.PAPER1])
    assert (made.lanes[0].new, made.lanes[0].reason) == (None, "nothing, because nobody is left")
    assert hand_over(registry, lanes, [kit.PAPER1])[0].reason == made.lanes[0].reason
    assert store.lane_pointers(registry) == ()


def test_lanes_that_no_night_moves_take_nothing(registry, lanes):
    live = Lane("live", "live", "synthetic", "primary")
    manual = Lane("hand", "paper", "synthetic", "primary", manual=True)
    made = deploy(registry, lanes, [kit.candidate(1, 1.0)], (live, manual, kit.PAPER1))
    assert {entry.lane: entry.new for entry in made.lanes} == {"hand": None, "live": None, "paper1": number(1)}
    assert [entry.reason for entry in made.lanes[:2]] == [
        "nothing, because the lane is manual",
        "nothing, because a person moves lanes of mode live",
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
    assert made.lanes[0].changes == (ParameterChange("indicators.ema_fast_window", 9, 10),)
    # The first config leaves one lane and takes the other.
    assert [entry.moved for entry in hand_over(registry, lanes)] == [True, True]
    assert held(registry) == {"paper1": number(2), "paper2": number(1)}
    trigger = {step.trigger for step in store.history(registry, lane="paper2")}
    assert trigger == {"night night 3"}


def test_everything_differs_from_nothing():
    found = parameter_changes(None, kit.resolved())
    assert ParameterChange("market.taker_fee_bps", None, 4.5) in found
    assert ParameterChange("symbols", None, ["BTC", "ETH"]) in found
    assert parameter_changes(kit.resolved(), kit.resolved()) == ()


def test_launched_alone_it_refuses_what_did_not_pass(registry, lanes):
    fallen, unjudged = kit.judged(registry, 1, "fail"), store.add_config(registry, kit.resolved(2), kit.at())
    store.add_proposals(
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


def later_pointer(lanes):
    """A pointer of a later generation: the registry is an older backup."""
    path = pointer_path(lanes, "paper1")
    path.write_text(path.read_text().replace("generation: 1", "generation: 7"))


def unreadable_pointer(lanes):
    path = pointer_path(lanes, "paper1")
    path.unlink()
    path.mkdir()


def no_folder_of_configs(lanes):
    folder = lanes / "paper1" / "configs"
    shutil.rmtree(folder)
    folder.write_text("")


def a_file_for_a_folder(lanes):
    shutil.rmtree(lanes / "paper1")
    (lanes / "paper1").write_text("")


HARMS = [later_pointer, unreadable_pointer, no_folder_of_configs, a_file_for_a_folder]


@pytest.mark.parametrize("harm", HARMS)
def test_a_lane_whose_files_are_damaged_is_named_and_the_others_move(registry, lanes, harm):
    deploy(registry, lanes, [kit.candidate(1, 1.0), kit.candidate(2, 2.0)])
    hand_over(registry, lanes)
    harm(lanes)
    made = deploy(registry, lanes, [kit.candidate(3, 4.0), kit.candidate(4, 3.0)], night="night 2")
    assert made.lanes[1].new == number(4)
    bad, good = hand_over(registry, lanes)
    assert (bad.moved, "lane paper1" in bad.refused, good.moved, good.refused) == (False, bool(bad.error), True, "")
    assert held(registry) == {"paper1": number(2), "paper2": number(4)}
    assert not drift(registry, lanes, "paper2").differences
    assert drift(registry, lanes, "paper1").differences
    if made.lanes[0].new is None:
        assert "the lane's folder can't be written" in made.lanes[0].reason
    else:
        assert bad.error is not None


def test_the_config_of_a_lane_whose_files_are_damaged_goes_nowhere_else(registry, lanes):
    deploy(registry, lanes, [kit.candidate(1, 1.0), kit.candidate(2, 2.0)])
    hand_over(registry, lanes)
    later_pointer(lanes)
    # By itself paper2 could take paper1's config, for paper1 was to take another one.
    pairs = (("paper1", number(1)), ("paper2", number(2)))
    store.add_proposals(
        registry, [Proposal("night 2", lane, config, kit.POLICY, 1, "they change places", 5) for lane, config in pairs]
    )
    bad, good = hand_over(registry, lanes, night="night 2")
    assert isinstance(bad.error, Fatal)
    assert "a nightly run gives it one lane" in good.refused
    assert held(registry) == {"paper1": number(2), "paper2": number(1)}


def test_files_that_cannot_be_written_after_the_move_hold_up_no_other_lane(registry, lanes):
    deploy(registry, lanes, [kit.candidate(1, 1.0), kit.candidate(2, 2.0)])
    pointer_path(lanes, "paper1").mkdir(parents=True)  # nothing reads it before the first move
    bad, good = hand_over(registry, lanes)
    assert (bad.moved, isinstance(bad.error, DataError), good.moved, good.refused) == (True, True, True, "")
    assert not drift(registry, lanes, "paper2").differences
    pointer_path(lanes, "paper1").rmdir()
    assert [entry.refused for entry in hand_over(registry, lanes)] == ["", ""]
    assert not drift(registry, lanes, "paper1").differences


def test_a_proposal_for_a_lane_that_is_gone_is_refused(registry, lanes):
    deploy(registry, lanes, [kit.candidate(1, 1.0)])
    outcomes = hand_over(registry, lanes, which=[])
    assert [(entry.lane, "has a proposal but no file" in entry.refused) for entry in outcomes] == [("paper1", True)]
    assert store.lane_pointers(registry) == ()


def test_a_lane_that_was_changed_to_live_is_refused(registry, lanes):
    deploy(registry, lanes, [kit.candidate(1, 1.0)], [kit.PAPER1])
    outcomes = hand_over(registry, lanes, [replace(kit.PAPER1, mode="live")])
    assert "moves paper lanes only" in outcomes[0].refused


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


# What the caller assigns


def test_a_config_that_was_judged_earlier_may_be_assigned(registry, lanes):
    config_id = kit.judged(registry, 1, night="an earlier one")
    (found,) = assign(registry, lanes, [Assignment("paper1", config_id, "it is steady")], [kit.PAPER1])
    assert (found.new, found.reason) == (config_id, "it is steady")
    assert hand_over(registry, lanes, [kit.PAPER1])[0].moved
    assert [step.why for step in store.history(registry, lane="paper1")] == ["it is steady"]


def test_a_lane_may_be_left_with_a_reason(registry, lanes):
    kit.judged(registry, 1)
    (found,) = assign(registry, lanes, [Assignment("paper1", None, "nothing, because it trades well")], [kit.PAPER1])
    assert (found.new, found.reason) == (None, "nothing, because it trades well")
    assert hand_over(registry, lanes, [kit.PAPER1])[0].reason == "nothing, because it trades well"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda registry: kit.judged(registry, 2, venue="binance"), "choose a lane of its venue"),
        (lambda registry: kit.judged(registry, 2, kernels="k" * 64), "judge it again"),
        (lambda registry: store.add_config(registry, kit.resolved(2), kit.at()), "has no verdict under policy"),
        (lambda _: "f" * 64, "not in the registry"),
    ],
)
def test_what_does_not_fit_the_lane_is_not_proposed(registry, lanes, bad, words):
    assignments = [Assignment("paper1", kit.judged(registry, 1), ""), Assignment("paper2", bad(registry), "")]
    with pytest.raises(Refused, match=words):
        assign(registry, lanes, assignments)
    assert store.latest_proposals(registry) == ()


@pytest.mark.parametrize("verdict", ["fail", "no evidence"])
def test_what_never_passed_is_not_proposed_and_what_fell_since_is_not_promoted(registry, lanes, verdict):
    with pytest.raises(Refused, match="can't go from candidate to paper"):
        assign(registry, lanes, [Assignment("paper1", kit.judged(registry, 1, verdict), "")], [kit.PAPER1])
    kit.judged(registry, 2)
    assign(registry, lanes, [Assignment("paper1", kit.judged(registry, 2, verdict, night="n2"), "")], [kit.PAPER1])
    assert f"did not pass: trades ({verdict})" in hand_over(registry, lanes, [kit.PAPER1])[0].refused
    assert store.lane_pointers(registry) == ()


def test_a_retired_config_is_passed_over_and_not_proposed(registry, lanes):
    config_id = kit.judged(registry, 1)
    retire(registry, config_id, kit.at())
    with pytest.raises(Refused, match="can't go from retired"):
        assign(registry, lanes, [Assignment("paper1", config_id, "")], [kit.PAPER1])
    made = deploy(registry, lanes, [kit.candidate(1, 9.0), kit.candidate(2, 1.0)], [kit.PAPER1])
    assert made.lanes[0].new == number(2)
    assert made.judged[0].rejected_at == ("lifecycle: retired",)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "name the lanes none; name each configured lane once: paper1, paper2"),
        (["paper1"], "name the lanes paper1; name each configured lane once"),
        (["paper1", "paper1"], "name the lanes paper1, paper1; name each configured lane once"),
        (["paper1", "paper2", "paper3"], "name each configured lane once: paper1, paper2"),
    ],
)
def test_every_lane_is_assigned_once(registry, lanes, names, words):
    with pytest.raises(Refused, match=words):
        assign(registry, lanes, [Assignment(name, None, "") for name in names])


def test_a_night_gives_a_config_one_lane(registry, lanes):
    config_id = kit.judged(registry, 1)
    with pytest.raises(Refused, match="is assigned to paper1, paper2; a nightly run gives a config one lane"):
        assign(registry, lanes, [Assignment(name, config_id, "") for name in ("paper2", "paper1")])


def test_two_lanes_change_places(registry, lanes):
    one, two = kit.judged(registry, 1), kit.judged(registry, 2)
    for night, pair in enumerate([(one, two), (two, one)]):
        assignments = [Assignment(name, held, "") for name, held in zip(("paper1", "paper2"), pair, strict=True)]
        assign(registry, lanes, assignments, night=f"night {night}")
        assert [entry.moved for entry in hand_over(registry, lanes)] == [True, True]
    assert held(registry) == {"paper1": two, "paper2": one}


def test_a_place_that_does_not_become_free_is_not_taken(registry, lanes):
    one, two = kit.judged(registry, 1), kit.judged(registry, 2)
    kit.promote(registry, lanes, kit.PAPER1, one, kit.POLICY, 0, kit.at(1))
    assign(registry, lanes, [Assignment("paper1", two, ""), Assignment("paper2", one, "")])
    kit.judged(registry, 2, "fail", night="later")
    outcomes = hand_over(registry, lanes)
    assert [entry.moved for entry in outcomes] == [False, False]
    assert "holds paper1; a nightly run gives it one lane" in outcomes[1].refused
    assert held(registry) == {"paper1": one}


def test_a_config_that_is_live_may_be_on_paper_too(registry, lanes):
    config_id = kit.judged(registry, venue="hyperliquid")
    for lane in (kit.PAPER_THERE, kit.LIVE):
        kit.promote(registry, lanes, lane, config_id, kit.POLICY, 0, kit.at(), by_person=True)
    other = kit.judged(registry, 1, venue="hyperliquid")
    kit.promote(registry, lanes, kit.PAPER_THERE, other, kit.POLICY, 1, kit.at(2))
    assign(registry, lanes, [Assignment("paper9", config_id, "")], [kit.PAPER_THERE])
    assert hand_over(registry, lanes, [kit.PAPER_THERE])[0].moved
    assert held(registry) == {"paper9": config_id, "live1": config_id}


def test_a_paused_lane_is_left_and_its_config_goes_nowhere_else(registry, lanes):
    deploy(registry, lanes, [kit.candidate(1, 1.0)])
    hand_over(registry, lanes)
    pause(registry, lanes, "paper1", kit.at(20))
    made = deploy(registry, lanes, [kit.candidate(1, 3.0), kit.candidate(2, 2.0)], night="night 2")
    assert [(entry.new, entry.reason[:31]) for entry in made.lanes] == [
        (None, "nothing, because the lane is pa"),
        (number(2), "best that is left"),
    ]
    assert [entry.refused for entry in hand_over(registry, lanes)] == ["", ""]
    assert held(registry) == {"paper1": number(1), "paper2": number(2)}


def test_a_lane_that_was_paused_after_the_proposal_is_left(registry, lanes):
    deploy(registry, lanes, [kit.candidate(1, 1.0)], [kit.PAPER1])
    hand_over(registry, lanes, [kit.PAPER1])
    deploy(registry, lanes, [kit.candidate(2, 2.0)], [kit.PAPER1], "night 2")
    pause(registry, lanes, "paper1", kit.at(20))
    (found,) = hand_over(registry, lanes, [kit.PAPER1])
    assert found.reason.startswith("nothing, because the lane moved after the proposal")


def renewed(registry, lanes, night):
    """The same winner, judged by the kernels of now after it was let in by others."""
    old = kit.rows_text(kit.basis(kernels="k" * 64).as_dict())
    with write_transaction(registry) as connection:
        connection.execute(update(tables.evidence).values(basis=old, evidence_id="1" * 64))
        connection.execute(update(tables.verdicts).values(evidence_id="1" * 64))
    return deploy(registry, lanes, [kit.candidate(1, 1.0)], [kit.PAPER1], night)


def test_after_a_change_of_kernels_the_winner_is_proposed_and_renewed(registry, lanes):
    deploy(registry, lanes, [kit.candidate(1, 1.0)], [kit.PAPER1])
    hand_over(registry, lanes, [kit.PAPER1])
    made = renewed(registry, lanes, "night 2")
    assert (made.lanes[0].old, made.lanes[0].new, made.lanes[0].changes) == (number(1), number(1), ())
    assert made.lanes[0].reason == "judged anew"
    (found,) = hand_over(registry, lanes, [kit.PAPER1])
    assert (found.moved, found.pointer.generation) == (True, 2)
    assert store.history(registry, lane="paper1")[-1].action == "renewed"
    assert lane_files(registry, "paper1").file.provenance.kernel_hash == source_hash()
    assert not hand_over(registry, lanes, [kit.PAPER1])[0].moved
    again = deploy(registry, lanes, [kit.candidate(1, 1.0)], [kit.PAPER1], "night 3")
    assert again.lanes[0].new is None


def test_the_holder_assigned_with_the_same_evidence_is_nothing(registry, lanes):
    config_id = kit.judged(registry, 1)
    kit.promote(registry, lanes, kit.PAPER1, config_id, kit.POLICY, 0, kit.at(1))
    (found,) = assign(registry, lanes, [Assignment("paper1", config_id, "best again")], [kit.PAPER1])
    assert (found.new, found.reason) == (None, f"nothing, because {config_id[:12]} holds the lane")


def test_a_proposal_of_what_holds_the_lane_by_then_is_nothing(registry, lanes):
    config_id = kit.judged(registry, 1)
    kit.promote(registry, lanes, kit.PAPER1, config_id, kit.POLICY, 0, kit.at(1))
    store.add_proposals(registry, [Proposal(kit.NIGHT, "paper1", config_id, kit.POLICY, 1, "again", 5)])
    (found,) = hand_over(registry, lanes, [kit.PAPER1])
    assert (found.moved, found.refused, found.reason) == (
        False,
        "",
        f"nothing, because {config_id[:12]} holds the lane",
    )
