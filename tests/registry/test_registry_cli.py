import getpass
import json
import re
import shutil
from dataclasses import replace

import pytest
import registry_kit as kit

from mei_pipeline.cli.lane import lane_group
from mei_pipeline.cli.main import run
from mei_pipeline.cli.registry import registry as commands
from mei_pipeline.config.load import load_config
from mei_pipeline.errors import ConfigError
from mei_pipeline.execution.journal.opening import lock_path
from mei_pipeline.files import locked
from mei_pipeline.promotion.moves import retire
from mei_pipeline.registry import store
from mei_pipeline.registry.lanes import drift, pointer_path
from mei_pipeline.registry.records import Gate
from mei_pipeline.registry.trials import add_trial
from mei_pipeline.settings import CHECKOUT

pytestmark = pytest.mark.usefixtures("database")

SHADOW = replace(kit.PAPER1, name="shadow1", mode="shadow")
LANES = (kit.PAPER1, kit.PAPER2, SHADOW, kit.PAPER_THERE, kit.LIVE)
WHY = ("--why", "I looked at it", "--who", "anna")


@pytest.fixture
def home(tmp_path, monkeypatch, database):
    """A home with two paper lanes, a shadow lane and a live lane, whose policy is the one that the kit judges by."""
    monkeypatch.setenv("MEI_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "250")
    if database == "postgres":
        monkeypatch.setenv("MEI_REGISTRY_URL", kit.url(tmp_path))
    shutil.copytree(CHECKOUT / "config", tmp_path / "config")
    pipeline = tmp_path / "config" / "pipeline.yaml"
    sources = "".join(
        f"\n  - {{kind: files, venue: {venue}, path: /none/*.parquet, interval: 1h}}"
        for venue in ("synthetic", "hyperliquid")
    )
    pipeline.write_text(pipeline.read_text().replace("sources: []", f"sources:{sources}"))
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
        "Sharpe ratio",
        "31 closed trades",
        "validated",
        "BTC, ETH",
    )
    assert [word for word in words if word not in text] == []
    assert "2026-01-02 00:00:00" in text
    assert "paper1" not in printed(capsys, "show", ids[1][:10])


def test_evidence_and_steps_of_a_night_are_shown_for_people(home, capsys):
    registry = kit.fresh(home)
    run_id, night = "7c149304-b125-4dc1-952c-24ed106077e5", "8e19ad9a60b68bbe" + 48 * "0"
    at = replace(kit.at(), who=f"dagster run {run_id}", trigger=f"night {night}")
    config_id = store.add_config(registry, kit.resolved(), at)
    holdout = {"return_pct": 3.7, "max_drawdown_pct": 2.7}
    day_ms = 86_400_000
    metrics = {"folds_ms": [[0, 28 * day_ms]], "from_ms": 0, "holdout": holdout, "sweep_id": night, "selected": [3, 5]}
    store.add_evidence(registry, config_id, kit.basis(), metrics, at)
    text = printed(capsys, "show", config_id)
    for line in (
        r"days of the folds +1970-01-01 to 1970-01-28",
        r"search from +1970-01-01 00:00Z",
        r"holdout: return, % +3.7",
        r"holdout: drawdown, % +2.7",
        r"sweep +8e19ad9a60b68bbe ",
        r"selected +3, 5",
        r"night 8e19ad9a60b68bbe +dagster run 7c149304 ",
    ):
        assert re.search(line, text), line
    assert len(re.findall(r"[0-9a-f]{64}", text)) == 1, "of the config alone the whole id is shown"
    assert run_id not in text


def test_a_figure_that_json_has_no_word_for(home, capsys):
    registry = kit.fresh(home)
    config_id = store.add_config(registry, kit.resolved(), kit.at())
    identity = store.add_evidence(registry, config_id, kit.basis(), {}, kit.at())
    gates = [Gate("profit factor", float("inf"), 1.1, "pass", "no loss at all")]
    store.add_verdict(registry, config_id, identity, kit.POLICY, gates, night_id="n", audit=kit.at())
    gate = json.loads(printed(capsys, "show", config_id, "--json"))["gates"][0]
    assert (gate["value"], gate["threshold"]) == (None, 1.1)
    assert "inf" in printed(capsys, "show", config_id)


