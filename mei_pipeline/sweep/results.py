"""Result chunks on disk: one Parquet file each, whole or absent, naming the sweep it belongs to."""

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
from mei_pipeline.simulation.run import Outcome
from mei_pipeline.sweep.metrics import DOCS, LEAST_IS_BEST, blocks, metrics
from mei_pipeline.sweep.plan import SweepPlan, plan_from_dict, plan_to_dict

PLAN = "plan.json"
"""Name of the plan in a sweep's folder."""

NOTES = "notes.json"
"""Name of the notes on its data in a sweep's folder."""

CHUNKS = "chunks"
"""Name of the folder of chunks in a sweep's folder."""

_COUNTS = ("trades", "fills", "open_positions", "liquidations", "refused")


def sweep_folder(root: Path, plan: SweepPlan) -> Path:
    """Where the sweep of `plan` lives below the folder of all sweeps."""
    return root / plan.id[:16]


def chunk_name(plan: SweepPlan, index: int) -> str:
    """Name of one chunk, of the places it holds: files of another chunk size lie beside it and are not read."""
    places = plan.chunk(index)
    return f"{CHUNKS}/{places.start:09d}-{places.stop:09d}.parquet"


def chunk_path(folder: Path, plan: SweepPlan, index: int) -> Path:
    """File of one chunk."""
    return folder / chunk_name(plan, index)


def chunk_frame(plan: SweepPlan, numbers: Ints, outcome: Outcome, bars: int) -> pl.DataFrame:
    """Rows of the combos `numbers` [K]: number, a column per axis, every metric, and three arrays over time blocks."""
    values = metrics(outcome, plan.initial_balance_usd, bars)
    frame = pl.DataFrame(
        {"combo": numbers}
        | {path: pl.Series(of.values, strict=False)[of.which] for path, of in plan.axis_values(numbers).items()}
        | values
        | {name: pl.Series(name, array, dtype=pl.Array(pl.Float64, BLOCKS)) for name, array in blocks(outcome).items()}
    )
    return frame.with_columns(pl.col(_COUNTS).cast(pl.Int64), pl.col("win_rate", "profit_factor").fill_nan(None))


def write_chunk(folder: Path, plan: SweepPlan, index: int, frame: pl.DataFrame) -> None:
    """Write one chunk, whole and durable."""
    with files.replacing(chunk_path(folder, plan, index)) as temporary:
        frame.write_parquet(temporary, compression="zstd", metadata={"mei.sweep": plan.id, "mei.chunk": str(index)})


def chunk_done(folder: Path, plan: SweepPlan, index: int) -> bool:
    """Whether the chunk is on disk and belongs to this plan.

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
        raise DataError(_damaged(path, error)) from None
    noted = metadata.metadata or {}
    foreign = noted.get(b"mei.sweep") != plan.id.encode() or metadata.num_rows != len(plan.chunk(index))
    if foreign:
        raise DataError(f"{path}: not a chunk of sweep {plan.id[:16]}; move it away and run the sweep again")
    return True


def _damaged(path: Path, error: Exception) -> str:
    return f"{path}: damaged result chunk ({error}); delete it and run the sweep again"


def write_plan(folder: Path, plan: SweepPlan) -> None:
    """Note the plan beside its chunks."""
    files.write_json(folder / PLAN, plan_to_dict(plan))


def write_notes(folder: Path, notes: Sequence[str]) -> None:
    """Write the notes on a sweep's data beside its plan; they follow from the plan's bars alone."""
    files.write_json(folder / NOTES, list(notes))


def read_notes(folder: Path) -> list[str]:
    """Return the notes on a sweep's data; none of a sweep that an earlier version made."""
    path = folder / NOTES
    return [str(note) for note in json.loads(path.read_bytes())] if path.exists() else []


def clear_torn(folder: Path) -> None:
    """Remove what a killed run was writing; whoever calls it holds the sweep's lock."""
    for place in (folder, folder / "chunks"):
        for torn in place.glob(".*.tmp"):
            torn.unlink(missing_ok=True)


