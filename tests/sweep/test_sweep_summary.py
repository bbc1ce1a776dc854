"""What a whole search says, against the same worked out from all rows at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_kit import read_page
from result_kit import read_results
from sweep_kit import FAST, SLOW, STOP, plan_of, rows_of, store

from mei_pipeline.errors import DataError
from mei_pipeline.sweep.page import page_of
from mei_pipeline.sweep.pareto import pareto
from mei_pipeline.sweep.plots import axes_plot, front_plot, heat_plot, histogram_plot, nothing_varies
from mei_pipeline.sweep.results import all_distinct, best_of, chunk_path, open_results, sweep_folder, top, write_chunk
from mei_pipeline.sweep.summary import heat_map, heat_maps, histogram, summarise
from mei_pipeline.sweep.top import STANDS_FOR

SVG = "{http://www.w3.org/2000/svg}"


def told(svg: str) -> list[str]:
    """What a picture says when pointed at."""
    return [title.text or "" for title in ET.fromstring(svg).iter(f"{SVG}title")]  # noqa: S314 - our own picture


def weighted(**weights: float):
    """The metric is a weighted sum of the axes' values."""
    paths = {"fast": FAST, "slow": SLOW, "stop": STOP}

    def figures(point: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"sharpe": sum(weight * point[paths[name]] for name, weight in weights.items())}

    return figures


def scattered(seed: int):
    rng = np.random.default_rng(seed)

    def figures(_: Mapping[str, Any]) -> Mapping[str, Any]:
        pnl = float(rng.normal(0.0, 100.0))
        return {
            "sharpe": float(rng.normal()),
            "net_pnl_usd": pnl,
            "return_pct": pnl / 100.0,
            "max_drawdown_pct": float(rng.uniform(0.0, 50.0)),
            "turnover_usd": float(rng.uniform(1e3, 1e6)),
            "trades": int(rng.integers(0, 3)),
        }

    return figures


@pytest.mark.parametrize(
    ("weights", "order"),
    [
        ({"fast": 1.0, "stop": 0.1}, [FAST, STOP, SLOW]),
        ({"stop": 5.0, "slow": 0.01}, [STOP, SLOW, FAST]),
        ({"slow": 1.0, "fast": 0.5}, [SLOW, FAST, STOP]),
    ],
)
def test_axes_come_in_the_order_of_what_they_explain(
    tmp_path: Path, weights: dict[str, float], order: list[str]
) -> None:
    summary = summarise(store(tmp_path, plan_of(), weighted(**weights)))
    assert [effect.path for effect in summary.axes] == order
    # Axes of a sum are independent on a full grid, so that their shares are the whole.
    assert sum(effect.share for effect in summary.axes) == pytest.approx(1.0)
    assert summary.axes[-1].share == pytest.approx(0.0, abs=1e-12)


def test_sums_by_chunk_are_those_of_all_rows(tmp_path: Path) -> None:
    results = store(tmp_path, plan_of(), scattered(1))
    rows = pl.concat(results.frames())
    summary = summarise(results, count=4)
    assert summary.combos == rows.height == 12
    assert summary.lost == rows.filter(pl.col("net_pnl_usd") < 0).height
    assert summary.idle == rows.filter(pl.col("trades") == 0).height
    assert summary.mean == pytest.approx(rows["sharpe"].mean())
    assert summary.deviation == pytest.approx(rows["sharpe"].std(ddof=0))
    assert (summary.least, summary.greatest) == (rows["sharpe"].min(), rows["sharpe"].max())
    assert summary.best.rows.drop(STANDS_FOR).equals(top(rows, 4))
    assert summary.front["combo"].to_list() == pareto(rows.filter(pl.col("return_pct") > 0))["combo"].to_list()
    for effect in summary.axes:
        groups = rows.group_by(effect.path).agg(
            pl.len(), pl.col("sharpe").mean().alias("mean"), pl.col("sharpe").max().alias("best")
        )
        groups = groups.sort(effect.path)
        assert list(effect.values) == groups[effect.path].to_list()
        assert effect.count.tolist() == groups["len"].to_list()
        assert effect.mean.tolist() == pytest.approx(groups["mean"].to_list())
        assert effect.best.tolist() == groups["best"].to_list()


