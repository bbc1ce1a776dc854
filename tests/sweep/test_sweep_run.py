"""The plan of a sweep, its chunks on disk, and what happens when it is killed, resumed or meets a foreign file."""

import itertools

import numpy as np
import polars as pl
import pytest
from market_kit import DAY_MS, START_MS, SYMBOLS, VENUE, fill_lake, spec
from polars.testing import assert_frame_equal
from result_kit import read_results

from kernels.blocks import BLOCKS
from mei_pipeline import files
from mei_pipeline.errors import Busy, ConfigError, DataError
from mei_pipeline.replay.run import encode_replay_inputs, replay
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.feature_sets import FeatureSet, build_features, columns_of
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.simulation.window import Window, cut_window
from mei_pipeline.sweep.metrics import DOCS, sharpe
from mei_pipeline.sweep.plan import SweepPlan, make_plan, resolved_combo
from mei_pipeline.sweep.results import chunk_path, sweep_folder, top
from mei_pipeline.sweep.run import run_sweep

FROM_MS, TO_MS = START_MS + 10 * DAY_MS, START_MS + 50 * DAY_MS


class Stopped(Exception):
    """Stands for a process that ends between two chunks."""


@pytest.fixture
def bars(mei_settings: Settings) -> Bars:
    return load_bars(fill_lake(mei_settings), VENUE, "1h", SYMBOLS, START_MS, START_MS + 60 * DAY_MS)


@pytest.fixture
def plan(bars: Bars) -> SweepPlan:
    return make_plan(spec(), bars, FROM_MS, TO_MS)


@pytest.fixture
def cut(bars: Bars) -> Window:
    return cut_window(bars, FROM_MS, TO_MS)


@pytest.fixture
def features(mei_settings: Settings, bars: Bars, plan: SweepPlan) -> FeatureSet:
    return build_features(bars, plan.columns(), mei_settings.features)


def test_every_combo_has_one_number(plan: SweepPlan) -> None:
    points = itertools.product(*(values for _, values in plan.axes))
    everything = [{**plan.params, **dict(zip((path for path, _ in plan.axes), point, strict=True))} for point in points]
    assert plan.combos == len(everything) == 12
    assert [plan.combo(k) for k in range(12)] == everything
    assert len({tuple(sorted(combo.items())) for combo in everything}) == 12


def test_feature_axes_vary_slowest(plan: SweepPlan) -> None:
    assert [path for path, _ in plan.axes][-1] == "trade.sl_atr_mult"
    assert plan.combo(0)["indicators.ema_fast_window"] == plan.combo(3)["indicators.ema_fast_window"] == 5


def test_chunks_cover_all_combos_once(plan: SweepPlan) -> None:
    assert [k for index in range(plan.chunks) for k in plan.chunk(index)] == list(range(12))


def test_id_depends_on_what_decides_results_and_not_on_chunks(bars: Bars, plan: SweepPlan) -> None:
    assert make_plan(spec(chunk_combos=3), bars, FROM_MS, TO_MS).id == plan.id
    assert make_plan(spec(market={"taker_fee_bps": 5}), bars, FROM_MS, TO_MS).id != plan.id
    assert make_plan(spec(), bars, FROM_MS, TO_MS - DAY_MS).id != plan.id
    assert make_plan(spec(params={"entry.warmup_bars": 51}), bars, FROM_MS, TO_MS).id != plan.id


def run(settings: Settings, plan: SweepPlan, cut: Window, features: FeatureSet, **options: object) -> pl.DataFrame:
    return read_results(run_sweep(settings, plan, cut, features, **options).folder, plan)


def test_rows_carry_axes_metrics_and_blocks(
    mei_settings: Settings, plan: SweepPlan, cut: Window, features: FeatureSet
) -> None:
    rows = run(mei_settings, plan, cut, features)
    assert rows["combo"].to_list() == list(range(12))
    for row in rows.iter_rows(named=True):
        assert {path: row[path] for path, _ in plan.axes} == {
            path: plan.combo(row["combo"])[path] for path, _ in plan.axes
        }
    assert set(DOCS) <= set(rows.columns)
    assert rows["trades"].min() > 0
    assert rows["day_count"].dtype == pl.Array(pl.Float64, BLOCKS)
    assert rows.select(pl.col("day_count").arr.sum()).to_series().to_list() == [cut.days] * 12


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 2}, {"threads": 5}])
def test_threads_and_chunks_do_not_change_results(
    mei_settings: Settings, bars: Bars, plan: SweepPlan, cut: Window, features: FeatureSet, options: dict[str, int]
) -> None:
    expected = run(mei_settings, plan, cut, features)
    other = mei_settings.model_copy(update={"home": mei_settings.home / "other"})
    rechunked = make_plan(spec(chunk_combos=7), bars, FROM_MS, TO_MS)
    assert_frame_equal(run(other, rechunked, cut, features, **options), expected, check_exact=True)


def test_every_row_equals_its_replay_bit_for_bit(
    mei_settings: Settings, bars: Bars, plan: SweepPlan, cut: Window, features: FeatureSet
) -> None:
    rows = run(mei_settings, plan, cut, features)
    for row in rows.iter_rows(named=True):
        one = replay(
            mei_settings, encode_replay_inputs(bars, cut, features, resolved_combo(plan, plan.combo(row["combo"])))
        )
        for name in DOCS:
            assert row[name] == one.metrics[name]
        assert row["day_sum"] == one.outcome.days[:, 1, 0].tolist()
        assert row["day_sum_sq"] == one.outcome.days[:, 2, 0].tolist()


