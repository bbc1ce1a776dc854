"""Check a UTC day of a lane: read its journal and the lake, repeat the day, and return the differences."""

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from kernels.cache import source_hash
from mei_pipeline.candles.intervals import DAY_MS, interval_ms, iso
from mei_pipeline.candles.lake import Lake
from mei_pipeline.config.models import LaneConfig
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.execution.books import BookPlan, make_plan
from mei_pipeline.execution.checkpoint import unpack
from mei_pipeline.execution.day_check.differences import DayCheck, Difference
from mei_pipeline.execution.day_check.revisions import market_data, revised
from mei_pipeline.execution.day_check.seen_features import (
    HistoryChanged,
    SeenFeatures,
    compute_seen_features,
    seen_bars,
    warmed_at,
)
from mei_pipeline.execution.day_check.walk import Walk, WalkPlan
from mei_pipeline.execution.events import AnyEvent, BarClosed, Event, Fill, Funding, Started
from mei_pipeline.execution.journal.meta import read_meta
from mei_pipeline.execution.journal.opening import journal_path
from mei_pipeline.execution.journal.reader import connect_read_only, events_after, last_checkpoint, path_of
from mei_pipeline.execution.lake_events import open_slice, steps_of
from mei_pipeline.execution.recovery import book_of
from mei_pipeline.execution.state import LaneSetup, LaneState
from mei_pipeline.execution.warmup import warm_book
from mei_pipeline.registry.lanes import lane_folder, read_bytes
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.run import load_simulation

_decode = msgspec.json.Decoder(AnyEvent).decode


def check_day(settings: Settings, lane: str, config: LaneConfig, day_ms: int) -> DayCheck:
    """Repeat a day of a lane; the lane may run meanwhile.

    Args:
        settings: Settings of the home.
        lane: The lane.
        config: Its file.
        day_ms: Beginning of the UTC day, on the clock of the lane.

    Raises:
        ConfigError: `day_ms` is no UTC midnight.
        DataError: The lane has no journal, or it is damaged.
    """
    if day_ms % DAY_MS:
        raise ConfigError(f"day {iso(day_ms)}: a UTC midnight is needed")
    with closing(connect_read_only(journal_path(settings.lanes, lane))) as connection:
        connection.execute("BEGIN")  # one state of the journal, while the lane may add to it
        return _Check(settings, lane, config, day_ms, connection).run()


