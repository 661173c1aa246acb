"""A hostile PN GW for the demo: registered, with a valid key of its own, and lying. ``python -m cpns.cli.attacks``.

It runs the real protocol functions with other intentions, and tells on standard output, a JSON object a line, what it
tried and what came of it. Its PNEs are ordinary ones that have no other PN GW.
"""

import argparse
import asyncio
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from cpns.crypto.schedule import Profile
from cpns.crypto.secret import Secret
from cpns.domain.credential import parse_credential
from cpns.domain.inventory import Kind
from cpns.errors import NoAnswer, Refused, Result
from cpns.gateway.claim import EukeyClaim
from cpns.gateway.config import GatewayConfig
from cpns.gateway.hop import Hop
from cpns.gateway.members import Member, Members, Pan
from cpns.gateway.uplink import Uplink
from cpns.ids import EntityId, PnId
from cpns.protocol.pne_auth import gateway as pne_auth
from cpns.service.places import places
from cpns.service.system import SystemClock, random_bytes
from cpns.session.table import Sessions
from cpns.store.vault import FileVault, read_key_file
from cpns.transport.endpoint import Endpoint, Inbound, Link
from cpns.transport.errors import UNIFORM_REFUSAL, Answer, Code
from cpns.transport.relay import Carrier, Relay, Sealed
from cpns.wire import codec, registry
from cpns.wire.messages import (
    ActivateRequest,
    Challenge,
    GatewayChallenge,
    GatewayProofs,
    GatewaySetupRequest,
    GatewaySetupResponse,
    LinkChallengeFromServer,
    Proof,
    ProofEntry,
    SetupEntry,
    SetupRequest,
    SetupResponse,
)

Fanout = Callable[[dict[EntityId, Challenge]], dict[EntityId, Challenge]]

ANSWER_TIMEOUT = 1.2


def tell(tried: str, by: str, how: str, refused: bool) -> None:
    """Report one attempt."""
    print(json.dumps({"tried": tried, "refused_by": by, "how": how, "refused": refused}), flush=True)


anything = places(1024, SystemClock().monotonic)


