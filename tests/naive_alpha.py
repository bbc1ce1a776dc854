"""The decisions of `mei_alpha` once more, in plain Python, written from docs/explanation/mei_alpha.md alone.

Nothing here is shared with `kernels`. The book around it is `naive`. Every product and sum stands in the order in which
the page says it, since results are compared to the last bit.

A parameter is named by the last part of its path. Features are mappings from the names of the page to numbers; a
missing number is NaN, and every comparison with it is false.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import naive

Values = Mapping[str, float | bool | str]
Features = Mapping[str, float]

TIERS = ("low", "medium", "high")
LEADS = ("BTC", "BTCUSDT")

USES = {
    "close": ("close",),
    "volume": ("volume",),
    "ema_fast": ("ema", "ema_fast_window"),
    "ema_slow": ("ema", "ema_slow_window"),
    "ema_macro": ("ema", "ema_macro_window"),
    "adx": ("adx", "adx_window"),
    "adx_slope": ("adx_slope", "adx_window"),
    "rsi": ("rsi", "rsi_window"),
    "atr": ("atr_warm", "atr_window"),
    "atr_slope": ("atr_warm_slope", "atr_window"),
    "atr_mean": ("atr_warm_mean", "atr_window", "atr_mean_window"),
    "bb_ratio": ("bb_ratio", "bb_window", "bb_width_avg_window"),
    "volume_mean": ("volume_mean", "volume_mean_window"),
    "volume_short": ("volume_mean", "volume_short_window"),
    "stoch_k": ("stoch_k", "rsi_window", "stoch_rsi_window", "stoch_rsi_smooth"),
    "slope": ("ema_slope", "ema_slow_window", "slope_window"),
    "macd_hist": ("macd_hist", "macd_fast_window", "macd_slow_window", "macd_signal_window"),
    "macd_run": ("macd_run", "macd_fast_window", "macd_slow_window", "macd_signal_window"),
}
"""Name on the page -> kind of feature and the parameters that hold its windows."""


@dataclass(frozen=True)
class Sight:
    """What one symbol shows at the close of a step: its price, its age, its features, and those to compare with."""

    price: float
    age: int
    now: Features
    before: Features


@dataclass(frozen=True)
class Context:
    """Breadth in percent, and whether the lead is "up", "down", "level" or "unknown"."""

    breadth: float
    benchmark: str


@dataclass(frozen=True)
class Signal:
    """What the strategy thinks of a symbol; `mode` is told to tests only."""

    side: float
    tier: int
    threshold: float
    passes: bool
    mode: str


@dataclass
class Memory:
    """What a position remembers of its entry, and of the exits that were tested since."""

    atr: float
    tier: int
    threshold: float
    armed: bool = False
    trail: float | None = None


def divide(one: float, other: float) -> float:
    """The quotient; by zero an infinity, or NaN for zero by zero."""
    if other != 0:
        return one / other
    return math.copysign(math.inf, one) * math.copysign(1.0, other) if one != 0 else math.nan


def clamp(x: float, low: float, high: float) -> float:
    """`x`, not below `low` and not above `high`; where they contradict each other, `low` is asked first."""
    return low if x < low else min(x, high)


def beyond(side: float, one: float, other: float) -> bool:
    """Whether `one` lies strictly on the side's side of `other`: above for a long, below for a short."""
    return one > other if side > 0 else one < other


def reached(side: float, one: float, other: float) -> bool:
    """`beyond`, or equal."""
    return one >= other if side > 0 else one <= other


def context(symbols: list[tuple[bool, bool, Features]], benchmark: int) -> Context:
    """The market at one close: for each symbol whether it had a bar earlier, has had one now, and its base features."""
    seen = sum(earlier for earlier, _, _ in symbols)
    up = sum(earlier and features["ema_fast"] > features["ema_slow"] for earlier, _, features in symbols)
    breadth = 100.0 * up / seen if seen else 50.0
    if benchmark < 0 or not symbols[benchmark][1]:
        return Context(breadth, "unknown")
    close, mean = symbols[benchmark][2]["close"], symbols[benchmark][2]["ema_slow"]
    return Context(breadth, "up" if close > mean else "down" if close < mean else "level")


