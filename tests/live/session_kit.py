"""A home with a lane on a small synthetic market, sessions on it without a feed process, and what they leave."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from live.bench_home import LANE, home_settings, lane_config, make_lane_home
from live.feed_protocol import FeedEnded, Subscribe
from live.lane_feed import Feed, OpenFeed
from live.running import LaneOptions, Watch
from live.session import LaneResult, run_lane
from mei_pipeline.candles.intervals import DAY_MS, HOUR_MS
from mei_pipeline.candles.lake import Lake
from mei_pipeline.candles.sources.synthetic import SyntheticMarket
from mei_pipeline.execution.events import FeedEvent
from mei_pipeline.execution.journal.opening import journal_path
from mei_pipeline.execution.journal.reader import last_checkpoint
from mei_pipeline.execution.lake_events import open_slice, snapshot_of, steps_of
from mei_pipeline.settings import Settings

START_MS = 1_735_689_600_000  # 2025-01-01
SYMBOLS = ("BTC", "ETH")
MARKET = SyntheticMarket(seed=3, symbols=SYMBOLS, to_ms=START_MS + 4 * DAY_MS)
WINDOWS = {"indicators.ema_fast_window": 3, "indicators.ema_slow_window": 9, "entry.warmup_bars": 20}
CONFIG = lane_config("ema_cross", SYMBOLS, WINDOWS)
OTHER = lane_config("ema_cross", SYMBOLS, {**WINDOWS, "indicators.ema_slow_window": 6})
"""A config that may replace the first."""
FROM_MS = START_MS + 2 * DAY_MS + 6 * HOUR_MS
TO_MS = FROM_MS + 14 * HOUR_MS
"""A span in which the lane enters, adds nothing, reverses, and holds a position at the end."""

CHANGE_MS = FROM_MS + 4 * HOUR_MS
"""A step at whose end the lane holds a position."""

ORDER = "origin, symbol, purpose, attempt, state, lots, tif, reduce_only, expires_ms, filled_lots, reason, created_ms"
QUERIES = {
    "orders": f"SELECT {ORDER} FROM orders ORDER BY origin, symbol, purpose, attempt",  # noqa: S608 - names above
    "fills": "SELECT kind, time_ms, step, symbol, reason, moment, size, price, fee_usd, cash_usd, held, signal, trade, "
    "key, cloid FROM fills ORDER BY seq, part",
    "funding": "SELECT time_ms, step, symbol, usd, cash_usd, price, held, trade FROM funding ORDER BY seq, part",
    "trades": "SELECT * FROM trades ORDER BY trade",
    "positions": "SELECT * FROM positions ORDER BY symbol",
    "decisions": "SELECT * FROM decisions ORDER BY step_ms, symbol",
    "equity": "SELECT * FROM equity ORDER BY step_ms",
    "holds": "SELECT name, symbol, effect, lifted_ms FROM holds ORDER BY name",
}
"""What two lanes that did the same have alike."""


def make_home(home: Path, cache: Path | None = None) -> Settings:
    """Make the home, and return its settings."""
    settings = home_settings(home, cache)
    make_lane_home(settings, MARKET, CONFIG)
    return settings


def copy_home(home: Path, to: Path) -> Settings:
    """Copy a home whose lane has run; its journal belongs to the copy, with the same ids."""
    shutil.copytree(home, to)
    settings = home_settings(to, to / "cache")
    with closing(sqlite3.connect(journal_path(settings.lanes, LANE))) as connection:
        connection.execute("UPDATE meta SET folder = ''")
        connection.commit()
    return settings


class Steps:
    """A feed in this process that hands out the lake in pieces of `size` events, whatever the steps are."""

    now_ms: int | None = None

    def __init__(self, events: Sequence[FeedEvent], size: int) -> None:
        self._events = list(events)
        self._size = size
        self.acknowledged = 0

    def read(self, timeout_s: float) -> list[FeedEvent]:  # noqa: ARG002 - nothing to wait for
        if not self._events:
            raise FeedEnded("the lake ends here")
        piece, self._events = self._events[: self._size], self._events[self._size :]
        return piece

    def ack(self) -> None:
        self.acknowledged += 1


_known: dict[tuple[Subscribe, int | None], list[FeedEvent]] = {}


def events_of(settings: Settings, wanted: Subscribe, to_ms: int | None = None) -> list[FeedEvent]:
    """Everything that a replay of the lake sends to a subscription."""
    part = open_slice(Lake(settings.lake), wanted.venue, wanted.symbols, wanted.intervals, wanted.from_ms, to_ms)
    return [*snapshot_of(part), *(event for step in steps_of(part) for event in step)]


def feed_of(settings: Settings, to_ms: int | None = TO_MS, size: int = 3) -> OpenFeed:
    """Opens feeds of the lake of `make_home` in this process."""

    @contextmanager
    def open_feed(wanted: Subscribe) -> Generator[Feed]:
        if (wanted, to_ms) not in _known:
            _known[wanted, to_ms] = events_of(settings, wanted, to_ms)
        yield Steps(_known[wanted, to_ms], size)

    return open_feed


def run_session(
    settings: Settings, watch: Watch | None = None, open_feed: OpenFeed | None = None, **options: Any
) -> LaneResult:
    """Run the lane over the span, or until something ends it."""
    chosen = LaneOptions(LANE, **{"speed": inf, "from_ms": FROM_MS, "durable": True, **options})
    return run_lane(settings, chosen, watch or Watch(), open_feed or feed_of(settings))


def left_in(settings: Settings, lane: str = LANE) -> dict[str, Any]:
    """What a lane has left in its journal, without the random id of the journal; and proofs about it."""
    with closing(sqlite3.connect(journal_path(settings.lanes, lane))) as connection:
        book_id = connection.execute("SELECT book_id FROM meta").fetchone()[0]
        tables = {name: connection.execute(query).fetchall() for name, query in QUERIES.items()}
        found = last_checkpoint(connection)
        state = None if found is None else msgspec.to_builtins(found[1].state)
        twice = connection.execute(
            "SELECT count(*), count(DISTINCT cloid), (SELECT count(*) FROM intents) FROM orders"
        ).fetchone()
        broken = connection.execute("PRAGMA integrity_check").fetchone()[0]
    text = json.dumps(
        {"tables": tables, "state": _timeless(state), "orders": twice, "integrity": broken}, sort_keys=True
    )
    return json.loads(text.replace(book_id, "book_id"))


def _timeless(state: Any) -> Any:
    """A packed state without what depends on the number of starts: keys by place, and times of news about orders."""
    if state is None:
        return None
    orders = [{key: value for key, value in order.items() if key != "updated_ms"} for order in state["orders"]]
    return {**state, "orders": orders}


def kill_at(point: int, die: Callable[[str], None]) -> Callable[[str], None]:
    """A hook that calls `die` at the n-th place that it is told of."""
    left = point

    def hook(name: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            die(name)

    return hook
