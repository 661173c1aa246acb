"""The keys of a CM Device: what it has, what it keeps over a restart (DEF-8), and which one to try."""

import logging

from cpns.domain.cm import CmKey, HeldCmKey
from cpns.errors import AuthenticationFailed
from cpns.ports import CmStore, Vault

_log = logging.getLogger("cpns.node")

PURPOSE = "cm device key"


class Keys:
    """`cpns.gateway.claim.CmKeys` of one CM Device: one key, or two while a fresh one is taken up.

    Args:
        store: None keeps nothing over a restart; then a new CM Device ID is asked for.
    """

    def __init__(self, store: CmStore | None, vault: Vault) -> None:
        self._store = store
        self._vault = vault
        self._keys: list[CmKey] = []
        self._turn = 0
        self.refusals = 0
        """How often in a row the server took none."""

    async def load(self) -> None:
        """Take up what was kept."""
        for held in [] if self._store is None else await self._store.cm_keys():
            try:
                key = self._vault.open(PURPOSE, f"{held.cm_device_id} {held.generation}", held.sealed_key)
            except AuthenticationFailed:
                _log.warning("the kept key of %s does not open: another will be asked for", held.cm_device_id)
                continue
            self._keys.append(CmKey(held.cm_device_id, held.generation, key))

    @property
    def newest(self) -> CmKey | None:
        """The newest key, or None."""
        return self._keys[0] if self._keys else None

    async def begin(self, key: CmKey) -> None:
        """Take a newly assigned ID and key; older ones are forgotten."""
        await self.forget()
        await self.add(key)

    async def forget(self) -> None:
        """Forget all."""
        await self._drop(None)
        self._keys.clear()

    async def add(self, key: CmKey) -> None:
        """Take a fresh key of the same ID; the older one is tried too, until this one is `proven`."""
        await self._keep(key)
        self._keys.insert(0, key)
        self._turn = self.refusals = 0

    def to_try(self) -> CmKey:
        """See `CmKeys`."""
        return self._keys[self._turn % len(self._keys)]

    async def proven(self, key: CmKey) -> None:
        """See `CmKeys`."""
        self._turn = self.refusals = 0
        if self._keys != [key]:
            self._keys = [key]
            await self._drop(key)

    def refused(self, key: CmKey) -> None:
        """See `CmKeys`. Nobody vouches for a refusal: nothing is forgotten for it."""
        self._turn += 1
        self.refusals += 1

    async def _keep(self, key: CmKey) -> None:
        if self._store is not None:
            await self._store.keep_cm_key(self._held(key))

    async def _drop(self, but: CmKey | None) -> None:
        if self._store is not None:
            await self._store.drop_cm_keys(None if but is None else self._held(but))

    def _held(self, key: CmKey) -> HeldCmKey:
        sealed = self._vault.seal(PURPOSE, f"{key.cm_device_id} {key.generation}", key.key)
        return HeldCmKey(key.cm_device_id, key.generation, sealed)
