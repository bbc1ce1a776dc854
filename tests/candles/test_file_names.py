from pathlib import Path

import pytest

from mei_pipeline.candles.intervals import INTERVALS, LABELS, parse_interval
from mei_pipeline.candles.sources.file_names import (
    NameParts,
    folder_interval,
    market_of,
    read_name,
    untraded_of,
    venue_of,
)

NAMES = {
    # Binance Vision
    "BTCUSDT-1h-2024-12.csv": ("BTCUSDT", "1h"),
    "BTCUSDT-1h-2024-12.zip": ("BTCUSDT", "1h"),
    "1000PEPEUSDT-5m-2024-12-01.zip": ("1000PEPEUSDT", "5m"),
    "1INCHUSDT-1d-2024-12.csv": ("1INCHUSDT", "1d"),
    "BTCUSD_PERP-1h-2024-12.csv": ("BTCUSD_PERP", "1h"),
    "BTCUSD_250328-1h-2024-12.csv": ("BTCUSD_250328", "1h"),
    "BTCUSDT-fundingRate-2024-12.csv": ("BTCUSDT", None),
    # Bybit
    "BTCUSDT2024-12-01.csv.gz": ("BTCUSDT", None),
    "BTCUSDT_60_2024-12-01_2024-12-31.csv": ("BTCUSDT", "1h"),
    "BTCUSDT_D_2024-12-01_2024-12-31.csv": ("BTCUSDT", "1d"),
    "BTCUSDT_15_2024-12.csv.gz": ("BTCUSDT", "15m"),
    # OKX
    "BTC-USDT-SWAP-candles-2024-12.csv": ("BTC-USDT-SWAP", None),
    "BTC-USDT-SWAP-candlesticks-2024-12-01.zip": ("BTC-USDT-SWAP", None),
    "BTC-USDT-241227-candles-2024-12.csv": ("BTC-USDT-241227", None),
    "BTC-USDT_1H.csv": ("BTC-USDT", "1h"),
    # freqtrade
    "BTC_USDT_USDT-1h-futures.feather": ("BTC/USDT:USDT", "1h"),
    "BTC_USDT-4h.feather": ("BTC/USDT", "4h"),
    # TradingView
    "BINANCE_BTCUSDT.P, 60.csv": ("BTCUSDT.P", "1h"),
    "BYBIT_1000PEPEUSDT.P, 240.csv": ("1000PEPEUSDT.P", "4h"),
    "BTCUSDT, 1D_ab12c.csv": ("BTCUSDT", "1d"),
    # plain
    "BTC.csv": ("BTC", None),
    "BTC (1).csv": ("BTC", None),
    "BTC-1h.csv": ("BTC", "1h"),
    "BTC_1h.parquet": ("BTC", "1h"),
    "BTC_60min.csv": ("BTC", "1h"),
    "kPEPE.csv": ("kPEPE", None),
    "W.csv": ("W", None),
    "BTC_USDT-1h.csv": ("BTC_USDT", "1h"),
    "BTC-PERP_1h.csv": ("BTC-PERP", "1h"),
    "BTC-27DEC24_1h.csv": ("BTC-27DEC24", "1h"),
    "BTCUSDT_20241201.csv": ("BTCUSDT", None),
    # a date before the interval is an expiry, one beside another date or at the end is none
    "BTC-USDT-20241227-1h.csv": ("BTC-USDT-20241227", "1h"),
    "BTC_USDT_20250328_1h.csv": ("BTC_USDT_20250328", "1h"),
    "OKX_BTC-USD-20241227-candles-2024-12.csv": ("BTC-USD-20241227", None),
    "BTC-USDT-20241227-1h-2024-12.zip": ("BTC-USDT-20241227", "1h"),
    "BTC-USDT-20241201.csv": ("BTC-USDT", None),
    "BTC-USDT-1h-20241201.csv": ("BTC-USDT", "1h"),
    "BTC-USDT-20241201-20241231-1h.csv": ("BTC-USDT", "1h"),
    "BTCUSDT-20241201-1h.csv": ("BTCUSDT", "1h"),
    "BTC-USDT-2024-12-01-1h.csv": ("BTC-USDT", "1h"),
    "ETHUSDT-1m-1735603200000-1735689600000.csv": ("ETHUSDT", "1m"),
    "binance-BTCUSDT-1h.csv": ("BTCUSDT", "1h"),
    "BTC_binance_1h.csv": ("BTC", "1h"),
    "OKX_BTC-USDT-SWAP_1h.csv": ("BTC-USDT-SWAP", "1h"),
    # a coin that has its venue's name
    "DYDX.csv": ("DYDX", None),
    "DYDX_1h.csv": ("DYDX", "1h"),
    "DYDX-USDT-SWAP-candles-2024-12.csv": ("DYDX-USDT-SWAP", None),
    "DYDX_USDT_USDT-1h-futures.feather": ("DYDX/USDT:USDT", "1h"),
    # an interval that MEI doesn't have stays as it is written
    "BTC-2h.csv": ("BTC", "2h"),
    "BTC-1M-2024.csv": ("BTC", "1M"),
    # no symbol, or more than one can tell
    "a.csv": (None, None),
    "btc-1h.csv": (None, "1h"),
    "my_candles.csv": (None, None),
    "DATA.csv": (None, None),
    "CANDLES-1h.csv": (None, "1h"),
    "BTC_old.csv": (None, None),
    "BTC_ETH_SOL.csv": (None, None),
    "BTC-60.csv": (None, None),
    "2024-12.csv": (None, None),
    "1h.csv": (None, "1h"),
    "part-0.parquet": (None, None),
    "allswap-candles-2024-12.csv": (None, None),
    "binance_usdm_1h.parquet": (None, "1h"),
    "hyperliquid_candles.parquet": (None, None),
}


