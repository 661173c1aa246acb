"""How a PNE gets its sessions: SETUP with the server through the PN GW, then ACTIVATE with the PN GW itself."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cpns.crypto.ephemeral import SEED_BYTES
from cpns.crypto.schedule import Profile
from cpns.errors import AuthenticationFailed, NoAnswer, Refused
from cpns.ids import EntityId, PnId
from cpns.pne.config import PneConfig
from cpns.pne.find import Finder
from cpns.ports import Randomness, Time
from cpns.protocol.established import Established
from cpns.protocol.link_auth import claimant
from cpns.protocol.pne_auth import pne as pne_auth
from cpns.service.electives import ByTurns
from cpns.service.life import within
from cpns.service.sessions import session_of
from cpns.session.table import Session, Sessions
from cpns.transport.dispatch import TAKEN
from cpns.transport.endpoint import Inbound, Link
from cpns.transport.errors import UNIFORM_REFUSAL, Answer, read
from cpns.wire import codec, registry
from cpns.wire.messages import (
    ActivateResponse,
    Challenge,
    Invitation,
    InvitationAccepted,
    LinkChallengeFromGateway,
    PnEstablishmentNotify,
    Proof,
    SetupRequest,
    SetupResponse,
)
from cpns.wire.registry import Procedure

KID_BYTES: Final = 1
HOP_ATTEMPTS: Final = 3
ECHOES: Final = 3
"""How often an M1 is sent again, in one run, with an Echo that is asked for: who asks for it may lie."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a SETUP asks for.

    Attributes:
        procedure: establish, invite or join (AUTH-0).
        pn_id: the PN; None where the PN GW has one, or the server makes one.
        gateway_id: the only PN GW to go through; None for any: the server's proof tells which it is.
        setup_type: whom the PN GW is to invite.
        invite: those of type 3.
    """

    procedure: int = Procedure.ESTABLISH
    pn_id: PnId | None = None
    gateway_id: EntityId | None = None
    setup_type: int | None = None
    invite: tuple[EntityId, ...] = ()


class Join:
    """The procedures of one PNE, one at a time.

    Args:
        finder: knows what the PNE believes of the PAN where it looks.
        sessions: where the sessions with server and PN GW go.
        not_let_in: is told at once where the server says so; the run waits on as after any refusal, so that its pace
            tells nobody.

    Attributes:
        turn: is held by whoever runs one.
        last_refusal: why what came last was dropped.
    """

    def __init__(
        self,
        config: PneConfig,
        finder: Finder,
        sessions: Sessions,
        time: Time,
        random: Randomness,
        not_let_in: Callable[[pne_auth.NotLetIn], None],
    ) -> None:
        self._config = config
        self._finder = finder
        self._sessions = sessions
        self._time = time
        self.turn = asyncio.Lock()
        self._random = random
        self._not_let_in = not_let_in
        self._setup: pne_auth.AwaitingChallenge | pne_auth.AwaitingOutcome | None = None
        self._hop: claimant.AwaitingChallenge | claimant.AwaitingProof | None = None
        self._says, self._says_in_hop = ByTurns(config.electives), ByTurns(config.electives)
        self._link: Link | None = None
        self._challenged = asyncio.Event()
        self._notified: asyncio.Future[pne_auth.Joined] = asyncio.get_running_loop().create_future()
        self.last_refusal = ""

    def _kid(self) -> bytes:
        return self._sessions.reserve((self._random(KID_BYTES) for _ in range(256)), b"")

    def _begin(self, wanted: Wanted) -> SetupRequest:
        config = self._config
        kid = self._kid()
        self._setup, request = pne_auth.begin(
            own_id=config.pne_id,
            server_id=config.server_id,
            gateway_id=wanted.gateway_id,
            key=config.eukey,
            suite=config.suite,
            rand=self._random(registry.RAND_BYTES),
            kid=kid,
            eph_seed=self._random(SEED_BYTES),
            need_local=not self._finder.where.pan_secure,
            pan_secure=self._finder.where.pan_secure,
            procedure=wanted.procedure,
            pn_id=wanted.pn_id,
            setup_type=wanted.setup_type,
            invite=wanted.invite or None,
            electives=self._says.now(),
        )
        self._challenged.clear()
        self.last_refusal = ""
        return request

    def _end(self, kid: bytes) -> None:
        self._setup = None
        self._sessions.release([kid])

    def _established(self, joined: pne_auth.Joined) -> Session:
        session = session_of(joined.session, self._time.monotonic(), joined.gateway_id)
        self._sessions.add(session)
        return session

    async def setup(self, link: Link, wanted: Wanted, patience: float | None = None) -> tuple[pne_auth.Joined, Session]:
        """Run 7.5.4 through the PN GW at *link*; return what it gave, and the session with the server.

        Raises:
            NoAnswer: no run came to its end in time; what did not fit was dropped on the way.
        """
        self._link = link
        request = self._begin(wanted)
        payload = codec.encode(request)
        run = asyncio.create_task(
            link.request(
                *(registry.CPNS_PATH, payload),
                timeout=2 * self._config.timer,
                accept=self._outcome,
                echoes=ECHOES,
            )
        )
        try:
            await self._until_challenged(patience or self._config.timer, run)
            await self._within(self._config.timer, run)
            joined = run.result()
        except Refused:
            self._says.failed()
            raise
        finally:
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
            self._end(request.kid)
        return joined, self._established(joined)

    def invited(self, link: Link, invitation: Invitation) -> InvitationAccepted:
        """Begin the run of an invited PNE; return its acceptance. `finish_invited` goes on from there."""
        self._link = link
        request = self._begin(Wanted(invitation.procedure, invitation.pn_id, invitation.gateway_id))
        self._notified = asyncio.get_running_loop().create_future()
        return pne_auth.accept(request)

    async def finish_invited(self, accepted: InvitationAccepted) -> tuple[pne_auth.Joined, Session]:
        """Wait until the PN GW brings the outcome of an invited run; return as `setup`."""
        try:
            await self._until_challenged(self._config.timer)
            joined = await within(self._time, self._config.timer, self._notified)
        except (TimeoutError, Refused) as error:
            self._says.failed()
            raise error if isinstance(error, Refused) else NoAnswer(self.last_refusal or "no_answer") from None
        finally:
            self._notified.cancel()
            self._end(accepted.kid)
        return joined, self._established(joined)

    async def notified(self, inbound: Inbound, notice: PnEstablishmentNotify) -> Answer | None:
        """Take PNEstablishmentNotify, which ends an invited run where its proof is right (AUTH-P7).

        A refusal proves nothing: the run waits on. None where no such run is under way.
        """
        state = self._setup
        if inbound.link != self._link or self._notified.done() or not isinstance(state, pne_auth.AwaitingOutcome):
            return None
        try:
            self._notified.set_result(self._finished(state, notice))
        except Refused as error:
            self.last_refusal = error.reason
        return TAKEN

    def _finished(
        self, state: pne_auth.AwaitingOutcome, outcome: SetupResponse | PnEstablishmentNotify
    ) -> pne_auth.Joined:
        try:
            return pne_auth.finish(state, outcome)
        except pne_auth.NotLetIn as error:
            self._not_let_in(error)
            raise

    async def _until_challenged(self, seconds: float, *tasks: "asyncio.Task[object]") -> None:
        """Wait as `_within`, also for the server's challenge."""
        challenged = asyncio.create_task(self._challenged.wait())
        try:
            await self._within(seconds, challenged, *tasks)
        finally:
            challenged.cancel()  # else each run that nobody answers leaves one that waits

    async def _within(self, seconds: float, *tasks: "asyncio.Task[object]") -> None:
        """Wait for one of *tasks*, and raise where none is done after *seconds*."""
        over = asyncio.create_task(self._time.sleep(seconds))
        try:
            done, _ = await asyncio.wait([over, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
        if done == {over}:
            raise NoAnswer(self.last_refusal or "no_answer")
        for task in done:
            task.result()

    def _outcome(self, answer: Answer) -> pne_auth.Joined:
        try:
            response = read(answer, SetupResponse, limit=registry.MAX_PAN_BODY)
            if not isinstance(self._setup, pne_auth.AwaitingOutcome):
                raise AuthenticationFailed(f"refused_with_{response.result}")
            return self._finished(self._setup, response)
        except Refused as error:
            self.last_refusal = error.reason
            raise

    async def hop(self, link: Link, joined: pne_auth.Joined) -> Session:
        """Run `pne-gw` with the PN GW from the LocalEUKey that *joined* gave (AUTH-P6); return the hop session.

        Raises:
            Refused: the PN GW does not prove that it has the LocalEUKey, or does not answer.
        """
        if joined.local_eukey is None:
            raise AuthenticationFailed("no_local_eukey")
        self._link = link
        kid = self._kid()
        try:
            for attempt in range(HOP_ATTEMPTS):
                self._hop, request = claimant.begin(
                    Profile.PNE_GW,
                    own_id=self._config.pne_id,
                    responder_id=joined.gateway_id,
                    key=joined.local_eukey,
                    suite=self._config.suite,
                    rand=self._random(registry.RAND_BYTES),
                    kid=kid,
                    eph_seed=self._random(SEED_BYTES),
                    binding=joined.session.th0,
                    electives=self._says_in_hop.now(),
                )
                try:
                    established = await link.request(
                        registry.CPNS_PATH,
                        codec.encode(request),
                        timeout=self._config.timer / HOP_ATTEMPTS,
                        accept=self._activated,
                        echoes=ECHOES,
                    )
                except NoAnswer:
                    self._says_in_hop.failed()
                    if attempt == HOP_ATTEMPTS - 1:
                        raise
                else:
                    break
        finally:
            self._hop = None
            self._sessions.release([kid])
        session = session_of(established, self._time.monotonic())
        self._sessions.add(session)
        return session

    def _activated(self, answer: Answer) -> Established:
        response = read(answer, ActivateResponse, limit=registry.MAX_PAN_BODY)
        if not isinstance(self._hop, claimant.AwaitingProof):
            raise AuthenticationFailed(f"refused_with_{response.result}")
        return claimant.finish(self._hop, response)

    async def challenged(self, inbound: Inbound, message: Challenge) -> Answer | Proof | None:
        """Answer the AUTHENTICATE Request of a SETUP; None drops one that does not fit, and the run goes on.

        One is accepted for each rand_PNE; with no run under way, it is refused (SES-6).
        """
        if self._setup is None and self._hop is None:
            return UNIFORM_REFUSAL
        if inbound.link != self._link or not isinstance(self._setup, pne_auth.AwaitingChallenge):
            return None  # not where the run is: it must not use up the one answer of this rand_PNE
        try:
            self._setup, proof = pne_auth.answer(self._setup, message)
        except Refused as error:
            self.last_refusal = error.reason
            return None
        self._challenged.set()
        return proof

    async def challenged_by_gateway(self, inbound: Inbound, message: LinkChallengeFromGateway) -> Answer | Proof | None:
        """As `challenged`, of an ACTIVATE."""
        if self._setup is None and self._hop is None:
            return UNIFORM_REFUSAL
        if inbound.link != self._link or not isinstance(self._hop, claimant.AwaitingChallenge):
            return None
        try:
            self._hop, proof = claimant.answer(self._hop, message)
        except Refused as error:
            self.last_refusal = error.reason
            return None
        return proof
