"""Rows that a source itself marks as not to be stored, with the rule that they break."""

from typing import NamedTuple

import polars as pl

from mei_pipeline.candles.quality import Findings, collect, per_symbol

MARK = "broken_rule"


class Split(NamedTuple):
    """A frame without the rows that its source marked.

    Attributes:
        rest: The other rows, without the column of marks.
        refused: Marked rows per symbol.
        findings: One finding per rule and symbol.
    """

    rest: pl.DataFrame
    refused: dict[str, int]
    findings: Findings


def mark(frame: pl.DataFrame, rule: str, broken: pl.Expr) -> pl.DataFrame:
    """Mark rows; a row that is marked already keeps its mark. A frame of which no row is marked stays as it is."""
    rows = frame.with_columns(broken.fill_null(value=False).alias(MARK))[MARK]
    if not rows.any():
        return frame
    known = pl.col(MARK) if MARK in frame.columns else pl.lit(None, dtype=pl.String)
    return frame.with_columns(pl.coalesce(known, pl.when(rows).then(pl.lit(rule))).alias(MARK))


def split_marked(frame: pl.DataFrame) -> Split:
    """Take the marked rows out of a frame of candles."""
    if MARK not in frame.columns:
        return Split(frame, {}, Findings())
    rest = frame.filter(pl.col(MARK).is_null()).drop(MARK)
    marked = frame.filter(pl.col(MARK).is_not_null())
    findings = [
        finding
        for (rule,), rows in marked.group_by(MARK, maintain_order=True)
        for finding in collect(rows.drop(MARK), str(rule))
    ]
    return Split(rest, per_symbol(marked), Findings() + Findings(tuple(findings)))
