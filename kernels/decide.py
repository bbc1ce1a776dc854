"""Decisions of a book at the close of a step: exits, closes by signals, additions, entries by rank.

Decisions leave orders in the positions and change no cash. `kernels.bind` loads this file once per strategy, after
`apply.py`, and puts the functions of both into its globals.
"""

from typing import TYPE_CHECKING

import numpy as np

from kernels.book import (
    ADDS,
    BLOCKED,
    CLOSING,
    ENTERED,
    HELD,
    LATE,
    NO_EXIT,
    NO_ORDERS,
    NO_PLACES,
    NOT_ADMITTED,
    OWN_EXITS,
    SIGNAL,
    WAITING,
    activate,
    clear_closing,
    order_close,
    touched,
)
from kernels.book_rules import fit_order, order_open, reserved_by_orders, set_verdict
from kernels.jit import device

if TYPE_CHECKING:
    # `kernels.bind` sets these globals before it runs this module.
    from kernels.apply import end_order  # noqa: TC004 - as above
    from kernels.bind import reader
    from kernels.defaults import EXITS, add, admits, manage, rank  # noqa: TC004 - as above
    from kernels.strategies.ema_cross import plan, size  # noqa: TC004 - as above

    read = reader(())


@device
def has_exits(model):
    """Return whether exits are decided at closes: the strategy has its own, or levels are tested against closes."""
    return (len(EXITS) > 0) | (model.intrabar == 0.0)


@device
def exit_of(turn, decision, s):
    """Order the exit of a position that has a bar and no closing order; return True if a closing order was made.

    Levels are also tested if the waiting closing order came from a signal, because a stop outranks a signal.
    """
    position = turn.positions[s]
    bar = turn.bars[s]
    waits = position.close_frac != 0.0
    decided = waits & (position.close_reason != SIGNAL)
    if (position.size != 0.0) & (not decided) & (bar.age >= 0.0):
        reason = NO_EXIT
        frac = 1.0
        if turn.model.intrabar == 0.0:
            reason = touched(position.size, position.stop, position.target, bar.close, bar.close)
        if (reason == NO_EXIT) & (not waits):
            g = turn.symbols[s].symbol_group
            now = read(decision.columns, decision.column_of[g], decision.step.row, s)
            before = read(decision.columns, decision.column_of[g], decision.step.previous_row, s)
            own, frac = manage(position, bar.close, turn.symbols[s].lots, now, before, decision.params[g])
            reason = OWN_EXITS + own if own >= 0 else NO_EXIT
        if reason != NO_EXIT:
            order_close(position, turn.model, frac, reason)
            set_verdict(decision.verdicts, s, CLOSING)
            return True
    return False


@device
def order_exits(turn, decision):
    """Order the exits of every position; return True if a closing order was made."""
    ordered = False
    for i in range(turn.account.active):
        ordered = exit_of(turn, decision, np.uint64(turn.active[i])) | ordered
    return ordered


@device
def process_signal(position, model, code, now, params, t):
    """Apply a signal to the position and the waiting orders of its symbol, and return a verdict.

    - A signal against a waiting opening order cancels that order.
    - A signal of the position's side cancels a closing order that came from a signal.
    - A signal against the position orders its close.
    - The symbol becomes a candidate for an entry (`ENTERED`) if the strategy admits it and no opening order waits. It
      must have no position of the signal's side, unless an exit is closing that position completely.
    """
    if position.open_size * code < 0.0:
        end_order(position, True, False)
    waits = position.open_size != 0.0
    leaving = (position.close_frac == 1.0) & (position.close_reason != SIGNAL)
    agrees = (position.size * code > 0.0) & (not leaving)
    if agrees:
        if (position.close_frac != 0.0) & (position.close_reason == SIGNAL):
            clear_closing(position)
        return WAITING if waits else HELD
    if position.size != 0.0:
        order_close(position, model, 1.0, SIGNAL)
    if waits:
        return WAITING
    exited = position.exited_long if code > 0 else position.exited_short
    since = (t - exited) * model.minutes
    return ENTERED if admits(position, code, leaving, since, now, params) else NOT_ADMITTED


@device
def masked(limits, s, verdict):
    """Return the verdict of a signal that would enter or add, under the limits from outside the book."""
    candidate = (verdict == ENTERED) | (verdict == HELD)
    late = LATE if candidate & (limits.late != 0) else verdict
    blocked = (limits.may_enter[s] == 0) if limits.may_enter.shape[0] > 0 else False
    return BLOCKED if candidate & blocked else late


@device
def signal_of(turn, decision, s):
    """Apply the signal of symbol `s` to its position and orders; return the verdict and the rank of a candidate."""
    code = int(decision.codes[s])
    g = turn.symbols[s].symbol_group
    now = read(decision.columns, decision.column_of[g], decision.step.row, s)
    params = decision.params[g]
    verdict = masked(decision.limits, s, process_signal(turn.positions[s], turn.model, code, now, params, turn.t))
    set_verdict(decision.verdicts, s, verdict)
    return verdict, (rank(code, now, params) if verdict == ENTERED else 0.0)


