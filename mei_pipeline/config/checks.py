"""Checks across files: names that must exist in another file, and limits of the parameter tables."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mei_pipeline.config.axes import axes_of, fixed_of, grid_of
from mei_pipeline.config.benchmark import sweep_benchmark
from mei_pipeline.config.document import Document
from mei_pipeline.config.fields import MARKET
from mei_pipeline.config.models import (
    AxisList,
    AxisRange,
    LaneConfig,
    Overrides,
    PipelineConfig,
    PolicyConfig,
    SweepSpec,
)
from mei_pipeline.config.venues import check_venues
from mei_pipeline.config.yaml_marks import Keys
from mei_pipeline.errors import ConfigError
from mei_pipeline.params.grid import condition_problems
from mei_pipeline.params.paths import closest
from mei_pipeline.params.table import Catalog, Table, problems

MAX_COMBOS = 2**31 - 1
"""Most combos that are run."""
MAX_GRID = 2**62
"""Most combos of a grid from which some are chosen: their numbers are 64-bit integers."""
_MISPLACED = "a market parameter; it belongs under `market`, without the leading `market.`"


@dataclass(frozen=True)
class Files:
    """The parsed files; None for a file with errors of its own."""

    pipeline: Document[PipelineConfig] | None
    policy: Document[PolicyConfig] | None
    overrides: Document[Overrides] | None
    sweeps: Mapping[str, Document[SweepSpec] | None]
    lanes: Mapping[str, Document[LaneConfig] | None]
    sweeps_folder: Path


def check(files: Files, catalog: Catalog) -> Iterator[str]:
    """Yield a line for each conflict with another file or with the parameter tables."""
    sweeps = [document for document in files.sweeps.values() if document]
    if files.pipeline:
        yield from _profiles(files.pipeline, files)
        yield from check_venues(files.pipeline, [*sweeps, *(lane for lane in files.lanes.values() if lane)])
    for sweep in sweeps:
        found = list(check_sweep(sweep, catalog))
        yield from found or _benchmark(sweep, catalog, files.pipeline)
        own = {symbol: ("symbol_params", symbol) for symbol in sweep.model.symbol_params}
        yield from _unused_symbols(sweep, own, files.pipeline)
    if files.overrides:
        yield from _overrides(files.overrides, catalog, files.pipeline)


def check_sweep(document: Document[SweepSpec], catalog: Catalog) -> Iterator[str]:
    """Yield the conflicts of one sweep with the parameter tables."""
    spec = document.model
    if spec.strategy not in catalog.strategies:
        yield document.problem(("strategy",), f"{spec.strategy!r}: {catalog.unknown_strategy(spec.strategy)}")
        return
    table, market = catalog.strategies[spec.strategy], catalog.market_of(spec.strategy)
    found: dict[Keys, str] = {}
    for path, text in problems(market, spec.market).items():
        found["market", path.removeprefix(MARKET)] = text
    for path, text in problems(table, spec.params).items():
        found["params", path] = _MISPLACED if path in market else text
    for symbol, values in spec.symbol_params.items():
        for path, text in problems(table, values, of_symbol=True).items():
            found["symbol_params", symbol, path] = _MISPLACED if path in market else text
    for path in spec.axes:
        found |= _axis(spec, path, table, market)
    found |= _condition_problems(spec, table, sound=not found)
    for keys, text in found.items():
        yield document.problem(keys, text)


def _axis(spec: SweepSpec, path: str, table: Table, market: Table) -> dict[Keys, str]:
    keys: Keys = ("axes", path)
    if path in market:
        return {keys: "a market parameter; it is assumed, not searched: give it one value under `market`"}
    if path not in table:
        return {keys: problems(table, {path: 0})[path]}
    if path in spec.params and not spec.when(path):
        return {keys: "also given under `params`; keep one"}
    axis = spec.axes[path]
    if isinstance(axis, AxisRange) and table[path].role == "feature":
        return {keys: f"a feature window is a list of values, such as {list(axis.values[:3])}, not a range"}
    found: dict[Keys, str] = {}
    place: Keys = (*keys, "values") if isinstance(axis, AxisList) else keys
    for index, value in enumerate(spec.axis_values(path)):
        if text := table[path].problem(value):
            found[keys if isinstance(axis, AxisRange) else (*place, index)] = text
    for name, text in problems(table, spec.when(path)).items():
        found[*keys, "when", name] = "a market parameter; it is the same for every combo" if name in market else text
    return found


def _condition_problems(spec: SweepSpec, table: Table, *, sound: bool) -> dict[Keys, str]:
    """Yield the problems of the conditions and of the number of combos."""
    keys: Keys = ("axes",)
    if sound and any(map(spec.when, spec.axes)):
        try:
            found = condition_problems(axes_of(spec, table), fixed_of(spec, table))
            combos = 0 if found else grid_of(spec, table).combos
        except ConfigError as error:
            return {keys: str(error)}
        if found:
            return {(*keys, path, "when", name): text for (path, name), text in found.items()}
    else:
        combos = math.prod(len(spec.axis_values(path)) for path in spec.axes)
    return _combo_count_problems(spec, combos)


def _combo_count_problems(spec: SweepSpec, combos: int) -> dict[Keys, str]:
    """Yield the problem of a method with the number of combos of the grid."""
    if spec.method == "grid" and combos > MAX_COMBOS:
        return {("axes",): f"{combos:,} combos; at most {MAX_COMBOS:,}; method random or tpe runs some of them"}
    if combos > MAX_GRID:
        return {("axes",): f"{combos:,} combos to choose from; at most {MAX_GRID:,}: take fewer axes or values"}
    if spec.budget is not None and spec.budget > combos:
        return {("budget",): f"{spec.budget:,} is more than the {combos:,} combos of the axes; at most so many"}
    return {}


def _profiles(pipeline: Document[PipelineConfig], files: Files) -> Iterator[str]:
    for name, profile in pipeline.model.profiles.items():
        keys = ("profiles", name, "sweep")
        if profile.sweep not in files.sweeps:
            known = f"known: {', '.join(files.sweeps)}" if files.sweeps else "there are none"
            missing = f"{profile.sweep!r}: no {files.sweeps_folder / profile.sweep}.yaml; "
            yield pipeline.problem(keys, f"{missing}{closest(profile.sweep, files.sweeps)}{known}")
            continue
        sweep = files.sweeps[profile.sweep]
        if sweep:
            yield from _intervals(pipeline, sweep)


def _intervals(pipeline: Document[PipelineConfig], sweep: Document[SweepSpec]) -> Iterator[str]:
    """Yield the intervals that a nightly run reads and no ingest fetches."""
    spec = sweep.model
    fetched = pipeline.model.intervals
    for key, name in (
        ("interval", spec.interval),
        ("entry_interval", spec.entry_interval),
        ("exit_interval", spec.exit_interval),
    ):
        if name in spec.intervals.read and name not in fetched:
            text = f"{name!r} is not among the intervals of {pipeline.path.name}: {', '.join(fetched)}"
            yield sweep.problem((key,), text)


def _benchmark(
    sweep: Document[SweepSpec], catalog: Catalog, pipeline: Document[PipelineConfig] | None
) -> Iterator[str]:
    """Yield a missing benchmark symbol of a sweep. With `universe: all` the symbols are unknown here."""
    universe = pipeline.model.universe if pipeline else "all"
    if universe != "all":
        try:
            sweep_benchmark(sweep.model, universe, catalog)
        except ConfigError as error:
            yield sweep.problem(("benchmark",), str(error).removeprefix("benchmark: "))


def _overrides(
    document: Document[Overrides], catalog: Catalog, pipeline: Document[PipelineConfig] | None
) -> Iterator[str]:
    overrides = document.model
    named: dict[str, Keys] = {
        symbol: ("promoted", "exclude", number) for number, symbol in enumerate(overrides.promoted.exclude)
    }
    yield from _unused_symbols(document, named, pipeline)
    if overrides.strategy is None:
        return
    if overrides.strategy not in catalog.strategies:
        yield document.problem(("strategy",), f"{overrides.strategy!r}: {catalog.unknown_strategy(overrides.strategy)}")
        return
    table = catalog.strategies[overrides.strategy]
    for keys, values in overrides.sections():
        for path, text in problems(table, values, of_symbol=keys[0] == "symbols").items():
            yield document.problem((*keys, path), text)
    yield from _unused_symbols(document, {symbol: ("symbols", symbol) for symbol in overrides.symbols}, pipeline)


def _unused_symbols(
    document: Document[Overrides] | Document[SweepSpec],
    symbols: Mapping[str, Keys],
    pipeline: Document[PipelineConfig] | None,
) -> Iterator[str]:
    """Yield the symbols, given with their places in a file, that no nightly run uses."""
    universe = pipeline.model.universe if pipeline else "all"
    for symbol, keys in symbols.items():
        if universe != "all" and symbol not in universe:
            yield document.problem(keys, f"not in the universe; {closest(symbol, universe)}".rstrip("; "))
