"""What a PNE does with sessions that have just come to stand, however it came by them."""

from collections.abc import Callable

from cpns.ids import EntityId, PnId
from cpns.pne.find import Finder
from cpns.pne.groups import Groups
from cpns.pne.join import Join, Wanted
from cpns.pne.life import PneLife
from cpns.pne.presence import Presence
from cpns.pne.states import Attachment, TakenUp, TurnedAway, Welcomed
from cpns.pne.way import ToServer
from cpns.protocol.pne_auth.pne import Joined
from cpns.session.table import Session, Sessions
from cpns.transport.endpoint import Endpoint, Link


class Arrival:
    """Takes up the sessions of one PNE, in place of older ones.

    Args:
        life: is told.
        join: sets up.
        on_established: is told of PN GW and PN each time the sessions stand.
    """

    def __init__(
        self,
        life: PneLife,
        endpoint: Endpoint,
        sessions: Sessions,
        finder: Finder,
        join: Join,
        way: ToServer,
        presence: Presence,
        groups: Groups,
        on_established: Callable[[EntityId, PnId], None],
    ) -> None:
        self._life = life
        self._endpoint = endpoint
        self._sessions = sessions
        self._finder = finder
        self._join = join
        self._way = way
        self._presence = presence
        self._groups = groups
        self._on_established = on_established

    async def through(self, link: Link, wanted: Wanted, patience: float | None = None) -> Joined:
        """Set up through the PN GW at *link*, whose turn it is; return what stands now. Raises as `adopt`."""
        joined, server = await self._join.setup(link, wanted, patience)
        await self.adopt(link, joined, server)
        return joined

    async def adopt(self, link: Link, joined: Joined, server: Session) -> None:
        """Take up sessions.

        Raises:
            Refused: the PN GW does not make a hop session, or does not take it that we are there; or the server does
                not answer in its session.
        """
        self._endpoint.name(link, joined.gateway_id)
        if not joined.pan_secure:
            await self._join.hop(link, joined)
        before, at = self._life.joined, Attachment(link, joined, server)
        self._life.happens(TakenUp(at))
        try:
            await self._finder.found()
            if before is not None and before.gateway_id != joined.gateway_id:
                older = self._sessions.with_peer(before.gateway_id)
                if older is not None:
                    self._sessions.remove(older)
            away = await self._presence.tell(link, joined)
        except BaseException:
            self._life.happens(TurnedAway())
            raise
        self._life.happens(Welcomed(at, away))
        await self._way.say_status("connected")
        self._groups.resume()
        self._on_established(joined.gateway_id, joined.pn_id)
