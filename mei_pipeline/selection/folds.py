"""Walk-forward folds: choose on some days, be judged on the days after them, move on.

The days of a search are cut into blocks, whose daily returns every row of the sweep has as sums. A fold begins and ends
where a block does, so one pass of the search serves all of them.
"""

from dataclasses import dataclass

from kernels.blocks import BLOCKS
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.config.models import WalkForward
from mei_pipeline.errors import ConfigError


@dataclass(frozen=True)
class Fold:
    """One step of a walk-forward.

    Attributes:
        train: First block to choose on, and one past the last.
        test: First block to be judged on, and one past the last.
        train_ms: The days to choose on, first and one past the last.
        test_ms: The days to be judged on, the embargo left out.
    """

    train: tuple[int, int]
    test: tuple[int, int]
    train_ms: tuple[int, int]
    test_ms: tuple[int, int]

    @property
    def days(self) -> int:
        """Days that it is judged on."""
        return (self.test_ms[1] - self.test_ms[0]) // DAY_MS


def block_starts_ms(from_ms: int, to_ms: int) -> tuple[int, ...]:
    """First day of each block of the UTC days [from_ms, to_ms), and the end of the last, as `market.window` cuts."""
    days = (to_ms - from_ms) // DAY_MS
    return tuple(from_ms + -(-block * days // BLOCKS) * DAY_MS for block in range(BLOCKS + 1))


def folds_of(from_ms: int, to_ms: int, policy: WalkForward) -> tuple[Fold, ...]:
    """The folds of a search over the UTC days [from_ms, to_ms), oldest first.

    Blocks that are too few for a last whole fold are only chosen on.

    Raises:
        ConfigError: The embargo leaves a fold no day.
    """
    starts = block_starts_ms(from_ms, to_ms)
    folds = []
    for first in range(policy.train_blocks, BLOCKS - policy.test_blocks + 1, policy.test_blocks):
        train, test = train_before(first, policy), (first, first + policy.test_blocks)
        test_ms = (starts[first] + policy.embargo_days * DAY_MS, starts[test[1]])
        if test_ms[0] >= test_ms[1]:
            days = (starts[test[1]] - starts[first]) // DAY_MS
            raise ConfigError(
                f"policy.yaml: selection.walk_forward.embargo_days: {policy.embargo_days} leave nothing of {days} days "
                f"to be judged on; use a shorter one, more test_blocks or a longer window"
            )
        folds.append(Fold(train, test, (starts[train[0]], starts[train[1]]), test_ms))
    return tuple(folds)


def train_before(block: int, policy: WalkForward) -> tuple[int, int]:
    """The blocks to choose on for what begins with `block`; with `BLOCKS`, for the days after the search."""
    return (0 if policy.window == "anchored" else block - policy.train_blocks), block