def test_the_history_of_all_and_of_one_lane(ids, capsys):
    assert len(json.loads(printed(capsys, "history", "--json"))["history"]) == 4
    steps = json.loads(printed(capsys, "history", "--lane", "paper1", "--json"))["history"]
    assert [(step["config_id"], step["lane"], step["who"]) for step in steps] == [(ids[0], "paper1", "nightly")]
    assert "a night found it" in printed(capsys, "history")


@pytest.mark.usefixtures("ids")
def test_an_id_that_is_unknown_is_wrong_usage(capsys):
    assert run(["show", "zzz"], group=commands) == 2
    assert "no id begins so" in capsys.readouterr().err


def policy(home):
    return load_config(home / "config").policy.selection.id


@pytest.fixture
def judged(home):
    """Three configs that passed under the policy in force; the third is of the venue of real money."""
    registry = kit.fresh(home)
    known = {"policy": policy(home)}
    return [
        kit.judged(registry, 1, **known),
        kit.judged(registry, 2, **known),
        kit.judged(registry, 3, venue="hyperliquid", **known),
    ]


def done(capsys, *arguments, group=commands):
    assert run([*arguments, "--json"], group=group) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refused(capsys, code, *arguments, group=commands):
    assert run(arguments, group=group) == code
    return capsys.readouterr().err


def test_the_history_of_one_config(ids, capsys):
    steps = json.loads(printed(capsys, "history", "--config", ids[1][:12], "--json"))["history"]
    assert [step["to_state"] for step in steps] == ["candidate"]


def test_promote_pause_and_roll_back_by_hand(home, judged, capsys):
    one, two, _ = judged
    made = done(capsys, "promote", one[:12], "--lane", "paper1", *WHY)
    assert (made["moved"], made["lane"]["generation"], made["lane"]["state"]) == (True, 1, "paper")
    step = made["transition"]
    assert (step["who"], step["why"], step["trigger"]) == ("anna", "I looked at it", "mei registry promote")
    assert sorted(made["files"]) == sorted(
        map(str, (pointer_path(home / "lanes", "paper1"), home / "lanes" / "paper1" / "configs" / f"{one}.yaml"))
    )
    assert not done(capsys, "promote", one[:12], "--lane", "paper1", *WHY)["moved"]
    done(capsys, "promote", two[:12], "--lane", "paper1", "--size", "0.5", *WHY)
    assert done(capsys, "pause", "--lane", "paper1", *WHY)["lane"]["state"] == "paused"
    back = done(capsys, "rollback", "--lane", "paper1", *WHY)
    assert (back["lane"]["config_id"], back["lane"]["generation"]) == (one, 4)
    assert back["transition"]["action"] == "rolled back"
    assert drift(kit.fresh(home), home / "lanes", "paper1").differences == ()


def test_what_came_of_it_for_people(judged, capsys):
    text = printed(capsys, "promote", judged[0], "--lane", "paper1", *WHY)
    assert all(word in text for word in ("paper1", "promoted", judged[0][:12]))
    assert "nothing to do" in printed(capsys, "promote", judged[0], "--lane", "paper1", *WHY)
    assert "retired" in printed(capsys, "retire", judged[1], *WHY)
    assert "was retired already" in printed(capsys, "retire", judged[1], *WHY)


def test_real_money_by_hand(home, judged, capsys):
    third = judged[2]
    err = refused(capsys, 4, "promote", third, "--lane", "live1", *WHY)
    assert "never on paper" in err
    done(capsys, "promote", third, "--lane", "paper9", *WHY)
    assert "on paper for 0.0 days" in refused(capsys, 4, "promote", third, "--lane", "live1", *WHY)
    policy = home / "config" / "policy.yaml"
    policy.write_text(re.sub(r"(min_(?:paper|stage)_days:) \d+", r"\1 0", policy.read_text()))
    assert done(capsys, "promote", third, "--lane", "live1", *WHY)["lane"]["state"] == "live_small"
    assert "skips a step" in refused(capsys, 4, "promote", third, "--lane", "live1", "--size", "1", *WHY)
    done(capsys, "promote", third, "--lane", "live1", "--size", "0.5", *WHY)
    full = done(capsys, "set", "live1", "--size-multiplier", "1", *WHY, group=lane_group)
    assert (full["lane"]["state"], full["lane"]["size_multiplier"]) == ("live_full", 1.0)


