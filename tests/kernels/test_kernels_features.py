"""Features: whole columns, bar by bar, and the twin are one and the same."""

import math

import naive_features
import numpy as np
import pytest
from example_kit import examples
from hypothesis import given
from hypothesis import strategies as st
from naive_features import Candle

from kernels import features, strategies
from kernels.features import KINDS, Column

NAN = math.nan
Grid = list[list[Candle | None]]
"""[S][T]."""


def arrays(symbols: Grid) -> np.ndarray:
    """High, low, close and volume, [4, T, S]."""
    values = np.full((4, len(symbols[0]), len(symbols)), NAN)
    for s, bars in enumerate(symbols):
        for t, bar in enumerate(bars):
            if bar is not None:
                values[:, t, s] = bar.high, bar.low, bar.close, bar.volume
    return values


def built(market: np.ndarray, columns: list[Column]) -> np.ndarray:
    out = np.full((len(columns), *market.shape[1:]), -1.0)
    scratch = np.full((market.shape[2], max(map(features.state_size, columns))), NAN)
    with np.errstate(all="ignore"):  # compiled code raises no flags either
        features.build(*features.encode(columns), *market, out, scratch)
    return out


def observed(market: np.ndarray, columns: list[Column]) -> np.ndarray:
    """The columns as an executor makes them, bar by bar; warming up with all bars at once is the same."""
    kinds, windows, offsets = features.encode(columns)
    _, bars, symbols = market.shape
    state, latest = np.zeros((symbols, offsets[-1])), np.full((len(columns), 2, symbols), NAN)
    out = np.empty((len(columns), bars, symbols))
    with np.errstate(all="ignore"):
        for t in range(bars):
            before = latest[:, 1].copy()
            features.observe(kinds, windows, offsets, state, latest, *market[:, t])
            out[:, t] = latest[:, 1]
            assert bits(latest[:, 0]) == bits(before)
        whole = np.zeros_like(state), np.full_like(latest, NAN)
        features.warm(kinds, windows, offsets, *whole, *market)
    assert (bits(whole[0]), bits(whole[1])) == (bits(state), bits(latest))
    return out


def bits(values) -> list[int]:
    """Floats as their bits, every NaN alike."""
    array = np.asarray(values, dtype=np.float64)
    return np.where(np.isnan(array), NAN, array).view(np.int64).ravel().tolist()


SHAPES = ("walk", "ticks", "zigzag", "constant", "points", "jumps", "denormal", "enormous")


def candles(rng: np.random.Generator, shape: str, bars: int) -> list[Candle]:
    start = {"denormal": 5e-322, "enormous": 1e295}.get(shape, float(np.exp(rng.normal(3, 1))))
    moves = rng.normal(0, {"jumps": 30.0, "constant": 0.0}.get(shape, 0.02), (bars, 3))
    if shape == "zigzag":
        moves = np.abs(moves) * np.where(np.arange(bars) % 6 < 3, 1, -1)[:, None]
    path = np.clip(np.exp(np.cumsum(moves.ravel()).reshape(bars, 3)), 1e-290, 1e280)
    if shape == "ticks":  # on few levels, equal moves up and down and no move at all are common
        prices = 1.0 + np.floor(path * 20) / 7
    else:
        prices = np.minimum(np.maximum(start * path, math.ulp(0.0)), 1e300)
    if shape == "points":
        prices[:] = prices[:, -1:]
    sold = [0.0, 0.1, *rng.lognormal(0, 8, 3).tolist()]
    volume = rng.choice(sold[: rng.integers(1, 6)], bars).tolist()
    return [Candle(max(row), min(row), row[-1], v) for row, v in zip(prices.tolist(), volume, strict=True)]


