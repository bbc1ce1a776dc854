"""`mei backtest`: one config over the lake, without a night around it; `mei sweep` is in `sweep`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.configs import CONFIG, read_named
from mei_pipeline.cli.days import FROM, TO, days
from mei_pipeline.cli.symbols import check_option
from mei_pipeline.cli.tables import check_suffix, show_members, write_frame

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@CONFIG
@FROM
@TO
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object instead of tables.")
@click.option("--html", type=_FILE, help="Write the report as one page, with pictures, to this file.")
@click.option(
    "--chart",
    "charts",
    multiple=True,
    callback=check_option,
    help="Symbol whose candles the page shows; may be given again.",
)
@click.option("--trades", type=_FILE, help="Write round trips to this .csv or .parquet file.")
@click.option("--fills", type=_FILE, help="Write every fill and funding payment to this .csv or .parquet file.")
@click.option("--equity", type=_FILE, help="Write the marked equity of every bar to this .csv or .parquet file.")
@click.option("--decisions", type=_FILE,
              help="Write what every gate said of every symbol at every step to this .parquet file.")  # fmt: skip
def backtest(  # noqa: PLR0913 - one argument per option
    *,
    name: str,
    start: Any,
    end: Any,
    as_json: bool,
    html: Path | None,
    charts: tuple[str, ...],
    trades: Path | None,
    fills: Path | None,
    equity: Path | None,
    decisions: Path | None,
) -> None:
    """Replay one config over the lake, trade by trade, by the rules that the sweep and the executor use."""
    from mei_pipeline.candles.findings import refuse_marked
    from mei_pipeline.candles.lake import Lake
    from mei_pipeline.config.load import load_config
    from mei_pipeline.files import write_bytes
    from mei_pipeline.night_plan import spike_bounds
    from mei_pipeline.notes import window_notes
    from mei_pipeline.replay.decisions import write_decisions
    from mei_pipeline.replay.report import decisions_of, report_of
    from mei_pipeline.replay.run import replay, set_stage
    from mei_pipeline.settings import read_settings
    from mei_pipeline.simulation.extents import extents_ms, last_bar_ms
    from mei_pipeline.simulation.loading import load_bars

    settings = read_settings()
    lake = Lake(settings.lake)
    for target in (trades, fills, equity):
        check_suffix(target)
    check_suffix(decisions, ".parquet")
    config = load_config(settings.config)
    named = read_named(name, settings, lake, config)
    resolved, anchor_ms = named.resolved, named.anchor_ms
    _check_charts(charts, resolved.symbols, html)
    extents = extents_ms(lake, resolved.venue, resolved.intervals, resolved.symbols)
    from_ms, to_ms = days(anchor_ms, last_bar_ms(extents), start, end)
    names, read = resolved.symbols, resolved.intervals.read
    refuse_marked(lake, resolved.venue, read, names, (anchor_ms, to_ms), spike_bounds(config))
    bars = load_bars(lake, resolved.venue, resolved.intervals, names, anchor_ms, to_ms)
    stage = set_stage(settings, bars, resolved, from_ms, to_ms)
    run = replay(settings, stage)
    summary = report_of(stage, run, named.record, named.benchmark)
    summary["notes"] += [] if end else window_notes(extents, resolved.intervals, to_ms)
    for target, frame in ((trades, run.trades), (fills, run.fills), (equity, run.equity)):
        write_frame(target, frame)
    with output.bar() as progress:
        counts = write_decisions(settings, stage, run, decisions, progress) if decisions is not None else None
        if as_json or html is not None:
            summary |= decisions_of(settings, stage, run, counts, progress)
    if html is not None:
        from mei_pipeline.replay.page import page_of

        write_bytes(html, page_of(stage, run, summary, charts).encode())
    if as_json:
        output.print_json(summary)
    else:
        _show(summary)


def _check_charts(charts: tuple[str, ...], symbols: tuple[str, ...], html: Path | None) -> None:
    from mei_pipeline.errors import ConfigError

    if charts and html is None:
        raise ConfigError("--chart: candles are shown on the page that --html writes; add --html FILE")
    if strangers := [name for name in charts if name not in symbols]:
        raise ConfigError(f"--chart {strangers[0]}: the config trades {', '.join(symbols)}")


def _show(summary: "Mapping[str, Any]") -> None:
    from mei_pipeline.replay.benchmark import MEANING as HOLDING
    from mei_pipeline.replay.benchmark import benchmark_rows
    from mei_pipeline.replay.record import COLUMNS, MEANING, record_rows
    from mei_pipeline.replay.report import DRAWDOWN_HEADING, drawdown_rows
    from mei_pipeline.replay.summary import DOCS as FIGURES
    from mei_pipeline.sweep.metrics import DOCS as METRICS

    if summary["record"]:
        names = ("figure", *(name for _, name in COLUMNS))
        output.table("Record that the config was accepted on", names, record_rows(summary["record"]))
        output.note(MEANING)
    rows = [(name, summary["metrics"][name], METRICS[name]) for name in METRICS]
    rows += [(name, summary["figures"][name], FIGURES[name]) for name in FIGURES]
    output.table("Backtest", ("figure", "value", "what it says"), rows)
    if summary["benchmark"]:
        output.table("Benchmark", ("figure", "strategy", summary["benchmark"]["name"]), benchmark_rows(summary))
        output.note(HOLDING)
    if summary["drawdowns"]:
        output.table("Worst drawdowns", DRAWDOWN_HEADING, drawdown_rows(summary["drawdowns"]))
    if summary["holding"]:
        from mei_pipeline.text import column_heading

        names = ("symbol", "side", "size", "entry_price", "last_price", "realised_usd", "unrealised_usd", "pnl_usd")
        held = [tuple(each[name] for name in names) for each in summary["holding"]]
        output.table("Open at the end", tuple(map(column_heading, names)), held)
    show_members(summary["members"], summary["from"], summary["to"])
    for note in summary["notes"]:
        output.note(note)


COMMANDS: list[click.Command] = [backtest]
