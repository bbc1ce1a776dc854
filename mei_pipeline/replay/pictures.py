"""Pictures of a replay: self-contained SVG that needs no script and no network."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from kernels.market import Floats, Ints
from mei_pipeline.candles.heatmap import MONTHS
from mei_pipeline.market import Bars
from mei_pipeline.svg import (
    BLUE,
    GREEN,
    INK,
    LINE,
    LOSS,
    PALE_BLUE,
    PALE_GREEN,
    PALE_GREY,
    PALE_RED,
    PAPER,
    RED,
    SOFT,
    document,
)
from mei_pipeline.text import markup

WIDTH, LEFT, RIGHT, CHARACTER = 1080.0, 74.0, 16.0, 6.6
_TICKS = 6
_MOST_POINTS = 1500  # points of a curve that a screen can tell apart
_MOST_CANDLES = 260
_MOST_BARS = 40  # bars of a histogram


@dataclass(frozen=True)
class _Scale:
    """Values that lie between two edges of a panel, in pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: Any) -> Any:
        """Where a value lies, in pixels."""
        return self.start + (self.end - self.start) * (value - self.low) / ((self.high - self.low) or 1.0)


_SPANS = {"search": (PALE_BLUE, 0.35), "out of sample": (PALE_BLUE, 0.8), "holdout": (PALE_GREY, 0.8)}
"""Colour and opacity of the ground of the days of a promoted config's record."""


def equity_picture(
    close_ms: Ints, equity: Floats, initial_usd: float, spans: Sequence[tuple[str, int, int]] = ()
) -> Markup:
    """Equity over time, and below it how far it is under its highest value so far.

    Args:
        close_ms: [T] time of each point, UTC milliseconds.
        equity: [T] equity, USD.
        initial_usd: Equity at the start, USD.
        spans: Days with a shaded ground: a name of `_SPANS`, first and one past the last in UTC milliseconds.
    """
    height, split, bottom = 380.0, 250.0, 350.0
    peak = np.maximum(np.maximum.accumulate(equity), initial_usd)
    fall = np.where(peak > 0.0, 100.0 * (equity / peak - 1.0), 0.0)
    keep = _thinned(equity)
    low, high = min(float(equity.min()), initial_usd), max(float(equity.max()), initial_usd)
    time = _Scale(float(close_ms[0]), float(close_ms[-1]), LEFT, WIDTH - RIGHT)
    up = _Scale(low, high, split - 20.0, 20.0)
    floor = min(float(fall.min()), -1e-9)
    down = _Scale(floor, 0.0, bottom, split + 16.0)
    body = _grounds(spans, time, bottom)
    body += _levels(_inside(low, high), up, lambda value: f"{value:,.0f}") + _levels(
        [floor, 0.0], down, lambda value: f"{value:.1f} %"
    )
    body += _dates(close_ms, time, height - 10.0)
    x, y, low = time(close_ms[keep]), up(equity[keep]), down(fall[keep])
    area = f"{_path(x, low)}L{x[-1]:.1f} {down(0.0):.1f}L{x[0]:.1f} {down(0.0):.1f}Z"
    base = up(initial_usd)
    body += [
        f'<path d="M{LEFT:g} {base:.1f}H{WIDTH - RIGHT:g}" stroke="{SOFT}" stroke-dasharray="4 4" stroke-width="0.8"/>',
        f'<path d="{_path(x, y)}L{x[-1]:.1f} {base:.1f}L{x[0]:.1f} {base:.1f}Z" fill="{BLUE}" fill-opacity="0.08"/>',
        f'<path d="{_path(x, y)}" fill="none" stroke="{BLUE}" stroke-width="1.6" stroke-linejoin="round"/>',
        f'<path d="{area}" fill="{PALE_RED}"/>',
        f'<path d="{_path(x, low)}" fill="none" stroke="{RED}" stroke-width="1"/>',
    ]
    return document(WIDTH, height, "Equity and drawdown", body)


def _grounds(spans: Sequence[tuple[str, int, int]], time: _Scale, bottom: float) -> list[str]:
    """Shaded days behind a curve, cut to its window, and their legend."""
    out = []
    for name, from_ms, to_ms in spans:
        start, end = max(float(from_ms), time.low), min(float(to_ms), time.high)
        if start < end:
            box = f'x="{time(start):.1f}" y="14" width="{time(end) - time(start):.1f}" height="{bottom - 14.0:g}"'
            out.append(f"<rect {box} {_ground(name)}><title>{name}</title></rect>")
    for place, name in enumerate(dict.fromkeys(name for name, *_ in spans)):
        x = LEFT + 110.0 * place
        out += [f'<rect x="{x:g}" y="1" width="10" height="10" {_ground(name)}/>', _text(x + 15.0, 10.0, name, SOFT)]
    return out


def _ground(name: str) -> str:
    colour, opacity = _SPANS[name]
    return f'fill="{colour}" fill-opacity="{opacity}"'


def candle_picture(bars: Bars, trades: pl.DataFrame, symbol: str, from_ms: int, to_ms: int) -> Markup:
    """Candles of one symbol with a mark at each entry and exit and a line between, green for a profit."""
    height, bottom, top = 360.0, 322.0, 14.0
    open_ms, values, length_ms = _candles(bars, symbol, from_ms, to_ms)
    if not len(open_ms):
        return document(WIDTH, 60.0, f"{symbol}: no bars", [_text(LEFT, 36, "no bars", SOFT)])
    rows = trades.filter(pl.col("symbol") == symbol)
    prices = np.concatenate((values[1], values[2], rows["entry_price"].to_numpy(), rows["exit_price"].to_numpy()))
    low, high = float(np.nanmin(prices)), float(np.nanmax(prices))
    time = _Scale(float(from_ms), float(to_ms), LEFT, WIDTH - RIGHT)
    up = _Scale(low, high, bottom, top)
    body = _levels(_inside(low, high), up, _figure) + _dates(np.array([from_ms, to_ms]), time, height - 10.0)
    body += _candle_marks(open_ms, values, length_ms, time, up)
    for row in rows.iter_rows(named=True):
        body.append(_trade(row, time, up))
    return document(WIDTH, height, f"{symbol}: candles and trades", body)


def histogram_picture(pnl: Floats) -> Markup:
    """How many round trips made how much, in percent of what they opened."""
    height, bottom, top = 250.0, 210.0, 14.0
    if not len(pnl):
        return document(WIDTH, 60.0, "no trades", [_text(LEFT, 36, "There was no round trip.", SOFT)])
    # A few far ones must not squeeze the rest into one bar: they are counted in the outermost.
    edge = float(np.quantile(np.abs(pnl), 0.99)) or 1.0
    step = _step(2.0 * edge / _MOST_BARS)
    half = math.ceil(edge / step)
    index = np.clip(np.floor(pnl / step), -half, half - 1).astype(int)
    counts = np.bincount(index + half, minlength=2 * half)
    ticks = _ticks(0.0, float(counts.max()))
    across = _Scale(-half, half, LEFT, WIDTH - RIGHT)
    up = _Scale(0.0, ticks[-1], bottom, top)
    body = _levels(ticks, up, lambda value: f"{value:,.0f}")
    for place, count in enumerate(counts.tolist()):
        if count:
            low = (place - half) * step
            x, y = across(place - half), up(count)
            colour = GREEN if low >= 0.0 else RED
            body.append(
                f'<rect x="{x + 1:.1f}" y="{y:.1f}" width="{across(1) - across(0) - 2:.1f}" height="{bottom - y:.1f}" '
                f'rx="1.5" fill="{colour}" fill-opacity="0.8"><title>{count} of {low:.4g} to {low + step:.4g} %</title>'
                "</rect>"
            )
    for place in np.unique(np.linspace(-half, half, 9).round().astype(int)).tolist():
        body.append(_text(across(place), bottom + 18, f"{place * step:.3g} %", SOFT, anchor="middle"))
    return document(WIDTH, height, "Results of round trips", body)


