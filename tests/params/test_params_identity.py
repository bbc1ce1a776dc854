import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from params_kit import CATALOG

from mei_pipeline.errors import ConfigError
from mei_pipeline.params.identity import as_dict, config_id, resolve_config

BASE = {
    "strategy": "toy",
    "venue": "binance",
    "interval": "1h",
    "symbols": ("BTC", "ETH"),
    "initial_balance_usd": 10_000.0,
    "params": {},
    "market": {},
}


def make(**changes):
    return resolve_config(CATALOG, **{**BASE, **changes})


def test_defaults_are_filled_in():
    resolved = make()
    assert resolved.params == {
        "indicators.window": 10,
        "trade.sl_atr_mult": 2.0,
        "trade.trail": False,
        "trade.side": "both",
        "trade.places": 5,
    }
    assert resolved.market == {"market.fee_bps": 4.5, "market.delay_bars": 0, "market.stops": "intrabar"}


def test_the_id_is_a_fixed_function_of_the_content():
    text = (
        '{"initial_balance_usd":10000.0,"interval":"1h","market":{"market.delay_bars":0.0,"market.fee_bps":4.5,'
        '"market.stops":"intrabar"},"params":{"indicators.window":10.0,"trade.places":5.0,"trade.side":"both","trade.sl_atr_mult":2.0,"trade.trail":false},'
        '"strategy":"toy","symbols":["BTC","ETH"],"venue":"binance"}'
    )
    assert config_id(make()) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "same",
    [
        {"params": {"trade.sl_atr_mult": 2}},
        {"params": {"trade.sl_atr_mult": 2.0, "indicators.window": 10}},
        {"params": {"indicators.window": 10, "trade.sl_atr_mult": 2.0}},
        {"params": {"indicators.window": 10.0}},
        {"market": {"market.delay_bars": -0.0}},
        {"symbols": ("ETH", "BTC")},
        {"symbols": ["ETH", "BTC", "ETH"]},
        {"initial_balance_usd": 10_000},
    ],
)
def test_what_leaves_the_id_alone(same):
    assert config_id(make(**same)) == config_id(make())


@pytest.mark.parametrize(
    "other",
    [
        {"params": {"trade.sl_atr_mult": 2.0000000000000004}},
        {"params": {"indicators.window": 11}},
        {"params": {"trade.trail": True}},
        {"params": {"trade.side": "long"}},
        {"market": {"market.fee_bps": 4.6}},
        {"symbols": ("BTC",)},
        {"venue": "hyperliquid"},
        {"interval": "4h"},
        {"initial_balance_usd": 10_000.01},
    ],
)
def test_what_makes_another_config(other):
    assert config_id(make(**other)) != config_id(make())


@given(st.permutations(list(make().params)), st.permutations(["BTC", "ETH", "SOL"]))
def test_order_leaves_no_trace(paths, symbols):
    expected = make(symbols=("BTC", "ETH", "SOL"))
    shuffled = replace(expected, symbols=tuple(symbols), params={path: expected.params[path] for path in paths})
    assert config_id(shuffled) == config_id(expected)


@given(st.floats(0.5, 10), st.floats(0.5, 10))
def test_equal_ids_mean_equal_values(one, other):
    same = config_id(make(params={"trade.sl_atr_mult": one})) == config_id(make(params={"trade.sl_atr_mult": other}))
    assert same == (one == other)


def test_the_json_of_a_config_rebuilds_it():
    resolved = make(params={"trade.trail": True, "trade.sl_atr_mult": 3})
    assert resolve_config(CATALOG, **as_dict(resolved)) == resolved


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"symbols": ()}, "no symbols"),
        ({"strategy": "toi"}, "did you mean 'toy'"),
        ({"params": {"trade.sl": 1}}, r"^params: trade\.sl: unknown parameter"),
        (
            {"market": {"market.fee_bps": -1}},
            r"^market: market\.fee_bps: -1 is not allowed; a number from 0 to 100 bps",
        ),
    ],
)
def test_what_can_be_no_config(change, message):
    with pytest.raises(ConfigError, match=message):
        make(**change)


def test_values_of_single_symbols_are_kept_where_they_differ():
    resolved = make(
        params={"trade.sl_atr_mult": 3},
        symbol_params={"ETH": {"trade.sl_atr_mult": 4, "trade.trail": False}, "BTC": {"trade.sl_atr_mult": 3.0}},
    )
    assert resolved.symbol_params == {"ETH": {"trade.sl_atr_mult": 4.0}}
    assert resolved.params_of("ETH")["trade.sl_atr_mult"] == 4.0
    assert resolved.params_of("BTC") == resolved.params


def test_what_says_nothing_of_a_symbol_or_an_interval_leaves_the_id_alone():
    plain = make()
    same = make(symbol_params={"ETH": {}, "BTC": {"trade.sl_atr_mult": 2}}, entry_interval="1h", exit_interval="1h")
    assert same == plain
    assert config_id(same) == config_id(plain)
    assert not {"symbol_params", "entry_interval", "exit_interval"} & as_dict(plain).keys()


@pytest.mark.parametrize(
    "other",
    [
        {"symbol_params": {"ETH": {"trade.sl_atr_mult": 3}}},
        {"symbol_params": {"BTC": {"trade.sl_atr_mult": 3}}},
        {"entry_interval": "30m"},
        {"exit_interval": "30m"},
    ],
)
def test_symbols_and_intervals_make_another_config_that_its_json_rebuilds(other):
    resolved = make(**other)
    assert config_id(resolved) != config_id(make())
    assert resolve_config(CATALOG, **as_dict(resolved)) == resolved
    assert len({config_id(make(**each)) for each in (other, {}, {"entry_interval": "15m"})}) == 3


@given(st.permutations(["BTC", "ETH", "SOL"]))
def test_the_order_of_symbols_with_own_values_leaves_no_trace(symbols):
    own = {symbol: {"trade.trail": True, "trade.sl_atr_mult": 3 + "BES".index(symbol[0])} for symbol in symbols}
    found = make(symbols=symbols, symbol_params=own)
    assert list(found.symbol_params) == ["BTC", "ETH", "SOL"]
    expected = make(symbols=("BTC", "ETH", "SOL"), symbol_params=dict(sorted(own.items())))
    assert config_id(found) == config_id(expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"symbol_params": {"BTCC": {}}}, r"^symbol_params: BTCC: not among the symbols; did you mean 'BTC'\?$"),
        ({"symbol_params": {"ETH": {"trade.sl": 1}}}, r"^symbol_params\.ETH: trade\.sl: unknown parameter"),
        ({"symbol_params": {"ETH": {"trade.sl_atr_mult": 99}}}, r"^symbol_params\.ETH: trade\.sl_atr_mult: 99 is not"),
        (
            {"symbol_params": {"ETH": {"trade.places": 3}}},
            r"^symbol_params\.ETH: trade\.places: a parameter of the whole book; a symbol can't have its own value",
        ),
        ({"exit_interval": "4h"}, r"exit_interval: '4h' does not divide the interval 1h"),
        (
            {"strategy": "shy", "market": {"market.stops": "intrabar"}},
            r"^market: market\.stops: 'intrabar' is not allowed; close: shy tests stops at closes$",
        ),
    ],
)
def test_what_a_symbol_an_interval_or_a_strategy_does_not_allow(change, message):
    with pytest.raises(ConfigError, match=message):
        make(**change)


def test_a_strategy_has_its_own_market_defaults():
    assert make(strategy="shy").market["market.stops"] == "close"
    assert make().market["market.stops"] == "intrabar"
