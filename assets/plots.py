"""Plots that Dagster's page shows inline: self-contained SVG on white, without scripts."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from kernels.market import Floats, Ints
from mei_pipeline.svg import BLUE, CHARACTER, GREEN, GREY, INK, LINE, RED, SOFT, document, number, text, ticks

SERIES = (GREY, BLUE, RED, GREEN)
PAD = 20.0
WIDTH, HEIGHT, LEFT = 760.0, 280.0, 64.0


def line_plot(title: str, facts: str, time_ms: Ints, series: Mapping[str, Floats]) -> str:
    """Return a plot of lines over time on one scale; a value that is not finite leaves a gap.

    Args:
        title: Heading.
        facts: Smaller text beside the heading.
        time_ms: [N] times, ascending, UTC milliseconds.
        series: [N] values by name, at most four; the first is drawn behind the others, in grey.
    """
    stacked = np.concatenate([values[np.isfinite(values)] for values in series.values()])
    if not stacked.size:
        return document(420, 60, title, [text(PAD, 36, f"{title}: no values yet.", SOFT)])
    levels = ticks(float(stacked.min()), float(stacked.max()))
    low, high = min(float(stacked.min()), levels[0]), max(float(stacked.max()), levels[-1])
    top, bottom, right = PAD + 48, HEIGHT - 34, WIDTH - PAD
    x = LEFT + (right - LEFT) * (time_ms - time_ms[0]) / max(1, time_ms[-1] - time_ms[0])
    body = [text(PAD, PAD + 12, title, INK, size=14, weight=600)]
    body.append(text(PAD + CHARACTER * 1.15 * len(title) + 12, PAD + 12, facts, SOFT, size=12))
    for tick in levels:
        y = bottom - (bottom - top) * (tick - low) / (high - low)
        body.append(f'<path d="M{LEFT:g} {y:.1f}H{right:g}" stroke="{LINE}"/>')
        body.append(text(LEFT - 8, y + 4, number(tick), SOFT, size=11, anchor="end"))
    body += _dates(time_ms, x, bottom)
    for values, colour in zip(series.values(), SERIES, strict=False):
        y_values = bottom - (bottom - top) * (values - low) / (high - low)
        width = 1.2 if colour == SERIES[0] else 1.6
        body.append(f'<path d="{_path(x, y_values)}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
    body += _names(list(series))
    return document(WIDTH, HEIGHT, title, body)


def _dates(time_ms: Ints, x: Floats, bottom: float) -> list[str]:
    out = []
    for index in np.unique(np.linspace(0, len(time_ms) - 1, 6).astype(int))[:-1]:
        day = datetime.fromtimestamp(int(time_ms[index]) / 1000, UTC).strftime("%Y-%m-%d")
        out.append(text(float(x[index]), bottom + 20, day, SOFT, size=11))
    return out


def _path(x: Floats, y: Floats) -> str:
    pieces = []
    drawing = False
    for left, top in zip(x, y, strict=True):
        if math.isfinite(top):
            pieces.append(f"{'L' if drawing else 'M'}{left:.1f} {top:.1f}")
        drawing = math.isfinite(top)
    return "".join(pieces)


def _names(names: Sequence[str]) -> list[str]:
    out: list[str] = []
    x, y = LEFT, PAD + 36
    for name, colour in zip(names, SERIES, strict=False):
        out.append(f'<path d="M{x:g} {y - 4:g}h18" stroke="{colour}" stroke-width="3"/>')
        out.append(text(x + 24, y, name, INK, size=11))
        x += 24 + CHARACTER * len(name) + 16
    return out
