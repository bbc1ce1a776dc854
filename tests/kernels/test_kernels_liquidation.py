"""Liquidation of a cross account: a few candles for each rule, played by simulation and twin.

100 coins from 100 USD with a maintenance margin of 10 %: a long on 1,900 USD, a short on 2,100 USD. The long is
liquidated at 90, where 900 USD are left against 900 of maintenance, the short at 110. Two thirds of the maintenance
margin are left at 86.79, and at 113.44; nothing is left at 81, and at 121.
"""

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from kernel_kit import Outcome, Script, Scripted, assert_same, candle, one, play, run_scripted, run_twin
from naive import Bar, Rules, Sizing, Symbol
from random_markets import SHAPES, random_symbol

LONG_USD, SHORT_USD = 1_900.0, 2_100.0
NEXT = Rules(initial_usd=LONG_USD)
CLOSE = replace(NEXT, next_open=False, intrabar=False)
HUNDRED = Sizing(units=100.0, leverage=10.0)
FLAT = candle(100)
FAR = 90.0


def long(stop: float = FAR, target: float = FAR) -> tuple[float, ...]:
    """A wish for a long, with distances of stop and target."""
    return (1.0, 0.0, stop, target)


def short(stop: float = FAR, target: float = FAR) -> tuple[float, ...]:
    """A wish for a short."""
    return (-1.0, 0.0, stop, target)


@dataclass(frozen=True)
class Case:
    """The bar after a position was opened at 100, the fills as (moment, reason, size, price), and the money left."""

    bar: Bar | None
    fills: list[tuple[str, str, float, float]]
    left_usd: float
    liquidations: int = 1
    wish: tuple[float, ...] = field(default_factory=long)
    rules: Rules = NEXT


SHORTED = replace(NEXT, initial_usd=SHORT_USD)
COSTLY = replace(NEXT, exit_slip=0.01, fee=0.001, initial_usd=LONG_USD + 10.0)
"""Slippage of 1 % and a fee of 0.1 %; the fee of the entry is paid out of the 10 USD more."""

CASES = {
    "equity equal to maintenance is enough": Case(candle(100, 100, 90, 95), [], 1_400, 0),
    "a low below the liquidation price": Case(candle(100, 100, 80, 95), [("inside", "liquidation", -100, 90)], 900),
    "a stop before it": Case(candle(100, 100, 80, 95), [("inside", "stop", -100, 95)], 1_400, 0, long(5)),
    "a stop at it": Case(candle(100, 100, 80, 95), [("inside", "stop", -100, 90)], 900, 0, long(10)),
    "a stop beyond it": Case(candle(100, 100, 80, 95), [("inside", "liquidation", -100, 90)], 900, wish=long(11)),
    "a stop beyond it that the bar does not reach": Case(
        candle(100, 100, 80, 95), [("inside", "liquidation", -100, 90)], 900, wish=long(21)
    ),
    "an open beyond the stop": Case(candle(92, 93, 80, 95), [("inside", "stop", -100, 92)], 1_100, 0, long(5)),
    "an open at the liquidation price": Case(candle(90, 93, 90, 91), [("inside", "stop", -100, 90)], 900, 0, long(5)),
    "an open beyond it": Case(candle(87, 93, 80, 90), [("open", "liquidation", -100, 87)], 600, wish=long(5)),
    "an open beyond two thirds of maintenance": Case(
        candle(86, 93, 80, 90), [("open", "backstop", 0, 86), ("open", "liquidation", -100, 86)], 0
    ),
    "an open beyond bankruptcy": Case(
        candle(40, 93, 40, 90), [("open", "backstop", 0, 40), ("open", "liquidation", -100, 40)], 0, wish=long(5)
    ),
    "a target in the same bar": Case(
        candle(100, 111, 80, 95), [("inside", "liquidation", -100, 90)], 900, wish=long(FAR, 10)
    ),
    "an open beyond the target of the same bar": Case(
        candle(112, 113, 80, 95), [("inside", "liquidation", -100, 90)], 900, wish=long(FAR, 10)
    ),
    "a target alone": Case(candle(100, 111, 91, 95), [("inside", "target", -100, 110)], 2_900, 0, long(FAR, 10)),
    "a missing bar": Case(None, [], 1_900, 0),
    "market orders pay slippage and a fee": Case(
        candle(100, 100, 80, 95), [("inside", "liquidation", -100, 89.1)], 900 - 90 - 8.91, rules=COSTLY
    ),
    "market orders that would leave less than nothing": Case(
        candle(100, 100, 80, 95),
        [("inside", "backstop", 0, 90), ("inside", "liquidation", -100, 90)],
        0,
        rules=replace(COSTLY, exit_slip=0.1),
    ),
    "a short: equity equal to maintenance is enough": Case(candle(100, 110, 100, 105), [], 1_600, 0, short(), SHORTED),
    "a short: a high above the liquidation price": Case(
        candle(100, 120, 100, 105), [("inside", "liquidation", 100, 110)], 1_100, 1, short(), SHORTED
    ),
    "a short: a stop before it": Case(
        candle(100, 120, 100, 105), [("inside", "stop", 100, 105)], 1_600, 0, short(5), SHORTED
    ),
    "a short: a stop at it": Case(
        candle(100, 120, 100, 105), [("inside", "stop", 100, 110)], 1_100, 0, short(10), SHORTED
    ),
    "a short: a stop beyond it": Case(
        candle(100, 120, 100, 105), [("inside", "liquidation", 100, 110)], 1_100, 1, short(11), SHORTED
    ),
    "a short: an open beyond the stop": Case(
        candle(108, 120, 100, 105), [("inside", "stop", 100, 108)], 1_300, 0, short(5), SHORTED
    ),
    "a short: an open beyond it": Case(
        candle(113, 120, 100, 105), [("open", "liquidation", 100, 113)], 800, 1, short(5), SHORTED
    ),
    "a short: an open beyond bankruptcy": Case(
        candle(200, 210, 100, 105),
        [("open", "backstop", 0, 200), ("open", "liquidation", 100, 200)],
        0,
        1,
        short(5),
        SHORTED,
    ),
    "stops at closes: the bar liquidates before its close stops": Case(
        candle(100, 100, 80, 94), [("inside", "liquidation", -100, 90)], 900, wish=long(5), rules=CLOSE
    ),
    "stops at closes: a low beyond the stop, and none beyond the liquidation price": Case(
        candle(100, 100, 91, 94), [("close", "stop", -100, 94)], 1_300, 0, long(5), CLOSE
    ),
    "stops at closes: an open beyond bankruptcy": Case(
        candle(80, 93, 80, 90), [("open", "backstop", 0, 80), ("open", "liquidation", -100, 80)], 0, rules=CLOSE
    ),
    "stops inside bars after an entry at a close": Case(
        candle(100, 100, 80, 95),
        [("inside", "liquidation", -100, 90)],
        900,
        wish=long(11),
        rules=replace(NEXT, next_open=False),
    ),
}


