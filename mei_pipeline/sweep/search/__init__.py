"""Which combos of the grid a sweep runs: all, a random sample, or what looks best after the combos before."""
