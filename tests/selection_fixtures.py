"""One night over a market with an edge, searched and judged once; each test that asks gets a home of its own."""

from pathlib import Path

import pytest
from pipeline_kit import Night, copy_of, judge, searched

from mei_pipeline.settings import Settings


@pytest.fixture(scope="session")
def first_judged(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A night that found something, judged; nobody changes it."""
    folder = tmp_path_factory.mktemp("judged")
    found = searched(Settings(home=folder / "home"), folder / "config")
    judge(found)
    return found


@pytest.fixture
def judged(first_judged: Night, home: Path) -> Night:
    """A copy of that night, which this test may change."""
    return copy_of(first_judged, home)