class HostileGateway:
    """Serves its victims, each time with another lie, and honestly in the end; then it meddles with the relay."""

    def __init__(
        self, config: GatewayConfig, eukey: Secret, poses_as: EntityId, never_spoke: EntityId, victims: int
    ) -> None:
        self.config = config
        self._poses_as = poses_as
        self._never_spoke = never_spoke
        self._victims = victims
        sessions = Sessions()
        self._upward = Endpoint(config.gateway_id, sessions, self._from_server, Relay(self._way_down, anything))
        claim = EukeyClaim(config, eukey, random_bytes)
        self.uplink = Uplink(config, self._upward, sessions, SystemClock(), random_bytes, claim)
        hops = Sessions()
        self._members = Members(None, FileVault(Secret(random_bytes(32)), random_bytes))
        self._own = Pan(False, hops)
        self._hop = Hop(config, self._members, self._own, SystemClock(), random_bytes)
        self._pan = Endpoint(config.gateway_id, hops, self._from_pan, Relay(lambda _: MeddlingWay(self), anything))
        self._links: dict[EntityId, Link] = {}
        self._waiting: dict[EntityId, tuple[SetupRequest, asyncio.Future[SetupResponse | None]]] = {}
        self._fanout: Fanout = lambda challenges: challenges
        self._answers: dict[EntityId, bytes] = {}
        self._old: tuple[list[SetupRequest], dict[EntityId, bytes]] | None = None
        self.meddle = False
        self.recorded: Sealed | None = None
        self._all_here = asyncio.Event()
        self._pn: PnId | None = None
        self._state = pne_auth.AwaitingChallenge(b"", {}, False)
        self._assigned: dict[EntityId, pne_auth.Assigned] = {}

    def _way_down(self, destination: str) -> Carrier | None:
        return self._links.get(EntityId(destination))

    async def start(self) -> str:
        """Reach the server and open the PAN; return its address."""
        self._stay = asyncio.create_task(self.uplink.stay())
        await self.uplink.wait(10)
        return await self._pan.open_pan("127.0.0.1", 0)

    # what its peers send

    async def _from_pan(self, inbound: Inbound) -> Answer | None:
        if inbound.source is not None:
            return Answer(Code.CHANGED)
        request = codec.decode(inbound.payload, SetupRequest, ActivateRequest)
        if isinstance(request, ActivateRequest):
            said = await self._hop.activate(request, inbound.link, shown=True)
            return Answer(Code.CHANGED, codec.encode(said))
        self._links[request.entity_id] = inbound.link
        ended: asyncio.Future[SetupResponse | None] = asyncio.get_running_loop().create_future()
        self._waiting[request.entity_id] = (request, ended)
        if len(self._waiting) >= self._victims:
            self._all_here.set()
        response = await ended
        return None if response is None else Answer(Code.CHANGED, codec.encode(response))

    async def _from_server(self, inbound: Inbound) -> Answer | None:
        if inbound.source is None:
            challenge = codec.decode(inbound.payload, LinkChallengeFromServer)
            proof = await self.uplink.challenged(inbound, challenge)
            return None if proof is None else Answer(Code.CHANGED, codec.encode(proof))
        if inbound.source.profile is not Profile.GW_SERVER:
            return UNIFORM_REFUSAL
        message = codec.decode(inbound.payload, GatewayChallenge)
        standing = await self.uplink.wait(0)
        state, challenges = pne_auth.distribute(
            self._state, message, own_id=self.config.gateway_id, server_id=self.config.server_id, prk=standing.prk
        )
        self._assigned = dict(state.assigned)
        if not self._answers:
            asked = [self._ask(pne, one) for pne, one in self._fanout(challenges).items() if pne in self._links]
            proofs = {pne: proof for pne, proof in await asyncio.gather(*asked) if proof is not None}
        else:
            proofs = self._answers
        entries = tuple(
            ProofEntry(pne, proof=proofs[pne]) if pne in proofs else ProofEntry(pne, result=Result.NO_ANSWER)
            for pne in challenges
        )
        self.proofs = proofs
        return Answer(Code.CHANGED, codec.encode(GatewayProofs(message.txn, entries)))

    async def _ask(self, pne: EntityId, challenge: Challenge) -> tuple[EntityId, bytes | None]:
        try:
            proof = await self._links[pne].ask(challenge, Proof, timeout=ANSWER_TIMEOUT)
        except NoAnswer:
            return pne, None
        return pne, proof.proof

    async def _setup(self, message: GatewaySetupRequest) -> GatewaySetupResponse:
        self._state = pne_auth.AwaitingChallenge(
            message.txn, {entry.entity_id: entry for entry in message.entries}, False
        )
        standing = await self.uplink.wait(5)
        return await standing.link.ask(message, GatewaySetupResponse, timeout=8, session=standing.session)

    async def _round(
        self, fanout: Fanout = lambda challenges: challenges, change: Callable[[SetupEntry], SetupEntry] = lambda e: e
    ) -> dict[EntityId, int]:
        """Wait for all victims, run one SETUP with *change* and *fanout*, and pass on what came of it."""
        await self._all_here.wait()
        self._all_here.clear()
        waiting, self._waiting = self._waiting, {}
        requests = [request for request, _ in waiting.values()]
        _, message = pne_auth.gather(
            requests, txn=random_bytes(registry.TXN_BYTES), pan_secure=False, pn_id=self._pn, alias=None
        )
        entries = tuple(map(change, message.entries))
        pan_secure = entries[0].pan_secure
        self._fanout, self.proofs = fanout, {}
        response = await self._setup(dataclasses.replace(message, entries=entries, pan_secure=pan_secure))
        self._old = (requests, dict(self.proofs))
        self._pn = response.pn_id
        results = {entry.entity_id: entry for entry in response.entries}
        for pne, (_, ended) in waiting.items():
            entry = results[pne]
            assigned = self._assigned.get(pne)
            if entry.proof is not None and assigned is not None:
                member = Member(pne, response.pn_id, assigned.th0, assigned.local_eukey, self._links[pne], self._own)
                await self._members.admit([member])
            ended.set_result(SetupResponse(entry.result, response.pn_id, entry.proof) if entry.proof else None)
        return {pne: entry.result for pne, entry in results.items()}

    # the lies

    async def attack(self) -> None:
        """Try everything, in order."""
        results = await self._round(self._pose)
        tell(
            f"posed as {self._poses_as} to its PNEs",
            "the PNEs",
            "the LocalEUKey copy does not open: the server bound it to the gateway it authenticated",
            set(results.values()) == {Result.NO_ANSWER},
        )
        results = await self._round(self._swap)
        tell(
            "gave each PNE the LocalEUKey copy of the other",
            "the PNEs",
            "the copy does not open: it is bound to PNE and run",
            set(results.values()) == {Result.NO_ANSWER},
        )
        results = await self._round(change=lambda entry: dataclasses.replace(entry, pan_secure=True))
        tell(
            "told the server that its open PAN is a Secure PAN",
            "the PNEs",
            "what the PNE believes of its PAN is in every key",
            Result.SUCCESS not in results.values(),
        )
        await self._claim()
        results = await self._round()
        honest = set(results.values()) == {Result.SUCCESS}
        tell("was honest, for once", "nobody", "both PNEs are established through it", not honest)
        await self._replay_proofs()
        await self._meddle()

    def _pose(self, challenges: dict[EntityId, Challenge]) -> dict[EntityId, Challenge]:
        return {pne: dataclasses.replace(one, gateway_id=self._poses_as) for pne, one in challenges.items()}

    def _swap(self, challenges: dict[EntityId, Challenge]) -> dict[EntityId, Challenge]:
        copies = [one.wrapped for one in challenges.values()]
        turned = copies[1:] + copies[:1]
        return {
            pne: dataclasses.replace(one, wrapped=copy)
            for (pne, one), copy in zip(challenges.items(), turned, strict=True)
        }

    async def _claim(self) -> None:
        entry = SetupEntry(1, self._never_spoke, random_bytes(16), b"\x01", True, False, 1)
        self._answers = {self._never_spoke: random_bytes(16)}
        response = await self._setup(GatewaySetupRequest(random_bytes(8), False, (entry,), self._pn))
        self._answers = {}
        result = response.entries[0].result
        how = f"wrong hash_PNE, result {result}; its session through {self._poses_as} goes on"
        tell(f"claimed {self._never_spoke}, which never spoke to it", "the server", how, result == 21)

    async def _replay_proofs(self) -> None:
        if self._old is None:
            return
        requests, self._answers = self._old
        _, message = pne_auth.gather(requests, txn=random_bytes(8), pan_secure=False, pn_id=self._pn, alias=None)
        response = await self._setup(message)
        self._answers = {}
        results = {entry.result for entry in response.entries}
        tell(
            "replayed the AUTHENTICATE Response of that run",
            "the server",
            f"rand_server is fresh, so each old hash is wrong, result {', '.join(map(str, sorted(results)))}",
            results == {21},
        )

    async def _meddle(self) -> None:
        """Change a byte of the next reading, then send a genuine one twice."""
        self.changed: asyncio.Future[Sealed] = asyncio.get_running_loop().create_future()
        self.replayed: asyncio.Future[Sealed] = asyncio.get_running_loop().create_future()
        self.meddle = True
        answer = await asyncio.wait_for(self.changed, 10)
        code = Answer(answer.code)
        tell("changed one byte of a reading", "the server", "4.01: it does not open", code.code == Code.UNAUTHORIZED)
        answer = await asyncio.wait_for(self.replayed, 10)
        tell("sent a reading a second time", "the server", "4.01: replay", answer.code == Code.UNAUTHORIZED)


