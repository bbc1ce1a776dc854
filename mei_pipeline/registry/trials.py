"""Trials on out-of-sample days: all configs that were ever judged on them.

The number of trials determines the selection bias for which the deflated Sharpe ratio corrects. If more distinct
configs are judged on the same days, the best of them looks better by chance. The id of a trial is the hash of its
content, so judging the same config on the same days again adds no trial.
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
    """Daily returns that were judged.

    Attributes:
        night_id: The nightly run that judged them first.
        rank: Name of the stitched record in that run, such as `rank 0`.
        config_ids: Configs of the returns; several if folds with different configs are stitched.
        venue: Venue of the candles.
        first_day: First UTC day.
        last_day: Last UTC day.
        returns: Return of each day from first to last as a fraction of equity; 0 for a day without one.
        data_hash: Hash of the candles.
        policy_id: The policy of the verdict.
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
        where = f"trial {self.rank} of nightly run {self.night_id}"
        if days < 1 or len(self.returns) != days:
            raise DataError(
                f"{where}: {len(self.returns)} returns for the days {self.first_day} to {self.last_day};"
                " give one return per day"
            )
        if not self.config_ids:
            raise DataError(f"{where}: names no config")
        if not all(math.isfinite(value) for value in self.returns):
            raise DataError(f"{where}: a return is not finite; use 0 for a day without one")

    @property
    def trial_id(self) -> str:
        """Hash of the content without `night_id` and `rank`, so that a repeated judgement is the same trial."""
        return sha256_json(
            [
                list(self.config_ids),
                self.venue,
                self.first_day.isoformat(),
                self.last_day.isoformat(),
                [value + 0.0 for value in self.returns],  # -0.0 becomes 0.0: equal returns have one hash
                self.data_hash,
                self.policy_id,
            ]
        )


def add_trial(registry: Registry, trial: Trial, now_ms: int) -> bool:
    """Store a trial, and return True if it is new.

    Args:
        registry: The registry.
        trial: The trial.
        now_ms: The present by the caller's clock, in UTC milliseconds.
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
    """Return every trial on a venue that shares a day with a span, oldest first.

    Args:
        registry: The registry.
        venue: The venue.
        first_day: First UTC day of the span.
        last_day: Last UTC day of the span.

    Raises:
        Fatal: The content of a stored trial has another id.
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
    """Return a row of `trials` as a record, after a check of its content against its id.

    Raises:
        Fatal: The content has another id.
    """
    try:
        trial = Trial(
            row.night_id,
            row.rank,
            tuple(rows.parse_json(row.config_ids, f"trial {row.trial_id}")),
            row.venue,
            row.first_day,
            row.last_day,
            _unpacked(row.returns),
            row.data_hash,
            row.policy_id,
        )
    except (DataError, struct.error) as error:
        raise Fatal(f"trial {row.trial_id}: {error}; restore the registry") from error
    if trial.trial_id != row.trial_id:
        raise Fatal(f"trial {row.trial_id}: its content has another id; restore the registry")
    return trial


def _packed(returns: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(returns)}d", *(value + 0.0 for value in returns))


def _unpacked(data: bytes) -> tuple[float, ...]:
    return tuple(value for (value,) in struct.iter_unpack("<d", data))
