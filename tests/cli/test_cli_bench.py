"""`mei bench` and `mei warmup`, typed."""

import json
import sys

import pytest

from mei_pipeline.cli import main
from mei_pipeline.execution.precompile import DRIVERS


def printed(capsys, *words):
    code = main.run([*words, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def test_bench_w1_prints_one_object(capsys):
    found = printed(capsys, "bench", "w1", "--bars", "480", "--combos", "64", "--repeats", "2", "--threads", "1")
    assert (found["work"], found["device"], found["combos"], found["repeats"]) == ("w1", "cpu", 64, 2)
    assert (found["steps"], found["threads"]) == (480, 1)
    assert found["bar_steps_per_s"] == pytest.approx(480 * 64 / found["seconds"])
    assert found["trades_mean"] >= 0.0


def test_a_bench_on_a_gpu_that_is_not_there_ends_at_once(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert main.run(["bench", "w1", "--bars", "400", "--combos", "1", "--device", "cuda"]) == 2
    assert "--device cuda: no GPU in use: CuPy can't be imported" in capsys.readouterr().err
    found = printed(capsys, "bench", "w1", "--bars", "400", "--combos", "1", "--repeats", "1", "--device", "auto")
    assert found["device"].startswith("cpu (no GPU in use")


def test_bench_w1_as_a_table_with_its_progress_on_stderr(capsys):
    assert main.run(["bench", "w1", "--bars", "400", "--combos", "1", "--repeats", "1"]) == 0
    captured = capsys.readouterr()
    assert "bar_steps_per_s" in captured.out
    assert "runs" in captured.err


def test_bench_portfolio_with_finer_exits(capsys):
    words = ("bench", "portfolio", "--symbols", "3", "--days", "16", "--combos", "8", "--exits", "5m")
    found = printed(capsys, *words)
    assert (found["work"], found["symbols"], found["steps"]) == ("portfolio, exits 5m", 3, 16 * 288)


def test_bench_tpe_proposes_every_combo_once(capsys):
    found = printed(capsys, "bench", "tpe", "--axes", "16", "--batch", "300", "--combos", "1000")
    assert (found["axes"], found["batch"], found["combos"]) == (16, 300, 1200)
    assert found["proposals_per_s"] == pytest.approx(1200 / found["cpu_s"])
    assert found["grid_combos"] == (1 + 4) ** 3 * 4 ** (16 - 3 * 2 - 1) * 2


@pytest.mark.long
def test_a_fresh_process_reaches_its_first_result(capsys, monkeypatch, compiled_kernels):
    monkeypatch.setenv("MEI_CACHE", str(compiled_kernels.parent.parent))
    found = printed(capsys, "bench", "w1", "--first")
    assert 0.0 < found["run_s"] < found["first_result_s"]


def test_warmup_says_where_and_how_long(capsys, compiled_kernels):
    found = printed(capsys, "warmup", "--strategy", "ema_cross")
    assert found["folder"] == str(compiled_kernels)
    assert found["seconds"] > 0.0
    functions = ["build", "observe", "warm", "find_best", "count_ranks", "open_books", "run", "explain", *DRIVERS]
    assert [part["function"] for part in found["parts"]] == functions
    assert main.run(["warmup", "--strategy", "ema_cross"]) == 0
    captured = capsys.readouterr()
    assert "cached" in captured.out
    assert "machine code: " in captured.err


def test_warmup_of_an_unknown_strategy(capsys):
    assert main.run(["warmup", "--strategy", "ema_corss"]) == 2
    assert "known: ema_cross, mei_alpha" in capsys.readouterr().err


@pytest.mark.long
def test_bench_live(capsys):
    found = printed(capsys, "bench", "live")
    assert (found["work"], found["symbols"], found["positions"]) == ("live", 50, 20.0)
    assert found["us_per_bar"] > 0.0
