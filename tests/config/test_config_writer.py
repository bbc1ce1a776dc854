import pytest
from hypothesis import given
from hypothesis import strategies as st

from mei_pipeline.config.writer import yaml_text
from mei_pipeline.config.yaml_marks import parse

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUE = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63) + 1, 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXT,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=12,
)


def as_tuples(value):
    if isinstance(value, dict):
        return {key: as_tuples(item) for key, item in value.items()}
    return tuple(as_tuples(item) for item in value) if isinstance(value, list) else value


@given(st.dictionaries(TEXT, VALUE, max_size=5))
def test_what_is_written_is_read_back(value):
    assert (parse(yaml_text(value)) or {}) == as_tuples(value)


@pytest.mark.parametrize(
    "text", ["on", "NO", "true", "null", "1e5", "08", "1:30", "2025-05-01", "~", "", "a: b", "- x", "*a"]
)
def test_words_with_another_meaning_are_quoted(text):
    assert yaml_text({"key": text}) == f'key: "{text}"\n'


def test_ordinary_words_are_not():
    assert yaml_text({"strategy": "ema_cross", "path": "a/b.parquet"}) == "strategy: ema_cross\npath: a/b.parquet\n"


def test_what_appears_twice_is_written_twice():
    shared = [1]
    assert "&" not in yaml_text({"a": shared, "b": shared})
