"""What a PNE does about service groups: it asks the server end to end, and is asked and told in the same session."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed, NoAnswer, Refused, Result
from cpns.ids import EntityId, SgId
from cpns.pne.group_views import GroupViews, View
from cpns.pne.way import ToGateway, ToServer
from cpns.ports import Time
from cpns.protocol.group_keying.member import Gkdk, open_broadcast, take
from cpns.service.background import Background
from cpns.service.life import within
from cpns.service.pages import all_pages
from cpns.session.table import Session
from cpns.transport.dispatch import TAKEN, Row, on
from cpns.transport.endpoint import Inbound
from cpns.transport.errors import Answer
from cpns.wire import group_messages as gm
from cpns.wire import sg_messages as m
from cpns.wire.registry import Change

M = TypeVar("M")

CONSENT_SECONDS: Final = 25.0
"""Others are asked: see the server's own limit for each."""

FETCH_PAUSES: Final = (0.3, 1.0, 5.0)
"""Seconds before the server is asked again that did not answer; in the end the next change or session brings it."""
JOIN_SECONDS: Final = 10.0
"""It is answered when the next epoch begins, a second later at most."""
KEY_SECONDS: Final = 3.0
"""How long a message waits for the Group Key that opens it."""
MAX_WAITING: Final = 32
EPOCHS_KEPT: Final = 8
CATCH_UP_PAUSES: Final = (1.0, 60.0)
"""Seconds after the news of an epoch before its key is asked for, and the most between attempts."""
HOP_SECONDS: Final = 5.0

Asked = m.SgInvitation | m.SgOwnershipOffer
"""Whether it comes into a group, or takes ownership of one."""


