"""The log on stderr. The first event imports structlog, which takes 0.25 s; most commands log no event."""

import sys
from collections.abc import Callable
from typing import Any

_set_up: list[Callable[[], None]] = []


def set_up_with(function: Callable[[], None]) -> None:
    """Register a function that configures structlog; it is called once, before the next event."""
    _set_up[:] = [function]


def stderr_log() -> Any:
    """Return a logger that writes to stderr, because stdout may carry a JSON result.

    If no function is registered, as in a worker, structlog's defaults are used with stderr as stream.
    """
    import structlog  # noqa: PLC0415 - see above

    while _set_up:
        _set_up.pop()()
    return structlog.wrap_logger(structlog.PrintLogger(sys.stderr))
