"""The whole way by the commands of a newcomer."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from market_kit import DAY_MS, START_MS, fill_lake, write_config
from table_kit import check_table_text, words_of

from mei_pipeline.cli.main import run
from mei_pipeline.demo import Demo, make_home
from mei_pipeline.errors import Busy, ConfigError, DataError, Refused
from mei_pipeline.files import locked
from mei_pipeline.registry.lanes import LOCK_NAME
from mei_pipeline.settings import Settings, enter_home, read_settings

if TYPE_CHECKING:
    from demo_fixtures import Demos

pytest_plugins = ["demo_fixtures"]

AS_OF_MS = 1_782_864_000_000  # 2026-07-01, the end of the market

TABLES = (
    "sweep list",
    "sweep show {sweep}",
    "sweep top {sweep}",
    "sweep compare {sweep} {sweep}",
    "registry list",
    "registry show paper1",
    "registry history",
    "registry diff paper1 paper2",
    "lane list",
    "lane show paper1",
    "coverage",
    "lake show",
    "lake revisions",
    "config check",
    "config explain window.days",
    "config explain trade.sl_atr_mult --strategy mei_alpha",
    "why --config paper1 --symbol BTC --at 2026-06-20T00:00 --from 2026-06-01",
    "backtest --config paper1 --from 2026-06-01",
)
"""Commands that print tables of what a home has."""
KEYS = {"candles", "symbols", "combos", "candidates", "promoted", "seconds"}


@pytest.fixture
def own_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that a command may leave for another one: monkeypatch puts the environment back."""
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    return home


