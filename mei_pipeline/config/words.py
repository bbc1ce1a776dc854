"""What a field allows, in words, from the JSON schema of its model. Error messages and the reference page share it."""

from collections.abc import Mapping, Sequence
from typing import Any

from mei_pipeline.config.nodes import Keys

Schema = Mapping[str, Any]


def walk(root: Schema, data: Any, path: Keys) -> Schema:
    """The schema that applies at `path` of `data`; the innermost known one where `data` leaves the schema."""
    schema = resolve(root, root, data)
    for part in path:
        data = _item(data, part)
        inner = _inner(schema, part)
        if inner is None:
            return {}
        schema = resolve(root, inner, data)
    return schema


def resolve(root: Schema, schema: Schema, data: Any) -> Schema:
    """Follow references, and choose the branch of a union by the value's shape or by its `kind`."""
    while True:
        if "$ref" in schema:
            target = root["$defs"][schema["$ref"].rpartition("/")[2]]
            schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
            continue
        branches = schema.get("oneOf") or schema.get("anyOf")
        chosen = _branch(root, schema, branches, data) if branches else None
        if chosen is None:
            return schema
        schema = chosen


def allowed(root: Schema, schema: Schema) -> str:
    """What values the schema allows, in words for a person."""
    schema = resolve(root, schema, None)
    if "words" in schema:
        return str(schema["words"])
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    return _union(root, schema) or _typed(root, schema)


def fields(schema: Schema) -> Sequence[str]:
    """Keys that a mapping of this schema may have; empty when any are allowed."""
    return tuple(schema.get("properties", ()))


def keys_of(schema: Schema) -> Schema:
    """The schema of the keys of a mapping whose keys are free."""
    found: Schema = schema.get("propertyNames", {})
    return found


def _union(root: Schema, schema: Schema) -> str:
    if "discriminator" in schema:
        return f"a mapping whose kind is {' or '.join(schema['discriminator']['mapping'])}"
    branches = [branch for branch in schema.get("oneOf") or schema.get("anyOf") or () if branch.get("type") != "null"]
    if len(branches) > 1 and {branch.get("type") for branch in branches} <= {"integer", "number"}:
        return _numbers({**schema, "type": "number"})
    return " or ".join(dict.fromkeys(allowed(root, branch) for branch in branches))


def _typed(root: Schema, schema: Schema) -> str:
    match schema.get("type"):
        case "boolean":
            return "true or false"
        case "integer" | "number":
            return _numbers(schema)
        case "array":
            return _list(root, schema)
        case "object":
            return _object(root, schema)
        case _:
            return "text"


def _object(root: Schema, schema: Schema) -> str:
    if names := fields(schema):
        return f"a mapping with the keys {', '.join(names)}"
    inner = schema.get("additionalProperties")
    if not isinstance(inner, Mapping):
        return "a mapping"
    key = keys_of(schema)
    return f"a mapping, each key {allowed(root, key) if key else 'a name'}, each value {allowed(root, inner)}"


def _numbers(schema: Schema) -> str:
    noun = "a whole number" if schema["type"] == "integer" else "a number"
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum", schema.get("gt"))
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"{noun} from {_figure(low)} to {_figure(high)}"
    limits = (
        f"of {_figure(low)} or more" if low is not None else "",
        f"above {_figure(above)}" if above is not None else "",
        f"up to {_figure(high)}" if high is not None else "",
        f"below {_figure(below)}" if below is not None else "",
    )
    return " ".join((noun, " and ".join(filter(None, limits)))).rstrip()


def _figure(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:g}"


def _list(root: Schema, schema: Schema) -> str:
    least = f" of at least {schema['minItems']}" if schema.get("minItems") else ""
    return f"a list{least}, each {allowed(root, schema.get('items', {}))}"


def _item(data: Any, part: str | int) -> Any:
    if isinstance(data, Mapping):
        return data.get(part)
    if isinstance(data, Sequence) and not isinstance(data, str) and isinstance(part, int) and part < len(data):
        return data[part]
    return None


def _inner(schema: Schema, part: str | int) -> Schema | None:
    if isinstance(part, int):
        items = schema.get("items")
        return items if isinstance(items, Mapping) else None
    if part in schema.get("properties", {}):
        found: Schema = schema["properties"][part]
        return found
    extra = schema.get("additionalProperties")
    return extra if isinstance(extra, Mapping) else None


def _branch(root: Schema, schema: Schema, branches: Sequence[Schema], data: Any) -> Schema | None:
    if "discriminator" in schema:
        kind = _item(data, schema["discriminator"]["propertyName"])
        target = schema["discriminator"]["mapping"].get(kind) if isinstance(kind, str) else None
        return {"$ref": target} if target else None
    shape = "object" if isinstance(data, Mapping) else "array" if isinstance(data, (tuple, list)) else None
    fitting = [branch for branch in branches if shape and resolve(root, branch, data).get("type") == shape]
    if len(fitting) > 1 and isinstance(data, Mapping):
        # Mappings of several forms: the one that shares most keys with what was written; of equal ones the last.
        return max(reversed(fitting), key=lambda branch: len(data.keys() & fields(resolve(root, branch, data))))
    return fitting[0] if len(fitting) == 1 else None
