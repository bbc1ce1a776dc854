"""The parameter tables, the list of strategies, and the key that compiled code is kept under."""

import inspect
import shutil
import types
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_kit import Case, candle, inputs_of, new_book, one, plain_values
from naive import Rules, Sizing

from kernels import bind, cache, defaults, market, strategies
from kernels.features import KINDS
from kernels.jit import device
from kernels.params import Parameter, record_of
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
def test_a_strategy_says_what_the_simulation_asks_for(name):
    module = strategies.load(name)
    assert name == module.NAME
    paths = {p.path for p in module.PARAMETERS}
    assert len({p.name for p in module.PARAMETERS}) == len(paths)
    assert "market" not in {p.role for p in module.PARAMETERS}
    assert len({use.name for use in module.FEATURES}) == len(module.FEATURES)
    for use in module.FEATURES:
        assert set(use.paths) <= paths
        assert len(use.paths) == len(KINDS[use.kind].windows)
    rules = {*bind.REQUIRED, *(rule for rule in bind.OPTIONAL if rule.islower())}
    for rule in rules & set(vars(module)):
        asked = getattr(defaults, rule, getattr(strategies.load("ema_cross"), rule, None))
        assert arguments(getattr(module, rule)) == arguments(asked)


def arguments(rule) -> list[str]:
    return list(inspect.signature(getattr(rule, "py_func", rule)).parameters)


@pytest.mark.parametrize("name", strategies.names())
def test_records_hold_the_parameters_by_name_in_table_order(name):
    table = strategies.load(name).PARAMETERS
    dtype = record_of(table)
    assert list(dtype.names) == [p.name for p in table]
    assert {dtype[place] for place in range(len(table))} == {np.dtype(np.float64)}
    assert dtype.itemsize == 8 * len(table)


def test_a_strategy_without_a_rule_that_all_have_is_refused():
    lame = types.SimpleNamespace(**{**vars(ema_cross), "NAME": "lame"})
    del lame.plan
    with pytest.raises(AttributeError, match="plan"):
        bind.bind(lame)


@device
def by_stop(price, age, is_benchmark, now, before, market_context, params):  # noqa: ARG001 - the simulation decides what it is given
    return 1 if params.sl_atr_mult > price else 0


@device
def by_size(price, age, is_benchmark, now, before, market_context, params):  # noqa: ARG001 - as above
    return 1 if params.size_units > price else 0


@pytest.mark.parametrize(
    ("signal", "forbidden"),
    [(by_stop, "sl_atr_mult"), pytest.param(by_size, "size_units", marks=pytest.mark.long)],
)
def test_a_signal_cannot_read_parameters_of_exits_or_sizes(signal, forbidden):
    """Combos share signals by the parameters that shape them, so the others are not there to be read."""
    nosy = types.SimpleNamespace(**{**vars(ema_cross), "NAME": f"nosy_{forbidden}", "signal": signal})
    case = Case([one([candle(100)] * 3)], Rules(), plain_values(Sizing(), (1, 2, 1, 1, 1.0, 1.0)))
    simulation = bind.bind(nosy)
    book = new_book(simulation, case)
    # numba reports a field that a record lacks as a KeyError, plain Python as an AttributeError.
    with pytest.raises((KeyError, AttributeError), match=forbidden):
        simulation.run(*inputs_of(ema_cross, case), 0, 3, book)


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


def test_machine_code_lies_in_a_folder_of_its_source(tmp_path, compiled_kernels, cross_simulation):
    assert compiled_kernels.name == cache.source_hash()[:16]
    if not numba.config.DISABLE_JIT:
        assert Path(cross_simulation.run.stats.cache_path).parent == compiled_kernels
    assert cache.use_cache(tmp_path) == compiled_kernels
    assert list(tmp_path.iterdir()) == []