def test_demo_deploys_through_the_gates(
    demos: "Demos", own_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = demos.with_edge
    assert set(first) >= KEYS
    assert (first["candles"], first["symbols"], first["combos"]) == (91_728, 7, 240)
    assert first["promoted"][0]["lane"] == "paper1"
    assert Path(first["home"]) == demos.homes["demo",]
    demos.copy(("demo",), own_home)
    monkeypatch.setenv("MEI_CONFIG", str(own_home / "config"))
    settings = read_settings()
    lane = settings.lanes / "paper1"
    assert first["promoted"][0]["config_id"] in (lane / "promoted.yaml").read_text()
    assert (lane / "configs" / f"{first['promoted'][0]['config_id']}.yaml").exists()

    _replays_to_its_evidence(lane, first["promoted"][0]["config_id"], capsys)


@pytest.mark.long
@pytest.mark.usefixtures("own_home")
def test_a_second_demo_over_the_first_says_the_same(demos: "Demos", capsys: pytest.CaptureFixture[str]) -> None:
    home = demos.homes["demo",]
    assert run(["demo", "--home", str(home)]) == 0
    shown = capsys.readouterr().out
    assert demos.with_edge["promoted"][0]["config_id"][:12] in shown
    assert "mei ui" in shown


def test_a_demo_keeps_a_home_whose_lane_runs(tmp_path: Path) -> None:
    demo = Demo(tmp_path / "demo", 8.0)
    make_home(demo)
    journal, lock = (demo.home / "lanes" / "paper1" / name for name in ("journal.db", LOCK_NAME))
    journal.parent.mkdir(parents=True)
    journal.touch()
    with locked(lock, "running lane paper1"), pytest.raises(Busy, match="running lane paper1, process"):
        make_home(demo)
    assert journal.exists()
    make_home(demo)
    assert not journal.exists()


def test_commands_fit_the_terminal_and_break_no_word(
    demos: "Demos", own_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a narrow terminal shows is compared with what the same command prints with `--wide`."""
    demos.copy(("demo",), own_home)
    monkeypatch.setenv("MEI_CONFIG", str(own_home / "config"))
    (sweep,) = (path.name for path in (own_home / "sweeps").iterdir())
    for command in TABLES:
        words = command.format(sweep=sweep).split()
        code = run([*words, "--wide"])
        known = words_of(capsys.readouterr().out)
        for columns in (80, 160):
            monkeypatch.setenv("COLUMNS", str(columns))
            assert run(words) == code, command
            check_table_text(capsys.readouterr().out, columns, known)


def _replays_to_its_evidence(lane: Path, config_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A backtest over the holdout is what the night saw there, less the closing of what is still held."""
    assert run(["registry", "show", config_id, "--json"]) == 0
    (evidence,) = json.loads(capsys.readouterr().out)["evidence"]
    holdout = evidence["metrics"]["holdout"]
    assert (evidence["metrics"]["holdout_ms"], holdout["days"]) == (AS_OF_MS - 42 * DAY_MS, 42)
    file = lane / "configs" / f"{config_id}.yaml"
    assert run(["backtest", "--config", str(file), "--from", "2026-05-20", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["config_id"] == config_id
    assert report["evidence_id"] == evidence["evidence_id"]
    record = report["record"]
    assert (record["search"], record["holdout"]) == (None, holdout)
    assert record["out_of_sample"]["days"] == sum(end - first for first, end in record["folds_ms"]) // DAY_MS
    for name in ("paper1", config_id[:10]):
        assert run(["backtest", "--config", name, "--from", "2026-05-20", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == report
    held = len(report["open_positions"])
    assert holdout["trades"] == report["metrics"]["trades"] + held
    assert holdout["return_pct"] == pytest.approx(report["metrics"]["return_pct"], abs=0.02 * held)
    assert holdout["max_drawdown_pct"] == pytest.approx(report["metrics"]["max_drawdown_pct"], abs=0.02 * held)


@pytest.mark.long
def test_demo_without_an_edge_deploys_nothing_and_says_why(own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--no-edge", "--json", "--home", str(own_home)]) == 0
    assert json.loads(capsys.readouterr().out)["promoted"] == []
    assert run(["registry", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lanes"] == []


def test_demo_never_clears_a_folder_that_is_not_its_own(own_home: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "registry.db").write_text("mine")
    assert run(["demo", "--home", str(precious)]) == Refused.exit_code
    assert (precious / "registry.db").read_text() == "mine"
    assert own_home == read_settings().home


def test_a_home_with_its_own_configuration_is_used(tmp_path: Path, home: Path) -> None:
    assert read_settings().config.name == "config"
    write_config(tmp_path / "other" / "config")
    settings = enter_home(tmp_path / "other")
    assert settings.config == tmp_path / "other" / "config"
    assert settings.home != home


@pytest.fixture
def market(mei_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake of three symbols and a configuration for it; returns the configuration's folder."""
    fill_lake(mei_settings)
    write_config(tmp_path / "config")
    monkeypatch.setenv("MEI_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


def test_backtest_writes_what_was_asked_for(market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("strategy: ema_cross\ninterval: 1h\nparams: {entry.warmup_bars: 50}\n")
    trades, equity = tmp_path / "trades.csv", tmp_path / "equity.parquet"
    files = ["--trades", str(trades), "--equity", str(equity)]
    assert run(["backtest", "--config", str(path), *files, "--json"]) == 0
    assert market.exists()
    told = json.loads(capsys.readouterr().out)
    assert told["metrics"]["trades"] == len(trades.read_text().splitlines()) - 1 > 0
    assert equity.stat().st_size > 0
    assert run(["backtest", "--config", str(path)]) == 0
    assert "net_pnl_usd" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--trades", "trades.xlsx"], "must end in .csv or .parquet"),
        (["--from", "2020-01-01"], "before the anchor"),
        (["--from", "2025-02-25"], "at least 16 days"),
        (["--from", "2025-03-25"], "no whole UTC day"),
        (["--to", "2030-01-01"], "the last bar that any symbol has"),
    ],
)
def test_backtest_refuses_what_cannot_be(
    market: Path, tmp_path: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("strategy: ema_cross\ninterval: 1h\n")
    assert run(["backtest", "--config", str(path), *arguments]) == ConfigError.exit_code
    assert market.exists()
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("exit_interval: 15m", DataError.exit_code, "no 15m bars of test; run `mei ingest`"),
        ("entry_interval: 4h", ConfigError.exit_code, "mine.yaml:3:1: entry_interval: '4h' does not divide"),
    ],
)
def test_sweep_refuses_intervals_that_it_cannot_read(
    market: Path, tmp_path: Path, line: str, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert market.exists()
    path = tmp_path / "mine.yaml"
    path.write_text(f"strategy: ema_cross\ninterval: 1h\n{line}\naxes: {{trade.sl_atr_mult: [1, 2]}}\n")
    assert run(["sweep", str(path)]) == code
    assert says in capsys.readouterr().err


def test_sweep_by_name_by_path_and_again(market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sweep", "smoke", "--json", "--top", "3"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["combos"], first["resumed"], len(first["top"])) == (12, 0, 3)
    assert run(["sweep", str(market / "sweeps" / "smoke.yaml"), "--json", "--top", "3"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["sweep"], again["resumed"], again["top"]) == (first["sweep"], 12, first["top"])
    assert again["combos_per_s"] is None
    assert again["bar_steps_per_s"] is None


def test_sweep_shows_what_tells_the_best_apart_and_says_once_what_they_share(
    market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert market.exists()
    assert run(["sweep", "smoke", "--top", "1"]) == 0
    shown = capsys.readouterr()
    best, common = shown.out.split("all have")
    assert "Best 1 of 12 combos" in best
    assert "ema_fast_window" not in best
    assert all(f"{path} " in common for path in ("ema_fast_window", "sl_atr_mult"))
    assert "M bar-steps/s" in shown.err
    assert run(["sweep", "smoke", "--top", "12"]) == 0
    shown = capsys.readouterr()
    assert "ema_fast_window" in shown.out
    assert "all have" not in shown.out
    assert "all done before" in shown.err


@pytest.mark.long
def test_nightly_as_of_the_last_bar_is_green_and_says_why_nothing_was_deployed(
    market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["nightly", "--profile", "smoke", "--as-of", "last", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) >= KEYS
    assert found["candles"] == 60 * 24 * 3
    assert found["as_of_ms"] == START_MS + 60 * DAY_MS
    assert market.exists()
