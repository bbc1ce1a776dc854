"""From the lake to events: the same numbers that a simulation reads."""

from pathlib import Path

import numpy as np
import pytest
from feed_kit import (
    BEGAN_MS,
    CHANGED_MS,
    DELISTED,
    DELISTED_MS,
    END_MS,
    ENDED,
    HOLED,
    LAST_BARS_MS,
    LATE,
    QUARTER_MS,
    RELISTED,
    START_MS,
    SYMBOLS,
    rich_lake,
)
from market_kit import DAY_MS, HOUR_MS, VENUE, fill_lake
from market_kit import START_MS as MARKET_START_MS

from mei_pipeline.candles.intervals import Intervals, interval_ms
from mei_pipeline.candles.lake import Lake
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.execution.events import (
    BarClosed,
    BarMissing,
    CaughtUp,
    FeedEvent,
    FundingRate,
    InstrumentChanged,
    StepClosed,
)
from mei_pipeline.execution.lake_events import lake_events, open_slice, snapshot_of, steps_of
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.loading import load_bars

BOTH = ("15m", "1h")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return rich_lake(Lake(tmp_path_factory.mktemp("feed") / "lake"))


@pytest.fixture(scope="module")
def steps(lake: Lake) -> list[list[FeedEvent]]:
    return list(steps_of(open_slice(lake, VENUE, SYMBOLS, BOTH, START_MS)))


def prices_of(events: list[FeedEvent], interval: str, length: int) -> np.ndarray:
    """Open, high, low, close and volume by time and symbol, [5, T, S]."""
    values = np.full((5, length, len(SYMBOLS)), np.nan)
    for event in events:
        if isinstance(event, BarClosed) and event.interval == interval:
            t = (event.open_ms - START_MS) // interval_ms(interval)
            bar = (event.open, event.high, event.low, event.close, event.volume)
            values[:, t, SYMBOLS.index(event.symbol)] = bar
    return values


def check_terms(bars: Bars, steps: list[list[FeedEvent]], snapshot: list[FeedEvent]) -> None:
    """Terms by step, and steps at which symbols end, as `Terms` has them."""
    held = {event.symbol: event for event in snapshot if isinstance(event, InstrumentChanged)}
    for t, events in enumerate(steps):
        held |= {event.symbol: event for event in events if isinstance(event, InstrumentChanged)}
        version = np.searchsorted(bars.terms.since, t, side="right") - 1
        for s, symbol in enumerate(bars.symbols):
            terms = held[symbol]
            assert 10.0**terms.size_decimals == bars.terms.lots[version, s]
            assert terms.min_notional_usd == bars.terms.min_notional_usd[version, s]
            assert terms.max_leverage == bars.terms.max_leverage[version, s]
            assert terms.maintenance_margin_frac == bars.terms.maintenance_frac[version, s]
            assert (terms.last_open_ms == bars.steps.open_ms[t]) == (bars.terms.last[version, s] == t)


@pytest.mark.parametrize("intervals", [Intervals("1h", "15m"), Intervals("1h")])
def test_events_are_the_arrays_of_a_simulation(lake: Lake, intervals: Intervals) -> None:
    bars = load_bars(lake, VENUE, intervals, SYMBOLS, START_MS, END_MS)
    part = open_slice(lake, VENUE, SYMBOLS[::-1], intervals.read, START_MS)
    steps = list(steps_of(part))
    events = [event for each in steps for event in each]
    main = prices_of(events, "1h", len(bars.open_ms))
    assert np.array_equal(main[:4], bars.prices, equal_nan=True)
    assert np.array_equal(main[4], bars.volume, equal_nan=True)
    fine = prices_of(events, intervals.step, len(bars.steps.open_ms))
    assert np.array_equal(fine[:4], bars.steps.prices, equal_nan=True)
    closed = [event for event in events if isinstance(event, StepClosed)]
    assert [event.step_ms for event in closed] == bars.steps.open_ms.tolist()
    assert [[name in event.present for name in SYMBOLS] for event in closed] == bars.steps.present.tolist()
    check_terms(bars, steps, snapshot_of(part))


