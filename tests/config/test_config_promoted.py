from pathlib import Path

import pytest
from config_kit import CATALOG
from hypothesis import given
from hypothesis import strategies as st

from mei_pipeline.config.promoted import from_yaml, read_promoted, to_yaml
from mei_pipeline.errors import ConfigError
from mei_pipeline.names import symbol_problem
from mei_pipeline.params.identity import config_id, resolve_config

PATH = Path("promoted.yaml")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
JSON = st.dictionaries(
    TEXT,
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(-1e300, 1e300), TEXT),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
        max_leaves=6,
    ),
    max_size=4,
)
SYMBOL = st.from_regex(r"[@A-Za-z0-9ü币][A-Za-z0-9ü币_.:/@+=!$&#-]{0,8}", fullmatch=True).filter(
    lambda name: symbol_problem(name) is None
)


def make(**changes):
    return resolve_config(
        CATALOG,
        **{
            "strategy": "toy",
            "venue": "binance",
            "interval": "1h",
            "symbols": ("BTC", "ON", "1E5"),
            "initial_balance_usd": 10_000.0,
            "params": {"trade.sl_atr_mult": 3},
            "market": {"market.fee_bps": 5},
            **changes,
        },
    )


TEXT_OF_FILE = to_yaml(make(), evidence={"sharpe": 1.5}, provenance={"night": "n1"})


@given(st.floats(0.5, 10), st.booleans(), st.sets(SYMBOL, min_size=1, max_size=5), st.floats(1, 1e12), JSON, JSON)
def test_a_config_file_is_read_as_it_was_written(stop, trail, symbols, balance, evidence, provenance):
    resolved = make(
        params={"trade.sl_atr_mult": stop, "trade.trail": trail}, symbols=symbols, initial_balance_usd=balance
    )
    text = to_yaml(resolved, evidence=evidence, provenance=provenance)
    found, file = from_yaml(text.encode(), PATH, CATALOG)
    assert found == resolved
    assert (file.evidence, file.provenance, file.config_id) == (evidence, provenance, config_id(resolved))
    assert to_yaml(found, evidence=file.evidence, provenance=file.provenance) == text


OWN = st.dictionaries(
    st.sampled_from(["BTC", "ON", "1E5"]),
    st.fixed_dictionaries({}, optional={"trade.sl_atr_mult": st.floats(0.5, 10), "trade.trail": st.booleans()}),
)
SHORTER = st.sampled_from(["", "1h", "30m", "15m"])


@given(OWN, SHORTER, SHORTER)
def test_values_of_symbols_and_intervals_are_read_as_they_were_written(own, entry, exits):
    resolved = make(symbol_params=own, entry_interval=entry, exit_interval=exits)
    text = to_yaml(resolved, evidence={}, provenance={})
    found, _ = from_yaml(text.encode(), PATH, CATALOG)
    assert found == resolved
    assert to_yaml(found, evidence={}, provenance={}) == text


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("sl_atr_mult: 4.0", "sl_atr_mult: 40", "config.symbol_params.ON.trade.sl_atr_mult: 40 is not allowed"),
        ("sl_atr_mult: 4.0", "places: 4", "config.symbol_params.ON.trade.places: a parameter of the whole book"),
        ("sl_atr_mult: 4.0", "sl_atr_mult: 5", "config_id: the content has another id, "),
        ('    "ON":\n', "    SOL:\n", "config: symbol_params: SOL: not among the symbols"),
        ('exit_interval: "15m"', "exit_interval: 4h", "config: exit_interval: '4h' does not divide"),
    ],
)
def test_edited_values_of_symbols_are_refused(old, new, expected):
    resolved = make(symbol_params={"ON": {"trade.sl_atr_mult": 4}}, exit_interval="15m")
    text = to_yaml(resolved, evidence={}, provenance={})
    assert old in text
    with pytest.raises(ConfigError, match=expected):
        from_yaml(text.replace(old, new).encode(), PATH, CATALOG)


def test_comments_and_order_do_not_matter():
    lines = TEXT_OF_FILE.splitlines()
    text = "\n".join([*lines[1:], "# promoted by hand", lines[0]])
    assert from_yaml(text.encode(), PATH, CATALOG)[0] == make()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("sl_atr_mult: 3.0", "sl_atr_mult: 3", None),
        ("fee_bps: 5.0", "fee_bps: 5", None),
        ("sl_atr_mult: 3.0", "sl_atr_mult: 3.5", "promoted.yaml:2:1: config_id: the content has another id, "),
        ("- BTC", "- ETH", "promoted.yaml:2:1: config_id: the content has another id, "),
        (
            "sl_atr_mult: 3.0",
            "sl_atr_mult: 30",
            "promoted.yaml:20:7: config.params.trade.sl_atr_mult: 30 is not allowed; a",
        ),
        (
            "      sl_atr_mult: 3.0\n",
            "",
            "promoted.yaml:19:5: config.params.trade.sl_atr_mult: missing; a number from 0.5",
        ),
        (
            "side: both",
            "side: both\n      sude: 1",
            "promoted.yaml:23:7: config.params.trade.sude: unknown parameter; did you",
        ),
        (
            "fee_bps: 5.0",
            "fee_bps: -5",
            "promoted.yaml:25:5: config.market.fee_bps: -5 is not allowed; a number from 0",
        ),
        (
            "strategy: toy",
            "strategy: tot",
            "promoted.yaml:8:3: config.strategy: 'tot': unknown strategy; did you mean 'toy'?",
        ),
        ("schema_version: 1", "schema_version: 2", "promoted.yaml:1:1: schema_version: 2 is not allowed; 1"),
        ("config_id: ", "config_id: x", "promoted.yaml:2:1: config_id: x"),
        ("provenance:\n  night: n1\n", "", "promoted.yaml: provenance: missing; any mapping"),
    ],
)
def test_an_edited_file_is_refused_unless_it_says_the_same(old, new, expected):
    assert old in TEXT_OF_FILE
    content = TEXT_OF_FILE.replace(old, new).encode()
    if expected is None:
        assert from_yaml(content, PATH, CATALOG)[0] == make()
        return
    with pytest.raises(ConfigError) as caught:
        from_yaml(content, PATH, CATALOG)
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize("length", [*range(0, len(TEXT_OF_FILE) - 2, 11), len(TEXT_OF_FILE) - 2])
def test_a_torn_file_is_refused(length):
    with pytest.raises(ConfigError, match=r"^promoted\.yaml"):
        from_yaml(TEXT_OF_FILE[:length].encode(), PATH, CATALOG)


def test_the_file_of_a_real_strategy_is_read_from_disk(tmp_path):
    from mei_pipeline.params.table import read_catalog

    resolved = resolve_config(
        read_catalog(),
        strategy="ema_cross",
        venue="binance",
        interval="1h",
        symbols=["BTC"],
        initial_balance_usd=1e4,
        params={},
        market={},
    )
    path = tmp_path / "c.yaml"
    path.write_text(to_yaml(resolved, evidence={}, provenance={}))
    assert read_promoted(path)[0] == resolved