def read_plan(folder: Path) -> SweepPlan:
    """The plan that lies beside the chunks.

    Raises:
        DataError: There is none, or it is damaged or of another version.
    """
    path = folder / "plan.json"
    try:
        return plan_from_dict(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable ({error}); search again") from None
    except DataError as error:
        raise DataError(f"{path}: {error}; search again") from None


@dataclass(frozen=True)
class Results:
    """Result chunks of a sweep that are on disk, read one after the other: memory does not grow with the combos.

    Attributes:
        plan: The sweep.
        paths: Files of the chunks, in order.
        combos: Rows in them.
    """

    plan: SweepPlan
    paths: tuple[Path, ...]
    combos: int

    @property
    def finished(self) -> bool:
        """Whether every chunk is there."""
        return len(self.paths) == self.plan.chunks

    def frames(self, columns: Sequence[str] | None = None, where: pl.Expr | None = None) -> Iterator[pl.DataFrame]:
        """The rows of each chunk in turn.

        Args:
            columns: Columns to read; all where left out.
            where: Which rows; all where left out.

        Raises:
            DataError: A file is damaged; the message names it.
        """
        for path in self.paths:
            try:
                rows = pl.scan_parquet(path, glob=False)
                rows = rows if where is None else rows.filter(where)
                yield (rows if columns is None else rows.select(columns)).collect()
            except (OSError, pl.exceptions.PolarsError) as error:
                raise DataError(_damaged(path, error)) from None

    def rows(self, combos: Sequence[int]) -> pl.DataFrame:
        """The whole rows of some combos, in the order given.

        Raises:
            DataError: A combo has no row, or a file is damaged.
        """
        wanted = pl.DataFrame({"combo": combos}, schema={"combo": pl.Int64})
        found = pl.concat(self.frames(where=pl.col("combo").is_in(wanted["combo"].implode())))
        if missing := sorted(set(combos) - set(found["combo"])):
            raise DataError(f"sweep {self.plan.id[:16]}: no row of combo {missing[0]} among {self.combos:,}")
        return wanted.join(found, on="combo", how="left", maintain_order="left")


def open_results(folder: Path, plan: SweepPlan, *, partial: bool = False) -> Results:
    """The result chunks of a sweep, each checked to belong to it.

    Args:
        folder: Folder of the sweep.
        plan: The sweep.
        partial: Whether a sweep may be unfinished; those chunks are then given that are done.

    Raises:
        DataError: A chunk is missing, damaged, or of another sweep.
    """
    done = [index for index in range(plan.chunks) if chunk_done(folder, plan, index)]
    if len(done) < plan.chunks and not partial:
        first = next((index for index, number in enumerate(done) if index != number), len(done))
        missing = f"{plan.chunks - len(done)} of {plan.chunks} chunks are missing"
        raise DataError(f"{chunk_path(folder, plan, first)}: {missing}; run the sweep to its end")
    if not done:
        raise DataError(f"{folder}: no chunk is done yet; `mei sweep resume {plan.id[:16]}` goes on with it")
    paths = tuple(chunk_path(folder, plan, index) for index in done)
    return Results(plan, paths, sum(len(plan.chunk(index)) for index in done))


def all_distinct(results: Results) -> bool:
    """Whether no combo has two rows.

    Chunks whose numbers do not overlap, as those of a grid, take no memory; others take 8 bytes a combo.
    """
    spans = []
    for frame in results.frames(("combo",)):
        found = np.unique(frame["combo"].to_numpy())
        if len(found) < frame.height:
            return False
        spans.append((int(found[0]), int(found[-1])))
    ordered = sorted(spans)
    if all(before[1] < after[0] for before, after in itertools.pairwise(ordered)):
        return True
    numbers = pl.concat([frame["combo"] for frame in results.frames(("combo",))])
    return bool(numbers.is_unique().all())


def read_results(folder: Path, plan: SweepPlan) -> pl.DataFrame:
    """All rows of a finished sweep at once: for sweeps that fit into memory.

    Chunks come in the order in which they are chosen, and in a chunk combos by their number. Only in a grid is that the
    order of numbers throughout.

    Raises:
        DataError: As for `open_results`.
    """
    return pl.concat(open_results(folder, plan).frames())


def top(frame: pl.DataFrame, count: int, by: str = "sharpe") -> pl.DataFrame:
    """The `count` best combos by a metric, rows without a value of it last; ties go to the lower number."""
    most = by not in LEAST_IS_BEST
    return frame.sort([by, "combo"], descending=[most, False], nulls_last=True).head(count)


def best_of(frames: Iterable[pl.DataFrame], count: int, by: str = "sharpe") -> pl.DataFrame:
    """`top` of all rows together, of which no more than one frame and `count` rows are held at a time."""
    best = pl.DataFrame()
    for frame in frames:
        best = top(pl.concat([best, frame]) if best.width else frame, count, by)
    return best


def metric_columns() -> tuple[str, ...]:
    """Names of the metric columns."""
    return tuple(DOCS)
