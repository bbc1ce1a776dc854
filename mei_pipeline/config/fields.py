"""Types of config keys: the base of every file model, and the fields that YAML needs.

A JSON schema keyword `x-allowed` holds the allowed values in words, for messages and the reference page. `x-parameters`
marks a mapping that `strategy_schema` fills with the parameters of a strategy.
"""

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, to_jsonable_python

from mei_pipeline import names
from mei_pipeline.config.yaml_marks import Plain
from mei_pipeline.params.paths import flatten

MARKET = "market."
"""First part of the path of every market parameter."""

_SWITCH = {"on": True, "yes": True, "off": False, "no": False}
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?(?:Z|[-+]\d\d:\d\d)?)?")
_NESTED = "parameters by path, nested (trade: {sl_atr_mult: 2}) or dotted"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class FileModel(BaseModel):
    """A record read from a file: immutable, no unknown keys, no conversion between types.

    Lists of a file arrive as tuples: declare them `tuple[X, ...]`. A field has an alias if the file's name of it is a
    Python keyword or lacks the unit; code may use either name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, populate_by_name=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe each field by the docstring below it."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, doc in _field_docs(cls):
            properties[cls.model_fields[name].alias or name].setdefault("description", doc)
        return schema


def _field_docs(model: type[FileModel]) -> Iterator[tuple[str, str]]:
    """Yield the name of each field that has a docstring, and the docstring.

    pydantic's `use_attribute_docstrings` would read the source of every model at import: 0.1 s in each command.
    """
    for each in model.__mro__:
        if issubclass(each, FileModel):
            (definition,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
            for pair in itertools.pairwise(getattr(definition, "body", ())):
                match list(pair):
                    case [ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text)))]:
                        yield name, inspect.cleandoc(text)
                    case _:
                        pass


def flaws(found: Mapping[str, str]) -> ValidationError:
    """Return the error of a validator that knows which keys below its own value are wrong.

    Args:
        found: Error of each key, by dotted path from the validated value.
    """
    errors = {path: PydanticCustomError("flaw", "{text}", {"text": text}) for path, text in found.items()}
    details: Any = [{"type": error, "loc": (path,), "input": None} for path, error in errors.items()]
    return ValidationError.from_exception_data("file", details)


def shape(value: object) -> str:
    """Return the tag of a union's branch by the value's shape: `list`, `mapping` or `word`."""
    if isinstance(value, (tuple, list)):
        return "list"
    return "mapping" if isinstance(value, (Mapping, BaseModel)) else "word"


def _time_ms(value: object, info: ValidationInfo) -> int:
    # Only the reader of files passes a context. Code gives milliseconds; in a file, 20250501 is a mistyped date.
    if type(value) is int and value >= 0 and info.context is None:
        return value
    if isinstance(value, str) and _TIME.fullmatch(value):
        with suppress(ValueError):
            time = datetime.fromisoformat(value)
            passed = (time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH
            if passed >= timedelta(0):
                return passed // timedelta(milliseconds=1)
    raise PydanticCustomError("time", "not a time")


def _symbol(value: str) -> str:
    if problem := names.symbol_problem(value):
        raise PydanticCustomError("symbol", "{problem}", {"problem": problem})
    return value


def _flat(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    flat = flatten(value)
    if flat.problems:
        raise flaws(flat.problems)
    return flat.values


def _with_prefix(values: dict[str, Any]) -> dict[str, Any]:
    return {path if path.startswith(MARKET) else f"{MARKET}{path}": value for path, value in values.items()}


def open_mapping(form: str, allowed: str = _NESTED) -> WithJsonSchema:
    """Mark a mapping whose keys are the parameters of a strategy; `strategy_schema` fills it."""
    return WithJsonSchema({"type": "object", "x-allowed": allowed, "x-parameters": form})


def _text(pattern: str, allowed: str, **keywords: str) -> Any:
    anchored = f"^(?:{pattern})$"
    schema = {"type": "string", "pattern": anchored, "x-allowed": allowed, **keywords}
    return Field(pattern=anchored), WithJsonSchema(schema)


def _schema(kind: str | list[str], allowed: str) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, "x-allowed": allowed})


Switch = Annotated[
    bool,
    BeforeValidator(lambda value: _SWITCH.get(value.lower(), value) if isinstance(value, Plain) else value),
    WithJsonSchema({"enum": [True, False, *_SWITCH], "x-allowed": "true or false"}),
]
"""A boolean that may also be written on, off, yes, no (without quotes)."""

Timestamp = Annotated[
    int,
    BeforeValidator(_time_ms),
    _schema("string", "a time in UTC such as 2025-05-01 or 2025-05-01T00:00:00Z"),
]
"""A time: in the file ISO 8601 (UTC unless it has an offset, whole milliseconds), in code UTC milliseconds."""

Month = Annotated[str, *_text(r"(?:19[7-9][0-9]|20[0-9][0-9])-(?:0[1-9]|1[0-2])", "a month such as 2025-05")]
"""A calendar month of UTC as YYYY-MM."""

Venue = Annotated[str, *_text(names.VENUE, "a venue's name in lower case such as binance")]
"""Name of a venue; a folder of the lake."""

Symbol = Annotated[str, *_text(names.SYMBOL, "a symbol such as BTC or BTC/USDT:USDT"), AfterValidator(_symbol)]
"""Name of a symbol as its venue writes it; see `names`."""

_NAME = r"[a-z][a-z0-9_-]{0,63}", "a name in lower case such as nightly"

Name = Annotated[str, *_text(*_NAME)]
"""Name of a profile, sweep or lane; a file or folder has the same."""

Number = Annotated[float | int, WithJsonSchema({"type": "number"})]
"""A number that stays whole if it is written without a decimal point."""

StrategyName = Annotated[str, *_text(*_NAME, **{"x-parameters": "strategy"})]
"""Name of a strategy."""

Interval = Literal["1m", "3m", "5m", "15m", "30m", "1h", "4h", "1d"]
"""Length of a bar."""

Scalar = Annotated[bool | int | float | str, _schema(["boolean", "number", "string"], "one value")]
"""A value of a parameter."""

_Flat = Annotated[dict[str, Scalar], BeforeValidator(_flat)]

Values = Annotated[_Flat, open_mapping("params")]
"""Parameter values by dotted path; in a file nested or dotted or both."""

AllValues = Annotated[_Flat, open_mapping("all_params")]
"""A value for every parameter."""

SymbolValues = Annotated[_Flat, open_mapping("symbol_params")]
"""Parameter values of one symbol."""

MarketValues = Annotated[_Flat, AfterValidator(_with_prefix), open_mapping("market")]
"""Market parameter values; in a file without the leading `market.`, in code by their full paths."""

AllMarketValues = Annotated[_Flat, AfterValidator(_with_prefix), open_mapping("all_market")]
"""A value for every market parameter."""

Json = Annotated[dict[str, Any], BeforeValidator(to_jsonable_python), _schema("object", "any mapping")]
"""A mapping that this reader does not look into."""

Role = Literal["primary", "fallback", "conservative"]
"""Rank of an accepted config: the best, the second best or the third best."""
