"""The Group Keys at rest: one is made for each epoch, when somebody first asks for it, and sealed by the vault."""

from collections.abc import Sequence
from typing import Final

from cpns.crypto.secret import Secret
from cpns.domain.group import GroupInventory, KeyedGroup
from cpns.ids import EntityId, SgId
from cpns.ports import Clock, Randomness, Vault
from cpns.ports.groups import GroupStore
from cpns.wire.registry import KEY_BYTES

GROUP_KEY_PURPOSE: Final = "group key"


class GroupKeyring:
    """The Group Keys of a server; it holds none."""

    def __init__(self, store: GroupStore, vault: Vault, clock: Clock, random: Randomness) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._random = random

    async def sealed(self, sg_id: SgId, of: Sequence[EntityId] | None = None) -> KeyedGroup | None:
        """Return a group as it is, with the Group Keys that are taken; see `cpns.ports.Store.group_key`."""
        return await self._store.group_key(sg_id, self._make, self._clock.now(), of)

    def open(self, sg_id: SgId, epoch: int, sealed: bytes) -> Secret:
        """Return a Group Key that `sealed` gave. Raises `AuthenticationFailed`: it is none of this server."""
        return self._vault.open(GROUP_KEY_PURPOSE, _owner(sg_id, epoch), sealed)

    async def present(self, sg_id: SgId, of: Sequence[EntityId] | None = None) -> tuple[GroupInventory, Secret] | None:
        """Return a group as it is, with the Group Key of its present epoch."""
        found = await self.sealed(sg_id, of)
        if found is None:
            return None
        return found.inventory, self.open(sg_id, found.inventory.group.epoch, found.sealed_key)

    def _make(self, sg_id: SgId, epoch: int) -> bytes:
        return self._vault.seal(GROUP_KEY_PURPOSE, _owner(sg_id, epoch), Secret(self._random(KEY_BYTES)))


def _owner(sg_id: SgId, epoch: int) -> str:
    """Return what a sealed Group Key is bound to."""
    return f"{sg_id} {epoch}"
