"""Requests of a lane as it follows them: files that become events, and answers that become files."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from live.hold_files import Mark, mark_of
from mei_pipeline.errors import DataError, MeiError, Retryable
from mei_pipeline.execution.commands import Alert
from mei_pipeline.execution.events import OperatorRequested, RequestAnswered
from mei_pipeline.execution.requests import pending, read_request, requests_folder, write_result

REQUESTS_ALERT = "requests"
"""First part of the keys of alerts about requests."""

_FOLDER = ""


@dataclass(frozen=True)
class RequestFiles:
    """The folder of a lane's requests as it was read last.

    Attributes:
        lanes_folder: The folder of all lanes.
        lane: The lane.
        broken: Metadata of files that can't be read, or whose result can't be written, by id.
    """

    lanes_folder: Path
    lane: str
    broken: Mapping[str, Mark] = field(default_factory=dict)


class PolledRequests(NamedTuple):
    """The result of `poll_requests`.

    Attributes:
        files: The files as they are now.
        events: New requests, the oldest first.
        alerts: Alerts about files that can't be read; one until the file changes.
    """

    files: RequestFiles
    events: tuple[OperatorRequested, ...] = ()
    alerts: tuple[Alert, ...] = ()


def poll_requests(files: RequestFiles, answers: Mapping[str, RequestAnswered], now_ms: int) -> PolledRequests:
    """Return the requests that have neither a result nor an answer.

    A file that is not a complete request is left alone until it changes: nothing of it is executed.

    Args:
        files: The files as they were read last.
        answers: Answers in the state of the lane.
        now_ms: Time on the clock of the machine.
    """
    folder = requests_folder(files.lanes_folder, files.lane)
    broken: dict[str, Mark] = {}
    alerts: list[Alert] = []
    found: list[OperatorRequested] = []

    def report(name: str, mark: Mark, error: MeiError) -> None:
        broken[name] = mark
        if files.broken.get(name, "good") != mark:
            alerts.append(Alert(f"{REQUESTS_ALERT}-{name}" if name else REQUESTS_ALERT, "warning", str(error)))

    paths: list[Path] = []
    try:
        paths += (path for path in pending(folder) if path.stem not in answers)
    except DataError as error:
        report(_FOLDER, None, error)
    for path in paths:
        mark = mark_of(path)
        if files.broken.get(path.stem, "good") == mark:
            broken[path.stem] = mark
            continue
        try:
            found.append(_event_of(path, files.lane, now_ms))
        except DataError as error:
            report(path.stem, mark, error)
    if broken != files.broken:
        files = replace(files, broken=broken)
    return PolledRequests(files, tuple(sorted(found, key=lambda event: (event.created_ms, event.id))), tuple(alerts))


def _event_of(path: Path, lane: str, now_ms: int) -> OperatorRequested:
    request = read_request(path, lane)
    return OperatorRequested(
        id=request.id,
        who=request.who,
        why=request.why,
        verb=request.verb,
        arguments=dict(request.arguments),
        created_ms=request.created_ms,
        expires_ms=request.expires_ms,
        taken_ms=now_ms,
    )


def write_results(files: RequestFiles, answers: Mapping[str, RequestAnswered]) -> Iterable[Alert]:
    """Write the results of answered requests that have none, and yield an alert for each that can't be written.

    The answers must be in the journal, on the disk: a request with a result is never read again.
    """
    paths: list[Path] = []
    with suppress(DataError):  # `poll_requests` reports it
        paths += pending(requests_folder(files.lanes_folder, files.lane))
    for path in paths:
        if path.stem not in answers:
            continue
        try:
            write_result(files.lanes_folder, files.lane, answers[path.stem])
        except (DataError, Retryable) as error:
            yield Alert(f"{REQUESTS_ALERT}-result", "warning", str(error))
