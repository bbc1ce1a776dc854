"""What the assets of an ingest do with files that are not as they should be."""

from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from asset_kit import PIPELINE, write_config

from assets.graph import definitions
from mei_pipeline.candles.lake import Lake, symbols
from mei_pipeline.config.load import load_config
from mei_pipeline.errors import DataError

HOUR_MS = 3_600_000
JANUARY_MS = 1_735_689_600_000
KEY = dg.MultiPartitionKey({"interval": "1h", "month": "2025-01"})
BARS = pl.DataFrame(
    {
        "open_ms": [JANUARY_MS + hour * HOUR_MS for hour in range(24)],
        **{name: [100.0] * 24 for name in ("open", "high", "low", "close", "volume")},
    }
)


@pytest.fixture
def config(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration folder whose two sources are folders of files beside its own files."""
    folder = home / "config"
    write_config(folder)
    sources = "".join(f"  - {{kind: files, path: {name}, venue: binance, interval: 1h}}\n" for name in ("one", "two"))
    head, rest = PIPELINE.format(automation="off").split("sources:\n")
    tail = rest[rest.index("window:") :]
    (folder / "pipeline.yaml").write_text(head.replace("synthetic", "binance") + "sources:\n" + sources + tail)
    for lane in (folder / "lanes").iterdir():
        lane.write_text(lane.read_text().replace("synthetic", "binance"))
    monkeypatch.setenv("MEI_CONFIG", str(folder))
    for name, symbol in (("one", "BTC"), ("two", "ETH")):
        (folder / name).mkdir()
        BARS.write_csv(folder / name / f"{symbol}-1h.csv")
    return folder


def materialize(config: Path, asset: str, key: str | None = None) -> dg.ExecuteInProcessResult:
    found = definitions(load_config(config)).resolve_assets_def(asset)
    return dg.materialize([found], partition_key=key)


def test_what_a_source_left_out_is_in_the_metadata_of_candles(config: Path) -> None:
    BARS.write_csv(config / "one" / "okx_BTC-1h.csv")
    result = materialize(config, "candles", KEY)
    metadata = result.asset_materializations_for_node("candles")[0].metadata
    assert metadata["rows_added"].value == 48
    left_out = metadata["left_out"].value
    assert isinstance(left_out, list)
    assert ["okx_BTC-1h.csv" in str(reason) for reason in left_out] == [True]


def test_a_source_of_which_every_row_is_refused_fails_the_run_and_the_others_are_stored(
    config: Path, home: Path
) -> None:
    bad = BARS.with_columns(close=pl.lit(-1.0))
    bad.write_csv(config / "one" / "BTC-1h.csv")
    with pytest.raises(DataError, match="one: all 24 rows of 1h were refused; non_positive"):
        materialize(config, "candles", KEY)
    assert symbols(Lake(home / "lake"), "binance", "1h") == ["ETH"]


def test_funding_of_which_every_row_is_refused_fails_the_run(config: Path) -> None:
    (config / "one" / "funding.csv").write_text(f"symbol,time_ms,rate\nBTC,{JANUARY_MS},\n")
    with pytest.raises(DataError, match="all 1 rows of funding were refused"):
        materialize(config, "funding")
