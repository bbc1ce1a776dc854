"""Public interface of the candle lake: read slices, merge rows, list and undo ingests, verify files.

`store` defines the layout on disk, `transaction` makes a change atomic, `quality` and `funding` refuse bad rows.
A lake has one writer at a time; readers need no lock.
"""

from mei_pipeline.candles.funding import cadence_changes
from mei_pipeline.candles.history import revisions, undo
from mei_pipeline.candles.reading import (
    candles_hash,
    extent_ms,
    frame_hash,
    intervals,
    read_candles,
    read_funding,
    read_instruments,
    symbols,
    venues,
)
from mei_pipeline.candles.store import Lake, edition, ingests
from mei_pipeline.candles.verify import Damage, set_aside, verify
from mei_pipeline.candles.writing import Counts, MergeReport, merge_candles, merge_funding, merge_instruments

__all__ = [
    "Counts",
    "Damage",
    "Lake",
    "MergeReport",
    "cadence_changes",
    "candles_hash",
    "edition",
    "extent_ms",
    "frame_hash",
    "ingests",
    "intervals",
    "merge_candles",
    "merge_funding",
    "merge_instruments",
    "read_candles",
    "read_funding",
    "read_instruments",
    "revisions",
    "set_aside",
    "symbols",
    "undo",
    "venues",
    "verify",
]
