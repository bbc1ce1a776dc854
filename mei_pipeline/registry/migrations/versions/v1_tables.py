"""Version 1: configs, evidence, verdicts, proposals, transitions and lanes."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None

_ID = sa.String(64)
_NAME = sa.String(200)


def upgrade() -> None:
    """Create the tables."""
    version = op.create_table("schema_version", sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))
    op.bulk_insert(version, [{"version": 1}])
    op.create_table(
        "configs",
        _seq(),
        sa.Column("config_id", _ID, nullable=False, unique=True),
        sa.Column("resolved", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "evidence",
        _seq(),
        sa.Column("evidence_id", _ID, nullable=False, index=True),
        sa.Column("config_id", _ID, sa.ForeignKey("configs.config_id"), nullable=False, index=True),
        sa.Column("basis", sa.Text, nullable=False),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("metrics_id", _ID, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("evidence_id", "metrics_id"),
    )
    op.create_table(
        "verdicts",
        _seq(),
        sa.Column("verdict_id", _ID, nullable=False, unique=True),
        sa.Column("config_id", _ID, sa.ForeignKey("configs.config_id"), nullable=False, index=True),
        sa.Column("evidence_id", _ID, nullable=False),
        sa.Column("metrics_id", _ID, nullable=False),
        sa.Column("policy_id", _ID, nullable=False),
        sa.Column("passed", sa.Boolean, nullable=False),
        sa.Column("gates", sa.Text, nullable=False),
        sa.Column("night_id", _NAME, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "proposals",
        _seq(),
        sa.Column("night_id", _NAME, nullable=False, index=True),
        sa.Column("lane", _NAME, nullable=False),
        sa.Column("config_id", _ID, sa.ForeignKey("configs.config_id"), nullable=True),
        sa.Column("policy_id", _ID, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "transitions",
        _seq(),
        sa.Column("transition_id", _ID, nullable=False, unique=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("config_id", _ID, sa.ForeignKey("configs.config_id"), nullable=False, index=True),
        sa.Column("lane", _NAME, nullable=False),
        sa.Column("from_state", sa.String(20), nullable=False),
        sa.Column("to_state", sa.String(20), nullable=False),
        sa.Column("trigger", _NAME, nullable=False),
        sa.Column("who", _NAME, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("verdict_id", _ID, nullable=False),
    )
    op.create_table(
        "lanes",
        sa.Column("name", _NAME, primary_key=True),
        sa.Column("config_id", _ID, sa.ForeignKey("configs.config_id"), nullable=True),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("size_multiplier", sa.Float, nullable=False),
        sa.Column("transition_id", _ID, nullable=False),
    )


def _seq() -> sa.Column[int]:
    return sa.Column("seq", sa.Integer, primary_key=True)
