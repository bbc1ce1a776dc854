"""A sweep on a GPU is the sweep on processors, to the last byte of every file, however many combos are run at a time.

A lost GPU costs the launches that were at work. Books are small, for the stand-in runs as plain Python, too.
"""

import itertools
import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import gpu_kit
import numpy as np
import pytest
from gpu_kit import FakeCupy, write_kernels
from market_kit import DAY_MS, START_MS, SYMBOLS, VENUE, fill_lake, spec
from result_kit import read_results

from mei_pipeline.errors import ConfigError, Fatal, Retryable
from mei_pipeline.simulation.device import choose_device
from mei_pipeline.simulation.feature_sets import build_features
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.simulation.window import cut_window
from mei_pipeline.sweep import speeds
from mei_pipeline.sweep.combo_runner import ComboRunner
from mei_pipeline.sweep.launches import Chunk, LocalRunner
from mei_pipeline.sweep.plan import make_plan
from mei_pipeline.sweep.results import CHUNKS, chunk_done, sweep_folder
from mei_pipeline.sweep.run import run_sweep

FROM_MS = START_MS + 10 * DAY_MS
MANY = {
    "trade.sl_atr_mult": {"from": 0.5, "to": 3.0, "step": 0.25},
    "trade.tp_atr_mult": {"from": 1.0, "to": 5.0, "step": 0.5},
}
"""Axes of 99 combos."""


_searches = {}


def search_of(settings, days=2, symbols=SYMBOLS, **changes):
    """Plan, window and columns of a search; the same one is made once."""
    key = repr((days, symbols, changes))
    if key not in _searches:
        _searches[key] = _made(settings, days, symbols, changes)
    return _searches[key]


def _made(settings, days, symbols, changes):
    bars = load_bars(fill_lake(settings), VENUE, "1h", symbols, START_MS, START_MS + 60 * DAY_MS)
    plan = make_plan(spec(**changes), bars, FROM_MS, FROM_MS + days * DAY_MS)
    features = build_features(bars, plan.columns(), settings.features)
    return plan, cut_window(bars, plan.from_ms, plan.to_ms, least_days=1), features


@pytest.fixture
def settings(mei_settings):
    """Settings with a cache of their own, for what is measured here is no speed of this machine."""
    return mei_settings.model_copy(update={"cache": mei_settings.home / "cache"})


@pytest.fixture
def search(settings):
    """A search of 12 combos in 3 chunks; a symbol has values of its own."""
    return search_of(settings, symbol_params={"BBB": {"trade.tp_atr_mult": 1.5}})


@pytest.fixture
def many(settings):
    """A search of 99 combos in 4 chunks, of one symbol."""
    return search_of(settings, 1, ("AAA",), axes=MANY, chunk_combos=30)


@pytest.fixture
def cupy(settings, monkeypatch):
    fake = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    write_kernels(settings.kernels, "ema_cross")
    return fake


_homes = itertools.count()


def elsewhere(settings):
    """The settings of another home with the same cache."""
    return settings.model_copy(update={"home": settings.home / f"other{next(_homes)}"})


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / CHUNKS).iterdir())}


def swept(settings, search, **options) -> dict[str, bytes]:
    """The files of a search in a home of its own."""
    return files_of(run_sweep(elsewhere(settings), *search, **options).folder)


def starts(cupy: FakeCupy) -> list[int]:
    """Threads of each launch sequence, but for that of the one combo by which a sweep gets ready."""
    return [threads for name, threads in cupy.launches if name == "start"][1:]


@pytest.mark.parametrize("launch", [0, 1, 7, 10])
def test_files_depend_neither_on_the_device_nor_on_the_launch(settings, search, cupy, launch):
    on_processors = swept(settings, search, device="cpu", launch=launch)
    assert len(on_processors) == 3
    assert swept(settings, search, device="cuda", launch=launch) == on_processors
    assert len(starts(cupy)) == {0: 1, 1: 3, 7: 2, 10: 2}[launch]
    assert read_results(run_sweep(settings, *search, device="cuda").folder, search[0])["trades"].sum() > 0
    assert cupy.copied.count(search[2].values.nbytes) == 2  # in each sweep the market is brought to the card once
    assert cupy.kept() == 0  # nothing of a sweep stays on the card


