"""The time of each kernel, by the command, on a card that is none."""

import json
import sys

import pytest
from gpu_kit import FakeCupy, write_kernels
from market_kit import fill_lake, write_config

from mei_pipeline.bench import w1
from mei_pipeline.bench.kernels import first_numbers
from mei_pipeline.bench.work import make_work
from mei_pipeline.cli.main import run
from mei_pipeline.errors import ConfigError
from mei_pipeline.settings import Settings

KERNELS = {"start", "signals", "idle", "advance"}


@pytest.fixture
def cupy(mei_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> FakeCupy:
    fake = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    write_kernels(mei_settings.kernels, "ema_cross")
    return fake


def test_each_kernel_of_a_bench_is_timed(cupy, capsys):
    assert run(["bench", "kernels", "w1", "--bars", "384", "--combos", "2", "--repeats", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["ms"]) == KERNELS
    assert min(found["ms"].values()) > 0.0
    assert found["kernels_ms"] == pytest.approx(sum(found["ms"].values()))
    assert (found["work"], found["combos"], found["batch"], found["steps"]) == ("w1", 2, 2, 384)
    assert found["device"].startswith("cuda (Fake GPU")
    assert [name for name, _ in cupy.launches].count("start") == 3  # ready, once, and once more with events


def test_each_kernel_of_a_sweep_is_timed(mei_settings, cupy, monkeypatch, capsys):
    fill_lake(mei_settings)
    write_config(mei_settings.home / "config")
    days = ["--from", "2025-01-11", "--to", "2025-01-27"]
    monkeypatch.setenv("MEI_CONFIG", str(mei_settings.home / "config"))
    assert run(["bench", "kernels", "smoke", *days, "--combos", "2", "--repeats", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["ms"]) == KERNELS
    assert (found["symbols"], found["steps"], found["combos"]) == (3, 384, 2)
    assert cupy.used == 0
    assert run(["bench", "kernels", "smoke", *days, "--combos", "13"]) == ConfigError.exit_code
    assert "the sweep runs 12" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["portfolio", "--bars", "400"], "--bars 400: belongs to w1"),
        (["w1", "--from", "2025-01-11"], "belong to sweeps"),
        (["w1", "--bars", "384", "--combos", "2"], "--device cuda: no GPU in use"),
    ],
)
def test_what_can_not_be_timed_is_refused(monkeypatch, capsys, words, says):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert run(["bench", "kernels", *words]) == ConfigError.exit_code
    assert says in capsys.readouterr().err


def test_the_first_combos_of_a_sample_are_from_all_over_the_grid():
    grid = w1.make(400, 4)
    assert first_numbers(grid.plan, 5).tolist() == [0, 1, 2, 3, 4]
    assert len(first_numbers(grid.plan)) == 1024
    sample = make_work(w1.SPEC.model_copy(update={"method": "random", "budget": 6}), grid.bars)
    found = first_numbers(sample.plan, 4).tolist()
    assert found == sorted(set(found)) != [0, 1, 2, 3]
    assert max(found) > 100
