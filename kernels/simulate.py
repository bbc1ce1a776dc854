"""Combos through time: the strategy decides over a book, step after step.

Loaded once per strategy by `kernels.bind`, which puts the strategy's functions into this module's globals. A step is a
bar of the finest interval in use. Per tile of steps, `signals` asks the strategy what it sees (features alone, so all
combos of one entry set share it); `walk` then moves each combo's book through the tile.

Order of events of a step: liquidation at the opens; waiting orders at the opens; stops and liquidation along the path
from the opens to the worst prices; targets; funding; older orders at the close; exits; signals, additions, ranked
entries; same-close fills; delistings; mark-to-market.
"""

from typing import TYPE_CHECKING

import numpy as np

from kernels.book import (
    ADDED,
    ADDS,
    AT_CLOSE,
    AT_OPEN,
    CLOSING,
    ENTERED,
    ENTRY,
    FUNDED,
    HELD,
    NO_EXIT,
    NO_ORDERS,
    NO_PLACES,
    NOT_ADMITTED,
    OWN_EXITS,
    QUIET,
    SIGNAL,
    STOPPED,
    TARGETED,
    WAITING,
    activate,
    note,
    open_slot,
    order_close,
    retire,
    time_of,
    touched,
)
from kernels.fills import close, coast, delist, fitted, judge, order_open, protect_inside, reserved
from kernels.jit import device, driver, lanes, rare
from kernels.ledger import end_day, fund, increase, mark, open_account
from kernels.liquidation import liquidates_at_open, walk_path
from kernels.path import survey

if TYPE_CHECKING:
    # `kernels.bind` sets these globals when it runs.
    from kernels.bind import reader
    from kernels.defaults import (  # noqa: TC004 - as above
        EXITS,
        add,
        admits,
        context,
        manage,
        rank,
        trace,
    )
    from kernels.strategies.ema_cross import begin, plan, signal, size  # noqa: TC004 - as above

    read = reader(())


@device
def count_calm(steps, count):
    """Note for each of the first `count` steps how long, from it on, nothing needs a quiet book.

    A signal, the end of a day and a delisting do.
    """
    calm = 0
    for i in range(count - 1, -1, -1):
        step = steps[i]
        calm = calm + 1 if (step.wanted == 0) & (step.day_end == 0) & (step.ends == 0) else 0
        steps[i].calm = calm


@lanes
def signals(market, columns, rows, entries, e, first, last, codes, hits, steps):
    """Ask the strategy what it sees at the steps [first, last).

    Args:
        market: `kernels.market.Market`.
        columns: [C, T, S] feature columns on main bars.
        rows: [E, G, F] column of each feature, for each entry set and parameter group.
        entries: [E, G] records of the parameters that shape signals.
        e: Which entry set.
        first: First step.
        last: One past the last step.
        codes: [last - first, S] receives the signals.
        hits: [last - first, S] receives the symbols that have one.
        steps: [last - first] records of `book.STEP`; receive `wanted` and `calm`.
    """
    lead = market.lead[0]
    for t in range(first, last):
        i = t - first
        now = market.row[t]
        before = market.before[t]
        count = 0
        if (market.enters[t] != 0) & (now >= 0):
            around = context(columns, rows[e, 0], now, lead, entries[e, 0])
            for g in range(entries.shape[1]):
                params = entries[e, g]
                for s in range(codes.shape[1]):
                    code = signal(
                        market.close[t, s],
                        market.age[t, s],
                        s == lead,
                        read(columns, rows[e, g], now, s),
                        read(columns, rows[e, g], before, s),
                        around,
                        params,
                    )
                    seen = code if market.age[t, s] >= 0 else 0
                    codes[i, s] = seen if market.group[s] == g else codes[i, s]
            for s in range(codes.shape[1]):
                hits[i, count] = s
                count += 1 if codes[i, s] != 0 else 0
        steps[i].wanted = count
    count_calm(steps, last - first)


