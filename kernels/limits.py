"""Parameters for the limits of a book, which every strategy has: positions, margin, orders and order size."""

from kernels.params import Parameter


def limits(
    *,
    max_open_positions: int = 20,
    max_total_margin_frac: float = 1.0,
    max_entry_orders_per_step: int = 256,
    min_notional_usd: float = 0.0,
    bump_to_min_notional: bool = False,
    shrink_to_fit: bool = False,
) -> tuple[Parameter, ...]:
    """Return the parameters of the book's limits, with the defaults of a strategy."""
    return (
        Parameter("trade.max_open_positions", "int", max_open_positions, 1, 256, "positions", "sizing",
                  "Maximum number of open positions.", per_symbol=False),
        Parameter("trade.max_total_margin_frac", "float", max_total_margin_frac, 0.001, 1, "frac", "sizing",
                  "Maximum initial margin of the book, as a fraction of equity.", per_symbol=False),
        Parameter("trade.max_entry_orders_per_step", "int", max_entry_orders_per_step, 1, 256, "orders", "sizing",
                  "Maximum number of new positions ordered in one step.", per_symbol=False),
        Parameter("trade.min_notional_usd", "float", min_notional_usd, 0, 1e9, "usd", "sizing",
                  "Minimum notional of an opening order; the venue's minimum applies if it is higher."),
        Parameter("trade.bump_to_min_notional", "bool", bump_to_min_notional, 0, 0, "", "sizing",
                  "Raise an order below the minimum notional instead of refusing it."),
        Parameter("trade.shrink_to_fit", "bool", shrink_to_fit, 0, 0, "", "sizing",
                  "Shrink a new position to the free margin instead of refusing it."),
    )  # fmt: skip
