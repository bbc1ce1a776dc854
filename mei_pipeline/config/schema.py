"""JSON Schemas (2020-12) of the files, for editors and other programs: the file models with the parameter tables in.

A schema says what one file may hold by itself, and for each strategy what its parameters may be. What it can't say, MEI
still checks: a parameter given both nested and dotted, values that depend on each other, names that other files must
have, and that a whole number of a file's own key has no decimal point.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from kernels.params import Parameter
from mei_pipeline.config.base import MARKET
from mei_pipeline.params.table import Catalog, Table

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

_TYPES = {"float": "number", "int": "integer", "bool": "boolean"}
_EMPTY = {"maxProperties": 0}


def json_schema(root: Mapping[str, Any], catalog: Catalog, title: str) -> Schema:
    """The schema of a file.

    Args:
        root: JSON schema of its model, by the names that the file uses.
        catalog: The parameter tables.
        title: What the file is.
    """
    definitions: Schema = {}
    parts = {name: _strategic(part, catalog, definitions) for name, part in root.get("$defs", {}).items()}
    body = _strategic({key: value for key, value in root.items() if key != "$defs"}, catalog, definitions)
    found = {**_plain(body), "title": title, "$defs": {**{k: _plain(v) for k, v in parts.items()}, **definitions}}
    if not found["$defs"]:
        del found["$defs"]
    return {"$schema": DIALECT, **found}


def value_schema(parameter: Parameter) -> Schema:
    """The schema of one parameter's value."""
    unit = f" Unit: {parameter.unit}." if parameter.unit else ""
    found: Schema = {"description": f"{parameter.doc}{unit} Shapes: {parameter.role}.", "default": parameter.default}
    if parameter.kind == "choice":
        found["enum"] = list(parameter.only or parameter.choices)
        return found
    found["type"] = _TYPES[parameter.kind]
    if parameter.kind != "bool":
        found |= {"minimum": parameter.low, "maximum": parameter.high}
    return found | ({"enum": list(parameter.only)} if parameter.only else {})


def _strategic(schema: Mapping[str, Any], catalog: Catalog, definitions: Schema) -> Schema:
    """The schema of a mapping that names a strategy, with that strategy's parameters in its slots."""
    properties = schema.get("properties", {})
    slots = {name: prop for name, prop in properties.items() if any(_slots(prop))}
    if "strategy" not in properties or not slots:
        return _any_strategy(schema, slots, catalog, definitions)
    optional = "strategy" not in schema.get("required", ())
    names: list[str | None] = [*catalog.strategies, *([None] if optional else [])]
    used = set(_slots(slots))
    branches: list[Schema] = []
    for name in catalog.strategies:
        definitions |= _definitions(name, catalog, used)
        filled = {key: _filled(prop, name) for key, prop in slots.items()}
        branches.append(
            {
                "if": {"properties": {"strategy": {"const": name}}, "required": ["strategy"]},
                "then": {"properties": filled},
            }
        )
    if optional:
        empty = {key: _filled(prop, None) for key, prop in slots.items()}
        branches.append({"if": {"properties": {"strategy": {"type": "null"}}}, "then": {"properties": empty}})
    strategy = {**properties["strategy"], "enum": names}
    return {
        **schema,
        "properties": {**properties, "strategy": strategy},
        "allOf": [*schema.get("allOf", ()), *branches],
    }


def _any_strategy(schema: Mapping[str, Any], slots: Mapping[str, Any], catalog: Catalog, definitions: Schema) -> Schema:
    """The schema of a mapping that has every parameter of a strategy that something else names."""
    properties = dict(schema.get("properties", {}))
    for key, prop in slots.items():
        if prop.get("slot") == "all params":
            for name in catalog.strategies:
                definitions |= _definitions(name, catalog, {"all params"})
            properties[key] = {**prop, "anyOf": [_filled(prop, name) for name in catalog.strategies]}
    return {**schema, "properties": properties} if slots else dict(schema)


def _slots(schema: Any) -> Iterator[str]:
    """Names of the slots in a schema: places for the parameters of a strategy."""
    if isinstance(schema, Mapping):
        if "slot" in schema:
            yield schema["slot"]
        for inner in schema.values():
            yield from _slots(inner)


def _filled(schema: Mapping[str, Any], strategy: str | None) -> Schema:
    """What a strategy adds to the schema of a property: references in place of slots; without one, no values."""
    if "slot" in schema:
        return dict(_EMPTY) if strategy is None else {"$ref": f"#/$defs/{_name(strategy, schema['slot'])}"}
    kept = {key: value for key, value in schema.items() if any(_slots(value))}
    return {key: _filled(value, strategy) for key, value in kept.items()}