def ends(outcome: Outcome) -> list[tuple[str, str, float, object]]:
    """Everything that was booked after the entry."""
    return [(f.moment, f.reason, f.size, pytest.approx(f.price)) for f in outcome.fills if f.reason != "entry"]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_bar_after_the_entry(scripted_simulation, case: Case):
    symbol = one([FLAT, FLAT, case.bar] if case.rules.next_open else [FLAT, case.bar], maintenance_frac=0.1)
    outcome = play(scripted_simulation, [symbol], {(0, 0): case.wish}, case.rules, HUNDRED)
    assert ends(outcome) == case.fills
    assert outcome.equity[-1] == pytest.approx(case.left_usd)
    assert outcome.results["liquidations"] == case.liquidations
    if ("backstop", 0) in [(reason, size) for _, reason, size, _ in case.fills]:
        assert outcome.equity[-1] == 0.0


def test_the_backstop_takes_what_is_left_and_bears_what_is_missing(scripted_simulation):
    """At 86, 500 USD are left, which go with the position; at 40, the venue bears 4,100 USD."""
    for price, taken in ((86.0, -500.0), (40.0, 4_100.0)):
        bars = [FLAT, FLAT, candle(price)]
        outcome = play(scripted_simulation, [one(bars, maintenance_frac=0.1)], {(0, 0): long()}, NEXT, HUNDRED)
        settled, closed = outcome.fills[1:]
        assert (settled.cash, settled.held) == (pytest.approx(taken), 100.0)
        assert (closed.cash, closed.held) == (pytest.approx(100.0 * (price - 100.0)), 0.0)
        assert LONG_USD + sum(fill.cash for fill in outcome.fills) == 0.0
        assert outcome.results["gross_loss_usd"] == LONG_USD
        assert outcome.results["max_drawdown_frac"] == 1.0


