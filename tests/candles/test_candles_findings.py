"""Findings across the files of a lake, however the bars came into it."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from candle_kit import HOUR, MAY, NOW, bars

from mei_pipeline.backup.run import backup, restore
from mei_pipeline.candles import store
from mei_pipeline.candles.confirm import Decision, confirm, read_confirmations, withdraw
from mei_pipeline.candles.findings import (
    findings,
    refuse_spikes,
    spikes_in_window,
    symbols_with_spikes,
    unconfirmed_spikes,
)
from mei_pipeline.candles.ingest import ingest
from mei_pipeline.candles.lake import Lake, merge_candles, undo
from mei_pipeline.candles.quality import Findings, check_neighbours, group_findings
from mei_pipeline.candles.reading import read_bars
from mei_pipeline.candles.schema import CANDLES, FUNDING, INSTRUMENTS
from mei_pipeline.candles.spikes import SpikeBounds
from mei_pipeline.errors import DataError, Refused

BOUNDS = SpikeBounds()
JUNE = MAY + 31 * 24 * HOUR
PRICES = ("open", "high", "low", "close")
ANN = Decision("ann", "seen on the venue", NOW)


class Given:
    """A source that has the frames that it was given."""

    name, venue = "given", "binance"

    def __init__(self, *frames: pl.DataFrame) -> None:
        self.frames = frames

    def candles(self, _interval: str, _from_ms: int, _to_ms: int) -> Iterator[pl.DataFrame]:
        return iter(self.frames)

    def funding(self, _from_ms: int, _to_ms: int) -> Iterator[pl.DataFrame]:
        return iter([FUNDING.empty()])

    def instruments(self) -> pl.DataFrame:
        return INSTRUMENTS.empty()


def scaled(frame: pl.DataFrame, factors: Mapping[int, float], symbol: str = "BTC") -> pl.DataFrame:
    """`frame` with the prices of some bars of a symbol, by open time, multiplied."""
    for open_ms, factor in factors.items():
        hit = (pl.col("symbol") == symbol) & (pl.col("open_ms") == open_ms)
        frame = frame.with_columns(pl.when(hit).then(pl.col(name) * factor).otherwise(pl.col(name)) for name in PRICES)
    return frame


def without(frame: pl.DataFrame, first_ms: int, count: int, symbol: str = "BTC") -> pl.DataFrame:
    """`frame` less `count` bars of a symbol from `first_ms` on."""
    inside = (pl.col("open_ms") >= first_ms) & (pl.col("open_ms") < first_ms + count * HOUR)
    return frame.filter(~((pl.col("symbol") == symbol) & inside))


def flawed() -> pl.DataFrame:
    """Two symbols around the end of a month, with a flaw of every kind at the edge and inside."""
    frame = bars(("BTC", "ETH"), 24, JUNE - 12 * HOUR)
    frame = scaled(frame, {JUNE: 1000.0, JUNE + 5 * HOUR: 0.001})
    frame = scaled(frame, {JUNE + hour * HOUR: 0.4 for hour in range(7, 12)}, "ETH")
    return without(without(frame, JUNE - 3 * HOUR, 2), JUNE + 5 * HOUR, 3, "ETH")


def whole(frame: pl.DataFrame) -> Findings:
    """What the rules find where all bars are at hand."""
    broken = check_neighbours(frame.select("symbol", "open_ms", *PRICES).sort("symbol", "open_ms"), "1h")
    return Findings() + Findings(tuple(item for rule, rows in broken.items() for item in group_findings(rows, rule)))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_rules_are_applied_across_months(lake: Lake) -> None:
    merge_candles(lake, flawed(), now_ms=NOW)
    assert len(store.read_manifest(lake, "candles/binance/1h").files) == 2
    assert findings(lake, "binance", "1h", BOUNDS).counts() == {
        "spike": {"BTC": 2},
        "jump": {"BTC": 4},
        "gap_jump": {"ETH": 1},
        "gap": {"BTC": 2, "ETH": 3},
    }


@pytest.mark.parametrize("seed", range(6))
def test_findings_do_not_depend_on_how_the_bars_came(lake: Lake, seed: int) -> None:
    # Bars in a random order, in one to six ingests.
    frame = flawed().sample(fraction=1.0, shuffle=True, seed=seed)
    cuts = sorted(np.random.default_rng(seed).integers(0, frame.height, seed).tolist())
    for start, end in zip([0, *cuts], [*cuts, frame.height], strict=True):
        merge_candles(lake, frame[start:end], now_ms=NOW)
    expected = whole(frame)
    assert findings(lake, "binance", "1h", BOUNDS) == expected
    # An ingest that brings all of it again finds the same.
    again = ingest(lake, Given(frame), ["1h"], now_ms=NOW)
    assert again.ingest_id is None or again.total.added == again.total.revised == 0
    assert again.findings["1h"].counts("warn", "mark") == expected.counts()


@pytest.mark.parametrize(
    ("first", "last", "counts"),
    [
        (0, 24, {"spike": {"BTC": 2}, "jump": {"BTC": 4}, "gap": {"BTC": 2}}),
        (0, 8, {}),  # bars before the gap
        (12, 13, {"spike": {"BTC": 1}, "jump": {"BTC": 2}}),  # the spike at the start of the month
        (8, 12, {"spike": {"BTC": 1}, "jump": {"BTC": 1}, "gap": {"BTC": 2}}),  # its neighbour, and the gap
        (13, 16, {"spike": {"BTC": 1}, "jump": {"BTC": 1}}),
        (19, 24, {}),  # bars after all
    ],
)
def test_an_ingest_reports_its_bars_and_their_neighbours(
    lake: Lake, first: int, last: int, counts: dict[str, dict[str, int]]
) -> None:
    frame = flawed().filter(pl.col("symbol") == "BTC")
    merge_candles(lake, frame, now_ms=NOW)
    start = JUNE - 12 * HOUR
    part = frame.filter(pl.col("open_ms").is_between(start + first * HOUR, start + (last - 1) * HOUR))
    report = ingest(lake, Given(part), ["1h"], now_ms=NOW)
    assert (report.findings["1h"].counts() if report.findings else {}) == counts


def test_bars_far_before_are_neighbours_too(lake: Lake) -> None:
    early, late = bars(("BTC", "ETH"), 5), bars(("BTC",), 5, MAY + 100 * 24 * HOUR)
    merge_candles(lake, pl.concat([early, bars(("ETH",), 5, MAY + 60 * 24 * HOUR)]), now_ms=NOW)
    report = ingest(lake, Given(scaled(late, dict.fromkeys(late["open_ms"], 0.01))), ["1h"], now_ms=NOW)
    assert report.findings["1h"].counts() == {"gap_jump": {"BTC": 1}, "gap": {"BTC": 100 * 24 - 5}}
    (gap,) = report.findings["1h"].of("gap")
    assert (gap.rows, gap.sample[0]["open_ms"], gap.sample[0]["missing"]) == (1, MAY + 2400 * HOUR, 2395)


def test_the_longest_gap_comes_first(lake: Lake) -> None:
    frame = without(without(bars(("BTC",), 60), MAY + 5 * HOUR, 1), MAY + 20 * HOUR, 24)
    report = ingest(lake, Given(frame), ["1h"], now_ms=NOW)
    (gap,) = report.findings["1h"].of("gap")
    assert (gap.count, gap.rows, [row["missing"] for row in gap.sample]) == (25, 2, [24, 1])


def spiked(lake: Lake) -> int:
    """Merge bars with one spike, and return when it opens."""
    at_ms = MAY + 10 * HOUR
    merge_candles(lake, scaled(bars(("BTC", "ETH"), 24), {at_ms: 1000.0}), now_ms=NOW)
    return at_ms


def bar_of(lake: Lake) -> dict[str, float]:
    return unconfirmed_spikes(lake, "binance", "1h", BOUNDS).row(0, named=True)


def test_a_marked_symbol_sits_out_of_windows_that_hold_the_bar(lake: Lake) -> None:
    at_ms = spiked(lake)
    window = (MAY, MAY + 24 * HOUR)
    found = symbols_with_spikes(lake, "binance", ["1h"], ["BTC", "ETH"], window, BOUNDS)
    assert found.keys() == {"BTC"}
    assert "2025-05-01 10:00Z" in found["BTC"]
    with pytest.raises(DataError, match="BTC: spike: 1 implausible 1h bar"):
        refuse_spikes(lake, "binance", ["1h"], ["BTC", "ETH"], window, BOUNDS)
    refuse_spikes(lake, "binance", ["1h"], ["ETH"], window, BOUNDS)
    refuse_spikes(lake, "binance", ["1h"], ["BTC"], (MAY, at_ms), BOUNDS)


def judged(lake: Lake, window: tuple[int, int], known_ms: int | None = None) -> list[int]:
    """Return the open times that are marked in a window."""
    frame = read_bars(lake, "binance", "1h", ["BTC", "ETH"], bounds=window)
    return spikes_in_window(lake, "binance", "1h", frame, window, BOUNDS, known_ms)["open_ms"].to_list()


@pytest.mark.parametrize("gap", [0, 800])
def test_a_bar_is_marked_in_every_window_that_holds_it(lake: Lake, gap: int) -> None:
    # A spike of 5 times the price needs both neighbours. With a gap, 20 times, and neighbours in other months.
    at_ms, factor = JUNE + 2 * HOUR, 20.0 if gap else 5.0
    sound = bars(("BTC", "ETH"), 2 * gap + 12, JUNE - gap * HOUR - 4 * HOUR)
    frame = scaled(sound, {at_ms: factor})
    if gap:
        frame = without(without(frame, at_ms - gap * HOUR, gap), at_ms + HOUR, gap)
    merge_candles(lake, frame, now_ms=NOW)
    assert unconfirmed_spikes(lake, "binance", "1h", BOUNDS)["open_ms"].to_list() == [at_ms]
    for start in (-3, -1, 0):
        for end in (1, 2, 5):
            assert judged(lake, (at_ms + start * HOUR, at_ms + end * HOUR)) == [at_ms]
    for window in ((at_ms - 3 * HOUR, at_ms), (at_ms + HOUR, at_ms + 9 * HOUR)):
        assert judged(lake, window) == []
        refuse_spikes(lake, "binance", ["1h"], ["BTC"], window, BOUNDS)


def test_a_change_of_level_is_marked_in_no_window(lake: Lake) -> None:
    change_ms = MAY + 48 * HOUR
    after = {change_ms + hour * HOUR: 50.0 for hour in range(24)}
    merge_candles(lake, scaled(bars(("BTC", "ETH"), 72), after), now_ms=NOW)
    assert unconfirmed_spikes(lake, "binance", "1h", BOUNDS).is_empty()
    for hours in (-2, -1, 0, 1, 2, 3, 4):
        edge_ms = change_ms + hours * HOUR
        assert judged(lake, (MAY, edge_ms)) == judged(lake, (edge_ms, MAY + 72 * HOUR)) == []
    # At the time of the change nobody knows yet that the price stays.
    known_ms = change_ms + 2 * HOUR
    assert judged(lake, (MAY, known_ms), known_ms) == [change_ms, change_ms + HOUR]
    assert judged(lake, (MAY, known_ms), known_ms + 10 * HOUR) == []


def test_a_revised_bar_is_marked_no_more_and_an_undo_marks_it_again(lake: Lake) -> None:
    spiked(lake)
    merged = merge_candles(lake, bars(("BTC",), 24), now_ms=NOW)
    assert unconfirmed_spikes(lake, "binance", "1h", BOUNDS).is_empty()
    undo(lake, str(merged.ingest_id), now_ms=NOW)
    assert unconfirmed_spikes(lake, "binance", "1h", BOUNDS)["symbol"].to_list() == ["BTC"]


def test_a_confirmation_holds_until_it_is_withdrawn(lake: Lake) -> None:
    at_ms = spiked(lake)
    merged = unconfirmed_spikes(lake, "binance", "1h", BOUNDS)
    confirm(lake, "binance", "1h", bar_of(lake), ANN)
    assert unconfirmed_spikes(lake, "binance", "1h", BOUNDS).is_empty()
    assert "spike" not in findings(lake, "binance", "1h", BOUNDS).counts()
    merge_candles(lake, scaled(bars(("BTC", "ETH"), 24), {at_ms: 1000.0}), now_ms=NOW)
    assert unconfirmed_spikes(lake, "binance", "1h", BOUNDS).is_empty()
    with pytest.raises(Refused, match="was confirmed by ann"):
        confirm(lake, "binance", "1h", merged.row(0, named=True), ANN)
    withdraw(lake, "binance", "1h", "BTC", at_ms, Decision("bob", "a wrong row", NOW + 1))
    assert unconfirmed_spikes(lake, "binance", "1h", BOUNDS).height == 1
    (entry,) = read_confirmations(lake, "binance")
    assert (entry.who, entry.why, entry.withdrawn and entry.withdrawn.who) == ("ann", "seen on the venue", "bob")
    with pytest.raises(Refused, match="not confirmed"):
        withdraw(lake, "binance", "1h", "BTC", at_ms, ANN)
    confirm(lake, "binance", "1h", bar_of(lake), ANN)
    assert unconfirmed_spikes(lake, "binance", "1h", BOUNDS).is_empty()
    assert len(read_confirmations(lake, "binance")) == 2


def test_a_confirmation_and_its_end_change_the_edition(lake: Lake) -> None:
    at_ms = spiked(lake)
    editions = [store.edition(lake)]
    confirm(lake, "binance", "1h", bar_of(lake), ANN)
    editions.append(store.edition(lake))
    withdraw(lake, "binance", "1h", "BTC", at_ms, ANN)
    editions.append(store.edition(lake))
    with pytest.raises(Refused, match="not confirmed"):
        withdraw(lake, "binance", "1h", "BTC", at_ms, ANN)
    assert store.edition(lake) == editions[-1]
    assert sorted(set(editions)) == editions


def test_a_confirmation_is_of_the_prices_that_the_bar_had(lake: Lake) -> None:
    at_ms = spiked(lake)
    confirm(lake, "binance", "1h", bar_of(lake), ANN)
    merge_candles(lake, scaled(bars(("BTC",), 24), {at_ms: 2000.0}), now_ms=NOW)
    assert unconfirmed_spikes(lake, "binance", "1h", BOUNDS).height == 1


def test_a_confirmation_survives_backup_and_restore(lake: Lake, tmp_path: Path) -> None:
    spiked(lake)
    confirm(lake, "binance", "1h", bar_of(lake), ANN)
    backup(lake.root.parent, tmp_path / "out.tar")
    restore(tmp_path / "out.tar", tmp_path / "other")
    other = Lake(tmp_path / "other" / "lake")
    assert read_confirmations(other, "binance") == read_confirmations(lake, "binance")
    assert unconfirmed_spikes(other, "binance", "1h", BOUNDS).is_empty()


def test_a_damaged_record_of_confirmations_is_named(lake: Lake) -> None:
    spiked(lake)
    path = lake.root / "confirmed" / "binance.json"
    path.parent.mkdir()
    path.write_text('{"confirmations": [{}]}')
    with pytest.raises(DataError, match=r"confirmed/binance\.json: damaged"):
        unconfirmed_spikes(lake, "binance", "1h", BOUNDS)


def test_a_lake_written_by_an_earlier_version_is_read(lake: Lake) -> None:
    merge_candles(lake, flawed(), now_ms=NOW)
    manifest = store.read_manifest(lake, "candles/binance/1h").model_dump()
    for entry in manifest["files"].values():
        entry["quality"] = {"gap": {"BTC": 1}}
    (lake.root / "candles/binance/1h/manifest.json").write_text(str(manifest).replace("'", '"'))
    assert findings(lake, "binance", "1h", BOUNDS) == whole(flawed())


def test_no_bars_no_findings(lake: Lake) -> None:
    assert findings(lake, "binance", "1h", BOUNDS) == Findings()
    assert unconfirmed_spikes(lake, "binance", "1h", BOUNDS).is_empty()
    assert ingest(lake, Given(CANDLES.empty()), ["1h"], now_ms=NOW).findings == {}
