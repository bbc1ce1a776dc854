"""The way to real money: least time at each stage, and refusals that name all that is missing."""

from dataclasses import replace

import pytest
import registry_kit as kit

from mei_pipeline.errors import Refused
from mei_pipeline.promotion.moves import pause, resize, retire
from mei_pipeline.registry import store

pytestmark = pytest.mark.usefixtures("database")

DAY_MS = 86_400_000
LIVE = replace(kit.LIVE, min_paper_days=28, min_stage_days=14)


def on_day(day):
    return replace(kit.at(), now_ms=kit.at().now_ms + round(day * DAY_MS), why=f"day {day}")


@pytest.fixture
def on_paper(registry, lanes):
    """A config of Hyperliquid that is on paper from day 0."""
    config_id = kit.judged(registry, venue="hyperliquid")
    kit.promote(registry, lanes, kit.PAPER_THERE, config_id, kit.POLICY, 0, on_day(0))
    return config_id


def to_live(registry, lanes, config_id, day, lane=LIVE):
    return kit.promote(registry, lanes, lane, config_id, kit.POLICY, 0, on_day(day), by_person=True)


def test_a_config_waits_on_paper_and_at_each_stage(registry, lanes, on_paper):
    with pytest.raises(Refused, match=r"on paper for 27\.9 days; real_money.min_paper_days of policy.yaml is 28"):
        to_live(registry, lanes, on_paper, 27.9)
    to_live(registry, lanes, on_paper, 28)
    for day, size, early in ((42, 0.5, 41.9), (56, 1.0, 55.9)):
        with pytest.raises(Refused, match=r"for 13\.9 days; real_money.min_stage_days of policy.yaml is 14"):
            resize(registry, lanes, LIVE, size, kit.POLICY, on_day(early))
        resize(registry, lanes, LIVE, size, kit.POLICY, on_day(day))
    assert store.lane_pointer(registry, "live1").state == "live_full"


def test_down_is_allowed_at_once_and_the_stage_begins_anew(registry, lanes, on_paper):
    to_live(registry, lanes, on_paper, 28)
    resize(registry, lanes, LIVE, 0.5, kit.POLICY, on_day(42))
    resize(registry, lanes, LIVE, 0.25, kit.POLICY, on_day(43))
    with pytest.raises(Refused, match=r"at size multiplier 0\.25 for 13\.0 days"):
        resize(registry, lanes, LIVE, 0.5, kit.POLICY, on_day(56))


def test_time_in_a_paused_lane_does_not_count(registry, lanes, on_paper):
    pause(registry, lanes, "paper9", on_day(10))
    with pytest.raises(Refused, match=r"on paper for 10\.0 days"):
        to_live(registry, lanes, on_paper, 40)


def test_a_refusal_names_all_that_is_missing(registry, lanes):
    config_id = kit.judged(registry)
    kit.promote(registry, lanes, kit.PAPER1, config_id, kit.POLICY, 0, on_day(0))
    lane = replace(LIVE, venue="synthetic", manual=True)
    with pytest.raises(Refused) as refused:
        to_live(registry, lanes, config_id, 1, lane)
    first, *reasons = str(refused.value).split("\n- ")
    assert "can't trade real money at that size yet" in first
    assert len(reasons) == 3
    for reason, words in zip(reasons, ("is manual", "hyperliquid only", "on paper for 1.0 days"), strict=True):
        assert words in reason
    with pytest.raises(Refused) as refused:
        to_live(registry, lanes, config_id, 1)
    assert [reason.count("choose a lane of its venue") for reason in str(refused.value).split("\n- ")[1:]] == [1, 0]


def test_a_config_that_was_never_judged_by_the_policy_is_told_all_the_same(registry, lanes):
    config_id = kit.judged(registry, venue="hyperliquid", policy="f" * 64)
    with pytest.raises(Refused) as refused:
        to_live(registry, lanes, config_id, 1)
    unjudged, unproven = str(refused.value).split("\n- ")[1:]
    assert "verdict" in unjudged
    assert "was never on paper" in unproven


def test_paper_before_a_retirement_counts(registry, lanes, on_paper):
    pause(registry, lanes, "paper9", on_day(10))
    retire(registry, on_paper, on_day(12))
    with pytest.raises(Refused, match=r"on paper for 10\.0 days"):
        to_live(registry, lanes, on_paper, 40)
