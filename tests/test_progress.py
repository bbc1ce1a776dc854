import pytest

from mei_pipeline.progress import Lines


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def lines():
    return []


def test_unfinished_work_is_told_every_so_often_with_the_time_left(lines, clock):
    report = Lines(lines.append, 10.0, clock_s=clock)
    for second in range(21):
        clock.now_s = 100.0 + second
        report(second * 2, 7300, "combos", "2 combos/s")
    assert lines == [
        "combos: 20 of 7,300, 2 combos/s, 1:00:40 left",
        "combos: 40 of 7,300, 2 combos/s, 1:00:30 left",
    ]


def test_time_left_counts_only_what_was_done_since_the_first_report(lines, clock):
    report = Lines(lines.append, 10.0, clock_s=clock)
    report(900, 1000, "combos")
    clock.now_s += 10.0
    report(910, 1000, "combos")
    assert lines == ["combos: 910 of 1,000, 0:01:30 left"]


def test_the_end_is_told_at_once_and_each_kind_of_work_for_itself(lines, clock):
    report = Lines(lines.append, 10.0, clock_s=clock)
    report(1, 2, "columns")
    report(2, 2, "columns")
    report(3, 3, "combos", "9 combos/s")
    assert lines == ["columns: 2 of 2", "combos: 3 of 3, 9 combos/s"]


def test_the_first_report_is_told_where_that_is_wanted(lines, clock):
    report = Lines(lines.append, 10.0, first=True, clock_s=clock)
    report(0, 2, "columns")
    report(1, 2, "columns")
    assert lines == ["columns: 0 of 2"]


def test_no_time_is_left_to_tell_where_nothing_was_done_yet(lines, clock):
    report = Lines(lines.append, 10.0, clock_s=clock)
    report(5, 10, "combos")
    clock.now_s += 10.0
    report(5, 10, "combos")
    assert lines == ["combos: 5 of 10"]
