"""Candles, funding and instruments: sources, rules of quality, the lake, coverage, resampling, backup.

`lake` is the face of the lake, `ingest` what the command line and the assets call.
"""
