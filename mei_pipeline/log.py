"""The log on stderr. structlog is imported at the first event: most commands log none, and it costs 0.25 s."""

import sys
from collections.abc import Callable
from typing import Any

_set_up: list[Callable[[], None]] = []


def set_up_with(function: Callable[[], None]) -> None:
    """Call `function` before the next event, instead of one that waits: it configures structlog."""
    _set_up[:] = [function]


def stderr_log() -> Any:
    """Return a logger that writes to stderr; stdout may carry a JSON result.

    Where nobody configured structlog, as in a worker, its defaults hold, but for the stream.
    """
    import structlog  # noqa: PLC0415 - see above

    while _set_up:
        _set_up.pop()()
    return structlog.wrap_logger(structlog.PrintLogger(sys.stderr))
