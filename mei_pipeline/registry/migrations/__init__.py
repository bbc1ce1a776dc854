"""Revisions of the registry's tables, for Alembic."""
