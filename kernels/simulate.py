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
    NO_SIGNAL,
    NOT_ADMITTED,
    OWN_EXITS,
    SIGNAL,
    STOPPED,
    TARGETED,
    WAITING,
    activate,
    deactivate,
    log_row,
    order_close,
    reset_position,
    time_of,
    touched,
)
from kernels.fills import (
    close,
    delist,
    fast_forward,
    fill_level,
    fit_order,
    order_open,
    reserved_by_orders,
    set_verdict,
)
from kernels.jit import device, driver, lanes, rare
from kernels.ledger import end_day, fund, increase, mark_to_market, open_account
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
def count_idle_steps(steps, count):
    """Note for each of the first `count` steps how long, from it on, nothing needs a quiet book.

    A signal, the end of a day and a delisting do.
    """
    calm = 0
    for i in range(count - 1, -1, -1):
        step = steps[i]
        calm = calm + 1 if (step.signal_count == 0) & (step.day_end == 0) & (step.ends == 0) else 0
        steps[i].idle = calm


@lanes
def compute_signals(market, columns, column_of, signal_params, e, first, last, codes, signal_symbols, steps):
    """Ask the strategy what it sees at the steps [first, last).

    Args:
        market: `kernels.market.Market`.
        columns: [C, T, S] feature columns on main bars.
        column_of: [E, G, F] column of each feature, for each entry set and parameter group.
        signal_params: [E, G] records of the parameters that shape compute_signals.
        e: Which entry set.
        first: First step.
        last: One past the last step.
        codes: [last - first, S] receives the compute_signals.
        signal_symbols: [last - first, S] receives the symbols that have one.
        steps: [last - first] records of `book.STEP`; receive `wanted` and `calm`.
    """
    benchmark = market.benchmark[0]
    for t in range(first, last):
        i = t - first
        row = market.row[t]
        previous_row = market.before[t]
        count = 0
        if (market.enters[t] != 0) & (row >= 0):
            market_context = context(columns, column_of[e, 0], row, benchmark, signal_params[e, 0])
            for g in range(signal_params.shape[1]):
                params = signal_params[e, g]
                for s in range(codes.shape[1]):
                    code = signal(
                        market.close[t, s],
                        market.age[t, s],
                        s == benchmark,
                        read(columns, column_of[e, g], row, s),
                        read(columns, column_of[e, g], previous_row, s),
                        market_context,
                        params,
                    )
                    shown = code if market.age[t, s] >= 0 else 0
                    codes[i, s] = shown if market.symbol_group[s] == g else codes[i, s]
            for s in range(codes.shape[1]):
                signal_symbols[i, count] = s
                count += 1 if codes[i, s] != 0 else 0
        steps[i].signal_count = count
    count_idle_steps(steps, last - first)


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
            bar.last_price = market.last_price[t, s]
            bar.funding = market.funding[t, s]
            bar.age = market.age[t, s]


@rare
def fill_opening(account, position, symbol, model, t, s, price, moment, log):
    """Fill the opening leg of the order of symbol `s`; an addition to nothing lapses, and an entry without money."""
    wanted = position.open_size
    adds = position.open_adds != 0.0
    position.open_size = 0.0
    # A last close that cost all there was leaves nothing to open with.
    ruined = (account.open_positions == 0.0) & (account.cash <= 0.0)
    if (position.size != 0.0) | (not (adds | ruined)):
        side = 1.0 if wanted > 0.0 else -1.0
        fill_price = price * (1.0 + side * model.entry_slip)
        fees = account.fees
        cash = account.cash
        increase(
            account, position, symbol.lots, time_of(t, moment), wanted, fill_price, model.fee, position.open_leverage
        )
        if not adds:
            begin(position, side, fill_price)
        log_row(
            account,
            log,
            position,
            t,
            s,
            ADDED if adds else ENTRY,
            moment,
            wanted,
            fill_price,
            fees,
            cash,
            position.open_code,
        )


