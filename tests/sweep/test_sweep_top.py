"""The best combos are distinct, counted by the search itself, and said of which others they stand for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from result_kit import read_results
from sweep_kit import FAST, SLOW, STOP, plan_of, rows_of, store

from mei_pipeline.sweep.metrics import DOCS
from mei_pipeline.sweep.results import open_results, sweep_folder, top, write_chunk
from mei_pipeline.sweep.top import STANDS_FOR, find_best

TPE = {"method": "tpe", "budget": 12, "min_trades": 100, "chunk_combos": 1}


def listed(best: Any) -> list[tuple[int, int]]:
    return list(best.rows.select("combo", STANDS_FOR).iter_rows())


def by_axes(*paths: str):
    """What a combo did depends on these axes alone."""

    def figures(point: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"sharpe": sum(float(point[path]) for path in paths), "profit_factor": None, "win_rate": float("nan")}

    return figures


@pytest.mark.parametrize("chunk", [1, 5, 12])
def test_an_axis_that_does_nothing_makes_no_second_result(tmp_path: Path, chunk: int) -> None:
    results = store(tmp_path, plan_of(chunk_combos=chunk), by_axes(FAST, SLOW))
    rows = pl.concat(results.frames())
    best = find_best(results, 20)
    groups = rows.group_by("sharpe").agg(pl.col("combo").min(), pl.len()).sort("sharpe", descending=True)
    assert listed(best) == list(groups.select("combo", "len").iter_rows())
    assert [count for _, count in listed(best)] == [2] * 6
    assert best.rows.drop(STANDS_FOR).equals(results.rows(groups["combo"].to_list()))
    assert (best.excluded, best.exclusion_note) == (0, "")


def test_results_differ_where_one_metric_does(tmp_path: Path) -> None:
    """Equal by the metric that decides and by all others but one."""

    def figures(point: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"sharpe": 1.0, "refused": float(point[STOP])}

    assert [count for _, count in listed(find_best(store(tmp_path, plan_of(), figures), 20))] == [6, 6]


@pytest.mark.parametrize("seed", range(8))
def test_counts_are_right_whatever_the_order_of_chunks(tmp_path: Path, seed: int) -> None:
    """Many ties by the metric, results that come again later with a lower number: against all rows at once."""
    rng = np.random.default_rng(seed)
    kinds, order = rng.integers(0, 5, 12), rng.permutation(12)
    plan = plan_of(chunk_combos=2)
    folder = sweep_folder(tmp_path, plan)
    for index in range(plan.chunks):
        numbers = sorted(order[2 * index : 2 * index + 2].tolist())
        frame = rows_of(plan, numbers, lambda point: {"sharpe": 1.0, "fees_usd": float(kinds[point["combo"]])})
        write_chunk(folder, plan, index, frame)
    expected = {int(np.flatnonzero(kinds == kind)[0]): int((kinds == kind).sum()) for kind in set(kinds.tolist())}
    assert listed(find_best(open_results(folder, plan), 2)) == sorted(expected.items())[:2]


def test_what_the_search_does_not_count_is_not_best(tmp_path: Path) -> None:
    def figures(point: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"sharpe": 100.0 - point["combo"], "trades": 10 * point["combo"]}

    plan = plan_of(**TPE)
    results = store(tmp_path, plan, figures)
    best = find_best(results, 5)
    assert best.rows["combo"].to_list() == [10, 11]
    assert best.exclusion_note == "excluded: 10 combos with fewer than 100 closed trades (min_trades)"
    every = find_best(results, 5, every=True)
    assert listed(every) == [(combo, 1) for combo in range(5)]
    assert every.exclusion_note == ""
    # Only tpe counts them so.
    assert find_best(store(tmp_path / "grid", plan_of(), figures), 5).rows["combo"].to_list() == [0, 1, 2, 3, 4]


def test_nothing_has_trades_enough(tmp_path: Path) -> None:
    best = find_best(store(tmp_path, plan_of(**TPE), lambda _: {"trades": 99}), 5)
    assert (best.rows.height, best.excluded, best.min_trades) == (0, 12, 100)
    assert {"combo", STANDS_FOR, *DOCS} <= set(best.rows.columns)


def test_every_combo_is_what_sorting_all_rows_gives(tmp_path: Path) -> None:
    results = store(tmp_path, plan_of(), by_axes(FAST))
    rows = pl.concat(results.frames())
    assert find_best(results, 7, every=True).rows.drop(STANDS_FOR).equals(top(rows, 7))


def test_all_rows_come_chunk_by_chunk_and_in_a_chunk_by_number(tmp_path: Path) -> None:
    plan = plan_of(method="random", budget=9, chunk_combos=4)
    folder = sweep_folder(tmp_path, plan)
    chunks = [[2, 7, 9, 11], [0, 4, 5, 10], [1]]
    for index, numbers in reversed(list(enumerate(chunks))):
        write_chunk(folder, plan, index, rows_of(plan, numbers, by_axes(FAST)))
    assert read_results(folder, plan)["combo"].to_list() == [2, 7, 9, 11, 0, 4, 5, 10, 1]