def test_funding_is_the_sum_of_a_simulation_while_a_symbol_trades(lake: Lake, steps: list[list[FeedEvent]]) -> None:
    bars = load_bars(lake, VENUE, Intervals("1h", "15m"), SYMBOLS, START_MS, END_MS)
    sums = np.zeros_like(bars.steps.funding)
    for t, events in enumerate(steps):
        for event in events:
            if isinstance(event, FundingRate):
                assert bars.steps.open_ms[t] < event.due_ms <= bars.steps.close_ms[t]
                sums[t, SYMBOLS.index(event.symbol)] += event.rate
    seen = np.cumsum(bars.steps.present, axis=0) > 0
    for ending in bars.endings:
        if not bars.steps.present[ending.step + 1 :, ending.symbol].any():
            seen[ending.step + 1 :, ending.symbol] = False
    assert np.array_equal(sums, np.where(seen, bars.steps.funding, 0.0))
    assert (bars.steps.funding[~seen] != 0.0).any()


def test_the_order_within_a_step(steps: list[list[FeedEvent]]) -> None:
    """A step at whose end both intervals close, funding is due, and a bar is missing."""
    close_ms = START_MS + 4 * DAY_MS + HOUR_MS
    events = steps[(close_ms - START_MS) // QUARTER_MS - 1]
    begun = [name for name in SYMBOLS if name != LATE]
    others = [name for name in begun if name != HOLED]
    assert [
        (type(event).__name__, getattr(event, "interval", ""), getattr(event, "symbol", "")) for event in events
    ] == [
        *(("BarClosed", "15m", name) for name in others),
        *(("BarClosed", "1h", name) for name in others),
        ("BarMissing", "15m", HOLED),
        ("BarMissing", "1h", HOLED),
        *(("FundingRate", "", name) for name in begun),
        ("StepClosed", "", ""),
    ]
    assert {event.venue_ms for event in events} == {close_ms}


def test_a_symbol_is_missing_only_between_its_first_and_its_last_bar(steps: list[list[FeedEvent]]) -> None:
    missing = [event for events in steps for event in events if isinstance(event, BarMissing)]
    assert {event.symbol for event in missing} == {HOLED, RELISTED}
    hours = [event.open_ms for event in missing if (event.symbol, event.interval) == (HOLED, "1h")]
    assert hours == [START_MS + 4 * DAY_MS + hour * HOUR_MS for hour in range(6)]


def test_a_symbol_that_only_lags_is_missing(lake: Lake) -> None:
    """Bars that stop less than seven days before the others may still come."""
    to_ms = LAST_BARS_MS + DAY_MS // 2
    events = lake_events(lake, VENUE, (HOLED, ENDED), BOTH, LAST_BARS_MS, to_ms)
    missing = [event for event in events if isinstance(event, BarMissing) and event.interval == "1h"]
    assert [event.open_ms for event in missing if event.symbol == ENDED] == list(range(LAST_BARS_MS, to_ms, HOUR_MS))


def test_terms_and_ends_come_with_their_step(steps: list[list[FeedEvent]]) -> None:
    changes = [
        (START_MS + t * QUARTER_MS, event.symbol, event.max_leverage, event.min_notional_usd, event.last_open_ms)
        for t, events in enumerate(steps)
        for event in events
        if isinstance(event, InstrumentChanged)
    ]
    last_ms = DELISTED_MS - QUARTER_MS
    again_ms = START_MS + 15 * DAY_MS - QUARTER_MS
    assert changes == [
        (CHANGED_MS // QUARTER_MS * QUARTER_MS, HOLED, 3.0, 10.0, None),
        (LAST_BARS_MS - QUARTER_MS, ENDED, 10.0, 10.0, LAST_BARS_MS - QUARTER_MS),
        (LAST_BARS_MS + DAY_MS - QUARTER_MS, ENDED, 4.0, 10.0, LAST_BARS_MS - QUARTER_MS),
        (last_ms, DELISTED, 10.0, 10.0, last_ms),
        (last_ms, RELISTED, 10.0, 10.0, last_ms),
        (DELISTED_MS, RELISTED, 10.0, 10.0, None),
        (DELISTED_MS + 2 * DAY_MS - QUARTER_MS, RELISTED, 10.0, 20.0, None),
        (again_ms, RELISTED, 10.0, 20.0, again_ms),
        (again_ms + QUARTER_MS, RELISTED, 10.0, 20.0, None),
    ]


@pytest.mark.parametrize(
    "from_ms",
    [
        BEGAN_MS,
        START_MS + 4 * DAY_MS + 3 * HOUR_MS + QUARTER_MS,  # in a hole, inside a main bar
        LAST_BARS_MS + QUARTER_MS,
        DELISTED_MS,
        END_MS,
    ],
)
def test_a_later_begin_gives_the_rest_of_the_steps(lake: Lake, steps: list[list[FeedEvent]], from_ms: int) -> None:
    done = (from_ms - START_MS) // QUARTER_MS
    part = open_slice(lake, VENUE, SYMBOLS, BOTH, from_ms)
    assert list(steps_of(part)) == steps[done:]
    *terms, caught_up = snapshot_of(part)
    assert caught_up == CaughtUp(venue_ms=from_ms)
    before = snapshot_of(open_slice(lake, VENUE, SYMBOLS, BOTH, START_MS))[:-1]
    held = {event.symbol: event for event in before if isinstance(event, InstrumentChanged)}
    held |= {event.symbol: event for each in steps[:done] for event in each if isinstance(event, InstrumentChanged)}
    content = [(event.symbol, event.from_ms, event.max_leverage, event.last_open_ms) for event in terms]
    assert content == [
        (name, *(held[name].from_ms, held[name].max_leverage, held[name].last_open_ms)) for name in SYMBOLS
    ]


def test_pieces_of_any_size_give_the_same_steps(lake: Lake, steps: list[list[FeedEvent]]) -> None:
    part = open_slice(lake, VENUE, SYMBOLS, BOTH, START_MS + QUARTER_MS)
    assert list(steps_of(part, rows=3 * 96 * len(SYMBOLS))) == steps[1:]


def test_steps_reach_the_end_of_the_last_complete_step(lake: Lake) -> None:
    assert open_slice(lake, VENUE, SYMBOLS, BOTH, START_MS).end_ms == END_MS
    cut_ms = END_MS - HOUR_MS - QUARTER_MS
    assert open_slice(lake, VENUE, SYMBOLS, BOTH, START_MS, cut_ms + 1).end_ms == cut_ms


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"symbols": ()}, ConfigError, "symbols: the list is empty"),
        ({"intervals": ()}, ConfigError, "intervals: the list is empty"),
        ({"intervals": ("1h", "7m")}, ConfigError, "interval '7m' is not known"),
        ({"intervals": ("5m", "3m")}, ConfigError, "5m is no multiple of 3m"),
        ({"intervals": ("4h",)}, DataError, "no 4h bars of test"),
        ({"venue": "other"}, DataError, "no 15m bars of other"),
        ({"symbols": ("AAA", "ZZZ")}, DataError, "no 15m bar of ZZZ at test before 2025-02-10 00:00Z"),
        ({"symbols": (LATE,), "to_ms": BEGAN_MS}, DataError, "no 15m bar of BBB at test before 2025-02-03 07:00Z"),
        ({"from_ms": START_MS + 1}, ConfigError, "must lie on the 15m grid"),
        ({"to_ms": START_MS - QUARTER_MS}, ConfigError, "to_ms .* before from_ms, 2025-01-25 00:00Z"),
        (
            {"from_ms": END_MS + 2 * QUARTER_MS},
            DataError,
            "no bars of AAA, 15m at test from 2025-02-10 00:00Z to 2025-02-10 00:15Z, but .* from 2025-02-10 00:30Z",
        ),
        (
            {"from_ms": END_MS + 2 * HOUR_MS, "intervals": ("1h",), "symbols": (ENDED, "AAA")},
            DataError,
            "no bars of AAA, 1h at test from 2025-02-10 00:00Z to 2025-02-10 01:00Z, but .*`mei ingest`",
        ),
        (
            {"from_ms": START_MS - 3 * QUARTER_MS},
            DataError,
            "no bars of AAA, 15m at test from 2025-01-24 23:15Z to 2025-01-24 23:45Z, but .*`mei ingest`",
        ),
    ],
)
def test_what_the_lake_lacks_is_named(
    lake: Lake, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    wanted = {"venue": VENUE, "symbols": SYMBOLS, "intervals": BOTH, "from_ms": START_MS} | changes
    with pytest.raises(error, match=message):
        open_slice(lake, **wanted)


def test_an_empty_lake_and_an_unknown_instrument_are_named(tmp_path: Path, mei_settings: Settings) -> None:
    with pytest.raises(DataError, match="no 1h bars of test; run `mei ingest`"):
        open_slice(Lake(tmp_path / "lake"), VENUE, SYMBOLS, ("1h",), START_MS)
    lake = fill_lake(mei_settings, days=2, symbols=("AAA",))
    for path in (lake.root / "instruments" / VENUE).iterdir():
        path.unlink()
    with pytest.raises(DataError, match="unknown instrument AAA at test; run `mei ingest` for it"):
        open_slice(lake, VENUE, ("AAA",), ("1h",), MARKET_START_MS)
