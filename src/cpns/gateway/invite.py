"""Invitations at the PN GW (FN-8): for an establishment, into a standing PN, and back into one that lost its server.

establish   an originating PNE names whom to take along, or wants all in reach     procedure 1
invite      the server (for an owner, a member, the operator) or we ourselves      procedure 2
bring_back  members whose sessions the server has lost, all in one SETUP           procedure 1, in the hop session
"""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Final

from cpns.errors import CpnsError, NoAnswer, Refused, Result
from cpns.gateway.config import GatewayConfig
from cpns.gateway.members import Members, Pan, Way
from cpns.gateway.reach import Reach
from cpns.gateway.setup import Setup, Waiting
from cpns.ids import EntityId, PnId
from cpns.ports import Clock
from cpns.protocol.pne_auth import gateway as pne_auth
from cpns.service.places import places
from cpns.transport.endpoint import Link
from cpns.wire import registry
from cpns.wire.messages import (
    Invitation,
    InvitationAccepted,
    InvitationRefused,
    PnEstablishmentNotify,
    SetupRequest,
    SetupResponse,
)
from cpns.wire.registry import Procedure, SetupType

ESTABLISH_SECONDS: Final = 4.0
"""What invited PNEs have to answer while an originating one waits (its own timer is 10 s)."""
INVITE_SECONDS: Final = 12.0
"""What people have to decide where nobody's timer runs."""
MAX_ROUNDS: Final = 16
"""SETUPs of a PAN that may ask others along at once: each makes us ask up to 63 PNEs."""
MAX_ROUNDS_EACH: Final = 4
"""Those of one host."""
UNSHOWN_ROUNDS: Final = 4
"""Of all, those that there are under load for hosts that do not show that their address is their own."""
MAX_INVITATIONS: Final = 32
"""Invitations into standing networks that may be under way at once on a PAN; each waits for people."""
MAX_INVITATIONS_EACH: Final = 8
"""Those into one network."""
BACK_SECONDS: Final = 1.5
"""What members have to answer in their hop session; nobody is asked."""


