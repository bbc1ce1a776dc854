from pathlib import Path

import numpy as np
import pytest
from config_kit import CATALOG

from kernels.params import Parameter
from mei_pipeline.config.axes import grid_of, numbered_axes
from mei_pipeline.config.document import parse_document
from mei_pipeline.config.load import read_sweep
from mei_pipeline.config.models import SweepSpec
from mei_pipeline.errors import ConfigError
from mei_pipeline.params.table import Catalog, make_table

HEAD = "strategy: toy\ninterval: 1h\n"
TABLE = CATALOG.strategies["toy"]


def parse(text):
    return parse_document(f"{HEAD}{text}".encode(), Path("f.yaml"), SweepSpec).model


def test_conditions_are_read_from_lists_and_ranges():
    spec = parse(
        "axes:\n"
        "  trade.sl_atr_mult: {values: [1, 1.5], when: {trade.trail: true}}\n"
        "  trade.places: {from: 1, to: 3, step: 1, when: {trade: {side: long}}}\n"
        "  trade.trail: [true, false]\n"
        "  trade.side: {values: [long, short]}\n"
    )
    assert spec.axis_values("trade.sl_atr_mult") == (1, 1.5)
    assert spec.axis_values("trade.places") == (1, 2, 3)
    assert [spec.when(path) for path in spec.axes] == [{"trade.trail": True}, {"trade.side": "long"}, {}, {}]
    assert SweepSpec.model_validate(spec.model_dump(by_alias=True)) == spec


def test_features_vary_slowest_then_entries_then_the_rest():
    spec = parse(
        "params: {trade.sl_atr_mult: 9}\n"
        "axes:\n"
        "  trade.sl_atr_mult: {values: [1, 2], when: {trade.trail: true}}\n"
        "  trade.trail: [true, false]\n"
        "  trade.side: [long, short]\n"
        "  indicators.window: [5, 8]\n"
    )
    assert [axis.path for axis in numbered_axes(spec, TABLE)] == [
        "indicators.window",
        "trade.side",
        "trade.trail",
        "trade.sl_atr_mult",
    ]
    grid = grid_of(spec, TABLE)
    assert grid.combos == 2 * 2 * (2 + 1)
    assert grid.values(np.arange(3))["trade.sl_atr_mult"].to_list() == [1.0, 2.0, 9.0]


CASES = {
    "listed key": ("  trade.trail: {vals: [true]}", "4:17: axes.trade.trail.vals: unknown key; did you mean 'values'?"),
    "empty list": (
        "  trade.trail: {values: []}",
        "4:17: axes.trade.trail.values: an empty list is not allowed; a list",
    ),
    "listed twice": ("  trade.places: {values: [1, 1]}", "4:18: axes.trade.places.values: 1 is listed twice"),
    "range without step": (
        "  trade.places: {from: 1, to: 2}",
        "4:3: axes.trade.places.step: missing; a number above 0",
    ),
    "half a range": (
        "  trade.places: {from: 1, to: 2, step: 1, vals: 1}",
        "4:43: axes.trade.places.vals: unknown key; allowed: from, to, step, when",
    ),
    "both forms": (
        "  trade.places: {values: [1, 2], from: 1}",
        "4:34: axes.trade.places.from: unknown key; allowed: values, when",
    ),
    "neither form": (
        "  trade.places: {}",
        "4:3: axes.trade.places.values: missing; a list of at least 1, each one value",
    ),
    "listed out of bounds": (
        "  trade.places: {values: [1, 99]}",
        "4:30: axes.trade.places.values[1]: 99 is not allowed; a whole number from 1 to 50",
    ),
    "unknown condition": (
        "  trade.places: {values: [1, 2], when: {trade.trial: true}}",
        "4:41: axes.trade.places.when.trade.trial: unknown parameter; did you mean 'trade.trail'?",
    ),
    "condition on the market": (
        "  trade.places: {values: [1, 2], when: {market.delay_bars: 1}}",
        "4:41: axes.trade.places.when.market.delay_bars: a market parameter; it is the same for every combo",
    ),
    "condition of another kind": (
        "  trade.places: {values: [1, 2], when: {trade: {trail: 1}}}",
        "4:49: axes.trade.places.when.trade.trail: 1 is not allowed; true or false",
    ),
    "condition never met": (
        "  trade.places: {values: [1, 2], when: {trade.trail: true}}",
        "4:41: axes.trade.places.when.trade.trail: true is never taken; it is false in every combo",
    ),
    "condition on a value that no axis has": (
        "  trade.places: {values: [1, 2], when: {trade.side: both}}\n  trade.side: [long, short]",
        "4:41: axes.trade.places.when.trade.side: both is never taken; the axis has long, short",
    ),
    "circle": (
        """\
  trade.trail: {values: [true, false], when: {trade.places: 1}}
  trade.places: {values: [1, 2], when: {trade.trail: true}}""",
        "5:41: axes.trade.places.when.trade.trail: circular: this axis depends on its own value",
    ),
}


@pytest.mark.parametrize(("axes", "expected"), CASES.values(), ids=CASES)
def test_axes_that_can_not_be(tmp_path, axes, expected):
    path = tmp_path / "s.yaml"
    path.write_text(f"{HEAD}axes:\n{axes}\n")
    with pytest.raises(ConfigError) as caught:
        read_sweep(path, CATALOG)
    assert str(caught.value).splitlines()[-1].startswith(f"{path}:{expected}")


