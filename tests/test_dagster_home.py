import pytest
import yaml

from mei_pipeline import dagster_home
from mei_pipeline.errors import DataError


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