def test_the_backstop_splits_by_notional(scripted_simulation):
    """At 60 and 20, 3,000 and 1,000 USD of notional share -2,000 USD of value."""
    symbols = [one([FLAT, FLAT, candle(price)], maintenance_frac=0.1) for price in (60, 20)]
    rules = replace(NEXT, initial_usd=4_000.0)
    wishes = {(0, 0): long(), (0, 1): long()}
    outcome = play(scripted_simulation, symbols, wishes, rules, Sizing(units=50.0, leverage=10.0))
    settled = [(f.s, f.price, pytest.approx(f.cash)) for f in outcome.fills if f.reason == "backstop"]
    assert settled == [(0, 60, 1_500), (1, 20, 500)]
    assert [f.s for f in outcome.fills if f.reason == "liquidation"] == [0, 1]
    assert outcome.equity[-1] == 0.0


def test_an_account_at_zero_is_refused_everything(scripted_simulation):
    bars = [FLAT, FLAT, *[candle(40)] * 6]
    wishes = {(0, 0): long(), (2, 0): long(), (3, 0): short(), (4, 0): long()}
    for sizing in (
        HUNDRED,
        Sizing(frac=5.0, leverage=10.0),
        replace(HUNDRED, shrink=True),
        replace(HUNDRED, bump=True),
    ):
        outcome = play(scripted_simulation, [one(bars, maintenance_frac=0.1)], wishes, NEXT, sizing)
        assert outcome.equity[2:] == [0.0] * 6
        assert (outcome.results["liquidations"], outcome.results["refused"]) == (1, 3)


def test_an_open_that_ruins_the_account_comes_before_the_orders_that_wait_for_it(scripted_simulation):
    """A reversal waits for an open at 80: it is neither closed nor turned at a loss beyond what there was."""
    bars = [FLAT, FLAT, FLAT, candle(80), candle(80)]
    outcome = play(
        scripted_simulation, [one(bars, maintenance_frac=0.1)], {(0, 0): long(), (2, 0): short()}, NEXT, HUNDRED
    )
    assert ends(outcome) == [("open", "backstop", 0, 80), ("open", "liquidation", -100, 80)]
    assert outcome.equity[-1] == 0.0


def test_an_order_that_waits_for_an_open_above_maintenance_is_filled(scripted_simulation):
    bars = [FLAT, FLAT, FLAT, candle(91, 91, 80, 90), candle(80)]
    outcome = play(
        scripted_simulation, [one(bars, maintenance_frac=0.1)], {(0, 0): long(), (2, 0): short()}, NEXT, HUNDRED
    )
    assert ends(outcome) == [("open", "signal", -100, 91)]
    assert outcome.equity[-1] == pytest.approx(1_000 + 100 * 11)  # short from 91


def test_liquidation_closes_every_position_and_drops_every_entry_that_waits(scripted_simulation):
    """Two longs of 450, one falling to 80 and one to 99; the third symbol has no bar, and its entry is dropped."""
    falls, calm = candle(100, 100, 80, 99), candle(100, 101, 99, 100)
    symbols = [
        one([FLAT, FLAT, FLAT, falls, FLAT, FLAT]),
        one([FLAT, FLAT, FLAT, calm, FLAT, FLAT]),
        one([FLAT, FLAT, FLAT, None, FLAT, FLAT]),
    ]
    wishes = {(0, 0): long(), (0, 1): long(), (2, 2): long()}
    rules, sizing = Rules(initial_usd=9_450.0), Sizing(units=450.0, leverage=20.0)
    outcome = play(scripted_simulation, symbols, wishes, rules, sizing)
    room = 9_450.0 - 900.0, 9_450.0 - 450.0 * 21.0 - 4.5 * (80.0 + 99.0)
    place = room[0] / (room[0] - room[1])
    closed = [(f.t, f.s, f.reason, pytest.approx(f.price)) for f in outcome.fills if f.reason != "entry"]
    assert closed == [(3, 0, "liquidation", 100 - 20 * place), (3, 1, "liquidation", 100 - place)]
    assert [f.s for f in outcome.fills if f.reason == "entry"] == [0, 1]
    assert outcome.equity[-1] == pytest.approx(9_450.0 - 450.0 * 21.0 * place)


TWO = [one([FLAT, FLAT, candle(100, 100, 80, 95)], maintenance_frac=0.1) for _ in range(2)]


