"""Result chunks on disk: one Parquet file each, whole or absent, naming the sweep it belongs to."""

from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from kernels.ledger import BLOCKS
from kernels.market import Ints
from mei_pipeline import files
from mei_pipeline.errors import DataError
from mei_pipeline.simulation import Outcome
from mei_pipeline.sweep.metrics import DOCS, blocks, metrics
from mei_pipeline.sweep.plan import SweepPlan, plan_to_dict

PLAN = "plan.json"
"""Name of the plan in a sweep's folder."""

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
    try:
        metadata = pq.read_metadata(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged result chunk ({error}); delete it and run the sweep again") from None
    noted = metadata.metadata or {}
    foreign = noted.get(b"mei.sweep") != plan.id.encode() or metadata.num_rows != len(plan.chunk(index))
    if foreign:
        raise DataError(f"{path}: not a chunk of sweep {plan.id[:16]}; move it away and run the sweep again")
    return True


def write_plan(folder: Path, plan: SweepPlan) -> None:
    """Note the plan beside its chunks."""
    files.write_json(folder / PLAN, plan_to_dict(plan))


def read_results(folder: Path, plan: SweepPlan) -> pl.DataFrame:
    """All rows of a finished sweep, in order of combos.

    Raises:
        DataError: A chunk is missing.
    """
    paths = [chunk_path(folder, plan, index) for index in range(plan.chunks)]
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise DataError(f"{missing[0]}: {len(missing)} of {len(paths)} chunks are missing; run the sweep to its end")
    return pl.concat([pl.read_parquet(path) for path in paths])


def top(frame: pl.DataFrame, count: int) -> pl.DataFrame:
    """The `count` best combos by Sharpe ratio; ties go to the lower number."""
    return frame.sort(["sharpe", "combo"], descending=[True, False]).head(count)


def metric_columns() -> tuple[str, ...]:
    """Names of the metric columns."""
    return tuple(DOCS)
