"""One session of a lane: recover, start, follow the feed, stop.

`run_lane` repeats sessions as long as the disk is full or the feed is broken, which pass by themselves.
"""

import os
import secrets
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf

from kernels.cache import source_hash
from live.feed_client import subscription
from live.feed_protocol import FeedBroken, FeedEnded, Subscribe
from live.lane import CHECKPOINT_EVENTS, LaneProcess, Warmup, describe, with_market
from live.lane_feed import Feed, OpenFeed, replay_opener
from live.lane_files import LaneFiles, Polled, offered_config, poll, poll_holds, read_lane_config, watch_files
from live.misbehaviour import Misbehaviour, make_paper_broker
from live.replay_feed import NETWORK
from live.request_files import RequestFiles, poll_requests, write_results
from live.settings_files import SettingsFiles, poll_settings, watch_settings
from live.status import ProcessFacts, follow_day, recorded_day, status_of, write_status
from mei_pipeline.candles.intervals import DAY_MS, iso
from mei_pipeline.candles.lake import Lake
from mei_pipeline.config.models import LaneConfig
from mei_pipeline.errors import ConfigError, DataError, Refused, Retryable
from mei_pipeline.execution.books import make_plan
from mei_pipeline.execution.commands import Alert
from mei_pipeline.execution.events import Started, StepClosed
from mei_pipeline.execution.journal.machine import machine_id
from mei_pipeline.execution.journal.opening import create_journal, journal_path, lock_path, open_journal
from mei_pipeline.execution.journal.reader import events_after, last_checkpoint
from mei_pipeline.execution.journal.writer import Journal
from mei_pipeline.execution.recovery import recover
from mei_pipeline.execution.requests import remove_answered, requests_folder
from mei_pipeline.execution.state import LaneSetup
from mei_pipeline.execution.warmup import warm_book
from mei_pipeline.files import locked
from mei_pipeline.registry.render import FaultHook, no_fault
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.extents import extents_ms, last_bar_ms

REPLAY_DAYS = 28
"""Days before the end of the lake at which a lane on a replay begins, unless it is told a time."""

_READ_S = 0.5
_STATUS_S = 1.0
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_NAP_S = 0.25


@dataclass(frozen=True)
class LaneOptions:
    """Options of a run.

    Attributes:
        lane: Name of the lane.
        feed: Kind of the feed.
        speed: Seconds of the market per second for a replay; infinite for as fast as possible.
        from_ms: Open time of the first step of a new lane on a replay; None for `REPLAY_DAYS` before the lake's end.
        to_ms: End of the replay; None for the end of the lake.
        misbehaviour: Faults of the paper broker; None for none.
        durable: True to wait for the disk at every commit; None chooses: False only at the speed `max`.
        checkpoint_events: Number of events between two checkpoints.
    """

    lane: str
    feed: str = "replay"
    speed: float = 1.0
    from_ms: int | None = None
    to_ms: int | None = None
    misbehaviour: Misbehaviour | None = None
    durable: bool | None = None
    checkpoint_events: int = CHECKPOINT_EVENTS


@dataclass
class Watch:
    """Signals and reports of a running lane.

    Attributes:
        stopping: Set to True to stop after the step in progress.
        alert: Tells people.
        report: Receives a line of text for the log.
        fault_hook: Called with the name of each place at which tests end the process.
        sleep: Waits a number of seconds between two sessions.
    """

    stopping: bool = False
    alert: Callable[[Alert], None] = lambda _alert: None
    report: Callable[[str], None] = lambda _line: None
    fault_hook: FaultHook = no_fault
    sleep: Callable[[float], None] = field(default=time.sleep)


@dataclass(frozen=True)
class LaneResult:
    """The end of a run.

    Attributes:
        reason: Reason of the end.
        steps: Number of steps of this run.
        state: Last state, as text.
    """

    reason: str
    steps: int
    state: str