def bars_picture(values: Mapping[str, float], told: Mapping[str, str]) -> Markup:
    """One horizontal bar per name, to the right of the middle line for a profit, to the left for a loss.

    Args:
        values: USD by name, in the order shown.
        told: What stands to the right of each bar, by name.
    """
    row, top = 22.0, 8.0
    left = max(90.0, 16.0 + CHARACTER * max((len(name) for name in values), default=0))
    note = CHARACTER * max((len(text) for text in told.values()), default=0) + 24.0
    low, high = min(0.0, *values.values(), -1e-9), max(0.0, *values.values(), 1e-9)
    across = _Scale(low, high, left + 70.0, WIDTH - note - 70.0)
    zero = across(0.0)
    body = []
    for index, (name, value) in enumerate(values.items()):
        y = top + index * row
        x, colour = across(value), GREEN if value >= 0.0 else RED
        box = f'x="{min(x, zero):.1f}" y="{y + 3:g}" width="{max(abs(x - zero), 0.5):.1f}" height="{row - 7:g}"'
        body += [
            _text(left - 12, y + 14, name, INK, anchor="end"),
            f'<rect {box} rx="2" fill="{colour}" fill-opacity="0.8"/>',
            _text(x + (6 if value >= 0.0 else -6), y + 14, f"{value:,.0f}", INK, anchor=_side(value)),
            _text(WIDTH - RIGHT, y + 14, told[name], SOFT, anchor="end"),
        ]
    bottom = top + row * len(values)
    body.insert(0, f'<path d="M{zero:.1f} {top:g}V{bottom:g}" stroke="{SOFT}" stroke-width="0.8"/>')
    return document(WIDTH, bottom + 8.0, "Profit by name", body)


def _side(value: float) -> str:
    return "start" if value >= 0.0 else "end"


