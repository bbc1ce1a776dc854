"""Journals of tests: one lane, and an event and a row of each class."""

import hashlib
import resource
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from mei_pipeline.execution import events, rows
from mei_pipeline.execution.journal import opening, writer

LANE = {"lane": "paper1", "venue": "synthetic", "feed": "replay", "machine_id": "a" * 32}
NOW = 1_767_312_000_123
PLAIN: dict[Any, Any] = {int: 7, float: 0.1 + 0.2, str: "text", bool: True, bytes: b"\x00text"}
VALID = {"side": "long", "effect": "halt", "attempt": 1, "limit_price": "0.10"}


def create(folder: Path, **options: Any) -> writer.Journal:
    return opening.create_journal(folder / "journal.db", **LANE, kernel_hash="k1", now_ms=NOW, **options)


def reopen(path: Path, **changes: Any) -> writer.Journal:
    return opening.open_journal(path, **{**LANE, **changes})


def filled_row(kind: type, **values: Any) -> Any:
    """A row with a value in every column."""
    given = {
        field.name: VALID.get(field.name, PLAIN[first(field.type)])
        for field in msgspec.structs.fields(kind)
        if field.name not in values
    }
    return kind(**given, **values)


def first(annotation: Any) -> type:
    """The type of a field of rows; that of `X | None` is X."""
    return next(kind for kind in getattr(annotation, "__args__", (annotation,)) if kind is not type(None))


def filled(kind: type, **values: Any) -> Any:
    """A struct, such as an event, with a value in every field that has no default."""
    required = [field for field in msgspec.structs.fields(kind) if field.required and field.name not in values]
    return kind(**{field.name: sample(field.type) for field in required}, **values)


def sample(annotation: Any) -> Any:
    """A value of a type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return arguments[0]
    if type(None) in arguments:
        return None
    if origin in {tuple, dict}:
        return origin()
    return PLAIN[annotation] if annotation in PLAIN else filled(annotation)


def every_row() -> list[Any]:
    return [filled_row(kind) for kind in rows.KEYS]


def timer(number: int = 1) -> events.Timer:
    return events.Timer(name="snapshot", due_ms=number)


def checkpoint(clock_ms: int) -> events.Checkpoint:
    return events.Checkpoint(venue_ms=clock_ms, state=filled(events.PackedLane, clock_ms=clock_ms))


def fill(key: str = "f1") -> events.Fill:
    return events.Fill(key=key, symbol="AAA", lots=-3, lot_decimals=2, price=0.1, fee_usd=0.3, step_ms=60_000)


def dump(path: Path) -> list[str]:
    """Everything in a journal, as another connection sees it."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def select(journal: writer.Journal, sql: str) -> list[tuple[Any, ...]]:
    return journal.connection.execute(sql).fetchall()


@contextmanager
def file_size(limit: int) -> Generator[None]:
    """Within it, writes beyond this size fail, as on a disk that fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
