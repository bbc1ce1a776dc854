"""New rows against the rows of one file: which are added, which revise, which say nothing new."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from mei_pipeline.candles.funding import HOUR, finer, grid
from mei_pipeline.candles.schema import FUNDING, Table


@dataclass(frozen=True)
class Merged:
    """The result of merging rows into one file.

    Attributes:
        frame: The file's new content, sorted by key.
        changes: One record per row added or revised (`change_columns`, less what is null throughout).
        added: Rows added per symbol.
        revised: Rows revised per symbol.
        unchanged: Rows per symbol that the file had already.
    """

    frame: pl.DataFrame
    changes: pl.DataFrame
    added: dict[str, int]
    revised: dict[str, int]
    unchanged: dict[str, int]


def change_columns(table: Table) -> dict[str, pl.DataType]:
    """Columns of a record of changes, less the file's path.

    `action` is added or revised. `old_*` is what the lake held, null for an added row. `new_*` is what replaced it; of
    an added row only its time is kept, since the row itself is in the lake.
    """
    kept = {name: kind for name, kind in table.columns.items() if name not in {"venue", "interval", "symbol"}}
    columns: dict[str, pl.DataType] = {"action": pl.String(), "symbol": pl.String()}
    columns |= {f"old_{name}": kind for name, kind in kept.items()}
    return columns | {f"new_{name}": kind for name, kind in kept.items()}


def merge_rows(table: Table, old: pl.DataFrame, new: pl.DataFrame) -> Merged:
    """Merge `new` into `old`; a new value for a key that exists wins and is recorded.

    Args:
        table: The table both belong to.
        old: Content of the file; may be empty.
        new: Rows to merge, one per key.
    """
    key = ["symbol", HOUR] if table is FUNDING else list(table.key)
    if table is FUNDING:
        old, new = (frame.with_columns(grid().alias(HOUR)) for frame in (old, new))
    fresh = new.join(old, on=key, how="anti", maintain_order="left") if old.height else new
    met = new.clear() if fresh.height == new.height else new.join(old, on=key, how="semi", maintain_order="left")
    before = old.join(met, on=key, how="semi").sort(key)
    after = met.sort(key)
    differ = _differs_funding(before, after) if table is FUNDING else _differs(table, before, after)
    before, after, same = before.filter(differ), after.filter(differ), after.filter(~differ)
    frame = old
    if fresh.height or after.height:
        kept = old.join(after, on=key, how="anti", maintain_order="left") if after.height else old
        frame = pl.concat([kept, fresh, after]).sort(list(table.key))
    return Merged(
        frame.select(*table.columns),
        _changes(table, fresh, before, after),
        _counts(fresh),
        _counts(after),
        _counts(same),
    )


def revert(table: Table, frame: pl.DataFrame, changes: pl.DataFrame, partition: Mapping[str, str]) -> pl.DataFrame:
    """Undo `changes` in `frame`: rows added go away, rows revised get their old values back.

    Args:
        table: The table that both belong to.
        frame: Rows of one venue and, of candles, one interval.
        changes: What a transaction changed in them (`change_columns`).
        partition: That venue and interval, by column.
    """
    time = table.key[1]
    keys = changes.select("symbol", pl.col(f"new_{time}").alias(time))
    kept = frame.join(keys, on=["symbol", time], how="anti")
    names = [name for name in table.columns if name not in {"venue", "interval", "symbol"}]
    restored = (
        changes.filter(pl.col("action") == "revised")
        .select("symbol", **{name: pl.col(f"old_{name}") for name in names})
        .with_columns(**{name: pl.lit(value) for name, value in partition.items()})
        .select(*table.columns)
    )
    return pl.concat([kept, restored]).sort(list(table.key))


def _differs(table: Table, before: pl.DataFrame, after: pl.DataFrame) -> pl.Series:
    # What the venue does not say (null) contradicts nothing.
    tests = [
        (after[name].is_not_null() & after[name].ne_missing(before[name]))
        if name in table.nullable
        else after[name].ne_missing(before[name])
        for name in table.values
    ]
    return pl.DataFrame(tests).fold(lambda one, other: one | other)


def _differs_funding(before: pl.DataFrame, after: pl.DataFrame) -> pl.Series:
    columns = ["rate", "premium", "time_ms"]
    alike = [before[name].eq_missing(after[name]) for name in columns]
    verdict = (~(alike[0] & alike[1] & alike[2])).to_list()
    olds, news = before.to_dicts(), after.to_dicts()
    for index, unlike in enumerate(verdict):
        if unlike:
            verdict[index] = finer(olds[index], news[index]) is not olds[index]
    return pl.Series(verdict, dtype=pl.Boolean)


def _changes(table: Table, fresh: pl.DataFrame, before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    time = table.key[1]
    added = fresh.select(pl.lit("added").alias("action"), "symbol", pl.col(time).alias(f"new_{time}"))
    if after.is_empty():
        return added
    schema = change_columns(table)
    names = [name.removeprefix("old_") for name in schema if name.startswith("old_")]
    revised = after.select(
        pl.lit("revised").alias("action"), "symbol", **{f"new_{name}": pl.col(name) for name in names}
    ).with_columns([before[name].alias(f"old_{name}") for name in names])
    return pl.concat([added, revised], how="diagonal")


def _counts(frame: pl.DataFrame) -> dict[str, int]:
    counts = frame.group_by("symbol").len().sort("symbol")
    return dict(zip(counts["symbol"].to_list(), counts["len"].to_list(), strict=True))
