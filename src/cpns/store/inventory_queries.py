"""What is told of the PN Inventory: functions of a connection, inside a transaction of `Database`, that only read."""

from typing import Final

from sqlalchemy import Connection, bindparam, exists, literal_column, not_, select, union_all

from cpns.domain.member_list import Policy, Standing
from cpns.domain.network import Inventory, Listed, Network, Present
from cpns.ids import EntityId, PnId
from cpns.store.dialect import driver_select
from cpns.store.schema import members, networks, standings

SHOWN: Final = select(*(column for column in networks.c if column.name != "served_since"))
"""The columns of `network_of`."""
_NETWORK = driver_select(SHOWN, networks.c.pn_id, 1)
_NETWORKS = SHOWN.order_by(networks.c.pn_id)
_OF_GATEWAY = (
    select(networks.c.pn_id, networks.c.version)
    .where(networks.c.gateway_id == bindparam("gateway_id"))
    .order_by(networks.c.served_since, networks.c.pn_id)
)
_of_both = (standings.c.pne_id == members.c.pne_id) & (standings.c.pn_id == members.c.pn_id)
_MEMBERS = (
    select(members.c.pn_id, members.c.pne_id, members.c.pan_secure, members.c.since, standings.c.standing)
    .outerjoin(standings, _of_both)
    .order_by(members.c.pn_id, members.c.pne_id)
)
MEMBERS_OF = _MEMBERS.where(members.c.pn_id == bindparam("pn_id"))
_MEMBER = _MEMBERS.where(members.c.pne_id == bindparam("pne_id"))
_PAGE = MEMBERS_OF.where(members.c.pne_id > bindparam("after")).limit(bindparam("limit"))
_here = select(members.c.pne_id, standings.c.standing, literal_column("1").label("here")).outerjoin(standings, _of_both)
_elsewhere = select(standings.c.pne_id, standings.c.standing, literal_column("0").label("here")).where(
    standings.c.standing == Standing.MEMBER.value, not_(exists().where(_of_both))
)
_LISTED_PAGE = (
    union_all(
        *(
            some.where(table.c.pn_id == bindparam("pn_id"), table.c.pne_id > bindparam("after"))
            for some, table in ((_here, members), (_elsewhere, standings))
        )
    )
    .order_by("pne_id")
    .limit(bindparam("limit"))
)
_own = standings.alias()
_HOME = (
    select(_own.c.pn_id, networks.c.gateway_id)
    .join(networks, networks.c.pn_id == _own.c.pn_id)
    .join(members, members.c.pne_id == _own.c.pne_id)
    .where(_own.c.pne_id == bindparam("pne_id"), _own.c.standing == Standing.MEMBER.value)
    .where(not_(exists().where(_of_both, standings.c.standing == Standing.MEMBER.value)))
    .order_by(_own.c.at.desc(), _own.c.pn_id)
    .limit(1)
)
_LIST = select(standings.c.pn_id, standings.c.pne_id, standings.c.standing).order_by(
    standings.c.pn_id, standings.c.pne_id
)
_LIST_OF = _LIST.where(standings.c.pn_id == bindparam("pn_id"))


def network(connection: Connection, pn_id: PnId) -> Network | None:
    """See `cpns.ports.Store.network`."""
    rows = _NETWORK.rows(connection, (pn_id,))
    return network_of(*rows[0]) if rows else None


def network_of(
    pn_id: PnId,
    gateway_id: EntityId,
    alias: str | None,
    created_at: float,
    owner: EntityId | None,
    policy: str,
    version: int,
    expelled_at: float,
) -> Network:
    """Return a row of `SHOWN`."""
    return Network(pn_id, gateway_id, alias, owner, Policy(policy), version, created_at, expelled_at)


def networks_of(connection: Connection, gateway_id: EntityId) -> dict[PnId, int]:
    """See `cpns.ports.Store.networks_of`."""
    return {PnId(pn_id): version for pn_id, version in connection.execute(_OF_GATEWAY, {"gateway_id": gateway_id})}


def membership(connection: Connection, pne_id: EntityId) -> tuple[PnId, Present] | None:
    """See `cpns.ports.Store.membership`."""
    row = connection.execute(_MEMBER, {"pne_id": pne_id}).one_or_none()
    return None if row is None else (PnId(row[0]), _present(*row[1:]))


def home(connection: Connection, pne_id: EntityId) -> tuple[PnId, EntityId] | None:
    """See `cpns.ports.Store.home`."""
    row = connection.execute(_HOME, {"pne_id": pne_id}).one_or_none()
    return None if row is None else (PnId(row[0]), EntityId(row[1]))


def inventories(connection: Connection) -> list[Inventory]:
    """See `cpns.ports.Store.networks`."""
    present: dict[PnId, list[Present]] = {}
    for pn_id, *row in connection.execute(_MEMBERS):
        present.setdefault(pn_id, []).append(_present(*row))
    listed: dict[PnId, list[tuple[EntityId, Standing]]] = {}
    for pn_id, pne_id, standing in connection.execute(_LIST):
        listed.setdefault(pn_id, []).append((pne_id, Standing(standing)))
    found = [network_of(**row) for row in connection.execute(_NETWORKS).mappings()]
    return [_inventory(one, present.get(one.pn_id, []), listed.get(one.pn_id, [])) for one in found]


def inventory(connection: Connection, pn_id: PnId) -> Inventory | None:
    """See `cpns.ports.Store.inventory`."""
    one = network(connection, pn_id)
    if one is None:
        return None
    present = [_present(*row) for _, *row in connection.execute(MEMBERS_OF, {"pn_id": pn_id})]
    listed = [(pne_id, Standing(standing)) for _, pne_id, standing in connection.execute(_LIST_OF, {"pn_id": pn_id})]
    return _inventory(one, present, listed)


def members_page(connection: Connection, pn_id: PnId, after: str, limit: int) -> list[Present]:
    """See `cpns.ports.Store.members_page`."""
    rows = connection.execute(_PAGE, {"pn_id": pn_id, "after": after, "limit": limit})
    return [_present(*row) for _, *row in rows]


def listed_page(connection: Connection, pn_id: PnId, after: str, limit: int) -> list[Listed]:
    """See `cpns.ports.Store.listed_page`."""
    rows = connection.execute(_LISTED_PAGE, {"pn_id": pn_id, "after": after, "limit": limit})
    return [Listed(pne_id, standing != Standing.MEMBER if here else None) for pne_id, standing, here in rows]


def _present(pne_id: EntityId, pan_secure: bool, since: float, standing: str | None) -> Present:
    return Present(pne_id, pan_secure, since, standing != Standing.MEMBER)


def _inventory(one: Network, present: list[Present], listed: list[tuple[EntityId, Standing]]) -> Inventory:
    here = {member.pne_id for member in present}
    return Inventory(one, tuple(present), tuple((pne, how) for pne, how in listed if pne not in here))
