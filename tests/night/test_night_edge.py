"""The search of a night of `mei_alpha` on markets whose edge is known: it finds one, and none that is not there."""

import json
from pathlib import Path

import pytest

from mei_pipeline.cli.main import run
from mei_pipeline.demo import EDGE_SHARPE, PROFILE, Demo, make_home
from mei_pipeline.settings import CHECKOUT, enter_home

AS_OF_MS = 1_782_864_000_000  # 2026-07-01, the end of the market

pytestmark = pytest.mark.long


@pytest.mark.parametrize("edge", [EDGE_SHARPE, 0.0])
def test_a_planted_edge_is_deployed_and_luck_is_not(
    edge: float, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    make_home(Demo(home, edge))
    pipeline = home / "config" / "pipeline.yaml"
    pipeline.write_text(pipeline.read_text().replace(f"{PROFILE}: {{sweep: cross", f"{PROFILE}: {{sweep: nightly"))
    spec = CHECKOUT / "config" / "sweeps" / "nightly.yaml"
    (home / "config" / "sweeps" / spec.name).write_bytes(spec.read_bytes())
    enter_home(home)
    assert run(["nightly", "--profile", PROFILE, "--as-of", "2026-07-01T00:00Z", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["combos"] > 4_000
    assert found["as_of_ms"] == AS_OF_MS
    assert bool(found["promoted"]) == bool(edge)
