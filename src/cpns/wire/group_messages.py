"""The messages that carry Group Keys, and what is said under them, as frozen types; see `cpns.wire.declare`.

All are this project's own (PROTOCOL sections 14 and 15).
"""

from dataclasses import field

from cpns.wire import fields as f
from cpns.wire.declare import Leg, Message, answer, entry, message


@message(66, "GROUP-KEY Request", Leg.SERVER_TO_GATEWAY, Leg.GATEWAY_TO_MEMBER)
class GroupKeyRequest(Message):
    """GROUP-KEY Request: server to PN GW, in its session; PN GW to member, in the hop session or on a Secure PAN."""

    sg_id: f.SgId
    epoch: f.Epoch
    group_key: f.GroupKey = field(repr=False)


@message(68, "GROUP-KEY-UPDATE Request", Leg.MEMBER_TO_GATEWAY, Leg.GATEWAY_TO_SERVER)
class GroupKeyWanted(Message):
    """GROUP-KEY-UPDATE Request, PN GW to server; a member, that names itself, to its PN GW: it missed an epoch."""

    sg_id: f.SgId
    member: f.EntityId | None = None


@answer(69, "GROUP-KEY-UPDATE Response", GroupKeyWanted)
class GroupKeyGiven(Message):
    """GROUP-KEY-UPDATE Response: the key of the newest epoch, where the asker is a member."""

    result: f.Result
    epoch: f.Epoch | None = None
    group_key: f.GroupKey | None = field(default=None, repr=False)


@entry
class PathEntry:
    """One node on the path of a member, and its key."""

    node: f.Node
    node_key: f.NodeKey = field(repr=False)


@message(70, "GKDK Request", Leg.GATEWAY_TO_MEMBER)
class GkdkRequest(Message):
    """GKDK Request, PN GW to member in the hop session: its path from the root to its leaf (DEF-7)."""

    sg_id: f.SgId
    tree: f.Tree
    verify_key: f.VerifyKey
    entries: tuple[PathEntry, ...]


@answer(71, "GKDK Response", GkdkRequest)
class GkdkResponse(Message):
    """GKDK Response."""

    result: f.Result


@entry
class WrappedEntry:
    """A Group Key for all members below one node."""

    node: f.Node
    wrapped: f.Wrapped


@message(72, "GroupKeyNotify", Leg.PAN_TO_PNE, grows=False)
class GroupKeyBroadcast(Message):
    """GroupKeyNotify, PN GW to its members, the same for all: the Group Key under GKEK (DEF-6), signed."""

    sg_id: f.SgId
    gateway_id: f.GatewayId
    epoch: f.Epoch
    tree: f.Tree
    entries: tuple[WrappedEntry, ...]
    signature: f.Signature


@answer(67, "GROUP-KEY Response", GroupKeyRequest, GroupKeyBroadcast)
class GroupKeyResponse(Message):
    """GROUP-KEY Response; of a broadcast it is unprotected."""

    result: f.Result


@message(73, "GROUP-SENDER Request", Leg.PNE_TO_SERVER)
class GroupSenderRequest(Message):
    """GROUP-SENDER Request, PNE to server, end to end: it will send; without a key in `vouched` groups alone."""

    verify_key: f.VerifyKey | None = None


@answer(74, "GROUP-SENDER Response", GroupSenderRequest)
class GroupSenderResponse(Message):
    """GROUP-SENDER Response: a number that this PNE was never given before."""

    result: f.Result
    run: f.Run


@message(
    75,
    "GROUP-MESSAGE Request",
    Leg.MEMBER_TO_GATEWAY,
    Leg.SERVER_TO_GATEWAY,
    Leg.PAN_TO_PNE,
    Leg.GATEWAY_TO_MEMBER,
    grows=False,
)
class GroupMessage(Message):
    """GROUP-MESSAGE Request, the same all the way: sender to PN GW, server to PN GW, PN GW to members."""

    sg_id: f.SgId
    epoch: f.Epoch
    sender: f.EntityId
    seq: f.Seq
    sealed: f.Sealed
    signature: f.Signature | None = None


@message(75, "GROUP-MESSAGE Request", Leg.GATEWAY_TO_SERVER, grows=False)
class GroupMessageUp(Message):
    """GROUP-MESSAGE Request, the sender's PN GW to the server: how many behind it have it, and who has not."""

    sg_id: f.SgId
    epoch: f.Epoch
    sender: f.EntityId
    seq: f.Seq
    sealed: f.Sealed
    count: f.Count
    missed: f.Members
    signature: f.Signature | None = None


@message(75, "GROUP-MESSAGE Request", Leg.SERVER_TO_PNE, grows=False)
class GroupMessageKept(Message):
    """GROUP-MESSAGE Request, server to a member end to end: what was kept for it, and what opens and proves that."""

    sg_id: f.SgId
    epoch: f.Epoch
    sender: f.EntityId
    seq: f.Seq
    sealed: f.Sealed
    group_key: f.GroupKey = field(repr=False)
    signature: f.Signature | None = None
    verify_key: f.VerifyKey | None = None


@answer(76, "GROUP-MESSAGE Response", GroupMessage, GroupMessageUp, GroupMessageKept)
class GroupMessageResponse(Message):
    """GROUP-MESSAGE Response; to the server, of how many have it, and who has not; to the sender, of the epoch."""

    result: f.Result
    epoch: f.Epoch | None = None
    count: f.Count | None = None
    missed: f.Members | None = None
