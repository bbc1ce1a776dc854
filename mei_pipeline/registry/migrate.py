"""Which version of the tables a database has, and the way from there to this MEI's."""

from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table

from mei_pipeline.errors import DataError, Refused
from mei_pipeline.registry.tables import SCHEMA_VERSION, schema_version

REVISIONS = Path(__file__).parent / "migrations"

_ALEMBIC = table("alembic_version", column("version_num"))


def version_in(connection: Connection, shown: str) -> int:
    """The version of the tables of a database; 0 for one that has no table.

    Args:
        connection: A connection to it.
        shown: Its name, for messages.

    Raises:
        Refused: A newer MEI wrote it.
        DataError: It belongs to something else, or its version makes no sense.
    """
    names = set(inspect(connection).get_table_names())
    if not names:
        return 0
    if _ALEMBIC.name in names:
        found = list(connection.execute(select(_ALEMBIC.c.version_num)).scalars())
    elif schema_version.name in names:
        found = [str(version) for version in connection.execute(select(schema_version.c.version)).scalars()]
    else:
        raise DataError(f"{shown}: no registry of MEI, it holds {', '.join(sorted(names)[:3])}; name another database")
    version = int(found[0]) if len(found) == 1 and found[0].isdecimal() else 0
    if version > SCHEMA_VERSION:
        raise Refused(
            f"{shown}: a newer MEI wrote it (schema version {version}, this one knows {SCHEMA_VERSION}); update MEI"
        )
    if not version:
        raise DataError(f"{shown}: schema version is {found}, {SCHEMA_VERSION} expected; restore it from a backup")
    return version


def upgrade(connection: Connection, shown: str) -> None:
    """Bring the tables to this MEI's version, within the transaction that the caller holds.

    Args:
        connection: A connection on which nobody else can write meanwhile.
        shown: The name of the database, for messages.

    Raises:
        Refused: A newer MEI wrote it.
        DataError: It belongs to something else, or its version makes no sense.
    """
    from alembic import command  # noqa: PLC0415 - 0.4 s that only tables of another version need
    from alembic.config import Config  # noqa: PLC0415 - as above

    version = version_in(connection, shown)
    config = Config()
    config.set_main_option("script_location", str(REVISIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    if version == 1 and not inspect(connection).has_table(_ALEMBIC.name):
        command.stamp(config, "1")  # It was written before there were revisions.
    command.upgrade(config, "head")