def run_lane(settings: Settings, options: LaneOptions, watch: Watch, open_feed: OpenFeed | None = None) -> LaneResult:
    """Run a lane until its feed ends or it is told to stop.

    Args:
        settings: Settings of the home.
        options: How to run the lane.
        watch: Signals and reports.
        open_feed: Subscribes to the feed; None starts the one that `options` name.

    Raises:
        ConfigError: The lane is unknown or without a config, or an option does not fit the lane.
        DataError: The journal or the lake is damaged, or lacks what the lane needs.
        Refused: The journal belongs to another lane, machine, venue or kind of feed.
        Busy: Another process runs the lane.
        Retryable: The lane was told to stop while it waited for space on the disk, or for the feed.
    """
    lane_config = read_paper_lane(settings, options)
    run = Run(settings, options, lane_config, watch, open_feed or default_feed(settings, options))
    with locked(lock_path(settings.lanes, options.lane), f"running lane {options.lane}"):
        while True:
            before = run.steps
            try:
                reason, state = _session(run)
            except Retryable as error:
                run.pause_s = _FIRST_PAUSE_S if run.steps > before else min(2.0 * run.pause_s, _LONGEST_PAUSE_S)
                run.last_error = str(error)
                watch.alert(
                    Alert("session", "warning", f"lane {options.lane}: {error}; next attempt in {run.pause_s:g} s")
                )
                if _is_stopped_during(run.pause_s, watch):
                    raise
            else:
                return LaneResult(reason, run.steps, state)


def default_feed(settings: Settings, options: LaneOptions) -> OpenFeed:
    """Return the function that starts the feed which the options name."""
    return replay_opener(settings, options.speed, options.to_ms)


def _is_stopped_during(pause_s: float, watch: Watch) -> bool:
    """Wait before the next session; return True as soon as the lane is told to stop."""
    for _ in range(round(pause_s / _NAP_S)):
        if watch.stopping:
            break
        watch.sleep(_NAP_S)
    return watch.stopping


def read_paper_lane(settings: Settings, options: LaneOptions) -> LaneConfig:
    """Read the configuration of a lane that has a broker.

    Raises:
        ConfigError: The lane has no file, or the file is invalid.
        Refused: No broker of this version trades its mode.
    """
    config = read_lane_config(settings, options.lane)
    if config.mode != "paper":
        raise Refused(
            f"lane {options.lane}: mode {config.mode} has no broker in this version; only paper lanes can run"
        )
    return config


@dataclass
class Run:
    """A run of a lane, over all its sessions.

    Attributes:
        settings: Settings of the home.
        options: How to run the lane.
        lane_config: The lane's file.
        watch: Signals and reports.
        open_feed: Subscribes to the feed.
        steps: Number of steps that the run has journaled.
        pause_s: Length of the last pause between two sessions.
        last_error: Error that ended the last session; None if there was none.
        status_problem: Reason why the status can't be written; empty without one.
    """

    settings: Settings
    options: LaneOptions
    lane_config: LaneConfig
    watch: Watch
    open_feed: OpenFeed
    steps: int = 0
    pause_s: float = _FIRST_PAUSE_S / 2.0
    last_error: str | None = None
    status_problem: str = ""


def _session(run: Run) -> tuple[str, str]:
    """Recover the lane, and follow its feed until it ends; return the reason of the end, and the state as text."""
    options, watch = run.options, run.watch
    with closing(open_run_journal(run)) as journal:
        lane = recover_lane(run, journal)
        next_ms = lane.state.next_step_ms
        _check_end(options, next_ms or lane.start_ms)
        if options.from_ms is not None and next_ms is not None:
            watch.report(f"lane {options.lane}: --from changes nothing: it goes on from {iso(next_ms)}")
        watch.report(f"lane {options.lane}: {'recovered' if journal.last_seq else 'new'}: {describe(lane.state)}")
        try:
            return _follow(lane, running_of(run, lane)), describe(lane.state)
        finally:
            run.steps += lane.steps


