"""`mei_alpha`: a trend strategy for a book of many symbols; docs/explanation/mei_alpha.md states its rules in words.

`entries.signal` is a chain of gates and three modes, from features alone; `sizing` decides what a signal may do, and
`exits.manage` is every exit in order. A rule has the name of its row in the page.
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
"""Choices of the market model that it can do with."""

MARKET_WHY = {"market.stops": "mei_alpha tests its exits at closes; nothing of it rests at the venue"}

BENCHMARK = ("filters.require_btc_alignment",)
"""Switches that make the rules read the benchmark symbol."""