@device
def gather(market, first, last, bars, steps):
    """Copy the steps [first, last) into `bars` [tile, S] and `steps` [tile], where what belongs together is close."""
    for t in range(first, last):
        step = steps[t - first]
        step.row = market.row[t]
        step.before = market.before[t]
        step.exits = market.exits[t]
        step.day_end = market.day_end[t]
        step.block = market.block[t]
        step.ends = market.ends[t]
        for s in range(bars.shape[1]):
            bar = bars[t - first, s]
            bar.open = market.open[t, s]
            bar.high = market.high[t, s]
            bar.low = market.low[t, s]
            bar.close = market.close[t, s]
            bar.mark = market.mark[t, s]
            bar.funding = market.funding[t, s]
            bar.age = market.age[t, s]


@rare
def open_or_add(account, slot, symbol, model, t, s, price, moment, log):
    """Fill the opening leg of the order of symbol `s`; an addition to nothing lapses, and an entry without money."""
    wanted = slot.open_size
    adds = slot.open_adds != 0.0
    slot.open_size = 0.0
    # A last close that cost all there was leaves nothing to open with.
    ruined = (account.positions == 0.0) & (account.cash <= 0.0)
    if (slot.size != 0.0) | (not (adds | ruined)):
        side = 1.0 if wanted > 0.0 else -1.0
        paid = price * (1.0 + side * model.entry_slip)
        fees = account.fees
        cash = account.cash
        increase(account, slot, symbol.lots, time_of(t, moment), wanted, paid, model.fee, slot.open_leverage)
        if not adds:
            begin(slot, side, paid)
        note(account, log, slot, t, s, ADDED if adds else ENTRY, moment, wanted, paid, fees, cash, slot.open_code)


@device
def fill_waiting(account, slot, symbol, model, t, s, price, moment, log):
    """Fill the legs of the order of symbol `s` whose time has come.

    A closing leg is never younger than the opening leg beside it, so a symbol is flat when its opening leg is filled.
    """
    if slot.close_frac != 0.0:
        if slot.close_wait > 0.0:
            slot.close_wait -= 1.0
        else:
            close(account, slot, symbol, model, t, s, slot.close_frac, price, slot.close_reason, moment, log)
    if slot.open_size != 0.0:
        if slot.open_wait > 0.0:
            slot.open_wait -= 1.0
        else:
            open_or_add(account, slot, symbol, model, t, s, price, moment, log)


@rare
def fill_at_close(account, slots, active, bars, symbols, model, t, log):
    """Fill, symbol by symbol, the orders whose time has come at the close of step t.

    Returns:
        Unrealised profit at the marks of t of what is then held, summed in symbol order.
    """
    unrealised = 0.0
    for i in range(account.active):
        s = np.uint64(active[i])
        slot = slots[s]
        bar = bars[s]
        if bar.age >= 0.0:
            fill_waiting(account, slot, symbols[s], model, t, s, bar.close, AT_CLOSE, log)
        if slot.size != 0.0:
            unrealised += slot.size * (bar.mark - slot.entry)
    return unrealised


@rare
def fill_at_open(account, slots, active, bars, symbols, model, t, log):
    """Fill, symbol by symbol, the orders whose time has come at the open of step t."""
    for i in range(account.active):
        s = np.uint64(active[i])
        if bars[s].age >= 0.0:
            fill_waiting(account, slots[s], symbols[s], model, t, s, bars[s].open, AT_OPEN, log)


@device
def fill_levels(account, slots, active, bars, symbols, model, t, wanted, log):
    """Fill, symbol by symbol, the stops or the targets, whichever is `wanted`, that step t touches."""
    for i in range(account.active):
        s = np.uint64(active[i])
        slot = slots[s]
        if (slot.size != 0.0) & (bars[s].age >= 0.0):
            protect_inside(account, slot, bars[s], symbols[s], model, t, s, wanted, log)


