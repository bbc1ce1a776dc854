from xml.etree import ElementTree as ET

import polars as pl
import pytest
from candle_kit import HOUR, MAY, NOW, bars

from mei_pipeline.candles.coverage import SCHEMA, coverage, coverage_svg
from mei_pipeline.candles.heatmap import CLASSES
from mei_pipeline.candles.instruments import default_instruments
from mei_pipeline.candles.lake import Lake, merge_candles, merge_instruments
from mei_pipeline.svg import DARK

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def parse(text):
    return ET.fromstring(text)  # noqa: S314  (we wrote it)


def rows(frame):
    return {
        (row["symbol"], row["month"]): (row["bars"], row["expected"], row["no_trade"], row["unknown"])
        for row in frame.iter_rows(named=True)
    }


def test_ragged_ends_late_starts_and_holes_are_counted(lake):
    frame = pl.concat(
        [
            bars(("BTC",), 24 * 40),
            bars(("ETH",), 24 * 33).filter(pl.col("open_ms") != MAY + 7 * HOUR),
            bars(("SOL",), 24 * 5, MAY + 35 * 24 * HOUR),
        ]
    )
    merge_candles(lake, frame, now_ms=NOW)
    assert rows(coverage(lake, "binance")) == {
        ("BTC", "2025-05"): (744, 744, 0, 0),
        ("BTC", "2025-06"): (216, 216, 0, 0),
        ("ETH", "2025-05"): (743, 744, 0, 1),
        ("ETH", "2025-06"): (48, 216, 0, 168),
        ("SOL", "2025-06"): (120, 120, 0, 0),
    }


def test_bars_are_expected_up_to_the_time_given(lake):
    merge_candles(lake, bars(("BTC",), 24), now_ms=NOW)
    assert rows(coverage(lake, "binance", as_of_ms=MAY + 30 * HOUR + 5)) == {("BTC", "2025-05"): (24, 30, 0, 6)}


def test_listing_and_delisting_bound_what_is_expected(lake):
    merge_candles(lake, pl.concat([bars(("BTC",), 48), bars(("ETH",), 10, MAY + 20 * HOUR)]), now_ms=NOW)
    known = default_instruments("binance", {"ETH": 1.0}).with_columns(
        pl.lit(MAY + 15 * HOUR, dtype=pl.Int64).alias("listed_ms"),
        pl.lit(MAY + 40 * HOUR, dtype=pl.Int64).alias("delisted_ms"),
    )
    merge_instruments(lake, known, now_ms=NOW)
    assert rows(coverage(lake, "binance"))["ETH", "2025-05"] == (10, 25, 0, 15)


def test_intervals_come_shortest_first_and_can_be_chosen(lake):
    merge_candles(lake, bars(("BTC",), 24), now_ms=NOW)
    merge_candles(lake, bars(("BTC",), 24, interval="5m"), now_ms=NOW)
    assert coverage(lake, "binance")["interval"].to_list() == ["5m", "1h"]
    assert coverage(lake, "binance", ["1h"])["interval"].to_list() == ["1h"]


def test_an_empty_lake_has_an_empty_coverage_and_a_picture_that_says_so(lake):
    frame = coverage(lake, "binance")
    assert frame.is_empty()
    assert "no bars yet" in "".join(parse(coverage_svg(frame)).itertext())


def test_every_colour_of_the_picture_has_a_dark_one():
    cells = [
        ("binance", "BTC", "1h", f"2025-{month:02d}", bars, expected, 0, expected - bars)
        for month, (bars, expected) in enumerate([(720, 720), (710, 720), (660, 720), (400, 720), (1, 720), (0, 0)], 1)
    ]
    picture = parse(coverage_svg(pl.DataFrame(cells, schema=SCHEMA, orient="row")))
    used = {each.get(name) for each in picture.iter() for name in ("fill", "stroke")} - {None, "none"}
    assert used <= set(DARK)
    grounds = {(each.get("fill"), each.get("fill-opacity")) for each in picture.iter(f"{SVG}rect") if each.get("x")}
    assert len(grounds) == len(CLASSES) + 1, "every class has its ground"


def test_the_picture_has_a_cell_per_symbol_and_month_and_tells_their_figures(lake):
    frame = pl.concat([bars(("BTC", "A&B"), 24 * 40), bars(("SOL",), 24, MAY + 39 * 24 * HOUR)])
    merge_candles(lake, frame.filter(pl.col("open_ms") != MAY + 5 * HOUR), now_ms=NOW)
    picture = parse(coverage_svg(coverage(lake, "binance")))
    titles = [title.text for title in picture.iter(f"{SVG}title")]
    assert len(titles) == 3 * 2
    assert "A&B 2025-05: 743 of 744 bars, 0 no trade, 1 unknown" in titles
    assert "SOL 2025-05: no bars expected" in titles
    texts = ["".join(text.itertext()) for text in picture.iter(f"{SVG}text")]
    assert {"BTC", "SOL", "May", "Jun", "2025", "complete", "99.8"} <= set(texts)


@pytest.mark.parametrize(("symbols", "months"), [(200, 60), (1, 1)])
def test_the_picture_holds_everything_inside_its_frame(symbols, months):
    cells = [
        ("binance", f"SYM{number}", "1h", f"{2020 + month // 12}-{month % 12 + 1:02d}", 700, 720, 5, 15)
        for number in range(symbols)
        for month in range(months)
    ]
    text = coverage_svg(pl.DataFrame(cells, schema=SCHEMA, orient="row"))
    picture = parse(text)
    width, height = float(picture.get("width")), float(picture.get("height"))
    boxes = [box for box in picture.iter(f"{SVG}rect") if box.get("x")]
    assert len(boxes) >= symbols * months
    assert all(float(box.get("x")) + float(box.get("width")) <= width for box in boxes)
    assert all(float(box.get("y")) + float(box.get("height")) <= height for box in boxes)
    assert len(text) < 4_000_000
    assert all(reference not in text for reference in ("<script", "href", "url("))
