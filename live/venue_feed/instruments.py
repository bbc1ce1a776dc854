"""Terms of the venue's symbols, from the answer to `meta`."""

from typing import NamedTuple

from mei_pipeline.candles.instruments import MIN_NOTIONAL_USD
from mei_pipeline.errors import DataError
from mei_pipeline.execution.events import InstrumentChanged
from mei_pipeline.hyperliquid.wire import Meta


class SymbolTerms(NamedTuple):
    """Terms of a symbol.

    Attributes:
        size_decimals: Decimals of sizes.
        max_leverage: Maximum leverage.
        delisted: True if it is no longer traded.
    """

    size_decimals: int
    max_leverage: float
    delisted: bool = False


def terms_by_symbol(meta: Meta) -> dict[str, SymbolTerms]:
    """Return the terms of every symbol.

    Raises:
        DataError: The venue names no symbol.
    """
    if not meta.universe:
        raise DataError("venue: its universe is empty; try again later, or choose another network")
    return {
        asset.name: SymbolTerms(asset.size_decimals, float(asset.max_leverage), bool(asset.delisted))
        for asset in meta.universe
    }


def change_of(
    symbol: str, terms: SymbolTerms, from_ms: int, venue_ms: int, last_open_ms: int | None = None
) -> InstrumentChanged:
    """Return the event that states terms.

    The venue's maintenance margin is half of the initial margin at maximum leverage, and its minimum notional is the
    same for all symbols.
    """
    return InstrumentChanged(
        venue_ms=venue_ms,
        symbol=symbol,
        from_ms=from_ms,
        size_decimals=terms.size_decimals,
        min_notional_usd=MIN_NOTIONAL_USD,
        max_leverage=terms.max_leverage,
        maintenance_margin_frac=0.5 / terms.max_leverage,
        last_open_ms=last_open_ms,
    )
