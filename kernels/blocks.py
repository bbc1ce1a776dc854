"""The time blocks of a window. Whoever reads configuration needs their number, and neither numba nor numpy."""

BLOCKS = 16
"""Time blocks that a window's daily returns are summed in."""
