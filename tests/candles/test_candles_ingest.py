import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import polars as pl
import pytest
from candle_kit import HOUR, MAY, NOW, bars, contents, prints, with_row

from mei_pipeline.candles.coverage import coverage
from mei_pipeline.candles.ingest import ingest
from mei_pipeline.candles.instruments import default_instruments
from mei_pipeline.candles.lake import (
    Lake,
    ingests,
    read_candles,
    read_funding,
    read_instruments,
    revisions,
    undo,
)
from mei_pipeline.candles.schema import INSTRUMENTS
from mei_pipeline.candles.sources import build_source
from mei_pipeline.candles.sources.files import open_files
from mei_pipeline.config.models import FileSourceConfig, SyntheticSourceConfig
from mei_pipeline.errors import ConfigError, DataError


@dataclass
class Shelf:
    """A source that serves given frames and remembers what it was asked for."""

    frames: list[pl.DataFrame]
    payments: pl.DataFrame | None = None
    known: pl.DataFrame = field(default_factory=INSTRUMENTS.empty)
    complete: bool = False
    name: str = "shelf"
    venue: str = "binance"
    requests: list[tuple[str, int, int]] = field(default_factory=list)

    def candles(self, interval: str, from_ms: int, to_ms: int) -> Iterator[pl.DataFrame]:
        self.requests.append((interval, from_ms, to_ms))
        for frame in self.frames:
            yield frame.filter((pl.col("interval") == interval) & pl.col("open_ms").is_between(from_ms, to_ms - 1))

    def funding(self, from_ms: int, to_ms: int) -> Iterator[pl.DataFrame]:  # noqa: ARG002  (the protocol's)
        if self.payments is not None:
            yield self.payments

    def instruments(self) -> pl.DataFrame:
        return self.known


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


FRAME = bars(("BTC", "ETH"), 24 * 40)
PAID = prints([("BTC", MAY + 48, 0.0001, None, "shelf")], venue="binance")


def test_one_ingest_has_one_id_and_reports_every_symbol(lake):
    bad = with_row(FRAME, 3, close=-1.0)
    source = Shelf([bad[:500], bad[500:], bars(("SOL",), 12, interval="5m")], PAID)
    report = ingest(lake, source, ["5m", "1h"], now_ms=NOW)
    assert report.candles["1h"]["BTC"].added == 24 * 40 - 1
    assert report.candles["1h"]["BTC"].refused == 1
    assert report.candles["5m"]["SOL"].added == 12
    assert report.funding["BTC"].added == 1
    assert set(report.findings["1h"].counts()) == {"non_positive", "inconsistent", "gap"}
    assert [record.id for record in ingests(lake)] == [report.ingest_id]
    assert set(report.files) >= {"candles/binance/1h/2025-05.parquet", "funding/binance/BTC.parquet"}
    assert report.as_dict()["total"]["added"] == report.total.added == 24 * 80 - 1 + 12


def test_undo_takes_back_candles_funding_and_instruments(lake):
    report = ingest(lake, Shelf([FRAME], PAID), ["1h"], now_ms=NOW)
    undo(lake, report.ingest_id)
    assert read_candles(lake, "binance", "1h").is_empty()
    assert read_funding(lake, "binance").is_empty()
    assert read_instruments(lake, "binance").is_empty()


def test_the_same_ingest_twice_changes_no_byte(lake):
    source = Shelf([FRAME], PAID, complete=True)
    ingest(lake, source, ["1h"], MAY, NOW, now_ms=NOW)
    before = contents(lake.root)
    report = ingest(lake, source, ["1h"], MAY, NOW, now_ms=NOW)
    assert contents(lake.root) == before
    assert (report.ingest_id, report.files, report.instruments) == (None, {}, 0)
    assert revisions(lake).is_empty()


def test_symbols_without_an_instrument_get_the_default_and_others_keep_theirs(lake):
    own = default_instruments("binance", {"BTC": 1.0}).with_columns(
        pl.lit(7, dtype=pl.Int64).alias("size_decimals"), pl.lit("venue").alias("source")
    )
    report = ingest(lake, Shelf([FRAME], known=own), ["1h"], now_ms=NOW)
    known = read_instruments(lake, "binance").select("symbol", "size_decimals", "source")
    assert known.rows() == [("BTC", 7, "venue"), ("ETH", 3, "default")]
    assert report.instruments == 2


def test_a_real_instrument_revises_the_default_of_its_time(lake):
    ingest(lake, Shelf([FRAME]), ["1h"], now_ms=NOW)
    own = default_instruments("binance", {"BTC": 94_000.0})
    ingest(lake, Shelf([], known=own), [], now_ms=NOW)
    known = read_instruments(lake, "binance", ["BTC"])
    assert known["size_decimals"].to_list() == [5]


def test_what_a_venue_was_asked_for_and_does_not_have_did_not_trade(lake):
    holed = FRAME.filter(~((pl.col("symbol") == "BTC") & pl.col("open_ms").is_between(MAY + 5 * HOUR, MAY + 9 * HOUR)))
    end = MAY + 24 * 40 * HOUR
    ingest(lake, Shelf([holed], complete=False), ["1h"], MAY, end, now_ms=NOW)
    assert coverage(lake, "binance").select(pl.col("no_trade", "unknown").sum()).row(0) == (0, 5)
    report = ingest(lake, Shelf([holed], complete=True), ["1h"], MAY, end, now_ms=NOW)
    assert coverage(lake, "binance").select(pl.col("no_trade", "unknown").sum()).row(0) == (5, 0)
    assert read_candles(lake, "binance", "1h").height == holed.height
    undo(lake, report.ingest_id)
    assert coverage(lake, "binance").select(pl.col("no_trade", "unknown").sum()).row(0) == (0, 5)


