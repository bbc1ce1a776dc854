"""The registry's tables. Rows are only added, except the pointers of lanes, which change.

`seq` is the order of writing; ids are hashes of content. JSON is stored as its canonical text, so that a hash can be
checked against the bytes that were hashed. `migrations/` creates these tables; a test compares the two.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = 3
"""Version of these tables: the newest revision of `migrations/`."""

METADATA = MetaData()

_ID = String(64)
_NAME = String(200)

schema_version = Table("schema_version", METADATA, Column("version", Integer, primary_key=True, autoincrement=False))
"""Version for MEI of version 1, which reads it here and then reports that a newer MEI wrote the registry."""

configs = Table(
    "configs",
    METADATA,
    Column("seq", Integer, primary_key=True),
    Column("config_id", _ID, nullable=False, unique=True),
    Column("resolved", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)

evidence = Table(
    "evidence",
    METADATA,
    Column("seq", Integer, primary_key=True),
    Column("evidence_id", _ID, nullable=False, index=True),
    Column("config_id", _ID, ForeignKey("configs.config_id"), nullable=False, index=True),
    Column("basis", Text, nullable=False),
    Column("metrics", Text, nullable=False),
    Column("metrics_id", _ID, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    UniqueConstraint("evidence_id", "metrics_id"),
)

verdicts = Table(
    "verdicts",
    METADATA,
    Column("seq", Integer, primary_key=True),
    Column("verdict_id", _ID, nullable=False, unique=True),
    Column("config_id", _ID, ForeignKey("configs.config_id"), nullable=False, index=True),
    Column("evidence_id", _ID, nullable=False),
    Column("metrics_id", _ID, nullable=False),
    Column("policy_id", _ID, nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("gates", Text, nullable=False),
    Column("night_id", _NAME, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)

proposals = Table(
    "proposals",
    METADATA,
    Column("seq", Integer, primary_key=True),
    Column("night_id", _NAME, nullable=False, index=True),
    Column("lane", _NAME, nullable=False),
    Column("config_id", _ID, ForeignKey("configs.config_id"), nullable=True),
    Column("policy_id", _ID, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)

transitions = Table(
    "transitions",
    METADATA,
    Column("seq", Integer, primary_key=True),
    Column("transition_id", _ID, nullable=False, unique=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("config_id", _ID, ForeignKey("configs.config_id"), nullable=False, index=True),
    Column("lane", _NAME, nullable=False),
    Column("from_state", String(20), nullable=False),
    Column("to_state", String(20), nullable=False),
    Column("action", String(20), nullable=False),
    Column("trigger", _NAME, nullable=False),
    Column("who", _NAME, nullable=False),
    Column("why", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("size_multiplier", Float, nullable=True),
    Column("verdict_id", _ID, nullable=False),
)

lanes = Table(
    "lanes",
    METADATA,
    Column("name", _NAME, primary_key=True),
    Column("config_id", _ID, ForeignKey("configs.config_id"), nullable=True),
    Column("generation", Integer, nullable=False),
    Column("size_multiplier", Float, nullable=False),
    Column("transition_id", _ID, nullable=False),
    Column("state", String(20), nullable=False),
)

trials = Table(
    "trials",
    METADATA,
    Column("seq", Integer, primary_key=True),
    Column("trial_id", _ID, nullable=False, unique=True),
    Column("night_id", _NAME, nullable=False, index=True),
    Column("rank", _NAME, nullable=False),
    Column("config_ids", Text, nullable=False),
    Column("venue", String(64), nullable=False),
    Column("first_day", Date, nullable=False),
    Column("last_day", Date, nullable=False),
    Column("returns", LargeBinary, nullable=False),
    Column("data_hash", _ID, nullable=False),
    Column("policy_id", _ID, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Index("ix_trials_venue_days", "venue", "first_day", "last_day"),
)
