"""YAML text as plain values, and the line and column of every key.

PyYAML parses, but its types are not used: YAML 1.1 turns `off` into a boolean, `1:30` into ninety and `010` into eight.
Here `true`, `false`, `null` and decimal numbers without quotes are what they look like. Every other scalar is text, and
every key is text. Aliases and tags are refused, so a small file can't become a large value.
"""

import functools
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import yaml
from yaml.reader import Reader

Keys = tuple[str | int, ...]
"""Keys and list indexes that lead to a value."""
Place = tuple[int, int]
"""Line and column, both counted from 1."""

MAX_DEPTH = 32
MAX_NODES = 50_000
MAX_WHOLE = 2**63 - 1

_CORE = "tag:yaml.org,2002:"

# libyaml parses ten times as fast, and every wheel of PyYAML has it.
_Base: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


class Plain(str):
    """Text that was written without quotes; a field may still read it as a switch or a time."""

    __slots__ = ()


def parse(text: str) -> Any:
    """Return the content of one YAML document: dict, tuple, str (`Plain` without quotes), int, float, bool, None.

    Raises:
        yaml.MarkedYAMLError: The text is not YAML, or more than plain values; the error has the place.
    """
    if strange := Reader.NON_PRINTABLE.search(text):
        line, column = place_after(text[: strange.start()])
        mark = yaml.Mark("", 0, line - 1, column - 1, None, 0)
        raise _error(f"character U+{ord(strange[0]):04X} is not allowed in YAML", mark)
    depth = nodes = 0
    for event in yaml.parse(text, Loader=_Loader):  # before the composer runs: it recurses in C
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        nodes += isinstance(event, yaml.NodeEvent)
        if reason := _refusal(event, depth, nodes):
            raise _error(reason, event.start_mark)
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - it makes plain values only


@functools.lru_cache(8)  # a check of several files reports many errors of each
def places(text: str) -> Mapping[str, Place]:
    """Return the position of every key and list item, by path. Nested and dotted keys have the same path."""
    return dict(_places(yaml.compose(text, Loader=_Loader), ""))


def join(path: str, *keys: str | int) -> str:
    """Return the path of `keys` below `path`: `sources[0].path`."""
    for key in keys:
        path += f"[{key}]" if isinstance(key, int) else f".{key}" if path else key
    return path


def place_after(text: str) -> Place:
    """Return the position that follows a text."""
    return text.count("\n") + 1, len(text) - text.rfind("\n")


class _Loader(_Base):  # pyrefly: ignore[unknown-base-class]  # one of two classes
    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}
    yaml_constructors: ClassVar[dict[Any, Any]] = {}

    def items(self, node: Any) -> tuple[Any, ...]:
        return tuple(self.construct_object(item, deep=True) for item in node.value)

    def mapping(self, node: Any) -> dict[str, Any]:
        values: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _error("a key must be one word, not a list or a mapping", key.start_mark)
            if key.value in values:
                raise _error(f"{key.value}: key given twice; the first is on line {first[key.value]}", key.start_mark)
            values[key.value], first[key.value] = self.construct_object(value, deep=True), key.start_mark.line + 1
        return values


def _scalar(_: Any, node: Any) -> bool | int | float | str | None:
    kind = node.tag.removeprefix(_CORE)
    if kind in {"int", "float"}:
        value = int(node.value) if kind == "int" else float(node.value)
        return value if abs(value) <= (MAX_WHOLE if kind == "int" else sys.float_info.max) else Plain(node.value)
    if kind in {"bool", "null"}:
        return node.value.lower() == "true" if kind == "bool" else None
    return node.value if node.style else Plain(node.value)  # only quoted scalars and blocks have a style


_PATTERNS = {
    "bool": r"true|True|TRUE|false|False|FALSE",
    "null": r"~|null|Null|NULL|",
    "int": r"[-+]?(?:0|[1-9][0-9]{0,18})",
    "float": r"(?=.*[.eE])[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?",
}
for _kind, _pattern in _PATTERNS.items():
    _Loader.add_implicit_resolver(f"{_CORE}{_kind}", re.compile(rf"(?:{_pattern})\Z"), None)
for _kind in (*_PATTERNS, "str"):
    _Loader.add_constructor(f"{_CORE}{_kind}", _scalar)
_Loader.add_constructor(f"{_CORE}seq", _Loader.items)
_Loader.add_constructor(f"{_CORE}map", _Loader.mapping)


def _refusal(event: Any, depth: int, nodes: int) -> str | None:
    if isinstance(event, yaml.AliasEvent):
        return f"alias *{event.anchor} is not allowed; write the value out"
    if getattr(event, "tag", None):
        return f"tag {event.tag.replace(_CORE, '!!')} is not allowed; write the plain value"
    if depth > MAX_DEPTH:
        return f"nested more than {MAX_DEPTH} levels deep"
    return f"more than {MAX_NODES:,} keys and values; a config file is small" if nodes > MAX_NODES else None


def _places(node: Any, path: str) -> Iterator[tuple[str, Place]]:
    if isinstance(node, yaml.MappingNode):
        inside = [(join(path, key.value), key.start_mark, value) for key, value in node.value]
    else:
        items = enumerate(node.value) if isinstance(node, yaml.SequenceNode) else ()
        inside = [(join(path, index), value.start_mark, value) for index, value in items]
    for longer, mark, value in inside:
        yield longer, (mark.line + 1, mark.column + 1)
        yield from _places(value, longer)


def _error(reason: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=reason, problem_mark=mark)
