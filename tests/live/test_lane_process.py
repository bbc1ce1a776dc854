"""A lane's process with a bad broker, changing configs, and from its facts alone."""

import shutil
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from session_kit import CHANGE_MS, CONFIG, FROM_MS, LANE, OTHER, START_MS, TO_MS, Steps, feed_of, left_in, run_session

from kernels.cache import source_hash
from live.bench_home import promote_config
from live.feed_protocol import Subscribe
from live.lane import LaneProcess
from live.lane_feed import Feed
from live.misbehaviour import parse_misbehaviour
from live.paper_broker import PaperBroker
from live.running import Watch
from mei_pipeline.candles.intervals import HOUR_MS
from mei_pipeline.errors import Fatal
from mei_pipeline.execution.books import make_plan
from mei_pipeline.execution.commands import Alert  # noqa: TC001 - of annotations
from mei_pipeline.execution.events import Event, Expired, StepClosed, Timer
from mei_pipeline.execution.journal.opening import create_journal, journal_path
from mei_pipeline.execution.state import LaneSetup, LaneState
from mei_pipeline.settings import Settings


@pytest.mark.parametrize("seed", [1, 2])
def test_a_bad_broker_is_followed_to_the_end(lane_home: Settings, seed: int) -> None:
    faults = f"partial=0.5,drop=0.3,late=0.3,duplicate=0.5,reorder=0.5,lost=0.5,refuse=0.1,cross=0.5,seed={seed}"
    alerts: list[Alert] = []
    for end_ms in (CHANGE_MS, TO_MS, TO_MS + 20 * HOUR_MS):  # with two restarts
        run_session(
            lane_home,
            Watch(alert=alerts.append),
            feed_of(lane_home, end_ms, 4),
            misbehaviour=parse_misbehaviour(faults),
        )
    left = left_in(lane_home)
    orders, ids, intents = left["orders"]
    assert orders == ids == intents > 3
    for _, _, purpose, attempt, _, lots, _, _, _, filled_lots, *_ in left["tables"]["orders"]:
        # The first attempt to close takes its fraction of what is held at the fill, late fills of the entry included.
        assert abs(filled_lots) <= abs(lots) or (purpose == "exit" and attempt == 1)
    assert left["tables"]["holds"] == []  # no foreign fill, and the account agrees with the books
    assert left["integrity"] == "ok"


def test_recovery_from_all_facts_equals_recovery_from_a_checkpoint(
    lane_home: Settings, undisturbed: dict[str, Any]
) -> None:
    for hours in (3, 9):
        run_session(lane_home, open_feed=feed_of(lane_home, FROM_MS + hours * HOUR_MS), checkpoint_events=15)
        with closing(sqlite3.connect(journal_path(lane_home.lanes, LANE))) as connection:
            [(count,)] = connection.execute("SELECT count(*) FROM events WHERE event = 'Checkpoint'")
            assert count > hours // 3
            connection.execute("DELETE FROM checkpoints")
            connection.commit()
    run_session(lane_home)
    assert left_in(lane_home) == undisturbed


def test_a_feed_that_repeats_steps_changes_nothing(lane_home: Settings, undisturbed: dict[str, Any]) -> None:
    @contextmanager
    def open_feed(wanted: Subscribe) -> Generator[Feed]:
        with feed_of(lane_home, size=10_000)(wanted) as feed:
            events = feed.read(0.0)
        steps = [n for n, event in enumerate(events) if isinstance(event, StepClosed)]
        again = [*events[: steps[8] + 1], *events[steps[5] + 1 :]]
        yield Steps(again, 4)

    run_session(lane_home, open_feed=open_feed)
    assert left_in(lane_home) == undisturbed


def test_configs_follow_one_another(lane_home: Settings) -> None:
    run_session(lane_home, open_feed=feed_of(lane_home, CHANGE_MS))
    promote_config(lane_home, OTHER, START_MS, generation=2)
    run_session(lane_home, open_feed=feed_of(lane_home))
    promote_config(lane_home, CONFIG, START_MS, generation=3)
    run_session(lane_home, open_feed=feed_of(lane_home, TO_MS + 5 * HOUR_MS))
    with closing(sqlite3.connect(journal_path(lane_home.lanes, LANE))) as connection:
        counts = [
            connection.execute("SELECT count(*) FROM events WHERE event = ?", (event,)).fetchone()[0]
            for event in ("ConfigOffered", "Warmed")
        ]
        used = connection.execute("SELECT DISTINCT config_id FROM fills").fetchall()
    assert counts == [3, 3]
    assert len(used) == 2


def lane_of(folder: Path, settings: Settings, broker: PaperBroker) -> LaneProcess:
    """A lane that never ran, with a journal in a folder."""
    setup = LaneSetup(
        lane=LANE,
        mode="paper",
        book_ids=("0" * 8,),
        equity_usd=10_000.0,
        kernel_hash=source_hash(),
        make_plan=lambda offer: make_plan(settings, offer),
    )
    folder.mkdir()
    path = folder / "journal.db"
    journal = create_journal(path, lane=LANE, venue="v", feed="f", kernel_hash="k", machine_id="m", now_ms=0)
    return LaneProcess(LaneState(setup), journal, broker, lambda *_: pytest.fail("warmed"), 0, print)


class EndlessNews(PaperBroker):
    """A broker that always has more news."""

    def poll(self, now_ms: int) -> Sequence[Event]:
        return (Timer(venue_ms=now_ms, name="again", due_ms=0),)


class EndlessAnswers(PaperBroker):
    """A broker that answers a fact with more of it."""

    def observe(self, event: Event, state: LaneState) -> Sequence[Event]:  # noqa: ARG002 - a broker's signature
        return (event,) * 20_000


def test_a_broker_without_end_is_fatal(tmp_path: Path, mei_settings: Settings) -> None:
    lane = lane_of(tmp_path / "news", mei_settings, EndlessNews())
    with pytest.raises(Fatal, match="events without end"):
        lane.take_deliveries()
    lane.journal.close()
    lane = lane_of(tmp_path / "answers", mei_settings, EndlessAnswers())
    with pytest.raises(Fatal, match="events without end"):
        lane.take(Expired(cloid="1", reason="none"))
    lane.journal.close()


def test_a_copy_of_a_home_goes_on_as_the_original(
    lane_home: Settings, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    run_session(lane_home, open_feed=feed_of(lane_home, CHANGE_MS))
    kept = tmp_path / "kept"
    shutil.copytree(lane_home.lanes / LANE, kept)
    run_session(lane_home)
    shutil.rmtree(lane_home.lanes / LANE)
    shutil.copytree(kept, lane_home.lanes / LANE)
    run_session(lane_home)
    assert left_in(lane_home) == undisturbed
