"""The keys that a file may have: the JSON schema of its model, the same as a flat list, and allowed values in words."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from mei_pipeline.config.yaml_marks import Keys

Schema = Mapping[str, Any]

NO_DEFAULT = "required"


@dataclass(frozen=True)
class Key:
    """One key of a file.

    Attributes:
        path: Dotted path; `<name>` stands for a free name, `[]` for each item of a list.
        doc: Meaning of the key.
        allowed: Allowed values, in words.
        default: Default value, in words; `required` if there is none.
    """

    path: str
    doc: str
    allowed: str
    default: str


class SchemaGenerator(GenerateJsonSchema):
    """Schemas without titles of fields, with `x-branches`: the branches of tagged unions by their tags."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002, D102 - pydantic's
        return False

    def tagged_union_schema(self, schema: Any) -> dict[str, Any]:  # noqa: D102 - pydantic's
        branches = {tag: self.generate_inner(branch) for tag, branch in schema["choices"].items()}
        return super().tagged_union_schema(schema) | {"x-branches": branches}

    def dict_schema(self, schema: Any) -> dict[str, Any]:  # noqa: D102 - pydantic's
        found = super().dict_schema(schema)
        # pydantic writes `patternProperties`, which would let keys through that match no pattern.
        for pattern, inner in found.pop("patternProperties", {}).items():
            found["propertyNames"] = {**found.get("propertyNames", {}), "pattern": pattern}
            found["additionalProperties"] = inner
        return found


@functools.cache
def schema_of(model: type[BaseModel]) -> Schema:
    """Return the JSON schema of a file model, by the names that the file uses, with definitions in their places."""
    schema = model.model_json_schema(schema_generator=SchemaGenerator)
    found: Schema = _inlined(schema, schema.pop("$defs", {}))
    return found


@functools.cache
def keys_of(model: type[BaseModel]) -> tuple[Key, ...]:
    """Return every key of a file model, in order, sections before their keys."""
    first: dict[str, Key] = {}
    for key in _below(schema_of(model), ""):
        first.setdefault(key.path, key)  # several forms of a mapping may share a key
    return tuple(first.values())


def schema_at(schema: Schema, location: Keys) -> Schema:
    """Return the schema of a value, by its location in an error of pydantic: keys, and tags of union branches."""
    if location[-1:] == ("[key]",):  # the key itself, of a mapping whose keys are free
        found: Schema = schema_at(schema, location[:-2])["propertyNames"]
        return found
    for part in location:
        schema = _inside(schema, part) or schema
    return schema


def allowed(schema: Schema) -> str:
    """Return the values that a schema allows, in words."""
    if fixed := schema.get("x-allowed", schema.get("const")):
        return str(fixed)
    if "discriminator" in schema:
        return f"a mapping whose kind is {' or '.join(schema['x-branches'])}"
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if branches := [branch for branch in _branches(schema) if branch.get("type") != "null"]:
        return " or ".join(dict.fromkeys(map(allowed, branches)))
    kind = schema.get("type", "text")
    words = {"integer": _number, "number": _number, "array": _list, "object": _mapping}.get(kind)
    return words(schema) if words else "true or false" if kind == "boolean" else "text"


def _list(schema: Schema) -> str:
    least = f" of at least {schema['minItems']}" if "minItems" in schema else ""
    return f"a list{least}, each {allowed(schema['items'])}"


def _mapping(schema: Schema) -> str:
    if names := schema.get("properties"):
        return f"a mapping with the keys {', '.join(names)}"
    inner = schema.get("additionalProperties")
    if not isinstance(inner, Mapping):
        return "a mapping"
    key = allowed(schema["propertyNames"]) if "propertyNames" in schema else "a name"
    return f"a mapping, each key {key}, each value {allowed(inner)}"


def _number(schema: Schema) -> str:
    noun = "a whole number" if schema["type"] == "integer" else "a number"
    limits = {key: str(schema[key]).removesuffix(".0") for key in _LIMITS if key in schema}
    if "minimum" in limits and "maximum" in limits:
        return f"{noun} from {limits['minimum']} to {limits['maximum']}"
    return f"{noun} {' and '.join(_LIMITS[key].format(limit) for key, limit in limits.items())}".rstrip()


_LIMITS = {
    "minimum": "of {} or more",
    "exclusiveMinimum": "above {}",
    "maximum": "up to {}",
    "exclusiveMaximum": "below {}",
}


def _inlined(schema: Any, definitions: Schema) -> Any:
    """Return a schema with definitions in place of references; keywords beside a reference win."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    target = definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else {}
    return {key: _inlined(inner, definitions) for key, inner in {**target, **schema}.items() if key != "$ref"}


def _branches(schema: Schema) -> Sequence[Schema]:
    found: Sequence[Schema] = schema.get("oneOf") or schema.get("anyOf") or ()
    return found


def _inside(schema: Schema, part: str | int) -> Schema | None:
    """Return the schema one step down; None if `part` names no key, no item and no branch."""
    if isinstance(part, int):
        found = schema.get("items")
    else:
        found = schema.get("x-branches", {}).get(part) or schema.get("properties", {}).get(part)
        found = found or schema.get("additionalProperties")
    return found or next(filter(None, (_inside(branch, part) for branch in _branches(schema))), None)


def _below(schema: Schema, path: str) -> Iterator[Key]:
    """Yield the keys below `path`."""
    for name, inside in schema.get("properties", {}).items():
        inner = f"{path}.{name}" if path else name
        doc = " ".join(inside.get("description", "").split())
        default = NO_DEFAULT if name in schema.get("required", ()) else _default(inside)
        yield Key(inner, doc, allowed(inside), default)
        yield from _below(inside, inner)
    kinds = schema["x-branches"].items() if "discriminator" in schema else ()
    for tail, inside in (
        ("[]", schema.get("items")),
        (".<name>", schema.get("additionalProperties")),
        *((f" ({kind})", branch) for kind, branch in kinds),
        *(("", branch) for branch in (_branches(schema) if not kinds else ())),
    ):
        if isinstance(inside, Mapping):
            yield from _below(inside, f"{path}{tail}")


def _default(schema: Schema) -> str:
    value: Any = schema.get("default")
    if value is None or value in ({}, []):
        return "none"
    if isinstance(value, Mapping):
        return "as below"
    return str(value).lower() if isinstance(value, bool) else str(value)
