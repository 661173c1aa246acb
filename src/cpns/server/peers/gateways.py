"""The PN GWs that are connected: what the server asks of them, and tells them, inside their sessions.

A PN GW is connected to one process of the server. What is for one that is not connected here goes to the others.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from cpns.errors import Refused, Result
from cpns.ids import EntityId, PnId
from cpns.ports import Clock, topics
from cpns.ports.cluster import Cluster
from cpns.server.peers.elsewhere import ELSEWHERE_SECONDS, heard, told
from cpns.server.peers.peer import GatewayPeer
from cpns.service.background import Background
from cpns.service.cluster import Alone
from cpns.service.sessions import begun_at
from cpns.session.table import Session
from cpns.transport.endpoint import Inbound, Link
from cpns.transport.errors import BUSY, Answer, Code, read
from cpns.wire import codec
from cpns.wire.application import PING_PATH, REBALANCE_PATH, STATUS_PATH, decode_text
from cpns.wire.pn_messages import PnChangeNotify
from cpns.wire.registry import CPNS_PATH

M = TypeVar("M")

NOTIFY_TIMEOUT: Final = 2.0
ALIVE_SECONDS: Final = 2.0
"""What one has to answer that may be a second one with the same key."""

GO_SECONDS: Final = 60.0
"""One PN GW in so many goes to another process that it prefers: its PNEs set up there."""
REMEMBERED_VERSIONS: Final = 1024
"""Of the PNs of one PN GW: what is said of one of them may come in another order."""
STAY_SECONDS: Final = 600.0
"""One that was let go and stays keeps no other from going for so long."""
SILENT_SECONDS: Final = 3.0
"""What one has to answer that is asked whether its uplink is silent; heard within that time, it is not asked."""

Cloned = Callable[[EntityId, tuple[str, ...]], None]
"""Is told of an entity for which two answered at once, and where these are."""


@dataclass(frozen=True, slots=True)
class FromGateway:
    """Who asks: a PN GW that is connected here, and on which connection."""

    peer: GatewayPeer
    link: Link


class Gateways:
    """PN GW to its session and connection here; the newest of each.

    Args:
        clock: compares what other processes say with what is here.
        cluster: the other processes of this server.
        cloned: is told of a PN GW that runs twice, and at which hosts.
    """

    def __init__(
        self, clock: Clock, cluster: Cluster | None = None, cloned: Cloned = lambda gateway, hosts: None
    ) -> None:
        self._clock = clock
        self._cloned = cloned
        self._work = Background()
        self._went: EntityId | None = None
        self._went_at = -STAY_SECONDS
        self._connected: dict[EntityId, tuple[GatewayPeer, Link]] = {}
        self._cluster = cluster or Alone()
        self._cluster.serve(topics.GATEWAY, self._asked_for)
        self._cluster.serve(topics.GATEWAY_CAME, self._came_elsewhere)
        self._cluster.serve(topics.GATEWAY_SERVES, self._serves_elsewhere)
        self._cluster.serve(topics.GATEWAY_SILENT, self._silent_elsewhere)
        self._cluster.serve(topics.GATEWAY_STORE_FAILS, self._store_fails_here)

    @property
    def connected(self) -> tuple[EntityId, ...]:
        """Those that are connected here, by ID."""
        return tuple(sorted(self._connected))

    def __contains__(self, gateway: object) -> bool:
        return gateway in self._connected

    def add(self, peer: GatewayPeer, link: Link) -> bool:
        """Take in a PN GW that has just proven itself; its older connection is closed, when it was asked.

        Returns:
            False where its connection is gone meanwhile: nobody would tell us of that any more.
        """
        if link.closed:
            return False
        older = self._connected.get(peer.gateway_id)
        self._connected[peer.gateway_id] = (peer, link)
        link.keep()
        host = link.party(None).host
        self._cluster.tell(topics.GATEWAY_CAME, topics.GatewayCame(peer.gateway_id, host, self._clock.now()))
        if older is not None and older[1] != link:
            self._work.start(self._leave(*older, host))
        return True

    async def _leave(self, older: GatewayPeer, link: Link, newer_host: str) -> None:
        """Close the older connection of a PN GW. One alone has let go of it by now, and does not answer."""
        try:
            await link.exchange(PING_PATH, b"", timeout=ALIVE_SECONDS, session=older.session)
            self._cloned(older.gateway_id, (link.party(None).host, newer_host))
        except Refused:
            return
        finally:
            link.close()

    async def finish(self) -> None:
        """Ask nobody any more."""
        await self._work.close()

    def peer(self, source: Session, link: Link) -> GatewayPeer | None:
        """Return the PN GW whose present session *source* is, and whose connection *link*; else None."""
        peer, current = self._connected.get(source.peer_id, (None, None))
        return peer if peer is not None and peer.session is source and current == link else None

    def link(self, gateway: EntityId | None) -> Link | None:
        """Return the connection of a PN GW, or None."""
        return self._connected[gateway][1] if gateway is not None and gateway in self._connected else None

    def way(self, session: Session | None) -> tuple[Link, Session] | None:
        """Return link and session of a PNE, given its session; None where it has none, or its PN GW is away."""
        link = None if session is None else self.link(session.via)
        return None if session is None or link is None else (link, session)

    def lost(self, link: Link) -> GatewayPeer | None:
        """Return the PN GW whose connection is gone, and forget it."""
        for gateway, (peer, current) in self._connected.items():
            if current == link:
                del self._connected[gateway]
                return peer
        return None

    def close(self, gateway: EntityId) -> None:
        """End the connection of a PN GW."""
        _, link = self._connected.pop(gateway, (None, None))
        if link is not None:
            link.close()

    def serves(self, gateway: EntityId, pn_id: PnId, version: int, *, now: bool) -> None:
        """Note that a connected PN GW serves a PN since that version of it, or no longer."""
        if not self._serves(gateway, pn_id, version, now=now):
            said = topics.GatewayServes(gateway, pn_id, now, version, self._clock.now())
            self._cluster.tell(topics.GATEWAY_SERVES, said)

    def _serves(self, gateway: EntityId, pn_id: PnId, version: int, *, now: bool) -> bool:
        peer, _ = self._connected.get(gateway, (None, None))
        if peer is None:
            return False
        if version <= peer.served_since.get(pn_id, 0):  # the processes may say it in another order
            return True
        _remember(peer.served_since, pn_id, version)
        if now and pn_id not in peer.pns:
            peer.pns.append(pn_id)
        elif not now and pn_id in peer.pns:
            peer.pns.remove(pn_id)
        return True

    def knows(self, gateway: EntityId, pn_id: PnId, version: int) -> None:
        """Note that a PN GW, if it is connected here, was told of a version of a PN."""
        peer, _ = self._connected.get(gateway, (None, None))
        if peer is not None:
            _remember(peer.told, pn_id, max(version, peer.told.get(pn_id, 0)))

    def is_behind(self, gateway: EntityId, pn_id: PnId, version: int) -> bool:
        """Whether a PN GW is connected here, and was not told of that version of a PN, nor of a newer one."""
        peer, _ = self._connected.get(gateway, (None, None))
        return peer is not None and peer.told.get(pn_id, 0) < version

    async def ask(self, gateway: EntityId, message: codec.Message, shape: type[M], timeout: float) -> M:
        """Ask a PN GW; return its answer.

        Raises:
            Refused: it is not connected or does not answer (`NoAnswer`), or answers with an error.
        """
        return read(await self._exchange(gateway, codec.encode(message), timeout), shape)

    async def tell(self, gateway: EntityId, message: codec.Message) -> bool:
        """Tell a PN GW, if it is connected; one that is away asks for the PN Inventory before it serves again.

        Who takes the news of a PN knows that version of it.

        Returns:
            Whether it has answered.
        """
        pn_id, version = (message.pn_id, message.version) if isinstance(message, PnChangeNotify) else (None, 0)
        with contextlib.suppress(Refused):
            return (await self._exchange(gateway, codec.encode(message), NOTIFY_TIMEOUT, pn_id, version)).ok
        return False

    async def _exchange(
        self, gateway: EntityId, body: bytes, timeout: float, pn_id: PnId | None = None, version: int = 0
    ) -> Answer:
        peer, link = self._connected.get(gateway, (None, None))
        if peer is not None and link is not None:
            answer = await link.exchange(CPNS_PATH, body, timeout=timeout, session=peer.session)
            if answer.ok and pn_id is not None:
                _remember(peer.told, pn_id, max(version, peer.told.get(pn_id, 0)))
            return answer
        asked = topics.GatewayExchange(gateway, body, timeout, pn_id, version)
        return heard(await self._cluster.ask(topics.GATEWAY, asked, timeout + ELSEWHERE_SECONDS), "gateway_away")

    def answer(self, peer: GatewayPeer, inbound: Inbound) -> Answer:
        """Answer a PN GW what is no CPNS message.

        Raises:
            Refused: there is no such resource, or no such text.
        """
        if inbound.path == REBALANCE_PATH:
            seconds = self._has_to_stay(peer.gateway_id)
            return Answer(Code.SERVICE_UNAVAILABLE, BUSY.payload, seconds) if seconds else Answer(Code.CHANGED)
        if inbound.path == STATUS_PATH:
            peer.says(decode_text(inbound.payload))
        elif inbound.path != PING_PATH:
            raise Refused(Result.NOT_ALLOWED, "no_such_resource")
        return Answer(Code.CHANGED)

    def _has_to_stay(self, gateway: EntityId) -> int:
        """Return for how many seconds a PN GW has to stay here before it goes to another process; 0: it may go."""
        now = self._clock.monotonic()
        pause = STAY_SECONDS if gateway == self._went else GO_SECONDS
        if now < self._went_at + pause:
            return math.ceil(self._went_at + pause - now)
        self._went, self._went_at = gateway, now
        return 0

    async def silent(self, gateway: EntityId) -> float | None:
        """Return for how many seconds nothing came from a PN GW that is connected and does not answer; else None."""
        if gateway in self._connected:
            return await self._silent_here(gateway)
        seconds = SILENT_SECONDS + ELSEWHERE_SECONDS
        found = (await self._cluster.ask(topics.GATEWAY_SILENT, topics.About(gateway), seconds)).first()
        return None if found is None else found.seconds

    async def store_fails(self, gateway: EntityId) -> bool:
        """Return whether a PN GW says that it can keep nothing."""
        if gateway in self._connected:
            return self._connected[gateway][0].store_fails
        asked = topics.About(gateway)
        found = (await self._cluster.ask(topics.GATEWAY_STORE_FAILS, asked, ELSEWHERE_SECONDS)).first()
        return found is not None and found.yes

    # for other processes

    async def _store_fails_here(self, about: topics.About) -> topics.YesOrNo | None:
        peer, _ = self._connected.get(about.entity, (None, None))
        return None if peer is None else topics.YesOrNo(peer.store_fails)

    async def _silent_elsewhere(self, about: topics.About) -> topics.Seconds | None:
        seconds = await self._silent_here(about.entity)
        return None if seconds is None else topics.Seconds(seconds)

    async def _silent_here(self, gateway: EntityId) -> float | None:
        peer, link = self._connected.get(gateway, (None, None))
        if peer is None or link is None:
            return None
        if link.silence >= SILENT_SECONDS:
            with contextlib.suppress(Refused):
                await link.exchange(PING_PATH, b"", timeout=SILENT_SECONDS, session=peer.session)
        return link.silence if link.silence >= SILENT_SECONDS and not link.closed else None

    async def _asked_for(self, asked: topics.GatewayExchange) -> topics.Exchanged | None:
        if asked.gateway not in self._connected:
            return None
        return await told(self._exchange(asked.gateway, asked.body, asked.seconds, asked.pn_id, asked.version))

    async def _came_elsewhere(self, newer: topics.GatewayCame) -> None:
        """A PN GW has one connection; the newest counts."""
        gateway, host, at = newer.gateway, newer.host, newer.at
        older, link = self._connected.get(gateway, (None, None))
        if older is not None and link is not None and begun_at(older.session, self._clock) <= at:
            del self._connected[gateway]
            await self._leave(older, link, host)
        else:  # it came here after that, or the clocks differ: nothing is certain
            self.close(gateway)

    async def _serves_elsewhere(self, said: topics.GatewayServes) -> None:
        peer, _ = self._connected.get(said.gateway, (None, None))
        if peer is not None and begun_at(peer.session, self._clock) <= said.at:  # else it was read when that one came
            self._serves(said.gateway, said.pn_id, said.version, now=said.now)


def _remember(versions: dict[PnId, int], pn_id: PnId, version: int) -> None:
    """Keep a version of a PN, and forget that of the one that was named longest ago."""
    versions.pop(pn_id, None)
    versions[pn_id] = version
    if len(versions) > REMEMBERED_VERSIONS:
        del versions[next(iter(versions))]
