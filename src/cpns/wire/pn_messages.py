"""The messages about personal networks: this project's own, as the seeds leave them open; see `cpns.wire.declare`."""

from cpns.wire import fields as f
from cpns.wire.declare import Leg, Message, answer, entry, message
from cpns.wire.messages import OutcomeEntry


@message(24, "PNChangeNotify", Leg.SERVER_TO_GATEWAY, Leg.GATEWAY_TO_MEMBER, Leg.SERVER_TO_PNE)
class PnChangeNotify(Message):
    """PNChangeNotify: a PN changed; server to PN GW, PN GW to its PNEs, server to a PNE that it concerns.

    Answered by an empty 2.04. With `change` GATEWAY it is the PN GW change notification, `gateway_id` the new PN GW and
    `addresses` where its PANs may be.
    """

    pn_id: f.PnId
    members: f.Members
    version: f.Version
    change: f.Change
    gateway_id: f.GatewayId | None = None
    addresses: f.Addresses | None = None


@message(25, "INVENTORY Request", Leg.GATEWAY_TO_SERVER, Leg.PNE_TO_SERVER)
class InventoryRequest(Message):
    """INVENTORY Request, PN GW or PNE to server: what is in this PN, by ID after `after`?

    With `version`, that of the copy which the asker has: nothing is told where it is the newest. Without `pn_id`: which
    PNs do I serve (PN GW), or am I in (PNE)?
    """

    pn_id: f.PnId | None = None
    version: f.Version | None = None
    after: f.After | None = None


@entry
class InventoryEntry:
    """A member, its state, how many seconds ago that was learned, from whom, and whether it is in the PN as guest.

    `guest` is None for who stands as member and is not in the PN; a PN GW alone is told of those.
    """

    entity_id: f.EntityId
    presence: f.Presence
    age: f.Age
    source: f.Source
    guest: f.Guest | None = None


@answer(26, "INVENTORY Response", InventoryRequest)
class InventoryResponse(Message):
    """INVENTORY Response: from the server's PN Inventory, which is the truth (DEF-3).

    Without `gateway_id`: the asker's version is the newest. With `more`, another request goes on after the last entry.
    `networks` answers a request that named no PN.
    """

    result: f.Result
    pn_id: f.PnId | None = None
    version: f.Version | None = None
    gateway_id: f.GatewayId | None = None
    name: f.Name | None = None
    owner: f.Owner | None = None
    entries: tuple[InventoryEntry, ...] | None = None
    more: f.More | None = None
    networks: f.Networks | None = None


@message(27, "Entity Discovery Request", Leg.PAN_TO_GATEWAY, Leg.PAN_TO_PNE, Leg.GATEWAY_TO_MEMBER, grows=False)
class EntityDiscoveryRequest(Message):
    """Entity Discovery Request, on the PAN, to one address or by multicast: who is there, and as what?"""

    entity_id: f.EntityId
    mode: f.Mode
    pn_id: f.PnId | None = None


@answer(28, "Entity Discovery Response", EntityDiscoveryRequest, grows=False)
class EntityDiscoveryResponse(Message):
    """Entity Discovery Response: it finds, and proves nothing; the handshake does."""

    entity_id: f.EntityId
    mode: f.Mode
    pan_secure: f.PanSecure
    networks: f.Networks
    name: f.Name | None = None


@message(29, "Gateway Change Request", Leg.PAN_TO_PNE, Leg.GATEWAY_TO_MEMBER, grows=False)
class GatewayChangeRequest(Message):
    """Gateway Change Request: be a PN GW (too), for want of one or in the place of this one."""

    entity_id: f.EntityId
    mode: f.Mode
    pn_id: f.PnId | None = None


@answer(30, "Gateway Change Response", GatewayChangeRequest, grows=False)
class GatewayChangeResponse(Message):
    """Gateway Change Response; with result 0, the PN GW ID that the device now has."""

    result: f.Result
    gateway_id: f.GatewayId | None = None


@message(31, "PN GW Switching Request", Leg.GATEWAY_TO_SERVER, Leg.SERVER_TO_GATEWAY)
class PnGwSwitchingRequest(Message):
    """PN GW Switching Request: this PN is to be served by that PN GW.

    PN GW to server: for itself (with `addresses`, where its PANs are), or for another to which it hands its PN. Server
    to the other PN GW of the two: agreed?
    """

    pn_id: f.PnId
    gateway_id: f.GatewayId
    addresses: f.Addresses | None = None


@answer(32, "PN GW Switching Response", PnGwSwitchingRequest)
class PnGwSwitchingResponse(Message):
    """PN GW Switching Response; the PN GW that takes over says where its PANs are."""

    result: f.Result
    addresses: f.Addresses | None = None


@message(33, "INVITE Request", Leg.PNE_TO_SERVER, Leg.SERVER_TO_GATEWAY)
class InviteRequest(Message):
    """INVITE Request, PNE to server, and server to the PN GW that is to ask them."""

    pn_id: f.PnId
    invite: f.Invite


@answer(34, "INVITE Response", InviteRequest)
class InviteResponse(Message):
    """INVITE Response: how it ended for each."""

    result: f.Result
    entries: tuple[OutcomeEntry, ...] | None = None


@message(35, "LEAVE Request", Leg.PNE_TO_SERVER)
class LeaveRequest(Message):
    """LEAVE Request, PNE to server."""

    pn_id: f.PnId


@answer(36, "LEAVE Response", LeaveRequest)
class LeaveResponse(Message):
    """LEAVE Response."""

    result: f.Result


@message(37, "EXPEL Request", Leg.PNE_TO_SERVER, Leg.GATEWAY_TO_SERVER)
class ExpelRequest(Message):
    """EXPEL Request, PNE with the right or PN GW to server."""

    pn_id: f.PnId
    members: f.Members


@answer(38, "EXPEL Response", ExpelRequest)
class ExpelResponse(Message):
    """EXPEL Response."""

    result: f.Result


@message(39, "RELEASE Request", Leg.PNE_TO_SERVER, Leg.GATEWAY_TO_SERVER)
class ReleaseRequest(Message):
    """RELEASE Request, PNE with the right or PN GW to server: the PN ends."""

    pn_id: f.PnId


@answer(40, "RELEASE Response", ReleaseRequest)
class ReleaseResponse(Message):
    """RELEASE Response."""

    result: f.Result


@entry
class StatusEntry:
    """How a PN GW finds one of its PNEs."""

    entity_id: f.EntityId
    presence: f.Presence


@message(41, "PNStatusNotify", Leg.GATEWAY_TO_SERVER)
class PnStatusNotify(Message):
    """PNStatusNotify, PN GW to server: these of my PNEs fell silent, or are heard again; answered by an empty 2.04."""

    entries: tuple[StatusEntry, ...]
