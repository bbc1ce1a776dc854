"""A lane that is killed, wherever that happens, ends as a lane that was not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
KINDS = {"before Send", "after Send", "journal commit", "journal committed", "before OpenBook", "checkpoint"}
"""Names of some of the points; others belong to commands that come only with a start."""
MANY = 50


def crash(folder: Path, cache: Path, mode: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(HERE / "lane_crash_run.py"), str(folder), str(cache), mode],
        capture_output=True,
        text=True,
        check=False,
        timeout=1_200,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(
    scope="module",
    params=[
        "change-some",
        *(pytest.param(mode, marks=pytest.mark.long) for mode in ("every", "change", "twice")),
    ],
)
def crashed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, compiled_kernels: Path
) -> dict[str, Any]:
    return crash(tmp_path_factory.mktemp("crashed"), compiled_kernels.parent, request.param)


def test_a_killed_lane_ends_as_one_that_was_not(crashed: dict[str, Any]) -> None:
    left = crashed["undisturbed"]["left"]
    tables = left["tables"]
    assert crashed["undisturbed"]["status"] == 0
    assert len(tables["fills"]) > len(tables["positions"]) > 0
    assert tables["trades"][0][5] is not None  # the lane closed a position
    for made in crashed["runs"]:
        assert made["status"] == 0, made["points"]
        assert made["left"] == left, (made["points"], made["died"])


def test_the_lane_is_killed_at_every_kind_of_point(crashed: dict[str, Any]) -> None:
    died = {name for made in crashed["runs"] for name in made["died"]}
    assert died > (KINDS if len(crashed["runs"]) > MANY else set())
    if not any(len(made["points"]) > 1 for made in crashed["runs"]):
        assert crashed["runs"][-1]["died"] == []  # the last run was clean: no point is left


def test_each_intent_has_one_order(crashed: dict[str, Any]) -> None:
    for made in crashed["runs"]:
        orders, ids, intents = made["left"]["orders"]
        assert orders == ids == intents > 0, made["points"]
        assert made["left"]["integrity"] == "ok"