@pytest.mark.parametrize(
    ("stops", "ends_as"),
    [
        ((5, FAR), [(0, "stop", 95)]),
        ((FAR, 5), [(1, "stop", 95)]),
        ((8, FAR), [(0, "liquidation", 92.5), (1, "liquidation", 92.5)]),
        ((5, 19), [(0, "stop", 95), (1, "stop", 81)]),
        ((5, 5), [(0, "stop", 95), (1, "stop", 95)]),
        ((6, 5), [(1, "stop", 95), (0, "stop", 94)]),
        ((FAR, 8), [(0, "liquidation", 92.5), (1, "liquidation", 92.5)]),
    ],
    ids=["saves", "saves the first", "comes too late", "two in turn", "equal", "the nearer first", "too late again"],
)
def test_a_stop_of_one_position_may_save_the_other(scripted_simulation, stops, ends_as):
    """Two longs on 3,350 USD are liquidated at 92.50 each; a stop of one at 95 leaves enough for the other."""
    wishes = {(0, s): long(stop) for s, stop in enumerate(stops)}
    outcome = play(scripted_simulation, TWO, wishes, replace(NEXT, initial_usd=3_350.0), HUNDRED)
    assert [(f.s, f.reason, f.price) for f in outcome.fills[2:]] == ends_as


def test_the_costs_of_a_stop_may_ruin_the_other_position(scripted_simulation):
    """Sold at 95 less 20 %, the first leaves 450 USD less than the second needs there."""
    rules = replace(NEXT, initial_usd=3_350.0, exit_slip=0.2)
    outcome = play(scripted_simulation, TWO, {(0, 0): long(5), (0, 1): long()}, rules, HUNDRED)
    assert [(f.s, f.reason, f.price) for f in outcome.fills[2:]] == [
        (0, "stop", 76), (1, "backstop", 95), (1, "liquidation", 95),
    ]  # fmt: skip
    assert outcome.equity[-1] == 0.0


def test_a_stop_is_passed_on_the_way_to_liquidation(scripted_simulation):
    """Of 2,400 USD the stop of the first at 95 takes 500; the second is liquidated at 90."""
    rules = replace(NEXT, initial_usd=2_400.0)
    halves = [replace(TWO[0], maintenance_frac=0.0), TWO[1]]
    outcome = play(scripted_simulation, halves, {(0, 0): long(5), (0, 1): long()}, rules, HUNDRED)
    assert [(f.s, f.reason, f.price) for f in outcome.fills[2:]] == [(0, "stop", 95), (1, "liquidation", 90)]


def test_long_and_short_are_at_their_worst_together(scripted_simulation):
    """The long falls to 80 while the short rises to 120."""
    symbols = [
        one([FLAT, FLAT, candle(100, 120, 80, 100)], maintenance_frac=0.0),
        one([FLAT, FLAT, candle(100, 120, 80, 100)], maintenance_frac=0.0),
    ]
    rules = replace(NEXT, initial_usd=2_000.0)
    outcome = play(scripted_simulation, symbols, {(0, 0): long(), (0, 1): short()}, rules, HUNDRED)
    assert ends(outcome) == [("inside", "liquidation", -100, 90), ("inside", "liquidation", 100, 110)]
    assert outcome.equity[-1] == 0.0


def test_a_symbol_without_a_bar_stays_at_its_last_price(scripted_simulation):
    """The other falls from 100 to 80: 2,800 USD and 1,000 of maintenance for the one that stands still."""
    symbols = [
        one([FLAT, FLAT, None], maintenance_frac=0.1),
        one([FLAT, FLAT, candle(100, 100, 80, 95)], maintenance_frac=0.1),
    ]
    rules = replace(NEXT, initial_usd=2_900.0)
    outcome = play(scripted_simulation, symbols, {(0, 0): long(), (0, 1): long()}, rules, HUNDRED)
    assert ends(outcome) == [("inside", "liquidation", -100, 100), ("inside", "liquidation", -100, 90)]


def test_funding_that_takes_an_account_below_maintenance_liquidates_it_at_the_next_open(scripted_simulation):
    """10 % of 10,000 USD leave 900 USD against 1,000 of maintenance."""
    symbol = one([FLAT, FLAT, FLAT], {1: 0.1}, maintenance_frac=0.1)
    outcome = play(scripted_simulation, [symbol], {(0, 0): long()}, NEXT, HUNDRED)
    assert [(f.t, f.moment, f.reason, f.price) for f in outcome.fills[1:]] == [
        (1, "close", "funding", 100), (2, "open", "liquidation", 100),
    ]  # fmt: skip
    assert outcome.equity[1:] == [900, 900]


def test_an_entry_that_is_below_maintenance_at_once_is_liquidated_at_its_open(scripted_simulation):
    """Ordered at 100, filled at 110 with 10 % of slippage: 800 USD are left against 1,100."""
    bars = [FLAT, candle(110, 115, 109, 110)]
    rules = replace(NEXT, entry_slip=0.1)
    outcome = play(scripted_simulation, [one(bars, maintenance_frac=0.1)], {(0, 0): long()}, rules, HUNDRED)
    assert ends(outcome) == [("open", "liquidation", -100, 110)]


