"""Books of a paper broker, beside the books of the lane that it fills orders for."""

from typing import NamedTuple

from kernels.book import BAR
from mei_pipeline.execution.books import StepBook


class PaperBook(NamedTuple):
    """A book of a paper broker.

    Attributes:
        step: The book of the broker.
        lane: The book of the lane. The lane changes its arrays in place, so they are always up to date.
    """

    step: StepBook
    lane: StepBook

    @property
    def config_id(self) -> str:
        """Config of the book."""
        return self.step.plan.offered.config_id


def copy_arrivals(lane: StepBook, own: StepBook) -> None:
    """Copy the bars and funding rates that have arrived for the next step from a lane's book."""
    for name in ("open", "high", "low", "close", "funding"):
        getattr(own.market, name)[:] = getattr(lane.market, name)
    own.main[:] = lane.main


def copy_bars(lane: StepBook, own: StepBook) -> None:
    """Copy terms, ages, last prices and the bars of the current step from a lane's book."""
    for name in ("open", "high", "low", "close", "last_price", "funding", "age"):
        getattr(own.market, name)[:] = getattr(lane.market, name)
    for name in ("row", "previous_row", "enters", "exits", "ends", "day_end", "block"):
        getattr(own.market, name)[:] = getattr(lane.market, name)
    for theirs, ours in (
        (lane.terms, own.terms),
        (lane.models, own.models),
        (lane.main, own.main),
        (lane.counts, own.counts),
        (lane.rows, own.rows),
    ):
        ours[:] = theirs
    # The compiled rules read the bars of a step from the book, into which the first half of the step copies them.
    for name in BAR.names or ():
        own.book.bars[name][0] = getattr(own.market, name)[0]
    for name in ("row", "previous_row", "exits", "day_end", "block", "ends"):
        own.book.steps[name][0] = getattr(own.market, name)[0]
