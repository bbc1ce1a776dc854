"""Random and adversarial books: hypothesis draws the shape, the numbers come from a drawn seed."""

import math
from collections.abc import Collection
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from kernel_kit import Case, Script
from naive import Bar, Clock, Rules, Sizing, Symbol

from kernels.params import Parameter, Value

SHAPES = ("walk", "zigzag", "jumps", "points", "constant", "denormal", "enormous")

CLOCKS = (Clock(), Clock(4, 4, 1, 15.0), Clock(2, 1, 2, 30.0), Clock(4, 2, 1, 15.0), Clock(1, 2, 3, 5.0))
"""Steps that are main bars; finer exits; finer entries; both; and decisions that are rarer than steps."""

NAMES = (
    ("BTC", "ETH", "SOL", "XRP", "ADA"),
    ("ETH", "BTCUSDT", "BTC", "SOL", "XRP"),
    ("ETH", "SOL", "XRP", "ADA", "BNB"),
)


def _path(rng: np.random.Generator, shape: str, bars: int) -> list[Bar]:
    start = {"denormal": 5e-322, "enormous": 1e295}.get(shape, float(np.exp(rng.normal(3, 1))))
    step = {"constant": 0.0, "jumps": 0.9, "zigzag": 0.1}.get(shape, 0.02)
    moves = rng.normal(0, step, (bars, 4)) if step else np.zeros((bars, 4))
    if shape == "zigzag":
        moves = np.abs(moves) * np.where(np.arange(bars) % 6 < 3, 1, -1)[:, None]
    prices = np.maximum(start * np.exp(np.cumsum(moves.ravel()).reshape(bars, 4)), math.ulp(0.0))
    bars_made = []
    for opened, one, two, closed in prices.tolist():
        if shape == "points":
            bars_made.append(Bar(closed, closed, closed, closed))
        else:
            group = (opened, one, two, closed)
            bars_made.append(Bar(opened, max(group), min(group), closed))
    return bars_made


