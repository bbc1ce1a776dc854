"""Features on main bars, entries and exits at the closes of shorter ones: where steps lie and what each one knows."""

from collections.abc import Iterable

import numpy as np
import polars as pl
import pytest
from example_kit import examples
from hypothesis import given
from hypothesis import strategies as st
from market_kit import DAY_MS, HOUR_MS, SYMBOLS, VENUE, fill_lake, spec

from mei_pipeline.candles.instruments import default_instruments
from mei_pipeline.candles.intervals import INTERVALS, Intervals, interval_ms
from mei_pipeline.candles.lake import Lake, merge_candles, merge_funding, merge_instruments
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.extents import common_symbols, last_common_ms
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.simulation.window import cut_window
from mei_pipeline.sweep.plan import make_plan

START_MS = 1_735_689_600_000  # 2025-01-01
DAYS = 18
END_MS = START_MS + DAYS * DAY_MS
NOW_MS = END_MS + DAY_MS
USED = Intervals("1h", "30m", "15m")
QUARTER_MS = HOUR_MS // 4


def candles(symbol: str, interval: str, opens: Iterable[int]) -> pl.DataFrame:
    """A bar at each index of `opens` on the interval's grid; the price says which bar it is."""
    index = pl.Series(list(opens), dtype=pl.Int64)
    price = 100.0 + index * interval_ms(interval) / HOUR_MS
    return pl.DataFrame(
        {
            "venue": VENUE,
            "symbol": symbol,
            "interval": interval,
            "open_ms": START_MS + index * interval_ms(interval),
            "open": price,
            "high": price + 2.0,
            "low": price - 2.0,
            "close": price + 1.0,
            "volume": 1.0 + index,
            "trades": pl.Series([None] * len(index), dtype=pl.Int64),
            "source": "steps",
        }
    )


def lake_of(settings: Settings, *frames: pl.DataFrame) -> Lake:
    lake = Lake(settings.lake)
    for frame in frames:
        merge_candles(lake, frame, now_ms=NOW_MS)
    names = {name for frame in frames for name in frame["symbol"].unique()}
    merge_instruments(lake, default_instruments(VENUE, dict.fromkeys(sorted(names), 100.0)), now_ms=NOW_MS)
    return lake


def whole(symbol: str, first_day: int = 0) -> list[pl.DataFrame]:
    hours, quarters = range(first_day * 24, DAYS * 24), range(first_day * 96, DAYS * 96)
    return [candles(symbol, "1h", hours), candles(symbol, "15m", quarters)]


def load(lake: Lake, *names: str, used: Intervals | str = USED) -> Bars:
    return load_bars(lake, VENUE, used, names, START_MS, END_MS)


