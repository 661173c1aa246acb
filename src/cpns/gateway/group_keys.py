"""Group Keys at a PN GW: from the server in our session, to the members behind us and nobody else (DEF-6, DEF-7)."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cpns.crypto.group import verify_key
from cpns.crypto.secret import Secret
from cpns.errors import Refused, Result
from cpns.gateway.config import GatewayConfig
from cpns.gateway.groups import Groups
from cpns.gateway.members import Way, give
from cpns.gateway.uplink import Standing
from cpns.ids import EntityId, SgId
from cpns.ports import Randomness
from cpns.protocol.group_keying import tree as trees
from cpns.protocol.group_keying.tree import Tree
from cpns.service.background import Background
from cpns.wire import codec
from cpns.wire import group_messages as m
from cpns.wire.registry import KEY_BYTES

_log = logging.getLogger("cpns.gateway")

BROADCAST_FROM: Final = 3
"""Members behind us from which on a Group Key is broadcast; fewer get it one by one."""


@dataclass(slots=True)
class _Keyed:
    """The Group Key of one group, and how its members here are reached.

    Attributes:
        told: members that have the GKDK of the tree with that number.
    """

    epoch: int
    key: Secret
    tree: Tree | None = None
    told: dict[EntityId, int] = field(default_factory=dict)


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
        self._work = Background()

    async def close(self) -> None:
        """Give no more."""
        await self._work.close()

    def taken(self, message: m.GroupKeyRequest) -> m.GroupKeyResponse:
        """Take a Group Key from the server; its members get it after that."""
        self._work.start(self._distribute(message.sg_id, message.epoch, Secret(message.group_key)))
        return m.GroupKeyResponse(Result.SUCCESS)

    async def given_out(self, sg_id: SgId, epoch: int) -> None:
        """Wait until a Group Key that is on its way was given to the members behind us."""
        known = self._keyed.get(sg_id)
        if known is not None and known.epoch <= epoch and sg_id in self._busy:
            async with self._busy[sg_id]:
                return

    async def learn(self, standing: Standing) -> None:
        """Ask the server for the keys that we lack, after our restart or a loss of the uplink."""
        for sg_id in set(self._keyed).difference(self._groups.copies):
            del self._keyed[sg_id]
        for sg_id, copy in list(self._groups.copies.items()):
            known = self._keyed.get(sg_id)
            if known is not None and known.epoch >= copy.epoch:
                continue
            with contextlib.suppress(Refused):
                given = await standing.link.ask(
                    m.GroupKeyWanted(sg_id),
                    m.GroupKeyGiven,
                    timeout=self._config.setup_timeout,
                    session=standing.session,
                )
                if given.epoch is not None and given.group_key is not None:
                    self._work.start(self._distribute(sg_id, given.epoch, Secret(given.group_key)))

    async def _distribute(self, sg_id: SgId, epoch: int, key: Secret) -> None:
        """Give the key of an epoch to the members behind us, one distribution of a group after the other."""
        async with self._busy.setdefault(sg_id, asyncio.Lock()):
            copy = await self._groups.at_epoch(sg_id, epoch)
            known = self._keyed.get(sg_id)
            if copy is None or copy.epoch != epoch or (known is not None and known.epoch > epoch):
                return  # it is no group of our PNEs any more, or a newer key is on its way
            if known is None:
                known = self._keyed[sg_id] = _Keyed(epoch, key)
            known.epoch, known.key = epoch, key
            here = [pne for pne in copy.members if self._way_to(pne) is not None]
            if len(here) < BROADCAST_FROM:
                await asyncio.gather(*(self._unicast(sg_id, known, pne) for pne in here))
            else:
                await self._broadcast(sg_id, known, here)

    async def _unicast(self, sg_id: SgId, known: _Keyed, pne: EntityId) -> None:
        """Give a member the key in its hop session; one that does not take it asks when it misses it."""
        await self._give(pne, m.GroupKeyRequest(sg_id, known.epoch, known.key.reveal()), m.GroupKeyResponse)

    async def _broadcast(self, sg_id: SgId, known: _Keyed, here: Sequence[EntityId]) -> None:
        """Give present members one and the same message that they, and nobody else, open."""
        known.tree = self._grown(sg_id, known, here)
        tree = known.tree
        lack = [pne for pne in here if known.told.get(pne) != tree.number]
        await asyncio.gather(*(self._give_gkdk(known, tree, pne) for pne in lack))
        message = trees.broadcast(tree, known.epoch, known.key, self._sign_key)
        # to each member's address, in no session, as it protects itself
        taken = await asyncio.gather(*(self._give(pne, message, m.GroupKeyResponse, in_hop=False) for pne in here))
        missed = [pne for pne, did in zip(here, taken, strict=True) if not did]
        await asyncio.gather(*(self._unicast(sg_id, known, pne) for pne in missed))

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

    def wanted(self, pne: EntityId, message: m.GroupKeyWanted) -> m.GroupKeyGiven:
        """Give a member that missed it the key of the present epoch.

        Args:
            pne: that the hop session, or the Secure PAN, proved.
            message: names the group.
        """
        known, copy = self._keyed.get(message.sg_id), self._groups.copies.get(message.sg_id)
        if known is None or copy is None or copy.epoch != known.epoch or pne not in copy.members:
            return m.GroupKeyGiven(Result.UNKNOWN_SG)
        return m.GroupKeyGiven(Result.SUCCESS, known.epoch, known.key.reveal())
