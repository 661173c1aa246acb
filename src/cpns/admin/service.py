"""What an operator can do with one server, whether it runs or not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

from cpns.admin.audit import AuditAdmin
from cpns.admin.event_cursors import CursorAdmin
from cpns.domain.actor import Actor
from cpns.domain.credential import DeviceCredential
from cpns.domain.event import Numbered
from cpns.domain.explanation import Facts, Finding, explain, explain_stranger
from cpns.domain.given import text_to_say
from cpns.domain.inventory import Entity, KeptPush, Kind, Outcome, State, StoredReading
from cpns.domain.network import Waiting
from cpns.domain.presence import Fact
from cpns.domain.process import Seen, seen
from cpns.errors import Conflict, NoAnswer, NotFound, Refused, Result, StoreFails, Unavailable
from cpns.ids import EntityId
from cpns.ports import Clock, Store
from cpns.server.feature import Desk
from cpns.server.features import Changing, Groups, Networks
from cpns.service.cluster import collecting_warnings
from cpns.service.provisioning import ImportReport, Provisioning
from cpns.wire import application
from cpns.wire.registry import Presence

if TYPE_CHECKING:
    from cpns.server.app import Server

T = TypeVar("T")

ASK_SECONDS: Final = 3.0
"""What a device has to answer that is asked whether it is there."""


@dataclass(frozen=True, slots=True)
class Status:
    """A server at a glance.

    Attributes:
        running: whether it runs here.
        listening: host and port.
        store: what it is called; `trouble` is what fails in it.
        bus: where the processes reach each other, and whether that is there; None: there is none.
        counts: of gateways and devices, and the number of the newest reading; None where the store is away.
    """

    server_id: EntityId
    running: bool
    listening: tuple[str, int] | None
    store: str
    trouble: str
    bus: tuple[str, bool] | None
    counts: tuple[int, int, int] | None
    processes: list[Seen]

    @property
    def sessions(self) -> int | None:
        """Those of all processes that could be asked; None where none could."""
        known = [one.work.sessions for one in self.processes if one.work is not None]
        return sum(known) if known else None


class Admin(Desk):
    """The operator's actions on one server.

    Args:
        server_id: the server.
        store: its store, opened.
        provisioning: on that store; ends the sessions of a running server.
        server: the running server, or None.
        clock: measures a ping.
    """

    def __init__(
        self, server_id: EntityId, store: Store, provisioning: Provisioning, server: "Server | None", clock: Clock
    ) -> None:
        super().__init__(store, provisioning, clock, None if server is None else server.here)
        self.server_id = server_id
        self._server = server
        self.networks, self.groups, self.cm = Networks.admin(self), Groups.admin(self), Changing.admin(self)
        self.audit_log = AuditAdmin(server_id, store, clock)
        self.cursors = CursorAdmin(store, clock)
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End what follows the readings."""
        self._closing.set()

    async def status(self) -> Status:
        """Return the server at a glance."""
        counts = None
        with contextlib.suppress(StoreFails):  # what is up is told all the same
            kinds, last = await self.store.count(), await self.store.last_reading_number()
            counts = (kinds[Kind.GATEWAY], kinds[Kind.PNE], last)
        server, store = self._server, (self.store.name, self.store.trouble)
        if server is not None:
            processes = await server.overview.processes()
            return Status(self.server_id, True, server.listening, *store, server.overview.bus(), counts, processes)
        now, rows = await self.store.processes()
        return Status(self.server_id, False, None, *store, None, counts, [seen(one, now) for one in rows])

    # entities

    async def entities(self, kind: Kind) -> list[Entity]:
        """Return all of one kind, by ID."""
        return await self.store.entities(kind)

    async def add(
        self,
        actor: Actor,
        kind: Kind,
        name: str,
        gateway: str | None,
        note: str,
        *,
        key: str | None = None,
        allow_unknown_gateway: bool = False,
        may_own: bool = False,
        dry_run: bool = False,
    ) -> DeviceCredential:
        """Provision one entity; see `Provisioning.add`."""
        how = {"allow_unknown_gateway": allow_unknown_gateway, "may_own": may_own, "dry_run": dry_run}
        return await self.provisioning.add(actor, kind, name, gateway, note, key=key, **how)

    async def import_csv(
        self, actor: Actor, text: str, *, dry_run: bool, new_only: bool, allow_unknown_gateway: bool
    ) -> ImportReport:
        """Provision a device for each row of a CSV, all or none; see `Provisioning.import_csv`."""
        return await self.provisioning.import_csv(
            actor, text, dry_run=dry_run, new_only=new_only, allow_unknown_gateway=allow_unknown_gateway
        )

    async def update(
        self,
        actor: Actor,
        entity: EntityId,
        gateway: str | None,
        note: str | None,
        *,
        allow_unknown_gateway: bool = False,
    ) -> int:
        """Change gateway or note of an entity; see `Provisioning.update`."""
        how = {"allow_unknown_gateway": allow_unknown_gateway}
        return await self.provisioning.update(actor, entity, gateway, note, **how)

    async def revoke(self, actor: Actor, kind: Kind, name: str) -> int:
        """Revoke an entity, at once; return how many sessions ended.

        Raises:
            NotFound: ``unknown_entity``.
        """
        entity = await self.entity(kind, name)
        return await self.provisioning.revoke(actor, entity.entity_id)

    async def explain(self, name: str) -> list[Finding]:
        """Return why a device is where it is, hop by hop.

        Raises:
            NotFound: ``unknown_entity``.
        """
        with collecting_warnings() as unasked:
            facts = await self._facts(name)
        if isinstance(facts, Waiting):
            return explain_stranger(facts, self.clock.now())
        return explain(replace(facts, unasked=tuple(unasked)))

    async def _facts(self, name: str) -> Facts | Waiting:
        """Return what is known of a device; of one that nobody provisioned, that it waits."""
        waiting = [one for one in await self.store.waiting() if one.pne_id == name]
        stranger = next((one for one in waiting if not one.known), None)
        if stranger is not None:
            return stranger
        device = await self.entity(Kind.PNE, name)
        gateway = None if device.last_via is None else await self.store.entity(device.last_via)
        pne = device.entity_id
        session = None if self._server is None else await self._server.overview.session(pne)
        is_connected = await self.connected([] if gateway is None else [gateway.entity_id])
        network = await self.store.membership(pne)
        inventory = None if network is None else await self.store.inventory(network[0])
        presence = (await self.presences([pne]))(pne)
        return Facts(
            now=self.clock.now(),
            running=self._server is not None,
            device=device,
            gateway=gateway,
            gateway_connected=gateway is not None and is_connected(gateway.entity_id) is True,
            session_age=None if session is None else session[0],
            confirmed=session is not None and session[1],
            last_reading=await self.store.last_reading(device.entity_id),
            network=network,
            owner=None if inventory is None else inventory.network.owner,
            stands_in=None if inventory is None else inventory.first,
            waiting=tuple(waiting),
            presence=presence,
            answers=await self._answers(pne, presence),
            texts=len(await self.store.pushes_for(device.entity_id, self.clock.now())),
            excess=None if self._server is None else await self._server.overview.excess(pne),
            excess_of_gateway=None
            if self._server is None or gateway is None
            else await self._server.overview.excess(gateway.entity_id),
            clones=None if self._server is None else self._server.clones.of(pne),
            clones_of_gateway=None
            if self._server is None or gateway is None
            else self._server.clones.of(gateway.entity_id),
            gateway_store_fails=self._server is not None
            and gateway is not None
            and await self._server.gateways.store_fails(gateway.entity_id),
            store=self.store.trouble,
            gateway_silent=None
            if self._server is None or gateway is None
            else await self._server.gateways.silent(gateway.entity_id),
        )

    async def _answers(self, pne: EntityId, presence: Fact | None) -> bool | None:
        """Return whether a device answers now; None where it is not asked, as it sleeps or is away by all we know."""
        if self._server is None or presence is None or presence.presence in (Presence.ASLEEP, Presence.AWAY):
            return None
        try:
            await self._server.pnes.request(pne, application.PING_PATH, b"", ASK_SECONDS)
        except NoAnswer as error:
            return None if error.reason == "other_processes_away" else False
        return True

    # what needs the running server

    async def _running(self) -> "Server":
        if self._server is not None:
            return self._server
        now, known = await self.store.processes()
        others = [f"{one} (reached at {one.listening})" for one in known if one.is_there(now)]
        if others:
            there = " and ".join(others)
            told = f"No process runs on this folder; {there} said lately that it is there: give --data of that one."
        else:
            told = f"The server {self.server_id} does not run: start it with `cpns server run`."
        raise Unavailable("server_not_running", told)

    async def send(self, actor: Actor, name: str, text: str, keep: float) -> str | KeptPush:
        """Send a text to a device, end to end; return what it answers. The audit log says who did, not what.

        Args:
            actor: who does so.
            name: the device.
            text: up to 1024 characters.
            keep: seconds for which it is kept, where the device can't be reached now; then that is returned.

        Raises:
            BadInput: ``bad_text``.
            NotFound: ``unknown_entity``.
            Conflict: ``refused_by_device``, ``too_many_pushes``.
            Unavailable: ``server_not_running``, ``not_established``, ``gateway_away``, ``uplink_silent`` or
                ``asleep``.
        """
        text_to_say(text)
        server = await self._running()
        device = (await self.entity(Kind.PNE, name)).entity_id
        push = server.pushes.actions.new(text)
        payload = application.encode_push(push)
        fact = (await server.reach.facts([device]))[device]
        if keep > 0 and (server.pushes.delivery.waits_for(device) or fact.presence is Presence.ASLEEP):
            return await server.pushes.actions.keep(actor, device, push, keep)
        try:
            answer = await self._exchange(device, application.INBOX_PATH, payload)
        except Unavailable:
            if keep <= 0 or (await self.entity(Kind.PNE, name)).state is State.REVOKED:
                raise
            return await server.pushes.actions.keep(actor, device, push, keep)
        server.refusals.done(Outcome(self.clock.now(), "text_sent", device, actor, Result.SUCCESS))
        return answer

    async def ping(self, name: str) -> float:
        """Return the seconds that a device took to answer, end to end. Raises as `send`."""
        begun = self.clock.monotonic()
        await self._exchange((await self.entity(Kind.PNE, name)).entity_id, application.PING_PATH, b"")
        return self.clock.monotonic() - begun

    async def _exchange(self, device: EntityId, path: str, payload: bytes) -> str:
        try:
            return await (await self._running()).sending.send(device, path, payload)
        except Refused as error:
            raise Conflict("refused_by_device", f"{device} answered, and does not take it.") from error

    # readings

    async def readings(self, after: int, limit: int, device: str | None) -> list[StoredReading]:
        """Return up to *limit* stored readings with a number over *after*, oldest first.

        Raises:
            NotFound: ``unknown_entity``: there is no such device.
        """
        return await self.store.readings(after, limit, await self._device(device))

    async def follow(self, after: int | None, limit: int | None, device: str | None) -> AsyncIterator[StoredReading]:
        """Return the readings over *after* (None: those to come), and then each as it is committed.

        Args:
            after: a reading's number.
            limit: ends the iterator after so many; None: it ends with the server.
            device: of this one alone.

        Raises:
            NotFound: ``unknown_entity``; ``no_such_reading``: none has that number yet.
            Unavailable: ``server_not_running``.
        """
        server = await self._running()
        pne_id = await self._device(device)
        newest = await self.store.last_reading_number()
        start = newest if after is None else after
        if start > newest:
            raise NotFound("no_such_reading", f"The newest reading is {newest}: is this the store that you mean?")
        return self._until_closing(server.readings.follow(start, pne_id), limit)

    async def events(self, after: int, limit: int) -> list[Numbered]:
        """Return up to *limit* events with a number over *after*, oldest first.

        Raises:
            Gone: ``events_gone``: some of these were dropped.
        """
        return await self.store.events(after, limit)

    async def follow_events(self, after: int | None, limit: int | None) -> AsyncIterator[Numbered]:
        """Return the events over *after* (None: those to come), and then each as it is committed; see `follow`.

        Raises:
            Gone: ``events_gone``; also while iterating.
            NotFound: ``no_such_event``: none has that number yet.
            Unavailable: ``server_not_running``.
        """
        server = await self._running()
        newest = await self.store.last_event()
        start = newest if after is None else after
        if start > newest:
            raise NotFound("no_such_event", f"The newest event is {newest}: is this the store that you mean?")
        await self.store.events(start, 1)
        return self._until_closing(server.events.follow(start), limit)

    async def _until_closing(self, found: AsyncIterator[T], limit: int | None) -> AsyncIterator[T]:
        closing = asyncio.ensure_future(self._closing.wait())
        told = 0
        try:
            while limit is None or told < limit:
                following = asyncio.ensure_future(anext(found))
                try:
                    await asyncio.wait({following, closing}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not following.done():
                        following.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            await following
                if following.cancelled():
                    return
                yield following.result()
                told += 1
        finally:
            closing.cancel()

    async def _device(self, name: str | None) -> EntityId | None:
        return None if name is None else (await self.entity(Kind.PNE, name)).entity_id
