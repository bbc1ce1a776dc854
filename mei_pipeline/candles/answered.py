"""Ranges of time for which a venue answered: inside them a missing bar is *no trade*, outside *unknown*.

Files prove nothing about bars that they do not have. A venue's answer to a request does.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mei_pipeline.candles.store import AnsweredRecord, Lake, read_record
from mei_pipeline.candles.transaction import Transaction

Ranges = list[list[int]]
RangeTable = dict[str, dict[str, Ranges]]


@dataclass(frozen=True)
class AnsweredRanges:
    """Ranges of open times for which a venue answered a request.

    Attributes:
        venue: The venue.
        interval: Interval of the requested bars.
        ranges: Symbol to the range [from, to) of open times.
    """

    venue: str
    interval: str
    ranges: Mapping[str, tuple[int, int]]


def read_answered_ranges(lake: Lake, venue: str) -> RangeTable:
    """Return interval to symbol to sorted, disjoint ranges [from, to)."""
    record = read_record(lake.root / "asked" / f"{venue}.json", AnsweredRecord)
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


def subtract(ranges: Ranges, removed: tuple[int, int]) -> Ranges:
    """Remove one range from sorted, disjoint ranges."""
    pieces = [[start, min(end, removed[0])] for start, end in ranges] + [
        [max(start, removed[1]), end] for start, end in ranges
    ]
    return sorted(piece for piece in pieces if piece[0] < piece[1])


def add_answered_ranges(lake: Lake, transaction: Transaction, answered: AnsweredRanges) -> bool:
    """Stage the venue's record with `answered` added.

    Returns:
        False if the record covers these ranges already; then nothing is staged.
    """
    table = read_answered_ranges(lake, answered.venue)
    by_symbol = table.setdefault(answered.interval, {})
    before = {symbol: list(ranges) for symbol, ranges in by_symbol.items()}
    for symbol, new in answered.ranges.items():
        merged = union(by_symbol.get(symbol, []), new)
        if merged:
            by_symbol[symbol] = merged
    if by_symbol == before:
        return False
    stage_answered_ranges(transaction, answered.venue, table)
    return True


def stage_answered_ranges(transaction: Transaction, venue: str, table: RangeTable) -> None:
    """Stage the record of one venue."""
    kept = {interval: {symbol: ranges for symbol, ranges in row.items() if ranges} for interval, row in table.items()}
    transaction.write_json(f"asked/{venue}.json", {"ranges": {interval: row for interval, row in kept.items() if row}})
