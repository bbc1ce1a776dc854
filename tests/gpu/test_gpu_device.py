"""On a real card: the bits of every result are those of this machine's processor, and memory is given back.

Needs a card, its driver, the extra gpu, and kernels: either the group cuda, or MEI_TEST_KERNELS, a folder that
`mei kernels build` made elsewhere.
"""

import hashlib
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from kernels.market import fill_model
from mei_pipeline.bench import portfolio, w1
from mei_pipeline.bench.kernels import run_kernels
from mei_pipeline.bench.work import BenchWork, make_combo_runner
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.combos import encode_combos
from mei_pipeline.simulation.device import choose_device, open_gpu
from mei_pipeline.simulation.memory import features_of
from mei_pipeline.simulation.run import ComboOutcomes, run_combos

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def _card():
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("needs the extra gpu: .ci/uv run --extra gpu --group cuda pytest -m gpu tests/gpu")


@pytest.fixture
def with_kernels(mei_settings: Settings) -> Settings:
    """Settings with kernels that are there; where there are none, they are compiled."""
    given = os.environ.get("MEI_TEST_KERNELS")
    return mei_settings.model_copy(update={"kernels": Path(given)}) if given else mei_settings


def hash_of(outcome: ComboOutcomes) -> str:
    """SHA-256 of every result of every combo."""
    digest = hashlib.sha256()
    for name in sorted(outcome.results):
        digest.update(np.ascontiguousarray(outcome.results[name]).tobytes())
    digest.update(np.ascontiguousarray(outcome.days).tobytes())
    return digest.hexdigest()


def run(settings: Settings, work: BenchWork, gpu: object, own: dict | None = None) -> ComboOutcomes:
    plan = work.plan
    features = features_of(work.bars, plan.columns())
    values = {**plan.params, **plan.axis_values(work.numbers)}
    combos = encode_combos(
        plan.strategy, features, values, len(work.numbers), plan.symbols, own, benchmark=plan.benchmark
    )
    return run_combos(settings, work.cut, fill_model(plan.market, plan.initial_balance_usd), features, combos, gpu=gpu)


WORKS = {
    "one symbol, stops inside bars": lambda: (w1.make(combos=1_000), None),
    "a book": lambda: (portfolio.make(symbols=20, days=60, combos=500), None),
    "a book with finer exits": lambda: (portfolio.make("15m", symbols=12, days=30, combos=300), None),
    "a book whose symbols have values of their own": lambda: (
        portfolio.make(symbols=12, days=60, combos=300),
        {"BTC": {"trade.sl_atr_mult": 1.25}, "SOL": {"thresholds.entry.min_adx": 30.0}},
    ),
}


@pytest.mark.parametrize("name", WORKS)
def test_a_card_and_a_processor_find_the_same_bits(with_kernels: Settings, name: str):
    work, own = WORKS[name]()
    gpu = open_gpu(choose_device(with_kernels, "cuda", work.plan.strategy), work.plan.strategy)
    on_card = run(with_kernels, work, gpu, own)
    on_processor = run(with_kernels, work, None, own)
    assert on_processor.results["trades"].sum() > 1_000  # else equal hashes say nothing
    assert hash_of(on_card) == hash_of(on_processor)


def test_batches_do_not_change_results(with_kernels: Settings):
    work = w1.make(bars=2_400, combos=1_000)
    gpu = open_gpu(choose_device(with_kernels, "cuda", "ema_cross"), "ema_cross")
    whole = run(with_kernels, work, gpu)
    assert gpu.device.batch == 1_000
    gpu.device.most = 96
    assert hash_of(run(with_kernels, work, gpu)) == hash_of(whole)
    assert gpu.device.batch == 91  # eleven of one size


def test_a_sweep_runs_all_combos_at_once_after_the_one_that_gets_ready(with_kernels: Settings):
    work = w1.make(bars=2_400, combos=1_000)
    combo_runner = make_combo_runner(with_kernels, work, choose_device(with_kernels, "cuda", "ema_cross"))
    on_processor = make_combo_runner(with_kernels, work, choose_device(with_kernels, "cpu", "ema_cross"))
    combos = combo_runner.encode(work.numbers)
    assert hash_of(combo_runner.run(combos)) == hash_of(on_processor.run(combos))
    assert combo_runner.gpu.device.batch == 1_000


def test_kernels_are_timed(with_kernels: Settings):
    figures = run_kernels(with_kernels, w1.make(bars=2_400, combos=1_000), "w1", repeats=1)
    assert set(figures.ms) == {"start", "signals", "idle", "advance"}
    assert 0.0 < figures.kernels_ms < figures.seconds * 1e3 * 2


def test_buffers_of_the_host_are_used_again(with_kernels: Settings):
    work = w1.make(bars=2_400, combos=1_000)
    gpu = open_gpu(choose_device(with_kernels, "cuda", "ema_cross"), "ema_cross")
    gpu.device.most = 200
    whole = hash_of(run(with_kernels, work, gpu))
    for most in (77, 1_000, 200):  # smaller, larger and equal batches beside those before
        gpu.device.most = most
        assert hash_of(run(with_kernels, work, gpu)) == whole


def test_memory_is_given_back(with_kernels: Settings):
    work = w1.make(bars=2_400, combos=1_000)
    gpu = open_gpu(choose_device(with_kernels, "cuda", "ema_cross"), "ema_cross")
    pool = gpu.device.cupy.get_default_memory_pool()
    run(with_kernels, work, gpu)
    used = pool.used_bytes()
    run(with_kernels, work, gpu)
    assert pool.used_bytes() == used
