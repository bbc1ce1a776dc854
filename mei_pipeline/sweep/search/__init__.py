"""Search methods: all combos of the grid, a random sample, or proposals from the results of earlier combos."""
