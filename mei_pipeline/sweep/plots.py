"""Plots of a sweep: heat maps, the Pareto front, the distribution of the metric, and the effects of axes."""

import math
from collections.abc import Sequence

import numpy as np
import polars as pl
from markupsafe import Markup

from mei_pipeline.svg import (
    BLANK,
    BLUE,
    CHARACTER,
    GREEN,
    INK,
    LINE,
    RED,
    SOFT,
    document,
    shade,
    short,
    text,
    ticks,
    value_text,
)
from mei_pipeline.sweep.metrics import UNITS
from mei_pipeline.sweep.summary import AxisEffect, HeatMap, Histogram, SweepSummary

PAD = 20.0
WIDTH, LEFT = 760.0, 76.0
_CELL_WIDTH, _CELL_HEIGHT, _LEAST_WIDTH = 62.0, 26.0, 480.0
_ROW = 24.0
_BAR_LEFT = 300.0
_NAMES = {"sharpe": "Sharpe ratio", "return_pct": "return", "win_rate": "share of trades won"}


def heat_plot(heat: HeatMap) -> Markup:
    """Draw the mean of a metric for each pair of values of two axes; tooltips show the best."""
    name = titled(heat.metric)
    greatest = max((abs(value) for value in heat.mean.flat if math.isfinite(value)), default=0.0)
    cell_width = max(_CELL_WIDTH, CHARACTER * max(map(len, heat.columns)) + 10.0)
    left = PAD + max(CHARACTER * max(map(len, heat.rows)), CHARACTER * len(heat.down), 30.0) + 14.0
    top = PAD + 78.0
    title = f"Mean {name} by {_last(heat.across)}" + (f" and {_last(heat.down)}" if heat.down else "")
    subtitle = f"{heat.count.sum():,} combos; these cells explain {100.0 * heat.share:.0f} % of the variance"
    body = [
        text(PAD, PAD + 12, title, INK, size=14, weight=600),
        text(PAD, PAD + 30, subtitle, SOFT),
        text(left, PAD + 56, f"{heat.across} →", SOFT, size=11),
    ]
    if heat.down:
        body.append(text(left - 8, top - 8, f"{heat.down} ↓", SOFT, size=11, anchor="end"))
    for index, label in enumerate(heat.columns):
        body.append(text(left + (index + 0.5) * cell_width, top - 8, label, INK, size=11, anchor="middle"))
    for row, label in enumerate(heat.rows):
        y = top + row * _CELL_HEIGHT
        body.append(text(left - 8, y + 17, label, INK, size=11, anchor="end"))
        places = ((column, left + column * cell_width) for column in range(len(heat.columns)))
        body += [_cell(heat, (row, column), greatest, (x, y, cell_width)) for column, x in places]
    bottom = top + len(heat.rows) * _CELL_HEIGHT
    body += _scale(left, bottom + 16, greatest, name)
    width = max(
        left + len(heat.columns) * cell_width + PAD, _LEAST_WIDTH, PAD * 2 + 8.0 * max(len(title), len(subtitle))
    )
    return document(width, bottom + 56, f"{heat.metric} by {heat.across} {heat.down}".rstrip(), body)


def nothing_varies() -> Markup:
    """Draw the placeholder of a heat map for a sweep without a varying axis."""
    return document(420, 60, "no axis varies", [text(PAD, 36, "No axis varies.", SOFT)])


