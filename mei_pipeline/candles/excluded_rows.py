"""Rows that a source itself excludes, with the quality rule that they break."""

from typing import NamedTuple

import polars as pl

from mei_pipeline.candles.quality import Findings, count_by_symbol, group_findings

BROKEN_RULE = "broken_rule"
"""Column of a source's frame: the rule that excludes a row, null for a row to be stored."""


class SplitRows(NamedTuple):
    """A frame split into rows to be stored and findings about excluded rows.

    Attributes:
        kept: Rows to be stored, without the column `BROKEN_RULE`.
        refused: Excluded rows per symbol.
        findings: One finding per rule and symbol.
    """

    kept: pl.DataFrame
    refused: dict[str, int]
    findings: Findings


def exclude_rows(frame: pl.DataFrame, rule: str, broken: pl.Expr) -> pl.DataFrame:
    """Name `rule` in `BROKEN_RULE` for the rows where `broken` is true.

    A row that is excluded already keeps its rule. If no row breaks the rule, `frame` is returned unchanged.
    """
    rows = frame.with_columns(broken.fill_null(value=False).alias(BROKEN_RULE))[BROKEN_RULE]
    if not rows.any():
        return frame
    earlier = pl.col(BROKEN_RULE) if BROKEN_RULE in frame.columns else pl.lit(None, dtype=pl.String)
    return frame.with_columns(pl.coalesce(earlier, pl.when(rows).then(pl.lit(rule))).alias(BROKEN_RULE))


def split_excluded(frame: pl.DataFrame) -> SplitRows:
    """Split a frame of candles into rows to be stored and findings about excluded rows."""
    if BROKEN_RULE not in frame.columns:
        return SplitRows(frame, {}, Findings())
    kept = frame.filter(pl.col(BROKEN_RULE).is_null()).drop(BROKEN_RULE)
    excluded = frame.filter(pl.col(BROKEN_RULE).is_not_null())
    findings = [
        finding
        for (rule,), rows in excluded.group_by(BROKEN_RULE, maintain_order=True)
        for finding in group_findings(rows.drop(BROKEN_RULE), str(rule))
    ]
    return SplitRows(kept, count_by_symbol(excluded), Findings() + Findings(tuple(findings)))
