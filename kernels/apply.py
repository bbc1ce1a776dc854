"""Fills and other changes of a book, as a fill model or a venue reports them.

Fills of the fill model and fills of a venue pass through the same functions: opening fills through `apply_opening`,
closing fills through `book_rules.apply_closing`. A venue may fill an order in several parts, so an order counts once,
at its first fill: as an addition, or as a partial close.

`kernels.bind` loads this file once per strategy and puts the functions of the strategy into its globals.
"""

from typing import TYPE_CHECKING

from kernels.book import ADDED, ENTRY, clear_closing, clear_opening, closing_coins, log_row, time_of
from kernels.book_rules import apply_closing
from kernels.jit import device, rare
from kernels.ledger import increase, round_to_lots

if TYPE_CHECKING:
    # `kernels.bind` sets these globals before it runs this module.
    from kernels.strategies.ema_cross import begin  # noqa: TC004 - as above


@device
def apply_opening(account, position, lots, t, s, size, price, fee, moment, log):
    """Apply a fill of the opening part of an order.

    Stop and target of an entry are set at its first fill, and again from the average price when the order ends after
    several fills. An addition whose position is gone becomes an entry.

    Args:
        account: Record of `ledger.ACCOUNT`.
        position: Record of `book.position_dtype` with an opening part; flat, or on its side.
        lots: Lots per base coin.
        t: Step of the fill.
        s: Symbol.
        size: Signed coins, at most the opening part; whole lots.
        price: Price of the fill.
        fee: USD.
        moment: Moment of the fill, as in `book.MOMENTS`.
        log: [N] as in `book.Book`.
    """
    side = 1.0 if size > 0.0 else -1.0
    if position.size == 0.0:
        position.open_adds = 0.0
    adds = position.open_adds != 0.0
    first = 1.0 - position.open_filled
    done = abs(size) >= abs(position.open_size)
    fees = account.fees
    cash = account.cash
    increase(account, position, lots, time_of(t, moment), size, price, fee, position.open_leverage, first)
    if (not adds) & ((first != 0.0) | done):
        begin(position, side, price if first != 0.0 else position.entry)
    position.open_size = 0.0 if done else round_to_lots(position.open_size - size, lots)
    position.open_filled = 0.0 if done else 1.0
    reason = ADDED if adds else ENTRY
    log_row(account, log, position, t, s, reason, moment, size, price, fee, fees, cash, position.open_code)


@rare
def end_order(position, opening, closing):
    """Drop what is left of the parts of an order: the remainder of an order that fills at once or not, or a refusal.

    Args:
        position: Record of `book.position_dtype`.
        opening: True to drop the opening part.
        closing: True to drop the closing part.
    """
    if closing:
        clear_closing(position)
    if opening:
        if (position.open_filled != 0.0) & (position.open_adds == 0.0) & (position.size != 0.0):
            begin(position, 1.0 if position.size > 0.0 else -1.0, position.entry)
        clear_opening(position)


@rare
def consume_closing(position, lots, ordered, coins):
    """Take a fill of `coins` off the closing part of an order, which had `ordered` coins left."""
    left = round_to_lots(ordered - coins, lots) if coins < ordered else 0.0
    held = abs(position.size)
    position.close_left = left if left < held else held
    if position.close_left == 0.0:
        clear_closing(position)


@rare
def apply_fill(account, position, lots, t, s, size, price, fee, settles, settled, reason, moment, log):
    """Apply a fill of a venue: first to the position that it reduces, then to the opening part of the order.

    A fill that closes more than the position is split, and its fee with it.

    Args:
        account: Record of `ledger.ACCOUNT`.
        position: Record of `book.position_dtype`.
        lots: Lots per base coin.
        t: Step at which the fill model would have filled the order.
        s: Symbol.
        size: Signed coins; whole lots.
        price: Price of the fill.
        fee: USD.
        settles: True if the venue settles the position with the account before the fill.
        settled: USD that the venue then takes, or bears if negative.
        reason: Reason of a close, as in `book.REASONS`; it belongs to the closing part if the part has the same reason.
        moment: Moment of the fill, as in `book.MOMENTS`.
        log: [N] as in `book.Book`.

    Returns:
        Signed coins that neither reduce the position nor fill the opening part. Nothing of them is applied.
    """
    whole = abs(size)
    side = 1.0 if size > 0.0 else -1.0
    left = whole
    unpaid = fee
    if position.size * side < 0.0:
        held = abs(position.size)
        coins = whole if whole < held else held
        share = fee if coins == whole else fee * (coins / whole)
        own = (position.close_frac != 0.0) & (position.close_reason == reason)
        ordered = closing_coins(position, lots) if own else 0.0
        first = 0.0 if own & (position.close_left != 0.0) else 1.0
        apply_closing(
            account, position, lots, t, s, side * coins, price, share, settles, settled, first, reason, moment, log
        )
        if own & (position.size != 0.0):
            consume_closing(position, lots, ordered, coins)
        elif position.size == 0.0:
            clear_closing(position)
        elif position.close_left > abs(position.size):
            position.close_left = abs(position.size)
        left = 0.0 if coins == whole else round_to_lots(whole - coins, lots)
        unpaid -= share
    if (left > 0.0) & (position.open_size * side > 0.0) & (position.size * side >= 0.0):
        most = abs(position.open_size)
        coins = left if left < most else most
        share = unpaid if coins == left else unpaid * (coins / left)
        apply_opening(account, position, lots, t, s, side * coins, price, share, moment, log)
        left = 0.0 if coins == left else round_to_lots(left - coins, lots)
    return side * left