METHODS = {
    "unknown": ("method: tep", "3:1: method: tep is not allowed; one of grid, random, tpe"),
    "no budget": ("method: random", "budget: missing; method random needs the number of combos to run"),
    "zero": ("method: tpe\nbudget: 0", "4:1: budget: 0 is not allowed; a whole number from 1 to 2147483647"),
    "not whole": ("method: tpe\nbudget: 1.5", "4:1: budget: 1.5 is not allowed; a whole number from 1"),
    "more than the grid": (
        "method: random\nbudget: 101",
        "4:1: budget: 101 is more than the 100 combos of the axes; at most so many",
    ),
    "more than tpe remembers": (
        "method: tpe\nbudget: 10000001",
        "4:1: budget: 10,000,001 is not allowed; at most 10,000,000 for tpe, random takes more",
    ),
    "budget of a grid": (
        "budget: 5",
        "3:1: budget: has no effect with method grid, which runs every combo; remove it, or choose method random or",
    ),
    "seed of a grid": (
        "seed: 5",
        "3:1: seed: has no effect with method grid, which runs every combo; remove it",
    ),
    "seed out of range": (
        "method: random\nbudget: 5\nseed: 4294967296",
        "5:1: seed: 4294967296 is not allowed; a whole number from 0 to 4294967295",
    ),
    "batches of a grid": (
        "batch: 5",
        "3:1: batch: has no effect with method grid; remove it, or choose method tpe",
    ),
    "objective of a sample": (
        "method: random\nbudget: 5\nobjective: return_pct",
        "5:1: objective: has no effect with method random; remove it, or choose method tpe",
    ),
    "objective that is no aim": (
        "method: tpe\nbudget: 5\nobjective: fees_usd",
        "5:1: objective: fees_usd is not allowed; one of sharpe, return_pct, profit_factor",
    ),
    "too few batches": (
        "method: tpe\nbudget: 99\nbatch: 50",
        "5:1: batch: 50 gives tpe only 2 batches to learn from; at most 9",
    ),
    "nothing learned for long": (
        "method: tpe\nbudget: 50\nbatch: 5\nlag: 6",
        "6:1: lag: 6 of 10 batches would have no results to learn from; at most 5",
    ),
}


@pytest.mark.parametrize(("keys", "expected"), METHODS.values(), ids=METHODS)
def test_methods_that_can_not_be(tmp_path, keys, expected):
    path = tmp_path / "s.yaml"
    axes = "axes: {trade.places: {from: 1, to: 50, step: 1}, trade.trail: [true, false]}"
    path.write_text(f"{HEAD}{keys}\n{axes}\n")
    with pytest.raises(ConfigError) as caught:
        read_sweep(path, CATALOG)
    (line,) = str(caught.value).splitlines()
    assert line.removeprefix(f"{path}:").strip().startswith(expected)


@pytest.mark.parametrize(
    "keys", ["method: random\nbudget: 100\nseed: 4294967295", "method: tpe\nbudget: 100", "seed: 0"]
)
def test_methods_that_can_be(tmp_path, keys):
    path = tmp_path / "s.yaml"
    path.write_text(f"{HEAD}{keys}\naxes: {{trade.places: {{from: 1, to: 50, step: 1}}, trade.trail: [true, false]}}\n")
    assert SweepSpec.model_validate(read_sweep(path, CATALOG).model_dump(by_alias=True)) == read_sweep(path, CATALOG)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("", 4096),
        ("method: random\nbudget: 5", 4096),
        ("method: tpe\nbudget: 2000", 4096),
        ("method: tpe\nbudget: 2000\nchunk_combos: 200", 200),
    ],
)
def test_how_many_combos_a_file_has(keys, expected):
    assert parse(f"{keys}\naxes: {{trade.trail: [true, false]}}\n").chunk == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [("budget: 1000000", 4096), ("budget: 2000", 40), ("budget: 9", 1), ("budget: 2000\nbatch: 200", 200)],
)
def test_how_many_combos_tpe_proposes_at_a_time(keys, expected):
    spec = parse(f"method: tpe\n{keys}\nchunk_combos: 7\naxes: {{trade.trail: [true, false]}}\n")
    assert spec.batch_combos == expected


def test_a_grid_to_choose_from_may_be_large_but_not_endless(tmp_path):
    path = tmp_path / "s.yaml"
    table = make_table(Parameter(f"a.p{i}", "int", 1, 1, 10_000, "", "exit", "A number.") for i in range(5))
    catalog = Catalog({"toy": table}, CATALOG.market)
    for count, fine in ((4, True), (5, False)):
        axes = "".join(f"  a.p{number}: {{from: 1, to: 10000, step: 1}}\n" for number in range(count))
        path.write_text(f"{HEAD}method: random\nbudget: 10\naxes:\n{axes}")
        if fine:
            assert grid_of(read_sweep(path, catalog), table).combos == 10**16
        else:
            with pytest.raises(ConfigError, match=r"to choose from; at most 4,611,686,018,427,387,904: take fewer"):
                read_sweep(path, catalog)


def test_an_axis_with_a_condition_may_have_a_fixed_value(tmp_path):
    path = tmp_path / "s.yaml"
    axes = "axes: {trade.places: {values: [1, 2], when: {trade.trail: true}}, trade.trail: [true, false]}"
    path.write_text(f"{HEAD}params: {{trade.places: 7}}\n{axes}")
    assert grid_of(read_sweep(path, CATALOG), TABLE).values(np.arange(3))["trade.places"].to_list() == [1, 2, 7]


def test_conditions_count_towards_the_limit(tmp_path):
    path = tmp_path / "s.yaml"
    axes = [f"  trade.p{number}: {{from: 1, to: 5000, step: 1}}\n" for number in range(3)]
    path.write_text(f"{HEAD}axes:\n{''.join(axes)}")
    with pytest.raises(ConfigError, match=r"axes: 125,000,000,000 combos; at most 2,147,483,647"):
        read_sweep(path, CATALOG)
