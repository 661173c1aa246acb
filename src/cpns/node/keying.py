"""How a CM Device comes by ID and key, and by fresh keys, and what it does where the server takes none of them."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from cpns.domain.cm import CmKey
from cpns.errors import CpnsError, NoAnswer, Refused, Result, StoreFails
from cpns.ids import EntityId
from cpns.node.cm import Keys
from cpns.node.life import DeviceLife
from cpns.node.states import Disowned
from cpns.ports import Time
from cpns.service.background import Background
from cpns.shares.noted import by
from cpns.wire.registry import Mode

_log = logging.getLogger("cpns.node")

PAUSES: Final = (0.5, 60.0)
"""First and longest pause, in seconds, before ID and key, or a fresh key, are asked for again."""
REFUSALS: Final = 3
"""Times in a row that the server takes no key of ours before another CM Device ID is asked for."""
REASSIGN_SECONDS: Final = 600.0
"""As anybody in between can refuse: not more often than that."""


class Keying:
    """Asks for the keys of one CM Device.

    Args:
        own_id: its PNE.
        keys: where they are kept.
        life: tells who can be asked; is told where the ID is not ours.
        on_key: is told of a key that was assigned, or agreed on.
    """

    def __init__(
        self, own_id: EntityId, keys: Keys, life: DeviceLife, time: Time, on_key: Callable[[CmKey], None]
    ) -> None:
        self._own_id = own_id
        self.keys = keys
        self._life = life
        self._time = time
        self._on_key = on_key
        self._assigning = asyncio.Lock()
        self._rekeying = asyncio.Lock()
        self._reassigned_at = time.monotonic() - REASSIGN_SECONDS
        self._work = Background()

    async def close(self) -> None:
        """Ask no more."""
        await self._work.close()

    @property
    def is_rekeying(self) -> bool:
        """Whether it agrees on a fresh key, or tries to."""
        return self._rekeying.locked()

    # ID and key

    async def assign(self) -> None:
        """Have the external PN GW get us a CM Device ID and key, in place of those that we have (CM-1 to CM-11).

        Raises:
            Refused: we are behind none, or it, or the server, does not do it.
            StoreFails: the key can't be kept.
        """
        async with self._assigning:
            pne = self._life.pne
            if pne is None or self._life.mode is not Mode.PNE:
                raise Refused(Result.MODE_NOT_SUPPORTED, "not_behind_an_external_gateway")
            self.keys.check()
            key = await pne.cm.assign()
            await self.keys.begin(key)
            said = "%s was assigned the CM Device ID %s, and a key"
            _log.info(said, self._own_id, key.cm_device_id, extra=by(self._own_id))
        self._on_key(key)

    def get_key(self) -> None:
        """Get ID and key while there is a PN GW to mediate, so that they are there when they are needed."""
        self._work.start(self._get_key())

    async def _get_key(self) -> None:
        pause = PAUSES[0]
        while self.keys.newest is None:
            pne = self._life.pne
            if pne is not None:
                await pne.wait_established()
                with contextlib.suppress(Refused, StoreFails):
                    await self.assign()
                    continue
            await self._time.sleep(pause)
            pause = min(pause * 2, PAUSES[1])

    async def ask_anew(self) -> None:
        """Get another ID and key where the server takes none that we have: it was revoked, or set up anew."""
        now = self._time.monotonic()
        if self.keys.refusals < REFUSALS or now - self._reassigned_at < REASSIGN_SECONDS:
            return
        self._reassigned_at = now
        with contextlib.suppress(Refused, StoreFails):
            await self.assign()

    # fresh keys

    def take_fresh_key(self) -> None:
        """Agree with the server on a key that no PN GW knows, end to end, and use that from then on."""
        if not self._rekeying.locked():
            self._work.start(self._rekey())

    async def rekey(self) -> None:
        """As `take_fresh_key`, and return when it has one; where one is agreed on already, at once.

        Raises:
            Refused, StoreFails: why it has none yet; it goes on trying.
        """
        if self._rekeying.locked() or not self.keys.settled:
            self.take_fresh_key()
            return
        try:
            async with self._rekeying:
                await self._agree()
        except CpnsError:
            self.take_fresh_key()
            raise

    async def _rekey(self) -> None:
        async with self._rekeying:
            pause = PAUSES[0]
            while (key := self.keys.newest) is not None and (pne := self._life.pne) is not None:
                await pne.wait_established()
                try:
                    if self.keys.settled:  # else to the server the generation after this one is not the next yet
                        await self._agree()
                        return
                except StoreFails:  # it says so itself
                    pass
                except Refused as error:
                    _log.warning("no fresh key yet: %s", error, extra=by(key.cm_device_id))
                    if error.result is Result.NOT_ALLOWED:
                        await self._disown(key)
                        return
                await self._time.sleep(pause)
                pause = min(pause * 2, PAUSES[1])

    async def _agree(self) -> None:
        """Agree with the server on the key after our newest one, and keep it. Raises `Refused`, `StoreFails`."""
        key, pne = self.keys.newest, self._life.pne
        if key is None or pne is None:
            raise NoAnswer("no_cm_device_key")
        self.keys.check()
        fresh = await pne.cm.rekey(key)
        await self.keys.add(fresh)
        said = "%s has a fresh key that no gateway knows"
        _log.info(said, self._own_id, extra=by(key.cm_device_id))
        self._on_key(fresh)
        if self._life.gateway is not None:
            self._life.gateway.uplink.renew()

    async def _disown(self, key: CmKey) -> None:
        """The server does not count that CM Device as ours: the PN GW that mediated named another, or it was revoked.

        So its key would stay known to that PN GW. We go back behind a gateway, and ask for another ID.
        """
        said = "%s is not ours by the server's word: not used any more"
        _log.error(said, key.cm_device_id, extra=by(key.cm_device_id))
        if self.keys.newest == key:
            await self.keys.forget()
            self._life.happens(Disowned())