@device
def fill_waiting(account, position, symbol, model, t, s, price, moment, log):
    """Fill the legs of the order of symbol `s` whose time has come.

    A closing leg is never younger than the opening leg beside it, so a symbol is flat when its opening leg is filled.
    """
    if position.close_frac != 0.0:
        if position.close_wait > 0.0:
            position.close_wait -= 1.0
        else:
            close(
                account, position, symbol, model, t, s, position.close_frac, price, position.close_reason, moment, log
            )
    if position.open_size != 0.0:
        if position.open_wait > 0.0:
            position.open_wait -= 1.0
        else:
            fill_opening(account, position, symbol, model, t, s, price, moment, log)


@rare
def fill_at_close(account, positions, active, bars, symbols, model, t, log):
    """Fill, symbol by symbol, the orders whose time has come at the close of step t.

    Returns:
        Unrealised profit at the marks of t of what is then held, summed in symbol order.
    """
    unrealised = 0.0
    for i in range(account.active):
        s = np.uint64(active[i])
        position = positions[s]
        bar = bars[s]
        if bar.age >= 0.0:
            fill_waiting(account, position, symbols[s], model, t, s, bar.close, AT_CLOSE, log)
        if position.size != 0.0:
            unrealised += position.size * (bar.last_price - position.entry)
    return unrealised


@rare
def fill_at_open(account, positions, active, bars, symbols, model, t, log):
    """Fill, symbol by symbol, the orders whose time has come at the open of step t."""
    for i in range(account.active):
        s = np.uint64(active[i])
        if bars[s].age >= 0.0:
            fill_waiting(account, positions[s], symbols[s], model, t, s, bars[s].open, AT_OPEN, log)


@device
def fill_levels(account, positions, active, bars, symbols, model, t, wanted, log):
    """Fill, symbol by symbol, the stops or the targets, whichever is `wanted`, that step t touches."""
    for i in range(account.active):
        s = np.uint64(active[i])
        position = positions[s]
        if (position.size != 0.0) & (bars[s].age >= 0.0):
            fill_level(account, position, bars[s], symbols[s], model, t, s, wanted, log)


@device
def pay_funding(account, positions, active, bars, t, log):
    """Settle, symbol by symbol, the funding that falls due in step t on what is held at its close.

    Returns:
        Unrealised profit at the marks of t of what is held, summed in symbol order.
    """
    unrealised = 0.0
    for i in range(account.active):
        s = np.uint64(active[i])
        position = positions[s]
        bar = bars[s]
        if position.size != 0.0:
            if bar.funding != 0.0:
                fees = account.fees
                cash = account.cash
                fund(account, position, bar.funding, bar.last_price)
                log_row(account, log, position, t, s, FUNDED, AT_CLOSE, 0.0, bar.last_price, fees, cash, 0.0)
            unrealised += position.size * (bar.last_price - position.entry)
    return unrealised


@rare
def process_bar(account, positions, active, bars, symbols, model, t, orders, stops, targets, room, log):
    """Take a book through step t up to its close, where orders wait, levels are touched or liquidation is near.

    Returns:
        Unrealised profit at the marks of t of what is then held, summed in symbol order.
    """
    if orders > 0:
        # The opens come first: an order to close must not leave behind an account that they have already ruined.
        if (room < 0.0) & liquidates_at_open(account, positions, active, bars, symbols, model, t, log):
            return 0.0
        fill_at_open(account, positions, active, bars, symbols, model, t, log)
        _, stops, targets, payments, room, unrealised = survey(account, positions, active, bars, symbols, model)
        if (room >= 0.0) & (stops + targets + payments == 0):
            return unrealised
    if (room < 0.0) | (stops > 1):
        if walk_path(account, positions, active, bars, symbols, model, t, log):
            return 0.0
    elif stops > 0:
        fill_levels(account, positions, active, bars, symbols, model, t, STOPPED, log)
    if targets > 0:
        fill_levels(account, positions, active, bars, symbols, model, t, TARGETED, log)
    if account.open_positions == 0.0:
        return 0.0
    return pay_funding(account, positions, active, bars, t, log)


@device
def move_to_close(account, positions, active, bars, symbols, model, t, log):
    """Everything of step t that comes before its decisions.

    Most steps change nothing but the marks, so one look decides whether more is to be done.

    Returns:
        Unrealised profit at the marks of t of what is then held, summed in symbol order.
    """
    orders, stops, targets, payments, room, unrealised = survey(account, positions, active, bars, symbols, model)
    if (room < 0.0) | (orders + stops + targets > 0):
        return process_bar(account, positions, active, bars, symbols, model, t, orders, stops, targets, room, log)
    if payments > 0:
        return pay_funding(account, positions, active, bars, t, log)
    return unrealised


