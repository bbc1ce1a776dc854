"""The benchmark symbol of a search."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mei_pipeline.config.axes import fixed_of
from mei_pipeline.config.models import SweepSpec
from mei_pipeline.params.benchmark import needed_benchmark, switches_on
from mei_pipeline.params.table import Catalog

if TYPE_CHECKING:
    from kernels.params import Value


def sweep_benchmark(spec: SweepSpec, symbols: Sequence[str], catalog: Catalog) -> str:
    """Return the benchmark that combos of a search read; empty if none of them reads one.

    Args:
        spec: The search, checked against the parameter tables.
        symbols: Symbols of the book.
        catalog: The parameter tables.

    Raises:
        ConfigError: A combo reads a benchmark, and there is none among the symbols or more than one.
    """
    fixed = fixed_of(spec, catalog.strategy(spec.strategy))
    values: dict[str, tuple[Value, ...]] = {path: (value,) for path, value in fixed.items()}
    for path in spec.axes:
        values[path] = (*spec.axis_values(path), *(values[path] if spec.when(path) else ()))
    for symbol, own in spec.symbol_params.items():
        if symbol in symbols:
            values |= {path: (*values[path], value) for path, value in own.items()}
    return needed_benchmark(spec.benchmark, symbols, switches_on(catalog, spec.strategy, values))