def test_quarters_of_an_hour_by_hand(mei_settings: Settings) -> None:
    bars = load(lake_of(mei_settings, *whole("AAA")), "AAA")
    market = cut_window(bars, START_MS, END_MS).market
    assert list((bars.steps.open_ms[:5] - START_MS) // QUARTER_MS) == [0, 1, 2, 3, 4]
    assert list(market.row[:13]) == [-1, -1, -1, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert list(market.previous_row[:13]) == [-1, -1, -1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2]
    assert list(market.enters[:8]) == [0, 1, 0, 1, 0, 1, 0, 1]
    assert list(market.exits[:8]) == [1] * 8
    assert list(market.age[:9, 0]) == [-1, -1, -1, 0, 0, 0, 0, 1, 1]
    assert list(market.close[:3, 0]) == [101.0, 101.25, 101.5]
    assert list(bars.prices[3, :3, 0]) == [101.0, 102.0, 103.0]
    assert list(bars.volume[:3, 0]) == [1.0, 2.0, 3.0]
    assert market.minutes.tolist() == [15.0]
    assert len(market.row) == DAYS * 96
    assert bars.candles == DAYS * (24 + 96)


def test_exits_may_be_rarer_than_entries(mei_settings: Settings) -> None:
    bars = load(lake_of(mei_settings, *whole("AAA")), "AAA", used=Intervals("1h", "15m"))
    assert bars.steps.interval == "15m"
    assert list(bars.steps.enters[:8]) == [1] * 8
    assert list(bars.steps.exits[:8]) == [0, 0, 0, 1, 0, 0, 0, 1]


def test_an_interval_between_main_and_step_needs_no_bars(mei_settings: Settings) -> None:
    assert USED.read == ("1h", "15m")
    lake = lake_of(mei_settings, *whole("AAA"))
    assert common_symbols(lake, VENUE, USED) == (["AAA"], {})
    assert last_common_ms(lake, VENUE, USED, ["AAA"]) == END_MS


def test_window_counts_steps(mei_settings: Settings) -> None:
    bars = load(lake_of(mei_settings, *whole("AAA")), "AAA")
    cut = cut_window(bars, START_MS + DAY_MS, END_MS - DAY_MS)
    assert (cut.first, cut.last, cut.days) == (96, 17 * 96, 16)
    ends = np.flatnonzero(cut.market.day_end)
    assert ends.tolist() == [96 * day + 95 for day in range(1, 17)]
    assert cut.market.block[ends].tolist() == list(range(16))


def test_a_missing_quarter_is_no_step_and_a_missing_hour_does_not_age(mei_settings: Settings) -> None:
    hours = candles("AAA", "1h", (hour for hour in range(DAYS * 24) if hour != 2))
    quarters = candles("AAA", "15m", (quarter for quarter in range(DAYS * 96) if quarter not in {5, 7}))
    bars = load(lake_of(mei_settings, hours, quarters), "AAA")
    steps = bars.steps
    assert np.flatnonzero(~steps.present[:96, 0]).tolist() == [5, 7]
    assert np.isnan(steps.prices[:, [5, 7], 0]).all()
    mark = cut_window(bars, START_MS, END_MS).market.last_price
    assert list(mark[4:9, 0]) == [102.0, 102.0, 102.5, 102.5, 103.0]
    # The third hour is missing: after its close the symbol is as old as before it.
    assert list(steps.age[:17, 0]) == [-1, -1, -1, 0, 0, -1, 0, -1, 1, 1, 1, 1, 1, 1, 1, 2, 2]
    assert list(bars.age[:5, 0]) == [0, 1, -1, 2, 3]


def test_a_symbol_that_is_listed_later_starts_young(mei_settings: Settings) -> None:
    bars = load(lake_of(mei_settings, *whole("AAA"), *whole("NEW", first_day=2)), "AAA", "NEW")
    listed = 2 * 96
    assert not bars.steps.present[:listed, 1].any()
    assert list(bars.steps.age[listed - 1 : listed + 8, 1]) == [-1, -1, -1, -1, 0, 0, 0, 0, 1]
    assert list(bars.steps.age[listed : listed + 4, 0]) == [47, 47, 47, 48]


def test_quarters_that_begin_later_are_no_steps_before(mei_settings: Settings) -> None:
    lake = lake_of(mei_settings, candles("AAA", "1h", range(DAYS * 24)), candles("AAA", "15m", range(96, DAYS * 96)))
    bars = load(lake, "AAA")
    assert not bars.steps.present[:96].any()
    assert list(bars.steps.age[95:97, 0]) == [-1, 23]


@pytest.mark.parametrize(
    ("stamp_ms", "step"),
    [
        (8 * HOUR_MS, 31),
        (8 * HOUR_MS + 40 * 60_000, 31),
        (8 * HOUR_MS - 20_000, 31),
        (9 * HOUR_MS + 1, 35),
        (DAYS * DAY_MS + 59 * 60_000, DAYS * 96 - 1),
    ],
)
def test_funding_falls_in_the_step_that_closes_when_it_is_due(mei_settings: Settings, stamp_ms: int, step: int) -> None:
    lake = lake_of(mei_settings, *whole("AAA"))
    columns = {"venue": VENUE, "symbol": "AAA", "time_ms": [START_MS + stamp_ms], "rate": 0.003, "source": "x"}
    merge_funding(lake, pl.DataFrame(columns | {"premium": pl.Series([None], dtype=pl.Float64)}), now_ms=NOW_MS)
    funding = load(lake, "AAA").steps.funding
    assert np.flatnonzero(funding[:, 0]).tolist() == [step]
    assert funding[step, 0] == 0.003
    hourly = load(lake, "AAA", used="1h").steps.funding
    assert np.flatnonzero(hourly[:, 0]).tolist() == [step // 4]


def test_funding_due_at_the_anchor_belongs_to_nobody(mei_settings: Settings) -> None:
    lake = lake_of(mei_settings, *whole("AAA"))
    columns = {"venue": VENUE, "symbol": "AAA", "time_ms": [START_MS + 5], "rate": 0.003, "source": "x"}
    merge_funding(lake, pl.DataFrame(columns | {"premium": pl.Series([None], dtype=pl.Float64)}), now_ms=NOW_MS)
    assert not load(lake, "AAA").steps.funding.any()


def test_with_one_interval_the_steps_are_the_main_bars(mei_settings: Settings) -> None:
    bars = load(lake_of(mei_settings, *whole("AAA")), "AAA", used=Intervals("1h", "1h", "1h"))
    assert bars.intervals == Intervals("1h")
    assert bars.steps.prices is bars.prices
    assert bars.steps.age is bars.age
    assert bars.steps.open_ms is bars.open_ms
    assert np.shares_memory(cut_window(bars, START_MS, END_MS).market.close, bars.prices)
    assert bars.steps.row.tolist() == list(range(DAYS * 24))
    assert bars.steps.previous_row.tolist() == [0, *range(DAYS * 24 - 1)]
    assert bars.steps.enters.all()
    assert bars.steps.exits.all()
    assert bars.candles == DAYS * 24


def test_the_hash_covers_every_interval_that_is_read(mei_settings: Settings) -> None:
    lake = lake_of(mei_settings, *whole("AAA"))
    one, three = load(lake, "AAA", used="1h").data_hash, load(lake, "AAA").data_hash
    assert one != three
    merge_candles(lake, candles("AAA", "15m", [7]).with_columns(volume=pl.lit(9.5)), now_ms=NOW_MS)
    assert load(lake, "AAA", used="1h").data_hash == one
    assert load(lake, "AAA").data_hash != three


def test_groups_and_the_benchmark_are_left_to_the_combos(mei_settings: Settings) -> None:
    names = ("AAA", "BTC")
    lake = lake_of(mei_settings, *(candles(name, "1h", range(DAYS * 24)) for name in names))
    market = cut_window(load(lake, *names, used="1h"), START_MS, END_MS).market
    assert market.benchmark.tolist() == [-1]
    assert market.symbol_group.tolist() == [0] * len(names)
    assert market.minutes.tolist() == [60.0]


def test_a_symbol_without_quarters_is_named(mei_settings: Settings) -> None:
    lake = lake_of(mei_settings, *whole("AAA"), candles("BBB", "1h", range(DAYS * 24)))
    assert common_symbols(lake, VENUE, USED) == (["AAA"], {"BBB": "no 15m bars in the lake"})
    with pytest.raises(DataError, match=r"no 15m bar of BBB .* nor at any other time"):
        load(lake, "AAA", "BBB")
    with pytest.raises(DataError, match="no 15m bar of BBB"):
        last_common_ms(lake, VENUE, USED, ("AAA", "BBB"))
    with pytest.raises(DataError, match="no 5m bars of test"):
        common_symbols(lake, VENUE, Intervals("1h", "5m"))


def test_the_last_common_time_is_of_the_interval_that_ends_first(mei_settings: Settings) -> None:
    lake = lake_of(mei_settings, candles("AAA", "1h", range(100)), candles("AAA", "15m", range(390)))
    assert last_common_ms(lake, VENUE, USED, ("AAA",)) == START_MS + 390 * QUARTER_MS
    assert last_common_ms(lake, VENUE, "1h", ("AAA",)) == START_MS + 100 * HOUR_MS


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("1h", "4h"), "entry_interval: '4h' does not divide the interval 1h; allowed: 1m, 3m, 5m, 15m, 30m, 1h"),
        (("5m", "3m"), "entry_interval: '3m' does not divide the interval 5m; allowed: 1m, 5m"),
        (("1h", "", "1d"), "exit_interval: '1d' does not divide"),
        (("1h", "5m", "3m"), "exit_interval: '3m' beside the entry interval 5m: 3m does not divide 5m"),
        (("2h",), "interval '2h' is not known"),
        (("1h", "7m"), "interval '7m' is not known"),
    ],
)
def test_intervals_that_do_not_divide_are_refused(names: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Intervals(*names)


def test_a_plan_is_another_one_at_other_intervals(mei_settings: Settings) -> None:
    lake = lake_of(mei_settings, *whole("AAA"))
    plans = [
        make_plan(spec(**keys), load(lake, "AAA", used=spec(**keys).intervals), START_MS, END_MS)
        for keys in (
            {},
            {"entry_interval": "1h", "exit_interval": "1h"},
            {"exit_interval": "15m"},
            {"entry_interval": "15m"},
        )
    ]
    assert plans[0] == plans[1]
    assert len({plan.id for plan in plans}) == 3
    assert [plan.intervals.step for plan in plans] == ["1h", "1h", "15m", "15m"]


def test_an_hourly_lake_is_loaded_as_before(mei_settings: Settings) -> None:
    bars = load_bars(fill_lake(mei_settings), VENUE, "1h", SYMBOLS, START_MS, START_MS + 60 * DAY_MS)
    assert (bars.interval, bars.interval_ms, bars.steps.step_ms) == ("1h", HOUR_MS, HOUR_MS)


TRIPLES = [
    (main, entry, leave)
    for main in ("15m", "1h", "4h")
    for entry in ("5m", "15m", "30m", "1h")
    for leave in ("5m", "15m", "1h")
    if max(interval_ms(entry), interval_ms(leave)) <= interval_ms(main)
]


# Each example writes a lake.
@examples(25)
@given(st.sampled_from(TRIPLES), st.integers(0, 20), st.randoms(use_true_random=False))
def test_every_step_knows_the_last_main_bar_that_has_closed(tmp_path_factory, triple, shift, rng) -> None:
    """Against the definition: look at every main bar and ask whether it has closed."""
    used = Intervals(*triple)
    anchor_ms = START_MS + shift * used.main_ms
    end_ms = anchor_ms + 12 * used.main_ms
    lake = Lake(tmp_path_factory.mktemp("lake"))
    frames = []
    for interval in used.read:
        count = (end_ms - START_MS) // INTERVALS[interval]
        frames.append(candles("AAA", interval, sorted({0, count - 1, *rng.sample(range(count), count * 3 // 4)})))
    for frame in frames:
        merge_candles(lake, frame, now_ms=NOW_MS)
    merge_instruments(lake, default_instruments(VENUE, {"AAA": 100.0}), now_ms=NOW_MS)
    bars = load_bars(lake, VENUE, used, ("AAA",), anchor_ms, end_ms)
    mains = [anchor_ms + index * used.main_ms for index in range(12)]
    held = set(frames[0]["open_ms"])
    fine = set(frames[-1]["open_ms"])
    for t, opened in enumerate(bars.steps.open_ms.tolist()):
        close = opened + used.step_ms
        closed = [index for index, main in enumerate(mains) if main + used.main_ms <= close]
        row = closed[-1] if closed else -1
        on_close = row >= 0 and mains[row] + used.main_ms == close
        assert bars.steps.row[t] == row
        assert bars.steps.previous_row[t] == (max(row - 1, 0) if on_close else row)
        assert bars.steps.enters[t] == int(close % interval_ms(triple[1]) == 0)
        assert bars.steps.exits[t] == int(close % interval_ms(triple[2]) == 0)
        old = sum(mains[index] in held for index in closed) - 1
        assert bars.steps.age[t, 0] == (old if opened in fine else -1)
