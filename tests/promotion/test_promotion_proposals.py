"""From verdicts to proposals: who holds the lanes, and what the registry is told."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from market_kit import DAY_MS
from pipeline_kit import NOW_MS, Night, deploy
from sqlalchemy import update

from kernels.cache import source_hash
from mei_pipeline.candles.lake import Lake, merge_candles, read_candles
from mei_pipeline.config.models import LaneConfig
from mei_pipeline.files import canonical_json
from mei_pipeline.night.data import build_night_features, load_night_bars
from mei_pipeline.promotion.moves import pause
from mei_pipeline.promotion.pipeline import assign_lanes, read_assignments, read_incumbents
from mei_pipeline.promotion.promote import PromotionRequest, promote
from mei_pipeline.promotion.promote_proposals import promote_proposals
from mei_pipeline.promotion.propose import CandidateRecord, store_candidates
from mei_pipeline.registry import tables
from mei_pipeline.registry.database import open_registry, write_transaction
from mei_pipeline.registry.lanes import configured_lanes
from mei_pipeline.registry.records import AuditContext, Lane
from mei_pipeline.registry.store import config_history, lane_pointer, lane_pointers, latest_proposals
from mei_pipeline.selection.io import read_candidates, read_gate_results, read_walk_forward
from mei_pipeline.selection.segments import MarketData, run_segment, stitch
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.sweep.plan import resolved_combo

PAPER1 = Lane("paper1", "paper", "test", "primary")
BY_HAND = AuditContext(NOW_MS, "a person", "looked at it", "command")


def with_lanes(found: Night, **lanes: dict) -> Night:
    """The same night with other lanes."""
    models = {
        name: LaneConfig.model_validate({"venue": "test", "mode": "paper"} | lane) for name, lane in lanes.items()
    }
    return replace(found, config=replace(found.config, lanes=models))


def with_roles(found: Night, **changes) -> Night:
    """The same night under other rules for its lanes."""
    selection = found.plan.selection
    roles = selection.roles.model_copy(update=changes)
    judged = replace(found.plan, selection=selection.model_copy(update={"roles": roles}))
    (found.folder).rename(replace(found, plan=judged).folder)
    return replace(found, plan=judged)


def ids(found: Night) -> list[str]:
    """The configs that passed, best first."""
    passed = [each for each in read_gate_results(found.settings, found.plan).judgements if each.passed]
    return [each.config_id for each in sorted(passed, key=lambda each: -each.measured.sharpe)]


def assigned(found: Night, now_ms: int = NOW_MS) -> dict[str, tuple[str | None, str]]:
    done = assign_lanes(found.settings, found.config, found.plan, now_ms)
    assert read_assignments(found.settings, found.plan) == done
    return {each.lane: (each.config_id, each.reason) for each in done}


def hand_over(found: Night):
    return promote_proposals(
        open_registry(found.settings.registry),
        found.settings.lanes,
        configured_lanes(found.config.lanes),
        policy_id=found.plan.selection.id,
        audit=AuditContext(NOW_MS, "test", "night", "test"),
    )


@pytest.fixture
def held(judged) -> Night:
    """A night after which the best that passed holds paper1."""
    deploy(judged)
    assert [(each.moved, each.refused) for each in hand_over(judged)] == [(True, "")]
    return judged


def test_every_finalist_is_stored_with_its_verdict_and_no_pointer_moves(judged):
    done = deploy(judged)
    registry = open_registry(judged.settings.registry)
    candidates = read_candidates(judged.settings, judged.plan).candidates
    assert [each.config_id for each in done.candidates] == [each.config_id for each in candidates]
    for candidate, judgement in zip(
        candidates, read_gate_results(judged.settings, judged.plan).judgements, strict=True
    ):
        story = config_history(registry, candidate.config_id)
        (evidence,) = story.evidence
        assert story.config.resolved == resolved_combo(judged.plan.sweep, candidate.params)
        assert evidence.basis.data_hash == judged.plan.sweep.data_hash
        assert evidence.basis.kernel_hash == source_hash()
        assert evidence.metrics["out_of_sample"] == vars(candidate.out_of_sample)
        assert evidence.metrics["holdout"] == vars(candidate.holdout)
        assert evidence.metrics["selected"] == list(candidate.selected)
        assert story.verdicts[0].gates == judgement.gates
        assert (story.verdicts[0].policy_id, story.verdicts[0].passed) == (judged.plan.selection.id, judgement.passed)
    assert lane_pointers(registry) == ()
    assert [(each.lane, each.config_id) for each in latest_proposals(registry)] == [("paper1", ids(judged)[0])]


def test_lanes_get_different_configs_and_the_moves_are_not_refused(judged):
    found = with_lanes(judged, paper1={"role": "primary"}, paper2={"role": "fallback"}, paper3={"role": "conservative"})
    done = deploy(found)
    assert sorted(lane.new for lane in done.lanes) == sorted(ids(found))
    assert done.lanes[0].new == ids(found)[0]
    assert {each.refused for each in hand_over(found)} == {""}


def test_the_same_night_again_leaves_the_lane(held):
    best = ids(held)[0]
    config_id, reason = assigned(held)["paper1"]
    assert config_id is None
    assert reason.startswith(f"nothing, because {best[:12]}, best Sharpe ratio of 3 configs that no other lane takes")
    assert deploy(held).lanes[0].new is None
    assert [each.moved for each in hand_over(held)] == [False]


def test_lanes_that_no_night_moves_say_why(judged):
    found = with_lanes(
        judged,
        hand={"role": "primary", "manual": True},
        live={"role": "primary", "mode": "live"},
        elsewhere={"role": "primary", "venue": "binance"},
        paper1={"role": "primary"},
    )
    told = assigned(found)
    assert told.pop("paper1")[0] == ids(found)[0]
    assert told == {
        "hand": (None, "nothing, because the lane is manual"),
        "live": (None, "nothing, because a person moves lanes of mode live"),
        "elsewhere": (None, "nothing, because no config of binance was judged"),
    }


def test_the_config_of_a_paused_lane_goes_nowhere_else(held):
    best, *rest = ids(held)
    pause(open_registry(held.settings.registry), held.settings.lanes, "paper1", BY_HAND)
    found = with_lanes(held, paper1={"role": "fallback"}, paper2={"role": "primary"})
    told = assigned(found)
    assert told["paper1"] == (None, "nothing, because the lane is paused until a person resumes it")
    assert told["paper2"][0] == rest[0] != best
    assert {lane.lane: lane.new for lane in deploy(found).lanes} == {"paper1": None, "paper2": rest[0]}
    assert {each.refused for each in hand_over(found)} == {""}


def test_where_all_that_passed_hold_lanes_that_no_night_moves_nothing_is_left(held):
    gates = held.folder / "gates.json"
    text = gates.read_text()
    keep = ids(held)[0]
    for config_id in ids(held)[1:]:  # the others fell
        place = text.index(config_id)
        text = text[:place] + text[place:].replace('"verdict": "pass"', '"verdict": "fail"', 1)
    gates.write_text(text)
    assert ids(held) == [keep]
    found = with_lanes(held, paper1={"role": "primary", "manual": True}, paper2={"role": "primary"})
    assert assigned(found)["paper2"] == (
        None,
        "nothing, because every accepted config holds a lane that no nightly run may move",
    )


def test_a_verdict_holds_after_roles_are_edited(judged):
    deploy(judged)
    found = with_roles(judged, min_run_days=30)
    assert [(each.moved, each.refused) for each in hand_over(found)] == [(True, "")]


# Incumbents


def second_best(found: Night) -> str:
    """Put the second best that passed into paper1, as a person would."""
    registry, config_id = open_registry(found.settings.registry), ids(found)[1]
    pointer = lane_pointer(registry, "paper1")
    generation = pointer.generation if pointer else 0
    request = PromotionRequest(PAPER1, config_id, generation, replace(BY_HAND, now_ms=found.plan.holdout_ms))
    promote(registry, found.settings.lanes, request, found.plan.selection.id)
    return config_id


def test_an_incumbent_is_replayed_on_the_days_that_judged_the_candidates(held):
    config_id = second_best(held)
    found = with_roles(held, min_gain_sharpe=20.0)
    walk, _ = read_walk_forward(found.settings, found.plan)
    bars = load_night_bars(found.settings, found.plan)
    data = MarketData(found.settings, bars, build_night_features(found.settings, found.plan, bars))
    (candidate,) = (
        each for each in read_candidates(found.settings, found.plan).candidates if each.config_id == config_id
    )
    resolved = resolved_combo(found.plan.sweep, candidate.params)
    replayed = stitch([run_segment(data, resolved, fold.test_ms) for fold in walk.folds])
    sharpe = np.sqrt(365) * replayed.returns.mean() / replayed.returns.std(ddof=1)
    best, reason = ids(found)[0], assigned(found)["paper1"][1]
    assert reason.startswith(f"nothing, because {best[:12]} has a Sharpe ratio of")
    assert reason.endswith(f"on days on which the incumbent has {sharpe:.4g}; it must be at least 20 higher")


def test_an_incumbent_is_replayed_without_a_symbol_whose_bar_no_market_makes(held):
    config_id = second_best(held)
    found = with_roles(held, min_run_days=365)
    sweep, lake = found.plan.sweep, Lake(found.settings.lake)
    out, *names = sweep.symbols
    bar = read_candles(lake, sweep.venue, "1h", [out]).slice(1000, 1)
    merge_candles(lake, bar.with_columns(pl.col("open", "high", "low", "close") * 1e3), now_ms=NOW_MS)
    bars = load_bars(lake, sweep.venue, "1h", names, sweep.anchor_ms, found.plan.to_ms)
    data = MarketData(found.settings, bars, build_night_features(found.settings, found.plan, bars))
    (candidate,) = (
        each for each in read_candidates(found.settings, found.plan).candidates if each.config_id == config_id
    )
    resolved = replace(resolved_combo(sweep, candidate.params), symbols=tuple(names))
    walk, _ = read_walk_forward(found.settings, found.plan)
    replayed = stitch([run_segment(data, resolved, fold.test_ms) for fold in walk.folds])
    assigned(found)
    (compared,) = read_incumbents(found.settings, found.plan)
    assert compared.failed == ""
    assert compared.sharpe == pytest.approx(np.sqrt(365) * replayed.returns.mean() / replayed.returns.std(ddof=1))


def test_an_incumbent_keeps_its_lane_until_it_has_run_its_time(held):
    second_best(held)
    found = with_roles(held, min_run_days=30)
    moved_ms = found.plan.holdout_ms
    assert assigned(found, moved_ms + 30 * DAY_MS - 1)["paper1"] == (
        None,
        "nothing, because the incumbent has run 29 of 30 days",
    )
    assert "has run" not in assigned(found, moved_ms + 30 * DAY_MS)["paper1"][1]


def test_an_incumbent_that_fell_since_it_took_the_lane_is_replaced(held):
    second_best(held)
    found = with_roles(held, min_run_days=365, max_incumbent_drawdown_pct=0.01)
    config_id, reason = assigned(found)["paper1"]
    assert config_id == ids(found)[0]
    assert "the incumbent failed: drawdown of" in reason
    assert deploy(found).lanes[0].new == config_id


def test_an_incumbent_of_other_kernels_is_assigned_anew(held):
    registry, best = open_registry(held.settings.registry), ids(held)[0]
    (evidence,) = config_history(registry, best).evidence
    old = canonical_json(replace(evidence.basis, kernel_hash="k" * 64).as_dict()).decode()
    with write_transaction(registry) as connection:
        mine = tables.evidence.c.config_id == best
        connection.execute(update(tables.evidence).where(mine).values(basis=old, evidence_id="1" * 64))
        mine = tables.verdicts.c.config_id == best
        connection.execute(update(tables.verdicts).where(mine).values(evidence_id="1" * 64))
    found = with_roles(held, min_run_days=365)
    config_id, reason = assigned(found)["paper1"]
    assert config_id == best
    assert reason.endswith("it holds the lane and was judged again with these kernels")
    assert deploy(found).lanes[0].new == best


@pytest.mark.parametrize(("days", "words"), [(365, "has run 0 of 365 days"), (0, "can't be replayed: ")])
def test_an_incumbent_whose_candles_are_gone_keeps_its_lane(judged, days, words):
    registry, best = open_registry(judged.settings.registry), ids(judged)[0]
    deploy(judged)
    story = config_history(registry, best)
    gone = replace(story.config.resolved, symbols=("GONE",))
    candidate = CandidateRecord(gone, story.evidence[0].basis, {}, story.verdicts[0].gates, 9.0)
    policy_id = judged.plan.selection.id
    (stored,) = store_candidates(registry, [candidate], night_id="before", policy_id=policy_id, audit=BY_HAND)
    promote(registry, judged.settings.lanes, PromotionRequest(PAPER1, stored.config_id, 0, BY_HAND), policy_id)
    found = with_roles(judged, min_run_days=days)
    config_id, reason = assigned(found)["paper1"]
    assert config_id is None
    assert words in reason
    (compared,) = read_incumbents(found.settings, found.plan)
    assert (compared.sharpe, compared.failed) == (None, "")
    assert "GONE" in compared.unfit
