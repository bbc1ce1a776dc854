"""A lane over a month of the lake does what a replay and a sweep of its config do, byte for byte."""

import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from math import inf
from pathlib import Path

import msgspec
import polars as pl
import pytest
from paper_kit import ALPHA, CROSS
from session_kit import LANE, START_MS, feed_of

from kernels.params import Value
from live.bench_home import home_settings, lane_config, make_lane_home
from live.lane_files import offered_config, read_lane_config
from live.running import LaneOptions, Watch
from live.session import run_lane
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.candles.lake import Lake, merge_candles, read_candles
from mei_pipeline.candles.sources.synthetic import SyntheticMarket
from mei_pipeline.errors import DataError
from mei_pipeline.execution.equivalence import TradeComparison, compare_trades
from mei_pipeline.execution.events import ConfigOffered
from mei_pipeline.execution.journal.opening import journal_path
from mei_pipeline.execution.journal.reader import connect_read_only, last_checkpoint
from mei_pipeline.params.identity import ResolvedConfig, config_id
from mei_pipeline.registry.records import as_dict
from mei_pipeline.replay.run import make_replay_inputs
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.simulation.run import RESULTS, run_combos

SYMBOLS = ("BTC", "ETH")
FROM_MS, TO_MS = START_MS + 12 * DAY_MS, START_MS + 42 * DAY_MS


def traded(home: Path, resolved: ResolvedConfig) -> Settings:
    """A home whose lane has traded a config over a month."""
    settings = home_settings(home, home / "cache")
    interval = resolved.intervals.step
    market = SyntheticMarket(seed=5, symbols=SYMBOLS, interval=interval, to_ms=TO_MS)
    make_lane_home(settings, market, resolved)
    options = LaneOptions(LANE, speed=inf, from_ms=FROM_MS)
    result = run_lane(settings, options, Watch(), feed_of(settings, TO_MS, 1000))
    assert result.steps == (TO_MS - FROM_MS) // resolved.intervals.step_ms
    return settings


def compare(settings: Settings, offer: ConfigOffered | None = None, lanes: Path | None = None) -> TradeComparison:
    """Compare a lane's journal, or a copy of it, with a replay of its config or of another one."""
    config = read_lane_config(settings, LANE)
    offer = offer or offered_config(settings, LANE, config)
    with closing(connect_read_only(journal_path(lanes or settings.lanes, LANE))) as journal:
        return compare_trades(settings, journal, offer, config.equity_usd, FROM_MS, TO_MS)


def config_of(strategy: str, params: Mapping[str, Value], exits: str, fee: float = 4.5) -> ResolvedConfig:
    market = {"market.fill": "close", "market.taker_fee_bps": fee}
    return lane_config(strategy, SYMBOLS, params, market, exit_interval=exits)


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home whose lane has traded `ema_cross` over a month of hourly bars."""
    return traded(tmp_path_factory.mktemp("month") / "home", config_of("ema_cross", CROSS, ""))


def test_a_month_of_hourly_bars(crossed: Settings) -> None:
    check_equal(crossed, config_of("ema_cross", CROSS, ""))


@pytest.mark.parametrize(
    ("strategy", "params", "exits"),
    [
        ("mei_alpha", ALPHA, "15m"),
        pytest.param("mei_alpha", ALPHA, "", marks=pytest.mark.long),
        pytest.param("ema_cross", CROSS, "15m", marks=pytest.mark.long),
    ],
)
def test_a_month_of_a_lane(home: Path, strategy: str, params: dict[str, Value], exits: str) -> None:
    resolved = config_of(strategy, params, exits)
    check_equal(traded(home, resolved), resolved)


def check_equal(settings: Settings, resolved: ResolvedConfig) -> None:
    """Compare a lane's fills and trades with a replay, and its account with a sweep."""
    compared = compare(settings)
    assert compared.lane.height > 10
    assert compared.equal
    bars = load_bars(Lake(settings.lake), resolved.venue, resolved.intervals, resolved.symbols, START_MS, TO_MS)
    inputs = make_replay_inputs(settings, bars, resolved, FROM_MS, TO_MS)
    row = run_combos(settings, inputs.cut, inputs.model, inputs.features, inputs.combos, 1).results
    with closing(sqlite3.connect(journal_path(settings.lanes, LANE))) as connection:
        found = last_checkpoint(connection)
        [(equity,)] = connection.execute("SELECT equity_usd FROM equity ORDER BY step_ms DESC LIMIT 1")
    assert found is not None
    [book] = found[1].state.books
    for name, column in RESULTS.items():
        assert book.account[column] == float(row[name][0]), name
    assert equity == float(row["equity_usd"][0])


