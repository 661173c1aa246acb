"""Changing-Mode devices at the server: whose connection waits for its first message, who is to take a fresh key."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from cpns.crypto.schedule import Profile
from cpns.domain.actor import Actor
from cpns.domain.cm import CmDevice
from cpns.domain.inventory import State
from cpns.domain.network import Network
from cpns.errors import Refused, Result
from cpns.ids import EntityId
from cpns.ports import Clock, topics
from cpns.ports.cm import CmDeviceStore
from cpns.ports.siblings import Siblings
from cpns.server.gateways import NOTIFY_TIMEOUT, FromGateway, Gateways
from cpns.server.pnes import Pnes
from cpns.service.authentication import GatewayPeer
from cpns.service.background import Background
from cpns.service.cm import Activation, CmDevices
from cpns.service.hosts import KnownHosts
from cpns.session.table import Session, Sessions
from cpns.shares.noted import by
from cpns.shares.room import Room, Slot
from cpns.transport.dispatch import Row, on
from cpns.transport.endpoint import Link
from cpns.wire import cm_messages as cm
from cpns.wire import codec
from cpns.wire.messages import CmActivateRequest, CmActivateResponse

_log = logging.getLogger("cpns.server")

PENDING: Final = (4096, 512)
"""Sessions that wait for their first message in all, and how many of these only known hosts may have."""
EXPIRY_SECONDS: Final = 600.0
"""How often unused CM Devices are looked for."""

End = Callable[[EntityId, Sequence[Network]], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class _Expected:
    """A session that waits for its first message, and its place."""

    activation: Activation
    slot: Slot


M = TypeVar("M")


class ChangingMode:
    """The CM Devices of one server process, as far as connections and sessions go.

    Args:
        devices: the procedures.
        unused: seconds after which one that was never used is forgotten.
        end: ends the sessions of an entity that was revoked.
        siblings: the other processes of the server.
        hosts: that are known.
    """

    def __init__(
        self,
        devices: CmDevices,
        store: CmDeviceStore,
        sessions: Sessions,
        gateways: Gateways,
        pnes: Pnes,
        clock: Clock,
        unused: float,
        end: End,
        siblings: Siblings,
        hosts: KnownHosts,
    ) -> None:
        self._devices = devices
        self._store = store
        self._sessions = sessions
        self._gateways = gateways
        self._pnes = pnes
        self._clock = clock
        self._unused = unused
        self._end = end
        self._siblings = siblings
        siblings.serve(topics.CM_ROTATES, self._is_due)
        siblings.serve(topics.CM_ROTATED, self._is_done)
        self._hosts = hosts
        self._pending = Room(*PENDING, clock.monotonic)
        self._expected: dict[Link, _Expected] = {}
        self._due: dict[EntityId, set[EntityId]] = {}
        self._looked_at = -EXPIRY_SECONDS
        self._work = Background()

    async def load(self) -> None:
        """Take up who is to take a fresh key by the store: since before our start, or as another process was told."""
        for device in await self._store.cm_devices():
            if device.rotation_due and device.state is State.ACTIVE:
                self._due.setdefault(device.pne_id, set()).add(device.cm_device_id)

    async def close(self) -> None:
        """Stop telling."""
        await self._work.close()

    # assignment

    def of_gateway(self) -> tuple[Row[FromGateway], ...]:
        """Return what a PN GW may ask as mediator."""
        return (
            on(cm.CmAssignRequest, _as_mediator(self._devices.offer)),
            on(cm.CmIdRequest, _as_mediator(self._devices.identify)),
            on(cm.CmConfirmRequest, _as_mediator(self._confirm)),
            on(cm.CmReleaseRequest, _as_mediator(self._devices.release)),
        )

    async def _confirm(self, peer: GatewayPeer, request: cm.CmConfirmRequest) -> cm.CmConfirmResponse:
        response, ended = await self._devices.confirm(peer, request)
        for older in ended:
            await self._end(older, ())
        return response

    # activation

    def expects(self, link: Link) -> bool:
        """Whether *link* has a session that waits for its first message."""
        return link in self._expected

    def is_busy(self, host: str) -> bool:
        """Whether *host* has such sessions, or had some that nobody used."""
        return bool(self._pending.share(host) or self._pending.silence(host))

    async def activate(self, request: CmActivateRequest, link: Link, *, known: bool) -> CmActivateResponse:
        """Answer step 12. Until the first message under its session nothing changes; a connection waits for one.

        Args:
            request: of the CM Device.
            link: its connection, which is closed where its place goes to another host.
            known: whether somebody proved itself from its host before.

        Raises:
            NoPlace: it got none.
            Refused: it failed.
        """
        party = link.party(None)
        slot = self._pending.enter(party.host, link.close, known=known)
        try:
            activation, response = await self._devices.activate(request, party)
            self._expected[link] = _Expected(activation, slot)
        finally:
            if link not in self._expected:
                self._pending.leave(slot, proved=False)
        if link.closed:  # while we worked: nobody will tell us of that any more
            self._forget(link)
        return response

    async def begin(self, source: Session, link: Link) -> GatewayPeer | None:
        """A message under *source* has opened on *link*: let it stand if it was waited for; return its PN GW, or None.

        Raises:
            Refused: it was revoked meanwhile.
        """
        expected = self._expected.get(link)
        if expected is None or expected.activation.session is not source:
            return None
        del self._expected[link]
        self._pending.leave(expected.slot, proved=True)
        activation = expected.activation
        known = partial(self._hosts.proved, link.party(None).host, source.peer_id)
        peer, ended = await self._devices.begin(activation, known)
        if not self._gateways.add(peer, link):
            self._sessions.remove(source)
            return None
        if activation.fresh:
            done = topics.About(peer.gateway_id)
            await self._is_done(done)
            self._siblings.tell(topics.CM_ROTATED, done)
        for older in ended:
            await self._end(older, ())
        said = "CM Device %s is authenticated, with its key of generation %d"
        _log.info(said, peer.gateway_id, activation.generation, extra=by(peer.gateway_id))
        return peer

    def lost(self, link: Link) -> None:
        """A connection is gone, and with it what waited there."""
        self._forget(link)

    def _forget(self, link: Link) -> None:
        older = self._expected.pop(link, None)
        if older is not None:
            self._sessions.remove(older.activation.session)
            self._pending.leave(older.slot, proved=False)

    async def sweep(self, half_open: float, *, ends: bool) -> None:
        """Forget what waited too long and, where the clock *ends* things, CM Devices that were never used."""
        now = self._clock.monotonic()
        for link, expected in list(self._expected.items()):
            if now - expected.activation.since > half_open:
                self._forget(link)
        if ends and now - self._looked_at > min(EXPIRY_SECONDS, self._unused):
            self._looked_at = now
            for device in await self._store.expire_cm(self._clock.now() - self._unused, self._clock.now()):
                _log.info("CM Device %s was never used, and has expired", device, extra=by(device))

    # fresh keys

    async def rekey(self, source: Session, request: cm.CmRekeyRequest) -> cm.CmRekeyResponse:
        """Agree on the next key with the PNE that *source* proved. Raises `Refused`."""
        return await self._devices.rekey(source, request)

    async def rotate(self, ids: Sequence[EntityId], actor: Actor) -> list[CmDevice]:
        """Have CM Devices take fresh keys: at once where their PNE can be reached, else when it is heard.

        Raises:
            NotFound: ``unknown_cm_device``.
        """
        devices = await self._store.rotate_cm(ids, self._clock.now(), actor)
        due = topics.RotationsDue(tuple(topics.RotationDue(one.pne_id, one.cm_device_id) for one in devices))
        await self._is_due(due)
        self._siblings.tell(topics.CM_ROTATES, due)
        return devices

    async def _is_due(self, said: topics.RotationsDue) -> None:
        """CM Devices are to take fresh keys, as an operator said to this process or another."""
        for one in said.due:
            self._due.setdefault(one.pne, set()).add(one.device)
            self.heard(one.pne)

    async def _is_done(self, device: topics.About) -> None:
        for due in self._due.values():
            due.discard(device.entity)

    def heard(self, pne: EntityId) -> None:
        """*pne* can be reached: tell it of a rotation that is due."""
        for device in self._due.get(pne, ()):
            self._work.start(self._tell(pne, device))

    async def _tell(self, pne: EntityId, device: EntityId) -> None:
        way = self._pnes.here(pne)
        if way is None:
            return
        link, session = way
        try:
            await link.tell(cm.CmRotateNotify(device), timeout=NOTIFY_TIMEOUT, session=session)
        except Refused as error:
            _log.info("PNE %s could not be told to take a fresh key: %s", pne, error, extra=by(pne))


def _as_mediator(
    step: Callable[[GatewayPeer, M], Awaitable[codec.Message]],
) -> Callable[[FromGateway, M], Awaitable[codec.Message]]:
    """Return the handler that takes *step* for a PN GW, unless that is a CM Device.

    Those are not mediators (S2: an external PN GW is). They are refused: NOT_ALLOWED.
    """

    async def handle(asker: FromGateway, request: M) -> codec.Message:
        if asker.peer.session.profile is not Profile.GW_SERVER:
            raise Refused(Result.NOT_ALLOWED, "a_cm_device_mediates_none")
        return await step(asker.peer, request)

    return handle
