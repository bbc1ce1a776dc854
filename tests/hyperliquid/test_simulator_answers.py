"""Answers of the exchange simulator: the numbers of the lake, in the venue's shapes, with the venue's limits."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from feed_kit import DELISTED, END_MS, ENDED, HOLED, RELISTED, SYMBOLS
from simulator_kit import ACCOUNT, START_MS, Running, lake_market, simulate, small_market

from mei_pipeline.candles.intervals import DAY_MS, HOUR_MS, interval_ms
from mei_pipeline.candles.lake import (
    Lake,
    merge_candles,
    merge_funding,
    merge_instruments,
    read_candles,
    read_funding,
    read_instruments,
)
from mei_pipeline.candles.schema import FUNDING
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.hyperliquid.simulator.answers import meta_of
from mei_pipeline.hyperliquid.simulator.loading import load_lake, warning_lines
from mei_pipeline.hyperliquid.simulator.market import StoredBars
from mei_pipeline.hyperliquid.simulator.paths import bar_at
from mei_pipeline.hyperliquid.simulator.quotes import best_quote, book_of, context_of, trades_between, wire_number
from mei_pipeline.hyperliquid.simulator.state import SimulatorOptions


def _values(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row["t"], *(float(row[name]) for name in "ohlcv"), row["n"])


def _stored(lake: Lake, symbol: str, interval: str, before_ms: int) -> list[tuple[Any, ...]]:
    frame = read_candles(lake, "test", interval, [symbol], None, before_ms).with_columns(pl.col("trades").fill_null(0))
    return frame.select("open_ms", "open", "high", "low", "close", "volume", "trades").rows()


@pytest.mark.parametrize("interval", ["15m", "1h"])
def test_candles_are_those_of_the_lake_bit_for_bit(tmp_path: Path, interval: str) -> None:
    lake, loaded = lake_market(tmp_path)

    async def scenario(running: Running) -> None:
        for symbol in SYMBOLS:
            span = {"coin": symbol, "interval": interval, "startTime": 0, "endTime": None}
            rows = await running.ask(type="candleSnapshot", req=span)
            # The bar that opens at the start is open, the others are final.
            closed = [row for row in rows if row["T"] < START_MS]
            assert [_values(row) for row in closed] == _stored(lake, symbol, interval, START_MS)
            assert all(row["T"] == row["t"] + interval_ms(interval) - 1 for row in rows)
            assert all(row["s"] == symbol and row["i"] == interval for row in rows)
            assert [row["t"] for row in rows[len(closed) :]] in ([], [START_MS])

    simulate(loaded, scenario)


def test_candles_overlap_the_span_and_the_last_one_may_be_open() -> None:
    loaded = small_market()

    async def scenario(running: Running) -> None:
        running.time.now_s += 20 * 60
        hour = loaded.start_ms - 10 * HOUR_MS
        span = {"coin": "BTC", "interval": "1h", "startTime": hour + 46 * 60_000, "endTime": hour + 3 * HOUR_MS}
        rows = await running.ask(type="candleSnapshot", req=span)
        assert [row["t"] for row in rows] == [hour + each * HOUR_MS for each in range(4)]
        span = {"coin": "BTC", "interval": "1h", "startTime": loaded.start_ms}
        (row,) = await running.ask(type="candleSnapshot", req=span)
        assert row["t"] == loaded.start_ms
        quarters = await running.ask(type="candleSnapshot", req={**span, "interval": "15m"})
        assert [each["t"] - loaded.start_ms for each in quarters] == [0, 15 * 60_000]
        assert float(row["h"]) >= max(float(each["h"]) for each in quarters)
        assert row["c"] == quarters[-1]["c"]
        span = {**span, "startTime": loaded.start_ms + HOUR_MS}
        assert await running.ask(type="candleSnapshot", req=span) == []

    simulate(loaded, scenario)


def test_only_the_newest_5000_candles_exist() -> None:
    loaded = small_market(("BTC",))

    async def scenario(running: Running) -> None:
        span = {"coin": "BTC", "interval": "15m", "startTime": 0}
        rows = await running.ask(type="candleSnapshot", req=span)
        assert len(rows) == 5_000
        assert rows[-1]["t"] == loaded.start_ms
        assert rows[0]["t"] == loaded.start_ms - 4_999 * 15 * 60_000
        earlier = {**span, "endTime": rows[0]["t"] - 1}
        assert await running.ask(type="candleSnapshot", req=earlier) == []
        counters = await running.control("counters")
        assert counters["weights"]["127.0.0.1"]["total"] == 20 + 83 + 20
        assert counters["requests"] == {"candleSnapshot": 2}

    simulate(loaded, scenario)


def test_funding_is_that_of_the_lake_and_never_ahead_of_the_clock(tmp_path: Path) -> None:
    lake, loaded = lake_market(tmp_path)
    stored = read_funding(lake, "test", [HOLED]).select("time_ms", "rate").rows()

    async def scenario(running: Running) -> None:
        rows = await running.ask(type="fundingHistory", coin=HOLED, startTime=0)
        known = [(row["time"], float(row["fundingRate"])) for row in rows]
        assert known == [row for row in stored if row[0] <= START_MS][:500]
        assert all(row["premium"] == "0.0" and row["coin"] == HOLED for row in rows)
        (ahead,) = [row for row in stored if START_MS < row[0] + 30_000 <= START_MS + 2 * HOUR_MS][:1]
        meta, contexts = await running.ask(type="metaAndAssetCtxs")
        context = contexts[[asset["name"] for asset in meta["universe"]].index(HOLED)]
        due = [rate for time, rate in stored if (time + 30_000) // HOUR_MS * HOUR_MS == START_MS + HOUR_MS]
        assert [float(context["funding"])] == due
        assert ahead[0] > START_MS - 30_000

    simulate(loaded, scenario)


def test_terms_come_back_from_meta(tmp_path: Path) -> None:
    _, loaded = lake_market(tmp_path)
    assert any("minimum notional 20.0 USD" in warning for warning in loaded.market.warnings)

    async def scenario(running: Running) -> None:
        meta = await running.ask(type="meta", dex="")
        assets = {asset["name"]: asset for asset in meta["universe"]}
        assert assets.keys() == set(SYMBOLS)
        tables = {number: table["marginTiers"][0]["maxLeverage"] for number, table in meta["marginTables"]}
        assert (assets[HOLED]["szDecimals"], assets[HOLED]["maxLeverage"]) == (1, 3)
        # The lake has lowered the leverage and kept the maintenance margin of ten times.
        assert 0.5 / tables[assets[HOLED]["marginTableId"]] == 0.05
        assert assets[ENDED]["maxLeverage"] == 4
        assert assets[DELISTED]["isDelisted"] is True
        assert "isDelisted" not in assets[ENDED]
        assert meta["collateralToken"] == 0

    simulate(loaded, scenario)


def test_terms_change_with_the_clock(tmp_path: Path) -> None:
    _, loaded = lake_market(tmp_path)
    coin = loaded.market.coins[RELISTED]
    delisted = [each.delisted_ms for each in coin.terms if each.delisted_ms is not None]
    assert [coin.is_delisted(time_ms) for time_ms in (delisted[0] - 1, delisted[0], delisted[0] + 2 * DAY_MS)] == [
        False,
        True,
        False,
    ]
    before = meta_of(loaded.market, coin.terms[0].from_ms)
    assert {asset.name: asset.max_leverage for asset in before.universe}[HOLED] == 10


def test_a_fraction_that_no_leverage_has_is_named(tmp_path: Path) -> None:
    lake, _ = lake_market(tmp_path)
    odd = read_instruments(lake, "test", [ENDED]).with_columns(
        maintenance_margin_frac=pl.lit(0.013), max_leverage=pl.lit(2.5), from_ms=pl.col("from_ms") + 1
    )
    merge_instruments(lake, odd, now_ms=END_MS + DAY_MS)
    warnings = load_lake(lake, from_ms=START_MS).market.warnings
    assert any("maintenance margin 0.013" in line and ENDED in line for line in warnings)
    assert any("maximum leverage 2.5 is no integer; it goes out as 2" in line for line in warnings)


def test_the_other_answers_have_the_documented_shapes() -> None:
    loaded = small_market()

    async def scenario(running: Running) -> None:
        assert await running.ask(type="exchangeStatus") == {"time": loaded.start_ms, "specialStatuses": None}
        running.time.now_s += 90.0
        assert (await running.ask(type="exchangeStatus"))["time"] == loaded.start_ms + 90_000
        assert await running.control("clock") == {"now_ms": loaded.start_ms + 90_000, "speed": 1.0}
        mids = await running.ask(type="allMids")
        assert sorted(mids) == ["BTC", "ETH"]
        book = await running.ask(type="l2Book", coin="BTC", nSigFigs=None)
        bids, asks = ([float(level["px"]) for level in side] for side in book["levels"])
        assert bids == sorted(bids, reverse=True)
        assert asks == sorted(asks)
        assert len(bids) == len(asks) == 20
        assert bids[0] < float(mids["BTC"]) < asks[0]
        assert (asks[0] - bids[0]) / asks[0] < 5e-4
        assert book.keys() == {"coin", "levels", "time"}
        coarse = await running.ask(type="l2Book", coin="BTC", nSigFigs=3)
        assert all(float(level["px"]) % 100 == 0 for side in coarse["levels"] for level in side)
        assert await running.ask(type="l2Book", coin="NONE") is None
        trades = await running.ask(type="recentTrades", coin="BTC")
        assert [each["time"] for each in trades] == sorted((each["time"] for each in trades), reverse=True)
        assert trades[0].keys() == {"coin", "side", "px", "sz", "time", "hash", "tid", "users"}
        assert all(each["tid"] > 1 << 32 for each in trades)
        meta, contexts = await running.ask(type="metaAndAssetCtxs")
        assert len(meta["universe"]) == len(contexts) == 2
        assert contexts[0].keys() == {
            "funding", "openInterest", "prevDayPx", "dayNtlVlm", "premium", "oraclePx", "markPx", "midPx",
            "impactPxs", "dayBaseVlm",
        }  # fmt: skip
        assert await running.ask(type="perpDexs") == [None]
        assert await running.ask(type="recentTrades", coin="NONE") == []
        assert await running.ask(type="fundingHistory", coin="NONE", startTime=0) == []
        assert await running.ask(type="candleSnapshot", req={"coin": "NONE", "interval": "1h", "startTime": 0}) == []

    simulate(loaded, scenario)


def test_an_unknown_request_is_refused_as_the_venue_does() -> None:
    async def scenario(running: Running) -> None:
        wrong = [
            b"{}", b"not json", b'{"type":"nonsense"}', b'{"type":"clearinghouseState"}', b"[" * 5000,
            b'{"type":"candleSnapshot","req":{"coin":"BTC","interval":"7m","startTime":0}}',
            json.dumps({"type": "activeAssetData", "user": ACCOUNT}).encode(),
        ]  # fmt: skip
        for body in wrong:
            async with running.session.post(f"{running.url}/info", data=body) as answer:
                assert answer.status == 422
                assert await answer.text() == "Failed to deserialize the JSON body into the target type"
        async with running.session.post(f"{running.url}/simulator", data=b"?") as answer:
            assert answer.status == 422

    simulate(small_market(), scenario)


def test_weights_are_counted_and_refused_only_on_demand() -> None:
    async def scenario(running: Running) -> list[int]:
        statuses = []
        for _ in range(62):
            async with running.session.post(f"{running.url}/info", json={"type": "meta"}) as answer:
                statuses.append(answer.status)
                retry = answer.headers.get("Retry-After")
        if statuses[-1] == 429:
            assert retry == "61"
            running.time.now_s += 61.0
            assert (await running.ask(type="meta"))["universe"]
            assert (await running.control("counters"))["refused"] == 2
        else:
            assert (await running.control("counters"))["weights"] == {"127.0.0.1": {"minute": 1240, "total": 1240}}
        return statuses

    assert simulate(small_market(), scenario) == [200] * 62
    assert simulate(small_market(), scenario, SimulatorOptions(limits=True)) == [200] * 60 + [429] * 2


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (94000.0, "94000.0"),
        (1e-7, "0.0000001"),
        (1e22, "10000000000000000000000.0"),
        (-2.5e-5, "-0.000025"),
        (0.1, "0.1"),
    ],
)
def test_numbers_are_plain_decimals(number: float, text: str) -> None:
    assert wire_number(number) == text
    assert float(text) == number


def test_what_a_lake_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it is empty"):
        load_lake(Lake(tmp_path / "empty"))
    lake, _ = lake_market(tmp_path)
    with pytest.raises(ConfigError, match="unknown venue 'mars'; allowed: test"):
        load_lake(lake, "mars")
    with pytest.raises(ConfigError, match="--symbols: no bars of symbol 'ZZZ'; allowed: AAA"):
        load_lake(lake, symbols=["ZZZ"])
    with pytest.raises(ConfigError, match="--intervals: no bars of interval '4h'; allowed: 15m, 1h"):
        load_lake(lake, intervals=["4h"])
    with pytest.raises(ConfigError, match="--symbols: the list is empty"):
        load_lake(lake, symbols=[])
    with pytest.raises(ConfigError, match=r"--from 1970-01-01 00:00Z: .* has bars from 2025-01-25"):
        load_lake(lake, from_ms=0)


def test_a_lake_without_candles_or_instruments_is_named(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "funding")
    rows = {"venue": "test", "symbol": "AAA", "time_ms": 0, "rate": 1e-5, "premium": None, "source": "x"}
    merge_funding(lake, pl.DataFrame([rows], schema=FUNDING.columns), now_ms=END_MS)
    with pytest.raises(DataError, match="no candles of test"):
        load_lake(lake)
    bare = Lake(tmp_path / "bare")
    whole, _ = lake_market(tmp_path)
    merge_candles(bare, read_candles(whole, "test", "1h", [HOLED]), now_ms=END_MS + DAY_MS)
    with pytest.raises(DataError, match="no instrument of AAA"):
        load_lake(bare)
    other = read_candles(whole, "test", "1h", [HOLED]).with_columns(venue=pl.lit("mars"))
    merge_candles(bare, other, now_ms=END_MS + DAY_MS)
    with pytest.raises(ConfigError, match="several venues; name one with --venue; allowed: mars, test"):
        load_lake(bare)


def test_warnings_are_counted() -> None:
    loaded = small_market()
    market = replace(loaded.market, warnings=("a", "b", "c"))
    assert list(warning_lines(market, most=2)) == ["a", "b", "1 further warnings about instruments"]


def test_a_coarse_bar_without_finer_ones_has_a_path_of_its_own(tmp_path: Path) -> None:
    lake, loaded = lake_market(tmp_path)
    coin = loaded.market.coins[HOLED]
    fine = coin.bars["15m"]
    cut = fine.open_ms < START_MS - HOUR_MS
    emptied = StoredBars("15m", fine.open_ms[cut], fine.values[cut], fine.trades[cut])
    sparse = replace(coin, bars={"15m": emptied, "1h": coin.bars["1h"]})
    bar = bar_at(sparse, "1h", START_MS + HOUR_MS // 2)
    (stored,) = read_candles(lake, "test", "1h", [HOLED], START_MS, START_MS + 1).to_dicts()
    assert bar is not None
    assert bar.open == stored["open"]
    assert stored["low"] <= bar.low <= bar.close <= bar.high <= stored["high"]
    assert 0.0 < bar.volume < stored["volume"]
    assert bar_at(sparse, "4h", START_MS) is None
    assert bar_at(sparse, "1h", 0) is None
    assert best_quote(sparse, START_MS).quotes == (None, None)
    assert book_of(sparse, START_MS).levels == ((), ())
    assert trades_between(sparse, START_MS, START_MS + HOUR_MS) == ()
    assert context_of(sparse, START_MS).mid_price is None
