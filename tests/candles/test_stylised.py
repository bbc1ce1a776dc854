"""Stylised facts: known figures, and the command that prints them."""

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from mei_pipeline.candles.sources.stylised import (
    autocorrelation,
    correlations,
    facts_by_symbol,
    kurtosis,
    main,
    measure_facts,
)
from mei_pipeline.errors import DataError


def test_kurtosis_of_known_distributions():
    random = np.random.default_rng(1)
    assert kurtosis(np.array([1.0, -1.0] * 50)) == pytest.approx(-2.0)
    assert kurtosis(random.standard_normal(400_000)) == pytest.approx(0.0, abs=0.05)
    assert kurtosis(random.laplace(size=400_000)) == pytest.approx(3.0, abs=0.3)


def test_autocorrelation_of_known_series():
    wave = np.array([1.0, -1.0] * 500)
    assert autocorrelation(wave, 1) == pytest.approx(-1.0, abs=0.01)
    assert autocorrelation(wave, 2) == pytest.approx(1.0, abs=0.01)
    assert autocorrelation(np.random.default_rng(2).standard_normal(100_000), 3) == pytest.approx(0.0, abs=0.02)


def candles(count=500, name="open_ms"):
    random = np.random.default_rng(3)
    common = random.standard_normal(count)
    frames = []
    for symbol, own in (("A", 0.0), ("B", 1.0), ("C", 3.0)):
        close = 100.0 * np.exp(np.cumsum(0.01 * (common + own * random.standard_normal(count))))
        stamps = pl.Series(np.arange(count) * 3_600_000)
        times = stamps if name == "open_ms" else stamps.cast(pl.Datetime("ms", "UTC"))
        frames.append(
            pl.DataFrame({"high": close * 1.01, "low": close * 0.99, "close": close, "volume": close}).with_columns(
                times.alias(name), symbol=pl.lit(symbol)
            )
        )
    return pl.concat(frames)


def test_correlation_of_pairs_uses_common_bars():
    frame = candles(4000)
    found = correlations(frame.filter((pl.col("symbol") != "B") | (pl.col("open_ms") > 3_600_000 * 1000)))
    assert found["A", "B"] == pytest.approx(1.0 / np.sqrt(2.0), abs=0.03)
    assert found["A", "C"] == pytest.approx(1.0 / np.sqrt(10.0), abs=0.04)
    assert set(found) == {("A", "B"), ("A", "C"), ("B", "C")}


def test_order_of_rows_does_not_matter():
    frame = candles()
    assert facts_by_symbol(frame) == facts_by_symbol(frame.sample(fraction=1.0, shuffle=True, seed=1))


@pytest.mark.parametrize("close", [np.ones(200), np.arange(1.0, 50.0)])
def test_what_cannot_be_measured_is_refused(close):
    with pytest.raises(DataError, match="need 101 bars"):
        measure_facts(close, close, close, close)


@pytest.mark.parametrize("name", ["open_ms", "open_time"])
def test_the_command_prints_a_table_of_a_file(tmp_path, name):
    path = tmp_path / "bars.parquet"
    candles(name=name).write_parquet(path)
    result = CliRunner().invoke(main, [str(path)])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "bars.parquet: 1,500 bars of 3 symbols"
    assert [line.split()[0] for line in lines[2:8]] == ["A", "B", "C", "least", "median", "greatest"]
    assert lines[-1].startswith("correlation of pairs: ")


def test_the_command_measures_synthetic_markets():
    result = CliRunner().invoke(main, ["--synthetic", "2", "--weeks", "2"])
    assert result.exit_code == 0
    assert [line.split(":")[0] for line in result.output.splitlines() if line.startswith("seed")] == [
        "seed 1",
        "seed 2",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"not parquet", "not readable as Parquet"), (None, "'high' is missing; found: symbol, open_ms")],
)
def test_the_command_refuses_files_it_cannot_measure(tmp_path, content, message):
    path = tmp_path / "bars.parquet"
    if content is None:
        pl.DataFrame({"symbol": ["A"], "open_ms": [0]}).write_parquet(path)
    else:
        path.write_bytes(content)
    result = CliRunner().invoke(main, [str(path)])
    assert result.exit_code == 3
    assert message in result.output
