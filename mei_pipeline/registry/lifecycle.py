"""Which states a config goes through, and which steps between them exist."""

from mei_pipeline.errors import Refused

NEW = ""
CANDIDATE = "candidate"
VALIDATED = "validated"
PAPER = "paper"
REPLACED = "replaced"

LEGAL: dict[str, tuple[str, ...]] = {
    NEW: (CANDIDATE,),
    CANDIDATE: (VALIDATED,),
    VALIDATED: (PAPER,),
    PAPER: (REPLACED,),
    REPLACED: (PAPER,),
}
"""From each state, the states that can follow. A replaced config has passed its gates and may come back."""


def check_step(config_id: str, from_state: str, to_state: str) -> None:
    """Let a legal step pass.

    Raises:
        Refused: No such step exists.
    """
    allowed = LEGAL.get(from_state, ())
    if to_state not in allowed:
        raise Refused(
            f"config {config_id[:12]}: can't go from {from_state or 'nowhere'} to {to_state};"
            f" from there it can go to: {', '.join(allowed) or 'nothing'}"
        )
