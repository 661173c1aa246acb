"""What a PNE does for the CM Device that it is part of: it gets ID and key, and fresh keys (S2, PROTOCOL section 6)."""

from collections.abc import Callable
from typing import Final

from cpns.crypto import cm
from cpns.crypto.secret import Secret
from cpns.domain.cm import CmKey
from cpns.errors import NoAnswer, Refused, Result
from cpns.ids import EntityId
from cpns.pne.way import ToGateway, ToServer
from cpns.ports import Randomness
from cpns.session.table import Session
from cpns.transport.dispatch import TAKEN
from cpns.transport.endpoint import Inbound
from cpns.transport.errors import Answer
from cpns.wire import cm_messages as m
from cpns.wire.registry import MAX_PAN_BODY, RAND_BYTES

ASSIGNMENT_SECONDS: Final = 20.0
"""What our PN GW has to mediate: three exchanges with the server, one with us."""


class Changing:
    """The CM Device's side of assignment and rekey.

    Args:
        own_id: the PNE.
        way: to the server, end to end.
        hop: to our PN GW.
        rotate: is told that the server wants a CM Device to take a fresh key.
    """

    def __init__(
        self,
        own_id: EntityId,
        way: ToServer,
        hop: ToGateway,
        random: Randomness,
        rotate: Callable[[EntityId], None],
    ) -> None:
        self._own_id = own_id
        self._way = way
        self._hop = hop
        self._random = random
        self._rotate = rotate
        self._asking = False
        self._brought: CmKey | None = None

    async def assign(self) -> CmKey:
        """Have our PN GW mediate; return the ID and key that it gave (CM-11). It knows them too: see `rekey`.

        Raises:
            Refused: server or PN GW refused; what was brought meanwhile is forgotten.
        """
        way = self._hop()
        if way is None:
            raise NoAnswer("not_established")
        if self._asking:
            raise Refused(Result.IN_PROGRESS, "assignment_under_way")
        link, hop = way
        self._asking = True
        try:
            wanted = m.CmWanted(self._own_id)
            given = await link.ask(wanted, m.CmGiven, timeout=ASSIGNMENT_SECONDS, session=hop, limit=MAX_PAN_BODY)
            if given.result != Result.SUCCESS or self._brought is None:
                raise Refused(Result.told(given.result, Result.NOT_ALLOWED), "not_assigned")
            return self._brought
        finally:
            self._asking = False
            self._brought = None

    async def brought(self, inbound: Inbound, message: m.CmKeyRequest) -> m.CmKeyResponse:
        """Take CM-KEY Request, which came from our own PN GW; it is kept aside until the assignment is at its end."""
        if not self._asking or self._brought is not None:
            return m.CmKeyResponse(Result.NOT_ALLOWED)
        self._brought = CmKey(message.cm_device_id, 0, Secret(message.cm_device_key))
        return m.CmKeyResponse(Result.SUCCESS)

    async def told_to_rotate(self, source: Session, notice: m.CmRotateNotify) -> Answer:
        """Take CMRotateNotify, which came from the server, end to end."""
        self._rotate(notice.cm_device_id)
        return TAKEN

    async def rekey(self, key: CmKey) -> CmKey:
        """Agree with the server on the key that follows *key*, which the PN GW that mediated can't derive.

        Raises:
            Refused: the server does not do it, or does not answer; *key* serves on.
        """
        session = self._way.session
        if session is None:
            raise NoAnswer("not_established")
        exporter = session.keys.exporter()
        generation = key.generation + 1
        rand = self._random(RAND_BYTES)
        request = m.CmRekeyRequest(key.cm_device_id, generation, rand)
        response = await self._way.ask(request, m.CmRekeyResponse)
        if response.result != Result.SUCCESS:
            raise Refused(Result.told(response.result, Result.NOT_ALLOWED), "no_fresh_key")
        fresh = cm.rekey(exporter, key.key, key.cm_device_id, generation, rand, response.rand)
        return CmKey(key.cm_device_id, generation, fresh)
