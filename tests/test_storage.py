"""Files of a sweep where there is no bucket, and addresses of buckets that can't be right."""

from pathlib import Path

import pytest

from mei_pipeline.errors import ConfigError
from mei_pipeline.settings import Settings, read_settings
from mei_pipeline.storage import Store, open_bucket, open_store


@pytest.mark.parametrize(
    "url",
    ["s3://", "gs://results/x", "s3://results/x?endpont=http://here", "s3://results/x#part", "results/x"],
)
def test_an_address_that_is_none_of_a_bucket_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"wrong address; write s3://bucket/prefix, if needed with \?endpoint=URL"):
        open_bucket(url)


def test_names_below_a_prefix_keep_the_options_out_of_the_path() -> None:
    bucket = open_bucket("s3://results/mei/?endpoint=http://127.0.0.1:9&region=here").below("0123")
    assert (bucket.root, bucket.url) == ("results/mei/0123", "s3://results/mei/0123")


def test_without_a_bucket_the_folder_is_all_there_is(tmp_path: Path) -> None:
    store = open_store(tmp_path, "")
    assert store == Store(tmp_path)
    (tmp_path / "a").write_text("x")
    assert store.held("a")
    assert not store.held("b")
    assert store.pull_all("chunks", ["chunks/a"]) == []
    for act in (store.push, store.pull, store.keep):
        act("a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("given", "folder", "bucket"),
    [
        ("", "{home}/sweeps", ""),
        ("/mnt/mei", "/mnt/mei", ""),
        ("s3://results/mei", "{home}/sweeps", "s3://results/mei"),
    ],
)
def test_where_results_of_sweeps_are(tmp_path: Path, given: str, folder: str, bucket: str) -> None:
    settings = read_settings({"MEI_HOME": str(tmp_path), "MEI_SWEEPS": given})
    assert str(settings.sweeps) == folder.format(home=tmp_path)
    assert settings.sweeps_bucket == bucket


def test_a_relative_folder_is_made_absolute_before_it_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_settings({"MEI_SWEEPS": "shared"}).sweeps == tmp_path / "shared"


def test_another_kind_of_storage_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"MEI_SWEEPS='gs://x/y': .*must be a folder or s3://bucket/prefix"):
        read_settings({"MEI_SWEEPS": "gs://x/y"})


def test_settings_without_a_place_for_results_keep_them_at_home(mei_settings: Settings) -> None:
    assert mei_settings.sweeps == mei_settings.home / "sweeps"
