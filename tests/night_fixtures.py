"""Homes after one night, for test modules that name this one in `pytest_plugins`."""

import shutil
from pathlib import Path

import pytest
from night_kit import make_night

from mei_pipeline.settings import Settings, read_settings


@pytest.fixture(scope="session")
def homes_of_nights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Homes after one nightly run: both candidates pass, none passes, or no combo makes money."""
    found = {}
    for name, changes in (("passed", {}), ("rejected", {"sharpe": 20.0}), ("none", {"fee": 100.0})):
        home = found[name] = tmp_path_factory.mktemp(name) / "home"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MEI_HOME", str(home))
            patch.setenv("MEI_CONFIG", str(home / "config"))
            make_night(home, **changes)
    return found


@pytest.fixture
def ended(
    request: pytest.FixtureRequest, homes_of_nights: dict[str, Path], home: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """This test's home, with the night that the test asks for by an indirect parameter, `passed` where it does not."""
    shutil.copytree(homes_of_nights[getattr(request, "param", "passed")], home)
    monkeypatch.setenv("MEI_CONFIG", str(home / "config"))
    return read_settings()