def test_a_search_by_tpe_depends_neither_on_the_device_nor_on_the_launch(settings, cupy):
    given = {"axes": MANY, "method": "tpe", "budget": 24, "batch": 2, "min_trades": 0, "chunk_combos": 1}
    search = search_of(settings, 2, ("AAA",), **given)
    found = [
        swept(settings, search, device=device, launch=launch)
        for device, launch in (("cpu", 0), ("cuda", 0), ("cuda", 3))
    ]
    assert len(found[0]) == 24
    assert found[1:] == found[:1] * 2
    assert len(starts(cupy)) >= 6 + 12  # two batches at a time, and one file with some of the next


def test_all_combos_are_run_at_once_after_the_one_that_gets_ready(settings, many, cupy):
    assert swept(settings, many, device="cuda") == swept(settings, many, device="cpu")
    assert starts(cupy) == [128]  # 99 combos in one grid of blocks
    assert len(cupy.brought) == 2


def test_a_gpu_with_little_memory_gets_smaller_batches(settings, many, cupy):
    whole = swept(settings, many, device="cuda")
    kept = sum(array.nbytes for array in (*many[1].market, many[2].values))
    cupy.launches.clear()
    assert cupy.kept() == 0
    cupy.capacity = kept + (cupy.most_used - kept) * 3 // 4
    assert swept(settings, many, device="cuda") == whole
    assert len(starts(cupy)) == 4


def test_memory_that_another_process_takes_ends_a_sweep_with_advice(settings, search, cupy):
    cupy.taken_after = 8  # preparing takes one launch, a chunk four of its one tile: in the second one and after
    says = r"5 combos at once do not fit .*\(1,02. of 1,024 MiB are free\); wait for other .*or use --device cpu"
    with pytest.raises(Retryable, match=says):
        run_sweep(settings, *search, device="cuda", launch=5)
    folder = sweep_folder(settings.sweeps, search[0])
    assert len(files_of(folder)) == 1
    cupy.fails = range(0)
    assert run_sweep(settings, *search, device="cuda").resumed == 5
    assert files_of(folder) == swept(settings, search, device="cpu")


def test_a_lost_gpu_leaves_finished_chunks_and_the_next_run_does_the_rest(settings, search, cupy):
    plan = search[0]
    cupy.lost_after = 8  # preparing takes one launch, a chunk four of its one tile: in the second one
    with pytest.raises(Retryable, match=r"the GPU was lost .*repeat the command to run the rest"):
        run_sweep(settings, *search, device="cuda", launch=5)
    folder = sweep_folder(settings.sweeps, plan)
    assert [chunk_done(folder, plan, index) for index in range(plan.chunks)] == [True, False, False]
    cupy.lost_after = -1
    done = run_sweep(settings, *search, device="cuda")
    assert done.resumed == 5
    assert files_of(folder) == swept(settings, search, device="cpu")


def test_a_gpu_that_can_not_be_had_ends_a_sweep_before_it_begins(settings, search, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ConfigError, match="--device cuda: no GPU in use"):
        run_sweep(settings, *search, device="cuda")
    assert not settings.sweeps.exists()


def figures(settings) -> dict:
    return json.loads((settings.cache / speeds.FILE).read_text())


