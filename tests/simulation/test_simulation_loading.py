"""From the lake to arrays."""

import numpy as np
import polars as pl
import pytest
from market_kit import DAY_MS, HOUR_MS, START_MS, SYMBOLS, VENUE, fill_lake, walk

from mei_pipeline.candles.intervals import Intervals
from mei_pipeline.candles.lake import Lake, merge_candles, merge_funding, merge_instruments, read_instruments
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.extents import extents_ms, last_bar_ms, last_common_ms
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.simulation.window import closed_at_end, cut_window

END_MS = START_MS + 60 * DAY_MS


def test_prices_land_at_their_time_and_symbol(mei_settings: Settings) -> None:
    lake = fill_lake(mei_settings)
    bars = load_bars(lake, VENUE, "1h", SYMBOLS, START_MS, END_MS)
    for column, symbol in enumerate(SYMBOLS):
        expected = walk(symbol, 60, 1)
        for row, name in enumerate(("open", "high", "low", "close")):
            assert np.array_equal(bars.prices[row, :, column], expected[name].to_numpy())
        assert np.array_equal(bars.volume[:, column], expected["volume"].to_numpy())
    assert np.array_equal(bars.age[:, 0], np.arange(60 * 24))
    assert bars.end_ms == END_MS


def test_a_missing_bar_is_nan_and_does_not_age_the_symbol(mei_settings: Settings) -> None:
    lake = Lake(mei_settings.lake)
    fill_lake(mei_settings, symbols=("BBB",))
    holed = walk("AAA", 60, 1).filter(~pl.col("open_ms").is_in([START_MS + 5 * HOUR_MS, START_MS + 6 * HOUR_MS]))
    merge_candles(lake, holed, now_ms=END_MS + DAY_MS)
    template = read_instruments(lake, VENUE)
    merge_instruments(lake, template.with_columns(symbol=pl.lit("AAA")), now_ms=END_MS)
    bars = load_bars(lake, VENUE, "1h", ("AAA", "BBB"), START_MS, END_MS)
    assert list(bars.age[3:9, 0]) == [3, 4, -1, -1, 5, 6]
    assert np.isnan(bars.prices[:, 5:7, 0]).all()
    assert np.isnan(bars.volume[5:7, 0]).all()
    assert not np.isnan(bars.prices[:, 5:7, 1]).any()


def test_symbols_are_sorted_so_that_equal_sets_are_equal_arrays(mei_settings: Settings) -> None:
    lake = fill_lake(mei_settings)
    one = load_bars(lake, VENUE, "1h", SYMBOLS, START_MS, END_MS)
    other = load_bars(lake, VENUE, "1h", SYMBOLS[::-1], START_MS, END_MS)
    assert one.symbols == other.symbols == SYMBOLS
    assert one.data_hash == other.data_hash
    assert np.array_equal(one.prices, other.prices)


@pytest.mark.parametrize(
    ("stamp_ms", "bar"),
    [(8 * HOUR_MS, 7), (8 * HOUR_MS + 48, 7), (8 * HOUR_MS - 1, 7), (9 * HOUR_MS, 8), (8 * HOUR_MS + 250_000, 7)],
)
def test_funding_due_at_a_close_belongs_to_the_bar_that_closes(mei_settings: Settings, stamp_ms: int, bar: int) -> None:
    lake = fill_lake(mei_settings, symbols=("AAA",))
    frame = pl.DataFrame(
        {
            "venue": "other",
            "symbol": "AAA",
            "time_ms": [START_MS + stamp_ms],
            "rate": 0.003,
            "premium": pl.Series([None], dtype=pl.Float64),
            "source": "x",
        }
    )
    merge_funding(lake, frame, now_ms=END_MS)
    merge_candles(lake, walk("AAA", 20, 1).with_columns(venue=pl.lit("other")), now_ms=END_MS)
    merge_instruments(lake, read_instruments(lake, VENUE).with_columns(venue=pl.lit("other")), now_ms=END_MS)
    bars = load_bars(lake, "other", "1h", ("AAA",), START_MS, START_MS + 20 * DAY_MS)
    assert np.flatnonzero(bars.steps.funding[:, 0]).tolist() == [bar]
    assert bars.steps.funding[bar, 0] == 0.003


