import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from candle_kit import NOW, bars, data_hash

from mei_pipeline.candles.lake import Lake, ingests, merge_candles, read_candles, verify

HERE = Path(__file__).parent


def crash(folder: Path, mode: str) -> dict:
    done = subprocess.run(
        [sys.executable, str(HERE / "crash_run.py"), str(folder), mode],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(
    scope="module", params=["kill-some", *(pytest.param(mode, marks=pytest.mark.long) for mode in ("kill", "kill-all"))]
)
def killed(tmp_path_factory, request):
    return crash(tmp_path_factory.mktemp("killed"), request.param)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return crash(tmp_path_factory.mktemp("full"), "full")


def test_a_kill_at_any_point_leaves_the_old_lake_or_the_new_one(killed):
    start, whole = killed["start"], killed["whole"]
    kills = [result for result in killed["results"] if result["status"] == signal.SIGKILL]
    outcomes = {result["left"]["hash"] for result in kills}
    assert len(kills) > (2 if killed["results"][1]["point"] > 2 else 20)
    assert outcomes == {start["hash"], whole["hash"]}
    for result in kills:
        left = result["left"]
        assert left["damages"] == [], result["point"]
        old = left["hash"] == start["hash"]
        assert (left["files"] == start["files"]) == old, result["point"]
        assert (left["revisions"], left["ingests"]) == ((0, 1) if old else (1, 2)), result["point"]


def test_running_a_killed_ingest_again_completes_it(killed):
    for result in killed["results"]:
        again = result["again"]
        assert again["files"] == killed["whole"]["files"], result["point"]
        assert (again["revisions"], again["ingests"], again["damages"]) == (1, 2, [])
        assert not again["pending"]


@pytest.mark.long
def test_a_full_disk_leaves_the_lake_as_it_was_and_says_so(full):
    refusals = [result for result in full["results"] if result["said"].startswith("Retryable")]
    assert len(refusals) >= 5
    for result in refusals:
        assert "ree space on the disk" in result["said"], result["point"]
        assert "run the same command again" in result["said"], result["point"]
        assert result["left"]["files"] == full["start"]["files"], result["point"]
        assert (result["left"]["damages"], result["left"]["pending"]) == ([], False)


@pytest.mark.long
def test_with_space_again_the_same_ingest_succeeds(full):
    assert full["results"][-1]["said"] == "000002-" + full["results"][-1]["said"][7:]
    for result in full["results"]:
        assert result["again"]["files"] == full["whole"]["files"], result["point"]


@pytest.mark.long
def test_two_ingests_at_once_wait_for_one_another(tmp_path):
    script = (
        "import sys; from pathlib import Path; from candle_kit import *; "
        "from mei_pipeline.candles.lake import Lake, merge_candles; "
        "[merge_candles(Lake(Path(sys.argv[1])), bars((sys.argv[2], 'BOTH'), 24 * 10 * (step + 1)), now_ms=NOW)"
        " for step in range(4)]"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), name], cwd=HERE, stderr=subprocess.PIPE)
        for name in ("ONE", "TWO")
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    lake, alone = Lake(tmp_path), Lake(tmp_path / "alone")
    everything = bars(("BOTH", "ONE", "TWO"), 24 * 40)
    merge_candles(alone, everything, now_ms=NOW)
    assert read_candles(lake, "binance", "1h").equals(everything)
    assert data_hash(lake, "binance", "1h") == data_hash(alone, "binance", "1h")
    assert verify(lake) == []
    assert [record.id[:6] for record in ingests(lake)] == [
        f"{number:06d}" for number in range(1, len(ingests(lake)) + 1)
    ]
