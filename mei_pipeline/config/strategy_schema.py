"""JSON Schemas (2020-12) of the files, for editors and other programs.

Pydantic models are made from the parameter tables of each strategy; their schemas fill the open mappings of the file
models. A schema covers one file by itself. MEI checks more: a parameter given both nested and dotted, values that
depend on each other, names that other files must have, and that a whole number of a file's own key has no decimal
point.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model

from kernels.params import Parameter
from mei_pipeline.config.fields import MARKET
from mei_pipeline.config.keys import SchemaGenerator
from mei_pipeline.params.table import Catalog, Table

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

_TYPES: Mapping[str, Any] = {"float": float, "int": int, "bool": bool}
_OWN = {"x-allowed", "x-branches", "x-parameters", "discriminator"}
"""Keywords that no other program knows."""


def json_schema(form: TypeAdapter[Any], catalog: Catalog, title: str) -> Schema:
    """Return the schema of a file.

    Args:
        form: Type of the file.
        catalog: The parameter tables.
        title: Contents of the file.
    """
    parts: Schema = {}
    tables: dict[str, Table] = {}
    for strategy in catalog.strategies:
        template = f"#/$defs/{strategy}/$defs/{{model}}"
        schema = form.json_schema(schema_generator=SchemaGenerator, ref_template=template)
        parts[strategy] = _published(schema, _contents(strategy, catalog))
        tables |= _tables(strategy, catalog)
    text = json.dumps(parts)
    used = {name: table for name, table in tables.items() if f'#/$defs/{name}"' in text}
    if not used:
        plain = form.json_schema(schema_generator=SchemaGenerator)
        return {"$schema": DIALECT, **_published(plain, {}), "title": title}
    branches = [{"$ref": f"#/$defs/{strategy}"} for strategy in parts]
    definitions = {
        key: each for name, table in used.items() for key, each in _definitions(name, tuple(table.items())).items()
    }
    return {"$schema": DIALECT, "title": title, "anyOf": branches, "$defs": parts | definitions}


def parameter_model(name: str, parameters: tuple[tuple[str, Parameter], ...]) -> type[BaseModel]:
    """Return the model of values by path, nested or dotted or partly both.

    Args:
        name: Name of the model.
        parameters: Parameters by path, or by the rest of it inside of a nested mapping.
    """
    fields: dict[str, Any] = {}  # by a name that Python allows; the alias is the path
    groups: dict[str, list[tuple[str, Parameter]]] = {}
    for path, parameter in parameters:
        unit = f" Unit: {parameter.unit}." if parameter.unit else ""
        doc = f"{parameter.doc}{unit} Shapes: {parameter.role}."
        fields[f"value_{len(fields)}"] = (_type(parameter), Field(parameter.default, alias=path, description=doc))
        for head, tail in _splits(path):
            groups.setdefault(head, []).append((tail, parameter))
    for head, inner in groups.items():
        group = parameter_model(f"{name}_{head}".replace(".", "-"), tuple(inner))
        filled = Field(default_factory=dict, alias=head, json_schema_extra={"minProperties": 1})
        fields[f"group_{len(fields)}"] = (group, filled)
    # Only schemas are made of it, and a validator of many parameters takes long to build.
    return create_model(name, __config__=ConfigDict(extra="forbid", defer_build=True), **fields)


@functools.cache
def _definitions(name: str, parameters: tuple[tuple[str, Parameter], ...]) -> Schema:
    """Return the schema of a model of parameters, by its name, and those of its nested mappings."""
    schema = parameter_model(name, parameters).model_json_schema(schema_generator=SchemaGenerator)
    return {**schema.pop("$defs", {}), name: schema}


def _type(parameter: Parameter) -> Any:
    if parameter.only or parameter.kind == "choice":
        return Literal[parameter.only or parameter.choices]  # pyrefly: ignore[invalid-literal]  # known at run time
    limits = {} if parameter.kind == "bool" else {"ge": parameter.low, "le": parameter.high}
    return Annotated[_TYPES[parameter.kind], Field(**limits)]


def _tables(strategy: str, catalog: Catalog) -> Mapping[str, Table]:
    """Return the parameters that a mapping may have, by the name of its model."""
    table, market = catalog.strategies[strategy], catalog.market_of(strategy)
    return {
        f"{strategy}_params": table,
        f"{strategy}_symbol_params": {path: parameter for path, parameter in table.items() if parameter.per_symbol},
        f"{strategy}_market": {**{path.removeprefix(MARKET): each for path, each in market.items()}, **market},
    }


def _contents(strategy: str, catalog: Catalog) -> Mapping[str, Schema]:
    """Return the schemas of open mappings for one strategy, by their forms."""
    refs = {name.removeprefix(f"{strategy}_"): {"$ref": f"#/$defs/{name}"} for name in _tables(strategy, catalog)}
    table, market = catalog.strategies[strategy], catalog.market_of(strategy)
    axes = {path: _axis(parameter, refs["params"]) for path, parameter in table.items()}
    return {
        **refs,
        "strategy": {"const": strategy},
        "axes": {"type": "object", "properties": axes, "additionalProperties": False, "minProperties": 1},
        "all_params": {**refs["params"], "allOf": [{"anyOf": list(_present(path))} for path in table]},
        "all_market": {
            **refs["market"],
            "allOf": [{"anyOf": [*_present(path), *_present(path.removeprefix(MARKET))]} for path in market],
        },
    }


def _axis(parameter: Parameter, params: Schema) -> Schema:
    """Return the schema of an axis: values, values with conditions, or a range."""
    value = {"$ref": f"{params['$ref']}/properties/{parameter.path}"}
    values = {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}
    forms: list[Schema] = [{"values": values}]
    if parameter.kind in {"float", "int"} and parameter.role != "feature":
        first = {"type": "number", "minimum": parameter.low, "maximum": parameter.high}
        forms.append({"from": first, "to": {"type": "number"}, "step": {"type": "number", "exclusiveMinimum": 0}})
    mappings = [
        {"type": "object", "properties": form | {"when": params}, "additionalProperties": False, "required": list(form)}
        for form in forms
    ]
    return {"description": f"{parameter.doc} An axis: {parameter.allowed}.", "oneOf": [values, *mappings]}


def _present(path: str) -> Iterator[Schema]:
    """Yield the ways to give a value to a path."""
    yield {"required": [path]}
    for head, tail in _splits(path):
        yield {"required": [head], "properties": {head: {"anyOf": list(_present(tail))}}}


def _splits(path: str) -> Iterator[tuple[str, str]]:
    """Yield every way to take a path apart into a first key and the rest."""
    return ((path[:index], path[index + 1 :]) for index, letter in enumerate(path) if letter == ".")


def _published(schema: Any, contents: Mapping[str, Schema]) -> Any:
    """Return a schema with the parameters of one strategy in the open mappings, and without our keywords.

    Allowed values in words become part of the description.
    """
    if isinstance(schema, list):
        return [_published(item, contents) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {key: _published(inner, contents) for key, inner in schema.items() if key not in _OWN}
    if "x-allowed" in schema and "enum" not in schema:
        found["description"] = f"{schema.get('description', '')} Allowed: {schema['x-allowed']}.".strip()
    if "x-parameters" in schema:
        found = {"description": found.get("description", "")} | contents[schema["x-parameters"]]
    return found
