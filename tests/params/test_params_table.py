import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from params_kit import CATALOG, MARKET, TABLE

from kernels.params import Parameter, record_of
from mei_pipeline.errors import ConfigError, Fatal
from mei_pipeline.params.table import (
    make_market,
    make_table,
    normal,
    problems,
    read_catalog,
    validate,
)


@pytest.mark.parametrize(
    ("values", "path", "text"),
    [
        ({"trade.sl_atr_mul": 2}, "trade.sl_atr_mul", "unknown parameter; did you mean 'trade.sl_atr_mult'? known: "),
        ({"sl_atr_mult": 2}, "sl_atr_mult", "unknown parameter; did you mean 'trade.sl_atr_mult'? known: "),
        ({"trade.sl_atr_mult": 11}, "trade.sl_atr_mult", "11 is not allowed; a number from 0.5 to 10 atr"),
        ({"trade.sl_atr_mult": float("nan")}, "trade.sl_atr_mult", "nan is not allowed; a number from 0.5 to 10 atr"),
        ({"trade.sl_atr_mult": True}, "trade.sl_atr_mult", "True is not allowed; a number from 0.5 to 10 atr"),
        ({"trade.sl_atr_mult": "2"}, "trade.sl_atr_mult", "'2' is not allowed; a number from 0.5 to 10 atr"),
        ({"indicators.window": 2.5}, "indicators.window", "2.5 is not allowed; a whole number from 1 to 500 bars"),
        ({"indicators.window": 0}, "indicators.window", "0 is not allowed; a whole number from 1 to 500 bars"),
        ({"trade.trail": 1}, "trade.trail", "1 is not allowed; true or false"),
        ({"trade.side": "up"}, "trade.side", "'up' is not allowed; one of both, long, short"),
    ],
)
def test_values_that_are_not_allowed(values, path, text):
    assert problems(TABLE, values)[path].startswith(text)
    with pytest.raises(ConfigError, match=f"^here: {path}: "):
        validate(TABLE, values, "here")


def test_validate_reports_every_problem_on_its_own_line():
    with pytest.raises(ConfigError) as caught:
        validate(TABLE, {"trade.side": "up", "trade.trail": True, "indicators.window": 0})
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["trade.side", "indicators.window"]


@given(st.integers(1, 500), st.floats(0.5, 10), st.booleans(), st.sampled_from(["both", "long", "short"]))
def test_allowed_values_pass_and_encode_as_the_kernel_sees_them(window, stop, trail, side):
    values = {"trade.side": side, "trade.trail": trail, "trade.sl_atr_mult": stop, "indicators.window": window}
    validate(TABLE, values)
    given = {**values, "trade.places": 7}
    encoded = tuple(parameter.encode(given[path]) for path, parameter in TABLE.items())
    assert encoded == (window, stop, float(trail), ["both", "long", "short"].index(side), 7.0)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("trade.sl_atr_mult", 2, 2.0),
        ("indicators.window", 5.0, 5),
        ("trade.trail", True, True),
        ("trade.side", "long", "long"),
    ],
)
def test_normal_form_has_the_type_of_the_parameter(path, value, expected):
    found = normal(TABLE[path], value)
    assert (found, type(found)) == (expected, type(expected))


def test_a_path_declared_twice_is_a_defect():
    parameter = TABLE["trade.sl_atr_mult"]
    with pytest.raises(Fatal, match=r"trade\.sl_atr_mult is declared twice"):
        make_table((parameter, parameter))


def test_a_default_out_of_bounds_is_a_defect():
    with pytest.raises(Fatal, match=r"default of x: 3 is not allowed; a number from 0 to 1"):
        make_table((Parameter("x", "float", 3, 0, 1, "", "exit", "doc"),))


def test_an_unknown_strategy_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"strategy 'toi': unknown strategy; did you mean 'toy'\? known: toy, shy"):
        CATALOG.strategy("toi")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("exit.sl_atr_mult", "exit.sl_atr_mult and trade.sl_atr_mult both end in sl_atr_mult"),
        ("trade.sl-atr", "'sl-atr' can't be a field of a record"),
        ("trade.lambda", "'lambda' can't be a field of a record"),
        ("trade.size", "'size' can't be a field of a record"),
    ],
)
def test_last_parts_of_paths_are_fields_of_a_record(path, text):
    with pytest.raises(Fatal, match=text):
        make_table((TABLE["trade.sl_atr_mult"], Parameter(path, "float", 1, 0, 1, "", "exit", "Doc.")))


def test_a_record_has_a_float_per_parameter():
    everything = record_of(TABLE.values())
    assert everything.names == ("window", "sl_atr_mult", "trail", "side", "places")
    assert {everything[name] for name in everything.names} == {np.dtype(np.float64)}
    row = np.zeros(1, everything)
    row[0] = tuple(parameter.encode(parameter.default) for parameter in TABLE.values())
    assert (row[0].sl_atr_mult, row[0].places) == (2.0, 5.0)


def test_a_value_of_the_whole_book_is_no_value_of_a_symbol():
    assert problems(TABLE, {"trade.places": 3}) == {}
    assert problems(TABLE, {"trade.places": 3}, of_symbol=True) == {
        "trade.places": "a parameter of the whole book; a symbol can't have its own value"
    }


def test_markets_differ_by_strategy():
    assert CATALOG.market_of("toy") == MARKET
    assert CATALOG.market_of("shy")["market.stops"].allowed == "close: shy tests stops at closes"
    with pytest.raises(ConfigError, match="unknown strategy"):
        CATALOG.market_of("toi")


@pytest.mark.parametrize(
    ("defaults", "only", "why", "text"),
    [
        ({"market.stop": "close"}, {}, {}, "strategy s: market.stop: not a market parameter; known: market.fee_bps, "),
        ({}, {"market.stops": ("clos",)}, {}, "strategy s: MARKET_ONLY of market.stops: 'clos' is not allowed"),
        ({}, {"market.stops": ("close",)}, {}, "default of market.stops: 'intrabar' is not allowed; close: s supports"),
        ({}, {}, {"market.stop": "because"}, "market.stop: not a market parameter"),
        ({"market.fee_bps": -1}, {}, {}, "default of market.fee_bps: -1 is not allowed"),
    ],
)
def test_a_strategy_that_contradicts_the_market_is_a_defect(defaults, only, why, text):
    with pytest.raises(Fatal, match=text):
        make_market(MARKET, "s", defaults, only, why)


def test_several_allowed_values_are_named():
    market = make_market(MARKET, "s", {}, {"market.delay_bars": (0, 1)}, {"market.delay_bars": "it is quick"})
    assert problems(market, {"market.delay_bars": 1}) == {}
    assert problems(market, {"market.delay_bars": 2}) == {"market.delay_bars": "2 is not allowed; 0 or 1: it is quick"}


def test_the_kernels_declare_sound_tables():
    catalog = read_catalog()
    assert "ema_cross" in catalog.strategies
    assert all(path.startswith("market.") for path in catalog.market)
    for table in catalog.strategies.values():
        assert not set(table) & set(catalog.market)
        for parameter in table.values():
            assert parameter.doc.endswith(".")
            assert parameter.role != "market"
