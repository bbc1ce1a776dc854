"""What a sweep will do, decided before it does anything: every combo has a number, and equal plans have equal ids."""

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from kernels.cache import source_hash
from kernels.features import Column
from kernels.market import Ints
from kernels.params import Value
from mei_pipeline import files
from mei_pipeline.candles.intervals import Intervals
from mei_pipeline.config.axes import fixed_of, numbered_axes
from mei_pipeline.config.benchmark import sweep_benchmark
from mei_pipeline.config.models import SweepSpec
from mei_pipeline.errors import DataError
from mei_pipeline.params.grid import Axis, Grid, Picked
from mei_pipeline.params.identity import Resolved, make_resolved
from mei_pipeline.params.resolve import resolve
from mei_pipeline.params.table import Table, normal, read_catalog, validate
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.feature_sets import columns_of


@dataclass(frozen=True)
class Search:
    """Which combos of a grid are run, and in which order.

    Attributes:
        method: `grid`, `random` or `tpe`.
        combos: How many are run: all of the grid, or the budget.
        seed: Of `random` and `tpe`.
        objective: Metric that `tpe` makes as great as it can; empty for others.
        min_trades: Fewest closed trades for it to count.
        lag: `tpe` proposes a batch from all batches but the last `lag` - 1 before it; 0 for others.
        batch: Combos that `tpe` proposes at a time; 0 for others, and in the plan of an earlier version, whose batches
            are its chunks.
    """

    method: str
    combos: int
    seed: int = 0
    objective: str = ""
    min_trades: int = 0
    lag: int = 0
    batch: int = 0


