from itertools import product

import pytest

from mei_pipeline.errors import Refused
from mei_pipeline.registry.lifecycle import LEGAL, check_step

STATES = ("", "candidate", "validated", "paper", "replaced")
STEPS = {
    ("", "candidate"),
    ("candidate", "validated"),
    ("validated", "paper"),
    ("paper", "replaced"),
    ("replaced", "paper"),
}


@pytest.mark.parametrize(("before", "after"), list(product((*STATES, "live_full"), repeat=2)))
def test_only_listed_steps_are_legal(before, after):
    if (before, after) in STEPS:
        check_step("c" * 64, before, after)
    else:
        with pytest.raises(Refused, match="can't go from"):
            check_step("c" * 64, before, after)


def test_every_state_can_be_reached():
    assert {after for allowed in LEGAL.values() for after in allowed} | {""} == set(STATES) == set(LEGAL)