class Groups:
    """The service groups of one PNE.

    Args:
        own_id: the PNE.
        way: to the server, end to end.
        hop: to our PN GW.
        consent: decides on invitations and on ownership.
        on_change: is told of what changes in a group.
    """

    def __init__(
        self,
        own_id: EntityId,
        way: ToServer,
        hop: ToGateway,
        consent: Callable[[Asked], Awaitable[bool]],
        on_change: Callable[[m.SgChangeNotify], None],
        time: Time,
    ) -> None:
        self._own_id = own_id
        self._time = time
        self._way = way
        self._consent = consent
        self._on_change = on_change
        self._hop = hop
        self._views = GroupViews(way, self._viewed, self._forget)
        self.keys: dict[SgId, dict[int, Secret]] = {}
        """The Group Keys of the newest epochs, in memory: after a restart a member asks."""
        self._doubted: dict[SgId, set[int]] = {}
        """Those of them that may be of another life of the server's store: they open until another key comes."""
        self._gkdks: dict[SgId, Gkdk] = {}
        self._came = asyncio.Event()
        """Another Group Key is there."""
        self._asking: set[SgId] = set()
        self._waiting = 0
        self._coming: set[SgId] = set()
        """Groups that we are about to be in, whose key may come before the news."""
        self._catching_up: set[SgId] = set()
        self._work = Background()

    @property
    def views(self) -> dict[SgId, View]:
        """What we know of the groups that we are in."""
        return self._views.of

    async def close(self) -> None:
        """Ask no more."""
        await self._work.close()

    # what it asks for; all raise `Refused`

    async def create(
        self,
        name: str,
        policy: int,
        service: str | None = None,
        invite: Sequence[EntityId] = (),
        *,
        vouched: bool = False,
        keep: int | None = None,
    ) -> tuple[SgId, dict[EntityId, Result]]:
        """Make a group that we own; return its ID, and how it ended for each that was invited.

        Args:
            name: for people.
            policy: who may join.
            service: what it is for.
            invite: whom the server is to ask at once.
            vouched: see `cpns.domain.group.Group`.
            keep: seconds, see there; None: as the server does.
        """
        request = m.SgCreateRequest(name, policy, service, tuple(invite) or None, vouched or None, keep)
        made = await self._way.ask(request, m.SgCreateResponse, CONSENT_SECONDS if invite else None)
        await self.refresh(made.sg_id)
        results = {one.entity_id: Result.told(one.result, Result.SERVER_ERROR) for one in made.entries or ()}
        return made.sg_id, results

    async def discover(
        self, keyword: str | None = None, service: str | None = None, *, members: bool = False
    ) -> list[m.SgEntry]:
        """Return the groups that we may find, page by page."""

        def ask(after: EntityId | None) -> Awaitable[m.SgDiscoveryResponse]:
            request = m.SgDiscoveryRequest(keyword, service, members or None, after)
            return self._way.ask(request, m.SgDiscoveryResponse)

        found = await all_pages(ask, lambda page: [one.sg_id for one in page.entries or ()])
        return [one for page in found for one in page.entries or ()]

    async def join(self, sg_id: SgId) -> Result:
        """Join a group; return SUCCESS, or PENDING_APPROVAL."""
        self._coming.add(sg_id)
        try:
            answer = await self._way.ask(m.SgJoinRequest(sg_id), m.SgJoinResponse, JOIN_SECONDS)
            result = Result.told(answer.result, Result.SERVER_ERROR)
            if result is Result.SUCCESS:
                await self.refresh(sg_id)
            return result
        finally:
            self._coming.discard(sg_id)

    async def invite(self, sg_id: SgId, whom: Sequence[EntityId]) -> dict[EntityId, Result]:
        """Invite others; return how it ended for each. Whoever owns the group lets in who waits that way."""
        answer = await self._way.ask(m.SgInviteRequest(sg_id, tuple(whom)), m.SgInviteResponse, CONSENT_SECONDS)
        return {one.entity_id: Result.told(one.result, Result.SERVER_ERROR) for one in answer.entries or ()}

    async def leave(self, sg_id: SgId) -> None:
        """Leave a group, or decline."""
        await self._way.ask(m.SgLeaveRequest(sg_id), m.SgLeaveResponse)
        self._views.left(sg_id)

    async def expel(self, sg_id: SgId, whom: Sequence[EntityId]) -> None:
        """Put others out, as owner. When this returns, what we say is said under an epoch that they are not in."""
        await self._way.ask(m.SgExpelRequest(sg_id, tuple(whom)), m.SgExpelResponse)
        await self.refresh(sg_id)

    async def pass_on(self, sg_id: SgId, to: EntityId | None = None) -> EntityId | None:
        """Give ownership to another, or to whom the server chooses; return the new owner."""
        request = m.SgOwnerChangeRequest(sg_id, to)
        return (await self._way.ask(request, m.SgOwnerChangeResponse, CONSENT_SECONDS)).owner

    async def delete(self, sg_id: SgId) -> None:
        """End a group, as owner."""
        await self._way.ask(m.SgDeleteRequest(sg_id), m.SgDeleteResponse)
        self._views.left(sg_id)

    async def refresh(self, sg_id: SgId | None = None) -> None:
        """Bring our view of a group up to date; None: of all that we are in."""
        await (self._views.fetch_all() if sg_id is None else self._views.fetch(sg_id))

    def resume(self) -> None:
        """Our sessions stand anew: see which groups we are in, and what we missed of them.

        After our restart we know of none. And the server may live on an older copy of its store, in which an epoch has
        another key than the one that we have.
        """
        for sg_id, kept in self.keys.items():
            self._doubted[sg_id] = set(kept)
        self._work.start(self._patiently(self._views.fetch_all))

    async def _patiently(self, fetch: Callable[[], Awaitable[None]]) -> None:
        """Ask again where no answer came; who refuses has said what there is to know."""
        for pause in (*FETCH_PAUSES, None):
            try:
                await fetch()
            except NoAnswer:
                if pause is not None:
                    await self._time.sleep(pause)
            except Refused:
                return
            else:
                return

    def _viewed(self, view: View, before: View | None) -> None:
        """The server has told of a group, maybe of an epoch before the one that it named before."""
        if before is not None and view.epoch < before.epoch:
            kept = self.keys.get(view.sg_id, {})
            self._doubted.setdefault(view.sg_id, set()).update(one for one in kept if one >= view.epoch)
        if view.sg_id not in self._catching_up:
            self._work.start(self._catch_up(view.sg_id))

    async def view(self, sg_id: SgId) -> View:
        """Return our view of a group; one that we do not know is asked for. Raises `Refused`: we are not in it."""
        if sg_id not in self.views:
            await self._views.fetch(sg_id)
        if sg_id not in self.views:
            raise Refused(Result.UNKNOWN_SG, "not_in_this_group")
        return self.views[sg_id]

    async def sender(self, sg_id: SgId, pne: EntityId) -> m.SgMemberEntry | None:
        """Ask for one member, and the key that it registered to send. Raises `Refused`."""
        return await self._views.sender(sg_id, pne)

    # what it is asked and told, by the server alone

    def of_server(self) -> tuple[Row[Session], ...]:
        """Return what the server may say."""
        return (
            on(m.SgInvitation, self._invited),
            on(m.SgOwnershipOffer, self._offered),
            on(m.SgChangeNotify, self._told_of_a_change),
        )

    async def _invited(self, source: Session, message: m.SgInvitation) -> m.SgInviteResponse:
        return m.SgInviteResponse(await self._agrees(message))

    async def _offered(self, source: Session, message: m.SgOwnershipOffer) -> m.SgOwnerChangeResponse:
        return m.SgOwnerChangeResponse(await self._agrees(message))

    async def _agrees(self, message: Asked) -> Result:
        return Result.SUCCESS if await self._consent(message) else Result.REFUSED_BY_USER

    async def _told_of_a_change(self, source: Session, notice: m.SgChangeNotify) -> Answer:
        self._work.start(self.changed(notice))
        return TAKEN

    async def changed(self, notice: m.SgChangeNotify) -> None:
        """Follow SGChangeNotify."""
        out = notice.change == Change.RELEASED
        out = out or (notice.change in (Change.LEFT, Change.EXPELLED) and self._own_id in notice.members)
        if not (out and self._views.told_out(notice.sg_id, notice.version)):
            await self._patiently(lambda: self._views.fetch(notice.sg_id))
        if not (out and notice.sg_id in self.views):  # else it is old: we are in again
            self._on_change(notice)

    def _forget(self, sg_id: SgId) -> None:
        """We are in a group no more."""
        self.keys.pop(sg_id, None)
        self._doubted.pop(sg_id, None)
        self._gkdks.pop(sg_id, None)

    # Group Keys, from our PN GW

    async def keyed(self, inbound: Inbound, message: gm.GroupKeyRequest) -> gm.GroupKeyResponse:
        """Take a Group Key that our PN GW gave us alone."""
        self._is_ours(message.sg_id)
        self._keep(message.sg_id, message.epoch, Secret(message.group_key))
        return gm.GroupKeyResponse(Result.SUCCESS)

    def _is_ours(self, sg_id: SgId) -> None:
        """Raise `Refused` for a group that we do not know: it may have been left, or the news of it was lost."""
        if sg_id not in self.views and sg_id not in self._coming:
            self._work.start(self._look_into(sg_id))
            raise Refused(Result.UNKNOWN_SG, "not_in_this_group")

    async def _look_into(self, sg_id: SgId) -> None:
        """Ask the server about a group that our PN GW has a key for: if we are in it, we ask for that."""
        with contextlib.suppress(Refused):
            await self._views.fetch(sg_id)

    def gkdk(self, sg_id: SgId) -> Gkdk | None:
        """Return our GKDK of a group, if we have one."""
        return self._gkdks.get(sg_id)

    def given_gkdk(self, message: gm.GkdkRequest, gateway: EntityId) -> gm.GkdkResponse:
        """Take our GKDK (DEF-7). Raises `Refused` where it is none."""
        self._is_ours(message.sg_id)
        self._gkdks[message.sg_id] = take(message, gateway)
        return gm.GkdkResponse(Result.SUCCESS)

    async def broadcast(self, inbound: Inbound, message: gm.GroupKeyBroadcast) -> gm.GroupKeyResponse:
        """Take a broadcast, from whomever: what our PN GW signed, and our GKDK opens, is good.

        Raises:
            Refused: it is of another, for others, of an epoch before the one that the server named, or we have its key.
        """
        own, view = self._gkdks.get(message.sg_id), self.views.get(message.sg_id)
        over = view is not None and message.epoch < view.epoch
        if own is None or over or self.has_key(message.sg_id, message.epoch):
            raise AuthenticationFailed("no_use_for_that_broadcast")
        self._keep(message.sg_id, message.epoch, open_broadcast(own, message))
        return gm.GroupKeyResponse(Result.SUCCESS)

    def _keep(self, sg_id: SgId, epoch: int, key: Secret) -> None:
        """Keep the key of an epoch, in place of one that was of another life of the server's store."""
        kept, doubted = self.keys.setdefault(sg_id, {}), self._doubted.get(sg_id, set())
        kept[epoch] = key
        doubted.discard(epoch)
        for older in sorted(kept, key=lambda one: (one not in doubted, one))[:-EPOCHS_KEPT]:
            del kept[older]
            doubted.discard(older)
        self._wake()

    def _wake(self) -> None:
        """Let those that wait for a key look again."""
        came, self._came = self._came, asyncio.Event()
        came.set()

    def has_key(self, sg_id: SgId, epoch: int) -> bool:
        """Whether we have the key of an epoch, and it is the one of the server's present life."""
        return epoch in self.keys.get(sg_id, {}) and epoch not in self._doubted.get(sg_id, ())

    def newest_key(self, sg_id: SgId) -> int:
        """Return the newest epoch whose key we have, of the server's present life; 0: of none."""
        return max((one for one in self.keys.get(sg_id, {}) if self.has_key(sg_id, one)), default=0)

    def _may_come(self, sg_id: SgId, epoch: int) -> bool:
        """Whether the key of an epoch may be on its way: of one before the newest that we have none comes any more."""
        return sg_id in self.views and epoch >= self.newest_key(sg_id) and not self.has_key(sg_id, epoch)

    async def key_of(self, sg_id: SgId, epoch: int) -> Secret | None:
        """Return the Group Key of an epoch; one that may come is asked for, and waited for.

        None: it did not come, or it is one that we have missed, or no more have. See `has_key`: one that may be of
        another life of the server opens what was said in that.
        """
        if self._waiting < MAX_WAITING and self._may_come(sg_id, epoch):
            self._waiting += 1
            try:
                await within(self._time, KEY_SECONDS, self._comes(sg_id, epoch))
            except TimeoutError:
                pass
            finally:
                self._waiting -= 1
        return self.keys.get(sg_id, {}).get(epoch)

    async def _comes(self, sg_id: SgId, epoch: int) -> None:
        while self._may_come(sg_id, epoch):
            if sg_id not in self._asking:
                self._work.start(self._ask_now(sg_id))
            await self._came.wait()

    async def _ask_now(self, sg_id: SgId) -> None:
        """Ask for a key that something waits for; it is asked for again after a while, if anything does still."""
        self._asking.add(sg_id)
        try:
            with contextlib.suppress(Refused):
                await self._ask_for_key(sg_id)
            await self._time.sleep(CATCH_UP_PAUSES[0])
        finally:
            self._asking.discard(sg_id)
            self._wake()

    async def _catch_up(self, sg_id: SgId) -> None:
        """Ask our PN GW for a key that did not come by itself, until we have that of the newest epoch that we know.

        At once where it need not come by itself: we have started anew, or the server's store was set back.
        """
        self._catching_up.add(sg_id)
        try:
            comes = sg_id in self._coming or (sg_id in self.keys and not self._doubted.get(sg_id))
            pause = CATCH_UP_PAUSES[0] if comes else 0.0
            while True:
                await self._time.sleep(pause)
                pause = min(max(2 * pause, CATCH_UP_PAUSES[0]), CATCH_UP_PAUSES[1])
                view = self.views.get(sg_id)
                if view is None or self.has_key(sg_id, view.epoch):
                    return
                with contextlib.suppress(Refused):
                    await self._ask_for_key(sg_id)
        finally:
            self._catching_up.discard(sg_id)

    async def _ask_for_key(self, sg_id: SgId) -> None:
        hop = self._hop()
        if hop is None:
            return
        link, session = hop
        wanted = gm.GroupKeyWanted(sg_id, self._own_id)
        given = await link.ask(wanted, gm.GroupKeyGiven, timeout=HOP_SECONDS, session=session)
        if given.epoch is not None and given.group_key is not None and sg_id in self.views:
            self._keep(sg_id, given.epoch, Secret(given.group_key))
