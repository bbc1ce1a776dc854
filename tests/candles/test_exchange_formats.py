"""Files as exchanges and tools write them: the same eight bars in each format, or the refusal."""

import gzip
import io
import json
import zipfile
from datetime import UTC, datetime

import polars as pl
import pytest
from candle_kit import HOUR, MAY

from mei_pipeline.candles.excluded_rows import BROKEN_RULE
from mei_pipeline.candles.schema import CANDLES
from mei_pipeline.candles.sources.files import open_files
from mei_pipeline.candles.sources.layouts import PRESETS
from mei_pipeline.cli.ingest import ingest as command
from mei_pipeline.config.models.sources import FileSourceConfig
from mei_pipeline.errors import ConfigError, DataError

COUNT = 8
BARS = [(MAY + at * HOUR, 100.0 + at, 102.5 + at, 99.0 + at, 101.0 + at, 4.0 + at % 3, 10 + at) for at in range(COUNT)]
EXPECTED = [bar[:6] for bar in BARS]


def csv(header, rows):
    lines = ([header] if header else []) + [",".join(map(str, row)) for row in rows]
    return ("\n".join(lines) + "\n").encode()


def zipped(**members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


def feather(**changes):
    frame = pl.DataFrame(EXPECTED, schema=["date", "open", "high", "low", "close", "volume"], orient="row")
    frame = frame.with_columns(pl.from_epoch("date", time_unit="ms").dt.replace_time_zone("UTC"))
    content = io.BytesIO()
    frame.with_columns(**changes).write_ipc(content, compression="lz4")
    return content.getvalue()


def money(bar):
    """Volume in money: coins times an average price."""
    return bar[5] * (bar[1] + bar[4]) / 2


def written(time_ms, form):
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime(form)


VISION = [
    (t, o, h, low, c, v, t + HOUR - 1, money((t, o, h, low, c, v)), n, v / 2, 1.0, 0) for t, o, h, low, c, v, n in BARS
]
VISION_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)
# A coin-margined contract is 100 USD: volume in contracts, and the column of quote volume in coins.
COIN_MARGINED = [(*row[:5], round(row[7] / 100), row[6], row[5], *row[8:]) for row in VISION]
OKX = [(*bar[:5], bar[5] * 100, bar[5], money(bar), 1) for bar in BARS]  # contracts of 0.01 coins
OKX_SPOT = [(*bar[:5], bar[5], money(bar), money(bar), 1) for bar in BARS]
OKX_HEADER = "ts,open,high,low,close,vol,volCcy,volCcyQuote,confirm"
BYBIT = [(*bar[:6], money(bar)) for bar in reversed(BARS)]  # newest first
BYBIT_INVERSE = [(*bar[:5], round(money(bar)), bar[5]) for bar in reversed(BARS)]
ARRAYS = [[str(value) for value in row] for row in BYBIT]
SNAPSHOT = [
    {
        "t": t,
        "T": t + HOUR - 1,
        "s": "kPEPE",
        "i": "1h",
        "o": str(o),
        "h": str(h),
        "l": str(low),
        "c": str(c),
        "v": str(v),
        "n": n,
    }
    for t, o, h, low, c, v, n in BARS
]
DATED = [(written(bar[0], "%Y.%m.%d %H:%M"), *bar[1:6]) for bar in BARS]
ISO = [(written(bar[0], "%Y-%m-%dT%H:%M:%SZ"), *bar[1:6]) for bar in BARS]
SECONDS = [(bar[0] // 1000, *bar[1:6], 1.0, 2.0) for bar in BARS]

# file name, content, preset, symbol
FORMATS = {
    "vision": ("BTCUSDT-1h-2025-05.csv", csv(VISION_HEADER, VISION), "binance-vision", "BTCUSDT"),
    "vision without header": ("BTCUSDT-1h-2025-05.csv", csv("", VISION), "binance-vision", "BTCUSDT"),
    "vision in µs": (
        "BTCUSDT-1h-2025-05.csv",
        csv("", [(row[0] * 1000, *row[1:6], row[6] * 1000 + 999, *row[7:]) for row in VISION]),
        "binance-vision",
        "BTCUSDT",
    ),
    "vision zip": (
        "BTCUSDT-1h-2025-05.zip",
        zipped(**{"BTCUSDT-1h-2025-05.csv": csv("", VISION), "__MACOSX/._BTCUSDT-1h-2025-05.csv": b"\0\5"}),
        "binance-vision",
        "BTCUSDT",
    ),
    "vision with titles": (
        "BTCUSDT-1h.csv",
        csv("Open time,Open,High,Low,Close,Volume,Close time,Quote asset volume,Number of trades,a,b,Ignore", VISION),
        None,
        "BTCUSDT",
    ),
    "vision coin-margined": ("BTCUSD_PERP-1h-2025-05.csv", csv("", COIN_MARGINED), "binance-vision", "BTCUSD_PERP"),
    "bybit arrays": (
        "BTCUSDT-1h.json",
        json.dumps({"retCode": 0, "result": {"category": "linear", "symbol": "ETHUSDT", "list": ARRAYS}}).encode(),
        "bybit",
        "ETHUSDT",
    ),
    "bybit csv": (
        "BTCUSDT_60_2025-05-01_2025-05-31.csv",
        csv("startTime,open,high,low,close,volume,turnover", BYBIT),
        "bybit",
        "BTCUSDT",
    ),
    "bybit without header": ("BTCUSDT_60_2025-05-01_2025-05-31.csv", csv("", BYBIT), "bybit", "BTCUSDT"),
    "bybit inverse": (
        "BTCUSD_60_2025-05-01_2025-05-31.csv",
        csv("startTime,open,high,low,close,volume,turnover", BYBIT_INVERSE),
        "bybit",
        "BTCUSD",
    ),
    "bybit dates, gzip": (
        "BTCUSDT_60_2025-05-01_2025-05-31.csv.gz",
        gzip.compress(csv("", DATED)),
        "bybit",
        "BTCUSDT",
    ),
    "okx swap": ("BTC-USDT-SWAP-candles-2025-05.csv", csv(OKX_HEADER, OKX), "okx", "BTC-USDT-SWAP"),
    "okx swap without header": ("BTC-USDT-SWAP-candles-2025-05.csv", csv("", OKX), "okx", "BTC-USDT-SWAP"),
    "okx swap of another name": ("BTC-candles-2025-05.csv", csv(OKX_HEADER, OKX), "okx", "BTC"),
    "okx spot": ("BTC-USDT-candles-2025-05.csv", csv(OKX_HEADER, OKX_SPOT), "okx", "BTC-USDT"),
    "okx spot without money": (
        "BTC-USDT-candles-2025-05.csv",
        csv("ts,open,high,low,close,vol,volCcy", [row[:7] for row in OKX_SPOT]),
        "okx",
        "BTC-USDT",
    ),
    "okx swap without money": (
        "BTC-candles-2025-05.csv",
        csv("ts,open,high,low,close,vol,volCcy", [row[:7] for row in OKX]),
        "okx",
        "BTC",
    ),
    "okx with instruments": (
        "allswap-candles-2025-05.csv",
        csv(
            "instrument_name,open,high,low,close,vol,vol_ccy,vol_quote,open_time,confirm",
            [("BTC-USDT-SWAP", *row[1:8], row[0], row[8]) for row in OKX],
        ),
        "okx",
        "BTC-USDT-SWAP",
    ),
    "okx answer": (
        "BTC-USDT-SWAP_1H.json",
        json.dumps({"code": "0", "data": [[str(value) for value in row] for row in OKX]}).encode(),
        "okx",
        "BTC-USDT-SWAP",
    ),
    "ccxt": ("BTC-1h.csv", csv("timestamp,open,high,low,close,volume", EXPECTED), "ccxt", "BTC"),
    "ccxt arrays": ("BTC-1h.json", json.dumps(EXPECTED).encode(), "ccxt", "BTC"),
    "ccxt with symbols": (
        "a.csv",
        csv("timestamp,open,high,low,close,volume,symbol", [(*bar, "BTC/USDT:USDT") for bar in EXPECTED]),
        "ccxt",
        "BTC/USDT:USDT",
    ),
    "tradingview": (
        "BINANCE_BTCUSDT.P, 60.csv",
        csv("time,open,high,low,close,Volume,Volume MA,Plot", SECONDS),
        "tradingview",
        "BTCUSDT.P",
    ),
    "tradingview dates": (
        "BINANCE_BTCUSDT.P, 60_ab1c2.csv",
        csv("time,open,high,low,close,Volume", ISO),
        "tradingview",
        "BTCUSDT.P",
    ),
    "freqtrade": ("BTC_USDT_USDT-1h-futures.feather", feather(), "freqtrade", "BTC/USDT:USDT"),
    "freqtrade json": ("BTC_USDT-1h.json", json.dumps(EXPECTED).encode(), "freqtrade", None),
    "hyperliquid": ("snapshot.json", json.dumps(SNAPSHOT).encode(), "hyperliquid", "kPEPE"),
    "hyperliquid closes": (
        "BTC-1h.csv",
        csv("T,o,h,l,c,v", [(bar[0] + HOUR - 1, *bar[1:6]) for bar in BARS]),
        "hyperliquid",
        "BTC",
    ),
}


def load(path, interval=None, **options):
    source = open_files(path, "binance" if "BINANCE" in path.name else "test", interval, **options)
    frames = [CANDLES.empty(), *source.candles("1h", 0, 10**14)]
    return pl.concat(frames, how="diagonal").sort("symbol", "open_ms")


def put(folder, name, content):
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("forced", [False, True], ids=["told", "preset"])
@pytest.mark.parametrize("case", FORMATS)
def test_every_format_gives_the_same_bars(tmp_path, case, forced):
    name, content, preset, symbol = FORMATS[case]
    interval = None if "1h" in name or "_60_" in name or ", 60" in name or 'i": "1h' in str(content) else "1h"
    frame = load(put(tmp_path, name, content), interval, preset=preset if forced else None)
    if symbol is None:
        symbol = "BTC/USDT" if forced else "BTC_USDT"
    assert frame["symbol"].unique().to_list() == [symbol]
    assert frame["interval"].unique().to_list() == ["1h"]
    assert frame.select("open_ms", "open", "high", "low", "close", "volume").rows() == EXPECTED
    if case.startswith(("vision", "hyperliquid")) and case != "hyperliquid closes":
        assert frame["trades"].to_list() == [bar[6] for bar in BARS]


def test_the_presets_of_code_configuration_and_command_are_the_same():
    allowed = FileSourceConfig.model_json_schema()["properties"]["preset"]["anyOf"][0]["enum"]
    assert sorted(allowed) == sorted(PRESETS)
    told = next(option.help for option in command.params if option.name == "preset")
    assert all(name in told for name in PRESETS)


def test_a_preset_says_the_venue():
    assert {name: preset.venue for name, preset in PRESETS.items() if preset.venue} == {
        "binance-vision": "binance",
        "bybit": "bybit",
        "okx": "okx",
        "hyperliquid": "hyperliquid",
    }


def test_the_venue_comes_from_preset_or_name_where_it_is_not_stated(tmp_path):
    vision = put(tmp_path, "BTCUSDT-1h-2025-05.csv", csv("", VISION))
    assert open_files(vision, preset="binance-vision").venue == "binance"
    chart = put(tmp_path, "BYBIT_BTCUSDT.P, 60.csv", csv("time,open,high,low,close,Volume", ISO))
    assert open_files(chart).venue == "bybit"


def test_freqtrade_funding_is_funding_and_mark_prices_are_left_out(tmp_path):
    put(tmp_path, "BTC_USDT_USDT-1h-futures.feather", feather())
    put(tmp_path, "BTC_USDT_USDT-1h-mark.feather", feather(volume=pl.lit(0.0)))
    put(tmp_path, "BTC_USDT_USDT-8h-funding_rate.feather", feather(open=pl.lit(0.0001)))
    source = open_files(tmp_path, "test")
    assert [plan.mapping.table.name for plan in source.plans] == ["candles", "funding"]
    assert "mark says that nobody traded at its prices" in source.skipped[0]
    paid = pl.concat(source.funding(0, 10**14))
    assert paid.select("symbol", "rate").unique().rows() == [("BTC/USDT:USDT", 0.0001)]
    assert paid["time_ms"].to_list() == [bar[0] for bar in BARS]
    with pytest.raises(ConfigError, match="mark says that nobody traded"):
        open_files(tmp_path / "BTC_USDT_USDT-1h-mark.feather", "test")


@pytest.mark.parametrize("flag", ["confirm", "is_closed", "isClosed", "closed"])
@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("true", "false"), ("True", "False")])
def test_a_bar_that_its_source_says_is_open_is_marked(tmp_path, flag, yes, no):
    rows = [(*bar, yes if at < COUNT - 1 else no) for at, bar in enumerate(EXPECTED)]
    frame = load(put(tmp_path, "BTC-1h.csv", csv(f"timestamp,open,high,low,close,volume,{flag}", rows)))
    assert frame[BROKEN_RULE].to_list() == [None] * (COUNT - 1) + ["still_open"]


