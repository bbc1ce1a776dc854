"""The benchmark symbol of a search: the same results in every notation, and none without one."""

from pathlib import Path

import polars as pl
import pytest
from market_kit import DAY_MS, START_MS, VENUE, spec, walk, write_config
from result_kit import read_results

from mei_pipeline.candles.instruments import default_instruments
from mei_pipeline.candles.lake import Lake, merge_candles, merge_instruments
from mei_pipeline.config.load import load_config
from mei_pipeline.config.models import SweepSpec
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.night.data import load_holdout_bars
from mei_pipeline.night.plan import plan_night
from mei_pipeline.night.store import read_night_plan, write_night_plan
from mei_pipeline.replay.run import encode_replay_inputs, replay
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import context_only
from mei_pipeline.simulation.feature_sets import build_features
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.simulation.window import cut_window
from mei_pipeline.sweep.plan import make_plan, plan_from_dict, plan_to_dict, resolved_combo
from mei_pipeline.sweep.run import run_sweep

DAYS = 60
END_MS = START_MS + DAYS * DAY_MS
COINS = ("BTC", "DOGE", "ETH", "SOL")
FILTER = "filters.require_btc_alignment"


def fill(settings: Settings, form: str = "{}", coins: tuple[str, ...] = COINS) -> Lake:
    """The same walks under other names."""
    lake = Lake(settings.home / form.replace("/", "") / "lake")
    names = {coin: form.format(coin) for coin in coins}
    frames = [walk(coin, DAYS, 1, drift=0.002).with_columns(symbol=pl.lit(name)) for coin, name in names.items()]
    merge_candles(lake, pl.concat(frames), now_ms=END_MS + DAY_MS)
    merge_instruments(lake, default_instruments(VENUE, dict.fromkeys(names.values(), 100.0)), now_ms=END_MS)
    return lake


def alpha(**changes: object) -> SweepSpec:
    """Two combos that differ in the filter."""
    params = {
        "entry.warmup_bars": 50,
        "indicators.ema_macro_window": 60,
        "thresholds.entry.min_adx": 5,
        "thresholds.entry.btc_adx_override": 100,
        "trade.entry_min_confidence": "low",
    }
    return spec(strategy="mei_alpha", params=params, axes={FILTER: (False, True)}, **changes)


def rows(settings: Settings, lake: Lake, form: str, **changes: object) -> pl.DataFrame:
    """Results of both combos."""
    names = tuple(form.format(coin) for coin in COINS)
    bars = load_bars(lake, VENUE, "1h", names, START_MS, END_MS)
    plan = make_plan(alpha(**changes), bars, START_MS + 10 * DAY_MS, END_MS)
    assert plan_from_dict(plan_to_dict(plan)) == plan
    cut, features = cut_window(bars, plan.from_ms, plan.to_ms), build_features(bars, plan.columns(), settings.features)
    found = read_results(run_sweep(settings, plan, cut, features).folder, plan)
    for number in range(plan.combos):
        one = replay(settings, encode_replay_inputs(bars, cut, features, resolved_combo(plan, plan.combo(number))))
        assert one.metrics["net_pnl_usd"] == found.filter(pl.col("combo") == number)["net_pnl_usd"][0]
    return found.drop("combo", FILTER)


def test_the_same_bars_give_the_same_results_in_every_notation(mei_settings: Settings) -> None:
    forms = ("{}", "{}/USDT:USDT", "{}-USDT-SWAP")
    found = [rows(mei_settings, fill(mei_settings, form), form) for form in forms]
    assert found[0]["net_pnl_usd"].n_unique() == 2, "the filter changes nothing here"
    assert all(other.equals(found[0], null_equal=True) for other in found[1:])


def test_a_named_benchmark_is_another_search(mei_settings: Settings) -> None:
    lake = fill(mei_settings)
    by_name, other = (rows(mei_settings, lake, "{}", benchmark=name) for name in ("BTC", "ETH"))
    assert by_name.equals(rows(mei_settings, lake, "{}"), null_equal=True)
    assert by_name["net_pnl_usd"][0] == other["net_pnl_usd"][0]
    assert by_name["net_pnl_usd"][1] != other["net_pnl_usd"][1]


