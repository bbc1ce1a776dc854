"""Signal codes of `mei_alpha`: small integers whose sign is the side and whose bits hold tier, mode and permission."""

from kernels.jit import device

LOW, MEDIUM, HIGH = 0.0, 1.0, 2.0
"""Tiers of a signal."""

ACCEL, SIGN = 0.0, 1.0
"""Values of `macd_hist_entry_mode`, besides none."""

TREND, PULLBACK, SLOW_DRIFT = 1, 2, 3
"""Modes of a signal."""


@device
def code_of(is_long, tier, mode, opens):
    """Return the code of a signal.

    Args:
        is_long: True for a long.
        tier: 0 low, 1 medium, 2 high.
        mode: 1 trend, 2 pullback, 3 slow drift.
        opens: True if SSF and REEF allow it to open or add.
    """
    code = 1 + 2 * int(tier) + 8 * mode + (32 if opens else 0)
    return code if is_long else -code


@device
def tier_of(code):
    """Return the tier of a signal: 0 low, 1 medium, 2 high."""
    return float((abs(code) >> 1) & 3)


@device
def mode_of(code):
    """Return the mode of a signal: 1 trend, 2 pullback, 3 slow drift."""
    return (abs(code) >> 3) & 3


@device
def may_open(code):
    """Return whether SSF and REEF allow the signal to open or add."""
    return (abs(code) >> 5) & 1 == 1
