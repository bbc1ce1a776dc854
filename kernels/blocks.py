"""Number of time blocks of a window, in a module without numba and numpy for readers of configuration."""

BLOCKS = 16
"""Number of time blocks for sums of daily returns."""