def steep(values: Values, now: Features) -> bool:
    """Whether the slow mean is steep enough for a drift, where drifts are traded."""
    return bool(values["enable_slow_drift_entries"]) and abs(now["slope"]) >= values["slow_drift_min_slope_frac"]


def ranging(values: Values, now: Features) -> bool:
    """Gate: the market goes sideways."""
    votes = 0
    if now["adx"] < values["adx_below"]:
        votes += 1
    if now["bb_ratio"] < values["bb_width_ratio_below"]:
        votes += 1
    if values["rsi_low"] < now["rsi"] < values["rsi_high"]:
        votes += 1
    return bool(values["enable_ranging_filter"]) and votes >= values["min_signals"] and not steep(values, now)


def anomaly(values: Values, sight: Sight) -> bool:
    """Gate: the price has jumped."""
    last, mean, p = sight.before["close"], sight.now["ema_fast"], sight.price
    jumped = abs(p - last) > values["price_change_frac_gt"] * last
    away = abs(p - mean) > values["ema_fast_dev_frac_gt"] * mean
    return bool(values["enable_anomaly_filter"]) and (jumped or away)


def extended(values: Values, sight: Sight) -> bool:
    """Gate: the price is far from the fast mean."""
    mean = sight.now["ema_fast"]
    return bool(values["enable_extension_filter"]) and abs(sight.price - mean) > values["max_dist_ema_fast_frac"] * mean


def volume_confirms(values: Values, now: Features) -> bool:
    """Gate: there is volume behind it."""
    if not values["require_volume_confirmation"]:
        return True
    above = now["volume"] > now["volume_mean"]
    grows = now["volume_short"] > now["volume_mean"]
    return above or grows if values["vol_confirm_include_prev"] else above and grows


def rising(values: Values, now: Features) -> bool:
    """Gate: ADX rises, or is so high that it need not."""
    if not values["require_adx_rising"]:
        return True
    return now["adx_slope"] > 0 or now["adx"] > values["adx_rising_saturation"]


def adx_floor(values: Values, now: Features) -> float:
    """The ADX that a trend entry must exceed."""
    floor = values["min_adx"]
    if now["adx_slope"] > values["tmc_adx_slope_gt"] and floor > values["tmc_adx_cap"]:
        floor = values["tmc_adx_cap"]
    if values["ave_enabled"] and now["atr_mean"] > 0 and now["atr"] > values["ave_atr_ratio_gt"] * now["atr_mean"]:
        floor = floor * values["ave_adx_mult"]
    return floor


def aligned(values: Values, now: Features, side: float) -> bool:
    """Gate: the means stand in the order of the side."""
    if not beyond(side, now["ema_fast"], now["ema_slow"]):
        return False
    return not values["require_macro_alignment"] or beyond(side, now["ema_slow"], now["ema_macro"])


def led(values: Values, now: Features, side: float, market: Context, is_benchmark: bool) -> bool:
    """Gate: the lead goes the same way, or need not."""
    if not values["require_btc_alignment"] or is_benchmark or now["adx"] > values["btc_adx_override"]:
        return True
    return market.benchmark in ("unknown", "up" if side > 0 else "down")


def rsi_limit(values: Values, now: Features, side: float) -> float:
    """The RSI that a trend entry must be beyond."""
    floor, strong = values["min_adx"], values["adx_strong_gt"]
    high = strong if strong > floor else floor + 1.0
    w = clamp((now["adx"] - floor) / (high - floor), 0.0, 1.0)
    name = "long" if side > 0 else "short"
    weak = values[f"rsi_{name}_weak"]
    return weak + w * (values[f"rsi_{name}_strong"] - weak)


def momentum_agrees(values: Values, now: Features, side: float) -> bool:
    """The MACD gate of a trend entry."""
    if values["macd_hist_entry_mode"] == "accel":
        return side * now["macd_run"] > 0
    if values["macd_hist_entry_mode"] == "sign":
        return side * now["macd_hist"] > 0
    return True


