"""What the services need of the store for CM Devices."""

from collections.abc import Sequence
from typing import Protocol

from cpns.domain.actor import Actor
from cpns.domain.cm import CmCredential, CmDevice, NewCmDevice
from cpns.ids import EntityId


class CmDeviceStore(Protocol):
    """The CM Devices of a server. See `cpns.ports.Store`."""

    async def cm_devices(self) -> list[CmDevice]:
        """Return all CM Devices, oldest first."""
        ...

    async def cm_device(self, cm_device_id: EntityId) -> CmCredential | None:
        """Return one CM Device with its keys, sealed, or None."""
        ...

    async def check_cm_assignable(self, pne_id: EntityId, gateway_id: EntityId) -> None:
        """Raise as `assign_cm` would for a PNE, mediated by this PN GW."""
        ...

    async def assign_cm(self, new: NewCmDevice) -> list[EntityId]:
        """Commit step 10; unused ones of the same PNE and PN GW are forgotten.

        Returns:
            Older ones that were in use and revoked to make room.

        Raises:
            Refused: what the rule `cpns.domain.cm.assign` says; or that Key Seed has served already.
        """
        ...

    async def release_cm(self, cm_device_id: EntityId, gateway_id: EntityId, at: float) -> None:
        """Forget one that was never used, if this PN GW mediated it."""
        ...

    async def expire_cm(self, before: float, at: float) -> list[EntityId]:
        """Forget those that were assigned before a time and never used, and return them.

        Those that others took the place of before that time, and that serve no PN, are forgotten too.
        """
        ...

    async def rekey_cm(
        self, cm_device_id: EntityId, pne_id: EntityId, generation: int, sealed_next: bytes, at: float
    ) -> None:
        """Keep the next key, which a PNE agreed on, beside the present one, until it is used.

        Raises:
            Refused: what the rule `cpns.domain.cm.rekey` says.
        """
        ...

    async def activate_cm(self, cm_device_id: EntityId, generation: int, at: float) -> list[EntityId]:
        """Commit that a session under the key of *generation* begins: the next key's first one ends the present key.

        Returns:
            Other CM Devices of the same PNE that were revoked with that.

        Raises:
            Refused: what the rule `cpns.domain.cm.activate` says.
        """
        ...

    async def rotate_cm(self, ids: Sequence[EntityId], at: float, actor: Actor) -> list[CmDevice]:
        """Note that CM Devices are to take fresh keys, all or none; return them.

        Raises:
            NotFound: ``unknown_cm_device``.
        """
        ...

    async def may_reassign_cm(self, cm_device_id: EntityId, reassign: bool, at: float, actor: Actor) -> None:
        """Set whether the PNE of a revoked CM Device may be assigned another."""
        ...