def test_a_person_is_named_and_gives_a_reason(home, judged, capsys):
    command = ("promote", judged[0], "--lane", "paper1")
    assert "--why" in refused(capsys, 2, *command)
    assert "give a reason" in refused(capsys, 2, *command, "--why", "  ")
    for who in (" ", "x" * 201):
        assert "name the person who decides" in refused(capsys, 2, *command, "--why", "so", "--who", who)
    assert store.lane_pointers(kit.fresh(home)) == ()
    assert done(capsys, *command, "--why", "so")["transition"]["who"] == getpass.getuser()


def test_a_user_without_a_name_is_asked_for_one(home, judged, capsys, monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2_000_000_001)
    assert "name the person who decides" in refused(capsys, 2, "promote", judged[0], "--lane", "paper1", "--why", "so")
    assert store.lane_pointers(kit.fresh(home)) == ()


def test_what_is_not_there(home, judged, capsys):
    err = refused(capsys, 2, "promote", judged[0], "--lane", "paper7", *WHY)
    assert "has no file of it; it has: live1, paper1, paper2, paper9, shadow1" in err
    assert "no id begins so" in refused(capsys, 2, "promote", "zz", "--lane", "paper1", *WHY)
    assert "several ids begin so" in refused(capsys, 2, "retire", "", *WHY)
    assert "holds no config" in refused(capsys, 4, "rollback", "--lane", "paper1", *WHY)
    assert "holds no config" in refused(capsys, 4, "pause", "--lane", "paper1", *WHY)
    for words in (["pause", "--lane", "nowhere", *WHY], ["history", "--lane", "nowhere"]):
        assert "it has: live1, paper1, paper2, paper9, shadow1" in refused(capsys, 2, *words)
    assert not (home / "lanes" / "nowhere").exists()
    assert "above 0 up to 1" in refused(capsys, 2, "promote", judged[0], "--lane", "paper1", "--size", "7", *WHY)
    assert store.lane_pointers(kit.fresh(home)) == ()


def test_a_move_that_somebody_else_made_is_not_overrun(judged, capsys):
    done(capsys, "promote", judged[0], "--lane", "paper1", "--generation", "0", *WHY)
    err = refused(capsys, 4, "promote", judged[1], "--lane", "paper1", "--generation", "0", *WHY)
    assert "at generation 1" in err


def test_a_difference(judged, capsys):
    found = done(capsys, "diff", judged[0][:12], judged[1][:12])
    assert (found["a"], found["b"]) == tuple(judged[:2])
    assert found["changes"] == [{"path": "indicators.ema_fast_window", "old": 9, "new": 10}]
    assert "indicators.ema_fast_window" in printed(capsys, "diff", judged[0], judged[1])


def test_the_whole_registry_for_other_tools(home, judged, capsys):
    registry = kit.fresh(home)
    trial = kit.trial()
    add_trial(registry, trial, 1)
    done(capsys, "promote", judged[0], "--lane", "paper1", *WHY)
    whole = json.loads(printed(capsys, "export"))
    assert whole["schema_version"] == 3
    assert [row["config_id"] for row in whole["configs"]] == judged
    assert whole["configs"][0]["resolved"]["params"]["indicators.ema_fast_window"] == 9
    assert whole["evidence"][0]["basis"]["venue"] == "synthetic"
    assert whole["verdicts"][0]["gates"][0]["verdict"] == "pass"
    assert [row["name"] for row in whole["lanes"]] == ["paper1"]
    assert len(whole["transitions"]) == len(store.history(registry))
    assert whole["trials"][0]["returns"] == list(trial.returns)
    assert (whole["trials"][0]["first_day"], whole["trials"][0]["trial_id"]) == ("2026-01-02", trial.trial_id)
    path = home / "out" / "registry.ndjson"
    assert printed(capsys, "export", "--format", "ndjson", "--out", str(path)) == ""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for name in ("configs", "evidence", "verdicts", "proposals", "transitions", "lanes", "trials"):
        rows = [
            {key: value for key, value in line.items() if key != "table"} for line in lines if line["table"] == name
        ]
        assert rows == whole[name]
    told = done(capsys, "export", "--out", str(path))
    assert json.loads(path.read_text()) == whole
    assert told == {
        "file": str(path),
        "format": "json",
        "rows": {name: len(rows) for name, rows in whole.items() if name != "schema_version"},
    }
    assert json.loads(printed(capsys, "export", "--json")) == whole


