"""What a feature of the server is, and what it is given.

A feature is a folder: its actions (each a rule and one transaction), its queries, its delivery (who tells of what has
happened), and its rows in the tables of messages. It knows the peers and the floors below. It knows no other feature:
what happens is said to all of them.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from cpns.domain.event import Event
from cpns.domain.group import ChangedGroup
from cpns.domain.inventory import Entity, Kind, Outcome
from cpns.domain.network import Admitted, Network
from cpns.domain.presence import Fact
from cpns.errors import NotFound
from cpns.ids import EntityId
from cpns.ports import Clock, Randomness, Store, Vault
from cpns.server.config import ServerConfig
from cpns.server.peers.clones import Clones, Replaced
from cpns.server.peers.expected import Expected
from cpns.server.peers.gateways import FromGateway, Gateways
from cpns.server.peers.pnes import Pnes
from cpns.server.peers.presence import Presences
from cpns.server.peers.reach import Reach
from cpns.server.peers.sending import Sending
from cpns.service.cluster import collecting_warnings
from cpns.service.hosts import KnownHosts
from cpns.service.processes import Processes
from cpns.service.provisioning import Provisioning, find_entity
from cpns.service.refusals import Refusals
from cpns.session.table import Session, Sessions
from cpns.transport.dispatch import Row
from cpns.transport.endpoint import Inbound, Link
from cpns.transport.errors import Answer
from cpns.wire.registry import Change, Source

if TYPE_CHECKING:
    from fastapi import APIRouter

F = TypeVar("F", bound="Feature")

AUDIT_TAIL: Final = 10
"""Rows of the audit log that come with one entity."""
NOUNS: Final = {Kind.PNE: "device", Kind.GATEWAY: "gateway"}
"""What an operator calls each kind."""
Take = Callable[[Session, bytes], Awaitable[Answer]]
"""Takes what a PNE sends to a resource of its own."""


@dataclass(frozen=True, slots=True)
class Here:
    """One server process, as its features see it.

    Attributes:
        cluster: the other processes of the server.
        sessions: those of this process.
        name: is told who a link leads to, by its own word.
        is_barred: tells whether no session of an entity begins any more.
        end: ends the sessions of an entity that was revoked, and tells the PN GWs of PNs that it has left.
        features: all of them, which are told what happens.
        look_every: seconds after which who follows looks into the store, as other processes commit too; None: never.
    """

    config: ServerConfig
    store: Store
    vault: Vault
    clock: Clock
    random: Randomness
    cluster: Processes
    sessions: Sessions
    gateways: Gateways
    pnes: Pnes
    presences: Presences
    reach: Reach
    sending: Sending
    expected: Expected
    refusals: Refusals
    hosts: KnownHosts
    clones: Clones
    replaced: Replaced
    name: Callable[[Link, EntityId], None]
    is_barred: Callable[[EntityId], bool]
    end: Callable[[EntityId, Sequence[Network]], Awaitable[int]]
    features: "Features"
    look_every: float | None


class Feature:
    """A feature of one server process: what each is asked, and told, at the least."""

    def __init__(self, here: Here) -> None:
        self.here = here

    # what it takes

    def of_uplink(self) -> Iterable[Row[Inbound]]:
        """Return what it takes of whoever has no session."""
        return ()

    def of_gateway(self) -> Iterable[Row[FromGateway]]:
        """Return what it takes of a PN GW."""
        return ()

    def of_pne(self) -> Iterable[Row[Session]]:
        """Return what it takes of a PNE."""
        return ()

    def resources(self) -> Mapping[str, Take]:
        """Return what else it takes of a PNE, by path."""
        return {}

    @staticmethod
    def add_routes(router: "APIRouter", desk: "Desk") -> None:
        """Add to the admin API what an operator may do, whether a server runs or not."""

    # its life

    async def load(self) -> None:
        """Take up what is in the store; before anybody gets in."""

    async def sweep(self, *, ends: bool) -> None:
        """Do what is due, every few seconds; *ends*: the clock is to be believed, so what is over by it ends."""

    async def retry(self) -> None:
        """Try again what could not be delivered, every few seconds."""

    async def close(self) -> None:
        """Do nothing more."""

    # what it is told: at once, or (`happened`) from the store

    def gateway_came(self, gateway: EntityId) -> None:
        """A PN GW has proven itself, and is connected here."""

    def gateway_gone(self, gateway: EntityId) -> None:
        """Its connection is gone."""

    def admitted(self, found: Admitted, replaced: Mapping[EntityId, Session]) -> None:
        """A SETUP is committed; *replaced* are the sessions that PNEs of it had until now."""

    def heard(self, pne: EntityId) -> None:
        """A PNE can be reached."""

    def follows(self) -> bool:
        """Whether it is told what `happened`."""
        return False

    def happened(self, event: Event) -> None:
        """Something happened, at whichever process; each event comes in its order, at least once."""

    def says_it_is_there(self, pne: EntityId) -> None:
        """A PNE said so itself, end to end."""

    async def left(self, networks: Sequence[Network], pne: EntityId, via: EntityId | None, change: Change) -> None:
        """A PNE, whose session was through *via*, is out of these PNs; return when their PN GWs know."""

    async def left_groups(self, changes: Sequence[ChangedGroup]) -> None:
        """A PNE that was revoked is out of these service groups; return when their PN GWs know."""


class Delivery(Protocol):
    """What is kept for PNEs that are away, and given to each when it is heard."""

    @property
    def waiting(self) -> Collection[EntityId]:
        """For whom something waits."""
        ...

    async def load(self) -> None:
        """Take up what is in the store."""
        ...

    def heard(self, pne: EntityId) -> None:
        """A PNE can be reached."""
        ...

    async def close(self) -> None:
        """Give nothing more."""
        ...


class Delivering(Feature):
    """A feature that keeps things for PNEs; see `Feature` for all of its methods."""

    delivery: Delivery

    async def load(self) -> None:
        """Take up what is in the store."""
        await self.delivery.load()

    async def retry(self) -> None:
        """Give what waits to those that can be reached."""
        if self.here.cluster.others:  # what another process kept may be for a PNE that is behind us
            await self.delivery.load()
        for pne in self.delivery.waiting:
            if self.here.reach.is_there(pne):
                self.delivery.heard(pne)

    def heard(self, pne: EntityId) -> None:
        """A PNE can be reached."""
        self.delivery.heard(pne)

    async def close(self) -> None:
        """Give nothing more."""
        await self.delivery.close()


@dataclass(slots=True)
class Features:
    """Those of one server process, in the order in which they are asked."""

    all: tuple[Feature, ...] = field(default=())

    def of(self, kind: type[F]) -> F:
        """Return the one of a kind."""
        return next(one for one in self.all if isinstance(one, kind))

    def admitted(self, found: Admitted, replaced: Mapping[EntityId, Session]) -> None:
        """See `Feature.admitted`; so all of these."""
        for one in self.all:
            one.admitted(found, replaced)

    def gateway_came(self, gateway: EntityId) -> None:
        """See `Feature`."""
        for one in self.all:
            one.gateway_came(gateway)

    def heard(self, pne: EntityId) -> None:
        """See `Feature`."""
        for one in self.all:
            one.heard(pne)

    def happened(self, event: Event) -> None:
        """See `Feature`."""
        for one in self.all:
            if one.follows():
                one.happened(event)

    def says_it_is_there(self, pne: EntityId) -> None:
        """See `Feature`."""
        for one in self.all:
            one.says_it_is_there(pne)

    def gateway_gone(self, gateway: EntityId) -> None:
        """See `Feature`."""
        for one in self.all:
            one.gateway_gone(gateway)

    async def left(self, networks: Sequence[Network], pne: EntityId, via: EntityId | None, change: Change) -> None:
        """See `Feature`."""
        for one in self.all:
            await one.left(networks, pne, via, change)

    async def left_groups(self, changes: Sequence[ChangedGroup]) -> None:
        """See `Feature`."""
        for one in self.all:
            await one.left_groups(changes)


class Desk:
    """What the parts of the admin API share.

    Args:
        store: of the server, opened.
        provisioning: on that store; ends the sessions of a running server.
        here: the running server; None where none runs.
    """

    def __init__(self, store: Store, provisioning: Provisioning, clock: Clock, here: Here | None) -> None:
        self.store = store
        self.provisioning = provisioning
        self.clock = clock
        self.here = here

    def running(self, kind: type[F]) -> F | None:
        """Return a feature of the running server; None where none runs."""
        return None if self.here is None else self.here.features.of(kind)

    async def entity(self, kind: Kind, name: str) -> Entity:
        """Return one entity, whatever the spelling where its ID is a MAC address.

        Raises:
            NotFound: ``unknown_entity``: there is none, or it is of the other kind.
            Conflict: ``ambiguous_id``.
        """
        entity = await find_entity(self.store, name)
        if entity is None or entity.kind is not kind:
            noun = NOUNS[kind]
            raise NotFound("unknown_entity", f"There is no {noun} {name[:80]}: see `cpns {noun} list`.")
        return entity

    async def audit(self, entity: EntityId) -> Sequence[Outcome]:
        """Return the newest rows of the audit log for one entity, newest first."""
        return await self.store.audit(entity, AUDIT_TAIL)

    async def connected(self, entities: Sequence[EntityId]) -> Callable[[EntityId], bool | None]:
        """Return what tells whether one of *entities* has a session with the server; None where nobody knows."""
        if self.here is None:
            return lambda _: None
        with collecting_warnings() as unasked:
            found = await self.here.pnes.connected(entities)
        return lambda entity: True if entity in found else None if unasked else False

    async def presences(self, pnes: Sequence[EntityId]) -> Callable[[EntityId], Fact | None]:
        """Return what tells how one of *pnes* can be reached, since when, from whom; None where nobody knows."""
        if self.here is None:
            return lambda _: None
        with collecting_warnings() as unasked:
            found = await self.here.reach.facts(pnes)
        known = {pne: fact for pne, fact in found.items() if not unasked or fact.source is not Source.SERVER}
        return known.get
