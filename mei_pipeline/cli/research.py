"""`mei backtest`: replay one config over the lake."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.configs import CONFIG, read_named
from mei_pipeline.cli.days import FROM, TO, days
from mei_pipeline.cli.options import result_options
from mei_pipeline.cli.symbols import check_option
from mei_pipeline.cli.tables import check_suffix, show_members, write_frame

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@CONFIG
@FROM
@TO
@result_options
@click.option("--html", type=_FILE, help="Write the report as one page with plots to this file.")
@click.option(
    "--chart",
    "charts",
    multiple=True,
    callback=check_option,
    help="Symbol whose candles the page shows; may be given again.",
)
@click.option("--trades", type=_FILE, help="Write trades to this .csv or .parquet file.")
@click.option("--fills", type=_FILE, help="Write every fill and funding payment to this .csv or .parquet file.")
@click.option("--equity", type=_FILE, help="Write mark-to-market equity by bar to this .csv or .parquet file.")
@click.option("--decisions", type=_FILE,
              help="Write the result of each gate, by symbol and step, to this .parquet file.")  # fmt: skip
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
    """Replay one config over the lake, trade by trade, with the rules of the sweep."""
    from mei_pipeline.candles.findings import refuse_spikes
    from mei_pipeline.candles.lake import Lake
    from mei_pipeline.config.load import load_config
    from mei_pipeline.files import write_bytes
    from mei_pipeline.night.universe import spike_bounds
    from mei_pipeline.notes import window_notes
    from mei_pipeline.replay.decisions import write_decisions
    from mei_pipeline.replay.report import decisions_of, report_of
    from mei_pipeline.replay.run import make_replay_inputs, replay
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
    refuse_spikes(lake, resolved.venue, read, names, (anchor_ms, to_ms), spike_bounds(config))
    bars = load_bars(lake, resolved.venue, resolved.intervals, names, anchor_ms, to_ms)
    inputs = make_replay_inputs(settings, bars, resolved, from_ms, to_ms)
    run = replay(settings, inputs)
    summary = report_of(inputs, run, named.record, named.benchmark)
    summary["notes"] += [] if end else window_notes(extents, resolved.intervals, to_ms)
    for target, frame in ((trades, run.trades), (fills, run.fills), (equity, run.equity)):
        write_frame(target, frame)
    with output.bar() as progress:
        counts = write_decisions(settings, inputs, run, decisions, progress) if decisions is not None else None
        if as_json or html is not None:
            summary |= decisions_of(settings, inputs, run, counts, progress)
    if html is not None:
        from mei_pipeline.replay.page import page_of

        write_bytes(html, page_of(inputs, run, summary, charts).encode())
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
    output.table("Backtest", ("figure", "value", "meaning"), rows)
    if summary["benchmark"]:
        output.table("Benchmark", ("figure", "strategy", summary["benchmark"]["name"]), benchmark_rows(summary))
        output.note(HOLDING)
    if summary["drawdowns"]:
        output.table("Worst drawdowns", DRAWDOWN_HEADING, drawdown_rows(summary["drawdowns"]))
    if summary["open_positions"]:
        from mei_pipeline.text import column_heading

        names = ("symbol", "side", "size", "entry_price", "last_price", "realised_usd", "unrealised_usd", "pnl_usd")
        held = [tuple(each[name] for name in names) for each in summary["open_positions"]]
        important = map(column_heading, ("symbol", "side", "size", "pnl_usd", "entry_price", "last_price"))
        output.table("Open at the end", tuple(map(column_heading, names)), held, important=tuple(important))
    show_members(summary["members"], summary["from"], summary["to"])
    for note in summary["notes"]:
        output.note(note)


COMMANDS: list[click.Command] = [backtest]
