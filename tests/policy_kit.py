"""Policies for small markets: every gate is asked for, and as lax as it goes, so that a few days are enough to pass."""

from pathlib import Path
from typing import Any

import yaml

from mei_pipeline.config.document import parse_document
from mei_pipeline.config.models import PolicyConfig, Selection

NEVER = 1e-9
"""Least of a threshold that must lie above 0; less it from 1, the greatest of one that must lie below 1."""


def policy(**changes: Any) -> dict[str, Any]:
    """The content of policy.yaml; `changes` are of gates, of roles or of `selection`, whichever has the key."""
    gates = {
        "min_trades": 1,
        "min_sharpe": -20,
        "min_median_day_pct": -100,
        "max_drawdown_pct": 100,
        "min_profit_factor": 0,
        "stress": {"slippage_bps": [2], "fee_multiples": [1.5], "delay_bars": 1, "min_return_pct": -100},
        "max_symbol_share": 1,
        "max_trade_share": 1,
        "max_day_share": 1,
        "min_plateau_frac": 0,
        "max_bootstrap_p": 1 - NEVER,
        "max_monte_carlo_drawdown_pct": 100,
        "min_sharpe_without_best_symbol": None,
        "min_recent_probability": None,
        "min_holdout_probability": None,
        "min_holdout_symbols_sharpe": None,
        "max_crisis_drawdown_pct": None,
        "max_overfitting_probability": 1 - NEVER,
        "max_search_loss_probability": 1 - NEVER,
        "min_deflated_sharpe": NEVER,
        "max_spa_cash_p": 1 - NEVER,
        "max_spa_buy_and_hold_p": 1 - NEVER,
    }
    roles = {
        "max_correlation": 1,
        "min_run_days": 0,
        "min_gain_sharpe": 0,
        "max_incumbent_drawdown_pct": 100,
        "min_incumbent_profit_factor": 0,
    }
    selection: dict[str, Any] = {
        "candidates": 3,
        "holdout_symbols": 0,
        "walk_forward": {"window": "anchored", "train_blocks": 4, "test_blocks": 1, "embargo_days": 1},
        "gates": gates,
        "roles": roles,
    }
    for key, value in changes.items():
        next((part for part in (gates, roles) if key in part), selection)[key] = value
    return {"selection": selection}


def policy_text(**changes: Any) -> str:
    """The same as the text of the file."""
    return yaml.safe_dump(policy(**changes), sort_keys=False)


def selection_of(**changes: Any) -> Selection:
    """The same as it is read."""
    found: PolicyConfig = parse_document(policy_text(**changes).encode(), Path("policy.yaml"), PolicyConfig).model
    return found.selection
