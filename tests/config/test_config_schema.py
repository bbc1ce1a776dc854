"""JSON Schemas against our own reading: the same texts pass, and the same fail."""

import functools
import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import jsonschema
import pytest
from config_kit import CATALOG, FILES, write_folder
from pydantic import TypeAdapter

from mei_pipeline.cli.config import COMMANDS
from mei_pipeline.cli.main import run
from mei_pipeline.config.checks import check_sweep
from mei_pipeline.config.document import parse_document
from mei_pipeline.config.load import load_config
from mei_pipeline.config.models import LaneConfig, Overrides, PipelineConfig, PolicyConfig, SweepSpec
from mei_pipeline.config.promoted import PromotedFile, from_yaml, to_yaml
from mei_pipeline.config.strategy_schema import json_schema, parameter_model
from mei_pipeline.config.yaml_marks import parse
from mei_pipeline.errors import ConfigError
from mei_pipeline.params.identity import resolve_config
from mei_pipeline.params.table import read_catalog
from mei_pipeline.settings import CHECKOUT

NAMES = ("pipeline", "policy", "overrides", "lane", "sweep", "backtest", "promoted", "candidate")
(CONFIG,) = COMMANDS


def plain(value):
    """What a YAML file says, as JSON has it."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


@functools.cache
def validator(model):
    schema = json_schema(TypeAdapter(model), CATALOG, "t")
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def reads(text, model, folder):
    """Whether our own reading takes a text, with the checks of the parameter tables."""
    try:
        if model is PromotedFile:
            from_yaml(text.encode(), Path("f.yaml"), CATALOG)
        elif model is SweepSpec:
            document = parse_document(text.encode(), Path("f.yaml"), model)
            return not list(check_sweep(document, CATALOG))
        elif model is Overrides:
            pipeline = FILES["pipeline.yaml"].replace("[BTC, ETH]", "all")
            load_config(write_folder(folder, **{"strategy_overrides.yaml": text, "pipeline.yaml": pipeline}), CATALOG)
        else:
            parse_document(text.encode(), Path("f.yaml"), model)
    except ConfigError as error:
        return "the content has another id" in str(error)  # what a hash is of, no schema says
    return True


SWEEP = """\
strategy: toy
interval: 1h
market: {fee_bps: 5}
params: {trade: {trail: true}}
symbol_params: {BTC: {trade.sl_atr_mult: 3}}
axes:
  indicators.window: [5, 8]
  trade.sl_atr_mult: {from: 1, to: 2, step: 0.5, when: {trade.trail: true}}
  trade.places: {values: [1, 2]}
