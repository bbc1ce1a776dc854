import pytest
from candle_kit import HOUR, MAY

from mei_pipeline.candles.intervals import INTERVALS, interval_ms, iso, month_of, month_range, months_between
from mei_pipeline.errors import ConfigError


def test_each_interval_divides_a_day():
    assert all(24 * HOUR % length == 0 for length in INTERVALS.values())
    assert interval_ms("15m") == 900_000


@pytest.mark.parametrize("name", ["", "2h", "60m", "1H", "1M"])
def test_an_unknown_interval_names_the_known_ones(name):
    with pytest.raises(ConfigError, match="allowed: 1m, 3m, 5m"):
        interval_ms(name)


@pytest.mark.parametrize(
    ("month", "days"), [("2025-05", 31), ("2024-02", 29), ("2025-02", 28), ("2025-12", 31), ("2025-11", 30)]
)
def test_a_month_ends_where_the_next_begins(month, days):
    start, end = month_range(month)
    assert end - start == days * 24 * HOUR
    assert (month_of(start), month_of(end - 1)) == (month, month)
    assert month_of(end) != month


@pytest.mark.parametrize("month", ["2025", "2025-13", "05-2025", ""])
def test_a_month_of_another_form_is_refused(month):
    with pytest.raises(ConfigError, match="YYYY-MM"):
        month_range(month)


@pytest.mark.parametrize(
    ("from_ms", "to_ms", "months"),
    [
        (MAY, MAY, []),
        (MAY, MAY + 1, ["2025-05"]),
        (MAY - 1, MAY + 1, ["2025-04", "2025-05"]),
        (MAY, MAY + 62 * 24 * HOUR, ["2025-05", "2025-06", "2025-07"]),
    ],
)
def test_months_between_two_times(from_ms, to_ms, months):
    assert months_between(from_ms, to_ms) == months


def test_times_for_people():
    assert (iso(MAY), iso(MAY + 1_500)) == ("2025-05-01 00:00Z", "2025-05-01 00:00:01Z")