def test_units_of_time_are_told_row_by_row(tmp_path):
    scales = [1 / 1000, 1, 1000, 1_000_000]
    rows = [(int(bar[0] * scales[at % 4]), *bar[1:]) for at, bar in enumerate(EXPECTED)]
    header = "timestamp,open,high,low,close,volume"
    path = put(tmp_path, "BTC-1h.csv", csv(header, rows))
    assert load(path).select("open_ms", "open").rows() == [bar[:2] for bar in BARS]
    frame = pl.DataFrame(rows, schema=header.split(","), orient="row")
    frame.write_parquet(tmp_path / "ETH-1h.parquet")
    assert load(tmp_path / "ETH-1h.parquet")["open_ms"].to_list() == [bar[0] for bar in BARS]
    mixed = [(written(bar[0], "%Y-%m-%d %H:%M") if at % 2 else bar[0], *bar[1:]) for at, bar in enumerate(EXPECTED)]
    assert load(put(tmp_path, "SOL-1h.csv", csv(header, mixed)))["open_ms"].to_list() == [bar[0] for bar in BARS]


HEADER = "timestamp,open,high,low,close,volume"


@pytest.mark.parametrize("value", ["inf", "-inf", "Infinity", "1e30", "99999999999999999999", "-1e19"])
def test_a_number_that_is_no_time_in_any_unit_is_refused(tmp_path, value):
    path = put(tmp_path, "BTC-1h.csv", csv(HEADER, [*EXPECTED, (value, 1, 1, 1, 1, 1)]))
    with pytest.raises(DataError, match=rf"column 'timestamp' \(open_ms\) has '{value}' in row 9, expected a date"):
        load(path)


