"""Assets of the search of a nightly run: plan, feature columns and results."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
from pydantic import Field

from assets import run_context
from assets.checks import non_finite_values, quality_results, quality_specs, replay_differences
from assets.metadata import Metadata, Result, artefact_metadata, declared, entries, materialized, records, table
from assets.plots import line_plot
from assets.run_lock import plan_of, refuse_second_night, tag_new_night
from kernels.params import Value
from mei_pipeline.candles.intervals import iso
from mei_pipeline.errors import DataError
from mei_pipeline.night.data import build_night_features, load_night_bars, search_window
from mei_pipeline.night.plan import NightPlan, plan_night, resolve_as_of
from mei_pipeline.night.store import write_night_plan
from mei_pipeline.notes import data_notes
from mei_pipeline.params.table import read_catalog
from mei_pipeline.progress import Progress
from mei_pipeline.registry.home import check_registry
from mei_pipeline.selection.walk_forward import check_folds
from mei_pipeline.settings import read_settings
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.feature_sets import FeatureSet
from mei_pipeline.svg import value_text
from mei_pipeline.sweep.metrics import DOCS
from mei_pipeline.sweep.plan import SweepPlan
from mei_pipeline.sweep.plots import axes_plot, front_plot, heat_plot, histogram_plot, nothing_varies
from mei_pipeline.sweep.results import Results, all_distinct, metric_columns, open_results, sweep_folder, write_notes
from mei_pipeline.sweep.run import SweepReport, run_sweep
from mei_pipeline.sweep.summary import SweepSummary, heat_maps, histogram, summarise
from mei_pipeline.sweep.top import STANDS_FOR, find_best

GROUP = "research"
OWNERS = ("team:research",)
REPLAYED = 20
ROW_DOCS = {
    "combo": "Number of the combo in the plan.",
    **DOCS,
    "day_count": "Days in each of 16 equal time blocks of the search.",
    "day_sum": "Sum of daily returns in each block.",
    "day_sum_sq": "Sum of squared daily returns in each block.",
}
UNIVERSE = {"symbol": pl.String(), "kept": pl.Boolean(), "why": pl.String(), "instrument": pl.String()}
UNIVERSE_DOCS = {
    "symbol": "Base coin, as the venue names it.",
    "kept": "True if the search uses the symbol.",
    "why": "Reason to exclude the symbol.",
    "instrument": "stated: the lake has the venue's lots, leverage and margins; assumed: MEI's defaults are used.",
}
COLUMNS = {"column": pl.String(), "windows": pl.String()}
COLUMN_DOCS = {
    "column": "Kind of the feature: docs/explanation/semantics.md defines each.",
    "windows": "Its windows in bars, in the order of the kind.",
}
_PLOTTED_BARS = 500
_HEAT_MAPS = 2
_LISTED = 12  # values of an axis that are shown

ProgressResource = dg.ResourceParam[Progress]
CheckedResult = Iterator[Result | dg.AssetCheckResult]


class NightConfig(dg.Config):
    """Options of a nightly run."""

    profile: str = Field(default="nightly", description="Kind of run: a key of `profiles` in pipeline.yaml.")
    as_of: str = Field(
        default="",
        description="The run uses no later data: an ISO time such as 2026-11-01T00:00Z, `now`, or `last` for the "
        "end of the last bar that all symbols have. Empty: `as_of` of the profile.",
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"json", "polars"},
    deps=["candles", "funding", "coverage"],
    check_specs=[
        dg.AssetCheckSpec(
            "tradable_universe",
            asset="night_plan",
            blocking=True,
            description="At least one symbol has a recent and complete enough history for the search.",
        ),
        *quality_specs("night_plan"),
    ],
    metadata=declared(UNIVERSE, UNIVERSE_DOCS),
)
def night_plan(context: dg.AssetExecutionContext, config: NightConfig) -> CheckedResult:
    """The plan of a nightly run: as-of time, window, holdout, symbols and combos; one file per run.

    The plan uses bars that had closed at the as-of time, and the files of config/. All later assets read the plan, so
    no part of a run can use other options. Materialising one asset again repeats the same run. The version is the
    plan's id, so a new ingest makes nothing below stale before a new run is planned.
    """
    settings, files = run_context.read_all()
    refuse_second_night(settings, context.instance, context.run.run_id)
    check_registry(settings)  # a search takes hours, and a lost registry could not store its result
    try:
        as_of_ms = resolve_as_of(settings, files, config.profile, config.as_of, run_context.now_ms())
        plan = plan_night(settings, files, config.profile, as_of_ms)
    except DataError as error:
        yield dg.AssetCheckResult(check_name="tradable_universe", passed=False, description=str(error))
        raise
    check_folds(plan.sweep, plan.selection.walk_forward)
    path = write_night_plan(settings, plan) / "plan.json"
    tag_new_night(context.instance, context.run.run_id, plan)
    context.log.info("night %s: %s combos on %s symbols", plan.id[:16], plan.sweep.combos, len(plan.sweep.symbols))
    yield dg.AssetCheckResult(
        check_name="tradable_universe", passed=True, description=f"{len(plan.sweep.symbols)} symbols"
    )
    yield from quality_results(plan)
    universe = _universe(plan)
    yield materialized(
        metadata={**artefact_metadata(path, frame=universe, docs=UNIVERSE_DOCS), **_plan_metadata(plan)},
        data_version=dg.DataVersion(plan.id),
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"numpy", "numba"},
    deps=[night_plan],
    check_specs=[
        dg.AssetCheckSpec(
            "finite_after_warmup",
            asset="features",
            blocking=True,
            description="Every column has a finite value at each bar of a symbol, from its first bar on.",
        )
    ],
    metadata=declared(COLUMNS, COLUMN_DOCS),
)
def features(context: dg.AssetExecutionContext, progress: ProgressResource) -> Result:
    """Feature columns that the combos share: one per kind and windows, over each bar and symbol of the run.

    Columns are computed once from the interval's anchor on, with the same recursive steps that an executor takes bar by
    bar. The sweep maps them into memory, so a million combos read the same few columns.
    """
    settings = read_settings()
    plan = plan_of(settings, context)
    bars = load_night_bars(settings, plan)
    built = build_night_features(settings, plan, bars, progress)
    bad = non_finite_values(bars, built)
    rows = [(column.kind, " ".join(map(str, column.windows))) for column in built.columns]
    path = built.folder / "columns.npy"
    return materialized(
        metadata={
            **artefact_metadata(
                path,
                digest=built.key,
                frame=pl.DataFrame(rows, schema=COLUMNS, orient="row"),
                rows=int(np.prod(built.values.shape[1:])),
                docs=COLUMN_DOCS,
                plots={"sample_plot": [_sample_plot(bars, built)]},
            ),
            "columns": dg.MetadataValue.int(len(built.columns)),
            "windows": dg.MetadataValue.json(sorted({window for column in built.columns for window in column.windows})),
            "bytes": dg.MetadataValue.int(path.stat().st_size),
        },
        check_results=[
            dg.AssetCheckResult(check_name="finite_after_warmup", passed=not bad, metadata={"not_finite": records(bad)})
        ],
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"parquet", "numba"},
    pool="gpu",
    deps=[night_plan, features],
    check_specs=[
        dg.AssetCheckSpec(
            "complete", asset="sweep_results", blocking=True, description="Every combo of the plan has exactly one row."
        ),
        dg.AssetCheckSpec(
            "replay_equal",
            asset="sweep_results",
            blocking=True,
            description=f"Replays of the {REPLAYED} best combos equal their rows bit by bit.",
        ),
    ],
    metadata=declared({"combo": pl.Int64(), **dict.fromkeys(metric_columns(), pl.Float64())}, ROW_DOCS),
)
def sweep_results(context: dg.AssetExecutionContext, progress: ProgressResource) -> Result:
    """Results of the search, one row per combo: values of its axes, and metrics over the days of the search.

    Each row also has sums of daily returns in 16 time blocks, for statistics over all trials. The days of the holdout
    are not used. Each chunk is one Parquet file, so a killed sweep continues at the next chunk. The pool `gpu` runs one
    sweep at a time.
    """
    settings, config = run_context.read_all()
    plan = plan_of(settings, context)
    bars = load_night_bars(settings, plan)
    built, cut = build_night_features(settings, plan, bars), search_window(plan, bars)
    report = run_sweep(settings, plan.sweep, cut, built, compute=config.pipeline.compute, progress=progress)
    write_notes(report.folder, data_notes(bars, plan.sweep.from_ms, plan.sweep.to_ms))
    results = open_results(sweep_folder(settings.sweeps, plan.sweep), plan.sweep)
    summary = summarise(results, count=REPLAYED)
    best = summary.best.rows
    if best.is_empty():  # no combo has enough closed trades to be listed; any row can be compared
        best = find_best(results, REPLAYED, every=True).rows
    wrong = replay_differences(settings, plan, bars, cut, built, best, progress)
    return materialized(
        metadata=_sweep_metadata(report, results, summary),
        check_results=[
            _complete(results),
            dg.AssetCheckResult(
                check_name="replay_equal",
                passed=not wrong,
                description=f"{best.height} combos replayed, {len(wrong)} figures differ",
                metadata={"differences": records(wrong)},
            ),
        ],
    )


def _universe(plan: NightPlan) -> pl.DataFrame:
    kept = [
        {"symbol": name, "kept": True, "why": "", "instrument": "assumed" if name in plan.assumed else "stated"}
        for name in plan.sweep.symbols
    ]
    dropped = [
        {"symbol": name, "kept": False, "why": why, "instrument": ""} for name, why in sorted(plan.dropped.items())
    ]
    return pl.DataFrame(kept + dropped, schema=UNIVERSE)


def _plan_metadata(plan: NightPlan) -> Metadata:
    return entries(
        night=plan.id[:16],  # the name of its folder
        profile=plan.profile,
        as_of=dg.MetadataValue.timestamp(plan.as_of_ms / 1000),
        window=f"{iso(plan.sweep.from_ms)} to {iso(plan.to_ms)}",
        holdout_start=dg.MetadataValue.timestamp(plan.holdout_ms / 1000),
        symbols_kept=len(plan.sweep.symbols),
        symbols_dropped=records([{"symbol": name, "why": why} for name, why in sorted(plan.dropped.items())]),
        candles=plan.candles,
        combos_planned=plan.sweep.combos,
        notes=records([{"note": note} for note in plan.notes]),
    )


def _sample_plot(bars: Bars, built: FeatureSet) -> str:
    """Return a plot of the first symbol's close with its shortest and longest mean, or of its first column."""
    symbol, recent = 0, slice(-_PLOTTED_BARS, None)
    means = [index for index, column in enumerate(built.columns) if column.kind == "ema"]
    lines: Sequence[int] = sorted({means[0], means[-1]}) if means else (0,)
    series = {"close": bars.prices[3, recent, symbol]} if means else {}
    for index in lines:
        column = built.columns[index]
        series[column.label] = np.asarray(built.values[index, recent, symbol])
    facts = f"last {min(_PLOTTED_BARS, len(bars.open_ms))} bars of {bars.interval}"
    return line_plot(f"{bars.symbols[symbol]} and its features", facts, bars.open_ms[recent], series)


