"""The summary of a sweep as one HTML page without scripts or external files."""

from collections.abc import Sequence

import polars as pl

from mei_pipeline.candles.intervals import iso
from mei_pipeline.pages import Paragraph, Plots, Section, Share, Table, Tiles, notes_section, page
from mei_pipeline.svg import short, value_text
from mei_pipeline.sweep.plan import SweepPlan
from mei_pipeline.sweep.plots import (
    axes_plot,
    front_plot,
    heat_plot,
    histogram_plot,
    nothing_varies,
    titled,
)
from mei_pipeline.sweep.results import Results, metric_columns
from mei_pipeline.sweep.summary import HeatMap, Histogram, SweepSummary
from mei_pipeline.sweep.top import STANDS_FOR
from mei_pipeline.text import column_headings

_HEADLINE = ("sharpe", "return_pct", "max_drawdown_pct", "turnover_usd", "trades", "win_rate", "profit_factor")


def page_of(
    results: Results, summary: SweepSummary, maps: Sequence[HeatMap], shown: Histogram, notes: Sequence[str] = ()
) -> str:
    """Return the page.

    Args:
        results: The rows.
        summary: Their summary.
        maps: Heat maps, most important first.
        shown: Distribution of the metric.
        notes: Notes on the data.
    """
    plan = results.plan
    title = f"Sweep of {plan.strategy} on {plan.venue} {plan.interval}, {iso(plan.from_ms)} to {iso(plan.to_ms)}"
    best = _figures_first(summary.best.rows, plan, summary.metric)
    front = summary.front if summary.front.is_empty() else _figures_first(summary.front, plan, "return_pct")
    metric = titled(summary.metric)
    exclusions = (Paragraph(summary.best.exclusion_note),) if summary.best.exclusion_note else ()
    sections = [
        *notes_section(notes),
        Section(f"Distribution of {metric}", (Plots((histogram_plot(shown, summary),)),)),
        Section("Axes that matter", (Plots((axes_plot(summary.axes, summary.metric),)),)),
        Section("Heat maps", (Plots(tuple(map(heat_plot, maps)) or (nothing_varies(),)),)),
        Section("Pareto front", (Plots((front_plot(summary.front),)), *_rows(front))),
        Section(f"Best {best.height} results by {metric}", (*exclusions, *_rows(best))),
        Section(f"Mean {metric} of each value", (_effects(summary),)),
        Section("Plan", (Table("", ("path", "values"), _plan(plan)),)),
    ]
    return page(
        title,
        sections,
        template="sweep.html",
        top=(_figures(results, summary),),
        plan=plan,
        combos=results.combos,
        unfinished=not results.finished,
    )


def _figures_first(rows: pl.DataFrame, plan: SweepPlan, metric: str) -> pl.DataFrame:
    """Order the columns: number, most important metrics, values of the axes, all other metrics.

    A sweep may have dozens of axes, and metrics behind them would be out of sight.
    """
    axes = [path for path, _ in plan.axes]
    ordered = dict.fromkeys(("combo", metric, *_HEADLINE, STANDS_FOR, *axes, *metric_columns()))
    return rows.select([name for name in ordered if name in rows.columns])


def _figures(results: Results, summary: SweepSummary) -> Tiles:
    metric = titled(summary.metric)
    return Tiles(
        (
            ("Combos", f"{results.combos:,}"),
            ("Lost money", f"{100.0 * summary.lost_frac:.1f} %"),
            ("Without a trade", f"{summary.idle:,}"),
            (f"Best {metric}", _best(summary)),
            (f"Mean {metric}", short(summary.mean)),
            ("On the Pareto front", f"{summary.front.height:,}"),
        )
    )


def _best(summary: SweepSummary) -> str:
    rows = summary.best.rows
    return "none" if rows.is_empty() else short(rows[summary.metric][0] or 0.0)


def _effects(summary: SweepSummary) -> Table:
    rows = (
        (effect.path, Share(100.0 * effect.share), _means(effect.values, effect.mean.tolist(), effect.count.tolist()))
        for effect in summary.axes
    )
    return Table("", ("axis", "of the variance", "mean by value"), tuple(rows))


def _means(values: Sequence[object], means: Sequence[float], counts: Sequence[int]) -> str:
    triples = zip(values, means, counts, strict=True)
    return ", ".join(f"{value_text(value)}: {mean:.3g}" for value, mean, count in triples if count)


def _plan(plan: SweepPlan) -> tuple[tuple[str, str], ...]:
    axes = [(path, ", ".join(map(value_text, values))) for path, values in plan.axes]
    fixed = [
        (path, value_text(value))
        for path, value in (*plan.market.items(), *plan.params.items())
        if path not in dict(axes)
    ]
    return (*axes, *fixed)


def _rows(frame: pl.DataFrame) -> tuple[Table, ...]:
    """Return the rows of a frame as a table; empty without rows."""
    if frame.is_empty():
        return ()
    rows = (tuple(value_text(value) if isinstance(value, bool) else value for value in row) for row in frame.rows())
    return (Table("", tuple(column_headings(frame.columns)), tuple(rows), layout="tall"),)
