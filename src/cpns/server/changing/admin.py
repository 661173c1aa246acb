"""What an operator can do with Changing-Mode devices, whether the server runs or not."""

from collections.abc import Awaitable, Callable, Sequence

from cpns.domain.actor import Actor
from cpns.domain.cm import CmDevice
from cpns.domain.inventory import State
from cpns.errors import Conflict, NotFound
from cpns.ids import EntityId
from cpns.server.feature import Desk

Rotate = Callable[[Sequence[EntityId], Actor], Awaitable[list[CmDevice]]]


class CmAdmin:
    """The operator's actions on CM Devices.

    Args:
        rotate: of the running server, which tells the devices at once; None: they are told when it runs again.
    """

    def __init__(self, desk: Desk, rotate: Rotate | None) -> None:
        self._store = desk.store
        self._provisioning = desk.provisioning
        self._clock = desk.clock
        self._rotate = rotate

    async def all(self, gateway: EntityId | None = None) -> list[CmDevice]:
        """Return all, oldest first; of *gateway*: those that it mediated."""
        return [one for one in await self._store.cm_devices() if gateway in (None, one.gateway_id)]

    async def one(self, name: str) -> CmDevice:
        """Return one, by its CM Device ID, or by its device where only one of that is active.

        Raises:
            NotFound: ``unknown_cm_device``.
            Conflict: ``ambiguous_device``.
        """
        known = await self._store.cm_devices()
        by_device = [one for one in known if one.pne_id == name]
        found = [one for one in known if one.cm_device_id == name] or by_device
        if len(found) > 1:
            found = [one for one in found if one.state is State.ACTIVE]
        if len(found) > 1:
            ids = ", ".join(one.cm_device_id for one in found)
            raise Conflict("ambiguous_device", f"{name[:80]} has several CM Device IDs: name one of {ids}.")
        if not found:
            raise NotFound("unknown_cm_device", f"There is no CM Device {name[:80]}: see `cpns cm list`.")
        return found[0]

    async def revoke(self, actor: Actor, name: str, *, reassign: bool) -> tuple[CmDevice, int]:
        """Revoke one, at once; return it, and how many sessions ended.

        Args:
            actor: who does so.
            name: see `one`.
            reassign: whether its device may be assigned another; else it stays behind gateways.

        Raises:
            NotFound: ``unknown_cm_device``.
        """
        device = (await self.one(name)).cm_device_id
        await self._store.may_reassign_cm(device, reassign, self._clock.now(), actor)
        ended = await self._provisioning.revoke(actor, device)
        return await self.one(device), ended

    async def rotate(self, actor: Actor, names: Sequence[str]) -> list[CmDevice]:
        """Have them take fresh keys, which no gateway knows; all or none.

        Raises:
            NotFound: ``unknown_cm_device``.
        """
        ids = [(await self.one(name)).cm_device_id for name in names]
        if self._rotate is not None:
            return await self._rotate(ids, actor)
        return await self._store.rotate_cm(ids, self._clock.now(), actor)
