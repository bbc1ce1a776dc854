"""Merge of new rows into the rows of one file, and its reversal."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from mei_pipeline.candles.funding import HOUR, hour_of, more_precise
from mei_pipeline.candles.schema import FUNDING, LakeTable


@dataclass(frozen=True)
class MergeResult:
    """Result of merging rows into one file.

    Attributes:
        frame: New content of the file, sorted by key.
        changes: One record per row added or revised (`change_columns`, without columns that are null throughout).
        added: Rows added per symbol.
        revised: Rows revised per symbol.
        unchanged: Rows per symbol that the file had already.
    """

    frame: pl.DataFrame
    changes: pl.DataFrame
    added: dict[str, int]
    revised: dict[str, int]
    unchanged: dict[str, int]


def change_columns(table: LakeTable) -> dict[str, pl.DataType]:
    """Return the columns of a record of changes, without the file's path.

    `action` is added or revised. `old_*` are the values before, null for an added row. `new_*` are the values after; of
    an added row only the time is kept, because the lake has the row itself.
    """
    kept = {name: kind for name, kind in table.columns.items() if name not in {"venue", "interval", "symbol"}}
    columns: dict[str, pl.DataType] = {"action": pl.String(), "symbol": pl.String()}
    columns |= {f"old_{name}": kind for name, kind in kept.items()}
    return columns | {f"new_{name}": kind for name, kind in kept.items()}


def merge_rows(table: LakeTable, old: pl.DataFrame, new: pl.DataFrame) -> MergeResult:
    """Merge `new` into `old`; for a key that exists, the new values replace the old ones and the change is recorded.

    Args:
        table: The table of both frames.
        old: Content of the file; may be empty.
        new: Rows to merge, one per key.
    """
    # Two stamps within one hour are the same payment, so the hour identifies a print and not the stamp.
    key = ["symbol", HOUR] if table is FUNDING else list(table.key)
    if table is FUNDING:
        old, new = (frame.with_columns(hour_of().alias(HOUR)) for frame in (old, new))
    fresh = new.join(old, on=key, how="anti", maintain_order="left") if old.height else new
    existing = new.clear() if fresh.height == new.height else new.join(old, on=key, how="semi", maintain_order="left")
    before = old.join(existing, on=key, how="semi").sort(key)
    after = existing.sort(key)
    differ = _differs_funding(before, after) if table is FUNDING else _differs(table, before, after)
    before, after, same = before.filter(differ), after.filter(differ), after.filter(~differ)
    frame = old
    if fresh.height or after.height:
        kept = old.join(after, on=key, how="anti", maintain_order="left") if after.height else old
        frame = pl.concat([kept, fresh, after]).sort(list(table.key))
    return MergeResult(
        frame.select(*table.columns),
        _changes(table, fresh, before, after),
        _counts(fresh),
        _counts(after),
        _counts(same),
    )


def revert(table: LakeTable, frame: pl.DataFrame, changes: pl.DataFrame, partition: Mapping[str, str]) -> pl.DataFrame:
    """Undo `changes` in `frame`: remove the rows added, restore the old values of the rows revised.

    Args:
        table: The table of both frames.
        frame: Rows of one venue and, of candles, one interval.
        changes: Changes of one transaction in these rows (`change_columns`).
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


def _differs(table: LakeTable, before: pl.DataFrame, after: pl.DataFrame) -> pl.Series:
    # A null in a nullable column means that this source does not state the value; it does not revise a known one.
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
    revised = (~(alike[0] & alike[1] & alike[2])).to_list()
    olds, news = before.to_dicts(), after.to_dicts()
    for index, differs in enumerate(revised):
        if differs:
            # A print that agrees but is less precise does not replace the stored one.
            revised[index] = more_precise(olds[index], news[index]) is not olds[index]
    return pl.Series(revised, dtype=pl.Boolean)


def _changes(table: LakeTable, fresh: pl.DataFrame, before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
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