@device
def order_exits(account, positions, active, bars, symbols, model, columns, column_of, params, step, verdicts):
    """Ask, for every position with a bar and no closing order, whether it is to be closed.

    Levels are tested too where only a signal's close waits: a stop outranks it.

    Returns:
        Whether a closing order was made.
    """
    ordered = False
    for i in range(account.active):
        s = np.uint64(active[i])
        position = positions[s]
        bar = bars[s]
        waits = position.close_frac != 0.0
        decided = waits & (position.close_reason != SIGNAL)
        if (position.size != 0.0) & (not decided) & (bar.age >= 0.0):
            reason = NO_EXIT
            frac = 1.0
            if model.intrabar == 0.0:
                reason = touched(position.size, position.stop, position.target, bar.close, bar.close)
            if (reason == NO_EXIT) & (not waits):
                g = symbols[s].symbol_group
                now = read(columns, column_of[g], step.row, s)
                before = read(columns, column_of[g], step.before, s)
                own, frac = manage(position, bar.close, symbols[s].lots, now, before, params[g])
                reason = OWN_EXITS + own if own >= 0 else NO_EXIT
            if reason != NO_EXIT:
                order_close(position, model, frac, reason)
                set_verdict(verdicts, s, CLOSING)
                ordered = True
    return ordered


@device
def process_signal(position, model, code, now, params, t):
    """Turn a signal into a closing order, and say what it asks for: a verdict, `ENTERED` for a candidate.

    A signal against what waits cancels it; the same side does not ask twice. A close that only a signal asked for is
    cancelled by the opposite signal. A position that is held already is no candidate, unless it is being closed.
    """
    if position.open_size * code < 0.0:
        position.open_size = 0.0
    waits = position.open_size != 0.0
    leaving = (position.close_frac == 1.0) & (position.close_reason != SIGNAL)
    agrees = (position.size * code > 0.0) & (not leaving)
    if agrees:
        if (position.close_frac != 0.0) & (position.close_reason == SIGNAL):
            position.close_frac = 0.0
        return WAITING if waits else HELD
    if position.size != 0.0:
        order_close(position, model, 1.0, SIGNAL)
    if waits:
        return WAITING
    exited = position.exited_long if code > 0 else position.exited_short
    since = (t - exited) * model.minutes
    return ENTERED if admits(position, code, leaving, since, now, params) else NOT_ADMITTED


@device
def order_additions(
    account, positions, active, bars, codes, symbols, model, columns, column_of, params, row, t, value, free, verdicts
):
    """Order additions to positions that their signals agree with, in symbol order.

    Returns:
        What is still free, in USD.
    """
    for i in range(account.active):
        s = np.uint64(active[i])
        position = positions[s]
        code = int(codes[s])
        agrees = position.size * code > 0.0
        if agrees & (position.open_size == 0.0) & (position.close_frac == 0.0):
            g = symbols[s].symbol_group
            price = bars[s].close
            since = (t - position.added) * model.minutes
            wanted = add(position, code, value, price, since, read(columns, column_of[g], row, s), params[g])
            if wanted > 0.0:
                # The venue may allow less than when the position was opened.
                most = symbols[s].max_leverage
                leverage = position.leverage if position.leverage < most else most
                coins, need, verdict = fit_order(wanted, price, leverage, free, False, symbols[s], model, params[g])
                if coins > 0.0:
                    order_open(position, model, coins if code > 0 else -coins, leverage, True, code)
                    free -= need
                set_verdict(verdicts, s, ADDS if coins > 0.0 else verdict)
    return free


