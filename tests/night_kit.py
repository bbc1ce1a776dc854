"""A whole small night without Dagster: a lake, a configuration, and every station once."""

from pathlib import Path

from market_kit import DAY_MS, START_MS, VENUE, fill_lake

from mei_pipeline.config.load import Configuration, load_config
from mei_pipeline.night.data import build_night_features, load_night_bars, search_window
from mei_pipeline.night.plan import NightPlan, plan_night
from mei_pipeline.night.store import write_night_plan
from mei_pipeline.promotion.pipeline import assign_lanes, propose_configs
from mei_pipeline.promotion.promote_proposals import promote_proposals
from mei_pipeline.registry.database import open_registry
from mei_pipeline.registry.lanes import configured_lanes
from mei_pipeline.registry.records import AuditContext
from mei_pipeline.selection.pipeline import judge_candidates, run_walk_forward, select_candidates
from mei_pipeline.settings import Settings, read_settings
from mei_pipeline.sweep.run import run_sweep

AS_OF_MS = START_MS + 60 * DAY_MS
NOW_MS = AS_OF_MS + 3_600_000
LANES = {"paper1": "primary", "paper2": "fallback"}

_PIPELINE = f"""\
venue: {VENUE}
start: 2025-01
intervals: [1h]
anchors: {{1h: 2025-01-01T00:00:00Z}}
universe: all
sources: []
window: {{days: 50, holdout_days: 10}}
profiles: {{smoke: {{sweep: smoke}}}}
"""
# As lax as thresholds go but for the least Sharpe ratio, which says who passes.
_POLICY = """\
selection:
  candidates: 2
  holdout_symbols: 1
  walk_forward: {{window: anchored, train_blocks: 8, test_blocks: 2, embargo_days: 0}}
  gates:
    min_trades: 1
    min_sharpe: {sharpe}
    min_median_day_pct: -100
    max_drawdown_pct: 100
    min_profit_factor: 0
    stress: {{slippage_bps: [2], fee_multiples: [2], delay_bars: 1, min_return_pct: -100}}
    max_symbol_share: 1
    max_trade_share: 1
    max_day_share: 1
    min_plateau_frac: 0
    max_bootstrap_p: 0.999999
    max_monte_carlo_drawdown_pct: 100
    min_sharpe_without_best_symbol: null
    min_recent_probability: null
    min_holdout_probability: null
    min_holdout_symbols_sharpe: null
    max_crisis_drawdown_pct: null
    max_overfitting_probability: 0.999999
    max_search_loss_probability: 0.999999
    min_deflated_sharpe: 0.000001
    max_spa_cash_p: 0.999999
    max_spa_buy_and_hold_p: 0.999999
  roles:
    max_correlation: 1
    min_run_days: 7
    min_gain_sharpe: 0
    max_incumbent_drawdown_pct: 100
    min_incumbent_profit_factor: 0
"""
_SWEEP = """\
strategy: ema_cross
interval: 1h
market: {{taker_fee_bps: {fee}}}
params: {{entry.warmup_bars: 50}}
chunk_combos: 5
axes:
  indicators.ema_fast_window: [5, 9, 13]
  indicators.ema_slow_window: [21, 34]
  trade.sl_atr_mult: [1.5, 3.0]
"""


def write_night_config(folder: Path, *, sharpe: float = -20.0, fee: float = 4.5) -> Configuration:
    """A configuration folder for `run_night`, and what it says.

    Args:
        folder: Where.
        sharpe: What `min_sharpe` asks for.
        fee: What a fill costs in bps; enough of it and no combo makes money.
    """
    (folder / "sweeps").mkdir(parents=True)
    (folder / "lanes").mkdir()
    (folder / "pipeline.yaml").write_text(_PIPELINE)
    (folder / "policy.yaml").write_text(_POLICY.format(sharpe=sharpe))
    (folder / "sweeps" / "smoke.yaml").write_text(_SWEEP.format(fee=fee))
    for name, role in LANES.items():
        (folder / "lanes" / f"{name}.yaml").write_text(f"mode: paper\nvenue: {VENUE}\nrole: {role}\n")
    return load_config(folder)


def run_night(settings: Settings, config: Configuration, *, promote: bool = True) -> NightPlan:
    """Every station from the plan to the promotion, once."""
    plan = plan_night(settings, config, "smoke", AS_OF_MS)
    write_night_plan(settings, plan)
    bars = load_night_bars(settings, plan)
    run_sweep(settings, plan.sweep, search_window(plan, bars), build_night_features(settings, plan, bars))
    run_walk_forward(settings, plan)
    select_candidates(settings, plan)
    judge_candidates(settings, plan, open_registry(settings.registry), NOW_MS)
    assign_lanes(settings, config, plan, NOW_MS)
    audit = AuditContext(NOW_MS, "test", "a night", f"night {plan.id}")
    propose_configs(settings, config, plan, audit)
    if promote:
        registry, lanes = open_registry(settings.registry), configured_lanes(config.lanes)
        promote_proposals(registry, settings.lanes, lanes, policy_id=plan.selection.id, audit=audit)
    return plan


def make_night(home: Path, *, sharpe: float = -20.0, fee: float = 4.5) -> NightPlan:
    """A home with a lake whose trends hold an edge, after one night; `MEI_HOME` is that home."""
    config = write_night_config(home / "config", sharpe=sharpe, fee=fee)
    settings = read_settings()
    fill_lake(settings, drift=0.0015)
    return run_night(settings, config)
