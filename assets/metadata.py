"""Metadata of assets in one layout: plots, path, hash, rows, columns and a preview.

Figures are rounded by the unit in their name, and ids are shortened. Files, the registry and `--json` have all digits.
"""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import dagster as dg
import polars as pl

from mei_pipeline import files
from mei_pipeline.pages import cell_text

if TYPE_CHECKING:
    Result: TypeAlias = dg.MaterializeResult[None]
else:
    # Dagster accepts only the bare class as the annotation of an asset with checks, not a parametrised one.
    Result = dg.MaterializeResult
"""Return type of an asset that writes its own files: metadata and check results, without a value."""

Metadata = dict[str, dg.MetadataValue[Any]]

PREVIEW_ROWS = 10
_CELL = 300
_SHORT = 12  # digits of an id; commands take any prefix that is unique
_ID = re.compile(r"\b[0-9a-f]{32,}\b")
_DECIMALS = {
    r"_pct$|%$|_usd$": 2,
    r"_s$|hours$": 1,
    r"^sharpe|_frac$|_rate$|_factor$|trials$": 3,
}
"""Decimal places by a pattern of the name."""


def materialized(
    metadata: Metadata,
    check_results: Sequence[dg.AssetCheckResult] = (),
    data_version: dg.DataVersion | None = None,
) -> Result:
    """Return the result of an asset that has written its own files."""
    # pyrefly: ignore[bad-return]  # Dagster's marker for no value does not have the declared type
    return dg.MaterializeResult(metadata=metadata, check_results=check_results, data_version=data_version)


def artefact_metadata(
    path: Path,
    *,
    digest: str = "",
    frame: pl.DataFrame | None = None,
    rows: int | None = None,
    docs: Mapping[str, str] | None = None,
    preview: pl.DataFrame | None = None,
    plots: Mapping[str, Sequence[str]] | None = None,
) -> Metadata:
    """Return the metadata that every asset has about the file or folder that it wrote.

    Args:
        path: The file or folder.
        digest: Hash of its content; by default that of the file at `path`.
        frame: The table in it, if there is one.
        rows: Number of rows; by default those of `frame`.
        docs: Description of each column of `frame`.
        preview: Rows to show; by default the first rows of `frame`.
        plots: SVGs of each plot by name. They come first, because Dagster shows metadata in the given order.

    Raises:
        KeyError: `docs` has no description of a column.
    """
    content_hash = digest or (files.sha256_file(path) if path.is_file() else "")
    metadata: Metadata = {name: picture(*svgs) for name, svgs in (plots or {}).items()}
    metadata |= {"path": dg.MetadataValue.path(str(path)), **entries(hash=content_hash)}
    count = frame.height if rows is None and frame is not None else rows
    if count is not None:
        metadata["dagster/row_count"] = dg.MetadataValue.int(count)
    if frame is not None:
        metadata["dagster/column_schema"] = dg.MetadataValue.table_schema(schema_of(frame.schema, docs or {}))
    shown = preview if preview is not None else frame
    if shown is not None:
        metadata["preview"] = table(shown)
    return metadata


def entries(**values: object) -> Metadata:
    """Return texts, numbers and Dagster's values as metadata: figures rounded, ids short, None as null."""
    return {name: _entry(name, value) for name, value in values.items()}


def _entry(name: str, value: object) -> dg.MetadataValue[Any]:
    match value:
        case dg.MetadataValue():
            return value
        case None:
            return dg.MetadataValue.null()
        case int():
            return dg.MetadataValue.int(value)
        case float():
            return dg.MetadataValue.float(rounded(name, value))
        case _:
            return dg.MetadataValue.text(short(str(value)))


def rounded(name: str, value: float) -> float:
    """Return a figure rounded to the decimals of the unit in its name; without a unit, as tables show it."""
    decimals = _decimals(name)
    if decimals is None and math.isfinite(value):
        return float(cell_text(value).replace(",", ""))
    return round(value, decimals or 0)


def short(text: str) -> str:
    """Return a text with shortened ids; inside a longer text an ellipsis marks a shortened id."""
    return text[:_SHORT] if _ID.fullmatch(text) else _ID.sub(lambda found: f"{found[0][:_SHORT]}…", text)


def schema_of(columns: Mapping[str, Any], docs: Mapping[str, str]) -> dg.TableSchema:
    """Return the column schema of a table for Dagster.

    Raises:
        KeyError: `docs` has no description of a column.
    """
    return dg.TableSchema(columns=[dg.TableColumn(name, str(kind), docs[name]) for name, kind in columns.items()])


def declared(columns: Mapping[str, Any], docs: Mapping[str, str]) -> dict[str, Any]:
    """Return the definition metadata of an asset whose table has these columns; errors as in `schema_of`."""
    return {"dagster/column_schema": schema_of(columns, docs)}


def table(frame: pl.DataFrame, count: int = PREVIEW_ROWS) -> dg.MarkdownMetadataValue:
    """Return the first rows of a frame as a Markdown table."""
    shown = frame.head(count)
    lines = _lines(shown.columns, shown.rows())
    if frame.height > count:
        lines.append(f"\n{frame.height:,} rows in all")
    return dg.MetadataValue.md("\n".join(lines))


def records(rows: Sequence[Mapping[str, Any]]) -> dg.MarkdownMetadataValue:
    """Return records as a Markdown table with the columns of the first record."""
    if not rows:
        return dg.MetadataValue.md("none")
    head = list(rows[0])
    return dg.MetadataValue.md("\n".join(_lines(head, [[row.get(name) for name in head] for row in rows])))


def picture(*svgs: str) -> dg.MarkdownMetadataValue:
    """Return self-contained SVGs as Markdown that Dagster's page shows inline, one below the other."""
    encoded = (base64.b64encode(svg.encode()).decode() for svg in svgs)
    return dg.MetadataValue.md("\n\n".join(f"![](data:image/svg+xml;base64,{data})" for data in encoded))


def _lines(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    cells = [[_cell(name, value) for name, value in zip(head, row, strict=True)] for row in rows]
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *cells)]


def _cell(name: str, value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        decimals = _decimals(name)
        return cell_text(value) if decimals is None or not math.isfinite(value) else f"{value:,.{decimals}f}"
    text = short(str(value)).replace("|", "\\|").replace("\n", " ")
    return text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"


def _decimals(name: str) -> int | None:
    return next((count for pattern, count in _DECIMALS.items() if re.search(pattern, name)), None)
