"""The calibration of planted edges: the best combo of a search on long runs, against the replay of one config."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from kernels.market import fill_model
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.candles.sources.synthetic_config import DEFAULT_FROM_MS, INSTRUMENTS
from mei_pipeline.candles.sources.synthetic_edge import TABLES
from mei_pipeline.cli.main import run as mei
from mei_pipeline.config.load import load_config
from mei_pipeline.errors import ConfigError
from mei_pipeline.experiment.calibration import Rounds, measure
from mei_pipeline.experiment.markets import SyntheticMarkets
from mei_pipeline.experiment.run import WARMUP_DAYS
from mei_pipeline.settings import CHECKOUT, read_settings
from mei_pipeline.simulation.combos import encode_combos
from mei_pipeline.simulation.memory import features_of
from mei_pipeline.simulation.run import record_combo
from mei_pipeline.simulation.window import cut_window
from mei_pipeline.sweep.plan import make_plan

AXES = {"trade.sl_atr_mult": (1.5, 3.0), "trade.tp_atr_mult": (3.0, 6.0)}
DRIFT = 0.3
SHORT = Rounds(chosen=((2, 2),), years=2, trades_per_year=1, seed=5)
DAYS = 2 * 365


@pytest.fixture(autouse=True)
def cache(compiled_kernels, monkeypatch):
    monkeypatch.setenv("MEI_CACHE", str(compiled_kernels.parent.parent))


@pytest.fixture(scope="module")
def spec():
    """Four combos of the shipped search of a night."""
    shipped = load_config(CHECKOUT / "config").sweep("nightly")
    return shipped.model_copy(update={"axes": AXES})


def replayed(spec, symbols, params, seed):
    """Annual Sharpe ratio of a config on two years of a market, from its curve of equity, and its trades per year."""
    settings, days = read_settings(), WARMUP_DAYS + DAYS
    bars = SyntheticMarkets(symbols, (), DRIFT).bars(seed, symbols, days)
    bars = replace(bars, steps=replace(bars.steps, funding=0.0 * bars.steps.funding))
    fixed = spec.model_copy(update={"axes": {}, "params": {**spec.params, **params}})
    plan = make_plan(fixed, bars, DEFAULT_FROM_MS + WARMUP_DAYS * DAY_MS, DEFAULT_FROM_MS + days * DAY_MS)
    features = features_of(bars, plan.columns())
    combo = encode_combos(plan.strategy, features, plan.params, 1, symbols, {}, benchmark=plan.benchmark)
    cut = cut_window(bars, plan.from_ms, plan.to_ms)
    found = record_combo(settings, cut, fill_model(plan.market, plan.initial_balance_usd), features, combo)
    equity = np.concatenate(([plan.initial_balance_usd], found.equity[23::24]))
    daily = equity[1:] / equity[:-1] - 1.0
    return daily.mean() / daily.std(ddof=1) * np.sqrt(365), found.outcome.results["trades"][0] / 2


def test_the_best_combo_of_a_search_earns_what_its_replay_earns_on_a_market_that_chose_nothing(spec):
    one, two = measure(read_settings(), spec, DRIFT, (1, 2), SHORT)
    for found, symbols in ((one, ("BTC",)), (two, ("BTC", "ETH"))):
        assert (found.drift, found.symbols) == (DRIFT, len(symbols))
        assert set(found.params) == set(AXES)
        ratio, trades = replayed(spec, symbols, found.params, SHORT.seed + 1)
        assert found.sharpe == pytest.approx(ratio, rel=1e-9)
        assert found.trades_per_year == trades > SHORT.trades_per_year


def test_each_round_keeps_the_best_of_the_round_before(spec):
    """With one combo kept, it is the best of the first market, whatever the measurement says."""
    (found,) = measure(read_settings(), spec, DRIFT, (1,), replace(SHORT, chosen=((2, 1),)))
    combos = [{"trade.sl_atr_mult": stop, "trade.tp_atr_mult": target} for stop in (1.5, 3.0) for target in (3.0, 6.0)]
    assert found.params == max(combos, key=lambda each: replayed(spec, ("BTC",), each, SHORT.seed)[0])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"books": ()}, r"symbols are \[\]; allowed: numbers from 1 to 14"),
        ({"books": (len(INSTRUMENTS) + 1,)}, r"symbols are \[15\]; allowed: numbers from 1 to 14"),
        ({"trades_per_year": 10**6}, "none of 4 combos closes 1000000 trades per year with drift 0.3"),
        ({"years": 3}, "years are 3; allowed: 2 and its multiples"),
        ({"years": 0}, "years are 0; allowed: 2 and its multiples"),
        ({"interval": "4h"}, "intervals are 4h; allowed: 1h"),
    ],
)
def test_what_cannot_be_measured_is_refused(spec, change, text):
    books = change.pop("books", (1,))
    asked = spec.model_copy(update={"interval": change.pop("interval", "1h")})
    with pytest.raises(ConfigError, match=text):
        measure(read_settings(), asked, DRIFT, books, replace(SHORT, **change))


@pytest.mark.parametrize("form", [["--json"], []])
def test_the_command_makes_the_figures_of_a_table(form, spec, tmp_path, monkeypatch, capsys):
    config = tmp_path / "config"
    shutil.copytree(CHECKOUT / "config", config)
    text = {**spec.model_dump(mode="json", exclude_unset=True), "axes": AXES}
    (config / "sweeps" / "nightly.yaml").write_text(json.dumps(text))
    monkeypatch.setenv("MEI_CONFIG", str(config))
    words = ["--sweep", "nightly", "--drift", "0.3", "--symbols", "1", "--years", "2", "--seed", "5"]
    assert mei(["experiment", "calibrate", *words, *form]) == 0
    out = capsys.readouterr().out
    seed = 5 + sum(years for years, _ in Rounds().chosen) // 2
    if form:
        found = json.loads(out)
        assert (found["strategy"], found["sweep"], found["years"]) == ("mei_alpha", "nightly", 2)
        (earned,) = found["earned"]
        ratio, _ = replayed(spec, ("BTC",), earned["params"], seed)
        assert earned["sharpe"] == pytest.approx(ratio, rel=1e-9)
    else:
        assert re.search(r"0\.3 +.*1 +.*-?\d\.\d\d", out)


def test_every_strategy_of_a_shipped_search_on_hours_has_a_table():
    config = load_config(CHECKOUT / "config")
    assert {spec.strategy for spec in config.sweeps.values()} == set(TABLES)
