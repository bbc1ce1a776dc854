"""One config, trade by trade: the trade list, the fills and the equity curve tell one story."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from market_kit import DAY_MS, START_MS, SYMBOLS, VENUE, fill_lake

from mei_pipeline.config.load import Configuration
from mei_pipeline.config.promoted import to_yaml
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.params.identity import ResolvedConfig, resolve_config
from mei_pipeline.params.table import read_catalog
from mei_pipeline.replay.run import Replay, make_replay_inputs, replay
from mei_pipeline.replay.spec import read_config
from mei_pipeline.settings import CHECKOUT, Settings
from mei_pipeline.simulation.loading import load_bars

FROM_MS, TO_MS = START_MS + 10 * DAY_MS, START_MS + 50 * DAY_MS


@pytest.fixture
def resolved() -> ResolvedConfig:
    return resolve_config(
        read_catalog(),
        strategy="ema_cross",
        venue=VENUE,
        interval="1h",
        symbols=SYMBOLS,
        initial_balance_usd=10_000,
        params={"indicators.ema_fast_window": 5, "indicators.ema_slow_window": 20, "entry.warmup_bars": 50},
        market={"market.exit_slippage_bps": 2.0, "market.entry_slippage_bps": 1.0},
    )


@pytest.fixture
def run(mei_settings: Settings, resolved: ResolvedConfig) -> Replay:
    bars = load_bars(fill_lake(mei_settings), VENUE, "1h", SYMBOLS, START_MS, START_MS + 60 * DAY_MS)
    return replay(mei_settings, make_replay_inputs(mei_settings, bars, resolved, FROM_MS, TO_MS))


def test_trades_are_those_of_the_metrics(run: Replay) -> None:
    assert run.trades.height == run.metrics["trades"] > 20
    assert (run.trades["pnl_usd"] > 0).sum() / run.trades.height == run.metrics["win_rate"]
    wins = run.trades.filter(pl.col("pnl_usd") > 0)["pnl_usd"].sum()
    losses = -run.trades.filter(pl.col("pnl_usd") <= 0)["pnl_usd"].sum()
    assert run.metrics["profit_factor"] == pytest.approx(wins / losses, rel=1e-9)


def test_a_trade_is_its_prices_less_its_costs(run: Replay) -> None:
    sign = pl.when(pl.col("side") == "long").then(1.0).otherwise(-1.0)
    gross = sign * pl.col("size") * (pl.col("exit_price") - pl.col("entry_price"))
    off = run.trades.select((gross - pl.col("fees_usd") - pl.col("funding_usd") - pl.col("pnl_usd")).abs().max()).item()
    assert off < 1e-9
    assert run.trades["funding_usd"].abs().sum() > 0


def test_every_dollar_of_the_equity_is_in_the_fills(run: Replay) -> None:
    assert run.fills["fee_usd"].sum() == pytest.approx(run.metrics["fees_usd"], rel=1e-12)
    assert run.equity["equity_usd"][-1] - 10_000 == run.metrics["net_pnl_usd"]
    assert run.trades["pnl_usd"].sum() + run.holding["pnl_usd"].sum() == pytest.approx(
        run.metrics["net_pnl_usd"], abs=1e-6
    )


def test_an_open_position_is_worth_what_is_booked_and_what_its_last_close_adds(
    mei_settings: Settings, resolved: ResolvedConfig
) -> None:
    bars = load_bars(fill_lake(mei_settings), VENUE, "1h", SYMBOLS, START_MS, START_MS + 60 * DAY_MS)
    patient = replace(resolved, params={**resolved.params, "trade.sl_atr_mult": 50.0, "trade.tp_atr_mult": 50.0})
    run = replay(mei_settings, make_replay_inputs(mei_settings, bars, patient, FROM_MS, TO_MS))
    held = run.holding
    assert held["symbol"].to_list() == list(SYMBOLS)
    for row in held.iter_rows(named=True):
        booked = run.fills.filter((pl.col("symbol") == row["symbol"]) & (pl.col("time_ms") >= row["entry_ms"]))
        since = booked.filter(pl.col("trade") == booked["trade"].max())
        side = 1.0 if row["side"] == "long" else -1.0
        assert row["last_price"] == bars.prices[3, 50 * 24 - 1, SYMBOLS.index(row["symbol"])]
        assert row["realised_usd"] == pytest.approx(since["cash_usd"].sum())
        assert row["unrealised_usd"] == pytest.approx(side * row["size"] * (row["last_price"] - row["entry_price"]))
        assert row["pnl_usd"] == row["realised_usd"] + row["unrealised_usd"]
    assert run.trades["pnl_usd"].sum() + held["pnl_usd"].sum() == pytest.approx(run.metrics["net_pnl_usd"], abs=1e-6)


def test_equity_has_every_bar_of_the_window(run: Replay) -> None:
    assert run.equity.height == 40 * 24
    assert run.equity["close_ms"][0] == FROM_MS + 3_600_000
    assert run.equity["close_ms"][-1] == TO_MS
    peak = run.equity["equity_usd"].cum_max()
    assert (peak - run.equity["equity_usd"]).max() == pytest.approx(run.metrics["max_drawdown_usd"], rel=1e-12)


def test_times_are_ordered_and_inside_the_window(run: Replay) -> None:
    assert run.fills["time_ms"].min() >= FROM_MS
    assert run.fills["time_ms"].max() <= TO_MS
    assert (run.trades["exit_ms"] >= run.trades["entry_ms"]).all()


def config() -> Configuration:
    from mei_pipeline.config.load import load_config

    return load_config(CHECKOUT / "config")


def test_a_hand_written_config_is_resolved(mei_settings: Settings, tmp_path: Path) -> None:
    lake = fill_lake(mei_settings)
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"strategy: ema_cross\nvenue: {VENUE}\ninterval: 1h\nanchor: 2025-01-01T00:00:00Z\n"
        "market: {taker_fee_bps: 3.5}\nparams: {trade.sl_atr_mult: 1.25}\n"
    )
    resolved, anchor_ms = read_config(path, lake, config())
    assert resolved.symbols == SYMBOLS
    assert resolved.params["trade.sl_atr_mult"] == 1.25
    assert resolved.params["trade.tp_atr_mult"] == 3.0
    assert resolved.market["market.taker_fee_bps"] == 3.5
    assert anchor_ms == START_MS


def test_a_config_of_a_lane_brings_its_own_anchor(
    mei_settings: Settings, tmp_path: Path, resolved: ResolvedConfig
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(resolved, evidence={"anchor_ms": START_MS + DAY_MS}, provenance={}))
    assert read_config(path, fill_lake(mei_settings), config()) == (resolved, START_MS + DAY_MS)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("strategy: ema_cros\ninterval: 1h\nvenue: test\n", ConfigError, "unknown strategy"),
        ("strategy: ema_cross\ninterval: 1h\nvenue: test\nparams: {trade.sl: 1}\n", ConfigError, "trade.sl"),
        ("strategy: ema_cross\ninterval: 1h\nvenue: nowhere\n", DataError, "no 1h bars of nowhere"),
        ("strategy: ema_cross\ninterval: 1h\nvenu: test\n", ConfigError, "venu"),
        ("strategy: ema_cross\ninterval: 5m\nvenue: test\nsymbols: [AAA]\n", ConfigError, "no anchor for 5m"),
    ],
)
def test_a_wrong_config_says_what_to_change(
    mei_settings: Settings, tmp_path: Path, text: str, error: type[Exception], says: str
) -> None:
    lake = fill_lake(mei_settings)
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(error, match=says):
        read_config(path, lake, config())