def room_in_stochastic(values: Values, now: Features, side: float) -> bool:
    """The StochRSI gate of a trend entry."""
    if not values["use_stoch_rsi_filter"]:
        return True
    if side > 0:
        return now["stoch_k"] < values["block_long_if_k_gt"]
    return now["stoch_k"] > values["block_short_if_k_lt"]


def trend(values: Values, sight: Sight, side: float) -> bool:
    """Mode 1, without alignment and lead."""
    now = sight.now
    is_open = now["adx"] > adx_floor(values, now) and volume_confirms(values, now) and rising(values, now)
    barred = ranging(values, now) or anomaly(values, sight) or extended(values, sight)
    return (
        is_open
        and not barred
        and beyond(side, sight.price, now["ema_fast"])
        and beyond(side, now["rsi"], rsi_limit(values, now, side))
        and momentum_agrees(values, now, side)
        and room_in_stochastic(values, now, side)
    )


def quiet(values: Values, sight: Sight) -> bool:
    """The gates that pullback and slow drift share."""
    barred = ranging(values, sight.now) or anomaly(values, sight) or extended(values, sight)
    return volume_confirms(values, sight.now) and not barred


def pullback(values: Values, sight: Sight, side: float) -> bool:
    """Mode 2, without alignment and lead."""
    now, before = sight.now, sight.before
    return (
        bool(values["enable_pullback_entries"])
        and quiet(values, sight)
        and now["adx"] >= values["pullback_min_adx"]
        and reached(-side, before["close"], before["ema_fast"])
        and beyond(side, sight.price, now["ema_fast"])
        and (not values["pullback_require_macd_sign"] or side * now["macd_hist"] > 0)
        and reached(side, now["rsi"], values["pullback_rsi_long_min" if side > 0 else "pullback_rsi_short_max"])
    )


def slow_drift(values: Values, sight: Sight, side: float) -> bool:
    """Mode 3, without alignment and lead."""
    now = sight.now
    return (
        bool(values["enable_slow_drift_entries"])
        and quiet(values, sight)
        and now["adx"] >= values["slow_drift_min_adx"]
        and beyond(side, sight.price, now["ema_slow"])
        and side * now["slope"] >= values["slow_drift_min_slope_frac"]
        and (not values["slow_drift_require_macd_sign"] or side * now["macd_hist"] > 0)
        and reached(side, now["rsi"], values["slow_drift_rsi_long_min" if side > 0 else "slow_drift_rsi_short_max"])
    )


MODES: dict[str, Callable[[Values, Sight, int], bool]] = {
    "trend": trend,
    "pullback": pullback,
    "slow drift": slow_drift,
}


def tier_and_threshold(values: Values, now: Features, mode: str) -> tuple[int, float]:
    """How much an entry of a mode is trusted, and the ADX below which it is exhausted."""
    if mode == "trend":
        heavy = now["volume"] > now["volume_mean"] * values["high_conf_volume_mult"]
        return TIERS.index("high" if heavy else "medium"), adx_floor(values, now)
    if mode == "pullback":
        return TIERS.index(values["pullback_confidence"]), values["pullback_min_adx"]
    return TIERS.index("low"), values["slow_drift_min_adx"]


def turned(values: Values, market: Context) -> bool:
    """Whether signals are turned round."""
    if values["enable_auto_reverse"]:
        return values["auto_reverse_breadth_low_pct"] <= market.breadth <= values["auto_reverse_breadth_high_pct"]
    return bool(values["reverse_entry_signal"])


def against_regime(values: Values, side: float, market: Context) -> bool:
    """Whether breadth forbids the side."""
    if not values["enable_regime_filter"]:
        return False
    if side > 0:
        return market.breadth < values["breadth_block_long_below_pct"]
    return market.breadth > values["breadth_block_short_above_pct"]


def passes(values: Values, now: Features, side: float) -> bool:
    """Whether SSF and REEF let a signal open or add."""
    if values["enable_ssf_filter"] and not side * now["macd_hist"] > 0:
        return False
    if not values["enable_reef_filter"]:
        return True
    extreme = now["adx"] >= values["reef_adx_threshold"]
    if side > 0:
        return not now["rsi"] > values["reef_long_rsi_extreme_gt" if extreme else "reef_long_rsi_block_gt"]
    return not now["rsi"] < values["reef_short_rsi_extreme_lt" if extreme else "reef_short_rsi_block_lt"]


