"""Arrays of the CUDA kernels: names, memory layout, and their form as kernel arguments.

Values that neighbouring threads of a warp read together are adjacent: scratch and lists of symbols run along combos
(order `F`). Positions are records by combo, because threads rarely read the same symbol at the same time; the first
fields of a record share the sectors that the device fetches at once. Accounts and parameters are copied to a thread's
own memory (`threads.advance`).
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numba
import numpy as np
from numba import types
from numba.core.datamodel.registry import default_manager

from kernels.blocks import BLOCKS
from kernels.book import BAR, STEP, position_dtype
from kernels.ledger import ACCOUNT
from kernels.market import MODEL, SYMBOL, Ints, Market
from kernels.params import SIGNAL_ROLES, record_of

Order = Literal["C", "F"]

KERNELS = ("start", "signals", "idle", "advance")

SCALARS = {"usd": types.float64, "first": types.int64, "count": types.int64, "version": types.int64}
"""Scalar arguments."""

COMBOS = ("column_of", "signal_params", "signal_group_of", "params")
"""Arrays with the parameters of the combos of a batch."""

STATE = ("accounts", "days", "positions", "active", "candidates", "ranks", "verdict")
"""Arrays with the state of the combos of a batch."""

TILE = ("bars", "steps", "codes", "signal_symbols")
"""Arrays of the current tile of steps."""

RESULTS = ("accounts", "days")
"""Arrays that are copied back to the host."""

_ALIGNMENT = 256  # bytes: every array begins at a multiple, as separate allocations do

_INTS, _FLOATS = np.dtype(np.int64), np.dtype(np.float64)
_BY_VERSION = ("lots", "min_notional_usd", "max_leverage", "maintenance_frac", "last")
_SINGLE = ("benchmark", "minutes")
_GRID = ("open", "high", "low", "close", "last_price", "age", "funding")


@dataclass(frozen=True)
class LayoutSizes:
    """Lengths of the axes of all arrays.

    Attributes:
        combos: K, combos of the batch.
        signal_groups: E, signal groups of the batch.
        tile: Steps per tile.
        symbols: S.
        groups: G, symbol groups.
        features: F, features of the strategy.
        columns: C, feature columns.
        main_bars: R, main bars.
        steps: T, steps of the market.
        versions: V, versions of the venue's terms.
    """

    combos: int
    signal_groups: int
    tile: int
    symbols: int
    groups: int
    features: int
    columns: int = 1
    main_bars: int = 1
    steps: int = 1
    versions: int = 1


class ArrayLayout(NamedTuple):
    """Layout of an array: dtype, shape, and order of the axes in memory."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: Order = "C"

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        """Distance from one index to the next in bytes, by axis."""
        distances: list[int] = []
        fastest_first = self.shape[::-1] if self.order == "C" else self.shape
        distance = self.dtype.itemsize
        for length in fastest_first:
            distances.append(distance)
            distance *= length
        return tuple(distances[::-1] if self.order == "C" else distances)

    @property
    def type(self) -> Any:
        """Type in numba."""
        return types.Array(numba.from_dtype(self.dtype), len(self.shape), self.order)


def market_arrays(sizes: LayoutSizes) -> dict[str, ArrayLayout]:
    """Return the arrays of `Market`, by the name `market.<field>`."""
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(_GRID, (sizes.steps, sizes.symbols))
    shapes |= dict.fromkeys(_BY_VERSION, (sizes.versions, sizes.symbols))
    shapes |= dict.fromkeys(_SINGLE, (1,)) | {"symbol_group": (sizes.symbols,), "since": (sizes.versions,)}
    kinds = Market.__annotations__
    return {
        f"market.{name}": ArrayLayout(_INTS if kinds[name] == Ints else _FLOATS, shapes.get(name, (sizes.steps,)))
        for name in Market._fields
    }


def batch_arrays(strategy: ModuleType, sizes: LayoutSizes) -> dict[str, ArrayLayout]:
    """Return the arrays `COMBOS`, `STATE` and `TILE` of a batch, by name."""
    combos, signal_groups, tile, symbols = sizes.combos, sizes.signal_groups, sizes.tile, sizes.symbols
    signal_record = record_of(each for each in strategy.PARAMETERS if each.role in SIGNAL_ROLES)
    return {
        "column_of": ArrayLayout(_INTS, (signal_groups, sizes.groups, sizes.features)),
        "signal_params": ArrayLayout(signal_record, (signal_groups, sizes.groups)),
        "signal_group_of": ArrayLayout(_INTS, (combos,)),
        "params": ArrayLayout(record_of(strategy.PARAMETERS), (combos, sizes.groups)),
        # The arrays of `RESULTS` are adjacent, so that one copy brings them back.
        "accounts": ArrayLayout(ACCOUNT, (combos,)),
        "days": ArrayLayout(_FLOATS, (BLOCKS, 3, combos)),
        "positions": ArrayLayout(position_dtype(getattr(strategy, "MEMORY", ())), (combos, symbols)),
        "active": ArrayLayout(_INTS, (combos, symbols), "F"),
        "candidates": ArrayLayout(_INTS, (combos, symbols), "F"),
        "ranks": ArrayLayout(_FLOATS, (combos, symbols), "F"),
        "verdict": ArrayLayout(np.dtype(np.int8), (combos, symbols), "F"),
        "bars": ArrayLayout(BAR, (tile, symbols)),
        "steps": ArrayLayout(STEP, (signal_groups, tile)),
        "codes": ArrayLayout(np.dtype(np.int8), (signal_groups, tile, symbols)),
        "signal_symbols": ArrayLayout(np.dtype(np.int16), (signal_groups, tile, symbols)),
    }


