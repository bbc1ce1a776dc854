"""A few candles for each rule, and the fills they must give; `docs/explanation/semantics.md` tells the same stories.

One coin at 100 USD unless said otherwise: no fee, no slippage, lots of 0.01 coins, stop 5 and target 10 from the entry.
Every case is played by the compiled simulation and by the twin.
"""

from dataclasses import dataclass, field, replace

import pytest
from kernel_kit import candle, one, play
from naive import Bar, Rules, Sizing

NEXT = Rules()
CLOSE = Rules(next_open=False, intrabar=False)
LONG = (1.0, 0.0, 5.0, 10.0)
SHORT = (-1.0, 0.0, 5.0, 10.0)
FLAT = candle(100)


@dataclass(frozen=True)
class Case:
    """Bars of one symbol, wishes by bar, and the fills as (bar, moment, reason, size, price)."""

    bars: list[Bar | None]
    wishes: dict[int, tuple[float, ...]]
    fills: list[tuple[int, str, str, float, float]]
    rules: Rules = NEXT
    sizing: Sizing = field(default_factory=Sizing)
    terms: dict[str, float] = field(default_factory=dict)


ADD = (1.0, 0.0, 5.0, 10.0, 1.0)
"""The side that is held, and one coin more."""

TENTH = (0.0, 0.0, 0.0, 0.0, 0.0, 0.1)

HALF = (0.0, 0.0, 0.0, 0.0, 0.0, 0.5)
"""No opinion, and an exit of the strategy's own that closes half."""

RESTED = (1.0, 0.0, 5.0, 10.0, 0.0, 0.0, 120.0)
"""Long, unless an exit has left the side less than two bars ago."""

UP = [candle(100), candle(101, 104, 99, 102), candle(103), candle(106), candle(104)]

