"""Sweeps that run a part of a grid: the same rows wherever one was killed, and however many chunks are at work."""

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from market_kit import DAY_MS, START_MS, SYMBOLS, VENUE, fill_lake, spec
from polars.testing import assert_frame_equal
from result_kit import read_results

from mei_pipeline import files
from mei_pipeline.errors import DataError
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.feature_sets import FeatureSet, build_features
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.simulation.window import Window, cut_window
from mei_pipeline.sweep.launches import Launch
from mei_pipeline.sweep.plan import SweepPlan, make_plan
from mei_pipeline.sweep.results import chunk_path, sweep_folder
from mei_pipeline.sweep.run import run_chunks, run_sweep
from mei_pipeline.sweep.search.methods import SearchMethod, make_method, scores

FROM_MS, TO_MS = START_MS + 10 * DAY_MS, START_MS + 50 * DAY_MS
AXES = {
    "trade.sl_atr_mult": {"from": 1.0, "to": 3.0, "step": 0.5},
    "trade.tp_atr_mult": {"values": (2.0, 3.0, 4.0), "when": {"trade.size_mode": "units"}},
    "trade.size_mode": ("units", "equity"),
    "indicators.ema_fast_window": (5, 9, 13),
    "indicators.ema_slow_window": (21, 34),
}
GRID = 5 * (3 + 1) * 6


@pytest.fixture
def bars(mei_settings: Settings) -> Bars:
    return load_bars(fill_lake(mei_settings), VENUE, "1h", SYMBOLS, START_MS, START_MS + 60 * DAY_MS)


@pytest.fixture
def cut(bars: Bars) -> Window:
    return cut_window(bars, FROM_MS, TO_MS)


@pytest.fixture
def features(mei_settings: Settings, bars: Bars) -> FeatureSet:
    return build_features(bars, plan_of(bars).columns(), mei_settings.features)


def plan_of(bars: Bars, method: str = "tpe", **changes: object) -> SweepPlan:
    given = {"method": method, "budget": 60, "chunk_combos": 6, "axes": AXES}
    if method == "tpe":
        given |= {"min_trades": 5, "batch": 6}
    return make_plan(spec(**{**given, **changes}), bars, FROM_MS, TO_MS)


def run(settings: Settings, plan: SweepPlan, cut: Window, features: FeatureSet) -> pl.DataFrame:
    return read_results(run_sweep(settings, plan, cut, features).folder, plan)


def elsewhere(settings: Settings, name: str) -> Settings:
    return settings.model_copy(update={"home": settings.home / name})


@dataclass
class Table:
    """A runner that looks rows up, the chunk that came last first."""

    folder: Path
    plan: SweepPlan
    choice: SearchMethod
    outcome: pl.DataFrame
    ahead: int
    pool: ThreadPoolExecutor
    at_once: int = 0
    device: str = "none"
    asked: dict[int, list[int]] = field(default_factory=dict)
    launches: list[list[int]] = field(default_factory=list)
    waiting: list[tuple[int, int, Future[None]]] = field(default_factory=list)
    most: int = 0

    def prepare(self) -> None:
        """Nothing to compile."""

    def submit(self, launch: Launch) -> Mapping[Future[None], Sequence[int]]:
        self.launches.append([chunk.index for chunk in launch])
        needed = max(self.choice.chunks_needed(chunk.index) for chunk in launch)
        assert all(chunk_path(self.folder, self.plan, index).exists() for index in range(needed))
        found: dict[Future[None], Sequence[int]] = {}
        for index, numbers in ((chunk.index, chunk.numbers) for chunk in launch):
            self.asked[index] = numbers.tolist()
            future: Future[None] = Future()
            self.waiting.append((len(self.launches), index, future))
            found[future] = (index,)
        self.most = max(self.most, len({number for number, *_ in self.waiting}))
        for _ in launch:
            self.pool.submit(self._newest)
        return found

    def _newest(self) -> None:
        _, index, future = self.waiting.pop()
        path = chunk_path(self.folder, self.plan, index)
        with files.replacing(path) as temporary:
            pl.DataFrame({"combo": self.asked[index]}).join(self.outcome, on="combo", how="left").write_parquet(
                temporary
            )
        future.set_result(None)


def table_of(folder: Path, plan: SweepPlan, ahead: int, at_once: int = 0) -> Table:
    """A finished search, of which so many launches of so many combos were at work at a time."""
    rng = np.random.default_rng(4)
    trades, sharpe = rng.integers(0, 40, GRID), rng.normal(size=GRID)
    outcome = pl.DataFrame({"combo": range(GRID), "trades": trades, "sharpe": sharpe})
    with ThreadPoolExecutor(1) as pool:
        runner = Table(folder, plan, make_method(plan, folder), outcome, ahead, pool, at_once)
        order = list(run_chunks(runner, plan, range(plan.chunks), runner.choice))
    assert sorted(order) == list(range(plan.chunks))
    assert runner.most <= ahead
    return runner


