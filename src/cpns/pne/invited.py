"""A PNE that is invited: into a PN, or (a member, in its hop session) to set up again with the others (FN-8)."""

import logging

from cpns.errors import Refused, Result
from cpns.ids import PnId
from cpns.pne.arrive import Arrival
from cpns.pne.config import PneConfig
from cpns.pne.find import Finder
from cpns.pne.hooks import Consent
from cpns.pne.join import Join
from cpns.pne.life import PneLife
from cpns.pne.roam import Roaming
from cpns.pne.states import Lost
from cpns.service.background import Background
from cpns.shares.noted import by
from cpns.transport.endpoint import Link
from cpns.wire.messages import Invitation, InvitationAccepted, InvitationRefused

_log = logging.getLogger("cpns.pne")


class Invited:
    """Takes the Invitations of one PNE.

    Args:
        life: where it stands.
        finder: says which PN GW will do.
        join: sets up.
        arrival: takes up the new sessions.
        roaming: knows then where it is at home.
        consent: decides.
    """

    def __init__(
        self,
        config: PneConfig,
        life: PneLife,
        finder: Finder,
        join: Join,
        arrival: Arrival,
        roaming: Roaming,
        consent: Consent,
    ) -> None:
        self._config = config
        self._life = life
        self._finder = finder
        self._join = join
        self._arrival = arrival
        self._roaming = roaming
        self._consent = consent
        self._work = Background()

    async def close(self) -> None:
        """Follow no Invitation any more."""
        await self._work.close()

    async def take(
        self, invitation: Invitation, link: Link, own_pn: PnId | None
    ) -> InvitationAccepted | InvitationRefused:
        """Accept or decline.

        Args:
            invitation: as it came.
            link: from where.
            own_pn: the PN that we are in, where our PN GW proved that it asks.
        """
        if invitation.entity_id != self._config.pne_id or self._finder.where.gateway_id not in (
            None,
            invitation.gateway_id,
        ):
            return InvitationRefused(Result.NOT_ALLOWED)
        if self._life.stands is not None and own_pn is None:
            return InvitationRefused(Result.ALREADY_MEMBER)
        again = own_pn is not None and invitation.pn_id == own_pn
        if not again and not await self._consent(invitation):
            return InvitationRefused(Result.REFUSED_BY_USER)
        if self._join.turn.locked():
            return InvitationRefused(Result.IN_PROGRESS)
        await self._join.turn.acquire()
        accepted = self._join.invited(link, invitation)
        self._work.start(self._finish(link, accepted))
        return accepted

    async def _finish(self, link: Link, accepted: InvitationAccepted) -> None:
        try:
            joined, server = await self._join.finish_invited(accepted)
            await self._arrival.adopt(link, joined, server)
            self._roaming.settled(joined)
        except (Refused, OSError) as error:
            said = by(link.party(None), self._config.pne_id)
            _log.warning("%s: invited, and not established: %s", self._config.pne_id, error, extra=said)
            self._life.happens(Lost())  # a member that was asked to set up again
        finally:
            self._join.turn.release()
