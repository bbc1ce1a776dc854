"""Walk-forward folds: train days, on which combos are selected, and test days after them, on which they are judged.

The days of a search are cut into time blocks, and every row of a sweep has the sums of its daily returns by block.
Folds start and end at block borders, so one pass of the search serves all folds.
"""

from dataclasses import dataclass

from kernels.blocks import BLOCKS
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.config.models import WalkForward
from mei_pipeline.errors import ConfigError
from mei_pipeline.simulation.window import block_starts_ms


@dataclass(frozen=True)
class Fold:
    """One step of a walk-forward.

    Attributes:
        train: First train block and one past the last.
        test: First test block and one past the last.
        train_ms: First train day and one past the last, UTC milliseconds.
        test_ms: First test day after the embargo and one past the last, UTC milliseconds.
    """

    train: tuple[int, int]
    test: tuple[int, int]
    train_ms: tuple[int, int]
    test_ms: tuple[int, int]

    @property
    def days(self) -> int:
        """Number of test days."""
        return (self.test_ms[1] - self.test_ms[0]) // DAY_MS


def folds_of(from_ms: int, to_ms: int, policy: WalkForward) -> tuple[Fold, ...]:
    """Return the folds of a search over the UTC days [from_ms, to_ms), oldest first.

    Blocks that remain after the last complete fold are train blocks only.

    Raises:
        ConfigError: The embargo leaves a fold no test day.
    """
    starts = block_starts_ms(from_ms, to_ms)
    folds = []
    for first in range(policy.train_blocks, BLOCKS - policy.test_blocks + 1, policy.test_blocks):
        train, test = train_before(first, policy), (first, first + policy.test_blocks)
        test_ms = (starts[first] + policy.embargo_days * DAY_MS, starts[test[1]])
        if test_ms[0] >= test_ms[1]:
            days = (starts[test[1]] - starts[first]) // DAY_MS
            raise ConfigError(
                f"policy.yaml: selection.walk_forward.embargo_days: {policy.embargo_days} days leave none of {days} "
                f"test days; use a shorter embargo, more test_blocks or a longer window"
            )
        folds.append(Fold(train, test, (starts[train[0]], starts[train[1]]), test_ms))
    return tuple(folds)


def train_before(block: int, policy: WalkForward) -> tuple[int, int]:
    """Return the train blocks before `block`; before `BLOCKS`, those of the config that trades after the search."""
    return (0 if policy.window == "anchored" else block - policy.train_blocks), block
