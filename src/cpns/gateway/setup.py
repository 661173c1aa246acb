"""PN Establishment at the PN GW: SETUP Requests that come close together go to the server as one (AUTH-G1..G6)."""

import asyncio
import contextlib
import logging
import random as jitter
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cpns.errors import AuthenticationFailed, CpnsError, NoAnswer, Refused, Result
from cpns.gateway.config import GatewayConfig
from cpns.gateway.members import Member, Members, Pan
from cpns.gateway.uplink import Standing, Uplink
from cpns.ids import EntityId, PnId
from cpns.ports import Clock, Randomness
from cpns.protocol.pne_auth import gateway as pne_auth
from cpns.service.background import Background
from cpns.session.table import Session
from cpns.shares.noted import by
from cpns.transport.endpoint import Link
from cpns.transport.errors import Answer, Code, read
from cpns.wire import codec, registry
from cpns.wire.messages import (
    Challenge,
    GatewayChallenge,
    GatewaySetupResponse,
    Proof,
    SetupRequest,
    SetupResponse,
)

_log = logging.getLogger("cpns.gateway")

MAX_WAITING: Final = 512
"""SETUP Requests that may wait for their end at once, on one PAN."""
MAX_WAITING_PER_LINK: Final = 4
MAX_BATCH_MLKEM: Final = 40
"""PNEs of suite 3 in one SETUP Request, so that neither it nor its answer passes 64 KiB."""
FULL_PATIENCE: Final = 8.0
"""Seconds that a SETUP is sent again to a server with no place for it; the PNEs themselves wait 10 s."""
FULL_PAUSE: Final = (0.2, 1.0)
"""First and longest pause, in seconds, before it is sent again; each is drawn from half of it up to all of it."""


ROUND_PATIENCE: Final = 2.0
"""Seconds that a SETUP waits for members that are asked to set up again, to go to the server with them."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A PNE that wants in, originating or invited, and what will be told it."""

    request: SetupRequest
    link: Link
    done: asyncio.Future[SetupResponse]


@dataclass(slots=True)
class _Run:
    state: pne_auth.AwaitingChallenge
    links: dict[EntityId, Link]
    assigned: dict[EntityId, pne_auth.Assigned]
    standing: Standing
    challenged: bool = False


