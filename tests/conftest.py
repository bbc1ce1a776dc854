"""What every test gets: an empty home of its own, and the same examples in every run."""

from pathlib import Path

import pytest
from hypothesis import settings

from kernels.cache import use_cache
from mei_pipeline.settings import VARIABLES, Settings, read_settings

# The first call of a kernel compiles it, so a deadline per example measures the compiler.
settings.register_profile("mei", deadline=None, derandomize=True)
settings.load_profile("mei")


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels(pytestconfig: pytest.Config) -> Path:
    """Machine code of the kernels, compiled once for all tests and kept for the next run."""
    return use_cache(pytestconfig.cache.mkdir("kernels"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MEI_HOME of this test; nothing of the person who runs the tests is seen: variables, state, terminal."""
    for name in (*VARIABLES, "DAGSTER_HOME", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    folder = tmp_path / "home"
    monkeypatch.setenv("MEI_HOME", str(folder))
    monkeypatch.setenv(
        "MEI_KERNELS", str(tmp_path / "kernels")
    )  # a GPU's kernels; those of the checkout are its user's
    return folder


@pytest.fixture
def mei_settings(home: Path) -> Settings:  # noqa: ARG001 - it sets what is read here
    """The settings of this test's home."""
    return read_settings()
