"""Which files a path names, and which of them are left out."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import NoReturn

from mei_pipeline.candles.sources.formats import ENDINGS, DataFile, is_hidden, kind_of, unpack
from mei_pipeline.errors import ConfigError, DataError

_READ = ", ".join(ENDINGS)


@dataclass(frozen=True)
class Found:
    """The files that a path names.

    Attributes:
        root: The folder that was searched, or the file itself; absolute.
        files: The tables in them, sorted by path.
        notes: What was not read, one line per kind of file.
    """

    root: Path
    files: tuple[DataFile, ...]
    notes: tuple[str, ...]


def find(path: str | Path) -> Found:
    """Find the files that `path` names: a file, a folder or, if there is no such path, a pattern.

    Hidden files, which systems leave behind (`.DS_Store`, `._BTC.csv`, `__MACOSX`), are no data of the user.

    Raises:
        ConfigError: There is no such file or folder.
        DataError: No file matches, a folder can't be looked into, a link leads nowhere, or a zip is damaged.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _search(path, absolute(path), _walk(path))
    if path.exists():
        if not kind_of(path.name):
            raise DataError(f"{path}: expected a file that ends in {_READ}")
        tables, others = unpack(path)
        if not tables:
            raise DataError(f"{path}: holds no file that ends in .csv")
        return Found(absolute(path), tuple(tables), _not_read(f"{path}: ", others))
    _refuse_dangling(path)
    # What exists is no pattern: `data [2025]/*.csv` searches the folder `data [2025]`.
    folder = next(parent for parent in path.parents if parent.is_dir())
    pattern = str(path.relative_to(folder))
    if not has_magic(pattern):
        raise ConfigError(f"{path}: no such file or folder")
    matches = (folder / name for name in glob(pattern, root_dir=folder, recursive=True))  # noqa: PTH207  (no match for **)
    return _search(path, absolute(folder), matches)


def absolute(path: Path) -> Path:
    """A path from the root of the file system, without `..`: a folder that a path leaves says nothing of its files."""
    return Path(os.path.abspath(path))  # noqa: PTH100  (Path.absolute keeps `..`, and Path.resolve follows links)


def _walk(folder: Path) -> Iterator[Path]:
    """Every file in a folder, also behind links; a folder that is reached in two ways is searched once."""
    seen = set()
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
    raise DataError(f"{error.filename}: can't be searched ({error.strerror})") from None


def _refuse_dangling(file: Path) -> None:
    if file.is_symlink() and not file.exists() and kind_of(file.name):
        raise DataError(f"{file}: is a link to {file.readlink()}, which does not exist; mend it, or take it away")


def _search(path: Path, root: Path, found: Iterable[Path]) -> Found:
    try:
        visible = sorted(file for file in found if not file.is_dir() and not _is_hidden(absolute(file), root))
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
        raise DataError(f"{path}: no file that ends in {_READ}")
    return Found(root, tuple(tables), tuple(notes))


def _is_hidden(file: Path, root: Path) -> bool:
    return any(map(is_hidden, file.parts[len(root.parts) :]))


def _not_read(where: str, names: list[str]) -> tuple[str, ...]:
    """One line for each ending, however many files have it."""
    counts = Counter("".join(Path(name).suffixes[-1:]).lower() for name in names)
    lines = []
    for ending, count in sorted(counts.items()):
        files, end = ("files", "end") if count > 1 else ("file", "ends")
        kind = f"that {end} in {ending}" if ending else "without an ending"
        lines.append(f"{where}{count:,} {files} {kind} not read; read are {_READ}")
    return tuple(lines)
