"""Backup and restore of a home's lake, registry, lanes, configuration and nights.

`archive` reads and writes the file, `checks` says whether its content is fit to be restored, commands call `run`.
"""