def test_auto_runs_the_first_combos_on_both_and_keeps_what_was_faster(settings, many, cupy):
    home = elsewhere(settings)
    done = run_sweep(home, *many)
    assert files_of(done.folder) == swept(settings, many, device="cpu")
    [(kind, found)] = figures(home).items()
    assert "Fake GPU" in kind
    name = "cuda" if found["cuda"] > found["cpu"] else "cpu"
    steps = (many[1].last - many[1].first) * 1
    cpu, cuda = (f"{found[each] / steps:,.0f}" for each in ("cpu", "cuda"))
    if name == "cuda":
        assert re.fullmatch(rf"cuda \(Fake GPU: {cuda} combos/s against {cpu} on \d+ cores\)", done.device)
    else:
        assert re.fullmatch(rf"cpu \(\d+ cores: {cpu} combos/s against {cuda} on Fake GPU\)", done.device)
    run = [(given, threads) for given, threads in cupy.launches if given == "start"]
    assert run == [("start", 128)] * 2  # one combo to get ready, and three quarters of all


@pytest.mark.parametrize(("cpu", "cuda", "name"), [(1e6, 2e6, "cuda"), (2e6, 1e6, "cpu")])
def test_auto_takes_what_was_faster_before(settings, many, cupy, cpu, cuda, name):
    home = elsewhere(settings)
    run_sweep(home, *many)
    kept = figures(home)
    kept = {kind: found | {"cpu": cpu, "cuda": cuda} for kind, found in kept.items()}
    (home.cache / speeds.FILE).write_text(json.dumps(kept))
    cupy.launches.clear()
    again = home.model_copy(update={"home": home.home / "again"})
    done = run_sweep(again, *many)
    assert done.device.startswith(f"{name} (")
    assert len(starts(cupy)) == (1 if name == "cuda" else 0)
    assert figures(home) == kept  # nothing was measured


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"x": {"cpu": 1}}', None])
def test_speeds_that_can_not_be_read_or_are_old_are_measured_anew(settings, many, cupy, text):
    assert cupy.launches == []
    kind = ComboRunner(settings, *many, choose_device(settings, "auto", "ema_cross")).kind
    speeds.write_speeds(settings, kind, speeds.Speeds(1.0, 2.0, 0.0))
    assert speeds.read_speeds(settings, kind) is None  # of 1970
    if text is not None:
        (settings.cache / speeds.FILE).write_text(text)
    speeds.write_speeds(settings, kind, fresh := speeds.Speeds(3.0, 4.0, time.time()))
    assert speeds.read_speeds(settings, kind) == fresh
    assert len(figures(settings)) == 1


def test_few_combos_are_not_worth_a_gpu(settings, search, cupy):
    done = run_sweep(settings, *search)
    assert done.device == "cpu (12 combos at a time are too few for Fake GPU)"
    assert cupy.launches == []


def test_what_is_left_may_be_too_few_for_a_gpu(settings, many, cupy):
    folder = run_sweep(settings, *many, device="cpu").folder
    whole = files_of(folder)
    (folder / CHUNKS / sorted(whole)[1]).unlink()
    done = run_sweep(settings, *many)
    assert done.device == "cpu (30 combos at a time are too few for Fake GPU)"
    assert files_of(folder) == whole
    assert starts(cupy) == []


@pytest.mark.usefixtures("cupy")
def test_searches_whose_speeds_differ_are_of_different_kinds(settings, many):
    few_exits = {"indicators.ema_fast_window": (5, 7, 9, 13), "indicators.ema_slow_window": (21, 30, 34, 40)}
    sampled = {"method": "random", "budget": 90}
    searches = [
        many,
        search_of(settings, 2, ("AAA",), axes=MANY | few_exits),
        search_of(settings, 2, ("AAA",), axes=few_exits),
        search_of(settings, 2, ("AAA",), axes=MANY, **sampled),
        search_of(settings, 2, ("AAA",), axes=MANY | few_exits, **sampled),
        search_of(settings, 2, ("AAA",), axes=MANY, **sampled | {"method": "tpe"}),
        search_of(settings, 2, axes=MANY),
        (replace(many[0], exit_interval="15m"), *many[1:]),
    ]
    choice = choose_device(settings, "auto", "ema_cross")
    assert len({ComboRunner(settings, *search, choice).kind.key for search in searches}) == len(searches)
    longer = ComboRunner(settings, *search_of(settings, 3, ("AAA",), axes=MANY), choice)
    assert longer.kind == ComboRunner(settings, *many, choice).kind