def asked_of(folder: Path, plan: SweepPlan, ahead: int) -> dict[int, list[int]]:
    """The combos of each chunk when so many are at work at a time."""
    return table_of(folder, plan, ahead).asked


def in_order(table: Table) -> list[int]:
    """The combos in the order of their places."""
    return [number for index in sorted(table.asked) for number in table.asked[index]]


@pytest.mark.parametrize("lag", [1, 2, 4])
def test_proposals_depend_neither_on_launches_nor_on_chunks(bars: Bars, tmp_path: Path, lag: int) -> None:
    found = []
    for chunk, ahead, at_once in ((5, 1, 0), (5, 7, 0), (3, 2, 11), (9, 3, 1000), (2, 1, 4)):
        plan = plan_of(bars, lag=lag, batch=5, chunk_combos=chunk)
        found.append(in_order(table_of(tmp_path / f"{chunk} {ahead}", plan, ahead, at_once)))
    assert found[1:] == found[:1] * (len(found) - 1)
    assert len(set(found[0])) == len(found[0]) == 60


def test_a_launch_takes_the_neighbours_whose_combos_can_be_chosen(bars: Bars, tmp_path: Path) -> None:
    plan = plan_of(bars, "grid", budget=None, chunk_combos=10)
    assert table_of(tmp_path / "grid", plan, 2, 35).launches == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    plan = plan_of(bars, lag=2, batch=6, chunk_combos=4)  # files of 4 and 2
    assert plan.chunks == 20
    assert table_of(tmp_path / "tpe", plan, 1, 1000).launches == [[*range(n, n + 4)] for n in range(0, 20, 4)]
    assert table_of(tmp_path / "few", plan, 1, 11).launches[:3] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_no_file_holds_combos_of_two_batches(bars: Bars) -> None:
    plan = plan_of(bars, budget=57, batch=5, chunk_combos=3)
    places = [plan.chunk(index) for index in range(plan.chunks)]
    assert [place for part in places for place in part] == list(range(57))
    assert all(part.start // 5 == (part.stop - 1) // 5 for part in places)
    assert {len(part) for part in places} == {3, 2}


def test_a_batch_of_which_some_files_are_there_is_proposed_again(bars: Bars, tmp_path: Path) -> None:
    plan = plan_of(bars, lag=2, batch=5, chunk_combos=2)
    whole = asked_of(tmp_path, plan, 2)
    for gone in ((1,), (3, 4, 7), tuple(range(10, plan.chunks))):
        choice = make_method(plan, tmp_path)
        assert {index: choice.numbers(index).tolist() for index in gone} == {index: whole[index] for index in gone}


def test_a_batch_waits_for_the_chunks_that_it_is_proposed_from(bars: Bars, tmp_path: Path) -> None:
    plan = plan_of(bars, lag=3)
    choice = make_method(plan, tmp_path)
    assert [choice.chunks_needed(index) for index in range(6)] == [0, 0, 0, 1, 2, 3]
    asked_of(tmp_path, plan, 1)
    first = make_method(plan, tmp_path).numbers(5)
    for index in (3, 4, 5):  # numbers of 3 and 4 come from their own proposals, and what came of them is not needed
        chunk_path(tmp_path, plan, index).unlink()
    again = make_method(plan, tmp_path)
    assert [again.numbers(index).tolist() for index in (3, 4, 5)][-1] == first.tolist()


def test_other_results_and_other_seeds_lead_elsewhere(bars: Bars, tmp_path: Path) -> None:
    plan = plan_of(bars)
    asked = asked_of(tmp_path / "one", plan, 2)
    assert asked_of(tmp_path / "two", plan_of(bars, seed=1), 2) != asked
    shutil.copytree(tmp_path / "one", tmp_path / "three")
    path = chunk_path(tmp_path / "three", plan, 3)
    turned = pl.read_parquet(path).with_columns(sharpe=100 - pl.col("sharpe"))
    turned.write_parquet(path)
    proposed = make_method(plan, tmp_path / "three")
    assert proposed.numbers(4).tolist() == asked[4]  # the chunk before it is not waited for
    assert proposed.numbers(5).tolist() != asked[5]


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_a_part_of_the_grid_is_run_once_and_said_right(
    mei_settings: Settings, bars: Bars, cut: Window, features: FeatureSet, method: str
) -> None:
    plan = plan_of(bars, method)
    assert (plan.combos, plan.chunks, plan.grid.combos) == (60, 10, GRID)
    rows = run(mei_settings, plan, cut, features)
    assert rows.height == rows["combo"].n_unique() == 60
    assert rows["combo"].is_between(0, GRID, closed="left").all()
    for row in rows.iter_rows(named=True):
        combo = plan.combo(row["combo"])
        assert {path: row[path] for path, _ in plan.axes} == {path: combo[path] for path, _ in plan.axes}


def test_rows_of_a_part_are_those_of_the_whole(
    mei_settings: Settings, bars: Bars, cut: Window, features: FeatureSet
) -> None:
    whole = run(mei_settings, plan_of(bars, "grid", budget=None, chunk_combos=None), cut, features)
    for method in ("random", "tpe"):
        rows = run(mei_settings, plan_of(bars, method), cut, features)
        expected = whole.filter(pl.col("combo").is_in(rows["combo"].to_list()))
        assert_frame_equal(rows.sort("combo"), expected, check_exact=True)


def test_a_sample_does_not_depend_on_chunks_and_is_no_prefix(
    mei_settings: Settings, bars: Bars, cut: Window, features: FeatureSet
) -> None:
    plan = plan_of(bars, "random")
    rows = run(mei_settings, plan, cut, features)
    rechunked = plan_of(bars, "random", chunk_combos=17)
    assert rechunked.id == plan.id
    assert_frame_equal(run(mei_settings, rechunked, cut, features).sort("combo"), rows.sort("combo"), check_exact=True)
    larger = plan_of(bars, "random", budget=61)
    assert larger.id != plan.id
    found = set(run(mei_settings, larger, cut, features)["combo"].to_list())
    assert found > set(rows["combo"].to_list())
    assert rows["combo"].sum() not in {sum(range(60)), sum(range(GRID - 60, GRID))}
    assert set(rows["combo"].to_list()) != set(
        run(mei_settings, plan_of(bars, "random", seed=1), cut, features)["combo"]
    )


@pytest.mark.parametrize("after", [(1, 5), pytest.param(range(10), marks=pytest.mark.long)])
@pytest.mark.parametrize("method", ["random", "tpe"])
def test_killed_anywhere_it_ends_identical(
    mei_settings: Settings, bars: Bars, cut: Window, features: FeatureSet, method: str, after: Sequence[int]
) -> None:
    plan = plan_of(bars, method, budget=40, chunk_combos=4, **({"batch": 4} if method == "tpe" else {}))
    whole = run(mei_settings, plan, cut, features)
    folder = sweep_folder(mei_settings.sweeps, plan)
    assert plan.chunks == 10
    for done in after:
        for hole in {done, max(0, done - 1)}:  # the last chunk may be on disk before the one before it
            again = elsewhere(mei_settings, f"{done} {hole}")
            target = sweep_folder(again.sweeps, plan)
            shutil.copytree(folder, target)
            for index in {hole, *range(done + 1, plan.chunks)}:
                chunk_path(target, plan, index).unlink()
            assert_frame_equal(run(again, plan, cut, features), whole, check_exact=True)


def test_a_damaged_chunk_teaches_nothing(bars: Bars, tmp_path: Path) -> None:
    plan = plan_of(bars)
    asked_of(tmp_path, plan, 1)
    path = chunk_path(tmp_path, plan, 0)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"000000000-000000006\.parquet: damaged result file"):
        make_method(plan, tmp_path).numbers(3)


def test_ids_say_what_is_searched_and_how(bars: Bars) -> None:
    plans = [
        plan_of(bars),
        plan_of(bars, batch=5),
        plan_of(bars, lag=3),
        plan_of(bars, objective="return_pct"),
        plan_of(bars, min_trades=6),
        plan_of(bars, seed=7),
        plan_of(bars, budget=61),
        plan_of(bars, "random"),
        plan_of(bars, "grid", budget=None),
    ]
    assert len({plan.id for plan in plans}) == len(plans)
    assert plan_of(bars, chunk_combos=5).id == plans[0].id


def test_few_trades_are_worse_than_any_result_and_the_worse_the_fewer() -> None:
    frame = pl.DataFrame({"trades": [9, 10, 11, 0, 10], "profit_factor": [5.0, 0.0, None, None, -2.0]})
    found = scores(frame, "profit_factor", 10)
    assert np.argsort(-found).tolist() == [2, 1, 4, 0, 3]
    assert found[2] == np.inf
