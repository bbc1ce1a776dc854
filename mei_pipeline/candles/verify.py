"""Comparison of every file of the lake with its manifest, and removal of damaged files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mei_pipeline import files
from mei_pipeline.candles import store
from mei_pipeline.candles.schema import TABLES
from mei_pipeline.candles.store import FileEntry, Lake
from mei_pipeline.candles.writing import stage_manifest
from mei_pipeline.errors import DataError
from mei_pipeline.progress import Progress, silent

ASIDE = "damaged"


@dataclass(frozen=True)
class Damage:
    """A damaged, absent or foreign file.

    Attributes:
        path: Path in the lake.
        problem: Description of the damage.
        repair: Description of the repair.
    """

    path: str
    problem: str
    repair: str


def verify(lake: Lake, progress: Progress = silent) -> list[Damage]:
    """Compare every file of the lake with its hash; nothing is changed.

    Returns:
        The damaged, absent and foreign files; empty if the lake is sound.
    """
    store.finish_transaction(lake)
    damages: list[Damage] = []
    listed: list[tuple[str, FileEntry | str]] = []
    for folder in (folder for table in TABLES for folder in store.folders(lake, table)):
        try:
            manifest = store.read_manifest(lake, folder)
        except DataError as error:
            damages.append(Damage(f"{folder}/{store.MANIFEST}", str(error), "bring it back with `mei restore`"))
            continue
        listed += [(f"{folder}/{file}", entry) for file, entry in sorted(manifest.files.items())]
        damages += _unlisted(lake, folder, set(manifest.files))
    for path in sorted((lake.root / "ingests").glob("*.json")):
        try:
            record = store.read_record(path, store.IngestRecord)
        except DataError as error:
            name = path.relative_to(lake.root).as_posix()
            damages.append(Damage(name, str(error), "bring it back with `mei restore`; undo of it is not possible"))
            continue
        listed += sorted(record.changes.items()) if record else []
    for done, (path_in_lake, entry) in enumerate(listed):
        damages += _compare(lake.root / path_in_lake, path_in_lake, entry)
        progress(done + 1, len(listed), "verify: files")
    return damages


def set_aside(lake: Lake, damages: list[Damage]) -> list[str]:
    """Move damaged data files to `damaged/` and remove them from their manifests, so that an ingest can refill them.

    Returns:
        Paths of the data files that were removed.
    """
    data = [damage.path for damage in damages if damage.path.split("/", 1)[0] in TABLES]
    removed = []
    with store.write_transaction(lake, "setting damaged files aside") as transaction:
        manifests = {folder: store.read_manifest(lake, folder) for folder in {path.rsplit("/", 1)[0] for path in data}}
        for path in data:
            folder, file = path.rsplit("/", 1)
            if manifests[folder].files.pop(file, None) is not None:
                removed.append(path)
        for path in removed:
            source, target = lake.root / path, lake.root / ASIDE / path
            if source.exists():
                # A copy, not a move: until the commit the lake keeps the file that its manifest lists.
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
                transaction.remove(path)
        for folder in sorted({path.rsplit("/", 1)[0] for path in removed}):
            stage_manifest(transaction, folder, manifests[folder])
        store.stage_next_transaction(lake, transaction)
    return removed


def _compare(path: Path, name: str, entry: FileEntry | str) -> Iterator[Damage]:
    if isinstance(entry, FileEntry):
        expected, repair = entry.sha256, store.REPAIR_HINT
    else:
        expected, repair = entry, "bring it back with `mei restore`; undo of its ingest is not possible"
    try:
        actual = files.sha256_file(path)
    except FileNotFoundError:
        yield Damage(name, "absent", repair)
        return
    except OSError as error:
        yield Damage(name, f"can't be read: {error.strerror}", "make it readable for this user")
        return
    if actual != expected:
        yield Damage(name, f"content differs: hash {actual[:12]}, expected {expected[:12]}", repair)


def _unlisted(lake: Lake, folder: str, listed: set[str]) -> Iterator[Damage]:
    for path in sorted((lake.root / folder).glob("*.parquet")):
        if path.name not in listed:
            yield Damage(f"{folder}/{path.name}", "not in the manifest, so it is not read", "ingest it, then delete it")
