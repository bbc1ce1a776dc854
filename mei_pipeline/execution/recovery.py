"""Recovery: the state of a lane from its journal, without a decision."""

from collections.abc import Callable, Iterable

from mei_pipeline.errors import DataError
from mei_pipeline.execution.books import BookPlan, StepBook
from mei_pipeline.execution.checkpoint import unpack
from mei_pipeline.execution.core import absorb
from mei_pipeline.execution.events import Event, PackedLane, Warmed
from mei_pipeline.execution.state import LaneSetup, LaneState

Warm = Callable[[BookPlan, int], tuple[StepBook, Warmed]]
"""Computes features from the lake up to a time (`warmup.warm_book`)."""


def recover(setup: LaneSetup, packed: PackedLane | None, events: Iterable[Event], warm: Warm) -> LaneState:
    """Return the state after a checkpoint and the events behind it.

    Args:
        setup: The part of the lane that does not change.
        packed: The checkpoint; None to start at the first event of the journal.
        events: The events behind the checkpoint, oldest first.
        warm: Computes features from the lake.

    Raises:
        DataError: Features must be computed again, and the bars of the lake have changed since the lane read them.
    """
    state = LaneState(setup) if packed is None else unpack(setup, packed, lambda plan, until: warm(plan, until)[0])
    for event in events:
        state = absorb(state, event, book_of(state, event, warm)).state
    return state


def book_of(state: LaneState, event: Event, warm: Warm) -> StepBook | None:
    """Return the book that a fact `Warmed` is about, computed again."""
    if not isinstance(event, Warmed) or state.waiting is None:
        return None
    step, again = warm(state.setup.make_plan(state.waiting), event.until_ms)
    if again.data_hash != event.data_hash:
        raise DataError(
            f"lane {state.setup.lane}: the bars in the lake have changed since the lane computed its features, and its "
            f"journal has no checkpoint after that; restore the lake, or start the lane with a new journal"
        )
    return step
