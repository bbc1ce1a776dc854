"""Keys of earlier versions. A file that still has one is refused, and the error names the key to write instead."""

from collections.abc import Mapping

RENAMED: Mapping[str, Mapping[str, str]] = {
    "Compute": {"run": "backend"},
    "PipelineConfig": {"engine": "compute"},
    "Selection": {"finalists": "candidates", "other_symbols": "holdout_symbols"},
    "Gates": {
        "min_round_trips": "min_trades",
        "max_loss_probability": "max_bootstrap_p",
        "max_shuffled_drawdown_pct": "max_monte_carlo_drawdown_pct",
        "min_other_symbols_sharpe": "min_holdout_symbols_sharpe",
        "max_snooping_p": "max_spa_cash_p",
        "max_basket_p": "max_spa_buy_and_hold_p",
    },
}
"""By class name of the section's model: old key to new key of the same section."""
