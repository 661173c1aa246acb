"""Signs of life to the PN GW: in the hop session, or plainly on a Secure PAN (SES-5, SES-6)."""

from typing import Final

from cpns.errors import NoAnswer, Refused, Result, WireError
from cpns.pne.config import PneConfig
from cpns.pne.join import Join
from cpns.pne.life import PneLife
from cpns.pne.states import Looked, Suspected
from cpns.pne.way import ToServer
from cpns.ports import Time
from cpns.protocol.pne_auth.pne import Joined
from cpns.service.background import Background
from cpns.session.table import Sessions
from cpns.transport.endpoint import Link
from cpns.transport.errors import Answer, Hinted
from cpns.wire import application
from cpns.wire.pn_messages import EntityDiscoveryRequest
from cpns.wire.registry import Mode

ASKED_PAUSE: Final = 2.0
"""Seconds between two signs of life at the least, however often we are asked for them: anybody can ask."""


class Presence:
    """Tells the PN GW where a PNE is.

    Args:
        life: is told where a sign of life is due before its time, and what came of each.
        way: to the server.
        sessions: of the PNE, the hop session among them.
        join: makes a new hop session where the PN GW does not know the one that we have.
    """

    def __init__(
        self, config: PneConfig, life: PneLife, way: ToServer, sessions: Sessions, join: Join, time: Time
    ) -> None:
        self._config = config
        self._life = life
        self._way = way
        self._sessions = sessions
        self._join = join
        self._time = time
        self._due = float("-inf")
        self._work = Background()

    async def close(self) -> None:
        """Answer no asking any more."""
        await self._work.close()

    def asked(self, by: EntityDiscoveryRequest) -> None:
        """Somebody at the address of our PN GW says who it is: if it is that, it may not know our hop session any more.

        Address and name can be forged.
        """
        joined, now = self._life.joined, self._time.monotonic()
        ours = joined is not None and (by.entity_id, by.mode) == (joined.gateway_id, Mode.PN_GW)
        if ours and self._due <= now:
            self._due = max(now, self._due + ASKED_PAUSE)
            self._work.start(self._look_soon(self._due - now))

    async def _look_soon(self, seconds: float) -> None:
        await self._time.sleep(seconds)
        self._life.happens(Suspected())

    async def look(self) -> None:
        """Tell our PN GW again that we are here, and the life what it said. Raises `Refused`."""
        at = self._life.last
        if at is not None:
            away = await self._tell_again(at.link, at.joined)
            if at.link == self._life.link:
                self._life.happens(Looked(away))

    async def tell(self, link: Link, joined: Joined) -> int:
        """Say that we are at *link*; return for how many seconds the PN GW says that its uplink is away.

        Raises:
            Refused: the PN GW does not know our hop session (`Hinted`), does not answer, or does not take it.
        """
        hop = None if joined.pan_secure else self._sessions.with_peer(joined.gateway_id)
        payload = application.encode_text(self._config.pne_id) if joined.pan_secure else b""
        seconds = self._config.request_timeout
        return _accepted(await link.exchange(application.PRESENCE_PATH, payload, timeout=seconds, session=hop))

    async def _tell_again(self, link: Link, joined: Joined) -> int:
        """As `tell`, with a new hop session where it takes one: a PN GW that restarted still has the LocalEUKey.

        What it held for us it has no longer: whoever waits for an answer to that says it again.
        """
        try:
            return await self._tell_twice(link, joined)
        except Hinted:  # it is there, and does not know our hop session
            if joined.pan_secure:
                raise
            older = self._sessions.with_peer(joined.gateway_id)
            async with self._join.turn:
                if older is None or self._sessions.with_peer(joined.gateway_id) is not older:
                    return 0  # we have set up anew, or gone elsewhere, meanwhile
                self._sessions.remove(older)
                await self._join.hop(link, joined)
                if self._way.held_up:
                    self._way.let_go("held_without_answer")
                return await self.tell(link, joined)

    async def _tell_twice(self, link: Link, joined: Joined) -> int:
        """As `tell`; a PN GW is not left for one exchange that got lost with all its repetitions."""
        try:
            return await self.tell(link, joined)
        except Hinted:
            raise
        except NoAnswer:
            return await self.tell(link, joined)


def _accepted(answer: Answer) -> int:
    if not answer.ok:
        raise Refused(Result.NOT_AUTHENTICATED, "presence_refused")
    try:
        return application.decode_away(answer.payload)
    except WireError:
        return 0  # an older PN GW says nothing of its uplink
