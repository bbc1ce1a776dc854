"""Run by Alembic: the revisions, on the connection and within the transaction of whoever asked."""

from alembic import context

# SQLite's driver would commit between statements of its own accord; the engine's connections leave that to the caller.
context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
