"""`mei nightly`: ingest new data, then run the nightly pipeline, by the same jobs as the schedule and the UI."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.options import result_options
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import Settings, read_settings

if TYPE_CHECKING:
    import dagster as dg

    from mei_pipeline.config.load import Configuration
    from mei_pipeline.housekeeping import PruneReport

_GATES_NAMED = 3


@dataclass(frozen=True)
class IngestSummary:
    """Result of the ingest before a nightly run.

    Attributes:
        run_id: Id of its Dagster run; empty if pipeline.yaml has no sources.
        added: New bars.
        revised: Bars with changed values.
        refused: Rows that broke a quality rule.
        left_out: Unread files of the sources, each with the reason.
    """

    run_id: str = ""
    added: int = 0
    revised: int = 0
    refused: int = 0
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class CandidateLine:
    """One candidate, for people.

    Attributes:
        combo: Number of the combo in the sweep.
        config_id: Id of its config.
        passed: True if it passed every gate.
        sharpe_in: Annual Sharpe ratio over the days of the search.
        sharpe_out: Annual Sharpe ratio of the stitched out-of-sample equity.
        return_out_pct: Net return of that equity.
        drawdown_out_pct: Maximum drawdown of that equity.
        trades_out: Closed trades.
        sharpe_holdout: Annual Sharpe ratio on the last days, which select nothing.
        rejected_at: Names of the gates that it failed.
        without_evidence: Names of the gates that could not be judged.
        reason: Why it did not pass, or that it did.
    """

    combo: int
    config_id: str
    passed: bool
    sharpe_in: float | None
    sharpe_out: float | None
    return_out_pct: float
    drawdown_out_pct: float
    trades_out: int
    sharpe_holdout: float | None
    rejected_at: tuple[str, ...]
    without_evidence: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class LaneLine:
    """Result of a nightly run for one lane.

    Attributes:
        lane: The lane.
        config_id: Configuration that it holds now; empty for none.
        moved: True if this run moved its pointer.
        reason: Reason of the move, or of leaving the lane as it was.
    """

    lane: str
    config_id: str
    moved: bool
    reason: str


@dataclass(frozen=True)
class NightSummary:
    """Result of a nightly run.

    Attributes:
        night: Id of the nightly run.
        run_id: Id of its Dagster run.
        profile: Profile of the run.
        as_of_ms: End of the data that it used.
        ingested: Result of the ingest before it.
        candles: Bars in the as-of slice.
        symbols: Searched symbols.
        dropped: Reason by excluded symbol.
        combos: Combos of the search.
        rejected: Number of combos that were not selected, by reason.
        candidates: Combos that were judged out of sample, best in sample first.
        lanes: Result for each lane.
        pruned: Results that housekeeping removed.
        seconds: Wall time of everything.
    """

    night: str
    run_id: str
    profile: str
    as_of_ms: int
    ingested: IngestSummary
    candles: int
    symbols: tuple[str, ...]
    dropped: Mapping[str, str]
    combos: int
    rejected: Mapping[str, int]
    candidates: tuple[CandidateLine, ...]
    lanes: tuple[LaneLine, ...]
    pruned: "PruneReport"
    seconds: float

    @property
    def promoted(self) -> tuple[LaneLine, ...]:
        """Lanes that this run moved."""
        return tuple(lane for lane in self.lanes if lane.moved)

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        return {
            "night": self.night,
            "profile": self.profile,
            "as_of_ms": self.as_of_ms,
            "runs": {"ingest": self.ingested.run_id or None, "nightly": self.run_id},
            "ingested": {name: getattr(self.ingested, name) for name in ("added", "revised", "refused", "left_out")},
            "candles": self.candles,
            "symbols": len(self.symbols),
            "dropped": dict(self.dropped),
            "combos": self.combos,
            "candidates": len(self.candidates),
            "passed": sum(candidate.passed for candidate in self.candidates),
            "promoted": [{"lane": lane.lane, "config_id": lane.config_id} for lane in self.promoted],
            "seconds": round(self.seconds, 3),
        }


@click.command()
@click.option("--profile", default="nightly", show_default=True, help="Profile: a key of profiles in pipeline.yaml.")
@click.option(
    "--as-of",
    "as_of",
    metavar="TIME|now|last",
    help="End of the data in use: an ISO time (UTC), or the last bar of all symbols. Default: as_of of "
    "the profile, usually now.",
)
@result_options
def nightly(profile: str, as_of: str | None, as_json: bool) -> None:
    """Ingest new data, then run plan, features, sweep, walk-forward, gates, roles and promotion.

    The jobs are those of the schedule, in this process; `mei ui` shows their runs.
    """
    with output.bar() as progress:
        summary = run_night(read_settings(), profile, as_of or "", progress)
    if as_json:
        output.print_json(summary.as_dict())
    else:
        show(summary)


def run_night(settings: Settings, profile: str, as_of: str = "", progress: Progress = silent) -> NightSummary:
    """Ingest, run the nightly pipeline, and clean up.

    Args:
        settings: What `read_settings` returns in this process: the jobs' assets read it themselves.
        profile: Key of `profiles` in pipeline.yaml.
        as_of: End of the data in use: an ISO time, `now` or `last`; empty for the value of the profile.
        progress: Called as the work advances.

    Raises:
        ConfigError: The profile is unknown, or `as_of` is no time.
        Busy: A nightly run is active.
        DataError: The lake lacks data for `as_of`; no Dagster run is created.
        MeiError: A stage failed; the message says what to do.
    """
    from assets.jobs import NIGHTLY
    from assets.run import new_run_id, open_instance, run_job
    from assets.run_context import now_ms
    from assets.run_lock import hold_night_lock
    from mei_pipeline.config.evidence import missing_evidence
    from mei_pipeline.config.load import load_config
    from mei_pipeline.housekeeping import prune
    from mei_pipeline.night.plan import LAST, NOW, parse_as_of, plan_night, resolve_as_of
    from mei_pipeline.night.universe import searchable_symbols
    from mei_pipeline.registry.home import check_registry

    started = time.monotonic()
    config = load_config(settings.config)
    stated = as_of.strip() not in {"", NOW, LAST}
    if stated:
        parse_as_of(as_of.strip())
    usual = config.profile(profile).as_of
    wanted = as_of.strip() or usual
    check_registry(settings)  # before hours of search whose results a lost registry can't store
    run_id = new_run_id()
    with open_instance(settings, config) as instance, hold_night_lock(settings, instance, run_id):
        ingested = _ingest(settings, config, instance, progress)
        symbols = searchable_symbols(settings, config, profile)
        for text in missing_evidence(config.policy.selection, len(symbols)) if symbols else ():
            output.note(text)
        if stated:
            # A run that fails here would mark every check of the previous run as failed.
            plan_night(settings, config, profile, resolve_as_of(settings, config, profile, wanted, now_ms()))
        result = run_job(
            NIGHTLY,
            settings,
            config,
            instance,
            run_id=run_id,
            run_config={"ops": {"night_plan": {"config": {"profile": profile, "as_of": wanted}}}},
            progress=progress,
        )
        pruned = prune(settings, config.pipeline.retention, int(time.time() * 1000))
    return _summary(settings, result, ingested, pruned, time.monotonic() - started)


def show(summary: NightSummary) -> None:
    """Print a summary for people."""
    from mei_pipeline.candles.intervals import iso

    ingest = summary.ingested
    if ingest.run_id:
        output.echo(f"ingested    {ingest.added:,} new bars, {ingest.revised:,} revised, {ingest.refused:,} refused")
        for reason in ingest.left_out:
            output.echo(f"left out    {reason}")
    else:
        output.echo("ingested    nothing: pipeline.yaml has no sources")
    output.echo(
        f"run         {summary.night[:16]}, profile {summary.profile}, as of {iso(summary.as_of_ms // 1000 * 1000)}"
    )
    output.echo(f"candles     {summary.candles:,} bars of {len(summary.symbols)} symbols: {', '.join(summary.symbols)}")
    for name, why in sorted(summary.dropped.items()):
        output.echo(f"excluded    {name}: {why}")
    output.echo(f"combos      {summary.combos:,}")
    for why, count in summary.rejected.items():
        output.echo(f"            {count:,} {why}")
    output.echo()
    if summary.candidates:
        output.table(
            "Candidates, on out-of-sample days",
            (
                "combo",
                "config",
                "Sharpe in",
                "Sharpe out",
                "return out, %",
                "drawdown out, %",
                "trades out",
                "Sharpe holdout",
                "reason",
            ),
            [
                (
                    line.combo,
                    line.config_id[:12],
                    line.sharpe_in,
                    line.sharpe_out,
                    line.return_out_pct,
                    line.drawdown_out_pct,
                    line.trades_out,
                    line.sharpe_holdout,
                    _rejection(line),
                )
                for line in summary.candidates
            ],
            important=(
                "combo",
                "config",
                "reason",
                "Sharpe out",
                "return out, %",
                "drawdown out, %",
                "trades out",
                "Sharpe holdout",
            ),
        )
    output.table(
        "Lanes",
        ("lane", "config", "promoted", "why"),
        [(lane.lane, lane.config_id[:12] or None, lane.moved, lane.reason) for lane in summary.lanes],
    )
    _show_next(summary)


def _show_next(summary: NightSummary) -> None:
    if summary.pruned.sweeps or summary.pruned.features:
        removed = len(summary.pruned.sweeps), len(summary.pruned.features), summary.pruned.bytes / 1e6
        output.echo("removed     {} old sweeps and {} sets of features, {:.1f} MB".format(*removed))
    for lane in summary.promoted:
        output.echo(f"promoted    {lane.lane}: mei registry show {lane.config_id[:12]}")
    if not summary.promoted:
        output.echo("promoted    nothing")
    output.echo(f"report      mei report --night {summary.night[:16]}")
    output.echo(f"next        mei ui shows the lineage, the checks and this run ({summary.seconds:.1f} s in all)")


def _ingest(
    settings: Settings, config: "Configuration", instance: "dg.DagsterInstance", progress: Progress
) -> IngestSummary:
    from assets.jobs import INGEST
    from assets.partitions import box_tags, touched_months
    from assets.run import run_job
    from mei_pipeline.candles.lake import Lake

    months = touched_months(Lake(settings.lake), config.pipeline, int(time.time() * 1000))
    if months is None:
        return IngestSummary()
    tags = box_tags(config.pipeline, *months)
    result = run_job(INGEST, settings, config, instance, tags=tags, progress=progress)
    metadata = result.asset_materializations_for_node("candles")[0].metadata
    counts = {name: int(str(metadata[f"rows_{name}"].value)) for name in ("added", "revised", "refused")}
    left_out: Any = metadata["left_out"].value
    return IngestSummary(run_id=result.run_id, left_out=tuple(left_out), **counts)


def _rejection(line: CandidateLine) -> str:
    """Return a short list of the gates that a candidate did not pass."""
    if line.passed:
        return line.reason
    parts = ("rejected at", line.rejected_at), ("no evidence for", line.without_evidence)
    return "; ".join(f"{outcome} {_named(gates)}" for outcome, gates in parts if gates)


def _named(gates: tuple[str, ...]) -> str:
    more = len(gates) - _GATES_NAMED
    named = ", ".join(gates[:_GATES_NAMED])
    return f"{named} and {more} more" if more > 0 else named


def _summary(
    settings: Settings,
    result: "dg.ExecuteInProcessResult",
    ingested: IngestSummary,
    pruned: "PruneReport",
    seconds: float,
) -> NightSummary:
    from mei_pipeline.night.store import read_night_plan
    from mei_pipeline.registry.home import open_home_registry
    from mei_pipeline.registry.store import resolve_id
    from mei_pipeline.selection.io import read_candidates, read_gate_results

    planned = result.asset_materializations_for_node("night_plan")[0].metadata["night"].value
    plan = read_night_plan(settings, str(planned))
    selected = read_candidates(settings, plan)
    verdicts = {each.rank: each for each in read_gate_results(settings, plan).judgements}
    lines: Any = result.asset_materializations_for_node("promoted")[0].metadata["lanes"].value
    registry = open_home_registry(settings)
    return NightSummary(
        night=plan.id,
        run_id=result.run_id,
        profile=plan.profile,
        as_of_ms=plan.as_of_ms,
        ingested=ingested,
        candles=plan.candles,
        symbols=plan.sweep.symbols,
        dropped=plan.dropped,
        combos=selected.combos,
        rejected=selected.rejected,
        candidates=tuple(
            CandidateLine(
                combo=entry.combo,
                config_id=entry.config_id,
                passed=verdicts[entry.rank].passed,
                sharpe_in=entry.in_sample_sharpe,
                sharpe_out=entry.out_of_sample.sharpe,
                return_out_pct=entry.out_of_sample.return_pct,
                drawdown_out_pct=entry.out_of_sample.max_drawdown_pct,
                trades_out=entry.out_of_sample.trades,
                sharpe_holdout=entry.holdout.sharpe,
                rejected_at=verdicts[entry.rank].rejected_at,
                without_evidence=verdicts[entry.rank].without_evidence,
                reason=verdicts[entry.rank].reason,
            )
            for entry in selected.candidates
        ),
        lanes=tuple(
            LaneLine(
                line["lane"],
                resolve_id(registry, line["config"]) if line["config"] else "",
                line["moved"],
                line["reason"],
            )
            for line in lines
        ),
        pruned=pruned,
        seconds=seconds,
    )


COMMANDS = [nightly]
