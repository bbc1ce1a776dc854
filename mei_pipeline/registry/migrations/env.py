"""Entry point of Alembic: run the revisions on the caller's connection, within its transaction."""

from alembic import context

# SQLite's driver would commit between statements; the registry's connections leave the commit to the caller.
context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
