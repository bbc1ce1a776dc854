"""Summary of a sweep, computed chunk by chunk in constant memory.

The first pass collects moments of the metric, of every value of every axis, and the Pareto front. The second pass uses
them to place a histogram and the heat maps of the most important axes.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from kernels.market import Floats, Ints
from kernels.params import Value
from mei_pipeline import svg
from mei_pipeline.sweep.metrics import LEAST_IS_BEST
from mei_pipeline.sweep.pareto import OBJECTIVES, pareto
from mei_pipeline.sweep.plan import SweepPlan
from mei_pipeline.sweep.results import Results, axis_column
from mei_pipeline.sweep.top import BestCombos, find_best

MOST_PLACES = 24
"""Most rows or columns of a heat map; an axis with more values is shown in groups of neighbours."""
_BARS = 40
_DEVIATIONS = 4.0  # standard deviations between the mean and the last bars, which count all values beyond
_CROSSED = 3  # most important axes, whose pairs are shown as heat maps


@dataclass(frozen=True)
class AxisEffect:
    """Effect of one axis on the metric.

    Attributes:
        path: Path of the axis.
        values: Its distinct values, in order.
        count: [V] combos with each value.
        mean: [V] mean of the metric over them; NaN without combos.
        best: [V] best metric among them; NaN without combos.
        share: Share of the metric's variance between these means, 0 to 1: the correlation ratio eta squared (Fisher,
            Statistical Methods for Research Workers, 1925). 0 if the metric does not vary.
    """

    path: str
    values: tuple[Value, ...]
    count: Ints
    mean: Floats
    best: Floats
    share: float


@dataclass(frozen=True)
class SweepSummary:
    """Summary of a sweep.

    Attributes:
        metric: The metric.
        combos: Number of rows.
        lost: Combos with a net profit below zero.
        idle: Combos without a closed trade.
        mean: Mean of the metric.
        deviation: Standard deviation of the metric.
        least: Least value.
        greatest: Greatest value.
        best: The best combos by the metric.
        front: Combos on the Pareto front with the values of axes and the objectives. Only combos with a profit: not
            trading at all would dominate every loss.
        axes: Axes that vary, the one with the largest share of the variance first.
    """

    metric: str
    combos: int
    lost: int
    idle: int
    mean: float
    deviation: float
    least: float
    greatest: float
    best: BestCombos
    front: pl.DataFrame
    axes: tuple[AxisEffect, ...]

    @property
    def lost_frac(self) -> float:
        """Share of combos that lost money."""
        return self.lost / self.combos


@dataclass(frozen=True)
class HeatMap:
    """Means of the metric over two axes, across all values of the others; over one axis if only one varies.

    Attributes:
        metric: The metric.
        across: Path of the axis of the columns.
        down: Path of the axis of the rows; empty for a map of one axis.
        columns: Labels of the columns: one value or a group of neighbours.
        rows: Labels of the rows.
        count: [rows, columns] combos.
        mean: [rows, columns] mean; NaN without combos.
        best: [rows, columns] best; NaN without combos.
        share: Share of the metric's variance between the means of the cells.
    """

    metric: str
    across: str
    down: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    count: Ints
    mean: Floats
    best: Floats
    share: float


@dataclass(frozen=True)
class Histogram:
    """Number of combos by value of the metric.

    Attributes:
        metric: The metric.
        edges: [N + 1] round values between the bars; the outermost bars also count all values beyond.
        count: [N] combos.
        below: Combos below the first edge.
        above: Combos at or above the last edge.
    """

    metric: str
    edges: Floats
    count: Ints
    below: int
    above: int


class _Moments:
    """Count, sum, sum of squares and best of a metric, in groups."""

    def __init__(self, groups: int, *, most: bool) -> None:
        self.count = np.zeros(groups, dtype=np.int64)
        self.total, self.squares = np.zeros((2, groups))
        self._most = most
        self.best = np.full(groups, -np.inf if most else np.inf)

    def add(self, group: Ints, values: Floats) -> None:
        """Add `values` [K], each to its group [K]; values that are not finite are ignored."""
        finite = np.isfinite(values)
        group, values = group[finite], values[finite]
        size = len(self.count)
        self.count += np.bincount(group, minlength=size)
        self.total += np.bincount(group, values, size)
        self.squares += np.bincount(group, values * values, size)
        (np.maximum if self._most else np.minimum).at(self.best, group, values)

    @property
    def mean(self) -> Floats:
        with np.errstate(invalid="ignore"):
            return self.total / self.count

    @property
    def known_best(self) -> Floats:
        return np.where(self.count > 0, self.best, np.nan)

    @property
    def share(self) -> float:
        """Share of the variance between the means of the groups."""
        n = self.count.sum()
        mean = self.total.sum() / n if n else 0.0
        total = float(self.squares.sum() - n * mean * mean)
        filled = self.count > 0
        between = float((self.count[filled] * (self.mean[filled] - mean) ** 2).sum())
        # Rounding errors leave about 1e-16 of the squares in a metric that does not vary.
        return min(1.0, between / total) if total > 1e-12 * float(self.squares.sum()) else 0.0


def summarise(results: Results, metric: str = "sharpe", count: int = 20, *, every: bool = False) -> SweepSummary:
    """Compute the first pass of a summary.

    Args:
        results: The rows.
        metric: The metric.
        count: Number of best combos.
        every: See `find_best`.
    """
    most = metric not in LEAST_IS_BEST
    axes = _axes(results.plan)
    overall = _Moments(1, most=most)
    moments = {path: _Moments(len(values), most=most) for path, values in axes.items()}
    extremes, lost, idle = [math.inf, -math.inf], 0, 0
    front = pl.DataFrame()
    for frame in results.frames(list(dict.fromkeys(("combo", metric, "net_pnl_usd", "trades", *OBJECTIVES)))):
        values = _values(frame, metric)
        overall.add(np.zeros(len(values), dtype=np.int64), values)
        for path, group in _groups(results.plan, axes, frame).items():
            moments[path].add(group, values)
        finite = values[np.isfinite(values)]
        extremes = [min(extremes[0], finite.min(initial=math.inf)), max(extremes[1], finite.max(initial=-math.inf))]
        lost += int((frame["net_pnl_usd"] < 0.0).sum())
        idle += int((frame["trades"] == 0).sum())
        front = pareto(_joined(front, frame.select("combo", *OBJECTIVES).filter(pl.col("return_pct") > 0.0)))
    n, mean = int(overall.count[0]), float(overall.mean[0])
    effects = [
        AxisEffect(path, axes[path], sums.count, sums.mean, sums.known_best, sums.share)
        for path, sums in moments.items()
        if (sums.count > 0).sum() > 1
    ]
    return SweepSummary(
        metric=metric,
        combos=results.combos,
        lost=lost,
        idle=idle,
        mean=mean,
        deviation=math.sqrt(max(0.0, float(overall.squares[0]) / n - mean * mean)) if n else math.nan,
        least=extremes[0] if n else math.nan,
        greatest=extremes[1] if n else math.nan,
        best=find_best(results, count, metric, every=every),
        front=_with_axes(results.plan, front),
        axes=tuple(sorted(effects, key=lambda effect: -effect.share)),
    )


def heat_maps(results: Results, summary: SweepSummary) -> tuple[HeatMap, ...]:
    """Return the heat map of each pair of the three most important axes, the largest share of the variance first.

    With one axis that varies there is one map of one row, otherwise none.
    """
    paths = [effect.path for effect in summary.axes[:_CROSSED]]
    pairs = list(itertools.combinations(paths, 2)) or [(path, "") for path in paths]
    maps = [_HeatSums(results.plan, pair, summary.metric) for pair in pairs]
    axes = {path: values for path, values in _axes(results.plan).items() if path in paths}
    for frame in results.frames(("combo", summary.metric)):
        values, groups = _values(frame, summary.metric), _groups(results.plan, axes, frame)
        for sums in maps:
            sums.add(groups, values)
    return tuple(sorted((sums.map for sums in maps), key=lambda shown: -shown.share))


def heat_map(results: Results, across: str, down: str, metric: str = "sharpe") -> HeatMap:
    """Return the heat map of two named axes."""
    sums = _HeatSums(results.plan, (across, down), metric)
    axes = {path: values for path, values in _axes(results.plan).items() if path in {across, down}}
    for frame in results.frames(("combo", metric)):
        sums.add(_groups(results.plan, axes, frame), _values(frame, metric))
    return sums.map


def histogram(results: Results, summary: SweepSummary) -> Histogram:
    """Return the distribution of the metric in bars of a round width.

    The bars reach from four standard deviations below the mean to four above.
    """
    reach = _DEVIATIONS * summary.deviation
    low, high = max(summary.least, summary.mean - reach), min(summary.greatest, summary.mean + reach)
    width = svg.step((high - low) / _BARS if high > low else max(abs(low), 1.0) / _BARS)
    first, last = math.floor(low / width), math.floor(high / width) + 1
    count, below, above = np.zeros(last - first, dtype=np.int64), 0, 0
    for frame in results.frames((summary.metric,)):
        values = _values(frame, summary.metric)
        place = np.floor(values[np.isfinite(values)] / width) - first
        below += int((place < 0).sum())
        above += int((place >= len(count)).sum())
        count += np.bincount(np.clip(place, 0, len(count) - 1).astype(np.int64), minlength=len(count))
    return Histogram(summary.metric, width * np.arange(first, last + 1, dtype=np.float64), count, below, above)


class _HeatSums:
    """Sums of one heat map."""

    def __init__(self, plan: SweepPlan, pair: tuple[str, str], metric: str) -> None:
        axes = _axes(plan)
        self._pair, self._metric = pair, metric
        self._columns, self._column_of = _places(axes[pair[0]])
        self._rows, self._row_of = _places(axes[pair[1]]) if pair[1] else (("",), np.zeros(1, dtype=np.int64))
        self._sums = _Moments(len(self._rows) * len(self._columns), most=metric not in LEAST_IS_BEST)

    def add(self, groups: dict[str, Ints], values: Floats) -> None:
        across, down = self._pair
        row: Ints | int = self._row_of[groups[down]] if down else 0
        self._sums.add(row * len(self._columns) + self._column_of[groups[across]], values)

    @property
    def map(self) -> HeatMap:
        sums, shape = self._sums, (len(self._rows), len(self._columns))
        return HeatMap(
            metric=self._metric,
            across=self._pair[0],
            down=self._pair[1],
            columns=self._columns,
            rows=self._rows,
            count=sums.count.reshape(shape),
            mean=sums.mean.reshape(shape),
            best=sums.known_best.reshape(shape),
            share=sums.share,
        )


def _axes(plan: SweepPlan) -> dict[str, tuple[Value, ...]]:
    """Return the distinct values of each axis, ascending, including its value where it does not vary."""
    no_combos = plan.axis_values(np.zeros(0, dtype=np.int64))
    return {path: tuple(sorted(dict.fromkeys(coded.values), key=_order)) for path, coded in no_combos.items()}


def _groups(plan: SweepPlan, axes: dict[str, tuple[Value, ...]], frame: pl.DataFrame) -> dict[str, Ints]:
    """Return the index into its values that each axis has in each row."""
    groups = {}
    coded = plan.axis_values(frame["combo"].to_numpy())
    for path, values in axes.items():
        place = {value: index for index, value in enumerate(values)}
        groups[path] = np.array([place[value] for value in coded[path].values], dtype=np.int64)[coded[path].codes]
    return groups


def _places(values: Sequence[Value]) -> tuple[tuple[str, ...], Ints]:
    """Return the labels of an axis of a heat map and the label of each value.

    Neighbours share a label if there are many values.
    """
    size = min(len(values), MOST_PLACES)
    label_of = np.arange(len(values), dtype=np.int64) * size // len(values)
    labels = []
    for place in range(size):
        inside = np.flatnonzero(label_of == place)
        first, last = svg.value_text(values[inside[0]]), svg.value_text(values[inside[-1]])
        labels.append(first if len(inside) == 1 else f"{first}..{last}")
    return tuple(labels), label_of


def _with_axes(plan: SweepPlan, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with a column for each axis after the number of the combo."""
    if not rows.width:
        return rows
    coded_values = plan.axis_values(rows["combo"].to_numpy())
    axes = {path: axis_column(coded) for path, coded in coded_values.items()}
    return pl.concat([rows.select("combo"), pl.DataFrame(axes), rows.drop("combo")], how="horizontal")


def _values(frame: pl.DataFrame, metric: str) -> Floats:
    return frame[metric].cast(pl.Float64).to_numpy()


def _joined(one: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([one, other]) if one.width else other


def _order(value: Value) -> tuple[float, str]:
    return (0.0, value) if isinstance(value, str) else (float(value), "")
