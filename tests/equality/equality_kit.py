"""Exact records of plain values, and their comparison with values under other names."""

import copy
import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

LONGEST_LIST = 12
"""Numbers in a list from which on a record keeps a digest of them."""
NEAR = 1e-9
"""Relative tolerance on a machine whose arithmetic differs in the last bits from that of the record's machine."""

ABSENT = "(absent)"
"""Stands for the value of a key or place that one of two records lacks."""
Path = tuple[str, ...]
Change = tuple[Path, Any, Any]
"""Old names and places that lead to a value, the old value and the new one."""

_DIGEST = {"dtype", "count", "sha256", "first", "last", "sum"}


@dataclass(frozen=True)
class Names:
    """How a record of old names is read.

    Attributes:
        keys: New name of a key; a key `parent.name` is of `name` directly under `parent` (an old name) and wins.
        values: New name of a word that is a value.
        left_out: Keys that are not compared, or `parent.name`, with the reason.
        prose: Keys of mappings whose keys are sentences; only their values are compared, in order.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    prose: frozenset[str] = frozenset()

    def new_key(self, parent: str, name: str, present: Mapping[str, Any]) -> str:
        """Return the name in `present` of the old key `name` under `parent`."""
        found = self.keys.get(f"{parent}.{name}", self.keys.get(name, name))
        return found if found in present else name

    def leaves_out(self, parent: str, name: str) -> bool:
        """Return whether the key `name` under `parent` is not compared."""
        return name in self.left_out or f"{parent}.{name}" in self.left_out


def record(value: Any, names: Names, key: str = "") -> Any:
    """Return `value` as exact JSON values: floats as hexadecimal text, columns of numbers as digests."""
    if isinstance(value, Mapping):
        if key in names.prose:
            return [record(each, names) for each in value.values()]
        return {str(name): record(each, names, name) for name, each in value.items() if not names.leaves_out(key, name)}
    if isinstance(value, np.ndarray):
        return _digest(value)
    if isinstance(value, list):
        return _list(value, names, key)
    return value.hex() if isinstance(value, float) else value


def changes(old: Any, new: Any, names: Names, *, exact: bool = True) -> Iterator[Change]:
    """Give every value that differs between two records.

    Args:
        old: The record of the version before, with the old names.
        new: The record to compare.
        names: The mapping between them.
        exact: Compare floats bit for bit; if not, within `NEAR`.
    """
    yield from _changes(old, new, names, (), 0.0 if exact else NEAR)


def differences(old: Any, new: Any, names: Names, *, exact: bool = True) -> list[str]:
    """Return `changes` as one line each."""
    return [
        f"{'/'.join(path)}: {_shown(one)} before, {_shown(other)} now"
        for path, one, other in changes(old, new, names, exact=exact)
    ]


def overlaid(old: Any, values: Mapping[str, Any]) -> Any:
    """Return a copy of a record with other values at some paths."""
    found = copy.deepcopy(old)
    for path, value in values.items():
        *above, name = path.split("/")
        place = found
        for part in above:
            place = place[int(part)] if isinstance(place, list) else place[part]
        place[int(name) if isinstance(place, list) else name] = value
    return found


def arithmetic() -> str:
    """Return a hash of results whose last bits depend on the processor or on libraries of mathematics."""
    x = np.linspace(0.01, 3.0, 1001)
    found = [np.exp(x), np.log(x), x**0.3, np.sin(x), np.cumsum(x), stats.norm.cdf(x), np.corrcoef(x, np.sin(x))[0]]
    found.append(np.array([x @ np.cos(x), x.sum(), x.std(), np.var(x)]))
    return hashlib.sha256(np.concatenate(found).tobytes()).hexdigest()


def _list(values: list[Any], names: Names, key: str) -> Any:
    kinds = {type(each) for each in values}
    if len(values) <= LONGEST_LIST or dict in kinds or list in kinds:
        return [record(each, names, key) for each in values]
    if kinds <= {int, float}:
        return _digest(np.array(values))
    return {"count": len(values), "sha256": hashlib.sha256("\n".join(map(str, values)).encode()).hexdigest()}


def _digest(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    whole = np.ascontiguousarray(values)
    kind = np.float64 if whole.dtype.kind == "f" else np.int64
    flat = whole.astype(kind).ravel()
    if kind is np.float64:
        flat = np.where(np.isnan(flat), np.nan, flat)  # one pattern of bits for all NaN
    plain = flat.tolist()
    shown = [value.hex() if isinstance(value, float) else value for value in (*plain[:1], *plain[-1:])]
    total = math.fsum(value for value in plain if math.isfinite(value))
    return {
        "dtype": str(whole.dtype),
        "count": list(whole.shape),
        "sha256": hashlib.sha256(flat.astype(flat.dtype.newbyteorder("<")).tobytes()).hexdigest(),
        "first": shown[0] if shown else None,
        "last": shown[-1] if shown else None,
        "sum": total.hex(),
    }


def _changes(old: Any, new: Any, names: Names, path: Path, near: float) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        if near and old.keys() & new.keys() >= _DIGEST and "float" in old["dtype"]:
            old, new = ({key: digest[key] for key in _DIGEST - {"sha256"}} for digest in (old, new))
        yield from _changed_members(old, new, names, path, near)
    elif isinstance(old, list) and isinstance(new, list):
        for place, (one, other) in enumerate(itertools.zip_longest(old, new, fillvalue=ABSENT)):
            yield from _changes(one, other, names, (*path, str(place)), near)
    elif not _same(old, new, names, near):
        yield path, old, new


def _changed_members(
    old: dict[str, Any], new: dict[str, Any], names: Names, path: Path, near: float
) -> Iterator[Change]:
    parent = next((part for part in reversed(path) if not part.isdigit()), "")
    compared = set()
    for name, value in old.items():
        if names.leaves_out(parent, name):
            continue
        key = names.new_key(parent, name, new)
        compared.add(key)
        yield from _changes(value, new.get(key, ABSENT), names, (*path, name), near)
    for key in sorted(new.keys() - compared):
        yield (*path, key), ABSENT, new[key]


def _same(old: Any, new: Any, names: Names, near: float) -> bool:
    if old == new and type(old) is type(new):
        return True
    if not (isinstance(old, str) and isinstance(new, str)):
        return False
    one, other = number_of(old), number_of(new)
    close = near > 0.0 and one is not None and other is not None and math.isclose(one, other, rel_tol=near)
    return close or names.values.get(old) == new


def number_of(text: str) -> float | None:
    """Return the float that a text of a record is; None for another text."""
    return float.fromhex(text) if text.lstrip("-").startswith(("0x", "nan", "inf")) else None


def _shown(value: Any) -> str:
    number = number_of(value) if isinstance(value, str) else None
    return repr(value) if number is None else f"{number!r} ({value})"
