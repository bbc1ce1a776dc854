"""A lake with everything that a feed can meet, and feeds without a lake."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from market_kit import DAY_MS, HOUR_MS, VENUE, quarters, walk

from live.feed_server import Taken
from mei_pipeline.candles.instruments import default_instruments
from mei_pipeline.candles.lake import Lake, merge_candles, merge_funding, merge_instruments
from mei_pipeline.execution.events import BarClosed, CaughtUp, FeedEvent, StepClosed

START_MS = 1_737_763_200_000  # 2025-01-25, so that the bars lie in two files
DAYS = 16
END_MS = START_MS + DAYS * DAY_MS
QUARTER_MS = HOUR_MS // 4

HOLED, LATE, ENDED, DELISTED, RELISTED = "AAA", "BBB", "CCC", "DDD", "EEE"
SYMBOLS = (HOLED, LATE, ENDED, DELISTED, RELISTED)

BEGAN_MS = START_MS + 9 * DAY_MS + 7 * HOUR_MS
LAST_BARS_MS = START_MS + 6 * DAY_MS
DELISTED_MS = START_MS + 11 * DAY_MS + 30 * 60_000
CHANGED_MS = START_MS + 5 * DAY_MS + 20 * 60_000


def _bars() -> pl.DataFrame:
    opened = pl.col("open_ms")
    hole = opened.is_between(START_MS + 4 * DAY_MS, START_MS + 4 * DAY_MS + 5 * HOUR_MS)
    away = opened.is_between(DELISTED_MS, DELISTED_MS + 2 * DAY_MS)
    kept = {
        HOLED: ~hole,
        LATE: opened >= BEGAN_MS,
        ENDED: opened < LAST_BARS_MS,
        DELISTED: opened < DELISTED_MS,
        RELISTED: ~away,
    }
    hourly = {name: walk(name, DAYS, 1, start_ms=START_MS) for name in SYMBOLS}
    frames = [frame.filter(kept[name]) for name, each in hourly.items() for frame in (each, quarters(each))]
    return pl.concat(frames)


def _funding() -> pl.DataFrame:
    """Hourly payments with stamps up to 50 minutes late or 20 s early, before the first bar and after the last, too."""
    rng = np.random.default_rng(5)
    hours = START_MS + HOUR_MS * np.arange(DAYS * 24 + 1, dtype=np.int64)
    return pl.concat(
        [
            pl.DataFrame(
                {
                    "venue": VENUE,
                    "symbol": name,
                    "time_ms": hours + rng.choice([-20_000, 0, 41, 50 * 60_000], len(hours)),
                    "rate": rng.normal(0.0, 1e-4, len(hours)),
                    "premium": pl.Series([None] * len(hours), dtype=pl.Float64),
                    "source": "walk",
                }
            )
            for name in SYMBOLS
        ]
    )


def _instruments() -> pl.DataFrame:
    base = default_instruments(VENUE, dict.fromkeys(SYMBOLS, 100.0)).with_columns(source=pl.lit("venue"))

    def rows(name: str, from_ms: int, **values: object) -> pl.DataFrame:
        changed = {key: pl.lit(value, base.schema[key]) for key, value in values.items()}
        return base.filter(pl.col("symbol") == name).with_columns(from_ms=pl.lit(from_ms, pl.Int64), **changed)

    return pl.concat(
        [
            base.filter(pl.col("symbol") != LATE),
            rows(LATE, BEGAN_MS),
            rows(HOLED, CHANGED_MS, max_leverage=5.0),
            rows(HOLED, CHANGED_MS + 60_000, max_leverage=3.0, size_decimals=1),
            rows(ENDED, LAST_BARS_MS + DAY_MS, max_leverage=4.0),
            rows(DELISTED, START_MS + 9 * DAY_MS, delisted_ms=DELISTED_MS),
            rows(RELISTED, DELISTED_MS, delisted_ms=DELISTED_MS),
            rows(RELISTED, DELISTED_MS + 2 * DAY_MS, min_notional_usd=20.0),
            rows(RELISTED, START_MS + 14 * DAY_MS, min_notional_usd=20.0, delisted_ms=START_MS + 15 * DAY_MS),
        ]
    )


def rich_lake(lake: Lake) -> Lake:
    """Fill a lake: a hole, a late begin, an end without a delisting, delistings, terms that change, funding."""
    for bars in _bars().partition_by("interval"):
        merge_candles(lake, bars, now_ms=END_MS + DAY_MS)
    merge_funding(lake, _funding(), now_ms=END_MS + DAY_MS)
    merge_instruments(lake, _instruments(), now_ms=END_MS + DAY_MS)
    return lake


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def step(number: int) -> list[FeedEvent]:
    """The events of the n-th hourly step of one symbol."""
    open_ms = START_MS + number * HOUR_MS
    price = 100.0 + math.sin(number) / 3.0
    bar = BarClosed(
        venue_ms=open_ms + HOUR_MS,
        symbol="AAA",
        interval="1h",
        open_ms=open_ms,
        open=price,
        high=price + 0.1,
        low=price - 0.1,
        close=price,
        volume=1.5,
    )
    return [bar, StepClosed(venue_ms=open_ms + HOUR_MS, step_ms=open_ms, present=("AAA",))]


@dataclass
class ListStream:
    """A stream of steps that are due at once; of a real-time one, those that the test has put there."""

    waiting: list[list[FeedEvent]]
    realtime: bool = False
    ended: str = ""
    rooms: list[int] = field(default_factory=list)

    def snapshot(self) -> Sequence[FeedEvent]:
        return [CaughtUp(venue_ms=START_MS)]

    def take(self, now_s: float, room: int) -> Taken:  # noqa: ARG002 - the steps are due at once
        self.rooms.append(room)
        count = len(self.waiting) if self.realtime else room
        due, self.waiting = self.waiting[:count], self.waiting[count:]
        return Taken(due, math.inf, "" if self.waiting else self.ended)

    def now_ms(self, now_s: float) -> int:
        return round(now_s * 1000.0)
