import gzip

import polars as pl
import pytest
from candle_kit import HOUR, MAY, bars
from plain_user import as_plain_user

from mei_pipeline.candles.schema import CANDLES, FUNDING, INSTRUMENTS
from mei_pipeline.candles.sources.files import open_files
from mei_pipeline.errors import ConfigError, DataError

FRAME = bars(("BTC", "ETH"), 10)
DATED = FRAME.select(
    "symbol",
    "interval",
    pl.from_epoch("open_ms", time_unit="ms").dt.replace_time_zone("UTC").alias("open_time"),
    *("open", "high", "low", "close", "volume", "trades", "source"),
)
FUND = pl.DataFrame(
    {
        "symbol": ["BTC", "BTC"],
        "time": [MAY + 48, MAY + 8 * HOUR + 3],
        "funding_rate": [0.0001, -0.0002],
        "premium": [None, 0.5],
    },
    schema_overrides={"premium": pl.Float64},
).with_columns(pl.from_epoch("time", time_unit="ms").dt.replace_time_zone("UTC"))


def read(source, interval="1h"):
    return pl.concat([CANDLES.empty(), *source.candles(interval, 0, 10**14)])


def test_parquet_with_dates_is_read_as_it_is(tmp_path):
    DATED.write_parquet(tmp_path / "a.parquet")
    source = open_files(tmp_path / "a.parquet", "binance")
    assert source.intervals() == ("1h",)
    assert read(source).equals(FRAME)


def test_funding_is_told_from_candles(tmp_path):
    FUND.write_parquet(tmp_path / "f.parquet")
    DATED.write_parquet(tmp_path / "c.parquet")
    source = open_files(tmp_path, "binance")
    assert read(source).equals(FRAME)
    frame = pl.concat(source.funding(0, 10**14))
    assert frame.schema == FUNDING.empty().schema
    assert frame.select("time_ms", "rate", "premium").rows() == [
        (MAY + 48, 0.0001, None),
        (MAY + 8 * HOUR + 3, -0.0002, 0.5),
    ]


def test_instruments_are_told_from_their_columns(tmp_path):
    row = {"symbol": ["BTC"], "from_ms": [0], "size_decimals": [5], "price_decimals": [1], "price_significant": [5]}
    row |= {"min_notional_usd": [10], "max_leverage": [40], "maintenance_margin_frac": ["0.0125"], "source": ["me"]}
    pl.DataFrame(row).write_csv(tmp_path / "i.csv")
    frame = open_files(tmp_path, "binance").instruments()
    assert frame.schema == INSTRUMENTS.empty().schema
    assert frame.select("symbol", "max_leverage", "maintenance_margin_frac", "listed_ms").row(0) == (
        "BTC",
        40.0,
        0.0125,
        None,
    )


