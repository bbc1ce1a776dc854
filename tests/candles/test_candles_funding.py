import itertools

import polars as pl
import pytest
from candle_kit import HOUR, prints
from example_kit import examples
from hypothesis import given
from hypothesis import strategies as st

from mei_pipeline.candles.funding import cadence_changes, hour_of
from mei_pipeline.candles.lake import Lake, merge_funding, read_funding, revisions
from mei_pipeline.candles.schema import FUNDING

DAY = 1_702_771_200_000  # 2023-12-17 00:00 UTC
NOW = DAY + 10_000 * HOUR


@pytest.mark.parametrize(
    ("stamp", "hour"),
    [
        (DAY, 0),
        (DAY + 48, 0),
        (DAY + 22 * HOUR + 250_610, 22),  # printed at 22:04:10
        (DAY + 10 * HOUR + 887_645, 10),  # printed at 10:14:47
        (DAY + 8 * HOUR + 1_433_040, 8),  # printed at 08:23:53
        (DAY + 7 * HOUR + 59 * 60_000, 7),
        (DAY + 8 * HOUR - 30_000, 8),
        (DAY + 8 * HOUR - 30_001, 7),
    ],
)
def test_a_print_belongs_to_the_hour_that_was_due(stamp, hour):
    assert pl.DataFrame({"time_ms": [stamp]}).select(hour_of()).item() == DAY + hour * HOUR


def test_one_payment_from_two_sources_is_read_once_and_the_finer_rounding_stays(tmp_path):
    lake = Lake(tmp_path)
    frame = prints(
        [
            ("BTC", DAY + 48, 0.00005156, 0.00041244, "sdk"),
            ("BTC", DAY + 48, 0.000051555, 0.0004124403, "tracker"),
            ("BTC", DAY + 48, 0.00005156, 0.00041244, "sdk"),
            ("BTC", DAY + HOUR, 0.0000125, None, "sdk"),
        ]
    )
    report = merge_funding(lake, frame, now_ms=NOW)
    assert (report.symbols["BTC"].added, report.symbols["BTC"].repaired) == (2, 2)
    read = read_funding(lake, "hyperliquid")
    assert read["rate"].to_list() == [0.000051555, 0.0000125]
    assert read["time_ms"].to_list() == [DAY + 48, DAY + HOUR]


def test_late_prints_keep_their_stamp_and_take_no_other_hours_place(tmp_path):
    lake = Lake(tmp_path)
    stamps = [DAY + 21 * HOUR + 189, DAY + 22 * HOUR + 250_610, DAY + 23 * HOUR + 367]
    merge_funding(lake, prints([("BTC", stamp, 0.0000125, None, "x") for stamp in stamps]), now_ms=NOW)
    assert read_funding(lake, "hyperliquid")["time_ms"].to_list() == stamps


def test_prints_of_one_input_that_disagree_are_refused(tmp_path):
    lake = Lake(tmp_path)
    frame = prints(
        [("BTC", DAY, 0.0001, None, "a"), ("BTC", DAY + 5, 0.0002, None, "b"), ("BTC", DAY + HOUR, 0.1, None, "a")]
    )
    report = merge_funding(lake, frame, now_ms=NOW)
    assert report.findings.counts() == {"conflict": {"BTC": 2}}
    assert read_funding(lake, "hyperliquid")["rate"].to_list() == [0.1]


def test_a_later_input_that_disagrees_is_a_revision(tmp_path):
    lake = Lake(tmp_path)
    merge_funding(lake, prints([("BTC", DAY, 0.0001, None, "a")]), now_ms=NOW)
    report = merge_funding(lake, prints([("BTC", DAY, 0.00012, None, "a")]), now_ms=NOW)
    assert report.total.revised == 1
    assert read_funding(lake, "hyperliquid")["rate"].to_list() == [0.00012]
    assert revisions(lake, table=FUNDING).select("old_rate", "new_rate").row(0) == (0.0001, 0.00012)


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"rate": None}, "null"),
        ({"rate": float("nan")}, "non_finite"),
        ({"premium": float("inf")}, "non_finite"),
        ({"time_ms": NOW}, "future"),
        ({"symbol": None}, "null"),
    ],
)
def test_a_bad_print_is_refused(tmp_path, values, rule):
    row = {"symbol": "BTC", "time_ms": DAY, "rate": 0.0001, "premium": None, "source": "x"} | values
    report = merge_funding(Lake(tmp_path), prints([tuple(row.values())]), now_ms=NOW)
    assert rule in report.findings.counts()
    assert report.total.refused == 1
    assert read_funding(Lake(tmp_path), "hyperliquid").is_empty()


@examples(25)
@given(st.permutations([("a", 0.00005156, 48), ("b", 0.000051555, 50), ("c", 0.00005156, 48)]), st.data())
def test_the_order_of_sources_does_not_matter(tmp_path_factory, order, data):
    lake = Lake(tmp_path_factory.mktemp("lake"))
    cuts = data.draw(st.lists(st.booleans(), min_size=2, max_size=2))
    batch = []
    for row, cut in itertools.zip_longest(order, cuts, fillvalue=True):
        batch.append(("BTC", DAY + row[2], row[1], None, row[0]))
        if cut:
            merge_funding(lake, prints(batch), now_ms=NOW)
            batch = []
    read = read_funding(lake, "hyperliquid").select("time_ms", "rate")
    assert read.rows() == [(DAY + 50, 0.000051555)]


def test_cadence_changes_are_found_and_holes_are_not():
    eight = [DAY + index * 8 * HOUR for index in range(10)]
    hourly = [eight[-1] + index * HOUR for index in range(1, 30) if index != 15]
    frame = prints([("BTC", stamp + 40, 0.0001, None, "x") for stamp in (*eight, *hourly)])
    assert cadence_changes(frame).rows() == [("BTC", eight[-1] + HOUR, 8, 1)]
