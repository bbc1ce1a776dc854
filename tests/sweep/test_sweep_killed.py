"""Processes that search: killed at any point and gone on with, and two at once."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from market_kit import fill_lake, write_config

from mei_pipeline.cli.main import run
from mei_pipeline.errors import Busy
from mei_pipeline.settings import Settings, read_settings
from mei_pipeline.sweep.catalog import stored_sweeps
from mei_pipeline.sweep.results import chunk_path

HERE = Path(__file__).parent
FROM = ("--from", "2025-01-11")
POINTS = 60  # more than there are in three chunks
SOME = 28  # after the second chunk


def make_world(settings: Settings, cache: Path) -> dict[str, str]:
    fill_lake(settings)
    write_config(settings.home / "config")
    return {
        **os.environ,
        "MEI_CONFIG": str(settings.home / "config"),
        "MEI_CACHE": str(cache),
        "MEI_HOME": str(settings.home),
        "PYTHONPATH": str(HERE.parent),
    }


@pytest.fixture
def world(mei_settings: Settings, compiled_kernels: Path) -> dict[str, str]:
    """The environment of a home with a lake and the search `smoke`, of twelve combos in three chunks."""
    return make_world(mei_settings, compiled_kernels.parent.parent)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, compiled_kernels: Path) -> dict[str, bytes]:
    """The files of the search when nobody kills it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEI_HOME", str(tmp_path_factory.mktemp("whole")))
        settings = read_settings()
        for name, value in make_world(settings, compiled_kernels.parent.parent).items():
            patch.setenv(name, value)
        assert run(["sweep", "run", "smoke", *FROM]) == 0
        return contents(settings.sweeps)


def start(world: dict[str, str], point: int, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "sweep_run.py"), str(point), *words, "--json"]
    return subprocess.Popen(command, env=world, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def contents(root: Path) -> dict[str, bytes]:
    """What a sweep leaves; who holds its lock is none of it."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in {"lock", "lock.holder"}
    }


def killed_and_resumed(settings: Settings, world: dict[str, str], point: int) -> tuple[int, int]:
    """How the killed process ended, and how many combos the second one found done."""
    code, _, _ = ended(start(world, point, "run", "smoke", *FROM))
    stored = stored_sweeps(settings.sweeps)
    planned = bool(stored) and stored[0].plan is not None
    words = ("resume", stored[0].id) if planned else ("run", "smoke", *FROM)
    again, out, err = ended(start(world, 0, *words))
    assert again == 0, (point, err)
    return code, int(json.loads(out)["resumed"])


def every(settings: Settings, world: dict[str, str], expected: dict[str, bytes], points: tuple[int, ...]) -> list[int]:
    assert sum(name.endswith(".parquet") for name in expected) == 3
    resumed = []
    for point in points:
        code, done = killed_and_resumed(settings, world, point)
        assert contents(settings.sweeps) == expected, point
        if code == 0:
            break
        assert code == -signal.SIGKILL
        resumed.append(done)
        settings.sweeps.rename(settings.home / f"killed-{point}")
    return resumed


@pytest.mark.long
def test_a_killed_search_is_no_running_one_goes_on_and_ends_identical(
    mei_settings: Settings, world: dict[str, str], expected: dict[str, bytes]
) -> None:
    code, _, _ = ended(start(world, SOME, "run", "smoke", *FROM))
    assert code == -signal.SIGKILL
    [stored] = stored_sweeps(mei_settings.sweeps)
    assert (stored.state, stored.holder) == ("unfinished", "")
    assert stored.plan is not None
    assert [chunk_path(stored.folder, stored.plan, index).exists() for index in range(3)] == [True, True, False]
    again, out, err = ended(start(world, 0, "resume", stored.id))
    assert again == 0, err
    assert json.loads(out)["resumed"] == 10
    assert contents(mei_settings.sweeps) == expected


@pytest.mark.long
def test_a_search_killed_at_any_point_goes_on_and_ends_identical(
    mei_settings: Settings, world: dict[str, str], expected: dict[str, bytes]
) -> None:
    resumed = every(mei_settings, world, expected, tuple(range(1, POINTS)))
    assert 15 < len(resumed) < POINTS - 1  # the last point came after the end
    assert set(resumed) == {0, 5, 10, 12}


@pytest.mark.long
def test_a_search_killed_again_and_again_ends_identical(
    mei_settings: Settings, world: dict[str, str], expected: dict[str, bytes]
) -> None:
    codes = [ended(start(world, point, "run", "smoke", *FROM))[0] for point in (3, 14, 20, 15, 19, 0)]
    assert codes == [-signal.SIGKILL] * 5 + [0]
    assert contents(mei_settings.sweeps) == expected


@pytest.mark.long
def test_searches_at_once_do_not_disturb_each_other_and_the_same_is_done_once(
    mei_settings: Settings, world: dict[str, str], expected: dict[str, bytes]
) -> None:
    other = ("--from", "2025-01-15")
    running = [start(world, 0, "run", "smoke", *words) for words in (FROM, FROM, other)]
    *same, (code, out, err) = [ended(process) for process in running]
    assert code == 0, err
    # Whoever comes while the other is at work is told; whoever comes later finds it done.
    assert sorted(code for code, _, _ in same) in ([0, 0], [0, Busy.exit_code]), [err for _, _, err in same]
    ids = [json.loads(said)["sweep"] for said in (next(said for code, said, _ in same if code == 0), out)]
    assert len(set(ids)) == 2
    found = contents(mei_settings.sweeps)
    assert {name: data for name, data in found.items() if name.startswith(ids[0][:16])} == expected
    assert {stored.state for stored in stored_sweeps(mei_settings.sweeps)} == {"done"}
