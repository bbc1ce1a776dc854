import numpy as np
import polars as pl
import pytest
from candle_kit import MAY, bars
from example_kit import examples
from hypothesis import given
from hypothesis import strategies as st

from mei_pipeline.candles.intervals import INTERVALS
from mei_pipeline.candles.resample import RESAMPLING_ORDER, resample
from mei_pipeline.candles.schema import CANDLES
from mei_pipeline.errors import ConfigError, DataError


def minutes(count, seed=0, symbols=("BTC", "ETH"), drop=()):
    rng = np.random.default_rng(seed)
    frame = bars(symbols, count, MAY, "1m")
    size = frame.height
    wild = frame.with_columns(
        volume=pl.Series(rng.lognormal(0, 8, size)),
        trades=pl.Series(rng.integers(0, 50, size)),
    )
    return wild.filter(~pl.int_range(pl.len()).over("symbol").is_in(list(drop)))


def test_a_bar_is_made_of_the_bars_it_covers():
    frame = pl.DataFrame(
        {
            "venue": "binance",
            "symbol": "BTC",
            "interval": "1m",
            "open_ms": [MAY + 60_000 * index for index in range(5)],
            "open": [10.0, 11.0, 12.0, 13.0, 14.0],
            "high": [11.0, 12.0, 19.0, 14.0, 15.0],
            "low": [9.0, 10.0, 11.0, 3.0, 13.0],
            "close": [11.0, 12.0, 13.0, 14.0, 14.5],
            "volume": [1.0, 2.0, 0.0, 4.0, 0.1],
            "trades": [1, 2, 0, 4, 5],
            "source": "kit",
        },
        schema_overrides=CANDLES.columns,
    ).select(*CANDLES.columns)
    row = resample(frame, "5m").row(0, named=True)
    assert row == {
        "venue": "binance",
        "symbol": "BTC",
        "interval": "5m",
        "open_ms": MAY,
        "open": 10.0,
        "high": 19.0,
        "low": 3.0,
        "close": 14.5,
        "volume": 1.0 + 2.0 + 0.0 + 4.0 + 0.1,
        "trades": 12,
        "source": "kit",
    }


@examples(20)
@given(
    st.integers(0, 2**32),
    st.sets(st.integers(0, 2_900), max_size=4),
    st.integers(1, len(RESAMPLING_ORDER) - 1),
    st.data(),
)
def test_resampling_at_once_equals_resampling_in_steps(seed, drop, top, data):
    frame = minutes(2_900, seed, drop=drop)
    stops = data.draw(st.sets(st.integers(1, top), max_size=3)) | {top}
    stepped = frame
    for stop in sorted(stops):
        stepped = resample(stepped, RESAMPLING_ORDER[stop])
        if stepped.is_empty():
            break
    assert resample(frame, RESAMPLING_ORDER[top]).equals(stepped)


@given(st.sets(st.integers(0, 59), max_size=3))
def test_only_complete_groups_become_bars(drop):
    whole = resample(minutes(60, symbols=("BTC",)), "15m")
    parts = resample(minutes(60, symbols=("BTC",), drop=drop), "15m")
    assert parts.equals(whole.filter(~pl.Series([any(i // 15 == group for i in drop) for group in range(4)])))


@pytest.mark.parametrize(
    ("source", "target"), [("1m", "3m"), ("3m", "15m"), ("15m", "30m"), ("30m", "4h"), ("3m", "1h")]
)
def test_intervals_beside_the_ladder_climb_too(source, target):
    ratio = INTERVALS[target] // INTERVALS[source]
    result = resample(bars(("BTC",), ratio * 2, MAY, source), target)
    assert result["open_ms"].to_list() == [MAY, MAY + INTERVALS[target]]
    assert result["interval"].unique().to_list() == [target]


def test_trades_are_unknown_if_any_are():
    frame = minutes(10, symbols=("BTC",))
    holed = frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise(pl.col("trades")).alias("trades")
    )
    assert resample(holed, "5m")["trades"].to_list() == [frame["trades"][:5].sum(), None]


def test_a_bar_that_starts_inside_the_grid_is_not_made():
    frame = bars(("BTC",), 10, MAY + 2 * 60_000, "1m")
    assert resample(frame, "5m")["open_ms"].to_list() == [MAY + 5 * 60_000]


def test_nothing_becomes_nothing():
    assert resample(CANDLES.empty(), "1h").is_empty()


@pytest.mark.parametrize(
    ("frame", "target", "error"),
    [
        (bars(), "5m", ConfigError),
        (bars(), "2h", ConfigError),
        (bars(interval="3m"), "5m", ConfigError),
        (pl.concat([bars(), bars(interval="5m")]), "1d", DataError),
        (pl.concat([bars(), bars()[:1]]), "1d", DataError),
    ],
)
def test_what_can_not_be_resampled_is_refused(frame, target, error):
    with pytest.raises(error):
        resample(frame, target)
