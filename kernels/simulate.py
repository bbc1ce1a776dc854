"""The simulation: move the books of combos through time, step by step.

A step is a bar of the finest interval in use. Steps are processed in tiles. For each tile, `compute_signals` computes
the signals of a signal group from features alone, and `advance_book` moves the book of each combo through the tile.

`kernels.bind` loads this file once per strategy and puts the functions of the strategy into its globals.

Order of events in a step:

1. Liquidation at the opens.
2. Orders that wait for the open.
3. Stops and liquidation along the path from the opens to the worst prices.
4. Targets.
5. Funding.
6. Orders of earlier steps that fill at the close.
7. Exits.
8. Signals: closes, then additions, then entries by rank.
9. Orders of this step that fill at its close.
10. Delistings.
11. Mark-to-market.
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
from kernels.book_rules import (
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
    # `kernels.bind` sets these globals before it runs this module.
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
    """Write into the first `count` steps how many steps, from each one on, a flat book can skip.

    A signal, the end of a day and a delisting stop the count.
    """
    idle = 0
    for i in range(count - 1, -1, -1):
        step = steps[i]
        idle = idle + 1 if (step.signal_count == 0) & (step.day_end == 0) & (step.ends == 0) else 0
        steps[i].idle = idle


@lanes
def compute_signals(market, columns, column_of, signal_params, e, first, last, codes, signal_symbols, steps):
    """Compute the signals of a signal group at the steps [first, last).

    Args:
        market: `kernels.market.Market`.
        columns: [C, T, S] feature columns on main bars.
        column_of: [E, G, F] column number of each feature, by signal group and symbol group.
        signal_params: [E, G] records of the parameters that shape signals.
        e: Signal group.
        first: First step.
        last: One past the last step.
        codes: [last - first, S] receives the signal codes; 0 for no signal.
        signal_symbols: [last - first, S] receives the symbols with a signal, in order.
        steps: [last - first] records of `book.STEP`; receive `signal_count` and `idle`.
    """
    benchmark = market.benchmark[0]
    for t in range(first, last):
        i = t - first
        row = market.row[t]
        previous_row = market.previous_row[t]
        count = 0
        if (market.enters[t] != 0) & (row >= 0):
            market_context = context(columns, column_of[e, 0], row, benchmark, signal_params[e, 0])
            # Each symbol is computed with the parameters of every group, and only the value of its own group is kept:
            # LLVM vectorises a loop over symbols without branches.
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
                    valid_code = code if market.age[t, s] >= 0 else 0
                    codes[i, s] = valid_code if market.symbol_group[s] == g else codes[i, s]
            for s in range(codes.shape[1]):
                signal_symbols[i, count] = s
                count += 1 if codes[i, s] != 0 else 0
        steps[i].signal_count = count
    count_idle_steps(steps, last - first)


@device
def gather(market, first, last, bars, steps):
    """Copy the steps [first, last) into `bars` [tile, S] and `steps` [tile], where a bar shares cache lines."""
    for t in range(first, last):
        step = steps[t - first]
        step.row = market.row[t]
        step.previous_row = market.previous_row[t]
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
    """Fill the opening part of the order of symbol `s`.

    An addition lapses if the position is gone; an entry lapses if the account has no money left.
    """
    size = position.open_size
    adds = position.open_adds != 0.0
    position.open_size = 0.0
    # The fill of the last closing order may have used up the cash.
    ruined = (account.open_positions == 0.0) & (account.cash <= 0.0)
    if (position.size != 0.0) | (not (adds | ruined)):
        side = 1.0 if size > 0.0 else -1.0
        fill_price = price * (1.0 + side * model.entry_slip)
        fees = account.fees
        cash = account.cash
        increase(
            account, position, symbol.lots, time_of(t, moment), size, fill_price, model.fee, position.open_leverage
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
            size,
            fill_price,
            fees,
            cash,
            position.open_code,
        )


@device
def fill_waiting(account, position, symbol, model, t, s, price, moment, log):
    """Fill the parts of the order of symbol `s` that are due.

    The closing part is at least as old as the opening part, so a reversal is flat when its opening part is filled.
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
    """Fill the orders that are due at the close of step t, symbol by symbol.

    Returns:
        Unrealised profit of the positions held then, at the last prices of t, summed in symbol order.
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
    """Fill the orders that are due at the open of step t, symbol by symbol."""
    for i in range(account.active):
        s = np.uint64(active[i])
        if bars[s].age >= 0.0:
            fill_waiting(account, positions[s], symbols[s], model, t, s, bars[s].open, AT_OPEN, log)


@device
def fill_levels(account, positions, active, bars, symbols, model, t, kind, log):
    """Fill the levels that step t touches, symbol by symbol; `kind` is `STOPPED` for stops, `TARGETED` for targets."""
    for i in range(account.active):
        s = np.uint64(active[i])
        position = positions[s]
        if (position.size != 0.0) & (bars[s].age >= 0.0):
            fill_level(account, position, bars[s], symbols[s], model, t, s, kind, log)


@device
def pay_funding(account, positions, active, bars, t, log):
    """Settle the funding that is due in step t on the positions at its close, symbol by symbol.

    Returns:
        Unrealised profit of the positions, at the last prices of t, summed in symbol order.
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
    """Move a book through step t up to its decisions, if orders wait, levels are touched or liquidation is near.

    Returns:
        Unrealised profit of the positions held then, at the last prices of t, summed in symbol order.
    """
    if orders > 0:
        # Liquidation at the opens comes before orders. An order must not close a position whose account the opens have
        # already taken below maintenance.
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
    """Move a book through step t up to its decisions.

    Most steps change nothing but last prices, so a cheap survey decides first if any more is needed.

    Returns:
        Unrealised profit of the positions held then, at the last prices of t, summed in symbol order.
    """
    orders, stops, targets, payments, room, unrealised = survey(account, positions, active, bars, symbols, model)
    if (room < 0.0) | (orders + stops + targets > 0):
        return process_bar(account, positions, active, bars, symbols, model, t, orders, stops, targets, room, log)
    if payments > 0:
        return pay_funding(account, positions, active, bars, t, log)
    return unrealised


