"""`mei lane status`, `positions`, `orders`, `trades` and `why`: what a lane does, for people and programs."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import session_kit as kit

from live.bench_home import LANE, home_settings
from mei_pipeline.candles.intervals import HOUR_MS
from mei_pipeline.cli.main import run
from mei_pipeline.execution.journal.opening import journal_path, lock_path
from mei_pipeline.files import locked
from mei_pipeline.registry.holds import Hold, set_hold
from mei_pipeline.registry.lanes import STATUS_NAME
from mei_pipeline.settings import Settings


@pytest.fixture(scope="module")
def traded_home(first_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a lane that traded and stopped; tests copy it."""
    home = tmp_path_factory.mktemp("traded") / "home"
    shutil.copytree(first_home, home)
    kit.run_session(home_settings(home, home / "cache"))
    return home


@pytest.fixture
def traded(traded_home: Path, home: Path) -> Settings:
    """A home with a lane that traded and stopped."""
    shutil.copytree(traded_home, home)
    return home_settings(home, home / "cache")


def shown(capsys, *words: str) -> dict:
    assert run(["lane", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def text(capsys, *words: str) -> str:
    assert run(["lane", *words, "--wide"]) == 0
    return capsys.readouterr().out


def refusal(capsys, code: int, *words: str) -> str:
    assert run(["lane", *words]) == code
    return capsys.readouterr().err


def iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M")


@pytest.mark.usefixtures("traded")
def test_the_status_of_a_stopped_lane(capsys) -> None:
    status = shown(capsys, "status", LANE)
    assert (status["lane"], status["running"], status["status"]["health"], status["orders"]) == (LANE, False, "ok", [])
    assert {each["symbol"]: each["size"] for each in status["positions"]} == status["status"]["positions"] != {}
    assert status["age_ms"] >= 0
    words = text(capsys, "status", LANE)
    for word in ("not running", "status written", "pnl today usd", "config since", "BTC", "Positions"):
        assert word in words, word


def test_the_status_of_a_running_lane(traded: Settings, capsys) -> None:
    with locked(lock_path(traded.lanes, LANE), f"running lane {LANE}"):
        assert shown(capsys, "status", LANE)["running"] is True
        assert "runs, pid" in text(capsys, "status", LANE)


def test_holds_that_the_lane_has_not_followed(traded: Settings, capsys) -> None:
    path = traded.lanes / LANE / STATUS_NAME
    status = json.loads(path.read_text())
    of = {"symbol": None, "owner": "anna", "reason": "so", "expires_ms": None}
    own = {**of, "effect": "close_only", "owner": "executor", "symbol": "BTC"}
    status["holds"] = {"risk": {**of, "effect": "halt"}, "mismatch-btc": own, "lifted": {**of, "effect": "halt"}}
    path.write_text(json.dumps(status))
    hold = Hold.model_validate({"owner": "anna", "effect": "halt", "reason": "so", "since_ms": 0})
    set_hold(traded.lanes, LANE, "risk", hold)
    set_hold(traded.lanes, None, "halt", hold)
    holds = shown(capsys, "status", LANE)["holds"]
    assert {name: each["followed"] for name, each in holds.items()} == {
        "risk": True, "mismatch-btc": True, "all/halt": False
    }  # fmt: skip
    assert "all/halt" in text(capsys, "status", LANE)
    (traded.lanes / LANE / "control.yaml").write_text("{")
    assert set(shown(capsys, "status", LANE)["holds"]) == {"risk", "mismatch-btc", "lifted"}


def test_a_lane_without_a_status_has_its_journal(traded: Settings, capsys) -> None:
    (traded.lanes / LANE / STATUS_NAME).unlink()
    status = shown(capsys, "status", LANE)
    assert (status["status"], status["age_ms"], len(status["positions"])) == (None, None, 2)
    assert status["last_step"] in text(capsys, "status", LANE)


def test_positions_orders_and_trades(traded: Settings, capsys) -> None:
    held = shown(capsys, "positions", LANE)["positions"][-1]
    assert shown(capsys, "positions", LANE, "--symbol", held["symbol"])["positions"] == [held]
    assert shown(capsys, "positions", LANE, "--symbol", "DOGE")["positions"] == []
    orders = shown(capsys, "orders", LANE)["orders"]
    assert [order["created_ms"] for order in orders] == sorted(order["created_ms"] for order in orders)
    assert shown(capsys, "orders", LANE, "--last", "2")["orders"] == orders[-2:]
    assert shown(capsys, "orders", LANE, "--open")["orders"] == []
    trades = shown(capsys, "trades", LANE)["trades"]
    assert {trade["trade"] for trade in trades if trade["exit_ms"] is None} >= {held["trade"]}
    assert shown(capsys, "trades", LANE, "--last", "1")["trades"] == trades[-1:]
    # They also work while the lane runs.
    with locked(lock_path(traded.lanes, LANE), f"running lane {LANE}"):
        assert shown(capsys, "trades", LANE)["trades"] == trades
    assert held["symbol"] in text(capsys, "positions", LANE)
    assert "entry" in text(capsys, "orders", LANE)
    assert "pnl, USD" in text(capsys, "trades", LANE)
    assert "Orders: none" in text(capsys, "orders", LANE, "--open")


@pytest.mark.usefixtures("traded")
def test_the_gates_behind_a_decision(capsys) -> None:
    order = next(each for each in shown(capsys, "orders", LANE)["orders"] if each["purpose"] == "entry")
    step_ms = int(order["origin"].removeprefix("step:"))
    why = shown(capsys, "why", LANE, order["symbol"], iso(step_ms))
    verdicts = [each["verdict"] for each in why["decisions"]]
    assert (why["verdict"], verdicts, why["notes"]) == ("entry ordered", ["entry ordered"], [])
    assert [each["open"] for each in why["gates"]] == [True] * len(why["gates"])
    assert [each["purpose"] for each in why["orders"]] == ["entry"]
    words = text(capsys, "why", LANE, order["symbol"], iso(step_ms))
    for word in ("open", "entry ordered", "FILLED", why["config_id"][:12]):
        assert word in words, word


@pytest.mark.usefixtures("traded")
def test_a_quiet_step_has_its_gates_and_no_decision(capsys) -> None:
    quiet = shown(capsys, "why", LANE, "BTC", iso(kit.FROM_MS))
    assert (quiet["decisions"], quiet["verdict"], quiet["signal"], quiet["orders"]) == ([], "no signal", None, [])
    assert "no signal" in text(capsys, "why", LANE, "BTC", iso(kit.FROM_MS))
    assert (
        shown(capsys, "why", LANE, "BTC")["bar"] == shown(capsys, "why", LANE, "BTC", iso(kit.TO_MS - HOUR_MS))["bar"]
    )


@pytest.mark.usefixtures("traded")
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("why", LANE, "DOGE"), 2, "the config in force trades BTC, ETH"),
        (("why", LANE, "BTC", "2020-01-01"), 3, "it took no step that opens 2020-01-01"),
        (("why", "nowhere", "BTC"), 2, "has no file of it"),
        (("status", "nowhere"), 2, "has no file of it"),
        (("orders", "NOWHERE"), 2, "the name is not allowed"),
    ],
)
def test_a_question_without_an_answer(capsys, words, code, says) -> None:
    assert says in refusal(capsys, code, *words)


@pytest.mark.parametrize("words", [("positions",), ("orders",), ("trades",), ("why",)])
def test_a_lane_without_a_journal(lane_home: Settings, capsys, words) -> None:
    more = ("BTC",) if words == ("why",) else ()
    assert "the lane never ran in this home" in refusal(capsys, 3, *words, LANE, *more)
    assert "it never ran in this home; start it with" in refusal(capsys, 3, "status", LANE)
    assert not journal_path(lane_home.lanes, LANE).exists()