@device
def pay_funding(account, slots, active, bars, t, log):
    """Settle, symbol by symbol, the funding that falls due in step t on what is held at its close.

    Returns:
        Unrealised profit at the marks of t of what is held, summed in symbol order.
    """
    unrealised = 0.0
    for i in range(account.active):
        s = np.uint64(active[i])
        slot = slots[s]
        bar = bars[s]
        if slot.size != 0.0:
            if bar.funding != 0.0:
                fees = account.fees
                cash = account.cash
                fund(account, slot, bar.funding, bar.mark)
                note(account, log, slot, t, s, FUNDED, AT_CLOSE, 0.0, bar.mark, fees, cash, 0.0)
            unrealised += slot.size * (bar.mark - slot.entry)
    return unrealised


@rare
def pass_through(account, slots, active, bars, symbols, model, t, orders, stops, targets, room, log):
    """Take a book through step t up to its close, where orders wait, levels are touched or liquidation is near.

    Returns:
        Unrealised profit at the marks of t of what is then held, summed in symbol order.
    """
    if orders > 0:
        # The opens come first: an order to close must not leave behind an account that they have already ruined.
        if (room < 0.0) & liquidates_at_open(account, slots, active, bars, symbols, model, t, log):
            return 0.0
        fill_at_open(account, slots, active, bars, symbols, model, t, log)
        _, stops, targets, payments, room, unrealised = survey(account, slots, active, bars, symbols, model)
        if (room >= 0.0) & (stops + targets + payments == 0):
            return unrealised
    if (room < 0.0) | (stops > 1):
        if walk_path(account, slots, active, bars, symbols, model, t, log):
            return 0.0
    elif stops > 0:
        fill_levels(account, slots, active, bars, symbols, model, t, STOPPED, log)
    if targets > 0:
        fill_levels(account, slots, active, bars, symbols, model, t, TARGETED, log)
    if account.positions == 0.0:
        return 0.0
    return pay_funding(account, slots, active, bars, t, log)


@device
def until_close(account, slots, active, bars, symbols, model, t, log):
    """Everything of step t that comes before its decisions.

    Most steps change nothing but the marks, so one look decides whether more is to be done.

    Returns:
        Unrealised profit at the marks of t of what is then held, summed in symbol order.
    """
    orders, stops, targets, payments, room, unrealised = survey(account, slots, active, bars, symbols, model)
    if (room < 0.0) | (orders + stops + targets > 0):
        return pass_through(account, slots, active, bars, symbols, model, t, orders, stops, targets, room, log)
    if payments > 0:
        return pay_funding(account, slots, active, bars, t, log)
    return unrealised


@device
def judge_exits(account, slots, active, bars, symbols, model, columns, rows, params, step, verdicts):
    """Ask, for every position with a bar and no closing order, whether it is to be closed.

    Levels are tested too where only a signal's close waits: a stop outranks it.

    Returns:
        Whether a closing order was made.
    """
    ordered = False
    for i in range(account.active):
        s = np.uint64(active[i])
        slot = slots[s]
        bar = bars[s]
        waits = slot.close_frac != 0.0
        decided = waits & (slot.close_reason != SIGNAL)
        if (slot.size != 0.0) & (not decided) & (bar.age >= 0.0):
            reason = NO_EXIT
            frac = 1.0
            if model.intrabar == 0.0:
                reason = touched(slot.size, slot.stop, slot.target, bar.close, bar.close)
            if (reason == NO_EXIT) & (not waits):
                g = symbols[s].group
                here = read(columns, rows[g], step.row, s)
                there = read(columns, rows[g], step.before, s)
                own, frac = manage(slot, bar.close, symbols[s].lots, here, there, params[g])
                reason = OWN_EXITS + own if own >= 0 else NO_EXIT
            if reason != NO_EXIT:
                order_close(slot, model, frac, reason)
                judge(verdicts, s, CLOSING)
                ordered = True
    return ordered