@pytest.mark.parametrize(
    "stamp",
    [
        pl.col("open_ms"),
        pl.col("open_ms") // 1000,
        pl.col("open_ms") * 1000,
        pl.col("open_ms") * 1_000_000,
        (pl.col("open_ms") / 1000),
        pl.from_epoch("open_ms", time_unit="ms"),
        pl.from_epoch("open_ms", time_unit="ms").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo"),
        pl.from_epoch("open_ms", time_unit="ms").dt.cast_time_unit("ns"),
        pl.from_epoch("open_ms", time_unit="ms").dt.strftime("%Y-%m-%d %H:%M:%S"),
        pl.from_epoch("open_ms", time_unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        pl.from_epoch("open_ms", time_unit="ms").dt.strftime("%Y-%m-%d %H:%M+00:00"),
        (pl.from_epoch("open_ms", time_unit="ms") + pl.duration(hours=2)).dt.strftime("%Y-%m-%dT%H:%M:%S+0200"),
        pl.col("open_ms").cast(pl.String),
    ],
)
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_times_are_read_in_every_usual_form(tmp_path, stamp, form):
    frame = FRAME.with_columns(stamp.alias("open_ms")).rename({"open_ms": "timestamp"})
    path = tmp_path / f"a.{form}"
    if form == "csv":
        frame.write_csv(path)
    else:
        frame.write_parquet(path)
    assert read(open_files(path, "binance")).equals(FRAME)


def test_columns_are_mapped_and_one_value_is_given_for_all_rows(tmp_path):
    hyperliquid = FRAME.filter(pl.col("symbol") == "BTC").select(
        (pl.col("open_ms") + HOUR - 1).alias("T"), o="open", h="high", l="low", c="close", v="volume"
    )
    hyperliquid.write_csv(tmp_path / "btc.csv")
    source = open_files(tmp_path / "btc.csv", "hyperliquid", "1h", {"close_ms": "T", "symbol": "=BTC"})
    frame = read(source)
    assert frame["open_ms"].to_list() == FRAME["open_ms"].to_list()[:10]
    assert frame.select("symbol", "venue", "source").unique().rows() == [("BTC", "hyperliquid", "btc.csv")]


def test_the_exclusive_close_is_understood_too(tmp_path):
    FRAME.with_columns(pl.col("open_ms") + HOUR).rename({"open_ms": "end"}).write_parquet(tmp_path / "a.parquet")
    source = open_files(tmp_path / "a.parquet", "binance", "1h", {"close_ms": "end"})
    assert read(source)["open_ms"].to_list() == FRAME["open_ms"].to_list()


def test_a_glob_and_a_compressed_csv(tmp_path):
    (tmp_path / "one.csv.gz").write_bytes(gzip.compress(FRAME[:10].write_csv().encode()))
    FRAME[10:].write_csv(tmp_path / "two.csv")
    (tmp_path / "notes.txt").write_text("not read")
    assert read(open_files(str(tmp_path / "*.csv*"), "binance")).equals(FRAME)
    assert read(open_files(tmp_path, "binance")).equals(FRAME)


def test_a_file_of_several_intervals_gives_the_one_that_is_asked_for(tmp_path):
    pl.concat([FRAME, bars(interval="5m")]).write_parquet(tmp_path / "a.parquet")
    source = open_files(tmp_path, "binance")
    assert source.intervals() == ("5m", "1h")
    assert read(source, "5m").equals(bars(interval="5m"))
    assert open_files(tmp_path, "binance", "1h").intervals() == ("1h",)


def test_only_the_range_is_read_and_rows_without_a_time_are_kept_for_the_rules(tmp_path):
    frame = FRAME.with_columns(
        pl.when(pl.int_range(pl.len()) == 4).then(None).otherwise(pl.col("open_ms")).alias("open_ms")
    )
    frame.write_parquet(tmp_path / "a.parquet")
    got = pl.concat(open_files(tmp_path, "binance").candles("1h", MAY + 2 * HOUR, MAY + 4 * HOUR))
    assert got["open_ms"].to_list() == [MAY + 2 * HOUR, MAY + 3 * HOUR, None, MAY + 2 * HOUR, MAY + 3 * HOUR]


def test_empty_cells_are_nulls_for_the_rules(tmp_path):
    (tmp_path / "a.csv").write_text(
        "symbol,interval,open_ms,open,high,low,close,volume\nBTC,1h,1746057600000,1,,NaN,inf,\n"
    )
    row = read(open_files(tmp_path, "binance")).row(0, named=True)
    assert (row["high"], row["volume"], row["close"]) == (None, None, float("inf"))
    assert row["low"] != row["low"]


def test_files_whose_names_name_another_venue_are_left_out_of_a_folder(tmp_path):
    DATED.write_parquet(tmp_path / "binance_usdm_1h.parquet")
    DATED.write_parquet(tmp_path / "hyperliquid_candles.parquet")
    source = open_files(tmp_path, "binance")
    assert read(source).equals(FRAME)
    assert len(source.skipped) == 1
    assert "hyperliquid_candles.parquet: left out" in source.skipped[0]
    assert read(open_files(tmp_path, "hyperliquid")).height == FRAME.height
    with pytest.raises(ConfigError, match="its name says hyperliquid"):
        open_files(tmp_path / "hyperliquid_candles.parquet", "binance")


def test_the_venue_is_read_from_the_files(tmp_path):
    FRAME.write_parquet(tmp_path / "a.parquet")
    assert open_files(tmp_path).venue == "binance"
    with pytest.raises(DataError, match="column 'venue' has 'binance', not 'okx'"):
        read(open_files(tmp_path, "okx"))
    DATED.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="state it with --venue"):
        open_files(tmp_path)


