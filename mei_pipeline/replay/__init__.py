"""Replays of one config over the lake: trades, equity and metrics."""
