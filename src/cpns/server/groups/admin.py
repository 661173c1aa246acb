"""What an operator can do with service groups, whether the server runs or not."""

from collections.abc import Sequence

from cpns.domain.actor import Actor
from cpns.domain.given import devices_to_name
from cpns.domain.group import GroupInventory, Named, chosen
from cpns.domain.member_list import Policy
from cpns.domain.told import telling
from cpns.errors import NotFound, Result
from cpns.ids import EntityId, SgId
from cpns.server.feature import Desk
from cpns.server.groups.actions import GroupActions


class GroupAdmin:
    """The operator's actions on service groups.

    Args:
        groups: the actions; where no server runs, they have nobody to ask or tell.
    """

    def __init__(self, desk: Desk, groups: GroupActions) -> None:
        self._store = desk.store
        self._groups = groups

    async def all(self) -> list[GroupInventory]:
        """Return the SG Inventory (DEF-4)."""
        return await self._store.groups()

    async def one(self, name: str) -> GroupInventory:
        """Return one group, by its ID, or by its name where only one has it.

        Raises:
            NotFound: ``unknown_group``.
            Conflict: ``ambiguous_group``.
        """
        found = await self._store.group(SgId(name))
        if found is not None:
            return found
        known = {one.group.sg_id: one for one in await self._store.groups()}
        meant = chosen(name, (Named(sg_id, one.group.name, one.group.owner) for sg_id, one in known.items()))
        if meant is None:
            raise NotFound("unknown_group", f"There is no group {name[:80]}: see `cpns group list`.")
        return known[meant.sg_id]

    async def invite(self, actor: Actor, name: str, devices: Sequence[str]) -> dict[EntityId, Result]:
        """Put devices on the list, and have those that can be reached asked; who waits is let in."""
        sg_id = (await self.one(name)).group.sg_id
        with telling():
            return await self._groups.invite(sg_id, actor, devices_to_name(devices))

    async def expel(self, actor: Actor, name: str, devices: Sequence[str]) -> None:
        """Put devices out, and bar them."""
        sg_id = (await self.one(name)).group.sg_id
        with telling():
            await self._groups.expel(sg_id, actor, devices_to_name(devices))

    async def delete(self, actor: Actor, name: str) -> None:
        """End a group."""
        sg_id = (await self.one(name)).group.sg_id
        with telling():
            await self._groups.delete(sg_id, actor)

    async def pass_on(self, actor: Actor, name: str, to: str | None) -> EntityId:
        """Give ownership to a member, or to whom the rule names, if that one agrees; return the new owner."""
        sg_id = (await self.one(name)).group.sg_id
        with telling():
            return await self._groups.pass_on(sg_id, actor, None if to is None else EntityId(to))

    async def update(self, actor: Actor, name: str, policy: Policy | None, keep: int | None) -> GroupInventory:
        """Change who may join, and how many seconds a message waits for who is away."""
        sg_id = (await self.one(name)).group.sg_id
        with telling():
            await self._groups.update(sg_id, actor, policy, keep)
        return await self.one(name)