def test_a_path_that_nothing_has_is_an_error_of_its_option(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.parquet: no such file or folder"):
        open_files(tmp_path / "none.parquet", "binance")


CASES = {
    "empty folder": (lambda path: path, r"no file that ends in \.parquet"),
    "no match": (lambda path: path / "*.csv", r"\*\.csv: no file that ends in"),
    "other ending": (lambda path: write(path / "a.xlsx", b"x"), r"a\.xlsx: expected a file that ends in"),
    "empty parquet": (lambda path: write(path / "a.parquet", b""), r"a\.parquet: is empty \(0 bytes\)"),
    "empty csv": (lambda path: write(path / "a.csv", b""), r"a\.csv: is empty \(0 bytes\)"),
    "zero rows": (lambda path: parquet(path, DATED.clear()), r"a\.parquet: has columns but no rows"),
    "zero rows csv": (lambda path: write(path / "a.csv", FRAME.clear().write_csv().encode()), r"a\.csv: .* no rows"),
    "truncated": (lambda path: harmed(parquet(path, DATED)), r"a\.parquet: is not a complete Parquet file"),
    "not parquet": (
        lambda path: write(path / "a.parquet", b"symbol,open\n" * 9),
        r"a\.parquet: is not a complete Parquet",
    ),
    "bad gzip": (lambda path: write(path / "a.csv.gz", b"\x1f\x8bxxxxxxxx"), r"a\.csv\.gz: is not a complete CSV"),
    "column missing": (lambda path: parquet(path, DATED.drop("low")), r"a\.parquet: no column for 'low' of candles"),
    "no symbol": (
        lambda path: parquet(path, DATED.drop("symbol")),
        r"a\.parquet: no column for 'symbol'.*symbol==VALUE",
    ),
    "no interval": (lambda path: parquet(path, DATED.drop("interval")), r"a\.parquet: no column for 'interval'"),
    "neither": (lambda path: parquet(path, pl.DataFrame({"a": [1]})), r"a\.parquet: no column for 'symbol' of candles"),
    "text price": (
        lambda path: parquet(path, DATED.with_columns(pl.lit("dear").alias("close"))),
        r"a\.parquet: column 'close' has 'dear' in row 1, expected a number",
    ),
    "boolean price": (
        lambda path: parquet(path, DATED.with_columns(pl.lit(value=True).alias("close"))),
        r"a\.parquet: column 'close' is Boolean, expected a number",
    ),
    "half a trade": (
        lambda path: parquet(path, DATED.with_columns(pl.lit(0.5).alias("trades"))),
        r"a\.parquet: column 'trades' has 0\.5, expected a whole number",
    ),
    "number as symbol": (
        lambda path: parquet(path, DATED.with_columns(pl.lit(1).alias("symbol"))),
        r"a\.parquet: column 'symbol' is Int32, expected text",
    ),
    "text as time": (
        lambda path: parquet(path, DATED.with_columns(pl.lit("today").alias("open_time"))),
        r"a\.parquet: column 'open_time' \(open_ms\) has 'today' in row 1, expected a date and time",
    ),
    "small number as time": (
        lambda path: parquet(path, DATED.with_columns(pl.int_range(pl.len()).alias("open_time"))),
        r"a\.parquet: column 'open_time' \(open_ms\) reads as 1970",
    ),
    "boolean as time": (
        lambda path: parquet(path, DATED.with_columns(pl.lit(value=True).alias("open_time"))),
        r"a\.parquet: column 'open_time' \(open_ms\) is Boolean",
    ),
    "unknown interval": (
        lambda path: parquet(path, DATED.with_columns(pl.lit("2h").alias("interval"))),
        r"a\.parquet: column 'interval' has '2h'; allowed: 1m",
    ),
    "ragged csv": (
        lambda path: write(path / "a.csv", FRAME.write_csv().encode() + b",".join([b"1"] * 40) + b"\n"),
        r"a\.csv: is not a complete CSV",
    ),
}


def read_all(path):
    source = open_files(path, "binance")
    return [read(source, interval) for interval in source.intervals()]


def write(path, data):
    path.write_bytes(data)
    return path


def parquet(folder, frame):
    frame.write_parquet(folder / "a.parquet")
    return folder / "a.parquet"


def harmed(path):
    path.write_bytes(path.read_bytes()[:-50])
    return path


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_file_is_named_with_what_is_expected(tmp_path, case):
    make, message = CASES[case]
    path = make(tmp_path)
    with pytest.raises(DataError, match=message):
        read_all(path)


def test_a_mapped_column_that_is_not_there_is_an_error_even_if_a_usual_name_is(tmp_path):
    DATED.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"no column for 'open_ms' of candles \(looked for begin"):
        open_files(tmp_path, "binance", columns={"open_ms": "begin"})
    with pytest.raises(DataError, match=r"no column for 'trades' of candles \(looked for deals"):
        open_files(tmp_path, "binance", columns={"trades": "deals"})


def test_files_and_folders_without_permission_are_named(tmp_path):
    path = parquet(tmp_path, DATED)
    path.chmod(0)
    with pytest.raises(DataError, match=r"a\.parquet: permission denied; make it readable"):
        as_plain_user(lambda: open_files(path, "binance"))
    folder = tmp_path / "closed"
    folder.mkdir(mode=0)
    with pytest.raises(DataError, match="closed: permission denied; make the folder readable"):
        as_plain_user(lambda: open_files(folder, "binance"))
    folder.chmod(0o700)


def test_an_unknown_interval_is_a_wrong_option(tmp_path):
    parquet(tmp_path, DATED)
    with pytest.raises(ConfigError, match="interval '2h' is not known"):
        open_files(tmp_path, "binance", "2h")
