import re
from pathlib import Path

import pytest
import yaml
from sqlalchemy import make_url

from mei_pipeline import dagster_home
from mei_pipeline.cli.main import run
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.settings import read_settings


def test_a_new_home_holds_what_was_asked_for(tmp_path):
    assert dagster_home.make(tmp_path / "dagster", ticks_days=9, max_concurrent_runs=3)
    content = yaml.safe_load((tmp_path / "dagster" / "dagster.yaml").read_text())
    assert content["telemetry"] == content["nux"] == {"enabled": False}
    assert content["concurrency"]["pools"] == {"default_limit": 1, "granularity": "op"}
    assert content["concurrency"]["runs"] == {"max_concurrent_runs": 3}
    assert content["retention"]["sensor"] == content["retention"]["schedule"] == {"purge_after_days": 9}


def test_making_it_again_changes_nothing(tmp_path):
    dagster_home.make(tmp_path, ticks_days=7)
    path = tmp_path / "dagster.yaml"
    before = path.stat()
    assert dagster_home.make(tmp_path, ticks_days=7)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_another_value_is_written_while_nobody_edited_the_file(tmp_path):
    dagster_home.make(tmp_path, ticks_days=7)
    assert dagster_home.make(tmp_path, ticks_days=8)
    assert yaml.safe_load((tmp_path / "dagster.yaml").read_text())["retention"]["sensor"] == {"purge_after_days": 8}
    assert not dagster_home.is_edited(tmp_path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("max_retries: 1", "max_retries: 2"),
        lambda text: text + "freshness:\n  enabled: false\n",
        lambda _: "",
        lambda _: "storage:\n  sqlite:\n    base_dir: /data\n",
    ],
    ids=["value", "addition", "emptied", "own"],
)
def test_an_edit_of_the_operator_is_left_alone(tmp_path, edit):
    dagster_home.make(tmp_path, ticks_days=7)
    path = tmp_path / "dagster.yaml"
    path.write_text(edit(path.read_text()))
    edited = path.read_bytes()
    assert not dagster_home.make(tmp_path, ticks_days=8)
    assert path.read_bytes() == edited
    assert dagster_home.is_edited(tmp_path)


def test_a_deleted_file_is_made_again(tmp_path):
    assert not dagster_home.is_edited(tmp_path)
    dagster_home.make(tmp_path, ticks_days=7)
    (tmp_path / "dagster.yaml").unlink()
    assert dagster_home.make(tmp_path, ticks_days=7)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "dagster").write_text("a file")
    with pytest.raises(DataError, match="dagster"):
        dagster_home.make(tmp_path / "dagster", ticks_days=7)


def test_dagster_itself_accepts_the_file(tmp_path):
    from dagster import DagsterInstance

    dagster_home.make(tmp_path, ticks_days=7)
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.telemetry_enabled is False
        assert instance.nux_enabled is False
        assert instance.global_op_concurrency_default_limit == 1
        assert instance.run_retries_max_retries == 1
        assert instance.run_retries_retry_on_asset_or_op_failure is False


STRANGE = ("h [1]", "h*", "h?", "100%41", "sp ace #1 ü")


@pytest.mark.parametrize("name", STRANGE)
def test_dagster_finds_its_configuration_in_any_home(tmp_path, monkeypatch, name):
    from dagster import DagsterInstance

    home, person = tmp_path / name, tmp_path / "person"
    settings = read_settings({"MEI_HOME": str(home), "MEI_CACHE": str(tmp_path / "cache")})
    monkeypatch.setenv("HOME", str(person))
    monkeypatch.setenv("DAGSTER_HOME", "")
    for _ in range(2):
        dagster_home.make(settings.dagster, ticks_days=7)
        dagster_home.enter(settings.dagster, settings.dagster_home)
        with DagsterInstance.get() as instance:
            assert instance.telemetry_enabled is False
            assert instance.run_monitoring_enabled is True
            instance.run_storage.get_runs()
            instance.event_log_storage.get_logs_for_run("none")
    assert (settings.dagster / "history" / "runs.db").exists()
    assert settings.dagster_home.resolve() == settings.dagster
    assert not person.exists()
    assert {path.name for path in tmp_path.iterdir()} <= {name, "cache", "home"}
    assert Path(make_url(settings.registry).database) == home / "registry.db"


def test_plain_homes_have_no_link(tmp_path):
    settings = read_settings({"MEI_HOME": str(tmp_path / "plain home-1")})
    assert settings.dagster_home == settings.dagster


@pytest.mark.parametrize(
    ("home", "cache", "text"),
    [("h[1]", "c[1]", "Dagster treats .* in its path as a pattern"), ("a\x1bb", "c", "control characters")],
)
def test_a_home_that_can_not_be_used_is_refused_before_anything_is_written(
    tmp_path, monkeypatch, capsys, home, cache, text
):
    monkeypatch.setenv("MEI_HOME", str(tmp_path / home))
    monkeypatch.setenv("MEI_CACHE", str(tmp_path / cache))
    assert run(["demo"]) == ConfigError.exit_code
    assert re.search(text, capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []
