"""What is sent to a PNE end to end, and answered by it; or why not, in words for an operator."""

from typing import Final

from cpns.errors import NoAnswer, Refused, Result, Unavailable
from cpns.ids import EntityId
from cpns.server.peers.pnes import Pnes
from cpns.server.peers.presence import Presences
from cpns.server.peers.unreached import Unreached
from cpns.transport.errors import Answer, Hinted
from cpns.wire import application

PUSH_TIMEOUT: Final = 10.0


class Sending:
    """Sends it.

    Args:
        unreached: tells why one did not answer.
    """

    def __init__(self, pnes: Pnes, presences: Presences, unreached: Unreached) -> None:
        self._pnes = pnes
        self._presences = presences
        self._unreached = unreached

    async def send(self, pne_id: EntityId, path: str, payload: bytes) -> str:
        """Send ``POST /path`` to a PNE through its PN GW, end to end; return the text that it answers.

        Raises:
            NotFound: ``unknown_entity``.
            Unavailable: ``not_established``, ``gateway_away``, ``uplink_silent`` or ``asleep``, with what to do.
        """
        try:
            answer = await self._pnes.request(pne_id, path, payload, PUSH_TIMEOUT)
        except Hinted as error:
            raise Unavailable(
                "asleep", f"{pne_id} does not answer its gateway ({error.reason}): asleep or out of reach."
            ) from error
        except NoAnswer as error:
            raise await self._unreached.told(pne_id, error.reason) from error
        if self._pnes.here(pne_id) is not None:
            self._presences.heard(pne_id)
        return _text_of(answer)


def _text_of(answer: Answer) -> str:
    if not answer.ok:
        raise Refused(Result.NOT_ALLOWED, "refused_by_the_device")
    return application.decode_text(answer.payload)
