"""Backup and restore of a home's lake, registry, lanes, configuration and nightly runs.

`archive` reads and writes the tar file, `checks` checks its content, and `run` has the functions that commands call.
"""
