"""How the tables of the registry came to be, revision by revision, for Alembic."""