@pytest.mark.parametrize("known", [False, True], ids=["unknown", "known to be faster"])
@pytest.mark.parametrize(("status", "says"), [(2, "too little memory of the GPU"), (46, "the GPU is taken")])
def test_auto_does_without_a_gpu_that_is_taken(settings, many, cupy, status, says, known):
    if known:
        kind = ComboRunner(settings, *many, choose_device(settings, "auto", "ema_cross")).kind
        speeds.write_speeds(settings, kind, speeds.Speeds(1.0, 2.0, time.time()))
    cupy.cuda.Stream = gpu_kit.raising(gpu_kit.CUDARuntimeError(status))
    done = run_sweep(settings, *many)
    assert done.device.startswith(f"cpu ({says}")
    assert cupy.kept() + cupy.pooled == 0
    assert (settings.cache / speeds.FILE).exists() == known


def test_auto_does_without_a_gpu_whose_memory_is_taken_meanwhile(settings, many, cupy):
    cupy.taken_after = 2  # getting ready takes one launch
    done = run_sweep(settings, *many)
    assert done.device.startswith("cpu (too little memory of the GPU is free")
    assert cupy.kept() + cupy.pooled == 0
    assert files_of(done.folder) == swept(settings, many, device="cpu")
    assert not (settings.cache / speeds.FILE).exists()


def test_a_gpu_that_is_not_used_any_more_has_its_memory_back(settings, many, cupy):
    for device in ("auto", "cuda"):
        combo_runner = ComboRunner(settings, *many, choose_device(settings, device, "ema_cross"))
        combo_runner.prepare()
        assert cupy.kept() > 0
        combo_runner.close()
        assert cupy.kept() + cupy.pooled == 0


def test_a_launch_that_waited_while_the_sweep_was_stopped_is_not_run(settings, many):
    combo_runner = ComboRunner(settings, *many, choose_device(settings, "cpu", "ema_cross"))
    combo_runner.prepare()
    combo_runner.stop = lambda: True
    with pytest.raises(Retryable, match="stopped; finished chunks are on disk"):
        combo_runner.run(combo_runner.encode(np.arange(1)))


def test_a_launch_after_one_that_failed_is_run(settings, many):
    plan = many[0]
    combo_runner = ComboRunner(settings, *many, choose_device(settings, "cpu", "ema_cross"))
    launch = [Chunk(0, np.array(plan.chunk(0)))]
    with LocalRunner(combo_runner, settings.home / "sweep") as local:
        local.prepare()
        stopped = combo_runner.stop
        combo_runner.stop = lambda: True
        for future in local.submit(launch):
            with pytest.raises(Retryable):
                future.result()
        combo_runner.stop = stopped
        for future in local.submit(launch):
            future.result()
    assert chunk_done(settings.home / "sweep", plan, 0)


def test_auto_does_not_hide_a_defect(settings, many, cupy):
    cupy.cuda.Stream = gpu_kit.raising(gpu_kit.CUDARuntimeError(700))
    with pytest.raises(Fatal, match="a defect"):
        run_sweep(settings, *many)


def test_what_was_run_before_an_interruption_is_written(settings, search, cupy):
    def interrupt(done: int, *_: object) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(settings, *search, device="cuda", progress=interrupt)
    folder = sweep_folder(settings.sweeps, search[0])
    assert len(files_of(folder)) == 3  # of one launch, interrupted after the first of them
    assert run_sweep(settings, *search, device="cpu").resumed == 12
    assert files_of(folder) == swept(settings, search, device="cpu")
    assert len(starts(cupy)) == 1
