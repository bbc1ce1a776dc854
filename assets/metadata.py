"""What is shown of an artefact, in one shape for every asset: path, hash, rows, columns and a preview."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import dagster as dg
import polars as pl

from mei_pipeline import files

if TYPE_CHECKING:
    Result: TypeAlias = dg.MaterializeResult[None]
else:
    # Dagster recognises the bare class as the annotation of an asset with checks, and no parametrised one.
    Result = dg.MaterializeResult
"""What an asset that writes its own artefact returns: metadata and check results, and no value."""

Metadata = dict[str, dg.MetadataValue[Any]]

PREVIEW_ROWS = 10
_CELL = 300


def artefact_metadata(
    path: Path,
    *,
    digest: str = "",
    frame: pl.DataFrame | None = None,
    rows: int | None = None,
    docs: Mapping[str, str] | None = None,
    preview: pl.DataFrame | None = None,
) -> Metadata:
    """What every asset tells about what it wrote.

    Args:
        path: The artefact: a file or a folder.
        digest: Hash of its content; of the file at `path` where left out and it is one.
        frame: The table that it holds, where it is one.
        rows: Number of rows; those of `frame` where left out.
        docs: What each column says.
        preview: What to show; the first rows of `frame` where left out.
    """
    known = digest or (files.sha256_file(path) if path.is_file() else "")
    metadata: Metadata = {"path": dg.MetadataValue.path(str(path)), "hash": dg.MetadataValue.text(known)}
    count = frame.height if rows is None and frame is not None else rows
    if count is not None:
        metadata["dagster/row_count"] = dg.MetadataValue.int(count)
    if frame is not None:
        metadata["dagster/column_schema"] = dg.MetadataValue.table_schema(schema_of(frame.schema, docs or {}))
    shown = preview if preview is not None else frame
    if shown is not None:
        metadata["preview"] = table(shown)
    return metadata


def schema_of(columns: Mapping[str, Any], docs: Mapping[str, str] | None = None) -> dg.TableSchema:
    """The column schema of a table as Dagster shows it."""
    return dg.TableSchema(
        columns=[dg.TableColumn(name, str(kind), (docs or {}).get(name)) for name, kind in columns.items()]
    )


def declared(columns: Mapping[str, Any], docs: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Definition metadata of an asset whose table has these columns."""
    return {"dagster/column_schema": schema_of(columns, docs)}


def table(frame: pl.DataFrame, count: int = PREVIEW_ROWS) -> dg.MarkdownMetadataValue:
    """The first rows of a frame as a Markdown table."""
    shown = frame.head(count)
    lines = [_row(shown.columns), _row(["---"] * shown.width), *(_row(row) for row in shown.iter_rows())]
    if frame.height > count:
        lines.append(f"\n{frame.height:,} rows in all")
    return dg.MetadataValue.md("\n".join(lines))


def records(rows: Sequence[Mapping[str, Any]]) -> dg.MarkdownMetadataValue:
    """Records as a Markdown table; columns are those of the first."""
    if not rows:
        return dg.MetadataValue.md("none")
    head = list(rows[0])
    lines = [_row(head), _row(["---"] * len(head)), *(_row([row.get(name) for name in head]) for row in rows)]
    return dg.MetadataValue.md("\n".join(lines))


def picture(*svgs: str) -> dg.MarkdownMetadataValue:
    """Self-contained SVGs that Dagster's page shows inline, one below the other."""
    encoded = (base64.b64encode(svg.encode()).decode() for svg in svgs)
    return dg.MetadataValue.md("\n\n".join(f"![](data:image/svg+xml;base64,{data})" for data in encoded))


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.4g}"
    text = str(value).replace("|", "\\|").replace("\n", " ")
    return text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"