@dataclass(frozen=True)
class SweepPlan:
    """A search among the combos of a grid over one window of one venue.

    Attributes:
        strategy: Strategy that is searched.
        venue: Venue of the bars.
        interval: Length of the bars that features are made of.
        entry_interval: Interval at whose closes entries are decided; empty for `interval`.
        exit_interval: Interval at whose closes exits are decided; empty for `interval`.
        symbols: Symbols of the book, sorted.
        anchor_ms: Where features start.
        from_ms: First day that is traded.
        to_ms: End of the last day.
        slice_ms: End of the bars that were read, after the last day where a night keeps a holdout.
        data_hash: Content hash of what was read from the anchor to there: see `Bars`.
        kernels: Hash of the rules.
        initial_balance_usd: Equity that each combo starts with.
        market: Value of every market parameter by path.
        params: Value of every parameter that no axis varies, by path, and of an axis with a condition the value that it
            has where the condition fails.
        symbol_params: Values of single symbols by path; they win over `params` and axes.
        axes: Values of each axis by path, in the order in which combos are numbered: features vary slowest, then what
            decides entries, so neighbours read the same columns and enter alike.
        when: By path of an axis the values that other parameters must have for it to vary.
        search: Which of the combos are run.
        chunk_combos: Combos per result file; no file holds combos of two batches of `tpe`.
        benchmark: Symbol whose trend gives the others context; empty where no combo reads one.
    """

    strategy: str
    venue: str
    interval: str
    entry_interval: str
    exit_interval: str
    symbols: tuple[str, ...]
    anchor_ms: int
    from_ms: int
    to_ms: int
    slice_ms: int
    data_hash: str
    kernels: str
    initial_balance_usd: float
    market: Mapping[str, Value]
    params: Mapping[str, Value]
    symbol_params: Mapping[str, Mapping[str, Value]]
    axes: tuple[tuple[str, tuple[Value, ...]], ...]
    when: Mapping[str, Mapping[str, Value]]
    search: Search
    chunk_combos: int
    benchmark: str = ""

    @property
    def id(self) -> str:
        """SHA-256 of what decides the results; the size of chunks does not."""
        identity = asdict(self)
        if not self.benchmark:
            del identity["benchmark"]
        # The batch has the place that chunks had when they were the batches of `tpe`, so equal searches keep their id.
        del identity["chunk_combos"], identity["search"]["batch"]
        if self.search.method == "tpe":
            identity["chunk_combos"] = self.batch
        return files.sha256_json(identity)

    @property
    def intervals(self) -> Intervals:
        """The intervals together."""
        return Intervals(self.interval, self.entry_interval, self.exit_interval)

    @property
    def combos(self) -> int:
        """How many combos are run; their numbers are below `grid.combos`."""
        return self.search.combos

    @property
    def batch(self) -> int:
        """Number of combos that are chosen at a time: those of a batch of `tpe`, else all."""
        if self.search.method != "tpe":
            return self.combos
        return self.search.batch or self.chunk_combos

    @property
    def chunks(self) -> int:
        """Number of result files."""
        whole, rest = divmod(self.combos, self.batch)
        return whole * self.chunks_of_batch + -(-rest // self.chunk_combos)

    @property
    def chunks_of_batch(self) -> int:
        """Number of result files of a whole batch."""
        return -(-self.batch // self.chunk_combos)

    def chunk(self, index: int) -> range:
        """Places of the combos of one chunk in the order in which they are run."""
        batch, part = divmod(index, self.chunks_of_batch)
        start = batch * self.batch + part * self.chunk_combos
        return range(start, min(start + self.chunk_combos, (batch + 1) * self.batch, self.combos))

    def columns(self) -> tuple[Column, ...]:
        """Feature columns that the combos read."""
        values: dict[str, tuple[Value, ...]] = {path: (value,) for path, value in self.params.items()}
        for path, varied in self.axes:
            values[path] = tuple(dict.fromkeys((*varied, *values.get(path, ()))))
        found = set(columns_of(self.strategy, values))
        for own in self.symbol_params.values():
            found |= set(columns_of(self.strategy, values | {path: (value,) for path, value in own.items()}))
        return tuple(sorted(found))

    def axis_values(self, numbers: Ints) -> dict[str, Picked]:
        """Value of each axis for each of the combos `numbers` [K]."""
        return self.grid.values(numbers)

    def combo(self, number: int) -> dict[str, Value]:
        """Every parameter of one combo by path."""
        found = self.axis_values(np.array([number]))
        return {**self.params, **{path: of.to_list()[0] for path, of in found.items()}}

    @functools.cached_property
    def grid(self) -> Grid:
        """All combos of the axes, by number."""
        return Grid([Axis(path, values, self.when.get(path, {})) for path, values in self.axes], self.params)


def make_plan(spec: SweepSpec, bars: Bars, from_ms: int, to_ms: int) -> SweepPlan:
    """Number the combos of `spec` over the UTC days [from_ms, to_ms) of `bars`, with every default filled in.

    Raises:
        ConfigError: A parameter is unknown or its value is not allowed, or a combo reads a benchmark symbol and there
            is none or more than one.
    """
    catalog = read_catalog()
    table = catalog.strategy(spec.strategy)
    axes = numbered_axes(spec, table)
    symbols = {symbol for symbol, values in spec.symbol_params.items() if values and symbol in bars.symbols}
    varied = {axis.path for axis in axes if not axis.when}
    fixed = fixed_of(spec, table)
    return SweepPlan(
        strategy=spec.strategy,
        venue=bars.venue,
        interval=bars.interval,
        entry_interval=bars.intervals.entry,
        exit_interval=bars.intervals.exit,
        symbols=bars.symbols,
        anchor_ms=bars.anchor_ms,
        from_ms=from_ms,
        to_ms=to_ms,
        slice_ms=bars.end_ms,
        data_hash=bars.data_hash,
        kernels=source_hash(),
        initial_balance_usd=spec.initial_balance_usd,
        market=resolve(catalog.market_of(spec.strategy), spec.market),
        params={path: value for path, value in fixed.items() if path not in varied},
        symbol_params={symbol: _own(table, symbol, spec.symbol_params[symbol]) for symbol in sorted(symbols)},
        axes=tuple((axis.path, axis.values) for axis in axes),
        when={axis.path: dict(axis.when) for axis in axes if axis.when},
        search=_search(spec, Grid(axes, fixed).combos),
        chunk_combos=spec.chunk,
        benchmark=sweep_benchmark(spec, bars.symbols, catalog),
    )


def _search(spec: SweepSpec, combos: int) -> Search:
    if spec.method == "grid":
        return Search("grid", combos)
    budget = spec.budget or combos  # a spec that was checked has one
    if spec.method == "random":
        return Search("random", budget, spec.seed)
    return Search("tpe", budget, spec.seed, spec.objective, spec.min_trades, spec.lag, spec.batch_combos)


def _own(table: Table, symbol: str, values: Mapping[str, Value]) -> dict[str, Value]:
    validate(table, values, f"symbol_params.{symbol}", of_symbol=True)
    return {path: normal(table[path], value) for path, value in values.items()}


def resolved_combo(plan: SweepPlan, params: Mapping[str, Value]) -> Resolved:
    """The config that a combo of the sweep is."""
    return make_resolved(
        read_catalog(),
        strategy=plan.strategy,
        venue=plan.venue,
        interval=plan.interval,
        symbols=plan.symbols,
        initial_balance_usd=plan.initial_balance_usd,
        params=params,
        market=plan.market,
        symbol_params=plan.symbol_params,
        entry_interval=plan.entry_interval,
        exit_interval=plan.exit_interval,
        benchmark=plan.benchmark,
    )


def plan_to_dict(plan: SweepPlan) -> dict[str, Any]:
    """The plan as JSON values."""
    return asdict(plan) | {"id": plan.id, "combos": plan.combos, "chunks": plan.chunks}


def plan_from_dict(content: Any) -> SweepPlan:
    """The plan that `plan_to_dict` gave, equal in every value.

    Raises:
        DataError: It is none of this version, or its content has another id than it says.
    """
    try:
        plan = _PLAN.validate_python(content)
    except ValidationError as error:
        raise DataError(f"not the plan of a sweep of this version ({error.error_count()} problems)") from None
    if not isinstance(content, dict) or plan.id != content.get("id"):
        raise DataError(f"the content has the id {plan.id[:16]} and says another: it was changed by hand")
    if plan.chunk_combos < 1:  # which is no part of the id
        raise DataError(f"chunk_combos is {plan.chunk_combos}, and must be 1 or more: it was changed by hand")
    return plan


_PLAN = TypeAdapter(SweepPlan)
