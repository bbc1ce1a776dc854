"""Simulations of combos: bars from the lake as arrays, feature columns, and runs of the kernels on CPU or GPU."""