def test_a_search_that_reads_one_and_has_none_is_refused(mei_settings: Settings) -> None:
    lake = fill(mei_settings)
    bars = load_bars(lake, VENUE, "1h", ("ETH", "SOL"), START_MS, END_MS)
    with pytest.raises(ConfigError, match=f"{FILTER} is on and reads a benchmark symbol"):
        make_plan(alpha(), bars, START_MS, END_MS)
    own = {"ETH": {FILTER: True}}
    off = {"params": {FILTER: False}, "axes": {"indicators.ema_fast_window": (5, 9)}, "strategy": "mei_alpha"}
    with pytest.raises(ConfigError, match=f"{FILTER} is on"):
        make_plan(spec(**off, symbol_params=own), bars, START_MS, END_MS)
    assert make_plan(spec(**off), bars, START_MS, END_MS).benchmark == ""
    assert make_plan(spec(), bars, START_MS, END_MS).benchmark == ""


def test_symbols_that_no_search_sees_are_judged_beside_it(mei_settings: Settings) -> None:
    lake = fill(mei_settings)
    bars = context_only(load_bars(lake, VENUE, "1h", COINS, START_MS, END_MS), "BTC")
    plan = make_plan(alpha(), bars, START_MS + 10 * DAY_MS, END_MS)
    cut, features = (
        cut_window(bars, plan.from_ms, plan.to_ms),
        build_features(bars, plan.columns(), mei_settings.features),
    )
    free, held = (
        replay(mei_settings, encode_replay_inputs(bars, cut, features, resolved_combo(plan, plan.combo(number))))
        for number in (0, 1)
    )
    assert "BTC" not in {*free.fills["symbol"], *held.fills["symbol"]}
    assert len(free.trades) > len(held.trades) > 0


SWEEP = f"""\
strategy: mei_alpha
interval: 1h
axes: {{{FILTER}: [false, true]}}
"""


def test_a_night_is_refused_before_it_searches(mei_settings: Settings, tmp_path: Path) -> None:
    lake = fill(mei_settings, "{}/USDT:USDT")
    settings = mei_settings.model_copy(update={"home": lake.root.parent})
    write_config(tmp_path / "config", holdout_symbols=1)
    (tmp_path / "config" / "sweeps" / "smoke.yaml").write_text(SWEEP)
    config = load_config(tmp_path / "config")
    plan = plan_night(settings, config, "smoke", END_MS)
    assert plan.sweep.benchmark == "BTC/USDT:USDT"
    assert plan.holdout_symbols
    assert "BTC/USDT:USDT" not in plan.holdout_symbols
    write_night_plan(settings, plan)
    assert read_night_plan(settings) == plan
    others = load_holdout_bars(settings, plan)
    assert others is not None
    assert others.symbols == tuple(sorted((*plan.holdout_symbols, "BTC/USDT:USDT")))
    late = walk("BTC", 20, 1).with_columns(symbol=pl.lit("BTC/USDT:USDT"))
    only_old = fill(mei_settings, "{}-late", ("ETH", "SOL"))
    merge_candles(only_old, late, now_ms=END_MS + DAY_MS)
    merge_instruments(only_old, default_instruments(VENUE, {"BTC/USDT:USDT": 100.0}), now_ms=END_MS)
    settings = mei_settings.model_copy(update={"home": only_old.root.parent})
    with pytest.raises(DataError, match=r"benchmark BTC/USDT:USDT of test can't be used as of .*: ended: "):
        plan_night(settings, config, "smoke", END_MS)
    none = fill(mei_settings, "{}-none", ("ETH", "SOL"))
    settings = mei_settings.model_copy(update={"home": none.root.parent})
    with pytest.raises(ConfigError, match=f"{FILTER} is on and reads a benchmark symbol"):
        plan_night(settings, config, "smoke", END_MS)
