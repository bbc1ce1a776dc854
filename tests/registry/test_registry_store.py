import math

import pytest
import registry_kit as kit
from sqlalchemy import delete, update

from mei_pipeline.errors import ConfigError, DataError, Fatal, Refused
from mei_pipeline.registry import store, tables
from mei_pipeline.registry.database import read_transaction, write_transaction
from mei_pipeline.registry.records import Gate, Lane, Proposal
from mei_pipeline.registry.rows import find_transition

pytestmark = pytest.mark.usefixtures("database")


def proposal(lane="paper1", config_id=None, night=kit.NIGHT, reason="best", generation=0):
    return Proposal(night, lane, config_id, kit.POLICY, generation, reason, 5)


def change(registry, statement):
    with write_transaction(registry) as connection:
        connection.execute(statement)


def test_a_config_comes_back_as_it_went_in(registry):
    config_id = store.add_config(registry, kit.resolved(), kit.at(7))
    config = store.get_config(registry, config_id)
    assert (config.config_id, config.resolved, config.created_ms) == (config_id, kit.resolved(), 7)
    assert store.state_of(registry, config_id) == "candidate"


def test_storing_twice_is_storing_once(registry):
    first = kit.judged(registry)
    before = store.config_history(registry, first)
    assert kit.judged(registry) == first
    assert store.config_history(registry, first) == before
    assert [step.to_state for step in before.transitions] == ["candidate", "validated"]


def test_the_time_of_the_second_call_leaves_no_trace(registry):
    first = store.add_config(registry, kit.resolved(), kit.at(1))
    assert store.add_config(registry, kit.resolved(), kit.at(2)) == first
    assert store.get_config(registry, first).created_ms == 1


def test_another_measurement_on_the_same_basis_is_kept_beside_the_first(registry):
    config_id = kit.judged(registry)
    again = store.add_evidence(registry, config_id, kit.basis(), {"sharpe": 2.0}, kit.at())
    story = store.config_history(registry, config_id)
    assert [entry.metrics["sharpe"] for entry in story.evidence] == [1.5, 2.0]
    assert {entry.evidence_id for entry in story.evidence} == {again}
    assert store.get_evidence(registry, again).metrics == {"sharpe": 2.0}


def test_figures_that_are_none_are_stored_as_none(registry):
    config_id = store.add_config(registry, kit.resolved(), kit.at())
    metrics = {"a": math.nan, "b": [math.inf, 1.0], "c": {"d": -math.inf}, "e": "word"}
    identity = store.add_evidence(registry, config_id, kit.basis(), metrics, kit.at())
    assert store.get_evidence(registry, identity).metrics == {
        "a": None,
        "b": [None, 1.0],
        "c": {"d": None},
        "e": "word",
    }


@pytest.mark.parametrize(
    ("value", "threshold", "verdict"),
    [(math.inf, 1.2, "pass"), (-math.inf, None, "fail"), (None, 3.0, "no evidence"), (0.1 + 0.2, 0.3, "pass")],
)
def test_a_gate_comes_back_as_it_went_in(registry, value, threshold, verdict):
    config_id = store.add_config(registry, kit.resolved(), kit.at())
    identity = store.add_evidence(registry, config_id, kit.basis(), {}, kit.at())
    gate = Gate("profit factor", value, threshold, verdict, "why")
    stored = store.add_verdict(registry, config_id, identity, kit.POLICY, [gate], night_id="n", audit=kit.at())
    assert stored.gates == (gate,)
    assert stored.passed is (verdict == "pass")


def test_nan_of_a_gate_is_no_value(registry):
    config_id = store.add_config(registry, kit.resolved(), kit.at())
    identity = store.add_evidence(registry, config_id, kit.basis(), {}, kit.at())
    gate = Gate("sharpe", math.nan, 1.0, "fail", "no variance")
    stored = store.add_verdict(registry, config_id, identity, kit.POLICY, [gate], night_id="n", audit=kit.at())
    assert stored.gates[0].value is None


@pytest.mark.parametrize(("value", "verdict"), [(None, "pass"), (math.nan, "pass"), (1.0, "maybe")])
def test_an_impossible_gate_is_refused(value, verdict):
    with pytest.raises(DataError):
        Gate("g", value, 1.0, verdict, "")


@pytest.mark.parametrize("size", [0.0, -1.0, 1.01, math.nan])
def test_a_lane_has_a_possible_size(size):
    with pytest.raises(Exception, match="size multiplier"):
        Lane("paper1", "paper", "synthetic", "primary", size_multiplier=size)


