"""Operate a lane that no process runs: recover it, follow its holds, execute its requests, and end.

No step is taken and no new config is opened. Orders that a request causes reach the broker; what the fill model fills
later is filled when the lane runs again.
"""

from contextlib import closing

from live.running import LaneOptions, Run, Watch, running_of
from live.session import default_feed, open_run_journal, read_paper_lane, recover_lane
from mei_pipeline.errors import DataError
from mei_pipeline.execution.events import CaughtUp, Started
from mei_pipeline.execution.journal.meta import read_meta
from mei_pipeline.execution.journal.opening import journal_path, lock_path
from mei_pipeline.execution.journal.reader import connect_read_only
from mei_pipeline.files import locked
from mei_pipeline.settings import Settings


def operate_lane(settings: Settings, lane: str, watch: Watch) -> None:
    """Execute the requests of a lane, and write their results, while no process runs it.

    Args:
        settings: Settings of the home.
        lane: The lane.
        watch: Receives alerts.

    Raises:
        ConfigError: The lane is unknown.
        DataError: The lane has taken no step in this home, or its journal is damaged.
        Refused: The journal belongs to another lane, machine or venue.
        Busy: A process runs the lane.
        Retryable: The disk is full; what is not in the journal has not happened.
    """
    path = journal_path(settings.lanes, lane)
    with closing(connect_read_only(path)) as connection:
        feed = read_meta(connection, path).feed
    # A person waits for the answer, so every commit is on the disk.
    options = LaneOptions(lane=lane, feed=feed, durable=True)
    with locked(lock_path(settings.lanes, lane), f"operating lane {lane}"):
        run = Run(settings, options, read_paper_lane(settings, options), watch, default_feed(settings, options))
        with closing(open_run_journal(run)) as journal:
            process = recover_lane(run, journal)
            if process.state.step_ms is None:
                raise DataError(f"lane {lane}: it has taken no step yet, so there is nothing to operate on")
            running = running_of(run, process)
            setup = process.state.setup
            process.take(Started(kernel_hash=setup.kernel_hash, mode=setup.mode, feed=feed))
            process.take(CaughtUp(venue_ms=process.state.clock_ms))
            running.take_holds(process)
            running.take_requests(process)
            process.take_deliveries()
            process.checkpoint()
            process.commit(batch=True)
            running.report(process, due=True)
