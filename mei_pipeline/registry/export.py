"""Export of all rows of the registry as JSON values."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row, select

from mei_pipeline.registry import rows, tables
from mei_pipeline.registry.database import Registry, read_transaction
from mei_pipeline.registry.trials import to_trial

TABLES = (
    tables.configs,
    tables.evidence,
    tables.verdicts,
    tables.proposals,
    tables.transitions,
    tables.lanes,
    tables.trials,
)
"""Exported tables, in this order."""

_JSON = {"resolved", "basis", "metrics", "gates", "config_ids"}


def export_rows(registry: Registry) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every row of every table as the name of its table and its columns; all rows are of one state.

    JSON that is stored as text becomes values, days become ISO 8601 text, daily returns become a list. An infinite
    value of a gate is the word `inf` or `-inf`.

    Raises:
        Fatal: Stored content is damaged.
    """
    with read_transaction(registry) as connection:
        for table in TABLES:
            order = table.c.seq if "seq" in table.c else table.c.name
            for row in connection.execute(select(table).order_by(order)):
                yield table.name, _plain(table.name, row)


def _plain(name: str, row: Row[Any]) -> dict[str, Any]:
    values = row._asdict()
    values |= {key: rows.parse_json(values[key], f"{name}.{key}") for key in _JSON & values.keys()}
    if name == tables.trials.name:
        trial = to_trial(row)
        values |= {
            "returns": list(trial.returns),
            "first_day": trial.first_day.isoformat(),
            "last_day": trial.last_day.isoformat(),
        }
    return values