@pytest.mark.parametrize("value", ["inf", "nan", "1e30", "1.5"])
def test_a_count_of_trades_that_is_no_whole_number_is_refused(tmp_path, value):
    rows = [(*bar, value if at == 3 else 1) for at, bar in enumerate(EXPECTED)]
    with pytest.raises(DataError, match=r"column 'trades' has .*, expected a whole number"):
        load(put(tmp_path, "BTC-1h.csv", csv(f"{HEADER},trades", rows)))


@pytest.mark.parametrize(
    ("kind", "value"),
    [(pl.Float64, float("inf")), (pl.Float64, -1e30), (pl.Float32, 1e30), (pl.UInt64, 2**64 - 1), (pl.Int64, -(2**63))],
)
def test_a_number_of_a_typed_column_that_is_no_time_is_refused(tmp_path, kind, value):
    frame = pl.DataFrame(EXPECTED, schema=HEADER.split(","), orient="row")
    times = pl.Series("timestamp", [*[bar[0] for bar in BARS[1:]], value], dtype=kind)
    frame.with_columns(times).write_parquet(tmp_path / "BTC-1h.parquet")
    with pytest.raises(DataError, match=r"column 'timestamp' \(open_ms\) .* in row 8, expected a date"):
        load(tmp_path / "BTC-1h.parquet")


