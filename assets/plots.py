"""Pictures that Dagster's page shows inline: self-contained SVG on a white ground, without any script."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape

import numpy as np
import polars as pl

from kernels.market import Floats, Ints

INK, SOFT, LINE = "#24292f", "#6e7781", "#e6e9ec"
SERIES = ("#b6bdc5", "#2f6fb2", "#d9822b", "#4b9b6e")
LOSS, NONE, GAIN = (238, 169, 155), (250, 250, 248), (135, 196, 165)
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
PAD, CHARACTER = 20.0, 7.2
CELL_WIDTH, CELL_HEIGHT, NARROW, MANY = 58.0, 26.0, 18.0, 16
WIDTH, HEIGHT, LEFT, TICKS = 760.0, 280.0, 64.0, 4


def two_best_axes(rows: pl.DataFrame, axes: Sequence[str], metric: str) -> list[str]:
    """The at most two axes whose values explain most of a metric's variance, the better one first.

    Args:
        rows: One row per combo, with a column per axis and the metric.
        axes: The axes.
        metric: The metric.
    """
    varied = [axis for axis in axes if rows[axis].n_unique() > 1]
    return sorted(varied, key=lambda axis: -_between(rows, axis, metric))[:2]


def sweep_heat_map(rows: pl.DataFrame, axes: Sequence[str], metric: str = "sharpe") -> str:
    """The mean of a metric over all other axes, for each pair of values of the two axes that matter most.

    Args:
        rows: One row per combo.
        axes: The axes of the sweep.
        metric: What is coloured.
    """
    best = two_best_axes(rows, axes, metric)
    if not best:
        return _document(420, 60, "no axis varies", [_text(PAD, 36, "One combo: there is nothing to compare.", SOFT)])
    across, down = best[0], best[1] if len(best) > 1 else None
    keys = [across] if down is None else [across, down]
    cells = rows.group_by(keys).agg(pl.col(metric).mean().alias("mean"), pl.col(metric).max().alias("best"))
    columns = rows[across].unique().sort().to_list()
    lines: list[object] = [None] if down is None else rows[down].unique().sort().to_list()
    found = {(cell[across], None if down is None else cell[down]): cell for cell in cells.iter_rows(named=True)}
    greatest = max((abs(cell["mean"]) for cell in found.values() if math.isfinite(cell["mean"])), default=0.0)
    wide = CELL_WIDTH if len(columns) <= MANY else NARROW
    left = PAD + max(CHARACTER * max(len(_number(value)) for value in lines), CHARACTER * 4) + 12
    top = PAD + (62 if down is None else 78)
    body = [
        _text(PAD, PAD + 12, f"Mean {metric} of {rows.height:,} combos", INK, size=14, weight=600),
        _text(left, PAD + 36, f"{across} →", SOFT, size=11),
    ]
    if down is not None:
        body.append(_text(left, PAD + 52, f"{down} ↓", SOFT, size=11))
    for index, value in enumerate(columns):
        if wide == CELL_WIDTH or index % 4 == 0:
            body.append(_text(left + (index + 0.5) * wide, top - 6, _number(value), INK, size=11, anchor="middle"))
    for number, line in enumerate(lines):
        y = top + number * CELL_HEIGHT
        body.append(_text(left - 8, y + 17, "" if line is None else _number(line), INK, size=11, anchor="end"))
        for index, value in enumerate(columns):
            body.append(_heat_cell(found.get((value, line)), greatest, (left + index * wide, y, wide)))
    bottom = top + len(lines) * CELL_HEIGHT
    body += _scale(left, bottom + 14, greatest)
    width = max(left + len(columns) * wide + PAD, left + CHARACTER * (max(map(len, keys)) + 3) + PAD, 420.0)
    return _document(width, bottom + 48, f"{metric} by {', '.join(keys)}", body)


def line_plot(title: str, facts: str, time_ms: Ints, series: Mapping[str, Floats]) -> str:
    """Lines over time, on one scale; a gap stays a gap.

    Args:
        title: Heading.
        facts: What stands beside it, smaller.
        time_ms: [N] times, ascending.
        series: [N] values by name; the first is drawn behind the others, in grey. At most four.
    """
    stacked = np.concatenate([values[np.isfinite(values)] for values in series.values()])
    if not stacked.size:
        return _document(420, 60, title, [_text(PAD, 36, f"{title}: no values yet.", SOFT)])
    ticks = _ticks(float(stacked.min()), float(stacked.max()))
    low, high = min(float(stacked.min()), ticks[0]), max(float(stacked.max()), ticks[-1])
    top, bottom, right = PAD + 48, HEIGHT - 34, WIDTH - PAD
    x = LEFT + (right - LEFT) * (time_ms - time_ms[0]) / max(1, time_ms[-1] - time_ms[0])
    body = [_text(PAD, PAD + 12, title, INK, size=14, weight=600)]
    body.append(_text(PAD + CHARACTER * 1.15 * len(title) + 12, PAD + 12, facts, SOFT, size=12))
    for tick in ticks:
        y = bottom - (bottom - top) * (tick - low) / (high - low)
        body.append(f'<path d="M{LEFT:g} {y:.1f}H{right:g}" stroke="{LINE}"/>')
        body.append(_text(LEFT - 8, y + 4, _number(tick), SOFT, size=11, anchor="end"))
    body += _dates(time_ms, x, bottom)
    for values, colour in zip(series.values(), SERIES, strict=False):
        y_values = bottom - (bottom - top) * (values - low) / (high - low)
        width = 1.2 if colour == SERIES[0] else 1.6
        body.append(f'<path d="{_path(x, y_values)}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
    body += _names(list(series))
    return _document(WIDTH, HEIGHT, title, body)


def _between(rows: pl.DataFrame, axis: str, metric: str) -> float:
    """Variance of the means of an axis's values, weighted by how many combos have each."""
    groups = rows.group_by(axis).agg(pl.col(metric).mean().alias("mean"), pl.len().alias("count"))
    mean = rows[metric].mean() or 0.0
    return float((groups["count"] * (groups["mean"] - mean) ** 2).sum() / rows.height)


