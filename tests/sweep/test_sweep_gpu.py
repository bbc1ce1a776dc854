"""A sweep on a GPU is the sweep on processors, to the last bit of every file; a lost GPU costs what was at work."""

import sys

import polars as pl
import pytest
from gpu_kit import FakeCupy, write_kernels
from market_kit import DAY_MS, START_MS, SYMBOLS, VENUE, fill_lake, spec
from polars.testing import assert_frame_equal

from mei_pipeline.errors import ConfigError, Retryable
from mei_pipeline.features import build_features
from mei_pipeline.market import load_bars, window
from mei_pipeline.sweep.plan import make_plan
from mei_pipeline.sweep.results import chunk_done, read_results, sweep_folder
from mei_pipeline.sweep.run import run_sweep

FROM_MS, TO_MS = START_MS + 10 * DAY_MS, START_MS + 26 * DAY_MS


@pytest.fixture
def search(mei_settings):
    """Plan, window and columns of a search of 12 combos in 3 chunks; a symbol has values of its own."""
    bars = load_bars(fill_lake(mei_settings), VENUE, "1h", SYMBOLS, START_MS, START_MS + 60 * DAY_MS)
    plan = make_plan(spec(symbol_params={"BBB": {"trade.tp_atr_mult": 1.5}}), bars, FROM_MS, TO_MS)
    return plan, window(bars, FROM_MS, TO_MS), build_features(bars, plan.columns(), mei_settings.features)


@pytest.fixture
def cupy(mei_settings, monkeypatch):
    fake = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    write_kernels(mei_settings.kernels, "ema_cross")
    return fake


def on_processors(settings, search) -> pl.DataFrame:
    other = settings.model_copy(update={"home": settings.home / "other"})
    done = run_sweep(other, *search, engine="cpu")
    assert done.engine == "cpu (as asked for)"
    return read_results(done.folder, search[0])


def test_a_gpu_finds_what_processors_find(mei_settings, search, cupy):
    done = run_sweep(mei_settings, *search)
    assert done.engine.startswith("cuda (Fake GPU, sm_90, kernels ")
    assert_frame_equal(read_results(done.folder, search[0]), on_processors(mei_settings, search), check_exact=True)
    assert cupy.kept() == 0  # nothing of the sweep stays on the card
    assert cupy.copied.count(search[2].values.nbytes) == 1  # the market is brought to the card once


def test_a_lost_gpu_leaves_finished_chunks_and_the_next_run_does_the_rest(mei_settings, search, cupy):
    plan = search[0]
    cupy.lost_after = 8  # preparing takes one launch, a chunk four of its one tile: in the second one
    with pytest.raises(Retryable, match=r"the GPU was lost .*the same command goes on"):
        run_sweep(mei_settings, *search, engine="cuda")
    folder = sweep_folder(mei_settings.sweeps, plan)
    assert [chunk_done(folder, plan, index) for index in range(plan.chunks)].count(True) == 1  # of two at work
    cupy.lost_after = -1
    done = run_sweep(mei_settings, *search, engine="cuda")
    assert done.resumed == 5
    assert_frame_equal(read_results(done.folder, plan), on_processors(mei_settings, search), check_exact=True)


def test_a_gpu_that_can_not_be_had_ends_a_sweep_before_it_begins(mei_settings, search, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ConfigError, match="--engine cuda: no GPU in use"):
        run_sweep(mei_settings, *search, engine="cuda")
    assert not mei_settings.sweeps.exists()