def random_symbol(rng: np.random.Generator, shape: str, bars: int, gaps: float) -> Symbol:
    """A symbol with a path of a shape, random gaps, funding and terms."""
    made: list[Bar | None] = list(_path(rng, shape, bars))
    if gaps:
        listed, ends = sorted(rng.integers(0, bars + 1, 2)) if rng.random() < 0.3 else (0, bars)
        made = [bar if listed <= t < ends and rng.random() >= gaps else None for t, bar in enumerate(made)]
    funding = np.where(rng.random(bars) < 0.3, rng.normal(0, 0.003, bars), 0.0).tolist()
    there = [t for t, bar in enumerate(made) if bar is not None]
    ended = bool(there) and there[-1] < bars - 1
    later = ({"lots": 10.0, "max_leverage": 4.0}, {"lots": 1000.0, "maintenance_frac": 0.05})
    return Symbol(
        made,
        funding if rng.random() < 0.6 else [0.0] * bars,
        lots=float(10 ** rng.integers(0, 9)),
        min_notional_usd=float(rng.choice([0.0, 0.0, 10.0, 300.0])),
        max_leverage=float(rng.choice([3.0, 20.0, 50.0])),
        maintenance_frac=float(rng.choice([0.0, 0.01, 0.2])),
        last=there[-1] if ended and len(there) % 2 else -1,  # no draw: markets stay those of their seeds
        later=tuple((bars * part // 3, later[part - 1]) for part in (1, 2)) if len(there) % 3 == 1 else (),
    )


@st.composite
def symbol_lists(draw, max_bars: int = 60, max_symbols: int = 6) -> list[Symbol]:
    """One to six symbols, with all kinds of paths, gaps, listings and endings."""
    bars = draw(st.sampled_from([max_bars, max_bars, max_bars // 2, max_bars // 2, 9, 2, 1]))
    usual = st.sampled_from(SHAPES[:3])
    shapes = draw(st.lists(usual | st.sampled_from(SHAPES), min_size=1, max_size=max_symbols))
    gaps = draw(st.sampled_from([0.0, 0.0, 0.1, 0.5]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return [random_symbol(rng, shape, bars, gaps) for shape in shapes]


def all_rules() -> st.SearchStrategy[Rules]:
    """Every fill model, cheap and dear, rich and poor."""
    return st.builds(
        Rules,
        next_open=st.booleans(),
        intrabar=st.booleans(),
        delay_bars=st.sampled_from([0, 0, 1, 2, 5]),
        fee=st.sampled_from([0.0, 0.00045, 0.01]),
        entry_slip=st.sampled_from([0.0, 0.0005, 0.03]),
        exit_slip=st.sampled_from([0.0, 0.0005, 0.03]),
        initial_usd=st.sampled_from([10_000.0, 100.0, 1e6]),
    )


def all_sizings() -> st.SearchStrategy[Sizing]:
    """Fractions of equity, far too much of it included, and fixed sizes."""
    fractions = [(0.1, 3.0), (0.7, 2.0), (4.0, 10.0), (15.0, 40.0), (1.0, 1.0)]
    limits = {
        "places": st.integers(1, 6),
        "margin_frac": st.sampled_from([1.0, 1.0, 0.3]),
        "orders": st.sampled_from([256, 256, 1]),
        "min_notional_usd": st.sampled_from([0.0, 0.0, 500.0]),
        "bump": st.booleans(),
        "shrink": st.booleans(),
    }
    by_equity = st.builds(
        lambda pair, **limits: Sizing(pair[0], 1.0, pair[1], **limits), st.sampled_from(fractions), **limits
    )
    by_units = st.builds(
        Sizing, st.none(), st.sampled_from([1.0, 0.29, 50.0, 1e9]), st.sampled_from([20.0, 1.0]), **limits
    )
    return by_equity | by_equity | by_units


@st.composite
def scripts(draw, symbols: list[Symbol]) -> Script:
    """Wishes in any order, equal ranks, distances from none to out of reach."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    often = draw(st.sampled_from([0.3, 0.1, 0.8]))
    script = []
    for t in range(len(symbols[0].bars)):
        row = []
        for symbol in symbols:
            bar = symbol.bars[t]
            price = bar.close if bar else 1.0
            side = float(rng.choice([-1.0, 1.0])) if rng.random() < often else 0.0
            stop, target = (price * float(x) for x in rng.choice([0.0, 0.01, 0.05, 2.0], 2))
            row.append((side, float(rng.integers(0, 3)), stop, target))
        script.append(row)
    return script


def on_clock(symbol: Symbol, clock: Clock, missing: Collection[int] = ()) -> Symbol:
    """The symbol with main bars made of its steps, without those of the rows `missing`."""
    if clock.per_main == 1:
        return symbol
    mains: list[Bar | None] = []
    for start in range(0, len(symbol.bars) - clock.per_main + 1, clock.per_main):
        inside = [bar for bar in symbol.bars[start : start + clock.per_main] if bar is not None]
        lows, highs = [bar.low for bar in inside], [bar.high for bar in inside]
        if not inside or len(mains) in missing:
            mains.append(None)
        else:
            volume = sum(bar.volume for bar in inside)
            mains.append(Bar(inside[0].open, max(highs), min(lows), inside[-1].close, volume))
    return replace(symbol, mains=mains)


def trending(rng: np.random.Generator, steps: int, per_main: int) -> list[Bar | None]:
    """A path of runs and pauses of several lengths, with volume that bursts."""
    price = float(np.exp(rng.normal(3, 1)))
    noise = 0.006 / math.sqrt(per_main)
    drift, left = 0.0, 0
    bars: list[Bar | None] = []
    for _ in range(steps):
        if left == 0:
            drift, left = (
                float(rng.choice([-1.5, -0.7, 0.0, 0.0, 0.7, 1.5])) * noise,
                int(rng.integers(4, 40)) * per_main,
            )
        left -= 1
        still = rng.random() < 0.06  # no range and no move: an ATR over one bar is 0
        path = price * np.exp(np.cumsum(rng.normal(drift / 3, noise / 2, 3)) * (0.0 if still else 1.0))
        group = (price, *map(float, path))
        volume = float(rng.exponential(100)) * (4.0 if rng.random() < 0.1 else 1.0)
        bars.append(Bar(price, max(group), min(group), group[-1], 0.0 if rng.random() < 0.05 else volume))
        price = group[-1]
    return bars


def random_value(rng: np.random.Generator, parameter: Parameter) -> Value:
    """A value near the default, sometimes a bound of what is sensible."""
    default = parameter.default
    if parameter.kind == "bool":
        return bool(rng.random() < OFTEN.get(parameter.name, 0.5))
    if parameter.kind == "choice":
        return str(rng.choice([*parameter.choices, *[parameter.choices[0]] * 2]))
    if parameter.kind == "int":
        least, most = parameter.low, 12 if parameter.unit == "bars" else default + 2
        return int(rng.integers(least, max(least, min(parameter.high, most)) + 1))
    chance = rng.random()
    value = float(default)
    if chance > 0.9:
        value = float(rng.choice([parameter.low, 1.0, 50.0]))
    elif chance > 0.4:
        value = float(default) * float(rng.uniform(0.2, 1.5))
    return min(max(value, parameter.low), parameter.high)


OFTEN = {
    "enable_ranging_filter": 0.3,
    "enable_anomaly_filter": 0.4,
    "enable_extension_filter": 0.4,
    "require_adx_rising": 0.3,
    "require_volume_confirmation": 0.2,
    "use_stoch_rsi_filter": 0.3,
    "require_btc_alignment": 0.3,
    "require_macro_alignment": 0.2,
    "enable_macro_exit": 0.15,
    "reverse_entry_signal": 0.1,
    "enable_auto_reverse": 0.15,
    "enable_regime_filter": 0.25,
    "enable_ssf_filter": 0.3,
    "enable_reef_filter": 0.4,
    "enable_pyramiding": 0.8,
    "enable_stagnation_exit": 0.4,
    "enable_rsi_overextension_exit": 0.25,
    "block_exits_on_extreme_dev": 0.3,
    "shrink_to_fit": 0.7,
}
"""How often a switch is on, where half the time would leave little to compare."""

LOOSE: dict[str, tuple[float, float]] = {
    "indicators.ema_fast_window": (1, 6),
    "indicators.ema_slow_window": (4, 30),
    "indicators.ema_macro_window": (10, 60),
    "indicators.adx_window": (2, 14),
    "indicators.rsi_window": (3, 14),
    "indicators.atr_window": (1, 10),
    "thresholds.ranging.adx_below": (10.0, 60.0),
    "thresholds.ranging.rsi_low": (30.0, 50.0),
    "thresholds.ranging.rsi_high": (50.0, 70.0),
    "thresholds.anomaly.price_change_frac_gt": (0.002, 0.03),
    "thresholds.anomaly.ema_fast_dev_frac_gt": (0.002, 0.05),
    "thresholds.entry.max_dist_ema_fast_frac": (0.005, 0.1),
    "thresholds.entry.min_adx": (0.0, 60.0),
    "thresholds.entry.tmc_adx_slope_gt": (-3.0, 3.0),
    "thresholds.entry.tmc_adx_cap": (0.0, 60.0),
    "thresholds.entry.ave_atr_ratio_gt": (0.6, 1.5),
    "thresholds.entry.ave_adx_mult": (0.3, 2.0),
    "thresholds.entry.btc_adx_override": (20.0, 80.0),
    "thresholds.entry.pullback_min_adx": (0.0, 40.0),
    "thresholds.entry.slow_drift_min_adx": (0.0, 40.0),
    "thresholds.entry.slow_drift_min_slope_frac": (0.0, 0.01),
    "thresholds.momentum.adx_strong_gt": (20.0, 100.0),
    "thresholds.momentum.rsi_long_weak": (40.0, 75.0),
    "thresholds.momentum.rsi_long_strong": (40.0, 75.0),
    "thresholds.momentum.rsi_short_weak": (25.0, 60.0),
    "thresholds.momentum.rsi_short_strong": (25.0, 60.0),
    "market_regime.auto_reverse_breadth_low_pct": (0.0, 60.0),
    "market_regime.auto_reverse_breadth_high_pct": (40.0, 100.0),
    "market_regime.breadth_block_short_above_pct": (50.0, 100.0),
    "market_regime.breadth_block_long_below_pct": (0.0, 50.0),
    "trade.reef_adx_threshold": (20.0, 80.0),
    "trade.reef_long_rsi_block_gt": (55.0, 100.0),
    "trade.reef_long_rsi_extreme_gt": (55.0, 100.0),
    "trade.reef_short_rsi_block_lt": (0.0, 45.0),
    "trade.reef_short_rsi_extreme_lt": (0.0, 45.0),
    "trade.reentry_cooldown_min_minutes": (0.0, 300.0),
    "trade.reentry_cooldown_max_minutes": (0.0, 600.0),
    "trade.allocation_frac": (0.005, 0.3),
    "trade.adx_sizing_full_adx": (20.0, 100.0),
    "trade.min_atr_frac": (0.0, 0.01),
    "trade.min_notional_usd": (0.0, 800.0),
    "trade.max_total_margin_frac": (0.05, 1.0),
    "trade.add_cooldown_minutes": (0.0, 300.0),
    "trade.add_min_profit_atr": (0.0, 2.0),
    "trade.dps_adx_slope_gt": (-3.0, 1.0),
    "trade.dps_rsi_long_gt": (45.0, 90.0),
    "trade.dps_rsi_short_lt": (10.0, 55.0),
    "trade.glitch_price_dev_frac": (0.0, 0.1),
    "trade.glitch_atr_mult": (0.5, 12.0),
    "trade.sl_atr_mult": (0.5, 8.0),
    "trade.dase_adx_gt": (10.0, 60.0),
    "trade.dase_profit_atr_gt": (-2.0, 1.0),
    "trade.slb_adx_gt": (10.0, 60.0),
    "trade.breakeven_start_atr": (0.2, 3.0),
    "trade.breakeven_buffer_atr": (-0.5, 1.0),
    "trade.trailing_start_atr": (0.0, 1.5),
    "trade.trailing_distance_atr": (0.2, 2.0),
    "trade.trailing_start_atr_low_conf": (0.0, 1.5),
    "trade.trailing_distance_atr_low_conf": (0.0, 2.0),
    "trade.vbts_bb_ratio_gt": (0.5, 1.5),
    "trade.vbts_mult": (0.5, 2.0),
    "trade.tighten_profit_atr_gt": (0.0, 4.0),
    "trade.tatp_adx_gt": (10.0, 60.0),
    "trade.trail_weak_adx_lt": (10.0, 80.0),
    "trade.trail_floor_atr": (0.0, 1.0),
    "trade.trail_floor_strong_atr": (0.0, 2.0),
    "trade.trail_strong_rsi_long_gt": (40.0, 80.0),
    "trade.trail_strong_rsi_short_lt": (20.0, 60.0),
    "trade.tp_atr_mult": (1.0, 12.0),
    "trade.tp_partial_atr_mult": (0.0, 3.0),
    "trade.tp_partial_min_notional_usd": (0.0, 2000.0),
    "trade.tbb_frac": (0.0, 0.1),
    "trade.tbb_adx_gt": (0.0, 50.0),
    "trade.stagnation_atr_mult": (0.0, 1.5),
    "trade.tsme_adx_gt": (30.0, 100.0),
    "trade.tsme_min_profit_atr": (-1.0, 2.0),
    "trade.mmde_adx_gt": (30.0, 100.0),
    "trade.mmde_profit_atr_gt": (-1.0, 2.0),
    "trade.rsi_exit_profit_atr_switch": (-1.0, 2.0),
    "trade.rsi_exit_ub_hi_profit": (65.0, 100.0),
    "trade.rsi_exit_ub_lo_profit": (65.0, 100.0),
    "trade.rsi_exit_ub_hi_profit_low_conf": (65.0, 100.0),
    "trade.rsi_exit_ub_lo_profit_low_conf": (65.0, 100.0),
    "trade.rsi_exit_lb_hi_profit": (0.0, 35.0),
    "trade.rsi_exit_lb_lo_profit": (0.0, 35.0),
    "trade.rsi_exit_lb_hi_profit_low_conf": (0.0, 35.0),
    "trade.rsi_exit_lb_lo_profit_low_conf": (0.0, 35.0),
}
"""Ranges in which a parameter both fires and does not."""


EASY: dict[str, Value | tuple[float, float]] = {
    "filters.require_adx_rising": False,
    "filters.use_stoch_rsi_filter": False,
    "filters.require_macro_alignment": False,
    "thresholds.entry.min_adx": (0.0, 20.0),
    "thresholds.entry.macd_hist_entry_mode": "none",
    "trade.reverse_entry_signal": False,
    "market_regime.enable_auto_reverse": False,
    "trade.entry_min_confidence": "low",
    "trade.enable_reef_filter": False,
    "trade.enable_rsi_overextension_exit": False,
    "trade.sl_atr_mult": (4.0, 9.0),
    "trade.tp_atr_mult": (6.0, 12.0),
    "trade.tsme_adx_gt": 100.0,
    "trade.mmde_adx_gt": 100.0,
}
"""Positions come easily and stay long."""

FOCUS: tuple[dict[str, Value | tuple[float, float]], ...] = (
    {},
    {},
    {
        **EASY,
        "trade.enable_pyramiding": True,
        "trade.max_adds_per_symbol": 9,
        "trade.add_min_confidence": "low",
        "trade.add_cooldown_minutes": 0.0,
        "trade.add_min_profit_atr": (0.3, 1.5),
        "trade.dps_mult": (0.0, 0.5),
        "trade.dps_adx_slope_gt": (-5.0, 0.5),
        "trade.enable_partial_tp": False,
        "trade.trailing_start_atr": 20.0,
    },
    {
        **EASY,
        "trade.enable_breakeven_stop": False,
        "trade.enable_vol_buffered_trailing": True,
        "trade.vbts_bb_ratio_gt": (0.6, 1.2),
        "trade.trail_weak_adx_lt": (30.0, 90.0),
        "trade.tighten_profit_atr_gt": (0.5, 4.0),
        "trade.trailing_start_atr": (0.0, 1.0),
        "trade.trailing_distance_atr": (0.8, 3.0),
        "trade.trail_floor_atr": (0.0, 0.8),
        "trade.enable_stagnation_exit": False,
        "trade.enable_partial_tp": True,
        "trade.tp_partial_atr_mult": (0.5, 2.0),
    },
    {
        **EASY,
        "indicators.atr_window": 1,
        "trade.min_atr_frac": 0.0,
        "trade.atr_fallback_frac": (0.001, 0.01),
        "trade.block_exits_on_extreme_dev": True,
        "trade.glitch_price_dev_frac": 1.0,
    },
)
"""What a case is about: everything, additions, trails, an ATR of 0."""


BOLD: dict[str, Value] = {
    "trade.size_mode": "equity",
    "trade.size_frac": 30.0,
    "trade.leverage": 50.0,
    "trade.allocation_frac": 0.9,
    "trade.leverage_low": 50.0,
    "trade.leverage_medium": 50.0,
    "trade.leverage_high": 50.0,
    "trade.max_total_margin_frac": 1.0,
    "trade.shrink_to_fit": True,
}
"""Sizes with which a book is soon liquidated."""


def random_values(rng: np.random.Generator, parameters: tuple[Parameter, ...]) -> dict[str, Value]:
    """A value of every parameter."""
    values: dict[str, Value] = {}
    for parameter in parameters:
        loose = LOOSE.get(parameter.path)
        if loose and rng.random() < 0.8:
            value = float(rng.uniform(*loose)) if rng.random() < 0.9 else loose[0]
            values[parameter.path] = int(value) if parameter.kind == "int" else value
        else:
            values[parameter.path] = random_value(rng, parameter)
    return values


def random_case(rng: np.random.Generator, parameters: tuple[Parameter, ...], shape: str = "") -> Case:
    """A market and parameters for it; without a shape the prices trend."""
    clock = CLOCKS[int(rng.integers(len(CLOCKS)))]
    steps = int(rng.choice([1, 3, 40])) if shape and rng.random() < 0.3 else int(rng.integers(80, 160))
    count = int(rng.integers(1, 6))
    gaps = float(rng.choice([0.0, 0.0, 0.05, 0.3]))
    symbols = []
    for _ in range(count):
        symbol = random_symbol(rng, shape or "walk", steps, gaps)
        bars = [
            bar if have else None for bar, have in zip(trending(rng, steps, clock.per_main), symbol.bars, strict=True)
        ]
        bars = symbol.bars if shape else bars
        missing = np.flatnonzero(rng.random(steps) < rng.choice([0.0, 0.0, 0.1]))
        symbols.append(on_clock(replace(symbol, bars=bars), clock, missing.tolist()))
    values = random_values(rng, parameters)
    for path, value in FOCUS[int(rng.integers(len(FOCUS)))].items():
        values[path] = float(rng.uniform(*value)) if isinstance(value, tuple) else value
    other = random_values(rng, tuple(parameter for parameter in parameters if parameter.per_symbol))
    own: dict[int, dict[str, Value]] = {}
    for s in range(count):
        if rng.random() < 0.3:
            kept = rng.random(len(other)) < 0.2
            own[s] = {path: value for (path, value), keep in zip(other.items(), kept, strict=True) if keep}
    rules = Rules(
        next_open=bool(rng.random() < 0.15),
        intrabar=bool(rng.random() < 0.1),
        delay_bars=int(rng.choice([0, 0, 0, 1, 3])),
        fee=float(rng.choice([0.0, 0.00045, 0.01])),
        entry_slip=float(rng.choice([0.0, 0.001])),
        exit_slip=float(rng.choice([0.0, 0.001])),
        initial_usd=float(rng.choice([10_000.0, 1_000.0, 1e6])),
    )
    names = list(NAMES[int(rng.integers(len(NAMES)))][:count])
    return Case(symbols, rules, values, own, names, clock, int(rng.integers(0, 3)))
