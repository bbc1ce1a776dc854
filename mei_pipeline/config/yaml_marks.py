"""YAML text as plain values, with the line and column of every key.

PyYAML scans and parses. Its types are not used: YAML 1.1 turns `off` into a boolean, `1:30` into ninety and `010`
into eight. Here `true`, `false`, `null` and finite decimal numbers without quotes are what they look like. Every other
scalar is text, and every key is text. Aliases and tags are refused, so a small file can't become a large value.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.reader import Reader

Keys = tuple[str | int, ...]
"""Keys and list indexes that lead to a value."""

Place = tuple[int, int]
"""Line and column, both counted from 1."""

MAX_DEPTH = 32
MAX_NODES = 50_000
MAX_WHOLE = 2**63 - 1
_MAX_DIGITS = len(str(-MAX_WHOLE))
_NUMBER = re.compile(r"[-+]?(?:0|[1-9][0-9]*|(?=\.[0-9]))(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?")
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}

# libyaml parses ten times as fast, and every wheel of PyYAML has it.
_Loader: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


class Plain(str):
    """Text that was written without quotes; a field may still read it as a switch or a time."""

    __slots__ = ()


@dataclass(frozen=True)
class Flaw:
    """An error in a file: its position, the path of its key (`sources[0].path`), and what is wrong and allowed.

    `place` is None and `path` is empty if the error concerns the whole file.
    """

    place: Place | None
    path: str
    text: str


@dataclass(frozen=True)
class Tree:
    """The content of one file.

    Attributes:
        data: Plain values: dict, tuple, str (`Plain` without quotes), int, float, bool, None.
        places: Position of every key and list item, by path. Nested and dotted keys have the same path.
        flaws: Errors of the text itself, such as duplicate keys.
    """

    data: Any
    places: Mapping[str, Place]
    flaws: tuple[Flaw, ...] = ()

    def find(self, keys: Keys) -> str:
        """Return the path of `keys`, without those that the file lacks: pydantic also names branches of unions."""
        path = ""
        for key in keys:
            path = longer if (longer := join(path, key)) in self.places else path
        return path

    def flaw(self, path: str, text: str) -> Flaw:
        """Return an error of the value at `path`, at the position of the innermost key that the file has."""
        known = path
        while known and known not in self.places:
            known = re.sub(r"(^|\.|\[)[^.\[]*$", "", known)
        return Flaw(self.places.get(known), path, text)


def join(path: str, *keys: str | int) -> str:
    """Return the path of `keys` below `path`."""
    for key in keys:
        path += f"[{key}]" if isinstance(key, int) else f".{key}" if path else key
    return path


def parse(text: str) -> Tree:
    """Parse one YAML document. Text that is not YAML gives a tree without data and with one flaw."""
    if strange := Reader.NON_PRINTABLE.search(text):
        reason = f"character U+{ord(strange[0]):04X} is not allowed in YAML"
        return Tree(None, {}, (Flaw(place_after(text[: strange.start()]), "", reason),))
    builder = _Builder(yaml.parse(text, Loader=_Loader))
    try:
        return Tree(builder.document(), builder.places, tuple(builder.flaws))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        own = type(error) is yaml.MarkedYAMLError  # PyYAML itself raises subclasses
        reason = " ".join(filter(None, ("" if own else "not YAML:", error.context, error.problem)))
        hint = "; indent with spaces, not with tabs" if "cannot start any token" in reason and "\t" in text else ""
        return Tree(None, {}, (Flaw(_place(mark) if mark else None, "", f"{reason}{hint}"),))


def place_after(text: str) -> Place:
    """Return the position that follows a text."""
    return text.count("\n") + 1, len(text) - text.rfind("\n")


@dataclass
class _Builder:
    events: Iterator[Any]
    places: dict[str, Place] = field(default_factory=dict)
    flaws: list[Flaw] = field(default_factory=list)
    nodes: int = 0

    def document(self) -> Any:
        if not isinstance(self._next_but(yaml.StreamStartEvent), yaml.DocumentStartEvent):
            return None
        data = self._value(next(self.events), "", 1)
        if isinstance(more := self._next_but(yaml.DocumentEndEvent), yaml.DocumentStartEvent):
            raise _refusal(more, "more than one document; a config file has one, without --- between")
        return data

    def _next_but(self, skipped: type[yaml.Event]) -> Any:
        return next(event for event in self.events if not isinstance(event, skipped))

    def _value(self, event: Any, path: str, depth: int) -> Any:
        self._check(event, depth)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path, depth + 1)
        if isinstance(event, yaml.SequenceStartEvent):
            return tuple(self._items(path, depth + 1))
        return event.value if event.style else _scalar(event.value)  # only quoted scalars and blocks have a style

    def _check(self, event: Any, depth: int) -> None:
        self.nodes += 1
        if isinstance(event, yaml.AliasEvent):
            raise _refusal(event, f"alias *{event.anchor} is not allowed; write the value out")
        if event.tag:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise _refusal(event, f"tag {tag} is not allowed; write the plain value")
        if depth > MAX_DEPTH:
            raise _refusal(event, f"nested more than {MAX_DEPTH} levels deep")
        if self.nodes > MAX_NODES:
            raise _refusal(event, f"more than {MAX_NODES:,} keys and values; a config file is small")

    def _items(self, path: str, depth: int) -> Iterator[Any]:
        index = 0
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            inner = join(path, index)
            self.places[inner] = _place(event.start_mark)
            yield self._value(event, inner, depth)
            index += 1

    def _mapping(self, path: str, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            self._check(event, depth)
            if not isinstance(event, yaml.ScalarEvent):
                raise _refusal(event, "a key must be one word, not a list or a mapping")
            inner, place = join(path, event.value), _place(event.start_mark)
            if event.value in values:
                text = f"key given twice; the first is on line {self.places[inner][0]}"
                self.flaws.append(Flaw(place, inner, text))
                self._value(next(self.events), inner, depth)
                continue
            self.places[inner] = place
            values[event.value] = self._value(next(self.events), inner, depth)
        return values


def _scalar(text: str) -> bool | int | float | str | None:
    if text.lower() in _WORDS and text in {text.lower(), text.title(), text.upper()}:
        return _WORDS[text.lower()]
    if _WHOLE.fullmatch(text):
        return int(text) if len(text) <= _MAX_DIGITS and abs(int(text)) <= MAX_WHOLE else Plain(text)
    return float(text) if _NUMBER.fullmatch(text) and math.isfinite(float(text)) else Plain(text)


def _refusal(event: Any, text: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=event.start_mark)


def _place(mark: Any) -> Place:
    return mark.line + 1, mark.column + 1
