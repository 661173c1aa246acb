"""A PN GW gives its members what they lack of Group Keys: each apart, so that one that is silent holds up no other."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cpns.crypto.group import verify_key
from cpns.crypto.secret import Secret
from cpns.gateway.members import Way, give
from cpns.ids import EntityId, SgId
from cpns.protocol.group_keying import tree as trees
from cpns.protocol.group_keying.lacking import Lack, Told, after, lack, lacking
from cpns.protocol.group_keying.tree import Tree
from cpns.service.background import Background
from cpns.wire import codec
from cpns.wire import group_messages as m


@dataclass(frozen=True, slots=True)
class Giving:
    """The key of an epoch, and who is given it.

    Attributes:
        here: the members of that epoch in reach; nobody else may be given its key.
        tree: the key is broadcast under it; None: each gets it alone.
    """

    epoch: int
    key: Secret
    here: frozenset[EntityId]
    tree: Tree | None

    @property
    def number(self) -> int | None:
        """Of the tree."""
        return None if self.tree is None else self.tree.number


@dataclass(slots=True)
class _Group:
    """What is given to the members of one group.

    Attributes:
        giving: the newest.
        told: what they have.
        busy: those that are being given something.
    """

    giving: Giving
    told: dict[EntityId, Told] = field(default_factory=dict)
    busy: dict[EntityId, asyncio.Task[None]] = field(default_factory=dict)
    broadcast: m.GroupKeyBroadcast | None = None


class KeyGiving:
    """Gives Group Keys to the members behind one PN GW.

    Args:
        seconds: that a member has to answer.
        way_to: tells how to reach a PNE behind us: its link, and its hop session (none on a Secure PAN).
        setup_of: tells of which SETUP a PNE is a member: th0.
        sign_key: signs broadcasts.
    """

    def __init__(
        self,
        seconds: float,
        way_to: Callable[[EntityId], Way | None],
        setup_of: Callable[[EntityId], bytes | None],
        sign_key: Secret,
    ) -> None:
        self._seconds = seconds
        self._way_to = way_to
        self._setup_of = setup_of
        self._sign_key = sign_key
        self._groups: dict[SgId, _Group] = {}
        self._work = Background()

    async def close(self) -> None:
        """Give no more."""
        await self._work.close()

    def begin(self, sg_id: SgId, giving: Giving) -> None:
        """Give the members of an epoch what they lack of it: all at once, in place of what they lacked before."""
        group = self._groups.setdefault(sg_id, _Group(giving))
        before, group.giving = group.giving, giving
        if (before.epoch, before.key, before.tree) != (giving.epoch, giving.key, giving.tree):
            group.broadcast = None
        group.told = {
            pne: told
            for pne, told in group.told.items()
            if pne in giving.here and pne in before.here and told.setup == self._setup_of(pne)
        }
        if before.epoch >= giving.epoch and before.key != giving.key:  # another life of the server's store
            group.told = {pne: replace(told, epoch=0, failed=0) for pne, told in group.told.items()}
        for pne in lacking(giving.here, giving.epoch, giving.number, group.told):
            if pne not in group.busy:
                group.busy[pne] = self._work.start(self._serve(sg_id, group, pne))

    def forget(self, sg_id: SgId) -> None:
        """Our PNEs are out of a group."""
        self._groups.pop(sg_id, None)

    def has(self, sg_id: SgId, pne: EntityId, epoch: int) -> None:
        """A member has asked for the key of an epoch, and got it."""
        group = self._groups.get(sg_id)
        if group is not None and group.giving.epoch == epoch and pne in group.giving.here:
            group.told[pne] = after(self._told(group, pne), Lack.KEY, epoch, None, took=True)

    async def given(self, sg_id: SgId, pne: EntityId) -> None:
        """Return when a member has what is under way to it, or did not take it."""
        group = self._groups.get(sg_id)
        if group is not None and pne in group.busy:
            await asyncio.wait([group.busy[pne]])

    def _told(self, group: _Group, pne: EntityId) -> Told:
        return group.told.get(pne) or Told(self._setup_of(pne))

    async def _serve(self, sg_id: SgId, group: _Group, pne: EntityId) -> None:
        """Give a member what it lacks, one after the other, of the newest epoch and of those that begin meanwhile."""
        try:
            while pne in (giving := group.giving).here:
                lacks = lack(giving.epoch, giving.number, self._told(group, pne))
                if lacks is None:
                    return
                took = await self._give(sg_id, group, lacks, pne)
                if group.giving != giving:
                    continue  # another epoch has begun, or the same one has another key
                group.told[pne] = after(self._told(group, pne), lacks, giving.epoch, giving.number, took=took)
                if lacks is Lack.KEY and not took:
                    return  # it asks when it misses it
        finally:
            del group.busy[pne]

    async def _give(self, sg_id: SgId, group: _Group, lacks: Lack, pne: EntityId) -> bool:
        """Give a member one thing; return whether it took it."""
        giving, way = group.giving, self._way_to(pne)
        if lacks is Lack.KEY or giving.tree is None:
            message: codec.Message = m.GroupKeyRequest(sg_id, giving.epoch, giving.key.reveal())
            return await give(way, message, m.GroupKeyResponse, self._seconds, in_hop=True)
        if lacks is Lack.GKDK:
            message = trees.gkdk(giving.tree, pne, verify_key(self._sign_key))
            return await give(way, message, m.GkdkResponse, self._seconds, in_hop=True)
        if group.broadcast is None:
            group.broadcast = trees.broadcast(giving.tree, giving.epoch, giving.key, self._sign_key)
        # to its address, in no session, as it protects itself
        return await give(way, group.broadcast, m.GroupKeyResponse, self._seconds, in_hop=False)
