"""Read one YAML file into a frozen model, and say exactly what is wrong with it when that fails.

Every problem is one line: file, line, column, path of keys, what is wrong and what is allowed. All problems of a file
are reported at once.
"""

import functools
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mei_pipeline.config import words
from mei_pipeline.config.base import FROM_FILE
from mei_pipeline.config.nodes import Flaw, Keys, Place, Plain, Tree, looks_like, parse
from mei_pipeline.errors import ConfigError
from mei_pipeline.params.paths import closest

MAX_BYTES = 1 << 20
_MAX_REPORTED = 50
_SHOWN = 60

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True)
class Document(Generic[ModelT]):
    """A file that was read: its model, and where in the file each key stands.

    Attributes:
        path: The file.
        model: What it says.
        tree: Its values with their places.
    """

    path: Path
    model: ModelT
    tree: Tree

    def problem(self, keys: Keys, text: str) -> str:
        """The line that reports `text` about the value at `keys`, for checks that need more than one file."""
        return _line(self.path, _flaw(self.tree, keys, text))


def read_yaml(path: Path, model: type[ModelT]) -> ModelT:
    """Read and validate one YAML file.

    Args:
        path: The file: UTF-8, at most 1 MiB, one mapping.
        model: What it must be.

    Raises:
        ConfigError: The file can't be read or says something that `model` does not allow; one line per problem.
    """
    return read_document(path, model).model


def read_document(path: Path, model: type[ModelT]) -> Document[ModelT]:
    """As `read_yaml`, with the places of all keys.

    Raises:
        ConfigError: As `read_yaml`.
    """
    return parse_document(_read(path), path, model)


def parse_document(content: bytes, path: Path, model: type[ModelT]) -> Document[ModelT]:
    """As `read_document`, of bytes that were read from `path`.

    Raises:
        ConfigError: As `read_yaml`.
    """
    text = _decode(content, path)
    if not text.strip():
        raise ConfigError(f"{path}: the file is empty; {_keys_of(model)}")
    tree = parse(text)
    if tree.data is None and not tree.flaws:
        tree = Tree({}, {}, ())
    if not isinstance(tree.data, Mapping):
        problem = Flaw(None, (), f"the file is not a mapping (key: value); {_keys_of(model)}")
        raise ConfigError("\n".join(_line(path, flaw) for flaw in tree.flaws or (problem,)))
    found = list(tree.flaws)
    try:
        value = model.model_validate(tree.data, context={FROM_FILE: True})
    except ValidationError as error:
        found += [flaw for detail in error.errors(include_url=False) for flaw in _translate(tree, model, detail)]
    else:
        if not found:
            return Document(path, value, tree)
    raise ConfigError(report(_line(path, flaw) for flaw in _in_order(found)))


def report(lines: Iterable[str]) -> str:
    """One message of many problems, one a line, without repetition; a very long list is cut off with a count."""
    unique = list(dict.fromkeys(lines))
    if len(unique) > _MAX_REPORTED:
        unique = [*unique[:_MAX_REPORTED], f"and {len(unique) - _MAX_REPORTED} more problems"]
    return "\n".join(unique)


def show_keys(keys: Keys) -> str:
    """A path of keys for a person: `sources[0].path`."""
    text = ""
    for part in keys:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@functools.cache
def schema_of(model: type[BaseModel]) -> Mapping[str, Any]:
    """JSON schema of a file model, by the names that the file uses."""
    return model.model_json_schema(by_alias=True)


def _read(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"{path}: not a regular file; put a YAML file there")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; create it, or set MEI_CONFIG to the folder that has it") from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES:,} bytes; a config file is small")
    return content


def _decode(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        place = Place(before.count(b"\n") + 1, len(before) - before.rfind(b"\n"))
        flaw = Flaw(place, (), f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8")
        raise ConfigError(_line(path, flaw)) from None


def _keys_of(model: type[BaseModel]) -> str:
    schema = schema_of(model)
    needed = schema.get("required")
    return f"needed keys: {', '.join(needed)}" if needed else f"allowed keys: {', '.join(words.fields(schema))}"


def _translate(tree: Tree, model: type[BaseModel], detail: ErrorDetails) -> Iterator[Flaw]:
    """The flaws that one error of pydantic stands for, in our words and with their places."""
    root = schema_of(model)
    keys = tree.find(detail["loc"])
    told = detail.get("ctx", {})
    here = words.walk(root, tree.data, keys)
    if detail["loc"][-1:] == ("[key]",):
        here = words.keys_of(words.walk(root, tree.data, keys[:-1]))
    match detail["type"]:
        case "flaws":
            inner: Mapping[str, str] = told["flaws"]
            yield from (_flaw(tree, (*keys, path), text) for path, text in inner.items())
        case "missing":
            name = str(detail["loc"][-1])
            yield _flaw(tree, (*keys, name), f"missing; {words.allowed(root, here['properties'][name])}")
        case "extra_forbidden":
            known = words.fields(words.walk(root, tree.data, keys[:-1]))
            yield _flaw(tree, keys, f"unknown key; {closest(str(keys[-1]), known)}allowed: {', '.join(known)}")
        case "value_error":
            yield _flaw(tree, keys, str(told["error"]))
        case "union_tag_invalid" | "union_tag_not_found" if _chosen_by_kind(here, detail["input"]):
            tags = told["discriminator"].strip("'")
            kinds = ", ".join(here["discriminator"]["mapping"])
            given = _item(detail["input"], tags)
            text = "missing" if given is None else f"{_show(given)} is not allowed"
            yield _flaw(tree, (*keys, tags), f"{text}; one of {kinds}")
        case _:
            value = detail["input"]
            hint = looks_like(value) if isinstance(value, Plain) and "number" in words.allowed(root, here) else ""
            if "matches" in here and not isinstance(value, (str, Mapping, tuple, list)):
                hint = "; YAML reads it as another value: put it in quotes"
            yield _flaw(tree, keys, f"{_show(value)} is not allowed; {words.allowed(root, here)}{hint}")


def _chosen_by_kind(schema: words.Schema, value: object) -> bool:
    return "discriminator" in schema and isinstance(value, Mapping)


def _flaw(tree: Tree, path: Keys, text: str) -> Flaw:
    keys = tree.named(path)
    return Flaw(tree.place(keys), keys, text)


def _in_order(found: Iterable[Flaw]) -> list[Flaw]:
    """By place; of several flaws of one place the first, which is the most basic."""
    first: dict[Any, Flaw] = {}
    for flaw in found:
        first.setdefault((flaw.keys or flaw, flaw.place), flaw)
    return sorted(first.values(), key=lambda flaw: flaw.place or Place(0, 0))


def _line(path: Path, flaw: Flaw) -> str:
    where = f"{path}:{flaw.place.line}:{flaw.place.column}" if flaw.place else str(path)
    return f"{where}: {show_keys(flaw.keys)}: {flaw.text}" if flaw.keys else f"{where}: {flaw.text}"


def _item(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, Mapping) else None


def _show(value: object) -> str:
    if value is None:
        return "no value"
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, (tuple, list)):
        return "a list" if value else "an empty list"
    if isinstance(value, bool):
        return str(value).lower()
    text = value if isinstance(value, Plain) and value.isprintable() else repr(value)
    return str(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
