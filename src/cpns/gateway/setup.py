"""PN Establishment at the PN GW: SETUP Requests that come close together go to the server as one (AUTH-G1..G6)."""

import asyncio
import contextlib
import logging
import random as jitter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cpns.errors import AuthenticationFailed, CpnsError, NoAnswer, Refused, Result
from cpns.gateway.config import GatewayConfig
from cpns.gateway.members import Member, Members, Pan
from cpns.gateway.networks import Networks
from cpns.gateway.queue import LARGE, SMALL, Batch, Lane, Queue
from cpns.gateway.uplink import Uplink
from cpns.gateway.uplink_states import Standing
from cpns.ids import EntityId, PnId
from cpns.ports import Clock, Randomness
from cpns.protocol.pne_auth import gateway as pne_auth
from cpns.service.background import Background
from cpns.session.table import Session
from cpns.shares.noted import by
from cpns.shares.room import AddressUnproven, NoPlace
from cpns.transport.endpoint import Link
from cpns.transport.errors import STORE_FAILS_REASON, Answer, read
from cpns.wire import codec, registry
from cpns.wire.messages import (
    Challenge,
    GatewayChallenge,
    GatewayProofs,
    GatewaySetupResponse,
    Proof,
    SetupRequest,
    SetupResponse,
)
from cpns.wire.registry import Suite

_log = logging.getLogger("cpns.gateway")

MAX_REPEATS: Final = 64
"""Requests that wait for the end of a SETUP which another one began: a PNE may send its own again."""
ROUND_PATIENCE: Final = 2.0
"""Seconds that a SETUP waits for members that are asked to set up again, to go to the server with them."""
PRESSED_TIMEOUT: Final = 2.5
"""Seconds that a PNE which is no member yet has for its AUTHENTICATE Response where others wait for it; more while
answers of others come in, as then it may be us who are slow."""
FULL_PATIENCE: Final = 8.0
"""Seconds that a SETUP is sent again to a server with no place for it; the PNEs themselves wait 10 s."""
FULL_PAUSE: Final = (0.2, 1.0)
"""First and longest pause, in seconds, before it is sent again; each is drawn from half of it up to all of it."""
PAUSE_EACH: Final = 0.0002
"""Seconds more until the next look at the queue, for each that waits: a look takes some microseconds for each."""
LOOK_SECONDS: Final = 0.25
"""How often it is looked whose turn has come, where nothing else gives occasion to."""


@dataclass(eq=False, slots=True)
class Waiting:
    """A PNE that wants in, originating or invited, and what will be told it; None: nothing, it lost its place.

    Attributes:
        led_by: whose PN it comes into, where it names none: its own, or that of who takes it along.
        known: whether it proved itself from that address before.
        shown: whether it showed that the address is its own.
    """

    request: SetupRequest
    link: Link
    led_by: EntityId
    known: bool
    shown: bool
    since: float
    done: asyncio.Future[SetupResponse | None]
    asked: int = 1
    entity: EntityId = field(init=False)
    host: str = field(init=False)
    port: int = field(init=False)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        party = self.link.party(None)
        self.entity, self.host, self.port = self.request.entity_id, party.host, party.port
        self.size = LARGE if self.request.suite == Suite.X25519_MLKEM768 else SMALL

    @property
    def key(self) -> tuple[Link, EntityId, bytes]:
        """Whoever sends this again means the same SETUP."""
        return self.link, self.entity, self.request.rand

    def end(self, response: SetupResponse | None) -> None:
        """Tell it, where anybody listens."""
        if not self.done.done():
            self.done.set_result(response)

    def fail(self, error: CpnsError) -> None:
        """Tell it why not."""
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(slots=True)
class _Run:
    state: pne_auth.AwaitingChallenge
    links: dict[EntityId, Link]
    assigned: dict[EntityId, pne_auth.Assigned]
    standing: Standing
    lane: Lane
    challenged: bool = False


