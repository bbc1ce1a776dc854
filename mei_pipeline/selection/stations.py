"""A night's way from the rows of its search to verdicts: each station reads what lies before it, and writes a file.

`walk.json` and `chains.npz` hold the choices and what they earned, `candidates.json` and `replays.npz` what stands at
the end of it, `gates.json` the verdicts. A station can be run again alone.
"""

import io
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any
from zipfile import BadZipFile

import numpy as np
import polars as pl
from pydantic import Field, TypeAdapter, ValidationError

from kernels.ledger import BLOCKS
from kernels.params import Value
from mei_pipeline import files
from mei_pipeline.config.models import Engine
from mei_pipeline.errors import DataError
from mei_pipeline.market import DAY_MS, window
from mei_pipeline.night import NightPlan, night_bars, night_features, night_folder, others_bars
from mei_pipeline.params.identity import config_id
from mei_pipeline.progress import Progress, silent
from mei_pipeline.registry import looks as known_looks
from mei_pipeline.registry.engine import Registry
from mei_pipeline.registry.records import Gate, all_pass
from mei_pipeline.selection.folds import block_starts_ms, train_before
from mei_pipeline.selection.gates import judge
from mei_pipeline.selection.judge import Look, Luck, luck_of, overfitting_of, own_looks, search_of, trial_sums
from mei_pipeline.selection.legs import Ground, Leg, run_leg
from mei_pipeline.selection.measured import Evidence, Measured, Search, basket_returns, known, measure
from mei_pipeline.selection.picks import COLUMNS
from mei_pipeline.selection.statistics.sharpe import track_record
from mei_pipeline.selection.walk_forward import Walk, choose, run_slots
from mei_pipeline.settings import Settings
from mei_pipeline.sweep.plan import SweepPlan, resolved_combo
from mei_pipeline.sweep.results import open_results, sweep_folder
from mei_pipeline.sweep.run import run_sweep

_BINS = 40


@dataclass(frozen=True)
class Headline:
    """What some days brought; None is no value.

    Attributes:
        days: How many.
        return_pct: Net return.
        sharpe: Annual Sharpe ratio of daily returns.
        max_drawdown_pct: Deepest fall of mark-to-market equity from a peak.
        round_trips: Closed round trips.
    """

    days: int
    return_pct: float
    sharpe: float | None
    max_drawdown_pct: float
    round_trips: int


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
    out_of_sample: Headline
    holdout: Headline


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
class Judgement:
    """The verdicts on one finalist.

    Attributes:
        config_id: Its config.
        slot: Its slot.
        measured: What the gates look at.
        gates: Every gate.
    """

    config_id: str
    slot: int
    measured: Measured
    gates: tuple[Gate, ...]

    @property
    def passed(self) -> bool:
        """Whether it passed every gate."""
        return all_pass(self.gates)

    @property
    def fell_at(self) -> tuple[str, ...]:
        """Names of the gates that it did not pass."""
        return tuple(gate.name for gate in self.gates if gate.verdict != "pass")

    @property
    def reason(self) -> str:
        """Why it fell, or that it did not."""
        failed = [gate for gate in self.gates if gate.verdict != "pass"]
        return "; ".join(f"{gate.name}: {gate.explanation}" for gate in failed) or "passed every gate"


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


def walk_night(
    settings: Settings, plan: NightPlan, where: Engine | None = None, progress: Progress = silent
) -> tuple[Walk, tuple[Leg, ...]]:
    """Choose in every fold of the night's search and run the choices on the days after; write both down.

    Where folds have searches of their own, those are run first; one that was cut off goes on.

    Args:
        settings: Where things are.
        plan: The night.
        where: `engine` of pipeline.yaml: what runs searches; by default this machine.
        progress: Told of combos, then of legs.

    Raises:
        ConfigError: The policy leaves a fold no day.
        DataError: The sweep is not whole, or the lake has changed.
        Busy, Retryable: See `run_sweep`.
    """
    ground = _ground(settings, plan)

    def rows(search: SweepPlan) -> Iterator[pl.DataFrame]:
        if search.id != plan.sweep.id:
            cut = window(ground.bars, search.from_ms, search.to_ms)
            run_sweep(settings, search, cut, ground.features, where=where, progress=progress)
        return _rows(settings, search)

    walk = choose(plan.sweep, rows, plan.selection.walk_forward, plan.selection.finalists)
    chains = run_slots(ground, plan.sweep, walk, progress)
    folder = night_folder(settings, plan)
    files.write_bytes(folder / "walk.json", _WALK.dump_json(walk, indent=2) + b"\n")
    _write_legs(folder / "chains.npz", dict(enumerate(chains)))
    return walk, chains


