"""Many files at once: which are read, which are left out by name, and what never joins one series."""

import zipfile

import polars as pl
import pytest
from candle_kit import HOUR, MAY, NOW, bars
from plain_user import as_plain_user

from mei_pipeline.candles.excluded_rows import BROKEN_RULE, split_excluded
from mei_pipeline.candles.ingest import ingest
from mei_pipeline.candles.lake import Lake, read_candles
from mei_pipeline.candles.schema import CANDLES
from mei_pipeline.candles.sources import build_source
from mei_pipeline.candles.sources.causes import likely_cause
from mei_pipeline.candles.sources.files import open_files
from mei_pipeline.config.models import FileSourceConfig
from mei_pipeline.errors import ConfigError, DataError

PLAIN = ("open_ms", "open", "high", "low", "close", "volume")


def series(symbol, count=12, start_ms=MAY, interval="1h"):
    """Bars of one symbol without the columns that say what they are."""
    return bars((symbol,), count, start_ms, interval).select(PLAIN)


def save(path, frame):
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_csv(path)
    return path


def read(path, interval="1h", **options):
    source = open_files(path, "binance", **options)
    frames = list(source.candles(interval, 0, 10**14))
    return pl.concat([CANDLES.empty(), *frames], how="diagonal").sort("symbol", "open_ms"), source


def symbols(frame):
    return dict(frame.group_by("symbol").len().sort("symbol").iter_rows())


def test_each_file_of_a_folder_is_the_series_of_its_name(tmp_path):
    save(tmp_path / "BTCUSDT-1h-2025-05.csv", series("BTC"))
    save(tmp_path / "BTCUSDT-1h-2025-06.csv", series("BTC", start_ms=MAY + 31 * 24 * HOUR))
    save(tmp_path / "ETHUSDT-1h-2025-05.csv", series("ETH"))
    frame, _ = read(tmp_path)
    assert symbols(frame) == {"BTCUSDT": 24, "ETHUSDT": 12}


def test_contracts_that_expire_on_different_days_are_different_series(tmp_path):
    for expiry in ("20241227", "20250328"):
        save(tmp_path / f"BTC-USDT-{expiry}-1h.csv", series("BTC"))
    assert symbols(read(tmp_path)[0]) == {"BTC-USDT-20241227": 12, "BTC-USDT-20250328": 12}


@pytest.mark.parametrize("pattern", ["", "*.csv", "*.zip"])
def test_one_symbol_for_several_files_is_refused(tmp_path, pattern):
    save(tmp_path / "BTC.csv", series("BTC"))
    save(tmp_path / "ETH.csv", series("ETH", start_ms=MAY + 90 * HOUR))
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as archive:
        archive.write(tmp_path / "BTC.csv", "BTC.csv")
        archive.write(tmp_path / "ETH.csv", "ETH.csv")
    with pytest.raises(ConfigError, match=r"--columns symbol==BTC: .* would become one series; omit it"):
        read(tmp_path / pattern, interval="1h", columns={"symbol": "=BTC"})
    frame, _ = read(tmp_path / "ETH.csv", columns={"symbol": "=X", "interval": "=1h"})
    assert symbols(frame) == {"X": 12}


def test_files_of_other_venues_are_left_out_by_folder(tmp_path):
    save(tmp_path / "binance/BTC-1h.csv", series("BTC"))
    save(tmp_path / "bybit/BTC-1h.csv", series("BTC", start_ms=MAY + 12 * HOUR))
    save(tmp_path / "okx_2025/deep/BTC-1h.csv", series("BTC", start_ms=MAY + 24 * HOUR))
    frame, source = read(tmp_path)
    assert symbols(frame) == {"BTC": 12}
    assert [note.split(": ")[1] for note in source.skipped] == [
        "left out, its folder says bybit, not binance",
        "left out, its folder says okx, not binance",
    ]
    with pytest.raises(
        ConfigError, match="its folder says bybit, not binance; state --venue bybit, or rename the folder"
    ):
        open_files(tmp_path / "bybit/BTC-1h.csv", "binance")
    save(tmp_path / "bybit/ETH-1h.csv", series("ETH"))
    with pytest.raises(DataError, match=r"no file to read; .*its folder says bybit"):
        open_files(tmp_path / "bybit", "binance")


