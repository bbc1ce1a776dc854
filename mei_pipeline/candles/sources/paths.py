"""Search for the data files of a path, with notes about files that are not read."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import NoReturn

from mei_pipeline.candles.sources.formats import ENDINGS, DataFile, is_hidden, kind_of, unpack
from mei_pipeline.errors import ConfigError, DataError

_ALLOWED = ", ".join(ENDINGS)


@dataclass(frozen=True)
class FileSet:
    """Data files of a path.

    Attributes:
        root: The folder that was searched, or the file itself; absolute.
        files: The tables in these files, sorted by path.
        notes: Files that are not read, one line per ending.
    """

    root: Path
    files: tuple[DataFile, ...]
    notes: tuple[str, ...]


def find_files(path: str | Path) -> FileSet:
    """Find the data files of `path`: a file, a folder or, if there is no such path, a pattern.

    Hidden files of operating systems (`.DS_Store`, `._BTC.csv`, `__MACOSX`) are ignored.

    Raises:
        ConfigError: There is no such file or folder.
        DataError: No file matches, a folder can't be read, a link has no target, or a zip is damaged.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _search(path, absolute(path), _walk(path))
    if path.exists():
        if not kind_of(path.name):
            raise DataError(f"{path}: expected a file that ends in {_ALLOWED}")
        tables, others = unpack(path)
        if not tables:
            raise DataError(f"{path}: holds no file that ends in .csv")
        return FileSet(absolute(path), tuple(tables), _not_read(f"{path}: ", others))
    # A link without a target does not exist, so without this check it would be searched as a pattern.
    _refuse_dangling(path)
    # Existing folders are taken literally: `data [2025]/*.csv` searches the folder `data [2025]`.
    folder = next(parent for parent in path.parents if parent.is_dir())
    pattern = str(path.relative_to(folder))
    if not has_magic(pattern):
        raise ConfigError(f"{path}: no such file or folder")
    matches = (folder / name for name in glob(pattern, root_dir=folder, recursive=True))  # noqa: PTH207  (no match for **)
    return _search(path, absolute(folder), matches)


def absolute(path: Path) -> Path:
    """Return an absolute path without `..`, so that its folders are those that contain the file."""
    return Path(os.path.abspath(path))  # noqa: PTH100  (Path.absolute keeps `..`, and Path.resolve follows links)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield every file in a folder and behind its links; a folder that is reached twice is searched once."""
    seen = set()
    # os.walk follows no links to folders; they are appended here and walked later, and `seen` stops cycles.
    waiting = [str(folder)]
    for top in waiting:
        for here, folders, names in os.walk(top, onerror=_refuse):
            status = Path(here).stat()
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            folders[:] = sorted(name for name in folders if not is_hidden(name))
            waiting += [str(Path(here, name)) for name in folders if Path(here, name).is_symlink()]
            yield from (Path(here, name) for name in names)


def _refuse(error: OSError) -> NoReturn:
    if isinstance(error, PermissionError):
        raise DataError(f"{error.filename}: permission denied; make the folder readable for this user") from None
    raise DataError(f"{error.filename}: can't be searched: {error.strerror}; check the folder") from None


def _refuse_dangling(file: Path) -> None:
    if file.is_symlink() and not file.exists() and kind_of(file.name):
        raise DataError(f"{file}: is a link to {file.readlink()}, which does not exist; repair or remove the link")


def _search(path: Path, root: Path, matches: Iterable[Path]) -> FileSet:
    try:
        visible = sorted(file for file in matches if not file.is_dir() and not _is_hidden(absolute(file), root))
    except PermissionError as error:
        _refuse(error)
    for file in visible:
        _refuse_dangling(file)
    tables: list[DataFile] = []
    notes = list(_not_read(f"{path}: ", [file.name for file in visible if not kind_of(file.name)]))
    for file in (file for file in visible if kind_of(file.name) and file.is_file()):
        inside, others = unpack(file)
        tables += inside
        notes += _not_read(f"{file}: ", others)
    if not tables:
        raise DataError(f"{path}: no file that ends in {_ALLOWED}")
    return FileSet(root, tuple(tables), tuple(notes))


def _is_hidden(file: Path, root: Path) -> bool:
    return any(map(is_hidden, file.parts[len(root.parts) :]))


def _not_read(where: str, names: list[str]) -> tuple[str, ...]:
    """Return one line per ending about files that are not read."""
    counts = Counter("".join(Path(name).suffixes[-1:]).lower() for name in names)
    lines = []
    for ending, count in sorted(counts.items()):
        files, end = ("files", "end") if count > 1 else ("file", "ends")
        kind = f"that {end} in {ending}" if ending else "without an ending"
        lines.append(f"{where}{count:,} {files} {kind} not read; allowed endings: {_ALLOWED}")
    return tuple(lines)
