"""The plan of a nightly run: its time, window, symbols and search.

One step decides the plan. Every later step reads it, so no part of a run can use other options.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import TypeAdapter

from mei_pipeline import files
from mei_pipeline.candles import quality
from mei_pipeline.candles.intervals import DAY_MS, iso
from mei_pipeline.candles.lake import Lake, edition
from mei_pipeline.config.benchmark import sweep_benchmark
from mei_pipeline.config.evidence import missing_evidence
from mei_pipeline.config.load import Configuration
from mei_pipeline.config.models import PipelineConfig, Selection, SweepSpec
from mei_pipeline.errors import Busy, ConfigError, DataError
from mei_pipeline.night.universe import (
    LakeSlice,
    check_fitness,
    choose_holdout_symbols,
    no_fit_symbol,
    read_holdout_bars,
    universe,
)
from mei_pipeline.notes import data_notes
from mei_pipeline.params.benchmark import AUTO
from mei_pipeline.params.table import read_catalog
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.extents import last_common_ms
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.simulation.terms import assumed_symbols
from mei_pipeline.sweep.plan import SweepPlan, make_plan

NOW, LAST = "now", "last"
"""Words for an as-of time: the present, and the end of the last bar that all symbols have."""
_ATTEMPTS = 5


@dataclass(frozen=True)
class NightPlan:
    """The plan of a nightly run.

    Attributes:
        profile: Kind of run, a key of `profiles` in pipeline.yaml.
        as_of_ms: The run uses no data later than this time.
        holdout_ms: Start of the holdout, the last days, which rank nothing.
        to_ms: End of the window: the last UTC midnight at or before the as-of time.
        candles: Number of bars from the anchor to the end of the window, over kept symbols and all intervals read.
        dropped: Reason for each excluded symbol.
        findings: Findings of the quality rules.
        holdout_symbols: Symbols that the search never sees; candidates are judged on them as well.
        holdout_symbols_hash: Content hash of their bars; empty without such symbols.
        sweep: The search; its window ends at the start of the holdout.
        selection: Thresholds of policy.yaml.
        edition: Number of the lake's first transaction after this plan; no part of the id.
        notes: Notes on the data of the window.
        assumed: Searched symbols with default lots, leverage and margin, because no source stated them.
    """

    profile: str
    as_of_ms: int
    holdout_ms: int
    to_ms: int
    candles: int
    dropped: Mapping[str, str]
    findings: tuple[quality.QualityFinding, ...]
    holdout_symbols: tuple[str, ...]
    holdout_symbols_hash: str
    sweep: SweepPlan
    selection: Selection
    edition: int = field(compare=False)
    notes: tuple[str, ...]
    assumed: tuple[str, ...]

    @property
    def id(self) -> str:
        """SHA-256 of the plan without its edition: a later transaction that leaves the slice alone changes nothing."""
        return files.sha256_json(PLAN_TYPE.dump_python(self, mode="json", exclude={"edition"}))


PLAN_TYPE = TypeAdapter(NightPlan)
"""Writes plans as JSON and reads them."""


def resolve_as_of(settings: Settings, config: Configuration, profile: str, text: str, now_ms: int) -> int:
    """Return the as-of time that a text names, in UTC milliseconds.

    Args:
        settings: Location of the lake.
        config: The configuration.
        profile: Kind of run; its `as_of` replaces an empty text.
        text: An ISO time (UTC if it names no zone), `now`, `last`, or empty.
        now_ms: The present, in UTC milliseconds.

    Raises:
        ConfigError: The text is none of these, or the profile is unknown.
        DataError: The text is `last`, and the lake has no bars for the profile.
    """
    as_of = text.strip() or config.profile(profile).as_of
    if as_of == LAST:
        return latest_as_of_ms(settings, config, profile)
    return now_ms if as_of == NOW else parse_as_of(as_of)


def parse_as_of(text: str) -> int:
    """Return the time that an ISO text names, in UTC milliseconds; UTC if it names no zone.

    Raises:
        ConfigError: The text is no time.
    """
    try:
        when = datetime.fromisoformat(text)
        return int(when.replace(tzinfo=when.tzinfo or UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"as-of time {text!r}: write an ISO time such as 2026-11-01T00:00Z, {NOW} or {LAST}"
        ) from None


def latest_as_of_ms(settings: Settings, config: Configuration, profile: str) -> int:
    """Return the end of the last bar that all symbols of the universe have, except those that have ended.

    It is the latest as-of time that excludes no symbol for stale bars.

    Raises:
        ConfigError: The profile or its sweep is unknown.
        DataError: The lake has no bars for the profile.
    """
    spec = config.sweep(config.profile(profile).sweep)
    lake = Lake(settings.lake)
    names, _ = universe(lake, config.pipeline, spec)
    return last_common_ms(lake, spec.venue or config.pipeline.venue, spec.intervals, names)


def plan_night(settings: Settings, config: Configuration, profile: str, as_of_ms: int) -> NightPlan:
    """Return the plan of a nightly run that uses only what had closed at `as_of_ms`.

    The plan is made again if an ingest changes the lake while it is read.

    Raises:
        ConfigError: The profile or its sweep is unknown, pipeline.yaml does not fetch an interval that the sweep reads,
            the window starts before the anchor, or the search needs a benchmark symbol and the universe has none.
        DataError: The lake is empty or stale, no symbol is fit, or the benchmark is not; the message names the command.
        Busy: The lake changed at every attempt.
    """
    lake = Lake(settings.lake)
    for _ in range(_ATTEMPTS):
        before = edition(lake)
        try:
            plan = _plan_at(settings, config, profile, as_of_ms, before)
        except DataError:
            # Half of an ingest may look like missing data; only an unchanged lake makes the error true.
            if edition(lake) == before:
                raise
        else:
            if edition(lake) == before:
                return plan
    raise Busy(
        f"{lake.root}: changed {_ATTEMPTS} times while a nightly run was planned; try again when the ingest has ended"
    )


def _plan_at(settings: Settings, config: Configuration, profile: str, as_of_ms: int, lake_edition: int) -> NightPlan:
    spec = config.sweep(config.profile(profile).sweep)
    pipeline = config.pipeline
    venue = spec.venue or pipeline.venue
    lake = Lake(settings.lake)
    _check_intervals(pipeline, spec)
    anchor_ms = anchor_of(pipeline, spec.interval)
    to_ms = as_of_ms // DAY_MS * DAY_MS
    holdout_ms = to_ms - pipeline.window.holdout_days * DAY_MS
    from_ms = to_ms - pipeline.window.days * DAY_MS
    if from_ms < anchor_ms:
        raise ConfigError(
            f"pipeline.yaml: window.days: {pipeline.window.days} days before {iso(to_ms)} start before the anchor of "
            f"{spec.interval}, {iso(anchor_ms)}; use fewer days, or an earlier anchor and more history"
        )
    names, absent = universe(lake, pipeline, spec)
    benchmark = sweep_benchmark(spec, names, read_catalog())
    part = LakeSlice(lake, venue, anchor_ms, from_ms, as_of_ms)
    fit = check_fitness(part, spec.intervals, names, config)
    dropped = {**absent, **fit.dropped}
    if not fit.kept:
        raise DataError(no_fit_symbol(part, fit.newest, dropped))
    if benchmark in dropped:
        raise DataError(
            f"benchmark {benchmark} of {venue} can't be used as of {iso(as_of_ms)}: {dropped[benchmark]}; run "
            f"`mei ingest`, or name another one under `benchmark` in the sweep's file"
        )
    selection = config.policy.selection
    holdout_symbols = choose_holdout_symbols(fit.kept, selection.holdout_symbols, benchmark)
    kept = [name for name in fit.kept if name not in holdout_symbols]
    bars = load_bars(lake, venue, spec.intervals, kept, anchor_ms, to_ms)
    holdout_bars = (
        read_holdout_bars(part, spec.intervals, holdout_symbols, benchmark, to_ms) if holdout_symbols else None
    )
    # The benchmark was resolved in the whole universe; a symbol that is excluded today must not change it.
    spec = spec.model_copy(update={"benchmark": benchmark or AUTO})
    return NightPlan(
        profile=profile,
        as_of_ms=as_of_ms,
        holdout_ms=holdout_ms,
        to_ms=to_ms,
        candles=bars.candles,
        dropped=dropped,
        findings=fit.findings.items,
        holdout_symbols=holdout_symbols,
        holdout_symbols_hash=holdout_bars.data_hash if holdout_bars else "",
        sweep=make_plan(spec, bars, from_ms, holdout_ms),
        selection=selection,
        edition=lake_edition,
        notes=(*missing_evidence(selection, len(fit.kept)), *data_notes(bars, from_ms, to_ms)),
        assumed=tuple(assumed_symbols(bars.instruments)),
    )


def anchor_of(pipeline: PipelineConfig, interval: str) -> int:
    """Return the anchor of an interval: open time of the first bar that its features read, in UTC milliseconds.

    Raises:
        ConfigError: pipeline.yaml has no anchor for it.
    """
    if interval not in pipeline.anchors:
        raise ConfigError(f"pipeline.yaml: anchors: no anchor for {interval}; add one")
    return pipeline.anchors[interval]


def _check_intervals(pipeline: PipelineConfig, spec: SweepSpec) -> None:
    """Raise if `mei ingest` does not keep an interval up to date that the sweep reads.

    Raises:
        ConfigError: pipeline.yaml does not list the interval.
    """
    missing = [name for name in spec.intervals.read if name not in pipeline.intervals]
    if missing:
        listed = ", ".join(pipeline.intervals)
        raise ConfigError(
            f"pipeline.yaml: intervals: {missing[0]!r}, which the sweep reads, is not among them: {listed}; add it "
            f"and run `mei ingest`"
        )
