"""A table that grows at one end and is dropped at the other: who follows goes by numbers, and learns what it missed."""

from typing import Final

from sqlalchemy import Connection, Table, bindparam, delete, func, select

from cpns.errors import Gone
from cpns.store.dialect import insert_or_update
from cpns.store.schema import meta

DROPPED_AT_ONCE: Final = 5000

_VALUE = select(meta.c.value).where(meta.c.key == bindparam("name"))
_PUT = insert_or_update(meta, "key")


class Feed:
    """The numbers of one table, with columns ``number`` and ``at``.

    Args:
        table: whose rows are followed.
        kept: seconds that a row is kept.
        most: rows that are kept.
    """

    def __init__(self, table: Table, kept: float, most: int) -> None:
        self.most = most
        self._kept = kept
        self._what = table.name
        self._gone = f"{table.name} gone"
        """In `meta`: the number up to which rows were dropped."""
        number = table.c.number
        self._newest = select(func.coalesce(func.max(number), 0))
        self._first = select(func.min(number))
        self._nth = select(number).order_by(number.desc()).offset(bindparam("most")).limit(1)
        self._oldest = select(number, table.c.at).order_by(number).limit(bindparam("limit"))
        self._drop = delete(table).where(number <= bindparam("upto"))

    def newest(self, connection: Connection) -> int:
        """Return the newest number that a row has, or had; 0 where there was none."""
        return max(self._newest_there(connection), self._gone_to(connection))

    def check(self, connection: Connection, number: int) -> None:
        """Check that no row after *number* was dropped.

        Raises:
            Gone: ``events_gone`` or, of another table, with its name.
        """
        gone = self._gone_to(connection)
        if number < gone:
            said = f"The {self._what} up to {gone} are dropped: look at what there is now, and go on after {gone}."
            raise Gone(f"{self._what}_gone", said)

    def _newest_there(self, connection: Connection) -> int:
        return int(connection.execute(self._newest).scalar_one())

    def _gone_to(self, connection: Connection) -> int:
        return int(connection.execute(_VALUE, {"name": self._gone}).scalar_one_or_none() or 0)

    def drop_old(self, connection: Connection, now: float) -> bool:
        """Drop, from the oldest on, what was kept long enough or is too much; return whether more may be left.

        A part of it at once, so that others have their turn.
        """
        too_much = self._too_much(connection)
        upto = count = 0
        for number, at in connection.execute(self._oldest, {"limit": DROPPED_AT_ONCE}):
            if number > too_much and at >= now - self._kept:
                break
            upto, count = number, count + 1
        if upto:
            connection.execute(_PUT, {"key": self._gone, "value": str(upto)})
            connection.execute(self._drop, {"upto": upto})
        return count == DROPPED_AT_ONCE

    def _too_much(self, connection: Connection) -> int:
        """Return up to which number rows are too many; 0: they are not.

        To find it takes as long as all rows that there may be; so it is looked for where there can be so many.
        """
        first = connection.execute(self._first).scalar_one()
        if first is None or self._newest_there(connection) - first < self.most:
            return 0
        return connection.execute(self._nth, {"most": self.most}).scalar_one_or_none() or 0