def signal(values: Values, sight: Sight, market: Context, is_benchmark: bool) -> Signal | None:
    """The signal of one symbol at one step, from features alone."""
    if sight.age < values["warmup_bars"]:
        return None
    for mode, fires in MODES.items():
        for side in (1.0, -1.0):
            ready = aligned(values, sight.now, side) and led(values, sight.now, side, market, is_benchmark)
            if not ready or not fires(values, sight, side):
                continue
            tier, threshold = tier_and_threshold(values, sight.now, mode)
            side = -side if turned(values, market) else side  # noqa: PLW2901 - the loop ends here
            if against_regime(values, side, market):
                return None
            return Signal(side, tier, threshold, passes(values, sight.now, side), mode)
    return None


def floored_atr(values: Values, sight: Sight) -> float:
    """ATR, or a fraction of the price if that is larger."""
    least = sight.price * values["min_atr_frac"]
    return max(sight.now["atr"], least)


def trusted(values: Values, tier: int, name: str) -> bool:
    """Whether a tier is at least that of the parameter `name`."""
    return tier >= TIERS.index(values[name])


def cooldown_minutes(values: Values, adx: float) -> float:
    """How long the side of an exit is barred."""
    shortest, longest = values["reentry_cooldown_min_minutes"], values["reentry_cooldown_max_minutes"]
    low, high = values["reentry_adx_low"], values["reentry_adx_high"]
    if adx >= high:
        return shortest
    if adx <= low:
        return longest
    return longest + (adx - low) / (high - low) * (shortest - longest)


def rank(tier: int, adx: float) -> int:
    """What is served first."""
    return 100 * tier + math.trunc(adx)


def entry_margin(values: Values, sight: Sight, tier: int, equity: float) -> float:
    """USD of initial margin that a new position wants."""
    margin = equity * values["allocation_frac"]
    if not values["enable_dynamic_sizing"]:
        return margin
    margin = margin * values[f"confidence_mult_{TIERS[tier]}"]
    margin = margin * clamp(sight.now["adx"] / values["adx_sizing_full_adx"], values["adx_sizing_min_mult"], 1.0)
    v = divide(floored_atr(values, sight), sight.price) / values["vol_baseline_frac"]
    return margin * clamp(divide(1.0, v) if v > 0 else 1.0, values["vol_scalar_min"], values["vol_scalar_max"])


def wants_more(values: Values, sight: Sight, told: Signal, held: naive.Position, minutes: float) -> bool:
    """Whether a signal adds to a position of its side; `minutes` since its opening or last addition."""
    need = values["add_min_profit_atr"]
    long = held.side > 0
    now = sight.now
    hot = now["rsi"] > values["dps_rsi_long_gt"] if long else now["rsi"] < values["dps_rsi_short_lt"]
    if now["adx_slope"] > values["dps_adx_slope_gt"] and now["atr_slope"] <= 0 and not hot:
        need = need * values["dps_mult"]
    return (
        bool(values["enable_pyramiding"])
        and told.passes
        and held.adds < values["max_adds_per_symbol"]
        and trusted(values, told.tier, "add_min_confidence")
        and minutes >= values["add_cooldown_minutes"]
        and divide(held.side * (sight.price - held.entry), floored_atr(values, sight)) >= need
    )


def addition_margin(values: Values, equity: float) -> float:
    """USD of initial margin that an addition wants."""
    return equity * values["allocation_frac"] * values["add_fraction_of_base_margin"]


