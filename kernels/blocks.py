"""The number of time blocks of a window, apart from numba and numpy: readers of configuration need it, too."""

BLOCKS = 16
"""Time blocks that a window's daily returns are summed in."""
