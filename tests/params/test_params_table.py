import pytest
from hypothesis import given
from hypothesis import strategies as st
from params_kit import CATALOG, TABLE

from kernels.params import Parameter
from mei_pipeline.errors import ConfigError, Fatal
from mei_pipeline.params.table import make_table, normal, problems, read_catalog, validate


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
    encoded = [parameter.encode(values[path]) for path, parameter in TABLE.items()]
    assert encoded == [window, stop, float(trail), ["both", "long", "short"].index(side)]


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
    with pytest.raises(ConfigError, match=r"strategy 'toi': unknown strategy; did you mean 'toy'\? known: toy"):
        CATALOG.strategy("toi")


def test_the_kernels_declare_sound_tables():
    catalog = read_catalog()
    assert "ema_cross" in catalog.strategies
    assert all(path.startswith("market.") for path in catalog.market)
    for table in catalog.strategies.values():
        assert not set(table) & set(catalog.market)
        for parameter in table.values():
            assert parameter.doc.endswith(".")
            assert parameter.role != "market"
