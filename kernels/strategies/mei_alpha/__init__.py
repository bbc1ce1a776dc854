"""`mei_alpha`: a trend strategy for a book of many symbols; docs/explanation/mei_alpha.md describes its rules.

`entries.signal` combines gates and three entry modes, from features alone. `sizing` decides which signals open or add,
and how much. `exits.manage` tests all exits in order. Rules have the names of their rows on the page.
"""

from kernels.strategies.mei_alpha.entries import context, signal
from kernels.strategies.mei_alpha.exits import EXITS, MEMORY, begin, manage
from kernels.strategies.mei_alpha.sizing import add, admits, plan, rank, size
from kernels.strategies.mei_alpha.table import FEATURES, PARAMETERS
from kernels.strategies.mei_alpha.trace import GATES, trace

__all__ = [
    "EXITS",
    "FEATURES",
    "GATES",
    "MEMORY",
    "PARAMETERS",
    "add",
    "admits",
    "begin",
    "context",
    "manage",
    "plan",
    "rank",
    "signal",
    "size",
    "trace",
]

NAME = "mei_alpha"

MARKET = {
    "market.fill": "close",
    "market.stops": "close",
    "market.entry_slippage_bps": 10.0,
    "market.exit_slippage_bps": 10.0,
}
"""Defaults of the market model."""

MARKET_ONLY = {"market.stops": ("close",)}
"""Allowed choices of the market model, where they are restricted."""

MARKET_WHY = {"market.stops": "mei_alpha tests its exits at closes and leaves no stop orders at the venue"}

BENCHMARK = ("filters.require_btc_alignment",)
"""Switches of the rules that read the benchmark symbol."""
