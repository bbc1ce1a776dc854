"""`mei_alpha` over small tables of hours: the simulation's fills, where one parameter or one hour makes the difference.

The first hour is warm-up. Every number of an hour that is not given is that of `alpha_kit`, around its close.
Entries carry 10,000 * 0.03 = 300 USD of margin at leverage 5: 15 coins at 100.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from alpha_kit import LONG_FEATURES, SHORT_FEATURES
from kernel_kit import Case, candle, one, run_simulation
from naive import Bar, Rules

from kernels import bind
from kernels.strategies import mei_alpha

NAMES = [use.name for use in mei_alpha.FEATURES]
PATHS = {parameter.name: parameter.path for parameter in mei_alpha.PARAMETERS}
VALUES = {parameter.path: parameter.default for parameter in mei_alpha.PARAMETERS}
CLOSE = Rules(next_open=False, intrabar=False)
PLAIN = {
    "warmup_bars": 1,
    "entry_min_confidence": "low",
    "enable_dynamic_sizing": False,
    "enable_pyramiding": False,
    "enable_breakeven_stop": False,
    "enable_partial_tp": False,
    "trailing_start_atr": 100.0,
    "tp_atr_mult": 100.0,
    "tbb_frac": 1.0,
}


def hour(price: float, says: str = "", side: int = 1, **changed: float) -> dict[str, float]:
    """Features at a close in a market that goes one way; `says` is `long`, `short` or nothing."""
    side = {"long": 1, "short": -1}.get(says, side)
    base = LONG_FEATURES if side > 0 else SHORT_FEATURES
    near = {name: price + base[name] - 100.0 for name in ("close", "ema_fast", "ema_slow", "ema_macro")}
    return {**base, **near, **({} if says else {"rsi": 50.0}), **changed}


@pytest.fixture(scope="module")
def play():
    simulation = bind.simulation("mei_alpha")

    def fills(
        *tables: list[dict[str, float]],
        names: tuple[str, ...] = (),
        rules: Rules = CLOSE,
        bars: Mapping[int, Bar] | None = None,
        **changed,
    ):
        """(hour, symbol, reason, size, price) of each fill, hours counted from the first."""
        values = VALUES | {PATHS[name]: value for name, value in (PLAIN | changed).items()}
        tables = tuple([hour(100.0), *table] for table in tables)
        symbols = [one([(bars or {}).get(t, candle(row["close"])) for t, row in enumerate(table)]) for table in tables]
        columns = np.array([[[row[name] for row in table] for table in tables] for name in NAMES]).transpose(0, 2, 1)
        case = Case(symbols, rules, values, names=list(names))
        given = (np.ascontiguousarray(columns), np.arange(len(NAMES)).reshape(1, 1, -1))
        outcome = run_simulation(simulation, mei_alpha, case, given)
        return [(fill.t, fill.s, fill.reason, round(fill.size, 9), fill.price) for fill in outcome.fills]

    return fills


def test_a_signal_against_a_position_closes_it_and_opens_the_other_side(play):
    """10,030 USD of equity at the second decision: 1504.5 / 102 = 14.75 coins. A barred signal only closes."""
    first, closed = (1, 0, "entry", 15.0, 100.0), (2, 0, "signal", -15.0, 102.0)
    table = [hour(100, "long"), hour(102, "short")]
    assert play(table) == [first, closed, (2, 0, "entry", -14.75, 102.0)]
    assert play([table[0], hour(102, "short", macd_hist=1.0)]) == [first, closed]
    assert play([table[0], hour(102, "short", macd_hist=1.0)], enable_ssf_filter=False) == [
        first, closed, (2, 0, "entry", -14.75, 102.0),
    ]  # fmt: skip


def test_a_signal_with_a_position_adds_to_it(play):
    """At 101: (10,000 + 15) * 0.03 * 0.5 * 5 / 101 = 7.43; at 102: (10,000 + 30 + 7.43) * 0.075 / 102 = 7.38."""
    table = [hour(100, "long"), hour(101, "long"), hour(102, "long"), hour(103, "long")]
    entry, one_more = (1, 0, "entry", 15.0, 100.0), (2, 0, "add", 7.43, 101.0)
    assert play(table) == [entry]
    assert play(table, enable_pyramiding=True) == [entry, one_more, (3, 0, "add", 7.38, 102.0)]
    assert play(table, enable_pyramiding=True, max_adds_per_symbol=1) == [entry, one_more]
    assert play(table, enable_pyramiding=True, add_cooldown_minutes=61.0)[1][:3] == (3, 0, "add")
    assert play(table, enable_pyramiding=True, add_min_profit_atr=1.5)[1][:3] == (3, 0, "add")
    assert play([table[0], hour(101)], enable_pyramiding=True) == [entry]


def test_a_signal_with_a_short_adds_to_it(play):
    """At 99: (10,000 + 15) * 0.03 * 0.5 * 5 / 99 = 7.58 coins more are sold."""
    table = [hour(100, "short"), hour(99, "short"), hour(98, side=-1)]
    assert play(table, enable_pyramiding=True) == [(1, 0, "entry", -15.0, 100.0), (2, 0, "add", -7.58, 99.0)]
    turned = [table[0], hour(99, "long")]
    assert [fill[2:4] for fill in play(turned, enable_pyramiding=True)] == [
        ("entry", -15.0), ("signal", 15.0), ("entry", 15.17),
    ]  # fmt: skip


def test_a_new_position_counts_its_additions_and_parts_anew(play):
    """Two trades, ended by barred shorts: each adds once and takes its part once."""
    one_trip = [hour(100, "long"), hour(104, "long"), hour(105, "long"), hour(105, "short", macd_hist=1.0)]
    adds = play([*one_trip, *one_trip], enable_pyramiding=True, max_adds_per_symbol=1)
    assert [fill[2] for fill in adds] == ["entry", "add", "signal"] * 2
    parts = play([*one_trip, *one_trip], enable_partial_tp=True, tp_atr_mult=4.0, enable_reentry_cooldown=False)
    assert [fill[2] for fill in parts] == ["entry", "take_profit_partial", "signal"] * 2


def test_the_stop_hangs_on_the_average_entry(play):
    """15 at 100 and 7.43 at 101 average 100.33; the stop two ATR below lies at 98.33."""
    table = [hour(100, "long"), hour(101, "long"), hour(98.25)]
    assert play(table)[1:] == []
    assert play(table, enable_pyramiding=True)[2:] == [(3, 0, "stop_loss", -22.43, 98.25)]


def test_the_trail_survives_an_addition(play):
    """It starts at 103: 103 - 0.75 * 1 = 102.25, and is hit at 102."""
    table = [hour(100, "long"), hour(103, "long"), hour(102)]
    trails = {"trailing_start_atr": 1.0, "trailing_distance_atr": 0.75, "tighten_profit_atr_gt": 50.0}
    assert play(table, **trails)[1:] == [(3, 0, "trailing_stop", -15.0, 102.0)]
    assert [fill[2] for fill in play(table, **trails, enable_pyramiding=True)] == ["entry", "add", "trailing_stop"]
    assert play(table)[1:] == []


def test_breakeven_stays_armed_until_flat(play):
    """Armed at 101 by 0.7 ATR, its level 100.05 is hit at 100; the next position is not armed."""
    table = [hour(100, "long"), hour(101), hour(100), hour(100), hour(100, "long"), hour(99.5)]
    even = {"enable_breakeven_stop": True, "enable_reentry_cooldown": False}
    assert play(table, **even) == [
        (1, 0, "entry", 15.0, 100.0),
        (3, 0, "breakeven", -15.0, 100.0),
        (5, 0, "entry", 15.0, 100.0),
    ]
    assert play(table) == [(1, 0, "entry", 15.0, 100.0)]


def test_the_first_part_is_half_in_whole_lots_and_the_trail_goes_on(play):
    """104 is four ATR away: 7.5 of 15 coins; in lots of one coin, 7. What is left leaves at the trail, 103.5."""
    table = [hour(100, "long"), hour(104), hour(103)]
    both = {"enable_partial_tp": True, "tp_atr_mult": 4.0, "trailing_start_atr": 1.0}
    assert play(table, **both)[1:] == [
        (2, 0, "take_profit_partial", -7.5, 104.0),
        (3, 0, "trailing_stop", -7.5, 103.0),
    ]
    assert play(table, **both, tp_partial_min_notional_usd=781.0)[1:] == [(3, 0, "trailing_stop", -15.0, 103.0)]
    assert play(table, **(both | {"enable_partial_tp": False}))[1:] == [(2, 0, "take_profit", -15.0, 104.0)]


def stopped_then_wanted(says: str) -> list[dict[str, float]]:
    """Stopped out at hour 2; the same or the other side is wanted at every hour from there on."""
    return [hour(100, "long"), *(hour(97, says) for _ in range(5))]


def test_a_cool_down_bars_the_side_of_the_exit(play):
    """At ADX 30, 135 minutes: wanted at 0, 60 and 120 minutes in vain, at 180 not. The other side is never barred."""

    def second_entry(says, **changed):
        fills = play(stopped_then_wanted(says), **changed)
        assert [fill[2] for fill in fills] == ["entry", "stop_loss", "entry"]
        return fills[2][0] - fills[1][0]

    assert second_entry("long") == 3
    assert second_entry("long", reentry_cooldown_max_minutes=150.0) == 2  # 115 minutes
    assert second_entry("long", enable_reentry_cooldown=False) == 0
    assert second_entry("long", reentry_cooldown_min_minutes=0.0, reentry_adx_high=30.0) == 0
    flips = play(stopped_then_wanted("short"))
    assert [fill[:3] for fill in flips] == [(1, 0, "entry"), (2, 0, "stop_loss"), (2, 0, "entry")]
    assert flips[2][3] < 0


def test_a_cool_down_after_an_exit_at_an_open_begins_when_the_bar_before_closed(play):
    """Stopped at the close of hour 3, sold at the open of 4: at the close of hour 6, 180 minutes have passed."""
    table = [hour(100, "long"), hour(100), *(hour(97, "long") for _ in range(6))]
    fills = play(table, rules=replace(CLOSE, next_open=True))
    assert [fill[:3] for fill in fills] == [(2, 0, "entry"), (4, 0, "stop_loss"), (7, 0, "entry")]


TEN_TIMES = {"allocation_frac": 0.5, "leverage_high": 20.0}
"""1,000 coins at 100 USD on 10,000 USD: with 1 % of maintenance, a long is liquidated at 90.91, a short at 108.91."""


@pytest.mark.parametrize(
    ("says", "bar", "ends"),
    [
        ("long", candle(100, 100, 91, 100), []),
        ("long", candle(100, 100, 85, 95), [("liquidation", pytest.approx(90_000 / 990))]),
        ("long", candle(91, 95, 85, 95), [("liquidation", pytest.approx(90_000 / 990))]),
        ("long", candle(90.6, 95, 85, 95), [("backstop", 90.6), ("liquidation", 90.6)]),
        ("long", candle(60, 95, 60, 95), [("backstop", 60), ("liquidation", 60)]),
        ("short", candle(100, 115, 100, 105), [("liquidation", pytest.approx(110_000 / 1_010))]),
        ("short", candle(150, 150, 100, 105), [("backstop", 150), ("liquidation", 150)]),
    ],
)
def test_a_bar_that_ruins_the_account_liquidates_it_before_its_close_is_looked_at(play, says, bar, ends):
    fills = play([hour(100, says), hour(100)], bars={2: bar}, **TEN_TIMES)
    assert fills[0][:4] == (1, 0, "entry", 1000.0 if says == "long" else -1000.0)
    assert [(fill[2], fill[4]) for fill in fills[1:]] == ends


def test_a_close_by_signal_starts_no_cool_down(play):
    table = [hour(100, "long"), hour(100, "short", macd_hist=1.0), hour(100, "long")]
    assert [fill[:3] for fill in play(table)] == [(1, 0, "entry"), (2, 0, "signal"), (3, 0, "entry")]


def test_a_partial_close_starts_a_cool_down(play):
    """A part at hour 2, the rest leaves by signal at hour 3: long is barred at hour 4, 120 minutes after the part."""
    table = [hour(100, "long"), hour(104), hour(104, "short", macd_hist=1.0), hour(104, "long"), hour(104, "long")]
    part = {"enable_partial_tp": True, "tp_atr_mult": 4.0}
    reasons = [(fill[0], fill[2]) for fill in play(table, **part)]
    assert reasons == [(1, "entry"), (2, "take_profit_partial"), (3, "signal"), (5, "entry")]
    assert [(fill[0], fill[2]) for fill in play(table)] == [(1, "entry"), (3, "signal"), (4, "entry")]


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        ({"adx": 30.0}, {"adx": 30.9}, 0),
        ({"adx": 30.0}, {"adx": 31.0}, 1),
        ({"adx": 39.0, "volume": 250.0}, {"adx": 23.0}, 1),
    ],
    ids=["ties in symbol order", "higher ADX", "higher tier"],
)
def test_rank_decides_where_one_order_is_left(play, first, second, chosen):
    tables = ([hour(100, "long", rsi=65.0, **first)], [hour(100, "long", rsi=65.0, **second)])
    assert [fill[1] for fill in play(*tables, max_entry_orders_per_step=1)] == [chosen]
    assert sorted(fill[1] for fill in play(*tables)) == [0, 1]


def test_entries_go_with_the_lead(play):
    """BTC's close below its slow mean bars the long of the other, and not its own."""
    falling = [hour(100, ema_slow=101.0)]
    assert play(falling, [hour(100, "long")], names=("BTC", "ETH")) == []
    assert play(falling, [hour(100, "long")], names=("BTC", "ETH"), require_btc_alignment=False)[0][1] == 1
    assert play(falling, [hour(100, "long")], names=("SOL", "ETH"))[0][1] == 1
    assert play([hour(100)], [hour(100, "long")], names=("BTC", "ETH"))[0][1] == 1


