"""One night over a small market, run once; each test that asks gets a home of its own that holds it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from asset_kit import AS_OF, PROFILE, World, write_config
from dagster._core.storage.defs_state.base import set_defs_state_storage

from mei_pipeline.cli.nightly import NightSummary, run_night
from mei_pipeline.config.load import load_config
from mei_pipeline.settings import read_settings


@pytest.fixture(autouse=True)
def no_instance_of_another_test() -> Iterator[None]:
    """Forget an instance of Dagster that was entered twice: its end leaves a storage behind that definitions ask."""
    with set_defs_state_storage(None):
        yield


@pytest.fixture(scope="session")
def first_night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NightSummary]:
    """A home in which one ingest and one night ran, and what they did; its path is a pattern and an escape."""
    home = tmp_path_factory.mktemp("night") / "h [1]%41*?#ü"
    write_config(home / "config")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEI_HOME", str(home))
        patch.setenv("MEI_CONFIG", str(home / "config"))
        patch.setenv("MEI_CACHE", str(home.parent / "cache"))  # a link to the home is made there
        patch.setenv("HOME", str(home.parent / "person"))
        patch.setenv("DAGSTER_HOME", "")
        return home, run_night(read_settings(), PROFILE, AS_OF)


@pytest.fixture
def world(first_night: tuple[Path, NightSummary], home: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A copy of that home, which this test may change."""
    origin, summary = first_night
    shutil.copytree(origin, home)
    monkeypatch.setenv("MEI_CONFIG", str(home / "config"))
    monkeypatch.setenv("DAGSTER_HOME", os.environ.get("DAGSTER_HOME", ""))
    settings = read_settings()
    return World(settings, load_config(settings.config), summary)