def front_plot(front: pl.DataFrame) -> Markup:
    """Draw return over drawdown of the combos on the Pareto front; points with more turnover are fainter."""
    if front.is_empty():
        return document(420, 60, "no front", [text(PAD, 36, "No combo made a profit, so the front is empty.", SOFT)])
    height, top, bottom = 312.0, PAD + 44.0, 268.0
    drawdown, gain, turnover = (front[name].to_numpy() for name in ("max_drawdown_pct", "return_pct", "turnover_usd"))
    across, up = (
        ticks(float(drawdown.min()), float(drawdown.max()), 6),
        ticks(min(0.0, float(gain.min())), float(gain.max())),
    )
    x = LEFT + (WIDTH - PAD - LEFT) * (drawdown - across[0]) / (across[-1] - across[0])
    y = bottom - (bottom - top) * (gain - up[0]) / (up[-1] - up[0])
    # Ranks instead of values: one extreme turnover would make all other points look the same.
    rank = np.argsort(np.argsort(turnover)) / max(1, len(turnover) - 1)
    subtitle = f"{front.height:,} combos; no other has more return with no more drawdown and no more turnover"
    body = [
        text(PAD, PAD + 12, "Pareto front", INK, size=14, weight=600),
        text(PAD + 100, PAD + 12, subtitle, SOFT),
        *_levels(up, (bottom, top), "%"),
        text(
            LEFT,
            top - 10,
            "net profit, % of the initial balance; faint points have more turnover",
            SOFT,
            size=11,
        ),
        text((LEFT + WIDTH - PAD) / 2, height - 8, "maximum drawdown, % of the peak", SOFT, size=11, anchor="middle"),
    ]
    for tick in across:
        place = LEFT + (WIDTH - PAD - LEFT) * (tick - across[0]) / (across[-1] - across[0])
        body.append(text(place, bottom + 18, f"{short(tick)} %", SOFT, size=11, anchor="middle"))
    for row in front.with_columns(x=x, y=y, rank=rank).iter_rows(named=True):
        point = (
            f"combo {row['combo']}: return {row['return_pct']:,.1f} %, drawdown {row['max_drawdown_pct']:.1f} %, "
            f"turnover {row['turnover_usd']:,.0f} USD"
        )
        body.append(
            f'<circle cx="{row["x"]:.1f}" cy="{row["y"]:.1f}" r="4" fill="{BLUE}" fill-opacity="'
            f'{0.95 - 0.7 * row["rank"]:.2f}" stroke="{BLUE}" stroke-width="0.8"><title>{point}</title></circle>'
        )
    return document(WIDTH, height, "Pareto front", body)


def histogram_plot(shown: Histogram, summary: SweepSummary) -> Markup:
    """Draw the number of combos by value of the metric; red below zero."""
    height, top, bottom = 242.0, PAD + 40.0, 198.0
    name = titled(shown.metric)
    count = shown.count
    up = ticks(0.0, float(count.max(initial=1)))
    bar_width = (WIDTH - PAD - LEFT) / len(count)
    subtitle = (
        f"mean {short(summary.mean)}, deviation {short(summary.deviation)}, {100 * summary.lost_frac:.1f} % lost money"
    )
    body = [
        text(PAD, PAD + 12, f"Distribution of {name}", INK, size=14, weight=600),
        text(PAD + 8.2 * len(f"Distribution of {name}") + 12, PAD + 12, subtitle, SOFT),
        *_levels(up, (bottom, top), ""),
        text(LEFT, top - 10, "combos", SOFT, size=11),
        text((LEFT + WIDTH - PAD) / 2, height - 8, f"{name}{_unit(shown.metric)}", SOFT, size=11, anchor="middle"),
    ]
    for index, combos in enumerate(count.tolist()):
        if not combos:
            continue
        low, bar_height = shown.edges[index], (bottom - top) * combos / up[-1]
        colour = RED if low < 0.0 else GREEN
        tooltip = f"{combos:,} combos from {low:.4g} to {shown.edges[index + 1]:.4g}{_beyond(shown, index)}"
        x, width = LEFT + index * bar_width + 0.5, max(bar_width - 1.0, 0.5)
        body.append(
            f'<rect x="{x:.1f}" y="{bottom - bar_height:.1f}" width="{width:.1f}" '
            f'height="{bar_height:.1f}" fill="{colour}" fill-opacity="0.75"><title>{tooltip}</title></rect>'
        )
    every = max(1, round(len(count) / 8))
    body += [
        text(LEFT + index * bar_width, bottom + 18, short(float(edge)), SOFT, size=11, anchor="middle")
        for index, edge in enumerate(shown.edges)
        if index % every == 0
    ]
    return document(WIDTH, height, f"Distribution of {shown.metric}", body)


