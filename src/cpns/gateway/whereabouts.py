"""Where the members are: who speaks from elsewhere is asked there; after our restart all are asked where they were.

A message in a hop session, from the address where its member proved itself, is a sign of life. From another address it
proves nothing: a stranger may have copied the datagram, and sent it first. The same holds for a message to the server,
whose key ID says whose it is. So we ask at that address, in the hop session: the member alone can seal the answer, and
that moves it. Without a hop session (after our restart, or on a Secure PAN) we say there that we are the PN GW,
unprotected: a member then comes by itself.
"""

from collections.abc import Callable
from typing import Final

from cpns.errors import NoAnswer
from cpns.gateway.config import GatewayConfig
from cpns.gateway.members import Member, Members, Pan
from cpns.ids import EntityId
from cpns.ports import Time
from cpns.service.background import Background
from cpns.session.table import Session
from cpns.transport.endpoint import Link
from cpns.transport.oscore import key_id
from cpns.wire import application
from cpns.wire.pn_messages import EntityDiscoveryRequest
from cpns.wire.registry import Mode

ASK_SECONDS: Final = 2.0
"""What somebody at another address has to answer."""
PAUSE: Final = 1.0
"""Seconds from one question to the next about one member; one is under way at a time."""
MAX_UNKNOWN: Final = 64
"""Addresses at once that are told that we are here, as somebody there has a session and is no member that we know."""
RETURN_RATE: Final = 50.0
"""Members a second that are asked after our restart."""


class Whereabouts:
    """Where the members of one PN GW are."""

    def __init__(self, config: GatewayConfig, members: Members, time: Time) -> None:
        self._config = config
        self._members = members
        self._time = time
        self._hears: list[Callable[[EntityId], None]] = []
        self._asking: dict[EntityId, tuple[Pan, Link] | None] = {}
        """Who is asked, and where it is asked next: there it was heard last meanwhile."""
        self._unknown: set[Link] = set()
        self._work = Background()

    def hears(self, heard: Callable[[EntityId], None]) -> None:
        """Have *heard* called with each member that is heard."""
        self._hears.append(heard)

    async def close(self) -> None:
        """Ask nobody any more."""
        await self._work.close()

    def said(self, pne: EntityId, pan: Pan, link: Link) -> None:
        """A message of a member came from *link*: in its hop session, or said plainly on a Secure PAN where it is."""
        member = self._members.get(pne)
        if member is None:
            return
        if pan.secure or link in (member.link, member.proved_at):
            self._is_at(pne, pan, link)
        else:
            self._ask(pne, pan, link)

    def carried(self, pan: Pan, link: Link, option: bytes) -> None:
        """The server opened a message that came from *link*, with that OSCORE option."""
        member = self._members.of_kid(key_id(option) or b"")
        if member is not None and member.link != link:
            self._ask(member.pne_id, pan, link)
        elif member is None and not self._members.is_at(link) and link not in self._unknown:
            if len(self._unknown) < MAX_UNKNOWN:
                self._unknown.add(link)
                self._work.start(self._tell(link))

    async def return_to(self) -> None:
        """We are back after a restart: ask the members, each where it was, who do not come by themselves."""
        for member in self._members:
            current = self._members.get(member.pne_id)
            if current is not None and current.kept is not None:
                self._work.start(self._return(current, current.kept))
                await self._time.sleep(1 / RETURN_RATE)

    async def _return(self, member: Member, kept: Link) -> None:
        if not await self._answers(kept, None, self._config.answer_timeout):
            self._looked_after(member, None)

    async def look_after(self, member: Member) -> None:
        """Ask a silent member whether it is there, so that a push to one that is not ends at once.

        One that did not come after our restart was asked then.
        """
        there = False
        if member.link is not None:
            there = await self._answers(member.link, _hop(member.pan, member.pne_id), self._config.answer_timeout)
        self._looked_after(member, member.link if there else None)

    def _looked_after(self, member: Member, link: Link | None) -> None:
        current = self._members.get(member.pne_id)
        if current is not None and current.heard_at == member.heard_at:  # else it was heard meanwhile
            self._members.heard(member.pne_id, member.pan, link, self._time.monotonic())

    def _is_at(self, pne: EntityId, pan: Pan, link: Link) -> None:
        self._members.heard(pne, pan, link, self._time.monotonic())
        for heard in self._hears:
            heard(pne)

    def _ask(self, pne: EntityId, pan: Pan, link: Link) -> None:
        """Ask whether *pne* is at *link*; where that is asked of it elsewhere at the moment, after that."""
        if pne in self._asking:
            self._asking[pne] = (pan, link)
        else:
            self._asking[pne] = None
            self._work.start(self._look_for(pne, pan, link))

    async def _look_for(self, pne: EntityId, pan: Pan, link: Link) -> None:
        try:
            while True:
                await self._look_at(pne, pan, link)
                later, self._asking[pne] = self._asking[pne], None
                member = self._members.get(pne)
                if later is None or member is None or member.link == later[1]:
                    return
                pan, link = later
        finally:
            del self._asking[pne]

    async def _look_at(self, pne: EntityId, pan: Pan, link: Link) -> None:
        again_at = self._time.monotonic() + PAUSE
        hop = _hop(pan, pne)
        there = await self._answers(link, hop, ASK_SECONDS)
        if there and hop is not None and pan.hops.with_peer(pne) is hop:
            self._is_at(pne, pan, link)
        await self._time.sleep(max(0.0, again_at - self._time.monotonic()))

    async def _tell(self, link: Link) -> None:
        try:
            await self._answers(link, None, ASK_SECONDS)
            await self._time.sleep(PAUSE)
        finally:
            self._unknown.discard(link)

    async def _answers(self, link: Link, hop: Session | None, seconds: float) -> bool:
        """Whether somebody answers at *link*: the peer of *hop*; without one whoever is there, which proves nothing."""
        try:
            if hop is not None:
                await link.exchange(application.PING_PATH, b"", timeout=seconds, session=hop)
            else:
                await link.tell(EntityDiscoveryRequest(self._config.gateway_id, Mode.PN_GW), timeout=seconds)
        except NoAnswer:
            return False
        return True


def _hop(pan: Pan | None, pne: EntityId) -> Session | None:
    """Return the hop session that *pne* knows of, or None."""
    hop = None if pan is None else pan.hops.with_peer(pne)
    return hop if hop is not None and hop.confirmed else None
