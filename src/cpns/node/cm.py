"""The keys of a CM Device: what it has, what it keeps over a restart (DEF-8), and which one to try."""

import contextlib
import logging
from collections.abc import Sequence

from cpns.domain.cm import CmKey, HeldCmKey
from cpns.errors import AuthenticationFailed, Refused, Result, StoreFails
from cpns.ports import Vault
from cpns.ports.gateway import CmStore

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
        self._refused: list[CmKey] = []
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

    @property
    def settled(self) -> bool:
        """Whether the newest key is in use: an older one is kept only until then."""
        return len(self._keys) < 2

    def check(self) -> None:
        """Raise `StoreFails` where no key could be kept: then none is asked for."""
        if self._store is not None and self._store.trouble:
            raise StoreFails(self._store.trouble, away=False)

    async def begin(self, key: CmKey) -> None:
        """Take a newly assigned ID and key; older ones are forgotten. Raises `StoreFails`: all is as it was."""
        await self._keep(key, alone=True)
        self._keys = [key]
        self._turn = self.refusals = 0

    async def forget(self) -> None:
        """Forget all."""
        await self._drop(list(self._keys))

    async def add(self, key: CmKey) -> None:
        """Take a fresh key of the same ID; the older one is tried too, until this one is `proven`.

        Raises:
            StoreFails: it can't be kept: all is as it was.
        """
        await self._keep(key)
        self._keys.insert(0, key)
        self._turn = self.refusals = 0

    def to_try(self) -> CmKey:
        """See `CmKeys`. Raises `Refused` where there is none any more."""
        if not self._keys:
            raise Refused(Result.KEY_EXPIRED, "no_cm_device_key")
        return self._keys[self._turn % len(self._keys)]

    async def proven(self, key: CmKey) -> None:
        """See `CmKeys`. One that came meanwhile stays, and one that was forgotten meanwhile does not come back."""
        refused, self._refused = self._refused, []
        self._turn = self.refusals = 0
        if key in self._keys:
            place = self._keys.index(key)
            others = [one for one in self._keys if one != key]
            await self._drop([one for one in others if self._keys.index(one) > place or one in refused])

    def refused(self, key: CmKey) -> None:
        """See `CmKeys`. Nobody vouches for a refusal: nothing is forgotten for it."""
        self._turn += 1
        self.refusals += 1
        self._refused.append(key)

    async def _drop(self, keys: Sequence[CmKey]) -> None:
        self._keys = [one for one in self._keys if one not in keys]
        if self._store is not None and keys:
            with contextlib.suppress(StoreFails):  # it says so itself; after a restart the server takes none of them
                await self._store.drop_cm_keys((one.cm_device_id, one.generation) for one in keys)

    async def _keep(self, key: CmKey, *, alone: bool = False) -> None:
        if self._store is not None:
            sealed = self._vault.seal(PURPOSE, f"{key.cm_device_id} {key.generation}", key.key)
            await self._store.keep_cm_key(HeldCmKey(key.cm_device_id, key.generation, sealed), alone=alone)