class MeddlingWay:
    """The way up of a relay that is not content with relaying."""

    def __init__(self, gateway: HostileGateway) -> None:
        self._gateway = gateway

    async def carry(self, destination: str, sealed: Sealed) -> Sealed:
        """Carry; once change a byte, and once send twice."""
        gateway = self._gateway
        standing = gateway.uplink.standing
        if standing is None:
            raise Refused(Result.OUT_OF_REACH, "no_uplink")
        if gateway.meddle and not gateway.changed.done():
            flipped = sealed.payload[:-1] + bytes([sealed.payload[-1] ^ 1])
            gateway.changed.set_result(
                await standing.link.carry(destination, dataclasses.replace(sealed, payload=flipped))
            )
        answer = await standing.link.carry(destination, sealed)
        if gateway.meddle and gateway.changed.done() and not gateway.replayed.done():
            gateway.replayed.set_result(await standing.link.carry(destination, sealed))
        return answer


async def run(arguments: argparse.Namespace) -> None:
    """Start, say where the PAN is, attack, and go on relaying until ended."""
    credential = parse_credential(read_key_file(arguments.key), Kind.GATEWAY)
    host, _, port = arguments.server.rpartition(":")
    config = GatewayConfig(credential.entity_id, credential.server_id, host, int(port), ())
    gateway = HostileGateway(
        *(config, credential.eukey, EntityId(arguments.poses_as), EntityId(arguments.never_spoke), arguments.victims)
    )
    print(json.dumps({"pan": await gateway.start()}), flush=True)
    await gateway.attack()
    print(json.dumps({"done": True}), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--server", required=True)
    parser.add_argument("--poses-as", required=True)
    parser.add_argument("--never-spoke", required=True)
    parser.add_argument("--victims", type=int, default=2)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
