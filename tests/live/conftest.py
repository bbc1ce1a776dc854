"""A home with a lane, made once for all tests of a lane's process."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import session_kit

from live.bench_home import home_settings
from mei_pipeline.settings import Settings


@pytest.fixture(scope="session")
def first_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a lake and a lane that never ran; tests copy it."""
    home = tmp_path_factory.mktemp("lane") / "home"
    session_kit.make_home(home)
    return home


@pytest.fixture
def lane_home(first_home: Path, home: Path) -> Settings:
    """A home with a lane that never ran."""
    shutil.copytree(first_home, home)
    return home_settings(home, home / "cache")


@pytest.fixture(scope="session")
def undisturbed(first_home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an undisturbed lane leaves."""
    home = tmp_path_factory.mktemp("undisturbed") / "home"
    shutil.copytree(first_home, home)
    settings = home_settings(home, home / "cache")
    session_kit.run_session(settings)
    return session_kit.left_in(settings)


@pytest.fixture(scope="session")
def holding_home(first_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a lane that holds a position and was stopped; tests copy it."""
    home = tmp_path_factory.mktemp("holding") / "home"
    shutil.copytree(first_home, home)
    settings = home_settings(home, home / "cache")
    session_kit.run_session(settings, open_feed=session_kit.feed_of(settings, session_kit.CHANGE_MS))
    return home
