"""The plan of a sweep: numbered combos over one window, identified by a hash of everything that decides the results."""

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
from mei_pipeline.params.grid import Axis, CodedValues, Grid
from mei_pipeline.params.identity import ResolvedConfig, resolve_config
from mei_pipeline.params.resolve import resolve
from mei_pipeline.params.table import Table, normal, read_catalog, validate
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.feature_sets import columns_of

PLAN_FORMAT = 2
"""Format of plans on disk. Plans and result files of another format are unreadable."""


@dataclass(frozen=True)
class SearchSettings:
    """The search method of a sweep and its settings.

    Attributes:
        method: `grid`, `random` or `tpe`.
        combos: Number of combos to run: all of the grid, or the budget.
        seed: Seed of `random` and `tpe`.
        objective: Metric that `tpe` maximises; empty for other methods.
        min_trades: Fewest closed trades for a combo to count.
        lag: `tpe` proposes a batch from all earlier batches except the last `lag` - 1; 0 for other methods.
        batch: Combos that `tpe` proposes at a time; 0 for other methods.
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
    """The plan of a sweep: combos of a grid over one window of one venue.

    Attributes:
        strategy: Strategy of the combos.
        venue: Venue of the bars.
        interval: Length of the bars that features are computed from.
        entry_interval: Interval at whose closes the strategy decides entries; empty if it is `interval`.
        exit_interval: Interval at whose closes the strategy decides exits; empty if it is `interval`.
        symbols: Symbols of the book, sorted.
        anchor_ms: Bar at which recursive features start.
        from_ms: Start of the first traded day.
        to_ms: End of the last traded day.
        slice_ms: End of the bars that were read. It is later than `to_ms` if a nightly run keeps a holdout.
        data_hash: Content hash of the bars from the anchor to `slice_ms`; see `Bars`.
        kernels: Hash of the kernel sources.
        initial_balance_usd: Initial equity of each combo.
        market: Value of every market parameter by path.
        params: Value of every parameter without an axis, by path. For an axis with a condition: its value where the
            condition fails.
        symbol_params: Values of single symbols by path; they override `params` and axes.
        axes: Values of each axis by path, in the order in which combos are numbered. Features vary slowest, then entry
            parameters, so that neighbours read the same columns and share signals.
        when: Condition of an axis, by its path: values that other parameters must have for the axis to vary.
        search: Search method and its settings.
        chunk_combos: Combos per result file; a file never holds combos of two batches of `tpe`.
        benchmark: Benchmark symbol; empty if no combo reads one.
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
    search: SearchSettings
    chunk_combos: int
    benchmark: str = ""

    @property
    def id(self) -> str:
        """SHA-256 of everything that decides the results; the size of chunks does not."""
        identity = asdict(self)
        # A sweep keeps its id if chunks get another size: a resumed sweep finds its folder.
        del identity["chunk_combos"]
        return files.sha256_json(identity)

    @property
    def intervals(self) -> Intervals:
        """The three intervals."""
        return Intervals(self.interval, self.entry_interval, self.exit_interval)

    @property
    def combos(self) -> int:
        """Number of combos to run; their numbers are below `grid.combos`."""
        return self.search.combos

    @property
    def batch(self) -> int:
        """Number of combos that the search method chooses at a time: a batch of `tpe`, otherwise all."""
        return self.search.batch if self.search.method == "tpe" else self.combos

    @property
    def chunks(self) -> int:
        """Number of result files."""
        batches, remainder = divmod(self.combos, self.batch)
        return batches * self.chunks_of_batch + -(-remainder // self.chunk_combos)

    @property
    def chunks_of_batch(self) -> int:
        """Number of result files of a complete batch."""
        return -(-self.batch // self.chunk_combos)

    def chunk(self, index: int) -> range:
        """Return the places of the combos of one chunk, in the order in which combos are run."""
        batch, part = divmod(index, self.chunks_of_batch)
        start = batch * self.batch + part * self.chunk_combos
        return range(start, min(start + self.chunk_combos, (batch + 1) * self.batch, self.combos))

    def columns(self) -> tuple[Column, ...]:
        """Return the feature columns that the combos read."""
        values: dict[str, tuple[Value, ...]] = {path: (value,) for path, value in self.params.items()}
        for path, varied in self.axes:
            values[path] = tuple(dict.fromkeys((*varied, *values.get(path, ()))))
        columns = set(columns_of(self.strategy, values))
        for overrides in self.symbol_params.values():
            columns |= set(columns_of(self.strategy, values | {path: (value,) for path, value in overrides.items()}))
        return tuple(sorted(columns))

    def axis_values(self, numbers: Ints) -> dict[str, CodedValues]:
        """Return the value of each axis for each of the combos `numbers` [K]."""
        return self.grid.values(numbers)

    def combo(self, number: int) -> dict[str, Value]:
        """Return every parameter of one combo by path."""
        varied = self.axis_values(np.array([number]))
        return {**self.params, **{path: coded.to_list()[0] for path, coded in varied.items()}}

    @functools.cached_property
    def grid(self) -> Grid:
        """All combos of the axes, by number."""
        return Grid([Axis(path, values, self.when.get(path, {})) for path, values in self.axes], self.params)


def make_plan(spec: SweepSpec, bars: Bars, from_ms: int, to_ms: int) -> SweepPlan:
    """Return the plan of `spec` over the UTC days [from_ms, to_ms) of `bars`, with every default resolved.

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
        symbol_params={symbol: _symbol_values(table, symbol, spec.symbol_params[symbol]) for symbol in sorted(symbols)},
        axes=tuple((axis.path, axis.values) for axis in axes),
        when={axis.path: dict(axis.when) for axis in axes if axis.when},
        search=_search(spec, Grid(axes, fixed).combos),
        chunk_combos=spec.chunk,
        benchmark=sweep_benchmark(spec, bars.symbols, catalog),
    )


def _search(spec: SweepSpec, combos: int) -> SearchSettings:
    if spec.method == "grid":
        return SearchSettings("grid", combos)
    budget = spec.budget or combos  # `SweepSpec` requires a budget for these methods
    if spec.method == "random":
        return SearchSettings("random", budget, spec.seed)
    return SearchSettings("tpe", budget, spec.seed, spec.objective, spec.min_trades, spec.lag, spec.batch_combos)


def _symbol_values(table: Table, symbol: str, values: Mapping[str, Value]) -> dict[str, Value]:
    validate(table, values, f"symbol_params.{symbol}", of_symbol=True)
    return {path: normal(table[path], value) for path, value in values.items()}


def resolved_combo(plan: SweepPlan, params: Mapping[str, Value]) -> ResolvedConfig:
    """Return the resolved config of a combo of the sweep."""
    return resolve_config(
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
    """Return the plan as JSON values."""
    return {"format": PLAN_FORMAT} | asdict(plan) | {"id": plan.id, "combos": plan.combos, "chunks": plan.chunks}


def plan_from_dict(content: Any) -> SweepPlan:
    """Return the plan that `plan_to_dict` wrote, equal in every value.

    Raises:
        DataError: The plan has another format or is damaged, or its content does not match its id.
    """
    if not isinstance(content, dict):
        raise DataError("not a plan of a sweep")
    # Format 1 had no number.
    if (written := content.get("format", 1)) != PLAN_FORMAT:
        raise DataError(f"sweep of another version of MEI: its format is {written}, this version reads {PLAN_FORMAT}")
    try:
        plan = _PLAN.validate_python(content)
    except ValidationError as error:
        raise DataError(f"damaged plan of a sweep: {error.error_count()} wrong values") from None
    if plan.id != content.get("id"):
        raise DataError(f"changed by hand: its content has the id {plan.id[:16]}, its key `id` has another")
    if plan.chunk_combos < 1:  # the id does not cover it
        raise DataError(f"changed by hand: chunk_combos is {plan.chunk_combos}, at least 1 is allowed")
    return plan


_PLAN = TypeAdapter(SweepPlan)
