"""One combo through time: the strategy decides over a book, bar after bar.

Loaded once per strategy by `kernels.bind`, which puts the strategy module into this module's globals. Three functions
carry the rules: features are advanced by `kernels.features` (observe), `decide` turns the state before t into orders,
and `kernels.book` turns orders into positions.

Order of events of bar t: waiting orders at its open; stops and targets that its high and low touch; then, at its close:
funding, liquidation at the bar's adverse extremes, marks, orders that fill at this close, decisions, mark-to-market.
"""

from typing import TYPE_CHECKING

from kernels.book import (
    AT_CLOSE,
    CLOSE,
    OPEN_WAIT,
    REASON,
    SIGNAL,
    SIZE,
    STOP,
    TARGET,
    clear,
    fill_waiting,
    needs,
    order_close,
    size_of,
    touched,
    until_close,
    wait_of,
)
from kernels.jit import device, driver
from kernels.ledger import end_day, equity, mark, open_account, open_curve

if TYPE_CHECKING:
    from kernels.strategies import ema_cross as strategy  # noqa: TC004 - `kernels.bind` sets the global when it runs

RESULTS = (
    "equity_usd",
    "max_drawdown_usd",
    "max_drawdown_frac",
    "trades",
    "wins",
    "gross_profit_usd",
    "gross_loss_usd",
    "fees_usd",
    "funding_usd",
    "turnover_usd",
    "fills",
    "bars_held",
    "open_positions",
    "liquidations",
    "refused",
)


@device
def wish(book, market, model, columns, rows, params, k, t):
    """Ask the strategy about every symbol with a bar; write closing legs, wishes and ranks; return how many wish.

    A wish cancels the opening leg that waits. A side that is held already is no wish, unless stop or target are closing
    it: then the strategy wants in again. A close that only a signal asked for is cancelled by the opposite signal.
    """
    wishes = 0
    previous = t - 1 if t > 0 else t
    for s in range(book.wants.shape[0]):
        book.wants[s] = 0.0
        age = market.age[t, s]
        if age < 0:
            continue
        size = book.positions[0, s]
        if (size != 0.0) & (model.intrabar == 0):
            price = market.close[t, s]
            side = 1.0 if size > 0.0 else -1.0
            reason = touched(side, book.positions[2, s], book.positions[3, s], price, price)
            if reason >= 0:
                order_close(book, model, s, reason)
        now = strategy.load_features(columns, rows, k, t, s)
        before = strategy.load_features(columns, rows, k, previous, s)
        wanted, rank = strategy.signal(age, now, before, params)
        if wanted != 0.0:
            book.orders[SIZE, s] = 0.0
            leaves = (book.orders[CLOSE, s] != 0.0) & (book.orders[REASON, s] != SIGNAL)
            if (size * wanted <= 0.0) | leaves:
                if size != 0.0:
                    order_close(book, model, s, SIGNAL)
                book.wants[s] = wanted
                book.ranks[s] = rank
                wishes += 1
            else:
                book.orders[CLOSE, s] = 0.0
    return wishes


@device
def decide(account, book, market, model, columns, rows, params, k, t):
    """Turn the state at the close of bar t into orders.

    Every size comes from the equity before any fill of t. Entries are served by rank, ties in symbol order, while money
    and places last. Waiting orders hold theirs; what an order closes is not free yet, except for the leg that opens
    beside it.

    Returns:
        How many wishes were refused for lack of margin, places or size.
    """
    wishes = wish(book, market, model, columns, rows, params, k, t)
    if wishes == 0:
        return 0.0
    value = equity(account, book.positions, book.marks)
    free = value - account.margin
    places = params.max_open_positions - account.positions
    for s in range(book.orders.shape[1]):
        waiting = book.orders[SIZE, s]
        if waiting != 0.0:
            more = needs(market, model, params, s, waiting, book.marks[s]) - book.positions[4, s]
            free -= more if more > 0.0 else 0.0
            places -= 1.0 if book.positions[0, s] == 0.0 else 0.0
    refused = 0.0
    for _ in range(wishes):
        best = -1
        for s in range(book.wants.shape[0]):
            if (book.wants[s] != 0.0) & ((best < 0) or (book.ranks[s] > book.ranks[best])):
                best = s
        s = best
        side = book.wants[s]
        book.wants[s] = 0.0
        price = market.close[t, s]
        flips = book.positions[0, s] != 0.0
        size = size_of(market, params, s, value, price)
        more = needs(market, model, params, s, size, price) - book.positions[4, s]
        room = (places >= 1.0) | flips
        stop, target = strategy.protect(strategy.load_features(columns, rows, k, t, s), params)
        if (size > 0.0) & room & (more <= free):
            book.orders[SIZE, s] = side * size
            book.orders[STOP, s] = stop
            book.orders[TARGET, s] = target
            book.orders[OPEN_WAIT, s] = wait_of(model)
            free -= more if more > 0.0 else 0.0
            places -= 0.0 if flips else 1.0
        else:
            refused += 1.0
    return refused


@device
def run(market, model, columns, rows, values, k, first, last, book, out):
    """Run combo `k` over the bars [first, last) and write its results.

    Args:
        market: `kernels.market.Market`.
        model: `kernels.market.FillModel`.
        columns: [C, T, S] feature columns.
        rows: [len(FEATURES), K] row of `columns` that each combo reads for each feature.
        values: [len(PARAMETERS), K] encoded parameters.
        k: Which combo.
        first: First bar that is traded.
        last: One past the last bar.
        book: Working memory; whatever it held is cleared, the log and `days` are added to.
        out: [len(RESULTS), K] receives the results.
    """
    params = strategy.load_params(values, k)
    clear(book)
    account = open_account(model.initial_usd)
    curve = open_curve(model.initial_usd)
    refused = 0.0
    liquidations = 0.0
    for t in range(first, last):
        account, liquidated = until_close(account, book, market, model, params, t)
        liquidations += liquidated
        refused += decide(account, book, market, model, columns, rows, params, k, t)
        if (model.next_open == 0) & (model.delay_bars == 0):
            account = fill_waiting(account, book, market, model, params, t, AT_CLOSE)
        value = equity(account, book.positions, book.marks)
        curve = mark(curve, value, account.positions > 0.0)
        if book.equity.shape[0] > 0:
            book.equity[t] = value
        if market.day_end[t] == 1:
            curve = end_day(curve, value, book.days, market.block[t], k)
    value = equity(account, book.positions, book.marks)
    results = (
        value,
        curve.drawdown_usd,
        curve.drawdown_frac,
        account.trades,
        account.wins,
        account.gross_profit,
        account.gross_loss,
        account.fees,
        account.funding,
        account.turnover,
        account.fills,
        curve.bars_held,
        account.positions,
        liquidations,
        refused,
    )
    for i in range(len(results)):
        out[i, k] = results[i]


@driver
def run_range(market, model, columns, rows, values, start, stop, first, last, book, out):
    """Run combos [start, stop) one after another (see `run`)."""
    for k in range(start, stop):
        run(market, model, columns, rows, values, k, first, last, book, out)
