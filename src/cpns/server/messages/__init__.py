"""Messages to service groups: handed on to the members, and kept for those that are away."""

from collections.abc import Iterable

from cpns.server.feature import Delivering, Here
from cpns.server.messages.actions import MessageActions
from cpns.server.messages.delivery import MessageDelivery
from cpns.server.peers.gateways import FromGateway
from cpns.service.group_keyring import GroupKeyring
from cpns.session.table import Session
from cpns.transport.dispatch import Row, on
from cpns.wire.group_messages import GroupMessageResponse, GroupMessageUp, GroupSenderRequest


class Messages(Delivering):
    """The messages to groups at one server process."""

    delivery: MessageDelivery

    def __init__(self, here: Here) -> None:
        super().__init__(here)
        keys = GroupKeyring(here.store, here.vault, here.clock, here.random)
        self.delivery = MessageDelivery(here, keys)
        self.actions = MessageActions(here.store, keys, here.sessions, here.clock, self.delivery)

    def of_gateway(self) -> Iterable[Row[FromGateway]]:
        """See `Feature`; so all of these."""
        return (on(GroupMessageUp, self._sent),)

    def of_pne(self) -> Iterable[Row[Session]]:
        """See `Feature`."""
        return (on(GroupSenderRequest, self.actions.register),)

    async def _sent(self, asker: FromGateway, message: GroupMessageUp) -> GroupMessageResponse:
        return await self.actions.sent(asker.peer.gateway_id, message)