@st.composite
def grids(draw, max_bars: int = 60) -> Grid:
    """Up to three symbols, with all kinds of paths, gaps, listings and endings."""
    bars = draw(st.sampled_from([max_bars, max_bars, max_bars // 3, 2, 1]))
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3))
    gaps = draw(st.sampled_from([0.0, 0.0, 0.1, 0.5, 1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    symbols: Grid = []
    for shape in shapes:
        listed, ends = sorted(rng.integers(0, bars + 1, 2)) if rng.random() < 0.4 else (0, bars)
        made = candles(rng, shape, bars)
        symbols.append([bar if listed <= t < ends and rng.random() >= gaps else None for t, bar in enumerate(made)])
    return symbols


def columns_of(kind: str) -> st.SearchStrategy[Column]:
    windows = st.integers(1, 3) | st.integers(1, 3) | st.integers(1, 20) | st.integers(1, 5000)
    return st.tuples(*[windows] * len(KINDS[kind].windows)).map(lambda drawn: Column(kind, drawn))


any_column = st.sampled_from(list(KINDS)).flatmap(columns_of)


@pytest.mark.parametrize("kind", KINDS)
@examples(40)
@given(data=st.data(), symbols=grids())
def test_built_observed_and_naive_columns_are_equal(kind, data, symbols):
    columns = [data.draw(any_column), data.draw(columns_of(kind))]
    market = arrays(symbols)
    whole = built(market, columns)
    assert bits(whole) == bits(observed(market, columns))
    for c, column in enumerate(columns):
        for s, bars in enumerate(symbols):
            assert bits(whole[c, :, s]) == bits(naive_features.column(*column, bars))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_columns_equal_their_twin_over_a_long_gapless_history(kind, shape):
    for window in (1, 2, 5):
        bars = candles(np.random.default_rng(window), shape, 120)
        column = Column(kind, tuple(window + i for i in range(len(KINDS[kind].windows))))
        assert bits(built(arrays([bars]), [column])) == bits(naive_features.column(*column, bars)), column


@examples(50)
@given(symbols=grids(max_bars=30), columns=st.lists(any_column, min_size=1, max_size=4), data=st.data())
def test_a_column_does_not_know_later_bars(symbols, columns, data):
    market = arrays(symbols)
    t = data.draw(st.integers(0, market.shape[1]))
    whole = built(market, columns)
    market[:, t:] = np.array([7.0, 5.0, 6.0, 1.0])[:, None, None]
    assert bits(whole[:, :t]) == bits(built(market, columns)[:, :t])


@pytest.mark.parametrize("shape", ["walk", "ticks", "zigzag", "constant", "points", "denormal", "enormous"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_column_is_finite_from_the_first_bar_on(kind, shape):
    bars = [None, *candles(np.random.default_rng(3), shape, 60), None]
    values = built(arrays([bars]), [Column(kind, (3, 5, 2)[: len(KINDS[kind].windows)])])[0, :, 0]
    assert np.isnan(values[0])
    assert np.isfinite(values[1:]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_symbol_without_bars_stays_without_values(kind):
    column = Column(kind, (2,) * len(KINDS[kind].windows))
    market = arrays([[None] * 4, [Candle(3, 1, 2, 1)] * 4])
    assert np.isnan(built(market, [column])[0, :, 0]).all()
    assert np.isnan(observed(market, [column])[0, :, 0]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_windows_of_five_thousand_bars_work(kind):
    bars = candles(np.random.default_rng(1), "walk", 12)
    column = Column(kind, (5000,) * len(KINDS[kind].windows))
    assert bits(observed(arrays([bars]), [column])) == bits(naive_features.column(*column, bars))


def flat(*closes: float) -> list[Candle]:
    return [Candle(close, close, close, 1.0) for close in closes]


# True ranges: 12 - 8 = 4, 12 - 9 = 3, then gaps from the last close count: 21 - 10 = 11 and 20 - 14 = 6.
RANGES = [Candle(12, 8, 11, 4), Candle(12, 9, 10, 0), None, Candle(21, 19, 20, 8), Candle(16, 14, 15, 2)]
# Movements: +2, +1, -3, +1, and true ranges 3, 2, 4, 4.
MOVES = [Candle(*bar, 1) for bar in [(10, 8, 9), (12, 9, 11), (13, 11, 12), (12, 8, 9), (13, 9, 12)]]

BY_HAND = {
    "close": (Column("close", ()), [None, *RANGES], [NAN, 11, 10, 10, 20, 15]),
    "volume": (Column("volume", ()), [None, *RANGES], [NAN, 4, 0, 0, 8, 2]),
    # Weight 2 / (3 + 1) = 1/2, from the first close.
    "ema": (Column("ema", (3,)), [None, *flat(10, 20), None, *flat(17)], [NAN, 10, 15, 15, 16]),
    "atr": (Column("atr", (2,)), RANGES, [4, 3.5, 3.5, 7.25, 6.625]),
    # Mean of 4, 3 and 11, then a third of the way to 6.
    "atr_warm": (Column("atr_warm", (3,)), RANGES, [4, 3.5, 3.5, 6, 6]),
    "atr_warm_slope": (Column("atr_warm_slope", (2,)), RANGES, [0, -0.5, -0.5, 3.75, -0.625]),
    "atr_warm_mean": (Column("atr_warm_mean", (2, 2)), RANGES, [4, 3.75, 3.75, 5.375, 6.9375]),
    # Sums (+, -) are 3, 0 with DX 100; then 1.5, 3 with DX 100 / 3; then 1.75, 1.5 with DX 100 / 13.
    "adx": (Column("adx", (2,)), MOVES, [0, 0, 100, 200 / 3, (200 / 3 + 100 / 13) / 2]),
    "adx_slope": (Column("adx_slope", (2,)), MOVES, [0, 0, 100, -100 / 3, (100 / 13 - 200 / 3) / 2]),
    # Mean gain and loss are 1 and 1/2, then 2 and 1/4.
    "rsi": (Column("rsi", (2,)), flat(10, 12, 11, 14), [50, 50, 200 / 3, 800 / 9]),
    "rsi without a loss": (Column("rsi", (2,)), flat(10, 11, 12), [50, 50, 100]),
    "rsi without a move": (Column("rsi", (2,)), flat(10, 10, 10), [50, 50, 50]),
    # The RSI is 50, 100, 0, 0, 100: its places from the third bar on are 0, 0 and 1.
    "stoch_k": (Column("stoch_k", (1, 3, 2)), flat(10, 11, 10, 9, 10), [0.5, 0.5, 0, 0, 0.5]),
    # Widths 0, 1 / 10, 0, 5 / 20 over their means 0, 1 / 20, 1 / 20, 1 / 8.
    "bb_ratio": (Column("bb_ratio", (2, 2)), flat(8, 10, 10, 20), [1, 2, 0, 2]),
    "volume_mean": (Column("volume_mean", (2,)), RANGES, [4, 2, 2, 4, 5]),
    # The mean over one bar is the close: (16 - 10) / 16 and (20 - 11) / 20.
    "ema_slope": (Column("ema_slope", (1, 3)), flat(10, 11, 16, 20), [0, 0, 0.375, 0.45]),
    # Means 10, 14, 14, 10 and 10, 12, 13, 11.5: gaps 0, 2, 1, -1.5 with the mean 0, 1, 1, -0.25.
    "macd_hist": (Column("macd_hist", (1, 3, 3)), flat(10, 14, 14, 10), [0, 1, 0, -1.25]),
    "macd_run": (Column("macd_run", (1, 3, 3)), flat(10, 14, 14, 10), [0, 1, -1, -2]),
    "macd_run without a move": (Column("macd_run", (1, 3, 3)), flat(10, 10, 10), [0, 0, 0]),
    "macd_run ended": (Column("macd_run", (1, 1, 1)), flat(10, 14, 10), [0, 0, 0]),
    # Highs 12, 12, 21, 16 and lows 8, 9, 19, 14; the bar that is missing takes no place among the last two.
    "highest": (Column("highest", (2,)), [None, *RANGES], [NAN, 12, 12, 12, 21, 21]),
    "lowest": (Column("lowest", (2,)), [None, *RANGES], [NAN, 8, 8, 8, 9, 14]),
    "highest of a longer window than the history": (Column("highest", (9,)), RANGES, [12, 12, 12, 21, 21]),
    "lowest of a longer window than the history": (Column("lowest", (9,)), RANGES, [8, 8, 8, 8, 8]),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_a_column_by_hand(case):
    column, bars, expected = BY_HAND[case]
    values = built(arrays([bars]), [column])[0, :, 0]
    assert values.tolist() == pytest.approx(expected, rel=1e-15, abs=1e-15, nan_ok=True)


def test_every_kind_has_an_example_and_a_twin():
    assert {column.kind for column, _, _ in BY_HAND.values()} == set(KINDS)
    assert list(naive_features.KINDS) == list(KINDS)


# A tenth has no exact sum: three of them make more than three times one.
STILL = {
    "close": 0.1, "volume": 0.3, "ema": 0.1, "atr": 0, "atr_warm": 0, "atr_warm_slope": 0, "atr_warm_mean": 0, "adx": 0,
    "adx_slope": 0, "rsi": 50, "stoch_k": 0.5, "bb_ratio": 1, "volume_mean": 0.3, "ema_slope": 0, "macd_hist": 0,
    "macd_run": 0, "highest": 0.1, "lowest": 0.1,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [1, 3, 7])
def test_a_market_that_stands_still_is_still_to_the_last_bit(kind, window):
    column = Column(kind, (window,) * len(KINDS[kind].windows))
    market = arrays([[Candle(0.1, 0.1, 0.1, 0.3)] * 20])
    assert built(market, [column])[0, :, 0].tolist() == [STILL[kind]] * 20


def test_bands_around_a_price_that_came_to_rest_have_no_width():
    market = arrays([flat(0.7, 0.9, 0.4, 0.3, *[0.1] * 8)])
    assert built(market, [Column("bb_ratio", (3, 4))])[0, 6:9, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("window", [1, 2, 3, 4, 5])
def test_an_extreme_counts_for_exactly_its_window_wherever_it_lies(window):
    """A spike at each place of a block, with a later one that is lower, leaves the window when it is too old."""
    for first in range(2 * window):
        highs = [10.0] * (6 * window)
        highs[first], highs[first + 1] = 30.0, 20.0
        bars = [Candle(high, 100.0 / high, 5.0, 1.0) for high in highs]
        market = arrays([bars])
        ages = [t - first for t in range(len(bars))]
        expected = [30.0 if 0 <= age < window else 20.0 if 0 < age <= window else 10.0 for age in ages]
        values = built(market, [Column("highest", (window,)), Column("lowest", (window,))])[:, :, 0]
        assert values.tolist() == [expected, [100.0 / high for high in expected]]


def test_a_window_of_one_is_the_series_itself():
    market = arrays([[Candle(12, 9, 11, 5), Candle(15, 11, 12, 7)]])
    kinds = ("ema", "atr", "atr_warm", "volume_mean", "highest", "lowest")
    values = built(market, [Column(kind, (1,)) for kind in kinds])[:, :, 0]
    assert values.tolist() == [[11, 12], [3, 4], [3, 4], [5, 7], [12, 15], [9, 11]]


def test_columns_with_a_kind_or_windows_that_do_not_exist_are_refused():
    with pytest.raises(KeyError, match="median"):
        features.encode([Column("median", (3,))])
    with pytest.raises(ValueError, match="ema 3 4: windows of ema are window, each at least 1"):
        features.encode([Column("ema", (3, 4))])
    with pytest.raises(ValueError, match="macd_hist 0 3 4: windows of macd_hist are fast, slow, signal, each at least"):
        features.encode([Column("macd_hist", (0, 3, 4))])
    with pytest.raises(ValueError, match="close 1: windows of close are none"):
        features.encode([Column("close", (1,))])


@pytest.mark.parametrize("name", strategies.names())
def test_every_feature_of_a_strategy_is_known_and_reads_feature_parameters(name):
    strategy = strategies.load(name)
    parameters = {parameter.path: parameter for parameter in strategy.PARAMETERS}
    for use in strategy.FEATURES:
        assert len(use.paths) == len(KINDS[use.kind].windows)
        for path in use.paths:
            assert (parameters[path].role, parameters[path].kind) == ("feature", "int")
            assert parameters[path].low >= 1
