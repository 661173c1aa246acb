"""Who gets in: the places and the pace of those that have not proven themselves yet, and of PNEs that a PN GW brings.

Whoever is over a share is answered 61, whatever ID was named: docs/protocol.md, "Who gets in at the server".
"""

import logging
from typing import Final

from cpns.errors import NoAnswer, Refused, Result
from cpns.protocol.link_auth import verifier
from cpns.server.access.authentication import Authentication
from cpns.server.feature import Here
from cpns.server.peers.peer import GatewayPeer
from cpns.service.places import place
from cpns.shares.noted import by
from cpns.shares.rate import RateLimit
from cpns.shares.room import NoPlace, Room
from cpns.transport.dispatch import Table
from cpns.transport.endpoint import Inbound, Link
from cpns.transport.errors import Answer
from cpns.wire import messages as m

_log = logging.getLogger("cpns.server")

ACTIVATE_RUNS: Final = (4096, 512)
"""ACTIVATE runs under way in all, and how many of these only known hosts may have."""
PROOF_SECONDS: Final = 3.0
"""Seconds that a PN GW has for its AUTHENTICATE Response: it is there, and need ask nobody."""
HOST_PACE: Final = (100.0, 400.0)
"""ACTIVATE Requests a second, and at once, of one host; those that led to a proof are not counted."""
COMMON_PACE: Final = (500.0, 500.0)
"""The same of all hosts together."""
KNOWN_PACE: Final = (500.0, 500.0)
"""What known hosts have besides."""
LEFT_FOR_NEWCOMERS: Final = 250.0
"""Of the common pace, what is left for hosts with no run under way or unanswered."""

MAX_PNES: Final = 16384
"""PNEs in SETUP runs under way in all; so 64 of each PN GW are taken by no other while no more than 256 are at it."""
UNPROVEN_PNES: Final = (256.0, 1024.0)
"""PNEs a second, and at once, that one PN GW brings and that prove nothing."""


class Admission:
    """The runs under way of one server process."""

    def __init__(self, here: Here, authentication: Authentication) -> None:
        self._authentication = authentication
        self._gateways = here.gateways
        self._sessions = here.sessions
        self._expected = here.expected
        self._hosts = here.hosts
        self._answer_timeout = here.config.answer_timeout
        self._name = here.name
        self._features = here.features
        monotonic = here.clock.monotonic
        self._runs = Room(*ACTIVATE_RUNS, monotonic)
        self._open: set[Link] = set()
        self._of_host = RateLimit(*HOST_PACE, monotonic)
        self._of_all = RateLimit(*COMMON_PACE, monotonic)
        self._of_known = RateLimit(*KNOWN_PACE, monotonic)
        self._setups = Room(MAX_PNES, 0, monotonic)
        self._unproven = RateLimit(*UNPROVEN_PNES, monotonic)

    @property
    def under_way(self) -> int:
        """Runs of PN GWs, and PNEs in SETUP runs, that have not proven themselves yet."""
        return len(self._runs) + len(self._setups)

    # connections

    async def activate(self, inbound: Inbound, table: Table[Inbound]) -> Answer | None:
        """Have *table* answer ACTIVATE, of a PN GW or a CM Device.

        Raises:
            NoPlace: it got none.
            Refused: it is no ACTIVATE; or that of a CM Device failed, whose Response has no form without a code.
        """
        link, party = inbound.link, inbound.party
        if link in self._open or link in self._expected:
            link.close()  # an honest one has one run on its connection
            raise NoPlace("second_run_on_a_connection")
        self._open.add(link)
        try:
            self._keep_pace(party.host)
            return await table.take(inbound, inbound.payload)
        except NoPlace as error:
            _log.warning("no place for an ACTIVATE of %s: %s", party.host, error.reason, extra=by(party))
            raise
        finally:
            self._open.discard(link)

    async def gateway(self, inbound: Inbound, request: m.ActivateRequest) -> m.ActivateResponse:
        """Authenticate a PN GW. Raises `Refused`: it got no place; else a refusal is answered."""
        link, party = inbound.link, inbound.party
        self._name(link, request.entity_id)

        async def ask(challenge: m.LinkChallengeFromServer | m.LinkChallengeFromGateway) -> m.Proof:
            return await link.ask(challenge, m.Proof, timeout=PROOF_SECONDS)

        half_open = place(self._runs, party.host, known=party.host in self._hosts)
        try:
            peer, response = await self._authentication.gateway(request, ask, party, half_open)
        except Refused as error:
            if error.result is Result.TOO_MANY:
                raise
            return verifier.refuse(error)
        self._of_host.give_back(party.host, 1)
        if not self._gateways.add(peer, link):
            self._sessions.remove(peer.session)
            raise NoAnswer("connection_gone")
        self._features.gateway_came(peer.gateway_id)
        _log.info("gateway %s is authenticated", peer.gateway_id, extra=by(peer.gateway_id, state="uplink"))
        return response

    def _keep_pace(self, host: str) -> None:
        """Count an ACTIVATE, before it costs anything else. Raises `NoPlace`."""
        if not self._of_host.allows(host):
            raise NoPlace("pace_of_the_host")
        known = host in self._hosts
        if known and self._of_known.allows(None):
            return
        busy = self._runs.share(host) or self._runs.silence(host) or self._expected.is_busy(host)
        if not self._of_all.allows(None, leaving=LEFT_FOR_NEWCOMERS if busy and not known else 0):
            raise NoPlace("pace_of_all")

    # PNEs

    async def setup(self, request: m.GatewaySetupRequest, peer: GatewayPeer, link: Link) -> m.GatewaySetupResponse:
        """Answer a SETUP Request. Raises `NoPlace`: the PN GW is to send it again later; `Refused`, as a whole."""

        async def ask(challenge: m.GatewayChallenge) -> m.GatewayProofs:
            return await link.ask(challenge, m.GatewayProofs, timeout=self._answer_timeout, session=peer.session)

        gateway, size = peer.gateway_id, max(1, len(request.entries))
        if not self._unproven.allows(gateway, size):
            raise NoPlace("unproven_pnes")
        half_open = place(self._setups, gateway, known=True, size=size)
        response = await self._authentication.pnes(request, peer, ask, half_open)
        self._unproven.give_back(gateway, sum(not entry.result for entry in response.entries))
        return response