@dataclass(frozen=True)
class Look:
    """Everything the exits of one position look at."""

    values: Values
    sight: Sight
    held: naive.Position
    lots: float

    @property
    def side(self) -> float:
        """+1 long, -1 short."""
        return self.held.side

    @property
    def now(self) -> Features:
        """Features of the step."""
        return self.sight.now

    @property
    def atr(self) -> float:
        """The ATR remembered at entry."""
        remembered = self.held.memory.atr
        return remembered if remembered != 0 else self.values["atr_fallback_frac"] * self.held.entry

    @property
    def gain(self) -> float:
        """Profit per coin; below zero: under water."""
        return self.side * (self.sight.price - self.held.entry)

    @property
    def profit(self) -> float:
        """Profit in ATR."""
        return divide(self.gain, self.atr)

    @property
    def low_tier(self) -> bool:
        """Whether the entry was of tier low."""
        return TIERS[self.held.memory.tier] == "low"

    def low_conf(self, name: str) -> float:
        """The parameter `name`, or for tier low the value that replaces it where above 0."""
        replacement = self.values[f"{name}_low_conf"]
        return replacement if self.low_tier and replacement > 0 else self.values[name]

    def stopped(self, level: float) -> bool:
        """Whether the price has come down (for a short: up) to the level."""
        return reached(-self.side, self.sight.price, level)


def glitch(look: Look) -> bool:
    """Exit 0: the price looks like a glitch."""
    values, last = look.values, look.sight.before["close"]
    move = abs(look.sight.price - last)
    atr = look.now["atr"]
    far = move > values["glitch_price_dev_frac"] * last or (atr > 0 and move > values["glitch_atr_mult"] * atr)
    return bool(values["block_exits_on_extreme_dev"]) and last > 0 and far


def stop_loss(look: Look) -> bool:
    """Exit 1."""
    values, now = look.values, look.now
    m = values["sl_atr_mult"]
    if now["adx_slope"] < 0 and look.gain < 0:
        m = m * values["ase_mult"]
    if now["adx"] > values["dase_adx_gt"] and look.profit > values["dase_profit_atr_gt"]:
        m = m * values["dase_mult"]
    if now["adx"] > values["slb_adx_gt"]:
        m = m * values["slb_mult"]
    return look.stopped(look.held.entry - look.side * look.atr * m)


def breakeven(look: Look) -> bool:
    """Exit 2; remembers that it is armed."""
    values, memory = look.values, look.held.memory
    if not values["enable_breakeven_stop"]:
        return False
    if look.profit >= values["breakeven_start_atr"]:
        memory.armed = True
    return memory.armed and look.stopped(look.held.entry + look.side * look.atr * values["breakeven_buffer_atr"])


def trail_distance(look: Look) -> float:
    """How far the trail stays behind the price, in ATR."""
    values, now = look.values, look.now
    dist = look.low_conf("trailing_distance_atr")
    distance = dist
    if values["enable_vol_buffered_trailing"] and now["bb_ratio"] > values["vbts_bb_ratio_gt"]:
        distance = dist * values["vbts_mult"]
    if look.profit > values["tighten_profit_atr_gt"]:
        if now["adx"] > values["tatp_adx_gt"] and now["adx_slope"] > 0:
            distance = dist * 1.0
        elif now["atr_slope"] > 0:
            distance = dist * values["tspv_mult"]
        else:
            distance = dist * values["tighten_mult"]
    elif now["adx"] < values["trail_weak_adx_lt"]:
        distance = dist * values["trail_weak_mult"]
    limit = values["trail_strong_rsi_long_gt" if look.side > 0 else "trail_strong_rsi_short_lt"]
    least = values["trail_floor_strong_atr" if beyond(look.side, now["rsi"], limit) else "trail_floor_atr"]
    return max(distance, least)


def trailing(look: Look) -> bool:
    """Exit 3; remembers the trail."""
    memory = look.held.memory
    if look.profit >= look.low_conf("trailing_start_atr"):
        new = look.sight.price - look.side * look.atr * trail_distance(look)
        if memory.trail is None or beyond(look.side, new, memory.trail):
            memory.trail = new
    return memory.trail is not None and look.stopped(memory.trail)


def part(look: Look) -> float:
    """Coins of the first part, 0 when there can be none."""
    size = abs(look.held.size)
    closed = naive.part(size, look.values["tp_partial_frac"], look.lots)
    rest = naive.on_grid(size - closed, look.lots)
    if closed <= 0 or rest <= 0 or rest * look.sight.price < look.values["tp_partial_min_notional_usd"]:
        return 0.0
    return closed


