"""Candles, funding and instruments: sources, quality rules, the lake, coverage and resampling.

`lake` is the public interface of the lake; the command line and the assets call `ingest`.
"""
