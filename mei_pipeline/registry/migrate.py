"""Version of the tables in a database, and the upgrade to the version of this MEI."""

from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table

from mei_pipeline.errors import DataError, Refused
from mei_pipeline.registry.tables import SCHEMA_VERSION, schema_version

REVISIONS = Path(__file__).parent / "migrations"

_ALEMBIC = table("alembic_version", column("version_num"))


def version_in(connection: Connection, shown: str) -> int:
    """Return the version of the tables of a database; 0 if it has no tables.

    Args:
        connection: A connection to the database.
        shown: Name of the database, for messages.

    Raises:
        Refused: A newer MEI wrote the database.
        DataError: It belongs to another program, or its version is not a number.
    """
    names = set(inspect(connection).get_table_names())
    if not names:
        return 0
    if _ALEMBIC.name in names:
        found = list(connection.execute(select(_ALEMBIC.c.version_num)).scalars())
    elif schema_version.name in names:
        found = [str(version) for version in connection.execute(select(schema_version.c.version)).scalars()]
    else:
        raise DataError(f"{shown}: not a registry of MEI: it has {', '.join(sorted(names)[:3])}; name another database")
    version = int(found[0]) if len(found) == 1 and found[0].isdecimal() else 0
    if version > SCHEMA_VERSION:
        raise Refused(
            f"{shown}: a newer MEI wrote it (schema version {version}, this one knows {SCHEMA_VERSION}); update MEI"
        )
    if not version:
        raise DataError(f"{shown}: schema version is {found}, {SCHEMA_VERSION} expected; restore it from a backup")
    return version


def upgrade(connection: Connection, shown: str) -> None:
    """Upgrade the tables to the version of this MEI, within the caller's transaction.

    Args:
        connection: A connection that holds the write lock.
        shown: Name of the database, for messages.

    Raises:
        Refused: A newer MEI wrote the database.
        DataError: It belongs to another program, or its version is not a number.
    """
    from alembic import command  # noqa: PLC0415 - 0.4 s that only tables of another version need
    from alembic.config import Config  # noqa: PLC0415 - as above

    version = version_in(connection, shown)
    config = Config()
    config.set_main_option("script_location", str(REVISIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    if version == 1 and not inspect(connection).has_table(_ALEMBIC.name):
        command.stamp(config, "1")  # Version 1 was written without Alembic, so no revision is recorded.
    command.upgrade(config, "head")
