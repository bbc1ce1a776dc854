"""Checks that need more than one file: names that must exist elsewhere, values that the parameter tables bound."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mei_pipeline.config.base import MARKET
from mei_pipeline.config.models import LaneConfig, Overrides, PipelineConfig, PolicyConfig, Range, SweepSpec
from mei_pipeline.config.nodes import Keys
from mei_pipeline.config.reader import Document
from mei_pipeline.params.paths import closest
from mei_pipeline.params.table import Catalog, Table, problems

MAX_COMBOS = 2**31 - 1


@dataclass(frozen=True)
class Files:
    """The files as they were read; None for one that has problems of its own."""

    pipeline: Document[PipelineConfig] | None
    policy: Document[PolicyConfig] | None
    overrides: Document[Overrides] | None
    sweeps: Mapping[str, Document[SweepSpec] | None]
    lanes: Mapping[str, Document[LaneConfig] | None]
    sweeps_folder: Path


def check(files: Files, catalog: Catalog) -> Iterator[str]:
    """One line for everything that contradicts another file or the parameter tables."""
    sweeps = [document for document in files.sweeps.values() if document]
    if files.pipeline:
        yield from _profiles(files.pipeline, files)
        yield from _venues(files.pipeline, [*sweeps, *(lane for lane in files.lanes.values() if lane)])
    for sweep in sweeps:
        yield from check_sweep(sweep, catalog)
    if files.overrides:
        yield from _overrides(files.overrides, catalog, files.pipeline)


def check_sweep(document: Document[SweepSpec], catalog: Catalog) -> Iterator[str]:
    """What the parameter tables say about one sweep."""
    spec = document.model
    if spec.strategy not in catalog.strategies:
        yield document.problem(("strategy",), f"{spec.strategy!r}: {catalog.unknown_strategy(spec.strategy)}")
        return
    table = catalog.strategies[spec.strategy]
    found: dict[Keys, str] = {}
    for path, text in problems(catalog.market, spec.market).items():
        found["market", path.removeprefix(MARKET)] = text
    for path, text in problems(table, spec.params).items():
        misplaced = "a market parameter; it belongs under `market`, without the leading `market.`"
        found["params", path] = misplaced if path in catalog.market else text
    for path in spec.axes:
        found |= _axis(spec, path, table, catalog.market)
    combos = math.prod(len(spec.axis_values(path)) for path in spec.axes)
    if combos > MAX_COMBOS:
        found["axes",] = f"{combos:,} combos; at most {MAX_COMBOS:,}"
    for keys, text in found.items():
        yield document.problem(keys, text)


def _axis(spec: SweepSpec, path: str, table: Table, market: Table) -> dict[Keys, str]:
    keys: Keys = ("axes", path)
    if path in market:
        return {keys: "a market parameter; it is assumed, not searched: give it one value under `market`"}
    if path not in table:
        return {keys: problems(table, {path: 0})[path]}
    if path in spec.params:
        return {keys: "also given under `params`; keep one"}
    axis = spec.axes[path]
    if isinstance(axis, Range) and table[path].role == "feature":
        return {keys: f"a feature window is a list of values, such as {list(axis.values[:3])}, not a range"}
    found: dict[Keys, str] = {}
    for index, value in enumerate(spec.axis_values(path)):
        if text := table[path].problem(value):
            found[keys if isinstance(axis, Range) else (*keys, index)] = text
    return found


def _profiles(pipeline: Document[PipelineConfig], files: Files) -> Iterator[str]:
    for name, profile in pipeline.model.profiles.items():
        keys = ("profiles", name, "sweep")
        if profile.sweep not in files.sweeps:
            known = f"known: {', '.join(files.sweeps)}" if files.sweeps else "there are none"
            missing = f"{profile.sweep!r}: no {files.sweeps_folder / profile.sweep}.yaml; "
            yield pipeline.problem(keys, f"{missing}{closest(profile.sweep, files.sweeps)}{known}")
            continue
        sweep = files.sweeps[profile.sweep]
        if sweep and sweep.model.interval not in pipeline.model.intervals:
            listed = ", ".join(pipeline.model.intervals)
            text = f"{sweep.model.interval!r} is not among the intervals of {pipeline.path.name}: {listed}"
            yield sweep.problem(("interval",), text)


def _venues(
    pipeline: Document[PipelineConfig], documents: Iterable[Document[SweepSpec] | Document[LaneConfig]]
) -> Iterator[str]:
    known = pipeline.model.venues
    for document in documents:
        venue = document.model.venue
        if venue is not None and venue not in known:
            text = (
                f"{venue!r}: {pipeline.path.name} knows no such venue; {closest(venue, known)}known: {', '.join(known)}"
            )
            yield document.problem(("venue",), text)


def _overrides(
    document: Document[Overrides], catalog: Catalog, pipeline: Document[PipelineConfig] | None
) -> Iterator[str]:
    overrides = document.model
    if overrides.strategy is None:
        return
    if overrides.strategy not in catalog.strategies:
        yield document.problem(("strategy",), f"{overrides.strategy!r}: {catalog.unknown_strategy(overrides.strategy)}")
        return
    table = catalog.strategies[overrides.strategy]
    for keys, values in overrides.sections():
        for path, text in problems(table, values).items():
            yield document.problem((*keys, path), text)
    universe = pipeline.model.universe if pipeline else "all"
    for symbol in overrides.symbols:
        if universe != "all" and symbol not in universe:
            yield document.problem(
                ("symbols", symbol), f"not in the universe; {closest(symbol, universe)}".rstrip("; ")
            )