@pytest.mark.parametrize("name", NAMES)
def test_symbol_and_interval_are_read_from_a_file_name(name):
    parts = read_name(name)
    assert (parts.symbol, parts.interval) == NAMES[name]


def test_the_preset_freqtrade_reads_pairs_from_every_kind_of_file():
    assert read_name("BTC_USDT-1h.json").symbol == "BTC_USDT"
    assert read_name("BTC_USDT-1h.json", freqtrade=True).symbol == "BTC/USDT"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BTC_USDT_USDT-1h-mark.feather", NameParts("BTC/USDT:USDT", "1h", untraded="mark")),
        ("BTC_USDT_USDT-8h-funding_rate.feather", NameParts("BTC/USDT:USDT", "8h", funding=True)),
        ("BTCUSDT2024-12-01_premium_index.csv.gz", NameParts("BTCUSDT", untraded="premium_index")),
        ("DYDX_BTCUSD, 60.csv", NameParts("BTCUSD", "1h", venue="dydx")),
        ("dydx_candles.csv", NameParts(venue="dydx")),
    ],
)
def test_venue_and_kind_of_prices_are_read_from_a_file_name(name, expected):
    assert read_name(name) == expected


@pytest.mark.parametrize(
    ("path", "venue"),
    [
        ("/data/bybit/BTC.csv", "bybit"),
        ("/data/bybit/2024/BTC.csv", "bybit"),
        ("/data/bybit-linear/BTC.csv", "bybit"),
        ("/data/OKX_2024/BTC.csv", "okx"),
        ("/data/bybit/binance/BTC.csv", "binance"),
        ("/data/bybit_and_okx/BTC.csv", None),
        ("/data/my_bybit_bot/BTC.csv", "bybit"),
        ("/data/bybit_btcusdt/BTCUSDT-1h.csv", "bybit"),
        ("/data/krakenfutures/futures/BTC.csv", "krakenfutures"),
        ("/data/gate/BTC.csv", "gate"),
        ("/data/binanceus/BTC.csv", "binanceus"),
        ("/data/DYDX/DYDX.csv", None),
        ("/data/okx/dydx_usdt/DYDX.csv", "okx"),
        ("/data/dydx/DYDX.csv", "dydx"),
        ("/my_bybit_bot/data/BTC.csv", None),
        ("/my_bybit_bot/BTC.csv", "bybit"),
        ("/bybit/data/x/BTC.csv", "bybit"),
        ("/bybit-linear/y/data/BTC.csv", None),
    ],
)
def test_the_nearest_folder_that_names_a_venue_counts(path, venue):
    root = Path("/data") if path.startswith("/data") else Path(path).parent
    assert venue_of(Path(path), root, Path(path).stem.lower().__eq__) == venue


def test_a_user_who_is_called_like_a_venue_is_none(monkeypatch):
    monkeypatch.setenv("HOME", "/home/kraken")
    assert venue_of(Path("/home/kraken/data/BTC.csv"), Path("/home/kraken/data"), "BTC".__eq__) is None
    assert venue_of(Path("/home/kraken/kraken/BTC.csv"), Path("/home/kraken"), "BTC".__eq__) == "kraken"


def test_folders_say_market_interval_and_prices_that_nobody_traded_at():
    root = Path("/in/data")
    vision = root / "futures/um/monthly/klines/BTCUSDT/1h/x.zip"
    assert (market_of(vision, root), folder_interval(vision, root), untraded_of(vision, root)) == (
        "futures",
        "1h",
        None,
    )
    assert market_of(root / "spot/x.zip", root) == "spot"
    assert market_of(Path("/spot/data/x.csv"), Path("/spot/data")) is None
    assert untraded_of(root / "um/markPriceKlines/x.zip", root) == "markPriceKlines"


def test_every_label_names_one_interval():
    assert {parse_interval(label) for labels in LABELS.values() for label in labels} == set(INTERVALS)
    assert sum(map(len, LABELS.values())) == len({label for labels in LABELS.values() for label in labels})
    assert [parse_interval(label) for label in ("60", "1H", "240", "1D", "1M", "2h", "")] == [
        *("1h", "1h", "4h", "1d"),
        *(None, None, None),
    ]