@device
def order_entries(
    account,
    positions,
    active,
    bars,
    codes,
    symbols,
    model,
    columns,
    column_of,
    params,
    row,
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
        position = positions[s]
        held = position.margin
        flips = position.size != 0.0
        verdict = NO_ORDERS if orders < 1.0 else NO_PLACES
        if (orders >= 1.0) & ((places >= 1.0) | flips):
            g = symbols[s].symbol_group
            code = int(codes[s])
            price = bars[s].close
            now = read(columns, column_of[g], row, s)
            wanted, leverage = size(code, value, price, symbols[s].max_leverage, now, params[g])
            shrinks = params[g].shrink_to_fit != 0.0
            coins, need, verdict = fit_order(
                wanted, price, leverage, free + held, shrinks, symbols[s], model, params[g]
            )
            if coins > 0.0:
                verdict = ENTERED
                order_open(position, model, coins if code > 0 else -coins, leverage, False, code)
                position.note_a, position.note_b, position.note_c = plan(code, price, now, params[g])
                activate(account, active, s)
                more = need - held
                free -= more if more > 0.0 else 0.0
                places -= 0.0 if flips else 1.0
                orders -= 1.0
        account.refused += 0.0 if verdict == ENTERED else 1.0
        set_verdict(verdicts, s, verdict)


@device
def process_signals(
    account,
    positions,
    active,
    bars,
    codes,
    signal_symbols,
    wanted,
    symbols,
    model,
    columns,
    column_of,
    params,
    row,
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
        s = np.uint64(signal_symbols[i])
        code = int(codes[s])
        g = symbols[s].symbol_group
        now = read(columns, column_of[g], row, s)
        verdict = process_signal(positions[s], model, code, now, params[g], t)
        set_verdict(verdicts, s, verdict)
        agreeing = agreeing | (verdict == HELD)
        if verdict == ENTERED:
            candidates[count] = signal_symbols[i]
            ranks[count] = rank(code, now, params[g])
            count += 1
    if agreeing | (count != 0):
        money, taken = reserved_by_orders(account, positions, active, bars, model)
        free = value * params[0].max_total_margin_frac - account.margin - money
        places = params[0].max_open_positions - account.open_positions - taken
        if agreeing:
            free = order_additions(
                account,
                positions,
                active,
                bars,
                codes,
                symbols,
                model,
                columns,
                column_of,
                params,
                row,
                t,
                value,
                free,
                verdicts,
            )
        if count != 0:
            order_entries(
                account,
                positions,
                active,
                bars,
                codes,
                symbols,
                model,
                columns,
                column_of,
                params,
                row,
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
        for s in range(book.positions.shape[1]):
            reset_position(book.positions[k, s])


@device
def has_exits(model):
    """Whether exits are asked for: the strategy has some of its own, or its levels are tested at closes."""
    return (len(EXITS) > 0) | (model.intrabar == 0.0)


@device
def take_step(book, account, positions, active, i, step, symbols, model, columns, column_of, params, t):
    """Move one book through step `i` of a tile, which is step `t` of all; arguments as in `walk`."""
    same_close = (model.next_open == 0.0) & (model.delay_bars == 0.0)
    later_close = (model.next_open == 0.0) & (model.delay_bars != 0.0)
    has_signals = step.signal_count != 0
    log = book.log
    fills = account.fills
    bars = book.bars[np.uint64(i)]
    unrealised = move_to_close(account, positions, active, bars, symbols, model, t, log)
    if later_close:
        unrealised = fill_at_close(account, positions, active, bars, symbols, model, t, log)
    value = account.cash + unrealised
    ordered = False
    if has_exits(model) & (step.exits != 0):
        ordered = order_exits(
            account,
            positions,
            active,
            bars,
            symbols,
            model,
            columns,
            column_of,
            params,
            step,
            book.verdict,
        )
    if has_signals:
        process_signals(
            account,
            positions,
            active,
            bars,
            book.codes[i],
            book.signal_symbols[i],
            step.signal_count,
            symbols,
            model,
            columns,
            column_of,
            params,
            step.row,
            t,
            value * model.size_mult,
            book.candidates,
            book.ranks,
            book.verdict,
        )
    if same_close & (has_signals | ordered):
        unrealised = fill_at_close(account, positions, active, bars, symbols, model, t, log)
        value = account.cash + unrealised
    ends = step.ends != 0
    if ends:
        unrealised = delist(account, positions, active, bars, symbols, model, t, log)
        value = account.cash + unrealised
    mark_to_market(account, value)
    if has_signals | ends | (account.fills != fills):
        deactivate(account, positions, active)


@device
def advance_book(book, symbols, model, columns, column_of, params, k, first, count):
    """Move the book of combo `k` through the `count` steps of the tile that begins at step `first`.

    Args:
        book: `kernels.book.Book` with the tile's bars, steps and signals.
        symbols: [S] records of `market.SYMBOL`.
        model: Record of `market.MODEL`.
        columns: [C, T, S] feature columns on main bars.
        column_of: [G, F] column of each feature for each parameter group.
        params: [G] records of all parameters.
        k: Which combo.
        first: First step of the tile.
        count: Steps of the tile.
    """
    recording = book.equity.shape[0] > 0
    can_fast_forward = (not has_exits(model)) & (not recording)
    account = book.accounts[k]
    positions = book.positions[k]
    active = book.active[k]
    i = 0
    while i < count:
        step = book.steps[np.uint64(i)]
        if (account.active == 0) & (step.idle > 0) & (not recording):
            i += step.idle  # a flat book that no one asks anything stays what it is
            continue
        if (account.active == 1) & (step.idle > 0) & can_fast_forward:
            s = np.uint64(active[0])
            position = positions[s]
            if (position.size != 0.0) & (position.close_frac == 0.0) & (position.open_size == 0.0):
                reached = fast_forward(account, position, symbols[s], model, book.bars, s, i, i + step.idle)
                if reached > i:
                    i = reached
                    continue
        if (step.signal_count > 0) | (account.active > 0):
            take_step(
                book,
                account,
                positions,
                active,
                i,
                step,
                symbols,
                model,
                columns,
                column_of,
                params,
                first + i + model.origin,
            )
        if recording:
            book.equity[first + i] = account.equity
            for each in range(book.verdict.shape[0]):
                book.verdicts[first + i, each] = book.verdict[each]
                book.verdict[each] = NO_SIGNAL
        if step.day_end != 0:
            end_day(account, book.days, step.block, k)
        i += 1


@driver
def run(market, models, symbols, columns, column_of, signal_params, signal_group_of, params, first, last, book):
    """Move every combo of the book through the steps [first, last), a tile at a time.

    Args:
        market: `kernels.market.Market`.
        models: [1] record of `market.MODEL`; its `origin` is added to the number of a step wherever one is kept.
        symbols: [V, S] records of `market.SYMBOL`; a tile ends where the next version begins.
        columns: [C, T, S] feature columns on main bars.
        column_of: [E, G, F] column of each feature, for each entry set and parameter group.
        signal_params: [E, G] records of the parameters that shape compute_signals.
        signal_group_of: [B] entry set of each combo; combos of one set should be neighbours.
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
        current = -1
        for k in range(signal_group_of.shape[0]):
            e = signal_group_of[k]
            if e != current:
                compute_signals(
                    market,
                    columns,
                    column_of,
                    signal_params,
                    e,
                    base,
                    stop,
                    book.codes,
                    book.signal_symbols,
                    book.steps,
                )
                current = e
            advance_book(book, terms, models[0], columns, column_of[e], params[k], k, base, stop - base)
        base = stop


@driver
def explain(market, columns, column_of, signal_params, e, t, s, out):
    """Write what the gates of the strategy say of symbol `s` at step t.

    Args:
        market: `kernels.market.Market`.
        columns: [C, T, S] feature columns on main bars.
        column_of: [E, G, F] as in `run`.
        signal_params: [E, G] as in `run`.
        e: Which entry set.
        t: Which step.
        s: Which symbol.
        out: [len(GATES), 3] receives value, threshold and verdict (1 open, 0 shut, NaN not asked) of each gate.

    Returns:
        The signal.
    """
    benchmark = market.benchmark[0]
    row = market.row[t]
    if (row < 0) | (market.age[t, s] < 0):
        return 0
    previous_row = market.before[t]
    g = market.symbol_group[s]
    market_context = context(columns, column_of[e, 0], row, benchmark, signal_params[e, 0])
    now = read(columns, column_of[e, g], row, s)
    before = read(columns, column_of[e, g], previous_row, s)
    price = market.close[t, s]
    age = market.age[t, s]
    trace(price, age, s == benchmark, now, before, market_context, signal_params[e, g], out)
    return signal(price, age, s == benchmark, now, before, market_context, signal_params[e, g])