@device
def order_exits(account, positions, active, bars, symbols, model, columns, column_of, params, step, verdicts):
    """Order the exits of every position that has a bar and no closing order.

    Levels are also tested if the waiting closing order came from a signal, because a stop outranks a signal.

    Returns:
        True if a closing order was made.
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
                before = read(columns, column_of[g], step.previous_row, s)
                own, frac = manage(position, bar.close, symbols[s].lots, now, before, params[g])
                reason = OWN_EXITS + own if own >= 0 else NO_EXIT
            if reason != NO_EXIT:
                order_close(position, model, frac, reason)
                set_verdict(verdicts, s, CLOSING)
                ordered = True
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
    """Order additions to positions whose side agrees with their signal, in symbol order.

    Returns:
        Free margin that is left, in USD.
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
            desired = add(position, code, value, price, since, read(columns, column_of[g], row, s), params[g])
            if desired > 0.0:
                # The venue may have lowered the maximum leverage since the position was opened.
                max_leverage = symbols[s].max_leverage
                leverage = position.leverage if position.leverage < max_leverage else max_leverage
                coins, cost, verdict = fit_order(desired, price, leverage, free, False, symbols[s], model, params[g])
                if coins > 0.0:
                    order_open(position, model, coins if code > 0 else -coins, leverage, True, code)
                    free -= cost
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
    """Order entries by rank, ties in symbol order, until margin, places or orders run out."""
    orders = params[0].max_entry_orders_per_step
    for _ in range(count):
        best = 0
        for i in range(1, count):
            best = i if ranks[i] > ranks[best] else best
        s = candidates[best]
        ranks[best] = -np.inf
        position = positions[s]
        held_margin = position.margin
        reverses = position.size != 0.0
        verdict = NO_ORDERS if orders < 1.0 else NO_PLACES
        if (orders >= 1.0) & ((places >= 1.0) | reverses):
            g = symbols[s].symbol_group
            code = int(codes[s])
            price = bars[s].close
            now = read(columns, column_of[g], row, s)
            desired, leverage = size(code, value, price, symbols[s].max_leverage, now, params[g])
            shrinks = params[g].shrink_to_fit != 0.0
            coins, cost, verdict = fit_order(
                desired, price, leverage, free + held_margin, shrinks, symbols[s], model, params[g]
            )
            if coins > 0.0:
                verdict = ENTERED
                order_open(position, model, coins if code > 0 else -coins, leverage, False, code)
                position.note_a, position.note_b, position.note_c = plan(code, price, now, params[g])
                activate(account, active, s)
                # The closing part of a reversal frees the margin of the old position.
                extra = cost - held_margin
                free -= extra if extra > 0.0 else 0.0
                places -= 0.0 if reverses else 1.0
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
    signal_count,
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

    Sizes are based on `value`, the equity before the orders of this step. Waiting orders reserve their margin. The
    margin of a position that an order closes is free only for the opening part of the same order.
    """
    count = 0
    agreeing = False
    for i in range(signal_count):
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
        reserved_margin, reserved_places = reserved_by_orders(account, positions, active, bars, model)
        free = value * params[0].max_total_margin_frac - account.margin - reserved_margin
        places = params[0].max_open_positions - account.open_positions - reserved_places
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
    """Reset every combo of the book: no positions, `initial_usd` of cash."""
    for k in range(book.accounts.shape[0]):
        open_account(book.accounts[k], initial_usd)
        for block in range(book.days.shape[0]):
            for i in range(book.days.shape[1]):
                book.days[block, i, k] = 0.0
        for s in range(book.positions.shape[1]):
            reset_position(book.positions[k, s])


@device
def has_exits(model):
    """Return whether exits are decided at closes: the strategy has its own, or levels are tested against closes."""
    return (len(EXITS) > 0) | (model.intrabar == 0.0)


@device
def take_step(book, account, positions, active, i, step, symbols, model, columns, column_of, params, t):
    """Move one book through step `i` of a tile, which is step `t` of the market; see `advance_book` for the rest."""
    same_close = (model.next_open == 0.0) & (model.delay_bars == 0.0)
    later_close = (model.next_open == 0.0) & (model.delay_bars != 0.0)
    has_signals = step.signal_count != 0
    log = book.log
    fills = account.fills
    bars = book.bars[np.uint64(i)]
    unrealised = move_to_close(account, positions, active, bars, symbols, model, t, log)
    # Orders of earlier steps fill before the decisions of this step; orders of this step wait at least one more bar.
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
        column_of: [G, F] column number of each feature, by symbol group.
        params: [G] records of all parameters, by symbol group.
        k: Combo.
        first: First step of the tile.
        count: Number of steps in the tile.
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
            i += step.idle  # nothing changes a flat book in an idle step
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
            # Steps are numbered from the start of the market; these arrays may begin later, at `origin`.
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
        models: [1] record of `market.MODEL`; its `origin` is added to every step number that is stored.
        symbols: [V, S] records of `market.SYMBOL`; a tile ends where the next version begins.
        columns: [C, T, S] feature columns on main bars.
        column_of: [E, G, F] column number of each feature, by signal group and symbol group.
        signal_params: [E, G] records of the parameters that shape signals.
        signal_group_of: [B] signal group of each combo. Combos of a group should be neighbours, since signals are
            computed once per run of neighbours.
        params: [B, G] records of all parameters, by combo and symbol group.
        first: First step.
        last: One past the last step.
        book: `kernels.book.Book` of B combos; the length of its `steps` is that of a tile.
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
    """Write value, threshold and verdict of each gate of the strategy for symbol `s` at step t.

    Args:
        market: `kernels.market.Market`.
        columns: [C, T, S] feature columns on main bars.
        column_of: [E, G, F] as in `run`.
        signal_params: [E, G] as in `run`.
        e: Signal group.
        t: Step.
        s: Symbol.
        out: [len(GATES), 3] receives value, threshold and verdict of each gate: 1 open, 0 closed, NaN not in use.

    Returns:
        The signal code; 0 for no signal.
    """
    benchmark = market.benchmark[0]
    row = market.row[t]
    if (row < 0) | (market.age[t, s] < 0):
        return 0
    previous_row = market.previous_row[t]
    g = market.symbol_group[s]
    market_context = context(columns, column_of[e, 0], row, benchmark, signal_params[e, 0])
    now = read(columns, column_of[e, g], row, s)
    before = read(columns, column_of[e, g], previous_row, s)
    price = market.close[t, s]
    age = market.age[t, s]
    trace(price, age, s == benchmark, now, before, market_context, signal_params[e, g], out)
    return signal(price, age, s == benchmark, now, before, market_context, signal_params[e, g])
