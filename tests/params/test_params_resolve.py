import pytest
from hypothesis import given
from hypothesis import strategies as st
from params_kit import TABLE

from mei_pipeline.errors import ConfigError
from mei_pipeline.params.resolve import Layer, merge, merge_symbols, resolve

DEFAULTS = {path: parameter.default for path, parameter in TABLE.items()}
LAYER = st.fixed_dictionaries(
    {},
    optional={
        "indicators.window": st.integers(1, 500),
        "trade.sl_atr_mult": st.floats(0.5, 10),
        "trade.trail": st.booleans(),
        "trade.side": st.sampled_from(["both", "long", "short"]),
    },
)


def test_without_layers_everything_is_a_default():
    merged = merge(TABLE)
    assert merged.values == DEFAULTS
    assert set(merged.origin.values()) == {"default"}


def test_the_last_layer_that_names_a_path_wins():
    merged = merge(
        TABLE,
        Layer("base", {"indicators.window": 20, "trade.sl_atr_mult": 3.0}),
        Layer("symbols.SOL", {"trade.sl_atr_mult": 4.0}),
        Layer("live", {"trade.trail": True}),
    )
    assert merged.values == {
        "indicators.window": 20,
        "trade.sl_atr_mult": 4.0,
        "trade.trail": True,
        "trade.side": "both",
        "trade.places": 5,
    }
    assert merged.origin == {
        "indicators.window": "base",
        "trade.sl_atr_mult": "symbols.SOL",
        "trade.trail": "live",
        "trade.side": "default",
        "trade.places": "default",
    }


@given(st.lists(LAYER, max_size=5))
def test_merging_is_overwriting_in_order(layers):
    expected = dict(DEFAULTS)
    for layer in layers:
        expected |= layer
    assert resolve(TABLE, *layers) == expected


@given(st.lists(LAYER, max_size=3))
def test_merging_the_result_again_changes_nothing(layers):
    once = resolve(TABLE, *layers)
    assert resolve(TABLE, once) == once
    assert list(once) == list(TABLE)


def test_a_value_that_only_a_hidden_layer_has_is_still_checked():
    with pytest.raises(ConfigError, match=r"^base: trade\.sl_atr_mult: 99 is not allowed"):
        merge(TABLE, Layer("base", {"trade.sl_atr_mult": 99}), Layer("live", {"trade.sl_atr_mult": 2}))


def test_a_float_parameter_given_as_a_whole_number_is_a_float():
    assert isinstance(resolve(TABLE, {"trade.sl_atr_mult": 3})["trade.sl_atr_mult"], float)


def test_a_symbols_own_layer_may_not_name_a_value_of_the_whole_book():
    values = {"trade.places": 3}
    assert merge(TABLE, Layer("base", values)).values["trade.places"] == 3
    with pytest.raises(ConfigError, match=r"^symbols\.SOL: trade\.places: a parameter of the whole book"):
        merge(TABLE, Layer("symbols.SOL", values, of_symbol=True))


def test_symbols_have_the_values_in_which_their_layers_end_up_different():
    base = Layer("base", {"trade.sl_atr_mult": 3})
    live = Layer("live", {"trade.trail": True})
    stacks = {
        "BTC": (base, Layer("symbols.BTC", {"trade.sl_atr_mult": 3.0, "trade.trail": False}, of_symbol=True), live),
        "SOL": (base, Layer("symbols.SOL", {"trade.sl_atr_mult": 4}, of_symbol=True), live),
    }
    assert merge_symbols(TABLE, (base, live), stacks) == {"SOL": {"trade.sl_atr_mult": 4.0}}
