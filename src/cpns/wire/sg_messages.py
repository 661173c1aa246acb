"""The messages about service groups as frozen types; see `cpns.wire.declare`.

All are this project's own (PROTOCOL section 13), named after the specification's other public material. A PNE and the
server say them end to end, so that no PN GW can act as owner.
"""

from cpns.wire import fields as f
from cpns.wire.declare import Leg, Message, answer, entry, message
from cpns.wire.messages import OutcomeEntry


@message(47, "SG-CREATE Request", Leg.PNE_TO_SERVER)
class SgCreateRequest(Message):
    """SG-CREATE Request, PNE to server: it will own the group; `invite` are asked to come."""

    name: f.Name
    policy: f.Policy
    service: f.Service | None = None
    invite: f.Invite | None = None
    vouched: f.Vouched | None = None
    keep: f.Keep | None = None


@answer(48, "SG-CREATE Response", SgCreateRequest)
class SgCreateResponse(Message):
    """SG-CREATE Response: the group's ID, and how it ended for each that was invited."""

    result: f.Result
    sg_id: f.SgId
    entries: tuple[OutcomeEntry, ...] | None = None


@message(49, "SG-DISCOVERY Request", Leg.PNE_TO_SERVER)
class SgDiscoveryRequest(Message):
    """SG-DISCOVERY Request: groups with a keyword in their name or service, or for one service."""

    keyword: f.Keyword | None = None
    service: f.Service | None = None
    member_req: f.MemberReq | None = None
    after: f.After | None = None


@entry
class SgEntry:
    """One group in SG-DISCOVERY Response; its members where the asker is one, and asked for them."""

    sg_id: f.SgId
    name: f.Name
    policy: f.Policy
    owner: f.Owner
    version: f.Version
    service: f.Service | None = None
    members: f.Members | None = None


@answer(50, "SG-DISCOVERY Response", SgDiscoveryRequest)
class SgDiscoveryResponse(Message):
    """SG-DISCOVERY Response; with `more`, the next page is after the last of these."""

    result: f.Result
    entries: tuple[SgEntry, ...] | None = None
    more: f.More | None = None


@message(51, "SG-JOIN Request", Leg.PNE_TO_SERVER)
class SgJoinRequest(Message):
    """SG-JOIN Request."""

    sg_id: f.SgId


@answer(52, "SG-JOIN Response", SgJoinRequest)
class SgJoinResponse(Message):
    """SG-JOIN Response: 0, or 54 where it waits for approval."""

    result: f.Result


@message(53, "SG-INVITE Request", Leg.PNE_TO_SERVER)
class SgInviteRequest(Message):
    """SG-INVITE Request, PNE to server."""

    sg_id: f.SgId
    invite: f.Invite


@message(53, "SG-INVITE Request", Leg.SERVER_TO_PNE)
class SgInvitation(Message):
    """SG-INVITE Request, server to the invited PNE."""

    sg_id: f.SgId
    name: f.Name
    owner: f.Owner
    service: f.Service | None = None


@answer(54, "SG-INVITE Response", SgInviteRequest, SgInvitation)
class SgInviteResponse(Message):
    """SG-INVITE Response: of the server, how it ended for each; of an invited PNE, whether it comes."""

    result: f.Result
    entries: tuple[OutcomeEntry, ...] | None = None


@message(55, "SG-LEAVE Request", Leg.PNE_TO_SERVER)
class SgLeaveRequest(Message):
    """SG-LEAVE Request."""

    sg_id: f.SgId


@answer(56, "SG-LEAVE Response", SgLeaveRequest)
class SgLeaveResponse(Message):
    """SG-LEAVE Response."""

    result: f.Result


@message(57, "SG-EXPEL Request", Leg.PNE_TO_SERVER)
class SgExpelRequest(Message):
    """SG-EXPEL Request: the owner puts members out."""

    sg_id: f.SgId
    members: f.Members


@answer(58, "SG-EXPEL Response", SgExpelRequest)
class SgExpelResponse(Message):
    """SG-EXPEL Response."""

    result: f.Result


@message(59, "SG Owner Change Request", Leg.PNE_TO_SERVER)
class SgOwnerChangeRequest(Message):
    """SG Owner Change Request, the owner to the server; without a candidate the server chooses."""

    sg_id: f.SgId
    candidate: f.EntityId | None = None


@message(59, "SG Owner Change Request", Leg.SERVER_TO_PNE)
class SgOwnershipOffer(Message):
    """SG Owner Change Request, the server to the candidate: does it take over from that owner?"""

    sg_id: f.SgId
    owner: f.EntityId


@answer(60, "SG Owner Change Response", SgOwnerChangeRequest, SgOwnershipOffer)
class SgOwnerChangeResponse(Message):
    """SG Owner Change Response: of the candidate, whether it takes it; of the server, who owns the group now."""

    result: f.Result
    owner: f.Owner | None = None


@message(61, "SG-DELETE Request", Leg.PNE_TO_SERVER)
class SgDeleteRequest(Message):
    """SG-DELETE Request: the owner ends the group."""

    sg_id: f.SgId


@answer(62, "SG-DELETE Response", SgDeleteRequest)
class SgDeleteResponse(Message):
    """SG-DELETE Response."""

    result: f.Result


@message(63, "SGChangeNotify", Leg.SERVER_TO_PNE, Leg.SERVER_TO_GATEWAY)
class SgChangeNotify(Message):
    """SGChangeNotify, server to members and to PN GWs that have members: what changed; answered by an empty 2.04."""

    sg_id: f.SgId
    members: f.Members
    version: f.Version
    change: f.Change
    epoch: f.Epoch
    owner: f.Owner | None = None


@message(64, "SG-INVENTORY Request", Leg.PNE_TO_SERVER, Leg.GATEWAY_TO_SERVER)
class SgInventoryRequest(Message):
    """SG-INVENTORY Request of a member or of a PN GW that has members; without a group: which groups these are."""

    sg_id: f.SgId | None = None
    version: f.Version | None = None
    after: f.After | None = None
    member: f.EntityId | None = None
    """That one alone: whose key is asked for."""


@entry
class SgMemberEntry:
    """One PNE on a group's list: of a sender, its key, that key's number, and the number of its newest message."""

    entity_id: f.EntityId
    standing: f.Standing
    run: f.Run | None = None
    verify_key: f.VerifyKey | None = None
    seq: f.Seq | None = None


@answer(65, "SG-INVENTORY Response", SgInventoryRequest)
class SgInventoryResponse(Message):
    """SG-INVENTORY Response; without content where the asker has the newest version."""

    result: f.Result
    sg_id: f.SgId | None = None
    version: f.Version | None = None
    name: f.Name | None = None
    owner: f.Owner | None = None
    service: f.Service | None = None
    policy: f.Policy | None = None
    entries: tuple[SgMemberEntry, ...] | None = None
    more: f.More | None = None
    groups: f.Groups | None = None
    epoch: f.Epoch | None = None
    vouched: f.Vouched | None = None
    keep: f.Keep | None = None