@device
def judge_signal(slot, model, code, seen, params, t):
    """Turn a signal into a closing order, and say what it asks for: a verdict, `ENTERED` for a candidate.

    A signal against what waits cancels it; the same side does not ask twice. A close that only a signal asked for is
    cancelled by the opposite signal. A position that is held already is no candidate, unless it is being closed.
    """
    if slot.open_size * code < 0.0:
        slot.open_size = 0.0
    waits = slot.open_size != 0.0
    leaving = (slot.close_frac == 1.0) & (slot.close_reason != SIGNAL)
    agrees = (slot.size * code > 0.0) & (not leaving)
    if agrees:
        if (slot.close_frac != 0.0) & (slot.close_reason == SIGNAL):
            slot.close_frac = 0.0
        return WAITING if waits else HELD
    if slot.size != 0.0:
        order_close(slot, model, 1.0, SIGNAL)
    if waits:
        return WAITING
    exited = slot.exited_long if code > 0 else slot.exited_short
    since = (t - exited) * model.minutes
    return ENTERED if admits(slot, code, leaving, since, seen, params) else NOT_ADMITTED


@device
def order_additions(
    account, slots, active, bars, codes, symbols, model, columns, rows, params, now, t, value, free, verdicts
):
    """Order additions to positions that their signals agree with, in symbol order.

    Returns:
        What is still free, in USD.
    """
    for i in range(account.active):
        s = np.uint64(active[i])
        slot = slots[s]
        code = int(codes[s])
        agrees = slot.size * code > 0.0
        if agrees & (slot.open_size == 0.0) & (slot.close_frac == 0.0):
            g = symbols[s].group
            price = bars[s].close
            since = (t - slot.added) * model.minutes
            wanted = add(slot, code, value, price, since, read(columns, rows[g], now, s), params[g])
            if wanted > 0.0:
                # The venue may allow less than when the position was opened.
                most = symbols[s].max_leverage
                leverage = slot.leverage if slot.leverage < most else most
                coins, need, verdict = fitted(wanted, price, leverage, free, False, symbols[s], model, params[g])
                if coins > 0.0:
                    order_open(slot, model, coins if code > 0 else -coins, leverage, True, code)
                    free -= need
                judge(verdicts, s, ADDS if coins > 0.0 else verdict)
    return free


@device
def order_entries(
    account,
    slots,
    active,
    bars,
    codes,
    symbols,
    model,
    columns,
    rows,
    params,
    now,
    t,
    value,
    free,
    places,
    candidates,
    ranks,
    count,
    verdicts,
):
    """Order entries by rank, ties in symbol order, while money, places and orders last."""
    orders = params[0].max_entry_orders_per_step
    for _ in range(count):
        best = 0
        for i in range(1, count):
            best = i if ranks[i] > ranks[best] else best
        s = candidates[best]
        ranks[best] = -np.inf
        slot = slots[s]
        held = slot.margin
        flips = slot.size != 0.0
        verdict = NO_ORDERS if orders < 1.0 else NO_PLACES
        if (orders >= 1.0) & ((places >= 1.0) | flips):
            g = symbols[s].group
            code = int(codes[s])
            price = bars[s].close
            seen = read(columns, rows[g], now, s)
            wanted, leverage = size(code, value, price, symbols[s].max_leverage, seen, params[g])
            shrinks = params[g].shrink_to_fit != 0.0
            coins, need, verdict = fitted(wanted, price, leverage, free + held, shrinks, symbols[s], model, params[g])
            if coins > 0.0:
                verdict = ENTERED
                order_open(slot, model, coins if code > 0 else -coins, leverage, False, code)
                slot.note_a, slot.note_b, slot.note_c = plan(code, price, seen, params[g])
                activate(account, active, s)
                more = need - held
                free -= more if more > 0.0 else 0.0
                places -= 0.0 if flips else 1.0
                orders -= 1.0
        account.refused += 0.0 if verdict == ENTERED else 1.0
        judge(verdicts, s, verdict)


