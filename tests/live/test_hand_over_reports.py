"""What the sensor of lanes reports of an executor: words, figures and a picture, once per change."""

import base64
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import dagster as dg
import pytest
from hand_over_kit import Desk, follow, make_desk, shown
from session_kit import CONFIG, FROM_MS, LANE, OTHER

from assets.lane_reports import state_in_words
from assets.lanes import check_acknowledgement
from assets.sensors import lane_acks
from mei_pipeline.candles.intervals import DAY_MS, HOUR_MS, MINUTE_MS
from mei_pipeline.execution.journal.opening import journal_path
from mei_pipeline.files import write_json
from mei_pipeline.registry.lanes import ExecutorStatus, read_status
from mei_pipeline.registry.records import Pointer
from mei_pipeline.registry.store import lane_pointer
from mei_pipeline.settings import Settings

A, B = "a" * 64, "b" * 64
HOLD = {"effect": "close_only", "symbol": None, "owner": "anna", "reason": "maintenance"}
SVG = "{http://www.w3.org/2000/svg}"
AT_MS = 1_735_689_600_000
BASE: dict[str, Any] = {
    "schema_version": 2, "lane": LANE, "config_id": A, "generation": 1, "since_bar_ms": AT_MS, "written_ms": AT_MS,
    "health": "ok",
}  # fmt: skip


@pytest.fixture
def desk(lane_home: Settings, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("MEI_CONFIG", str(lane_home.config))
    return make_desk(lane_home)


@pytest.fixture
def ran(desk: Desk) -> Desk:
    """A lane that ran a while and holds a position."""
    desk.promote(desk.judged(CONFIG), 0)
    follow(desk.settings, to_step=4)
    return desk


def look(cursor: str | None = None) -> dg.SensorResult:
    with dg.DagsterInstance.ephemeral() as instance:
        found = lane_acks(dg.build_sensor_context(instance=instance, cursor=cursor))
    assert isinstance(found, dg.SensorResult)
    return found


def kinds(result: dg.SensorResult) -> list[str]:
    return [type(event).__name__.removeprefix("Asset") for event in result.asset_events]


def edit_status(desk: Desk, **changes: object) -> None:
    write_json(desk.settings.lanes / LANE / "status.json", shown(desk.settings) | changes)


def test_a_lane_is_reported_with_its_money_and_a_picture_of_its_equity(ran: Desk) -> None:
    report, check = look().asset_events
    status, told = shown(ran.settings), report.metadata
    assert report.asset_key == dg.AssetKey(["lane", LANE])
    assert next(iter(told)) == "equity"
    assert [told[key].value for key in ("equity_usd", "pnl_usd", "pnl_today_usd")] == [
        round(status[key], 2) for key in ("equity_usd", "pnl_usd", "pnl_today_usd")
    ]
    assert told["pnl_usd"].value != 0.0
    assert told["in_force_since_bar"].value == FROM_MS / 1000
    assert told["last_step"].value == (FROM_MS + 4 * HOUR_MS) / 1000
    assert told["state"].value == f"generation 1 of {status['config_id'][:12]} is in force, since 2025-01-03 06:00Z"
    assert (told["mode"].value, told["feed"].value, told["draining"].value) == ("paper", "replay", "none")
    assert "| BTC | " in told["positions"].value
    svg = base64.b64decode(told["equity"].value.partition("base64,")[2].rstrip(")"))
    lines = [path.get("d", "") for path in ET.fromstring(svg).iter(f"{SVG}path") if path.get("fill") == "none"]  # noqa: S314 - our own
    assert [line.count(" ") for line in lines] == [5, 5]
    assert "maximum drawdown" in svg.decode()
    assert check.passed


def test_an_equity_tick_is_no_news(ran: Desk) -> None:
    first = look()
    status = shown(ran.settings)
    edit_status(
        ran,
        equity_usd=1.0,
        pnl_usd=2.0,
        last_step_ms=status["last_step_ms"] + HOUR_MS,
        clock_ms=status["clock_ms"] + HOUR_MS,
        open_orders=3,
        boot_id="another",
        positions={symbol: 2.0 * size for symbol, size in status["positions"].items()},
    )
    assert kinds(look(first.cursor)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"health": "degraded"},
        {"detail": "the config is paused"},
        {"positions": {}},
        {"positions": {"BTC": -1.0}},
        {"holds": {"news": HOLD}},
        {"draining": [B]},
        {"excluded": ["BTC"]},
        {"size_multiplier": 0.5},
        {"offered": {"generation": 2, "config_id": B, "reason": "it waits"}},
        {"unknown_orders": 1},
        {"last_error": "the feed closed"},
        {"stale": {"BTC": ["bars"]}},
        {"feed": "simulator"},
        {"kernel_hash": B},
        {"written_ms": 0},
    ],
    ids="-".join,
)
def test_a_change_of_what_matters_is_reported_once(desk: Desk, changes: dict[str, object]) -> None:
    write_json(desk.settings.lanes / LANE / "status.json", BASE | {"positions": {"BTC": 1.0}})
    first = look()
    edit_status(desk, **changes)
    second = look(first.cursor)
    assert kinds(first) == kinds(second) == ["Materialization", "CheckEvaluation"]
    assert kinds(look(second.cursor)) == []


def test_a_lane_that_never_ran_has_no_report(desk: Desk) -> None:
    assert kinds(look()) == []
    desk.promote(desk.judged(OTHER), 0)
    found = look()
    assert kinds(found) == ["CheckEvaluation"]
    assert not found.asset_events[0].passed


