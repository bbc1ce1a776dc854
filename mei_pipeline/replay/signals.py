"""What a strategy's signal means to people: its side, and tier and mode where the strategy tells them apart."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from kernels.strategies import load

TIERS = ("low", "medium", "high")
"""Names of the tiers that `tier_of` numbers."""

MODES = ("none", "trend", "pullback", "slow drift")
"""Names of the modes that `mode_of` numbers."""


class SignalMeaning(NamedTuple):
    """A signal in words.

    Attributes:
        side: `long` or `short`; None when there is no signal.
        tier: One of `TIERS`; None where the strategy has none.
        mode: One of `MODES`; None where the strategy has none.
    """

    side: str | None
    tier: str | None
    mode: str | None


def signal_decoder(strategy: str) -> Callable[[int], SignalMeaning]:
    """A function from a signal to its meaning.

    A strategy that packs more than a side into its signals has `tier_of(code)` and `mode_of(code)`, in its module or in
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
            TIERS[int(plain(tier_of)(code))] if tier_of is not None else None,
            MODES[int(plain(mode_of)(code))] if mode_of is not None else None,
        )

    return decode


def plain(rule: Callable[..., Any]) -> Callable[..., Any]:
    """The Python function behind a compiled rule: for a few calls it is quicker than compiling."""
    found: Callable[..., Any] = getattr(rule, "py_func", rule)
    return found