def test_window_cuts_whole_days_into_sixteen_blocks(mei_settings: Settings) -> None:
    bars = load_bars(fill_lake(mei_settings), VENUE, "1h", SYMBOLS, START_MS, END_MS)
    cut = cut_window(bars, START_MS + 10 * DAY_MS, START_MS + 42 * DAY_MS)
    assert (cut.first, cut.last, cut.days) == (240, 42 * 24, 32)
    ends = np.flatnonzero(cut.market.day_end)
    assert len(ends) == 32
    assert ends[0] == 240 + 23
    assert np.bincount(cut.market.block[ends]).tolist() == [2] * 16


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        (1, 10, "at least 16 days are needed"),
        (-1, 40, "midnights between"),
        (1, 61, "midnights between"),
        (30, 30, "midnights"),
    ],
)
def test_a_window_that_does_not_fit_is_an_error(mei_settings: Settings, start: int, end: int, says: str) -> None:
    bars = load_bars(fill_lake(mei_settings), VENUE, "1h", SYMBOLS, START_MS, END_MS)
    with pytest.raises(ConfigError, match=says):
        cut_window(bars, START_MS + start * DAY_MS, START_MS + end * DAY_MS)


def test_what_the_lake_does_not_have_is_named(mei_settings: Settings) -> None:
    lake = fill_lake(mei_settings)
    with pytest.raises(DataError, match="no 1h bar of ZZZ"):
        load_bars(lake, VENUE, "1h", ("AAA", "ZZZ"), START_MS, END_MS)
    with pytest.raises(DataError, match="no 1h bar of ZZZ"):
        last_common_ms(lake, VENUE, "1h", ("AAA", "ZZZ"))
    merge_candles(lake, walk("OLD", 20, 1), now_ms=END_MS)
    with pytest.raises(DataError, match=r"OLD .*its bars lie between 2025-01-01 00:00Z and 2025-01-21 00:00Z: choose"):
        load_bars(lake, VENUE, "1h", ("AAA", "OLD"), START_MS + 30 * DAY_MS, END_MS)
    with pytest.raises(DataError, match="no 15m bars of test; run `mei ingest`, with 15m among `intervals`"):
        load_bars(lake, VENUE, Intervals("1h", exit="15m"), SYMBOLS, START_MS, END_MS)


@pytest.mark.parametrize(
    ("anchor_ms", "to_ms", "error", "says"),
    [
        (START_MS + 1, END_MS, ConfigError, "anchor of 1h"),
        (END_MS, END_MS, ConfigError, "before the end"),
        (START_MS - HOUR_MS, END_MS, ConfigError, "Set anchors.1h in pipeline.yaml to 2025-01-01 00:00Z or later"),
        (END_MS, END_MS + DAY_MS, DataError, "the last 1h bar of test in lake .* ends 2025-03-02 00:00Z; run `mei ing"),
    ],
)
def test_an_anchor_that_cannot_be_says_what_to_change(
    mei_settings: Settings, anchor_ms: int, to_ms: int, error: type[Exception], says: str
) -> None:
    lake = fill_lake(mei_settings)
    with pytest.raises(error, match=says):
        load_bars(lake, VENUE, "1h", SYMBOLS, anchor_ms, to_ms)


def test_no_symbols_are_refused(mei_settings: Settings) -> None:
    with pytest.raises(ConfigError, match="symbols: the list is empty"):
        load_bars(fill_lake(mei_settings), VENUE, "1h", (), START_MS, END_MS)


def test_a_window_that_closes_at_its_end_delists_what_has_not_ended_before(mei_settings: Settings) -> None:
    lake = fill_lake(mei_settings, symbols=("AAA", "BBB", "CCC"), days=60)
    merge_candles(lake, pl.concat([walk("DDD", 20, 1), walk("EEE", 45, 1)]), now_ms=END_MS)
    traded = read_instruments(lake, VENUE).filter(pl.col("symbol") == "AAA")
    for name in ("DDD", "EEE"):
        merge_instruments(lake, traded.with_columns(symbol=pl.lit(name)), now_ms=END_MS)
    bars = load_bars(lake, VENUE, "1h", ("AAA", "DDD", "EEE"), START_MS, END_MS)
    cut = cut_window(bars, START_MS + 10 * DAY_MS, START_MS + 30 * DAY_MS)
    closed = closed_at_end(cut)
    assert cut.market.last.tolist() == [[-1, 20 * 24 - 1, 45 * 24 - 1]]
    assert closed.market.last.tolist() == [[30 * 24 - 1, 20 * 24 - 1, 30 * 24 - 1]]
    assert np.flatnonzero(closed.market.ends).tolist() == [20 * 24 - 1, 30 * 24 - 1, 45 * 24 - 1]
    assert np.flatnonzero(cut.market.ends).tolist() == [20 * 24 - 1, 45 * 24 - 1]
    assert bars.terms.last.tolist() == cut.market.last.tolist()


