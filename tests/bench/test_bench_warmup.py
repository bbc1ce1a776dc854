"""After a warm-up nothing is left to compile."""

import numpy as np
import pytest
from market_kit import START_MS, VENUE, fill_lake

from kernels import bind
from kernels import features as kernel
from kernels.market import fill_model
from mei_pipeline.bench.warmup import warm_up
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.errors import ConfigError
from mei_pipeline.execution.precompile import DRIVERS
from mei_pipeline.params.resolve import resolve
from mei_pipeline.params.table import read_catalog
from mei_pipeline.selection.statistics import splits
from mei_pipeline.selection.statistics.overfitting import pbo
from mei_pipeline.simulation.combos import encode_combos
from mei_pipeline.simulation.feature_sets import build_features, columns_of
from mei_pipeline.simulation.kernel_cache import is_compiled
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.simulation.run import record_combo, run_combos
from mei_pipeline.simulation.window import cut_window

NAMES = ("ema_cross", "mei_alpha")


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    from mei_pipeline.settings import Settings

    settings = Settings(home=tmp_path_factory.mktemp("home"))
    return settings, *warm_up(settings)


def misses(function):
    return sum(function.stats.cache_misses.values())


def test_every_function_of_every_strategy_is_called(warm, compiled_kernels):
    _, folder, done = warm
    wanted = [("features", name) for name in ("build", "observe", "warm")]
    wanted += [("splits", name) for name in ("find_best", "count_ranks")]
    functions = ("open_books", "run", "explain", *DRIVERS)
    wanted += [(name, function) for name in read_catalog().strategies for function in functions]
    assert [(part.owner, part.function) for part in done] == wanted
    assert all(part.seconds > 0.0 for part in done)
    assert folder == compiled_kernels
    assert all(is_compiled(folder, name) for name in read_catalog().strategies)
    assert all(is_compiled(folder, name, "executor.decide_step") for name in read_catalog().strategies)


def test_a_second_warm_up_compiles_nothing(warm):
    told = []
    settings, _, done = warm
    _, again = warm_up(settings, progress=lambda *report: told.append(report))
    assert [part.compiled for part in again] == [False] * len(done)
    assert told == [(index, len(done), "kernels") for index in range(1, len(done) + 1)]


@pytest.mark.usefixtures("warm")
def test_what_a_sweep_and_a_replay_call_is_compiled_already(mei_settings):
    lake = fill_lake(mei_settings)
    bars = load_bars(lake, VENUE, "1h", ("AAA", "BBB"), START_MS, START_MS + 40 * DAY_MS)
    cut = cut_window(bars, bars.anchor_ms, bars.end_ms)
    catalog = read_catalog()
    for name in NAMES:
        compiled = bind.simulation(name)
        functions = (kernel.build, compiled.run, compiled.open_books)
        before = [misses(function) for function in functions]
        params = resolve(catalog.strategy(name), {})
        columns = columns_of(name, {path: (value,) for path, value in params.items()})
        features = build_features(bars, columns, mei_settings.features)
        combos = encode_combos(name, features, params, 3, bars.symbols, benchmark="")
        model = fill_model(resolve(catalog.market_of(name), {}), 10_000.0)
        run_combos(mei_settings, cut, model, features, combos)
        record_combo(mei_settings, cut, model, features, combos)
        assert [misses(function) for function in functions] == before, name


@pytest.mark.usefixtures("warm")
def test_the_statistics_of_a_search_are_compiled_already():
    functions = (splits.find_best, splits.count_ranks)
    before = [misses(function) for function in functions]
    returns = np.random.default_rng(0).standard_normal((4, 5, 20))
    pbo(np.full((4, 20), 5.0), returns.sum(axis=1), (returns**2).sum(axis=1))
    assert [misses(function) for function in functions] == before


def test_one_strategy_alone(warm):
    settings, _, _ = warm
    _, done = warm_up(settings, ["ema_cross"])
    assert {part.owner for part in done} == {"features", "splits", "ema_cross"}


def test_an_unknown_strategy_is_refused_before_anything_compiles(mei_settings):
    with pytest.raises(ConfigError, match="unknown strategy"):
        warm_up(mei_settings, ["mean_cross"])