def test_breadth_of_the_whole_book_bars_and_turns_signals_round(play):
    """One of two symbols is up: breadth 50."""
    tables = ([hour(100, "long")], [hour(100, side=-1)])
    assert [fill[1] for fill in play(*tables)] == [0]
    assert play(*tables, enable_regime_filter=True, breadth_block_long_below_pct=51.0) == []
    turned = play(*tables, enable_auto_reverse=True, enable_ssf_filter=False)
    assert turned == [(1, 0, "entry", -15.0, 100.0)]


def test_a_glitch_is_waited_out(play):
    """A close of 50 among hundreds: believed, it stops the position."""
    table = [hour(100, "long"), hour(50), hour(99), hour(99)]
    assert [fill[2] for fill in play(table)] == ["entry", "stop_loss"]
    assert [fill[2] for fill in play(table, block_exits_on_extreme_dev=True)] == ["entry"]


def test_a_glitch_is_measured_from_the_last_close(play):
    """160 is 23 % above 130, and 60 % above the 100 before that."""
    table = [hour(100, "long"), hour(130), hour(160)]
    guard = {"block_exits_on_extreme_dev": True, "glitch_atr_mult": 1000.0, "tp_atr_mult": 50.0}
    assert [fill[2] for fill in play(table, **guard)] == ["entry", "take_profit"]
    assert [fill[2] for fill in play([table[0], hour(160)], **guard)] == ["entry"]


def test_what_does_not_fit_under_the_cap_of_margin_is_cut_to_what_fits(play):
    """Half a percent of 10,000 USD is 50 of margin: 250 USD of notional, 2.5 coins."""
    table = [hour(100, "long")]
    assert play(table, max_total_margin_frac=0.005) == [(1, 0, "entry", 2.5, 100.0)]
    assert play(table, max_total_margin_frac=0.005, shrink_to_fit=False) == []