def test_a_window_in_which_nobody_has_a_bar_is_an_error(mei_settings: Settings) -> None:
    lake = fill_lake(mei_settings)
    later = walk("AAA", 20, 1, start_ms=START_MS + 40 * DAY_MS).with_columns(venue=pl.lit("other"))
    first = walk("AAA", 1, 1).with_columns(venue=pl.lit("other"))
    merge_candles(lake, pl.concat([first, later]), now_ms=END_MS)
    merge_instruments(lake, read_instruments(lake, VENUE).with_columns(venue=pl.lit("other")), now_ms=END_MS)
    bars = load_bars(lake, "other", "1h", ("AAA",), START_MS, END_MS)
    with pytest.raises(DataError, match="window 2025-01-03 00:00Z to 2025-02-01 00:00Z: no symbol has a 1h bar"):
        cut_window(bars, START_MS + 2 * DAY_MS, START_MS + 31 * DAY_MS)


def test_last_common_bar_is_the_earliest_end(mei_settings: Settings) -> None:
    lake = fill_lake(mei_settings, symbols=("AAA",))
    merge_candles(lake, walk("BBB", 40, 1), now_ms=END_MS)
    assert last_common_ms(lake, VENUE, "1h", ("AAA", "BBB")) == END_MS  # BBB has ended, twenty days before
    assert last_bar_ms(extents_ms(lake, VENUE, "1h", ("AAA", "BBB"))) == END_MS
    merge_candles(lake, walk("CCC", 54, 1), now_ms=END_MS)
    assert last_common_ms(lake, VENUE, "1h", ("AAA", "BBB", "CCC")) == START_MS + 54 * DAY_MS


def funding(lake: Lake, stamp_ms: int, rate: float) -> None:
    frame = pl.DataFrame(
        {
            "venue": VENUE,
            "symbol": "AAA",
            "time_ms": [stamp_ms],
            "rate": [rate],
            "premium": pl.Series([None], dtype=pl.Float64),
            "source": "late",
        }
    )
    merge_funding(lake, frame, now_ms=END_MS + 30 * DAY_MS)


def hash_of(lake: Lake, symbols: tuple[str, ...] = SYMBOLS) -> str:
    return load_bars(lake, VENUE, "1h", symbols, START_MS, START_MS + 40 * DAY_MS).data_hash


@pytest.mark.parametrize(
    ("stamp_ms", "rate", "seen"),
    [
        (8 * HOUR_MS + 37, 0.0002, True),  # revised
        (9 * HOUR_MS, 0.0001, True),  # one that was missing
        (40 * DAY_MS, 0.0002, True),  # due at the very end
        (40 * DAY_MS + 8 * HOUR_MS, 0.0002, False),
        (0, 0.0002, False),  # due when nothing was open yet
    ],
)
def test_the_hash_covers_funding_in_the_slice(mei_settings: Settings, stamp_ms: int, rate: float, seen: bool) -> None:
    lake = fill_lake(mei_settings)
    whole, others = hash_of(lake), hash_of(lake, ("BBB", "CCC"))
    funding(lake, START_MS + stamp_ms, rate)
    assert (hash_of(lake) != whole) == seen
    assert hash_of(lake, ("BBB", "CCC")) == others


@pytest.mark.parametrize(
    ("column", "value", "seen"),
    [
        ("size_decimals", 1, True),
        ("min_notional_usd", 11.0, True),
        ("max_leverage", 5.0, True),
        ("maintenance_margin_frac", 0.06, True),
        ("price_significant", 4, False),  # no simulation rounds a price
    ],
)
def test_the_hash_covers_the_instruments_in_force(
    mei_settings: Settings, column: str, value: float, seen: bool
) -> None:
    lake = fill_lake(mei_settings)
    before = hash_of(lake)
    kind = read_instruments(lake, VENUE).schema[column]
    changed = (
        read_instruments(lake, VENUE).filter(pl.col("symbol") == "BBB").with_columns(pl.lit(value, kind).alias(column))
    )
    later = changed.with_columns(from_ms=START_MS + 50 * DAY_MS)
    merge_instruments(lake, later, now_ms=END_MS)
    assert hash_of(lake) == before
    merge_instruments(lake, changed.with_columns(from_ms=START_MS + 20 * DAY_MS), now_ms=END_MS)
    assert (hash_of(lake) != before) == seen
