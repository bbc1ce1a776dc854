"""Experiments: how often selection promotes a config on markets with a known edge, or with none."""
