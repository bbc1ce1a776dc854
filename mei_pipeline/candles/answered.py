"""For which ranges the venue was asked and answered: inside them a missing bar is *no trade*, outside it is *unknown*.

A file or a folder of files proves nothing about bars it doesn't have; a venue that was asked does.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mei_pipeline.candles.store import AskedRecord, Lake, read_record
from mei_pipeline.candles.transaction import Stage

Ranges = list[list[int]]
Table = dict[str, dict[str, Ranges]]


@dataclass(frozen=True)
class Asked:
    """What a source asked a venue for.

    Attributes:
        venue: The venue.
        interval: The interval of the bars asked for.
        ranges: Symbol to the range [from, to) of open times.
    """

    venue: str
    interval: str
    ranges: Mapping[str, tuple[int, int]]


def read_asked(lake: Lake, venue: str) -> Table:
    """Interval to symbol to sorted, disjoint ranges [from, to)."""
    record = read_record(lake.root / "asked" / f"{venue}.json", AskedRecord)
    return record.ranges if record else {}


def union(ranges: Ranges, new: tuple[int, int]) -> Ranges:
    """Add one range to sorted, disjoint ranges."""
    result: Ranges = []
    for start, end in sorted([*map(tuple, ranges), new]):
        if end <= start:
            continue
        if result and start <= result[-1][1]:
            result[-1][1] = max(result[-1][1], end)
        else:
            result.append([start, end])
    return result


def subtract(ranges: Ranges, gone: tuple[int, int]) -> Ranges:
    """Take one range out of sorted, disjoint ranges."""
    pieces = [[start, min(end, gone[0])] for start, end in ranges] + [
        [max(start, gone[1]), end] for start, end in ranges
    ]
    return sorted(piece for piece in pieces if piece[0] < piece[1])


def stage_asked(lake: Lake, stage: Stage, asked: Asked) -> bool:
    """Stage the record with `asked` added; nothing is staged, and False returned, where it says nothing new."""
    table = read_asked(lake, asked.venue)
    known = table.setdefault(asked.interval, {})
    before = {symbol: list(ranges) for symbol, ranges in known.items()}
    for symbol, new in asked.ranges.items():
        merged = union(known.get(symbol, []), new)
        if merged:
            known[symbol] = merged
    if known == before:
        return False
    write_asked(stage, asked.venue, table)
    return True


def write_asked(stage: Stage, venue: str, table: Table) -> None:
    """Stage the record of one venue."""
    kept = {interval: {symbol: ranges for symbol, ranges in row.items() if ranges} for interval, row in table.items()}
    stage.write_json(f"asked/{venue}.json", {"ranges": {interval: row for interval, row in kept.items() if row}})