def read_walk(settings: Settings, plan: NightPlan) -> tuple[Walk, tuple[Leg, ...]]:
    """What `walk_night` wrote.

    Raises:
        DataError: It has not run for this night, or a file is damaged.
    """
    folder = night_folder(settings, plan)
    walk = read_file(folder / "walk.json", _WALK, "walk_forward")
    chains = _read_legs(folder / "chains.npz", range(len(walk.slots)), "walk_forward")
    return walk, chains


def candidates_night(settings: Settings, plan: NightPlan) -> Candidates:
    """Name the config that each slot stands for, run it on the holdout, count the combos that were not chosen.

    Raises:
        DataError: The walk-forward of the night has not run, or the lake has changed.
    """
    walk, chains = read_walk(settings, plan)
    ground = _ground(settings, plan)
    finalists = []
    replays: dict[str, Leg] = {}
    chosen_on, last_days = chosen_days(plan), (plan.holdout_ms, plan.to_ms)
    for slot, chain in zip(walk.slots, chains, strict=True):
        params = plan.sweep.combo(slot.final.combo)
        resolved = resolved_combo(plan.sweep, params)
        inside, holdout = (run_leg(ground, resolved, days) for days in (chosen_on, last_days))
        replays |= {f"in sample {slot.number}": inside, f"holdout {slot.number}": holdout}
        finalists.append(
            Finalist(
                slot=slot.number,
                combo=slot.final.combo,
                config_id=config_id(resolved),
                params=params,
                in_sample_sharpe=slot.final.sharpe,
                picks=tuple(pick.combo if pick else None for pick in slot.picks),
                out_of_sample=_headline(chain),
                holdout=_headline(holdout),
            )
        )
    found = Candidates(plan.id, plan.sweep.combos, _fell(settings, plan, len(finalists)), tuple(finalists))
    folder = night_folder(settings, plan)
    _write_legs(folder / "replays.npz", replays)
    files.write_bytes(folder / "candidates.json", CANDIDATES.dump_json(found, indent=2) + b"\n")
    return found


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
    legs = _read_legs(night_folder(settings, plan) / "replays.npz", names, "candidates")
    return tuple(zip(legs[::2], legs[1::2], strict=True))


def gate_night(
    settings: Settings, plan: NightPlan, registry: Registry, now_ms: int, progress: Progress = silent
) -> Gated:
    """Measure and judge every finalist; what is judged is stored as a look at these days before a verdict is known.

    Raises:
        DataError: An earlier station has not run, or has run again since, or the lake has changed.
        Busy: Another process holds the registry.
    """
    walk, chains = read_walk(settings, plan)
    found = _finalists_of(settings, plan, walk)
    if not chains:
        gated = Gated(plan.id, None, ((), ()), None, ())
    else:
        seen = _look(plan, own_looks(plan.sweep, walk, chains), registry, now_ms)
        ground, others = _ground(settings, plan), _others(settings, plan)
        sums = trial_sums(plan.sweep, _rows(settings, plan.sweep))
        overfitting = overfitting_of(sums)
        search = search_of(overfitting, chains, seen, basket_returns(ground.bars, chains[0].days_ms))
        evidence = Evidence(ground, others, plan.sweep, walk, plan.selection, plan.to_ms)
        judgements = []
        for finalist, slot, chain in zip(found, walk.slots, chains, strict=True):
            measured = measure(evidence, slot, chain, search)
            gates = judge(measured, plan.selection.gates)
            judgements.append(Judgement(finalist.config_id, finalist.slot, measured, gates))
            progress(len(judgements), len(chains), "finalists judged")
        finite = overfitting.logits[np.isfinite(overfitting.logits)]
        counts, edges = np.histogram(finite, _BINS) if len(finite) else (np.empty(0), np.empty(0))
        logits = (tuple(map(float, edges)), tuple(map(int, counts)))
        luck = luck_of(sums, plan.sweep.combos)
        gated = Gated(plan.id, search, logits, luck, tuple(judgements))
    path = night_folder(settings, plan) / "gates.json"
    files.write_bytes(path, _GATED.dump_json(gated, indent=2) + b"\n")
    return gated


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
    finalists = _finalists_of(settings, plan, walk)
    judgements = read_gated(settings, plan).judgements
    if [each.config_id for each in judgements] != [each.config_id for each in finalists]:
        path = night_folder(settings, plan) / "gates.json"
        raise DataError(f"{path}: is of other finalists than candidates.json; materialise `gate_results` again")
    return walk, tuple(zip(finalists, judgements, chains, strict=True))


