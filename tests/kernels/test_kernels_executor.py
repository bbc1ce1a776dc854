"""Masks and limits of a lane's decisions, and the orders that a broker adopts."""

import scripted
from kernel_kit import NO_CROSS, Case, candle, inputs_of, one, plain_values, script_columns, script_of
from lane_kit import follow, new_lane
from naive import Rules, Sizing

from kernels.book import VERDICTS
from kernels.lane import adopt_orders
from kernels.turn import limits_of

UP = [candle(100.0 + t) for t in range(6)]
LONG, SHORT = (1.0, 0.0, 500.0, 500.0), (-1.0, 0.0, 50.0, 500.0)


def verdicts_of(drivers, wishes, limits, places=9):
    """Verdicts of the symbols at each step, two symbols that rise and are filled at closes."""
    symbols = [one(UP), one(UP)]
    rules, sizing = Rules(next_open=False), Sizing(frac=0.1, places=places)
    case = Case(symbols, rules, plain_values(sizing, NO_CROSS))
    inputs = inputs_of(scripted, case, script_columns(script_of(wishes, len(UP), 2)))
    lane = new_lane(drivers, inputs, rules.initial_usd)
    for _ in follow(lane, inputs, 0, len(UP), limits):
        pass
    return [[VERDICTS[code] for code in step] for step in lane.verdicts], lane


def test_a_masked_symbol_takes_no_place_and_still_closes(scripted_drivers):
    wishes = {(0, 0): LONG, (0, 1): LONG, (1, 0): LONG, (2, 0): SHORT, (3, 1): LONG}
    told, lane = verdicts_of(scripted_drivers, wishes, lambda t: limits_of(may_enter=[t < 1, t == 0]), places=1)
    assert told[0] == ["entry ordered", "no places left"]
    assert told[1][0] == "blocked"  # held: it may not be added to
    assert told[2][0] == "blocked"  # the signal against it closes it, and it does not reverse
    assert lane.book.positions[0, 0]["size"] == 0.0
    assert told[3][1] == "blocked"
    told, _ = verdicts_of(scripted_drivers, {(0, 0): LONG, (0, 1): LONG}, lambda _: limits_of(may_enter=[0, 1]), 1)
    assert told[0] == ["blocked", "entry ordered"]


def test_a_late_step_enters_and_adds_nothing(scripted_drivers):
    wishes = {(0, 0): LONG, (1, 0): (1.0, 0.0, 500.0, 500.0, 1.0), (1, 1): LONG, (2, 0): SHORT}
    told, lane = verdicts_of(scripted_drivers, wishes, lambda t: limits_of(late=t >= 1))
    assert told[0][0] == "entry ordered"
    assert told[1] == ["late", "late"]
    assert told[2][0] == "late"
    assert lane.book.accounts[0]["fills"] == 2.0
    told, _ = verdicts_of(scripted_drivers, wishes, lambda _: limits_of(late=True, may_enter=[0, 1]))
    assert told[0][0] == "blocked"
    assert told[1] == ["blocked", "late"]


def test_orders_are_adopted_by_symbol(scripted_drivers):
    _, lane = verdicts_of(scripted_drivers, {}, None)
    for s, size in ((0, 2.0), (1, -3.0)):
        lane.book.positions[0, s]["open_size"] = size
        lane.book.positions[0, s]["open_wait"] = 4.0
    adopt_orders(lane.book, lane.broker, [1])
    assert lane.broker.positions[0]["open_size"].tolist() == [0.0, -3.0]
    assert lane.broker.active[0, : lane.broker.accounts[0]["active"]].tolist() == [1]
    lane.broker.positions[0, 1]["open_wait"] = 2.0
    adopt_orders(lane.book, lane.broker)
    assert lane.broker.positions[0]["open_wait"].tolist() == [4.0, 2.0]
    lane.book.positions[0, 1]["open_size"] = 3.0  # another order: it waits anew
    adopt_orders(lane.book, lane.broker)
    assert lane.broker.positions[0]["open_wait"].tolist() == [4.0, 4.0]
