"""The report of a replay as one HTML page without scripts or external files."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from mei_pipeline.candles.heatmap import MONTHS
from mei_pipeline.candles.intervals import DAY_MS, iso
from mei_pipeline.pages import (
    Block,
    Columns,
    Details,
    Money,
    Paragraph,
    Plots,
    RowHead,
    Section,
    Share,
    Table,
    Tiles,
    Tint,
    notes_section,
    page,
)
from mei_pipeline.replay.benchmark import MEANING as HOLDING
from mei_pipeline.replay.benchmark import benchmark_rows, hold
from mei_pipeline.replay.equity_plots import equity_plot, sharpe_plot
from mei_pipeline.replay.record import COLUMNS, MEANING, record_rows, record_spans
from mei_pipeline.replay.report import DRAWDOWN_HEADING, drawdown_rows
from mei_pipeline.replay.risk import ROLLING_DAYS, daily_returns
from mei_pipeline.replay.run import Replay, ReplayInputs
from mei_pipeline.replay.summary import DOCS as FIGURES
from mei_pipeline.replay.summary import GROUPED
from mei_pipeline.replay.trade_plots import bars_plot, candle_plot, histogram_plot
from mei_pipeline.simulation.members import MEMBER_HEADING
from mei_pipeline.svg import value_text
from mei_pipeline.sweep.metrics import DOCS as METRICS
from mei_pipeline.text import column_heading

CHARTED = 4
"""Symbols with charts of candles by default."""

_TRADES_SHOWN = 300


def page_of(inputs: ReplayInputs, run: Replay, report: Mapping[str, Any], charts: Sequence[str] = ()) -> str:
    """Return the page.

    Args:
        inputs: Inputs of the replay.
        run: The replay.
        report: Result of `report_of`, with the keys of `decisions_of` if they are to be shown.
        charts: Symbols with a chart of candles; by default those with the most trades.
    """
    config = report["config"]
    title = f"{config['strategy']} on {config['venue']} {config['interval']}, {report['from']} to {report['to']}"
    results = histogram_plot(run.trades["return_pct"].to_numpy(), "Results of trades", "There was no trade.")
    tiles = _tiles(report)
    record_sections: tuple[Section, ...] = ()
    if report["record"]:
        all_days = Section("The complete window, including the days that the config was chosen on", (tiles,))
        tiles, record_sections = _record_tiles(report["record"]), (_record(report["record"]), all_days)
    sections = [
        *record_sections,
        *notes_section(report["notes"]),
        _equity(inputs, run, report),
        _rolling(inputs, report),
        _drawdowns(report["drawdowns"]),
        _distribution(inputs, run, report["figures"]),
        Section("Monthly returns, percent", _months(report["monthly_return_pct"], report["metrics"]["return_pct"])),
        Section("Results of trades, percent of the opened notional", (Plots((results,)),)),
        *_groups(report),
        *_candles(inputs, run, charts),
        *_decisions(report),
        Section("All figures", (_all_figures(report),)),
        Section("Symbols and their bars", (_members(report["members"]),)),
        Section(
            f"Trades, the last {min(_TRADES_SHOWN, run.trades.height):,} of {run.trades.height:,}",
            (_trades(run.trades),),
        ),
        *_holding(run.holding),
        Section("", (_config(config),)),
    ]
    return page(title, sections, template="backtest.html", top=(tiles,), report=report, symbols=config["symbols"])


def _record_tiles(record: Mapping[str, Any]) -> Tiles:
    forms = (
        ("Return", "return_pct", "{:.1f} %"),
        ("Sharpe", "sharpe", "{:.2f}"),
        ("Maximum drawdown", "max_drawdown_pct", "{:.1f} %"),
    )
    parts = (("out of sample", record["out_of_sample"]), ("holdout", record["holdout"]))
    return _figures((f"{name}, {part}", result[key], form) for part, result in parts for name, key, form in forms)


def _record(record: Mapping[str, Any]) -> Section:
    heading = ("figure", *(name for _, name in COLUMNS))
    return Section(
        "Record that the config was accepted on", (Paragraph(MEANING), Table("", heading, record_rows(record)))
    )


def _tiles(report: Mapping[str, Any]) -> Tiles:
    metrics, figures = report["metrics"], report["figures"]
    shown = (
        ("Net profit, USD", metrics["net_pnl_usd"], "{:,.0f}"),
        ("Return", metrics["return_pct"], "{:.1f} %"),
        ("Annual growth", figures["cagr_pct"], "{:.1f} %"),
        ("Maximum drawdown", metrics["max_drawdown_pct"], "{:.1f} %"),
        ("Sharpe", metrics["sharpe"], "{:.2f}"),
        ("Sortino", figures["sortino"], "{:.2f}"),
        ("Trades", metrics["trades"], "{:,.0f}"),
        ("Win rate", None if metrics["win_rate"] is None else 100.0 * metrics["win_rate"], "{:.1f} %"),
        ("Profit factor", metrics["profit_factor"], "{:.2f}"),
        ("Fees, USD", metrics["fees_usd"], "{:,.0f}"),
        ("Funding, USD", metrics["funding_usd"], "{:,.0f}"),
        ("Exposure", 100.0 * metrics["exposure_frac"], "{:.0f} %"),
    )
    return _figures(shown)


def _equity(inputs: ReplayInputs, run: Replay, report: Mapping[str, Any]) -> Section:
    curves = [("strategy", run.equity["equity_usd"].to_numpy())]
    blocks: list[Block] = []
    times, initial = run.equity["close_ms"].to_numpy(), inputs.resolved.initial_balance_usd
    if benchmark := report["benchmark"]:
        curves.append((benchmark["name"], hold(inputs.bars, inputs.cut, benchmark["symbols"], initial)))
        heading = ("figure", "strategy", benchmark["name"])
        blocks = [Paragraph(HOLDING), Table("", heading, benchmark_rows(report))]
    plot = equity_plot(times, curves, initial, record_spans(report["record"]))
    return Section("Equity and drawdown", (Plots((plot,)), *blocks))


def _rolling(inputs: ReplayInputs, report: Mapping[str, Any]) -> Section:
    window, ratios = (report["rolling_sharpe"][key] for key in ("window_days", "by_day"))
    end_ms = inputs.cut.from_ms + DAY_MS * (window + np.arange(len(ratios)))
    span = (inputs.cut.from_ms, inputs.cut.to_ms)
    plot = sharpe_plot(end_ms, np.array(list(ratios.values())), window, report["metrics"]["sharpe"], span)
    words = (
        f"Annual Sharpe ratio of the {window} days up to each day, from daily returns. A window has {ROLLING_DAYS} "
        "days, or half of the days of the backtest if that is less."
    )
    return Section(f"Rolling Sharpe ratio, {window} days", (Paragraph(words), Plots((plot,))))


def _drawdowns(drawdowns: Sequence[Mapping[str, Any]]) -> Section:
    block = (
        Table("", DRAWDOWN_HEADING, drawdown_rows(drawdowns))
        if drawdowns
        else Paragraph("Equity never fell below a peak.")
    )
    words = "From mark-to-market equity. The length is the time from the peak to the recovery, or to the end."
    return Section("Worst drawdowns", (Paragraph(words), block))


def _distribution(inputs: ReplayInputs, run: Replay, figures: Mapping[str, float | None]) -> Section:
    shown = (
        ("Mean", figures["mean_day_pct"], "{:.3f} %"),
        ("Standard deviation", figures["deviation_day_pct"], "{:.3f} %"),
        ("Skewness", figures["skewness"], "{:.2f}"),
        ("Excess kurtosis", figures["excess_kurtosis"], "{:.2f}"),
        ("Best day", figures["best_day_pct"], "{:.2f} %"),
        ("Worst day", figures["worst_day_pct"], "{:.2f} %"),
        ("Positive days", figures["positive_days_pct"], "{:.1f} %"),
        ("Value at risk, 5 %", figures["value_at_risk_pct"], "{:.2f} %"),
        ("Expected shortfall, 5 %", figures["expected_shortfall_pct"], "{:.2f} %"),
    )
    returns = 100.0 * daily_returns(run.equity, inputs.resolved.initial_balance_usd)
    mean, risk = figures["mean_day_pct"], figures["value_at_risk_pct"]
    lines = {} if mean is None or risk is None else {"5 % quantile": -risk, "mean": mean}
    words = (
        "Value at risk is the daily loss at the 5 % quantile of these returns, interpolated, without an assumption on "
        "their distribution. Expected shortfall is the mean loss of the days at or below that quantile."
    )
    plot = histogram_plot(returns, "Daily returns", "There was no day.", lines)
    return Section("Distribution of daily returns, percent", (Plots((plot,)), _figures(shown), Paragraph(words)))


def _figures(shown: Iterable[tuple[str, float | None, str]]) -> Tiles:
    """Return tiles of figures: name, value and format of each; a dash for a figure without a value."""
    return Tiles(tuple((name, "-" if value is None else form.format(value)) for name, value, form in shown))


def _months(returns: Mapping[str, float], total: float) -> tuple[Block, ...]:
    greatest = max((abs(value) for value in returns.values()), default=0.0)
    rows = []
    for year in sorted({month[:4] for month in returns}):
        year_returns = [returns.get(f"{year}-{number:02d}") for number in range(1, 13)]
        cells = ["" if value is None else Tint(value, greatest) for value in year_returns]
        growth = math.prod(1.0 + value / 100.0 for value in year_returns if value is not None)
        rows.append((RowHead(year), *cells, f"{100.0 * (growth - 1.0):.1f}"))
    return Table("", ("", *MONTHS, "year"), tuple(rows), layout="months"), Paragraph(f"All: {total:.2f} %.")


def _members(members: Sequence[Mapping[str, Any]]) -> Table:
    rows = ((each["symbol"], each["from"], each["to"], each["missing_pct"], each["ended"] or "") for each in members)
    return Table("", MEMBER_HEADING, tuple(rows), layout="tall")


def _all_figures(report: Mapping[str, Any]) -> Columns:
    rows = [(name, report["metrics"][name], METRICS[name]) for name in METRICS]
    rows += [(name, report["figures"][name], FIGURES[name]) for name in FIGURES]
    half = -(-len(rows) // 2)
    heading = ("figure", "value", "definition")
    return Columns(tuple((Table("", heading, tuple(part)),) for part in (rows[:half], rows[half:])))


def _groups(report: Mapping[str, Any]) -> list[Section]:
    out = []
    for key, name in (("by_symbol", "symbol"), ("by_reason", "reason of the last close")):
        groups = sorted(report[key].items(), key=lambda item: -item[1]["pnl_usd"])
        if groups:
            notes = {
                label: f"{group['trades']:,} trades, {100.0 * group['win_rate']:.0f} % won" for label, group in groups
            }
            plot = bars_plot({label: group["pnl_usd"] for label, group in groups}, notes)
            out.append(Section(f"Net profit in USD by {name}", (Plots((plot,)),)))
    rows = tuple(
        (f"{name} {label}", *(group[column] for column in GROUPED))
        for key, name in (("by_side", "side"), ("by_tier", "tier"), ("by_mode", "mode"), ("by_month", "exit in"))
        for label, group in report[key].items()
    )
    heading = ("group", *map(column_heading, GROUPED))
    return [*out, Section("Trades in groups", (Table("", heading, rows),))] if rows else out


def _candles(inputs: ReplayInputs, run: Replay, charts: Sequence[str]) -> tuple[Section, ...]:
    busiest = run.trades.group_by("symbol").len().sort("len", "symbol", descending=[True, False])
    chosen = tuple(charts or busiest["symbol"].head(CHARTED).to_list())
    if not chosen:
        return ()
    words = (
        Paragraph("A triangle is an entry, a dot an exit, and a green line a profit. Point at one to read it."),
        Paragraph("Charts of long windows join bars. Run a backtest of fewer days (--from, --to) to see each of them."),
    )
    plots = tuple(
        candle_plot(inputs.bars, run.trades, symbol, inputs.cut.from_ms, inputs.cut.to_ms) for symbol in chosen
    )
    return (Section("Candles and trades", (*words, Plots(plots, chosen))),)


def _decisions(report: Mapping[str, Any]) -> tuple[Section, ...]:
    if "signals" not in report:
        return ()
    signals = report["signals"]
    counts = tuple((name, count) for name, count in signals["verdicts"].items() if count)
    kinds = tuple(
        (f"{kind.removeprefix('by_')} {word}", count)
        for kind in ("by_side", "by_tier", "by_mode")
        for word, count in signals[kind].items()
    )
    gates = tuple(
        (gate["gate"], gate["evaluated"], gate["closed"], Share(gate["closed_pct"])) for gate in report["gates"]
    )
    changed = tuple(
        (effect["path"], value_text(effect["value"]), value_text(effect["instead"]), effect["signals"])
        for effect in report["parameter_effects"]
    )
    text = (
        f"{signals['signals']:,} signals in {signals['evaluated']:,} evaluations of a symbol at a step "
        f"({signals['signal_pct']:.2f} %)."
    )
    left = (
        Table("Verdicts", ("verdict", "evaluations"), counts),
        Table("Signals", ("kind", "signals"), kinds),
    )
    right = (Table("Gates", ("gate", "evaluated", "closed", "share"), gates),)
    changes = (
        Paragraph("Additional signals if one entry parameter has another value and all others stay the same."),
        Table("", ("parameter", "value", "instead", "more signals"), changed),
    )
    return (
        Section("Signals and gates", (Paragraph(text), Columns((left, right)))),
        Section("Parameters that alone rejected signals", changes),
    )


def _trades(trades: pl.DataFrame) -> Block:
    if trades.is_empty():
        return Paragraph("None.")
    rows = [
        (
            row["symbol"],
            row["side"],
            row["tier"] or "",
            iso(row["entry_ms"]),
            iso(row["exit_ms"]),
            row["entry_price"],
            row["exit_price"],
            row["size"],
            row["adds"],
            row["partials"],
            row["reason"],
            row["mae_pct"],
            row["mfe_pct"],
            row["return_pct"],
            Money(row["pnl_usd"]),
        )
        for row in trades.tail(_TRADES_SHOWN).reverse().iter_rows(named=True)
    ]
    heading = (
        "symbol", "side", "tier", "entry", "exit", "entry price", "exit price", "size", "adds", "partials", "reason",
        "MAE, %", "MFE, %", "return, %", "net profit, USD",
    )  # fmt: skip
    return Table("", heading, tuple(rows), layout="tall")


def _holding(holding: pl.DataFrame) -> tuple[Section, ...]:
    if holding.is_empty():
        return ()
    money = ("realised_usd", "unrealised_usd", "pnl_usd")
    plain = ("entry_price", "last_price", "size", "adds", "partials")
    rows = [
        (
            row["symbol"],
            row["side"],
            iso(row["entry_ms"]),
            *(row[name] for name in plain),
            *(Money(row[name]) for name in money),
        )
        for row in holding.iter_rows(named=True)
    ]
    heading = (
        "symbol",
        "side",
        "since",
        *map(column_heading, (*plain, *money)),
    )
    words = Paragraph(
        "Realised: closed parts, fees, funding. Unrealised: at the last price, before the costs of an exit."
    )
    return (Section("Open at the end", (words, Table("", heading, tuple(rows)))),)


def _config(config: Mapping[str, Any]) -> Details:
    rows = [
        (path, value_text(value)) for group in ("market", "params") for path, value in sorted(config[group].items())
    ]
    rows += [
        (f"{symbol}: {path}", value_text(value))
        for symbol, values in config.get("symbol_params", {}).items()
        for path, value in sorted(values.items())
    ]
    return Details(f"The config, {len(rows)} values", (Table("", ("path", "value"), tuple(rows)),))
