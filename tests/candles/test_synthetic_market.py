"""The synthetic market as a source: the same bars whatever is asked, and bars that a venue could have sent."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from example_kit import examples
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mei_pipeline.candles.schema import CANDLES, FUNDING, INSTRUMENTS
from mei_pipeline.candles.sources.synthetic import Regimes, SyntheticMarket, SyntheticSource, make_bars
from mei_pipeline.candles.sources.synthetic_bars import round_prices
from mei_pipeline.candles.sources.synthetic_config import instrument
from mei_pipeline.candles.sources.synthetic_funding import funding_rate
from mei_pipeline.candles.sources.synthetic_hours import ar1
from mei_pipeline.errors import ConfigError

HOUR = 3_600_000
DAY = 24 * HOUR
START = 1_746_057_600_000  # 2025-05-01 00:00 UTC
MARKET = SyntheticMarket(seed=3, symbols=("ETH", "BTC", "NEW"), from_ms=START)


def candles(market, interval, from_ms, to_ms):
    frames = list(SyntheticSource(market).candles(interval, from_ms, to_ms))
    return pl.concat([CANDLES.empty(), *frames]).sort("symbol", "open_ms")


def funding(market, from_ms, to_ms):
    frames = list(SyntheticSource(market).funding(from_ms, to_ms))
    return pl.concat([FUNDING.empty(), *frames]).sort("symbol", "time_ms")


def between(frame, column, from_ms, to_ms):
    return frame.filter((pl.col(column) >= from_ms) & (pl.col(column) < to_ms))


@pytest.mark.parametrize(("base", "days"), [("1h", 90), ("15m", 40), ("1m", 12)])
def test_a_slice_is_a_slice_of_the_whole(base, days):
    market = replace(MARKET, interval=base)
    whole = candles(market, base, START, START + days * DAY)

    @examples(15)
    @given(st.tuples(*[st.integers(0, days * 24)] * 2).map(sorted))
    def check(hours):
        lo, hi = (START + hour * HOUR for hour in hours)
        assert_frame_equal(candles(market, base, lo, hi), between(whole, "open_ms", lo, hi))

    check()


def test_funding_of_a_slice_is_a_slice_of_the_whole():
    whole = funding(MARKET, START, START + 60 * DAY)
    for lo, hi in ((0, 24), (31 * 24, 40 * 24), (5, 5), (59 * 24, 60 * 24)):
        part = funding(MARKET, START + lo * HOUR, START + hi * HOUR)
        assert_frame_equal(part, between(whole, "time_ms", START + lo * HOUR, START + hi * HOUR))


def test_same_fields_same_bars_and_another_seed_other_bars():
    one, again = (candles(replace(MARKET), "1h", START, START + 5 * DAY) for _ in range(2))
    other = candles(replace(MARKET, seed=4), "1h", START, START + 5 * DAY)
    assert_frame_equal(one, again)
    assert not one["close"].equals(other["close"])


def test_a_longer_market_repeats_a_shorter_one():
    short = replace(MARKET, to_ms=START + 10 * DAY)
    long = replace(MARKET, to_ms=START + 500 * DAY)
    made = candles(short, "1h", START, START + 900 * DAY)
    assert made.height == 3 * 240
    assert_frame_equal(made, candles(long, "1h", START, START + 10 * DAY))
    assert_frame_equal(made, candles(MARKET, "1h", START, START + 10 * DAY))


def test_symbols_do_not_depend_on_each_other():
    alone = candles(replace(MARKET, symbols=("BTC",), edge_size=0.1), "1h", START, START + 20 * DAY)
    among = candles(replace(MARKET, edge_size=0.1), "1h", START, START + 20 * DAY)
    assert_frame_equal(alone, among.filter(pl.col("symbol") == "BTC"))


def test_coarser_bars_are_aggregates_of_the_base():
    market = replace(MARKET, interval="5m")
    base = candles(market, "5m", START, START + 2 * DAY)
    for interval, count in (("15m", 3), ("1h", 12), ("4h", 48), ("1d", 288)):
        coarse = candles(market, interval, START, START + 2 * DAY)
        assert coarse["interval"].unique().to_list() == [interval]
        for symbol in MARKET.symbols:
            fine = base.filter(pl.col("symbol") == symbol).rows(named=True)
            made = coarse.filter(pl.col("symbol") == symbol).rows(named=True)
            groups = [fine[at : at + count] for at in range(0, len(fine), count)]
            assert [bar["open_ms"] for bar in made] == [group[0]["open_ms"] for group in groups]
            for bar, group in zip(made, groups, strict=True):
                assert bar["open"] == group[0]["open"]
                assert bar["close"] == group[-1]["close"]
                assert bar["high"] == max(row["high"] for row in group)
                assert bar["low"] == min(row["low"] for row in group)
                assert bar["trades"] == sum(row["trades"] for row in group)
                assert bar["volume"] == pytest.approx(sum(row["volume"] for row in group), rel=1e-12)


@pytest.mark.parametrize("base", ["1m", "3m", "5m", "15m", "30m"])
def test_hours_close_at_the_same_price_whatever_the_base(base):
    hourly = candles(MARKET, "1h", START, START + 3 * DAY)
    made = candles(replace(MARKET, interval=base), "1h", START, START + 3 * DAY)
    assert made.height == 3 * 72
    assert made["close"].equals(hourly["close"])


def test_only_bars_that_have_closed_are_given():
    made = candles(MARKET, "4h", START + HOUR, START + 15 * HOUR)
    assert made["open_ms"].unique().to_list() == [START + 4 * HOUR, START + 8 * HOUR]
    assert candles(MARKET, "1h", START, START + HOUR - 1).height == 0
    assert candles(MARKET, "1h", START - 9 * DAY, START).height == 0


@pytest.mark.parametrize("base", ["1h", "1m"])
def test_bars_are_what_a_venue_could_send(base):
    market = replace(MARKET, interval=base, edge_size=0.2)
    frame = CANDLES.validate(candles(market, base, START, START + (400 if base == "1h" else 9) * DAY))
    assert frame.null_count().sum_horizontal().item() == 0
    assert frame.filter(pl.col("high") < pl.max_horizontal("open", "close")).height == 0
    assert frame.filter(pl.col("low") > pl.min_horizontal("open", "close")).height == 0
    assert frame["low"].min() > 0.0
    assert frame["volume"].min() > 0.0
    assert frame["trades"].min() >= 1
    step = 60_000 if base == "1m" else HOUR
    gaps = frame.with_columns(
        step=pl.col("open_ms").diff().over("symbol"),
        gap=(pl.col("open") / pl.col("close").shift(1).over("symbol")).log(),
        move=(pl.col("close") / pl.col("open")).log(),
    )
    assert gaps["step"].drop_nulls().unique().to_list() == [step]
    assert gaps["gap"].std() < 0.05 * gaps["move"].std()


def test_prices_and_volumes_lie_on_the_grid_of_the_venue():
    frame = candles(MARKET, "1h", START, START + 400 * DAY)
    for symbol in MARKET.symbols:
        bars, size_decimals = frame.filter(pl.col("symbol") == symbol), instrument(symbol).size_decimals
        for price in {price for name in ("open", "high", "low", "close") for price in bars[name]}:
            _, digits, exponent = Decimal(repr(price)).normalize().as_tuple()
            assert exponent >= 0 or (len(digits) <= 5 and -exponent <= 6 - size_decimals), price
        lots = bars["volume"].to_numpy() * 10**size_decimals
        assert np.abs(lots - np.rint(lots)).max() < 1e-3


@pytest.mark.parametrize(
    ("price", "size_decimals", "rounded"),
    [
        (94_123.456, 5, 94_123.0),
        (9_412.3456, 5, 9_412.3),
        (123_456.7, 0, 123_457.0),
        (0.123456789, 0, 0.12346),
        (0.0123456789, 0, 0.012346),
        (0.00123456789, 0, 0.001235),
        (1.23456789, 4, 1.23),
        (9.99996, 0, 10.0),
        (99_999.6, 0, 100_000.0),
        (0.0000001, 0, 0.000001),
    ],
)
def test_price_rounding(price, size_decimals, rounded):
    assert round_prices(np.array([[price]]), np.array([float(size_decimals)]))[0, 0] == rounded


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=20), st.integers(0, 5))
def test_rounding_keeps_the_order_of_prices(prices, size_decimals):
    rounded = round_prices(np.array([sorted(prices)]), np.array([float(size_decimals)]))
    assert (np.diff(rounded[0]) >= 0.0).all()


@given(st.integers(1, 200), st.sampled_from([0.0, 0.5, 0.9, 0.999]), st.integers(0, 5))
def test_ar1_is_the_recursion(length, decay, seed):
    shocks = np.random.default_rng(seed).standard_normal(length)
    value, expected = 0.0, []
    for shock in shocks:
        value = decay * value + shock
        expected.append(value)
    made = ar1(shocks, decay)
    np.testing.assert_allclose(made, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(ar1(shocks[: length // 2], decay), made[: length // 2])


@pytest.mark.parametrize(
    ("premium", "rate"),
    [(0.0, 1.25e-5), (1e-4, 1.25e-5), (6e-4, 1.25e-5), (-4e-4, 1.25e-5), (1.6e-3, 1.375e-4), (-1.6e-3, -1.375e-4),
     (1.0, 0.04), (-1.0, -0.04)],
)  # fmt: skip
def test_funding_rate_of_a_premium(premium, rate):
    assert funding_rate(np.array([premium]))[0] == pytest.approx(rate, rel=1e-12)


def test_funding_is_hourly_persistent_and_follows_its_premium():
    frame = FUNDING.validate(funding(MARKET, START, START + 300 * DAY))
    for symbol in MARKET.symbols:
        one = frame.filter(pl.col("symbol") == symbol)
        assert one["time_ms"].to_list() == list(range(START + HOUR, START + 300 * DAY, HOUR))
        rate, premium = one["rate"].to_numpy(), one["premium"].to_numpy()
        assert 0.75 < np.corrcoef(rate[1:], rate[:-1])[0, 1] < 0.97
        apart = np.abs(rate - 1.25e-5) > 1e-12
        assert 0.1 < apart.mean() < 0.9
        assert (np.sign(rate - 1.25e-5)[apart] == np.sign(premium)[apart]).all()


def test_funding_ends_with_the_market():
    market = replace(MARKET, to_ms=START + DAY)
    times = funding(market, 0, START + 9 * DAY)["time_ms"].unique().sort().to_list()
    assert times == [START + hour * HOUR for hour in range(1, 25)]
    assert list(SyntheticSource(market).funding(START + 2 * DAY, START + 3 * DAY)) == []


def test_instruments():
    frame = INSTRUMENTS.validate(SyntheticSource(MARKET).instruments())
    assert sorted(frame["symbol"]) == ["BTC", "ETH", "NEW"]
    btc = frame.filter(pl.col("symbol") == "BTC").row(0, named=True)
    assert (btc["size_decimals"], btc["price_decimals"], btc["max_leverage"]) == (5, 1, 40.0)
    assert btc["maintenance_margin_frac"] == 0.0125
    assert btc["venue"] == "synthetic"
    assert btc["from_ms"] == START


@given(st.text(min_size=1, max_size=8))
def test_any_name_has_plausible_constants(symbol):
    what = instrument(symbol)
    assert what == instrument(symbol)
    assert 0.5 <= what.price_usd <= 1e5
    assert 0.004 <= what.hourly_vol <= 0.011
    assert 0.5 <= what.market_share <= 0.9


def test_an_interval_finer_than_the_base_is_refused():
    with pytest.raises(ConfigError, match="set the source's interval to 5m"):
        list(SyntheticSource(MARKET).candles("5m", START, START + DAY))


@pytest.mark.parametrize("ask", ["candles", "funding"])
def test_a_market_without_end_must_be_asked_for_an_end(ask):
    forever = 253_402_300_800_000
    request = (0, forever) if ask == "funding" else ("1h", 0, forever)
    with pytest.raises(ConfigError, match="the market has no end"):
        next(getattr(SyntheticSource(MARKET), ask)(*request))
    ended = SyntheticSource(replace(MARKET, to_ms=START + DAY))
    assert next(getattr(ended, ask)(*request)).height == 3 * 24


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"symbols": ()}, "at least one"),
        ({"symbols": ("BTC", "BTC")}, "each once"),
        ({"interval": "4h"}, "'4h'; allowed: 1m"),
        ({"from_ms": START + 1}, "full hours"),
        ({"to_ms": START}, "to_ms the later"),
        ({"to_ms": START + HOUR + 1}, "full hours"),
        ({"edge_size": -0.1}, "0 or more"),
        ({"edge_sharpe": float("nan")}, "0 or more"),
        ({"edge_sharpe": 1e3}, "at most"),
        ({"edge_sharpe": 1.0, "edge_size": 0.1}, "both set"),
        ({"edge_sharpe": 1.0, "regimes": Regimes(trend_hours=5.0)}, "default regimes"),
    ],
)
def test_impossible_markets_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        replace(MARKET, **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"trend_hours": 0.0}, "trend_hours is 0.0; it must be positive"),
        ({"range_vol": float("inf")}, "range_vol"),
        ({"reversal_frac": 1.5}, "0..1"),
        ({"trend_market_share": -0.1}, "trend_market_share"),
    ],
)
def test_impossible_regimes_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Regimes(**fields)


def test_bars_as_arrays():
    market = SyntheticMarket(seed=11)
    bars = make_bars(market, market.from_ms, market.from_ms + 13_140 * HOUR)
    assert bars.close.shape == (10, 13_140)
    assert bars.open_ms[[0, -1]].tolist() == [market.from_ms, market.from_ms + 13_139 * HOUR]
