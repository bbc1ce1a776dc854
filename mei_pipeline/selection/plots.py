"""Plots of a selection: folds in time, equity, cross-validation, and selection bias by number of trials."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
from markupsafe import Markup

from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.selection.folds import Fold
from mei_pipeline.selection.segments import Segment
from mei_pipeline.selection.selection_bias import SelectionBias
from mei_pipeline.svg import (
    BLUE,
    GREEN,
    GREY,
    INK,
    LINE,
    PALE_BLUE,
    PALE_GREY,
    RED,
    SOFT,
    document,
    number,
    short,
    text,
    ticks,
)

_WIDTH, _LEFT, _RIGHT, _TOP = 760.0, 84.0, 20.0, 58.0
_ROW, _BAR = 18.0, 11.0
_TRAIN, _HOLDOUT = PALE_BLUE, PALE_GREY
_PLOT = 190.0
_NARROW = 6.4  # pixels that a character of a legend takes
_EQUITY = (GREY, BLUE, GREEN)


def fold_plot(folds: Sequence[Fold], to_ms: int) -> Markup:
    """Draw the train and test days of each fold, and the holdout after the last fold, up to `to_ms`."""
    if not folds:
        return document(420, 60, "Folds", [text(20, 36, "No folds.", SOFT)])
    from_ms = min(fold.train_ms[0] for fold in folds)
    height = _TOP + _ROW * (len(folds) + 1) + 34
    body = [text(20, 28, f"Walk-forward, {len(folds)} folds", INK, size=14, weight=600)]
    body.append(text(230, 28, f"{sum(fold.days for fold in folds)} days out of sample", SOFT))
    for index, (name, colour) in enumerate((("train", _TRAIN), ("test", BLUE), ("holdout", _HOLDOUT))):
        body += [_box(430 + 105 * index, 18, 12, colour), text(447 + 105 * index, 28, name, SOFT)]

    def x(time_ms: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (time_ms - from_ms) / (to_ms - from_ms)

    for row, fold in enumerate(folds):
        y = _TOP + _ROW * row
        body.append(text(_LEFT - 10, y + 10, f"fold {row + 1}", SOFT, size=11, anchor="end"))
        for (start, end), colour in ((fold.train_ms, _TRAIN), (fold.test_ms, BLUE)):
            body.append(_box(x(start), y, x(end) - x(start), colour))
    y = _TOP + _ROW * len(folds)
    body.append(text(_LEFT - 10, y + 10, "now", SOFT, size=11, anchor="end"))
    search_ms = max(fold.test_ms[1] for fold in folds)
    body += [_box(x(from_ms), y, x(search_ms) - x(from_ms), _TRAIN)]
    body += [_box(x(search_ms), y, x(to_ms) - x(search_ms), _HOLDOUT)]
    for time_ms, anchor in ((from_ms, "start"), (search_ms, "end"), (to_ms, "end")):
        # Labels of the start and the end of a short holdout would overlap.
        place = min(x(time_ms) - 8, _WIDTH - _RIGHT - 80) if time_ms == search_ms else x(time_ms)
        body.append(text(place, height - 12, _day(time_ms), SOFT, size=11, anchor=anchor))
    return document(_WIDTH, height, "Walk-forward", body)


def equity_plot(title: str, segments: Mapping[str, Segment]) -> Markup:
    """Draw equity at the end of each day, from 1 in each segment; segments may overlap in time.

    Args:
        title: Title of the plot.
        segments: At most three segments by name: in sample, out of sample, holdout.
    """
    drawn = {name: segment for name, segment in segments.items() if len(segment.returns)}
    if not drawn:
        return document(420, 60, title, [text(20, 36, f"{title}: no days.", SOFT)])
    height = _TOP + 24 + _PLOT + 30
    bottom = _TOP + 24 + _PLOT
    # A line starts at the first midnight and has a point at the end of each day, the next midnight.
    times = {name: np.append(segment.days_ms[:1], segment.days_ms + DAY_MS) for name, segment in drawn.items()}
    levels = {name: np.append(1.0, np.cumprod(1.0 + segment.returns)) for name, segment in drawn.items()}
    from_ms, to_ms = (float(limit(each[end] for each in times.values())) for limit, end in ((min, 0), (max, -1)))
    marks = ticks(
        min(float(each.min()) for each in levels.values()), max(float(each.max()) for each in levels.values())
    )

    def x(time_ms: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (time_ms - from_ms) / (to_ms - from_ms)

    def y(level: float) -> float:
        return bottom - _PLOT * (level - marks[0]) / (marks[-1] - marks[0])

    body = [text(20, 28, title, INK, size=14, weight=600)]
    for mark in marks:
        body.append(f'<path d="M{_LEFT:g} {y(mark):.1f}H{_WIDTH - _RIGHT:g}" stroke="{LINE}"/>')
        body.append(text(_LEFT - 8, y(mark) + 4, number(mark), SOFT, size=11, anchor="end"))
    place = 20.0
    for (name, segment), colour in zip(drawn.items(), _EQUITY, strict=False):
        points = "L".join(
            f"{x(float(when)):.1f} {y(float(level)):.1f}" for when, level in zip(times[name], levels[name], strict=True)
        )
        body.append(f'<path d="M{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        label = f"{name}: {len(segment.returns)} days, {100.0 * (levels[name][-1] - 1.0):+.1f} %"
        body.append(f'<path d="M{place:g} {_TOP - 6:g}h18" stroke="{colour}" stroke-width="3"/>')
        body.append(text(place + 24, _TOP - 2, label, INK, size=11))
        place += 34 + _NARROW * len(label)
    for share, anchor in ((0.0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1.0, "end")):
        when = from_ms + share * (to_ms - from_ms)
        body.append(text(x(when), height - 10, _day(when), SOFT, size=11, anchor=anchor))
    return document(_WIDTH, height, title, body)


def logit_plot(edges: Sequence[float], counts: Sequence[int], probability: float | None) -> Markup:
    """Draw the histogram of the logits of cross-validation; logits below 0 are below the median out of sample."""
    if not counts or probability is None:
        return document(520, 60, "Overfitting", [text(20, 36, "No cross-validation: too few combos vary.", SOFT)])
    height = _TOP + _PLOT + 44
    body = [text(20, 28, f"Probability of backtest overfitting {probability:.2f}", INK, size=14, weight=600)]
    body.append(text(350, 28, "rank of the best in sample among all, out of sample", SOFT))
    wide = (_WIDTH - _LEFT - _RIGHT) / len(counts)
    for index, count in enumerate(counts):
        tall = _PLOT * count / max(counts)
        colour = RED if edges[index] + edges[index + 1] < 0.0 else GREEN
        body.append(_box(_LEFT + wide * index, _TOP + _PLOT - tall, max(wide - 1, 1), colour, tall))
    body.append(f'<path d="M{_LEFT:g} {_TOP + _PLOT:g}H{_WIDTH - _RIGHT:g}" stroke="{LINE}"/>')
    for share in (0.0, 0.5, 1.0):
        value = edges[0] + share * (edges[-1] - edges[0])
        place = _LEFT + share * (_WIDTH - _LEFT - _RIGHT)
        body.append(text(place, _TOP + _PLOT + 18, f"{value:.1f}", SOFT, size=11, anchor="middle"))
    body.append(text(_LEFT, height - 8, "logit of the rank; red is below the median", SOFT, size=11))
    return document(_WIDTH, height, "Overfitting", body)


def selection_bias_plot(bias: SelectionBias | None) -> Markup:
    """Draw the deflated Sharpe ratio of the best combo of a search against the number of independent trials."""
    if bias is None:
        return document(520, 60, "Selection bias", [text(20, 36, "No combo of the search varies.", SOFT)])
    height = _TOP + _PLOT + 44
    title = f"Best Sharpe ratio of the search {bias.best_sharpe:.2f}, deflated {bias.deflated_sharpe:.2f}"
    body = [text(20, 28, title, INK, size=14, weight=600)]
    facts = f"after {bias.effective_trials:,.0f} independent of {bias.combos:,} combos"
    body.append(text(430, 28, facts, SOFT))
    most = math.log(max(bias.combos, 2))

    def at(trials: float, value: float) -> tuple[float, float]:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * math.log(trials) / most, _TOP + _PLOT * (1.0 - value)

    for level in (0.0, 0.5, 0.95):
        y = at(1.0, level)[1]
        body.append(f'<path d="M{_LEFT:g} {y:.1f}H{_WIDTH - _RIGHT:g}" stroke="{LINE}"/>')
        body.append(text(_LEFT - 8, y + 4, f"{level:g}", SOFT, size=11, anchor="end"))
    points = [at(number, value) for number, value in bias.by_trials if math.isfinite(value)]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    body.append(f'<path d="M{path}" fill="none" stroke="{BLUE}" stroke-width="1.8"/>')
    x, y = at(max(1.0, min(bias.effective_trials, float(bias.combos))), bias.deflated_sharpe)
    body.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{RED}"/>')
    body += [
        text(at(float(number), 0.0)[0], _TOP + _PLOT + 18, short(float(number)), SOFT, size=11, anchor="middle")
        for number in (1, bias.combos)
    ]
    body.append(
        text(_LEFT, height - 8, "independent trials; probability that the true ratio is above zero", SOFT, size=11)
    )
    return document(_WIDTH, height, "Selection bias", body)


def _day(time_ms: float) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d")


def _box(x: float, y: float, wide: float, colour: str, tall: float = _BAR) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(wide, 0.0):.1f}" height="{tall:.1f}" fill="{colour}"/>'
