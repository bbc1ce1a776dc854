"""The keys that a file may have, as a flat list. The reference page and `mei config explain` are made from it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from mei_pipeline.config import words
from mei_pipeline.config.reader import schema_of
from mei_pipeline.config.words import Schema

NO_DEFAULT = "required"


@dataclass(frozen=True)
class Key:
    """One key of a file.

    Attributes:
        path: Dotted path; `<name>` stands for a free name, `[]` for each item of a list.
        doc: What it says.
        allowed: What values it takes, in words.
        default: What applies when it is left out, in words; `required` when nothing does.
    """

    path: str
    doc: str
    allowed: str
    default: str


def keys_of(model: type[BaseModel]) -> tuple[Key, ...]:
    """Every key of a file model, in order, sections before what is in them."""
    root = schema_of(model)
    first: dict[str, Key] = {}
    for key in _keys(root, root, ""):
        first.setdefault(key.path, key)  # several forms of a mapping may share a key
    return tuple(first.values())


def _keys(root: Schema, schema: Schema, prefix: str) -> Iterator[Key]:
    needed = schema.get("required", ())
    for name, prop in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        doc = " ".join(str(prop.get("description", "")).split())
        yield Key(path, doc, words.allowed(root, prop), NO_DEFAULT if name in needed else _default(prop))
        for tail, inner in _inside(root, prop):
            yield from _keys(root, inner, f"{path}{tail}.")


def _inside(root: Schema, prop: Schema) -> Iterator[tuple[str, Schema]]:
    """The mappings with keys of their own that a value may be or hold, each with what leads to it."""
    prop = words.resolve(root, prop, None)
    if "properties" in prop:
        yield "", prop
    for tail, inner in (("[]", prop.get("items")), (".<name>", prop.get("additionalProperties"))):
        if isinstance(inner, Mapping):
            yield from ((f"{tail}{deeper}", schema) for deeper, schema in _inside(root, inner))
    for branch in prop.get("oneOf") or prop.get("anyOf") or ():
        found = words.resolve(root, branch, None)
        kind = found.get("properties", {}).get("kind", {}).get("const")
        if "properties" in found:
            yield f" ({kind})" if kind else "", found


def _default(prop: Schema) -> str:
    value: Any = prop.get("default", {})
    if value is None or value in ({}, []):
        return "none"
    if isinstance(value, Mapping):
        return "as below"
    return str(value).lower() if isinstance(value, bool) else str(value)
