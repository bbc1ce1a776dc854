"""Version 3: the table of trials and its columns have the names of the glossary."""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """Rename the table, its columns and its indexes. Ids do not change: no hashed content does."""
    op.drop_index("ix_looks_night_id", "looks")
    op.drop_index("ix_looks_venue_days", "looks")
    op.rename_table("looks", "trials")
    op.alter_column("trials", "look_id", new_column_name="trial_id")
    op.alter_column("trials", "slot", new_column_name="rank")
    if op.get_context().dialect.name == "postgresql":
        # PostgreSQL keeps the names of what belongs to a renamed table; a new registry should not differ from this one.
        op.execute("ALTER SEQUENCE looks_seq_seq RENAME TO trials_seq_seq")
        op.execute("ALTER TABLE trials RENAME CONSTRAINT looks_pkey TO trials_pkey")
        op.execute("ALTER TABLE trials RENAME CONSTRAINT looks_look_id_key TO trials_trial_id_key")
    op.create_index("ix_trials_night_id", "trials", ["night_id"])
    op.create_index("ix_trials_venue_days", "trials", ["venue", "first_day", "last_day"])
    # MEI of version 1 reads its version here, and then reports that a newer one wrote the registry.
    op.execute(sa.table("schema_version", sa.column("version", sa.Integer)).update().values(version=3))
