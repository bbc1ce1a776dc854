"""One session of a lane: recover, start, follow the feed, stop.

`run_lane` repeats sessions as long as the disk is full or the feed is broken, which pass by themselves.
"""

from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

from kernels.cache import source_hash
from live.feed_client import subscription
from live.feed_protocol import FeedBroken, FeedEnded, Subscribe
from live.lane import LaneProcess, describe, with_market
from live.lane_feed import Feed, OpenFeed, network_of, replay_opener, venue_opener
from live.lane_files import offered_config, read_lane_config
from live.misbehaviour import make_paper_broker
from live.running import FIRST_PAUSE_S, LaneOptions, Run, Running, Watch, make_warmup, now_ms, running_of
from mei_pipeline.candles.intervals import DAY_MS, iso
from mei_pipeline.candles.lake import Lake
from mei_pipeline.config.models import LaneConfig
from mei_pipeline.errors import ConfigError, Refused, Retryable
from mei_pipeline.execution.books import make_plan
from mei_pipeline.execution.commands import Alert
from mei_pipeline.execution.events import Started, StepClosed
from mei_pipeline.execution.journal.machine import machine_id
from mei_pipeline.execution.journal.opening import create_journal, journal_path, lock_path, open_journal
from mei_pipeline.execution.journal.reader import events_after, last_checkpoint
from mei_pipeline.execution.journal.writer import Journal
from mei_pipeline.execution.recovery import recover
from mei_pipeline.execution.state import LaneSetup
from mei_pipeline.files import locked
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.extents import extents_ms, last_bar_ms

REPLAY_DAYS = 28
"""Days before the end of the lake at which a lane on a replay begins, unless it is told a time."""

_READ_S = 0.5
_LONGEST_PAUSE_S = 30.0
_NAP_S = 0.25


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
                run.pause_s = FIRST_PAUSE_S if run.steps > before else min(2.0 * run.pause_s, _LONGEST_PAUSE_S)
                run.last_error = str(error)
                watch.alert(
                    Alert("session", "warning", f"lane {options.lane}: {error}; next attempt in {run.pause_s:g} s")
                )
                if _is_stopped_during(run.pause_s, watch):
                    raise
            else:
                return LaneResult(reason, run.steps, state)


def default_feed(settings: Settings, options: LaneOptions) -> OpenFeed:
    """Return the function that subscribes to the feed which the options name."""
    if options.feed == "replay":
        return replay_opener(settings, options.speed, options.to_ms)
    return venue_opener(settings)


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
        ConfigError: The lane has no file, the file is invalid, or it lacks the network of the feed.
        Refused: No broker of this version trades its mode.
    """
    config = read_lane_config(settings, options.lane)
    network_of(options.lane, config, options.feed)
    if config.mode != "paper":
        raise Refused(
            f"lane {options.lane}: mode {config.mode} has no broker in this version; only paper lanes can run"
        )
    return config


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
    warm = make_warmup(Lake(settings.lake), lane_config)
    checkpoint = last_checkpoint(journal.connection)
    seq, packed = (0, None) if checkpoint is None else (checkpoint[0], checkpoint[1].state)
    state = recover(setup, packed, (event for _, event in events_after(journal.connection, seq)), warm)
    # Profit is counted from the equity of the first start, whatever the lane's file says now.
    state = state.with_changes(setup=replace(setup, equity_usd=state.initial_usd or setup.equity_usd))
    broker = make_paper_broker(options.misbehaviour)
    broker.rebuild(state)
    return LaneProcess(
        state=state,
        journal=journal,
        broker=broker,
        warm=warm,
        start_ms=_start_ms(run, setup) if state.next_step_ms is None else 0,
        alert=watch.alert,
        durable=options.is_durable,
        fault_hook=watch.fault_hook,
        checkpoint_events=options.checkpoint_events,
    )


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
        now_ms=now_ms(),
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
    if run.options.feed != "replay":
        return (end_ms - offer.anchor_ms) // main_ms * main_ms + offer.anchor_ms
    start_ms = (end_ms - REPLAY_DAYS * DAY_MS) // DAY_MS * DAY_MS
    return max(start_ms, -(-(offer.anchor_ms + main_ms) // DAY_MS) * DAY_MS)


def _check_end(options: LaneOptions, next_ms: int) -> None:
    """Raise `ConfigError` if the replay ends before the lane's next step opens; else a new lane would begin there."""
    if options.to_ms is not None and options.to_ms < next_ms:
        raise ConfigError(
            f"--to: {iso(options.to_ms)}: the next step of lane {options.lane} opens later, {iso(next_ms)}; choose a "
            "later time, or leave --to out"
        )


def _follow(lane: LaneProcess, running: Running) -> str:
    """Start the lane and follow its feed; return the reason of the end."""
    setup, run = lane.state.setup, running.run
    plan = run.options.misbehaviour
    faults = "" if plan is None else str(plan)
    lane.take(Started(kernel_hash=setup.kernel_hash, mode=setup.mode, feed=run.options.feed, faults=faults))
    running.take_files(lane)
    lane.commit(batch=True)
    reason = ""
    while not reason:
        wanted = _subscription(lane, run)
        with run.open_feed(wanted) as feed:
            try:
                while not run.watch.stopping and _covers(wanted, lane, run):
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


def _covers(wanted: Subscribe, lane: LaneProcess, run: Run) -> bool:
    """Return whether a subscription has the symbols and intervals of all books; a new book may need others."""
    now = _subscription(lane, run)
    return set(now.symbols) <= set(wanted.symbols) and set(now.intervals) <= set(wanted.intervals)


def _take_arrivals(lane: LaneProcess, feed: Feed, wanted: Subscribe, running: Running) -> None:
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
            if _config_ids(lane) != ids and not _covers(wanted, lane, running.run):
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


def _subscription(lane: LaneProcess, run: Run) -> Subscribe:
    """Return the subscription to the market data of a lane's books, from the end of the last step on."""
    state = lane.state
    from_ms = state.next_step_ms
    if from_ms is None:
        raise FeedBroken(f"lane {state.setup.lane}: no book is open; its config waits")
    plans = [book.step.plan for book in state.books]
    symbols = sorted({symbol for plan in plans for symbol in plan.symbols})
    intervals = list(dict.fromkeys(interval for plan in plans for interval in plan.intervals.read))
    network = network_of(run.options.lane, run.lane_config, run.options.feed)
    return subscription(plans[-1].resolved.venue, network, symbols, intervals, from_ms)
