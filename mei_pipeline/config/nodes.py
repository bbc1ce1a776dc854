"""YAML text as plain values that remember where they stood.

PyYAML scans and composes; what a scalar means is decided here, because YAML 1.1 turns `off` into a boolean, `1:30`
into ninety and `010` into eight. Without quotes `true`, `false`, `null` and decimal numbers are what they look like;
every other word is text; keys are always text. Aliases and tags are refused: a config says what it says in place.
"""

import contextlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.resolver import Resolver

Keys = tuple[str | int, ...]

MAX_DEPTH = 32
MAX_NODES = 50_000
_MAX_WHOLE = 2**63 - 1
_NUMBER = re.compile(r"[-+]?(?:0|[1-9][0-9]*|(?=\.[0-9]))(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?")
_SIMPLE = re.compile(r"[\n \x22#-=@-{}~]*")  # ASCII without tabs and ! ? | >
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_NON_FINITE = re.compile(r"[-+]?\.(?:inf|nan)", re.IGNORECASE)
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
_CORE = "tag:yaml.org,2002:"
_TAGS = frozenset(
    f"{_CORE}{name}" for name in ["bool", "float", "int", "map", "merge", "null", "seq", "str", "timestamp", "value"]
)


class Plain(str):
    """A text that was written without quotes, so that a field may still read it as a switch or a time."""

    __slots__ = ()


