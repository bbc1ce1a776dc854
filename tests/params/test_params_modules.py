"""Who writes a strategy is told what its module lacks, in words that say what to do."""

import inspect
import types

import pytest

from kernels import strategies
from kernels.features import Use
from kernels.jit import device
from kernels.limits import limits
from kernels.params import Parameter
from kernels.strategies import ema_cross
from mei_pipeline.errors import Fatal
from mei_pipeline.params import modules
from mei_pipeline.params.table import make_table, read_catalog

WINDOW = "indicators.atr_window"
INTEGER = "it needs the kind int and a lower bound of at least 1"


@device
def short_signal(price, now):  # noqa: ARG001 - only how many there are counts
    return 0


def plain_plan(code, price, now, params):  # noqa: ARG001 - as above
    return 1.0, 1.0, 0.0


def module(**changes):
    """`ema_cross` as `mine`, with some attributes changed; None takes one away."""
    made = types.ModuleType("mine")
    made.__dict__.update({name: value for name, value in vars(ema_cross).items() if not name.startswith("__")})
    made.NAME = "mine"
    for name, value in changes.items():
        if value is None:
            delattr(made, name)
        else:
            setattr(made, name, value)
    return made


def parameters(**changes):
    """The parameters of `ema_cross` with another one for the window of the ATR."""
    fields = {"path": WINDOW, "kind": "int", "default": 14, "low": 1, "high": 99, "unit": "bars", "role": "feature"}
    mine = Parameter(**{**fields, "doc": "", **changes})
    return tuple(mine if given.path == WINDOW else given for given in ema_cross.PARAMETERS)


@pytest.mark.parametrize("name", strategies.names())
def test_every_strategy_is_whole(name):
    assert list(modules.module_problems(name, strategies.load(name))) == []
    assert modules.load_strategy(name) is strategies.load(name)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"signal": None},
            "signal is missing; a function of (price, age, is_benchmark, now, before, market_context, params)",
        ),
        ({"begin": None}, "begin is missing; a function of (position, side, fill_price)"),
        ({"FEATURES": None}, "FEATURES is missing; see ema_cross"),
        ({"PARAMETERS": None}, "PARAMETERS is missing; see ema_cross"),
        ({"NAME": None}, "NAME is missing; see ema_cross"),
        ({"NAME": "yours"}, "NAME is 'yours'; it must be that of the module, 'mine'"),
        (
            {"signal": short_signal},
            "signal takes (price, now); it must take (price, age, is_benchmark, now, before, market_context, params)",
        ),
        ({"rank": 3}, "rank is not a function; it must be one of (code, now, params)"),
        (
            {"PARAMETERS": ema_cross.PARAMETERS[: -len(limits())]},
            "PARAMETERS: trade.max_open_positions is missing; add *limits() of kernels.limits",
        ),
        ({"MEMORY": ("armed", "stop")}, "MEMORY: 'stop' is a field of every position; use another name"),
        ({"MEMORY": ("two words",)}, "MEMORY: 'two words' is not a valid name; use another name"),
        (
            {"FEATURES": (Use("m", "atr", ("leverage",)),)},
            "FEATURES: m: leverage: unknown parameter; did you mean 'trade.leverage'? it must be one of PARAMETERS",
        ),
        (
            {"FEATURES": (Use("atr", "atr", ("trade.sl_atr_mult",)),)},
            "FEATURES: atr: trade.sl_atr_mult: has the role exit; the parameter of a window needs the role feature",
        ),
        (
            {"PARAMETERS": parameters(low=0)},
            f"FEATURES: atr: {WINDOW}: is the length of a window; {INTEGER}",
        ),
        (
            {"PARAMETERS": parameters(kind="float")},
            f"FEATURES: atr: {WINDOW}: is the length of a window; {INTEGER}",
        ),
        ({"FEATURES": (Use("class", "close", ()),)}, "FEATURES: class: is not a valid name; use another name"),
        (
            {"FEATURES": (Use("last", "close", ()), Use("last", "volume", ()))},
            "FEATURES: last: is listed twice; use another name",
        ),
        (
            {"FEATURES": (Use("atr", "atr", ()),)},
            "FEATURES: atr: 0 paths; the windows of atr are 1: window",
        ),
        (
            {"FEATURES": (Use("last", "close", (WINDOW,)),)},
            "FEATURES: last: 1 paths; the windows of close are none",
        ),
    ],
)
def test_what_a_module_lacks(changes, problem):
    assert list(modules.module_problems("mine", module(**changes))) == [problem]


@device
def benchmark_signal(price, age, follows, now, before, market_context, params):  # noqa: ARG001 - only `follows` counts
    return 0 if follows else 1


@device
def benchmark_trace(price, age, is_benchmark, now, before, market_context, params, out):  # noqa: ARG001 - as above
    out[0] = age if is_benchmark else 0.0


@pytest.mark.parametrize(("rule", "function"), [("signal", benchmark_signal), ("trace", benchmark_trace)])
def test_a_rule_that_reads_the_benchmark_needs_switches(rule, function):
    (problem,) = modules.module_problems("mine", module(**{rule: function}))
    assert problem.startswith(f"BENCHMARK is missing; {rule} reads the benchmark symbol")
    assert list(modules.module_problems("mine", module(**{rule: function, "BENCHMARK": ()}))) == []


@pytest.mark.parametrize("rule", ["signal", "trace"])
def test_the_benchmark_is_an_argument_at_the_same_place_of_both_rules(rule):
    arguments = list(inspect.signature(modules.python_function(getattr(strategies.load("mei_alpha"), rule))).parameters)
    assert arguments.index("is_benchmark") == 2


def test_an_unknown_kind_is_named_with_those_that_exist():
    (problem,) = modules.module_problems("mine", module(FEATURES=(Use("atr", "art", (WINDOW,)),)))
    assert problem.startswith("FEATURES: atr: unknown kind 'art'; did you mean 'atr'? known: close, volume, ema, atr,")


def test_a_rule_that_is_not_compiled():
    (problem,) = modules.module_problems("mine", module(plan=plain_plan))
    assert problem == "plan is not compiled; decorate it with @device of kernels.jit"


def test_all_problems_come_at_once(monkeypatch):
    monkeypatch.setattr(
        strategies, "load", lambda name: ema_cross if name == "ema_cross" else module(signal=None, size=None)
    )
    with pytest.raises(Fatal) as caught:
        modules.load_strategy("mine")
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[1].split()[0] for line in lines] == ["signal", "size"]
    assert all(line.startswith("strategy mine (kernels/strategies/mine): ") for line in lines)


def test_a_module_that_can_not_be_imported_is_named(monkeypatch, tmp_path):
    (tmp_path / "mine.py").write_text("from kernels.jit import devise\n")
    monkeypatch.setattr(strategies, "__path__", [*strategies.__path__, str(tmp_path)])
    with pytest.raises(
        Fatal, match=r"strategy mine \(kernels/strategies/mine\): can't be imported: ImportError: .*devise"
    ):
        modules.load_strategy("mine")


def test_a_parameter_that_is_declared_twice_is_named_with_its_strategy():
    with pytest.raises(Fatal, match=r"^strategy mine: PARAMETERS: trade.leverage is declared twice"):
        make_table((*ema_cross.PARAMETERS, *ema_cross.PARAMETERS[9:10]), "strategy mine: PARAMETERS")
    assert read_catalog().strategy("ema_cross")["trade.leverage"] == ema_cross.PARAMETERS[9]
