"""What a night's selection writes, and how it is read back.

`walk_forward.json` and `stitched.npz` hold the choices and what they earned, `candidates.json` and `replays.npz` what stands at
the end of it, `gates.json` the verdicts.
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

from kernels.blocks import BLOCKS
from kernels.params import Value
from mei_pipeline import files
from mei_pipeline.config.fields import open_mapping
from mei_pipeline.errors import DataError
from mei_pipeline.night.plan import NightPlan
from mei_pipeline.night.store import night_folder
from mei_pipeline.replay.record import PeriodResult
from mei_pipeline.selection.evaluation import SearchStatistics
from mei_pipeline.selection.folds import block_starts_ms, train_before
from mei_pipeline.selection.segments import Segment
from mei_pipeline.selection.verdicts import Judgement, SelectionBias
from mei_pipeline.selection.walk_forward import WalkForwardResult
from mei_pipeline.settings import Settings


@dataclass(frozen=True)
class Candidate:
    """The config that a slot stands for.

    Attributes:
        rank: Which of the best choices it is, from 0.
        combo: Its number in the sweep.
        config_id: Id of the resolved config.
        params: Every parameter by path; single symbols may have others, see the search.
        in_sample_sharpe: Annual Sharpe ratio on the days that it was chosen on.
        selected: Combo that the slot chose in each fold; None where nothing had made money.
        out_of_sample: What the slot's choices brought on the days of the folds, chained.
        holdout: What the config brought on the last days, which chose nothing.
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
    """What a night chose.

    Attributes:
        night: Id of the night.
        combos: How many combos the search had.
        rejected: How many combos were not chosen, by reason.
        candidates: Those chosen, best on the days of the search first.
    """

    night: str
    combos: int
    rejected: Mapping[str, int]
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class GateResults:
    """A night's verdicts.

    Attributes:
        night: Id of the night.
        search: What all gates have in common; None where nothing was chosen.
        logits: Edges [B + 1] and counts [B] of the histogram of the logits of CSCV; empty where there are none.
        selection_bias: How far luck explains the best combo of the search; None where nothing was chosen or nothing varies.
        judgements: One for each finalist.
    """

    night: str
    search: SearchStatistics | None
    logits: tuple[tuple[float, ...], tuple[int, ...]]
    selection_bias: SelectionBias | None
    judgements: tuple[Judgement, ...]


_WALK = TypeAdapter(WalkForwardResult)
CANDIDATES = TypeAdapter(CandidateSet)
"""The form of candidates.json."""
_GATED = TypeAdapter(GateResults)


def write_walk_forward(
    settings: Settings, plan: NightPlan, walk: WalkForwardResult, stitched_by_rank: Sequence[Segment]
) -> None:
    """Write the choices and what they earned."""
    folder = night_folder(settings, plan)
    files.write_bytes(folder / "walk_forward.json", _WALK.dump_json(walk, indent=2) + b"\n")
    write_segments(folder / "stitched.npz", dict(enumerate(stitched_by_rank)))


def write_candidates(settings: Settings, plan: NightPlan, found: CandidateSet, replays: Mapping[str, Segment]) -> None:
    """Write the finalists, and their replays by name."""
    folder = night_folder(settings, plan)
    write_segments(folder / "replays.npz", replays)
    files.write_bytes(folder / "candidates.json", CANDIDATES.dump_json(found, indent=2) + b"\n")


def write_gate_results(settings: Settings, plan: NightPlan, results: GateResults) -> None:
    """Write the verdicts."""
    path = night_folder(settings, plan) / "gates.json"
    files.write_bytes(path, _GATED.dump_json(results, indent=2) + b"\n")


def read_walk_forward(settings: Settings, plan: NightPlan) -> tuple[WalkForwardResult, tuple[Segment, ...]]:
    """What `run_walk_forward` wrote.

    Raises:
        DataError: It has not run for this night, or a file is damaged.
    """
    folder = night_folder(settings, plan)
    walk = read_file(folder / "walk_forward.json", _WALK, "walk_forward")
    stitched_by_rank = read_segments(folder / "stitched.npz", range(len(walk.ranks)), "walk_forward")
    return walk, stitched_by_rank