def take_profit(look: Look) -> float:
    """Exit 4: coins to close, 0 for none."""
    values, p = look.values, look.sight.price
    reach = look.held.entry + look.side * look.atr * values["tp_atr_mult"]
    whole = abs(look.held.size) if reached(look.side, p, reach) else 0.0
    first = values["tp_partial_atr_mult"]
    if not values["enable_partial_tp"]:
        return whole
    if not look.held.parts:
        level = look.held.entry + look.side * look.atr * (first if first > 0 else values["tp_atr_mult"])
        if reached(look.side, p, level):
            return part(look)
    return whole if first > 0 else 0.0


def trend_breakdown(look: Look) -> bool:
    """Exit 5."""
    values, fast, slow = look.values, look.now["ema_fast"], look.now["ema_slow"]
    close_by = abs(fast - slow) < values["tbb_frac"] * slow
    return beyond(-look.side, fast, slow) and not (close_by and look.now["adx"] > values["tbb_adx_gt"])


def trend_exhaustion(look: Look) -> bool:
    """Exit 6."""
    return look.now["adx"] < look.held.memory.threshold


def macro_breakdown(look: Look) -> bool:
    """Exit 7."""
    return bool(look.values["enable_macro_exit"]) and beyond(-look.side, look.sight.price, look.now["ema_macro"])


def stagnation(look: Look) -> bool:
    """Exit 8."""
    dead = floored_atr(look.values, look.sight) < look.values["stagnation_atr_mult"] * look.atr
    return bool(look.values["enable_stagnation_exit"]) and dead and look.gain < 0


def tsme(look: Look) -> bool:
    """Exit 9."""
    values, now = look.values, look.now
    return (
        now["adx"] > values["tsme_adx_gt"]
        and look.profit >= values["tsme_min_profit_atr"]
        and (not values["tsme_require_adx_slope_negative"] or now["adx_slope"] < 0)
        and look.side * now["macd_run"] <= -2
    )


def mmde(look: Look) -> bool:
    """Exit 10."""
    values, now = look.values, look.now
    strong = look.profit > values["mmde_profit_atr_gt"] and now["adx"] > values["mmde_adx_gt"]
    return strong and look.side * now["macd_run"] <= -3


def rsi_overextension(look: Look) -> bool:
    """Exit 11."""
    little = look.profit < look.values["rsi_exit_profit_atr_switch"]
    bound = look.low_conf(f"rsi_exit_{'ub' if look.side > 0 else 'lb'}_{'lo' if little else 'hi'}_profit")
    return bool(look.values["enable_rsi_overextension_exit"]) and beyond(look.side, look.now["rsi"], bound)


EXITS: dict[str, Callable[[Look], bool | float]] = {
    "stop_loss": stop_loss,
    "breakeven": breakeven,
    "trailing_stop": trailing,
    "take_profit": take_profit,
    "trend_breakdown": trend_breakdown,
    "trend_exhaustion": trend_exhaustion,
    "macro_breakdown": macro_breakdown,
    "stagnation": stagnation,
    "tsme": tsme,
    "mmde": mmde,
    "rsi_overextension": rsi_overextension,
}
"""Exits in their order."""


def leave(look: Look) -> tuple[str, float] | None:
    """Reason and fraction of the first exit that fires, or None; changes what the position remembers."""
    if glitch(look):
        return None
    for reason, test in EXITS.items():
        fired = test(look)
        if fired is True or fired == abs(look.held.size):
            return reason, 1.0
        if fired > 0:
            return f"{reason}_partial", look.values["tp_partial_frac"]
    return None


