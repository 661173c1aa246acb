"""Bringing a database to the schema of this version."""

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Text, inspect
from sqlalchemy.dialects.postgresql.base import PGTypeCompiler
from sqlalchemy.ext.compiler import compiles

from cpns.errors import Unavailable


@compiles(Text, "postgresql")
def _ordered_by_code_point(type_: Text, compiler: PGTypeCompiler, **options: object) -> str:
    """Make columns of text that sort as Python and SQLite do, whatever the language of the database."""
    name: str = compiler.visit_TEXT(type_, **options)
    return f'{name} COLLATE "C"' if "type_expression" in options else name  # of a column, not of a cast


def has_begun(connection: Connection) -> bool:
    """Whether any migration was ever run on *connection*'s database."""
    return inspect(connection).has_table("alembic_version")


def upgrade(connection: Connection) -> None:
    """Run the migrations that *connection*'s database lacks, inside the transaction that is open on it.

    Raises:
        Unavailable: code ``store_too_new``: a newer cpns wrote it.
    """
    config = Config()
    config.set_main_option("script_location", "cpns.store:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise Unavailable(
            "store_too_new", f"a newer cpns wrote this store: run that version or restore a backup ({error})"
        ) from error