@pytest.mark.parametrize("edge", ["before the first entry", "after a close"])
def test_a_payment_outside_the_trades_of_a_lane_is_named(crossed: Settings, tmp_path: Path, edge: str) -> None:
    before = compare(crossed)
    journal = tmp_path / "lanes" / LANE / "journal.db"
    shutil.copytree(crossed.lanes, tmp_path / "lanes")
    with closing(sqlite3.connect(journal)) as connection, connection:
        [(close,)] = connection.execute("SELECT min(seq) FROM fills WHERE held = 0 AND symbol = 'BTC'")
        seq = {"before the first entry": 0, "after a close": close}[edge]
        connection.execute(
            "INSERT INTO funding VALUES (?, 9, 'late', 'c', 0, 0, 'BTC', 0.0, 0.0, 100.0, 0.0, 0)", (seq,)
        )
    with closing(connect_read_only(journal)) as connection:
        config = read_lane_config(crossed, LANE)
        offer = offered_config(crossed, LANE, config)
        compared = compare_trades(crossed, connection, offer, config.equity_usd, FROM_MS, TO_MS)
    assert compared.lane_loose.select("symbol", "reason", "held").rows() == [("BTC", "funding", 0.0)]
    assert compared.lane.equals(before.lane)
    assert compared.lane_fills.equals(before.lane_fills)
    assert not compared.equal


def test_a_lane_of_another_config_is_not_compared(crossed: Settings, tmp_path: Path) -> None:
    offer = offered_config(crossed, LANE, read_lane_config(crossed, LANE))
    other = "f" * 64
    with pytest.raises(DataError, match=f"traded config {offer.config_id[:12]}, which is not config f{{12}}"):
        compare(crossed, msgspec.structs.replace(offer, config_id=other))
    # A second config of the same symbols, as after a promotion.
    shutil.copytree(crossed.lanes, tmp_path / "lanes")
    with closing(sqlite3.connect(journal_path(tmp_path / "lanes", LANE))) as connection, connection:
        connection.execute("INSERT INTO config_changes VALUES (?, ?, 2, 1.0, 'opened', '')", (TO_MS, other))
    with pytest.raises(DataError, match="traded config ffffffffffff"):
        compare(crossed, lanes=tmp_path / "lanes")


def test_small_differences_are_caught(crossed: Settings, tmp_path: Path) -> None:
    settings = crossed
    offer = offered_config(settings, LANE, read_lane_config(settings, LANE))
    assert compare(settings).equal
    other = config_of("ema_cross", CROSS, "", 5.5)
    dearer = msgspec.structs.replace(offer, config=as_dict(other), config_id=config_id(other))
    shutil.copytree(settings.lanes, tmp_path / "lanes")
    with closing(sqlite3.connect(journal_path(tmp_path / "lanes", LANE))) as connection, connection:
        connection.execute("UPDATE config_changes SET config_id = ?", (dearer.config_id,))
    assert not compare(settings, dearer, tmp_path / "lanes").equal

    lake = Lake(settings.lake)
    fills = compare(settings).lane_fills
    fill = fills.filter((pl.col("moment") == "close") & (pl.col("size") != 0.0)).row(20, named=True)
    bars = read_candles(lake, "synthetic", "1h", (fill["symbol"],), fill["time_ms"] - 3_600_000, fill["time_ms"])
    tick = pl.col("close") + 0.01
    changed = bars.with_columns(close=tick, high=pl.max_horizontal("high", tick))
    merge_candles(lake, changed, now_ms=4_000_000_000_000)
    assert not compare(settings).equal