def days_of(settings: Settings, lane: str) -> dict[int, int]:
    """Return the number of steps of each UTC day in which a lane has closed one, by the day's beginning, oldest first.

    Raises:
        DataError: The lane has no journal, or it is damaged.
    """
    with closing(connect_read_only(journal_path(settings.lanes, lane))) as connection:
        rows = connection.execute("SELECT step_ms FROM v_equity")
        counts = Counter(step_ms // DAY_MS * DAY_MS for (step_ms,) in rows)
    return dict(sorted(counts.items()))


def complete_days(settings: Settings, lane: str) -> list[int]:
    """Return the days of `days_of` that have ended on the lane's clock.

    Raises:
        DataError: The lane has no journal, or it is damaged.
    """
    days = days_of(settings, lane)
    with closing(connect_read_only(journal_path(settings.lanes, lane))) as connection:
        [clock_ms] = connection.execute("SELECT max(venue_ms) FROM events WHERE event = 'StepClosed'").fetchone()
    return [day_ms for day_ms in days if day_ms + DAY_MS <= (clock_ms or 0)]


def result_path(settings: Settings, lane: str, day_ms: int) -> Path:
    """Return the file of the result of a day; `lane_day` writes it."""
    return lane_folder(settings.lanes, lane) / "days" / f"{iso(day_ms)[:10]}.json"


def unproven_days(settings: Settings, lane: str) -> list[int]:
    """Return the complete days of a lane whose result is missing, damaged or without some steps, oldest first.

    Raises:
        DataError: The lane has no journal, or it is damaged.
    """
    steps = days_of(settings, lane)
    return [day_ms for day_ms in complete_days(settings, lane) if not _is_proven(settings, lane, day_ms, steps[day_ms])]


def _is_proven(settings: Settings, lane: str, day_ms: int, steps: int) -> bool:
    data = read_bytes(result_path(settings, lane, day_ms))
    if data is None:
        return False
    try:
        result = json.loads(data)
        return bool(result["steps"] >= steps or result["unchecked"])
    except (ValueError, KeyError, TypeError):
        return False  # damaged, or of another version: the day is repeated, which writes the file again


@dataclass
class _Check:
    """One check, and what it learns on the way."""

    settings: Settings
    lane: str
    config: LaneConfig
    day_ms: int
    connection: sqlite3.Connection

    def __post_init__(self) -> None:
        self._lake = Lake(self.settings.lake)
        self._features: dict[str, SeenFeatures | None] = {}
        self._unchecked: list[str] = []
        self._bars: list[BarClosed] | None = None

    @property
    def _end_ms(self) -> int:
        return self.day_ms + DAY_MS

    def run(self) -> DayCheck:
        """Repeat the day."""
        meta = read_meta(self.connection, path_of(self.connection))
        setup = LaneSetup(
            lane=self.lane,
            mode=self.config.mode,
            book_ids=(meta.book_id, *meta.former_book_ids),
            equity_usd=self.config.equity_usd,
            kernel_hash=source_hash(),
            make_plan=partial(make_plan, self.settings),
            max_late_ms=self.config.max_late_ms,
        )
        warm = partial(warm_book, self._lake, approximate=self.config.warmup == "approximate")
        [first_ms, last_ms] = self.connection.execute(
            "SELECT min(step_ms), max(step_ms) FROM events WHERE event = 'StepClosed'"
        ).fetchone()
        # A new lane writes its first checkpoint before its first step.
        found = last_checkpoint(self.connection, until_ms=max(self.day_ms, first_ms or 0))
        seq, packed = (0, None) if found is None else (found[0], found[1].state)
        state = LaneState(setup) if packed is None else unpack(setup, packed, lambda plan, until: warm(plan, until)[0])
        state = state.with_changes(reconciled=self._is_reconciled_at(seq))  # a checkpoint does not keep it
        last = self._last_seq(seq)
        plan = WalkPlan(
            from_ms=self.day_ms,
            to_ms=self._end_ms,
            features=partial(self._features_of, last),
            gates=self._gates,
            book_of=lambda now, event: book_of(now, event, warm),
            late=self._late_spans(seq),
            started=self._started_at(seq),
            last_step_ms=last_ms,
        )
        walk = Walk(plan, state)
        try:
            walk.take_all(event for _, event in events_after(self.connection, seq, last))
        except DataError as error:
            self._unchecked.append(f"the rest of the day could not be repeated: {error}")
        if walk.foreign_kernels:
            names = ", ".join(sorted(each[:12] for each in walk.foreign_kernels))
            self._unchecked.append(
                f"steps that kernels {names} decided: this version has {setup.kernel_hash[:12]}; check them with the "
                f"version that traded"
            )
        revisions = self._revisions(walk, seq, last)
        differences = sorted((*walk.differences, *revisions), key=lambda each: each.step_ms)
        return DayCheck(
            lane=self.lane,
            day_ms=self.day_ms,
            steps=len(walk.repeated),
            decisions=walk.decisions,
            fills=walk.fills,
            differences=tuple(differences),
            unchecked=tuple(self._unchecked),
        )

    def _last_seq(self, seq: int) -> int:
        """Return the number of the last event that belongs to the day: that before the first later `StepClosed`."""
        [later] = self.connection.execute(
            "SELECT min(seq) FROM events WHERE event = 'StepClosed' AND step_ms >= ? AND seq > ?", (self._end_ms, seq)
        ).fetchone()
        [last] = self.connection.execute("SELECT max(seq) FROM events").fetchone()
        return int(last or 0) if later is None else int(later) - 1

    def _started_at(self, seq: int) -> Started:
        """Return the start of the process that journaled an event."""
        row = self.connection.execute(
            "SELECT body FROM events WHERE event = 'Started' AND seq <= ? ORDER BY seq DESC LIMIT 1", (seq,)
        ).fetchone()
        fact = None if row is None else _decode(row[0])
        here = Started(kernel_hash=source_hash(), mode=self.config.mode, feed="")
        return fact if isinstance(fact, Started) else here

    def _is_reconciled_at(self, seq: int) -> bool:
        """Return whether the process that journaled an event had received a snapshot of the account by then."""
        row = self.connection.execute(
            "SELECT event FROM events WHERE event IN ('Started', 'AccountSnapshot') AND seq <= ? "
            "ORDER BY seq DESC LIMIT 1",
            (seq,),
        ).fetchone()
        return row is not None and row[0] == "AccountSnapshot"

    def _features_of(self, last: int, plan: BookPlan) -> SeenFeatures | None:
        config_id = plan.offered.config_id
        if config_id not in self._features:
            self._features[config_id] = self._compute(last, plan)
        return self._features[config_id]

    def _compute(self, last: int, plan: BookPlan) -> SeenFeatures | None:
        config_id = plan.offered.config_id
        warmed = warmed_at(self.connection, config_id, last)
        if self._bars is None:
            self._bars = seen_bars(self.connection, self._end_ms)
        try:
            if warmed is None:
                return self._without_features(config_id, "the journal does not say from which bars they were computed")
            return compute_seen_features(self._lake, plan, warmed, self._bars, self.day_ms, self._end_ms)
        except HistoryChanged as change:
            return self._without_features(config_id, str(change))

    def _without_features(self, config_id: str, reason: str) -> None:
        text = "features that the lane carried along, because those of a sweep can't be computed"
        self._unchecked.append(f"config {config_id[:12]}: its decisions were repeated with {text}: {reason}")

    def _gates(self, strategy: str) -> tuple[Any, tuple[str, ...]]:
        compiled = load_simulation(self.settings, strategy)
        return compiled.explain, tuple(compiled.GATES)

    def _late_spans(self, seq: int) -> dict[str, tuple[tuple[int, int], ...]]:
        """Return the spans of steps in which a fill or payment of a symbol was missing because it came late."""
        spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
        step_ms = 0
        rows = self.connection.execute(
            "SELECT event, step_ms, body FROM events WHERE event IN ('StepClosed', 'Fill', 'Funding') AND seq > ? "
            "ORDER BY seq",
            (seq,),
        )
        for name, of_step_ms, body in rows:
            if name == "StepClosed":
                step_ms = of_step_ms
                continue
            event = _decode(body)
            if isinstance(event, Fill | Funding) and event.step_ms is not None and event.step_ms < step_ms:
                spans[event.symbol].append((event.step_ms, step_ms))
        return {symbol: tuple(each) for symbol, each in spans.items()}

    def _revisions(self, walk: Walk, seq: int, last: int) -> Iterator[Difference]:
        """Yield the market data of the day that the lake has otherwise than the lane saw it."""
        books = walk.state.books
        if not books or not walk.repeated:
            return
        symbols = sorted({symbol for book in books for symbol in book.step.plan.symbols})
        intervals = sorted({name for book in books for name in book.step.plan.intervals.read}, key=interval_ms)
        step_ms = walk.state.step_length_ms
        seen = [event for _, event in events_after(self.connection, seq, last)]
        try:
            part = open_slice(self._lake, self.config.venue, symbols, intervals, self.day_ms, self._end_ms)
            stored: list[Event] = [event for events in steps_of(part) for event in events]
        except (ConfigError, DataError) as error:
            self._unchecked.append(f"the lake was not compared: {error}")
            return
        steps = {step for step in walk.repeated if step < part.end_ms}
        for each in revised(market_data(seen, step_ms), market_data(stored, step_ms)):
            if each.step_ms in steps:
                yield each
