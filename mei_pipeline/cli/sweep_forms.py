"""Results of sweeps as tables and as JSON values."""

from typing import TYPE_CHECKING, Any

from mei_pipeline.cli import output
from mei_pipeline.text import column_headings, short_paths

if TYPE_CHECKING:
    import polars as pl

    from mei_pipeline.housekeeping import RetentionDecision
    from mei_pipeline.sweep.catalog import StoredSweep
    from mei_pipeline.sweep.compare import ComparedBest, Comparison
    from mei_pipeline.sweep.plan import SweepPlan
    from mei_pipeline.sweep.results import Results
    from mei_pipeline.sweep.summary import HeatMap, SweepSummary
    from mei_pipeline.sweep.top import BestCombos

_HEADLINE = (
    "sharpe",
    "return_pct",
    "max_drawdown_pct",
    "trades",
    "win_rate",
    "profit_factor",
    "net_pnl_usd",
    "fees_usd",
)
_FIRST_SHOWN = ("return_pct", "max_drawdown_pct", "trades")  # figures that stand before the axes in a narrow terminal
_FRONT_SHOWN = 10


def main_columns(plan: "SweepPlan", best: "BestCombos", metric: str = "sharpe") -> "pl.DataFrame":
    """Return the main metrics, `metric` first, then the axes."""
    from mei_pipeline.sweep.top import STANDS_FOR

    figures = dict.fromkeys((metric, *_HEADLINE))
    return best.rows.select("combo", *figures, STANDS_FOR, *(path for path, _ in plan.axes))


def left_out(best: "BestCombos") -> dict[str, int]:
    """Return the numbers of combos that are not listed, as JSON values."""
    return {"min_trades": best.min_trades, "left_out_for_few_trades": best.excluded}


def table_of_best(plan: "SweepPlan", best: "BestCombos", metric: str, combos: int) -> None:
    """Print the best combos with the axes in which they differ; a line shows the values that they share."""
    from mei_pipeline.sweep.top import STANDS_FOR

    rows = main_columns(plan, best, metric)
    common = [path for path, _ in plan.axes if rows[path].n_unique() == 1]
    differing = rows.drop(common, [] if (rows[STANDS_FOR] > 1).any() else STANDS_FOR)
    headings = dict(zip(rows.columns, column_headings(rows.columns), strict=True))
    axes = [path for path, _ in plan.axes if path not in common]
    important = [headings[name] for name in dict.fromkeys(("combo", metric, *_FIRST_SHOWN, *axes))]
    title = f"Best {rows.height} of {combos:,} combos by {metric}"
    output.table(title, [headings[name] for name in differing.columns], differing.rows(), important=important)
    if common:
        first = rows.row(0, named=True)
        output.echo("all have    " + ", ".join(f"{headings[path]} {first[path]}" for path in common))
    if alike := int(rows[STANDS_FOR].sum()) - rows.height:
        output.echo(f"the same    {alike:,} more combos have the same results as a listed combo")
    if best.exclusion_note:
        output.note(f"{best.exclusion_note}; `mei sweep top SWEEP --all` lists them")


def retention_values(decision: "RetentionDecision") -> dict[str, Any]:
    """Return a sweep with its retention status as JSON values."""
    sweep, plan = decision.sweep, decision.sweep.plan
    values = {
        "sweep": sweep.id if plan is None else plan.id,
        "folder": str(sweep.folder),
        "state": sweep.state,
        "problem": sweep.problem or None,
        "combos_done": sweep.done,
        "bytes": sweep.bytes,
        "written_ms": sweep.written_ms,
        "configs": list(decision.configs),
        "stays": bool(decision.kept),
        "stays_because": decision.kept or None,
    }
    if plan is not None:
        values |= {
            "strategy": plan.strategy,
            "venue": plan.venue,
            "interval": plan.interval,
            "symbols": list(plan.symbols),
            "from_ms": plan.from_ms,
            "to_ms": plan.to_ms,
            "combos": plan.combos,
        }
    return values


def retention_row(decision: "RetentionDecision") -> tuple[object, ...]:
    """Return a sweep with its retention status as a row of the list."""
    sweep, plan = decision.sweep, decision.sweep.plan
    kept = decision.kept or "no: removed by the next nightly run"
    tail = (sweep.state, sweep.bytes / 1e6, _utc(sweep.written_ms), kept)
    if plan is None:
        return (sweep.id, None, None, None, None, None, None, *tail)
    bars, days = f"{plan.venue} {plan.interval}", f"{_day(plan.from_ms)} to {_day(plan.to_ms)}"
    return (sweep.id, plan.strategy, bars, len(plan.symbols), days, sweep.done, plan.combos, *tail)


def progress_values(stored: "StoredSweep", results: "Results") -> dict[str, Any]:
    """Return a sweep and its progress as JSON values."""
    return {
        "sweep": results.plan.id,
        "folder": str(stored.folder),
        "state": stored.state,
        "combos": results.plan.combos,
        "combos_done": results.combos,
        "bytes": stored.bytes,
    }


