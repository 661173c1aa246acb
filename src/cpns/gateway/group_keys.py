"""Group Keys at a PN GW: from the server in our session, to the members behind us and nobody else (DEF-6, DEF-7)."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from cpns.crypto.secret import Secret
from cpns.errors import NoAnswer, Refused, Result
from cpns.gateway.config import GatewayConfig
from cpns.gateway.groups import Groups
from cpns.gateway.key_giving import Giving, KeyGiving
from cpns.gateway.members import Way
from cpns.gateway.uplink_states import Standing
from cpns.ids import EntityId, SgId
from cpns.ports import Randomness
from cpns.protocol.group_keying import tree as trees
from cpns.protocol.group_keying.tree import Tree
from cpns.service.background import Background
from cpns.service.copies import OneAtATime
from cpns.wire import group_messages as m
from cpns.wire.registry import KEY_BYTES

BROADCAST_FROM: Final = 3
"""Members behind us from which on a Group Key is broadcast; fewer get it one by one."""
LEFT_GROUPS: Final = 64
"""Groups that our PNEs have left, of which we keep what we had a while."""
GIVEN_SECONDS: Final = 1.0
"""How long a message to a member waits for the Group Key that opens it to be given out."""


@dataclass(slots=True)
class _Keyed:
    """The Group Key of one group.

    Attributes:
        life: of the session in which the server gave the key, see `GroupKeys.doubt`.
        tree: the newest of its trees here.
        preparing: looks who is to be given the key, while the list of that epoch is on its way to us.
    """

    epoch: int
    key: Secret
    life: int
    tree: Tree | None = None
    preparing: asyncio.Task[None] | None = None


class GroupKeys:
    """The Group Keys of one PN GW.

    Args:
        groups: our copy of the SG Inventory: it says who is a member.
        way_to: as `KeyGiving`, as is *setup_of*.
    """

    def __init__(
        self,
        config: GatewayConfig,
        groups: Groups,
        way_to: Callable[[EntityId], Way | None],
        setup_of: Callable[[EntityId], bytes | None],
        random: Randomness,
    ) -> None:
        self._config = config
        self._groups = groups
        self._way_to = way_to
        self._random = random
        self._keyed: dict[SgId, _Keyed] = {}
        self._giving = KeyGiving(config.answer_timeout, way_to, setup_of, Secret(random(KEY_BYTES)))
        self._life = 0
        self._standing: Standing | None = None
        self._asks: OneAtATime[SgId] = OneAtATime(self._ask)
        self._work = Background()

    async def close(self) -> None:
        """Give no more."""
        await self._work.close()
        await self._giving.close()

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
                if known.preparing is not None:
                    await asyncio.wait([known.preparing])
                await self._giving.given(sg_id, pne)

    async def learn(self) -> None:
        """Ask the server for the keys of all groups, after our restart or a loss of the uplink."""
        self._forget()
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
        self._hold(sg_id, given.epoch, Secret(given.group_key), life)

    def _hold(self, sg_id: SgId, epoch: int, key: Secret, life: int) -> None:
        """Have a key from now on, for members that ask, and to give to the others."""
        known = self._keyed.get(sg_id)
        if life != self._life or (known is not None and known.life == life and known.epoch > epoch):
            return  # a newer one has come before it
        if known is None:
            if len(self._keyed) > 2 * len(self._groups.copies) + LEFT_GROUPS:
                self._forget()
            known = self._keyed[sg_id] = _Keyed(epoch, key, life)
        known.epoch, known.key, known.life = epoch, key, life
        known.preparing = self._work.start(self._begin(sg_id, known, epoch))

    def _forget(self) -> None:
        """Drop what we had of groups that our PNEs are out of."""
        for sg_id, known in list(self._keyed.items()):
            if sg_id not in self._groups.copies and (known.preparing is None or known.preparing.done()):
                del self._keyed[sg_id]
                self._giving.forget(sg_id)

    async def _begin(self, sg_id: SgId, known: _Keyed, epoch: int) -> None:
        """Begin to give the key of an epoch to its members behind us, as soon as we have its list."""
        copy = await self._groups.at_epoch(sg_id, epoch)
        if copy is None or copy.epoch != epoch or known.epoch != epoch or self._keyed.get(sg_id) is not known:
            return  # it is no group of our PNEs any more, or a newer key is on its way
        here = frozenset(pne for pne in copy.members if self._way_to(pne) is not None)
        tree = None
        if len(here) >= BROADCAST_FROM:
            tree = known.tree = self._grown(sg_id, known, here)
        self._giving.begin(sg_id, Giving(epoch, known.key, here, tree))

    def _grown(self, sg_id: SgId, known: _Keyed, here: Iterable[EntityId]) -> Tree:
        """Return the tree with exactly the members *here*; a new one where the present one does not do."""
        tree = None if known.tree is None else trees.change(known.tree, here)
        if tree is not None:
            return tree
        number = 1 if known.tree is None else known.tree.number + 1
        return trees.plant(sg_id, self._config.gateway_id, number, Secret(self._random(KEY_BYTES)), here)

    async def wanted(self, pne: EntityId, message: m.GroupKeyWanted) -> m.GroupKeyGiven:
        """Give a member that missed it the key of the present epoch; one that we lack we ask for.

        Args:
            pne: that the hop session, or the Secure PAN, proved.
            message: names the group.
        """
        copy = await self._groups.with_member(message.sg_id, pne)
        if copy is not None and not self._is_certain(message.sg_id):
            with contextlib.suppress(Refused):
                await self._asks.fetch(message.sg_id)
        known, copy = self._keyed.get(message.sg_id), self._groups.copies.get(message.sg_id)
        if known is None or copy is None or pne not in copy.members or not self._is_certain(message.sg_id):
            return m.GroupKeyGiven(Result.UNKNOWN_SG)
        self._giving.has(message.sg_id, pne, known.epoch)
        return m.GroupKeyGiven(Result.SUCCESS, known.epoch, known.key.reveal())
