import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mei_pipeline.config.yaml_marks import Plain, join, parse, places


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("9223372036854775807", 9223372036854775807),
        ("1.5", 1.5),
        (".5", 0.5),
        ("3.", 3.0),
        ("1e5", 1e5),
        ("-1.5E-3", -1.5e-3),
        ("'8'", "8"),
        ('"true"', "true"),
        ("off", "off"),
        ("yes", "yes"),
        ("tRUE", "tRUE"),
        ("08", "08"),
        ("010", "010"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("0o17", "0o17"),
        ("nan", "nan"),
        ("2025-05-01", "2025-05-01"),
        ("1INCH", "1INCH"),
        ("e5", "e5"),
        (".", "."),
        ("[1, a]", (1, "a")),
        ("{a: 1}", {"a": 1}),
        ("|\n  8\n", "8\n"),
    ],
)
def test_what_a_scalar_means(text, value):
    found = parse(f"key: {text}")
    assert found == {"key": value}
    assert type(found["key"]) in {type(value), Plain}


@pytest.mark.parametrize("key", ["on", "true", "null", "8", "08", "1.5", "2025-05-01", "<<", "="])
def test_keys_are_text(key):
    assert parse(f"{key}: 1") == {key: 1}


def test_only_words_without_quotes_are_plain():
    found = parse("a: off\nb: 'off'")
    assert isinstance(found["a"], Plain)
    assert not isinstance(found["b"], Plain)


@pytest.mark.parametrize("text", [".inf", "-.INF", "+.inf", ".nan", ".NaN", "1e999", "-1e999", str(2**63), "1" * 9000])
def test_a_number_that_nothing_holds_is_text(text):
    found = parse(f"a:\n  b: {text}")
    assert found == {"a": {"b": text}}
    assert isinstance(found["a"]["b"], Plain)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_float_is_read_as_it_was_written(value):
    found = parse(f"x: {value!r}")["x"]
    assert found == value
    assert math.copysign(1, found) == math.copysign(1, value)


@given(st.text(max_size=100))
def test_any_text_is_read_or_refused_with_a_place(text):
    try:
        parse(text)
    except yaml.MarkedYAMLError as error:
        assert error.problem_mark or error.context_mark  # noqa: PT017 - either outcome is right


@given(st.recursive(st.integers(0, 9), lambda inner: st.dictionaries(st.text("ab", min_size=1), inner), max_leaves=9))
def test_every_key_has_a_place(value):
    text = f"x: {value}"
    for path, (line, column) in places(text).items():
        assert line == 1
        assert text[column - 1 :].lstrip("'").startswith(path.rpartition(".")[2])


def test_places():
    found = places("a:\n  b.c:\n    d: 1\n  e: [1, {f: 2}]\n")
    assert found == {
        "a": (1, 1),
        "a.b.c": (2, 3),
        "a.b.c.d": (3, 5),
        "a.e": (4, 3),
        "a.e[0]": (4, 7),
        "a.e[1]": (4, 10),
        "a.e[1].f": (4, 11),
    }
    assert places("") == {}
    assert join("a", "e", 1, "g") == "a.e[1].g"
