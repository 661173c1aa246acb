"""CM Devices that are to take fresh keys: their PNEs are told at once, or when they are heard."""

import logging
from collections.abc import Sequence

from cpns.domain.actor import Actor
from cpns.domain.cm import CmDevice
from cpns.domain.inventory import State
from cpns.errors import Refused
from cpns.ids import EntityId
from cpns.ports import topics
from cpns.server.feature import Here
from cpns.server.peers.gateways import NOTIFY_TIMEOUT
from cpns.service.background import Background
from cpns.shares.noted import by
from cpns.wire import cm_messages as cm

_log = logging.getLogger("cpns.server")


class Rotations:
    """Those of one server process."""

    def __init__(self, here: Here) -> None:
        self._store = here.store
        self._pnes = here.pnes
        self._clock = here.clock
        self._cluster = here.cluster
        self._cluster.serve(topics.CM_ROTATES, self._is_due)
        self._cluster.serve(topics.CM_ROTATED, self._is_done)
        self._due: dict[EntityId, set[EntityId]] = {}
        self._work = Background()

    async def load(self) -> None:
        """Take up who is to take a fresh key by the store: since before our start, or as another process was told."""
        for device in await self._store.cm_devices():
            if device.rotation_due and device.state is State.ACTIVE:
                self._due.setdefault(device.pne_id, set()).add(device.cm_device_id)

    async def close(self) -> None:
        """Stop telling."""
        await self._work.close()

    async def rotate(self, ids: Sequence[EntityId], actor: Actor) -> list[CmDevice]:
        """Have CM Devices take fresh keys: at once where their PNE can be reached, else when it is heard.

        Raises:
            NotFound: ``unknown_cm_device``.
        """
        devices = await self._store.rotate_cm(ids, self._clock.now(), actor)
        due = topics.RotationsDue(tuple(topics.RotationDue(one.pne_id, one.cm_device_id) for one in devices))
        await self._is_due(due)
        self._cluster.tell(topics.CM_ROTATES, due)
        return devices

    async def done(self, device: EntityId) -> None:
        """A CM Device has taken its fresh key."""
        done = topics.About(device)
        await self._is_done(done)
        self._cluster.tell(topics.CM_ROTATED, done)

    def heard(self, pne: EntityId) -> None:
        """*pne* can be reached: tell it of a rotation that is due."""
        for device in self._due.get(pne, ()):
            self._work.start(self._tell(pne, device))

    async def _tell(self, pne: EntityId, device: EntityId) -> None:
        way = self._pnes.here(pne)
        if way is None:
            return
        link, session = way
        try:
            await link.tell(cm.CmRotateNotify(device), timeout=NOTIFY_TIMEOUT, session=session)
        except Refused as error:
            _log.info("PNE %s could not be told to take a fresh key: %s", pne, error, extra=by(pne))

    # for other processes

    async def _is_due(self, said: topics.RotationsDue) -> None:
        """CM Devices are to take fresh keys, as an operator said to this process or another."""
        for one in said.due:
            self._due.setdefault(one.pne, set()).add(one.device)
            self.heard(one.pne)

    async def _is_done(self, device: topics.About) -> None:
        for due in self._due.values():
            due.discard(device.entity)
