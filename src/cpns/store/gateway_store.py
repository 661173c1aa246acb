"""What a PN GW, and a CM Device, keep over a restart: `cpns.ports.gateway.GatewayStore` and `CmStore` on `Database`."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from sqlalchemy import Connection, bindparam, delete, select

from cpns.domain.cm import HeldCmKey
from cpns.domain.inventory import Ends, HeldMember
from cpns.ids import EntityId, PnId
from cpns.store.database import Database
from cpns.store.dialect import insert_once, insert_or_update
from cpns.store.files import private_folder
from cpns.store.schema import cm_keys, held_members, served

_SERVED = select(served.c.pn_id).order_by(served.c.pn_id)
_PUT_SERVED = insert_once(served, ("pn_id",))
_DROP_SERVED = delete(served).where(served.c.pn_id == bindparam("id"))
_PUT_MEMBER = insert_or_update(held_members, "pne_id")
_MEMBERS = select(held_members).order_by(held_members.c.pne_id)
_FORGET = delete(held_members).where(held_members.c.pne_id == bindparam("id"))
_CM_KEYS = select(cm_keys.c.cm_device_id, cm_keys.c.generation, cm_keys.c.sealed_key).order_by(
    cm_keys.c.generation.desc()
)
_PUT_CM_KEY = insert_or_update(cm_keys, "cm_device_id", "generation")
_DROP_CM_KEY = delete(cm_keys).where(cm_keys.c.cm_device_id == bindparam("id"), cm_keys.c.generation == bindparam("of"))


class GatewayStore:
    """`cpns.ports.gateway.GatewayStore` and `CmStore` in one SQLite file. All methods raise as `Database.run` does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the store at *path*; it and its folder are made when missing. Blocks.

        Raises as `private_folder` and `Database` do.
        """
        private_folder(path.parent)
        return cls(Database(path))

    @property
    def trouble(self) -> str:
        """See `cpns.ports.gateway.GatewayStore`."""
        return self._database.trouble

    async def served(self) -> list[PnId]:
        """See `cpns.ports.gateway.GatewayStore`."""

        def read(connection: Connection) -> list[PnId]:
            return [PnId(pn_id) for pn_id in connection.execute(_SERVED).scalars()]

        return await self._database.run(read, write=False)

    async def serve(self, pn_id: PnId) -> None:
        """See `cpns.ports.gateway.GatewayStore`."""

        def write(connection: Connection) -> None:
            connection.execute(_PUT_SERVED, {"pn_id": pn_id})

        await self._database.run(write)

    async def release(self, pn_id: PnId) -> None:
        """See `cpns.ports.gateway.GatewayStore`."""

        def write(connection: Connection) -> None:
            connection.execute(_DROP_SERVED, {"id": pn_id})

        await self._database.run(write)

    async def keep(self, members: Iterable[HeldMember]) -> None:
        """See `cpns.ports.gateway.GatewayStore`."""
        rows = [_row(member) for member in members]

        def write(connection: Connection) -> None:
            if rows:
                connection.execute(_PUT_MEMBER, rows)

        await self._database.run(write)

    async def members(self) -> list[HeldMember]:
        """See `cpns.ports.gateway.GatewayStore`; by PNE ID."""

        def read(connection: Connection) -> list[HeldMember]:
            return [
                HeldMember(pne_id, pn_id, th0, sealed, None if own is None or there is None else Ends(own, there))
                for pne_id, pn_id, th0, sealed, own, there in connection.execute(_MEMBERS)
            ]

        return await self._database.run(read, write=False)

    async def forget(self, pne_ids: Sequence[EntityId]) -> None:
        """See `cpns.ports.gateway.GatewayStore`."""
        rows = [{"id": pne_id} for pne_id in pne_ids]

        def write(connection: Connection) -> None:
            if rows:
                connection.execute(_FORGET, rows)

        await self._database.run(write)

    async def cm_keys(self) -> list[HeldCmKey]:
        """See `cpns.ports.gateway.CmStore`."""

        def read(connection: Connection) -> list[HeldCmKey]:
            return [HeldCmKey(*row) for row in connection.execute(_CM_KEYS)]

        return await self._database.run(read, write=False)

    async def keep_cm_key(self, key: HeldCmKey, *, alone: bool = False) -> None:
        """See `cpns.ports.gateway.CmStore`."""
        row = {"cm_device_id": key.cm_device_id, "generation": key.generation, "sealed_key": key.sealed_key}

        def write(connection: Connection) -> None:
            if alone:
                connection.execute(delete(cm_keys))
            connection.execute(_PUT_CM_KEY, row)

        await self._database.run(write)

    async def drop_cm_keys(self, keys: Iterable[tuple[EntityId, int]]) -> None:
        """See `cpns.ports.gateway.CmStore`."""
        rows = [{"id": device, "of": generation} for device, generation in keys]

        def write(connection: Connection) -> None:
            if rows:
                connection.execute(_DROP_CM_KEY, rows)

        await self._database.run(write)

    async def close(self) -> None:
        """See `cpns.ports.gateway.GatewayStore`."""
        await self._database.close()


def _row(member: HeldMember) -> dict[str, object]:
    own, there = (None, None) if member.ends is None else (member.ends.own, member.ends.there)
    head = {"pne_id": member.pne_id, "pn_id": member.pn_id, "th0": member.th0, "sealed_key": member.sealed_key}
    return {**head, "own": own, "there": there}