@pytest.mark.parametrize("chunk", [1, 3, 12, 100])
def test_the_size_of_chunks_changes_nothing(tmp_path: Path, chunk: int) -> None:
    whole = summarise(store(tmp_path / "a", plan_of(chunk_combos=5), weighted(fast=1.0, slow=0.25)))
    other = summarise(store(tmp_path / "b", plan_of(chunk_combos=chunk), weighted(fast=1.0, slow=0.25)))
    assert other.best.rows.equals(whole.best.rows)
    assert other.front.equals(whole.front)
    assert [effect.path for effect in other.axes] == [effect.path for effect in whole.axes]
    assert [effect.share for effect in other.axes] == pytest.approx([effect.share for effect in whole.axes])


def test_less_of_a_risk_is_better(tmp_path: Path) -> None:
    results = store(tmp_path, plan_of(), scattered(2))
    rows = pl.concat(results.frames())
    summary = summarise(results, "max_drawdown_pct", 3)
    assert summary.best.rows["combo"].to_list() == rows.sort("max_drawdown_pct")["combo"].head(3).to_list()
    assert min(summary.axes[0].best) == rows["max_drawdown_pct"].min()


def test_a_metric_without_a_value_is_last_and_not_counted(tmp_path: Path) -> None:
    def figures(point: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"profit_factor": None if point["combo"] % 2 else float(point["combo"])}

    results = store(tmp_path, plan_of(), figures)
    summary = summarise(results, "profit_factor", 8)
    assert summary.best.rows["combo"].to_list() == [10, 8, 6, 4, 2, 0, 1]  # all without one are alike
    assert summary.mean == 5.0
    assert int(histogram(results, summary).count.sum()) == 6


def test_a_cell_is_the_mean_over_the_other_axes(tmp_path: Path) -> None:
    results = store(tmp_path, plan_of(), weighted(fast=1.0, stop=0.5))
    maps = heat_maps(results, summarise(results))
    assert {(heat.across, heat.down) for heat in maps} == {(FAST, STOP), (FAST, SLOW), (STOP, SLOW)}
    assert (maps[0].across, maps[0].down) == (FAST, STOP)
    assert maps[0].share == pytest.approx(1.0)
    # fast 5 and stop 1.5, whatever slow is.
    assert maps[0].mean[0, 0] == 5.75
    assert maps[0].columns == ("5", "9", "13")
    assert maps[0].rows == ("1.5", "3")
    assert told(heat_plot(maps[0]))[0] == "mean 5.75, best 5.75, 2 combos"
    assert heat_map(results, STOP, FAST).mean.T.tolist() == maps[0].mean.tolist()


def test_many_values_of_an_axis_are_shown_in_groups(tmp_path: Path) -> None:
    axes = {STOP: tuple(float(value) for value in range(1, 101)), FAST: (5, 9)}
    results = store(tmp_path, plan_of(axes=axes, chunk_combos=64), weighted(stop=1.0))
    heat = heat_map(results, STOP, FAST)
    assert (len(heat.columns), len(heat.rows)) == (24, 2)
    assert (heat.columns[0], heat.columns[-1]) == ("1..5", "97..100")
    assert heat.count.sum() == 200
    assert heat.mean[0, 0] == 3.0
    assert heat.best[0, -1] == 100.0


def test_one_axis_makes_one_row_and_none_makes_no_map(tmp_path: Path) -> None:
    results = store(tmp_path / "one", plan_of(axes={FAST: (5, 9, 13)}), weighted(fast=1.0))
    [heat] = heat_maps(results, summarise(results))
    assert (heat.down, heat.mean.tolist()) == ("", [[5.0, 9.0, 13.0]])
    assert len(told(heat_plot(heat))) == 3
    alone = store(tmp_path / "none", plan_of(axes={FAST: (5,)}), weighted(fast=1.0))
    summary = summarise(alone)
    assert summary.axes == heat_maps(alone, summary) == ()
    assert told(nothing_varies()) == []


def test_combinations_that_do_not_occur_are_empty_cells(tmp_path: Path) -> None:
    axes = {"trade.size_mode": ("units", "equity"), STOP: {"values": (1.0, 2.0), "when": {"trade.size_mode": "units"}}}
    results = store(tmp_path, plan_of(axes=axes, params={STOP: 9.0}), lambda _: {"sharpe": 1.0})
    heat = heat_map(results, STOP, "trade.size_mode")
    assert heat.columns == ("1", "2", "9")
    assert heat.rows == ("equity", "units")
    assert heat.count.tolist() == [[0, 0, 1], [1, 1, 0]]
    assert told(heat_plot(heat)).count("no combo") == 3


