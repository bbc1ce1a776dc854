import pytest

from mei_pipeline.candles.lake import Lake
from mei_pipeline.config.load import load_config
from mei_pipeline.config.promoted import to_yaml
from mei_pipeline.errors import ConfigError
from mei_pipeline.replay.spec import read_config
from mei_pipeline.settings import CHECKOUT

SPEC = """\
strategy: ema_cross
interval: 1h
exit_interval: 15m
entry_interval: 1h
symbols: [SOL, BTC]
params: {trade.sl_atr_mult: 3}
symbol_params:
  SOL: {trade: {sl_atr_mult: 4}}
  BTC: {trade: {sl_atr_mult: 3}}
"""


def read(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return read_config(path, Lake(tmp_path / "lake"), load_config(CHECKOUT / "config"))[0]


def test_a_file_may_give_single_symbols_values_and_shorter_intervals(tmp_path):
    resolved = read(tmp_path, SPEC)
    assert resolved.symbol_params == {"SOL": {"trade.sl_atr_mult": 4.0}}
    assert (resolved.entry_interval, resolved.exit_interval) == ("", "15m")
    assert resolved.intervals.read == ("1h", "15m")


def test_a_promoted_config_of_it_is_read_alike(tmp_path):
    resolved = read(tmp_path, SPEC)
    assert read(tmp_path, to_yaml(resolved, evidence={}, provenance={})) == resolved


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("  SOL: {trade", "  ADA: {trade", "symbol_params: ADA: not among the symbols"),
        ("sl_atr_mult: 4", "sl_atr_mult: 400", r"symbol_params\.SOL: trade\.sl_atr_mult: 400 is not allowed"),
        ("exit_interval: 15m", "exit_interval: 4h", r"c\.yaml:3:1: exit_interval: '4h' does not divide"),
        ("SOL: {trade: {sl_atr_mult: 4}}", "SOL: [1]", r"c\.yaml:8:3: symbol_params\.SOL: a list is not allowed"),
    ],
)
def test_what_a_file_may_not_say(tmp_path, old, new, text):
    assert old in SPEC
    with pytest.raises(ConfigError, match=text):
        read(tmp_path, SPEC.replace(old, new))
