"""Trades of a lane, from flat to flat, kept up to date fill by fill."""

from decimal import Decimal

from msgspec.structs import replace

from mei_pipeline.execution.events import OpenTrade
from mei_pipeline.execution.rows import FillRow, TradeRow

_OPENS = frozenset({"entry", "add"})
_PAYMENTS = frozenset({"funding", "backstop"})


def take_fill(trade: OpenTrade | None, fill: FillRow, number: int) -> OpenTrade:
    """Return a trade after a row of its fills; the first row opens it with `number`."""
    if trade is None:
        side = "long" if fill.size > 0.0 else "short"
        trade = OpenTrade(trade=number, config_id=fill.config_id, symbol=fill.symbol, side=side, entry_ms=fill.time_ms)
    money = replace(trade, fees_usd=trade.fees_usd + fill.fee_usd, pnl_usd=trade.pnl_usd + fill.cash_usd)
    size = abs(fill.size)
    if fill.reason in _PAYMENTS:
        return money
    if fill.reason in _OPENS:
        return replace(
            money,
            # Sums of binary fractions would not be whole lots; a replay adds decimals, too.
            opened=float(Decimal(repr(money.opened)) + Decimal(repr(size))),
            opened_usd=money.opened_usd + size * fill.price,
            size=max(money.size, abs(fill.held)),
            adds=money.adds + (fill.reason == "add"),
        )
    return replace(
        money,
        closed=money.closed + size,
        closed_usd=money.closed_usd + size * fill.price,
        closes=money.closes + 1,
    )


def take_funding(trade: OpenTrade, usd: float) -> OpenTrade:
    """Return a trade after a funding payment of `usd`."""
    return replace(trade, funding_usd=trade.funding_usd + usd, pnl_usd=trade.pnl_usd - usd)


def trade_row(trade: OpenTrade, last: FillRow | None = None) -> TradeRow:
    """Return the row of a trade; `last` is the fill that closed it, None while it is open."""
    return TradeRow(
        trade=trade.trade,
        config_id=trade.config_id,
        symbol=trade.symbol,
        side=trade.side,
        entry_ms=trade.entry_ms,
        exit_ms=None if last is None else last.time_ms,
        entry_price=trade.opened_usd / trade.opened if trade.opened else 0.0,
        exit_price=trade.closed_usd / trade.closed if trade.closed else None,
        size=trade.size,
        adds=trade.adds,
        partials=max(trade.closes - 1, 0) if last else trade.closes,
        reason=None if last is None else last.reason,
        fees_usd=trade.fees_usd,
        funding_usd=trade.funding_usd,
        pnl_usd=trade.pnl_usd,
    )
