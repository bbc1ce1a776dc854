"""From rows of a sweep to judged finalists, and on to the registry."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from market_kit import DAY_MS, START_MS, fill_lake, write_config

from kernels.ledger import BLOCKS
from mei_pipeline import night
from mei_pipeline.config.load import Config
from mei_pipeline.config.models import Selection
from mei_pipeline.errors import DataError
from mei_pipeline.night import NightPlan
from mei_pipeline.registry.engine import open_registry
from mei_pipeline.registry.records import Occasion
from mei_pipeline.registry.store import lane_pointer, list_configs
from mei_pipeline.selection.candidates import (
    Candidates,
    candidates_frame,
    choose,
    read_candidates,
    shortlist,
    write_candidates,
)
from mei_pipeline.selection.deploy import propose
from mei_pipeline.selection.holdout import judge, p_value
from mei_pipeline.settings import Settings
from mei_pipeline.sweep.results import open_results
from mei_pipeline.sweep.run import run_sweep

AS_OF_MS = START_MS + 60 * DAY_MS
FINE = {"trades": 100.0, "sharpe": 3.0, "max_drawdown_pct": 10.0}


def rows(**columns: list[float]) -> pl.DataFrame:
    size = len(next(iter(columns.values())))
    base = {"combo": range(size), "sharpe": [1.0] * size, "trades": [50] * size, "liquidations": [0] * size}
    return pl.DataFrame(base | {"net_pnl_usd": [10.0] * size} | columns)


def test_the_shortlist_is_the_best_of_the_fit() -> None:
    table = rows(
        sharpe=[1.0, 5.0, 4.0, 9.0, 2.0],
        trades=[50, 50, 9, 50, 50],
        liquidations=[0, 0, 0, 1, 0],
        net_pnl_usd=[10.0, 10.0, 10.0, 10.0, -1.0],
    )
    kept, fell = shortlist([table], 10, 5)
    assert kept["combo"].to_list() == [1, 0]
    assert fell == {
        "liquidated in sample": 1,
        "fewer closed trades in sample than min_trades": 1,
        "no profit in sample": 1,
    }


def test_who_is_fit_but_not_among_the_best_is_counted() -> None:
    kept, fell = shortlist([rows(sharpe=[3.0, 2.0, 1.0])], 10, 2)
    assert kept["combo"].to_list() == [0, 1]
    assert fell == {"not among the finalists by Sharpe ratio in sample": 1}


def days(returns: list[float]) -> np.ndarray:
    table = np.zeros((BLOCKS, 3))
    for index, value in enumerate(returns):
        table[index % BLOCKS] += (1.0, value, value * value)
    return table


GOOD_DAYS = [0.01, 0.012, 0.008, 0.011] * 16


@pytest.mark.parametrize(
    ("in_sample", "out_of_sample", "returns", "fails"),
    [
        ({}, {}, GOOD_DAYS, None),
        ({"trades": 9.0}, {}, GOOD_DAYS, "min_trades"),
        ({}, {"trades": 4.0}, GOOD_DAYS, "min_trades_out_of_sample"),
        ({}, {"sharpe": 0.9}, GOOD_DAYS, "min_sharpe_out_of_sample"),
        ({}, {"max_drawdown_pct": 35.1}, GOOD_DAYS, "max_drawdown_pct"),
        ({}, {}, [0.01, -0.01] * 32, "significance"),
        ({}, {}, [0.0] * 64, "significance"),
    ],
)
def test_each_gate_by_itself_stops_a_finalist(
    in_sample: dict[str, float], out_of_sample: dict[str, float], returns: list[float], fails: str | None
) -> None:
    policy = Selection(min_trades=10, min_trades_out_of_sample=5)
    gates = judge(FINE | in_sample, FINE | out_of_sample, days(returns), 5, policy)
    assert [gate.name for gate in gates if gate.verdict != "pass"] == ([fails] if fails else [])


def test_days_without_variation_are_no_evidence() -> None:
    gates = judge(FINE, FINE, days([0.0] * 64), 1, Selection(min_trades=1, min_trades_out_of_sample=1))
    assert {gate.name: gate.verdict for gate in gates}["significance"] == "no evidence"


def test_more_finalists_make_the_test_stricter() -> None:
    returns = [0.01, -0.0075] * 32
    policy = Selection(min_trades=1, min_trades_out_of_sample=1, significance=0.2)
    verdicts = [judge(FINE, FINE, days(returns), judged, policy)[-1].verdict for judged in (1, 100)]
    assert verdicts == ["pass", "fail"]


def test_p_value_of_a_known_sample() -> None:
    # Mean 1, sample deviation 2, n = 16: t = 2, and 1 - Phi(2) = 0.02275.
    returns = np.array([3.0, -1.0] * 8)
    scale = 2.0 / returns.std(ddof=1)
    values = (returns - 1.0) * scale + 1.0
    chance = p_value(16, float(values.sum()), float((values**2).sum()))
    assert chance is not None
    assert math.isclose(chance, 0.0227501319, rel_tol=1e-6)
    assert p_value(1, 0.1, 0.01) is None


def test_p_values_of_noise_are_uniform() -> None:
    rng = np.random.default_rng(3)
    chances = []
    for _ in range(2000):
        values = rng.normal(0.0, 0.01, 100)
        chances.append(p_value(100, float(values.sum()), float((values**2).sum())) or 0.0)
    assert abs(np.mean(np.array(chances) < 0.05) - 0.05) < 0.015


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return write_config(tmp_path / "config")


def run_night(settings: Settings, config: Config, drift: float) -> tuple[NightPlan, Candidates]:
    fill_lake(settings, drift=drift)
    plan = night.plan_night(settings, config, "smoke", AS_OF_MS)
    night.write_plan(settings, plan)
    bars = night.night_bars(settings, plan)
    features = night.night_features(settings, plan, bars)
    done = run_sweep(settings, plan.sweep, night.search_window(plan, bars), features)
    return plan, choose(settings, plan, bars, features, open_results(done.folder, plan.sweep))


def test_noise_proposes_nothing_and_says_why(mei_settings: Settings, config: Config) -> None:
    plan, chosen = run_night(mei_settings, config, drift=0.0)
    assert not any(finalist.passed for finalist in chosen.finalists)
    assert sum(chosen.fell.values()) + len(chosen.finalists) == chosen.combos == 12
    found = propose(mei_settings, config, plan, chosen, Occasion(AS_OF_MS, "test", "night", "test"))
    assert found.lanes[0].new is None
    assert found.lanes[0].reason.startswith("nothing, because")


def test_candidates_read_back_as_written(mei_settings: Settings, config: Config) -> None:
    plan, chosen = run_night(mei_settings, config, drift=0.003)
    with pytest.raises(DataError, match="materialise `candidates`"):
        read_candidates(mei_settings, plan)
    write_candidates(mei_settings, plan, chosen)
    assert read_candidates(mei_settings, plan) == chosen
    assert candidates_frame(chosen).height == len(chosen.finalists)


def test_every_finalist_is_registered_with_its_verdict_and_no_pointer_moves(
    mei_settings: Settings, config: Config
) -> None:
    plan, chosen = run_night(mei_settings, config, drift=0.003)
    assert chosen.finalists
    propose(mei_settings, config, plan, chosen, Occasion(AS_OF_MS, "test", "night", "test"))
    registry = open_registry(mei_settings.registry)
    assert {story.config.config_id for story in list_configs(registry)} == {f.config_id for f in chosen.finalists}
    assert lane_pointer(registry, "paper1") is None
