"""Formats of data files: Parquet, Feather, CSV, JSON, and CSV files inside a zip.

Every path is taken literally (`glob=False`), because polars would read `[2025]` in a folder's name as a pattern.
"""

import json
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from mei_pipeline.errors import DataError

PARQUET = (".parquet", ".pq")
CSV = (".csv", ".csv.gz")
ZIP = (".zip",)
FEATHER = (".feather",)
JSON = (".json",)
_NAMES: dict[tuple[str, ...], str] = {PARQUET: "Parquet", CSV: "CSV", ZIP: "zip", FEATHER: "Feather", JSON: "JSON"}
ENDINGS = (*PARQUET, *CSV, *ZIP, *FEATHER, *JSON)
HEAD_ROWS = 50
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    pl.exceptions.PolarsError,
)

Result = TypeVar("Result")


@dataclass(frozen=True)
class DataFile:
    """One table: a file, or a CSV file inside a zip.

    Attributes:
        path: The file on disk.
        member: Name inside the zip; empty if `path` is not a zip.
    """

    path: Path
    member: str = ""

    @property
    def name(self) -> str:
        """File name without folders."""
        return self.member.rsplit("/", 1)[-1] or self.path.name

    def __str__(self) -> str:
        return f"{self.path}: {self.member}" if self.member else str(self.path)


@dataclass(frozen=True)
class Head:
    """The beginning of a file.

    Attributes:
        columns: Names of the columns; `column_1`, `column_2`, … if the file has no header.
        rows: The first rows, at most `HEAD_ROWS`.
        header: True if the file names its columns.
        symbol: The symbol that an API's response names beside its candles, if any.
    """

    columns: tuple[str, ...]
    rows: pl.DataFrame
    header: bool = True
    symbol: str | None = None


def kind_of(name: str) -> tuple[str, ...]:
    """Return the endings of a file name's format; empty if MEI can't read the format."""
    return next((kind for kind in (PARQUET, CSV, ZIP, FEATHER, JSON) if name.lower().endswith(kind)), ())


def stem(name: str) -> str:
    """Return a file name without its ending."""
    ending = next((ending for ending in sorted(ENDINGS, key=len, reverse=True) if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)] if ending else name


def is_hidden(part: str) -> bool:
    """Return True if a part of a path belongs to the system: `.DS_Store`, `._BTC.csv`, `__MACOSX`, `.git`."""
    return part.startswith(".") or part == "__MACOSX"


def unpack(path: Path) -> tuple[list[DataFile], list[str]]:
    """Return the tables inside one file, and the members of a zip that MEI does not read.

    Raises:
        DataError: The file is empty, damaged, or not readable for this user.
    """
    if kind_of(path.name) is not ZIP:
        return [DataFile(path)], []
    inside = partial(_names_in_zip, path)
    members = [name for name in _guarded(DataFile(path), inside) if not any(map(is_hidden, name.split("/")))]
    tables = [DataFile(path, name) for name in members if name.lower().endswith(".csv")]
    return tables, [name for name in members if not name.lower().endswith(".csv")]


def read_head(file: DataFile) -> Head:
    """Read the names of the columns and the first rows.

    Raises:
        DataError: The file is empty, damaged, or not readable for this user.
    """
    return _guarded(file, partial(_head, file))


def read_columns(
    file: DataFile, names: Sequence[str], header: Sequence[str] | None, only: tuple[str, Sequence[str]] | None = None
) -> pl.DataFrame:
    """Read some columns of a file.

    Args:
        file: The file.
        names: Columns to read.
        header: Names of all columns of a file without a header; None if it has one.
        only: A column and the texts that select the rows to read.

    Raises:
        DataError: The file is damaged, or not readable for this user.
    """
    unique = list(dict.fromkeys(names))
    return _guarded(file, partial(_columns, file, unique, header, only))