@pytest.mark.parametrize(
    ("gates", "passes"),
    [
        ([], False),
        ([kit.gate("pass")], True),
        ([kit.gate("pass"), kit.gate("fail")], False),
        ([kit.gate("pass"), kit.gate("no evidence")], False),
        ([kit.gate("no evidence")], False),
    ],
)
def test_only_gates_that_all_pass_validate(registry, gates, passes):
    config_id = store.add_config(registry, kit.resolved(), kit.at())
    identity = store.add_evidence(registry, config_id, kit.basis(), {}, kit.at())
    store.add_verdict(registry, config_id, identity, kit.POLICY, gates, night_id="n", audit=kit.at())
    assert (store.passing_verdict(registry, config_id, kit.POLICY) is not None) is passes
    assert store.passing_verdict(registry, config_id, kit.OTHER_POLICY) is None
    assert store.state_of(registry, config_id) == ("validated" if passes else "candidate")


def test_the_newest_verdict_counts(registry):
    config_id = kit.judged(registry, night="n1")
    kit.judged(registry, verdict="fail", night="n2")
    assert store.passing_verdict(registry, config_id, kit.POLICY) is None
    kit.judged(registry, night="n3")
    assert store.passing_verdict(registry, config_id, kit.POLICY).night_id == "n3"
    assert [step.to_state for step in store.history(registry)] == ["candidate", "validated"]


def test_a_verdict_needs_evidence_of_its_config(registry):
    one, two = kit.judged(registry, 1), kit.judged(registry, 2)
    of_two = store.config_history(registry, two).evidence[0].evidence_id
    for identity in (of_two, "e" * 64):
        with pytest.raises(Refused, match="is not stored for it"):
            store.add_verdict(registry, one, identity, kit.POLICY, [], night_id="n", audit=kit.at())


def test_what_is_not_there_is_refused(registry):
    for call in (store.get_config, store.config_history, store.get_evidence):
        with pytest.raises(Refused, match="not in the registry"):
            call(registry, "f" * 64)
    with pytest.raises(Refused, match="not in the registry"):
        store.add_evidence(registry, "f" * 64, kit.basis(), {}, kit.at())


def test_an_id_is_found_by_its_beginning(registry):
    ids = [kit.judged(registry, number) for number in range(20)]
    assert store.resolve_id(registry, ids[3][:20]) == ids[3]
    with pytest.raises(ConfigError, match="several"):
        store.resolve_id(registry, "")
    for unknown in ("zz", "%", "_"):
        with pytest.raises(ConfigError, match=r"no id begins so|several ids begin so"):
            store.resolve_id(registry, unknown)


def test_the_newest_proposal_of_each_lane_counts(registry):
    config_id = kit.judged(registry)
    assert store.latest_proposals(registry) == ()
    store.add_proposals(registry, [proposal("paper2"), proposal("paper1")])
    store.add_proposals(registry, [proposal("paper1", config_id)])
    store.add_proposals(registry, [proposal("paper1", config_id)])
    found = store.latest_proposals(registry, kit.NIGHT)
    assert [(entry.lane, entry.config_id) for entry in found] == [("paper1", config_id), ("paper2", None)]
    assert store.latest_proposals(registry) == found
    assert store.latest_proposals(registry, "another night") == ()


def test_a_proposal_of_an_unknown_config_stores_none_of_them(registry):
    with pytest.raises(Refused):
        store.add_proposals(registry, [proposal("paper1"), proposal("paper2", "f" * 64)])
    assert store.latest_proposals(registry) == ()


@pytest.mark.parametrize(
    "content",
    ['{"strategy":"ema_cross"}', "no json", "[]", '{"strategy":1,"venue":2,"interval":3,"symbols":4}', "null"],
)
def test_a_config_that_is_no_config_is_fatal(registry, content):
    config_id = kit.judged(registry)
    change(registry, update(tables.configs).values(resolved=content))
    with pytest.raises(Fatal, match=config_id):
        store.get_config(registry, config_id)


def test_a_config_that_was_changed_is_fatal(registry):
    config_id = kit.judged(registry)
    with read_transaction(registry) as connection:
        content = connection.execute(tables.configs.select()).one().resolved
    change(registry, update(tables.configs).values(resolved=content.replace("4.5", "4.4")))
    for call in (store.get_config, store.config_history):
        with pytest.raises(Fatal, match="another id"):
            call(registry, config_id)
    with pytest.raises(Fatal, match="another id"):
        store.add_config(registry, kit.resolved(), kit.at())


def test_a_verdict_that_contradicts_its_gates_is_fatal(registry):
    config_id = kit.judged(registry, verdict="fail")
    change(registry, update(tables.verdicts).values(passed=True))
    with pytest.raises(Fatal, match="does not follow from its gates"):
        store.passing_verdict(registry, config_id, kit.POLICY)


def test_a_transition_that_is_gone_is_fatal(registry):
    with read_transaction(registry) as connection, pytest.raises(Fatal, match="a lane names it"):
        find_transition(connection, "t" * 64)


def test_a_config_without_history_has_no_state(registry):
    config_id = kit.judged(registry)
    change(registry, delete(tables.transitions))
    assert store.config_history(registry, config_id).state == ""
    assert store.state_of(registry, config_id) == ""