@device
def judge_signals(
    account,
    slots,
    active,
    bars,
    codes,
    hits,
    wanted,
    symbols,
    model,
    columns,
    rows,
    params,
    now,
    t,
    value,
    candidates,
    ranks,
    verdicts,
):
    """Turn the signals of step t into orders: closes, then additions in symbol order, then entries by rank.

    Every size comes from the equity before any fill of t. Waiting orders hold their margin; what an order closes is not
    free yet, except for the leg that opens beside it.
    """
    count = 0
    agreeing = False
    for i in range(wanted):
        s = np.uint64(hits[i])
        code = int(codes[s])
        g = symbols[s].group
        seen = read(columns, rows[g], now, s)
        verdict = judge_signal(slots[s], model, code, seen, params[g], t)
        judge(verdicts, s, verdict)
        agreeing = agreeing | (verdict == HELD)
        if verdict == ENTERED:
            candidates[count] = hits[i]
            ranks[count] = rank(code, seen, params[g])
            count += 1
    if agreeing | (count != 0):
        money, taken = reserved(account, slots, active, bars, model)
        free = value * params[0].max_total_margin_frac - account.margin - money
        places = params[0].max_open_positions - account.positions - taken
        if agreeing:
            free = order_additions(
                account,
                slots,
                active,
                bars,
                codes,
                symbols,
                model,
                columns,
                rows,
                params,
                now,
                t,
                value,
                free,
                verdicts,
            )
        if count != 0:
            order_entries(
                account,
                slots,
                active,
                bars,
                codes,
                symbols,
                model,
                columns,
                rows,
                params,
                now,
                t,
                value,
                free,
                places,
                candidates,
                ranks,
                count,
                verdicts,
            )


@driver
def open_books(book, initial_usd):
    """Make every combo of the book flat, with `initial_usd` of cash."""
    for k in range(book.accounts.shape[0]):
        open_account(book.accounts[k], initial_usd)
        for block in range(book.days.shape[0]):
            for i in range(book.days.shape[1]):
                book.days[block, i, k] = 0.0
        for s in range(book.slots.shape[1]):
            open_slot(book.slots[k, s])


@device
def has_exits(model):
    """Whether exits are asked for: the strategy has some of its own, or its levels are tested at closes."""
    return (len(EXITS) > 0) | (model.intrabar == 0.0)


@device
def take_step(book, account, slots, active, i, step, symbols, model, columns, rows, params, t):
    """Move one book through step `i` of a tile, which is step `t` of all; arguments as in `walk`."""
    same_close = (model.next_open == 0.0) & (model.delay_bars == 0.0)
    later_close = (model.next_open == 0.0) & (model.delay_bars != 0.0)
    seen = step.wanted != 0
    log = book.log
    fills = account.fills
    bars = book.bars[np.uint64(i)]
    unrealised = until_close(account, slots, active, bars, symbols, model, t, log)
    if later_close:
        unrealised = fill_at_close(account, slots, active, bars, symbols, model, t, log)
    value = account.cash + unrealised
    ordered = False
    if has_exits(model) & (step.exits != 0):
        ordered = judge_exits(
            account,
            slots,
            active,
            bars,
            symbols,
            model,
            columns,
            rows,
            params,
            step,
            book.verdict,
        )
    if seen:
        judge_signals(
            account,
            slots,
            active,
            bars,
            book.codes[i],
            book.hits[i],
            step.wanted,
            symbols,
            model,
            columns,
            rows,
            params,
            step.row,
            t,
            value * model.size_mult,
            book.candidates,
            book.ranks,
            book.verdict,
        )
    if same_close & (seen | ordered):
        unrealised = fill_at_close(account, slots, active, bars, symbols, model, t, log)
        value = account.cash + unrealised
    ends = step.ends != 0
    if ends:
        unrealised = delist(account, slots, active, bars, symbols, model, t, log)
        value = account.cash + unrealised
    mark(account, value)
    if seen | ends | (account.fills != fills):
        retire(account, slots, active)


