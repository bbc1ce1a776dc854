"""The journal of a lane: one SQLite file with every event, and tables for people that are written with the events.

`opening` creates and opens journals, `writer` appends events and rows, `reader` returns what recovery needs, `frames`
returns tables, and `export` writes them to files. `docs/reference/journal.md` describes the tables.
"""
