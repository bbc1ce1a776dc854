"""`mei backtest` and `mei sweep`: one config or one search over the lake, without a night around it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mei_pipeline.cli import output

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from mei_pipeline.config.models import SweepSpec
    from mei_pipeline.market import Bars

_FILE = click.Path(dir_okay=False, path_type=Path)
_DAY = click.DateTime(["%Y-%m-%d"])
_FROM = click.option("--from", "start", type=_DAY, help="First UTC day; default: the day after the anchor.")
_TO = click.option("--to", "end", type=_DAY, help="UTC day to stop before; default: the last that all symbols have.")
_HEADLINE = (
    "net_pnl_usd",
    "return_pct",
    "sharpe",
    "max_drawdown_pct",
    "trades",
    "win_rate",
    "profit_factor",
    "fees_usd",
)


@click.command()
@click.option(
    "--config", "path", type=_FILE, required=True, help="A config of a lane, or a file with strategy and params."
)
@_FROM
@_TO
@click.option("--json", "report", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
              help="Write the report to this file; - prints it.")  # fmt: skip
@click.option("--html", type=_FILE, help="Write the report as one page, with pictures, to this file.")
@click.option("--chart", "charts", multiple=True, help="Symbol whose candles the page shows; may be given again.")
@click.option("--trades", type=_FILE, help="Write round trips to this .csv or .parquet file.")
@click.option("--fills", type=_FILE, help="Write every fill and funding payment to this .csv or .parquet file.")
@click.option("--equity", type=_FILE, help="Write the marked equity of every bar to this .csv or .parquet file.")
@click.option("--decisions", type=_FILE,
              help="Write what every gate said of every symbol at every step to this .parquet file.")  # fmt: skip
def backtest(  # noqa: PLR0913 - one argument per option
    *,
    path: Path,
    start: Any,
    end: Any,
    report: Path | None,
    html: Path | None,
    charts: tuple[str, ...],
    trades: Path | None,
    fills: Path | None,
    equity: Path | None,
    decisions: Path | None,
) -> None:
    """Replay one config over the lake, trade by trade, by the rules that the sweep and the executor use."""
    from mei_pipeline.candles.lake import Lake
    from mei_pipeline.config.load import load_config
    from mei_pipeline.files import write_bytes, write_json
    from mei_pipeline.market import last_common_ms, load_bars
    from mei_pipeline.replay.decisions import write_decisions
    from mei_pipeline.replay.page import page_of
    from mei_pipeline.replay.report import decisions_of, report_of
    from mei_pipeline.replay.run import replay, set_stage
    from mei_pipeline.replay.spec import read_config
    from mei_pipeline.settings import read_settings

    settings = read_settings()
    lake = Lake(settings.lake)
    for target in (trades, fills, equity):
        _check_suffix(target)
    _check_suffix(decisions, ".parquet")
    resolved, anchor_ms = read_config(path, lake, load_config(settings.config))
    _check_charts(charts, resolved.symbols, html)
    last_ms = last_common_ms(lake, resolved.venue, resolved.intervals, resolved.symbols)
    from_ms, to_ms = _days(anchor_ms, last_ms, start, end)
    bars = load_bars(lake, resolved.venue, resolved.intervals, resolved.symbols, anchor_ms, to_ms)
    stage = set_stage(settings, bars, resolved, from_ms, to_ms)
    run = replay(settings, stage)
    summary = report_of(stage, run)
    for target, frame in ((trades, run.trades), (fills, run.fills), (equity, run.equity)):
        _write_frame(target, frame)
    with output.bar() as progress:
        counts = write_decisions(settings, stage, run, decisions, progress) if decisions is not None else None
        if report is not None or html is not None:
            summary |= decisions_of(settings, stage, run, counts, progress)
    if html is not None:
        write_bytes(html, page_of(stage, run, summary, charts).encode())
    if report is not None and str(report) == "-":
        output.print_json(summary)
        return
    if report is not None:
        write_json(report, summary)
    _show(summary)


@click.command()
@click.argument("spec")
@_FROM
@_TO
@click.option("--threads", type=click.IntRange(0), default=0, help="Threads; default: one per processor.")
@click.option("--top", "count", type=click.IntRange(1), default=10, help="How many of the best combos to show.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def sweep(spec: str, start: Any, end: Any, threads: int, count: int, as_json: bool) -> None:
    """Search SPEC, a name of config/sweeps or a path to such a file, over the lake; a killed sweep resumes.

    It runs on this machine, or on a cluster, as `engine` of pipeline.yaml says.
    """
    from kernels.cache import use_cache
    from mei_pipeline.config.load import load_config
    from mei_pipeline.features import build_features
    from mei_pipeline.market import window
    from mei_pipeline.settings import read_settings
    from mei_pipeline.sweep.plan import make_plan
    from mei_pipeline.sweep.results import read_results, top
    from mei_pipeline.sweep.run import run_sweep

    settings = read_settings()
    found, bars, from_ms, to_ms = _search(spec, start, end)
    plan = make_plan(found, bars, from_ms, to_ms)
    with output.bar() as progress:
        use_cache(settings.kernel_cache)
        features = build_features(bars, plan.columns(), settings.features, progress)
        cut, engine = window(bars, from_ms, to_ms), load_config(settings.config).pipeline.engine
        done = run_sweep(settings, plan, cut, features, threads=threads, engine=engine, progress=progress)
    shown = top(read_results(done.folder, plan), count).select("combo", *(axis for axis, _ in plan.axes), *_HEADLINE)
    if as_json:
        output.print_json(
            {
                "sweep": done.id,
                "folder": str(done.folder),
                "combos": done.combos,
                "resumed": done.resumed,
                "engine": done.engine,
                "seconds": done.seconds,
                "combos_per_s": done.combos_per_s,
                "bar_steps_per_s": done.bar_steps_per_s,
                "top": shown.to_dicts(),
            }
        )
        return
    _show_best(shown, [axis for axis, _ in plan.axes], done.combos)
    output.note(f"{done.combos:,} combos in {done.seconds:.1f} s, {done.speed or 'all done before'}; {done.folder}")


def _show_best(shown: "pl.DataFrame", axes: list[str], combos: int) -> None:
    """The best combos with the axes in which they differ; what they have in common goes into a line of its own."""
    common = [path for path in axes if shown[path].n_unique() == 1]
    rows = shown.drop(common)
    headings = [name.rpartition(".")[2] for name in rows.columns]
    output.table(f"Best {rows.height} of {combos:,} combos by Sharpe ratio", headings, rows.rows())
    if common:
        first = shown.row(0, named=True)
        click.echo("all have    " + ", ".join(f"{path} {first[path]}" for path in common))


def _search(spec: str, start: Any, end: Any) -> "tuple[SweepSpec, Bars, int, int]":
    """The sweep, its bars and its window, all checked before anything runs."""
    from mei_pipeline.candles.lake import Lake
    from mei_pipeline.config.load import load_config, read_sweep
    from mei_pipeline.errors import ConfigError, DataError
    from mei_pipeline.market import common_symbols, last_common_ms, load_bars
    from mei_pipeline.settings import read_settings

    settings = read_settings()
    config = load_config(settings.config)
    found = read_sweep(Path(spec)) if spec.endswith((".yaml", ".yml")) else config.sweep(spec)
    lake = Lake(settings.lake)
    venue = found.venue or config.pipeline.venue
    names, absent = common_symbols(lake, venue, found.intervals)
    universe = config.pipeline.universe
    if universe != "all":
        names = [name for name in names if name in universe]
        absent = {name: why for name, why in absent.items() if name in universe}
    if not names:
        raise DataError(
            f"lake {lake.root}: no symbol of the universe has {' and '.join(found.intervals.read)} bars of {venue}; "
            f"run `mei ingest`, or name other symbols under `universe` in pipeline.yaml"
        )
    if absent:
        output.note("left out: " + "; ".join(f"{name}, {why}" for name, why in absent.items()))
    if found.interval not in config.pipeline.anchors:
        raise ConfigError(f"pipeline.yaml: anchors: no anchor for {found.interval}; add one")
    anchor_ms = config.pipeline.anchors[found.interval]
    from_ms, to_ms = _days(anchor_ms, last_common_ms(lake, venue, found.intervals, names), start, end)
    return found, load_bars(lake, venue, found.intervals, names, anchor_ms, to_ms), from_ms, to_ms


def _days(anchor_ms: int, last_ms: int, start: Any, end: Any) -> tuple[int, int]:
    """Whole UTC days between the anchor and the last bar that all symbols have, or those that were asked for."""
    from mei_pipeline.candles.intervals import iso
    from mei_pipeline.errors import ConfigError
    from mei_pipeline.market import DAY_MS

    from_ms = _utc_ms(start) if start else -(-anchor_ms // DAY_MS) * DAY_MS
    to_ms = _utc_ms(end) if end else last_ms // DAY_MS * DAY_MS
    if to_ms > last_ms:
        raise ConfigError(f"--to {end:%Y-%m-%d}: the last bar that all symbols have ends {iso(last_ms)}")
    if from_ms < anchor_ms:
        raise ConfigError(f"--from {start:%Y-%m-%d}: before the anchor, {iso(anchor_ms)}, where features start")
    if from_ms >= to_ms:
        raise ConfigError(
            f"no whole UTC day between {iso(from_ms)} and {iso(to_ms)}; choose --from and --to further apart"
        )
    return from_ms, to_ms


def _utc_ms(day: Any) -> int:
    from datetime import UTC

    return int(day.replace(tzinfo=UTC).timestamp()) * 1000


def _check_suffix(path: Path | None, *allowed: str) -> None:
    from mei_pipeline.errors import ConfigError

    endings = allowed or (".csv", ".parquet")
    if path is not None and path.suffix not in endings:
        raise ConfigError(f"{path}: the name must end in {' or '.join(endings)}")


def _check_charts(charts: tuple[str, ...], symbols: tuple[str, ...], html: Path | None) -> None:
    from mei_pipeline.errors import ConfigError

    if charts and html is None:
        raise ConfigError("--chart: candles are shown on the page that --html writes; add --html FILE")
    if strangers := [name for name in charts if name not in symbols]:
        raise ConfigError(f"--chart {strangers[0]}: the config trades {', '.join(symbols)}")


def _write_frame(path: Path | None, frame: "pl.DataFrame") -> None:
    from mei_pipeline import files

    if path is None:
        return
    with files.replacing(path) as temporary:
        if path.suffix == ".csv":
            frame.write_csv(temporary)
        else:
            frame.write_parquet(temporary)


def _show(summary: "Mapping[str, Any]") -> None:
    from mei_pipeline.replay.summary import DOCS as FIGURES
    from mei_pipeline.sweep.metrics import DOCS as METRICS

    rows = [(name, summary["metrics"][name], METRICS[name]) for name in METRICS]
    rows += [(name, summary["figures"][name], FIGURES[name]) for name in FIGURES]
    output.table("Backtest", ("figure", "value", "what it says"), rows)
    for note in summary["notes"]:
        output.note(note)


COMMANDS: list[click.Command] = [backtest, sweep]