@pytest.mark.usefixtures("judged")
def test_many_objects_are_not_printed_where_one_is_asked_for(capsys):
    assert run(["registry", "export", "--format", "ndjson", "--json"]) == 2
    assert "--out" in json.loads(capsys.readouterr().out)["error"]["message"]


# mei lane


def test_the_lanes_as_json(home, judged, capsys):
    done(capsys, "promote", judged[0], "--lane", "paper1", *WHY)
    lanes = {lane["lane"]: lane for lane in done(capsys, "list", group=lane_group)["lanes"]}
    assert set(lanes) == {lane.name for lane in LANES}
    assert (lanes["live1"]["mode"], lanes["live1"]["pointer"], lanes["live1"]["problems"]) == ("live", None, [])
    first = lanes["paper1"]
    assert (first["pointer"]["config_id"], first["acknowledged"], first["effect"]) == (judged[0], False, None)
    assert first["problems"] == []
    pointer_path(home / "lanes", "paper1").unlink()
    (home / "lanes" / "paper1" / "status.json").write_text("{")
    (home / "lanes" / "paper1" / "control.yaml").write_text("{")
    worse = done(capsys, "show", "paper1", group=lane_group)
    assert [word for word in ("missing", "status.json", "control.yaml") if word not in str(worse["problems"])] == []
    assert worse["effect"] == "close_only"
    assert [step["action"] for step in worse["history"]] == ["promoted"]


def test_a_lane_shows_the_venue_of_what_holds_it_and_not_of_another_home(home, judged, capsys):
    done(capsys, "promote", judged[0], "--lane", "paper1", *WHY)
    other = home / "config" / "lanes" / "paper1.yaml"
    other.write_text(other.read_text().replace("venue: synthetic", "venue: hyperliquid"))
    lane = done(capsys, "show", "paper1", group=lane_group)
    assert lane["venue"] == "synthetic"
    assert [problem for problem in lane["problems"] if "venue hyperliquid" in problem and "set MEI_CONFIG" in problem]
    other.unlink()
    assert done(capsys, "show", "paper1", group=lane_group)["venue"] == "synthetic"


def test_the_lanes_for_people(home, judged, capsys):
    done(capsys, "promote", judged[0], "--lane", "paper1", *WHY)
    done(capsys, "set", "paper1", "--hold", "exchange", "close_only", *WHY, group=lane_group)
    status = {
        "schema_version": 1, "lane": "paper1", "config_id": judged[0], "generation": 1, "since_bar_ms": 0,
        "written_ms": 0, "health": "ok", "positions": {},
    }  # fmt: skip
    path = home / "lanes" / "paper1" / "status.json"
    path.write_text(json.dumps(status))
    with locked(lock_path(home / "lanes", "paper1"), "running lane paper1"):
        assert run(["list"], group=lane_group) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("in force, ok", "exchange", "shadow1", "no status", "as the registry says"))
    path.write_text(json.dumps({**status, "generation": 7}))
    with locked(lock_path(home / "lanes", "paper1"), "running lane paper1"):
        assert run(["show", "paper1"], group=lane_group) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("runs generation 7", "close_only", "I looked at it", judged[0], "promoted"))


def test_a_status_that_outlives_its_executor(home, judged, capsys):
    done(capsys, "promote", judged[0], "--lane", "paper1", *WHY)
    status = {
        "schema_version": 1, "lane": "paper1", "config_id": judged[0], "generation": 1, "since_bar_ms": 0,
        "written_ms": 0, "health": "ok", "positions": {},
    }  # fmt: skip
    path, lock = home / "lanes" / "paper1" / "status.json", lock_path(home / "lanes", "paper1")
    path.write_text(json.dumps(status))
    with locked(lock, "running lane paper1"):
        assert done(capsys, "show", "paper1", group=lane_group)["running"] is True
    # A killed process leaves its note.
    lock.with_name(f"{lock.name}.holder").write_text("running lane paper1, process 1")
    for generation, words in ((1, "not running, in force"), (7, "not running, generation 7")):
        path.write_text(json.dumps({**status, "generation": generation}))
        assert done(capsys, "show", "paper1", group=lane_group)["running"] is False
        assert run(["list"], group=lane_group) == 0
        assert words in capsys.readouterr().out


