import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import polars as pl
import pytest
import registry_kit as kit
from plain_user import as_plain_user

from mei_pipeline import dagster_home
from mei_pipeline.candles.instruments import default_instruments
from mei_pipeline.candles.lake import Lake, merge_candles, merge_instruments
from mei_pipeline.cli import main
from mei_pipeline.cli.doctor import differing, examine
from mei_pipeline.cli.doctor_home import judge_cache, judge_room, run_bytes
from mei_pipeline.registry.database import open_registry
from mei_pipeline.registry.holds import Hold, set_hold
from mei_pipeline.settings import read_settings

HOUR_MS = 3_600_000
FROM_MS = 1_748_736_000_000  # 2025-06-01


def diagnose(capsys):
    code = main.run(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert code == (0 if report["ok"] else 1)
    return {finding["name"]: finding for finding in report["checks"]}


def finding_of(name):
    """One finding, without the price of all the others."""
    [finding] = examine(read_settings(), {name})
    return asdict(finding)


def bars(count):
    price = [100.0] * count
    return pl.DataFrame(
        {
            "venue": ["binance"] * count,
            "symbol": ["BTC"] * count,
            "interval": ["1h"] * count,
            "open_ms": [FROM_MS + index * HOUR_MS for index in range(count)],
            "open": price,
            "high": price,
            "low": price,
            "close": price,
            "volume": price,
            "trades": [1] * count,
            "source": ["test"] * count,
        }
    )


@pytest.fixture
def lake(mei_settings):
    merge_candles(Lake(mei_settings.lake), bars(24), now_ms=FROM_MS + 48 * HOUR_MS)
    return mei_settings.lake


def test_a_new_home_is_healthy_and_stays_untouched(home, capsys):
    report = diagnose(capsys)
    assert {name for name, finding in report.items() if finding["level"] == "fail"} == set()
    assert report["lake"]["level"] == "warn"
    assert "mei ingest" in report["lake"]["remedy"]
    assert not home.exists()


def test_every_finding_that_is_not_ok_says_what_to_do(home, capsys):
    home.mkdir()
    (home / "registry.db").write_text("no database")
    for finding in diagnose(capsys).values():
        assert finding["level"] == "ok" or finding["remedy"] or ";" in finding["state"]


def test_the_table_says_what_the_object_says(capsys):
    assert main.run(["doctor"]) == 0
    shown = capsys.readouterr().out
    for name in ("python", "dependencies", "packages", "home", "config", "lake", "registry", "gpu", "clock"):
        assert name in shown


def test_a_full_lake_tells_its_newest_bar(lake):
    assert lake.is_dir()
    assert finding_of("lake")["state"] == "binance 1h to 2025-06-01 23:00"


def test_instruments_that_no_source_stated_are_named(mei_settings, lake):
    assert lake.is_dir()
    assert finding_of("instruments")["level"] == "ok"
    assumed = default_instruments("binance", {"BTC": 100.0, "ETH": 10.0})
    merge_instruments(Lake(mei_settings.lake), assumed, now_ms=FROM_MS)
    found = finding_of("instruments")
    assert (found["level"], found["state"]) == ("warn", "binance: BTC; ETH")
    stated = assumed.with_columns(source=pl.lit("venue"), max_leverage=pl.lit(20.0))
    merge_instruments(Lake(mei_settings.lake), stated, now_ms=FROM_MS)
    assert finding_of("instruments")["level"] == "ok"


def test_a_universe_too_small_for_the_gates_is_named_before_a_search(lake):
    assert lake.is_dir()
    found = finding_of("universe")
    assert found["level"] == "warn"
    assert "holdout_symbols: 3 holds out none of 1, it needs at least 6" in found["state"]


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: os.truncate(path, 10)], ids=["gone", "cut"])
def test_a_damaged_file_of_the_lake_fails(lake, harm):
    harm(next(lake.rglob("2025-06.parquet")))
    finding = finding_of("lake")
    assert finding["level"] == "fail"
    assert "2025-06.parquet" in finding["state"]
    assert "mei lake verify" in finding["remedy"]


def test_a_wrong_config_fails_with_its_own_message(tmp_path, monkeypatch):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "pipeline.yaml").write_text("venue: binance\nvenue: other\n")
    monkeypatch.setenv("MEI_CONFIG", str(tmp_path / "config"))
    finding = finding_of("config")
    assert finding["level"] == "fail"
    assert "pipeline.yaml" in finding["state"]


