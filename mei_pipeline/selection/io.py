"""What a night's selection writes, and how it is read back.

`walk.json` and `chains.npz` hold the choices and what they earned, `candidates.json` and `replays.npz` what stands at
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
from pydantic import Field, TypeAdapter, ValidationError

from kernels.blocks import BLOCKS
from kernels.params import Value
from mei_pipeline import files
from mei_pipeline.errors import DataError
from mei_pipeline.night.plan import NightPlan
from mei_pipeline.night.store import night_folder
from mei_pipeline.replay.record import PeriodResult
from mei_pipeline.selection.evaluation import Search
from mei_pipeline.selection.folds import block_starts_ms, train_before
from mei_pipeline.selection.segments import Leg
from mei_pipeline.selection.verdicts import Judgement, Luck
from mei_pipeline.selection.walk_forward import Walk
from mei_pipeline.settings import Settings


@dataclass(frozen=True)
class Finalist:
    """The config that a slot stands for.

    Attributes:
        slot: Which of the best choices it is, from 0.
        combo: Its number in the sweep.
        config_id: Id of the resolved config.
        params: Every parameter by path; single symbols may have others, see the search.
        in_sample_sharpe: Annual Sharpe ratio on the days that it was chosen on.
        picks: Combo that the slot chose in each fold; None where nothing had made money.
        out_of_sample: What the slot's choices brought on the days of the folds, chained.
        holdout: What the config brought on the last days, which chose nothing.
    """

    slot: int
    combo: int
    config_id: str
    params: Annotated[Mapping[str, Value], Field(json_schema_extra={"slot": "all params"})]
    in_sample_sharpe: float
    picks: tuple[int | None, ...]
    out_of_sample: PeriodResult
    holdout: PeriodResult


@dataclass(frozen=True)
class Candidates:
    """What a night chose.

    Attributes:
        night: Id of the night.
        combos: How many combos the search had.
        fell: How many combos were not chosen, by reason.
        finalists: Those chosen, best on the days of the search first.
    """

    night: str
    combos: int
    fell: Mapping[str, int]
    finalists: tuple[Finalist, ...]


@dataclass(frozen=True)
class Gated:
    """A night's verdicts.

    Attributes:
        night: Id of the night.
        search: What all gates have in common; None where nothing was chosen.
        logits: Edges [B + 1] and counts [B] of the histogram of the logits of CSCV; empty where there are none.
        luck: How far luck explains the best combo of the search; None where nothing was chosen or nothing varies.
        judgements: One for each finalist.
    """

    night: str
    search: Search | None
    logits: tuple[tuple[float, ...], tuple[int, ...]]
    luck: Luck | None
    judgements: tuple[Judgement, ...]


_WALK = TypeAdapter(Walk)
CANDIDATES = TypeAdapter(Candidates)
"""The form of candidates.json."""
_GATED = TypeAdapter(Gated)


def write_walk(settings: Settings, plan: NightPlan, walk: Walk, chains: Sequence[Leg]) -> None:
    """Write the choices and what they earned."""
    folder = night_folder(settings, plan)
    files.write_bytes(folder / "walk.json", _WALK.dump_json(walk, indent=2) + b"\n")
    write_legs(folder / "chains.npz", dict(enumerate(chains)))


def write_candidates(settings: Settings, plan: NightPlan, found: Candidates, replays: Mapping[str, Leg]) -> None:
    """Write the finalists, and their replays by name."""
    folder = night_folder(settings, plan)
    write_legs(folder / "replays.npz", replays)
    files.write_bytes(folder / "candidates.json", CANDIDATES.dump_json(found, indent=2) + b"\n")


def write_gated(settings: Settings, plan: NightPlan, gated: Gated) -> None:
    """Write the verdicts."""
    path = night_folder(settings, plan) / "gates.json"
    files.write_bytes(path, _GATED.dump_json(gated, indent=2) + b"\n")


def read_walk(settings: Settings, plan: NightPlan) -> tuple[Walk, tuple[Leg, ...]]:
    """What `walk_night` wrote.

    Raises:
        DataError: It has not run for this night, or a file is damaged.
    """
    folder = night_folder(settings, plan)
    walk = read_file(folder / "walk.json", _WALK, "walk_forward")
    chains = read_legs(folder / "chains.npz", range(len(walk.slots)), "walk_forward")
    return walk, chains


def read_candidates(settings: Settings, plan: NightPlan) -> Candidates:
    """What the night chose.

    Raises:
        DataError: It has not chosen yet, or the file is damaged.
    """
    found: Candidates = read_file(night_folder(settings, plan) / "candidates.json", CANDIDATES, "candidates")
    return found


def chosen_days(plan: NightPlan) -> tuple[int, int]:
    """The days that finalists are chosen on, first and one past the last, in UTC milliseconds."""
    first, _ = train_before(BLOCKS, plan.selection.walk_forward)
    return block_starts_ms(plan.sweep.from_ms, plan.sweep.to_ms)[first], plan.sweep.to_ms


def read_replays(settings: Settings, plan: NightPlan) -> tuple[tuple[Leg, Leg], ...]:
    """Each finalist's config on the days that it was chosen on, and on the holdout, from flat to flat.

    Raises:
        DataError: The night has not chosen yet, or a file is damaged.
    """
    slots = [each.slot for each in read_candidates(settings, plan).finalists]
    names = [f"{part} {slot}" for slot in slots for part in ("in sample", "holdout")]
    legs = read_legs(night_folder(settings, plan) / "replays.npz", names, "candidates")
    return tuple(zip(legs[::2], legs[1::2], strict=True))


def read_gated(settings: Settings, plan: NightPlan) -> Gated:
    """The night's verdicts.

    Raises:
        DataError: It has not judged yet, or the file is damaged.
    """
    found: Gated = read_file(night_folder(settings, plan) / "gates.json", _GATED, "gate_results")
    return found


def read_verdicts(settings: Settings, plan: NightPlan) -> tuple[Walk, tuple[tuple[Finalist, Judgement, Leg], ...]]:
    """The folds, and each finalist with the verdicts on it and the chain of its slot.

    Raises:
        DataError: A station has not run, a file is damaged, or a station ran again and those after it did not.
    """
    walk, chains = read_walk(settings, plan)
    finalists = finalists_of(settings, plan, walk)
    judgements = read_gated(settings, plan).judgements
    if [each.config_id for each in judgements] != [each.config_id for each in finalists]:
        path = night_folder(settings, plan) / "gates.json"
        raise DataError(f"{path}: is of other finalists than candidates.json; materialise `gate_results` again")
    return walk, tuple(zip(finalists, judgements, chains, strict=True))


def finalists_of(settings: Settings, plan: NightPlan, walk: Walk) -> tuple[Finalist, ...]:
    """The finalists of these very choices.

    Raises:
        DataError: The night has not chosen yet, a file is damaged, or it is of other choices.
    """
    finalists = read_candidates(settings, plan).finalists
    if [each.combo for each in finalists] != [slot.final.combo for slot in walk.slots]:
        path = night_folder(settings, plan) / "candidates.json"
        raise DataError(f"{path}: is of other choices than walk.json; materialise `candidates` again")
    return finalists


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


def write_legs(path: Path, legs: Mapping[Any, Leg]) -> None:
    """Write legs by name, whole or not at all."""
    buffer = io.BytesIO()
    arrays = {f"{name} {f.name}": getattr(leg, f.name) for name, leg in legs.items() for f in fields(leg)}
    np.savez_compressed(buffer, **arrays)
    files.write_bytes(path, buffer.getvalue())


def read_legs(path: Path, names: Iterable[object], asset: str) -> tuple[Leg, ...]:
    """The legs of some names.

    Raises:
        DataError: The file is missing or damaged, or lacks one; the message names the asset to materialise.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes())) as stored:
            return tuple(Leg(**{f.name: stored[f"{name} {f.name}"] for f in fields(Leg)}) for name in names)
    except FileNotFoundError:
        raise DataError(f"{path}: the night has none yet; materialise `{asset}`") from None
    except (OSError, EOFError, KeyError, ValueError, NotImplementedError, BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged ({error}); materialise `{asset}` again") from None
