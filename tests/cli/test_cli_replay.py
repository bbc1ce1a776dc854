"""`mei replay`: days of a lane as tables and JSON, exit codes, and wrong options."""

import json
import shutil
import sqlite3
from contextlib import closing
from math import inf
from pathlib import Path

import pytest
from session_kit import CONFIG, LANE, MARKET, START_MS, feed_of

from live.bench_home import home_settings, make_lane_home
from live.running import LaneOptions, Watch
from live.session import run_lane
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.cli.main import run
from mei_pipeline.execution.journal.opening import journal_path


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose lane has traded for two days."""
    home = tmp_path_factory.mktemp("replayed") / "home"
    settings = home_settings(home, home / "cache")
    make_lane_home(settings, MARKET, CONFIG)
    options = LaneOptions(LANE, speed=inf, from_ms=START_MS + 2 * DAY_MS)
    run_lane(settings, options, Watch(), feed_of(settings, START_MS + 4 * DAY_MS, 1000))
    return home


@pytest.fixture
def lane_of(traded: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the home, as the environment names it."""
    shutil.copytree(traded, home, dirs_exist_ok=True)
    monkeypatch.setenv("MEI_HOME", str(home))
    monkeypatch.setenv("MEI_CONFIG", str(home / "config"))
    return home


@pytest.mark.usefixtures("lane_of")
def test_days_that_are_equal(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", "--lane", LANE, "--all", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["lane"], printed["failed"]) == (LANE, False)
    assert [(day["day"], day["verdict"]) for day in printed["days"]] == [
        ("2025-01-03", "equal"),
        ("2025-01-04", "equal"),
    ]
    assert run(["replay", "--lane", LANE]) == 0
    assert "2025-01-04" in capsys.readouterr().out


def test_a_logic_difference_is_exit_code_1(lane_of: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(journal_path(lane_of / "lanes", LANE))) as journal:
        journal.execute("DROP TRIGGER events_delete")
        journal.execute("DELETE FROM events WHERE seq = (SELECT min(seq) FROM events WHERE event = 'Decided')")
        journal.commit()
    assert run(["replay", "--lane", LANE, "--day", "2025-01-03"]) == 1
    printed = capsys.readouterr().out
    assert "failed" in printed
    assert "logic" in printed


@pytest.mark.usefixtures("lane_of")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--lane", "nobody"], "nobody"),
        (["--lane", LANE, "--day", "2025-01-03", "--all"], "exclude"),
        (["--lane", LANE, "--day", "yesterday"], "yesterday"),
    ],
)
def test_wrong_options(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_lane_that_never_ran(lane_of: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal_path(lane_of / "lanes", LANE).unlink()
    assert run(["replay", "--lane", LANE]) == 3
    assert "journal.db" in capsys.readouterr().err