def _heat_cell(cell: Mapping[str, float] | None, greatest: float, place: tuple[float, float, float]) -> str:
    x, y, wide = place
    box = f'x="{x + 1:g}" y="{y + 1:g}" width="{wide - 2:g}" height="{CELL_HEIGHT - 2:g}" rx="2"'
    if cell is None:
        return f'<rect {box} fill="#f6f7f8"><title>no combo</title></rect>'
    told = f"mean {cell['mean']:.3g}, best {cell['best']:.3g}"
    out = f'<rect {box} fill="{_colour(cell["mean"], greatest)}"><title>{told}</title></rect>'
    if wide == CELL_WIDTH:
        out += _text(x + wide / 2, y + 17, f"{cell['mean']:.2f}", INK, size=11, anchor="middle")
    return out


def _scale(left: float, top: float, greatest: float) -> list[str]:
    steps = 9
    out = []
    for index in range(steps):
        value = greatest * (2 * index / (steps - 1) - 1)
        out.append(
            f'<rect x="{left + index * 16:g}" y="{top:g}" width="16" height="10" fill="{_colour(value, greatest)}"/>'
        )
    out.append(_text(left, top + 24, f"{-greatest:.2f}", SOFT, size=10))
    out.append(_text(left + steps * 16, top + 24, f"{greatest:.2f}", SOFT, size=10, anchor="end"))
    return out


def _colour(value: float, greatest: float) -> str:
    share = 0.0 if greatest == 0.0 or not math.isfinite(value) else max(-1.0, min(1.0, value / greatest))
    end = GAIN if share >= 0 else LOSS
    mixed = [round(none + abs(share) * (full - none)) for none, full in zip(NONE, end, strict=True)]
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _ticks(low: float, high: float) -> list[float]:
    """Round values that cover [low, high]."""
    raw = (high - low or abs(high) or 1.0) / TICKS
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(scale * factor for factor in (1, 2, 2.5, 5, 10) if scale * factor >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def _dates(time_ms: Ints, x: Floats, bottom: float) -> list[str]:
    out = []
    for index in np.unique(np.linspace(0, len(time_ms) - 1, 6).astype(int))[:-1]:
        day = datetime.fromtimestamp(int(time_ms[index]) / 1000, UTC).strftime("%Y-%m-%d")
        out.append(_text(float(x[index]), bottom + 20, day, SOFT, size=11))
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
    out, x, y = [], LEFT, PAD + 36
    for name, colour in zip(names, SERIES, strict=False):
        out.append(f'<path d="M{x:g} {y - 4:g}h18" stroke="{colour}" stroke-width="3"/>')
        out.append(_text(x + 24, y, name, INK, size=11))
        x += 24 + CHARACTER * len(name) + 16
    return out


def _number(value: object) -> str:
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def _document(width: float, height: float, label: str, body: list[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}" font-family="{FONT}">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(body)}</svg>\n'
    )


def _text(x: float, y: float, text: str, fill: str, *, size: int = 12, anchor: str = "start", weight: int = 400) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" fill="{fill}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
