"""The report of a replay as one HTML page: no script, nothing fetched, readable from a mail or a disk."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from mei_pipeline.candles.heatmap import MONTHS
from mei_pipeline.candles.intervals import iso
from mei_pipeline.members import MEMBER_HEADING
from mei_pipeline.pages import Money, Share, notes_section, page, section, table
from mei_pipeline.replay.pictures import (
    bars_picture,
    candle_picture,
    equity_picture,
    histogram_picture,
    month_colour,
)
from mei_pipeline.replay.run import Replay, Stage
from mei_pipeline.replay.summary import DOCS as FIGURES
from mei_pipeline.replay.summary import GROUPED
from mei_pipeline.svg import said
from mei_pipeline.sweep.metrics import DOCS as METRICS
from mei_pipeline.text import markup

CHARTED = 4
"""Symbols whose candles are shown where nobody says which."""

_TRADES_SHOWN = 300


def page_of(stage: Stage, run: Replay, report: Mapping[str, Any], charts: Sequence[str] = ()) -> str:
    """The page.

    Args:
        stage: What was replayed.
        run: What came of it.
        report: As `report_of` returns, with the keys of `decisions_of` where those are wanted.
        charts: Symbols whose candles are shown; by default those with the most round trips.
    """
    config = report["config"]
    title = f"{config['strategy']} on {config['venue']} {config['interval']}, {report['from']} to {report['to']}"
    parts = [
        _head(title, report),
        _tiles(report),
        notes_section(report["notes"]),
        section("Equity and drawdown", _equity(stage, run)),
        section("Monthly returns, percent", _months(report["monthly_return_pct"], report["metrics"]["return_pct"])),
        section(
            "Results of round trips, percent of what they opened",
            histogram_picture(run.trades["return_pct"].to_numpy()),
        ),
        _groups(report),
        _candles(stage, run, charts),
        _decisions(report),
        section("All figures", _all_figures(report)),
        section("Symbols and their bars", _members(report["members"])),
        section(
            f"Round trips, the last {min(_TRADES_SHOWN, run.trades.height):,} of {run.trades.height:,}",
            _trades(run.trades),
        ),
        _holding(run.holding),
        _config(config),
    ]
    return page(title, parts)


def _head(title: str, report: Mapping[str, Any]) -> str:
    symbols = report["config"]["symbols"]
    return (
        f"<h1>{markup(title)}</h1><p>{len(symbols)} symbols: {markup(', '.join(symbols))} · {report['bars']:,} bars<br>"
        f"config <code>{report['config_id'][:16]}</code> · evidence <code>{report['evidence_id'][:16]}</code></p>"
    )


def _tiles(report: Mapping[str, Any]) -> str:
    metrics, figures = report["metrics"], report["figures"]
    shown = (
        ("Net profit, USD", metrics["net_pnl_usd"], "{:,.0f}"),
        ("Return", metrics["return_pct"], "{:.1f} %"),
        ("Growth a year", figures["cagr_pct"], "{:.1f} %"),
        ("Deepest drawdown", metrics["max_drawdown_pct"], "{:.1f} %"),
        ("Sharpe", metrics["sharpe"], "{:.2f}"),
        ("Sortino", figures["sortino"], "{:.2f}"),
        ("Round trips", metrics["trades"], "{:,.0f}"),
        ("Won", None if metrics["win_rate"] is None else 100.0 * metrics["win_rate"], "{:.1f} %"),
        ("Profit factor", metrics["profit_factor"], "{:.2f}"),
        ("Fees, USD", metrics["fees_usd"], "{:,.0f}"),
        ("Funding, USD", metrics["funding_usd"], "{:,.0f}"),
        ("Time in the market", 100.0 * metrics["exposure_frac"], "{:.0f} %"),
    )
    tiles = [
        f"<div class=tile><b>{'-' if value is None else form.format(value)}</b><span>{name}</span></div>"
        for name, value, form in shown
    ]
    return f"<div class=tiles>{''.join(tiles)}</div>"


def _equity(stage: Stage, run: Replay) -> str:
    equity = run.equity
    return equity_picture(
        equity["close_ms"].to_numpy(), equity["equity_usd"].to_numpy(), stage.resolved.initial_balance_usd
    )


def _months(returns: Mapping[str, float], total: float) -> str:
    greatest = max((abs(value) for value in returns.values()), default=0.0)
    years = sorted({month[:4] for month in returns})
    rows = []
    for year in years:
        cells, grown = [], 1.0
        for number in range(1, 13):
            value = returns.get(f"{year}-{number:02d}")
            if value is None:
                cells.append("<td></td>")
            else:
                grown *= 1.0 + value / 100.0
                cells.append(f'<td style="background:{month_colour(value, greatest)}">{value:.1f}</td>')
        rows.append(f"<tr><th>{year}</th>{''.join(cells)}<td><b>{100.0 * (grown - 1.0):.1f}</b></td></tr>")
    head = "".join(f"<th>{name}</th>" for name in (*MONTHS, "year"))
    return f"<table class=months><tr><th></th>{head}</tr>{''.join(rows)}</table><p>All: {total:.2f} %.</p>"


def _members(members: Sequence[Mapping[str, Any]]) -> str:
    rows = [(each["symbol"], each["from"], each["to"], each["missing_pct"], each["ended"] or "") for each in members]
    return f"<div class=scroll>{table(MEMBER_HEADING, rows)}</div>"


def _all_figures(report: Mapping[str, Any]) -> str:
    rows = [(name, report["metrics"][name], METRICS[name]) for name in METRICS]
    rows += [(name, report["figures"][name], FIGURES[name]) for name in FIGURES]
    half = -(-len(rows) // 2)
    tables = [table(("figure", "value", "what it says"), part) for part in (rows[:half], rows[half:])]
    return f"<div class=two>{''.join(tables)}</div>"


def _groups(report: Mapping[str, Any]) -> str:
    out = []
    for key, name in (("by_symbol", "symbol"), ("by_reason", "reason of the last close")):
        groups = sorted(report[key].items(), key=lambda item: -item[1]["pnl_usd"])
        if groups:
            told = {
                label: f"{group['trades']:,} trades, {100.0 * group['win_rate']:.0f} % won" for label, group in groups
            }
            picture = bars_picture({label: group["pnl_usd"] for label, group in groups}, told)
            out.append(section(f"Net profit in USD by {name}", picture))
    rows = [
        (f"{name} {label}", *(group[column] for column in GROUPED))
        for key, name in (("by_side", "side"), ("by_tier", "tier"), ("by_mode", "mode"), ("by_month", "exit in"))
        for label, group in report[key].items()
    ]
    heading = ("round trips", *(column.replace("_", " ") for column in GROUPED))
    return "".join(out) + (section("Round trips in groups", table(heading, rows)) if rows else "")


def _candles(stage: Stage, run: Replay, charts: Sequence[str]) -> str:
    busiest = run.trades.group_by("symbol").len().sort("len", "symbol", descending=[True, False])
    chosen = charts or busiest["symbol"].head(CHARTED).to_list()
    out = [
        "<p>A triangle is an entry, a dot an exit; a line is green for a profit. Point at one to read it.</p>",
        "<p>In a long window bars are joined; a backtest of fewer days (--from, --to) shows each of them.</p>",
    ]
    for symbol in chosen:
        picture = candle_picture(stage.bars, run.trades, symbol, stage.cut.from_ms, stage.cut.to_ms)
        out.append(f"<h3>{markup(symbol)}</h3>{picture}")
    return section("Candles and trades", "".join(out)) if chosen else ""


def _decisions(report: Mapping[str, Any]) -> str:
    if "signals" not in report:
        return ""
    signals = report["signals"]
    counts = [(name, count) for name, count in signals["verdicts"].items() if count]
    kinds = [
        (f"{kind.removeprefix('by_')} {word}", count)
        for kind in ("by_side", "by_tier", "by_mode")
        for word, count in signals[kind].items()
    ]
    gates = [(gate["gate"], gate["asked"], gate["shut"], Share(gate["shut_pct"])) for gate in report["gates"]]
    changed = [
        (lever["path"], said(lever["value"]), said(lever["instead"]), lever["signals"]) for lever in report["levers"]
    ]
    text = (
        f"<p>{signals['signals']:,} signals in {signals['evaluated']:,} looks at a symbol at a step "
        f"({signals['signal_pct']:.2f} %).</p>"
    )
    tables = (
        f"<div><h3>What became of a look</h3>{table(('verdict', 'looks'), counts)}<h3>Signals</h3>"
        f"{table(('kind', 'signals'), kinds)}</div>"
        f"<div><h3>How often each gate was shut</h3>{table(('gate', 'asked', 'shut', 'share'), gates)}</div>"
    )
    return section("Signals and gates", f"{text}<div class=two>{tables}</div>") + section(
        "What alone stopped signals",
        "<p>Signals that one change of one entry parameter would have added, everything else as it is.</p>"
        + table(("parameter", "value", "instead", "more signals"), changed),
    )


def _trades(trades: pl.DataFrame) -> str:
    if trades.is_empty():
        return "<p>None.</p>"
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
        "MAE %", "MFE %", "return %", "net USD",
    )  # fmt: skip
    return f"<div class=scroll>{table(heading, rows)}</div>"


def _holding(holding: pl.DataFrame) -> str:
    if holding.is_empty():
        return ""
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
        "symbol", "side", "since", "entry price", "last price", "size", "adds", "partials", "realised USD",
        "unrealised USD", "net USD",
    )  # fmt: skip
    words = "<p>Realised: closed parts, fees, funding. Unrealised: at the last close, before the costs of an exit.</p>"
    return section("Open at the end", words + table(heading, rows))


def _config(config: Mapping[str, Any]) -> str:
    rows = [(path, said(value)) for group in ("market", "params") for path, value in sorted(config[group].items())]
    rows += [
        (f"{symbol}: {path}", said(value))
        for symbol, values in config.get("symbol_params", {}).items()
        for path, value in sorted(values.items())
    ]
    return section(
        "", f"<details><summary>The config, {len(rows)} values</summary>{table(('path', 'value'), rows)}</details>"
    )
