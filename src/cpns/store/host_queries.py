"""Hosts from which somebody proved itself: functions of a connection and values."""

from sqlalchemy import Connection, bindparam, delete, select

from cpns.domain.inventory import KnownHost
from cpns.store.dialect import insert_or_update
from cpns.store.schema import known_hosts

_NEWEST = (
    select(known_hosts.c.host, known_hosts.c.proved_at)
    .where(known_hosts.c.proved_at >= bindparam("since"))
    .order_by(known_hosts.c.proved_at.desc(), known_hosts.c.host)
    .limit(bindparam("limit"))
)
_PUT = insert_or_update(known_hosts, "host")
_DROP_OLD = delete(known_hosts).where(known_hosts.c.proved_at < bindparam("before"))
_DROP_MORE = delete(known_hosts).where(
    known_hosts.c.host.not_in(
        select(known_hosts.c.host)
        .order_by(known_hosts.c.proved_at.desc(), known_hosts.c.host)
        .limit(bindparam("limit"))
        .scalar_subquery()
    )
)


def newest(connection: Connection, since: float, limit: int) -> list[KnownHost]:
    """See `cpns.ports.Store.known_hosts`."""
    rows = connection.execute(_NEWEST, {"since": since, "limit": limit}).all()
    return [KnownHost(host, proved_at) for host, proved_at in reversed(rows)]


def keep(connection: Connection, host: KnownHost, since: float, limit: int) -> None:
    """See `cpns.ports.Store.keep_host`."""
    connection.execute(_PUT, {"host": host.host, "proved_at": host.proved_at})
    connection.execute(_DROP_OLD, {"before": since})
    connection.execute(_DROP_MORE, {"limit": limit})