def recover_lane(run: Run, journal: Journal) -> LaneProcess:
    """Return a lane as its journal leaves it, with a broker that has taken over its books.

    Raises:
        ConfigError: The lane has no step yet, and `from_ms` is not the open of a main bar.
        DataError: The journal or the lake lacks what the lane needs.
        Refused: The lane has no step yet, and no config is promoted to it.
    """
    settings, options, lane_config, watch = run.settings, run.options, run.lane_config, run.watch
    setup = LaneSetup(
        lane=options.lane,
        mode=lane_config.mode,
        book_ids=(journal.meta.book_id, *journal.meta.former_book_ids),
        equity_usd=lane_config.equity_usd,
        kernel_hash=source_hash(),
        make_plan=partial(make_plan, settings),
        max_late_ms=lane_config.max_late_ms,
    )
    warm = _warmup(Lake(settings.lake), lane_config)
    checkpoint = last_checkpoint(journal.connection)
    seq, packed = (0, None) if checkpoint is None else (checkpoint[0], checkpoint[1].state)
    state = recover(setup, packed, (event for _, event in events_after(journal.connection, seq)), warm)
    broker = make_paper_broker(options.misbehaviour)
    broker.rebuild(state)
    return LaneProcess(
        state=state,
        journal=journal,
        broker=broker,
        warm=warm,
        start_ms=_start_ms(run, setup) if state.next_step_ms is None else 0,
        alert=watch.alert,
        durable=options.speed < inf if options.durable is None else options.durable,
        fault_hook=watch.fault_hook,
        checkpoint_events=options.checkpoint_events,
    )


def running_of(run: Run, lane: LaneProcess) -> "Running":
    """Return the files and the status of a lane that was recovered; old answered requests are removed."""
    options, lanes_folder = run.options, run.settings.lanes
    started = recorded_day(lane.journal.connection, lane.state)
    facts = ProcessFacts(_now_ms(), options.feed, os.getpid(), secrets.token_hex(8), day_start=started)
    files = watch_files(run.settings, options.lane, run.lane_config, lane.state)
    remove_answered(requests_folder(lanes_folder, options.lane), _now_ms())
    settings = watch_settings(run.settings, options.lane, run.lane_config, lane.state)
    return Running(run, files, RequestFiles(lanes_folder, options.lane), settings, facts)


def _warmup(lake: Lake, lane_config: LaneConfig) -> Warmup:
    return partial(warm_book, lake, approximate=lane_config.warmup == "approximate")


def open_run_journal(run: Run) -> Journal:
    """Open the journal of a lane; create that of a new lane.

    Raises:
        DataError: The journal is damaged.
        Refused: It belongs to another lane, machine, venue or kind of feed, or no config is promoted to a new lane.
    """
    settings, options, watch = run.settings, run.options, run.watch
    path = journal_path(settings.lanes, options.lane)
    machine = machine_id(settings.cache)
    if path.exists():
        return open_journal(
            path,
            lane=options.lane,
            venue=run.lane_config.venue,
            feed=options.feed,
            machine_id=machine,
            fault_hook=watch.fault_hook,
        )
    # A journal keeps the venue of the lane for good, so a config of another venue is refused first.
    offered_config(settings, options.lane, run.lane_config)
    return create_journal(
        path,
        lane=options.lane,
        venue=run.lane_config.venue,
        feed=options.feed,
        kernel_hash=source_hash(),
        machine_id=machine,
        now_ms=_now_ms(),
        fault_hook=watch.fault_hook,
    )


