"""Plots of the equity of a replay: equity and its benchmark, drawdown, rolling Sharpe ratio."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from kernels.market import Floats, Ints
from mei_pipeline.replay.axes import LEFT, RIGHT, WIDTH, Scale, dates, inside, levels, path, thinned
from mei_pipeline.svg import (
    BLUE,
    CHARACTER,
    INK,
    PALE_BLUE,
    PALE_GREY,
    PALE_RED,
    RED,
    SOFT,
    document,
    number,
    text,
)

_SPANS = {"search": (PALE_BLUE, 0.35), "out of sample": (PALE_BLUE, 0.8), "holdout": (PALE_GREY, 0.8)}
"""Colour and opacity behind each kind of days in the record of a promoted config."""
_COLOURS = (BLUE, SOFT)
_SWATCH = 16.0  # pixels between the start of a legend entry and its name


def equity_plot(
    close_ms: Ints,
    curves: Sequence[tuple[str, Floats]],
    initial_usd: float,
    spans: Sequence[tuple[str, int, int]] = (),
) -> Markup:
    """Draw equity and its benchmark over time, and the drawdown below.

    Args:
        close_ms: [T] time of each point, UTC milliseconds.
        curves: Name and equity [T] in USD of the strategy, and of the benchmark if there is one.
        initial_usd: Equity of both at the start, USD.
        spans: Shaded days: a name of `_SPANS`, start and end in UTC milliseconds.
    """
    height, split, bottom = 388.0, 258.0, 358.0
    equity = curves[0][1]
    peak = np.maximum(np.maximum.accumulate(equity), initial_usd)
    drawdown = np.where(peak > 0.0, 100.0 * (equity / peak - 1.0), 0.0)
    lowest, highest = (
        float(limit([initial_usd, *(limit(values) for _, values in curves)])) for limit in (np.min, np.max)
    )
    time = Scale(float(close_ms[0]), float(close_ms[-1]), LEFT, WIDTH - RIGHT)
    up = Scale(lowest, highest, split - 20.0, 28.0)
    deepest = min(float(drawdown.min()), -1e-9)
    down = Scale(deepest, 0.0, bottom, split + 16.0)
    body = _shading(spans, time, bottom)
    body += levels(inside(lowest, highest), up, lambda value: f"{value:,.0f}" if value.is_integer() else number(value))
    body += levels([deepest, 0.0], down, lambda value: f"{round(value, 1) + 0.0:.1f} %")
    body += dates(close_ms, time, height - 10.0)
    keep = thinned(equity)
    x, y, under = time(close_ms[keep]), up(equity[keep]), down(drawdown[keep])
    area = f"{path(x, under)}L{x[-1]:.1f} {down(0.0):.1f}L{x[0]:.1f} {down(0.0):.1f}Z"
    base = up(initial_usd)
    body += [
        f'<path d="M{LEFT:g} {base:.1f}H{WIDTH - RIGHT:g}" stroke="{SOFT}" stroke-dasharray="4 4" stroke-width="0.8"/>',
        f'<path d="{path(x, y)}L{x[-1]:.1f} {base:.1f}L{x[0]:.1f} {base:.1f}Z" fill="{BLUE}" fill-opacity="0.08"/>',
        f'<path d="{area}" fill="{PALE_RED}"/>',
        f'<path d="{path(x, under)}" fill="none" stroke="{RED}" stroke-width="1"/>',
    ]
    # The strategy comes last, so that its benchmark doesn't cover it.
    for (_, values), colour in reversed(list(zip(curves, _COLOURS, strict=False))):
        keep = thinned(values)
        line = path(time(close_ms[keep]), up(values[keep]))
        body.append(f'<path d="{line}" fill="none" stroke="{colour}" stroke-width="1.6" stroke-linejoin="round"/>')
    body += _legend([name for name, _ in curves], list(dict.fromkeys(name for name, *_ in spans)))
    return document(WIDTH, height, "Equity and drawdown", body)


def sharpe_plot(end_ms: Ints, ratios: Floats, days: int, overall: float, span: tuple[int, int]) -> Markup:
    """Draw the rolling Sharpe ratio, on the time axis of the equity plot.

    Args:
        end_ms: [D] end of the last day of each window, UTC milliseconds.
        ratios: [D] annual Sharpe ratio of each window, finite.
        days: Length of a window in days.
        overall: Ratio of all days, drawn as a dashed line.
        span: Start and end of the replay, UTC milliseconds.
    """
    height, top, bottom = 240.0, 28.0, 206.0
    label = "Rolling Sharpe ratio"
    if not len(ratios):
        return document(WIDTH, 60.0, label, [text(LEFT, 36, "The replay has too few days.", SOFT)])
    low, high = (float(limit([0.0, overall, limit(ratios)])) for limit in (np.min, np.max))
    time = Scale(float(span[0]), float(span[1]), LEFT, WIDTH - RIGHT)
    up = Scale(low, high, bottom, top)
    keep = thinned(ratios)
    ends = f"{LEFT:g} {up(overall):.1f}H{WIDTH - RIGHT:g}"
    body = [
        *levels(inside(low, high), up, number),
        *dates(np.array(span), time, height - 10.0),
        f'<path d="M{LEFT:g} {up(0.0):.1f}H{WIDTH - RIGHT:g}" stroke="{SOFT}" stroke-width="0.8"/>',
        f'<path d="M{ends}" stroke="{SOFT}" stroke-dasharray="4 4" stroke-width="1"/>',
        f'<path d="{path(time(end_ms[keep]), up(ratios[keep]))}" fill="none" stroke="{BLUE}" stroke-width="1.6"/>',
    ]
    body += _legend([f"{days} days", f"all days: {overall:.2f}"], [])
    return document(WIDTH, height, label, body)


def _shading(spans: Sequence[tuple[str, int, int]], time: Scale, bottom: float) -> list[str]:
    """Draw shaded days behind a curve, cut to its window."""
    out = []
    for name, from_ms, to_ms in spans:
        start, end = max(float(from_ms), time.low), min(float(to_ms), time.high)
        if start < end:
            box = f'x="{time(start):.1f}" y="14" width="{time(end) - time(start):.1f}" height="{bottom - 14.0:g}"'
            out.append(f"<rect {box} {_shade(name)}><title>{name}</title></rect>")
    return out


def _shade(name: str) -> str:
    colour, opacity = _SPANS[name]
    return f'fill="{colour}" fill-opacity="{opacity}"'


def _legend(curves: Sequence[str], spans: Sequence[str]) -> list[str]:
    """Draw the names of curves, in the order of `_COLOURS`, and of shaded days in one row."""
    out = []
    x = LEFT
    for index, name in enumerate([*curves, *spans]):
        if index < len(curves):
            out.append(f'<path d="M{x:g} 7h12" stroke="{_COLOURS[index]}" stroke-width="3"/>')
        else:
            out.append(f'<rect x="{x:g}" y="1" width="12" height="11" {_shade(name)}/>')
        out.append(text(x + _SWATCH, 11.0, name, INK))
        x += _SWATCH + CHARACTER * len(name) + 14.0
    return out
