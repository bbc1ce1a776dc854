"""Files of the selection of a nightly run.

`walk_forward.json` and `stitched.npz` hold the combos of each rank and their out-of-sample segments, `candidates.json`
and `replays.npz` the candidates and their replays, `gates.json` the verdicts.
"""

import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any
from zipfile import BadZipFile

import numpy as np
from pydantic import TypeAdapter, ValidationError

from kernels.params import Value
from mei_pipeline import files
from mei_pipeline.config.fields import open_mapping
from mei_pipeline.errors import DataError
from mei_pipeline.night.plan import NightPlan
from mei_pipeline.night.store import night_folder
from mei_pipeline.replay.record import PeriodResult
from mei_pipeline.selection.search_statistics import SearchStatistics
from mei_pipeline.selection.segments import Segment
from mei_pipeline.selection.selection_bias import SelectionBias
from mei_pipeline.selection.verdicts import Judgement
from mei_pipeline.selection.walk_forward import WalkForwardResult
from mei_pipeline.settings import Settings


@dataclass(frozen=True)
class Candidate:
    """The config of a rank, proposed for judgement.

    Attributes:
        rank: Its rank, from 0.
        combo: Its number in the sweep.
        config_id: Id of the resolved config.
        params: Every parameter by path; single symbols may have others, see the search.
        in_sample_sharpe: Annual Sharpe ratio on the days that it was selected on.
        selected: Combo that the rank selected in each fold; None if no further combo had made money.
        out_of_sample: Result of the stitched out-of-sample segments of the rank.
        holdout: Result of the config on the holdout, which selects nothing.
    """

    rank: int
    combo: int
    config_id: str
    params: Annotated[Mapping[str, Value], open_mapping("all_params")]
    in_sample_sharpe: float
    selected: tuple[int | None, ...]
    out_of_sample: PeriodResult
    holdout: PeriodResult


@dataclass(frozen=True)
class CandidateSet:
    """The candidates of a nightly run.

    Attributes:
        night: Id of the nightly run.
        combos: Number of combos of the search.
        rejected: Number of combos that were not selected, by reason.
        candidates: The candidates, best on the days of the search first.
    """

    night: str
    combos: int
    rejected: Mapping[str, int]
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class GateResults:
    """The verdicts of a nightly run.

    Attributes:
        night: Id of the nightly run.
        search: Statistics that all ranks share; None without a candidate.
        logits: Edges [B + 1] and counts [B] of the histogram of the logits of CSCV; empty without logits.
        selection_bias: Selection bias of the best combo; None without a candidate, or if no combo varies.
        judgements: One for each candidate.
    """

    night: str
    search: SearchStatistics | None
    logits: tuple[tuple[float, ...], tuple[int, ...]]
    selection_bias: SelectionBias | None
    judgements: tuple[Judgement, ...]


_WALK_FORWARD = TypeAdapter(WalkForwardResult)
CANDIDATES = TypeAdapter(CandidateSet)
"""Form of candidates.json."""
_GATE_RESULTS = TypeAdapter(GateResults)


def write_walk_forward(
    settings: Settings, plan: NightPlan, walk: WalkForwardResult, stitched_by_rank: Sequence[Segment]
) -> None:
    """Write the combos of each rank and their stitched segments."""
    folder = night_folder(settings, plan)
    files.write_bytes(folder / "walk_forward.json", _WALK_FORWARD.dump_json(walk, indent=2) + b"\n")
    write_segments(folder / "stitched.npz", dict(enumerate(stitched_by_rank)))


def write_candidates(
    settings: Settings, plan: NightPlan, candidates: CandidateSet, replays: Mapping[str, Segment]
) -> None:
    """Write the candidates, and their replays by name."""
    folder = night_folder(settings, plan)
    write_segments(folder / "replays.npz", replays)
    files.write_bytes(folder / "candidates.json", CANDIDATES.dump_json(candidates, indent=2) + b"\n")


def write_gate_results(settings: Settings, plan: NightPlan, results: GateResults) -> None:
    """Write the verdicts."""
    path = night_folder(settings, plan) / "gates.json"
    files.write_bytes(path, _GATE_RESULTS.dump_json(results, indent=2) + b"\n")


