"""The plan of a night: which bars, which symbols, which search, decided once and read by everything after it."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from pydantic import TypeAdapter, ValidationError

from mei_pipeline import files
from mei_pipeline.candles import quality
from mei_pipeline.candles.confirm import confirmed_bars
from mei_pipeline.candles.findings import marked_within, reasons
from mei_pipeline.candles.intervals import HOUR_MS, Intervals, interval_ms, iso
from mei_pipeline.candles.lake import Lake, edition, read_candles
from mei_pipeline.candles.spikes import SpikeBounds
from mei_pipeline.config.benchmark import sweep_benchmark
from mei_pipeline.config.evidence import missing_evidence
from mei_pipeline.config.load import Config
from mei_pipeline.config.models import PipelineConfig, Selection, SweepSpec
from mei_pipeline.config.models.policy import restore_earlier_keys, upgrade_keys
from mei_pipeline.errors import Busy, ConfigError, DataError
from mei_pipeline.notes import data_notes
from mei_pipeline.params.benchmark import AUTO, candidates
from mei_pipeline.params.table import read_catalog
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.endings import ENDED_AFTER_MS
from mei_pipeline.simulation.feature_sets import FeatureSet, build_features
from mei_pipeline.simulation.kernel_cache import use_kernels
from mei_pipeline.simulation.market import (
    DAY_MS,
    Bars,
    Window,
    common_symbols,
    context_only,
    last_common_ms,
    load_bars,
    window,
)
from mei_pipeline.simulation.terms import assumed_symbols
from mei_pipeline.sweep.plan import SweepPlan, make_plan

_EXCLUDING = ("stale", "short")
"""Quality rules that exclude a symbol from the night; the others warn, and `spike` is told in its own words."""
NOW, LAST = "now", "last"
_TRIES = 5


@dataclass(frozen=True)
class NightPlan:
    """What a night does.

    Attributes:
        profile: Kind of night, a key of `profiles` in pipeline.yaml.
        as_of_ms: The night knows nothing later.
        holdout_ms: Start of the last days, which are reported and choose nothing.
        to_ms: End of the window, the last UTC midnight at or before the as-of time.
        candles: Bars of the slice, from the anchor to the end of the window, of the symbols kept and of every interval
            that is read.
        dropped: Why each symbol was excluded.
        findings: What the quality rules found.
        others: Symbols that the search does not see, on which finalists are judged as well.
        others_hash: Content hash of their bars; empty where there are none.
        sweep: The search; its window ends where the holdout starts.
        selection: Thresholds of policy.yaml.
        edition: Number of the first transaction of the lake that this plan does not know; no part of its id. None in a
            plan of an earlier version.
        notes: Notes on the data of the window.
        assumed: Searched symbols whose lots, leverage and margin no source stated.
    """

    profile: str
    as_of_ms: int
    holdout_ms: int
    to_ms: int
    candles: int
    dropped: Mapping[str, str]
    findings: tuple[quality.Finding, ...]
    others: tuple[str, ...]
    others_hash: str
    sweep: SweepPlan
    selection: Selection
    edition: int | None = field(default=None, compare=False)
    notes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """SHA-256 of the plan. Keys that earlier versions did not write are left out if empty, so that old ids hold."""
        content = _PLAN.dump_python(self, mode="json", exclude={"edition"})
        _drop_empty(content, ("notes", "assumed"))
        _drop_empty(content["sweep"], ("benchmark",))
        restore_earlier_keys(content["selection"])
        for finding in content["findings"]:
            _drop_empty(finding, ("rows",))
        return files.sha256_json(content)


def _drop_empty(content: dict[str, Any], names: Sequence[str]) -> None:
    """Delete the entries of `names` that are empty or zero."""
    for name in names:
        if not content[name]:
            del content[name]


_PLAN = TypeAdapter(NightPlan)


def resolve_as_of(settings: Settings, config: Config, profile: str, text: str, now_ms: int) -> int:
    """Return the as-of time that `text` names, in UTC milliseconds.

    Args:
        settings: Where the lake is.
        config: The configuration.
        profile: Kind of night; it says what an empty text means.
        text: An ISO time (UTC where it names no zone), `now`, `last`, or empty.
        now_ms: The present, in UTC milliseconds.

    Raises:
        ConfigError: `text` is none of these, or the profile is unknown.
        DataError: `last`, and the lake has no bars for the profile.
    """
    asked = text.strip() or config.profile(profile).as_of
    if asked == LAST:
        return latest_as_of_ms(settings, config, profile)
    return now_ms if asked == NOW else parse_as_of(asked)


def parse_as_of(text: str) -> int:
    """Return the time that an ISO text names, in UTC milliseconds; it is UTC if it names no zone.

    Raises:
        ConfigError: It is no time.
    """
    try:
        when = datetime.fromisoformat(text)
        return int(when.replace(tzinfo=when.tzinfo or UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"as-of time {text!r}: write an ISO time such as 2026-11-01T00:00Z, {NOW} or {LAST}"
        ) from None


def latest_as_of_ms(settings: Settings, config: Config, profile: str) -> int:
    """Return the latest as-of time that leaves no symbol of the universe out but those that have ended.

    It is the end of the last bar that all of them have.

    Raises:
        ConfigError: The profile or its sweep is unknown.
        DataError: The lake has no bars for the profile.
    """
    spec = config.sweep(config.profile(profile).sweep)
    lake = Lake(settings.lake)
    names, _ = _universe(lake, config.pipeline, spec)
    return last_common_ms(lake, spec.venue or config.pipeline.venue, spec.intervals, names)


def plan_night(settings: Settings, config: Config, profile: str, as_of_ms: int) -> NightPlan:
    """Decide what the night of `profile` does, knowing only what had closed at `as_of_ms`.

    An ingest that changes the lake meanwhile makes it decide again.

    Raises:
        ConfigError: The profile or its sweep is unknown, pipeline.yaml does not fetch an interval that it reads, or
            the window starts before the anchor, or the search reads a benchmark symbol and the universe has none.
        DataError: The lake is empty or stale, or no symbol is fit, or not the benchmark; the message says what to run.
        Busy: The lake changed again and again while it was read.
    """
    lake = Lake(settings.lake)
    for _ in range(_TRIES):
        known = edition(lake)
        try:
            plan = _plan_once(settings, config, profile, as_of_ms)
        except DataError:
            if edition(lake) == known:
                raise
        else:
            if edition(lake) == known:
                return replace(plan, edition=known)
    raise Busy(f"{lake.root}: changed {_TRIES} times while a night was planned; try again when the ingest has ended")


def _plan_once(settings: Settings, config: Config, profile: str, as_of_ms: int) -> NightPlan:
    spec = config.sweep(config.profile(profile).sweep)
    pipeline = config.pipeline
    venue = spec.venue or pipeline.venue
    lake = Lake(settings.lake)
    _refuse_unfetched(pipeline, spec)
    anchor_ms = anchor_of(pipeline, spec.interval)
    to_ms = as_of_ms // DAY_MS * DAY_MS
    holdout_ms = to_ms - pipeline.window.holdout_days * DAY_MS
    from_ms = to_ms - pipeline.window.days * DAY_MS
    if from_ms < anchor_ms:
        raise ConfigError(
            f"pipeline.yaml: window.days: {pipeline.window.days} days before {iso(to_ms)} start before the anchor of "
            f"{spec.interval}, {iso(anchor_ms)}; use fewer days, or an earlier anchor and more history"
        )
    names, absent = _universe(lake, pipeline, spec)
    benchmark = sweep_benchmark(spec, names, read_catalog())
    part = _Part(lake, venue, anchor_ms, from_ms, as_of_ms)
    fit = _fit(part, spec.intervals, names, config)
    dropped = {**absent, **fit.dropped}
    if not fit.kept:
        raise DataError(_nothing_fit(part, fit.newest, dropped))
    if benchmark in dropped:
        raise DataError(
            f"benchmark {benchmark} of {venue} can't be used as of {iso(as_of_ms)}: {dropped[benchmark]}; run "
            f"`mei ingest`, or name another one under `benchmark` in the sweep's file"
        )
    selection = config.policy.selection
    others = held_out(fit.kept, selection.holdout_symbols, benchmark)
    kept = [name for name in fit.kept if name not in others]
    bars = load_bars(lake, venue, spec.intervals, kept, anchor_ms, to_ms)
    elsewhere = _others_bars(part, spec.intervals, others, benchmark, to_ms) if others else None
    # The benchmark was found in the universe: which symbols sit out tonight must not change it.
    spec = spec.model_copy(update={"benchmark": benchmark or AUTO})
    return NightPlan(
        profile=profile,
        as_of_ms=as_of_ms,
        holdout_ms=holdout_ms,
        to_ms=to_ms,
        candles=bars.candles,
        dropped=dropped,
        findings=fit.findings.items,
        others=others,
        others_hash=elsewhere.data_hash if elsewhere else "",
        sweep=make_plan(spec, bars, from_ms, holdout_ms),
        selection=selection,
        notes=(*missing_evidence(selection, len(fit.kept)), *data_notes(bars, from_ms, to_ms)),
        assumed=tuple(assumed_symbols(bars.instruments)),
    )


def searchable(settings: Settings, config: Config, profile: str) -> tuple[str, ...]:
    """Symbols of the universe that the lake has at every interval of the search of `profile`.

    Raises:
        ConfigError: The profile or its sweep is unknown.
        DataError: A manifest of the lake is damaged.
    """
    spec = config.sweep(config.profile(profile).sweep)
    return tuple(_universe(Lake(settings.lake), config.pipeline, spec)[0])


def held_out(names: Sequence[str], count: int, benchmark: str = "") -> tuple[str, ...]:
    """The `count` symbols that a search does not see: the last by the hash of their name, the same every night.

    None where fewer would be left to search; see `missing_evidence`. The benchmark is always searched, and so is every
    symbol of Bitcoin.
    """
    searched = {benchmark, *candidates(names)}
    free = [name for name in names if name not in searched]
    if count > len(names) - count:
        return ()
    last = sorted(free, key=files.sha256_json)[max(0, len(free) - count) :]
    return tuple(sorted(last))


def write_plan(settings: Settings, plan: NightPlan) -> Path:
    """Store the plan as `nights/<id>/plan.json`, make it the current night, and return the night's folder."""
    folder = settings.nights / plan.id[:16]
    files.write_bytes(folder / "plan.json", _PLAN.dump_json(plan, indent=2) + b"\n")
    files.write_bytes(settings.nights / "current", plan.id[:16].encode() + b"\n")
    return folder


