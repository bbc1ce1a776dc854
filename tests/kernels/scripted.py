"""A strategy that does what feature columns say: side, rank, and the distances of stop and target, bar by bar.

It lets a test ask for any sequence of wishes, those of no real strategy included.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

from kernels.jit import device

# Machine code is kept under this name, and only sources below `kernels` decide in which folder.
NAME = "scripted_" + hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]


class Params(NamedTuple):
    """What the engine itself reads of a strategy's parameters."""

    size_mode: float
    size_frac: float
    size_units: float
    leverage: float
    max_open_positions: float


class Features(NamedTuple):
    """The script of one symbol at one bar."""

    side: float
    rank: float
    stop: float
    target: float


@device
def load_params(values, k):
    return Params(values[0, k], values[1, k], values[2, k], values[3, k], values[4, k])


@device
def load_features(columns, rows, k, t, s):
    return Features(
        columns[rows[0, k], t, s], columns[rows[1, k], t, s], columns[rows[2, k], t, s], columns[rows[3, k], t, s]
    )


@device
def signal(age, now, before, params):  # noqa: ARG001 - the engine decides what a strategy is given
    return now.side, now.rank


@device
def protect(now, params):  # noqa: ARG001 - as above
    return now.stop, now.target
