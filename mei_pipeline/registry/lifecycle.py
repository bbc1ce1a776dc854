"""States of a config, the transitions between them, and the ramp of real money.

`candidate`, `validated` and `retired` are states of a config in all lanes; the others are states in one lane.
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
"""By state, the states that can follow. A transition to the same state is a renewal or another size."""

HOLDING_STATES = (LIVE_FULL, LIVE_SMALL, PAPER, PAUSED)
"""States of a config that holds a lane, the one with the most real money first."""

TRADING_STATES: dict[str, tuple[str, ...]] = {
    "paper": (PAPER,),
    "shadow": (PAPER,),
    "live": (LIVE_SMALL, LIVE_FULL),
}
"""By mode of a lane, the states in which a config trades there."""

RAMP = (0.25, 0.5, 1.0)
"""Size multipliers of a live lane, in the order of its steps; the last step is `live_full`."""

REAL_MONEY_VENUE = "hyperliquid"
"""The only venue that real money trades on."""

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
"""Kind of a transition."""


def check_transition(config_id: str, from_state: str, to_state: str) -> None:
    """Raise if a state can't follow another one.

    Raises:
        Refused: `NEXT_STATES` has no such transition.
    """
    allowed = NEXT_STATES.get(from_state, ())
    if to_state not in allowed:
        raise Refused(
            f"config {config_id[:12]}: can't go from {from_state or 'no state'} to {to_state};"
            f" states that can follow: {', '.join(allowed) or 'none'}"
        )


def check_size(lane: str, size: float) -> None:
    """Raise if a size multiplier is outside (0, 1].

    Raises:
        ConfigError: The size multiplier is outside (0, 1].
    """
    if not 0 < size <= 1:
        raise ConfigError(f"lane {lane}: size multiplier {size} is outside (0, 1]; use a number above 0 up to 1")


def entry(lane: str, mode: str, size: float) -> tuple[str, float]:
    """Return the state and size multiplier of a config that enters a lane of a mode.

    Raises:
        Refused: The lane is live and the size is not the first step of the ramp; every config enters there.
    """
    if mode != "live":
        return PAPER, size
    if size != RAMP[0]:
        raise Refused(f"lane {lane}: size multiplier {size:g} is not {RAMP[0]:g}, at which a config enters a live lane")
    return LIVE_SMALL, size


def stage(lane: str, mode: str, now: float, size: float) -> tuple[str, float]:
    """Return the state and size multiplier of a config in a lane after a change of its size from `now` to `size`.

    Raises:
        Refused: The lane is live and the ramp has no such step, or the change skips a step upwards.
    """
    if mode != "live":
        return PAPER, size
    if size not in RAMP:
        raise Refused(f"lane {lane}: size multiplier {size:g} is not allowed; a live lane has {_words(RAMP)}")
    if size > now and RAMP.index(size) != RAMP.index(now) + 1:
        raise Refused(f"lane {lane}: from size multiplier {now:g} to {size:g} skips a step; the ramp is {_words(RAMP)}")
    return (LIVE_FULL if size == RAMP[-1] else LIVE_SMALL), size


def _words(ramp: tuple[float, ...]) -> str:
    return ", ".join(f"{size:g}" for size in ramp)