class Setup:
    """Gathers and runs SETUPs of one PAN.

    Args:
        pan: this PAN.
        networks: tells the PN for a PNE, and takes up each SETUP Response whose PNEs are taken in.
    """

    def __init__(
        self,
        config: GatewayConfig,
        uplink: Uplink,
        members: Members,
        pan: Pan,
        networks: Networks,
        clock: Clock,
        random: Randomness,
    ) -> None:
        self._config = config
        self._uplink = uplink
        self._members = members
        self._pan = pan
        self._networks = networks
        self._clock = clock
        self._random = random
        self._queue: Queue[Waiting] = Queue(self._pn_of, lambda waiting: waiting.end(None), clock.monotonic)
        self._entries: dict[tuple[Link, EntityId, bytes], Waiting] = {}
        self._changed = asyncio.Event()
        self._gathering = False
        self._repeats = 0
        self._runs: dict[bytes, _Run] = {}
        self._work = Background()
        self._rounds = 0
        self._works = True
        self._no_round = asyncio.Event()
        self._no_round.set()

    def __len__(self) -> int:
        """SETUPs that wait or run."""
        return len(self._entries)

    async def close(self) -> None:
        """End what is under way."""
        await self._work.close()

    async def request(self, request: SetupRequest, link: Link, *, shown: bool) -> SetupResponse | None:
        """Take one PNE's SETUP Request; return its SETUP Response when the server has decided.

        Returns:
            None where it lost its place to others, or repeats too much: nothing is said then.

        Raises:
            Refused: the PN is not ours; or the server is away, did not answer, or refused the request as a whole.
            AddressUnproven: it has to show that its address is its own, see `Cookies`.
        """
        self._check_pn(request)
        (own,) = self.enqueue([(request, link)], shown=shown)
        return await self.end_of(own)

    async def end_of(self, waiting: Waiting) -> SetupResponse | None:
        """Wait for the end of a SETUP; return and raise as `request`."""
        again = waiting.asked > 1
        if again and self._repeats >= MAX_REPEATS:
            return None
        self._repeats += again
        try:
            return await asyncio.shield(waiting.done)
        finally:
            self._repeats -= again

    def look_at(self, request: SetupRequest, link: Link, *, shown: bool) -> None:
        """Raise as `request` where that is clear by now, for one that takes others along."""
        self._check_pn(request)
        self._queue.look_at(known=self._members.proved_from(request.entity_id, link), shown=shown)

    def _check_pn(self, request: SetupRequest) -> None:
        """Raise `Refused`, UNKNOWN_PN, where the PN that it names is not ours, as far as we know by now."""
        if self._uplink.standing is not None:
            self._is_ours(request.pn_id)

    def _is_ours(self, pn_id: PnId | None) -> None:
        if pn_id is not None and pn_id not in self._members.pns:
            raise Refused(Result.UNKNOWN_PN, "not_our_pn")

    def enqueue(self, requests: Sequence[tuple[SetupRequest, Link]], *, shown: bool = True) -> list[Waiting]:
        """Let PNEs wait for the next SETUP, the first and who it takes along for one; return what each waits for.

        *shown*: whether the first showed that its address is its own; the others answered there. Raises
        `AddressUnproven`.
        """
        added = [
            self._enter(one, link, requests[0][0].entity_id, shown or one is not requests[0][0])
            for one, link in requests
        ]
        self._changed.set()
        if len(self._queue) and not self._gathering:
            self._gathering = True
            self._work.start(self._gather())
        return added

    def _enter(self, request: SetupRequest, link: Link, led_by: EntityId, shown: bool) -> Waiting:
        known = self._members.proved_from(request.entity_id, link)
        now = self._clock.monotonic()
        waiting = Waiting(request, link, led_by, known, shown, now, asyncio.get_running_loop().create_future())
        there = self._entries.get(waiting.key)
        if there is not None:
            there.asked += 1
            return there
        try:
            self._queue.put(waiting)
        except AddressUnproven:
            raise
        except NoPlace:
            waiting.end(None)  # it waits out its timer: no stranger is worth an answer, and it may not be one
            return waiting
        self._entries[waiting.key] = waiting
        waiting.done.add_done_callback(lambda done: self._over(waiting))
        return waiting

    def _over(self, waiting: Waiting) -> None:
        del self._entries[waiting.key]
        if not waiting.done.cancelled():
            waiting.done.exception()  # whoever asked may be gone

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
        """Send up whose turn it is, for as long as anybody waits."""
        try:
            while len(self._queue):
                await self._moment()
                for waiting in self._queue.take_old():
                    waiting.end(None)
                while (batch := self._queue.next()) is not None:
                    self._work.start(self._run(batch))
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._changed.wait()
        finally:
            self._gathering = False

    async def _moment(self) -> None:
        """Let more come meanwhile, which share the batch."""
        await asyncio.sleep(self._config.batch_window + PAUSE_EACH * len(self._queue))
        try:
            await self._uplink.wait(self._config.uplink_patience)
        except NoAnswer as error:
            for waiting in self._queue.take_all():
                waiting.fail(error)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ROUND_PATIENCE):
                await self._no_round.wait()

    def _pn_of(self, item: Waiting) -> PnId | None:
        return self._networks.pn_for(item.led_by, item.request.pn_id)

    async def _run(self, batch: Batch[Waiting]) -> None:
        proved: set[EntityId] | None = None
        try:
            ended = await self._establish_when_there_is_room(self._pn_of(batch.askers[0]), batch)
            proved = {pne for pne, end in ended.items() if end.assigned is not None}
            for waiting in batch.askers:
                waiting.end(ended[waiting.entity].response)
        except CpnsError as error:
            for waiting in batch.askers:
                waiting.fail(error)
        finally:
            self._queue.ended(batch, proved)
            self._changed.set()

    async def _establish_when_there_is_room(
        self, pn_id: PnId | None, batch: Batch[Waiting]
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

    async def _establish(self, pn_id: PnId | None, batch: Batch[Waiting]) -> dict[EntityId, pne_auth.Concluded]:
        standing = await self._uplink.wait(0)
        self._is_ours(pn_id)
        txn = self._random(registry.TXN_BYTES)
        state, message = pne_auth.gather(
            [waiting.request for waiting in batch.askers],
            txn=txn,
            pan_secure=self._pan.secure,
            pn_id=pn_id,
            alias=self._config.alias,
        )
        links = {waiting.entity: waiting.link for waiting in batch.askers}
        run = self._runs[txn] = _Run(state, links, {}, standing, batch.lane)
        try:
            response = await standing.link.ask(
                message, GatewaySetupResponse, timeout=self._config.setup_timeout, session=standing.session
            )
        except Refused as error:
            self._server_works(error.reason != STORE_FAILS_REASON)
            if error.result is Result.UNKNOWN_PN and pn_id is not None:
                await self._members.release(pn_id)  # released, switched, or the server was set up anew
            if error.result is Result.TOO_MANY and run.challenged:
                raise NoAnswer("gave_way") from error  # its PNEs have answered: each does so once for its rand
            raise
        finally:
            del self._runs[txn]
        self._server_works(True)
        ended = pne_auth.conclude(state, run.assigned, response)
        await self._admit(response, run, ended)
        return ended

    def _server_works(self, works: bool) -> None:
        """Say so where the server can take nobody in, for want of its store, and where it can again."""
        if works is self._works:
            return
        self._works = works
        server = self._config.server_id
        if works:
            _log.info("%s takes PNEs in again", server, extra=by(server, state="store"))
        else:
            said = "%s can take nobody in, as its store is away or full: PNEs are told to wait"
            _log.warning(said, server, extra=by(server, state="store"))

    async def _admit(
        self, response: GatewaySetupResponse, run: _Run, ended: dict[EntityId, pne_auth.Concluded]
    ) -> None:
        pn_id = response.pn_id
        members = [
            Member(
                *(pne, pn_id, end.assigned.th0, end.assigned.local_eukey, run.links[pne], self._pan),
                heard_at=self._clock.monotonic(),
                kid=end.assigned.kid,
            )
            for pne, end in ended.items()
            if end.assigned is not None
        ]
        await self._members.admit(members)
        if members:
            self._networks.admitted(response)
            _log.info("PN %s: %d of %d PNEs established", pn_id, len(members), len(ended), extra=by(pn_id))

    def has(self, txn: bytes) -> bool:
        """Whether a SETUP of this PAN has that *txn*."""
        return txn in self._runs

    async def challenged(self, source: Session, message: GatewayChallenge) -> GatewayProofs:
        """Take the server's AUTHENTICATE Request, ask each PNE, and answer with what they say.

        Raises:
            AuthenticationFailed: it does not fit what was asked; no PNE hears of it.
        """
        run = self._runs.get(message.txn)
        if run is None or run.challenged or run.standing.session is not source:
            raise AuthenticationFailed("txn_not_outstanding")
        run.challenged = True
        state, challenges = pne_auth.distribute(
            run.state,
            message,
            own_id=self._config.gateway_id,
            server_id=self._config.server_id,
            prk=run.standing.prk,
            plain=run.standing.session.plain,
        )
        for pne in state.unkeyed:
            said = by(self._config.server_id, pne)
            _log.warning(
                "PNE %s: not let in without LocalEUKey on an open PAN, though the server would", pne, extra=said
            )
        proofs = await self._answers(run, challenges)
        run.assigned = dict(state.assigned)
        _, response = pne_auth.collect(state, proofs)
        return response

    async def _answers(self, run: _Run, challenges: Mapping[EntityId, Challenge]) -> dict[EntityId, bytes]:
        """Ask all at once; return the proofs. Where others wait, the silent have less time once no answers come in."""
        asked = {asyncio.create_task(self._ask(pne, run.links[pne], one)): pne for pne, one in challenges.items()}
        proofs: dict[EntityId, bytes] = {}
        silent, seconds = set(asked), PRESSED_TIMEOUT - LOOK_SECONDS
        try:
            while silent:
                done, silent = await asyncio.wait(silent, timeout=seconds)
                proofs.update({asked[one]: proof for one in done if (proof := one.result()) is not None})
                pressed = not run.lane.known and (proofs or len(self._queue))
                if pressed and not done and seconds == LOOK_SECONDS:
                    break
                seconds = LOOK_SECONDS
        finally:
            for one in silent:
                one.cancel()
        return proofs

    async def _ask(self, pne: EntityId, link: Link, challenge: Challenge) -> bytes | None:
        def accept(answer: Answer) -> bytes:
            proof = read(answer, Proof, limit=registry.MAX_PAN_BODY)
            if proof.entity_id != pne:
                raise AuthenticationFailed("proof_names_another_pne")
            return proof.proof

        try:
            return await link.request(
                registry.CPNS_PATH, codec.encode(challenge), timeout=self._config.answer_timeout, accept=accept
            )
        except NoAnswer:
            return None
