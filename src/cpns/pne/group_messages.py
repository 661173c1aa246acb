"""What a PNE says to its groups, and hears from the other members."""

import asyncio
import contextlib
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cpns.crypto.group import verify_key
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed, NoAnswer, Refused, Result
from cpns.ids import EntityId, SgId
from cpns.pne.group_views import View
from cpns.pne.groups import Groups
from cpns.pne.life import PneLife
from cpns.pne.way import ToGateway, ToServer
from cpns.ports import Randomness, Time
from cpns.protocol.group_messaging import receiver
from cpns.protocol.group_messaging.receiver import Heard, Order
from cpns.protocol.group_messaging.sender import Sender
from cpns.session.table import Session
from cpns.shares.noted import by
from cpns.transport.endpoint import Inbound
from cpns.transport.errors import UNIFORM_REFUSAL, Answer, Code
from cpns.wire import application, codec
from cpns.wire import group_messages as m
from cpns.wire.registry import KEY_BYTES, MAX_PAN_BODY, START_BYTES, Place

_log = logging.getLogger("cpns.pne")

SEND_SECONDS: Final = 25.0
"""What PN GW and server have to bring a message to everybody, before it is sent again."""
MAX_HEARD: Final = 8192
"""Senders that we know what we heard of."""
MAX_LIVES: Final = 64
"""Registrations that we ask for to come beyond those that we had before the server's store was set back."""
PAUSES: Final = (0.3, 5.0)
"""Seconds before it is sent again after a refusal or a loss, and the most between attempts."""


@dataclass(frozen=True, slots=True)
class GroupText:
    """What a member said to a group.

    Attributes:
        text: None of a message that came too late to be opened: its epoch is over, and its key not here.
        late: whether something newer of that sender was heard before it.
    """

    sg_id: SgId
    name: str
    sender: EntityId
    text: str | None
    late: bool


@dataclass(frozen=True, slots=True)
class Reached:
    """Whom a message to a group reached by the time that it was taken.

    Attributes:
        have: so many members have it, besides its sender.
        missed: so many have not: it is kept for them, where the group keeps anything.
        kept: whether it does.
    """

    have: int
    missed: int
    kept: bool


