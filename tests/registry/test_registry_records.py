import json
from dataclasses import replace
from pathlib import Path

from mei_pipeline.config.promoted import to_yaml
from mei_pipeline.params.identity import config_id, resolve_config
from mei_pipeline.params.table import read_catalog
from mei_pipeline.promotion.propose import parameter_changes
from mei_pipeline.registry.config_file import parse_config
from mei_pipeline.registry.records import as_dict, from_dict


def make(**extra):
    return resolve_config(
        read_catalog(),
        strategy="ema_cross",
        venue="binance",
        interval="1h",
        symbols=["BTC", "SOL"],
        initial_balance_usd=1e4,
        params={},
        market={},
        **extra,
    )


OWN = {"symbol_params": {"SOL": {"trade.sl_atr_mult": 4}}, "exit_interval": "15m"}


def test_a_config_is_stored_with_the_values_of_its_symbols():
    resolved = make(**OWN)
    stored = json.loads(json.dumps(as_dict(resolved)))
    assert from_dict(stored, config_id(resolved)) == resolved


def test_a_config_without_them_is_stored_as_before_there_were_any():
    assert set(as_dict(make())) == {
        "strategy", "venue", "interval", "symbols", "initial_balance_usd", "params", "market",
    }  # fmt: skip


def test_a_rendered_config_is_read_alike():
    for resolved in (make(), make(**OWN)):
        data = to_yaml(resolved, evidence={}, provenance={}).encode()
        assert parse_config(Path("f.yaml"), data) == resolved


def test_changes_name_the_symbol():
    found = parameter_changes(make(), make(**OWN))
    assert [(change.path, change.old, change.new) for change in found] == [
        ("exit_interval", None, "15m"),
        ("symbol_params.SOL.trade.sl_atr_mult", None, 4.0),
    ]
    assert parameter_changes(make(), replace(make())) == ()
