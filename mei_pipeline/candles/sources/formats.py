"""Tables as files hold them: Parquet, Feather, CSV, JSON, and CSV files inside a zip.

Every path is taken literally here: polars would read `[2025]` in the name of a folder as a pattern.
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
        member: Name inside the zip; empty where `path` is no zip.
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
        columns: Names of the columns; `column_1`, `column_2`, … where the file has no header.
        rows: Its first rows, at most `HEAD_ROWS`.
        header: Whether the file names its columns.
        symbol: The symbol that the envelope of an API's answer names, if any.
    """

    columns: tuple[str, ...]
    rows: pl.DataFrame
    header: bool = True
    symbol: str | None = None


def kind_of(name: str) -> tuple[str, ...]:
    """The endings of the format that a file name has; empty if it is none that can be read."""
    return next((kind for kind in (PARQUET, CSV, ZIP, FEATHER, JSON) if name.lower().endswith(kind)), ())


def stem(name: str) -> str:
    """A file name without its ending."""
    ending = next((ending for ending in sorted(ENDINGS, key=len, reverse=True) if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)] if ending else name


def is_hidden(part: str) -> bool:
    """Whether a part of a path belongs to the system: `.DS_Store`, `._BTC.csv` and `__MACOSX` of macOS, `.git`."""
    return part.startswith(".") or part == "__MACOSX"


def unpack(path: Path) -> tuple[list[DataFile], list[str]]:
    """The tables inside one file, and names of members of a zip that can't be read.

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
        header: Names of all columns of a file that has no header; None where it has one.
        only: A column and the texts that it may have in the rows to read.

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
            raise DataError(f"{file}: is empty (0 bytes); fetch it again, or take it out of the path")
        return action()
    except PermissionError:
        raise DataError(f"{path}: permission denied; make it readable for this user") from None
    except _UNREADABLE as error:
        kind = _NAMES[kind_of(path.name)]
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{file}: is not a whole {kind} file ({reason}); fetch it again") from error


def _content(file: DataFile) -> Path | BytesIO:
    """What polars reads a CSV from."""
    if not file.member:
        return file.path
    with zipfile.ZipFile(file.path) as archive:
        content = archive.read(file.member)
    if not content:
        raise DataError(f"{file}: is empty (0 bytes); fetch it again, or take it out of the path")
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
    # A header may be called `2024`, but hardly five of its columns are numbers.
    numbers = first.select(pl.all().str.strip_chars().cast(pl.Float64, strict=False).is_not_null())
    least = 5
    return not first.is_empty() and sum(numbers.row(0)) >= least


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
    from pyarrow import feather  # noqa: PLC0415  (half a second that only Feather files need)

    frame = pl.from_arrow(feather.read_table(path, columns=names, memory_map=False))
    assert isinstance(frame, pl.DataFrame)  # noqa: S101  (a table, never one array)
    return frame


def _json(file: DataFile) -> tuple[pl.DataFrame, bool, str | None]:
    """Rows of a list of records or of arrays as text, like those of a CSV; whether they are named; the symbol.

    Raises:
        DataError: It holds no list of either.
    """
    data = json.loads(file.path.read_bytes())
    symbol = None
    if isinstance(data, dict):  # an answer as Bybit and OKX send it
        answer = data.get("result", data)
        if isinstance(answer, dict):
            symbol = answer.get("symbol")
            data = answer.get("list", answer.get("data"))
    if isinstance(data, list) and data and all(isinstance(row, dict) for row in data):
        names = list(dict.fromkeys(name for row in data for name in row))
        return _texts([[row.get(name) for name in names] for row in data], names), True, symbol
    if isinstance(data, list) and data and all(isinstance(row, list) for row in data):
        names = _numbered(max(map(len, data)))
        padded = [[*row, *[None] * (len(names) - len(row))] for row in data]
        return _texts(padded, names), False, symbol
    raise DataError(
        f"{file}: expected a list of candles, each an object or an array, by itself or as Bybit (result.list) or OKX "
        "(data) answers; take it out of the path if it holds none"
    )


def _numbered(width: int) -> list[str]:
    return [f"column_{number + 1}" for number in range(width)]


def _texts(rows: list[list[Any]], names: list[str]) -> pl.DataFrame:
    columns = {
        name: [row[at] if row[at] is None or isinstance(row[at], str) else json.dumps(row[at]) for row in rows]
        for at, name in enumerate(names)
    }
    return pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String))
