"""Compare two sweeps by the combos that both contain."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from kernels.params import Value
from mei_pipeline.candles.intervals import iso
from mei_pipeline.errors import ConfigError
from mei_pipeline.svg import value_text
from mei_pipeline.sweep.metrics import LEAST_IS_BEST
from mei_pipeline.sweep.plan import SweepPlan
from mei_pipeline.sweep.results import Results

COMPARED = ("sharpe", "return_pct", "max_drawdown_pct", "trades", "turnover_usd")
"""Metrics that are compared beside the requested one."""


@dataclass(frozen=True)
class MetricChange:
    """One metric of the common combos.

    Attributes:
        metric: The metric.
        first: Its mean in the first sweep.
        second: Its mean in the second.
        improved_frac: Share of combos that are better in the second sweep.
        rank_correlation: Spearman's rank correlation, with mean ranks for ties; None if a metric does not vary.
    """

    metric: str
    first: float | None
    second: float | None
    improved_frac: float
    rank_correlation: float | None


@dataclass(frozen=True)
class ComparedBest:
    """The best common combo of one sweep, with its result in the other.

    Attributes:
        combo: Its numbers in the first and in the second sweep.
        values: The metric in the first and in the second sweep.
        ranks: Its ranks among the common combos, 1 for the best.
    """

    combo: tuple[int, int]
    values: tuple[float | None, float | None]
    ranks: tuple[int, int]


@dataclass(frozen=True)
class Comparison:
    """Comparison of two sweeps.

    Attributes:
        metric: Metric that decides which combo is best.
        combos: Number of combos that are equal in every parameter.
        differences: Other differences between the sweeps, as sentences.
        changes: Change of each metric.
        best: The best common combo of the first sweep and of the second.
    """

    metric: str
    combos: int
    differences: tuple[str, ...]
    changes: tuple[MetricChange, ...]
    best: tuple[ComparedBest, ComparedBest]


def compare(first: Results, second: Results, metric: str = "sharpe") -> Comparison:
    """Compare the combos that are equal in every parameter of the strategy.

    The common combos need about 100 bytes of memory each.

    Raises:
        ConfigError: The sweeps have different strategies or no combo in common; the message says why.
    """
    one, other = first.plan, second.plan
    if one.strategy != other.strategy:
        raise ConfigError(f"sweeps {_ids(one, other)}: strategies differ: {one.strategy} and {other.strategy}")
    metrics = list(dict.fromkeys((metric, *COMPARED)))
    shared = _shared_values(one, other)
    key = [_ALL, *shared]
    both = _keyed(first, shared, metrics).join(_keyed(second, shared, metrics), on=key, suffix=_OTHER)
    if both.is_empty():
        raise ConfigError(f"sweeps {_ids(one, other)}: no combo in common")
    ranked = both.select(
        "combo",
        f"combo{_OTHER}",
        metric,
        f"{metric}{_OTHER}",
        rank=_rank(metric),
        rank_other=_rank(f"{metric}{_OTHER}", metric),
    )
    return Comparison(
        metric=metric,
        combos=both.height,
        differences=tuple(_differences(one, other)),
        changes=tuple(_change(both, name) for name in metrics),
        best=(_winner(ranked, "rank"), _winner(ranked, "rank_other")),
    )


_OTHER = ":other"
_ALL = ":all"
"""Constant column: if no axis varies, all combos are equal already."""


def _shared_values(one: SweepPlan, other: SweepPlan) -> dict[str, tuple[Value, ...]]:
    """Return the values that both sweeps have of each parameter that at least one of them varies, by path.

    Raises:
        ConfigError: A parameter has no common value.
    """
    shared = {}
    for path in sorted({*one.params, *other.params, *dict(one.axes), *dict(other.axes)}):
        first, second = _values(one, path), _values(other, path)
        common = tuple(value for value in first if value in second)
        if not common:
            raise ConfigError(
                f"sweeps {_ids(one, other)}: no combo in common: {path} is {_listed(first)} in the first, "
                f"{_listed(second)} in the second"
            )
        if len(first) > 1 or len(second) > 1:
            shared[path] = common
    return shared


def _values(plan: SweepPlan, path: str) -> tuple[Value, ...]:
    fixed = (plan.params[path],) if path in plan.params else ()
    return tuple(dict.fromkeys((*dict(plan.axes).get(path, ()), *fixed)))


def _keyed(results: Results, shared: dict[str, tuple[Value, ...]], metrics: Sequence[str]) -> pl.DataFrame:
    """Return the rows that the other sweep may contain: codes of the shared values, number, metrics."""
    plan = results.plan
    parts: list[pl.DataFrame] = []
    for frame in results.frames(("combo", *metrics)):
        coded = plan.axis_values(frame["combo"].to_numpy())
        # An axis has at most 10,000 values, so that a code fits into 16 bits.
        codes = {_ALL: np.zeros(frame.height, dtype=np.int16)}
        for path, values in shared.items():
            place = {value: index for index, value in enumerate(values)}
            if path in coded:
                new_codes = np.array([place.get(value, -1) for value in coded[path].values], dtype=np.int16)
                codes[path] = new_codes[coded[path].codes]
            else:
                codes[path] = np.full(frame.height, place[plan.params[path]], dtype=np.int16)
        shared_rows = np.logical_and.reduce([code >= 0 for code in codes.values()])
        parts.append(pl.concat([pl.DataFrame(codes), frame], how="horizontal").filter(shared_rows))
    return pl.concat(parts)


def _change(both: pl.DataFrame, metric: str) -> MetricChange:
    first, second = pl.col(metric), pl.col(f"{metric}{_OTHER}")
    better = second < first if metric in LEAST_IS_BEST else second > first
    row = both.select(
        first=first.mean(),
        second=second.mean(),
        improved=better.fill_null(value=False).mean(),
        correlation=pl.corr(first.rank(), second.rank()),
    ).row(0, named=True)
    correlation = row["correlation"]
    varies = correlation is not None and np.isfinite(correlation)
    return MetricChange(metric, row["first"], row["second"], row["improved"], correlation if varies else None)


def _rank(column: str, metric: str = "") -> pl.Expr:
    """Rank a column: 1 for the best, rows without a value last."""
    most = (metric or column) not in LEAST_IS_BEST
    return pl.col(column).rank("min", descending=most).fill_null(pl.len())


def _winner(ranked: pl.DataFrame, by: str) -> ComparedBest:
    combo, combo_other, value, value_other, rank, rank_other = ranked.sort(by, "combo").row(0)
    return ComparedBest((combo, combo_other), (value, value_other), (rank, rank_other))


def _differences(one: SweepPlan, other: SweepPlan) -> list[str]:
    """Return other differences between two sweeps, as sentences."""
    settings = (_settings(one), _settings(other))
    differences = [
        f"{name}: {settings[0][name]}, then {settings[1].get(name)}"
        for name in settings[0]
        if settings[0][name] != settings[1].get(name)
    ]
    if one.symbols != other.symbols:
        differences.append(f"symbols: {len(one.symbols)}, then {len(other.symbols)}, not the same")
    if one.symbol_params != other.symbol_params:
        differences.append("values of single symbols")
    return differences


def _settings(plan: SweepPlan) -> dict[str, str]:
    return {
        "venue": plan.venue,
        "interval": plan.interval,
        "entry interval": plan.intervals.entry,
        "exit interval": plan.intervals.exit,
        "days": f"{iso(plan.from_ms)} to {iso(plan.to_ms)}",
        "data": plan.data_hash[:12],
        "rules": plan.kernels[:12],
        "initial balance": f"{plan.initial_balance_usd:,.0f} USD",
        **{path: value_text(value) for path, value in plan.market.items()},
    }


def _listed(values: Sequence[Value]) -> str:
    return " or ".join(map(value_text, values[:6])) + (" …" if len(values) > 6 else "")  # noqa: PLR2004 - enough to see why


def _ids(one: SweepPlan, other: SweepPlan) -> str:
    return f"{one.id[:16]} and {other.id[:16]}"
