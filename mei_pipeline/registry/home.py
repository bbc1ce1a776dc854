"""The registry of a home, and the check that it is not lost.

An empty database looks the same before the first nightly run and after its file was deleted. The files of the home tell
the difference: the pointers of lanes and the verdicts of nightly runs. An empty registry beside them would forget every
trial, so nothing opens it before a person accepts the loss.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from mei_pipeline import files
from mei_pipeline.errors import DataError, MeiError, Refused
from mei_pipeline.registry import rows
from mei_pipeline.registry.database import (
    Registry,
    open_registry,
    registry_is_empty,
    shown_url,
    write_transaction,
)
from mei_pipeline.registry.lanes import JOURNAL_NAME, POINTER_NAME, lane_folder, read_pointer_file, read_status
from mei_pipeline.registry.records import AuditContext
from mei_pipeline.settings import Settings

RESETS_NAME = "registry-resets.json"
_LISTED = 5
_BUSY_WAIT_S = 5.0


@dataclass(frozen=True)
class RegistryDependents:
    """Files of a home that exist only if its registry has rows.

    Attributes:
        lanes: Lanes with a pointer.
        nights: Folders of nightly runs that judged a config, without those that a reset gave up.
    """

    lanes: tuple[str, ...]
    nights: tuple[str, ...]


@dataclass(frozen=True)
class Reset:
    """A person's decision to continue without a lost registry.

    Attributes:
        at_ms: Time of the decision, UTC milliseconds.
        who: The person.
        why: The reason.
        nights: Folders of the nightly runs whose trials are forgotten.
        lanes: Lanes that no longer hold a config.
    """

    at_ms: int
    who: str
    why: str
    nights: tuple[str, ...]
    lanes: tuple[str, ...]


_RESETS = TypeAdapter(tuple[Reset, ...])


def open_home_registry(settings: Settings) -> Registry:
    """Open the registry of a home (see `database.open_registry`).

    Raises:
        MeiError: As `open_registry`.
        DataError: The registry is lost: it is empty, and lanes or nightly runs of the home need one.
    """
    check_registry(settings)
    return open_registry(settings.registry)


def check_registry(settings: Settings) -> None:
    """Raise if the registry of a home is lost. Nothing is created or changed.

    Raises:
        MeiError: As `open_registry`.
        DataError: The registry is missing or empty, and lanes or nightly runs of the home need one.
    """
    if not registry_is_empty(settings.registry):
        return
    found = registry_dependents(settings)
    if found.lanes or found.nights:
        raise DataError(
            f"{shown_url(settings.registry)}: the registry is lost: it is missing or empty, but {_words(found)}; "
            f"restore it from a backup, correct MEI_REGISTRY_URL, or give it up with `mei registry reset --why TEXT`"
        )


def registry_dependents(settings: Settings) -> RegistryDependents:
    """Return the files of a home that exist only if its registry has rows.

    Raises:
        DataError: The file of resets is damaged.
    """
    lanes = sorted(path.parent.name for path in settings.lanes.glob(f"*/{POINTER_NAME}"))
    given_up = {night for reset in read_resets(settings) for night in reset.nights}
    nights = sorted(path.parent.name for path in settings.nights.glob("*/gates.json") if _judged(path))
    return RegistryDependents(tuple(lanes), tuple(night for night in nights if night not in given_up))


def read_resets(settings: Settings) -> tuple[Reset, ...]:
    """Return the resets of a home, oldest first.

    Raises:
        DataError: The file is damaged.
    """
    path = settings.home / RESETS_NAME
    try:
        return _RESETS.validate_json(path.read_bytes())
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        raise DataError(f"{path}: unreadable: {error}; correct it, or delete it and reset again") from error


def reset_registry(settings: Settings, audit: AuditContext) -> tuple[Reset, tuple[Path, ...]]:
    """Give up a lost registry: store the decision, set the lanes' pointers aside, and create an empty registry.

    Returns:
        The decision, and the new paths of the pointers.

    Raises:
        Refused: The registry is not lost.
        DataError: The registry is damaged, not lost, or a file could not be written.
        Busy: Another reset is running, or another process uses the registry.
        Retryable: The disk is full.
    """
    path = settings.home / RESETS_NAME
    with files.locked(path.with_name(f".{RESETS_NAME}.lock"), "resetting the registry"):
        found = registry_dependents(settings)
        if not registry_is_empty(settings.registry) or not (found.lanes or found.nights):
            raise Refused(
                f"{shown_url(settings.registry)}: the registry is not lost; reset only a registry that is missing or "
                f"empty while lanes hold configs or nightly runs judged some"
            )
        # The decision is written first, so a reset that was interrupted can be repeated.
        reset = Reset(audit.now_ms, audit.who, audit.why, found.nights, found.lanes)
        files.write_bytes(path, _RESETS.dump_json((*read_resets(settings), reset), indent=2) + b"\n")
        # Executors refuse a lower generation than they know. The counts are kept before the pointers, which tell them,
        # are set aside.
        with write_transaction(open_registry(settings.registry)) as connection:
            for lane, generation in seen_generations(settings.lanes).items():
                rows.keep_generation(connection, lane, generation)
        kept = tuple(_set_aside(settings.lanes / lane / POINTER_NAME, audit.now_ms) for lane in found.lanes)
    return reset, kept


def seen_generations(lanes_folder: Path) -> dict[str, int]:
    """Return the highest generation in the pointer, status and journal of each lane; unreadable files have none."""
    found: dict[str, int] = {}
    for folder in sorted(path for path in lanes_folder.glob("*") if path.is_dir()):
        generations = [0]
        for read in (_pointer_generation, _status_generation, _journal_generation):
            # A lane goes on from what can be read; a damaged file has its own message elsewhere.
            with suppress(MeiError, sqlite3.Error):
                generations.append(read(lanes_folder, folder.name))
        if max(generations) > 0:
            found[folder.name] = max(generations)
    return found


def _pointer_generation(lanes_folder: Path, lane: str) -> int:
    pointer = read_pointer_file(lanes_folder, lane)
    return 0 if pointer is None else pointer.generation


def _status_generation(lanes_folder: Path, lane: str) -> int:
    status = read_status(lanes_folder, lane)
    return 0 if status is None else status.generation or 0


def _journal_generation(lanes_folder: Path, lane: str) -> int:
    path = lane_folder(lanes_folder, lane) / JOURNAL_NAME
    if not path.is_file():
        return 0
    with closing(sqlite3.connect(files.sqlite_uri(path), uri=True, timeout=_BUSY_WAIT_S)) as connection:
        return connection.execute("SELECT max(generation) FROM v_config_changes").fetchone()[0] or 0


def _judged(path: Path) -> bool:
    """Return True if a nightly run judged a config; an unreadable file counts, because a stage wrote it."""
    try:
        content: Any = from_json(path.read_bytes())
        return bool(content["judgements"])
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _set_aside(pointer: Path, now_ms: int) -> Path:
    # The registry does not know the config of the pointer, so the lane must not follow it.
    target = pointer.with_name(f"promoted-before-reset-{now_ms}.yaml")
    try:
        return pointer.rename(target)
    except OSError as error:
        raise DataError(f"{pointer}: not renamed: {error.strerror}; make it writable and reset again") from error


def _words(found: RegistryDependents) -> str:
    return " and ".join(_each(found))


def _each(found: RegistryDependents) -> Iterator[str]:
    if found.lanes:
        yield f"lanes hold configs: {_some(found.lanes)}"
    if found.nights:
        yield f"nightly runs judged configs: {_some(found.nights)}"


def _some(names: tuple[str, ...]) -> str:
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
