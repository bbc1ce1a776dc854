"""Checks of a backup's content before it is kept or restored."""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from mei_pipeline.backup.archive import REGISTRY, Entries, is_database
from mei_pipeline.candles import store
from mei_pipeline.candles.schema import TABLES
from mei_pipeline.candles.store import Lake
from mei_pipeline.config.document import parse_document
from mei_pipeline.config.promoted import PromotedFile
from mei_pipeline.errors import DataError, MeiError, Refused
from mei_pipeline.registry import rows
from mei_pipeline.registry.config_file import config_bytes, parse_config
from mei_pipeline.registry.database import Registry, open_registry, read_transaction
from mei_pipeline.registry.lanes import POINTER_NAME, read_pointer_file
from mei_pipeline.registry.store import config_history, list_configs

JUDGED = "gates.json"
"""File that a nightly run writes once its judged configs are in the registry."""


def is_checked(name: str) -> bool:
    """Return True if `check_content` reads the file; only the hashes of other files are compared."""
    return name.endswith((".json", ".yaml", ".db"))


def check_content(folder: Path, entries: Entries, *, on_server: bool = False) -> None:
    """Raise if the files of a home are inconsistent.

    Args:
        folder: A folder with the files for which `is_checked` is true; it is not changed.
        entries: All files of the archive.
        on_server: The registry is a database of a server, with backups of its own; lanes are not compared with it.

    Raises:
        DataError: A file of the lake differs from the lake's record, a database or a lane's file is damaged, or the
            registry is missing or lacks a config that a lane holds.
        Refused: A newer MEI wrote the registry.
    """
    _check_lake(folder, entries)
    for name in entries:
        if name.endswith(".db"):
            _check_database(folder / name)
    configs = sorted(name for name in entries if name.startswith("lanes/") and "/configs/" in name)
    held = sorted(name.split("/")[1] for name in entries if _is_pointer(name))
    if on_server or REGISTRY not in entries:
        for name in configs:
            parse_config(folder / name, (folder / name).read_bytes())
        for lane in held:
            read_pointer_file(folder / "lanes", lane)
    if on_server:
        return
    if REGISTRY in entries:
        _check_registry(folder, configs, held)
    elif held or any(name.startswith("nights/") and name.endswith(f"/{JUDGED}") for name in entries):
        why = f"lane {held[0]} holds a config" if held else "nightly runs judged configs"
        advice = "restore it from an earlier backup; if it is on a server, set MEI_REGISTRY_URL"
        raise DataError(f"{folder / REGISTRY}: missing, though {why}; {advice}")


def _is_pointer(name: str) -> bool:
    part, *inside = name.split("/")
    return part == "lanes" and inside[1:] == [POINTER_NAME]


def _check_lake(folder: Path, entries: Entries) -> None:
    """Compare the hashes of data files with those in the lake's manifests and records of ingests."""
    lake = Lake(folder / "lake")
    for name, expected in _recorded(lake):
        if entries.get(f"lake/{name}", ("", 0))[0] != expected:
            problem = "differs from its hash" if f"lake/{name}" in entries else "is missing"
            raise DataError(f"{lake.root / name}: {problem} in the lake's record; {store.REPAIR_HINT}")


def _recorded(lake: Lake) -> Iterator[tuple[str, str]]:
    store.read_counters(lake)
    for place in (place for table in TABLES for place in store.folders(lake, table)):
        for file, entry in store.read_manifest(lake, place).files.items():
            if "/" in file or file in {"", ".", ".."}:
                raise DataError(f"{lake.root / place / store.MANIFEST}: names a file {file!r} outside its folder")
            yield f"{place}/{file}", entry.sha256
    for record in store.ingests(lake):
        yield from record.changes.items()


def _check_database(path: Path) -> None:
    if not is_database(path):
        raise DataError(f"{path}: not an SQLite database; restore it from an earlier backup")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            [problem] = database.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        problem = str(error)
    if problem != "ok":
        raise DataError(f"{path}: damaged: {problem}; restore it from an earlier backup")


def _check_registry(folder: Path, configs: list[str], held: list[str]) -> None:
    # Check a copy: opening a registry may upgrade its tables, and a backup keeps the file as it was.
    with tempfile.TemporaryDirectory(prefix="mei-check-") as scratch:
        copy = Path(scratch) / REGISTRY
        shutil.copyfile(folder / REGISTRY, copy)
        registry = open_registry(f"sqlite:///{copy}")
        try:
            list_configs(registry)
            for name in configs:
                _check_config(registry, folder / name)
        except MeiError as error:
            raise DataError(str(error).replace(str(copy), str(folder / REGISTRY))) from error
        for lane in held:
            _check_pointer(registry, folder, lane)


def _check_config(registry: Registry, path: Path) -> None:
    """Compare a lane's config with the files that the registry would write for it.

    The content is compared, not the bytes, because an earlier version may have formatted the same content differently.
    """
    data = path.read_bytes()
    parse_config(path, data)
    try:
        story = config_history(registry, path.stem)
    except Refused:
        return  # the config held the lane before a reset of the registry; `_check_pointer` checks the present one
    with read_transaction(registry) as connection:
        expected = [
            config_bytes(story.config, rows.judged_evidence(connection, verdict), verdict) for verdict in story.verdicts
        ]
    file = parse_document(data, path, PromotedFile).model
    if file not in [parse_document(each, path, PromotedFile).model for each in expected]:
        raise DataError(f"{path}: differs from the registry; delete the file, and the registry writes it again")


def _check_pointer(registry: Registry, folder: Path, lane: str) -> None:
    """Raise if a lane's pointer is not in the registry or has a later generation than the registry."""
    file = read_pointer_file(folder / "lanes", lane)
    with read_transaction(registry) as connection:
        pointer = rows.find_pointer(connection, lane)
    # The registry is copied after the lanes, so its generation may be later than the file's.
    if file is not None and (pointer is None or pointer.generation < file.generation):
        expected = f"knows generation {pointer.generation}" if pointer else "does not know the lane"
        path = folder / "lanes" / lane / POINTER_NAME
        raise DataError(
            f"{path}: has generation {file.generation}, but {folder / REGISTRY} {expected}; restore the newer registry"
        )
