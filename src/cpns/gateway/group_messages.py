"""Messages to groups at a PN GW: from a member behind us to the others behind us, and through the server to the rest.

We can't be believed about who sent one, and need not be: senders sign. In a `vouched` group they don't, and the members
behind us have it from us in their hop sessions, that is, on our word and the server's.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from cpns.errors import NoAnswer, Refused, Result
from cpns.gateway.config import GatewayConfig
from cpns.gateway.group_keys import GroupKeys
from cpns.gateway.groups import GroupCopy, Groups
from cpns.gateway.members import Members, Way, give
from cpns.gateway.uplink import Uplink
from cpns.ids import EntityId
from cpns.service.patience import Patience
from cpns.wire import group_messages as m
from cpns.wire.registry import MAX_MEMBERS

SERVER_SECONDS: Final = 12.0
"""What the server has to bring a message to all others."""
PATIENCE: Final = 2.0
"""What a member has to take a message before its sender waits for it no longer: the datagram may be lost twice."""


class GroupMessages:
    """The messages to groups at one PN GW.

    Args:
        groups: our copy of the SG Inventory: it says who is a member.
        keys: a message waits until the key of its epoch was given out.
        members: the PNEs behind us.
        way_to: as `GroupKeys`.
    """

    def __init__(
        self,
        config: GatewayConfig,
        uplink: Uplink,
        groups: Groups,
        keys: GroupKeys,
        members: Members,
        way_to: Callable[[EntityId], Way | None],
    ) -> None:
        self._config = config
        self._uplink = uplink
        self._groups = groups
        self._keys = keys
        self._members = members
        self._way_to = way_to
        self._patience: Patience[bool] = Patience(PATIENCE, self._sign_of)

    async def close(self) -> None:
        """Give no more."""
        await self._patience.close()

    async def sent(self, pne: EntityId, message: m.GroupMessage) -> m.GroupMessageResponse:
        """Take a message of a member behind us: the others here get it, then the server, with who has not got it.

        In this order, as the server then knows for whom to keep it. The sender is told how many have it. Where our
        uplink is away, the members here have it, and the sender says the same again until the server has it too. What
        is said under an epoch that is over goes to the server alone: who was put out with that epoch has its key, and
        hears the PAN. If the server takes it, we get it back for the members here.

        Args:
            pne: that the hop session, or the Secure PAN, proved.
            message: for a group that it is in.

        Raises:
            Refused: it is no member, or names another sender; or as the server answers; or `NoAnswer`.
        """
        copy = await self._groups.at_epoch(message.sg_id, message.epoch)
        if copy is None and pne in self._members.astray:
            raise NoAnswer("sender_is_brought_back")  # until then the server tells us of no group of it
        if copy is None or message.sender != pne or pne not in copy.members:
            raise Refused(Result.UNKNOWN_SG, "not_a_group_of_the_sender")
        is_over = self._groups.is_over(copy, message.epoch)
        count, missed = (0, ()) if is_over else await self._cast(copy, message)
        standing = self._uplink.standing
        if standing is None or pne in self._members.astray:
            raise NoAnswer("uplink_away")
        up = m.GroupMessageUp(
            *(message.sg_id, message.epoch, pne, message.seq, message.sealed, count, missed), message.signature
        )
        answer = await standing.link.ask(up, m.GroupMessageResponse, timeout=SERVER_SECONDS, session=standing.session)
        return m.GroupMessageResponse(answer.result, answer.epoch, answer.count)

    async def brought(self, message: m.GroupMessage) -> m.GroupMessageResponse:
        """Take a message from the server, for the members behind us; say how many have it, and who has not."""
        copy = await self._groups.at_epoch(message.sg_id, message.epoch)
        if copy is None:
            return m.GroupMessageResponse(Result.UNKNOWN_SG, count=0, missed=())
        count, missed = await self._cast(copy, message)
        return m.GroupMessageResponse(Result.SUCCESS, count=count, missed=missed)

    async def _cast(self, copy: GroupCopy, message: m.GroupMessage) -> tuple[int, tuple[EntityId, ...]]:
        """Give a message to the members behind us; return how many have it, and the first of those that have not.

        Who is silent gets it too, if it is there after all; nobody waits for that.
        """
        here = [pne for pne in copy.members if pne != message.sender and self._members.get(pne) is not None]
        took = await self._patience.ask({pne: partial(self._give, copy, message, pne) for pne in here})
        missed = [pne for pne in here if not took.get(pne)]
        return len(here) - len(missed), tuple(missed[:MAX_MEMBERS])

    async def _give(self, copy: GroupCopy, message: m.GroupMessage, pne: EntityId) -> bool:
        """Give a message to one member, in the hop session where it does not protect itself."""
        await self._keys.given_out(message.sg_id, message.epoch, pne)
        seconds = self._config.answer_timeout
        return await give(self._way_to(pne), message, m.GroupMessageResponse, seconds, in_hop=copy.vouched)

    def _sign_of(self, pne: EntityId) -> object:
        """Return when a member was heard last, or set up."""
        member = self._members.get(pne)
        return None if member is None else (member.heard_at, member.set_up_at)
