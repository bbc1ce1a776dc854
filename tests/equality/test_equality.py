"""The numbers of this version are those of the version before, bit for bit, under its names."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from equality_kit import Names, arithmetic, changes, differences, number_of, overlaid, record
from equality_runs import run_all

from mei_pipeline.settings import Settings

BASELINE = Path(__file__).parent / "baseline.json"
"""Written by `make_baseline.py` with the version before."""

# A new name counts where it is there; where it is not, the old one must be.
KEYS = {
    # files of a nightly run
    "walk.json": "walk_forward.json",
    "chains.npz": "stitched.npz",
    # their content, and the evidence in the registry
    "slot": "rank",
    "slots": "ranks",
    "slots.number": "rank",
    "finalists": "candidates",
    "fell": "rejected",
    "fell_at": "rejected_at",
    "looks": "trials",
    "effective_looks": "effective_trials",
    "luck": "selection_bias",
    "luck.trials": "combos",
    "round_trips": "trades",
    "picks": "selected",
    "measured.loss_probability": "bootstrap_p",
    "shuffled_drawdown_pct": "monte_carlo_drawdown_pct",
    "other_symbols_sharpe": "holdout_symbols_sharpe",
    "nothing_p": "spa_cash_p",
    "basket_p": "spa_buy_and_hold_p",
    # replays
    "asked": "evaluated",
    "shut": "closed",
    "shut_pct": "closed_pct",
    "levers": "parameter_effects",
    "report.holding": "open_positions",
    "fills.trip": "trade",
    # columns of the segments
    "trip_symbols": "trade_symbols",
    "trip_profits": "trade_profits",
    "trip_days_ms": "trade_days_ms",
}
VALUES = {
    "min_round_trips": "min_trades",
    "max_loss_probability": "max_bootstrap_p",
    "max_shuffled_drawdown_pct": "max_monte_carlo_drawdown_pct",
    "min_other_symbols_sharpe": "min_holdout_symbols_sharpe",
    "max_snooping_p": "max_spa_cash_p",
    "max_basket_p": "max_spa_buy_and_hold_p",
    "slot 0": "rank 0",
    "slot 1": "rank 1",
}
_OF_KERNELS = "holds the hash of the kernels, whose sources change"
_OF_NAMES = "is the hash of content whose keys are renamed"
LEFT_OUT = {
    "kernel_hash": "is the hash of the kernels, whose sources change",
    "evidence_id": _OF_KERNELS,
    "night": _OF_KERNELS,
    "night_id": _OF_KERNELS,
    "verdict_id": _OF_KERNELS,
    "transition_id": _OF_KERNELS,
    "policy_id": _OF_NAMES,
    "metrics_id": _OF_NAMES,
    "look_id": _OF_NAMES,
    "trial_id": "is the new name of `look_id`",
    "explanation": "is prose",
    "proposals.reason": "is prose",
    "roles.json.reason": "is prose",
    "notes": "is prose",
    "gates.gate": "is prose",
    "benchmark.name": "is prose",
    "trigger": "names the night by its id",
    "report.config": "has its hash in `config_id`",
    "finalists.params": "has its hash in `config_id`",
    "candidates.params": "is the new name of `finalists.params`",
    "why": "is prose",
    "failed": "is prose",
    "unfit": "is prose",
}
NAMES = Names(KEYS, VALUES, LEFT_OUT, frozenset({"fell", "rejected"}))

KNOWN = Path(__file__).parent / "known_differences.json"
"""By path, the numbers that differ from those of the version before; written by `make_baseline.py --known`.

The fee of the close at the end of a segment is now one of the slipped notional, as of every other close: it changes by
the fee rate times the slippage times the notional.
"""
GREATEST = 2e-4
"""Greatest relative difference among them: of the profit of one trade of 24 cents."""
GREATEST_EQUITY = 5e-8
"""The same of equity at the end of a segment."""


def made(home: Path) -> dict[str, Any]:
    """Run everything in an empty home and return the record."""
    return record(run_all(Settings(home=home / "home"), home / "config"), NAMES)


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The record of this version."""
    return made(tmp_path_factory.mktemp("equality"))


@pytest.fixture(scope="module")
def before() -> dict[str, Any]:
    """The record of the version before."""
    return json.loads(BASELINE.read_bytes())


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    """The known differences by path."""
    return json.loads(KNOWN.read_bytes())


@pytest.mark.parametrize("part", ["sweeps", "nights", "registry", "replays"])
def test_numbers_are_those_of_the_version_before(before, now, known, part):
    exact = before["arithmetic"] == arithmetic()
    expected = overlaid(before, known)
    assert differences(expected[part], now[part], NAMES, exact=exact) == []


def test_known_differences_are_numbers_and_small(before, known):
    found = list(changes(before, overlaid(before, known), NAMES))
    assert len(found) == len(known)
    for path, old, new in found:
        one, other = number_of(old), number_of(new)
        if path[-1] == "sha256":
            continue
        assert one is not None, path
        assert other is not None, path
        assert other == pytest.approx(one, rel=GREATEST_EQUITY if path[-2] == "curve" else GREATEST), path


def test_a_changed_last_bit_and_a_missing_key_are_found(before):
    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: changed(each) for key, each in value.items()}
        if isinstance(value, list):
            return [changed(each) for each in value]
        if not str(value).lstrip("-").startswith("0x1"):
            return value
        return math.nextafter(float.fromhex(value), math.inf).hex()

    gates = before["nights"]["cross"]["gates.json"]
    found = differences(gates, changed(gates), NAMES)
    assert any(line.startswith("search/overfitting_probability: ") for line in found)
    assert differences(gates, changed(gates), NAMES, exact=False) == []
    column = np.array([1.0, 2.0, math.nan])
    one, other = (record({"sharpe": values}, NAMES) for values in (column, np.nextafter(column, 3.0)))
    assert [line.split(":")[0] for line in differences(one, other, NAMES)] == [
        f"sharpe/{part}" for part in ("sha256", "first", "last", "sum") if one["sharpe"][part] != other["sharpe"][part]
    ]
    assert differences({"a": 1}, {"b": 1}, NAMES) == [
        "a: 1 before, '(absent)' now",
        "b: '(absent)' before, 1 now",
    ]
    assert differences([1, True, (1.0).hex()], [1, 1, 1], NAMES) == [
        "1: True before, 1 now",
        "2: 1.0 (0x1.0000000000000p+0) before, 1 now",
    ]


def test_new_names_are_let_through():
    old = {"nights": {"one": {"sharpe": (1.0).hex(), "slot": 0, "name": "max_basket_p", "why": "so"}}}
    new = {"nights": {"one": {"sharpe": (1.0).hex(), "rank": 0, "name": "max_spa_buy_and_hold_p"}}}
    assert differences(old, new, NAMES) == []
    new["nights"]["one"]["rank"] = 1
    assert differences(old, new, NAMES) == ["nights/one/slot: 0 before, 1 now"]
    assert differences(overlaid(old, {"nights/one/slot": 1}), new, NAMES) == []