def _start_ms(run: Run, setup: LaneSetup) -> int:
    """Return the open time of the first step of a lane that has none.

    Raises:
        ConfigError: `from_ms` is not the open of a main bar.
    """
    offer = offered_config(run.settings, run.options.lane, run.lane_config)
    plan = setup.make_plan(offer)
    main_ms, from_ms = plan.intervals.main_ms, run.options.from_ms
    if from_ms is not None:
        if (from_ms - offer.anchor_ms) % main_ms:
            raise ConfigError(
                f"--from: {iso(from_ms)}: no {plan.resolved.interval} bar opens then; allowed are times a whole "
                f"number of bars after the config's anchor, {iso(offer.anchor_ms)}"
            )
        return from_ms
    lake = Lake(run.settings.lake)
    end_ms = last_bar_ms(extents_ms(lake, plan.resolved.venue, plan.intervals, plan.symbols))
    start_ms = (end_ms - REPLAY_DAYS * DAY_MS) // DAY_MS * DAY_MS
    return max(start_ms, -(-(offer.anchor_ms + main_ms) // DAY_MS) * DAY_MS)


def _check_end(options: LaneOptions, next_ms: int) -> None:
    """Raise `ConfigError` if the replay ends before the lane's next step opens; else a new lane would begin there."""
    if options.to_ms is not None and options.to_ms < next_ms:
        raise ConfigError(
            f"--to: {iso(options.to_ms)}: the next step of lane {options.lane} opens later, {iso(next_ms)}; choose a "
            "later time, or leave --to out"
        )


def _follow(lane: LaneProcess, running: "Running") -> str:
    """Start the lane and follow its feed; return the reason of the end."""
    setup, run = lane.state.setup, running.run
    lane.take(Started(kernel_hash=setup.kernel_hash, mode=setup.mode, feed=run.options.feed))
    running.take_files(lane)
    lane.commit(batch=True)
    reason = ""
    while not reason:
        wanted = _subscription(lane)
        with run.open_feed(wanted) as feed:
            try:
                while not run.watch.stopping and _covers(wanted, lane):
                    _take_arrivals(lane, feed, wanted, running)
            except FeedEnded as error:
                reason = str(error)
        if run.watch.stopping:
            reason = reason or "stopped"
    lane.checkpoint()
    lane.commit(batch=True)
    running.report(lane, due=True)
    return reason


def _config_ids(lane: LaneProcess) -> tuple[str, ...]:
    return tuple(book.config_id for book in lane.state.books)


def _covers(wanted: Subscribe, lane: LaneProcess) -> bool:
    """Return whether a subscription has the symbols and intervals of all books; a new book may need others."""
    now = _subscription(lane)
    return set(now.symbols) <= set(wanted.symbols) and set(now.intervals) <= set(wanted.intervals)


def _take_arrivals(lane: LaneProcess, feed: Feed, wanted: Subscribe, running: "Running") -> None:
    """Process what has arrived; files are read after each step, so what they say holds from the next one on.

    A lane that commits in batches reads its files after the first step of each batch. Holds and requests apply at any
    time, so they are also followed while no step ends.

    Bars behind a step that opened a book of other symbols lack those symbols, so they are left for the next
    subscription.
    """
    ids = _config_ids(lane)
    reads_files = True
    for market, event in with_market(feed.read(_READ_S)):
        lane.take_market(market)
        if event is not None:
            lane.take(event)
        if isinstance(event, StepClosed):
            lane.take_timers(lane.state.clock_ms)
            if reads_files:
                running.take_files(lane)
                running.take_requests(lane)
                reads_files = lane.durable
            running.report(lane)
            if running.run.watch.stopping:
                return
            if _config_ids(lane) != ids and not _covers(wanted, lane):
                return
    if reads_files:
        running.take_holds(lane)
        if lane.between_steps:
            running.take_requests(lane)
    running.report(lane)
    clock_ms = lane.state.clock_ms
    lane.take_timers(clock_ms if feed.now_ms is None else max(feed.now_ms, clock_ms))
    lane.take_deliveries()
    lane.commit(batch=True)
    feed.ack()


@dataclass
class Running:
    """Files and status of a running lane.

    Attributes:
        run: The run.
        files: Files as they were read last.
        requests: Requests as they were read last.
        settings: Settings as they were read last.
        facts: What the status says about the process.
        result_problem: Reason why a result can't be written; empty without one.
    """

    run: Run
    files: LaneFiles
    requests: RequestFiles
    settings: SettingsFiles
    facts: ProcessFacts
    result_problem: str = ""
    _due_s: float = 0.0

    def take_files(self, lane: LaneProcess) -> None:
        """Process what changed in the lane's files and settings."""
        self._take_settings(lane)
        self._take(lane, poll(self.files, lane.state.clock_ms))

    def take_holds(self, lane: LaneProcess) -> None:
        """Process what changed in the files of holds."""
        self._take(lane, poll_holds(self.files, lane.state.clock_ms))

    def _take(self, lane: LaneProcess, polled: Polled) -> None:
        self.files = polled.files
        for alert in polled.alerts:
            self.run.watch.alert(alert)
        for event in polled.events:
            lane.take(event)
            self._due_s = 0.0  # commands wait for a status with the change

    def take_requests(self, lane: LaneProcess) -> None:
        """Execute the requests that have arrived, and write the results that are missing."""
        polled = poll_requests(self.requests, lane.state.answers, _now_ms())
        self.requests = polled.files
        for alert in polled.alerts:
            self.run.watch.alert(alert)
        for event in polled.events:
            lane.take(event)
            self._due_s = 0.0
        if polled.events:
            # A request with a result is never read again, so its answer must be on the disk first.
            lane.journal.commit(durable=True)
        problem = ""
        for alert in write_results(self.requests, lane.state.answers):
            problem = alert.text
            if not self.result_problem:
                self.run.watch.alert(alert)
        self.result_problem = problem

    def _take_settings(self, lane: LaneProcess) -> None:
        polled = poll_settings(self.settings)
        before, self.settings = self.settings.lane_config, polled.files
        for alert in polled.alerts:
            self.run.watch.alert(alert)
        for event in polled.events:
            lane.take(event)
        now = polled.files.lane_config
        if now == before:
            return
        self.run.lane_config = now
        setup = replace(lane.state.setup, max_late_ms=now.max_late_ms)
        lane.state = lane.state.with_changes(setup=setup)
        lane.warm = _warmup(Lake(self.run.settings.lake), now)

    def report(self, lane: LaneProcess, *, due: bool = False) -> None:
        """Write the status, at most once a second unless it is due now. A failure is an alert: the lane trades on."""
        started = follow_day(self.facts.day_start, lane.state)
        if started is not self.facts.day_start:
            self.facts = replace(self.facts, day_start=started)
        now_s = time.monotonic()
        if not due and now_s < self._due_s:
            return
        self._due_s = now_s + _STATUS_S
        facts = replace(
            self.facts,
            written_ms=_now_ms(),
            pointer_problem=self.files.pointer_problem,
            warm_problem=lane.warm_problem,
            last_error=self.run.last_error,
            durable_seq=lane.journal.committed_seq if lane.durable else None,
        )
        problem = ""
        try:
            write_status(self.run.settings.lanes, status_of(lane.state, facts))
        except (DataError, Retryable) as error:
            problem = str(error)
        if problem and not self.run.status_problem:
            self.run.watch.alert(Alert("status-file", "warning", problem))
        self.run.status_problem = problem


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _subscription(lane: LaneProcess) -> Subscribe:
    """Return the subscription to the market data of a lane's books, from the end of the last step on."""
    state = lane.state
    from_ms = state.next_step_ms
    if from_ms is None:
        raise FeedBroken(f"lane {state.setup.lane}: no book is open; its config waits")
    plans = [book.step.plan for book in state.books]
    symbols = sorted({symbol for plan in plans for symbol in plan.symbols})
    intervals = list(dict.fromkeys(interval for plan in plans for interval in plan.intervals.read))
    return subscription(plans[-1].resolved.venue, NETWORK, symbols, intervals, from_ms)
