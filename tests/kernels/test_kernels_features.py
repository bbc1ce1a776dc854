"""Features: whole columns, bar by bar, and the twin are one and the same."""

import math

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from kernel_kit import bits, candle, one, to_market
from random_markets import symbol_lists

from kernels import features
from kernels.features import Column
from kernels.strategies import ema_cross


def built(market, columns) -> np.ndarray:
    kinds, weights = features.encode(columns)
    out = np.full((len(columns), *market.close.shape), -1.0)
    features.build(kinds, weights, market.high, market.low, market.close, out)
    return out


def observed(market, columns) -> np.ndarray:
    """The columns as an executor makes them, one bar at a time."""
    kinds, weights = features.encode(columns)
    bars, symbols = market.close.shape
    values, last_close = np.full((len(columns), symbols), np.nan), np.full(symbols, np.nan)
    out = np.empty((len(columns), bars, symbols))
    for t in range(bars):
        features.observe(kinds, weights, values, last_close, market.high[t], market.low[t], market.close[t])
        out[:, t] = values
    return out


def twin(symbols, column: Column) -> list[list[float]]:
    """[S][T] of one column."""
    if column.kind == "atr":
        return [naive.atr(symbol.bars, column.window) for symbol in symbols]
    return [naive.ema([bar and bar.close for bar in symbol.bars], column.window) for symbol in symbols]


columns_drawn = st.lists(
    st.builds(Column, st.sampled_from(features.KINDS), st.integers(1, 50) | st.integers(1, 5000)),
    min_size=1,
    max_size=4,
)


@examples(max_examples=200)
@given(symbols=symbol_lists(), columns=columns_drawn)
def test_built_observed_and_naive_columns_are_equal(symbols, columns):
    market = to_market(symbols)
    whole = built(market, columns)
    assert bits(whole) == bits(observed(market, columns))
    for c, column in enumerate(columns):
        for s, series in enumerate(twin(symbols, column)):
            assert bits(whole[c, :, s]) == bits(series)


@examples(max_examples=50)
@given(symbols=symbol_lists(max_bars=30), columns=columns_drawn, data=st.data())
def test_a_column_does_not_know_later_bars(symbols, columns, data):
    market = to_market(symbols)
    t = data.draw(st.integers(0, len(market.close)))
    whole = built(market, columns)
    market.high[t:], market.low[t:], market.close[t:] = 7.0, 5.0, 6.0
    assert bits(whole[:, :t]) == bits(built(market, columns)[:, :t])


def test_ema_by_hand():
    # weight 2 / (3 + 1) = 1/2, from the first close
    market = to_market([one([None, candle(10), candle(20), None, candle(17)])])
    assert bits(built(market, [Column("ema", 3)])) == bits([math.nan, 10, 15, 15, 16])


def test_atr_by_hand():
    # Ranges: 12 - 8 = 4, 12 - 9 = 3, then gaps from the last close count: 21 - 10 = 11 and 20 - 14 = 6.
    bars = [candle(10, 12, 8, 11), candle(11, 12, 9, 10), None, candle(20, 21, 19, 20), candle(15, 16, 14, 15)]
    market = to_market([one(bars)])
    expected = [4, 4 + (3 - 4) / 2, 3.5, 3.5 + (11 - 3.5) / 2, 7.25 + (6 - 7.25) / 2]
    assert bits(built(market, [Column("atr", 2)])) == bits(expected)


def test_a_window_of_one_is_the_series_itself():
    market = to_market([one([candle(10, 12, 9, 11), candle(11, 15, 11, 12)])])
    assert built(market, [Column("ema", 1), Column("atr", 1)])[:, :, 0].tolist() == [[11, 12], [3, 4]]


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="not in tuple"):
        features.encode([Column("median", 3)])


def test_every_feature_of_the_strategy_is_known_and_reads_a_feature_parameter():
    roles = {parameter.path: parameter.role for parameter in ema_cross.PARAMETERS}
    assert {use.kind for use in ema_cross.FEATURES} <= set(features.KINDS)
    assert [roles[use.path] for use in ema_cross.FEATURES] == ["feature"] * len(ema_cross.FEATURES)