def _name(strategy: str, slot: str) -> str:
    return f"{strategy} {slot}".replace(" ", "_")


def _definitions(strategy: str, catalog: Catalog, slots: Collection[str]) -> Schema:
    """The schemas of what some slots ask for of one strategy."""
    table, market = catalog.strategies[strategy], catalog.market_of(strategy)
    short = {path.removeprefix(MARKET): parameter for path, parameter in market.items()}
    own = {path: parameter for path, parameter in table.items() if parameter.per_symbol}
    axes = {path: _axis(strategy, parameter) for path, parameter in table.items()}
    forms = {
        "params": _values(strategy, table),
        "symbol params": _values(strategy, own),
        "all params": _values(strategy, table) | _complete((path,) for path in table),
        "market": _values(strategy, {**short, **market}),
        "all market": _values(strategy, {**short, **market}) | _complete((path, f"{MARKET}{path}") for path in short),
        "axes": {"type": "object", "properties": axes, "additionalProperties": False},
    }
    leaves = {_leaf(strategy, parameter): value_schema(parameter) for parameter in (*table.values(), *market.values())}
    wanted = {*slots, *(["params"] if "axes" in slots else [])}  # an axis may have conditions on any parameter
    return leaves | {_name(strategy, slot): form for slot, form in forms.items() if slot in wanted}


def _leaf(strategy: str, parameter: Parameter) -> str:
    return f"{strategy}.{parameter.path}"


def _to(strategy: str, parameter: Parameter) -> Schema:
    return {"$ref": f"#/$defs/{_leaf(strategy, parameter)}"}


def _values(strategy: str, parameters: Table) -> Schema:
    """A mapping of values by path, nested or dotted or partly both."""
    properties: Schema = {}
    groups: dict[str, dict[str, Parameter]] = {}
    for path, parameter in parameters.items():
        for head, tail in _splits(path):
            groups.setdefault(head, {})[tail] = parameter
        properties[path] = _to(strategy, parameter)
    for head, inner in groups.items():
        properties[head] = {**_values(strategy, inner), "minProperties": 1}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _complete(paths: Iterable[tuple[str, ...]]) -> Schema:
    """That each parameter has a value, under one of the names it goes by."""
    return {"allOf": [{"anyOf": [form for path in names for form in _present(path)]} for names in paths]}


def _present(path: str) -> Iterator[Schema]:
    yield {"required": [path]}
    for head, tail in _splits(path):
        yield {"required": [head], "properties": {head: {"anyOf": list(_present(tail))}}}


def _splits(path: str) -> Iterator[tuple[str, str]]:
    """Every way to take a path apart into a first key and the rest."""
    for index, letter in enumerate(path):
        if letter == ".":
            yield path[:index], path[index + 1 :]


def _axis(strategy: str, parameter: Parameter) -> Schema:
    values = {"type": "array", "items": _to(strategy, parameter), "minItems": 1, "uniqueItems": True}
    when = {"$ref": f"#/$defs/{_name(strategy, 'params')}"}
    forms = [values, _object({"values": values, "when": when}, ["values"])]
    if parameter.kind in {"float", "int"} and parameter.role != "feature":
        first = {"type": "number", "minimum": parameter.low, "maximum": parameter.high}
        step = {"type": "number", "exclusiveMinimum": 0}
        bounds: Schema = {"from": first, "to": {"type": "number"}, "step": step, "when": when}
        forms.append(_object(bounds, ["from", "to", "step"]))
    return {"description": f"{parameter.doc} An axis: {parameter.allowed}.", "oneOf": forms}


def _object(properties: Schema, required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _plain(schema: Any) -> Any:
    """A schema without the keywords that only MEI knows: those become standard ones or part of the description."""
    if isinstance(schema, (list, tuple)):
        return [_plain(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    found: Schema = dict(pair for key, value in schema.items() for pair in _keyword(key, value))
    if "words" in schema and "enum" not in schema:
        found["description"] = f"{found.get('description', '')} Allowed: {schema['words']}.".strip()
    return found


def _keyword(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    match key:
        case "properties" | "$defs":
            yield key, {name: _plain(inner) for name, inner in value.items()}
        case "matches":
            yield "pattern", f"^(?:{value})$"
        case "gt":
            yield "exclusiveMinimum", value
        case "default" | "const" | "enum":
            yield key, value
        case "description":
            yield key, " ".join(str(value).split())
        case "words" | "slot" | "discriminator":
            pass
        case _:
            yield key, _plain(value)
