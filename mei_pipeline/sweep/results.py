"""Result files of a sweep: one Parquet file per chunk, written atomically and marked with the id of its sweep."""

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from kernels.blocks import BLOCKS
from kernels.market import Ints
from mei_pipeline import files
from mei_pipeline.errors import DataError
from mei_pipeline.params.grid import CodedValues
from mei_pipeline.simulation.run import ComboOutcomes
from mei_pipeline.sweep.metrics import DOCS, LEAST_IS_BEST, blocks, metrics
from mei_pipeline.sweep.plan import SweepPlan, plan_from_dict, plan_to_dict

PLAN = "plan.json"
"""Name of the plan in the folder of a sweep."""

NOTES = "notes.json"
"""Name of the notes on the data in the folder of a sweep."""

CHUNKS = "chunks"
"""Name of the folder of chunks in the folder of a sweep."""

_COUNTS = ("trades", "fills", "open_positions", "liquidations", "refused")


def sweep_folder(root: Path, plan: SweepPlan) -> Path:
    """Return the folder of the sweep of `plan` below the folder of all sweeps."""
    return root / plan.id[:16]


def chunk_name(plan: SweepPlan, index: int) -> str:
    """Return the name of one chunk. It holds the places of its combos, so that chunks of another size are ignored."""
    places = plan.chunk(index)
    return f"{CHUNKS}/{places.start:09d}-{places.stop:09d}.parquet"


def chunk_path(folder: Path, plan: SweepPlan, index: int) -> Path:
    """Return the path of one chunk."""
    return folder / chunk_name(plan, index)


def chunk_frame(plan: SweepPlan, numbers: Ints, outcome: ComboOutcomes, bars: int) -> pl.DataFrame:
    """Return one row for each of the combos `numbers` [K].

    Columns are the number, one per axis, one per metric, and three arrays over time blocks.
    """
    values = metrics(outcome, plan.initial_balance_usd, bars)
    frame = pl.DataFrame(
        {"combo": numbers}
        | {path: axis_column(coded) for path, coded in plan.axis_values(numbers).items()}
        | values
        | {name: pl.Series(name, array, dtype=pl.Array(pl.Float64, BLOCKS)) for name, array in blocks(outcome).items()}
    )
    # Kernels return counts as floats, and NaN for a metric without a value.
    return frame.with_columns(pl.col(_COUNTS).cast(pl.Int64), pl.col("win_rate", "profit_factor").fill_nan(None))


def axis_column(coded: CodedValues) -> pl.Series:
    """Return the values of an axis as a column, one for each combo."""
    return pl.Series(coded.values, strict=False)[coded.codes]


def write_chunk(folder: Path, plan: SweepPlan, index: int, frame: pl.DataFrame) -> None:
    """Write one chunk atomically and durably."""
    # The metadata lets `chunk_done` reject a file of another sweep without reading its rows.
    with files.replacing(chunk_path(folder, plan, index)) as temporary:
        frame.write_parquet(temporary, compression="zstd", metadata={"mei.sweep": plan.id, "mei.chunk": str(index)})


def chunk_done(folder: Path, plan: SweepPlan, index: int) -> bool:
    """Return True if the chunk is on disk and belongs to this plan.

    Raises:
        DataError: The file is damaged, or is a chunk of another sweep.
    """
    path = chunk_path(folder, plan, index)
    if not path.exists():
        return False
    import pyarrow.parquet as pq  # noqa: PLC0415 - 0.1 s that the first run of a sweep does without

    try:
        metadata = pq.read_metadata(path)
    except (OSError, ValueError) as error:
        raise DataError(damaged_chunk(path, error)) from None
    marks = metadata.metadata or {}
    foreign = marks.get(b"mei.sweep") != plan.id.encode() or metadata.num_rows != len(plan.chunk(index))
    if foreign:
        raise DataError(f"{path}: belongs to another sweep than {plan.id[:16]}; move it away and run the sweep again")
    return True


def damaged_chunk(path: Path, error: Exception) -> str:
    """Return the message about a damaged result file."""
    return f"{path}: damaged result file: {error}; delete it and run the sweep again"


def write_plan(folder: Path, plan: SweepPlan) -> None:
    """Write the plan beside its chunks."""
    files.write_json(folder / PLAN, plan_to_dict(plan))


def write_notes(folder: Path, notes: Sequence[str]) -> None:
    """Write the notes on the data of a sweep beside its plan; they depend on the bars of the plan alone."""
    files.write_json(folder / NOTES, list(notes))


def read_notes(folder: Path) -> list[str]:
    """Return the notes on the data of a sweep; empty without a file of notes."""
    path = folder / NOTES
    return [str(note) for note in json.loads(path.read_bytes())] if path.exists() else []


def clear_torn(folder: Path) -> None:
    """Delete temporary files of a killed run; the caller must hold the lock of the sweep."""
    for place in (folder, folder / CHUNKS):
        for torn in place.glob(".*.tmp"):
            torn.unlink(missing_ok=True)


