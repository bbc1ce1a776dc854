"""The registry of a home, and how a home notices that its registry is lost.

A new database looks the same whether nothing was ever judged or its file was deleted. What a registry leaves behind in
the home tells the two apart: the pointers of lanes, and the verdicts of nights. An empty registry beside them forgets
every trial, so nothing opens it before a person accepts the loss.
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
    """What only a registry with rows can have left in a home.

    Attributes:
        lanes: Lanes with a pointer.
        nights: Folders of the nights that judged a config, without those that a reset gave up.
    """

    lanes: tuple[str, ...]
    nights: tuple[str, ...]


@dataclass(frozen=True)
class Reset:
    """A person's decision to go on without a lost registry.

    Attributes:
        at_ms: When, in UTC milliseconds.
        who: The person.
        why: The reason.
        nights: Folders of the nights whose trials are forgotten.
        lanes: Lanes that hold no config any more.
    """

    at_ms: int
    who: str
    why: str
    nights: tuple[str, ...]
    lanes: tuple[str, ...]


_RESETS = TypeAdapter(tuple[Reset, ...])


def open_home_registry(settings: Settings) -> Registry:
    """Open the registry of a home (see `engine.open_registry`).

    Raises:
        MeiError: As `open_registry`.
        DataError: The registry is lost: it is empty, and the home has lanes or nights that need one.
    """
    check_registry(settings)
    return open_registry(settings.registry)


def check_registry(settings: Settings) -> None:
    """Raise if the registry of a home is lost. Nothing is created or changed.

    Raises:
        MeiError: As `open_registry`.
        DataError: The registry is missing or empty, and the home has lanes or nights that need one.
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
    """Return what only a registry with rows can have left in a home.

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
        raise DataError(f"{path}: not readable: {error}; correct it, or delete it and reset again") from error


def reset_registry(settings: Settings, audit: AuditContext) -> tuple[Reset, tuple[Path, ...]]:
    """Give up a lost registry: keep the decision, take the pointers out of the lanes and make an empty registry.

    The decision is written first, so that a reset that was cut off can be repeated.

    Returns:
        The decision, and where the pointers of the lanes are kept.

    Raises:
        Refused: The registry is not lost.
        DataError: It is damaged rather than lost, or a file could not be written.
        Busy: Another reset is at work.
    """
    path = settings.home / RESETS_NAME
    with files.locked(path.with_name(f".{RESETS_NAME}.lock"), "resetting the registry"):
        found = registry_dependents(settings)
        if not registry_is_empty(settings.registry) or not (found.lanes or found.nights):
            raise Refused(
                f"{shown_url(settings.registry)}: the registry is not lost; a reset is for one that is missing or "
                f"empty while lanes hold configs or nights judged some"
            )
        reset = Reset(audit.now_ms, audit.who, audit.why, found.nights, found.lanes)
        files.write_bytes(path, _RESETS.dump_json((*read_resets(settings), reset), indent=2) + b"\n")
        kept = tuple(_set_aside(settings.lanes / lane / POINTER_NAME, audit.now_ms) for lane in found.lanes)
        open_registry(settings.registry)
    return reset, kept


def _judged(path: Path) -> bool:
    """Whether a night judged a config; an unreadable file counts, for a station wrote it."""
    try:
        content: Any = from_json(path.read_bytes())
        return bool(content["judgements"])
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _set_aside(pointer: Path, now_ms: int) -> Path:
    # Generations begin anew, and a pointer of a later generation than the registry's would block the lane.
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
        yield f"nights judged configs: {_some(found.nights)}"


def _some(names: tuple[str, ...]) -> str:
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