def _names_in_zip(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return [entry.filename for entry in archive.infolist() if not entry.is_dir()]


def _guarded(file: DataFile, action: Callable[[], Result]) -> Result:
    path = file.path
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{file}: is empty (0 bytes); fetch it again, or remove it from the path")
        return action()
    except PermissionError:
        raise DataError(f"{path}: permission denied; make it readable for this user") from None
    except _UNREADABLE as error:
        kind = _NAMES[kind_of(path.name)]
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{file}: is not a complete {kind} file ({reason}); fetch it again") from error


def _content(file: DataFile) -> Path | BytesIO:
    """Return the path of a CSV file, or the bytes of one in a zip, for polars to read."""
    if not file.member:
        return file.path
    with zipfile.ZipFile(file.path) as archive:
        content = archive.read(file.member)
    if not content:
        raise DataError(f"{file}: is empty (0 bytes); fetch it again, or remove it from the path")
    return BytesIO(content)


def _head(file: DataFile) -> Head:
    kind = kind_of(file.path.name)
    if kind is PARQUET:
        rows = pl.scan_parquet(file.path, glob=False, hive_partitioning=False).head(HEAD_ROWS).collect()
        return Head(tuple(rows.columns), rows)
    if kind is FEATHER:
        rows = _arrow(file.path).head(HEAD_ROWS)
        return Head(tuple(rows.columns), rows)
    if kind is JSON:
        rows, header, symbol = _json(file)
        return Head(tuple(rows.columns), rows.head(HEAD_ROWS), header, symbol)
    content = _content(file)
    first = pl.read_csv(content, infer_schema=False, has_header=False, n_rows=1, glob=False)
    header = not _is_data(first)
    if isinstance(content, BytesIO):
        content.seek(0)
    rows = pl.read_csv(content, infer_schema=False, has_header=header, n_rows=HEAD_ROWS, glob=False)
    if not header:
        rows.columns = _numbered(rows.width)
    return Head(tuple(rows.columns), rows, header)


def _is_data(first: pl.DataFrame) -> bool:
    """Return True if the first row of a CSV holds values and not names."""
    # Candles have five or more numbers in a row. A header may have a name such as `2024`, but hardly five of them.
    numbers = first.select(pl.all().str.strip_chars().cast(pl.Float64, strict=False).is_not_null())
    min_numbers = 5
    return not first.is_empty() and sum(numbers.row(0)) >= min_numbers


def _columns(
    file: DataFile, names: list[str], header: Sequence[str] | None, only: tuple[str, Sequence[str]] | None
) -> pl.DataFrame:
    kind = kind_of(file.path.name)
    if kind is PARQUET:
        lazy = pl.scan_parquet(file.path, glob=False, hive_partitioning=False).select(names)
    elif kind is FEATHER:
        lazy = _arrow(file.path, names).lazy()
    elif kind is JSON:
        rows, _, _ = _json(file)
        lazy = (rows if header is None else rows.rename(dict(zip(rows.columns, header, strict=True)))).lazy()
    elif header is None:
        lazy = pl.read_csv(_content(file), columns=names, infer_schema=False, glob=False).lazy()
    else:
        frame = pl.read_csv(_content(file), has_header=False, new_columns=list(header), infer_schema=False, glob=False)
        lazy = frame.lazy()
    lazy = lazy.select(names)
    if only is not None:
        lazy = lazy.filter(pl.col(only[0]).cast(pl.String).is_in(list(only[1])))
    return lazy.collect()


def _arrow(path: Path, names: list[str] | None = None) -> pl.DataFrame:
    from pyarrow import feather  # noqa: PLC0415  (importing it takes half a second, and only Feather files need it)

    frame = pl.from_arrow(feather.read_table(path, columns=names, memory_map=False))
    assert isinstance(frame, pl.DataFrame)  # noqa: S101  (narrows the type: a table becomes a frame, not a series)
    return frame


def _json(file: DataFile) -> tuple[pl.DataFrame, bool, str | None]:
    """Read a list of records or of arrays as text, like the rows of a CSV.

    Returns:
        The rows, True if their columns have names, and the symbol beside the list if there is one.

    Raises:
        DataError: The file holds no such list.
    """
    data = json.loads(file.path.read_bytes())
    symbol = None
    if isinstance(data, dict):  # a response of Bybit or OKX
        response = data.get("result", data)
        if isinstance(response, dict):
            symbol = response.get("symbol")
            data = response.get("list", response.get("data"))
    if isinstance(data, list) and data and all(isinstance(row, dict) for row in data):
        names = list(dict.fromkeys(name for row in data for name in row))
        return _texts([[row.get(name) for name in names] for row in data], names), True, symbol
    if isinstance(data, list) and data and all(isinstance(row, list) for row in data):
        names = _numbered(max(map(len, data)))
        padded = [[*row, *[None] * (len(names) - len(row))] for row in data]
        return _texts(padded, names), False, symbol
    raise DataError(
        f"{file}: expected a list of candles, each an object or an array, by itself or in a response of Bybit "
        "(result.list) or OKX (data); remove the file from the path if it holds no candles"
    )


def _numbered(width: int) -> list[str]:
    return [f"column_{number + 1}" for number in range(width)]


def _texts(rows: list[list[Any]], names: list[str]) -> pl.DataFrame:
    columns = {
        name: [row[at] if row[at] is None or isinstance(row[at], str) else json.dumps(row[at]) for row in rows]
        for at, name in enumerate(names)
    }
    return pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String))
