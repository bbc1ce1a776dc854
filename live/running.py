"""A running lane beside its core: options and signals of the run, the files that it follows, its status."""

import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf

from live.lane import CHECKPOINT_EVENTS, LaneProcess, Warmup
from live.lane_feed import OpenFeed
from live.lane_files import LaneFiles, Polled, poll, poll_holds, watch_files
from live.misbehaviour import Misbehaviour
from live.request_files import RequestFiles, poll_requests, write_results
from live.settings_files import SettingsFiles, poll_settings, watch_settings
from live.status import ProcessFacts, follow_day, recorded_day, status_of, write_status
from mei_pipeline.candles.lake import Lake
from mei_pipeline.config.models import LaneConfig
from mei_pipeline.errors import DataError, Retryable
from mei_pipeline.execution.commands import Alert
from mei_pipeline.execution.requests import remove_answered, requests_folder
from mei_pipeline.execution.warmup import warm_book
from mei_pipeline.registry.render import FaultHook, no_fault
from mei_pipeline.settings import Settings

FIRST_PAUSE_S = 1.0
"""Pause after the first session of a run that failed, in seconds."""

_STATUS_S = 1.0


@dataclass(frozen=True)
class LaneOptions:
    """Options of a run.

    Attributes:
        lane: Name of the lane.
        feed: Kind of the feed: `replay`, `simulator` or `hyperliquid`.
        speed: Seconds of the market per second for a replay; infinite for as fast as possible.
        from_ms: Open time of the first step of a new lane on a replay; None for `REPLAY_DAYS` before the lake's end.
        to_ms: End of the replay; None for the end of the lake.
        misbehaviour: Faults of the paper broker; None for none.
        durable: True to wait for the disk at every commit; None chooses (`is_durable`).
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

    @property
    def is_durable(self) -> bool:
        """True if every commit waits for the disk, as it does by default but for a replay at the speed `max`."""
        return (self.feed != "replay" or self.speed < inf) if self.durable is None else self.durable


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
    pause_s: float = FIRST_PAUSE_S / 2.0
    last_error: str | None = None
    status_problem: str = ""


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
        polled = poll_requests(self.requests, lane.state.answers, now_ms())
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
        lane.warm = make_warmup(Lake(self.run.settings.lake), now)

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
            written_ms=now_ms(),
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


def running_of(run: Run, lane: LaneProcess) -> Running:
    """Return the files and the status of a lane that was recovered; old answered requests are removed."""
    options, lanes_folder = run.options, run.settings.lanes
    started = recorded_day(lane.journal.connection, lane.state)
    facts = ProcessFacts(now_ms(), options.feed, os.getpid(), secrets.token_hex(8), day_start=started)
    files = watch_files(run.settings, options.lane, run.lane_config, lane.state)
    remove_answered(requests_folder(lanes_folder, options.lane), now_ms())
    followed = run.lane_config.model_copy(update={"equity_usd": lane.state.setup.equity_usd})
    settings = watch_settings(run.settings, options.lane, followed, lane.state)
    return Running(run, files, RequestFiles(lanes_folder, options.lane), settings, facts)


def make_warmup(lake: Lake, lane_config: LaneConfig) -> Warmup:
    """Return the function that computes the features of a config of a lane."""
    return partial(warm_book, lake, approximate=lane_config.warmup == "approximate")


def now_ms() -> int:
    """Return the time on the clock of the machine, UTC milliseconds."""
    return time.time_ns() // 1_000_000
