"""What a sweep tells of its speed."""

from pathlib import Path

import pytest

from mei_pipeline.sweep.run import SweepReport, speed


def report(combos: int, resumed: int, searched_s: float) -> SweepReport:
    return SweepReport("id", Path("sweeps"), combos, resumed, 5_000, 99.0, searched_s, "cpu")


def test_speed_counts_what_this_run_did_and_the_time_it_searched() -> None:
    found = report(combos=300, resumed=100, searched_s=4.0)
    assert found.combos_per_s == 50.0
    assert found.bar_steps_per_s == 250_000.0
    assert found.speed == "50 combos/s, 0.2 M bar-steps/s"


@pytest.mark.parametrize(("resumed", "searched_s"), [(300, 0.0), (300, 1.0), (0, 0.0)])
def test_nothing_done_is_no_speed(resumed: int, searched_s: float) -> None:
    found = report(combos=300, resumed=resumed, searched_s=searched_s)
    assert (found.combos_per_s, found.bar_steps_per_s, found.speed) == (None, None, "")


def test_speed_for_people() -> None:
    assert speed(1_694.6, 67_200) == "1,695 combos/s, 113.9 M bar-steps/s"
