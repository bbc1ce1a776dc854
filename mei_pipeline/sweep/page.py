"""What came of a search as one HTML page: no script, nothing fetched."""

from collections.abc import Sequence

import polars as pl

from mei_pipeline.candles.intervals import iso
from mei_pipeline.pages import Share, notes_section, page, section, table
from mei_pipeline.svg import said, short
from mei_pipeline.sweep.best import STANDS_FOR
from mei_pipeline.sweep.pictures import axes_picture, front_picture, heat_picture, histogram_picture, nothing_varies
from mei_pipeline.sweep.plan import SweepPlan
from mei_pipeline.sweep.results import Results, metric_columns
from mei_pipeline.sweep.summary import HeatMap, Histogram, SweepSummary
from mei_pipeline.text import markup


def page_of(
    results: Results, summary: SweepSummary, maps: Sequence[HeatMap], shown: Histogram, notes: Sequence[str] = ()
) -> str:
    """The page.

    Args:
        results: The rows.
        summary: What they say as a whole.
        maps: Heat maps, the most telling first.
        shown: The distribution of the metric.
        notes: Notes on the data.
    """
    plan = results.plan
    title = f"Sweep of {plan.strategy} on {plan.venue} {plan.interval}, {iso(plan.from_ms)} to {iso(plan.to_ms)}"
    axes = [path for path, _ in plan.axes]
    best = summary.best.rows.select("combo", STANDS_FOR, *axes, *metric_columns())
    effects = [
        (effect.path, Share(100.0 * effect.share), _means(effect.values, effect.mean.tolist(), effect.count.tolist()))
        for effect in summary.axes
    ]
    metric = summary.metric.replace("_", " ")
    return page(
        title,
        [
            _head(title, plan, results),
            _tiles(results, summary),
            notes_section(notes),
            section(f"Distribution of {metric}", histogram_picture(shown, summary)),
            section("Axes that matter", axes_picture(summary.axes, summary.metric)),
            section("Heat maps", "".join(map(heat_picture, maps)) or nothing_varies()),
            section("Pareto front", front_picture(summary.front) + _scrolled(summary.front)),
            section(f"Best {best.height} results by {metric}", _left_out(summary) + _scrolled(best)),
            section(f"Mean {metric} of each value", table(("axis", "of the variance", "mean by value"), effects)),
            section("Plan", table(("path", "values"), _plan(plan))),
        ],
    )


def _head(title: str, plan: SweepPlan, results: Results) -> str:
    unfinished = "" if results.finished else f" · unfinished: {results.combos:,} of {plan.combos:,} combos"
    return (
        f"<h1>{markup(title)}</h1><p>{len(plan.symbols)} symbols: {markup(', '.join(plan.symbols))}<br>"
        f"sweep <code>{plan.id[:16]}</code>{unfinished}</p>"
    )


def _tiles(results: Results, summary: SweepSummary) -> str:
    shown = (
        ("Combos", f"{results.combos:,}"),
        ("Lost money", f"{100.0 * summary.lost_frac:.1f} %"),
        ("Without a round trip", f"{summary.idle:,}"),
        (f"Best {summary.metric.replace('_', ' ')}", _best(summary)),
        (f"Mean {summary.metric.replace('_', ' ')}", short(summary.mean)),
        ("On the Pareto front", f"{summary.front.height:,}"),
    )
    tiles = [f"<div class=tile><b>{value}</b><span>{name}</span></div>" for name, value in shown]
    return f"<div class=tiles>{''.join(tiles)}</div>"


def _best(summary: SweepSummary) -> str:
    rows = summary.best.rows
    return "none" if rows.is_empty() else short(rows[summary.metric][0] or 0.0)


def _left_out(summary: SweepSummary) -> str:
    said_so = summary.best.left_out
    return f"<p>{markup(said_so)}</p>" if said_so else ""


def _means(values: Sequence[object], means: Sequence[float], counts: Sequence[int]) -> str:
    told = zip(values, means, counts, strict=True)
    return ", ".join(f"{said(value)}: {mean:.3g}" for value, mean, count in told if count)


def _plan(plan: SweepPlan) -> list[tuple[str, str]]:
    axes = [(path, ", ".join(map(said, values))) for path, values in plan.axes]
    fixed = [
        (path, said(value)) for path, value in (*plan.market.items(), *plan.params.items()) if path not in dict(axes)
    ]
    return axes + fixed


def _scrolled(frame: pl.DataFrame) -> str:
    if frame.is_empty():
        return ""
    rows = [[said(value) if isinstance(value, bool) else value for value in row] for row in frame.rows()]
    return f"<div class=scroll>{table(list(map(_last, frame.columns)), rows)}</div>"


def _last(path: str) -> str:
    return path.rpartition(".")[2].replace("_", " ")
