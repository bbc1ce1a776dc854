"""Two searches side by side: what the combos that both have did in each."""

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
"""Metrics that are compared beside the one that is asked for."""


@dataclass(frozen=True)
class MetricChange:
    """One metric of the combos in common.

    Attributes:
        metric: The metric.
        first: Its mean in the first sweep.
        second: Its mean in the second.
        improved_frac: Share of combos that are better in the second.
        rank_correlation: Spearman's, with mean ranks for ties; None where a metric does not vary.
    """

    metric: str
    first: float | None
    second: float | None
    improved_frac: float
    rank_correlation: float | None


@dataclass(frozen=True)
class ComparedBest:
    """The best combo in common of one sweep, and what became of it in the other.

    Attributes:
        combo: Its numbers in the first and in the second sweep.
        values: The metric in the first and in the second.
        ranks: Its ranks among the combos in common, 1 for the best.
    """

    combo: tuple[int, int]
    values: tuple[float | None, float | None]
    ranks: tuple[int, int]


@dataclass(frozen=True)
class Comparison:
    """Two sweeps side by side.

    Attributes:
        metric: What decides which combo is best.
        combos: Combos that both have: equal in every parameter.
        differences: In what the sweeps differ beside their combos, in words.
        changes: Each metric.
        best: The best combo in common of the first sweep and of the second.
    """

    metric: str
    combos: int
    differences: tuple[str, ...]
    changes: tuple[MetricChange, ...]
    best: tuple[ComparedBest, ComparedBest]


def compare(first: Results, second: Results, metric: str = "sharpe") -> Comparison:
    """Compare the combos that are equal in every parameter of the strategy.

    What both have is held in memory, some 100 bytes a combo.

    Raises:
        ConfigError: They search other strategies, or have no combo in common; the message says why.
    """
    one, other = first.plan, second.plan
    if one.strategy != other.strategy:
        raise ConfigError(f"sweeps {_ids(one, other)}: one searches {one.strategy}, the other {other.strategy}")
    metrics = list(dict.fromkeys((metric, *COMPARED)))
    shared = _shared_values(one, other)
    key = [_ALL, *shared]
    both = _keyed(first, shared, metrics).join(_keyed(second, shared, metrics), on=key, suffix=_OTHER)
    if both.is_empty():
        raise ConfigError(f"sweeps {_ids(one, other)} have no combo in common")
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
"""The same in every row: where no axis varies, combos are equal already."""


def _shared_values(one: SweepPlan, other: SweepPlan) -> dict[str, tuple[Value, ...]]:
    """Values that a parameter may have in both, by path, of each that one of them varies.

    Raises:
        ConfigError: A parameter has no value that both know.
    """
    found = {}
    for path in sorted({*one.params, *other.params, *dict(one.axes), *dict(other.axes)}):
        mine, theirs = _values(one, path), _values(other, path)
        both = tuple(value for value in mine if value in theirs)
        if not both:
            raise ConfigError(
                f"sweeps {_ids(one, other)} have no combo in common: {path} is {_listed(mine)} in one, "
                f"{_listed(theirs)} in the other"
            )
        if len(mine) > 1 or len(theirs) > 1:
            found[path] = both
    return found


def _values(plan: SweepPlan, path: str) -> tuple[Value, ...]:
    fixed = (plan.params[path],) if path in plan.params else ()
    return tuple(dict.fromkeys((*dict(plan.axes).get(path, ()), *fixed)))


def _keyed(results: Results, shared: dict[str, tuple[Value, ...]], metrics: Sequence[str]) -> pl.DataFrame:
    """Rows that the other sweep may have, too: places of the parameters among the shared values, number, metrics."""
    plan = results.plan
    parts: list[pl.DataFrame] = []
    for frame in results.frames(("combo", *metrics)):
        picked = plan.axis_values(frame["combo"].to_numpy())
        codes = {_ALL: np.zeros(frame.height, dtype=np.int16)}
        for path, values in shared.items():
            place = {value: index for index, value in enumerate(values)}
            if path in picked:
                own = np.array([place.get(value, -1) for value in picked[path].values], dtype=np.int16)
                codes[path] = own[picked[path].codes]
            else:
                codes[path] = np.full(frame.height, place[plan.params[path]], dtype=np.int16)
        known = np.logical_and.reduce([code >= 0 for code in codes.values()])
        parts.append(pl.concat([pl.DataFrame(codes), frame], how="horizontal").filter(known))
    return pl.concat(parts)


def _change(both: pl.DataFrame, metric: str) -> MetricChange:
    mine, theirs = pl.col(metric), pl.col(f"{metric}{_OTHER}")
    better = theirs < mine if metric in LEAST_IS_BEST else theirs > mine
    told = both.select(
        first=mine.mean(),
        second=theirs.mean(),
        improved=better.fill_null(value=False).mean(),
        correlation=pl.corr(mine.rank(), theirs.rank()),
    ).row(0, named=True)
    correlation = told["correlation"]
    known = correlation is not None and np.isfinite(correlation)
    return MetricChange(metric, told["first"], told["second"], told["improved"], correlation if known else None)


def _rank(column: str, metric: str = "") -> pl.Expr:
    """1 for the best; rows without a value are last."""
    most = (metric or column) not in LEAST_IS_BEST
    return pl.col(column).rank("min", descending=most).fill_null(pl.len())


def _winner(ranked: pl.DataFrame, by: str) -> ComparedBest:
    combo, combo_other, value, value_other, rank, rank_other = ranked.sort(by, "combo").row(0)
    return ComparedBest((combo, combo_other), (value, value_other), (rank, rank_other))


def _differences(one: SweepPlan, other: SweepPlan) -> list[str]:
    """What else is not the same, in words."""
    told = (_circumstances(one), _circumstances(other))
    found = [
        f"{name}: {told[0][name]}, then {told[1].get(name)}" for name in told[0] if told[0][name] != told[1].get(name)
    ]
    if one.symbols != other.symbols:
        found.append(f"symbols: {len(one.symbols)}, then {len(other.symbols)}, not the same")
    if one.symbol_params != other.symbol_params:
        found.append("values of single symbols")
    return found


def _circumstances(plan: SweepPlan) -> dict[str, str]:
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
