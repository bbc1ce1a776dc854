"""Plots of the trades of a replay, as self-contained SVG: candles, histograms and bars."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from kernels.market import Floats, Ints
from mei_pipeline.replay.axes import LEFT, RIGHT, TICKS, WIDTH, Scale, dates, inside, levels
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.svg import (
    CHARACTER,
    GREEN,
    INK,
    LOSS,
    PALE_GREEN,
    PAPER,
    RED,
    SOFT,
    document,
    number,
    step,
    text,
    ticks,
)
from mei_pipeline.text import markup

_MOST_CANDLES = 260
_MOST_BARS = 40  # bars of a histogram


def candle_plot(bars: Bars, trades: pl.DataFrame, symbol: str, from_ms: int, to_ms: int) -> Markup:
    """Draw candles of one symbol, a mark at each entry and exit, and a line between them, green for a profit."""
    height, bottom, top = 360.0, 322.0, 14.0
    open_ms, values, length_ms = _candles(bars, symbol, from_ms, to_ms)
    if not len(open_ms):
        return document(WIDTH, 60.0, f"{symbol}: no bars", [text(LEFT, 36, "no bars", SOFT)])
    rows = trades.filter(pl.col("symbol") == symbol)
    prices = np.concatenate((values[1], values[2], rows["entry_price"].to_numpy(), rows["exit_price"].to_numpy()))
    low, high = float(np.nanmin(prices)), float(np.nanmax(prices))
    time = Scale(float(from_ms), float(to_ms), LEFT, WIDTH - RIGHT)
    up = Scale(low, high, bottom, top)
    body = levels(inside(low, high), up, number) + dates(np.array([from_ms, to_ms]), time, height - 10.0)
    body += _candle_marks(open_ms, values, length_ms, time, up)
    for row in rows.iter_rows(named=True):
        body.append(_trade(row, time, up))
    return document(WIDTH, height, f"{symbol}: candles and trades", body)


def histogram_plot(values: Floats, label: str, empty: str, lines: Mapping[str, float] = MappingProxyType({})) -> Markup:
    """Draw the number of values in each range, green for gains and red for losses.

    Args:
        values: Values in percent. The outermost bars count extreme values.
        label: Name of the plot.
        empty: Text if there are no values.
        lines: Values with a line of their own, by name; the first has its name on the left, the others on the right.
    """
    height, bottom, top = 258.0, 218.0, 22.0
    if not len(values):
        return document(WIDTH, 60.0, label, [text(LEFT, 36, empty, SOFT)])
    # Without this limit, a few extreme values would squeeze the rest into one bar.
    edge = float(np.quantile(np.abs(values), 0.99)) or 1.0
    bar_width = step(2.0 * edge / _MOST_BARS)
    bars_per_side = math.ceil(edge / bar_width)
    index = np.clip(np.floor(values / bar_width), -bars_per_side, bars_per_side - 1).astype(int)
    counts = np.bincount(index + bars_per_side, minlength=2 * bars_per_side)
    heights = [tick for tick in ticks(0.0, float(counts.max()), TICKS) if tick.is_integer()]
    across = Scale(-bars_per_side, bars_per_side, LEFT, WIDTH - RIGHT)
    up = Scale(0.0, max(heights[-1], float(counts.max())), bottom, top)
    body = levels(heights, up, number)
    for place, count in enumerate(counts.tolist()):
        if count:
            low = (place - bars_per_side) * bar_width
            x, y = across(place - bars_per_side), up(count)
            colour = GREEN if low >= 0.0 else RED
            body.append(
                f'<rect x="{x + 1:.1f}" y="{y:.1f}" width="{across(1) - across(0) - 2:.1f}" height="{bottom - y:.1f}" '
                f'rx="1.5" fill="{colour}" fill-opacity="0.8">'
                f"<title>{count} of {low:.4g} to {low + bar_width:.4g} %</title></rect>"
            )
    for value in inside(-bars_per_side * bar_width, bars_per_side * bar_width, 10):
        body.append(text(across(value / bar_width), bottom + 18, f"{number(value)} %", SOFT, anchor="middle"))
    for order, (name, value) in enumerate(lines.items()):
        x = across(max(-bars_per_side, min(bars_per_side, value / bar_width)))
        body.append(f'<path d="M{x:.1f} {top - 16:g}V{bottom:g}" stroke="{INK}" stroke-dasharray="4 3"/>')
        shown = f"{name} {value:.2f} %"
        body.append(text(x + (6 if order else -6), top - 8, shown, INK, anchor="start" if order else "end"))
    return document(WIDTH, height, label, body)


def bars_plot(values: Mapping[str, float], notes: Mapping[str, str]) -> Markup:
    """Draw one horizontal bar per name: to the right of the middle line for a profit, to the left for a loss.

    Args:
        values: USD by name, in the order shown.
        notes: Text to the right of each bar, by name.
    """
    row, top = 22.0, 8.0
    left = max(90.0, 16.0 + CHARACTER * max((len(name) for name in values), default=0))
    note_width = CHARACTER * max((len(text) for text in notes.values()), default=0) + 24.0
    low, high = min(0.0, *values.values(), -1e-9), max(0.0, *values.values(), 1e-9)
    across = Scale(low, high, left + 70.0, WIDTH - note_width - 70.0)
    zero = across(0.0)
    body: list[str] = []
    for index, (name, value) in enumerate(values.items()):
        y = top + index * row
        x, colour = across(value), GREEN if value >= 0.0 else RED
        box = f'x="{min(x, zero):.1f}" y="{y + 3:g}" width="{max(abs(x - zero), 0.5):.1f}" height="{row - 7:g}"'
        body += [
            text(left - 12, y + 14, name, INK, anchor="end"),
            f'<rect {box} rx="2" fill="{colour}" fill-opacity="0.8"/>',
            text(x + (6 if value >= 0.0 else -6), y + 14, f"{value:,.0f}", INK, anchor=_side(value)),
            text(WIDTH - RIGHT, y + 14, notes[name], SOFT, anchor="end"),
        ]
    bottom = top + row * len(values)
    body.insert(0, f'<path d="M{zero:.1f} {top:g}V{bottom:g}" stroke="{SOFT}" stroke-width="0.8"/>')
    return document(WIDTH, bottom + 8.0, "Profit by name", body)


def _side(value: float) -> str:
    return "start" if value >= 0.0 else "end"


def _candles(bars: Bars, symbol: str, from_ms: int, to_ms: int) -> tuple[Ints, Floats, int]:
    """Return the bars of one symbol, joined to as many as a screen can show.

    Returns:
        Times of the opens in milliseconds, [4, N] prices, and the length of a bar in milliseconds.
    """
    s = bars.symbols.index(symbol)
    in_window = (bars.open_ms >= from_ms) & (bars.open_ms < to_ms)
    open_ms, prices = bars.open_ms[in_window], bars.prices[:, in_window, s]
    joined = max(1, -(-len(open_ms) // _MOST_CANDLES))
    frame = (
        pl.DataFrame(
            {"open_ms": open_ms, "open": prices[0], "high": prices[1], "low": prices[2], "close": prices[3]},
            nan_to_null=True,
        )
        .with_columns(place=pl.int_range(pl.len()) // joined)
        .drop_nulls()
        .group_by("place", maintain_order=True)
        .agg(
            pl.col("open_ms").first(),
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
        )
    )
    starts = from_ms + frame["place"].to_numpy() * joined * bars.interval_ms
    return starts, frame.select("open", "high", "low", "close").to_numpy().T, joined * bars.interval_ms


def _candle_marks(open_ms: Ints, values: Floats, length_ms: int, time: Scale, up: Scale) -> list[str]:
    """Draw candles with pale bodies, so that trades stand out; all of one colour are one path."""
    wide = max(1.0, (time(open_ms[0] + length_ms) - time(open_ms[0])) * 0.64)
    middle = time(open_ms + length_ms / 2.0)
    out = []
    for rising, colour in ((True, PALE_GREEN), (False, LOSS)):
        pieces = []
        of_colour = (values[3] >= values[0]) == rising
        for x, (open_price, high, low, close) in zip(middle[of_colour], values.T[of_colour], strict=True):
            top, bottom = up(max(open_price, close)), up(min(open_price, close))
            body = max(bottom - top, 0.6)
            pieces.append(
                f"M{x:.1f} {up(high):.1f}V{up(low):.1f}M{x - wide / 2:.1f} {top:.1f}h{wide:.1f}v{body:.1f}h{-wide:.1f}z"
            )
        out.append(f'<path d="{"".join(pieces)}" stroke="{colour}" fill="{colour}" stroke-width="0.9"/>')
    return out


def _trade(row: Mapping[str, Any], time: Scale, up: Scale) -> str:
    x, y = time(row["entry_ms"]), up(row["entry_price"])
    end, level = time(row["exit_ms"]), up(row["exit_price"])
    won = row["pnl_usd"] > 0.0
    colour = GREEN if won else RED
    tip = -1 if row["side"] == "long" else 1
    tooltip = (
        f"{row['side']} {_moment(row['entry_ms'])} at {row['entry_price']:.6g}, {row['reason']} "
        f"{_moment(row['exit_ms'])} at {row['exit_price']:.6g}: {row['pnl_usd']:,.2f} USD"
    )
    return (
        f"<g><title>{markup(tooltip)}</title>"
        f'<path d="M{x:.1f} {y:.1f}L{end:.1f} {level:.1f}" stroke="{colour}" stroke-width="1.2" stroke-opacity="0.8"/>'
        f'<path d="M{x:.1f} {y + 3.5 * tip:.1f}l3.5 {-7 * tip}h-7z" fill="{INK}" stroke="{PAPER}" stroke-width="0.6"/>'
        f'<circle cx="{end:.1f}" cy="{level:.1f}" r="2.8" fill="{colour}" stroke="{PAPER}" stroke-width="0.6"/></g>'
    )


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
