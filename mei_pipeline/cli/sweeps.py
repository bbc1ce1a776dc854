"""`mei sweep list`, `show`, `top` and `compare`: stored sweeps and their results."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.options import result_options
from mei_pipeline.cli.sweep_forms import (
    left_out,
    print_comparison,
    print_summary,
    progress_values,
    retention_row,
    retention_values,
    summary_of,
    table_of_best,
)
from mei_pipeline.cli.tables import check_suffix, write_frame

if TYPE_CHECKING:
    from mei_pipeline.sweep.catalog import StoredSweep
    from mei_pipeline.sweep.plan import SweepPlan
    from mei_pipeline.sweep.results import Results

_FILE = click.Path(dir_okay=False, path_type=Path)
_BY = click.option("--by", "metric", default="sharpe", help="Metric to sort by; default: sharpe.")
_ALL = click.option("--all", "every", is_flag=True,
                    help="List every combo, with those of few trades and of identical results.")  # fmt: skip
_SWEEP = click.argument("sweep_id", metavar="SWEEP")


@click.command("list")
@result_options
def show_list(as_json: bool) -> None:
    """List the sweeps on disk with progress, use as evidence, and retention."""
    from mei_pipeline.config.load import load_config
    from mei_pipeline.housekeeping import retention_decisions
    from mei_pipeline.settings import read_settings

    settings = read_settings()
    decisions = retention_decisions(settings, load_config(settings.config).pipeline.retention, int(time.time() * 1000))
    if as_json:
        output.print_json({"sweeps": [retention_values(decision) for decision in decisions]})
        return
    heading = ("sweep", "strategy", "bars", "symbols", "days", "done", "of", "state", "MB", "written", "reason to keep")
    important = ("sweep", "strategy", "state", "reason to keep", "done", "of", "written", "MB")
    output.table(
        str(settings.sweeps), heading, [retention_row(decision) for decision in decisions], important=important
    )
    for decision in decisions:
        if decision.sweep.problem:
            output.warn(decision.sweep.problem)


@click.command("show")
@_SWEEP
@_BY
@click.option("--top", "count", type=click.IntRange(1), default=10, help="How many of the best combos; default 10.")
@_ALL
@click.option("--heat-map", "axes", nargs=2, metavar="ACROSS DOWN",
              help="Axes of the heat map; default: those with the largest effect.")  # fmt: skip
@click.option("--html", type=_FILE, help="Write the summary as one page with plots to this file.")
@result_options
def show(
    sweep_id: str, metric: str, count: int, every: bool, axes: tuple[str, str] | None, html: Path | None, as_json: bool
) -> None:
    """Show the axes and the summary of SWEEP; `top` shows the best combos."""
    from mei_pipeline.files import write_bytes
    from mei_pipeline.sweep.page import page_of
    from mei_pipeline.sweep.plan import plan_to_dict
    from mei_pipeline.sweep.results import read_notes
    from mei_pipeline.sweep.summary import heat_map, heat_maps, histogram, summarise

    stored, results = _open(sweep_id, metric)
    if axes:
        _check_axes(results.plan, axes)
    summary = summarise(results, metric, count, every=every)
    notes = read_notes(stored.folder)
    maps = (heat_map(results, *axes, metric),) if axes else heat_maps(results, summary)
    if html is not None:
        text = page_of(results, summary, maps, histogram(results, summary), notes)
        write_bytes(html, text.encode())
        output.note(f"page written to {html}")
    if as_json:
        plan = plan_to_dict(results.plan)
        values = summary_of(results.plan, summary, maps)
        output.print_json({**progress_values(stored, results), "notes": notes, "plan": plan, **values})
        return
    print_summary(stored, results, summary, maps)
    for note in notes:
        output.note(note)


@click.command("top")
@_SWEEP
@_BY
@click.option("--count", type=click.IntRange(1), default=20, help="How many combos; default 20.")
@_ALL
@click.option("--out", type=_FILE, help="Write them with all their columns to this .csv or .parquet file.")
@result_options
def top(sweep_id: str, metric: str, count: int, every: bool, out: Path | None, as_json: bool) -> None:
    """Show the best combos of SWEEP with their axis values.

    Combos with identical results appear once, under the lowest number. Combos with fewer closed trades than
    `min_trades` of the sweep are left out.
    """
    from mei_pipeline.sweep.results import metric_columns
    from mei_pipeline.sweep.top import STANDS_FOR, find_best

    check_suffix(out)
    _, results = _open(sweep_id, metric)
    best = find_best(results, count, metric, every=every)
    rows = best.rows
    if out is not None:
        arrays = [name for name, kind in rows.schema.items() if kind.is_nested()]
        write_frame(out, rows.drop(arrays) if out.suffix == ".csv" else rows)
        output.note(f"{rows.height} combos written to {out}")
    if as_json:
        axes = [path for path, _ in results.plan.axes]
        listed = rows.select("combo", STANDS_FOR, *axes, *metric_columns()).to_dicts()
        output.print_json({"sweep": results.plan.id, "by": metric, "top": listed, **left_out(best)})
        return
    table_of_best(results.plan, best, metric, results.combos)


@click.command("compare")
@click.argument("first", metavar="SWEEP")
@click.argument("second", metavar="OTHER")
@_BY
@result_options
def compare(first: str, second: str, metric: str, as_json: bool) -> None:
    """Compare the results of the combos that SWEEP and OTHER share.

    Combos are the same if all parameters of the strategy are equal; days, symbols, fees and rules may differ.
    """
    from dataclasses import asdict

    from mei_pipeline.sweep import compare as comparison

    (_, one), (_, other) = _open(first, metric), _open(second, metric)
    result = comparison.compare(one, other, metric)
    if as_json:
        output.print_json({"first": one.plan.id, "second": other.plan.id, **asdict(result)})
        return
    print_comparison((one.plan.id[:16], other.plan.id[:16]), result)


STORED_COMMANDS: list[click.Command] = [show_list, show, top, compare]


def _open(sweep_id: str, metric: str) -> "tuple[StoredSweep, Results]":
    """Return a sweep and its available rows."""
    from mei_pipeline.errors import ConfigError
    from mei_pipeline.settings import read_settings
    from mei_pipeline.sweep.catalog import find_sweep
    from mei_pipeline.sweep.results import metric_columns, open_results

    if metric not in metric_columns():
        raise ConfigError(f"--by {metric}: no such metric; there are {', '.join(metric_columns())}")
    stored, plan = find_sweep(read_settings().sweeps, sweep_id)
    results = open_results(stored.folder, plan, partial=True)
    if not results.finished:
        output.warn(
            f"sweep {stored.id} is {stored.state}: {results.combos:,} of {plan.combos:,} combos are done"
            + ("" if stored.holder else f"; `mei sweep resume {stored.id}` resumes it")
        )
    return stored, results


def _check_axes(plan: "SweepPlan", axes: tuple[str, str]) -> None:
    from mei_pipeline.errors import ConfigError

    known = [path for path, _ in plan.axes]
    for path in axes:
        if path not in known:
            raise ConfigError(f"--heat-map {path}: no axis of this sweep; there are {', '.join(known)}")
    if axes[0] == axes[1]:
        raise ConfigError(f"--heat-map {axes[0]}: named twice; name two axes")
