"""What PNEs, and PN GWs of members, ask about service groups, each in its own session, and who answers."""

import base64
import logging

from cpns.domain import actor as actors
from cpns.domain.group import KEEP_SECONDS, Group
from cpns.domain.member_list import Policy
from cpns.errors import Refused, Result
from cpns.ids import SgId
from cpns.ports import Clock, Randomness
from cpns.ports.groups import GroupStore
from cpns.server.gateways import FromGateway
from cpns.server.group_messages import GroupMessages
from cpns.server.group_pages import GroupPages
from cpns.server.groups import Groups, entries_of
from cpns.session.table import Session
from cpns.shares.noted import by
from cpns.transport.dispatch import Row, on
from cpns.wire import sg_messages as sg
from cpns.wire.group_messages import (
    GroupKeyGiven,
    GroupKeyWanted,
    GroupMessageResponse,
    GroupMessageUp,
    GroupSenderRequest,
)
from cpns.wire.registry import JoinPolicy

_log = logging.getLogger("cpns.server")


class GroupRequests:
    """The handlers.

    Args:
        most: groups that one PNE may own.
    """

    def __init__(
        self,
        store: GroupStore,
        groups: Groups,
        pages: GroupPages,
        messages: GroupMessages,
        clock: Clock,
        random: Randomness,
        most: int,
    ) -> None:
        self._store = store
        self._groups = groups
        self._pages = pages
        self._messages = messages
        self._clock = clock
        self._random = random
        self._most = most

    def of_pne(self) -> tuple[Row[Session], ...]:
        """Return what a PNE may ask."""
        return (
            on(sg.SgCreateRequest, self._create),
            on(sg.SgDiscoveryRequest, self._discover),
            on(sg.SgJoinRequest, self._join),
            on(sg.SgInviteRequest, self._invite),
            on(sg.SgLeaveRequest, self._leave),
            on(sg.SgExpelRequest, self._expel),
            on(sg.SgOwnerChangeRequest, self._pass_on),
            on(sg.SgDeleteRequest, self._delete),
            on(sg.SgInventoryRequest, self._inventory),
            on(GroupSenderRequest, self._messages.register),
        )

    def of_gateway(self) -> tuple[Row[FromGateway], ...]:
        """Return what a PN GW of members may ask."""
        return (
            on(sg.SgInventoryRequest, self._inventory_of_gateway),
            on(GroupKeyWanted, self._key),
            on(GroupMessageUp, self._sent),
        )

    async def _create(self, asker: Session, request: sg.SgCreateRequest) -> sg.SgCreateResponse:
        pne = asker.peer_id
        sg_id = SgId("sg-" + base64.b32encode(self._random(10)).decode().lower())
        policy = Policy[JoinPolicy(request.policy).name]
        await self._store.create_group(
            Group(
                *(sg_id, request.name, request.service, pne, policy, 1, 1, self._clock.now()),
                vouched=bool(request.vouched),
                keep=KEEP_SECONDS if request.keep is None else request.keep,
            ),
            self._most,
        )
        _log.info("PNE %s has made the group %s", pne, sg_id, extra=by(pne))
        self._groups.made(sg_id, pne)
        if not request.invite:
            return sg.SgCreateResponse(Result.SUCCESS, sg_id)
        try:
            results = await self._groups.invite(sg_id, actors.pne(pne), request.invite)
        except Refused as error:  # the group is made, so its ID is told
            results = dict.fromkeys(request.invite, error.result)
        return sg.SgCreateResponse(Result.SUCCESS, sg_id, entries_of(results))

    async def _join(self, asker: Session, request: sg.SgJoinRequest) -> sg.SgJoinResponse:
        waits = await self._groups.join(request.sg_id, actors.pne(asker.peer_id))
        return sg.SgJoinResponse(Result.PENDING_APPROVAL if waits else Result.SUCCESS)

    async def _invite(self, asker: Session, request: sg.SgInviteRequest) -> sg.SgInviteResponse:
        results = await self._groups.invite(request.sg_id, actors.pne(asker.peer_id), request.invite)
        return sg.SgInviteResponse(Result.SUCCESS, entries_of(results))

    async def _leave(self, asker: Session, request: sg.SgLeaveRequest) -> sg.SgLeaveResponse:
        await self._groups.leave(request.sg_id, actors.pne(asker.peer_id))
        return sg.SgLeaveResponse(Result.SUCCESS)

    async def _expel(self, asker: Session, request: sg.SgExpelRequest) -> sg.SgExpelResponse:
        await self._groups.expel(request.sg_id, actors.pne(asker.peer_id), request.members)
        return sg.SgExpelResponse(Result.SUCCESS)

    async def _pass_on(self, asker: Session, request: sg.SgOwnerChangeRequest) -> sg.SgOwnerChangeResponse:
        owner = await self._groups.pass_on(request.sg_id, actors.pne(asker.peer_id), request.candidate)
        return sg.SgOwnerChangeResponse(Result.SUCCESS, owner)

    async def _delete(self, asker: Session, request: sg.SgDeleteRequest) -> sg.SgDeleteResponse:
        await self._groups.delete(request.sg_id, actors.pne(asker.peer_id))
        return sg.SgDeleteResponse(Result.SUCCESS)

    async def _discover(self, asker: Session, request: sg.SgDiscoveryRequest) -> sg.SgDiscoveryResponse:
        return await self._pages.discovered(asker, request)

    async def _inventory(self, asker: Session, request: sg.SgInventoryRequest) -> sg.SgInventoryResponse:
        return await self._pages.answer(asker, request)

    async def _inventory_of_gateway(self, asker: FromGateway, request: sg.SgInventoryRequest) -> sg.SgInventoryResponse:
        return await self._pages.answer(asker.peer.session, request)

    async def _key(self, asker: FromGateway, request: GroupKeyWanted) -> GroupKeyGiven:
        return await self._groups.key_for(asker.peer.gateway_id, request)

    async def _sent(self, asker: FromGateway, message: GroupMessageUp) -> GroupMessageResponse:
        return await self._messages.sent(asker.peer.gateway_id, message)
