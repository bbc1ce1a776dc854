"""The symbols of a nightly run: those of the universe with bars good enough, and those held out of the search."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl

from mei_pipeline import files
from mei_pipeline.candles import quality
from mei_pipeline.candles.confirm import confirmed_bars
from mei_pipeline.candles.findings import reasons, spikes_in_window
from mei_pipeline.candles.intervals import HOUR_MS, Intervals, interval_ms, iso
from mei_pipeline.candles.lake import Lake, read_candles
from mei_pipeline.candles.spikes import SpikeBounds
from mei_pipeline.config.load import Configuration
from mei_pipeline.config.models import PipelineConfig, SweepSpec
from mei_pipeline.params.benchmark import candidates
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars, context_only
from mei_pipeline.simulation.endings import ENDED_AFTER_MS
from mei_pipeline.simulation.extents import common_symbols
from mei_pipeline.simulation.loading import load_bars

_EXCLUDING = ("stale", "short")
"""Quality rules that exclude a symbol. The other rules warn; `spike` states a reason of its own."""


class LakeSlice(NamedTuple):
    """The part of the lake that a nightly run reads.

    Attributes:
        lake: The lake.
        venue: The venue.
        anchor_ms: Open time of the first bar that recursive features read.
        from_ms: Start of the window.
        as_of_ms: The run reads no bar that opens at or after this time.
    """

    lake: Lake
    venue: str
    anchor_ms: int
    from_ms: int
    as_of_ms: int


class SymbolFitness(NamedTuple):
    """Result of the quality rules for each symbol.

    Attributes:
        kept: Symbols that the run uses.
        dropped: Reason for each symbol that it does not use.
        findings: Findings of the quality rules.
        newest: By interval, the end of the newest bar; None without a bar.
    """

    kept: list[str]
    dropped: dict[str, str]
    findings: quality.Findings
    newest: dict[str, int | None]


def searchable_symbols(settings: Settings, config: Configuration, profile: str) -> tuple[str, ...]:
    """Return the symbols of the universe that the lake has at every interval of the profile's search.

    Raises:
        ConfigError: The profile or its sweep is unknown.
        DataError: A manifest of the lake is damaged.
    """
    spec = config.sweep(config.profile(profile).sweep)
    return tuple(universe(Lake(settings.lake), config.pipeline, spec)[0])


def universe(lake: Lake, pipeline: PipelineConfig, spec: SweepSpec) -> tuple[list[str], dict[str, str]]:
    """Return the symbols of the universe that the lake has at every interval, and a reason for each absent one."""
    stored, absent = common_symbols(lake, spec.venue or pipeline.venue, spec.intervals)
    if pipeline.universe == "all":
        return stored, absent
    missing = [name for name in pipeline.universe if name not in stored]
    why = {name: absent.get(name, "not in the lake") for name in missing}
    return [name for name in pipeline.universe if name in stored], why


def choose_holdout_symbols(names: Sequence[str], count: int, benchmark: str = "") -> tuple[str, ...]:
    """Return `count` symbols that the search never sees: the last ones by the hash of their name.

    Returns an empty tuple if fewer symbols would remain for the search than are held out; see `missing_evidence`. The
    benchmark and every symbol of Bitcoin stay in the search.
    """
    searched = {benchmark, *candidates(names)}
    free = [name for name in names if name not in searched]
    if count > len(names) - count:
        return ()
    # The hash depends on the name alone, so every nightly run holds out the same symbols, also when others are added.
    last = sorted(free, key=files.sha256_json)[max(0, len(free) - count) :]
    return tuple(sorted(last))


def spike_bounds(config: Configuration) -> SpikeBounds:
    """Return the bounds of policy.yaml beyond which a bar counts as a spike."""
    return SpikeBounds(**config.policy.spikes.model_dump())


def check_fitness(part: LakeSlice, intervals: Intervals, names: list[str], config: Configuration) -> SymbolFitness:
    """Apply the quality rules to the bars of every interval that the run reads."""
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
        found = _judge_spikes(part, interval, frame, found, limits.spikes)
        findings += found
        frame = frame.filter(pl.col("open_ms") >= part.from_ms)
        last = frame["open_ms"].to_numpy()
        newest[interval] = int(last.max()) + interval_ms(interval) if len(last) else None
        suffix = "" if interval == intervals.main else f" ({interval} bars)"
        ended = _ended(frame, interval)
        # `setdefault`: the first reason of a symbol stands, so the order of these loops is part of the message.
        for name in sorted(set(names) - set(frame["symbol"].unique())):
            dropped.setdefault(name, f"no bar in the window{suffix}")
        for name, why in reasons(found, interval).items():
            dropped.setdefault(name, why)
        for item in found.items:
            if item.rule == "stale" and item.symbol in ended:
                dropped.setdefault(item.symbol, f"ended: its last bar closed {iso(ended[item.symbol])}{suffix}")
            elif item.rule in _EXCLUDING or item.severity == "refuse":
                dropped.setdefault(item.symbol, f"{item.rule}: {quality.RULES[item.rule].doc}{suffix}")
    return SymbolFitness([name for name in names if name not in dropped], dropped, findings, newest)


def read_holdout_bars(
    part: LakeSlice, intervals: Intervals, holdout_symbols: Sequence[str], benchmark: str, to_ms: int
) -> Bars:
    """Return the bars of the holdout symbols, and those of the benchmark as context that no book trades."""
    names = [*holdout_symbols, *([benchmark] if benchmark else ())]
    bars = load_bars(part.lake, part.venue, intervals, names, part.anchor_ms, to_ms)
    return context_only(bars, benchmark) if benchmark else bars


def no_fit_symbol(part: LakeSlice, newest: Mapping[str, int | None], dropped: Mapping[str, str]) -> str:
    """Return the message for a plan without a symbol: the age of the newest bars, the commands, and the reasons."""
    ends = ", ".join(
        f"the newest {interval} bar ends {iso(end_ms)}" if end_ms else f"there is no {interval} bar"
        for interval, end_ms in newest.items()
    )
    counts = Counter(dropped.values())
    why = "; ".join(f"{count} of {len(dropped)} symbols {reason}" for reason, count in counts.most_common())
    return (
        f"no symbol of {part.venue} is fit for a nightly run as of {iso(part.as_of_ms)}: {ends}. Run "
        f"`mei ingest`; or name an earlier time with --as-of, `last` for the last bar that all symbols have. {why}"
    )


def _judge_spikes(
    part: LakeSlice, interval: str, frame: pl.DataFrame, found: quality.Findings, bounds: SpikeBounds
) -> quality.Findings:
    """Replace the findings of rule `spike` by those that also know the bars before the anchor.

    The bars before the anchor tell a spike at the anchor from a change of level. A bar that closes after the as-of time
    is not used.
    """
    window = (part.anchor_ms, part.as_of_ms - interval_ms(interval) + 1)
    bars = frame.filter(pl.col("open_ms") < window[1])
    marked = spikes_in_window(part.lake, part.venue, interval, bars, window, bounds, part.as_of_ms)
    kept = tuple(item for item in found.items if item.rule != "spike")
    return quality.Findings(kept) + quality.Findings(tuple(quality.group_findings(marked, "spike")))


def _ended(frame: pl.DataFrame, interval: str) -> dict[str, int]:
    """Return the end of the last bar, UTC ms, of each symbol whose bars end well before those of the others."""
    last = frame.group_by("symbol").agg(pl.col("open_ms").max() + interval_ms(interval))
    ends = {str(name): int(end) for name, end in last.iter_rows()}
    newest = max(ends.values(), default=0)
    return {name: end for name, end in ends.items() if newest - end >= ENDED_AFTER_MS}