class Alpha(naive.Strategy):
    """`mei_alpha` in a book.

    Args:
        symbols: The market.
        names: Of the symbols.
        base: Value of each parameter.
        own: Values that a symbol has instead.
        clock: How steps lie in main bars.
    """

    def __init__(
        self,
        symbols: list[naive.Symbol],
        names: list[str],
        base: Values,
        own: Mapping[int, Values],
        clock: naive.Clock = naive.HOURLY,
    ):
        self.symbols, self.clock, self.base = symbols, clock, base
        self.values = [{**base, **own.get(s, {})} for s in range(len(symbols))]
        self.benchmark = next((names.index(name) for name in LEADS if name in names), -1)
        self.features = [columns(symbol, values) for symbol, values in zip(symbols, self.values, strict=True)]
        self.base_features = [columns(symbol, base) for symbol in symbols]
        self.heard: dict[tuple[int, int], Signal | None] = {}

    def sight(self, t: int, s: int) -> Sight:
        """What symbol s shows at step t."""
        bar = self.symbols[s].bars[t]
        assert bar is not None
        now, before = (
            {name: series[row] for name, series in self.features[s].items()}
            for row in (self.clock.row(t), self.clock.before(t))
        )
        return Sight(bar.close, self.symbols[s].age(t, self.clock), now, before)

    def context(self, t: int) -> Context:
        """The whole market at step t."""
        row = self.clock.row(t)
        return context(
            [
                (
                    symbol.closed(row - 1) > 0,
                    symbol.closed(row) > 0,
                    {name: series[row] for name, series in features.items()},
                )
                for symbol, features in zip(self.symbols, self.base_features, strict=True)
            ],
            self.benchmark,
        )

    def told(self, t: int, s: int) -> Signal | None:
        """The signal of symbol s at step t."""
        if (t, s) not in self.heard:
            self.heard[t, s] = signal(self.values[s], self.sight(t, s), self.context(t), s == self.benchmark)
        return self.heard[t, s]

    def wish(self, t: int, s: int, age: int) -> tuple[float, float]:  # noqa: ARG002 - a sight knows the age
        """Side and rank of the signal."""
        told = self.told(t, s)
        if told is None:
            return 0.0, 0.0
        return told.side, float(rank(told.tier, self.sight(t, s).now["adx"]))

    def limits(self, s: int, sizing: naive.Sizing) -> naive.Limits:  # noqa: ARG002 - its own parameters tell
        """What the parameters say."""
        own = self.values[s]
        return naive.Limits(
            self.base["max_open_positions"],
            self.base["max_total_margin_frac"],
            self.base["max_entry_orders_per_step"],
            own["min_notional_usd"],
            own["bump_to_min_notional"],
            own["shrink_to_fit"],
        )

    def admits(self, t: int, s: int, minutes: float) -> bool:
        """Filters, tier and cool-down."""
        values, told = self.values[s], self.told(t, s)
        if not told.passes or not trusted(values, told.tier, "entry_min_confidence"):
            return False
        cooling = minutes < cooldown_minutes(values, self.sight(t, s).now["adx"])
        return not (values["enable_reentry_cooldown"] and cooling)

    def size(
        self,
        t: int,
        s: int,
        price: float,
        value: float,
        most: float,
        sizing: naive.Sizing,  # noqa: ARG002 - as above
    ) -> tuple[float, float]:
        """Coins and leverage of a new position."""
        tier = self.told(t, s).tier
        leverage = min(self.values[s][f"leverage_{TIERS[tier]}"], most)
        return entry_margin(self.values[s], self.sight(t, s), tier, value) * leverage / price, leverage

    def plan(self, t: int, s: int) -> Memory:
        """What an entry remembers."""
        told = self.told(t, s)
        return Memory(floored_atr(self.values[s], self.sight(t, s)), told.tier, told.threshold)

    def begin(self, position: naive.Position, plan: Memory) -> None:
        """Remember it."""
        position.memory = plan

    def addition(self, t: int, s: int, position: naive.Position, value: float, minutes: float) -> float:
        """Coins to add."""
        sight = self.sight(t, s)
        if not wants_more(self.values[s], sight, self.told(t, s), position, minutes):
            return 0.0
        return addition_margin(self.values[s], value) * position.leverage / sight.price

    def leave(self, t: int, s: int, position: naive.Position) -> tuple[str, float] | None:
        """The first exit that fires."""
        return leave(Look(self.values[s], self.sight(t, s), position, self.symbols[s].at(t).lots))


def columns(symbol: naive.Symbol, values: Values) -> dict[str, list[float]]:
    """Every feature of a symbol over the main bars."""
    return {
        name: symbol.column(kind, *(values[window] for window in windows)) for name, (kind, *windows) in USES.items()
    }