def _finalists_of(settings: Settings, plan: NightPlan, walk: Walk) -> tuple[Finalist, ...]:
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


def _write_legs(path: Path, legs: Mapping[Any, Leg]) -> None:
    buffer = io.BytesIO()
    arrays = {f"{name} {f.name}": getattr(leg, f.name) for name, leg in legs.items() for f in fields(leg)}
    np.savez_compressed(buffer, **arrays)
    files.write_bytes(path, buffer.getvalue())


def _read_legs(path: Path, names: Iterable[object], asset: str) -> tuple[Leg, ...]:
    try:
        with path.open("rb") as file, np.load(file) as stored:
            return tuple(Leg(**{f.name: stored[f"{name} {f.name}"] for f in fields(Leg)}) for name in names)
    except FileNotFoundError:
        raise DataError(f"{path}: the night has none yet; materialise `{asset}`") from None
    except (OSError, KeyError, ValueError, EOFError, NotImplementedError, BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged ({error}); materialise `{asset}` again") from None


def _ground(settings: Settings, plan: NightPlan) -> Ground:
    bars = night_bars(settings, plan)
    return Ground(settings, bars, night_features(settings, plan, bars))


def _others(settings: Settings, plan: NightPlan) -> Ground | None:
    bars = others_bars(settings, plan)
    return None if bars is None else Ground(settings, bars, night_features(settings, plan, bars))


def _rows(settings: Settings, search: SweepPlan) -> Iterator[pl.DataFrame]:
    """What choices read of the rows of a search, chunk by chunk."""
    return open_results(sweep_folder(settings.sweeps, search), search).frames(COLUMNS)


def _fell(settings: Settings, plan: NightPlan, chosen: int) -> dict[str, int]:
    lost = 0
    for rows in open_results(sweep_folder(settings.sweeps, plan.sweep), plan.sweep).frames(("net_pnl_usd",)):
        lost += int((rows["net_pnl_usd"] <= 0.0).sum())
    return {
        "no profit on the days of the search": lost,
        "not among the best on the days of the search, or the same as one of them": plan.sweep.combos - lost - chosen,
    }


def _headline(leg: Leg) -> Headline:
    return Headline(
        days=len(leg.returns),
        return_pct=100.0 * leg.return_frac,
        sharpe=known(track_record(leg.returns).annual),
        max_drawdown_pct=100.0 * leg.max_drawdown_frac,
        round_trips=len(leg.trip_profits),
    )


def _look(plan: NightPlan, own: Sequence[Look], registry: Registry, now_ms: int) -> list[Look]:
    """Store tonight's looks, and give every look at these days, oldest first and tonight's last."""
    first, last = (_day(own[0].days_ms[place]) for place in (0, -1))
    for slot, look in enumerate(own):
        days = (look.days_ms - look.days_ms[0]) // DAY_MS
        returns = np.zeros(int(days[-1]) + 1)
        returns[days] = look.returns
        seen = known_looks.Look(
            night_id=plan.id,
            slot=f"slot {slot}",
            config_ids=(look.config_id,),
            venue=plan.sweep.venue,
            first_day=first,
            last_day=last,
            returns=tuple(returns.tolist()),
            data_hash=plan.sweep.data_hash,
            policy_id=plan.selection.id,
        )
        known_looks.add_look(registry, seen, now_ms)
    return [*map(_series, known_looks.looks_between(registry, plan.sweep.venue, first, last)), *own]


def _series(look: known_looks.Look) -> Look:
    first = (look.first_day - date(1970, 1, 1)).days
    days_ms = DAY_MS * (first + np.arange(len(look.returns), dtype=np.int64))
    return Look(look.config_ids[0], days_ms, np.array(look.returns))


def _day(time_ms: int) -> date:
    return datetime.fromtimestamp(time_ms / 1000, UTC).date()