@pytest.mark.parametrize("value", ["nan", "NaN", "NaT", "", "null"])
def test_an_empty_time_is_left_to_the_rules(tmp_path, value):
    path = put(tmp_path, "BTC-1h.csv", csv(HEADER, [*EXPECTED, (value, 1, 1, 1, 1, 1)]))
    assert load(path)["open_ms"].null_count() == 1


REFUSED = {
    "single trades": (
        "BTCUSDT2025-05-01.csv",
        csv("timestamp,symbol,side,size,price", [(1746057600.1, "BTCUSDT", "Buy", 1, 100)]),
        {"interval": "1h"},
        "these are single trades, not bars; fetch candles",
    ),
    "semicolons": ("BTC-1h.csv", b"time;open\n1;2\n", {}, "found: time;open; separate the columns by commas"),
    "volume in contracts only": (
        "BTC-1h.csv",
        csv(f"{HEADER},turnover", [(*bar[:5], bar[5] * 100, money(bar)) for bar in BARS]),
        {},
        r"column 'volume' \(volume\) of BTC is not in coins: column 'turnover' divided by it .* --columns volume=NAME",
    ),
    "no header, odd columns": (
        "BTC-1h.csv",
        csv("", [(*bar[:6], 1, 2) for bar in BARS]),
        {},
        r"no column for 'open_ms'.*--columns open_ms=column_1, or name the file's format with --preset",
    ),
    "no header, columns swapped": (
        "BTC-1h.csv",
        csv("", [(bar[0], bar[3], bar[1], bar[2], bar[4], bar[5]) for bar in BARS]),
        {},
        "no column for 'open_ms'",
    ),
    "another preset's columns": (
        "BTC-1h.csv",
        csv(HEADER, EXPECTED),
        {"preset": "tradingview"},
        r"no column for 'open_ms' of candles \(looked for time\)",
    ),
    "flag of another kind": (
        "BTC-1h.csv",
        csv(f"{HEADER},confirm", [(*bar, "maybe") for bar in EXPECTED]),
        {},
        "column 'confirm' has 'maybe', expected 1 or true",
    ),
    "time out of range": (
        "BTC-1h.csv",
        csv(HEADER, [*EXPECTED, (0, 1, 1, 1, 1, 1)]),
        {},
        r"column 'timestamp' \(open_ms\) reads as 1970-01-01 00:00Z in row 9",
    ),
    "interval in the name that MEI has not": (
        "BTC-2h.csv",
        csv(HEADER, [(bar[0] * 2 - MAY, *bar[1:]) for bar in EXPECTED]),
        {},
        "its name says interval 2h; allowed: 1m",
    ),
    "no interval": ("BTC.csv", csv(HEADER, EXPECTED), {}, "state it with --interval 1h, if its bars are 1h long"),
    "no symbol": (
        "btc.csv",
        csv(HEADER, EXPECTED),
        {"interval": "1h"},
        r"no column for 'symbol'.*begin the file's name with it .* --columns symbol==VALUE",
    ),
    "stated closes that are not there": (
        "BTC-1h.csv",
        csv(HEADER, EXPECTED),
        {"columns": {"close_ms": "timestmap"}},
        r"no column for 'close_ms' of candles \(looked for timestmap, .*found: timestamp, open",
    ),
    "json of something else": ("BTC-1h.json", b'{"files": {}}', {}, "BTC-1h.json: expected a list of candles, each an"),
    "json of a number": ("BTC-1h.json", b"7", {}, "BTC-1h.json: expected a list of candles"),
    "json of no candles": ("BTC-1h.json", b"[]", {}, "BTC-1h.json: expected a list of candles"),
    "json of mixed rows": ("BTC-1h.json", b"[[1], {}]", {}, "BTC-1h.json: expected a list of candles"),
    "no json": ("BTC-1h.json", b"{", {}, "is not a complete JSON file"),
    "no feather": ("BTC-1h.feather", b"date,open", {}, "is not a complete Feather file"),
    "no zip": ("BTC-1h.zip", b"PK", {}, "is not a complete zip file"),
    "zip without a CSV": ("BTC-1h.zip", zipped(**{"a.txt": b"x"}), {}, "holds no file that ends in .csv"),
    "zip with an empty CSV": ("BTC-1h.zip", zipped(**{"BTC.csv": b""}), {}, r"BTC.csv: is empty \(0 bytes\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_recognised_is_refused_with_the_way_out(tmp_path, case):
    name, content, options, message = REFUSED[case]
    with pytest.raises(DataError, match=message):
        load(put(tmp_path, name, content), **options)


def test_columns_of_a_file_without_a_header_can_be_named_by_number(tmp_path):
    path = put(
        tmp_path, "BTC-1h.csv", csv("", [(bar[4], bar[2], bar[3], bar[1], bar[0], bar[5], 7, 8) for bar in BARS])
    )
    names = {"close": 1, "high": 2, "low": 3, "open": 4, "open_ms": 5, "volume": 6}
    frame = load(path, columns={name: f"column_{number}" for name, number in names.items()})
    assert frame.select("open_ms", "open", "high", "low", "close", "volume").rows() == EXPECTED


def test_an_unknown_preset_is_a_wrong_option(tmp_path):
    put(tmp_path, "BTC-1h.csv", csv(HEADER, EXPECTED))
    with pytest.raises(ConfigError, match="preset 'kraken' is not known; allowed: binance-vision, bybit"):
        open_files(tmp_path, "test", preset="kraken")


def test_a_volume_that_is_named_is_taken_as_it_is(tmp_path):
    rows = [(*bar[:5], bar[5] * 100, money(bar)) for bar in BARS]
    path = put(tmp_path, "BTC-1h.csv", csv(f"{HEADER},turnover", rows))
    assert load(path, columns={"volume": "volume"})["volume"].to_list() == [bar[5] * 100 for bar in BARS]
