"""A strategy that does what feature columns say, bar by bar: side, rank, distances of stop and target, coins to add,
the fraction that its own exit closes, and the minutes that must have passed since the side was last left by an exit.

It lets a test ask for any sequence of wishes, those of no real strategy included.
"""

import hashlib
from pathlib import Path

from kernels.features import Use
from kernels.jit import device
from kernels.strategies import ema_cross

# Machine code is kept under this name, and only sources below `kernels` decide in which folder.
NAME = "scripted_" + hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]

PARAMETERS = ema_cross.PARAMETERS

FEATURES = tuple(Use(name, "", ()) for name in ("side", "ranked", "stop", "target", "more", "out", "rest"))
"""The script of one symbol at one bar; its columns are given, not built."""

EXITS = ("scripted",)

size = ema_cross.size
begin = ema_cross.begin


@device
def signal(price, age, is_benchmark, now, before, market_context, params):  # noqa: ARG001 - the simulation decides what it is given
    return 1 if now.side > 0.0 else (-1 if now.side < 0.0 else 0)


@device
def admits(position, code, leaving, minutes, now, params):  # noqa: ARG001 - as above
    passed = 0.0 if leaving & (position.size * code > 0.0) else minutes
    return not (passed < now.rest)  # NaN: never left


@device
def rank(code, now, params):  # noqa: ARG001 - as above
    return now.ranked


@device
def plan(code, price, now, params):  # noqa: ARG001 - as above
    return now.stop, now.target, 0.0


@device
def add(position, code, value, price, minutes, now, params):  # noqa: ARG001 - as above
    return now.more


@device
def manage(position, price, lots, now, before, params):  # noqa: ARG001 - as above
    return (0 if now.out > 0.0 else -1), now.out
