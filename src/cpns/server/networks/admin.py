"""What an operator can do with personal networks, whether the server runs or not."""

from collections.abc import Sequence
from functools import partial

from cpns.domain.actor import Actor
from cpns.domain.credential import DeviceCredential
from cpns.domain.given import devices_to_name
from cpns.domain.inventory import HeldThrough, Kind
from cpns.domain.member_list import Policy
from cpns.domain.network import Inventory, Waiting
from cpns.domain.told import telling
from cpns.errors import Conflict, NotFound, Result
from cpns.ids import EntityId, PnId
from cpns.server.feature import Desk
from cpns.server.networks.actions import NetworkActions


class PnAdmin:
    """The operator's actions on personal networks.

    Args:
        networks: the actions; where no server runs, they have no session to end and nobody to tell.
    """

    def __init__(self, desk: Desk, networks: NetworkActions) -> None:
        self._desk = desk
        self._store = desk.store
        self._networks = networks
        self._provisioning = desk.provisioning
        self._clock = desk.clock

    async def all(self) -> list[Inventory]:
        """Return the PN Inventory (DEF-3)."""
        return await self._store.networks()

    async def one(self, name: str) -> Inventory:
        """Return one PN, by its ID, or by its alias where only one has it.

        Raises:
            NotFound: ``unknown_network``.
            Conflict: ``ambiguous_alias``.
        """
        found = await self._store.inventory(PnId(name))
        if found is not None:
            return found
        named = [pn for pn in await self._store.networks() if pn.network.alias == name]
        if len(named) > 1:
            ids = ", ".join(pn.network.pn_id for pn in named)
            raise Conflict("ambiguous_alias", f"Several networks are called {name[:80]}: name one of {ids}.")
        if not named:
            raise NotFound("unknown_network", f"There is no network {name[:80]}: see `cpns network list`.")
        return named[0]

    async def invite(self, actor: Actor, name: str, devices: Sequence[str]) -> dict[EntityId, Result]:
        """Put devices on the member list, and have those in reach asked; return how it ended for each."""
        pn_id = (await self.one(name)).network.pn_id
        with telling():
            return await self._networks.invite(pn_id, actor, await self._devices(devices))

    async def expel(self, actor: Actor, name: str, devices: Sequence[str]) -> None:
        """Put devices out, and bar them."""
        pn_id = (await self.one(name)).network.pn_id
        with telling():
            await self._networks.expel(pn_id, actor, await self._devices(devices))

    async def release(self, actor: Actor, name: str) -> None:
        """End a PN."""
        pn_id = (await self.one(name)).network.pn_id
        with telling():
            await self._networks.release(pn_id, actor)

    async def switch(self, actor: Actor, name: str, gateway: str) -> None:
        """Let another PN GW serve a PN; that one has to be connected, and to agree."""
        pn_id = (await self.one(name)).network.pn_id
        to = await self._desk.entity(Kind.GATEWAY, gateway)
        with telling():
            await self._networks.switch(pn_id, to.entity_id, actor)

    async def update(
        self, actor: Actor, name: str, policy: Policy | None, alias: str | None, owner: str | None
    ) -> Inventory:
        """Change policy, alias or owner; return the PN as it is then."""
        pn_id = (await self.one(name)).network.pn_id
        new = None if owner is None else (await self._devices([owner]))[0]
        with telling():
            await self._networks.update(pn_id, actor, policy=policy, alias=alias, owner=new)
        return await self.one(pn_id)

    async def waiting(self) -> list[Waiting]:
        """Return the devices that wait for a decision."""
        return await self._store.waiting()

    async def approve(
        self, actor: Actor, name: str, network: str | None, note: str, *, key: str | None = None, dry_run: bool = False
    ) -> DeviceCredential | None:
        """Let a waiting device in; return its credential where it had none and got one made.

        Args:
            actor: who does so.
            name: the device.
            network: where it waits for more than one.
            note: for the operator, where it is provisioned.
            key: see `Provisioning.add`.
            dry_run: only check it.

        Raises:
            NotFound: ``not_waiting``.
            Conflict: ``which_network``: it waits for more than one.
        """
        new = (actor, Kind.PNE, name, None, note)
        provision = partial(self._provisioning.add, *new, key=key, heard=True, dry_run=dry_run)
        try:
            one = await self._waiting(name, network)
        except NotFound:
            if key is None or await self._store.entity(EntityId(name)) is None:
                raise
            return await provision()  # asked for a second time: done
        if one.pn_id is None:
            return await provision()  # it is a stranger no longer
        if not dry_run:
            await self._decide(actor, one.pn_id, one.pne_id, let_in=True)
        return None

    async def refuse(self, actor: Actor, name: str, network: str | None) -> None:
        """Bar a waiting device, or forget an ID that nobody provisioned. Raises as `approve`."""
        one = await self._waiting(name, network)
        if one.pn_id is None:
            await self._store.dismiss(one.pne_id, self._clock.now(), actor)
        else:
            await self._decide(actor, one.pn_id, one.pne_id, let_in=False)

    async def _decide(self, actor: Actor, pn_id: PnId, pne: EntityId, *, let_in: bool) -> None:
        with telling():
            await self._networks.approve(pn_id, actor, pne, let_in=let_in)

    async def _waiting(self, name: str, network: str | None) -> Waiting:
        wanted = None if network is None else (await self.one(network)).network.pn_id
        found = [
            one for one in await self._store.waiting() if one.pne_id == name and (wanted is None or one.pn_id == wanted)
        ]
        if len(found) > 1:
            ids = ", ".join(one.pn_id for one in found if one.pn_id is not None)
            raise Conflict("which_network", f"{name[:80]} waits for several networks: give --network, one of {ids}.")
        if not found:
            raise NotFound("not_waiting", f"{name[:80]} does not wait for anything: see `cpns device pending`.")
        return found[0]

    async def held_through(self, gateway: EntityId) -> list[HeldThrough]:
        """Return what a PN GW ever held."""
        return await self._store.held_through(gateway)

    async def _devices(self, names: Sequence[str]) -> list[EntityId]:
        return [(await self._desk.entity(Kind.PNE, name)).entity_id for name in devices_to_name(names)]