def test_the_status_of_a_running_lane(home, judged, capsys):
    done(capsys, "promote", judged[0], "--lane", "paper1", *WHY)
    path = home / "lanes" / "paper1" / "status.json"
    own = {"effect": "close_only", "symbol": "BTC", "owner": "executor", "reason": "it differs"}
    status = {
        "schema_version": 2, "lane": "paper1", "config_id": None, "generation": None, "since_bar_ms": None,
        "written_ms": 0, "health": "degraded", "detail": "no config is in force", "holds": {"mismatch-btc": own},
        "offered": {"generation": 2, "config_id": judged[1], "reason": "it waits"}, "draining": [judged[0]],
        "last_step_ms": 0, "positions": {"ETH": -2.5}, "stale": {"SOL": ["bars"]}, "last_error": "the feed is lost",
        "unknown_orders": 0,
    }  # fmt: skip
    path.write_text(json.dumps(status))
    with locked(lock_path(home / "lanes", "paper1"), "running lane paper1"):
        assert run(["show", "paper1"], group=lane_group) == 0
    text = capsys.readouterr().out
    for words in ("runs no config, degraded", "mismatch-btc", f"generation 2 of {judged[1][:12]}: it waits", "-2.5",
                  "stale SOL", "the feed is lost", "1970-01-01", "unknown orders"):  # fmt: skip
        assert words in text, words
    assert done(capsys, "show", "paper1", group=lane_group)["effect"] is None
    refused_file = {"generation": None, "config_id": None, "reason": "promoted.yaml: damaged"}
    halted = {"risk": {**own, "symbol": None, "effect": "halt"}}
    path.write_text(json.dumps({**status, "offered": refused_file, "holds": halted}))
    assert run(["show", "paper1"], group=lane_group) == 0
    assert "promoted.yaml: damaged" in capsys.readouterr().out
    assert done(capsys, "show", "paper1", group=lane_group)["effect"] == "halt"
    (home / "lanes" / "paper1" / "control.yaml").write_text("{")
    assert done(capsys, "show", "paper1", group=lane_group)["effect"] == "halt"


@pytest.mark.usefixtures("home")
def test_a_hold_of_one_symbol(capsys):
    held = done(capsys, "set", "paper1", "--hold", "thin", "close_only", "--symbol", "BTC", *WHY, group=lane_group)
    assert (held["effect"], held["holds"]["thin"]["symbol"]) == (None, "BTC")
    assert run(["show", "paper1"], group=lane_group) == 0
    assert "BTC" in capsys.readouterr().out
    assert "it holds a space" in refused(
        capsys, 2, "set", "paper1", "--hold", "x", "halt", "--symbol", "A B", *WHY, group=lane_group
    )
    assert "--hold" in refused(capsys, 2, "set", "paper1", "--lift", "thin", "--symbol", "BTC", group=lane_group)


def test_a_lane_that_lost_its_file_is_still_shown_and_paused(home, judged, capsys):
    done(capsys, "promote", judged[0], "--lane", "paper1", *WHY)
    (home / "config" / "lanes" / "paper1.yaml").unlink()
    found = done(capsys, "show", "paper1", group=lane_group)
    assert (found["mode"], "has no file of it" in found["problems"][0]) == (None, True)
    assert run(["list"], group=lane_group) == 0
    assert "1 problems" in capsys.readouterr().out
    assert done(capsys, "pause", "--lane", "paper1", *WHY)["lane"]["state"] == "paused"
    assert "has no file of it" in refused(capsys, 2, "show", "nowhere", group=lane_group)


def test_holds_by_hand(home, capsys):
    held = done(capsys, "set", "paper1", "--hold", "exchange", "close_only", *WHY, group=lane_group)
    assert (held["effect"], held["holds"]["exchange"]["owner"]) == ("close_only", "anna")
    done(capsys, "set", "paper1", "--hold", "risk", "halt", *WHY, group=lane_group)
    assert done(capsys, "show", "paper1", group=lane_group)["effect"] == "halt"
    assert done(capsys, "set", "paper1", "--lift", "risk", group=lane_group)["effect"] == "close_only"
    assert "no hold 'risk'" in refused(capsys, 2, "set", "paper1", "--lift", "risk", group=lane_group)
    assert run(["set", "paper1", "--lift", "exchange"], group=lane_group) == 0
    assert "Holds of paper1" in capsys.readouterr().out
    # A hold needs neither the registry nor, for a lane that has a folder, the configuration.
    (home / "registry.db").unlink(missing_ok=True)
    (home / "registry.db").mkdir()
    (home / "config" / "policy.yaml").write_text("[")
    done(capsys, "set", "paper1", "--hold", "now", "halt", *WHY, group=lane_group)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give one of"),
        (("--lift", "a", "--size-multiplier", "0.5"), "give one of"),
        (("--hold", "a", "stop"), "close_only"),
        (("--hold", "a", "halt"), "give a reason"),
        (("--hold", "A", "halt", "--why", "so"), "not written"),
    ],
)
def test_a_change_that_is_none(capsys, arguments, words):
    assert words in refused(capsys, 2, "set", "paper1", *arguments, group=lane_group)


