"""Conversion between nested mappings, as people write parameters, and dotted paths."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kernels.params import Value


@dataclass(frozen=True)
class Flat:
    """Result of `flatten`.

    Attributes:
        values: Value by dotted path, in the order of the mapping.
        problems: Problem of each path that holds no single value.
    """

    values: dict[str, Value]
    problems: dict[str, str]


def flatten(mapping: Mapping[str, Any]) -> Flat:
    """Turn `{"trade": {"sl_atr_mult": 2}}` into `{"trade.sl_atr_mult": 2}`; dotted keys stay unchanged."""
    values: dict[str, Value] = {}
    problems: dict[str, str] = {}
    for path, leaf in _leaves(mapping, ""):
        if path in values or path in problems:
            problems[path] = "present twice, nested and dotted; keep one"
        elif isinstance(leaf, bool | int | float | str):
            values[path] = leaf
        else:
            problems[path] = f"{_kind(leaf)} is not allowed; one value"
    return Flat({path: value for path, value in values.items() if path not in problems}, problems)


def nest(values: Mapping[str, Value]) -> dict[str, Any]:
    """Turn dotted paths into nested mappings; a path that is also the beginning of another one stays dotted."""
    nested: dict[str, Any] = {}
    for path, value in values.items():
        group, _, name = path.rpartition(".")
        if not group or group in values:
            nested[path] = value
        else:
            nested.setdefault(group, {})[name] = value
    return nested


def closest(word: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'? ` if one of `known` resembles `word`, otherwise an empty string."""
    known = list(known)
    last = word.rpartition(".")[2]
    by_name = {name.rpartition(".")[2]: name for name in reversed(known)}
    same_name = [by_name[last]] if last in by_name else []
    longer = [name for name in known if name.startswith(word)]
    # Compare last parts first: all paths of a section resemble each other because of its name.
    alike = [by_name[name] for name in difflib.get_close_matches(last, by_name, n=1)]
    matches = same_name or longer or alike or difflib.get_close_matches(word, known, n=1, cutoff=0.8)
    return f"did you mean {matches[0]!r}? " if matches else ""


def _leaves(mapping: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def _kind(leaf: object) -> str:
    if leaf is None:
        return "no value"
    return "an empty mapping" if isinstance(leaf, Mapping) else "a list"
