"""Atomic changes of many files of the lake: after a crash, all of them are old or all of them are new.

A transaction first writes every new file, complete and synced, into `.pending/` on the lake's own disk. Until then
nothing in the lake has changed: after a full disk, an error or a kill the files in `.pending/` are deleted. Then the
transaction writes `.pending/commit.json`, the list of moves and removals. The rename of that file is the commit.

After the commit the moves are carried out. If the process dies before the end, the next process that opens the lake
finishes them. A move is a rename, so repeating it is harmless: a staged file that no longer exists was already moved.

Data files, manifests, records of changes and the record of the ingest are therefore always consistent. A killed ingest
is completed by running it again: bars that were committed count as unchanged. The caller holds the lake's lock.
"""

import io
import json
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from mei_pipeline import files
from mei_pipeline.errors import DataError, OutcomeUnknown

PENDING = ".pending"
COMMIT = "commit.json"
ROW_GROUP = 16_384


@dataclass(frozen=True)
class Transaction:
    """Changes of one transaction; paths are relative to the lake, with `/`.

    Attributes:
        root: The lake's folder.
        moves: Target path to name of the staged file under `.pending/`.
        removals: Paths of the files to remove.
    """

    root: Path
    moves: dict[str, str] = field(default_factory=dict)
    removals: list[str] = field(default_factory=list)

    def write_frame(self, target: str, frame: pl.DataFrame) -> Path:
        """Stage `frame` as Parquet; small row groups with statistics make a slice of symbol and time cheap."""
        # Python writes the bytes, so that a full disk raises the same OSError here as for every other file.
        buffer = io.BytesIO()
        frame.rechunk().write_parquet(
            buffer, compression="zstd", compression_level=3, statistics=True, row_group_size=ROW_GROUP
        )
        path = self._staged(target)
        files.write_bytes(path, buffer.getvalue())
        return path

    def write_json(self, target: str, value: Any) -> Path:
        """Stage `value` as JSON."""
        path = self._staged(target)
        files.write_json(path, value)
        return path

    def remove(self, target: str) -> None:
        """Remove the file at `target` with this transaction."""
        self.removals.append(target)

    def _staged(self, target: str) -> Path:
        name = self.moves.setdefault(target, f"{len(self.moves):04d}-{target.rsplit('/', 1)[-1]}")
        return self.root / PENDING / name


@contextmanager
def open_transaction(root: Path) -> Generator[Transaction]:
    """Collect changes; apply all of them when the block ends, or none if it raises.

    Raises:
        Retryable: The disk is full; nothing changed.
        DataError: A folder can't be written; the message says whether anything changed.
    """
    recover(root)
    transaction = Transaction(root)
    try:
        yield transaction
        if transaction.moves or transaction.removals:
            files.write_json(root / PENDING / COMMIT, {"moves": transaction.moves, "removals": transaction.removals})
    except OutcomeUnknown as error:
        # The commit file may be on disk or not. No move was made yet, so removing it undoes the commit.
        _discard(root)
        raise DataError(f"{root}: nothing was changed: {error}") from error
    except BaseException:
        _discard(root)
        raise
    recover(root)


def recover(root: Path) -> bool:
    """Finish a committed transaction whose process died, or delete one that was not committed.

    Returns:
        True if a committed transaction was finished.

    Raises:
        DataError: The moves could not be carried out; the next attempt continues where this one stopped.
    """
    pending = root / PENDING
    if not pending.is_dir():
        return False
    committed = (pending / COMMIT).is_file()
    if committed:
        plan = json.loads((pending / COMMIT).read_text())
        try:
            _apply(root, plan["moves"], plan["removals"])
        except OSError as error:
            raise DataError(
                f"{root}: the change is committed but not all files are in place: {error}; "
                "make the folder writable and run any `mei lake` command to finish it"
            ) from error
    _discard(root)
    return committed


def needs_recovery(root: Path) -> bool:
    """Return True if a committed transaction still has files to move."""
    return (root / PENDING / COMMIT).is_file()


def _apply(root: Path, moves: dict[str, str], removals: list[str]) -> None:
    folders = set()
    for target, name in moves.items():
        staged, path = root / PENDING / name, root / target
        if staged.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            staged.replace(path)
            folders.add(path.parent)
    for target in removals:
        (root / target).unlink(missing_ok=True)
        folders.add((root / target).parent)
    for folder in folders | {root}:
        if folder.is_dir():
            files.sync_folder(folder)


def _discard(root: Path) -> None:
    pending = root / PENDING
    if pending.is_dir():
        if needs_recovery(root):
            # The commit file goes first: without its staged files it would read as a transaction that was finished.
            (pending / COMMIT).unlink(missing_ok=True)
            files.sync_folder(pending)
        shutil.rmtree(pending, ignore_errors=True)