def _candles(bars: Bars, symbol: str, from_ms: int, to_ms: int) -> tuple[Ints, Floats, int]:
    """Bars of one symbol, joined to as many as a screen can show: opens in ms, [4, N] prices, and their length."""
    s = bars.symbols.index(symbol)
    chosen = (bars.open_ms >= from_ms) & (bars.open_ms < to_ms)
    opened, prices = bars.open_ms[chosen], bars.prices[:, chosen, s]
    joined = max(1, -(-len(opened) // _MOST_CANDLES))
    frame = (
        pl.DataFrame(
            {"open_ms": opened, "open": prices[0], "high": prices[1], "low": prices[2], "close": prices[3]},
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


def _candle_marks(open_ms: Ints, values: Floats, length_ms: int, time: _Scale, up: _Scale) -> list[str]:
    """Candles: hollow pale bodies, so that the trades stand out; all of one colour in one path."""
    wide = max(1.0, (time(open_ms[0] + length_ms) - time(open_ms[0])) * 0.64)
    middle = time(open_ms + length_ms / 2.0)
    out = []
    for rising, colour in ((True, PALE_GREEN), (False, LOSS)):
        pieces = []
        chosen = (values[3] >= values[0]) == rising
        for x, (opened, high, low, close) in zip(middle[chosen], values.T[chosen], strict=True):
            top, bottom = up(max(opened, close)), up(min(opened, close))
            body = max(bottom - top, 0.6)
            pieces.append(
                f"M{x:.1f} {up(high):.1f}V{up(low):.1f}M{x - wide / 2:.1f} {top:.1f}h{wide:.1f}v{body:.1f}h{-wide:.1f}z"
            )
        out.append(f'<path d="{"".join(pieces)}" stroke="{colour}" fill="{colour}" stroke-width="0.9"/>')
    return out


def _trade(row: Mapping[str, Any], time: _Scale, up: _Scale) -> str:
    x, y = time(row["entry_ms"]), up(row["entry_price"])
    end, level = time(row["exit_ms"]), up(row["exit_price"])
    won = row["pnl_usd"] > 0.0
    colour = GREEN if won else RED
    tip = -1 if row["side"] == "long" else 1
    told = (
        f"{row['side']} {_moment(row['entry_ms'])} at {row['entry_price']:.6g}, {row['reason']} "
        f"{_moment(row['exit_ms'])} at {row['exit_price']:.6g}: {row['pnl_usd']:,.2f} USD"
    )
    return (
        f"<g><title>{markup(told)}</title>"
        f'<path d="M{x:.1f} {y:.1f}L{end:.1f} {level:.1f}" stroke="{colour}" stroke-width="1.2" stroke-opacity="0.8"/>'
        f'<path d="M{x:.1f} {y + 3.5 * tip:.1f}l3.5 {-7 * tip}h-7z" fill="{INK}" stroke="{PAPER}" stroke-width="0.6"/>'
        f'<circle cx="{end:.1f}" cy="{level:.1f}" r="2.8" fill="{colour}" stroke="{PAPER}" stroke-width="0.6"/></g>'
    )


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _thinned(values: Floats) -> Ints:
    """Which points of a curve are drawn: of each run that falls on one pixel the first, the least and the greatest."""
    if len(values) <= _MOST_POINTS:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), _MOST_POINTS // 3 + 1).astype(int)
    found = [
        point
        for start, stop in itertools.pairwise(edges)
        for point in (start, start + int(values[start:stop].argmin()), start + int(values[start:stop].argmax()))
    ]
    return np.unique([*found, len(values) - 1])


def _levels(ticks: Sequence[float], scale: _Scale, written: Callable[[float], str]) -> list[str]:
    out = []
    for tick in ticks:
        y = scale(tick)
        out.append(f'<path d="M{LEFT:g} {y:.1f}H{WIDTH - RIGHT:g}" stroke="{LINE}"/>')
        out.append(_text(LEFT - 8, y + 4, written(tick), SOFT, anchor="end"))
    return out


def _dates(time_ms: Ints, scale: _Scale, y: float) -> list[str]:
    """Names of months where they begin, or of days in a short window."""
    first, last = (datetime.fromtimestamp(int(time) / 1000, UTC) for time in (time_ms[0], time_ms[-1]))
    months = (last.year - first.year) * 12 + last.month - first.month
    out = []
    if months < 3:  # noqa: PLR2004 - fewer leave the axis almost empty
        for share in np.linspace(0.04, 0.96, 7).tolist():
            moment = scale.low + share * (scale.high - scale.low)
            day = datetime.fromtimestamp(moment / 1000, UTC).strftime("%d %b")
            out.append(_text(scale(moment), y, day, SOFT, anchor="middle"))
        return out
    every = max(1, math.ceil(months / 14))
    for number in range(1, months + 1):
        if number % every == 0:
            year, month = divmod(first.year * 12 + first.month - 1 + number, 12)
            x = scale(datetime(year, month + 1, 1, tzinfo=UTC).timestamp() * 1000)
            name = f"{MONTHS[month]} {year}" if month == 0 or number == every else MONTHS[month]
            out.append(f'<path d="M{x:.1f} 14V{y - 14:g}" stroke="{LINE}" stroke-dasharray="2 4"/>')
            out.append(_text(x, y, name, SOFT, anchor="middle"))
    return out


def _path(x: Floats, y: Floats) -> str:
    return "M" + "L".join(f"{left:.1f} {top:.1f}" for left, top in zip(x.tolist(), y.tolist(), strict=True))


def _step(least: float) -> float:
    """The least round number that is not below `least`."""
    scale = 10.0 ** math.floor(math.log10(least))
    return next(scale * factor for factor in (1, 2, 2.5, 5, 10) if scale * factor >= least * (1.0 - 1e-9))


def _ticks(low: float, high: float) -> list[float]:
    """Round values that cover [low, high]."""
    step = _step((high - low or abs(high) or 1.0) / _TICKS)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def _inside(low: float, high: float) -> list[float]:
    """Round values between two ends."""
    return [tick for tick in _ticks(low, high) if low <= tick <= high]


def _figure(value: float) -> str:
    return f"{value:,.6g}"


def _text(x: float, y: float, text: str, fill: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" font-size="11" text-anchor="{anchor}">{markup(text)}</text>'
