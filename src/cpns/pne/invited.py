"""A PNE that is invited: into a PN, or (a member, in its hop session) to set up again with the others (FN-8)."""

import asyncio
import logging
from collections.abc import Callable

from cpns.errors import Refused, Result
from cpns.ids import PnId
from cpns.pne.config import PneConfig
from cpns.pne.find import Finder
from cpns.pne.hooks import Consent
from cpns.pne.join import Join
from cpns.pne.roam import Adopt
from cpns.service.background import Background
from cpns.shares.noted import by
from cpns.transport.endpoint import Link
from cpns.transport.errors import Answer, Code
from cpns.wire import codec
from cpns.wire.messages import Invitation, InvitationAccepted, InvitationRefused

_log = logging.getLogger("cpns.pne")


class Invited:
    """Takes the Invitations of one PNE.

    Args:
        finder: says which PN GW will do.
        join: sets up.
        joining: is held by whoever uses *join*.
        adopt: takes up the new sessions.
        consent: decides.
        stands: tells whether our sessions stand.
        lost: is told that they do no longer: the server has lost them.
    """

    def __init__(
        self,
        config: PneConfig,
        finder: Finder,
        join: Join,
        joining: asyncio.Lock,
        adopt: Adopt,
        consent: Consent,
        stands: Callable[[], bool],
        lost: Callable[[], None],
    ) -> None:
        self._config = config
        self._finder = finder
        self._join = join
        self._joining = joining
        self._adopt = adopt
        self._consent = consent
        self._stands = stands
        self._lost = lost
        self._work = Background()

    async def close(self) -> None:
        """Follow no Invitation any more."""
        await self._work.close()

    async def take(self, invitation: Invitation, link: Link, own_pn: PnId | None) -> Answer:
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
            return _declined(Result.NOT_ALLOWED)
        if self._stands() and own_pn is None:
            return _declined(Result.ALREADY_MEMBER)
        again = own_pn is not None and invitation.pn_id == own_pn
        if not again and not await self._consent(invitation):
            return _declined(Result.REFUSED_BY_USER)
        if self._joining.locked():
            return _declined(Result.IN_PROGRESS)
        await self._joining.acquire()
        accepted = self._join.invited(link, invitation)
        self._work.start(self._finish(link, accepted))
        return Answer(Code.CHANGED, codec.encode(accepted))

    async def _finish(self, link: Link, accepted: InvitationAccepted) -> None:
        try:
            await self._adopt(link, *await self._join.finish_invited(accepted))
        except (Refused, OSError) as error:
            said = by(link.party(None), self._config.pne_id)
            _log.warning("%s: invited, and not established: %s", self._config.pne_id, error, extra=said)
            if self._stands():  # a member that was asked to set up again
                self._lost()
        finally:
            self._joining.release()


def _declined(result: Result) -> Answer:
    return Answer(Code.CHANGED, codec.encode(InvitationRefused(result)))