class Setup:
    """Gathers and runs SETUPs of one PAN.

    Args:
        pan: this PAN.
        admitted: is told of each SETUP Response whose PNEs are taken in.
    """

    def __init__(
        self,
        config: GatewayConfig,
        uplink: Uplink,
        members: Members,
        pan: Pan,
        admitted: Callable[[GatewaySetupResponse], None],
        clock: Clock,
        random: Randomness,
    ) -> None:
        self._config = config
        self._uplink = uplink
        self._members = members
        self._pan = pan
        self._admitted = admitted
        self._clock = clock
        self._random = random
        self._waiting: list[Waiting] = []
        self._count: Counter[Link] = Counter()
        self._runs: dict[bytes, _Run] = {}
        self._work = Background()
        self._rounds = 0
        self._no_round = asyncio.Event()
        self._no_round.set()

    async def request(self, request: SetupRequest, link: Link) -> SetupResponse:
        """Take one PNE's SETUP Request; return its SETUP Response when the server has decided.

        Raises:
            Refused: TOO_MANY; or the server is away, did not answer, or refused the request as a whole.
        """
        with self.counted(request, link):
            (own,) = self.enqueue([(request, link)])
            return await own.done

    @contextlib.contextmanager
    def counted(self, request: SetupRequest, link: Link) -> Iterator[None]:
        """Bound what one PNE, and all, may have under way. Raises `Refused`: TOO_MANY, or UNKNOWN_PN."""
        if self._count.total() >= MAX_WAITING or self._count[link] >= MAX_WAITING_PER_LINK:
            raise Refused(Result.TOO_MANY, "too_many_setups")
        if request.pn_id is not None and request.pn_id not in self._members.pns:
            raise Refused(Result.UNKNOWN_PN, "not_our_pn")
        self._count[link] += 1
        try:
            yield
        finally:
            self._count[link] -= 1
            if not self._count[link]:
                del self._count[link]

    def enqueue(self, requests: Sequence[tuple[SetupRequest, Link]]) -> list[Waiting]:
        """Let PNEs wait for the next SETUP, those of one call for the same one; return their futures."""
        loop = asyncio.get_running_loop()
        added = [Waiting(request, link, loop.create_future()) for request, link in requests]
        self._waiting.extend(added)
        if added and len(self._waiting) == len(added):
            self._work.start(self._gather())
        return added

    @contextlib.contextmanager
    def bringing_back(self) -> Iterator[None]:
        """Members are asked to set up again: what comes meanwhile waits for them, to go up in one."""
        self._rounds += 1
        self._no_round.clear()
        try:
            yield
        finally:
            self._rounds -= 1
            if not self._rounds:
                self._no_round.set()

    async def _gather(self) -> None:
        await asyncio.sleep(self._config.batch_window)
        with contextlib.suppress(NoAnswer):
            await self._uplink.wait(self._config.uplink_patience)  # who waits for it meanwhile shares the batch
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ROUND_PATIENCE):
                await self._no_round.wait()
        waiting, self._waiting = self._waiting, []
        while waiting:
            pn_id, batch, waiting = self._batch(waiting)
            self._work.start(self._run(pn_id, batch))

    def _batch(self, waiting: list[Waiting]) -> tuple[PnId | None, list[Waiting], list[Waiting]]:
        """Split off the next batch: for one PN, no ID twice, no more than one message carries."""
        limit = MAX_BATCH_MLKEM if any(item.request.suite == 3 for item in waiting) else registry.MAX_BATCH
        batch: dict[EntityId, Waiting] = {}
        rest: list[Waiting] = []
        pn_id = self._pn_of(waiting[0])
        for item in waiting:
            if len(batch) < limit and item.request.entity_id not in batch and self._pn_of(item) == pn_id:
                batch[item.request.entity_id] = item
            else:
                rest.append(item)
        return pn_id, list(batch.values()), rest

    def _pn_of(self, item: Waiting) -> PnId | None:
        return self._members.pn_for(item.request.entity_id, item.request.pn_id)

    async def _run(self, pn_id: PnId | None, batch: list[Waiting]) -> None:
        try:
            ended = await self._establish_when_there_is_room(pn_id, batch)
        except CpnsError as error:
            for waiting in batch:
                if not waiting.done.done():
                    waiting.done.set_exception(error)
            return
        for waiting in batch:
            if not waiting.done.done():
                waiting.done.set_result(ended[waiting.request.entity_id].response)

    async def _establish_when_there_is_room(
        self, pn_id: PnId | None, batch: list[Waiting]
    ) -> dict[EntityId, pne_auth.Concluded]:
        """Send a batch, and again while the server has no place for it: its PNEs wait, and hear nothing of that."""
        end = self._clock.monotonic() + FULL_PATIENCE
        pause = FULL_PAUSE[0]
        while True:
            try:
                return await self._establish(pn_id, batch)
            except Refused as error:
                if error.result is not Result.TOO_MANY:
                    raise
                if self._clock.monotonic() + pause > end:
                    raise NoAnswer("server_full") from error
            await asyncio.sleep(pause * jitter.uniform(0.5, 1.0))  # noqa: S311  # spreads load, hides nothing
            pause = min(2 * pause, FULL_PAUSE[1])

    async def _establish(self, pn_id: PnId | None, batch: list[Waiting]) -> dict[EntityId, pne_auth.Concluded]:
        standing = await self._uplink.wait(0)
        txn = self._random(registry.TXN_BYTES)
        state, message = pne_auth.gather(
            [waiting.request for waiting in batch],
            txn=txn,
            pan_secure=self._pan.secure,
            pn_id=pn_id,
            alias=self._config.alias,
        )
        links = {waiting.request.entity_id: waiting.link for waiting in batch}
        run = self._runs[txn] = _Run(state, links, {}, standing)
        try:
            response = await standing.link.ask(
                message, GatewaySetupResponse, timeout=self._config.setup_timeout, session=standing.session
            )
        except Refused as error:
            if error.result is Result.UNKNOWN_PN and pn_id is not None:
                await self._members.release(pn_id)  # released, switched, or the server was set up anew
            if error.result is Result.TOO_MANY and run.challenged:
                raise NoAnswer("gave_way") from error  # its PNEs have answered: each does so once for its rand
            raise
        finally:
            del self._runs[txn]
        ended = pne_auth.conclude(state, run.assigned, response)
        await self._admit(response, run, ended)
        return ended

    async def _admit(
        self, response: GatewaySetupResponse, run: _Run, ended: dict[EntityId, pne_auth.Concluded]
    ) -> None:
        pn_id = response.pn_id
        members = [
            Member(
                *(pne, pn_id, end.assigned.th0, end.assigned.local_eukey, run.links[pne], self._pan),
                heard_at=self._clock.monotonic(),
            )
            for pne, end in ended.items()
            if end.assigned is not None
        ]
        await self._members.admit(members)
        if members:
            self._admitted(response)
            _log.info("PN %s: %d of %d PNEs established", pn_id, len(members), len(ended), extra=by(pn_id))

    async def challenged(self, source: Session, message: GatewayChallenge) -> Answer | None:
        """Take the server's AUTHENTICATE Request, ask each PNE, and answer with what they say.

        Returns:
            None where no SETUP of this PAN has that txn.

        Raises:
            AuthenticationFailed: it does not fit what was asked; no PNE hears of it.
        """
        run = self._runs.get(message.txn)
        if run is None:
            return None
        if run.challenged or run.standing.session is not source:
            raise AuthenticationFailed("txn_not_outstanding")
        run.challenged = True
        state, challenges = pne_auth.distribute(
            run.state,
            message,
            own_id=self._config.gateway_id,
            server_id=self._config.server_id,
            prk=run.standing.prk,
        )
        for pne in state.unkeyed:
            said = by(self._config.server_id, pne)
            _log.warning(
                "PNE %s: not let in without LocalEUKey on an open PAN, though the server would", pne, extra=said
            )
        answers = await asyncio.gather(
            *(self._ask(pne, run.links[pne], challenge) for pne, challenge in challenges.items())
        )
        proofs = {pne: proof for pne, proof in answers if proof is not None}
        run.assigned = dict(state.assigned)
        _, response = pne_auth.collect(state, proofs)
        return Answer(Code.CHANGED, codec.encode(response))

    async def _ask(self, pne: EntityId, link: Link, challenge: Challenge) -> tuple[EntityId, bytes | None]:
        def accept(answer: Answer) -> bytes:
            proof = read(answer, Proof, limit=registry.MAX_PAN_BODY)
            if proof.entity_id != pne:
                raise AuthenticationFailed("proof_names_another_pne")
            return proof.proof

        try:
            proof = await link.request(
                registry.CPNS_PATH, codec.encode(challenge), timeout=self._config.answer_timeout, accept=accept
            )
        except NoAnswer:
            return pne, None
        return pne, proof