@device
def addition_of(turn, decision, s, value, free):
    """Order an addition to a position whose side agrees with its signal; return the free margin left, in USD."""
    position = turn.positions[s]
    code = int(decision.codes[s])
    # The verdict of a symbol without a signal is that of an earlier step.
    held = (position.size * code > 0.0) & (decision.verdicts[s] == HELD)
    if held & (position.close_frac == 0.0):
        g = turn.symbols[s].symbol_group
        params = decision.params[g]
        price = turn.bars[s].close
        since = (turn.t - position.added) * turn.model.minutes
        now = read(decision.columns, decision.column_of[g], decision.step.row, s)
        desired = add(position, code, value, price, since, now, params)
        if desired > 0.0:
            # The venue may have lowered the maximum leverage since the position was opened.
            most = turn.symbols[s].max_leverage
            leverage = position.leverage if position.leverage < most else most
            shrinks = False
            coins, cost, verdict = fit_order(
                desired, price, leverage, free, shrinks, turn.symbols[s], turn.model, params
            )
            if coins > 0.0:
                order_open(position, turn.model, coins if code > 0 else -coins, leverage, True, code)
                free -= cost
            set_verdict(decision.verdicts, s, ADDS if coins > 0.0 else verdict)
    return free


@device
def entry_of(turn, decision, s, value, free, places, orders):
    """Order the entry of a candidate.

    Returns:
        Free margin in USD, places and entry orders that are left.
    """
    account = turn.account
    position = turn.positions[s]
    held_margin = position.margin
    reverses = position.size != 0.0
    verdict = NO_ORDERS if orders < 1.0 else NO_PLACES
    if (orders >= 1.0) & ((places >= 1.0) | reverses):
        g = turn.symbols[s].symbol_group
        params = decision.params[g]
        code = int(decision.codes[s])
        price = turn.bars[s].close
        now = read(decision.columns, decision.column_of[g], decision.step.row, s)
        desired, leverage = size(code, value, price, turn.symbols[s].max_leverage, now, params)
        shrinks = params.shrink_to_fit != 0.0
        coins, cost, verdict = fit_order(
            desired, price, leverage, free + held_margin, shrinks, turn.symbols[s], turn.model, params
        )
        if coins > 0.0:
            verdict = ENTERED
            order_open(position, turn.model, coins if code > 0 else -coins, leverage, False, code)
            position.note_a, position.note_b, position.note_c = plan(code, price, now, params)
            activate(account, turn.active, s)
            # The closing part of a reversal frees the margin of the old position.
            extra = cost - held_margin
            free -= extra if extra > 0.0 else 0.0
            places -= 0.0 if reverses else 1.0
            orders -= 1.0
    account.refused += 0.0 if verdict == ENTERED else 1.0
    set_verdict(decision.verdicts, s, verdict)
    return free, places, orders


@device
def order_entries(turn, decision, value, free, places, count):
    """Order entries by rank, ties in symbol order, until margin, places or orders run out."""
    orders = decision.params[0].max_entry_orders_per_step
    ranks = decision.ranks
    for _ in range(count):
        best = 0
        for i in range(1, count):
            best = i if ranks[i] > ranks[best] else best
        ranks[best] = -np.inf
        free, places, orders = entry_of(turn, decision, decision.candidates[best], value, free, places, orders)


@device
def process_signals(turn, decision, value):
    """Turn the signals of the step into orders: closes, then additions in symbol order, then entries by rank.

    Sizes are based on `value`. Waiting orders reserve their margin. The margin of a position that an order closes is
    free only for the opening part of the same order.
    """
    account = turn.account
    limits = decision.limits
    count = 0
    agreeing = False
    for i in range(decision.step.signal_count):
        s = np.uint64(decision.signal_symbols[i])
        verdict, own_rank = signal_of(turn, decision, s)
        agreeing = agreeing | (verdict == HELD)
        if verdict == ENTERED:
            decision.candidates[count] = decision.signal_symbols[i]
            decision.ranks[count] = own_rank
            count += 1
    if agreeing | (count != 0):
        base = decision.params[0]
        margin, places = reserved_by_orders(turn)
        free = value * base.max_total_margin_frac - account.margin - margin - limits.reserved_margin_usd
        places = base.max_open_positions - account.open_positions - places - limits.reserved_places
        if agreeing:
            for i in range(account.active):
                free = addition_of(turn, decision, np.uint64(turn.active[i]), value, free)
        if count != 0:
            order_entries(turn, decision, value, free, places, count)


@device
def decide(turn, decision, value):
    """Decide on exits, closes by signals, additions and entries; leave orders in the positions.

    Args:
        turn: `turn.Turn`.
        decision: `turn.StepDecision`.
        value: Equity of the book before the decisions, in USD.

    Returns:
        True if orders may have been made.
    """
    step = decision.step
    ordered = False
    if has_exits(turn.model) & (step.exits != 0):
        ordered = order_exits(turn, decision)
    if step.signal_count != 0:
        process_signals(turn, decision, (value + decision.limits.other_usd) * turn.model.size_mult)
    return ordered | (step.signal_count != 0)
