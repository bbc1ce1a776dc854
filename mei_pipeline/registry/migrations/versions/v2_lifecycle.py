"""Version 2: action and size of transitions, the state of a lane, and trials (then `looks`) on out-of-sample days."""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"

_ID = sa.String(64)
_NAME = sa.String(200)
_ACTIONS = {"candidate": "added", "validated": "validated", "paper": "promoted", "replaced": "replaced"}


def upgrade() -> None:
    """Add columns and the table.

    Version 1 recorded no sizes, so they stay unknown. It had paper lanes only, so every lane that holds a config is in
    state `paper`.
    """
    op.add_column("transitions", sa.Column("action", sa.String(20), nullable=False, server_default=""))
    op.add_column("transitions", sa.Column("size_multiplier", sa.Float, nullable=True))
    op.add_column("lanes", sa.Column("state", sa.String(20), nullable=False, server_default=""))
    transitions = sa.table("transitions", sa.column("action"), sa.column("to_state"))
    for state, action in _ACTIONS.items():
        op.execute(transitions.update().where(transitions.c.to_state == state).values(action=action))
    lanes = sa.table("lanes", sa.column("state"), sa.column("config_id"))
    op.execute(lanes.update().where(lanes.c.config_id.is_not(None)).values(state="paper"))
    op.create_table(
        "looks",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("look_id", _ID, nullable=False, unique=True),
        sa.Column("night_id", _NAME, nullable=False, index=True),
        sa.Column("slot", _NAME, nullable=False),
        sa.Column("config_ids", sa.Text, nullable=False),
        sa.Column("venue", sa.String(64), nullable=False),
        sa.Column("first_day", sa.Date, nullable=False),
        sa.Column("last_day", sa.Date, nullable=False),
        sa.Column("returns", sa.LargeBinary, nullable=False),
        sa.Column("data_hash", _ID, nullable=False),
        sa.Column("policy_id", _ID, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_looks_venue_days", "looks", ["venue", "first_day", "last_day"])
    # MEI of version 1 reads its version here, and then reports that a newer one wrote the registry.
    op.execute(sa.table("schema_version", sa.column("version", sa.Integer)).update().values(version=2))
