"""Which states a config goes through, which steps between them exist, and the ramp of real money.

`candidate`, `validated` and `retired` are states of a config wherever it runs; the others are states in one lane.
"""

from typing import Literal

from mei_pipeline.errors import ConfigError, Refused

NEW = ""
CANDIDATE = "candidate"
VALIDATED = "validated"
PAPER = "paper"
LIVE_SMALL = "live_small"
LIVE_FULL = "live_full"
PAUSED = "paused"
REPLACED = "replaced"
RETIRED = "retired"

NEXT_STATES: dict[str, tuple[str, ...]] = {
    NEW: (CANDIDATE,),
    CANDIDATE: (VALIDATED, RETIRED),
    VALIDATED: (PAPER, LIVE_SMALL, RETIRED),
    PAPER: (PAPER, LIVE_SMALL, PAUSED, REPLACED),
    LIVE_SMALL: (LIVE_SMALL, LIVE_FULL, PAPER, PAUSED, REPLACED),
    LIVE_FULL: (LIVE_FULL, LIVE_SMALL, PAPER, PAUSED, REPLACED),
    PAUSED: (PAPER, LIVE_SMALL, REPLACED),
    REPLACED: (PAPER, LIVE_SMALL),
    RETIRED: (),
}
"""From each state, the states that can follow. A step to the same state is a renewal or another size."""

HOLDING_STATES = (LIVE_FULL, LIVE_SMALL, PAPER, PAUSED)
"""The states of a config that holds a lane, foremost first."""

TRADING_STATES: dict[str, tuple[str, ...]] = {
    "paper": (PAPER,),
    "shadow": (PAPER,),
    "live": (LIVE_SMALL, LIVE_FULL),
}
"""By the mode of a lane, the states in which a config trades there."""

RAMP = (0.25, 0.5, 1.0)
"""Size multipliers of a live lane, one stage after the other; the last one is `live_full`."""

REAL_MONEY_VENUE = "hyperliquid"
"""The one venue that real money trades on."""

Action = Literal[
    "added",
    "validated",
    "promoted",
    "renewed",
    "resized",
    "paused",
    "resumed",
    "rolled back",
    "replaced",
    "retired",
]
"""What a transition did."""


def check_transition(config_id: str, from_state: str, to_state: str) -> None:
    """Let a legal step pass.

    Raises:
        Refused: No such step exists.
    """
    allowed = NEXT_STATES.get(from_state, ())
    if to_state not in allowed:
        raise Refused(
            f"config {config_id[:12]}: can't go from {from_state or 'nowhere'} to {to_state};"
            f" from there it can go to: {', '.join(allowed) or 'nothing'}"
        )


def check_size(lane: str, size: float) -> None:
    """Let a possible size multiplier pass.

    Raises:
        ConfigError: It is not above 0 and up to 1.
    """
    if not 0 < size <= 1:
        raise ConfigError(f"lane {lane}: size multiplier {size}; allowed: above 0 up to 1")


def entry(lane: str, mode: str, size: float) -> tuple[str, float]:
    """State and size multiplier with which a config begins to trade in a lane of this mode.

    Raises:
        Refused: A live lane is entered at the first stage of the ramp, however a config comes there.
    """
    if mode != "live":
        return PAPER, size
    if size != RAMP[0]:
        raise Refused(f"lane {lane}: size multiplier {size:g}; a config enters a live lane at {RAMP[0]:g}")
    return LIVE_SMALL, size


def stage(lane: str, mode: str, now: float, size: float) -> tuple[str, float]:
    """State and size multiplier of a config that trades in a lane at `now` and goes to `size`.

    Raises:
        Refused: The ramp of a live lane has no such stage, or a step up leaves one out.
    """
    if mode != "live":
        return PAPER, size
    if size not in RAMP:
        raise Refused(f"lane {lane}: size multiplier {size:g}; a live lane has {_words(RAMP)}")
    if size > now and RAMP.index(size) != RAMP.index(now) + 1:
        raise Refused(
            f"lane {lane}: from size multiplier {now:g} to {size:g} leaves out a stage; the ramp is {_words(RAMP)}"
        )
    return (LIVE_FULL if size == RAMP[-1] else LIVE_SMALL), size


def _words(ramp: tuple[float, ...]) -> str:
    return ", ".join(f"{size:g}" for size in ramp)