@dataclass(frozen=True, order=True)
class Place:
    """A position in a file, both counted from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Flaw:
    """Something wrong at one place of a file.

    Attributes:
        place: Where; None when it concerns the file as a whole.
        keys: Path of keys down to it; empty when it is no value's fault.
        text: What is wrong and what is allowed.
    """

    place: Place | None
    keys: Keys
    text: str


@dataclass(frozen=True)
class Tree:
    """The content of one file.

    Attributes:
        data: Plain values: dict, tuple, str (`Plain` where unquoted), int, float, bool, None.
        places: Position of every key and list item.
        flaws: What is wrong whatever the file is for: duplicate keys, non-finite numbers.
    """

    data: Any
    places: Mapping[Keys, Place]
    flaws: tuple[Flaw, ...]

    def find(self, path: Keys) -> Keys:
        """The keys in the file that `path` names; parts that the file does not have are skipped.

        A part such as `trade.sl_atr_mult` also matches nested keys. A validator's path has parts of its own, such as
        the name of a union's branch: they are the ones skipped.
        """
        keys: Keys = ()
        for part in path:
            keys = self._step(keys, part) or keys
        return keys

    def named(self, path: Keys) -> Keys:
        """As `find`, but from the first part that the file does not have, `path` goes on as it is."""
        keys: Keys = ()
        for index, part in enumerate(path):
            step = self._step(keys, part)
            if step is None:
                return (*self._begin(keys, part), *path[index + 1 :])
            keys = step
        return keys

    def place(self, keys: Keys) -> Place | None:
        """Position of the innermost of `keys` that the file has."""
        while keys and keys not in self.places:
            keys = keys[:-1]
        return self.places.get(keys)

    def _begin(self, keys: Keys, part: str | int) -> Keys:
        """`part` below `keys`, split where the file goes on to have keys for it."""
        text = str(part)
        for dot in reversed([match.start() for match in re.finditer(r"\.", text)]):
            if found := self._step(keys, text[:dot]):
                return (*found, text[dot + 1 :])
        return (*keys, part)

    def _step(self, keys: Keys, part: str | int) -> Keys | None:
        if (*keys, part) in self.places:
            return (*keys, part)
        if isinstance(part, str):
            for match in re.finditer(r"\.", part):
                head = (*keys, part[: match.start()])
                if head in self.places and (found := self._step(head, part[match.end() :])):
                    return found
        return None


class _Invalid(Exception):
    def __init__(self, event: yaml.Event, text: str) -> None:
        super().__init__(text)
        self.flaw = Flaw(_at(event.start_mark), (), text)


class _Bounded(Composer):
    """Composer that refuses what could make a small file large or deep."""

    depth = 0
    nodes = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()  # pyrefly: ignore[missing-attribute]  # a parser is mixed in
        if isinstance(event, yaml.AliasEvent):
            raise _Invalid(event, f"alias *{event.anchor} is not allowed; write the value out")
        self.depth += 1
        self.nodes += 1
        if self.depth > MAX_DEPTH:
            raise _Invalid(event, f"nested more than {MAX_DEPTH} levels deep")
        if self.nodes > MAX_NODES:
            raise _Invalid(event, f"more than {MAX_NODES:,} keys and values; a config file is small")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Loader(_Bounded, yaml.SafeLoader):
    """Scans and parses in Python; its messages are those that users see."""


if yaml.__with_libyaml__:
    from yaml.cyaml import CParser  # pyrefly: ignore[implicit-reexport]  # it is there, and the stubs do not export it

    class _FastLoader(_Bounded, CParser, Resolver):
        """Scans and parses in C, ten times as fast."""

        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            Composer.__init__(self)
            Resolver.__init__(self)


def _compose(text: str) -> Node | None:
    """Compose one document.

    libyaml and PyYAML differ on tabs, byte order marks, tags, block scalars and explicit keys. Only texts without any
    of these go through libyaml, and a text that it refuses is read again for PyYAML's message.
    """
    if yaml.__with_libyaml__ and _SIMPLE.fullmatch(text):
        with contextlib.suppress(yaml.YAMLError):
            return _FastLoader(text).get_single_node()
    return _Loader(text).get_single_node()


def parse(text: str) -> Tree:
    """Parse one YAML document.

    Returns:
        The values and their places. A text that is not YAML gives a tree without data and with one flaw.
    """
    try:
        node = _compose(text)
    except _Invalid as error:
        return Tree(None, {}, (error.flaw,))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return Tree(None, {}, (Flaw(_at(mark) if mark else None, (), _syntax(error)),))
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
        return Tree(None, {}, (Flaw(place, (), f"character U+{ord(text[error.position]):04X} is not allowed in YAML"),))
    builder = _Builder()
    return Tree(builder.build(node, ()) if node else None, builder.places, tuple(builder.flaws))


def looks_like(text: str) -> str:
    """A hint for an unquoted text where a number was expected; empty when there is none."""
    digits = text.replace("_", "")
    plain = re.fullmatch(r"([-+]?)0*([0-9]+(?:\.[0-9]+)?)", digits)
    return f"; write {plain[1]}{plain[2]}" if plain else ""


class _Builder:
    def __init__(self) -> None:
        self.places: dict[Keys, Place] = {}
        self.flaws: list[Flaw] = []

    def build(self, node: Node, keys: Keys) -> Any:
        if node.tag not in _TAGS:
            self._flaw(node, keys, f"tag {node.tag.replace(_CORE, '!!')} is not allowed; write the plain value")
            return None
        if isinstance(node, MappingNode):
            return self._mapping(node, keys)
        if isinstance(node, SequenceNode):
            for index, item in enumerate(node.value):
                self.places[*keys, index] = _at(item.start_mark)
            return tuple(self.build(item, (*keys, index)) for index, item in enumerate(node.value))
        return self._scalar(node, str(node.value), keys)

    def _mapping(self, node: MappingNode, keys: Keys) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._flaw(key, keys, "a key must be one word, not a list or a mapping")
                continue
            path = (*keys, str(key.value))
            if path in self.places:
                text = f"key given twice; the first is on line {self.places[path].line}"
                self.flaws.append(Flaw(_at(key.start_mark), path, text))
                continue
            self.places[path] = _at(key.start_mark)
            values[str(key.value)] = self.build(value, path)
        return values

    def _scalar(self, node: Any, text: str, keys: Keys) -> Any:
        if node.style:  # a plain scalar has None in Python, and no letter in C
            return text
        if text.lower() in _WORDS and text in {text.lower(), text.title(), text.upper()}:
            return _WORDS[text.lower()]
        if _WHOLE.fullmatch(text) and len(text) <= len(str(_MAX_WHOLE)) + 1 and abs(int(text)) <= _MAX_WHOLE:
            return int(text)
        if _WHOLE.fullmatch(text):
            self._flaw(node, keys, f"{_short(text)} is too large; whole numbers end at {_MAX_WHOLE}")
            return 0
        if _NUMBER.fullmatch(text) or _NON_FINITE.fullmatch(text):
            value = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
            if not math.isfinite(value):
                self._flaw(node, keys, f"{_short(text)} is not a finite number")
            return value
        return Plain(text)

    def _flaw(self, node: Node, keys: Keys, text: str) -> None:
        self.flaws.append(Flaw(self.places.get(keys) or _at(node.start_mark), keys, text))


def _at(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:20]}… ({len(text)} digits)"  # noqa: PLR2004 - a line's worth


def _syntax(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or str(error)
    if r"'\t'" in problem:
        return "a tab can't indent or start a value; use spaces"
    if "expected a single document" in (error.context or ""):
        return "more than one document; a config file has one, without --- between"
    return f"not YAML: {' '.join(filter(None, (error.context, problem)))}"
