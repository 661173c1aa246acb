"""Group Keys at a PN GW: from the server in our session, to the members behind us and nobody else (DEF-6, DEF-7)."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from cpns.crypto.group import verify_key
from cpns.crypto.secret import Secret
from cpns.errors import NoAnswer, Refused, Result
from cpns.gateway.config import GatewayConfig
from cpns.gateway.groups import Groups
from cpns.gateway.members import Way, give
from cpns.gateway.uplink import Standing
from cpns.ids import EntityId, SgId
from cpns.ports import Randomness
from cpns.protocol.group_keying import tree as trees
from cpns.protocol.group_keying.tree import Tree
from cpns.service.background import Background
from cpns.service.copies import OneAtATime
from cpns.wire import codec
from cpns.wire import group_messages as m
from cpns.wire.registry import KEY_BYTES

_log = logging.getLogger("cpns.gateway")

BROADCAST_FROM: Final = 3
"""Members behind us from which on a Group Key is broadcast; fewer get it one by one."""
LEFT_GROUPS: Final = 64
"""Groups that our PNEs have left, of which we keep what we had a while."""
GIVEN_SECONDS: Final = 1.0
"""How long a message to a member waits for the Group Key that opens it to be given out."""


@dataclass(frozen=True, slots=True)
class _Giving:
    """What members here are given at the beginning of an epoch.

    Attributes:
        here: the members of that epoch in reach; nobody else may be given its key.
        tree: and *message*, which opens with a GKDK of it: where the key is broadcast.
    """

    epoch: int
    key: Secret
    here: tuple[EntityId, ...]
    tree: Tree | None = None
    message: m.GroupKeyBroadcast | None = None


@dataclass(slots=True)
class _Keyed:
    """The Group Key of one group, and how its members here are reached.

    Attributes:
        life: of the session in which the server gave the key, see `GroupKeys.doubt`.
        giving: the newest epoch that is being given out.
        told: members that have the GKDK of the tree with that number.
        busy: members that are being given a key; one of them that is silent holds up no other.
    """

    epoch: int
    key: Secret
    life: int
    tree: Tree | None = None
    giving: _Giving | None = None
    told: dict[EntityId, int] = field(default_factory=dict)
    busy: dict[EntityId, asyncio.Task[object]] = field(default_factory=dict)


class GroupKeys:
    """The Group Keys of one PN GW.

    Args:
        groups: our copy of the SG Inventory: it says who is a member.
        way_to: tells how to reach a PNE behind us: its link, and its hop session (none on a Secure PAN).
    """

    def __init__(
        self,
        config: GatewayConfig,
        groups: Groups,
        way_to: Callable[[EntityId], Way | None],
        random: Randomness,
    ) -> None:
        self._config = config
        self._groups = groups
        self._way_to = way_to
        self._random = random
        self._sign_key = Secret(random(KEY_BYTES))
        self._keyed: dict[SgId, _Keyed] = {}
        self._busy: dict[SgId, asyncio.Lock] = {}
        self._life = 0
        self._standing: Standing | None = None
        self._asks: OneAtATime[SgId] = OneAtATime(self._ask)
        self._work = Background()

    async def close(self) -> None:
        """Give no more."""
        await self._work.close()

    def doubt(self, standing: Standing) -> None:
        """A session with the server stands anew: it may live on an older copy of its store, with other keys.

        Those that we have are asked for again, and until then no member that asks is given one.
        """
        self._life += 1
        self._standing = standing

    def taken(self, message: m.GroupKeyRequest) -> m.GroupKeyResponse:
        """Take a Group Key from the server; its members get it after that."""
        self._hold(message.sg_id, message.epoch, Secret(message.group_key), self._life)
        return m.GroupKeyResponse(Result.SUCCESS)

    async def given_out(self, sg_id: SgId, epoch: int, pne: EntityId) -> None:
        """Wait a while until a Group Key that is on its way was given to a member behind us."""
        known = self._keyed.get(sg_id)
        if known is None or known.epoch > epoch:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GIVEN_SECONDS):
                async with self._busy.setdefault(sg_id, asyncio.Lock()):
                    pass
                if pne in known.busy:
                    await asyncio.wait([known.busy[pne]])

    async def learn(self) -> None:
        """Ask the server for the keys of all groups, after our restart or a loss of the uplink."""
        for sg_id in set(self._keyed).difference(self._groups.copies):
            del self._keyed[sg_id]
        for sg_id in list(self._groups.copies):
            if not self._is_certain(sg_id):
                with contextlib.suppress(Refused):
                    await self._asks.fetch(sg_id)

    def _is_certain(self, sg_id: SgId) -> bool:
        """Whether we have the key of the epoch of our copy, and the server gave it in its present life."""
        known, copy = self._keyed.get(sg_id), self._groups.copies.get(sg_id)
        return known is not None and copy is not None and known.life == self._life and known.epoch == copy.epoch

    async def _ask(self, sg_id: SgId) -> None:
        standing, life = self._standing, self._life
        if standing is None:
            raise NoAnswer("uplink_away")
        given = await standing.link.ask(
            m.GroupKeyWanted(sg_id), m.GroupKeyGiven, timeout=self._config.setup_timeout, session=standing.session
        )
        if given.epoch is None or given.group_key is None:
            return
        key, known = Secret(given.group_key), self._keyed.get(sg_id)
        giving = None if known is None else known.giving
        if known is not None and giving is not None and (giving.epoch, giving.key) == (given.epoch, key):
            known.life = life  # it is the one that the members have
        else:
            self._hold(sg_id, given.epoch, key, life)

    def _hold(self, sg_id: SgId, epoch: int, key: Secret, life: int) -> None:
        """Have a key from now on, for members that ask; give it to the others when the older ones are given out."""
        known = self._keyed.get(sg_id)
        if life != self._life or (known is not None and known.life == life and known.epoch > epoch):
            return  # a newer one has come before it
        if known is None:
            self._forget()
            known = self._keyed[sg_id] = _Keyed(epoch, key, life)
        known.epoch, known.key, known.life = epoch, key, life
        self._work.start(self._distribute(sg_id, epoch))

    def _forget(self) -> None:
        """Drop what we had of groups that our PNEs are out of, once that is most of what we have."""
        if len(self._busy) <= 2 * len(self._groups.copies) + LEFT_GROUPS:
            return
        for sg_id, lock in list(self._busy.items()):
            if sg_id not in self._groups.copies and not lock.locked():
                del self._busy[sg_id]
                self._keyed.pop(sg_id, None)

    async def _distribute(self, sg_id: SgId, epoch: int) -> None:
        """Begin to give the key of an epoch to its members behind us."""
        async with self._busy.setdefault(sg_id, asyncio.Lock()):
            copy = await self._groups.at_epoch(sg_id, epoch)
            known = self._keyed.get(sg_id)
            if copy is None or known is None or copy.epoch != epoch or known.epoch != epoch:
                return  # it is no group of our PNEs any more, or a newer key is on its way
            here = tuple(pne for pne in copy.members if self._way_to(pne) is not None)
            giving = _Giving(epoch, known.key, here)
            if len(here) >= BROADCAST_FROM:
                tree = known.tree = self._grown(sg_id, known, here)
                giving = replace(giving, tree=tree, message=trees.broadcast(tree, epoch, known.key, self._sign_key))
            known.giving = giving
        for pne in here:
            if pne not in known.busy:
                known.busy[pne] = self._work.start(self._serve(sg_id, known, pne))

    async def _serve(self, sg_id: SgId, known: _Keyed, pne: EntityId) -> None:
        """Give a member the key of the newest epoch, and of those that begin meanwhile."""
        done: _Giving | None = None
        try:
            while (giving := known.giving) is not done and giving is not None and pne in giving.here:
                done = giving
                if giving.tree is not None and giving.message is not None:
                    if known.told.get(pne) != giving.tree.number:
                        await self._give_gkdk(known, giving.tree, pne)
                    # to its address, in no session, as it protects itself
                    if await self._give(pne, giving.message, m.GroupKeyResponse, in_hop=False):
                        continue
                # alone, in its hop session; one that does not take it asks when it misses it
                message = m.GroupKeyRequest(sg_id, giving.epoch, giving.key.reveal())
                await self._give(pne, message, m.GroupKeyResponse)
        finally:
            known.busy.pop(pne, None)

    def _grown(self, sg_id: SgId, known: _Keyed, here: Iterable[EntityId]) -> Tree:
        """Return the tree with exactly the members *here*; a new one where the present one does not do."""
        tree = None if known.tree is None else trees.change(known.tree, here)
        if tree is not None:
            return tree
        number = 1 if known.tree is None else known.tree.number + 1
        return trees.plant(sg_id, self._config.gateway_id, number, Secret(self._random(KEY_BYTES)), here)

    async def _give_gkdk(self, known: _Keyed, tree: Tree, pne: EntityId) -> None:
        if await self._give(pne, trees.gkdk(tree, pne, verify_key(self._sign_key)), m.GkdkResponse):
            known.told[pne] = tree.number

    async def _give(
        self,
        pne: EntityId,
        message: codec.Message,
        shape: type[m.GkdkResponse | m.GroupKeyResponse],
        *,
        in_hop: bool = True,
    ) -> bool:
        return await give(self._way_to(pne), message, shape, self._config.answer_timeout, in_hop=in_hop)

    async def wanted(self, pne: EntityId, message: m.GroupKeyWanted) -> m.GroupKeyGiven:
        """Give a member that missed it the key of the present epoch; one that we lack we ask for.

        Args:
            pne: that the hop session, or the Secure PAN, proved.
            message: names the group.
        """
        copy = self._groups.copies.get(message.sg_id)
        if copy is not None and pne in copy.members and not self._is_certain(message.sg_id):
            with contextlib.suppress(Refused):
                await self._asks.fetch(message.sg_id)
        known, copy = self._keyed.get(message.sg_id), self._groups.copies.get(message.sg_id)
        if known is None or copy is None or pne not in copy.members or not self._is_certain(message.sg_id):
            return m.GroupKeyGiven(Result.UNKNOWN_SG)
        return m.GroupKeyGiven(Result.SUCCESS, known.epoch, known.key.reveal())
