"""What is shown of an artefact, in one shape for every asset: plots, path, hash, rows, columns and a preview.

Figures are rounded by the unit in their name, and ids are cut to their first digits. Files, the registry and `--json`
hold them whole.
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
    # Dagster recognises the bare class as the annotation of an asset with checks, and no parametrised one.
    Result = dg.MaterializeResult
"""What an asset that writes its own artefact returns: metadata and check results, and no value."""

Metadata = dict[str, dg.MetadataValue[Any]]

PREVIEW_ROWS = 10
_CELL = 300
_SHORT = 12  # digits of an id; commands take any prefix that is unique
_ID = re.compile(r"\b[0-9a-f]{32,}\b")
_DECIMALS = {
    r"_pct$|%$|_usd$": 2,
    r"_s$|hours$": 1,
    r"^sharpe|_frac$|_rate$|_factor$|looks$": 3,
}
"""Digits behind the point by a pattern of the name."""


def materialized(
    metadata: Metadata,
    check_results: Sequence[dg.AssetCheckResult] = (),
    data_version: dg.DataVersion | None = None,
) -> Result:
    """The result of an asset that has written its own artefact."""
    # pyrefly: ignore[bad-return]  # Dagster's mark for no value has not the type that it is the default of
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
    """What every asset tells about what it wrote.

    Args:
        path: The artefact: a file or a folder.
        digest: Hash of its content; of the file at `path` where left out and it is one.
        frame: The table that it holds, where it is one.
        rows: Number of rows; those of `frame` where left out.
        docs: What each column of `frame` says.
        preview: What to show; the first rows of `frame` where left out.
        plots: SVGs of each plot by name; they come first, and Dagster shows metadata in the order given.

    Raises:
        KeyError: `docs` leaves a column out.
    """
    known = digest or (files.sha256_file(path) if path.is_file() else "")
    metadata: Metadata = {name: picture(*svgs) for name, svgs in (plots or {}).items()}
    metadata |= {"path": dg.MetadataValue.path(str(path)), **entries(hash=known)}
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
    """Texts, numbers and values of Dagster as metadata: figures rounded, ids short, a missing value null."""
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
    """A figure with the decimals of its unit, which its name tells; without one, those that a table shows."""
    decimals = _decimals(name)
    if decimals is None and math.isfinite(value):
        return float(cell_text(value).replace(",", ""))
    return round(value, decimals or 0)


def short(text: str) -> str:
    """A text with the first digits of each id; an ellipsis says that the rest of one was cut off inside a text."""
    return text[:_SHORT] if _ID.fullmatch(text) else _ID.sub(lambda found: f"{found[0][:_SHORT]}…", text)


def schema_of(columns: Mapping[str, Any], docs: Mapping[str, str]) -> dg.TableSchema:
    """The column schema of a table as Dagster shows it.

    Raises:
        KeyError: `docs` leaves a column out.
    """
    return dg.TableSchema(columns=[dg.TableColumn(name, str(kind), docs[name]) for name, kind in columns.items()])


def declared(columns: Mapping[str, Any], docs: Mapping[str, str]) -> dict[str, Any]:
    """Definition metadata of an asset whose table has these columns; raises as `schema_of`."""
    return {"dagster/column_schema": schema_of(columns, docs)}


def table(frame: pl.DataFrame, count: int = PREVIEW_ROWS) -> dg.MarkdownMetadataValue:
    """The first rows of a frame as a Markdown table."""
    shown = frame.head(count)
    lines = _lines(shown.columns, shown.rows())
    if frame.height > count:
        lines.append(f"\n{frame.height:,} rows in all")
    return dg.MetadataValue.md("\n".join(lines))


def records(rows: Sequence[Mapping[str, Any]]) -> dg.MarkdownMetadataValue:
    """Records as a Markdown table; columns are those of the first."""
    if not rows:
        return dg.MetadataValue.md("none")
    head = list(rows[0])
    return dg.MetadataValue.md("\n".join(_lines(head, [[row.get(name) for name in head] for row in rows])))


def picture(*svgs: str) -> dg.MarkdownMetadataValue:
    """Self-contained SVGs that Dagster's page shows inline, one below the other."""
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