def read_plan(settings: Settings, night: str = "") -> NightPlan:
    """The plan of a night; of the current one by default.

    Raises:
        DataError: There is no such night, or its plan is damaged.
    """
    current = settings.nights / "current"
    if not night and not current.exists():
        raise DataError(f"{settings.nights}: no night was planned yet; materialise night_plan or run `mei nightly`")
    path = settings.nights / (night[:16] or current.read_text().strip()) / "plan.json"
    try:
        return _PLAN.validate_json(_with_later_gates(path.read_bytes()))
    except FileNotFoundError:
        raise DataError(f"{path}: no such night; known: {', '.join(known_nights(settings)) or 'none'}") from None
    except ValidationError as error:
        raise DataError(
            f"{path}: not a plan of this version ({error.error_count()} problems); plan the night again"
        ) from None


def _with_later_gates(stored: bytes) -> bytes:
    """Name the gates that a plan of an earlier version did not ask for; a damaged plan is left to its validation."""
    try:
        content = json.loads(stored)
        upgrade_keys(content["selection"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return stored
    return json.dumps(content).encode()


def known_nights(settings: Settings) -> list[str]:
    """Short ids of all planned nights, oldest first."""
    return [path.parent.name for path in sorted(settings.nights.glob("*/plan.json"), key=lambda p: p.stat().st_mtime)]


def find_night(settings: Settings, prefix: str) -> NightPlan:
    """The plan of the one night whose id begins with `prefix`.

    Raises:
        ConfigError: No night or several begin so; the message lists those that there are.
        DataError: Its plan is damaged or of another version.
    """
    known = known_nights(settings)
    found = [name for name in known if prefix and name.startswith(prefix[: len(name)])]
    if len(found) != 1:
        listed = ", ".join(found or known) or "none yet; `mei nightly` runs one"
        what = "several begin so" if found else "no such night"
        raise ConfigError(f"night {prefix!r}: {what}; there are {listed}")
    plan = read_plan(settings, found[0])
    if not plan.id.startswith(prefix):
        raise ConfigError(f"night {prefix!r}: no such night; {found[0]} is {plan.id}")
    return plan


def night_folder(settings: Settings, plan: NightPlan) -> Path:
    """Where a night keeps what it decided."""
    return settings.nights / plan.id[:16]


def night_bars(settings: Settings, plan: NightPlan) -> Bars:
    """The bars that the plan was made for, whatever was ingested since.

    Raises:
        DataError: An ingest that the plan knew was undone since, or files were set aside; plan the night again.
    """
    sweep = plan.sweep

    def load(lake: Lake) -> Bars:
        return load_bars(lake, sweep.venue, sweep.intervals, sweep.symbols, sweep.anchor_ms, plan.to_ms)

    return _planned_bars(settings, plan, load, sweep.data_hash)


def others_bars(settings: Settings, plan: NightPlan) -> Bars | None:
    """The bars of the symbols that the search does not see; None where there are none.

    Raises:
        DataError: As `night_bars`.
    """
    if not plan.others:
        return None
    sweep = plan.sweep

    def load(lake: Lake) -> Bars:
        part = _Part(lake, sweep.venue, sweep.anchor_ms, sweep.from_ms, plan.as_of_ms)
        return _others_bars(part, sweep.intervals, plan.others, sweep.benchmark, plan.to_ms)

    return _planned_bars(settings, plan, load, plan.others_hash)


def _planned_bars(settings: Settings, plan: NightPlan, load: Callable[[Lake], Bars], data_hash: str) -> Bars:
    """Bars that `load` reads, as they were when the night was planned."""
    lake = Lake(settings.lake)
    # Mostly nothing of the slice has changed, so the lake of that time is read only where it has.
    states = (lake,) if plan.edition is None else (lake, replace(lake, before=plan.edition))
    for state in states:
        bars = load(state)
        if bars.data_hash == data_hash:
            return bars
    raise DataError(
        f"night {plan.id[:16]}: its bars of {plan.sweep.venue} are no longer in lake {lake.root}: an ingest was undone "
        f"or files were set aside since it was planned; `mei nightly --profile {plan.profile}` plans and runs a new one"
    )


def night_features(settings: Settings, plan: NightPlan, bars: Bars, progress: Progress = silent) -> FeatureSet:
    """The columns that the night's combos read, computed or mapped."""
    use_kernels(settings)
    return build_features(bars, plan.sweep.columns(), settings.features, progress)


def search_window(plan: NightPlan, bars: Bars) -> Window:
    """The days that the search sees."""
    return window(bars, plan.sweep.from_ms, plan.sweep.to_ms)


def anchor_of(pipeline: PipelineConfig, interval: str) -> int:
    """Where features of an interval start, in UTC milliseconds.

    Raises:
        ConfigError: pipeline.yaml has no anchor for it.
    """
    if interval not in pipeline.anchors:
        raise ConfigError(f"pipeline.yaml: anchors: no anchor for {interval}; add one")
    return pipeline.anchors[interval]


def spike_bounds(config: Config) -> SpikeBounds:
    """The bounds of policy.yaml beyond which a bar is marked."""
    return SpikeBounds(**config.policy.spikes.model_dump())


def _refuse_unfetched(pipeline: PipelineConfig, spec: SweepSpec) -> None:
    """A night reads what `mei ingest` keeps up to date, and nothing else."""
    missing = [name for name in spec.intervals.read if name not in pipeline.intervals]
    if missing:
        listed = ", ".join(pipeline.intervals)
        raise ConfigError(
            f"pipeline.yaml: intervals: {missing[0]!r}, which the sweep reads, is not among them: {listed}; add it "
            f"and run `mei ingest`"
        )


def _universe(lake: Lake, pipeline: PipelineConfig, spec: SweepSpec) -> tuple[list[str], dict[str, str]]:
    """Symbols of the universe that the lake has at every interval, and why the others are absent."""
    stored, absent = common_symbols(lake, spec.venue or pipeline.venue, spec.intervals)
    if pipeline.universe == "all":
        return stored, absent
    missing = [name for name in pipeline.universe if name not in stored]
    why = {name: absent.get(name, "not in the lake") for name in missing}
    return [name for name in pipeline.universe if name in stored], why


class _Part(NamedTuple):
    """Bars of a venue that open in [from_ms, as_of_ms), after those from the anchor on that features read."""

    lake: Lake
    venue: str
    anchor_ms: int
    from_ms: int
    as_of_ms: int


def _others_bars(part: _Part, intervals: Intervals, others: Sequence[str], benchmark: str, to_ms: int) -> Bars:
    """Bars of the symbols that the search does not see, and of the benchmark, which is only looked at there."""
    names = [*others, *([benchmark] if benchmark else ())]
    bars = load_bars(part.lake, part.venue, intervals, names, part.anchor_ms, to_ms)
    return context_only(bars, benchmark) if benchmark else bars


class _Fit(NamedTuple):
    """Which symbols are fit for a night, why the others are not, and the end of the newest bar of each interval."""

    kept: list[str]
    dropped: dict[str, str]
    findings: quality.Findings
    newest: dict[str, int | None]


def _fit(part: _Part, intervals: Intervals, names: list[str], config: Config) -> _Fit:
    """Hold the bars of every interval that is read to the quality rules."""
    pipeline = config.pipeline
    limits = quality.Limits(
        stale_after_ms=int(pipeline.window.stale_after_hours * HOUR_MS),
        min_coverage_frac=pipeline.window.min_coverage_frac,
        from_ms=part.from_ms,
        spikes=spike_bounds(config),
    )
    dropped: dict[str, str] = {}
    findings = quality.Findings()
    newest: dict[str, int | None] = {}
    for interval in intervals.read:
        frame = read_candles(part.lake, part.venue, interval, names, part.anchor_ms, part.as_of_ms)
        confirmed = confirmed_bars(part.lake, part.venue, interval)
        found = quality.check(frame, interval, part.as_of_ms, limits, confirmed)
        found = _with_spikes_beside(part, interval, frame, found, limits.spikes)
        findings += found
        frame = frame.filter(pl.col("open_ms") >= part.from_ms)
        last = frame["open_ms"].to_numpy()
        newest[interval] = int(last.max()) + interval_ms(interval) if len(last) else None
        suffix = "" if interval == intervals.main else f" ({interval} bars)"
        ended = _ended(frame, interval)
        for name in sorted(set(names) - set(frame["symbol"].unique())):
            dropped.setdefault(name, f"no bar in the window{suffix}")
        for name, why in reasons(found, interval).items():
            dropped.setdefault(name, why)
        for item in found.items:
            if item.rule == "stale" and item.symbol in ended:
                dropped.setdefault(item.symbol, f"ended: its last bar closed {iso(ended[item.symbol])}{suffix}")
            elif item.rule in _EXCLUDING or item.severity == "refuse":
                dropped.setdefault(item.symbol, f"{item.rule}: {quality.RULES[item.rule].doc}{suffix}")
    return _Fit([name for name in names if name not in dropped], dropped, findings, newest)


def _with_spikes_beside(
    part: _Part, interval: str, frame: pl.DataFrame, found: quality.Findings, bounds: SpikeBounds
) -> quality.Findings:
    """Judge spikes again, with the bars before the anchor; a night knows no bar that closes after its as-of time."""
    window = (part.anchor_ms, part.as_of_ms - interval_ms(interval) + 1)
    bars = frame.filter(pl.col("open_ms") < window[1])
    marked = marked_within(part.lake, part.venue, interval, bars, window, bounds, part.as_of_ms)
    others = tuple(item for item in found.items if item.rule != "spike")
    return quality.Findings(others) + quality.Findings(tuple(quality.collect(marked, "spike")))


def _ended(frame: pl.DataFrame, interval: str) -> dict[str, int]:
    """End of the last bar of each symbol whose bars end well before those of the others."""
    last = frame.group_by("symbol").agg(pl.col("open_ms").max() + interval_ms(interval))
    ends = {str(name): int(end) for name, end in last.iter_rows()}
    newest = max(ends.values(), default=0)
    return {name: end for name, end in ends.items() if newest - end >= ENDED_AFTER_MS}


def _nothing_fit(part: _Part, newest: Mapping[str, int | None], dropped: Mapping[str, str]) -> str:
    ends = ", ".join(
        f"the newest {interval} bar ends {iso(end_ms)}" if end_ms else f"there is no {interval} bar"
        for interval, end_ms in newest.items()
    )
    counts = Counter(dropped.values())
    reasons = "; ".join(f"{count} of {len(dropped)} symbols {reason}" for reason, count in counts.most_common())
    return (
        f"no symbol of {part.venue} is fit for a night as of {iso(part.as_of_ms)}: {ends}. Run "
        f"`mei ingest`; or name an earlier time with --as-of, `last` for the last bar that all symbols have. {reasons}"
    )
