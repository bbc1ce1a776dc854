"""The arrays that the kernels work on: which there are, how they lie in memory, and how they are handed to a kernel.

What a thread of a warp reads beside its neighbour lies beside it: scratch and lists of symbols run along combos (order
`F`). Slots are records by combo, since two threads are seldom at the same symbol, and a record's first fields share the
stretch of memory that the device fetches at once. Accounts and parameters pass through a thread's own memory
(`threads.move`).
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
"""Arguments that are no arrays."""

COMBOS = ("column_of", "signal_params", "signal_group_of", "params")
"""Arrays that say what the combos of a batch are."""

STATE = ("accounts", "days", "positions", "active", "candidates", "ranks", "verdict")
"""Arrays that hold what the combos of a batch are at."""

TILE = ("bars", "steps", "codes", "signal_symbols")
"""Arrays of the tile of steps that is at work."""

RESULTS = ("accounts", "days")
"""Arrays that are read back."""

_APART = 256  # bytes: every array begins at a multiple of it, as an allocation of its own would

_INTS, _FLOATS = np.dtype(np.int64), np.dtype(np.float64)
_BY_VERSION = ("lots", "min_notional_usd", "max_leverage", "maintenance_frac", "last")
_SINGLE = ("benchmark", "minutes")
_GRID = ("open", "high", "low", "close", "last_price", "age", "funding")


@dataclass(frozen=True)
class LayoutSizes:
    """How much there is of everything.

    Attributes:
        combos: K, combos of the batch.
        signal_groups: E, entry sets of the batch.
        tile: Steps of a tile.
        symbols: S.
        groups: G, groups of symbols with parameters of their own.
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
    """An array without its memory: records or numbers, its shape, and which index runs fastest."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: Order = "C"

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes from one index to the next, by axis."""
        steps: list[int] = []
        fastest_first = self.shape[::-1] if self.order == "C" else self.shape
        apart = self.dtype.itemsize
        for length in fastest_first:
            steps.append(apart)
            apart *= length
        return tuple(steps[::-1] if self.order == "C" else steps)

    @property
    def type(self) -> Any:
        """What it is to numba."""
        return types.Array(numba.from_dtype(self.dtype), len(self.shape), self.order)


def market_arrays(sizes: LayoutSizes) -> dict[str, ArrayLayout]:
    """The arrays of `Market`, by `market.` and their field."""
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(_GRID, (sizes.steps, sizes.symbols))
    shapes |= dict.fromkeys(_BY_VERSION, (sizes.versions, sizes.symbols))
    shapes |= dict.fromkeys(_SINGLE, (1,)) | {"symbol_group": (sizes.symbols,), "since": (sizes.versions,)}
    kinds = Market.__annotations__
    return {
        f"market.{name}": ArrayLayout(_INTS if kinds[name] == Ints else _FLOATS, shapes.get(name, (sizes.steps,)))
        for name in Market._fields
    }


def batch_arrays(strategy: ModuleType, sizes: LayoutSizes) -> dict[str, ArrayLayout]:
    """The arrays `COMBOS`, `STATE` and `TILE` of a batch, by name."""
    combos, sets, tile, symbols = sizes.combos, sizes.signal_groups, sizes.tile, sizes.symbols
    shaping = record_of(each for each in strategy.PARAMETERS if each.role in SIGNAL_ROLES)
    return {
        "column_of": ArrayLayout(_INTS, (sets, sizes.groups, sizes.features)),
        "signal_params": ArrayLayout(shaping, (sets, sizes.groups)),
        "signal_group_of": ArrayLayout(_INTS, (combos,)),
        "params": ArrayLayout(record_of(strategy.PARAMETERS), (combos, sizes.groups)),
        # Results lie side by side, so that they come back in one copy.
        "accounts": ArrayLayout(ACCOUNT, (combos,)),
        "days": ArrayLayout(_FLOATS, (BLOCKS, 3, combos)),
        "positions": ArrayLayout(position_dtype(getattr(strategy, "MEMORY", ())), (combos, symbols)),
        "active": ArrayLayout(_INTS, (combos, symbols), "F"),
        "candidates": ArrayLayout(_INTS, (combos, symbols), "F"),
        "ranks": ArrayLayout(_FLOATS, (combos, symbols), "F"),
        "verdict": ArrayLayout(np.dtype(np.int8), (combos, symbols), "F"),
        "bars": ArrayLayout(BAR, (tile, symbols)),
        "steps": ArrayLayout(STEP, (sets, tile)),
        "codes": ArrayLayout(np.dtype(np.int8), (sets, tile, symbols)),
        "signal_symbols": ArrayLayout(np.dtype(np.int16), (sets, tile, symbols)),
    }