def test_a_histogram_counts_every_combo_once(tmp_path: Path) -> None:
    results = store(tmp_path, plan_of(axes={STOP: tuple(float(v) for v in range(1, 201))}), scattered(3))
    summary = summarise(results)
    shown = histogram(results, summary)
    values = pl.concat(results.frames())["sharpe"].to_numpy()
    inside = (values >= shown.edges[1]) & (values < shown.edges[-2])
    assert shown.count.sum() == 200
    assert shown.count[1:-1].sum() == inside.sum()
    assert len(told(histogram_plot(shown, summary))) == np.count_nonzero(shown.count)


def test_what_lies_far_out_is_counted_in_the_last_bar(tmp_path: Path) -> None:
    plan = plan_of(axes={STOP: tuple(float(v) for v in range(1, 201))})
    results = store(tmp_path, plan, lambda point: {"sharpe": 1e6 if point["combo"] == 7 else point["combo"] / 100.0})
    summary = summarise(results)
    shown = histogram(results, summary)
    assert (shown.below, shown.above, int(shown.count[-1])) == (0, 1, 1)
    assert told(histogram_plot(shown, summary))[-1].endswith("1 of them beyond")


def test_a_metric_that_does_not_vary_still_makes_pictures(tmp_path: Path) -> None:
    results = store(tmp_path, plan_of(), lambda _: {"sharpe": 0.1})
    summary = summarise(results)
    assert {effect.share for effect in summary.axes} == {0.0}
    shown = histogram(results, summary)
    assert shown.count.sum() == 12
    for svg in (histogram_plot(shown, summary), axes_plot(summary.axes, "sharpe"), front_plot(summary.front)):
        ET.fromstring(svg)  # noqa: S314 - our own picture


def test_a_page_lists_figures_before_the_values_of_axes(tmp_path: Path) -> None:
    results = store(tmp_path, plan_of(), scattered(1))
    summary = summarise(results, "return_pct", 4)
    assert summary.front.height > 1
    page = read_page(page_of(results, summary, heat_maps(results, summary), histogram(results, summary)))
    axes = [path.rpartition(".")[2] for path, _ in results.plan.axes]
    front, best, _, _ = page.heads
    assert front == ["combo", "return, %", "drawdown, %", "turnover, USD", *axes]
    assert best[:4] == ["combo", "return, %", "Sharpe ratio", "drawdown, %"]
    assert best.index("trades") < best.index(axes[0]) < best.index("fees, USD")


def test_nobody_made_money(tmp_path: Path) -> None:
    results = store(tmp_path, plan_of(), lambda _: {"net_pnl_usd": -1.0, "return_pct": -0.01})
    summary = summarise(results)
    assert (summary.lost_frac, summary.front.height) == (1.0, 0)
    assert "the front is empty" in front_plot(summary.front)


def test_the_front_has_the_values_of_the_axes(tmp_path: Path) -> None:
    results = store(tmp_path, plan_of(), scattered(4))
    front = summarise(results).front
    assert front.columns == ["combo", FAST, SLOW, STOP, "return_pct", "max_drawdown_pct", "turnover_usd"]
    for row in front.iter_rows(named=True):
        combo = results.plan.combo(row["combo"])
        assert {path: row[path] for path in (FAST, SLOW, STOP)} == {path: combo[path] for path in (FAST, SLOW, STOP)}
    assert len(told(front_plot(front))) == front.height


POINTS = st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=60)


def frame_of(points: list[tuple[int, int, int]]) -> pl.DataFrame:
    names = ("return_pct", "max_drawdown_pct", "turnover_usd")
    return pl.DataFrame({"combo": range(len(points))} | {n: [float(p[i]) for p in points] for i, n in enumerate(names)})


