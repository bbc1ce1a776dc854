"""Looks at out-of-sample days: everything that was ever judged on them, so that luck can be told from an edge.

The more distinct things are judged on the same days, the better the best of them looks by chance. A look is named by
what was seen; seeing the same thing again is no new look, whichever night does it.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import Row, select

from mei_pipeline.errors import DataError, Fatal
from mei_pipeline.files import canonical_json, sha256_json
from mei_pipeline.registry import rows, tables
from mei_pipeline.registry.database import Registry, insert_once, read_transaction, write_transaction


@dataclass(frozen=True)
class Trial:
    """What was judged on which days.

    Attributes:
        night_id: The night that looked first.
        rank: What it was in that night: a finalist, the chain of the walk-forward, …
        config_ids: The configs whose trades the returns are; several where they are chained from folds.
        venue: Whose candles.
        first_day: First UTC day.
        last_day: Last UTC day.
        returns: The return of each day from the first to the last as a fraction of equity; 0 for a day without any.
        data_hash: Hash of the candles.
        policy_id: The policy that it was judged by.
    """

    night_id: str
    rank: str
    config_ids: tuple[str, ...]
    venue: str
    first_day: date
    last_day: date
    returns: tuple[float, ...]
    data_hash: str
    policy_id: str

    def __post_init__(self) -> None:
        days = (self.last_day - self.first_day) // timedelta(days=1) + 1
        where = f"look {self.rank} of night {self.night_id}"
        if days < 1 or len(self.returns) != days:
            raise DataError(
                f"{where}: {len(self.returns)} returns for the days {self.first_day} to {self.last_day};"
                " one for each day is wanted"
            )
        if not self.config_ids:
            raise DataError(f"{where}: names no config")
        if not all(math.isfinite(value) for value in self.returns):
            raise DataError(f"{where}: a return is no number; a day without one has 0")

    @property
    def trial_id(self) -> str:
        """Hash of what was seen; who saw it first does not matter."""
        return sha256_json(
            [
                list(self.config_ids),
                self.venue,
                self.first_day.isoformat(),
                self.last_day.isoformat(),
                [value + 0.0 for value in self.returns],
                self.data_hash,
                self.policy_id,
            ]
        )


def add_trial(registry: Registry, trial: Trial, now_ms: int) -> bool:
    """Store a look; say whether it is a new one.

    Args:
        registry: The registry.
        trial: The look.
        now_ms: The time, as the caller's clock has it.
    """
    row = {
        **vars(trial),
        "trial_id": trial.trial_id,
        "config_ids": canonical_json(list(trial.config_ids)).decode(),
        "returns": _packed(trial.returns),
        "at_ms": now_ms,
    }
    with write_transaction(registry) as connection:
        return insert_once(connection, tables.trials, row)


def trials_between(registry: Registry, venue: str, first_day: date, last_day: date) -> tuple[Trial, ...]:
    """Every look at a venue that shares a day with a span, oldest first.

    Args:
        registry: The registry.
        venue: Whose candles.
        first_day: First UTC day of the span.
        last_day: Last UTC day of the span.

    Raises:
        Fatal: A stored look has another content than its id says.
    """
    table = tables.trials
    query = (
        select(table)
        .where(table.c.venue == venue, table.c.first_day <= last_day, table.c.last_day >= first_day)
        .order_by(table.c.seq)
    )
    with read_transaction(registry) as connection:
        return tuple(to_trial(row) for row in connection.execute(query))


def to_trial(row: Row[Any]) -> Trial:
    """A row of `trials`, its content checked against its id.

    Raises:
        Fatal: The content is not what the id was made of.
    """
    try:
        trial = Trial(
            row.night_id,
            row.rank,
            tuple(rows.parse_json(row.config_ids, f"look {row.trial_id}")),
            row.venue,
            row.first_day,
            row.last_day,
            _unpacked(row.returns),
            row.data_hash,
            row.policy_id,
        )
    except (DataError, struct.error) as error:
        raise Fatal(f"look {row.trial_id}: {error}; restore the registry") from error
    if trial.trial_id != row.trial_id:
        raise Fatal(f"look {row.trial_id}: its content has another id; restore the registry")
    return trial


def _packed(returns: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(returns)}d", *(value + 0.0 for value in returns))


def _unpacked(data: bytes) -> tuple[float, ...]:
    return tuple(value for (value,) in struct.iter_unpack("<d", data))
