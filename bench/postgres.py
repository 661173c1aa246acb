"""A load on a store in PostgreSQL, whose work for it is charged too."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg

from bench.load import Load, load
from tests.support.postgres import Postgres

POSTGRES_CPU = "PostgreSQL"
"""The role of PostgreSQL's processes for the server's connections in what CPU time is told."""


@contextlib.asynccontextmanager
async def load_on(
    postgres: Postgres,
    database: str,
    folder: Path,
    gateways: int,
    pnes: int,
    processes: int = 1,
    **more: Any,  # noqa: ANN401
) -> AsyncIterator[Load]:
    """As `bench.load.load`, with the store in a new *database* of *postgres*."""
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as administration:
        administration.execute(f"CREATE DATABASE {database} TEMPLATE template0 ENCODING 'UTF8'")
    url = postgres.url(database)
    async with load(folder, gateways, pnes, processes, store=url, **more) as one:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")  # what it would do by itself in the middle of a turn
            connection.execute("CHECKPOINT")
            work = "datname = current_database() AND pid <> pg_backend_pid()"
            found = connection.execute(f"SELECT pid FROM pg_stat_activity WHERE {work}").fetchall()
        one.pids[POSTGRES_CPU] = [pid for (pid,) in found]
        yield one
