import pytest
from hypothesis import given
from hypothesis import strategies as st

from mei_pipeline.params.paths import closest, flatten, nest

SEGMENT = st.text("abc_", min_size=1, max_size=3)
PATH = st.lists(SEGMENT, min_size=1, max_size=4).map(".".join)
VALUE = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5))


@given(st.dictionaries(PATH, VALUE, max_size=12))
def test_nesting_and_flattening_gives_the_same_values(values):
    flat = flatten(nest(values))
    assert flat.values == values
    assert flat.problems == {}


@pytest.mark.parametrize(
    ("mapping", "values"),
    [
        ({"trade": {"sl": 2}}, {"trade.sl": 2}),
        ({"trade.sl": 2}, {"trade.sl": 2}),
        ({"trade": {"exit.sl": 2}}, {"trade.exit.sl": 2}),
        ({"trade": {"sl": 1}, "trade.tp": 2}, {"trade.sl": 1, "trade.tp": 2}),
        ({"flag": True, "name": "x"}, {"flag": True, "name": "x"}),
        ({}, {}),
    ],
)
def test_flatten_takes_nested_and_dotted(mapping, values):
    assert flatten(mapping).values == values
    assert flatten(mapping).problems == {}


@pytest.mark.parametrize(
    ("mapping", "path", "text"),
    [
        ({"trade": {"sl": 2}, "trade.sl": 3}, "trade.sl", "present twice, nested and dotted; keep one"),
        ({"trade": {"sl": None}}, "trade.sl", "no value is not allowed; one value"),
        ({"trade": {"sl": [1, 2]}}, "trade.sl", "a list is not allowed; one value"),
        ({"trade": {}}, "trade", "an empty mapping is not allowed; one value"),
    ],
)
def test_flatten_reports_what_is_no_single_value(mapping, path, text):
    flat = flatten(mapping)
    assert flat.problems == {path: text}
    assert path not in flat.values


def test_nest_writes_groups():
    assert nest({"trade.sl": 2, "trade.tp": 3, "side": "both"}) == {"trade": {"sl": 2, "tp": 3}, "side": "both"}


@pytest.mark.parametrize(
    ("word", "suggestion"),
    [
        ("trade.sl_atr_mul", "did you mean 'trade.sl_atr_mult'? "),
        ("sl_atr_mult", "did you mean 'trade.sl_atr_mult'? "),
        ("exits.sl_atr_mult", "did you mean 'trade.sl_atr_mult'? "),
        ("ind", "did you mean 'indicators.window'? "),
        ("trade.windw", "did you mean 'indicators.window'? "),
        ("trade.places", ""),
        ("qqq", ""),
    ],
)
def test_closest_suggests_what_was_meant(word, suggestion):
    assert closest(word, ["indicators.window", "trade.sl_atr_mult"]) == suggestion