def test_a_relative_path_has_folders_too(tmp_path, monkeypatch):
    save(tmp_path / "bybit/BTC-1h.csv", series("BTC"))
    save(tmp_path / "bybit/ETH-1h.csv", series("ETH"))
    monkeypatch.chdir(tmp_path / "bybit")
    with pytest.raises(DataError, match="its folder says bybit"):
        open_files(".", "binance")


def test_a_folder_that_a_path_leaves_says_nothing(tmp_path, monkeypatch):
    save(tmp_path / "data/BTC-1h.csv", series("BTC"))
    save(tmp_path / "data/ETH-1h.csv", series("ETH"))
    (tmp_path / "okx").mkdir()
    monkeypatch.chdir(tmp_path / "okx")
    for path in ("../data", "../data/*.csv", "../data/BTC-1h.csv"):
        assert open_files(path, "binance").skipped == ()


def test_links_to_folders_and_files_are_followed_once(tmp_path):
    save(tmp_path / "else/BTC/BTC-1h.csv", series("BTC"))
    save(tmp_path / "in/ETH-1h.csv", series("ETH"))
    (tmp_path / "in/bitcoin").symlink_to(tmp_path / "else/BTC", target_is_directory=True)
    (tmp_path / "in/again").symlink_to(tmp_path / "else/BTC", target_is_directory=True)
    (tmp_path / "else/BTC/round").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in/.old").symlink_to(tmp_path / "nowhere")
    (tmp_path / "in/gone").symlink_to(tmp_path / "nowhere")
    frame, source = read(tmp_path / "in")
    assert symbols(frame) == {"BTC": 12, "ETH": 12}
    assert [note.split(": ")[1].split(";")[0] for note in source.skipped] == ["1 file without an ending not read"]