@pytest.mark.parametrize("low", [80.0, 79.0])
def test_without_maintenance_the_account_is_liquidated_below_zero(scripted_simulation, low):
    symbol = one([FLAT, FLAT, candle(100, 100, low, 99)], maintenance_frac=0.0)
    outcome = play(scripted_simulation, [symbol], {(0, 0): long()}, replace(NEXT, initial_usd=2_000.0), HUNDRED)
    assert ends(outcome) == ([("inside", "liquidation", -100, 80)] if low < 80.0 else [])
    assert outcome.equity[-1] == pytest.approx(0.0 if low < 80.0 else 1_900.0)


@pytest.mark.parametrize(
    ("rules", "wish", "moment"),
    [(NEXT, long(15), "inside"), (replace(CLOSE, next_open=True), long(15), "open"), (CLOSE, long(15), "close")],
)
def test_a_close_that_costs_more_than_there_is_leaves_zero(scripted_simulation, rules, wish, moment):
    """Without maintenance: 2,000 USD less 1,500 are left at 85, and slippage of 10 % costs 850."""
    bars = [FLAT, FLAT, candle(85), candle(85)]
    rules = replace(rules, initial_usd=2_000.0, exit_slip=0.1)
    outcome = play(scripted_simulation, [one(bars, maintenance_frac=0.0)], {(0, 0): wish}, rules, HUNDRED)
    assert ends(outcome) == [(moment, "backstop", 0, 76.5), (moment, "stop", -100, 76.5)]
    assert outcome.equity[-1] == 0.0
    assert outcome.results["liquidations"] == 1


def random_book(seed: int) -> tuple[list[Symbol], Rules, Sizing, Script]:
    """Symbols of several shapes, far too much leverage included, and wishes that add and close in part."""
    rng = np.random.default_rng(seed)
    symbols = [random_symbol(rng, str(rng.choice(SHAPES[:5])), 40, 0.1 * (seed % 2)) for _ in range(1 + seed % 4)]
    fee, entry_slip, exit_slip = (float(rng.choice(some)) for some in ((0.0, 0.00045, 0.01), (0.0, 0.03), (0.0, 0.03)))
    rules = Rules(bool(seed % 3), bool(seed % 5), int(rng.choice([0, 0, 1, 3])), fee, entry_slip, exit_slip)
    frac, leverage = ((0.7, 2.0), (4.0, 10.0), (15.0, 40.0), (1.0, 1.0))[rng.integers(4)]
    script = []
    for t in range(40):
        row = []
        for symbol in symbols:
            bar = symbol.bars[t]
            side = float(rng.choice([-1.0, 1.0])) if rng.random() < 0.3 else 0.0
            stop, target = ((bar.close if bar else 1.0) * float(x) for x in rng.choice([0.0, 0.01, 0.05, 2.0], 2))
            more, out = float(rng.choice([0.0, 0.0, 0.1, 3.3, 50.0])), float(rng.choice([0.0, 0.0, 0.0, 0.5, 0.29]))
            row.append((side, float(rng.integers(0, 3)), stop, target, more, out))
        script.append(row)
    return symbols, rules, Sizing(frac, 1.0, leverage, int(rng.integers(1, 6)), shrink=bool(seed % 2)), script


@pytest.mark.parametrize("seeds", [range(12), range(12, 24)], ids=str)
def test_a_flat_account_is_not_below_zero_sizes_are_whole_lots_and_trades_tell_the_cash(scripted_simulation, seeds):
    settled = 0
    for seed in seeds:
        symbols, rules, sizing, script = random_book(seed)
        outcome = run_scripted(scripted_simulation, symbols, rules, sizing, script)
        assert_same(outcome, run_twin(symbols, rules, sizing, Scripted(script)))
        near = 1e-9 * (rules.initial_usd + outcome.results["turnover_usd"])
        cash, closed, held, under_way = rules.initial_usd, 0.0, Counter(), Counter()
        for fill in outcome.fills:
            cash += fill.cash
            under_way[fill.s] += fill.cash
            held[fill.s] = fill.held
            closed += 0.0 if fill.held else under_way.pop(fill.s)
            assert any(held.values()) or cash >= -near
            lots = max(symbols[fill.s].at(t).lots for t in range(fill.t + 1))
            assert fill.held == round(fill.held * lots) / lots
        assert outcome.results["gross_profit_usd"] - outcome.results["gross_loss_usd"] == pytest.approx(
            closed, abs=near
        )
        assert any(held.values()) or 0.0 <= outcome.equity[-1] == pytest.approx(cash, abs=near)
        settled += sum(fill.reason == "backstop" for fill in outcome.fills)
    assert settled
