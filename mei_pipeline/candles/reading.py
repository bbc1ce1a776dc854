"""Slices of the lake, and the hashes of their content."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from mei_pipeline.candles import store, transaction
from mei_pipeline.candles.earlier_state import rewind
from mei_pipeline.candles.schema import CANDLES, FUNDING, INSTRUMENTS, Table
from mei_pipeline.candles.store import Lake
from mei_pipeline.errors import Busy, DataError

_TRIES = 10


def read_candles(
    lake: Lake,
    venue: str,
    interval: str,
    symbols: Iterable[str] | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
) -> pl.DataFrame:
    """Read bars that open in [from_ms, to_ms), all of one state of the lake.

    Args:
        lake: The lake.
        venue: The venue.
        interval: The interval.
        symbols: Which symbols; all when None.
        from_ms: Start, inclusive; from the first bar when None.
        to_ms: End, exclusive; to the last bar when None.

    Returns:
        Candles sorted by symbol, open_ms; empty where the lake has none.

    Raises:
        DataError: A file that the lake should have is absent or damaged; the message names it.
        Busy: Other processes changed the lake again and again while it was read.
    """
    return _read(lake, CANDLES, f"candles/{venue}/{interval}", symbols, (from_ms, to_ms))


def read_funding(
    lake: Lake,
    venue: str,
    symbols: Iterable[str] | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
) -> pl.DataFrame:
    """Read funding stamped in [from_ms, to_ms): one row per symbol and hour, with the venue's stamp in `time_ms`.

    Join it to bars by `funding_grid_ms` of the stamp, never by the stamp itself.

    Returns:
        Funding sorted by symbol, time_ms.

    Raises:
        DataError: A file that the lake should have is absent or damaged.
    """
    return _read(lake, FUNDING, f"funding/{venue}", symbols, (from_ms, to_ms))


def read_instruments(lake: Lake, venue: str, symbols: Iterable[str] | None = None) -> pl.DataFrame:
    """Read what is known of the instruments of a venue, each row in force from its `from_ms` to the next one's.

    Returns:
        Instruments sorted by symbol, from_ms.
    """
    return _read(lake, INSTRUMENTS, f"instruments/{venue}", symbols, (None, None))


def symbols(lake: Lake, venue: str, interval: str) -> list[str]:
    """Symbols that the lake has bars of, sorted."""
    store.settle(lake)
    manifest = store.read_manifest(lake, f"candles/{venue}/{interval}")
    return sorted({symbol for entry in manifest.files.values() for symbol in entry.symbols})


def venues(lake: Lake) -> list[str]:
    """Venues that the lake has candles or funding of, sorted."""
    store.settle(lake)
    found = [path for table in ("candles", "funding") for path in store.folders(lake, table)]
    return sorted({path.split("/")[1] for path in found})


def intervals(lake: Lake, venue: str) -> list[str]:
    """Intervals that the lake has bars of, shortest first."""
    store.settle(lake)
    found = {path.split("/")[2] for path in store.folders(lake, "candles") if path.split("/")[1] == venue}
    return sorted(found, key=store.interval_rank)


def extent_ms(lake: Lake, venue: str, interval: str) -> tuple[int, int] | None:
    """Open times of the first and the last bar that the lake has of any symbol, or None when it has none."""
    store.settle(lake)
    entries = store.read_manifest(lake, f"candles/{venue}/{interval}").files.values()
    return (min(e.first_ms for e in entries), max(e.last_ms for e in entries)) if entries else None


def data_hash(
    lake: Lake,
    venue: str,
    interval: str,
    symbols: Sequence[str] | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
) -> str:
    """Hex SHA-256 of what a slice says: venue, interval, and each bar's symbol, time and numbers.

    It depends neither on how files lie nor on the order of ingests nor on where a bar came from (`source`).
    """
    return candles_hash(read_candles(lake, venue, interval, symbols, from_ms, to_ms), venue, interval)


def candles_hash(frame: pl.DataFrame, venue: str, interval: str) -> str:
    """`data_hash` of a slice that was read already."""
    return frame_hash(frame, ("open_ms", *CANDLES.values), f"candles {venue} {interval}")


def funding_hash(
    lake: Lake,
    venue: str,
    symbols: Sequence[str] | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
) -> str:
    """`data_hash` of a slice of funding."""
    frame = read_funding(lake, venue, symbols, from_ms, to_ms)
    return frame_hash(frame, ("time_ms", *FUNDING.values), f"funding {venue}")


def frame_hash(frame: pl.DataFrame, columns: Sequence[str], label: str) -> str:
    """Hex SHA-256 of `label`, the symbols and `columns` of a frame sorted by symbol; null differs from any value."""
    digest = hashlib.sha256(label.encode())
    runs = frame["symbol"].rle()
    for run in runs.to_list():
        digest.update(f"\n{run['value']} {run['len']}".encode())
    for name in columns:
        column = frame[name]
        digest.update(f"\n{name}\n".encode())
        if column.null_count():
            digest.update(np.packbits(column.is_null().to_numpy()).tobytes())
            column = column.fill_null(0)
        # Adding zero turns -0.0, which equals 0.0, into 0.0.
        digest.update(np.ascontiguousarray(column.to_numpy() + 0).tobytes())
    return digest.hexdigest()


def read_bars(
    lake: Lake,
    venue: str,
    interval: str,
    symbols: Iterable[str],
    *,
    files: Iterable[str] | None = None,
    bounds: tuple[int | None, int | None] = (None, None),
) -> pl.DataFrame:
    """Read symbol, open time and prices of bars that open in [from, to), of these data files or of all.

    Returns:
        Bars sorted by symbol, open_ms.

    Raises:
        DataError, Busy: As `read_candles`.
    """
    columns = ["symbol", "open_ms", "open", "high", "low", "close"]
    part = _Part(columns, None if files is None else frozenset(files))
    return _read(lake, CANDLES, f"candles/{venue}/{interval}", symbols, bounds, part)


class _Part(NamedTuple):
    """Part of a table: these columns, of these data files; all files when None."""

    columns: list[str]
    files: frozenset[str] | None = None


def _read(
    lake: Lake,
    table: Table,
    folder: str,
    symbols: Iterable[str] | None,
    bounds: tuple[int | None, int | None],
    part: _Part | None = None,
) -> pl.DataFrame:
    """Read again while an ingest exchanges files: those of one read are all old or all new."""
    wanted = None if symbols is None else sorted(set(symbols))
    for _ in range(_TRIES):
        store.settle(lake)
        seen = store.manifest_bytes(lake, folder)
        try:
            frame = _read_once(lake, table, folder, wanted, bounds, part or _Part(list(table.columns)))
        except DataError:
            if _unchanged(lake, folder, seen):
                raise
        else:
            if _unchanged(lake, folder, seen):
                return frame
    raise Busy(f"{lake.root / folder}: changed {_TRIES} times while it was read; try again when the ingest has ended")


def _unchanged(lake: Lake, folder: str, seen: bytes | None) -> bool:
    return not transaction.needs_recovery(lake.root) and store.manifest_bytes(lake, folder) == seen


def _read_once(
    lake: Lake,
    table: Table,
    folder: str,
    wanted: list[str] | None,
    bounds: tuple[int | None, int | None],
    part: _Part,
) -> pl.DataFrame:
    from_ms, to_ms = bounds
    manifest = store.read_manifest(lake, folder)
    paths = []
    for file, entry in sorted(manifest.files.items()):
        outside = (from_ms is not None and entry.last_ms < from_ms) or (to_ms is not None and entry.first_ms >= to_ms)
        if outside or (wanted is not None and entry.symbols.keys().isdisjoint(wanted)):
            continue
        if part.files is None or file in part.files:
            paths.append(store.present(lake, f"{folder}/{file}", entry))
    if not paths and not lake.before:
        return table.empty().select(part.columns)
    symbol, time = table.key
    tests = [pl.col(symbol).is_in(wanted)] if wanted is not None else []
    tests += [pl.col(time) >= from_ms] if from_ms is not None else []
    tests += [pl.col(time) < to_ms] if to_ms is not None else []
    frame = table.empty()
    if paths:
        # Files come in the order of their months and each is sorted, so a stable sort by symbol sorts the times too.
        # Numbers sort in half the time of texts.
        order = pl.col(symbol) if wanted is None else pl.col(symbol).cast(pl.Enum(wanted))
        lazy = store.scan(paths).filter(*tests).sort(order, maintain_order=True)
        frame = store.collect(lazy.select(list(table.columns) if lake.before else part.columns), paths)
    if lake.before:
        frame = rewind(lake, table, folder, wanted, frame).filter(*tests)
    return frame.select(part.columns)
