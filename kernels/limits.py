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
                  "Open positions that the book may hold.", per_symbol=False),
        Parameter("trade.max_total_margin_frac", "float", max_total_margin_frac, 0.001, 1, "frac", "sizing",
                  "Initial margin that the book may hold, as a fraction of equity.", per_symbol=False),
        Parameter("trade.max_entry_orders_per_step", "int", max_entry_orders_per_step, 1, 256, "orders", "sizing",
                  "New positions that one step may order.", per_symbol=False),
        Parameter("trade.min_notional_usd", "float", min_notional_usd, 0, 1e9, "usd", "sizing",
                  "Least notional of an opening order, where the venue's is lower."),
        Parameter("trade.bump_to_min_notional", "bool", bump_to_min_notional, 0, 0, "", "sizing",
                  "Raise an order below the least notional instead of refusing it."),
        Parameter("trade.shrink_to_fit", "bool", shrink_to_fit, 0, 0, "", "sizing",
                  "Cut a new position to the margin that is left instead of refusing it."),
    )  # fmt: skip
