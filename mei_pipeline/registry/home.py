"""The registry of a home, and the check that it is not lost.

An empty database looks the same before the first nightly run and after its file was deleted. The files of the home tell
the difference: the pointers of lanes and the verdicts of nightly runs. An empty registry beside them would forget every
trial, so nothing opens it before a person accepts the loss.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from mei_pipeline import files
from mei_pipeline.errors import DataError, Refused
from mei_pipeline.registry.database import Registry, open_registry, registry_is_empty, shown_url
from mei_pipeline.registry.lanes import POINTER_NAME
from mei_pipeline.registry.records import AuditContext
from mei_pipeline.settings import Settings

RESETS_NAME = "registry-resets.json"
_LISTED = 5


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
        Busy: Another reset is running.
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
        kept = tuple(_set_aside(settings.lanes / lane / POINTER_NAME, audit.now_ms) for lane in found.lanes)
        open_registry(settings.registry)
    return reset, kept


def _judged(path: Path) -> bool:
    """Return True if a nightly run judged a config; an unreadable file counts, because a stage wrote it."""
    try:
        content: Any = from_json(path.read_bytes())
        return bool(content["judgements"])
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _set_aside(pointer: Path, now_ms: int) -> Path:
    # Generations start again at 1, and a pointer with a later generation than the registry's would block the lane.
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