CASES = {
    "an entry fills at the next open": Case(UP, {0: LONG}, [(1, "open", "entry", 1, 101)]),
    "an entry fills at the close of its decision": Case(
        UP, {1: LONG}, [(1, "close", "entry", 1, 102)], replace(NEXT, next_open=False)
    ),
    "delay 1 lets one open pass": Case(UP, {0: LONG}, [(2, "open", "entry", 1, 103)], replace(NEXT, delay_bars=1)),
    "delay 2 lets two opens pass": Case(UP, {0: LONG}, [(3, "open", "entry", 1, 106)], replace(NEXT, delay_bars=2)),
    "a reversal lets as many opens pass": Case(
        [*UP, candle(105), candle(107)],
        {0: LONG, 3: SHORT},
        [(3, "open", "entry", 1, 106), (6, "open", "signal", -1, 107), (6, "open", "entry", -1, 107)],
        replace(NEXT, delay_bars=2),
    ),
    "delay 1 fills at the next close": Case(
        UP, {0: LONG}, [(1, "close", "entry", 1, 102)], replace(CLOSE, delay_bars=1)
    ),
    "delay 2 fills at the second next close": Case(
        UP, {0: LONG}, [(2, "close", "entry", 1, 103)], replace(CLOSE, delay_bars=2)
    ),
    "a stop fills at its price": Case(
        [FLAT, FLAT, candle(98, 99, 94, 97)],
        {0: LONG},
        [(1, "open", "entry", 1, 100), (2, "inside", "stop", -1, 95)],
    ),
    "a touch is enough": Case(
        [FLAT, FLAT, candle(98, 99, 95, 97)],
        {0: LONG},
        [(1, "open", "entry", 1, 100), (2, "inside", "stop", -1, 95)],
    ),
    "a short's stop lies above": Case(
        [FLAT, FLAT, candle(101, 106, 101, 103)],
        {0: SHORT},
        [(1, "open", "entry", -1, 100), (2, "inside", "stop", 1, 105)],
    ),
    "a target fills at its price": Case(
        [FLAT, FLAT, candle(104, 111, 103, 108)],
        {0: LONG},
        [(1, "open", "entry", 1, 100), (2, "inside", "target", -1, 110)],
    ),
    "a short's target lies below": Case(
        [FLAT, FLAT, candle(96, 97, 89, 92)],
        {0: SHORT},
        [(1, "open", "entry", -1, 100), (2, "inside", "target", 1, 90)],
    ),
    "the stop wins when both are touched": Case(
        [FLAT, FLAT, candle(100, 111, 94, 100)],
        {0: LONG},
        [(1, "open", "entry", 1, 100), (2, "inside", "stop", -1, 95)],
    ),
    "a gap through the stop fills at the open": Case(
        [FLAT, FLAT, candle(91, 93, 90, 92)],
        {0: LONG},
        [(1, "open", "entry", 1, 100), (2, "inside", "stop", -1, 91)],
    ),
    "a gap through the target fills at the open": Case(
        [FLAT, FLAT, candle(113, 115, 112, 114)],
        {0: LONG},
        [(1, "open", "entry", 1, 100), (2, "inside", "target", -1, 113)],
    ),
    "the bar of the entry can stop it out": Case(
        [FLAT, candle(100, 101, 94, 98), FLAT],
        {0: LONG},
        [(1, "open", "entry", 1, 100), (1, "inside", "stop", -1, 95)],
    ),
    "an entry at the close is safe from its own bar": Case(
        [candle(100, 120, 80, 100), FLAT],
        {0: LONG},
        [(0, "close", "entry", 1, 100)],
        replace(NEXT, next_open=False),
    ),
    "after a stop the book stays flat until the next signal": Case(
        [FLAT, candle(100, 101, 94, 98), candle(99), candle(101), candle(102)],
        {0: LONG, 3: LONG},
        [(1, "open", "entry", 1, 100), (1, "inside", "stop", -1, 95), (4, "open", "entry", 1, 102)],
    ),
    "a bar that stops out may signal at its close": Case(
        [FLAT, candle(100, 101, 94, 98), candle(99)],
        {0: LONG, 1: SHORT},
        [(1, "open", "entry", 1, 100), (1, "inside", "stop", -1, 95), (2, "open", "entry", -1, 99)],
    ),
    "an opposite signal reverses at one price": Case(
        UP,
        {0: LONG, 2: SHORT},
        [(1, "open", "entry", 1, 101), (3, "open", "signal", -1, 106), (3, "open", "entry", -1, 106)],
    ),
    "a signal for the side held changes nothing": Case(UP, {0: LONG, 2: LONG}, [(1, "open", "entry", 1, 101)]),
    "the same side does not ask again while its order waits": Case(
        [*UP, candle(97)],
        {0: LONG, 1: (1.0, 0.0, 50.0, 50.0)},
        [(2, "open", "entry", 0.29, 103), (5, "inside", "stop", -0.29, 97)],
        replace(NEXT, delay_bars=1),
        Sizing(units=0.29),
    ),
    "a close fill reverses at the same close": Case(
        UP,
        {0: LONG, 2: SHORT},
        [(0, "close", "entry", 1, 100), (2, "close", "signal", -1, 103), (2, "close", "entry", -1, 103)],
        CLOSE,
    ),
    "a stop at the close sees no low": Case(
        [FLAT, candle(100, 100, 80, 98), candle(97, 97, 93, 94), FLAT],
        {0: LONG},
        [(0, "close", "entry", 1, 100), (2, "close", "stop", -1, 94)],
        CLOSE,
    ),
    "a target at the close sees no high": Case(
        [FLAT, candle(100, 120, 100, 109), candle(111), FLAT],
        {0: LONG},
        [(0, "close", "entry", 1, 100), (2, "close", "target", -1, 111)],
        CLOSE,
    ),
    "a stop at the close can fill at the next open": Case(
        [FLAT, FLAT, candle(97, 97, 93, 94), candle(96)],
        {0: LONG},
        [(1, "open", "entry", 1, 100), (3, "open", "stop", -1, 96)],
        replace(NEXT, intrabar=False),
    ),
    "a missing bar postpones the fill": Case(
        [FLAT, None, None, candle(102)], {0: LONG}, [(3, "open", "entry", 1, 102)]
    ),
    "a delay counts the symbol's own bars": Case(
        [FLAT, None, candle(102), None, candle(104)],
        {0: LONG},
        [(4, "open", "entry", 1, 104)],
        replace(NEXT, delay_bars=1),
    ),
    "a symbol without a bar signals nothing": Case([FLAT, None, FLAT, FLAT], {1: LONG}, []),
    "a stop waits for a bar that exists": Case(
        [FLAT, FLAT, None, candle(94, 96, 93, 95)],
        {0: LONG},
        [(1, "open", "entry", 1, 100), (3, "inside", "stop", -1, 94)],
    ),
    "the opposite signal cancels an entry that waits": Case(
        UP, {0: LONG, 1: SHORT}, [(3, "open", "entry", -1, 106)], replace(NEXT, delay_bars=1)
    ),
    "a reversal that waits is cancelled by the signal back": Case(
        [*UP, candle(105)],
        {0: LONG, 2: SHORT, 3: LONG},
        [(2, "open", "entry", 1, 103)],
        replace(NEXT, delay_bars=1),
    ),
    "the opening part outlives a stop that closed first": Case(
        [FLAT, FLAT, FLAT, candle(99, 99, 94, 96), candle(97), candle(98)],
        {0: LONG, 2: SHORT},
        [(2, "open", "entry", 1, 100), (3, "inside", "stop", -1, 95), (4, "open", "entry", -1, 97)],
        replace(NEXT, delay_bars=1),
    ),
    "a stop is not postponed by a signal after it": Case(
        [FLAT, FLAT, candle(94), candle(93), candle(92), candle(91)],
        {0: LONG, 3: SHORT},
        [(1, "close", "entry", 1, 100), (3, "close", "stop", -1, 93), (4, "close", "entry", -1, 92)],
        replace(CLOSE, delay_bars=1),
    ),
    "before a stop is filled either side may be wanted again, and the last wish counts": Case(
        [*[FLAT] * 4, candle(94), candle(93), candle(92), candle(91), candle(90), candle(89)],
        {0: LONG, 5: SHORT, 6: LONG},
        [(3, "close", "entry", 1, 100), (7, "close", "stop", -1, 91), (9, "close", "entry", 1, 89)],
        replace(CLOSE, delay_bars=3),
    ),
    "a stop touched while a reversal waits is not cancelled by the signal back": Case(
        [FLAT, FLAT, candle(100), candle(94), candle(96), candle(97), candle(98)],
        {0: LONG, 2: SHORT, 3: LONG},
        [(2, "open", "entry", 1, 100), (4, "open", "stop", -1, 96), (5, "open", "entry", 1, 97)],
        Rules(intrabar=False, delay_bars=1),
    ),
    "slippage makes every fill worse, and stops hang on the price paid": Case(
        [FLAT, FLAT, candle(98, 99, 94, 97)],
        {0: LONG},
        [(1, "open", "entry", 1, 101), (2, "inside", "stop", -1, 96 * 0.98)],
        replace(NEXT, entry_slip=0.01, exit_slip=0.02),
    ),
    "a short pays slippage the other way": Case(
        UP,
        {0: SHORT, 1: LONG},
        [
            (1, "open", "entry", -1, 101 * 0.99),
            (2, "open", "signal", 1, 103 * 1.02),
            (2, "open", "entry", 1, 103 * 1.01),
        ],
        replace(NEXT, entry_slip=0.01, exit_slip=0.02),
    ),
    "a fraction of equity is rounded down to lots": Case(
        [candle(300), candle(300)],
        {0: LONG},
        [(1, "open", "entry", 3.33, 300)],
        sizing=Sizing(frac=0.1),
    ),
    "a size on the grid stays on the grid": Case(
        [FLAT, FLAT], {0: LONG}, [(1, "open", "entry", 0.29, 100)], sizing=Sizing(units=0.29)
    ),
    "less than a lot is nothing": Case([FLAT, FLAT], {0: LONG}, [], sizing=Sizing(units=0.0099)),
    "the least notional is enough": Case(
        [FLAT, FLAT],
        {0: LONG},
        [(1, "open", "entry", 0.1, 100)],
        sizing=Sizing(units=0.1),
        terms={"min_notional_usd": 10.0},
    ),
    "below the least notional nothing is ordered": Case(
        [FLAT, FLAT], {0: LONG}, [], sizing=Sizing(units=0.09), terms={"min_notional_usd": 10.0}
    ),
    "a reversal that is too small still closes": Case(
        [FLAT, FLAT, candle(50), candle(51)],
        {0: (1.0, 0.0, 60.0, 60.0), 2: SHORT},
        [(1, "open", "entry", 0.1, 100), (3, "open", "signal", -0.1, 51)],
        sizing=Sizing(units=0.1),
        terms={"min_notional_usd": 10.0},
    ),
    "margin and fee must fit": Case(
        [FLAT, FLAT],
        {0: LONG},
        [(1, "open", "entry", 99.55, 100)],
        replace(NEXT, fee=0.0045),
        Sizing(units=99.55, leverage=1.0),
    ),
    "a wish beyond the margin is refused, not cut": Case(
        [FLAT, FLAT], {0: LONG}, [], replace(NEXT, fee=0.0045), Sizing(units=99.56, leverage=1.0)
    ),
    "all of the money may become margin": Case(
        [FLAT, FLAT], {0: LONG}, [(1, "open", "entry", 100, 100)], sizing=Sizing(units=100.0, leverage=1.0)
    ),
    "an addition averages the entry, and stop and target stay": Case(
        [candle(100), candle(102), candle(103), candle(95)],
        {0: LONG, 1: ADD},
        [(0, "close", "entry", 1, 100), (1, "close", "add", 1, 102), (3, "close", "stop", -2, 95)],
        CLOSE,
    ),
    "an addition is of whole lots": Case(
        [FLAT, FLAT],
        {0: LONG, 1: (1.0, 0.0, 5.0, 10.0, 0.299)},
        [(0, "close", "entry", 1, 100), (1, "close", "add", 0.29, 100)],
        CLOSE,
    ),
    "an addition below the least notional is not ordered": Case(
        [FLAT, FLAT],
        {0: LONG, 1: (1.0, 0.0, 5.0, 10.0, 0.09)},
        [(0, "close", "entry", 1, 100)],
        CLOSE,
        terms={"min_notional_usd": 10.0},
    ),
    "an addition needs margin and is refused whole": Case(
        [FLAT, FLAT, FLAT],
        {0: LONG, 1: (1.0, 0.0, 5.0, 10.0, 40.01), 2: (1.0, 0.0, 5.0, 10.0, 40.0)},
        [(0, "close", "entry", 60, 100), (2, "close", "add", 40, 100)],
        CLOSE,
        Sizing(units=60.0, leverage=1.0, shrink=True),
    ),
    "an addition lapses when the position is gone": Case(
        [FLAT, FLAT, FLAT, candle(99, 99, 94, 96), candle(97), candle(98)],
        {0: LONG, 2: ADD},
        [(2, "open", "entry", 1, 100), (3, "inside", "stop", -1, 95)],
        replace(NEXT, delay_bars=1),
    ),
    "an addition that waits is cancelled by the opposite signal": Case(
        [*UP, candle(105)],
        {0: LONG, 2: ADD, 3: SHORT},
        [(2, "open", "entry", 1, 103), (5, "open", "signal", -1, 105), (5, "open", "entry", -1, 105)],
        replace(NEXT, delay_bars=1),
    ),
    "nothing is added to what is being closed": Case(
        [FLAT, FLAT, FLAT],
        {0: LONG, 1: (1.0, 0.0, 5.0, 10.0, 1.0, 0.5)},
        [(0, "close", "entry", 1, 100), (1, "close", "scripted", -0.5, 100)],
        CLOSE,
    ),
    "a part is whole lots": Case(
        [candle(100), candle(102), candle(104)],
        {0: LONG, 1: HALF, 2: HALF},
        [(0, "close", "entry", 0.29, 100), (1, "close", "scripted", -0.14, 102), (2, "close", "scripted", -0.07, 104)],
        CLOSE,
        Sizing(units=0.29),
    ),
    "half of an even number of lots is half, whatever the product of coins rounds to": Case(
        [candle(100), candle(102), candle(104)],
        {0: (1.0, 0.0, 50.0, 50.0), 1: (1.0, 0.0, 50.0, 50.0, 2.63), 2: HALF},
        [(0, "close", "entry", 1.01, 100), (1, "close", "add", 2.63, 102), (2, "close", "scripted", -1.82, 104)],
        CLOSE,
        Sizing(units=1.01),
    ),
    "sizes stay whole lots, and a later close leaves exactly nothing": Case(
        [FLAT, FLAT, FLAT, FLAT, candle(94), FLAT],
        {0: LONG, 1: (1.0, 0.0, 5.0, 10.0, 0.2), 2: (1.0, 0.0, 5.0, 10.0, 0.7), 3: TENTH},
        [
            (0, "close", "entry", 0.1, 100),
            (1, "close", "add", 0.2, 100),
            (2, "close", "add", 0.7, 100),
            (3, "close", "scripted", -0.1, 100),
            (4, "close", "stop", -0.9, 94),
        ],
        CLOSE,
        Sizing(units=0.1),
    ),
    "a part of less than a lot closes nothing": Case(
        [FLAT, FLAT],
        {0: LONG, 1: HALF},
        [(0, "close", "entry", 0.01, 100)],
        CLOSE,
        Sizing(units=0.01),
    ),
    "a stop closes what a part has left": Case(
        [FLAT, candle(104), candle(94)],
        {0: LONG, 1: HALF},
        [(0, "close", "entry", 1, 100), (1, "close", "scripted", -0.5, 104), (2, "close", "stop", -0.5, 94)],
        CLOSE,
    ),
    "the strategy's own exits are asked where stops are inside bars too": Case(
        [FLAT, candle(104)],
        {0: LONG, 1: HALF},
        [(0, "close", "entry", 1, 100), (1, "close", "scripted", -0.5, 104)],
        replace(NEXT, next_open=False),
    ),
    "a strategy may let a side rest after an exit that was no signal": Case(
        [FLAT, candle(94), candle(94), candle(94), candle(94)],
        {0: RESTED, 1: RESTED, 2: RESTED, 3: RESTED},
        [(0, "close", "entry", 1, 100), (1, "close", "stop", -1, 94), (3, "close", "entry", 1, 94)],
        CLOSE,
    ),
    "an exit at an open was made when the bar before closed": Case(
        [FLAT, FLAT, candle(94), *[candle(94)] * 4],
        {0: LONG, 2: RESTED, 3: RESTED, 4: RESTED, 5: RESTED},
        [(1, "open", "entry", 1, 100), (3, "open", "stop", -1, 94), (5, "open", "entry", 1, 94)],
        replace(NEXT, intrabar=False),
    ),
    "an exit inside a bar is known when that bar closes": Case(
        [FLAT, FLAT, candle(100, 100, 94, 94), *[candle(94)] * 4],
        {0: LONG, 2: RESTED, 3: RESTED, 4: RESTED},
        [(1, "open", "entry", 1, 100), (2, "inside", "stop", -1, 95), (5, "open", "entry", 1, 94)],
    ),
    "the other side need not rest": Case(
        [FLAT, candle(106), candle(106)],
        {0: SHORT, 1: RESTED},
        [(0, "close", "entry", -1, 100), (1, "close", "stop", 1, 106), (1, "close", "entry", 1, 106)],
        CLOSE,
    ),
    "a side rests from the moment that its exit is ordered": Case(
        [FLAT, FLAT, candle(94), candle(94), candle(94)],
        {0: LONG, 2: RESTED},
        [(1, "close", "entry", 1, 100), (3, "close", "stop", -1, 94)],
        replace(CLOSE, delay_bars=1),
    ),
    "the stop is asked before the strategy's own exits": Case(
        [FLAT, candle(94)],
        {0: LONG, 1: HALF},
        [(0, "close", "entry", 1, 100), (1, "close", "stop", -1, 94)],
        CLOSE,
    ),
    "an opposite signal closes all of what was to be closed in part": Case(
        [FLAT, candle(104)],
        {0: LONG, 1: (-1.0, 0.0, 5.0, 10.0, 0.0, 0.5)},
        [(0, "close", "entry", 1, 100), (1, "close", "signal", -1, 104), (1, "close", "entry", -1, 104)],
        CLOSE,
    ),
    "a wish beyond the margin is cut to it where orders shrink": Case(
        [FLAT, FLAT],
        {0: LONG},
        [(1, "open", "entry", 99.55, 100)],
        replace(NEXT, fee=0.0045),
        Sizing(units=200.0, leverage=1.0, shrink=True),
    ),
    "what is cut below the least notional is refused": Case(
        [FLAT, FLAT],
        {0: LONG},
        [],
        sizing=Sizing(units=200.0, leverage=1.0, shrink=True),
        terms={"min_notional_usd": 10_000.01},
    ),
    "the least notional of the strategy applies where it is higher": Case(
        [FLAT, FLAT], {0: LONG}, [], sizing=Sizing(units=0.1, min_notional_usd=10.01), terms={"min_notional_usd": 10.0}
    ),
    "an order below the least notional is raised to it": Case(
        [candle(30), candle(30)],
        {0: LONG},
        [(1, "open", "entry", 0.34, 30)],
        sizing=Sizing(units=0.05, bump=True),
        terms={"min_notional_usd": 10.0},
    ),
    "what is raised must still fit": Case(
        [FLAT, FLAT],
        {0: LONG},
        [],
        replace(NEXT, initial_usd=9.99),
        Sizing(units=0.05, leverage=1.0, bump=True),
        terms={"min_notional_usd": 10.0},
    ),
    "a fraction of equity may become margin": Case(
        [FLAT, FLAT],
        {0: LONG},
        [(1, "open", "entry", 30, 100)],
        sizing=Sizing(units=30.0, leverage=1.0, margin_frac=0.3),
    ),
    "no more than that fraction": Case(
        [FLAT, FLAT], {0: LONG}, [], sizing=Sizing(units=30.01, leverage=1.0, margin_frac=0.3)
    ),
    "the venue's leverage applies where it is lower": Case(
        [FLAT, FLAT], {0: LONG}, [], sizing=Sizing(units=301.0, leverage=10.0), terms={"max_leverage": 3.0}
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_one_symbol(scripted_simulation, case: Case):
    outcome = play(
        scripted_simulation,
        [one(case.bars, **case.terms)],
        {(t, 0): w for t, w in case.wishes.items()},
        case.rules,
        case.sizing,
    )
    assert [(f.t, f.moment, f.reason, f.size, pytest.approx(f.price)) for f in outcome.fills] == case.fills