def summary_of(plan: "SweepPlan", summary: "SweepSummary", maps: "tuple[HeatMap, ...]") -> dict[str, Any]:
    """Return the summary of a sweep as JSON values; null for a missing figure."""
    return {
        "by": summary.metric,
        "lost_money_pct": 100.0 * summary.lost_frac,
        "without_trades": summary.idle,
        "mean": _finite(summary.mean),
        "deviation": _finite(summary.deviation),
        "least": _finite(summary.least),
        "greatest": _finite(summary.greatest),
        "top": main_columns(plan, summary.best, summary.metric).to_dicts(),
        **left_out(summary.best),
        "pareto_front": summary.front.to_dicts(),
        "axes": [
            {
                "path": effect.path,
                "variance_explained_pct": 100.0 * effect.share,
                "values": list(effect.values),
                "combos": effect.count.tolist(),
                "mean": [_finite(value) for value in effect.mean.tolist()],
                "best": [_finite(value) for value in effect.best.tolist()],
            }
            for effect in summary.axes
        ],
        "heat_maps": [
            {
                "across": heat.across,
                "down": heat.down or None,
                "variance_explained_pct": 100.0 * heat.share,
                "columns": list(heat.columns),
                "rows": list(heat.rows),
                "combos": heat.count.tolist(),
                "mean": [[_finite(value) for value in row] for row in heat.mean.tolist()],
                "best": [[_finite(value) for value in row] for row in heat.best.tolist()],
            }
            for heat in maps
        ],
    }


def print_summary(
    stored: "StoredSweep", results: "Results", summary: "SweepSummary", maps: "tuple[HeatMap, ...]"
) -> None:
    """Print the summary of a sweep as tables."""
    from mei_pipeline.svg import value_text

    plan = results.plan
    span = f"{summary.least:.4g} to {summary.greatest:.4g}, mean {summary.mean:.4g}, deviation {summary.deviation:.4g}"
    output.table(
        f"Sweep {plan.id}",
        ("", "value"),
        [
            ("strategy", plan.strategy),
            ("bars", f"{plan.venue} {plan.interval}, {len(plan.symbols)} symbols"),
            ("days", f"{_day(plan.from_ms)} to {_day(plan.to_ms)}"),
            ("combos", f"{results.combos:,} of {plan.combos:,}, {stored.state}"),
            ("lost money", f"{100.0 * summary.lost_frac:.1f} %, {summary.idle:,} combos without a trade"),
            (summary.metric, span),
            ("Pareto front", f"{summary.front.height:,} combos"),
            ("folder", str(stored.folder)),
        ],
    )
    table_of_best(plan, summary.best, summary.metric, results.combos)
    _print_front(summary)
    names = short_paths([effect.path for effect in summary.axes])
    output.table(
        f"Share of the variance of {summary.metric} by axis",
        ("axis", "share, %", f"mean {summary.metric} by value"),
        [
            (
                name,
                100.0 * effect.share,
                ", ".join(
                    f"{value_text(value)}: {mean:.3g}"
                    for value, mean, count in zip(effect.values, effect.mean, effect.count, strict=True)
                    if count
                ),
            )
            for effect, name in zip(summary.axes, names, strict=True)
        ],
    )
    for heat in maps[:1]:
        _print_heat(heat, [path for path, _ in plan.axes])


def _print_front(summary: "SweepSummary") -> None:
    front = summary.front.select("combo", "return_pct", "max_drawdown_pct", "turnover_usd")
    title = f"Pareto front, {min(_FRONT_SHOWN, front.height)} of {front.height:,} combos that made money"
    output.table(title, ("combo", "return, %", "drawdown, %", "turnover, USD"), front.head(_FRONT_SHOWN).rows())


def _print_heat(heat: "HeatMap", paths: "list[str]") -> None:
    rows = [(label, *(_finite(value) for value in heat.mean[row].tolist())) for row, label in enumerate(heat.rows)]
    short = dict(zip(paths, short_paths(paths), strict=True))
    title = f"Mean {heat.metric}: {short[heat.across]} across" + (f", {short[heat.down]} down" if heat.down else "")
    output.table(title, ("", *heat.columns), rows)


def print_comparison(ids: tuple[str, str], comparison: "Comparison") -> None:
    """Print the comparison of two sweeps as tables."""
    for difference in comparison.differences:
        output.echo(difference)
    output.table(
        f"{comparison.combos:,} combos in common",
        ("metric", f"mean in {ids[0]}", f"mean in {ids[1]}", "better in the second, %", "rank correlation"),
        [
            (change.metric, change.first, change.second, 100.0 * change.improved_frac, change.rank_correlation)
            for change in comparison.changes
        ],
    )
    output.table(
        f"The best by {comparison.metric}",
        ("best of", "combo there", "combo in the other", f"{comparison.metric} in {ids[0]}", f"in {ids[1]}", "ranks"),
        [_winner(ids[place], winner, place) for place, winner in enumerate(comparison.best)],
    )


def _winner(name: str, winner: "ComparedBest", place: int) -> tuple[object, ...]:
    ranks = f"{winner.ranks[0]:,} and {winner.ranks[1]:,}"
    return (name, winner.combo[place], winner.combo[1 - place], *winner.values, ranks)


def _finite(value: float) -> float | None:
    """Return None for NaN, which stands for a missing combo."""
    return None if value != value else value  # noqa: PLR0124 - only NaN differs from itself


def _day(ms: int) -> str:
    from mei_pipeline.candles.intervals import iso

    return iso(ms)[:10]


def _utc(ms: int) -> str:
    from mei_pipeline.candles.intervals import iso

    return iso(ms)