class GroupMessages:
    """The messages to groups of one PNE.

    Args:
        groups: has views and Group Keys.
        way: to the server, end to end.
        hop: to our PN GW.
        life: of the PNE.
        on_text: is told of what others say; raises `NoAnswer` where it can't take it, and it comes again.
    """

    def __init__(
        self,
        own_id: EntityId,
        groups: Groups,
        way: ToServer,
        hop: ToGateway,
        life: PneLife,
        random: Randomness,
        on_text: Callable[[GroupText], None],
        time: Time,
    ) -> None:
        self._time = time
        self._own_id = own_id
        self._groups = groups
        self._way = way
        self._hop = hop
        self._life = life
        self._random = random
        self._on_text = on_text
        self._sender: Sender | None = None
        self._run = 0
        """The newest that we were given."""
        self._registering = asyncio.Lock()
        self._sending: defaultdict[SgId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._heard: OrderedDict[tuple[SgId, EntityId], Heard] = OrderedDict()
        """Kept when we leave a group, too: who comes back hears nothing a second time."""

    # sending

    async def send(self, sg_id: SgId, text: str) -> Reached | None:
        """Say *text* to a group. When this returns, each member has it, or the server keeps it for that member.

        Returns how many these are; None where nobody knows: an older peer is on the way, or an answer was lost.

        It survives a loss of the PN GW or the server, and the end of an epoch: it is said again, and heard once.

        Raises:
            Refused: we are not in that group, or it is not taken, with the reason.
            WireError: over 1024 characters.
        """
        payload = application.encode_group_text(application.Push(self._random(application.PUSH_ID_BYTES), text))
        async with self._sending[sg_id]:
            message: m.GroupMessage | None = None
            others: int | None = None
            pause = PAUSES[0]
            while True:
                used = (await self._life.attached()).session
                try:
                    if message is None:
                        message = await self._seal(sg_id, payload)
                        others = self._others(message)
                    answer = await self._ask(message)
                except Refused as error:
                    if error.result is Result.NOT_AUTHENTICATED:  # the server does not know of our registration
                        self._sender = message = None
                    elif error.result is Result.NO_ANSWER:
                        self._life.suspect(used, lost=False)
                    elif error.result is not Result.UNKNOWN_SG or not await self._is_in(sg_id):
                        raise
                    _log.info("a message to %s is sent again: %s", sg_id, error, extra=by(sg_id))
                else:
                    if answer.result == Result.SUCCESS:
                        return self._reached(sg_id, answer.count, others)
                    if answer.result != Result.KEY_EXPIRED:
                        raise Refused(Result.told(answer.result, Result.SERVER_ERROR), "message_is_not_taken")
                    over, message = message.epoch, None  # sealed anew, it has another number, and the same ID
                    if await self._is_over(sg_id, over):
                        continue
                await self._time.sleep(pause)
                pause = min(2 * pause, PAUSES[1])

    def _others(self, message: m.GroupMessage) -> int | None:
        """Return how many others are in the group in the epoch of a message; None: our list is of another one."""
        view = self._groups.views.get(message.sg_id)
        if view is None or view.epoch != message.epoch:
            return None
        return sum(place == Place.MEMBER for pne, place in view.places.items() if pne != self._own_id)

    def _reached(self, sg_id: SgId, have: int | None, others: int | None) -> Reached | None:
        view = self._groups.views.get(sg_id)
        if have is None or others is None or view is None:
            return None
        return Reached(have, max(others - have, 0), kept=view.keep > 0)

    async def _is_over(self, sg_id: SgId, epoch: int) -> bool:
        """Whether the server, too, says that *epoch* is over; if not, who said so knows more than it, or lies."""
        with contextlib.suppress(NoAnswer):
            await self._groups.refresh(sg_id)
        view = self._groups.views.get(sg_id)
        return view is None or view.epoch != epoch

    async def _is_in(self, sg_id: SgId) -> bool:
        """Whether we are in that group, as the server says; our PN GW may not know yet, after a loss of its uplink."""
        try:
            await self._groups.refresh(sg_id)
        except Refused as error:
            return error.result is Result.NO_ANSWER
        return sg_id in self._groups.views

    async def _seal(self, sg_id: SgId, payload: bytes) -> m.GroupMessage:
        view = await self._groups.view(sg_id)
        if view.epoch < self._groups.newest_key(sg_id):  # who came with it is to hear this
            await self._groups.refresh(sg_id)
            view = await self._groups.view(sg_id)
        key = await self._groups.key_of(sg_id, view.epoch)
        if key is None or not self._groups.has_key(sg_id, view.epoch):
            await self._groups.refresh(sg_id)  # there may be a newer epoch, of which the news was lost
            raise NoAnswer("group_key_has_not_come")
        sender = await self._registered()
        return sender.seal(sg_id, view.epoch, key, payload, signed=not view.vouched)

    async def _registered(self) -> Sender:
        """Return what we send with; the first time, tell the server our key, and get a number that is ours alone."""
        async with self._registering:
            if self._sender is None:
                sign_key = Secret(self._random(KEY_BYTES))
                request = m.GroupSenderRequest(verify_key(sign_key))
                run = (await self._way.ask(request, m.GroupSenderResponse)).run
                for _ in range(MAX_LIVES):  # the server's store was set back: others heard of us under these runs
                    if run > self._run:
                        break
                    run = (await self._way.ask(request, m.GroupSenderResponse)).run
                self._run = run
                self._sender = Sender(self._own_id, run, self._random(START_BYTES), sign_key)
            return self._sender

    async def _ask(self, message: m.GroupMessage) -> m.GroupMessageResponse:
        hop = self._hop()
        if hop is None:
            raise NoAnswer("not_established")
        link, session = hop
        return await link.ask(
            message, m.GroupMessageResponse, timeout=SEND_SECONDS, session=session, limit=MAX_PAN_BODY
        )

    # hearing

    async def take_of_gateway(self, inbound: Inbound, message: m.GroupMessage) -> Answer | None:
        """As `take`, of our own PN GW."""
        return await self.take(message, by_gateway=True)

    async def take_of_stranger(self, inbound: Inbound, message: m.GroupMessage) -> Answer | None:
        """As `take`, of whomever."""
        return await self.take(message, by_gateway=False)

    async def take(self, message: m.GroupMessage, *, by_gateway: bool) -> Answer | None:
        """Take a message that came over the PAN; None where the application could not take it.

        Args:
            message: from whomever: a signed one proves itself.
            by_gateway: whether our PN GW said so, in the hop session or on a Secure PAN.

        Raises:
            Refused: it is forged, for others, or can't be opened.
        """
        view = self._groups.views.get(message.sg_id)
        if view is None or (view.vouched and not by_gateway):
            return UNIFORM_REFUSAL
        if self._heard_of(view, message.sender).order(message.seq, by_server=False) is Order.REPEATED:
            return _TAKEN
        key = await self._groups.key_of(message.sg_id, message.epoch)
        if key is None:
            self._missed(view, message)
            raise Refused(Result.KEY_EXPIRED, "no_key_of_that_epoch")
        body = receiver.open_message(message, key)  # first of all, as no stranger gets past this
        if not view.vouched:
            receiver.check_signature(message, await self._key_of_sender(view, message))
        return _TAKEN if self._give(view, message, body, by_server=False) else None

    async def take_kept(self, source: Session, message: m.GroupMessageKept) -> Answer | None:
        """Take a message that the server kept for us, and gives us in our own session.

        Raises:
            Refused: it is forged, or we are not in that group.
        """
        try:
            view = await self._groups.view(message.sg_id)
        except NoAnswer:
            return None  # then it is not said that we have it, and comes again
        if self._heard_of(view, message.sender).order(message.seq, by_server=True) is not Order.REPEATED:
            body = receiver.open_message(message, Secret(message.group_key))
            if message.verify_key is not None:
                receiver.check_signature(message, message.verify_key)
            elif not view.vouched:
                raise AuthenticationFailed("group_message_is_not_signed")
            return _TAKEN if self._give(view, message, body, by_server=True) else None
        return _TAKEN

    def _heard_of(self, view: View, sender: EntityId) -> Heard:
        """Return what we heard of a sender; of one that is new to us, nothing up to what the server took by then."""
        heard = self._heard.get((view.sg_id, sender))
        if heard is not None:
            return heard
        known = view.senders.get(sender)
        return Heard() if known is None or known.seq is None else Heard(known.seq)

    def _tell(self, message: receiver.AnyMessage, message_id: bytes, heard: Heard, said: GroupText) -> bool:
        """Tell of a message that has proven itself, unless we had one with that ID; return False where nobody took it.

        It counts as heard once it was taken.
        """
        if not heard.has(message_id):
            try:
                self._on_text(said)
            except NoAnswer:
                return False
        self._heard[said.sg_id, message.sender] = heard
        if len(self._heard) > MAX_HEARD:
            self._heard.popitem(last=False)
        heard.take(message.seq, message_id)
        return True

    async def _key_of_sender(self, view: View, message: m.GroupMessage) -> bytes:
        """Return what a sender registered, if it is a member still. Raises `Refused`."""
        pne, known = message.sender, view.senders.get(message.sender)
        if view.places.get(pne) != Place.MEMBER or receiver.needs_another_key(
            message, None if known is None else known.run
        ):
            known = await self._groups.sender(view.sg_id, pne)
        if known is None or known.standing != Place.MEMBER or known.run != receiver.run_of(message.seq):
            raise AuthenticationFailed("sender_is_not_registered")
        if known.verify_key is None:
            raise AuthenticationFailed("sender_registered_no_key")
        return known.verify_key

    def _give(self, view: View, message: receiver.AnyMessage, body: bytes, *, by_server: bool) -> bool:
        """Give a message to the application, once; return False where it could not take it."""
        heard = self._heard_of(view, message.sender)
        order = heard.order(message.seq, by_server=by_server)
        if order is Order.REPEATED:
            return True  # it came twice while we asked for a key
        said = application.decode_group_text(body)
        text = GroupText(view.sg_id, view.name, message.sender, said.text, order is Order.LATE)
        return self._tell(message, said.push_id, heard, text)

    def _missed(self, view: View, message: m.GroupMessage) -> None:
        """Tell of a message of our time that we can't open; where the server keeps any, it comes from there.

        Raises:
            AuthenticationFailed: its sender did not sign it.
        """
        if view.keep or message.epoch < view.since:
            return
        if not view.vouched:
            known = view.senders.get(message.sender)
            if known is None or known.verify_key is None or known.run != receiver.run_of(message.seq):
                return
            receiver.check_signature(message, known.verify_key)
        text = GroupText(view.sg_id, view.name, message.sender, None, late=True)
        self._tell(message, message.seq, self._heard_of(view, message.sender), text)


_TAKEN: Final = Answer(Code.CHANGED, codec.encode(m.GroupMessageResponse(Result.SUCCESS)))
