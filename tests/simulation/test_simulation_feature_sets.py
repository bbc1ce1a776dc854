"""Feature columns on disk: which are wanted, who reads which, and what is written."""

import json
import resource
from types import SimpleNamespace

import numpy as np
import pytest

from kernels import features as kernel
from kernels.features import Column, Use
from mei_pipeline.errors import ConfigError, Retryable
from mei_pipeline.simulation.feature_sets import FeatureSet, build_features, columns_of, columns_of_use

FAST, SLOW, ATR = "indicators.ema_fast_window", "indicators.ema_slow_window", "indicators.atr_window"
MACD = Use("macd", "macd_hist", ("a.fast", "a.slow", "a.signal"))
CLOSE = Use("close", "close", ())
COLUMNS = (
    Column("bb_ratio", (20, 30)),
    Column("close", ()),
    Column("ema", (5,)),
    Column("stoch_k", (14, 14, 3)),
    Column("volume_mean", (20,)),
)


@pytest.fixture
def bars() -> SimpleNamespace:
    """What is read of `Bars`: 300 bars of three symbols; the second has gaps and the third none at all."""
    rng = np.random.default_rng(1)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.01, (300, 3)), axis=0))
    prices = np.stack([close, close * 1.01, close * 0.99, close])
    volume = rng.uniform(1, 100, close.shape)
    missing = np.zeros(close.shape, dtype=bool)
    missing[:, 2] = True
    missing[::7, 1] = True
    prices[:, missing], volume[missing] = np.nan, np.nan
    return SimpleNamespace(
        venue="test",
        interval="1h",
        symbols=("AAA", "BBB", "CCC"),
        anchor_ms=0,
        end_ms=300,
        data_hash="0",
        open_ms=np.arange(300),
        prices=prices,
        volume=volume,
    )


def test_columns_are_built_as_the_kernel_does_and_found_again(bars, tmp_path):
    told = []
    built = build_features(bars, COLUMNS, tmp_path, lambda done, total, what: told.append((done, total, what)))
    assert told == [(done, 5, "feature columns") for done in range(1, 6)]
    assert built.columns == COLUMNS
    for values, column in zip(built.values, COLUMNS, strict=True):
        out = np.empty((1, 300, 3))
        scratch = np.empty((3, kernel.state_size(column)))
        kernel.build(*kernel.encode([column]), *bars.prices[1:], bars.volume, out, scratch)
        np.testing.assert_array_equal(values, out[0])
        assert np.isnan(values[:, 2]).all()
        assert not np.isnan(values[1:, :2]).any()
    again = build_features(bars, COLUMNS, tmp_path, lambda *_: told.append(()))
    assert (again.key, len(told)) == (built.key, 5)
    np.testing.assert_array_equal(again.values, built.values)


def test_the_note_says_what_the_columns_are(bars, tmp_path):
    built = build_features(bars, COLUMNS, tmp_path)
    note = json.loads((built.folder / "features.json").read_text())
    assert note["columns"] == [[column.kind, list(column.windows)] for column in COLUMNS]
    assert built.folder == tmp_path / built.key


def test_other_windows_are_another_set(bars, tmp_path):
    keys = {build_features(bars, (Column("bb_ratio", windows),), tmp_path).key for windows in ((2, 3), (3, 2), (2, 4))}
    assert len(keys) == 3


@pytest.mark.parametrize("windows", [(301, 2), (2, 301)])
def test_any_window_longer_than_the_bars_is_refused(bars, tmp_path, windows):
    with pytest.raises(ConfigError, match="feature window of 301 bars: longer than the 300 bars of 1h"):
        build_features(bars, (*COLUMNS, Column("bb_ratio", windows)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_and_leaves_nothing(bars, tmp_path):
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, usual[1]))
    try:
        with pytest.raises(Retryable, match="free space on the disk"):
            build_features(bars, COLUMNS, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_who_is_told_of_progress_may_stop_it(bars, tmp_path):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_features(bars, COLUMNS, tmp_path, stop)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_columns_of_a_strategy_are_those_of_all_its_values():
    values = {FAST: (5, 9.0), SLOW: (9, 21), ATR: (14,), "trade.leverage": (3.0,)}
    wanted = [Column("atr", (14,)), Column("ema", (5,)), Column("ema", (9,)), Column("ema", (21,))]
    assert list(columns_of("ema_cross", values)) == wanted


def test_a_feature_of_several_windows_needs_each_combination():
    values = {"a.fast": (12, 5), "a.slow": (26,), "a.signal": (9, 4)}
    expected = {(12, 26, 9), (12, 26, 4), (5, 26, 9), (5, 26, 4)}
    assert {column.windows for column in columns_of_use(MACD, values)} == expected
    assert list(columns_of_use(CLOSE, values)) == [Column("close", ())]
    twice = Use("twice", "bb_ratio", ("a.fast", "a.fast"))
    assert {column.windows for column in columns_of_use(twice, values)} == {(12, 12), (5, 5)}


def test_each_combo_reads_the_column_of_its_own_windows(tmp_path):
    columns = (Column("close", ()), *(Column("macd_hist", (fast, 26, signal)) for fast in (5, 12) for signal in (4, 9)))
    features = FeatureSet("key", tmp_path, columns, np.empty((5, 0, 0)))
    params = {"a.fast": np.array([12, 5, 12, 5]), "a.slow": np.full(4, 26), "a.signal": np.array([9, 9, 4, 9])}
    assert features.column_numbers_of(MACD, params, 4).tolist() == [4, 2, 3, 2]
    assert features.column_numbers_of(CLOSE, params, 4).tolist() == [0, 0, 0, 0]
    with pytest.raises(KeyError):
        features.column_numbers_of(MACD, params | {"a.slow": np.full(4, 27)}, 4)


def test_the_rows_of_a_strategy_have_a_line_for_each_of_its_features(tmp_path):
    columns = columns_of("ema_cross", {FAST: (5, 9), SLOW: (21,), ATR: (14,)})
    features = FeatureSet("key", tmp_path, columns, np.empty((len(columns), 0, 0)))
    params = {FAST: np.array([9, 5, 9]), SLOW: np.full(3, 21), ATR: np.full(3, 14)}
    assert features.column_numbers("ema_cross", params).tolist() == [[2, 1, 2], [3, 3, 3], [0, 0, 0]]