def all_arrays(strategy: ModuleType, sizes: LayoutSizes) -> dict[str, ArrayLayout]:
    """Every array that a kernel may be handed, by name."""
    return {
        **market_arrays(sizes),
        "symbols": ArrayLayout(SYMBOL, (sizes.versions, sizes.symbols)),
        "models": ArrayLayout(MODEL, (1,)),
        "columns": ArrayLayout(_FLOATS, (sizes.columns, sizes.main_bars, sizes.symbols)),
        **batch_arrays(strategy, sizes),
    }


def offsets_of(arrays: Mapping[str, ArrayLayout]) -> tuple[dict[str, int], int]:
    """Where each array begins in one stretch of memory that holds them all, and how long that is, in bytes."""
    found, end = {}, 0
    for name, array in arrays.items():
        found[name] = end
        end += -(-array.nbytes // _APART) * _APART
    return found, end


class OpenedBook(NamedTuple):
    """The part of a book that `open_books` writes.

    It is no part of `threads`: numba keeps it on disk by its module, and modules made of `threads` can't be imported.
    """

    accounts: Any
    positions: Any
    days: Any


class KernelArgument(NamedTuple):
    """One argument of a kernel, as a manifest says it.

    Attributes:
        name: Its name: an array's, a field of the market's, or a scalar's.
        dtype: What an array holds: name, place and kind of every field of its records, or a kind of number.
        order: Which index of an array runs fastest; empty for a scalar.
        words: What the kernel receives for it, each of 8 bytes: `shape.1` is the second axis's length.
    """

    name: str
    dtype: str
    order: str
    words: tuple[str, ...]


def arguments_of(kernel: Callable[..., Any], strategy: ModuleType) -> list[KernelArgument]:
    """The arguments of a kernel, in order: numba hands over an array as the fields of its data model."""
    arrays = all_arrays(strategy, LayoutSizes(1, 1, 1, 1, 1, 1))
    found = []
    for name in inspect.signature(kernel).parameters:
        if name in SCALARS:
            found.append(KernelArgument(name, str(SCALARS[name]), "", ("value",)))
            continue
        for each in [f"market.{field}" for field in Market._fields] if name == "market" else [name]:
            array = arrays[each]
            found.append(KernelArgument(each, describe_dtype(array.dtype), array.order, words_of(array.type)))
    return found


def types_of(kernel: Callable[..., Any], strategy: ModuleType) -> tuple[Any, ...]:
    """The signature of a kernel."""
    arrays = all_arrays(strategy, LayoutSizes(1, 1, 1, 1, 1, 1))
    fields = tuple(arrays[f"market.{field}"].type for field in Market._fields)
    market = types.NamedTuple(fields, Market)  # type: ignore[no-untyped-call]  # numba is untyped here
    known = {**SCALARS, "market": market}
    return tuple(known.get(name) or arrays[name].type for name in inspect.signature(kernel).parameters)


def words_of(array: Any) -> tuple[str, ...]:
    """The fields of numba's data model of an array type, one for each word of 8 bytes."""
    model = default_manager[array]
    words: list[str] = []
    for name, member in zip(model._fields, model._members, strict=True):  # noqa: SLF001 - numba has no public way
        words += [f"{name}.{i}" for i in range(len(member))] if isinstance(member, types.UniTuple) else [name]
    return tuple(words)


def describe_dtype(dtype: np.dtype[Any]) -> str:
    """What a record or number is, in one line: the same line means the same memory."""
    if dtype.fields is None:
        return dtype.str
    fields = (f"{name}@{offset}{kind.str}" for name, (kind, offset, *_) in dtype.fields.items())
    return f"{dtype.itemsize}: {' '.join(fields)}"


def pack_array(words: Iterable[str], array: ArrayLayout, pointer: int) -> list[np.int64]:
    """What a kernel receives for an array whose memory is at `pointer`, word by word.

    Raises:
        KeyError: A word that no array has.
    """
    values = {
        "meminfo": 0,
        "parent": 0,
        "nitems": int(np.prod(array.shape, dtype=np.int64)),
        "itemsize": array.dtype.itemsize,
        "data": pointer,
        **{f"shape.{axis}": length for axis, length in enumerate(array.shape)},
        **{f"strides.{axis}": apart for axis, apart in enumerate(array.strides)},
    }
    return [np.int64(values[word]) for word in words]