@device
def walk(book, symbols, model, columns, rows, params, k, first, count):
    """Move the book of combo `k` through the `count` steps of the tile that begins at step `first`.

    Args:
        book: `kernels.book.Book` with the tile's bars, steps and signals.
        symbols: [S] records of `market.SYMBOL`.
        model: Record of `market.MODEL`.
        columns: [C, T, S] feature columns on main bars.
        rows: [G, F] column of each feature for each parameter group.
        params: [G] records of all parameters.
        k: Which combo.
        first: First step of the tile.
        count: Steps of the tile.
    """
    recording = book.equity.shape[0] > 0
    can_coast = (not has_exits(model)) & (not recording)
    account = book.accounts[k]
    slots = book.slots[k]
    active = book.active[k]
    i = 0
    while i < count:
        step = book.steps[np.uint64(i)]
        if (account.active == 0) & (step.calm > 0) & (not recording):
            i += step.calm  # a flat book that no one asks anything stays what it is
            continue
        if (account.active == 1) & (step.calm > 0) & can_coast:
            lone = np.uint64(active[0])
            slot = slots[lone]
            if (slot.size != 0.0) & (slot.close_frac == 0.0) & (slot.open_size == 0.0):
                reached = coast(account, slot, symbols[lone], model, book.bars, lone, i, i + step.calm)
                if reached > i:
                    i = reached
                    continue
        if (step.wanted > 0) | (account.active > 0):
            take_step(
                book, account, slots, active, i, step, symbols, model, columns, rows, params, first + i + model.origin
            )
        if recording:
            book.equity[first + i] = account.equity
            for each in range(book.verdict.shape[0]):
                book.verdicts[first + i, each] = book.verdict[each]
                book.verdict[each] = QUIET
        if step.day_end != 0:
            end_day(account, book.days, step.block, k)
        i += 1


@driver
def run(market, models, symbols, columns, rows, entries, entry_of, params, first, last, book):
    """Move every combo of the book through the steps [first, last), a tile at a time.

    Args:
        market: `kernels.market.Market`.
        models: [1] record of `market.MODEL`; its `origin` is added to the number of a step wherever one is kept.
        symbols: [V, S] records of `market.SYMBOL`; a tile ends where the next version begins.
        columns: [C, T, S] feature columns on main bars.
        rows: [E, G, F] column of each feature, for each entry set and parameter group.
        entries: [E, G] records of the parameters that shape signals.
        entry_of: [B] entry set of each combo; combos of one set should be neighbours.
        params: [B, G] records of all parameters.
        first: First step.
        last: One past the last step.
        book: `kernels.book.Book` of B combos; a tile is as long as its `steps`.
    """
    tile = book.steps.shape[0]
    origin = models[0].origin
    version = 0
    base = first
    while base < last:
        stop = base + tile if base + tile < last else last
        while version + 1 < market.since.shape[0] and market.since[version + 1] <= base + origin:
            version += 1
        if version + 1 < market.since.shape[0] and market.since[version + 1] < stop + origin:
            stop = market.since[version + 1] - origin
        terms = symbols[version]
        gather(market, base, stop, book.bars, book.steps)
        known = -1
        for k in range(entry_of.shape[0]):
            e = entry_of[k]
            if e != known:
                signals(market, columns, rows, entries, e, base, stop, book.codes, book.hits, book.steps)
                known = e
            walk(book, terms, models[0], columns, rows[e], params[k], k, base, stop - base)
        base = stop


@driver
def explain(market, columns, rows, entries, e, t, s, out):
    """Write what the gates of the strategy say of symbol `s` at step t.

    Args:
        market: `kernels.market.Market`.
        columns: [C, T, S] feature columns on main bars.
        rows: [E, G, F] as in `run`.
        entries: [E, G] as in `run`.
        e: Which entry set.
        t: Which step.
        s: Which symbol.
        out: [len(GATES), 3] receives value, threshold and verdict (1 open, 0 shut, NaN not asked) of each gate.

    Returns:
        The signal.
    """
    lead = market.lead[0]
    now = market.row[t]
    if (now < 0) | (market.age[t, s] < 0):
        return 0
    before = market.before[t]
    g = market.group[s]
    around = context(columns, rows[e, 0], now, lead, entries[e, 0])
    here = read(columns, rows[e, g], now, s)
    there = read(columns, rows[e, g], before, s)
    price = market.close[t, s]
    age = market.age[t, s]
    trace(price, age, s == lead, here, there, around, entries[e, g], out)
    return signal(price, age, s == lead, here, there, around, entries[e, g])
