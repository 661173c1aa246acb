"""Messages to groups at the server: handed on to the PN GWs of the members, and kept for those that are away.

It does not open them. It checks that their sender is a member of the present epoch and, where senders sign, that this
one did: so nobody else can use up its numbers, and nothing forged goes further.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from cpns.domain.group import Group, GroupInventory, KeptMessage, Listed, TakenMessage
from cpns.domain.member_list import Standing
from cpns.errors import NoAnswer, Refused, Result
from cpns.ids import EntityId
from cpns.ports import Clock, topics
from cpns.ports.messages import MessageStore
from cpns.ports.siblings import Siblings
from cpns.protocol.group_messaging.receiver import check_signature, run_of
from cpns.server.elsewhere import ELSEWHERE_SECONDS
from cpns.server.gateways import Gateways
from cpns.server.groups import Groups
from cpns.server.pnes import Pnes
from cpns.service.deliveries import Deliveries
from cpns.service.patience import Patience
from cpns.session.table import Session, Sessions
from cpns.shares.noted import by
from cpns.wire import codec
from cpns.wire import group_messages as m

_log = logging.getLogger("cpns.server")

HAND_ON_SECONDS: Final = 8.0
"""What a PN GW has to give a message to its members."""
PATIENCE: Final = 4.0
"""What a sender waits for a PN GW, which waits for its members; who has not got it by then is given it end to end."""
KEPT_SECONDS: Final = 4.0


class GroupMessages:
    """The messages to groups at one server process.

    Args:
        groups: tells who is a member, and under which Group Key.
        sessions: those of this process: a sender has to have one.
        pnes: they tell which PN GW a member is behind.
        siblings: the other processes of the server.
    """

    def __init__(
        self,
        store: MessageStore,
        groups: Groups,
        sessions: Sessions,
        gateways: Gateways,
        pnes: Pnes,
        clock: Clock,
        siblings: Siblings,
    ) -> None:
        self._store = store
        self._groups = groups
        self._sessions = sessions
        self._gateways = gateways
        self._pnes = pnes
        self._clock = clock
        self._siblings = siblings
        siblings.serve(topics.GROUP_MESSAGE, self._hand_on_elsewhere)
        siblings.serve(topics.GROUP_MESSAGES_WAIT, self._wait_elsewhere)
        self._busy: defaultdict[EntityId, asyncio.Lock] = defaultdict(asyncio.Lock)
        """One message of a sender at a time, so that they reach everybody in their order."""
        self._patience: Patience[Sequence[EntityId]] = Patience(PATIENCE, gateways.link)
        self._deliveries = Deliveries(lambda pne: store.kept_group_messages(pne, clock.now()), self._hand_over)

    async def load(self) -> None:
        """Take up what waits by the store: since before our start, or kept by another process."""
        self._deliveries.take_up(await self._store.awaiting_group_messages())

    async def close(self) -> None:
        """Stop sending; what has not arrived waits on."""
        await self._patience.close()
        await self._deliveries.close()

    @property
    def waiting(self) -> frozenset[EntityId]:
        """The members for which something waits."""
        return self._deliveries.waiting

    def heard(self, pne: EntityId) -> None:
        """*pne* can be reached: give it what waits for it."""
        self._deliveries.heard(pne)

    async def register(self, source: Session, request: m.GroupSenderRequest) -> m.GroupSenderResponse:
        """Take the key that a PNE says, in its own session, that it signs with."""
        key = await self._store.register_sender(source.peer_id, request.verify_key, self._clock.now())
        return m.GroupSenderResponse(Result.SUCCESS, key.run)

    async def sent(self, gateway: EntityId, message: m.GroupMessageUp) -> m.GroupMessageResponse:
        """Take a message of a PNE behind a PN GW. When this returns, each member has it, or it is kept for it.

        The answer says how many have it; not so where it was taken before. If it does not return, the sender says the
        same again: who has it knows it by its number.

        Raises:
            Refused: UNKNOWN_SG: the sender is not behind that PN GW, or no member. NOT_AUTHENTICATED: not under the
                registration that the server knows. AUTHENTICATION_FAILED: forged.
        """
        sender = self._sessions.with_peer(message.sender)
        if sender is None or sender.via != gateway:
            raise Refused(Result.UNKNOWN_SG, "sender_is_not_behind_that_gateway")
        async with self._busy[message.sender]:
            keyed = await self._groups.sealed_key(message.sg_id, [message.sender])
            place = None if keyed is None else _place_of(keyed.inventory, message.sender)
            if keyed is None or place is None:
                raise Refused(Result.UNKNOWN_SG, "not_a_group_of_the_sender")
            group = keyed.inventory.group
            _check(group, place, message)
            if place.newest is not None and message.seq <= place.newest:
                return m.GroupMessageResponse(Result.SUCCESS)  # its answer was lost
            sealed_key = keyed.key_of(message.epoch)
            if sealed_key is None or place.epoch > message.epoch:
                return m.GroupMessageResponse(Result.KEY_EXPIRED, group.epoch)
            have = await self._take(keyed.inventory, sealed_key, place, message, gateway)
            return m.GroupMessageResponse(Result.SUCCESS, count=have)

    async def _take(
        self, found: GroupInventory, sealed_key: bytes, place: Listed, message: m.GroupMessageUp, gateway: EntityId
    ) -> int:
        """Hand it on; then note it, and keep it for who has not got it, in one commit. Return how many have it."""
        group = found.group
        inside = [one.pne_id for one in found.listed if one.standing is Standing.MEMBER and one.epoch <= message.epoch]
        others = [pne for pne in inside if pne != message.sender]
        missed = await self._hand_on(group, others, message, gateway)
        now = self._clock.now()
        taken = TakenMessage(
            *(message.sg_id, message.epoch, message.sender, message.seq, message.sealed, message.signature),
            verify_key=None if message.signature is None or place.key is None else place.key.verify_key,
            sealed_key=sealed_key,
            keep_for=tuple(missed) if group.keep else (),
            created_at=now,
            expires_at=now + group.keep,
        )
        await self._store.take_group_message(taken)
        if taken.keep_for:
            self._siblings.tell(topics.GROUP_MESSAGES_WAIT, topics.Entities(taken.keep_for))
            self._wait(taken.keep_for)
        return len(others) - len(missed)

    def _wait(self, pnes: Iterable[EntityId]) -> None:
        """A message waits for *pnes*: those behind this process may have missed no more than that one datagram."""
        self._deliveries.wait_for(pnes)
        for pne in pnes:
            if self._pnes.here(pne) is not None:
                self._deliveries.heard(pne)

    async def _hand_on(
        self, group: Group, others: Sequence[EntityId], message: m.GroupMessageUp, own: EntityId
    ) -> list[EntityId]:
        """Give a message to the PN GWs of the other members; return who of these has not got it.

        Of an epoch that is over, to those that were members of it: no newcomer gets its key. The sender's own PN GW
        does not give such a message to anybody before we took it.
        """
        plain = m.GroupMessage(
            *(message.sg_id, message.epoch, message.sender, message.seq, message.sealed, message.signature)
        )
        behind = self._behind(others)
        elsewhere = behind.pop(None, [])
        missed: list[EntityId] = []
        if message.epoch == group.epoch or message.count or message.missed:
            missed += _without(behind.pop(own, []), message.count, message.missed)
        here, there = await asyncio.gather(self._give_all(behind, plain), self._give_elsewhere(elsewhere, plain))
        return missed + here + there

    def _behind(self, pnes: Sequence[EntityId]) -> dict[EntityId | None, list[EntityId]]:
        """Return *pnes* by the PN GW that they are behind, as far as it is connected here; None: not here."""
        behind: dict[EntityId | None, list[EntityId]] = {}
        for pne in pnes:
            way = self._pnes.here(pne)
            behind.setdefault(None if way is None else way[1].via, []).append(pne)
        return behind

    async def _give_all(
        self, behind: Mapping[EntityId | None, list[EntityId]], message: m.GroupMessage
    ) -> list[EntityId]:
        there = {gateway: pnes for gateway, pnes in behind.items() if gateway is not None}
        missed = await self._patience.ask(
            {gateway: partial(self._give, gateway, pnes, message) for gateway, pnes in there.items()}
        )
        return [pne for gateway, pnes in there.items() for pne in missed.get(gateway, pnes)]

    async def _give_elsewhere(self, pnes: list[EntityId], message: m.GroupMessage) -> list[EntityId]:
        """Let the other processes give a message to those of *pnes* that are behind them; return who has not got it."""
        if not pnes:
            return []
        seconds = PATIENCE + ELSEWHERE_SECONDS
        asked = topics.GroupMessageFor(codec.encode(message), tuple(pnes))
        answers = await self._siblings.ask(topics.GROUP_MESSAGE, asked, seconds)
        have = {pne for some in answers.values if some is not None for pne in some.entities}
        return [pne for pne in pnes if pne not in have]

    # for other processes

    async def _hand_on_elsewhere(self, asked: topics.GroupMessageFor) -> topics.Entities:
        """Give a message to members that are behind this process; return who has it."""
        behind = self._behind(asked.pnes)
        away = behind.pop(None, [])
        missed = {*away, *await self._give_all(behind, codec.decode(asked.message, m.GroupMessage))}
        return topics.Entities(tuple(pne for pne in asked.pnes if pne not in missed))

    async def _wait_elsewhere(self, pnes: topics.Entities) -> None:
        self._wait(pnes.entities)

    async def _give(self, gateway: EntityId, pnes: Sequence[EntityId], message: m.GroupMessage) -> Sequence[EntityId]:
        """Give a message to one PN GW; return which of *pnes*, that are behind it, have not got it."""
        try:
            answer = await self._gateways.ask(gateway, message, m.GroupMessageResponse, HAND_ON_SECONDS)
        except Refused as error:
            _log.info("gateway %s does not take a message to a group: %s", gateway, error, extra=by(gateway))
            return pnes
        return _without(pnes, answer.count or 0, answer.missed or ())

    async def _hand_over(self, pne: EntityId, kept: KeptMessage) -> None:
        """Give a member what was kept for it, end to end, with the Group Key of that epoch, which it may have missed.

        Raises:
            Refused: it is away.
        """
        way = self._pnes.here(pne)
        if way is None:
            raise NoAnswer("away")
        one = kept.message
        message = m.GroupMessageKept(
            *(one.sg_id, one.epoch, one.sender, one.seq, one.sealed),
            self._groups.open_key(one.sg_id, one.epoch, one.sealed_key).reveal(),
            one.signature,
            one.verify_key,
        )
        await way[0].tell(message, timeout=KEPT_SECONDS, session=way[1])
        await self._store.drop_group_message(kept.number, pne)


def _place_of(found: GroupInventory, pne: EntityId) -> Listed | None:
    """Return the place of a member; None of anybody else."""
    return next((one for one in found.listed if one.pne_id == pne and one.standing is Standing.MEMBER), None)


def _check(group: Group, place: Listed, message: m.GroupMessageUp) -> None:
    """Check that the sender that registered sent it, or that its PN GW may vouch for that. Raises `Refused`."""
    if place.key is None or run_of(message.seq) != place.key.run:
        raise Refused(Result.NOT_AUTHENTICATED, "sender_is_not_registered")
    if group.vouched:
        if message.signature is not None:
            raise Refused(Result.BAD_REQUEST, "signature_in_a_vouched_group")
    elif place.key.verify_key is None:
        raise Refused(Result.NOT_ALLOWED, "sender_registered_no_key")
    else:
        check_signature(message, place.key.verify_key)


def _without(pnes: Sequence[EntityId], count: int, missed: Sequence[EntityId]) -> Sequence[EntityId]:
    """Return who of *pnes* has not got it; all of them where the numbers of their PN GW don't add up.

    It lists 64 at the most, and may not know yet of one that the server finds behind it.
    """
    missing = [pne for pne in pnes if pne in missed]
    return missing if count + len(missing) == len(pnes) else pnes
