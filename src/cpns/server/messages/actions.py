"""What is done with a message to a group: checked, handed on, and noted in one transaction.

The server does not open it. It checks that its sender is a member of the present epoch and, where senders sign, that
this one did: so nobody else can use up its numbers, and nothing forged goes further.
"""

import asyncio
from collections import defaultdict

from cpns.domain.group import Group, GroupInventory, Listed, TakenMessage
from cpns.domain.member_list import Standing
from cpns.errors import Refused, Result
from cpns.ids import EntityId
from cpns.ports import Clock
from cpns.ports.messages import MessageStore
from cpns.protocol.group_messaging.receiver import check_signature, run_of
from cpns.server.messages.delivery import MessageDelivery
from cpns.service.group_keyring import GroupKeyring
from cpns.session.table import Session, Sessions
from cpns.wire import group_messages as m


class MessageActions:
    """The messages to groups at one server process.

    Args:
        keys: tells who is a member, and under which Group Key.
        sessions: those of this process: a sender has to have one.
    """

    def __init__(
        self, store: MessageStore, keys: GroupKeyring, sessions: Sessions, clock: Clock, delivery: MessageDelivery
    ) -> None:
        self._store = store
        self._keys = keys
        self._sessions = sessions
        self._clock = clock
        self._delivery = delivery
        self._busy: defaultdict[EntityId, asyncio.Lock] = defaultdict(asyncio.Lock)
        """One message of a sender at a time, so that they reach everybody in their order."""

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
            keyed = await self._keys.sealed(message.sg_id, [message.sender])
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
        missed = await self._delivery.hand_on(group, others, message, gateway)
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
            self._delivery.wait_for(taken.keep_for)
        return len(others) - len(missed)


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
