"""Spikes, distinguished from crashes and from new levels."""

import polars as pl
import pytest
from candle_kit import HOUR, MAY
from hypothesis import given
from hypothesis import strategies as st

from mei_pipeline.candles.spikes import SpikeBounds, spikes

Bar = float | tuple[float, float, float, float]
"""A flat bar at a price, or open, high, low, close."""


def series(*prices: Bar | None, symbol: str = "BTC") -> pl.DataFrame:
    """Hourly bars of one symbol; a bar is missing where a price is None."""
    rows = [
        (symbol, MAY + hour * HOUR, *(price if isinstance(price, tuple) else (price,) * 4))
        for hour, price in enumerate(prices)
        if price is not None
    ]
    names = ("symbol", "open_ms", "open", "high", "low", "close")
    return pl.DataFrame(rows, schema=names, orient="row").with_columns(pl.col(names[2:]).cast(pl.Float64))


def marked(frame: pl.DataFrame, bounds: SpikeBounds | None = None) -> list[int]:
    """Hours of the bars that are spikes."""
    found = spikes(frame, HOUR, bounds or SpikeBounds())
    return [(time - MAY) // HOUR for time in found["open_ms"].to_list()]


CASES: list[tuple[str, tuple[Bar | None, ...], list[int]]] = [
    ("in the middle", (100, 101, 100_000, 102, 103), [2]),
    ("downwards", (100, 101, 0.1, 102, 103), [2]),
    ("upper wick alone", (100, (100, 1001, 100, 101), 100, 100), [1]),
    ("lower wick alone", (100, (100, 101, 9.9, 101), 100, 100), [1]),
    ("wick inside the bound", (100, (100, 999, 10.1, 101), 100, 100), []),
    ("all prices displaced", (100, 210, 100, 100), [1]),
    ("displaced inside the bound", (100, 199, 100, 100), []),
    ("close alone displaced", (100, (100, 210, 100, 210), 100, 100), [1]),
    ("open alone displaced", (100, (49, 100, 49, 100), 100, 100), [1]),
    ("two bars in a row", (100, 5000, 5100, 100, 100), [1, 2]),
    ("three bars in a row", (100, 5000, 5100, 5000, 100), [1, 2, 3]),
    ("four bars are a level", (100, 100, 5000, 5100, 5000, 5200, 100, 100, 100, 100), []),
    ("two spikes in opposite directions", (100, 5000, 0.1, 100, 100), [1, 2]),
    ("a new denomination", (1, 1, 1, 1, 1000, 1000, 1000, 1000), []),
    ("crash over two bars", (200, (200, 200, 103, 112), (113, 145, 84, 140), 141, 142), []),
    ("crash and no recovery", (100, 100, 100, 100, (100, 100, 0.5, 0.5), 0.5, 0.5, 0.5, 0.5), []),
    ("first bar", (100_000, 100, 101, 102), [0]),
    ("first bar inside the bound of one neighbour", (900, 100, 101, 102), []),
    ("last bar", (100, 101, 102, 100_000), [3]),
    ("last bar inside the bound of one neighbour", (100, 101, 102, 15), []),
    ("last two bars", (100, 101, 102, 99, 5000, 5100), [4, 5]),
    ("the bar beside a spike is none", (100, 101, 100_000, 102), [2]),
    ("the first bar beside a spike is none", (100, 100_000, 101, 102, 103), [1]),
    ("across a gap", (100, None, None, 2000, 100, 101), [3]),
    ("displaced across a gap proves nothing", (100, None, None, 250, 100, 101), []),
    ("a level after a gap", (100, 100, 100, None, 0.5, 0.5, 0.5, 0.5), []),
    ("one bar", (100,), []),
    ("two bars prove nothing", (100, 100_000), []),
]


@pytest.mark.parametrize(("prices", "hours"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_spike(prices: tuple[Bar | None, ...], hours: list[int]) -> None:
    assert marked(series(*prices)) == hours


@pytest.mark.parametrize(
    ("bounds", "hours"),
    [
        (SpikeBounds(max_reach=60, max_displacement=60), []),
        (SpikeBounds(max_reach=60), [2, 3]),
        (SpikeBounds(max_bars=1), []),
    ],
)
def test_bounds_decide(bounds: SpikeBounds, hours: list[int]) -> None:
    assert marked(series(100, 100, 5000, 5100, 100, 100), bounds) == hours


def test_a_spike_names_the_bars_it_was_compared_with() -> None:
    found = spikes(series(100, 101, 5000, 5100, 100, 101), HOUR, SpikeBounds())
    assert found["_from_ms"].to_list() == [MAY + HOUR] * 2
    assert found["_to_ms"].to_list() == [MAY + 4 * HOUR] * 2


def test_symbols_are_no_neighbours_of_each_other() -> None:
    frame = pl.concat([series(100, 101, 102, symbol="BTC"), series(0.01, 0.011, 0.01, symbol="DOGE")])
    assert marked(frame) == []


@given(
    closes=st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=30),
    wicks=st.lists(st.tuples(st.floats(1, 4), st.floats(1, 4)), min_size=30, max_size=30),
)
def test_a_market_without_leaps_has_none(closes: list[float], wicks: list[tuple[float, float]]) -> None:
    # Each bar opens at the close before, moves by up to half, and reaches up to four times further.
    price, bars = 100.0, []
    for move, (up, down) in zip(closes, wicks, strict=False):
        close = price * (1 + move)
        bars.append((price, max(price, close) * up, min(price, close) / down, close))
        price = close
    assert marked(series(*bars), SpikeBounds(max_reach=8.1)) == []
