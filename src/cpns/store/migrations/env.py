"""What alembic runs for each command: on the connection handed in, and without touching the logging set-up."""

from alembic import context

from cpns.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes a column by copying its table
)
with context.begin_transaction():
    context.run_migrations()