@given(POINTS)
def test_the_front_is_who_nobody_beats(points: list[tuple[int, int, int]]) -> None:
    def beats(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
        return one != other and one[0] >= other[0] and one[1] <= other[1] and one[2] <= other[2]

    expected = {
        index
        for index, point in enumerate(points)
        if not any(beats(other, point) for other in points) and points.index(point) == index
    }
    assert set(pareto(frame_of(points))["combo"]) == expected


@given(POINTS, st.integers(0, 60))
def test_the_front_of_fronts_is_the_front_of_all(points: list[tuple[int, int, int]], cut: int) -> None:
    frame = frame_of(points)
    parts = pl.concat([pareto(frame.head(cut)), pareto(frame.tail(-cut) if cut else frame)])
    assert pareto(parts).equals(pareto(frame))


def test_a_large_front_of_many_blocks() -> None:
    rng = np.random.default_rng(5)
    angle = rng.uniform(0.0, np.pi / 2, 20_000)
    outer = pl.DataFrame(
        {
            "combo": np.arange(20_000),
            "return_pct": np.cos(angle),
            "max_drawdown_pct": -np.sin(angle),
            "turnover_usd": np.zeros(20_000),
        }
    )
    inner = outer.with_columns(pl.col("combo") + 20_000, pl.col("return_pct", "max_drawdown_pct") * 0.5)
    assert sorted(pareto(pl.concat([inner, outer]))["combo"]) == list(range(20_000))


def test_best_of_chunks_is_best_of_all(tmp_path: Path) -> None:
    results = store(tmp_path, plan_of(), scattered(6))
    rows = pl.concat(results.frames())
    assert best_of(results.frames(), 5, "trades").equals(top(rows, 5, "trades"))


def test_rows_of_some_combos_come_whole_and_in_order(tmp_path: Path) -> None:
    results = store(tmp_path, plan_of(), scattered(7))
    assert results.rows([7, 0, 11])["combo"].to_list() == [7, 0, 11]
    assert results.rows([7]).equals(pl.concat(results.frames()).filter(pl.col("combo") == 7))
    with pytest.raises(DataError, match="no row of combo 12 among 12"):
        results.rows([12])


def test_an_unfinished_sweep_is_read_as_far_as_it_is(tmp_path: Path) -> None:
    plan = plan_of()
    results = store(tmp_path, plan, scattered(8), partial=True, skip=(1,))
    assert (results.combos, results.finished) == (7, False)
    assert summarise(results).combos == 7
    folder = sweep_folder(tmp_path, plan)
    with pytest.raises(DataError, match=r"000000005-000000010\.parquet: 1 of 3 chunks are missing"):
        open_results(folder, plan)
    for index in (0, 2):
        chunk_path(folder, plan, index).unlink()
    with pytest.raises(DataError, match="no chunk is done yet; run it with `mei sweep resume"):
        open_results(folder, plan, partial=True)


def test_a_chunk_that_is_damaged_inside_is_named(tmp_path: Path) -> None:
    plan = plan_of()
    results = store(tmp_path, plan, scattered(9))
    path = chunk_path(sweep_folder(tmp_path, plan), plan, 1)
    content = bytearray(path.read_bytes())
    content[8 : len(content) // 2] = b"x" * (len(content) // 2 - 8)  # its footer still reads
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"000000005-000000010\.parquet: damaged result file: .*delete it and run"):
        list(results.frames())


def test_a_chunk_that_lacks_a_column_is_named(tmp_path: Path) -> None:
    plan = plan_of()
    results = store(tmp_path, plan, scattered(9))
    folder = sweep_folder(tmp_path, plan)
    write_chunk(folder, plan, 2, rows_of(plan, plan.chunk(2), scattered(9)).drop("sharpe"))
    with pytest.raises(DataError, match=r"000000010-000000012\.parquet: damaged"):
        summarise(results)


@pytest.mark.parametrize(
    ("numbers", "distinct"),
    [
        ([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]], True),
        ([[9, 3, 11, 0, 6], [1, 4, 8, 2, 10], [5, 7]], True),
        ([[0, 1, 2, 3, 3], [5, 6, 7, 8, 9], [10, 11]], False),
        ([[0, 1, 2, 3, 9], [5, 6, 7, 8, 9], [10, 11]], False),
        ([[9, 3, 11, 0, 6], [1, 4, 8, 2, 6], [5, 7]], False),
    ],
)
def test_a_combo_that_comes_twice_is_noticed(tmp_path: Path, numbers: list[list[int]], distinct: bool) -> None:
    plan = plan_of()
    folder = sweep_folder(tmp_path, plan)
    for index, chunk in enumerate(numbers):
        write_chunk(folder, plan, index, rows_of(plan, chunk, scattered(10)))
    assert all_distinct(open_results(folder, plan)) == distinct
    assert read_results(folder, plan).height == 12