def test_a_home_that_cannot_be_a_folder_fails(home):
    home.write_text("a file")
    assert finding_of("home")["level"] == "fail"


def test_a_damaged_registry_fails(home):
    home.mkdir()
    (home / "registry.db").write_text("no database, but long enough to be taken for one" * 100)
    assert finding_of("registry")["level"] == "fail"


@pytest.mark.parametrize("named", [False, True], ids=["home", "url"])
def test_a_registry_that_is_read_only_fails(home, monkeypatch, named):
    kit.fresh(home)
    if named:
        monkeypatch.setenv("MEI_REGISTRY_URL", f"sqlite:///{home / 'registry.db'}")
    assert finding_of("registry")["level"] == "ok"
    home.chmod(0o500)
    finding = as_plain_user(lambda: finding_of("registry"))
    home.chmod(0o700)
    assert (finding["level"], "read-only" in finding["state"], str(home) in finding["state"]) == ("fail", True, True)
    assert "writable" in finding["remedy"]


@pytest.fixture
def lanes(home):
    """The folder of lanes, one of which holds a config."""
    registry = kit.fresh(home)
    kit.promote(registry, home / "lanes", kit.PAPER1, kit.judged(registry), kit.POLICY, 0, kit.at())
    return home / "lanes"


@pytest.mark.usefixtures("lanes")
def test_sound_lanes_are_told(home):
    assert finding_of("lanes")["state"] == "1 lanes; their files are as the registry says"
    (home / "registry.db").unlink()
    assert finding_of("lanes")["state"] == "1 lanes; their files are sound"


DAMAGES = {
    "pointer damaged": ("promoted.yaml", "generation: ["),
    "pointer of another lane": ("promoted.yaml", None),
    "config damaged": ("configs/{config}.yaml", "config: ["),
    "another config damaged": ("configs/other.yaml", "config: ["),
    "status damaged": ("status.json", "{"),
}


@pytest.mark.parametrize("case", DAMAGES)
@pytest.mark.parametrize("registry", [True, False], ids=["registry", "no registry"])
def test_a_damaged_file_of_a_lane_fails_and_is_named(home, lanes, case, registry):
    name, text = DAMAGES[case]
    if not registry:
        (home / "registry.db").unlink()
    [config] = (lanes / "paper1" / "configs").iterdir()
    path = lanes / "paper1" / name.format(config=config.stem)
    path.write_text(path.read_text().replace("lane: paper1", "lane: paper2") if text is None else text)
    finding = finding_of("lanes")
    assert (finding["level"], str(path) in finding["state"]) == ("fail", True)


def test_a_pointer_that_is_not_the_registry_s_fails(lanes):
    path = lanes / "paper1" / "promoted.yaml"
    path.write_text(path.read_text().replace("generation: 1", "generation: 2"))
    assert "the registry has generation 1" in finding_of("lanes")["state"]


def test_lanes_that_are_halted_are_told_with_the_reason(lanes):
    set_hold(lanes, "paper1", "exchange", Hold(owner="anna", effect="close_only", reason="maintenance", since_ms=1))
    assert finding_of("lanes")["level"] == "ok"
    set_hold(lanes, "paper1", "risk", Hold(owner="bert", effect="halt", reason="a loss", since_ms=1))
    finding = finding_of("lanes")
    assert (finding["level"], finding["state"]) == ("warn", "trading is halted: lane paper1, hold risk of bert: a loss")
    (lanes / "paper1" / "control.yaml").write_text("holds: [")
    finding = finding_of("lanes")
    assert finding["level"] == "warn"
    assert "lane paper1, because its holds can't be read" in finding["state"]


def test_a_disk_too_small_for_the_next_run_fails(mei_settings):
    assert run_bytes(mei_settings) == 0
    columns = mei_settings.features / "0a" / "columns.npy"
    columns.parent.mkdir(parents=True)
    columns.touch()
    assert finding_of("home")["level"] != "fail"
    os.truncate(columns, shutil.disk_usage(columns).free)  # a file with a hole takes no room, and stands for a run
    finding = finding_of("home")
    assert finding["level"] == "fail"
    assert "a run writes up to" in finding["state"]


GIB = 1 << 30


