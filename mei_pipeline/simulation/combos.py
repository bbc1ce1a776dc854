"""Combos of a strategy, encoded as records for the kernels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.market import Floats, Ints, Market
from kernels.params import SIGNAL_ROLES, Parameter, Value, record_of
from kernels.strategies import load
from mei_pipeline.params.grid import CodedValues
from mei_pipeline.simulation.feature_sets import FeatureSet

SymbolParams = Mapping[str, Mapping[str, Value]]
"""Values of single symbols, by symbol and path."""


@dataclass(frozen=True)
class Combos:
    """Encoded parameters of K combos of one strategy, for G symbol groups.

    A symbol group is a set of symbols with the same parameter values. Combos in the same signal group share all
    parameters that shape signals, so their signals are computed once.

    Attributes:
        strategy: Name of the strategy.
        params: [K, G] records of all parameters.
        signal_params: [E, G] records of the parameters that shape signals, one row per signal group; the groups are in
            the order in which the combos first have them.
        signal_group_of: [K] signal group of each combo.
        column_of: [E, G, F] feature column of each signal group, symbol group and feature.
        symbol_group: [S] symbol group of each symbol; 0 is the base.
        benchmark: [1] index of the benchmark symbol; -1 if none is read.
    """

    strategy: str
    params: NDArray[np.record]
    signal_params: NDArray[np.record]
    signal_group_of: Ints
    column_of: Ints
    symbol_group: Ints
    benchmark: Ints

    def __len__(self) -> int:
        return len(self.signal_group_of)

    def apply_to(self, market: Market) -> Market:
        """Return the market with the symbol groups and the benchmark of these combos."""
        return market._replace(symbol_group=self.symbol_group, benchmark=self.benchmark)

    def take(self, which: Ints) -> "Combos":
        """Return the combos of these numbers, in their order."""
        return replace(self, params=self.params[which], signal_group_of=self.signal_group_of[which])


def encode_combos(
    strategy: str,
    features: FeatureSet,
    params: Mapping[str, CodedValues | Value],
    count: int,
    symbols: tuple[str, ...],
    symbol_params: SymbolParams | None = None,
    *,
    benchmark: str,
) -> Combos:
    """Encode `count` combos.

    Args:
        strategy: Name of the strategy.
        features: Columns for every window that the combos use.
        params: Value of each parameter by path: one value for all combos, or one per combo.
        count: Number of combos.
        symbols: Symbols of the market, in its order.
        symbol_params: Values of single symbols, which replace those of `params`.
        benchmark: Benchmark symbol, one of `symbols`; empty if the combos read none.
    """
    table: tuple[Parameter, ...] = load(strategy).PARAMETERS
    groups, symbol_group = _symbol_groups(symbols, symbol_params or {})
    encoded = _encode_values(table, groups, params, count)
    shaping = [index for index, parameter in enumerate(table) if parameter.role in SIGNAL_ROLES]
    flat = encoded[:, shaping].transpose(2, 0, 1).reshape(count, -1)
    first, signal_group_of = _signal_groups(flat)
    values = flat[first].reshape(len(first), len(groups), len(shaping))
    windows = [
        {
            table[index].path: values[:, g, place].astype(np.int64)
            for place, index in enumerate(shaping)
            if table[index].role == "feature"
        }
        for g in range(len(groups))
    ]
    numbers = np.stack([features.column_numbers(strategy, by_path) for by_path in windows])
    # Without window parameters there is a single column of numbers, shared by all signal groups.
    column_of = np.broadcast_to(numbers.transpose(2, 0, 1), (len(values), len(groups), numbers.shape[1]))
    return Combos(
        strategy=strategy,
        params=_records(table, encoded.transpose(2, 0, 1)),
        signal_params=_records([table[index] for index in shaping], values),
        signal_group_of=signal_group_of,
        column_of=np.array(column_of, order="C"),
        symbol_group=symbol_group,
        benchmark=np.array([symbols.index(benchmark) if benchmark else -1], dtype=np.int64),
    )


def _symbol_groups(symbols: Sequence[str], symbol_params: SymbolParams) -> tuple[list[dict[str, Value]], Ints]:
    """Return the own values of each symbol group, those of the base (none) first, and [S] the group of each symbol."""
    own = {name: dict(values) for name, values in symbol_params.items() if values}
    groups: list[dict[str, Value]] = [{}]
    for values in own.values():
        if values not in groups:
            groups.append(values)
    return groups, np.array([groups.index(own.get(name, {})) for name in symbols], dtype=np.int64)


def _encode_values(
    table: Sequence[Parameter],
    groups: Sequence[Mapping[str, Value]],
    params: Mapping[str, CodedValues | Value],
    count: int,
) -> Floats:
    """Return the encoded values, [G, parameters, K]."""
    encoded = np.empty((len(groups), len(table), count))
    for g, values in enumerate(groups):
        for index, parameter in enumerate(table):
            value = values.get(parameter.path, params[parameter.path])
            if isinstance(value, CodedValues):
                encoded[g, index] = np.array([parameter.encode(each) for each in value.values])[value.codes]
            else:
                encoded[g, index] = parameter.encode(value)
    return encoded


def _signal_groups(values: Floats) -> tuple[Ints, Ints]:
    """Return the first combo of each distinct row of `values` [K, ...], and [K] the row of each combo."""
    # Only columns that differ tell combos apart, and short rows sort many times faster.
    differs = (values != values[:1]).any(axis=0)
    differs[:1] = True
    _, first, group_of = np.unique(values[:, differs], axis=0, return_index=True, return_inverse=True)
    # Signal groups are numbered in order of appearance. The combos of a grid are then already in order of their group,
    # so neither the combos nor their results need sorting.
    appearance = np.argsort(first)
    return first[appearance], np.argsort(appearance)[group_of.reshape(-1)].astype(np.int64)


def _records(table: Any, values: Floats) -> NDArray[np.record]:
    """Return values [..., parameters] as records."""
    return np.ascontiguousarray(values).view(record_of(table))[..., 0]
