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

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - the signature is pydantic's
        return False

    def tagged_union_schema(self, schema: Any) -> dict[str, Any]:
        branches = {tag: self.generate_inner(branch) for tag, branch in schema["choices"].items()}
        return super().tagged_union_schema(schema) | {"x-branches": branches}

    def dict_schema(self, schema: Any) -> dict[str, Any]:
        found = super().dict_schema(schema)
        # pydantic writes `patternProperties`, which would let keys through that match no pattern.
        for pattern, inner in found.pop("patternProperties", {}).items():
            found["propertyNames"] = {**found.get("propertyNames", {}), "pattern": pattern}
            found["additionalProperties"] = inner
        return found


@functools.cache
def schema_of(model: type[BaseModel]) -> Schema:
    """Return the JSON schema of a file model, by the names that the file uses."""
    return model.model_json_schema(schema_generator=SchemaGenerator)


@functools.cache
def keys_of(model: type[BaseModel]) -> tuple[Key, ...]:
    """Return every key of a file model, in order, sections before their keys."""
    root = schema_of(model)
    first: dict[str, Key] = {}
    for key in _below(root, root, ""):
        first.setdefault(key.path, key)  # several forms of a mapping may share a key
    return tuple(first.values())


def schema_at(root: Schema, location: Keys) -> Schema:
    """Return the schema of a value, by its location in an error of pydantic: keys, and names of union branches."""
    if location[-1:] == ("[key]",):  # the key itself, of a mapping whose keys are free
        return _target(root, schema_at(root, location[:-2])["propertyNames"])
    schema = _target(root, root)
    for part in location:
        schema = _target(root, _step(root, schema, part) or schema)
    return schema


def allowed(root: Schema, schema: Schema) -> str:
    """Return the values that a schema allows, in words."""
    schema = _target(root, schema)
    if words := schema.get("x-allowed", schema.get("const")):
        return str(words)
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if "discriminator" in schema:
        return f"a mapping whose kind is {' or '.join(schema['discriminator']['mapping'])}"
    if branches := _branches(schema):
        return " or ".join(dict.fromkeys(allowed(root, branch) for branch in branches if branch.get("type") != "null"))
    match schema.get("type"):
        case "boolean":
            return "true or false"
        case "integer" | "number":
            return _numbers(schema)
        case "array":
            least = f" of at least {schema['minItems']}" if schema.get("minItems") else ""
            return f"a list{least}, each {allowed(root, schema.get('items', {}))}"
        case "object":
            return _object(root, schema)
    return "text"


def _object(root: Schema, schema: Schema) -> str:
    if names := schema.get("properties"):
        return f"a mapping with the keys {', '.join(names)}"
    inner = schema.get("additionalProperties")
    if not isinstance(inner, Mapping):
        return "a mapping"
    key = allowed(root, schema["propertyNames"]) if "propertyNames" in schema else "a name"
    return f"a mapping, each key {key}, each value {allowed(root, inner)}"


def _numbers(schema: Schema) -> str:
    noun = "a whole number" if schema["type"] == "integer" else "a number"
    if "minimum" in schema and "maximum" in schema:
        return f"{noun} from {_figure(schema['minimum'])} to {_figure(schema['maximum'])}"
    limits = {
        "minimum": "of {} or more",
        "exclusiveMinimum": "above {}",
        "maximum": "up to {}",
        "exclusiveMaximum": "below {}",
    }
    return f"{noun} {' and '.join(text.format(_figure(schema[key])) for key, text in limits.items() if key in schema)}".rstrip()


def _figure(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:g}"


def _target(root: Schema, schema: Schema) -> Schema:
    """Follow a reference; keywords beside it, such as a description, win."""
    while "$ref" in schema:
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**root["$defs"][schema["$ref"].rpartition("/")[2]], **beside}
    return schema


def _step(root: Schema, schema: Schema, part: str | int) -> Schema | None:
    """Return the schema one step down; None if `part` names no key, no item and no branch."""
    schema = _target(root, schema)
    inside = schema.get("items") if isinstance(part, int) else schema.get("x-branches", {}).get(part)
    if inside is None and isinstance(part, str):
        inside = schema.get("properties", {}).get(part) or schema.get("additionalProperties")
    return inside or next(filter(None, (_step(root, branch, part) for branch in _branches(schema))), None)


def _branches(schema: Schema) -> Sequence[Schema]:
    found: Sequence[Schema] = schema.get("oneOf") or schema.get("anyOf") or ()
    return found


def _below(root: Schema, schema: Schema, path: str) -> Iterator[Key]:
    """Yield the keys below `path`."""
    schema = _target(root, schema)
    for name, inside in schema.get("properties", {}).items():
        inner = f"{path}.{name}" if path else name
        doc = " ".join(str(inside.get("description", "")).split())
        default = NO_DEFAULT if name in schema.get("required", ()) else _default(inside)
        yield Key(inner, doc, allowed(root, inside), default)
        yield from _below(root, inside, inner)
    for tail, inside in (("[]", schema.get("items")), (".<name>", schema.get("additionalProperties"))):
        if isinstance(inside, Mapping):
            yield from _below(root, inside, f"{path}{tail}")
    if "discriminator" in schema:
        for kind, branch in schema["x-branches"].items():
            yield from _below(root, branch, f"{path} ({kind})")
    else:
        for branch in _branches(schema):
            yield from _below(root, branch, path)


def _default(schema: Schema) -> str:
    value: Any = schema.get("default")
    if value is None or value in ({}, []):
        return "none"
    if isinstance(value, Mapping):
        return "as below"
    return str(value).lower() if isinstance(value, bool) else str(value)
