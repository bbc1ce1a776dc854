"""The parameter tables, the list of strategies, and the key that compiled code is kept under."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import cache, market, strategies
from kernels.params import Parameter
from kernels.strategies import ema_cross

TABLES = {"market": market.PARAMETERS, **{name: strategies.load(name).PARAMETERS for name in strategies.names()}}
PARAMETERS = [pytest.param(p, id=p.path) for table in TABLES.values() for p in table]


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_a_parameter_is_sound(parameter: Parameter):
    assert parameter.problem(parameter.default) is None
    assert parameter.doc.endswith(".")
    assert (parameter.kind == "choice") == bool(parameter.choices)
    if parameter.kind in ("int", "float"):
        assert parameter.low < parameter.high
        assert parameter.problem(parameter.low) is None
        assert parameter.problem(parameter.high) is None
        assert f"from {parameter.low:g} to {parameter.high:g}" in parameter.problem(parameter.high + 1)
        assert f"from {parameter.low:g} to {parameter.high:g}" in parameter.problem(parameter.low - 1)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_paths_are_unique(table):
    assert len({parameter.path for parameter in table}) == len(table)


@pytest.mark.parametrize("name", strategies.names())
def test_a_strategy_loads_its_parameters_and_features_in_table_order(name):
    module = strategies.load(name)
    assert name == module.NAME
    assert list(module.Params._fields) == [p.path.rpartition(".")[2] for p in module.PARAMETERS]
    assert list(module.Features._fields) == [use.name for use in module.FEATURES]
    assert "market" not in {p.role for p in module.PARAMETERS}


def test_only_market_parameters_are_in_the_market_table():
    assert {p.role for p in market.PARAMETERS} == {"market"}


def test_strategies_are_named_and_an_unknown_one_names_them():
    assert "ema_cross" in strategies.names()
    assert strategies.load("ema_cross") is ema_cross
    with pytest.raises(KeyError, match=r"unknown strategy 'ema_crass'; known: .*ema_cross"):
        strategies.load("ema_crass")


INT = Parameter("a.b", "int", 1, 1, 10, "bars", "entry", "Doc.")
FLOAT = Parameter("a.c", "float", 1.0, 0, 2, "", "entry", "Doc.")
BOOL = Parameter("a.d", "bool", default=False, low=0, high=0, unit="", role="entry", doc="Doc.")
CHOICE = Parameter("a.e", "choice", "x", 0, 0, "", "entry", "Doc.", ("x", "y"))


@pytest.mark.parametrize(
    ("parameter", "value"),
    [(INT, 1), (INT, 10), (INT, 3.0), (FLOAT, 0), (FLOAT, 2.0), (BOOL, True), (BOOL, False), (CHOICE, "y")],
)
def test_a_good_value_has_no_problem(parameter, value):
    assert parameter.problem(value) is None


@pytest.mark.parametrize(
    ("parameter", "value", "allowed"),
    [
        (INT, 0, "a whole number from 1 to 10 bars"),
        (INT, 2.5, "a whole number from 1 to 10 bars"),
        (INT, True, "a whole number from 1 to 10 bars"),
        (INT, "3", "a whole number from 1 to 10 bars"),
        (INT, 10**400, "a whole number from 1 to 10 bars"),
        (FLOAT, float("nan"), "a number from 0 to 2"),
        (FLOAT, float("inf"), "a number from 0 to 2"),
        (FLOAT, -(10**400), "a number from 0 to 2"),
        (FLOAT, None, "a number from 0 to 2"),
        (BOOL, 1, "true or false"),
        (CHOICE, "z", "one of x, y"),
        (CHOICE, 0, "one of x, y"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(parameter, value, allowed):
    assert parameter.problem(value) == f"{value!r} is not allowed; {allowed}"


@given(st.floats(0, 2))
def test_encoding_keeps_the_number(value):
    assert FLOAT.encode(value) == value


def test_a_choice_is_encoded_by_its_place():
    assert [CHOICE.encode(choice) for choice in CHOICE.choices] == [0.0, 1.0]


def test_the_fill_model_reads_every_market_parameter():
    values = {p.path: p.default for p in market.PARAMETERS}
    assert market.fill_model(values, 500) == market.FillModel(1, 1, 0, 0.00045, 0.0, 0.0, 500.0)
    values |= {"market.fill": "close", "market.stops": "close", "market.delay_bars": 2, "market.taker_fee_bps": 10.0}
    values |= {"market.entry_slippage_bps": 1.0, "market.exit_slippage_bps": 2}
    assert market.fill_model(values, 500) == market.FillModel(0, 0, 2, 0.001, 0.0001, 0.0002, 500.0)


@pytest.fixture
def copied(tmp_path):
    """A copy of the kernel sources, as they are imported here."""
    shutil.copytree(cache.SOURCES, tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "kernels"


def hash_of(folder) -> str:
    return cache.source_hash.__wrapped__(folder)


def test_the_hash_of_the_sources_does_not_depend_on_where_they_lie(copied):
    assert hash_of(copied) == cache.source_hash()


@pytest.mark.parametrize("source", ["ledger.py", "strategies/ema_cross.py"])
def test_the_hash_changes_with_any_source(copied, source):
    with (copied / source).open("a") as file:
        file.write("# another comment\n")
    assert hash_of(copied) != cache.source_hash()


def test_the_hash_changes_with_the_names_and_number_of_sources(copied):
    hashes = {cache.source_hash()}
    (copied / "strategies" / "other.py").write_text("")
    hashes.add(hash_of(copied))
    (copied / "strategies" / "other.py").rename(copied / "other.py")
    hashes.add(hash_of(copied))
    assert len(hashes) == 3


def test_what_is_no_source_does_not_change_the_hash(copied):
    (copied / "__pycache__").mkdir()
    (copied / "__pycache__" / "ledger.cpython-311.pyc").write_bytes(b"x")
    assert hash_of(copied) == cache.source_hash()


def test_machine_code_lies_in_a_folder_of_its_source(tmp_path, compiled_kernels, cross_engine):
    assert compiled_kernels.name == cache.source_hash()[:16]
    assert Path(cross_engine.run_range.stats.cache_path).parent == compiled_kernels
    assert cache.use_cache(tmp_path) == compiled_kernels
    assert list(tmp_path.iterdir()) == []
