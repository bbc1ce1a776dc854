"""The reference page of the configuration, made from the file models and the parameter tables."""

from collections.abc import Iterable, Iterator, Sequence

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

In the tables, `<name>` stands for a name of your choice and `[]` for each item of a list. A parameter marked `yes`
under *per symbol* may have another value for a single symbol: under `symbols.<SYMBOL>` of strategy_overrides.yaml,
and under `symbol_params.<SYMBOL>` of a sweep or a backtest file. The others are values of the whole book.

`mei config schema NAME` prints a JSON Schema of a file for editors: NAME is pipeline, policy, overrides, lane, sweep,
backtest, promoted or candidate.

## How combos are numbered

A combo is its number among all combinations of the axes, whichever of them are run. Feature windows vary slowest,
then parameters that decide entries, then the rest, so that neighbours read the same columns and enter alike. An axis
written as `{values: [1, 2], when: {PATH: VALUE}}` or `{from: 1, to: 3, step: 0.5, when: {PATH: VALUE}}` varies only
in combos where the parameter PATH has that value, whether an axis, `params` or its default gave it; in all others it
has its own value of `params`, or its default, once. Several paths under `when` must all fit. An axis comes after
those that its `when` asks for.
"""


def reference(catalog: Catalog) -> str:
    """The page as Markdown."""
    parts = [_INTRODUCTION, *(_file(model) for model in _FILES)]
    text = "How orders are assumed to fill, and what they cost; the same for all symbols of a book."
    parts.append(f"## Market parameters\n\n{text}\n\n" + _rows(catalog.market.values(), per_symbol=False))
    for name, table in catalog.strategies.items():
        parts += _strategy(name, table, catalog.market, catalog.market_of(name))
    return "\n".join(parts)


def _strategy(name: str, table: Table, base: Table, market: Table) -> Iterator[str]:
    yield f"## Parameters of `{name}`\n\nEvery parameter of the strategy `{name}`.\n"
    sections = dict.fromkeys(map(_section, table.values()))
    for section in sections:
        yield f"### `{name}`: {section}\n\n" + _rows(p for p in table.values() if _section(p) == section)
    if other := [parameter for path, parameter in market.items() if parameter != base[path]]:
        text = "Where the strategy has another default than other strategies, or allows less."
        yield f"### `{name}`: market\n\n{text}\n\n" + _rows(other, per_symbol=False)


def _section(parameter: Parameter) -> str:
    return parameter.path.rpartition(".")[0]


def _file(model: type[BaseModel]) -> str:
    name, _, text = " ".join((model.__doc__ or "").split()).partition(": ")
    rows = ((f"`{key.path}`", key.doc, key.allowed, key.default) for key in keys_of(model))
    return f"## {name}\n\n{text[:1].upper()}{text[1:]}\n\n" + _table(
        ("key", "what it says", "allowed", "default"), rows
    )


def _rows(parameters: Iterable[Parameter], *, per_symbol: bool = True) -> str:
    columns = ["path", "what it does", "allowed", "default", "role", *(["per symbol"] if per_symbol else [])]
    rows = (
        (
            f"`{p.path}`",
            p.doc,
            p.allowed,
            _default(p),
            p.role,
            *(["yes" if p.per_symbol else "no"] if per_symbol else []),
        )
        for p in parameters
    )
    return _table(columns, rows)


def _default(parameter: Parameter) -> str:
    value = parameter.default
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _table(columns: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
