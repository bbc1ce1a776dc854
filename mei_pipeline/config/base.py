"""Building blocks of the file models: a strict frozen base, and the field types that YAML needs."""

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetJsonSchemaHandler,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError

from mei_pipeline import names
from mei_pipeline.config.nodes import Plain
from mei_pipeline.params.paths import flatten

MARKET = "market."
"""What the path of every market parameter begins with."""

_SWITCH = {"on": True, "yes": True, "off": False, "no": False}
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?(?:Z|[-+]\d\d:\d\d)?)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS_PER_DAY = 86_400_000

FROM_FILE = "from_file"
"""Key of the validation context by which a field knows that a person wrote its value."""

Scalar = Annotated[
    bool | int | float | str, WithJsonSchema({"type": ["boolean", "number", "string"], "words": "one value"})
]
"""A value of a parameter."""


class FileModel(BaseModel):
    """A record read from a file: immutable, no unknown keys, no conversion between types.

    Lists of a file arrive as tuples: declare them `tuple[X, ...]`. Where the file's name of a field is a Python
    keyword, or lacks the unit that the code's has, the field has an alias, and code may use either.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        populate_by_name=True,
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe each field by the docstring below it.

        pydantic can do that, when a class is made: it reads and tokenizes the source of each model in every process,
        0.1 s of a command that lists lanes.
        """
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, doc in _attribute_docs(cls).items():
            shown = {name, cls.model_fields[name].alias} & properties.keys()
            for key in shown:
                properties[key].setdefault("description", doc)
        return schema


def _attribute_docs(model: type[FileModel]) -> dict[str, str]:
    """The docstring of each field, by its name, those of inherited ones included."""
    found: dict[str, str] = {}
    for each in reversed([cls for cls in model.__mro__ if issubclass(cls, FileModel)]):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        for field, note in itertools.pairwise(cast("ast.ClassDef", definition).body):
            match field, note:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = inspect.cleandoc(text)
    return found


def flaws(found: Mapping[str, str]) -> PydanticCustomError:
    """The error of a validator that knows which keys below its own value are wrong.

    Args:
        found: For each key (dotted path from the validated value), what is wrong with it.
    """
    text = "; ".join(f"{path}: {text}" for path, text in found.items())
    return PydanticCustomError("flaws", cast("Any", "{text}"), {"text": text, "flaws": dict(found)})


def shape(value: object) -> str:
    """Tag of a union's branch by the value's shape: `list`, `mapping` or `word`."""
    if isinstance(value, (tuple, list)):
        return "list"
    return "mapping" if isinstance(value, (Mapping, BaseModel)) else "word"


def _switch(value: object) -> object:
    return _SWITCH.get(value.lower(), value) if isinstance(value, Plain) else value


def _time_ms(value: object, info: ValidationInfo) -> int:
    in_file = isinstance(info.context, Mapping) and FROM_FILE in info.context
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0 and not in_file:
        return value
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise PydanticCustomError("time", "not a time")
    try:
        time = datetime.fromisoformat(value)
    except ValueError as error:
        raise PydanticCustomError("time", "not a time") from error
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    passed = time - _EPOCH
    if passed.days < 0:
        raise PydanticCustomError("time", "before 1970")
    return passed.days * _MILLISECONDS_PER_DAY + passed.seconds * 1000 + passed.microseconds // 1000


def _matching(pattern: str) -> Callable[[object], str]:
    compiled = re.compile(pattern)

    def check(value: object) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise PydanticCustomError("pattern", "does not match")
        return str(value)

    return check


def _word(pattern: str, words: str) -> Any:
    return BeforeValidator(_matching(pattern)), WithJsonSchema({"type": "string", "words": words, "matches": pattern})


def _symbol(value: str) -> str:
    if problem := names.symbol_problem(value):
        raise PydanticCustomError("pattern", "{text}", {"text": problem})
    return value


def _flat(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    found = flatten(value)
    if found.problems:
        raise flaws(found.problems)
    return {path: str(leaf) if isinstance(leaf, str) else leaf for path, leaf in found.values.items()}


def _with_prefix(values: dict[str, Scalar]) -> dict[str, Scalar]:
    return {path if path.startswith(MARKET) else f"{MARKET}{path}": value for path, value in values.items()}


def _unmarked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _unmarked(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_unmarked(item) for item in value]
    return str(value) if isinstance(value, str) else value


Switch = Annotated[
    bool, BeforeValidator(_switch), WithJsonSchema({"enum": [True, False, *_SWITCH], "words": "true or false"})
]
"""A boolean that may also be written on, off, yes, no (without quotes)."""

Timestamp = Annotated[
    int,
    BeforeValidator(_time_ms),
    WithJsonSchema({"type": "string", "words": "a time in UTC such as 2025-05-01 or 2025-05-01T00:00:00Z"}),
]
"""A time, in the file ISO 8601 (UTC unless it has an offset, whole milliseconds), in code UTC milliseconds."""

Month = Annotated[str, *_word(r"(?:19[7-9]\d|20\d\d)-(?:0[1-9]|1[0-2])", "a month such as 2025-05")]
"""A calendar month of UTC as YYYY-MM."""

Venue = Annotated[str, *_word(names.VENUE, "a venue's name in lower case such as binance")]
"""Name of a venue; a folder of the lake."""

Symbol = Annotated[
    str,
    *_word(names.SYMBOL, "a symbol such as BTC or BTC/USDT:USDT"),
    AfterValidator(_symbol),
]
"""Name of a symbol as its venue writes it; see `names`."""

Name = Annotated[str, *_word(r"[a-z][a-z0-9_-]{0,63}", "a name in lower case such as nightly")]
"""Name of a profile, sweep or lane; a file or folder has the same."""

Interval = Literal["1m", "3m", "5m", "15m", "30m", "1h", "4h", "1d"]
"""Length of a bar."""


def _values(slot: str) -> WithJsonSchema:
    words = "parameters by path, nested (trade: {sl_atr_mult: 2}) or dotted"
    return WithJsonSchema({"type": "object", "words": words, "slot": slot})


_Flat = Annotated[dict[str, Scalar], BeforeValidator(_flat)]

Values = Annotated[_Flat, _values("params")]
"""Parameter values by dotted path; in a file nested or dotted or both."""

AllValues = Annotated[_Flat, _values("all params")]
"""A value for every parameter."""

SymbolValues = Annotated[_Flat, _values("symbol params")]
"""Parameter values of one symbol."""

MarketValues = Annotated[_Flat, AfterValidator(_with_prefix), _values("market")]
"""Market parameter values; in a file without the leading `market.`, in code by their full paths."""

AllMarketValues = Annotated[_Flat, AfterValidator(_with_prefix), _values("all market")]
"""A value for every market parameter."""

Json = Annotated[dict[str, Any], BeforeValidator(_unmarked), WithJsonSchema({"type": "object", "words": "any mapping"})]
"""A mapping that this reader does not look into."""

Role = Literal["primary", "fallback", "conservative"]
"""Which of a night's configs that passed is meant: the best, the second best or the third best."""
