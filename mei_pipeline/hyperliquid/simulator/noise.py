"""Random numbers that are functions of their keys, so that equal seeds and times give equal quotes."""

_MASK = (1 << 64) - 1


def mixed(*keys: int) -> int:
    """Return 64 bits that depend on all keys."""
    state = 0
    for key in keys:
        # The finaliser of splitmix64.
        state = (state + key + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def uniform(*keys: int) -> float:
    """Return a number in [0, 1) that depends on all keys."""
    return (mixed(*keys) >> 11) / (1 << 53)