@pytest.mark.usefixtures("home")
def test_a_lane_that_is_not_configured_is_not_held(capsys):
    assert "has no file of it" in refused(capsys, 2, "set", "x", "--hold", "a", "halt", *WHY, group=lane_group)


def test_retiring_by_hand(home, judged, capsys):
    done(capsys, "promote", judged[0], "--lane", "paper1", *WHY)
    assert "trades in paper1" in refused(capsys, 4, "retire", judged[0], *WHY)
    gone = done(capsys, "retire", judged[1], *WHY)
    assert (gone["moved"], gone["transition"]["to_state"]) == (True, "retired")
    assert done(capsys, "retire", judged[1], *WHY) == {"moved": False, "config_id": judged[1], "transition": None}
    assert retire(kit.fresh(home), judged[1], kit.at()) is None


BAD_FILES = {
    "lanes/paper2.yaml": "mode: papr\nvenue: synthetic\nrole: primary\n",
    "lanes/shadow1.yaml": "mode: shadow\nvenue: nowhere\nrole: primary\n",
    "lanes/live1.yml": "mode: live\n",
    "lanes/Bad Name.yaml": "mode: paper\n",
    "sweeps/broken.yaml": "strategy: [",
    "strategy_overrides.yaml": "strategy: nosuch\n",
}


@pytest.fixture
def faulty(home, judged):
    """The same home, in which every file is wrong that paper1 does not need."""
    (home / "config" / "lanes" / "live1.yaml").unlink()
    for name, text in BAD_FILES.items():
        (home / "config" / name).write_text(text)
    return judged


def test_a_wrong_lane_file_blocks_its_own_lane_alone(faulty, home, capsys):
    one, two, _ = faulty
    with pytest.raises(ConfigError):
        load_config(home / "config")
    for config_id in (one, two):
        assert done(capsys, "promote", config_id, "--lane", "paper1", *WHY)["moved"]
    assert done(capsys, "rollback", "--lane", "paper1", *WHY)["lane"]["config_id"] == one
    resized = done(capsys, "set", "paper1", "--size-multiplier", "0.5", *WHY, group=lane_group)
    assert resized["lane"]["size_multiplier"] == 0.5
    for lane, name in (("paper2", "paper2.yaml"), ("shadow1", "shadow1.yaml"), ("live1", "live1.yml")):
        for command in (("promote", one, "--lane", lane), ("rollback", "--lane", lane)):
            assert f"lanes/{name}" in refused(capsys, 2, *command, *WHY)
        told = refused(capsys, 2, "set", lane, "--size-multiplier", "0.5", *WHY, group=lane_group)
        assert f"lanes/{name}" in told


def test_a_wrong_lane_file_is_a_problem_of_its_lane_in_the_list(faulty, capsys):
    assert len(faulty) == 3
    found = {lane["lane"]: lane for lane in done(capsys, "list", group=lane_group)["lanes"]}
    assert found["paper1"]["problems"] == []
    for lane, name in (("paper2", "paper2.yaml"), ("shadow1", "shadow1.yaml"), ("live1", "live1.yml")):
        assert any(f"lanes/{name}" in problem for problem in found[lane]["problems"])
        assert found[lane]["mode"] is None
    assert any("the file's name is not allowed" in problem for problem in found["Bad Name"]["problems"])


@pytest.mark.usefixtures("judged")
@pytest.mark.parametrize("name", ["policy.yaml", "pipeline.yaml"])
def test_files_that_every_lane_needs_are_read_strictly(home, capsys, name):
    (home / "config" / name).write_text("nothing: 1\n")
    assert name in refused(capsys, 2, "rollback", "--lane", "paper1", *WHY)
