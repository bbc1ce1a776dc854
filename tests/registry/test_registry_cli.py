import json
import shutil

import pytest
import registry_kit as kit

from mei_pipeline.cli.main import run
from mei_pipeline.cli.registry import registry as commands
from mei_pipeline.registry import store
from mei_pipeline.registry.records import Gate

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def home(tmp_path, monkeypatch, database):
    """A home with two paper lanes, a shadow lane and a live lane, whose policy is the one that the kit judges by."""
    monkeypatch.setenv("MEI_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "250")
    if database == "postgres":
        monkeypatch.setenv("MEI_REGISTRY_URL", kit.url(tmp_path))
    shutil.copytree(CHECKOUT / "config", tmp_path / "config")
    for path in (tmp_path / "config" / "lanes").glob("*.yaml"):
        path.unlink()
    for lane in LANES:
        text = f"mode: {lane.mode}\nvenue: {lane.venue}\nrole: {lane.role}\n"
        (tmp_path / "config" / "lanes" / f"{lane.name}.yaml").write_text(text)
    return tmp_path


@pytest.fixture
def ids(home):
    registry = kit.fresh(home)
    passed, fell = kit.judged(registry, 1), kit.judged(registry, 2, "no evidence")
    kit.promote(registry, home / "lanes", kit.PAPER1, passed, kit.POLICY, 0, kit.at(1_767_312_000_000))
    return passed, fell


def printed(capsys, *arguments):
    assert run(arguments, group=commands) == 0
    return capsys.readouterr().out


def test_the_list_as_json(ids, capsys):
    found = json.loads(printed(capsys, "list", "--json"))
    assert [(lane["lane"], lane["config_id"], lane["generation"]) for lane in found["lanes"]] == [("paper1", ids[0], 1)]
    rows = [(row["config_id"], row["state"], row["lanes"], row["verdicts"][0]["passed"]) for row in found["configs"]]
    assert rows == [(ids[0], "paper", ["paper1"], True), (ids[1], "candidate", [], False)]


def test_the_list_for_people(ids, capsys):
    text = printed(capsys, "list")
    assert all(word in text for word in (ids[0][:12], ids[1][:12], "paper1", "candidate", "ema_cross"))


@pytest.mark.usefixtures("home")
def test_an_empty_registry_is_an_empty_list(capsys):
    assert json.loads(printed(capsys, "list", "--json")) == {"lanes": [], "configs": []}
    assert "Configs" in printed(capsys, "list")


def test_one_config_as_json(ids, capsys):
    found = json.loads(printed(capsys, "show", ids[0][:10], "--json"))
    assert found["config_id"] == ids[0]
    assert found["resolved"]["params"]["indicators.ema_fast_window"] == 9
    assert found["evidence"][0]["metrics"] == {"sharpe": 1.5}
    gate = found["gates"][0]
    assert (gate["name"], gate["value"], gate["threshold"], gate["verdict"]) == ("trades", 31.0, 30.0, "pass")
    assert [step["to_state"] for step in found["history"]] == ["candidate", "validated", "paper"]


def test_one_config_for_people(ids, capsys):
    text = printed(capsys, "show", ids[0][:10])
    words = (
        ids[0],
        "paper1",
        "indicators.ema_fast_window",
        "sharpe",
        "31 closed trades",
        "validated",
        "BTC, ETH",
    )
    assert [word for word in words if word not in text] == []
    assert "2026-01-02 00:00:00" in text
    assert "paper1" not in printed(capsys, "show", ids[1][:10])


def test_a_figure_that_json_has_no_word_for(home, capsys):
    registry = kit.fresh(home)
    config_id = store.add_config(registry, kit.resolved(), kit.at())
    identity = store.add_evidence(registry, config_id, kit.basis(), {}, kit.at())
    gates = [Gate("profit factor", float("inf"), 1.1, "pass", "no loss at all")]
    store.add_verdict(registry, config_id, identity, kit.POLICY, gates, night_id="n", occasion=kit.at())
    gate = json.loads(printed(capsys, "show", config_id, "--json"))["gates"][0]
    assert (gate["value"], gate["threshold"]) == (None, 1.1)
    assert "inf" in printed(capsys, "show", config_id)


def test_the_history_of_all_and_of_one_lane(ids, capsys):
    assert len(json.loads(printed(capsys, "history", "--json"))["history"]) == 4
    steps = json.loads(printed(capsys, "history", "--lane", "paper1", "--json"))["history"]
    assert [(step["config_id"], step["lane"], step["who"]) for step in steps] == [(ids[0], "paper1", "nightly")]
    assert "a night found it" in printed(capsys, "history")


@pytest.mark.usefixtures("ids")
def test_an_id_that_is_unknown_is_refused(capsys):
    assert run(["show", "zzz"], group=commands) == 4
    assert "no config of the registry begins so" in capsys.readouterr().err