@pytest.mark.parametrize(
    ("free", "files_left", "needed", "level"),
    [
        (11 * GIB, 10**6, 0, "ok"),
        (9 * GIB, 10**6, 0, "warn"),
        (GIB - 1, 10**6, 0, "fail"),
        (15 * GIB, 10**6, 2 * GIB, "ok"),
        (13 * GIB, 10**6, 2 * GIB, "warn"),
        (3 * GIB, 10**6, 2 * GIB, "fail"),
        (99 * GIB, 100, 0, "fail"),
    ],
)
def test_room_is_held_against_what_runs_write(tmp_path, free, files_left, needed, level):
    finding = judge_room(tmp_path, free, files_left, needed)
    assert (finding.level, bool(finding.remedy)) == (level, level != "ok")


def test_a_cache_without_room_for_kernels_fails(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("a file")
    monkeypatch.setenv("MEI_CACHE", str(tmp_path / "file" / "cache"))
    finding = finding_of("kernels")
    assert (finding["level"], "MEI_CACHE" in finding["remedy"]) == ("fail", True)
    assert judge_cache(tmp_path / "new", 10 << 20, 10**6).level == "fail"
    assert judge_cache(tmp_path / "new", 10**9, 10).level == "fail"
    assert judge_cache(tmp_path / "new", 10**9, 10**6).level == "ok"


def test_results_of_sweeps_on_another_disk_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setenv("MEI_SWEEPS", str(tmp_path / "shared"))
    (tmp_path / "shared").write_text("a file")
    home, sweeps = examine(read_settings(), {"home"})
    assert home.level != sweeps.level == "fail"
    assert "MEI_SWEEPS" in sweeps.remedy


def test_the_version_of_a_registry_is_told_and_left(home, mei_settings):
    assert "none yet" in finding_of("registry")["state"]
    home.mkdir()
    sqlite3.connect(home / "registry.db").close()
    finding = finding_of("registry")
    assert (finding["level"], finding["state"]) == ("ok", "schema version 0")
    assert "brings it to 3" in finding["remedy"]
    open_registry(mei_settings.registry)
    assert finding_of("registry")["state"].endswith("0 configs, schema version 3")


def test_a_registry_of_the_version_before_is_told_and_left(home):
    kit.make_version(home, version=2)
    finding = finding_of("registry")
    assert (finding["level"], finding["state"]) == ("ok", "schema version 2")
    assert "brings it to 3" in finding["remedy"]
    assert finding_of("registry") == finding


def test_nightly_runs_that_can_not_be_read_are_listed(home):
    assert finding_of("nightly runs")["state"].startswith("none yet")
    plan = home / "nights" / "0123456789abcdef" / "plan.json"
    plan.parent.mkdir(parents=True)
    plan.write_text('{"profile": "nightly"}')  # the version before wrote no format
    finding = finding_of("nightly runs")
    assert finding["state"] == "1 of 1 nightly runs are of another version and unreadable: 0123456789abcdef"
    assert (finding["level"], "report.html" in finding["remedy"]) == ("ok", True)
    plan.write_text('{"format": 2}')
    finding = finding_of("nightly runs")
    assert finding["level"] == "warn"
    assert "damaged plan of a nightly run" in finding["state"]


def test_an_edited_dagster_home_is_told(mei_settings):
    dagster_home.make(mei_settings.dagster, ticks_days=7)
    assert finding_of("dagster")["level"] == "ok"
    (mei_settings.dagster / "dagster.yaml").write_text("telemetry: {enabled: true}\n")
    assert finding_of("dagster")["level"] == "warn"


def test_versions_are_compared_with_every_fork_of_the_lock():
    wanted = {"numpy": {"2.4.6", "2.5.5"}, "polars": {"2.1.0"}}
    assert differing(wanted, {"numpy": "2.5.5", "polars": "2.1.0", "unknown": "1"}) == []
    assert differing(wanted, {"numpy": "2.3.0", "polars": "1.9"}) == ["numpy 2.3.0", "polars 1.9"]


def test_a_stranger_named_kernels_is_found(tmp_path):
    """The name is also that of a package on PyPI; an environment shared with other projects may hold it."""
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "mei_pipeline.cli.main", "doctor", "--json"]
    asked = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=tmp_path)
    assert asked.returncode == 1
    [finding] = [finding for finding in json.loads(asked.stdout)["checks"] if finding["name"] == "packages"]
    assert finding["level"] == "fail"
    assert str(tmp_path / "kernels") in finding["state"]