def read_plan(folder: Path) -> SweepPlan:
    """Return the plan beside the chunks.

    Raises:
        DataError: The plan is missing, damaged or of another version; the message says what to do.
    """
    path = folder / PLAN
    remedy = "run the sweep again with `mei sweep run`"
    try:
        return plan_from_dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: unreadable: {error}; {remedy}") from None
    except DataError as error:
        raise DataError(f"{path}: {error}; {remedy}") from None


@dataclass(frozen=True)
class Results:
    """Result files of a sweep that are on disk.

    They are read one after another, so that memory does not grow with the number of combos.

    Attributes:
        plan: The sweep.
        paths: Paths of the chunks, in order.
        combos: Number of rows.
    """

    plan: SweepPlan
    paths: tuple[Path, ...]
    combos: int

    @property
    def finished(self) -> bool:
        """True if every chunk is on disk."""
        return len(self.paths) == self.plan.chunks

    def frames(self, columns: Sequence[str] | None = None, where: pl.Expr | None = None) -> Iterator[pl.DataFrame]:
        """Yield the rows of each chunk.

        Args:
            columns: Columns to read; all by default.
            where: Filter of rows; none by default.

        Raises:
            DataError: A file is damaged; the message names it.
        """
        for path in self.paths:
            try:
                rows = pl.scan_parquet(path, glob=False)
                rows = rows if where is None else rows.filter(where)
                yield (rows if columns is None else rows.select(columns)).collect()
            except (OSError, pl.exceptions.PolarsError) as error:
                raise DataError(damaged_chunk(path, error)) from None

    def rows(self, combos: Sequence[int]) -> pl.DataFrame:
        """Return the complete rows of some combos, in the given order.

        Raises:
            DataError: A combo has no row, or a file is damaged.
        """
        keys = pl.DataFrame({"combo": combos}, schema={"combo": pl.Int64})
        rows = pl.concat(self.frames(where=pl.col("combo").is_in(keys["combo"].implode())))
        if missing := sorted(set(combos) - set(rows["combo"])):
            raise DataError(f"sweep {self.plan.id[:16]}: no row of combo {missing[0]} among {self.combos:,}")
        return keys.join(rows, on="combo", how="left", maintain_order="left")


def open_results(folder: Path, plan: SweepPlan, *, partial: bool = False) -> Results:
    """Return the result files of a sweep after checking that each belongs to it.

    Args:
        folder: Folder of the sweep.
        plan: The sweep.
        partial: Accept an unfinished sweep and return its finished chunks.

    Raises:
        DataError: A chunk is missing, damaged, or of another sweep.
    """
    done = [index for index in range(plan.chunks) if chunk_done(folder, plan, index)]
    if len(done) < plan.chunks and not partial:
        first = next((index for index, number in enumerate(done) if index != number), len(done))
        missing = f"{plan.chunks - len(done)} of {plan.chunks} chunks are missing"
        remedy = f"finish the sweep with `mei sweep resume {plan.id[:16]}`"
        raise DataError(f"{chunk_path(folder, plan, first)}: {missing}; {remedy}")
    if not done:
        raise DataError(f"{folder}: no chunk is done yet; run it with `mei sweep resume {plan.id[:16]}`")
    paths = tuple(chunk_path(folder, plan, index) for index in done)
    return Results(plan, paths, sum(len(plan.chunk(index)) for index in done))


def all_distinct(results: Results) -> bool:
    """Return True if no combo has two rows.

    Chunks whose numbers do not overlap, as in a grid, need no memory; others need 8 bytes per combo.
    """
    spans = []
    for frame in results.frames(("combo",)):
        distinct = np.unique(frame["combo"].to_numpy())
        if len(distinct) < frame.height:
            return False
        spans.append((int(distinct[0]), int(distinct[-1])))
    ordered = sorted(spans)
    if all(before[1] < after[0] for before, after in itertools.pairwise(ordered)):
        return True
    numbers = pl.concat([frame["combo"] for frame in results.frames(("combo",))])
    return bool(numbers.is_unique().all())


def top(frame: pl.DataFrame, count: int, by: str = "sharpe") -> pl.DataFrame:
    """Return the `count` best combos by a metric. Rows without a value are last; ties are sorted by number."""
    most = by not in LEAST_IS_BEST
    return frame.sort([by, "combo"], descending=[most, False], nulls_last=True).head(count)


def best_of(frames: Iterable[pl.DataFrame], count: int, by: str = "sharpe") -> pl.DataFrame:
    """Return `top` of all frames together, with at most one frame and `count` rows in memory."""
    best = pl.DataFrame()
    for frame in frames:
        best = top(pl.concat([best, frame]) if best.width else frame, count, by)
    return best


def metric_columns() -> tuple[str, ...]:
    """Return the names of the metric columns."""
    return tuple(DOCS)
