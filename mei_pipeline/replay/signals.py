"""Signals of a strategy as text: side, and tier and mode if the strategy distinguishes them."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from kernels.strategies import load
from mei_pipeline.params.modules import python_function

TIERS = ("low", "medium", "high")
"""Names of the tiers, indexed by `tier_of`."""

MODES = ("none", "trend", "pullback", "slow drift")
"""Names of the modes, indexed by `mode_of`."""


class SignalMeaning(NamedTuple):
    """A signal as text.

    Attributes:
        side: `long` or `short`; None without a signal.
        tier: One of `TIERS`; None if the strategy has none.
        mode: One of `MODES`; None if the strategy has none.
    """

    side: str | None
    tier: str | None
    mode: str | None


def signal_decoder(strategy: str) -> Callable[[int], SignalMeaning]:
    """Return a function from a signal to its meaning.

    A strategy that encodes more than a side in its signals has `tier_of(code)` and `mode_of(code)`, in its module or in
    the module `signals` of its package.
    """
    module = load(strategy)
    words = getattr(module, "signals", module)
    tier_of, mode_of = (getattr(words, name, None) for name in ("tier_of", "mode_of"))

    @functools.cache
    def decode(code: int) -> SignalMeaning:
        if code == 0:
            return SignalMeaning(None, None, None)
        return SignalMeaning(
            "long" if code > 0 else "short",
            TIERS[int(python_function(tier_of)(code))] if tier_of is not None else None,
            MODES[int(python_function(mode_of)(code))] if mode_of is not None else None,
        )

    return decode
