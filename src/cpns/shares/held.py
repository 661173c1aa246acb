"""What a row of the table of what is finite says, and the rows of what parties can't make more of than we let them."""

from dataclasses import dataclass
from typing import Final

ENTITIES: Final = "as many as the operator provisioned"
MEMBERS: Final = "as many as are members of its networks"
GROUPS: Final = "as many as its PNEs are in groups"
OURS: Final = "set by our own configuration"
ASKED: Final = "one for each request of ours that is under way; it ends with its answer or timeout"


@dataclass(frozen=True, slots=True)
class Bound:
    """One finite thing.

    Attributes:
        what: the thing.
        one: what one party may have of it: a constant, or in words what else bounds it.
        total: the same of all parties together.
        kept: the attributes that hold it, ``room.file.Class.attribute``.
        shown: tests that fill it, ``folder/file.py::name`` below `tests`.
    """

    what: str
    one: str
    total: str
    kept: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()


HELD: Final = (
    Bound(
        "what a server knows of its entities",
        "one of each",
        ENTITIES,
        (
            "server.peers.clones.Replaced._asking",
            "server.peers.clones.Replaced._replaced_at",
            "server.peers.clones.Clones._seen",
            "server.changing.rotations.Rotations._due",
            "server.peers.gateways.Gateways._connected",
            "server.messages.actions.MessageActions._busy",
            "server.peers.revocations.Revocations._barred",
            "server.peers.peer.GatewayPeer.pns",
            "server.peers.presence.Presences._facts",
            "session.table.Sessions._by_kid",
            "session.table.Sessions._by_peer",
            "session.table.Sessions._reserved",
        ),
    ),
    Bound(
        "what a server has told a PN GW of its members' groups",
        "one of each, for `server.groups.copies.REMEMBERED_SECONDS`",
        GROUPS,
        ("server.groups.copies.GroupCopies._told", "server.groups.copies.GroupCopies._waiting"),
    ),
    Bound(
        "handlers of messages, and of resources",
        "none",
        "one for each message of a leg, and for each path",
        ("transport.dispatch.Table.handlers", "server.app.Server._resources"),
    ),
    Bound(
        "groups whose ownership is being passed on",
        "one task",
        GROUPS,
        ("server.groups.actions.GroupActions._passing_on",),
    ),
    Bound(
        "what a PN GW knows of its members",
        "one of each",
        MEMBERS,
        (
            "gateway.members.Members._kids",
            "gateway.members.Members._links",
            "gateway.members.Members._members",
            "gateway.members.Members._moves",
            "gateway.members.Members._unwritten",
            "gateway.members.Members._unwritten_pns",
            "gateway.members.Members.astray",
            "gateway.members.Members.pns",
            "gateway.members.Members.turned",
            "gateway.networks.Networks._given",
            "gateway.networks.Networks._pending",
            "gateway.networks._Pending.about",
            "gateway.notices.Notices._missed",
            "gateway.notices.Notices._told",
            "gateway.switching.Switching._given",
        ),
    ),
    Bound(
        "what a PN GW knows of the groups of its members",
        "one of each",
        GROUPS,
        (
            "gateway.group_keys.GroupKeys._keyed",
            "gateway.key_giving.KeyGiving._groups",
            "gateway.key_giving._Group.busy",
            "gateway.key_giving._Group.told",
            "gateway.groups.Groups._named",
        ),
    ),
    Bound(
        "who is asked about a message to a group, and does not answer",
        "service.patience.MAX_UNDER_WAY",
        MEMBERS,
        ("service.patience.Patience._under_way",),
        ("unit/test_patience.py::test_who_is_silent_is_waited_for_once",),
    ),
    Bound(
        "who did not answer about a message to a group",
        "service.patience.MAX_SILENT",
        MEMBERS,
        ("service.patience.Patience._silent",),
        ("unit/test_patience.py::test_silent_peers_that_are_known_are_bounded",),
    ),
    Bound(
        "copies of what the server has, and who fetches one",
        "one of each",
        GROUPS,
        ("service.copies.Copies.of", "service.copies.Copies._orders", "service.copies.OneAtATime._turns"),
    ),
    Bound(
        "what a PNE knows of its groups",
        "one of each; epochs: pne.groups.EPOCHS_KEPT",
        "pne.group_messages.MAX_HEARD",
        (
            "pne.group_messages.GroupMessages._heard",
            "pne.group_messages.GroupMessages._sending",
            "pne.group_views.View.places",
            "pne.group_views.View.senders",
            "pne.groups.Groups._asking",
            "pne.groups.Groups._catching_up",
            "pne.groups.Groups._coming",
            "pne.groups.Groups._doubted",
            "pne.groups.Groups._gkdks",
            "pne.groups.Groups.keys",
        ),
    ),
    Bound(
        "keys of CM Devices that a node holds",
        "one device alone has them",
        "domain.cm.MAX_CM_DEVICES",
        ("node.cm.Keys._keys", "node.cm.Keys._refused"),
    ),
    Bound(
        "who is told of what happens, as the parts of a party are put together",
        OURS,
        OURS,
        (
            "gateway.networks.Networks._expels",
            "gateway.uplink.Uplink._prepares",
            "gateway.uplink.Uplink._setups",
            "gateway.whereabouts.Whereabouts._hears",
            "service.life.Life._followers",
        ),
    ),
    Bound(
        "what our own configuration and sockets are",
        OURS,
        OURS,
        (
            "gateway.app.Gateway.bound",
            "gateway.app.Gateway.pans",
            "gateway.servers.Servers._failed",
            "transport.discovery.Answering._ears",
            "transport.door.Door._listeners",
            "transport.mdns.Announcement._pans",
            "transport.mdns.Announcement._said",
            "store.dialect.DriverSql._texts",
        ),
    ),
    Bound(
        "work that a request or our own clock began",
        "one for each request that is worked on",
        "shares.bounds.REQUESTS.running.total",
        ("service.background.Background._tasks",),
    ),
    Bound(
        "what an operator imports",
        "one sheet",
        "one sheet",
        (
            "service.provisioning._Known._by_id",
            "service.provisioning._Known._keys",
            "service.provisioning._Known._names",
        ),
    ),
    Bound(
        "what processes of one server ask each other",
        "the processes trust each other, as they share key and store",
        "transport.cluster.REMEMBERED",
        (
            "service.processes.Processes._warned",
            "transport.cluster.NatsCluster._alive",
            "transport.cluster.NatsCluster._handlers",
            "transport.cluster.NatsCluster._questions",
            "transport.cluster.NatsCluster._seen",
            "transport.cluster.NatsCluster._work",
            "transport.cluster._Question.answers",
            "transport.cluster._Question.waited_for",
        ),
    ),
)