def read_walk_forward(settings: Settings, plan: NightPlan) -> tuple[WalkForwardResult, tuple[Segment, ...]]:
    """Read the combos of each rank and their stitched segments.

    Raises:
        DataError: `run_walk_forward` has not run for this nightly run, or a file is not readable.
    """
    folder = night_folder(settings, plan)
    walk = read_file(folder / "walk_forward.json", _WALK_FORWARD, "walk_forward")
    stitched_by_rank = read_segments(folder / "stitched.npz", range(len(walk.ranks)), "walk_forward")
    return walk, stitched_by_rank


def read_candidates(settings: Settings, plan: NightPlan) -> CandidateSet:
    """Read the candidates.

    Raises:
        DataError: `select_candidates` has not run for this nightly run, or the file is not readable.
    """
    candidates: CandidateSet = read_file(night_folder(settings, plan) / "candidates.json", CANDIDATES, "candidates")
    return candidates


def read_replays(settings: Settings, plan: NightPlan) -> tuple[tuple[Segment, Segment], ...]:
    """Read the segments of each candidate's config on the days that it was selected on, and on the holdout.

    Raises:
        DataError: `select_candidates` has not run for this nightly run, or a file is not readable.
    """
    ranks = [each.rank for each in read_candidates(settings, plan).candidates]
    names = [f"{part} {rank}" for rank in ranks for part in ("in sample", "holdout")]
    segments = read_segments(night_folder(settings, plan) / "replays.npz", names, "candidates")
    return tuple(zip(segments[::2], segments[1::2], strict=True))


def read_gate_results(settings: Settings, plan: NightPlan) -> GateResults:
    """Read the verdicts.

    Raises:
        DataError: `judge_candidates` has not run for this nightly run, or the file is not readable.
    """
    results: GateResults = read_file(night_folder(settings, plan) / "gates.json", _GATE_RESULTS, "gate_results")
    return results


def read_verdicts(
    settings: Settings, plan: NightPlan
) -> tuple[WalkForwardResult, tuple[tuple[Candidate, Judgement, Segment], ...]]:
    """Read the folds, and each candidate with its verdicts and the stitched segments of its rank.

    Raises:
        DataError: A stage has not run, a file is not readable, or a stage ran again and a later stage did not.
    """
    walk, stitched_by_rank = read_walk_forward(settings, plan)
    candidates = candidates_of(settings, plan, walk)
    judgements = read_gate_results(settings, plan).judgements
    if [each.config_id for each in judgements] != [each.config_id for each in candidates]:
        path = night_folder(settings, plan) / "gates.json"
        raise DataError(f"{path}: has other candidates than candidates.json; materialise `gate_results` again")
    return walk, tuple(zip(candidates, judgements, stitched_by_rank, strict=True))


def candidates_of(settings: Settings, plan: NightPlan, walk: WalkForwardResult) -> tuple[Candidate, ...]:
    """Read the candidates, and check that they are those of a walk-forward.

    Raises:
        DataError: `select_candidates` has not run, a file is not readable, or it has other combos.
    """
    candidates = read_candidates(settings, plan).candidates
    if [each.combo for each in candidates] != [rank.final.combo for rank in walk.ranks]:
        path = night_folder(settings, plan) / "candidates.json"
        raise DataError(f"{path}: has other combos than walk_forward.json; materialise `candidates` again")
    return candidates


def read_file(path: Path, form: TypeAdapter[Any], asset: str) -> Any:
    """Read a JSON file of a stage.

    Raises:
        DataError: The stage has not run for this nightly run, or the file is not readable; the message names the asset
            to materialise.
    """
    try:
        return form.validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; materialise `{asset}`") from None
    except ValidationError as error:
        raise DataError(
            f"{path}: damaged or of another version ({error.error_count()} problems); materialise `{asset}` again"
        ) from None


def write_segments(path: Path, segments: Mapping[Any, Segment]) -> None:
    """Write segments by name in one atomic step."""
    buffer = io.BytesIO()
    arrays = {
        f"{name} {f.name}": getattr(segment, f.name) for name, segment in segments.items() for f in fields(segment)
    }
    np.savez_compressed(buffer, **arrays)
    files.write_bytes(path, buffer.getvalue())


def read_segments(path: Path, names: Iterable[object], asset: str) -> tuple[Segment, ...]:
    """Read the segments of some names.

    Raises:
        DataError: The file is missing or damaged, or lacks a segment; the message names the asset to materialise.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes())) as stored:
            return tuple(Segment(**{f.name: stored[f"{name} {f.name}"] for f in fields(Segment)}) for name in names)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; materialise `{asset}`") from None
    except (OSError, EOFError, KeyError, ValueError, NotImplementedError, BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged or of another version ({error}); materialise `{asset}` again") from None
