"""A disk that refuses what a test says: the interpreter asks an audit hook before it opens, makes or renames a file."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Rule = Callable[[Path, bool], int]
"""Gets a path and whether it is to be written; returns the number of an error, or 0."""

_NAMING = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}
_rules: list[Rule] = []
_installed: list[bool] = []


@contextmanager
def refusing(rule: Rule) -> Iterator[None]:
    """Let operations of this process fail with the error that `rule` returns."""
    if not _installed:
        sys.addaudithook(_ask)  # it stays until the process ends, and does nothing without a rule
        _installed.append(True)
    _rules.append(rule)
    try:
        yield
    finally:
        _rules.remove(rule)


def _ask(event: str, arguments: tuple[Any, ...]) -> None:
    if not _rules or (event != "open" and event not in _NAMING) or not isinstance(arguments[0], str | bytes | Path):
        return
    writes = event != "open" or bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    path = Path(os.fsdecode(arguments[0]))
    for rule in _rules:
        if number := rule(path, writes):
            raise OSError(number, os.strerror(number), str(path))
