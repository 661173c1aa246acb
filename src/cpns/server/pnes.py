"""The PNEs: whatever the server says to one goes end to end, through the PN GW that its session runs through.

A PNE has its session at the process that its PN GW is connected to. What is for another's goes to that process, which
alone has the keys.
"""

from typing import Any, TypeVar

from cpns.errors import NoAnswer
from cpns.ids import EntityId
from cpns.ports import Siblings
from cpns.server.gateways import ELSEWHERE_SECONDS, NOTHING, Gateways
from cpns.service.siblings import ask_about
from cpns.session.table import Session, Sessions
from cpns.transport.endpoint import Hinted, Link
from cpns.transport.errors import Answer, read
from cpns.wire import codec
from cpns.wire.registry import CPNS_PATH

M = TypeVar("M")


class Pnes:
    """The PNEs of a server.

    Args:
        sessions: those of this process.
        gateways: the PN GWs that are connected here.
        siblings: the other processes.
    """

    def __init__(self, sessions: Sessions, gateways: Gateways, siblings: Siblings) -> None:
        self._sessions = sessions
        self._gateways = gateways
        self._siblings = siblings
        siblings.serve("pne", self._asked_for)
        siblings.serve("pnes there", self._which_are_here)

    def here(self, pne: EntityId) -> tuple[Link, Session] | None:
        """Return link and session of a PNE that can be reached from this process; else None."""
        return self._gateways.way(self._sessions.with_peer(pne))

    async def there(self, pnes: list[EntityId]) -> set[EntityId]:
        """Return which of *pnes* can be reached, from whichever process."""
        found = {pne for pne in pnes if self.here(pne) is not None}
        missing = [pne for pne in pnes if pne not in found]
        for some in await ask_about(self._siblings, "pnes there", missing):
            found.update(some)
        return found

    async def request(self, pne: EntityId, path: str, payload: bytes, seconds: float) -> Answer:
        """Send ``POST /path`` to a PNE; return its answer, whatever it says.

        Raises:
            NoAnswer: ``no_session``: it has none at any process, as far as these can be asked
                (``other_processes_away``); ``Hinted``: its PN GW says that it can't reach it; or none came.
        """
        way = self.here(pne)
        if way is not None:
            return await _exchange(way, path, payload, seconds)
        answers = await self._siblings.ask("pne", [pne, path, payload, seconds], seconds + ELSEWHERE_SECONDS)
        found = answers.first()
        if found is None:
            raise NoAnswer("no_session" if answers.complete else "other_processes_away")
        if found == NOTHING:
            raise NoAnswer
        code, body, hinted = found
        if hinted:
            raise Hinted(Answer(code, body))
        return Answer(code, body)

    async def ask(self, pne: EntityId, message: codec.Message, shape: type[M], seconds: float) -> M:
        """Ask a PNE; return its answer. Raises `Refused`: as it answers, or as `request`."""
        return read(await self.request(pne, CPNS_PATH, codec.encode(message), seconds), shape)

    async def tell(self, pne: EntityId, message: codec.Message, seconds: float) -> None:
        """Tell a PNE, whatever it answers. Raises `NoAnswer` as `request`."""
        await self.request(pne, CPNS_PATH, codec.encode(message), seconds)

    # for other processes

    async def _asked_for(self, argument: Any) -> object:  # noqa: ANN401  # any CBOR
        pne, path, payload, seconds = argument
        way = self.here(pne)
        if way is None:
            return None
        try:
            answer = await _exchange(way, path, payload, seconds)
        except Hinted as hint:
            return [hint.answer.code, hint.answer.payload, True]
        except NoAnswer:
            return NOTHING
        return [answer.code, answer.payload, False]

    async def _which_are_here(self, pnes: Any) -> list[EntityId]:  # noqa: ANN401
        return [pne for pne in pnes if self.here(pne) is not None]


async def _exchange(way: tuple[Link, Session], path: str, payload: bytes, seconds: float) -> Answer:
    link, session = way
    return await link.request(path, payload, timeout=seconds, session=session, accept=lambda answer: answer)
