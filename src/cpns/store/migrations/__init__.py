"""The alembic environment, as package data; `cpns.store.migrate` runs it."""