@pytest.mark.parametrize("damage", [b"", b"no database at all" * 100, None], ids=["empty", "other", "gone"])
def test_a_journal_that_can_not_be_read_costs_only_the_picture(ran: Desk, damage: bytes | None) -> None:
    path = journal_path(ran.settings.lanes, LANE)
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()
    if damage is not None:
        path.write_bytes(damage)
    report, check = look().asset_events
    assert "equity" not in report.metadata
    assert report.metadata["pnl_usd"].value == round(shown(ran.settings)["pnl_usd"], 2)
    assert check.passed


def test_a_lane_before_its_first_step_has_an_empty_picture(desk: Desk) -> None:
    desk.promote(desk.judged(CONFIG), 0)
    follow(desk.settings, to_step=-1)
    picture = look().asset_events[0].metadata["equity"].value.partition("base64,")[2].rstrip(")")
    assert b"no values yet" in base64.b64decode(picture)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config_id": None, "generation": None}, "no config is in force"),
        ({"since_bar_ms": None}, "generation 1 of aaaaaaaaaaaa is in force, no bar yet"),
        (
            {"draining": [B], "offered": {"generation": 3, "config_id": B, "reason": "it waits until x has drained"}},
            (
                "generation 1 of aaaaaaaaaaaa is in force, since 2025-01-01 00:00Z; bbbbbbbbbbbb is draining; "
                "generation 3 of bbbbbbbbbbbb is offered: it waits until x has drained"
            ),
        ),
        (
            {"offered": {"generation": None, "config_id": None, "reason": "promoted.yaml: damaged"}},
            (
                "generation 1 of aaaaaaaaaaaa is in force, since 2025-01-01 00:00Z; the offered config "
                "is not followed: promoted.yaml: damaged"
            ),
        ),
        (
            {"health": "halted", "holds": {"news": HOLD, "btc": HOLD | {"effect": "halt", "symbol": "BTC"}}},
            (
                "generation 1 of aaaaaaaaaaaa is in force, since 2025-01-01 00:00Z; "
                "on hold news, close_only: maintenance (anna); on hold btc, halt of BTC: maintenance (anna)"
            ),
        ),
        (
            {"excluded": ["BTC", "ETH"], "size_multiplier": 0.25},
            (
                "generation 1 of aaaaaaaaaaaa is in force, since 2025-01-01 00:00Z; entries of BTC, ETH are excluded; "
                "sizes times 0.25"
            ),
        ),
        (
            {"health": "degraded", "detail": "the config is paused"},
            "generation 1 of aaaaaaaaaaaa is in force, since 2025-01-01 00:00Z; degraded: the config is paused",
        ),
    ],
)
def test_the_state_of_a_lane_in_words(changes: dict[str, object], words: str) -> None:
    assert state_in_words(ExecutorStatus.model_validate_json(json.dumps(BASE | changes))) == words


@pytest.mark.parametrize(
    ("age_ms", "words"),
    [
        (4 * MINUTE_MS, ""),
        (5 * MINUTE_MS, "5 min"),
        (59 * MINUTE_MS, "5 min"),
        (HOUR_MS, "1 h"),
        (47 * HOUR_MS, "47 h"),
        (2 * DAY_MS, "2 d"),
    ],
)
def test_the_check_names_the_age_of_an_old_status(age_ms: int, words: str) -> None:
    status = ExecutorStatus.model_validate_json(json.dumps(BASE))
    expected = f"; the executor last wrote its status more than {words} ago" if words else ""
    for pointer_generation, text in (
        (1, "generation 1 of aaaaaaaaaaaa is in force"),
        (2, "generation 2 of aaaaaaaaaaaa is not acknowledged: the executor runs generation 1 of aaaaaaaaaaaa"),
    ):
        pointer = Pointer(LANE, A, pointer_generation, 1.0, "t" * 64, "paper")
        assert check_acknowledgement(pointer, status, AT_MS + age_ms) == (pointer_generation == 1, text + expected)


def test_an_executor_that_falls_silent_changes_the_check_and_is_not_reported_as_running(ran: Desk) -> None:
    edit_status(ran, written_ms=AT_MS)
    first = look()
    assert "the executor last wrote its status more than" in str(first.asset_events[1].description)
    running = json.loads(first.cursor or "")
    status = read_status(ran.settings.lanes, LANE)
    _, running[f"{LANE}/acknowledged"] = check_acknowledgement(lane_pointer(ran.registry, LANE), status, AT_MS)
    second = look(json.dumps(running))
    assert kinds(second) == ["CheckEvaluation"]
    assert kinds(look(second.cursor)) == []


def test_a_cursor_of_an_earlier_version_reports_once(ran: Desk) -> None:
    again = look(json.dumps({LANE: "1:a|1:a:5:ok:2"}))
    assert kinds(again) == ["Materialization", "CheckEvaluation"]
    assert kinds(look(again.cursor)) == []
    assert not Path(ran.settings.dagster).exists()


def test_an_error_in_another_file_hides_no_lane(ran: Desk) -> None:
    (ran.settings.config / "sweeps" / "smoke.yaml").write_text("axes: [\n")
    (ran.settings.config / "lanes" / "paper9.yaml").write_text("mode: loud\n")
    (ran.settings.config / "strategy_overrides.yaml").write_text("")
    assert kinds(look()) == ["Materialization", "CheckEvaluation"]
