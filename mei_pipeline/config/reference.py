"""The reference page of the configuration, made from the file models and the parameter tables."""

from collections.abc import Iterator, Sequence

from pydantic import BaseModel

from kernels.params import Parameter
from mei_pipeline.config.keys import keys_of
from mei_pipeline.config.models import LaneConfig, Overrides, PipelineConfig, PolicyConfig, SweepSpec
from mei_pipeline.params.table import Catalog, Table

_FILES: tuple[type[BaseModel], ...] = (PipelineConfig, PolicyConfig, SweepSpec, LaneConfig, Overrides)

_INTRODUCTION = """\
# Configuration

What every key of `config/*.yaml` and every parameter means, what it may be, and what applies when it is left out.
`mei config reference` prints this page from the code; `mei config check` reads all files and reports every problem with
file, line, column and key; `mei config explain PATH` says which value of a key or parameter applies, and why.

## How files are read

- UTF-8, one mapping per file, at most 1 MiB and 50,000 keys and values. A key that is unknown or given
  twice is an error, never ignored.
- Types are not converted. `8` and `8.0` are numbers, `'8'` and `08` are not. `.nan`, `.inf` and `1e999` are refused.
- Without quotes, `true` and `false` are switches, `null` is no value, and every other word is text. Where a switch is
  asked for, `on`, `off`, `yes` and `no` are understood too. A symbol `ON` needs no quotes, a symbol `TRUE` does.
- Times are ISO 8601, in UTC unless they have an offset: `2025-05-01` or `2025-05-01T00:00:00Z`.
- Anchors may be written, aliases may not: write the value out. Tags (`!!`) are refused.
- Parameters may be nested (`trade: {sl_atr_mult: 2}`) or dotted (`trade.sl_atr_mult: 2`), not both for the same one.
- All files are read and checked against each other before anything runs.

In the tables, `<name>` stands for a name of your choice and `[]` for each item of a list.
"""


def reference(catalog: Catalog) -> str:
    """The page as Markdown."""
    parts = [_INTRODUCTION, *(_file(model) for model in _FILES)]
    parts.append(
        _parameters("Market parameters", "How orders are assumed to fill, and what they cost.", catalog.market)
    )
    for name, table in catalog.strategies.items():
        parts.append(_parameters(f"Parameters of `{name}`", f"Every parameter of the strategy `{name}`.", table))
    return "\n".join(parts)


def _file(model: type[BaseModel]) -> str:
    name, _, text = " ".join((model.__doc__ or "").split()).partition(": ")
    rows = ((f"`{key.path}`", key.doc, key.allowed, key.default) for key in keys_of(model))
    return f"## {name}\n\n{text[:1].upper()}{text[1:]}\n\n" + _table(
        ("key", "what it says", "allowed", "default"), rows
    )


def _parameters(title: str, text: str, table: Table) -> str:
    rows = ((f"`{p.path}`", p.doc, p.allowed, _default(p), p.role) for p in table.values())
    return f"## {title}\n\n{text}\n\n" + _table(("path", "what it does", "allowed", "default", "role"), rows)


def _default(parameter: Parameter) -> str:
    value = parameter.default
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _table(columns: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
