import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mei_pipeline.config.yaml_marks import Flaw, Plain, join, parse
from mei_pipeline.settings import CHECKOUT


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
    tree = parse(f"key: {text}")
    assert tree.flaws == ()
    assert tree.data == {"key": value}
    assert type(tree.data["key"]) in {type(value), Plain}


@pytest.mark.parametrize("key", ["on", "true", "null", "8", "08", "1.5", "2025-05-01", "<<", "="])
def test_keys_are_text(key):
    assert parse(f"{key}: 1").data == {key: 1}


def test_only_words_without_quotes_are_plain():
    tree = parse("a: off\nb: 'off'")
    assert isinstance(tree.data["a"], Plain)
    assert not isinstance(tree.data["b"], Plain)


@pytest.mark.parametrize("text", [".inf", "-.INF", "+.inf", ".nan", ".NaN", "1e999", "-1e999", str(2**63), "1" * 9000])
def test_a_number_that_nothing_holds_is_text(text):
    tree = parse(f"a:\n  b: {text}")
    assert tree.flaws == ()
    assert tree.data == {"a": {"b": text}}
    assert isinstance(tree.data["a"]["b"], Plain)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_float_is_read_as_it_was_written(value):
    found = parse(f"x: {value!r}").data["x"]
    assert found == value
    assert math.copysign(1, found) == math.copysign(1, value)


@pytest.mark.parametrize("path", sorted((CHECKOUT / "config").rglob("*.yaml")), ids=lambda path: path.name)
def test_the_files_of_this_checkout_have_no_flaws(path):
    assert not parse(path.read_text()).flaws


@given(st.text(max_size=100))
def test_any_text_gives_a_tree_or_flaws(text):
    tree = parse(text)
    assert tree.data is None or not tree.flaws or tree.places


@given(st.recursive(st.integers(0, 9), lambda inner: st.dictionaries(st.text("ab", min_size=1), inner), max_leaves=9))
def test_every_key_has_a_place(value):
    text = f"x: {value}"
    tree = parse(text)
    for path, (line, column) in tree.places.items():
        key = path.rpartition(".")[2]
        assert line == 1
        assert text[column - 1 :].lstrip("'").startswith(key)
        assert tree.flaw(f"{path}.absent", "").place == (line, column)


def test_places_and_paths():
    tree = parse("a:\n  b.c:\n    d: 1\n  e: [1, {f: 2}]\n")
    assert tree.places["a.b.c.d"] == (3, 5)
    assert tree.places["a.e[1].f"] == (4, 11)
    assert tree.find(("a", "b.c.d")) == "a.b.c.d"
    assert tree.find(("a", "tag", "e", 1, "int")) == "a.e[1]"
    assert tree.flaw("a.b.x.y", "wrong") == Flaw((1, 1), "a.b.x.y", "wrong")
    assert tree.flaw("a.e[1].g[0]", "wrong").place == (4, 10)
    assert tree.flaw("x", "wrong").place is None
    assert join("a", "e", 1, "g") == "a.e[1].g"


def test_a_key_given_twice_has_its_own_place():
    (flaw,) = parse("a: 1\nb: {c: 1}\na: 2").flaws
    assert flaw == Flaw((3, 1), "a", "key given twice; the first is on line 1")