"""
OVERRIDES = """\
strategy: toy
base: {trade: {sl_atr_mult: 3}, trade.places: 4}
symbols: {SOL: {trade.sl_atr_mult: 4}}
modes: {primary: {trade: {side: long}}}
live: {trade.trail: true}
"""
PIPELINE = FILES["pipeline.yaml"] + "automation: off\nwindow: {days: 100, holdout_days: 30}\n"
PROMOTED = to_yaml(
    resolve_config(
        CATALOG,
        strategy="toy",
        venue="binance",
        interval="1h",
        symbols=["BTC", "SOL"],
        initial_balance_usd=1e4,
        params={},
        market={},
        symbol_params={"SOL": {"trade.trail": True}},
    ),
    evidence={},
    provenance={},
)
TEXTS = {
    SweepSpec: (
        SWEEP,
        [
            ("strategy: toy", "strategy: toi"),
            ("strategy: toy", ""),
            ("strategy: toy", "strategy: shy"),
            ("strategy: toy", "strategy: shy\nmethod: tpe"),
            ("strategy: toy", "strategy: toy\nmethod: random"),
            ("strategy: toy", "strategy: toy\nmethod: random\nbudget: null"),
            ("strategy: toy", "strategy: toy\nmethod: random\nbudget: 0"),
            ("strategy: toy", "strategy: toy\nmethod: random\nbudget: 5"),
            ("strategy: toy", "strategy: toy\nmethod: random\nbudget: 5\nseed: 7"),
            ("strategy: toy", "strategy: toy\nmethod: random\nbudget: 5\nseed: -7"),
            ("strategy: toy", "strategy: toy\nmethod: random\nbudget: 5\nmin_trades: 7"),
            ("strategy: toy", "strategy: toy\nmethod: tpe\nbudget: 12\nobjective: return_pct\nlag: 3"),
            ("strategy: toy", "strategy: toy\nmethod: tpe\nbudget: 12\nobjective: fees_usd"),
            ("strategy: toy", "strategy: toy\nmethod: tpe\nbudget: 12\nlag: 0"),
            ("strategy: toy", "strategy: toy\nmethod: grid\nbudget: 5"),
            ("strategy: toy", "strategy: toy\nbudget: 5"),
            ("strategy: toy", "strategy: toy\nseed: 0"),
            ("strategy: toy", "strategy: toy\nseed: 1"),
            ("strategy: toy", "strategy: toy\nmethod: grid\nobjective: return_pct"),
            ("fee_bps: 5", "fee_bps: -5"),
            ("fee_bps: 5", "market.fee_bps: 5"),
            ("fee_bps: 5", "market: {fee_bps: 5}"),
            ("fee_bps: 5", "fee: 5"),
            ("fee_bps: 5", "delay_bars: 1"),
            ("fee_bps: 5", "delay_bars: 1.5"),
            ("market: {fee_bps: 5}", "market: {}"),
            ("market: {fee_bps: 5}", "market: 5"),
            ("trail: true", "trail: 1"),
            ("trail: true", "trail: true, side: up"),
            ("trail: true", "trail: true, side: long"),
            ("trail: true", "trail: true, sl: 1"),
            ("trade: {trail: true}", "trade: {}, trade.trail: true"),
            ("trade: {trail: true}", "trade: [true]"),
            ("trade: {trail: true}", "trade.trail: true"),
            ("trade.sl_atr_mult: 3", "trade: {sl_atr_mult: 3}"),
            ("trade.sl_atr_mult: 3", "trade.sl_atr_mult: 30"),
            ("trade.sl_atr_mult: 3", "trade.places: 3"),
            ("BTC:", "'B C':"),
            ("[5, 8]", "[5, 501]"),
            ("[5, 8]", "[]"),
            ("[5, 8]", "[5, 5]"),
            ("[5, 8]", "5"),
            ("[5, 8]", "{from: 5, to: 8, step: 1}"),
            ("[5, 8]", "{values: [5, 8]}"),
            ("from: 1", "from: 0.1"),
            ("from: 1", "form: 1"),
            ("step: 0.5", "step: 0"),
            ("step: 0.5", "stop: 1, step: 0.5"),
            ("when: {trade.trail: true}", "when: {trade: {trail: true}}"),
            ("when: {trade.trail: true}", "when: {trade.trail: 1}"),
            ("when: {trade.trail: true}", "when: {trade.tail: true}"),
            ("when: {trade.trail: true}", "when: {}"),
            ("values: [1, 2]", "values: []"),
            ("values: [1, 2]", "values: [1, 51]"),
            ("values: [1, 2]", "values: [1, 2], from: 1"),
            ("trade.places: {values", "market.fee_bps: {values"),
            ("interval: 1h", "interval: 2h"),
            ("interval: 1h", "interval: 1h\nexit_interval: 15m"),
            ("interval: 1h", "interval: 1h\nexit_interval: 7m"),
            ("interval: 1h", "interval: 1h\nchunk_combos: 0"),
            ("interval: 1h", "interval: 1h\nvenue: Binance"),
            ("interval: 1h", "interval: 1h\nvenue: null"),
            ("interval: 1h", "interval: 1h\nintervall: 1h"),
        ],
    ),
    Overrides: (
        OVERRIDES,
        [
            ("strategy: toy", "strategy: toi"),
            ("strategy: toy\n", ""),
            ("strategy: toy", "strategy: null"),
            (OVERRIDES, "base: {}\nsymbols: {SOL: {}}\n"),
            ("sl_atr_mult: 3", "sl_atr_mult: 300"),
            ("sl_atr_mult: 3", "side: long"),
            ("trade.places: 4", "trade.places: 51"),
            ("trade.sl_atr_mult: 4", "trade.places: 4"),
            ("trade.sl_atr_mult: 4", "trade: {places: 4}"),
            ("trade.sl_atr_mult: 4", ""),
            ("primary", "main"),
            ("side: long", "side: up"),
            ("trade.trail: true", "trade.trail: yes"),
            ("live: {trade.trail: true}", "live: true"),
        ],
    ),
    PipelineConfig: (
        PIPELINE,
        [
            ("venue: binance", "venue: 7"),
            ("start: 2025-05", "start: 2025-13"),
            ("intervals: [1h]", "intervals: []"),
            ("intervals: [1h]", "intervals: 1h"),
            ("{1h: 2025-05-01T00:00:00Z}", "{2h: 2025-05-01T00:00:00Z, 1h: 2025-05-01}"),
            ("[BTC, ETH]", "all"),
            ("[BTC, ETH]", "some"),
            ("[BTC, ETH]", "[]"),
            ("kind: synthetic", "kind: magic"),
            ("kind: synthetic", "kind: files"),
            ("seed: 7", "seed: -7"),
            ("symbols: 3", "symbols: 0"),
            ("symbols: 3", "symbols: [A, B]"),
            ("automation: off", "automation: maybe"),
            ("automation: off", "automation: true"),
            ("automation: off", "automation: 1"),
            ("days: 100,", "days: 1,"),
            ("{sweep: smoke}", "{}"),
            ("{sweep: smoke}", "{sweep: Smoke}"),
            ("smoke: {sweep: smoke}", "Smoke: {sweep: smoke}"),
        ],
    ),
    PolicyConfig: (
        FILES["policy.yaml"],
        [
            ("candidates: 3", "candidates: 0"),
            ("candidates: 3", "candidates: 21"),
            ("candidates: 3", "finalists: x"),
            ("candidates", "finalist"),
            ("candidates: 3", "candidates: 3\n  significance: 0"),
            ("min_sharpe: -20", "min_sharpe: null"),
            ("max_crisis_drawdown_pct: null", "max_crisis_drawdown_pct: 0"),
            ("window: anchored", "window: loose"),
        ],
    ),
    LaneConfig: (
        FILES["lanes/paper1.yaml"],
        [("paper", "papper"), ("primary", "main"), ("venue: binance\n", ""), ("mode", "moode")],
    ),
    PromotedFile: (
        PROMOTED,
        [
            ("sl_atr_mult: 2.0", "sl_atr_mult: 20"),
            ("      sl_atr_mult: 2.0\n", ""),
            ("    fee_bps: 4.5\n", ""),
            ("fee_bps: 4.5", "market.fee_bps: 4.5"),
            ("side: both", "side: up"),
            ("        trail: true", "        places: 3"),
            ("schema_version: 1", "schema_version: 2"),
            ("strategy: toy", "strategy: toi"),
            ("config_id: ", "config_id: x"),
        ],
    ),
}
MUTATED = [
    pytest.param(model, text.replace(old, new), id=f"{model.__name__}: {new[:60]!r} for {old[:20]!r}")
    for model, (text, changes) in TEXTS.items()
    for old, new in [("", ""), *changes]
]


def test_every_change_changes_something():
    for text, changes in TEXTS.values():
        assert all(old in text for old, _ in changes)


@pytest.mark.parametrize(("model", "text"), MUTATED)
def test_schema_and_reading_agree(model, text, tmp_path):
    valid = validator(model).is_valid(plain(parse(text)))
    assert valid == reads(text, model, tmp_path)


@pytest.mark.parametrize("model", TEXTS)
def test_most_changes_are_refused(model, tmp_path):
    text, changes = TEXTS[model]
    verdicts = [reads(text.replace(old, new), model, tmp_path) for old, new in changes]
    assert reads(text, model, tmp_path)
    assert verdicts.count(False) > len(verdicts) / 2


def printed(name, capsys):
    assert run(["schema", name], group=CONFIG) == 0
    return json.loads(capsys.readouterr().out)


@functools.cache
def check_once(text):
    """Check a schema; most definitions are those of other files, too."""
    jsonschema.Draft202012Validator.check_schema(json.loads(text))


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_file_has_a_sound_schema(name, capsys):
    schema = printed(name, capsys)
    for part in (schema | {"$defs": {}}, *schema.get("$defs", {}).values()):
        check_once(json.dumps(part))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    known = {"words", "matches", "slot", "gt", "discriminator"}
    assert not known & set(itertools.chain.from_iterable(keys(schema)))


def keys(schema, *, free=False):
    """Keywords of every schema in a schema; keys of `properties` and `$defs` are names."""
    if isinstance(schema, list):
        for item in schema:
            yield from keys(item)
    elif isinstance(schema, Mapping):
        if not free:
            yield schema.keys()
        for key, value in schema.items():
            if key not in {"default", "enum", "const"} or free:
                yield from keys(value, free=not free and key in {"properties", "$defs"})


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("pipeline", "pipeline.yaml"),
        ("policy", "policy.yaml"),
        ("sweep", "sweeps/*.yaml"),
        ("lane", "lanes/*.yaml"),
    ],
)
def test_the_files_of_this_checkout_pass(name, pattern, capsys):
    schema = printed(name, capsys)
    found = sorted((CHECKOUT / "config").glob(pattern))
    assert found
    check = jsonschema.Draft202012Validator(schema)  # `jsonschema.validate` would check the schema again for each file
    for path in found:
        check.validate(plain(parse(path.read_text())))


def test_a_parameter_says_all_that_its_table_says(capsys):
    found = printed("backtest", capsys)["$defs"]["ema_cross_params"]["properties"]["trade.sl_atr_mult"]
    parameter = read_catalog().strategies["ema_cross"]["trade.sl_atr_mult"]
    assert found == {
        "description": f"{parameter.doc} Unit: atr. Shapes: exit.",
        "type": "number",
        "minimum": parameter.low,
        "maximum": parameter.high,
        "default": parameter.default,
    }


@pytest.mark.parametrize("strategy", read_catalog().strategies)
def test_the_schema_of_a_value_allows_what_the_table_allows(strategy):
    catalog = read_catalog()
    for parameter in (*catalog.strategy(strategy).values(), *catalog.market_of(strategy).values()):
        model = parameter_model("values", ((parameter.path, parameter),))
        check = jsonschema.Draft202012Validator(model.model_json_schema()["properties"][parameter.path])
        low, high = parameter.low, parameter.high
        tried = [parameter.default, *parameter.choices, low, high, low - 1, high + 1, (low + high) / 2, "x", True, None]
        for value in tried:
            assert check.is_valid(value) == (parameter.problem(value) is None), (parameter.path, value)


def test_a_backtest_file_has_values_of_single_symbols(capsys):
    check = jsonschema.Draft202012Validator(printed("backtest", capsys))
    spec = {"strategy": "ema_cross", "interval": "1h", "symbols": ["BTC"]}
    assert check.is_valid(spec | {"symbol_params": {"BTC": {"trade": {"sl_atr_mult": 2}}}})
    assert not check.is_valid(spec | {"symbol_params": {"BTC": {"trade": {"sl_atr_mult": -2}}}})
    assert not check.is_valid(spec | {"symbol_params": {"BTC": {"trade": {"sl_atr": 2}}}})


def test_a_candidate_has_every_parameter_of_a_strategy(capsys):
    check = jsonschema.Draft202012Validator(printed("candidate", capsys))
    params = {path: parameter.default for path, parameter in read_catalog().strategies["ema_cross"].items()}
    earned = {"days": 1, "return_pct": 0.5, "sharpe": None, "max_drawdown_pct": 0.0, "trades": 0}
    candidate = {
        "rank": 0,
        "combo": 1,
        "config_id": "x",
        "params": params,
        "in_sample_sharpe": 1.5,
        "selected": [None, 1],
    }
    candidate |= {"out_of_sample": earned, "holdout": earned}
    night = {"night": "n", "combos": 1, "rejected": {}, "candidates": [candidate]}
    assert check.is_valid(night)
    del params["trade.sl_atr_mult"]
    assert not check.is_valid(night)
