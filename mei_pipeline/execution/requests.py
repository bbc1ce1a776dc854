"""Files of requests to a lane and of its answers: `requests/<id>.json` and `requests/<id>.result.json`.

Who requests something writes the first file as a whole. The lane reads it, journals it, executes it at most once, and
writes the second file. The journal is the truth: a result that is lost is written again from it.
"""

import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mei_pipeline import files
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.config.document import parse_document
from mei_pipeline.config.fields import FileModel, Name
from mei_pipeline.errors import ConfigError, DataError, Refused
from mei_pipeline.execution.events import RequestAnswered
from mei_pipeline.registry.lanes import lane_folder, read_bytes

REQUESTS_NAME = "requests"
"""Folder of a lane's requests."""

KEPT_MS = 7 * DAY_MS
"""Age at which an answered request is removed, on the clock of the machine."""

_RESULT = ".result.json"
_REQUEST = ".json"
_Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
_Word = Annotated[str, Field(min_length=1, max_length=200)]
_Time = Annotated[int, Field(ge=0)]


class RequestFile(FileModel):
    """A request to a lane."""

    schema_version: Literal[1]
    """Version of this layout."""
    id: _Id
    """Id of the request; its file is `<id>.json`."""
    lane: Name
    """The lane."""
    who: _Word
    """The person or program that requests it."""
    why: Annotated[str, Field(max_length=1000)] = ""
    """The reason in words."""
    verb: _Word
    """What to do: `flatten` closes positions, `lift` lifts holds that the executor set itself."""
    arguments: dict[_Word, tuple[_Word, ...]]
    """Lists of names: `symbols` of `flatten` (empty: all), `holds` of `lift`."""
    created_ms: _Time
    """Time of the request, UTC milliseconds on the clock of the machine."""
    expires_ms: _Time
    """Time from which it must not be executed, on the same clock; at most 7 days after the lane reads it."""


class ResultFile(FileModel):
    """The answer to a request."""

    schema_version: Literal[1]
    """Version of this layout."""
    id: _Id
    """The request."""
    lane: Name
    """The lane."""
    who: _Word
    """Author of the request that was answered; another request with the same id has no answer of its own."""
    verb: _Word
    """Its verb."""
    state: Literal["done", "refused", "expired"]
    """`done`: executed; `refused`: a rule forbids it; `expired`: the lane read it too late."""
    text: str
    """What was done, or why it was not."""
    lane_ms: _Time
    """Clock of the lane at the answer, UTC milliseconds; in a replay the time of its market."""
    taken_ms: _Time
    """Time at which the lane read the request, UTC milliseconds on the clock of the machine."""


def requests_folder(lanes_folder: Path, lane: str) -> Path:
    """Return the folder of a lane's requests."""
    return lane_folder(lanes_folder, lane) / REQUESTS_NAME


def new_id() -> str:
    """Return a random id for a request."""
    return secrets.token_hex(8)


def submit(lanes_folder: Path, request: RequestFile) -> Path:
    """Write a request, and return its file.

    Raises:
        Refused: A request with this id exists.
        Retryable: The disk is full; nothing was written.
        DataError: The folder can't be written; nothing was written.
    """
    path = requests_folder(lanes_folder, request.lane) / f"{request.id}{_REQUEST}"
    if path.exists() or _result_path(path).exists():
        raise Refused(f"{path}: exists; a request is never replaced: choose another id")
    files.write_json(path, request.model_dump())
    return path


def read_request(path: Path, lane: str) -> RequestFile:
    """Return the request in a file.

    Raises:
        DataError: The file can't be read, is incomplete or damaged, or is a request of another id or lane.
    """
    data = read_bytes(path)
    if data is None:
        raise DataError(f"{path}: missing")
    try:
        request = parse_document(data, path, RequestFile).model
    except ConfigError as error:
        raise DataError(f"{path}: not a request; write it as a whole, or remove it: {error}") from error
    for key, found, wanted in (("id", request.id, path.stem), ("lane", request.lane, lane)):
        if found != wanted:
            raise DataError(f"{path}: {key}: {found}, but the file is of {key} {wanted}; write it again, or remove it")
    return request


def read_result(lanes_folder: Path, lane: str, request_id: str) -> ResultFile | None:
    """Return the answer to a request; None before it is answered.

    Raises:
        DataError: The file is damaged.
    """
    path = requests_folder(lanes_folder, lane) / f"{request_id}{_RESULT}"
    data = read_bytes(path)
    if data is None:
        return None
    try:
        return parse_document(data, path, ResultFile).model
    except ConfigError as error:
        raise DataError(f"{path}: damaged; remove it, and a lane that starts writes it again: {error}") from error


def write_result(lanes_folder: Path, lane: str, answer: RequestAnswered) -> Path:
    """Write the answer of a lane's journal to a request, and return the file.

    Raises:
        Retryable: The disk is full; the file is the old one.
        DataError: The folder can't be written; the file is the old one.
    """
    path = requests_folder(lanes_folder, lane) / f"{answer.id}{_RESULT}"
    values = {"id": answer.id, "who": answer.who, "verb": answer.verb, "state": answer.state, "text": answer.text}
    times = {"lane_ms": answer.venue_ms, "taken_ms": answer.taken_ms}
    files.write_json(path, {"schema_version": 1, "lane": lane, **values, **times})
    return path


def pending(folder: Path) -> Iterator[Path]:
    """Yield the files of requests without a result, in the order of their names; none if there is no folder.

    Raises:
        DataError: The folder can't be read.
    """
    try:
        names = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f"{folder}: unreadable: {files.explain(error, folder)}") from error
    for name in sorted(names):
        stem = name.removesuffix(_REQUEST)
        if stem != name and not name.startswith(".") and not name.endswith(_RESULT) and f"{stem}{_RESULT}" not in names:
            yield folder / name


def remove_answered(folder: Path, now_ms: int) -> None:
    """Remove requests that were answered at least `KEPT_MS` ago, with their results.

    Args:
        folder: Folder of the requests.
        now_ms: Time on the clock of the machine.
    """
    with suppress(OSError):  # the next start tries again
        for path in sorted(folder.glob(f"*{_RESULT}")):
            if path.stat().st_mtime_ns // 1_000_000 + KEPT_MS <= now_ms:
                # The result goes last: a request without one would be read again.
                (folder / f"{path.name.removesuffix(_RESULT)}{_REQUEST}").unlink(missing_ok=True)
                path.unlink()


def _result_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}{_RESULT}")