def test_killed_sweep_resumes_and_ends_identical(
    mei_settings: Settings, plan: SweepPlan, cut: Window, features: FeatureSet
) -> None:
    whole = run(mei_settings, plan, cut, features)
    again = mei_settings.model_copy(update={"home": mei_settings.home / "again"})

    def stop_after_the_first(done: int, *_: object) -> None:
        if done:
            raise Stopped

    with pytest.raises(Stopped):
        run_sweep(again, plan, cut, features, progress=stop_after_the_first)
    folder = sweep_folder(again.sweeps, plan)
    first = files.sha256_file(chunk_path(folder, plan, 0))
    report = run_sweep(again, plan, cut, features)
    assert (report.resumed, report.combos) == (10, 12)  # the second was at work when the first had been done
    assert files.sha256_file(chunk_path(folder, plan, 0)) == first
    assert_frame_equal(read_results(folder, plan), whole, check_exact=True)
    assert run_sweep(again, plan, cut, features).combos_per_s is None


def test_damaged_or_foreign_chunk_is_named_and_kept(
    mei_settings: Settings, plan: SweepPlan, cut: Window, features: FeatureSet
) -> None:
    run_sweep(mei_settings, plan, cut, features)
    path = chunk_path(sweep_folder(mei_settings.sweeps, plan), plan, 1)
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(DataError, match=r"000000005-000000010\.parquet: damaged result file"):
        run_sweep(mei_settings, plan, cut, features)
    path.write_bytes(chunk_path(path.parent.parent, plan, 2).read_bytes())
    with pytest.raises(DataError, match="belongs to another sweep than"):
        run_sweep(mei_settings, plan, cut, features)


def test_two_processes_do_not_run_one_sweep(
    mei_settings: Settings, plan: SweepPlan, cut: Window, features: FeatureSet
) -> None:
    folder = sweep_folder(mei_settings.sweeps, plan)
    with files.locked(folder / "lock", "a test holds it"), pytest.raises(Busy, match="a test holds it"):
        run_sweep(mei_settings, plan, cut, features)


def test_results_of_an_unfinished_sweep_are_an_error(
    mei_settings: Settings, plan: SweepPlan, cut: Window, features: FeatureSet
) -> None:
    folder = run_sweep(mei_settings, plan, cut, features).folder
    chunk_path(folder, plan, 1).unlink()
    with pytest.raises(DataError, match="1 of 3 chunks are missing; finish the sweep with"):
        read_results(folder, plan)


def test_another_chunk_size_runs_beside_the_old_files(
    mei_settings: Settings, bars: Bars, plan: SweepPlan, cut: Window, features: FeatureSet
) -> None:
    whole = run(mei_settings, plan, cut, features)
    rechunked = make_plan(spec(chunk_combos=7), bars, FROM_MS, TO_MS)
    assert rechunked.id == plan.id
    assert_frame_equal(run(mei_settings, rechunked, cut, features), whole, check_exact=True)
    assert_frame_equal(run(mei_settings, plan, cut, features), whole, check_exact=True)


def test_best_first_and_ties_by_number() -> None:
    rows = pl.DataFrame({"combo": [0, 1, 2, 3], "sharpe": [1.0, 2.0, 2.0, -1.0]})
    assert top(rows, 3)["combo"].to_list() == [1, 2, 0]


def test_sharpe_of_known_returns() -> None:
    returns = np.array([0.01, -0.005, 0.02, 0.0])
    n, total, squares = (np.array([x]) for x in (4.0, returns.sum(), (returns**2).sum()))
    expected = returns.mean() / returns.std(ddof=1) * np.sqrt(365.0)
    assert sharpe(n, total, squares)[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "each"), [(0.0, 0.0), (1.0, 0.01), (10.0, 0.001)])
def test_sharpe_without_variation_is_zero(n: float, each: float) -> None:
    assert sharpe(np.array([n]), np.array([n * each]), np.array([n * each * each]))[0] == 0.0


def test_feature_columns_are_computed_once(mei_settings: Settings, bars: Bars, plan: SweepPlan) -> None:
    first = build_features(bars, plan.columns(), mei_settings.features)
    stamp = (first.folder / "columns.npy").stat().st_mtime_ns
    second = build_features(bars, plan.columns(), mei_settings.features)
    assert second.key == first.key
    assert (second.folder / "columns.npy").stat().st_mtime_ns == stamp
    assert np.array_equal(first.values, second.values)
    (first.folder / "columns.npy").unlink()
    assert np.array_equal(build_features(bars, plan.columns(), mei_settings.features).values, second.values)
    other = build_features(bars, plan.columns()[:1], mei_settings.features)
    assert other.key != first.key
    assert np.array_equal(other.values[0], first.values[0])


def test_columns_are_the_union_of_windows() -> None:
    columns = columns_of(
        "ema_cross",
        {
            "indicators.ema_fast_window": [5, 9],
            "indicators.ema_slow_window": [9, 21],
            "indicators.atr_window": [14],
        },
    )
    assert [tuple(column) for column in columns] == [("atr", (14,)), ("ema", (5,)), ("ema", (9,)), ("ema", (21,))]


def test_window_longer_than_the_bars_is_an_error(mei_settings: Settings, bars: Bars) -> None:
    columns = columns_of(
        "ema_cross",
        {"indicators.ema_fast_window": [5], "indicators.ema_slow_window": [5000], "indicators.atr_window": [14]},
    )
    with pytest.raises(ConfigError, match="feature window of 5000 bars: longer than the 1440 bars"):
        build_features(bars, columns, mei_settings.features)
