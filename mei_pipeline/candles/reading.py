"""Reads of slices of the lake, and hashes of their content."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from mei_pipeline.candles import store
from mei_pipeline.candles.earlier_state import rewind
from mei_pipeline.candles.schema import CANDLES, FUNDING, INSTRUMENTS, LakeTable
from mei_pipeline.candles.store import Lake
from mei_pipeline.candles.transaction import needs_recovery
from mei_pipeline.errors import Busy, DataError

_ATTEMPTS = 10


def read_candles(
    lake: Lake,
    venue: str,
    interval: str,
    symbols: Iterable[str] | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
) -> pl.DataFrame:
    """Read bars that open in [from_ms, to_ms), all from one state of the lake.

    Args:
        lake: The lake.
        venue: The venue.
        interval: The interval.
        symbols: Symbols to read; all when None.
        from_ms: Start, inclusive; from the first bar when None.
        to_ms: End, exclusive; to the last bar when None.

    Returns:
        Candles sorted by symbol, open_ms; empty if the lake has none.

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

    Join it to bars by `funding.hour_of` the stamp, never by the stamp itself.

    Returns:
        Funding sorted by symbol, time_ms.

    Raises:
        DataError: A file that the lake should have is absent or damaged.
    """
    return _read(lake, FUNDING, f"funding/{venue}", symbols, (from_ms, to_ms))


def read_instruments(lake: Lake, venue: str, symbols: Iterable[str] | None = None) -> pl.DataFrame:
    """Read the instruments of a venue; a row is in force from its `from_ms` to the next row's.

    Returns:
        Instruments sorted by symbol, from_ms.
    """
    return _read(lake, INSTRUMENTS, f"instruments/{venue}", symbols, (None, None))


def symbols(lake: Lake, venue: str, interval: str) -> list[str]:
    """Return the symbols that the lake has bars of, sorted."""
    store.finish_transaction(lake)
    manifest = store.read_manifest(lake, f"candles/{venue}/{interval}")
    return sorted({symbol for entry in manifest.files.values() for symbol in entry.symbols})


def venues(lake: Lake) -> list[str]:
    """Return the venues that the lake has candles or funding of, sorted."""
    store.finish_transaction(lake)
    folders = [path for table in ("candles", "funding") for path in store.folders(lake, table)]
    return sorted({path.split("/")[1] for path in folders})


def intervals(lake: Lake, venue: str) -> list[str]:
    """Return the intervals that the lake has bars of, shortest first."""
    store.finish_transaction(lake)
    stored = {path.split("/")[2] for path in store.folders(lake, "candles") if path.split("/")[1] == venue}
    return sorted(stored, key=store.interval_rank)


def extent_ms(lake: Lake, venue: str, interval: str) -> tuple[int, int] | None:
    """Return the open times of the first and the last bar of any symbol, or None if the lake has no bar."""
    store.finish_transaction(lake)
    entries = store.read_manifest(lake, f"candles/{venue}/{interval}").files.values()
    return (min(e.first_ms for e in entries), max(e.last_ms for e in entries)) if entries else None


def candles_hash(frame: pl.DataFrame, venue: str, interval: str) -> str:
    """Return the hex SHA-256 of a slice's content: venue, interval, and each bar's symbol, time and numbers.

    The hash does not depend on the layout of files, the order of ingests, or the `source` of a bar.

    Args:
        frame: Candles as `read_candles` returns them.
        venue: Their venue.
        interval: Their interval.
    """
    return frame_hash(frame, ("open_ms", *CANDLES.values), f"candles {venue} {interval}")


def frame_hash(frame: pl.DataFrame, columns: Sequence[str], label: str) -> str:
    """Return the hex SHA-256 of `label`, the symbols and `columns` of a frame sorted by symbol.

    A null differs from every value.
    """
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
        # Adding zero turns -0.0 into 0.0: equal values must have equal hashes.
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
    """Read symbol, open time and prices of bars, for checks of many bars.

    Args:
        lake: The lake.
        venue: The venue.
        interval: The interval.
        symbols: Symbols to read.
        files: Names of the data files to read; all when None.
        bounds: Open times [from, to); a None is no bound.

    Returns:
        Bars sorted by symbol, open_ms.

    Raises:
        DataError, Busy: As `read_candles`.
    """
    columns = ["symbol", "open_ms", "open", "high", "low", "close"]
    selection = _Selection(columns, None if files is None else frozenset(files))
    return _read(lake, CANDLES, f"candles/{venue}/{interval}", symbols, bounds, selection)


class _Selection(NamedTuple):
    """Columns and data files to read; all files when None."""

    columns: list[str]
    files: frozenset[str] | None = None


def _read(
    lake: Lake,
    table: LakeTable,
    folder: str,
    symbols: Iterable[str] | None,
    bounds: tuple[int | None, int | None],
    selection: _Selection | None = None,
) -> pl.DataFrame:
    """Read a slice, and repeat the read if an ingest changed the folder meanwhile."""
    # Readers take no lock: an equal manifest before and after proves that all files are of one state.
    names = None if symbols is None else sorted(set(symbols))
    for _ in range(_ATTEMPTS):
        store.finish_transaction(lake)
        before = store.manifest_bytes(lake, folder)
        try:
            frame = _read_once(lake, table, folder, names, bounds, selection or _Selection(list(table.columns)))
        except DataError:
            # A file that disappeared during a commit is no damage.
            if _unchanged(lake, folder, before):
                raise
        else:
            if _unchanged(lake, folder, before):
                return frame
    raise Busy(
        f"{lake.root / folder}: changed {_ATTEMPTS} times while it was read; try again when the ingest has ended"
    )


def _unchanged(lake: Lake, folder: str, before: bytes | None) -> bool:
    return not needs_recovery(lake.root) and store.manifest_bytes(lake, folder) == before


def _read_once(
    lake: Lake,
    table: LakeTable,
    folder: str,
    names: list[str] | None,
    bounds: tuple[int | None, int | None],
    selection: _Selection,
) -> pl.DataFrame:
    from_ms, to_ms = bounds
    manifest = store.read_manifest(lake, folder)
    paths = []
    for file, entry in sorted(manifest.files.items()):
        outside = (from_ms is not None and entry.last_ms < from_ms) or (to_ms is not None and entry.first_ms >= to_ms)
        if outside or (names is not None and entry.symbols.keys().isdisjoint(names)):
            continue
        if selection.files is None or file in selection.files:
            paths.append(store.checked_path(lake, f"{folder}/{file}", entry))
    if not paths and lake.before is None:
        return table.empty().select(selection.columns)
    symbol, time = table.key
    tests = [pl.col(symbol).is_in(names)] if names is not None else []
    tests += [pl.col(time) >= from_ms] if from_ms is not None else []
    tests += [pl.col(time) < to_ms] if to_ms is not None else []
    frame = table.empty()
    if paths:
        # Files come in the order of their months and each is sorted, so a stable sort by symbol sorts the times too.
        # Numbers sort in half the time of texts.
        order = pl.col(symbol) if names is None else pl.col(symbol).cast(pl.Enum(names))
        lazy = store.scan(paths).filter(*tests).sort(order, maintain_order=True)
        frame = store.collect(lazy.select(list(table.columns) if lake.before is not None else selection.columns), paths)
    if lake.before is not None:
        frame = rewind(lake, table, folder, names, frame).filter(*tests)
    return frame.select(selection.columns)
