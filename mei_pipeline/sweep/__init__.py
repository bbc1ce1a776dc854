"""Sweeps: plan, search, execution, results and summaries of many combos of a strategy."""
