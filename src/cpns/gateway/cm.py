"""The external PN GW as mediator: it gets a CM Device of its own PAN ID and key for going direct (S2 steps 1 to 11)."""

import contextlib
import logging

from cpns.domain.cm import CmKey
from cpns.errors import NoAnswer, Refused, Result
from cpns.gateway.config import GatewayConfig
from cpns.gateway.uplink import Uplink
from cpns.gateway.uplink_states import Standing
from cpns.ids import EntityId
from cpns.ports import Randomness
from cpns.protocol.cm_assign import mediator
from cpns.session.table import Session
from cpns.shares.noted import by
from cpns.transport.endpoint import Link
from cpns.wire import cm_messages as m
from cpns.wire import registry

_log = logging.getLogger("cpns.gateway")


class Mediator:
    """Mediates for the PNEs of one PN GW; Key Seed and CM Device Key are kept nowhere, and gone when a run ends."""

    def __init__(self, config: GatewayConfig, uplink: Uplink, random: Randomness) -> None:
        self._config = config
        self._uplink = uplink
        self._random = random
        self._under_way: set[EntityId] = set()

    async def mediate(self, pne: EntityId, link: Link, hop: Session | None) -> m.CmGiven:
        """Take a PNE's wish; it has ID and key when this returns success, and nobody has them when it does not.

        Args:
            pne: that the hop session, or the Secure PAN, proved.
            link: where it is.
            hop: the session with it; None on a Secure PAN, and nowhere else.
        """
        if pne in self._under_way:
            return m.CmGiven(Result.IN_PROGRESS)
        self._under_way.add(pne)
        try:
            standing = await self._uplink.wait(self._config.uplink_patience)
            made = await self._assigned(standing, pne)
            if not await self._handed_over(made, link, hop):
                await self._release(standing, made.cm_device_id)
                return m.CmGiven(Result.NO_ANSWER)
        except Refused as error:
            _log.warning("CM Device of %s: no ID and key assigned: %s", pne, error.reason, extra=by(pne))
            return m.CmGiven(error.result)
        finally:
            self._under_way.discard(pne)
        _log.info("CM Device of %s has its ID %s and key", pne, made.cm_device_id, extra=by(pne))
        return m.CmGiven(Result.SUCCESS)

    async def _assigned(self, standing: Standing, pne: EntityId) -> CmKey:
        """Run steps 1 to 10 with the server, in one session. Raises `Refused`."""
        link, session, seconds = standing.link, standing.session, self._config.setup_timeout
        config = self._config
        txn = self._random(registry.TXN_BYTES)
        begun, wish = mediator.begin(txn=txn, device=pne, own_id=config.gateway_id, server_id=config.server_id)
        seed = await link.ask(wish, m.CmAssignResponse, timeout=seconds, session=session)
        derived, named = mediator.derive(begun, seed, self._random(registry.RAND_BYTES))
        del seed
        code = await link.ask(named, m.CmIdResponse, timeout=seconds, session=session)
        confirmed, own_code = mediator.confirm(derived, code)
        try:
            reply = await link.ask(own_code, m.CmConfirmResponse, timeout=seconds, session=session)
            return mediator.finish(confirmed, reply)
        except Refused:
            await self._release(standing, confirmed.made.cm_device_id)  # it may have committed, and we don't know
            raise

    async def _handed_over(self, made: CmKey, link: Link, hop: Session | None) -> bool:
        """Share ID and key with the CM Device (CM-11); False where it did not take them."""
        message = m.CmKeyRequest(made.cm_device_id, made.key.reveal())
        try:
            answer = await link.ask(
                message,
                m.CmKeyResponse,
                timeout=self._config.answer_timeout,
                session=hop,
                limit=registry.MAX_PAN_BODY,
            )
        except Refused:
            return False
        return answer.result == Result.SUCCESS

    async def _release(self, standing: Standing, device: EntityId) -> None:
        """Have the server forget what nobody took; where it can't be told now, that expires there."""
        with contextlib.suppress(NoAnswer):
            await standing.link.tell(
                m.CmReleaseRequest(device), timeout=self._config.answer_timeout, session=standing.session
            )
