"""The rules compile for the GPU (sm_90) from the very functions that the CPU runs, and round as the CPU does.

No GPU and no driver is needed, only the dependency group `cuda`. What is compiled is one thread per combo with scratch
memory of its own, which calls the drivers of the engine. Two things that numba-cuda does not offer are put in place: an
answer to which device is meant, and libNVVM's option against fused multiply-add. Without the latter the GPU rounds
once where the CPU rounds twice, and results differ in their last bits.
"""

import re
from collections import Counter
from types import ModuleType

import numba
import numpy as np
import pytest

from kernels import bind
from kernels.book import Book, make_book
from kernels.market import MODEL, SYMBOL
from kernels.params import record_of
from kernels.strategies import load
from mei_pipeline.bench import portfolio
from mei_pipeline.simulation import SIGNAL_ROLES

pytestmark = pytest.mark.cuda

STRATEGIES = ("ema_cross", "mei_alpha")
H200 = (9, 0)
SYMBOLS, TILE = 2, 4
OF_COMBO = {"accounts": "[k:k+1]", "slots": "[k:k+1]", "active": "[k:k+1]", "days": "[:, :, k:k+1]"}
OF_NOBODY = {"log", "equity", "verdicts"}  # empty in a sweep
# rcp.rn is 1 / x, rounded as a division is.
ROUNDED = re.compile(r"\b(?:mul|add|sub|div|sqrt|rcp)\.rn\.f64\b")
ARITHMETIC = re.compile(r"\b(?:fma|mad|mul|add|sub|div|sqrt|rcp|rsqrt)(?:\.\w+)*\.f64\b")


class Device:
    """What numba-cuda asks a driver for."""

    compute_capability = H200


@pytest.fixture(scope="module")
def gpu():
    """numba-cuda, told to compile for an H200."""
    pytest.importorskip("numba_cuda", reason="needs a group of dependencies: .ci/uv run --group cuda pytest -m cuda")
    from numba import cuda
    from numba.cuda import dispatcher

    assert cuda.implementation == "NVIDIA", "numba's own numba.cuda was imported, not numba-cuda"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatcher, "get_current_device", lambda: Device)
        yield cuda


@pytest.fixture
def unfused(gpu, monkeypatch):
    """numba-cuda, told to round every operation, too."""
    from numba.cuda.cudadrv import nvvm

    start = nvvm.CompilationUnit.__init__
    monkeypatch.setattr(nvvm.CompilationUnit, "__init__", lambda unit, options: start(unit, {**options, "fma": 0}))
    return gpu


def ptx(cuda, kernel, values) -> str:
    code, _ = cuda.compile(kernel, tuple(map(numba.typeof, values)), device=False, abi="numba", cc=H200)
    return code


def book_of_thread() -> str:
    """The book of thread k in source: its combo, and scratch memory of its own."""
    parts = (f"book.{name}{'' if name in OF_NOBODY else OF_COMBO.get(name, '[k]')}" for name in Book._fields)
    return f"Book({', '.join(parts)})"


def kernel_of(name: str, arguments: str, call: str, scope: dict):
    """A kernel of one thread for each k that calls a driver; numba takes no tuple apart, so its source is written."""
    source = f"def {name}({arguments}):\n    k = grid(1)\n    if k < entry_of.shape[0]:\n        {call}\n"
    exec(source, scope)  # noqa: S102 - own text
    return scope[name]


def values_of(engine: ModuleType, strategy: ModuleType) -> dict:
    """One value of each argument that the drivers take, of the type that it has; scratch memory by thread."""
    book = make_book(engine.MEMORY, 1, SYMBOLS, TILE)
    scratch = {name: getattr(book, name)[None].copy() for name in Book._fields if name not in {*OF_COMBO, *OF_NOBODY}}
    return {
        "market": portfolio.make(symbols=SYMBOLS, days=16, combos=1).cut.market,
        "models": np.zeros(1, MODEL),
        "symbols": np.zeros(SYMBOLS, SYMBOL),
        "columns": np.zeros((1, TILE, SYMBOLS)),
        "rows": np.zeros((1, 1, len(strategy.FEATURES)), np.int64),
        "entries": np.zeros((1, 1), record_of(p for p in strategy.PARAMETERS if p.role in SIGNAL_ROLES)),
        "entry_of": np.zeros(1, np.int64),
        "params": np.zeros((1, 1), record_of(strategy.PARAMETERS)),
        "first": 0,
        "last": TILE,
        "book": book._replace(**scratch),
    }


def compiled(cuda, name: str, driver: str) -> str:
    """PTX of one thread per combo that runs the driver `run`, or per entry set that runs `signals`."""
    engine = bind.engine(name)
    values = values_of(engine, load(name))
    scope = {"Book": Book, "grid": cuda.grid, "run": engine.run, "signals": engine.signals}
    if driver == "run":
        common = "market, models, symbols, columns, rows, entries"
        call = f"run({common}, entry_of[k:k+1], params[k:k+1], first, last, {book_of_thread()})"
    else:
        call = "signals(market, columns, rows, entries, k, first, last, book.codes[k], book.hits[k], book.steps[k])"
    return ptx(cuda, kernel_of(f"{driver}_per_thread", ", ".join(values), call, scope), values.values())


@pytest.mark.parametrize("driver", ["signals", "run"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_the_rules_compile_and_round_every_operation(unfused, name, driver):
    code = compiled(unfused, name, driver)
    assert ".target sm_90" in code
    assert f"{driver}_per_thread" in code
    found = Counter(ARITHMETIC.findall(code))
    assert [operation for operation in found if not ROUNDED.fullmatch(operation)] == []
    if driver == "run":
        assert found["add.rn.f64"] > 100
        assert found["mul.rn.f64"] > 100


def test_the_code_is_for_the_driver_of_the_gpu_machine(unfused):
    code = compiled(unfused, "ema_cross", "signals")
    assert ".version 9.0" in code  # driver 580 takes up to this


def product_and_sum(out, a, b, c):
    out[0] = a * b + c


def test_without_the_option_the_compiler_fuses(gpu):
    assert "fma.rn.f64" in ptx(gpu, product_and_sum, (np.zeros(1), 1.0, 1.0, 1.0))


def test_with_the_option_it_does_not(unfused):
    code = ptx(unfused, product_and_sum, (np.zeros(1), 1.0, 1.0, 1.0))
    assert set(ARITHMETIC.findall(code)) == {"mul.rn.f64", "add.rn.f64"}