def read_candidates(settings: Settings, plan: NightPlan) -> CandidateSet:
    """What the night chose.

    Raises:
        DataError: It has not chosen yet, or the file is damaged.
    """
    found: CandidateSet = read_file(night_folder(settings, plan) / "candidates.json", CANDIDATES, "candidates")
    return found


def selection_days(plan: NightPlan) -> tuple[int, int]:
    """The days that finalists are chosen on, first and one past the last, in UTC milliseconds."""
    first, _ = train_before(BLOCKS, plan.selection.walk_forward)
    return block_starts_ms(plan.sweep.from_ms, plan.sweep.to_ms)[first], plan.sweep.to_ms


def read_replays(settings: Settings, plan: NightPlan) -> tuple[tuple[Segment, Segment], ...]:
    """Each finalist's config on the days that it was chosen on, and on the holdout, from flat to flat.

    Raises:
        DataError: The night has not chosen yet, or a file is damaged.
    """
    ranks = [each.rank for each in read_candidates(settings, plan).candidates]
    names = [f"{part} {rank}" for rank in ranks for part in ("in sample", "holdout")]
    segments = read_segments(night_folder(settings, plan) / "replays.npz", names, "candidates")
    return tuple(zip(segments[::2], segments[1::2], strict=True))


def read_gate_results(settings: Settings, plan: NightPlan) -> GateResults:
    """The night's verdicts.

    Raises:
        DataError: It has not judged yet, or the file is damaged.
    """
    found: GateResults = read_file(night_folder(settings, plan) / "gates.json", _GATED, "gate_results")
    return found


def read_verdicts(
    settings: Settings, plan: NightPlan
) -> tuple[WalkForwardResult, tuple[tuple[Candidate, Judgement, Segment], ...]]:
    """The folds, and each finalist with the verdicts on it and the chain of its slot.

    Raises:
        DataError: A station has not run, a file is damaged, or a station ran again and those after it did not.
    """
    walk, stitched_by_rank = read_walk_forward(settings, plan)
    candidates = candidates_of(settings, plan, walk)
    judgements = read_gate_results(settings, plan).judgements
    if [each.config_id for each in judgements] != [each.config_id for each in candidates]:
        path = night_folder(settings, plan) / "gates.json"
        raise DataError(f"{path}: is of other finalists than candidates.json; materialise `gate_results` again")
    return walk, tuple(zip(candidates, judgements, stitched_by_rank, strict=True))


def candidates_of(settings: Settings, plan: NightPlan, walk: WalkForwardResult) -> tuple[Candidate, ...]:
    """The finalists of these very choices.

    Raises:
        DataError: The night has not chosen yet, a file is damaged, or it is of other choices.
    """
    candidates = read_candidates(settings, plan).candidates
    if [each.combo for each in candidates] != [rank.final.combo for rank in walk.ranks]:
        path = night_folder(settings, plan) / "candidates.json"
        raise DataError(f"{path}: is of other choices than walk_forward.json; materialise `candidates` again")
    return candidates


def read_file(path: Path, form: TypeAdapter[Any], asset: str) -> Any:
    """What a station wrote.

    Raises:
        DataError: It has not run for this night, or the file is damaged; the message names the asset to materialise.
    """
    try:
        return form.validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: the night has none yet; materialise `{asset}`") from None
    except ValidationError as error:
        raise DataError(f"{path}: damaged ({error.error_count()} problems); materialise `{asset}` again") from None


def write_segments(path: Path, segments: Mapping[Any, Segment]) -> None:
    """Write legs by name, whole or not at all."""
    buffer = io.BytesIO()
    arrays = {
        f"{name} {f.name}": getattr(segment, f.name) for name, segment in segments.items() for f in fields(segment)
    }
    np.savez_compressed(buffer, **arrays)
    files.write_bytes(path, buffer.getvalue())


def read_segments(path: Path, names: Iterable[object], asset: str) -> tuple[Segment, ...]:
    """The legs of some names.

    Raises:
        DataError: The file is missing or damaged, or lacks one; the message names the asset to materialise.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes())) as stored:
            return tuple(Segment(**{f.name: stored[f"{name} {f.name}"] for f in fields(Segment)}) for name in names)
    except FileNotFoundError:
        raise DataError(f"{path}: the night has none yet; materialise `{asset}`") from None
    except (OSError, EOFError, KeyError, ValueError, NotImplementedError, BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged ({error}); materialise `{asset}` again") from None
