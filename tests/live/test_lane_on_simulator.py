"""A lane on the exchange simulator equals its replay, when the simulator's candles are those of the lake."""

import asyncio
import shutil
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from session_kit import FROM_MS, LANE, TO_MS, left_in, run_session
from venue_chain_kit import Chain, run, running_chain

from live.bench_home import VENUE, home_settings
from live.feed_client import FeedClient, connect
from live.feed_protocol import FeedEnded, Subscribe
from live.lane_feed import Feed
from live.lane_files import read_lane_config
from mei_pipeline.candles.intervals import DAY_MS, HOUR_MS
from mei_pipeline.candles.lake import Lake
from mei_pipeline.execution.day_check.check import check_day
from mei_pipeline.execution.events import FeedEvent, StepClosed
from mei_pipeline.execution.journal.opening import journal_path
from mei_pipeline.hyperliquid.simulator.loading import load_lake
from mei_pipeline.settings import Settings

SPEED = 18_000.0  # a step in 0.2 s
SAME = ("fills", "funding", "trades", "positions", "decisions")


class Ending:
    """A subscription that ends after the last step of the span."""

    def __init__(self, client: FeedClient) -> None:
        self._client = client
        self._ended = False

    @property
    def now_ms(self) -> int | None:
        return self._client.now_ms

    def read(self, timeout_s: float) -> Sequence[FeedEvent]:
        if self._ended:
            raise FeedEnded("the span ends here")
        events = []
        for event in self._client.read(timeout_s):
            events.append(event)
            if isinstance(event, StepClosed) and event.step_ms + HOUR_MS >= TO_MS:
                self._ended = True
                break
        return events

    def ack(self) -> None:
        self._client.ack()


def follow(settings: Settings, path: Path) -> None:
    """Run the lane on a feed, from the first step of the span to its last."""

    @contextmanager
    def open_feed(wanted: Subscribe) -> Generator[Feed]:
        client = connect(path, wanted)
        try:
            yield Ending(client)
        finally:
            client.close()

    run_session(settings, open_feed=open_feed, feed="simulator", from_ms=FROM_MS)


@pytest.fixture(scope="module")
def followed(first_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The home of a lane that followed a simulator of its own lake."""
    folder = tmp_path_factory.mktemp("simulated")
    shutil.copytree(first_home, folder / "home")
    settings = home_settings(folder / "home", folder / "home" / "cache")
    loaded = load_lake(Lake(settings.lake), VENUE, from_ms=FROM_MS + HOUR_MS // 2)

    async def scenario() -> Chain:
        async with running_chain(folder, loaded, VENUE, SPEED) as chain:
            await asyncio.to_thread(follow, settings, chain.path)
            return chain

    run(scenario())
    return settings


def test_the_lane_equals_its_replay(followed: Settings, undisturbed: dict[str, Any]) -> None:
    found = left_in(followed)
    for table in SAME:
        assert found["tables"][table] == undisturbed["tables"][table], table
    assert [row[:2] for row in found["tables"]["equity"]] == [row[:2] for row in undisturbed["tables"]["equity"]]


def test_its_day_is_equal_when_it_is_repeated(followed: Settings) -> None:
    config = read_lane_config(followed, LANE)
    found = check_day(followed, LANE, config, FROM_MS // DAY_MS * DAY_MS)
    assert (found.verdict, found.steps, found.unchecked) == ("equal", (TO_MS - FROM_MS) // HOUR_MS, ())


def test_its_journal_belongs_to_the_simulator(followed: Settings) -> None:
    with closing(sqlite3.connect(journal_path(followed.lanes, LANE))) as connection:
        assert connection.execute("SELECT feed FROM meta").fetchone() == ("simulator",)