def axes_plot(axes: Sequence[AxisEffect], metric: str) -> Markup:
    """Draw the share of the metric's variance that each axis explains alone."""
    if not axes:
        return nothing_varies()
    top = PAD + 36.0
    right = WIDTH - 90.0
    greatest = max(1e-9, *(effect.share for effect in axes))
    body = [
        text(
            PAD,
            PAD + 12,
            f"Share of the variance of {titled(metric)} by axis",
            INK,
            size=14,
            weight=600,
        )
    ]
    for index, effect in enumerate(axes):
        y = top + index * _ROW
        bar_length = (right - _BAR_LEFT) * effect.share / greatest
        best = int(np.nanargmax(effect.mean))
        box = f'x="{_BAR_LEFT:g}" y="{y + 4:g}" width="{max(bar_length, 0.5):.1f}" height="{_ROW - 9:g}" rx="2"'
        tooltip = f"greatest mean at {value_text(effect.values[best])}"
        body += [
            text(_BAR_LEFT - 10, y + 15, effect.path, INK, size=11, anchor="end"),
            f'<rect {box} fill="{BLUE}" fill-opacity="0.75"><title>{tooltip}</title></rect>',
            text(_BAR_LEFT + max(bar_length, 0.5) + 8, y + 15, f"{100.0 * effect.share:.1f} %", INK, size=11),
        ]
    return document(WIDTH, top + len(axes) * _ROW + 12, f"Share of the variance of {metric} by axis", body)


def _cell(heat: HeatMap, place: tuple[int, int], greatest: float, box: tuple[float, float, float]) -> str:
    x, y, width = box
    shape = f'x="{x + 1:g}" y="{y + 1:g}" width="{width - 2:g}" height="{_CELL_HEIGHT - 2:g}" rx="2"'
    if not heat.count[place]:
        return f'<rect {shape} fill="{BLANK}"><title>no combo</title></rect>'
    mean, best = float(heat.mean[place]), float(heat.best[place])
    tooltip = f"mean {mean:.3g}, best {best:.3g}, {heat.count[place]:,} combos"
    return f"<rect {shape} {shade(mean, greatest)}><title>{tooltip}</title></rect>" + text(
        x + width / 2, y + 17, _two_digits(mean), INK, size=11, anchor="middle"
    )


def _scale(left: float, top: float, greatest: float, name: str) -> list[str]:
    steps, width = 11, 18.0
    boxes = [
        f'<rect x="{left + index * width:g}" y="{top:g}" width="{width:g}" height="10" '
        f"{shade(greatest * (2 * index / (steps - 1) - 1), greatest)}/>"
        for index in range(steps)
    ]
    return [
        *boxes,
        text(left, top + 24, _two_digits(-greatest), SOFT, size=10),
        text(left + steps * width / 2, top + 24, f"mean {name}", SOFT, size=10, anchor="middle"),
        text(left + steps * width, top + 24, _two_digits(greatest), SOFT, size=10, anchor="end"),
    ]


def _levels(values: Sequence[float], span: tuple[float, float], unit: str) -> list[str]:
    low, high = span
    out = []
    for value in values:
        y = low + (high - low) * (value - values[0]) / (values[-1] - values[0])
        out.append(f'<path d="M{LEFT:g} {y:.1f}H{WIDTH - PAD:g}" stroke="{LINE}"/>')
        out.append(text(LEFT - 8, y + 4, f"{short(value)} {unit}".rstrip(), SOFT, size=11, anchor="end"))
    return out


def _beyond(shown: Histogram, index: int) -> str:
    far = (shown.below if index == 0 else 0) + (shown.above if index == len(shown.count) - 1 else 0)
    return f", {far:,} of them beyond" if far else ""


def _two_digits(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 1000.0 else short(value)  # noqa: PLR2004 - a cell has room for six characters


def titled(metric: str) -> str:
    """Return the name of a metric as text, without its unit."""
    return _NAMES.get(metric) or metric.replace("_usd", "").replace("_pct", "").replace("_frac", "").replace("_", " ")


def _unit(metric: str) -> str:
    return f", {UNITS[metric]}" if UNITS.get(metric) else ""


def _last(path: str) -> str:
    return path.rpartition(".")[2]