@pytest.mark.parametrize("path", ["", "*.csv", "SOL-1h.csv"])
def test_a_link_to_a_file_that_is_gone_is_refused(tmp_path, path):
    save(tmp_path / "BTC-1h.csv", series("BTC"))
    (tmp_path / "SOL-1h.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(DataError, match=r"SOL-1h.csv: is a link to .*gone.csv, which does not exist"):
        open_files(tmp_path / path, "binance")


@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_folder_inside_that_can_not_be_read_is_refused(tmp_path, mode):
    save(tmp_path / "BTC-1h.csv", series("BTC"))
    save(tmp_path / "deep/ETH-1h.csv", series("ETH"))
    (tmp_path / "deep").chmod(mode)
    try:
        with pytest.raises(DataError, match=r"deep\S*: permission denied; make the folder readable"):
            as_plain_user(lambda: open_files(tmp_path, "binance"))
    finally:
        (tmp_path / "deep").chmod(0o700)


def test_a_coin_that_has_a_venues_name_is_no_venue(tmp_path):
    save(tmp_path / "DYDX-1h.csv", series("DYDX"))
    save(tmp_path / "dydx.csv", bars(("DYDXUSDT",), 12).select("symbol", "interval", *PLAIN))
    save(tmp_path / "dydx_candles.csv", bars(("ETH",), 12).select("symbol", "interval", *PLAIN))
    save(tmp_path / "DYDX_1h.csv", bars(("SOL",), 12).select("symbol", "interval", *PLAIN))
    frame, source = read(tmp_path)
    assert symbols(frame) == {"DYDX": 12, "DYDXUSDT": 12}
    assert len(source.skipped) == 2


def test_a_folder_called_like_a_coin_is_the_coins(tmp_path):
    save(tmp_path / "DYDX/DYDXUSDT-1h.csv", series("DYDX"))
    save(tmp_path / "bybit_dydx/DYDXUSDT-1h.csv", series("DYDX"))
    save(tmp_path / "bybit/DYDX/DYDXUSDT-1h.csv", series("DYDX"))
    save(tmp_path / "dydx/DYDXUSDT-1h.csv", series("DYDX"))
    frame, source = read(tmp_path)
    assert (symbols(frame), len(source.plans)) == ({"DYDXUSDT": 12}, 1)
    assert [note.split("says ")[1].split(",")[0] for note in source.skipped] == ["bybit", "bybit", "dydx"]
    assert read(tmp_path / "DYDX/DYDXUSDT-1h.csv")[0].height == 12


def test_a_folder_that_names_more_than_its_venue_names_it_too(tmp_path):
    save(tmp_path / "BTCUSDT-1h.csv", series("BTC"))
    save(tmp_path / "bybit_btcusdt/BTCUSDT-1h.csv", series("BTC", start_ms=MAY + 12 * HOUR))
    frame, source = read(tmp_path)
    assert (symbols(frame), len(source.skipped)) == ({"BTCUSDT": 12}, 1)
    with pytest.raises(ConfigError, match="its folder says bybit, not binance"):
        open_files(tmp_path / "bybit_btcusdt/BTCUSDT-1h.csv", "binance")


@pytest.mark.parametrize(("folder", "venue"), [("okex", "okx"), ("gate", "gateio"), ("huobi", "htx")])
def test_a_venue_that_was_renamed_is_one_venue(tmp_path, folder, venue):
    path = save(tmp_path / folder / "BTC-1h.csv", series("BTC"))
    assert open_files(path, venue).skipped == ()


def test_spot_and_futures_never_join_one_series(tmp_path):
    save(tmp_path / "spot/BTCUSDT-1h-2025-05.csv", series("BTC"))
    save(tmp_path / "futures/um/BTCUSDT-1h-2025-06.csv", series("BTC", start_ms=MAY + 31 * 24 * HOUR))
    with pytest.raises(
        ConfigError, match=r"BTCUSDT-1h-2025-05.csv is of a spot market and .* ingest one folder at a time"
    ):
        open_files(tmp_path, "binance")
    assert read(tmp_path / "spot")[0].height == read(tmp_path / "futures")[0].height == 12


def test_prices_that_nobody_traded_at_are_left_out(tmp_path):
    save(tmp_path / "um/klines/BTCUSDT-1h-2025-05.csv", series("BTC"))
    save(tmp_path / "um/markPriceKlines/BTCUSDT-1h-2025-05.csv", series("ETH"))
    frame, source = read(tmp_path)
    assert frame.select(PLAIN).equals(series("BTC"))
    assert "markPriceKlines says that nobody traded at its prices" in source.skipped[0]


def test_hidden_files_are_skipped_and_what_is_not_read_is_named(tmp_path):
    save(tmp_path / "BTC-1h.csv", series("BTC"))
    for name in ("._BTC-1h.csv", ".DS_Store", "__MACOSX/BTC-1h.csv", ".cache/ETH-1h.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    for name in ("a.csv.zst", "b.xlsx", "c.xlsx", "CHECKSUM"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "manifest.json").write_text('{"files": {}}')
    frame, source = read(tmp_path)
    assert symbols(frame) == {"BTC": 12}
    told = [note.removeprefix(f"{tmp_path}: ") for note in source.skipped]
    assert told[0].startswith("1 file without an ending not read")
    assert told[1].startswith("2 files that end in .xlsx not read")
    assert told[2].startswith("1 file that ends in .zst not read")
    assert told[3].startswith(f"left out: {tmp_path}/manifest.json")
    assert len(told) == 4


def test_every_csv_in_a_zip_is_read_and_other_members_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for symbol in ("BTC", "ETH"):
            archive.writestr(f"deep/{symbol}-1h.csv", series(symbol).write_csv())
        archive.writestr("__MACOSX/deep/._BTC-1h.csv", b"\0")
        archive.writestr("README.txt", "x")
    frame, source = read(tmp_path / "all.zip")
    assert symbols(frame) == {"BTC": 12, "ETH": 12}
    assert set(frame["source"]) == {"BTC-1h.csv", "ETH-1h.csv"}
    assert ["1 file that ends in .txt not read" in note for note in source.skipped] == [True]


def test_a_zip_beside_its_csv_changes_nothing(tmp_path):
    save(tmp_path / "in/BTC-1h.csv", series("BTC"))
    with zipfile.ZipFile(tmp_path / "in/BTC-1h.zip", "w") as archive:
        archive.write(tmp_path / "in/BTC-1h.csv", "BTC-1h.csv")
    lake = Lake(tmp_path / "lake")
    report = ingest(lake, open_files(tmp_path / "in", "binance"), ["1h"], now_ms=NOW)
    assert (report.total.added, report.total.refused, report.total.repaired) == (12, 0, 12)
    again = ingest(lake, open_files(tmp_path / "in/BTC-1h.zip", "binance"), ["1h"], now_ms=NOW)
    assert (again.ingest_id, again.total.unchanged) == (None, 12)


@pytest.mark.parametrize("name", ["data [2025]", "a*b?"])
def test_a_path_that_exists_is_no_pattern(tmp_path, name):
    folder = tmp_path / name
    save(folder / "BTC-1h [1].csv", bars(("BTC",), 12).select("symbol", "interval", *PLAIN))
    bars(("ETH",), 12).write_parquet(folder / "c [2].parquet")
    with zipfile.ZipFile(folder / "d [3].zip", "w") as archive:
        archive.writestr("SOL-1h.csv", series("SOL").write_csv())
    source = open_files(folder, "binance")
    assert source.intervals() == ("1h",)
    assert symbols(pl.concat(source.candles("1h", 0, 10**14))) == {"BTC": 12, "ETH": 12, "SOL": 12}
    assert symbols(read(folder / "c [2].parquet")[0]) == {"ETH": 12}
    assert symbols(read(folder / "BTC*.csv")[0]) == {"BTC": 12}
    entry = FileSourceConfig(kind="files", venue="binance", path=f"{name}/c [2].parquet")
    assert symbols(pl.concat(build_source(entry, tmp_path).candles("1h", 0, 10**14))) == {"ETH": 12}
    lake = Lake(folder / "lake [x]")
    ingest(lake, source, ["1h"], now_ms=NOW)
    assert read_candles(lake, "binance", "1h").height == 36


def test_a_pattern_that_matches_nothing_is_named(tmp_path):
    with pytest.raises(DataError, match=r"\[ab\]\.csv: no file that ends in"):
        open_files(tmp_path / "[ab].csv", "binance")
    (tmp_path / "in [2025]").mkdir()
    with pytest.raises(ConfigError, match=r"in \[2025\]/none\.csv: no such file or folder"):
        open_files(tmp_path / "in [2025]/none.csv", "binance")


WRONG = {
    "1h as 1d": ("BTC.csv", series("BTC", 200), {"interval": "1d"}, "mostly 1h apart, but --interval says 1d"),
    "4h as 1h": ("BTC.csv", series("BTC", interval="4h"), {"interval": "1h"}, "mostly 4h apart, .* --interval 4h"),
    "7 minutes": (
        "BTC.csv",
        series("BTC", 50, interval="1m").gather_every(7),
        {"interval": "1m"},
        "mostly 7 minutes apart, but --interval says 1m; allowed: 1m, 3m",
    ),
    "named otherwise": ("BTC-4h.csv", series("BTC"), {}, "mostly 1h apart, but its name says 4h; .* --interval 1h"),
    "labelled otherwise": (
        "BTC.csv",
        series("BTC").with_columns(interval=pl.lit("5m")),
        {},
        "mostly 1h apart, but column 'interval' says 5m; state it with --columns interval==1h",
    ),
    "one symbol of two": (
        "a.csv",
        pl.concat([bars(("BTC",), 50), bars(("ETH",), 50, interval="4h").with_columns(interval=pl.lit("1h"))]).select(
            "symbol", *PLAIN
        ),
        {"interval": "1h"},
        "the bars of ETH are mostly 4h apart",
    ),
    "newest first": ("BTC.csv", series("BTC", 50).reverse(), {"interval": "1d"}, "mostly 1h apart"),
    "two bars": ("BTC.csv", series("BTC", 2), {"interval": "1d"}, "mostly 1h apart"),
    "in a folder of its interval": ("1d/BTC.csv", series("BTC", 30), {}, "mostly 1h apart, but its name says 1d"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bars_that_are_not_of_the_interval_are_refused(tmp_path, case):
    name, frame, options, message = WRONG[case]
    path = save(tmp_path / name, frame)
    source = open_files(path if "/" not in name else tmp_path, "binance", **options)
    with pytest.raises(DataError, match=message):
        list(source.candles(source.intervals()[0], 0, 10**14))


RIGHT = {
    "one bar": series("BTC", 1),
    "two bars and a gap": series("BTC", 9).gather_every(8),
    "gaps of different lengths": series("BTC", 12)[[0, 2, 5, 9]],
    "as many gaps as bars": series("BTC", 12)[[0, 1, 2, 4, 6]],
    "times twice": pl.concat([series("BTC"), series("BTC")]),
    "no order": series("BTC", 40).sample(fraction=1.0, shuffle=True, seed=3),
    "empty times": pl.concat([series("BTC"), series("BTC", 8).with_columns(open_ms=pl.lit(None, dtype=pl.Int64))]),
}


@pytest.mark.parametrize("case", RIGHT)
def test_bars_with_gaps_and_in_any_order_are_of_their_interval(tmp_path, case):
    path = save(tmp_path / "BTC.csv", RIGHT[case])
    assert read(path, interval="1h", columns={"interval": "=1h"})[0].height == RIGHT[case].height


def test_symbols_in_turn_are_checked_one_by_one(tmp_path):
    frame = bars(("BTC", "ETH", "SOL"), 30).sort("open_ms", "symbol")
    frame.write_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")[0].height == 90
    with pytest.raises(DataError, match="the bars of BTC are mostly 1h apart"):
        read(tmp_path / "a.parquet", "1d", columns={"interval": "=1d"})


def test_rows_of_another_interval_are_counted_under_a_rule(tmp_path):
    pl.concat([bars(), bars(interval="5m"), bars(("SOL",), 5, interval="5m")]).write_parquet(tmp_path / "a.parquet")
    report = ingest(Lake(tmp_path / "lake"), open_files(tmp_path, "binance", "1h"), ["1h"], now_ms=NOW)
    assert report.findings["1h"].counts() == {"other_interval": {"BTC": 48, "ETH": 48, "SOL": 5}}
    assert (report.total.added, report.total.refused) == (96, 101)


def test_files_whose_names_say_another_interval_are_counted_too(tmp_path):
    save(tmp_path / "BTC-1h.csv", series("BTC"))
    save(tmp_path / "BTC-5m.csv", series("BTC", interval="5m"))
    frame, _ = read(tmp_path)
    assert frame["open_ms"].equals(series("BTC")["open_ms"])
    frame = pl.concat(open_files(tmp_path, "binance", "1h").candles("1h", 0, 10**14), how="diagonal")
    assert frame[BROKEN_RULE].value_counts().sort(BROKEN_RULE).rows() == [(None, 12), ("other_interval", 12)]


def test_labels_of_intervals_are_read_as_venues_write_them(tmp_path):
    for at, label in enumerate(("60", "1H", "60min", "1h")):
        frame = bars((f"S{at}",), 12).with_columns(interval=pl.lit(label))
        frame.write_parquet(tmp_path / f"{at}.parquet")
    bars(("INT",), 12).with_columns(interval=pl.lit(60)).write_parquet(tmp_path / "int.parquet")
    source = open_files(tmp_path, "binance")
    assert source.intervals() == ("1h",)
    assert sorted(symbols(pl.concat(source.candles("1h", 0, 10**14)))) == ["INT", "S0", "S1", "S2", "S3"]


@pytest.mark.parametrize("label", ["60", "1H", "60min", "1h"])
def test_a_stated_interval_is_read_as_venues_write_it(tmp_path, label):
    source = open_files(save(tmp_path / "BTC.csv", series("BTC")), "binance", columns={"interval": f"={label}"})
    assert source.intervals() == ("1h",)
    assert pl.concat(source.candles("1h", 0, 10**14))["interval"].to_list() == ["1h"] * 12


@pytest.mark.parametrize("label", ["2h", "1M", "", "hour of day"])
def test_a_stated_interval_that_is_unknown_is_refused(tmp_path, label):
    path = save(tmp_path / "BTC.csv", series("BTC"))
    entry = FileSourceConfig(kind="files", venue="binance", path=path.name, columns={"interval": f"={label}"})
    with pytest.raises(ConfigError, match=f"interval=={label}: interval '{label}' is not known; allowed: =1m, =3m"):
        build_source(entry, tmp_path)


def test_marks_are_split_off_by_rule_and_symbol():
    frame = bars(("BTC", "ETH"), 3).with_columns(
        pl.Series(BROKEN_RULE, [None, "still_open", "still_open", None, None, "other_interval"])
    )
    split = split_excluded(frame)
    assert (split.kept.columns, split.kept.height) == (list(CANDLES.columns), 3)
    assert split.refused == {"BTC": 2, "ETH": 1}
    assert split.findings.counts("refuse") == {"still_open": {"BTC": 2}, "other_interval": {"ETH": 1}}


CAUSES = {
    "closes": (series("BTC").with_columns(pl.col("open_ms") + HOUR - 1), "--columns close_ms=open_ms"),
    "closes in seconds": (
        series("BTC").with_columns((pl.col("open_ms") + HOUR - 1000) // 1000),
        "--columns close_ms=open_ms",
    ),
    "half an hour off": (
        series("BTC").with_columns(pl.col("open_ms") + HOUR // 2),
        "are 30 minutes after the open of a bar of 1h; correct their time zone",
    ),
    "jitter": (
        series("BTC").with_columns(pl.col("open_ms") + HOUR // 3 + 7 * (pl.int_range(pl.len()) % 5)),
        "are not multiples of 1h",
    ),
    "to come": (series("BTC", start_ms=NOW), "are later than now"),
    "swapped": (
        series("BTC").rename({"high": "low", "low": "high"}),
        "open, high, low and close are in other columns",
    ),
    "empty": (series("BTC").with_columns(close=pl.lit(None)), "null: cells are empty"),
    "negative": (series("BTC").with_columns(low=pl.lit(-1)), "non_positive: prices are zero or negative"),
    "two series": (
        pl.concat([series("BTC"), series("BTC").with_columns(volume=pl.lit(1e6))]),
        "several values for the same symbol and time",
    ),
    "labelled otherwise": (
        series("BTC").with_columns(interval=pl.lit("5m")),
        "the files state other intervals than 1h, .* --columns interval==1h",
    ),
}


@pytest.mark.parametrize("case", CAUSES)
def test_the_likeliest_cause_is_named_where_every_row_is_refused(tmp_path, case):
    frame, message = CAUSES[case]
    source = open_files(save(tmp_path / "in/BTC.csv", frame), "binance", "1h")
    report = ingest(Lake(tmp_path / "lake"), source, ["1h"], now_ms=NOW)
    assert (report.total.added, report.total.refused) == (0, frame.height)
    with pytest.raises(DataError, match=message):
        raise DataError(likely_cause(source, "1h", report.findings["1h"]))


def test_what_the_cause_offers_fixes_closes_in_seconds(tmp_path):
    path = save(tmp_path / "BTC.csv", CAUSES["closes in seconds"][0])
    frame, _ = read(path, columns={"close_ms": "open_ms", "interval": "=1h"})
    assert frame["open_ms"].equals(series("BTC")["open_ms"])