def all_arrays(strategy: ModuleType, sizes: LayoutSizes) -> dict[str, ArrayLayout]:
    """Return every array that a kernel may take, by name."""
    return {
        **market_arrays(sizes),
        "symbols": ArrayLayout(SYMBOL, (sizes.versions, sizes.symbols)),
        "models": ArrayLayout(MODEL, (1,)),
        "columns": ArrayLayout(_FLOATS, (sizes.columns, sizes.main_bars, sizes.symbols)),
        **batch_arrays(strategy, sizes),
    }


def offsets_of(arrays: Mapping[str, ArrayLayout]) -> tuple[dict[str, int], int]:
    """Return the offset of each array in one block of memory for all of them, and the size of the block, in bytes."""
    offsets, end = {}, 0
    for name, array in arrays.items():
        offsets[name] = end
        end += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    return offsets, end


class OpenedBook(NamedTuple):
    """The part of a book that `open_books` writes.

    It is not defined in `threads`, because numba stores its type on disk by module name, and the modules that
    `build.bind` makes of `threads` can't be imported.
    """

    accounts: Any
    positions: Any
    days: Any


class KernelArgument(NamedTuple):
    """Argument of a kernel, as described in a manifest.

    Attributes:
        name: Name of an array, a field of the market or a scalar.
        dtype: Type of numbers, or name, offset and type of every field of records.
        order: Order of the axes of an array in memory; empty for a scalar.
        words: Words of 8 bytes that the kernel receives: `shape.1` is the length of the second axis.
    """

    name: str
    dtype: str
    order: str
    words: tuple[str, ...]


def arguments_of(kernel: Callable[..., Any], strategy: ModuleType) -> list[KernelArgument]:
    """Return the arguments of a kernel in order; numba passes an array as the fields of its data model."""
    arrays = all_arrays(strategy, LayoutSizes(1, 1, 1, 1, 1, 1))
    arguments = []
    for name in inspect.signature(kernel).parameters:
        if name in SCALARS:
            arguments.append(KernelArgument(name, str(SCALARS[name]), "", ("value",)))
            continue
        for each in [f"market.{field}" for field in Market._fields] if name == "market" else [name]:
            array = arrays[each]
            arguments.append(KernelArgument(each, describe_dtype(array.dtype), array.order, words_of(array.type)))
    return arguments


def types_of(kernel: Callable[..., Any], strategy: ModuleType) -> tuple[Any, ...]:
    """Return the signature of a kernel."""
    arrays = all_arrays(strategy, LayoutSizes(1, 1, 1, 1, 1, 1))
    fields = tuple(arrays[f"market.{field}"].type for field in Market._fields)
    market = types.NamedTuple(fields, Market)  # type: ignore[no-untyped-call]  # numba is untyped here
    scalars_and_market = {**SCALARS, "market": market}
    return tuple(scalars_and_market.get(name) or arrays[name].type for name in inspect.signature(kernel).parameters)


def words_of(array: Any) -> tuple[str, ...]:
    """Return the fields of numba's data model of an array type, one per word of 8 bytes."""
    model = default_manager[array]
    words: list[str] = []
    for name, member in zip(model._fields, model._members, strict=True):  # noqa: SLF001 - numba has no public way
        words += [f"{name}.{i}" for i in range(len(member))] if isinstance(member, types.UniTuple) else [name]
    return tuple(words)


def describe_dtype(dtype: np.dtype[Any]) -> str:
    """Return a description of a dtype in one line; equal lines mean equal memory layouts."""
    if dtype.fields is None:
        return dtype.str
    fields = (f"{name}@{offset}{kind.str}" for name, (kind, offset, *_) in dtype.fields.items())
    return f"{dtype.itemsize}: {' '.join(fields)}"


def pack_array(words: Iterable[str], array: ArrayLayout, pointer: int) -> list[np.int64]:
    """Return the words that a kernel receives for an array at the address `pointer`.

    Raises:
        KeyError: A word is unknown.
    """
    values = {
        "meminfo": 0,
        "parent": 0,
        "nitems": int(np.prod(array.shape, dtype=np.int64)),
        "itemsize": array.dtype.itemsize,
        "data": pointer,
        **{f"shape.{axis}": length for axis, length in enumerate(array.shape)},
        **{f"strides.{axis}": distance for axis, distance in enumerate(array.strides)},
    }
    return [np.int64(values[word]) for word in words]
