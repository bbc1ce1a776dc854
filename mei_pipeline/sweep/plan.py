"""What a sweep will do, decided before it does anything: every combo has a number, and equal plans have equal ids."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kernels.cache import source_hash
from kernels.features import Column
from kernels.params import Value
from mei_pipeline import files
from mei_pipeline.config.models import SweepSpec
from mei_pipeline.features import columns_of
from mei_pipeline.market import Bars
from mei_pipeline.params.resolve import resolve
from mei_pipeline.params.table import normal, read_catalog


@dataclass(frozen=True)
class SweepPlan:
    """A grid of combos over one window of one venue.

    Attributes:
        strategy: Strategy that is searched.
        venue: Venue of the bars.
        interval: Length of the bars.
        symbols: Symbols of the book, sorted.
        anchor_ms: Where features start.
        from_ms: First day that is traded.
        to_ms: End of the last day.
        data_hash: Content hash of the bars from the anchor to the end of the slice.
        kernels: Hash of the rules.
        initial_balance_usd: Equity that each combo starts with.
        market: Value of every market parameter by path.
        params: Value of every parameter that no axis varies, by path.
        axes: Values of each axis by path, in the order in which combos are numbered: feature windows vary slowest, so
            neighbours read the same columns.
        chunk_combos: Combos per result file.
    """

    strategy: str
    venue: str
    interval: str
    symbols: tuple[str, ...]
    anchor_ms: int
    from_ms: int
    to_ms: int
    data_hash: str
    kernels: str
    initial_balance_usd: float
    market: Mapping[str, Value]
    params: Mapping[str, Value]
    axes: tuple[tuple[str, tuple[Value, ...]], ...]
    chunk_combos: int

    @property
    def id(self) -> str:
        """SHA-256 of what decides the results; the size of chunks does not."""
        identity = asdict(self)
        del identity["chunk_combos"]
        return files.sha256_json(identity)

    @property
    def combos(self) -> int:
        """Number of combos."""
        return math.prod(len(values) for _, values in self.axes)

    @property
    def chunks(self) -> int:
        """Number of result files."""
        return -(-self.combos // self.chunk_combos)

    def chunk(self, index: int) -> range:
        """Numbers of the combos of one chunk."""
        start = index * self.chunk_combos
        return range(start, min(start + self.chunk_combos, self.combos))

    def columns(self) -> tuple[Column, ...]:
        """Feature columns that the combos read."""
        values = {path: (value,) for path, value in self.params.items()} | dict(self.axes)
        return columns_of(self.strategy, values)

    def axis_values(self, numbers: range) -> dict[str, list[Value]]:
        """Value of each axis for each of the combos `numbers`."""
        shape = tuple(len(values) for _, values in self.axes)
        digits = np.unravel_index(np.arange(numbers.start, numbers.stop), shape)
        return {path: [values[i] for i in digit] for (path, values), digit in zip(self.axes, digits, strict=True)}

    def combo(self, number: int) -> dict[str, Value]:
        """Every parameter of one combo by path."""
        varied = {path: values[0] for path, values in self.axis_values(range(number, number + 1)).items()}
        return {**self.params, **varied}


def make_plan(spec: SweepSpec, bars: Bars, from_ms: int, to_ms: int) -> SweepPlan:
    """Number the combos of `spec` over the UTC days [from_ms, to_ms) of `bars`, with every default filled in.

    Raises:
        ConfigError: A parameter is unknown or its value is not allowed.
    """
    catalog = read_catalog()
    table = catalog.strategy(spec.strategy)
    fixed = resolve(table, spec.params)
    slow_first = sorted(spec.axes, key=lambda path: table[path].role != "feature")
    axes = {path: tuple(normal(table[path], value) for value in spec.axis_values(path)) for path in slow_first}
    return SweepPlan(
        strategy=spec.strategy,
        venue=bars.venue,
        interval=bars.interval,
        symbols=bars.symbols,
        anchor_ms=bars.anchor_ms,
        from_ms=from_ms,
        to_ms=to_ms,
        data_hash=bars.data_hash,
        kernels=source_hash(),
        initial_balance_usd=spec.initial_balance_usd,
        market=resolve(catalog.market, spec.market),
        params={path: value for path, value in fixed.items() if path not in axes},
        axes=tuple(axes.items()),
        chunk_combos=spec.chunk_combos,
    )


def plan_to_dict(plan: SweepPlan) -> dict[str, Any]:
    """The plan as JSON values."""
    return asdict(plan) | {"id": plan.id, "combos": plan.combos, "chunks": plan.chunks}
