"""The PNEs behind this PN GW: how each is reached, and the LocalEUKey that it shares with us."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeVar

from cpns.crypto.secret import Secret
from cpns.domain.inventory import Ends, HeldMember
from cpns.errors import AuthenticationFailed, NoAnswer, Refused, Result, StoreFails, Unavailable
from cpns.ids import EntityId, PnId
from cpns.ports import Vault
from cpns.ports.gateway import GatewayStore
from cpns.session.table import Session, Sessions
from cpns.shares.noted import by
from cpns.transport.endpoint import Link
from cpns.transport.errors import Answer, read
from cpns.transport.relay import Carrier, Sealed
from cpns.wire import codec
from cpns.wire.registry import CPNS_PATH, MAX_PAN_BODY, Presence

_log = logging.getLogger("cpns.gateway")

LOCAL_EUKEY_PURPOSE = "local eukey"
BEFORE_SECONDS: Final = 60.0
"""How long it is remembered where a member was before its SETUP."""
BEFORE_TIMEOUT: Final = 2.0
"""Seconds that there is waited for an answer from there."""
PLACES_TRIED: Final = 3
"""Where one message that waits for an answer goes at the most, when its member moves meanwhile."""

T = TypeVar("T")

Way = tuple[Link, Session | None]
"""How a PNE is reached: its link, and its hop session; None on a Secure PAN, or before there is one."""


@dataclass(frozen=True, slots=True, eq=False)
class Pan:
    """One PAN, as far as it protects what is said to its members.

    Attributes:
        secure: whether it is a Secure PAN (DEF-9); then there is no hop session on it (SES-5).
        hops: its hop sessions.
    """

    secure: bool
    hops: Sessions

    def way(self, pne_id: EntityId, link: Link) -> Way | None:
        """Return how to reach a member at *link*: plainly on a Secure PAN; else in its hop session, or not at all."""
        if self.secure:
            return link, None
        hop = self.hops.with_peer(pne_id)
        return None if hop is None else (link, hop)


@dataclass(frozen=True, slots=True)
class Member:
    """One PNE that the server has authenticated through us.

    Attributes:
        th0: of the run that assigned the LocalEUKey; `pne-gw` binds to it.
        local_eukey: None on a Secure PAN where the PNE did not ask for one.
        link: where it was last heard under proof; None after our restart or its silence, until it is heard again.
        pan: that it is on; None after our restart, until it is heard again.
        heard_at: monotonic seconds of that.
        proved_at: where it proved itself last; it may be silent since.
        set_up_at: monotonic seconds of its SETUP.
        before: where it was until that, if elsewhere: another device with its key may be there still.
        kept: where it was before our restart, until it is heard, or asked there in vain.
        kid: names its session with the server in what it sends through us; empty after our restart.
    """

    pne_id: EntityId
    pn_id: PnId
    th0: bytes
    local_eukey: Secret | None = field(repr=False)
    link: Link | None
    pan: Pan | None
    heard_at: float = field(default=0.0, compare=False)
    proved_at: Link | None = field(default=None, compare=False)
    set_up_at: float = field(default=0.0, compare=False)
    before: Link | None = field(default=None, compare=False)
    kept: Link | None = field(default=None, compare=False)
    kid: bytes = field(default=b"", compare=False)

    @property
    def hop_key(self) -> Secret | None:
        """What its hop session is made from; None on a Secure PAN, which has none, whatever the PNE asked for."""
        return None if self.pan is not None and self.pan.secure else self.local_eukey


@dataclass(frozen=True, slots=True)
class _Either:
    """The way to a member that was at another address a moment ago: what it does not open is tried there too."""

    link: Link
    before: Link

    async def carry(self, destination: str, sealed: Sealed) -> Sealed:
        """See `Carrier`."""
        answer = await self.link.carry(destination, sealed)
        if answer.oscore is None:
            with contextlib.suppress(NoAnswer, TimeoutError):
                async with asyncio.timeout(BEFORE_TIMEOUT):
                    other = await self.before.carry(destination, sealed)
                    return answer if other.oscore is None else other
        return answer


@dataclass(frozen=True, slots=True)
class _ToMember:
    """The way to a member, wherever it is."""

    members: "Members"
    pne_id: EntityId

    async def carry(self, destination: str, sealed: Sealed) -> Sealed:
        """See `Carrier`."""
        return await self.members.carry(self.pne_id, destination, sealed)


class Members:
    """The members, in memory and (LocalEUKeys sealed, and where they are) over a restart.

    Args:
        store: None keeps nothing over a restart; then every PNE sets up again.
    """

    def __init__(self, store: GatewayStore | None, vault: Vault) -> None:
        self._store = store
        self._vault = vault
        self._unwritten: set[EntityId] = set()
        self._unwritten_pns: set[PnId] = set()
        self._members: dict[EntityId, Member] = {}
        self._kids: dict[bytes, EntityId] = {}
        self._links: dict[Link, EntityId] = {}
        self._moves: dict[EntityId, asyncio.Future[None]] = {}
        self.pns: list[PnId] = []
        """The PNs that we serve, in the server's order."""
        self.turned: dict[EntityId, Presence] = {}
        """Who fell silent or is heard again, and the server was not told yet."""
        self.astray: set[EntityId] = set()
        """Members that the server has no session with, until they have set up again."""

    async def load(self) -> list[HeldMember]:
        """Take up what was kept, and return it; where each was before our restart, `was_at` is to say."""
        if self._store is None:
            return []
        self.pns = list(await self._store.served())
        here = []
        for held in await self._store.members():
            key = None
            try:
                if held.sealed_key is not None:
                    key = self._vault.open(LOCAL_EUKEY_PURPOSE, held.pne_id, held.sealed_key)
            except AuthenticationFailed:
                self._unwritten.add(held.pne_id)  # sealed under another EUKey: it was replaced since
                continue
            self._put(Member(held.pne_id, held.pn_id, held.th0, key, None, None))
            here.append(held)
        await self.settle()
        return here

    def was_at(self, pne_id: EntityId, link: Link, now: float) -> None:
        """A member was at *link* before our restart: what is sealed for it goes there, and it is asked there."""
        member = self._members.get(pne_id)
        if member is not None and member.proved_at is None:
            self._put(replace(member, kept=link, proved_at=link, heard_at=now))

    async def settle(self) -> None:
        """Write who has moved, and what the store could not take: a full disk keeps nobody out, and nothing held in."""
        if self._store is None or self._store.trouble or not (self._unwritten or self._unwritten_pns):
            return
        pnes, self._unwritten = self._unwritten, set()
        pns, self._unwritten_pns = self._unwritten_pns, set()
        await self._write(pnes, pns)

    async def _write(self, pnes: Iterable[EntityId] = (), pns: Iterable[PnId] = ()) -> None:
        """Have the store keep how these stand here."""
        if self._store is None:
            return
        changed, changed_pns = set(pnes), set(pns)
        held = [self._members[pne] for pne in changed if pne in self._members]
        try:
            if held:
                await self._store.keep(list(self._held(held)))
            if gone := sorted(changed.difference(member.pne_id for member in held)):
                await self._store.forget(gone)
            for pn_id in changed_pns:
                await (self._store.serve(pn_id) if pn_id in self.pns else self._store.release(pn_id))
        except Unavailable as error:
            if not isinstance(error, StoreFails):  # which says so itself
                _log.warning("members are not written down yet: %s", error, extra=by("store"))
            self._unwritten |= changed
            self._unwritten_pns |= changed_pns

    def get(self, pne_id: EntityId) -> Member | None:
        """Return the member, or None."""
        return self._members.get(pne_id)

    def binding(self, pne_id: EntityId) -> bytes | None:
        """Return th0 of the run that made *pne_id* a member, or None."""
        member = self._members.get(pne_id)
        return None if member is None else member.th0

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._members.values()))

    def of_kid(self, kid: bytes) -> Member | None:
        """Return the member whose session with the server *kid* names, or None."""
        pne_id = self._kids.get(kid)
        return None if pne_id is None else self._members.get(pne_id)

    def is_at(self, link: Link) -> bool:
        """Whether a member was heard at *link* under proof, and is there still."""
        return link in self._links

    def of(self, pn_id: PnId) -> list[Member]:
        """Return the members of one PN."""
        return [member for member in self._members.values() if member.pn_id == pn_id]

    async def serve(self, pn_id: PnId) -> None:
        """We serve *pn_id*."""
        if pn_id in self.pns:
            return
        self.pns.append(pn_id)
        await self._write(pns=[pn_id])

    async def release(self, pn_id: PnId) -> None:
        """We serve *pn_id* no longer."""
        if pn_id in self.pns:
            self.pns.remove(pn_id)
            await self._write(pns=[pn_id])

    def route(self, destination: str) -> Carrier | None:
        """Return the way to a member, or None: the relay's route."""
        pne_id = EntityId(destination)
        return None if self._carrier(pne_id) is None else _ToMember(self, pne_id)

    def _carrier(self, pne_id: EntityId) -> Carrier | None:
        """Return the way to where a member is now: what is sealed goes there before it has proved that, too."""
        member = self._members.get(pne_id)
        if member is None or member.link is None or member.before is None:
            return None if member is None else member.link or member.kept
        return _Either(member.link, member.before)

    def way_to(self, pne_id: EntityId) -> Way | None:
        """Return how to reach a member: as its PAN has it. None: it is none, or out of reach."""
        member = self._members.get(pne_id)
        if member is None or member.link is None or member.pan is None:
            return None
        return member.pan.way(pne_id, member.link)

    async def exchange(self, pne_id: EntityId, message: codec.Message, seconds: float) -> Answer:
        """Give a member a message, as its PAN has it; return its answer. It goes to where it moves meanwhile, too.

        Raises:
            NoAnswer: none came, or it is out of reach.
        """

        def sent() -> Coroutine[Any, Any, Answer] | None:
            way = self.way_to(pne_id)
            if way is None:
                return None
            link, hop = way
            return link.exchange(CPNS_PATH, codec.encode(message), timeout=seconds, session=hop)

        return await self._wherever_it_is(pne_id, sent)

    async def carry(self, pne_id: EntityId, destination: str, sealed: Sealed) -> Sealed:
        """Carry what is sealed for *destination* to where a member is, and to where it moves before it answers.

        Raises:
            NoAnswer: none came, or it is out of reach.
        """

        def sent() -> Coroutine[Any, Any, Sealed] | None:
            carrier = self._carrier(pne_id)
            return None if carrier is None else carrier.carry(destination, sealed)

        return await self._wherever_it_is(pne_id, sent)

    async def _wherever_it_is(self, pne_id: EntityId, sent: Callable[[], Coroutine[Any, Any, T] | None]) -> T:
        """Return what comes of *sent*, which sends to where a member is now; None of it: it is out of reach."""
        for left in reversed(range(PLACES_TRIED)):
            asking = sent()
            if asking is None:
                break
            answer = await self._unless_it_moves(pne_id, asking, moves=left > 0)
            if answer is not None:
                return answer
        raise NoAnswer("out_of_reach")

    async def _unless_it_moves(self, pne_id: EntityId, asking: Coroutine[Any, Any, T], *, moves: bool) -> T | None:
        """Return what *asking* returns; None where the member is heard elsewhere, or gone, before that."""
        asked = asyncio.ensure_future(asking)
        either: list[asyncio.Future[Any]] = [asked]
        if moves:
            if pne_id not in self._moves:
                self._moves[pne_id] = asyncio.get_running_loop().create_future()
            either.append(self._moves[pne_id])
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            return asked.result() if asked.done() else None
        finally:
            asked.cancel()

    def hopped(self, pne_id: EntityId, pan: Pan, link: Link, now: float) -> None:
        """A new hop session of *pne_id* stands on *pan*; one on another PAN is over."""
        member = self._members.get(pne_id)
        if member is None:
            return
        if member.pan is not pan:
            _end_hop(member)
        self.heard(pne_id, pan, link, now)

    def heard(self, pne_id: EntityId, pan: Pan | None, link: Link | None, now: float) -> None:
        """A proven message of *pne_id* came from *link* on *pan*.

        Where *link* is None it is silent, and out of reach until it is heard.
        """
        member = self._members.get(pne_id)
        if member is None:
            return
        if link is None and (member.link or member.kept) is not None:
            self.turned[pne_id] = Presence.ASLEEP
        elif link is not None and member.link is None:
            self.turned[pne_id] = Presence.IDLE
        if link is not None and link != member.proved_at:
            self._unwritten.add(pne_id)
        before = member.before if now - member.set_up_at < BEFORE_SECONDS else None
        proved_at = link or member.proved_at
        self._put(replace(member, pan=pan, link=link, heard_at=now, proved_at=proved_at, before=before, kept=None))

    def proved_from(self, pne_id: EntityId, link: Link) -> bool:
        """Whether *pne_id* is a member that proved itself from the host of *link*."""
        member = self._members.get(pne_id)
        if member is None or member.proved_at is None:
            return False
        return member.proved_at.party(None).host == link.party(None).host

    def silent(self, since: float) -> list[Member]:
        """Return the members in reach that were last heard before *since*, or before our restart."""
        here = (member for member in self._members.values() if (member.link or member.kept) is not None)
        return [member for member in here if member.heard_at < since]

    async def admit(self, members: Sequence[Member]) -> None:
        """Take in PNEs that the server has just authenticated, each in place of an older membership."""
        for member in members:
            older = self._members.get(member.pne_id)
            if older is not None:
                _end_hop(older)
            before = None if older is None or older.link == member.link else older.link
            self._put(replace(member, proved_at=member.link, set_up_at=member.heard_at, before=before))
        self.astray.difference_update(member.pne_id for member in members)
        await self._write(member.pne_id for member in members)
        for pn_id in {member.pn_id for member in members}:
            await self.serve(pn_id)

    async def expel(self, pne_ids: Sequence[EntityId]) -> None:
        """Forget PNEs and their LocalEUKeys: the server no longer counts them as members."""
        self.astray.difference_update(pne_ids)
        gone = [pne for pne in pne_ids if self._out(pne)]
        await self._write(gone)

    def _put(self, member: Member) -> None:
        """Have *member* in place of what we knew of it."""
        older = self._members.get(member.pne_id)
        if older is not None:
            self._out_of_indexes(older)
        self._members[member.pne_id] = member
        if member.kid:
            self._kids[member.kid] = member.pne_id
        if member.link is not None:
            self._links[member.link] = member.pne_id
        if older is not None and member.link is not None and member.link != (older.link or older.kept):
            self._end_wait(member.pne_id)

    def _out_of_indexes(self, member: Member) -> None:
        if self._kids.get(member.kid) == member.pne_id:
            del self._kids[member.kid]
        if member.link is not None and self._links.get(member.link) == member.pne_id:
            del self._links[member.link]

    def _end_wait(self, pne_id: EntityId) -> None:
        """Whoever waits for an answer of *pne_id* looks again where that is."""
        moves = self._moves.pop(pne_id, None)
        if moves is not None:
            moves.set_result(None)

    def _out(self, pne_id: EntityId) -> bool:
        member = self._members.pop(pne_id, None)
        if member is None:
            return False
        self._out_of_indexes(member)
        self._end_wait(pne_id)
        return True

    def _held(self, members: Iterable[Member]) -> Iterable[HeldMember]:
        for member in members:
            key, sealed = member.hop_key, None
            if key is not None:
                sealed = self._vault.seal(LOCAL_EUKEY_PURPOSE, member.pne_id, key)
            ends = None if member.proved_at is None else _ends(member.proved_at)
            yield HeldMember(member.pne_id, member.pn_id, member.th0, sealed, ends)


def _ends(link: Link) -> Ends:
    return Ends(link.remote.hostinfo_local, link.remote.hostinfo)


def _end_hop(member: Member) -> None:
    hop = None if member.pan is None else member.pan.hops.with_peer(member.pne_id)
    if member.pan is not None and hop is not None:
        member.pan.hops.remove(hop)


class _Taken(Protocol):
    @property
    def result(self) -> int: ...


async def give(way: Way | None, message: codec.Message, shape: type[_Taken], seconds: float, *, in_hop: bool) -> bool:
    """Give a member a message; return whether it says that it took it.

    Args:
        way: to the member; None: it is out of reach.
        message: what it is given.
        shape: of its answer.
        seconds: that it has.
        in_hop: in its hop session; else to its address alone, which is for what protects itself. The first answer
            counts there, forged or not: it has the message, and who says that it did not take it is asked another way.
    """
    if way is None:
        return False
    link, hop = way
    session = hop if in_hop else None
    try:
        answer = await link.exchange(CPNS_PATH, codec.encode(message), timeout=seconds, session=session)
        return read(answer, shape, limit=MAX_PAN_BODY).result == Result.SUCCESS
    except Refused:
        return False