def _complete(results: Results) -> dg.AssetCheckResult:
    planned = results.plan.combos
    return dg.AssetCheckResult(
        check_name="complete",
        passed=results.combos == planned and all_distinct(results),
        description=f"{results.combos:,} rows of {planned:,} combos",
    )


def _sweep_metadata(report: SweepReport, results: Results, summary: SweepSummary) -> Metadata:
    plan, best = results.plan, summary.best.rows.drop(STANDS_FOR)
    axes = [path for path, _ in plan.axes]
    shown = summary.best.rows.select("combo", *metric_columns(), STANDS_FOR, *axes)
    table_of = read_catalog().strategy(plan.strategy)
    docs = ROW_DOCS | {path: table_of[path].doc for path in axes}
    maps = heat_maps(results, summary)[:_HEAT_MAPS]
    return {
        **artefact_metadata(
            report.folder,
            digest=plan.id,
            frame=best,
            rows=results.combos,
            docs=docs,
            preview=shown,
            plots={
                "distribution": [histogram_plot(histogram(results, summary), summary)],
                "axes": [axes_plot(summary.axes, summary.metric)],
                "heat_map": list(map(heat_plot, maps)) or [nothing_varies()],
                "pareto_plot": [front_plot(summary.front)],
            },
        ),
        **entries(
            sweep_id=plan.id[:16],  # the name of its folder
            plan=_plan(plan),
            combos=results.combos,
            combos_per_s=report.combos_per_s,
            bar_steps_per_s=report.bar_steps_per_s,
            device=report.device,
            lost_money_pct=100.0 * summary.lost_frac,
            without_trades=summary.idle,
            pareto_front=table(summary.front, REPLAYED),
            top_20=table(shown, REPLAYED),
        ),
    }


def _plan(plan: SweepPlan) -> dg.MetadataValue[Any]:
    """Return the search as a table: strategy, data, method and axes."""
    book = f"{len(plan.symbols)} symbols, {iso(plan.from_ms)} to {iso(plan.to_ms)}"
    rows = [
        {
            "": "strategy",
            "value": f"{plan.strategy} on {plan.venue} {plan.interval}, {book}",
        },
        {"": "method", "value": plan.search.method},
        {"": "combos", "value": f"{plan.combos:,} in {plan.chunks:,} chunks"},
        *({"": path, "value": _values(plan, path, values)} for path, values in plan.axes),
    ]
    return records(rows)


def _values(plan: SweepPlan, path: str, values: Sequence[Value]) -> str:
    shown = ", ".join(map(value_text, values if len(values) <= _LISTED else (*values[:_LISTED], "…", values[-1])))
    when = " and ".join(f"{name} is {value_text(value)}" for name, value in plan.when.get(path, {}).items())
    return f"{shown}, when {when}" if when else shown