class Invitations:
    """Invitations on one PAN.

    Args:
        pan: this PAN; a PNE that has a hop session on it is asked inside that.
        setup: takes those that accept to the server.
    """

    def __init__(
        self, config: GatewayConfig, members: Members, pan: Pan, reach: Reach, setup: Setup, clock: Clock
    ) -> None:
        self._config = config
        self._members = members
        self._pan = pan
        self._reach = reach
        self._setup = setup
        self._clock = clock
        self._rounds = places(MAX_ROUNDS, clock.monotonic, MAX_ROUNDS_EACH, unshown=UNSHOWN_ROUNDS)
        self._inviting = places(MAX_INVITATIONS, clock.monotonic, MAX_INVITATIONS_EACH)
        self._asked: set[EntityId] = set()

    def way_to(self, pne: EntityId) -> Way | None:
        """Return how to reach a PNE on this PAN: in its hop session, or plainly where it was heard."""
        hop = self._pan.hops.with_peer(pne)
        member = self._members.get(pne)
        if hop is not None and hop.confirmed and member is not None and member.link is not None:
            return member.link, hop
        link = self._reach.link(pne, self._clock.monotonic())
        return None if link is None else (link, None)

    async def establish(
        self, request: SetupRequest, link: Link, *, shown: bool
    ) -> tuple[SetupResponse | None, "asyncio.Task[list[EntityId]]"]:
        """Take a SETUP Request of type 2 or 3; return its answer, and (later) who was asked and does not come.

        Returns:
            None in place of the answer, as `Setup.request`.

        Raises:
            Refused: as `Setup.request`.
        """
        if request.setup_type == SetupType.LISTED:
            whom: Iterable[EntityId] = request.invite or ()
        else:
            whom = self._reach.known(self._clock.monotonic())
        asked = [pne for pne in dict.fromkeys(whom) if pne != request.entity_id and self._members.get(pne) is None]
        ways = {pne: self.way_to(pne) for pne in asked[: registry.MAX_BATCH - 1]}
        self._setup.look_at(request, link, shown=shown)
        async with self._rounds(link.party(None).host, shown=shown) as run:
            came = await self._round(ways, Procedure.ESTABLISH, request.pn_id, ESTABLISH_SECONDS)
            run.proved = True
        accepted = [item for item in came.values() if not isinstance(item, Result)]
        own, *invited = self._setup.enqueue([(request, link), *accepted], shown=shown)
        declined = asyncio.get_running_loop().create_task(self._declined(list(ways), invited))
        return await self._setup.end_of(own), declined

    async def _declined(self, asked: list[EntityId], invited: list[Waiting]) -> list[EntityId]:
        results = await self._conclude(invited)
        return [pne for pne in asked if results.get(pne) is not Result.SUCCESS]

    async def invite(self, pn_id: PnId, whom: Sequence[EntityId]) -> dict[EntityId, Result]:
        """Ask PNEs into a PN that we serve; return how it ended for each.

        Raises:
            Refused: TOO_MANY: as many invitations are under way as may be.
        """
        results: dict[EntityId, Result] = {}
        ways: dict[EntityId, Way | None] = {}
        for pne in dict.fromkeys(whom):
            if (member := self._members.get(pne)) is not None and member.pn_id == pn_id:
                results[pne] = Result.ALREADY_MEMBER
            elif pne in self._asked:
                results[pne] = Result.IN_PROGRESS
            else:
                ways[pne] = self.way_to(pne)
        if not any(ways.values()):
            return results | dict.fromkeys(ways, Result.OUT_OF_REACH)
        async with self._inviting(pn_id) as run:
            self._asked.update(ways)
            try:
                came = await self._round(ways, Procedure.INVITE, pn_id, INVITE_SECONDS)
                run.proved = True
            finally:
                self._asked.difference_update(ways)
        results.update({pne: item for pne, item in came.items() if isinstance(item, Result)})
        waiting = self._setup.enqueue([item for item in came.values() if not isinstance(item, Result)])
        return results | await self._conclude(waiting)

    async def bring_back(self, members: Iterable[EntityId]) -> None:
        """Ask members whose sessions are gone to set up again, all at once: the server gets one SETUP of the PN."""
        ways: dict[PnId, dict[EntityId, Way | None]] = {}
        for pne in members:
            member = self._members.get(pne)
            if member is not None and (way := self._way_back(pne)) is not None:
                ways.setdefault(member.pn_id, {})[pne] = way
        if not ways:
            return
        with self._setup.bringing_back():
            rounds = [self._round(some, Procedure.ESTABLISH, pn_id, BACK_SECONDS) for pn_id, some in ways.items()]
            came = [item for one in await asyncio.gather(*rounds) for item in one.values()]
            waiting = self._setup.enqueue([item for item in came if not isinstance(item, Result)])
        await self._conclude(waiting)

    def _way_back(self, pne: EntityId) -> Way | None:
        member = self._members.get(pne)
        way = self._members.way_to(pne)
        if way is None or member is None or member.pan is not self._pan:
            return None
        _, hop = way
        return way if hop is None or hop.confirmed else None

    async def _round(
        self, ways: dict[EntityId, Way | None], procedure: Procedure, pn_id: PnId | None, seconds: float
    ) -> dict[EntityId, tuple[SetupRequest, Link] | Result]:
        """Ask all at once; return what each said: what goes to the server, or why it does not come."""
        answers = await asyncio.gather(*(self._ask(pne, way, procedure, pn_id, seconds) for pne, way in ways.items()))
        return dict(zip(ways, answers, strict=True))

    async def _ask(
        self, pne: EntityId, way: Way | None, procedure: Procedure, pn_id: PnId | None, seconds: float
    ) -> tuple[SetupRequest, Link] | Result:
        if way is None:
            return Result.OUT_OF_REACH
        link, session = way
        invitation = Invitation(pne, self._config.gateway_id, procedure, pn_id)
        shapes: tuple[type[InvitationAccepted | InvitationRefused], ...] = (InvitationAccepted, InvitationRefused)
        try:
            answer = await link.ask(invitation, *shapes, timeout=seconds, session=session, limit=registry.MAX_PAN_BODY)
        except Refused as error:
            return error.result
        if isinstance(answer, InvitationRefused):
            return Result.told(answer.result, Result.REFUSED_BY_USER)
        try:
            return pne_auth.accepted(answer, pne, procedure, pn_id), link
        except Refused as error:
            return error.result

    async def _conclude(self, waiting: list[Waiting]) -> dict[EntityId, Result]:
        """Wait for what the server decides, and tell each invited PNE (AUTH-G6)."""
        return dict(await asyncio.gather(*map(self._notify, waiting)))

    async def _notify(self, item: Waiting) -> tuple[EntityId, Result]:
        pne = item.request.entity_id
        try:
            response = await item.done
        except CpnsError as error:
            return pne, error.result if isinstance(error, Refused) else Result.SERVER_ERROR
        if response is None:
            return pne, Result.TOO_MANY
        notice = PnEstablishmentNotify(response.result, response.pn_id, response.proof)
        with contextlib.suppress(NoAnswer):  # it will notice, and set up by itself
            await item.link.tell(notice, timeout=self._config.answer_timeout)
        return pne, Result.told(response.result, Result.SERVER_ERROR)