def test_a_venue_is_not_asked_about_time_before_listing_after_delisting_or_to_come(lake):
    listed = default_instruments("binance", {"BTC": 1.0, "ETH": 1.0, "OLD": 1.0}).with_columns(
        pl.when(pl.col("symbol") == "BTC").then(MAY + 90 * 60_000).alias("listed_ms"),
        pl.when(pl.col("symbol") == "OLD").then(MAY + 3 * HOUR + 1).alias("delisted_ms"),
    )
    source = Shelf([FRAME[:5]], known=listed, complete=True)
    ingest(lake, source, ["1h"], MAY - 1, NOW * 2, now_ms=MAY + 10 * HOUR + 5)
    record = ingests(lake)[-1]
    assert record.answered["1h"] == {
        "BTC": [[MAY + 2 * HOUR, MAY + 10 * HOUR]],
        "ETH": [[MAY, MAY + 10 * HOUR]],
        "OLD": [[MAY, MAY + 3 * HOUR]],
    }


def test_a_venue_that_was_asked_and_has_nothing_is_remembered_as_asked(lake):
    known = default_instruments("binance", {"BTC": 1.0})
    ingest(lake, Shelf([], known=known, complete=True), ["1h"], MAY, MAY + 9 * HOUR, now_ms=NOW)
    assert ingests(lake)[-1].answered == {"1h": {"BTC": [[MAY, MAY + 9 * HOUR]]}}
    late = FRAME.filter(pl.col("open_ms") >= MAY + 9 * HOUR)
    ingest(lake, Shelf([late]), ["1h"], now_ms=NOW)
    assert coverage(lake, "binance")["unknown"].sum() == 0


def test_stored_records_keep_the_keys_of_earlier_versions(lake):
    known = default_instruments("binance", {"BTC": 1.0})
    report = ingest(lake, Shelf([FRAME], known=known, complete=True), ["1h"], MAY, MAY + 9 * HOUR, now_ms=NOW)
    record = json.loads((lake.root / "ingests" / f"{report.ingest_id}.json").read_text())
    keys = ("id", "source", "venue", "when_ms", "transactions", "added", "revised", "changes", "asked", "undone_ms")
    assert sorted(record) == sorted(keys)
    assert record["asked"]["1h"]["BTC"] == [[MAY, MAY + 9 * HOUR]]
    ranges = json.loads((lake.root / "asked" / "binance.json").read_text())
    assert ranges["ranges"]["1h"]["BTC"] == [[MAY, MAY + 9 * HOUR]]


def test_an_unknown_interval_is_refused_before_anything_is_fetched(lake):
    source = Shelf([FRAME])
    with pytest.raises(ConfigError, match="'2h' is not known"):
        ingest(lake, source, ["1h", "2h"], now_ms=NOW)
    assert source.requests == []


def test_a_file_that_fails_half_way_leaves_what_was_merged_and_can_be_run_again(lake, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    FRAME.write_parquet(folder / "1h.parquet")
    bars(("BTC",), 40, interval="5m").with_columns(pl.lit("x").alias("volume")).write_parquet(folder / "5m.parquet")
    source = open_files(folder)
    with pytest.raises(DataError, match=r"5m\.parquet: column 'volume' has 'x'"):
        ingest(lake, source, ["1h", "5m"], now_ms=NOW)
    bars(("BTC",), 40, interval="5m").write_parquet(folder / "5m.parquet")
    report = ingest(lake, open_files(folder), ["1h", "5m"], now_ms=NOW)
    assert report.candles["1h"]["BTC"].unchanged == 24 * 40
    assert report.candles["5m"]["BTC"].added == 40
    assert read_candles(lake, "binance", "1h").equals(FRAME)


def test_files_of_a_configuration_are_found_from_its_folder(lake, tmp_path):
    (tmp_path / "data").mkdir()
    FRAME.rename({"open_ms": "begin"}).write_parquet(tmp_path / "data" / "a.parquet")
    config = FileSourceConfig(kind="files", venue="binance", path="data", columns={"open_ms": "begin"})
    report = ingest(lake, build_source(config, tmp_path), ["1h"], now_ms=NOW)
    assert report.total.added == FRAME.height


@pytest.mark.parametrize(("symbols", "names"), [(("BTC", "OP"), ["BTC", "OP"]), (2, ["BTC", "ETH"])])
def test_a_synthetic_market_of_a_configuration_is_ingested(lake, symbols, names):
    config = SyntheticSourceConfig.model_validate(
        {
            "kind": "synthetic",
            "seed": 7,
            "symbols": symbols,
            "from": "2025-05-01T00:00:00Z",
            "to": "2025-05-03T00:00:00Z",
        }
    )
    source = build_source(config)
    report = ingest(lake, source, ["1h"], MAY, MAY + 48 * HOUR, now_ms=NOW)
    assert {name: counts.added for name, counts in report.candles["1h"].items()} == dict.fromkeys(names, 48)
    assert report.total.refused == 0
    assert set(report.funding) == set(names)
    assert read_instruments(lake, "synthetic")["source"].unique().to_list() != ["default"]


def test_progress_is_told(lake):
    told = []
    ingest(lake, Shelf([FRAME]), ["1h"], now_ms=NOW, progress=lambda *report: told.append(report))
    assert told == [(1, 2, "binance candles: months"), (2, 2, "binance candles: months")]
