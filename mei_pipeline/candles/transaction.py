"""Many files of the lake changed as one: all of them old, or all of them new, wherever the process dies.

A transaction first writes every new file whole and durable into `.pending/`, beside the lake's own files and on the
same disk. Nothing of the lake has changed yet: a full disk, an error or a kill up to here leaves the lake as it was,
and what lies in `.pending/` is thrown away. Then `.pending/commit.json` is written: the list of moves and removals.
That one rename is the instant of commit. After it the moves are carried out, and whoever opens the lake next carries
out what a dying process left over. Each move is a rename, so doing it twice is doing it once: a staged file that is
gone has been moved.

What is inside a transaction (data files, manifests, the record of changes, the ingest's record) is therefore always
consistent, and an ingest that was killed is completed by running it again: bars already committed are found unchanged.
The caller holds the lake's lock.
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
class Stage:
    """What one transaction will change; paths are relative to the lake, with `/`.

    Attributes:
        root: The lake's folder.
        moves: Target path to name of the staged file under `.pending/`.
        removals: Paths of files that go away.
    """

    root: Path
    moves: dict[str, str] = field(default_factory=dict)
    removals: list[str] = field(default_factory=list)

    def write_frame(self, target: str, frame: pl.DataFrame) -> Path:
        """Stage `frame` as Parquet; small row groups with statistics make a slice of symbol and time cheap."""
        # Made in memory and written by Python, so that a full disk is the same error here as everywhere.
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
        """Let the file at `target` go away."""
        self.removals.append(target)

    def _staged(self, target: str) -> Path:
        name = self.moves.setdefault(target, f"{len(self.moves):04d}-{target.rsplit('/', 1)[-1]}")
        return self.root / PENDING / name


@contextmanager
def transaction(root: Path) -> Generator[Stage]:
    """Collect changes and apply them all when the block ends, or none of them if it raises.

    Raises:
        Retryable: The disk is full; nothing changed.
        DataError: A folder can't be written; the message says whether anything changed.
    """
    recover(root)
    stage = Stage(root)
    try:
        yield stage
        if stage.moves or stage.removals:
            files.write_json(root / PENDING / COMMIT, {"moves": stage.moves, "removals": stage.removals})
    except OutcomeUnknown as error:
        # The plan is taken back as long as none of its moves was made.
        _discard(root)
        raise DataError(f"{root}: nothing was changed: {error}") from error
    except BaseException:
        _discard(root)
        raise
    recover(root)


def recover(root: Path) -> bool:
    """Finish a committed transaction that a dying process left over, or throw away one that was not committed.

    Returns:
        Whether a committed transaction was carried out.

    Raises:
        DataError: The moves could not be carried out; the next attempt goes on where this one stopped.
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
    """Whether a committed transaction still has files to move."""
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
            # The plan goes first: a plan without its staged files would read as one that was carried out.
            (pending / COMMIT).unlink(missing_ok=True)
            files.sync_folder(pending)
        shutil.rmtree(pending, ignore_errors=True)
