"""The labels, each with what its value may be: the types of the attributes of messages.

A label stands for one kind of value. What it means in a message is what the attribute there is called.
"""

from typing import Annotated, Final

from cpns import ids
from cpns.ids import is_name
from cpns.wire import registry as r
from cpns.wire.declare import Kind, Label


def octets(*sizes: int) -> Kind:
    """Bytes of one of *sizes*."""
    span = range(sizes[0], sizes[-1] + 1)
    spanned = len(sizes) > 1 and len(span) == len(sizes)
    allowed = span if spanned else frozenset(sizes)
    cddl = f"bytes .size ({sizes[0]}..{sizes[-1]})" if spanned else " / ".join(f"bytes .size {one}" for one in sizes)
    bounds = ("bytes", *(("from", sizes[0], sizes[-1]) if spanned else sizes))
    return Kind(lambda value: type(value) is bytes and len(value) in allowed, cddl, bounds)


def number(low: int, high: int) -> Kind:
    """An integer from *low* to *high*."""
    return Kind(lambda value: type(value) is int and low <= value <= high, f"{low}..{high}", ("int", low, high))


def names(fewest: int, most: int) -> Kind:
    """From *fewest* to *most* names."""
    return Kind(
        lambda value: type(value) is list and fewest <= len(value) <= most and all(map(is_name, value)),
        f"[{fewest or ''}*{most} name]",
        ("names", fewest, most),
    )


def _addresses(value: object) -> bool:
    return (
        type(value) is list
        and len(value) <= r.MAX_ADDRESSES
        and all(type(one) is str and 0 < len(one) <= r.MAX_ADDRESS_CHARS and one.isprintable() for one in value)
    )


def is_text(value: object) -> bool:
    """Whether *value* may be the name of a network or group, a service, a keyword: printable, 1 to 64 bytes."""
    return type(value) is str and value.isprintable() and 0 < len(value.encode()) <= r.MAX_ALIAS_BYTES


FLAG: Final = Kind(lambda value: value is True or value is False, "bool", ("bool",))
NAME: Final = Kind(is_name, "name", ("name",))
TEXT: Final = Kind(is_text, f"text .size (1..{r.MAX_ALIAS_BYTES})", ("text", r.MAX_ALIAS_BYTES))
ADDRESSES: Final = Kind(_addresses, f"[*{r.MAX_ADDRESSES} text .size (1..400)]", ("texts", r.MAX_ADDRESSES))
KEY: Final = octets(r.KEY_BYTES)
MEMBERS: Final = names(0, r.MAX_MEMBERS)
_EPH: Final = octets(r.X25519_BYTES, r.X25519_BYTES + r.MLKEM768_EK_BYTES, r.X25519_BYTES + r.MLKEM768_CT_BYTES)
_VERSION: Final = number(0, 2**53)

Suite = Annotated[int, Label(1, "suite", number(1, 3), "suite")]
EntityId = Annotated[ids.EntityId, Label(2, "entity-id", NAME, "ID of a PNE, or of who initiates")]
GatewayId = Annotated[ids.EntityId, Label(3, "gateway-id", NAME, "PN GW's ID")]
ServerId = Annotated[ids.EntityId, Label(4, "server-id", NAME, "server's ID")]
PnId = Annotated[ids.PnId, Label(5, "pn-id", NAME, "PN ID")]
Rand = Annotated[bytes, Label(6, "rand", octets(r.RAND_BYTES), "rand, 16 bytes")]
Kid = Annotated[bytes, Label(7, "kid", octets(*range(1, r.KID_MAX_BYTES + 1)), "kid, 1 to 7 bytes")]
Eph = Annotated[bytes, Label(8, "eph", _EPH, "eph: 32 bytes, with ML-KEM-768 1,216 (eph_I) or 1,120 (eph_R)")]
NeedLocal = Annotated[bool, Label(9, "need-local", FLAG, "need_local, bool")]
PanSecure = Annotated[bool, Label(10, "pan-secure", FLAG, "pan_secure, bool")]
Procedure = Annotated[int, Label(11, "procedure", number(1, 3), "procedure: 1 establish, 2 invite, 3 join")]
Wrapped = Annotated[bytes, Label(12, "wrapped", octets(r.WRAPPED_BYTES), "W, the PNE's copy, 40 bytes")]
WrappedGateway = Annotated[
    bytes, Label(13, "wrapped-gateway", octets(r.WRAPPED_BYTES), "W_G, the PN GW's copy, 40 bytes")
]
Proof = Annotated[
    bytes, Label(14, "proof", octets(r.PROOF_BYTES), "hash or code, 16 bytes; in a refused entry of type 2 see 4.7")
]
Txn = Annotated[bytes, Label(15, "txn", octets(r.TXN_BYTES), "txn, 8 random bytes of the PN GW")]
Result = Annotated[int, Label(17, "result", number(0, 255), "result (section 8)")]
SetupType = Annotated[
    int, Label(18, "setup-type", number(1, 3), "setup type: 1 gateway only, 2 all in reach, 3 listed")
]
Invite = Annotated[tuple[ids.EntityId, ...], Label(19, "invite", names(1, r.MAX_BATCH), "1 to 64 PNE IDs to invite")]
Name = Annotated[str, Label(20, "alias", TEXT, "name of the PN or group: printable, 1 to 64 bytes")]
KeySeed = Annotated[bytes, Label(21, "key-seed", KEY, "Key Seed, 32 bytes")]
CmDeviceId = Annotated[ids.EntityId, Label(22, "cm-device-id", NAME, "CM Device ID")]
CmDeviceKey = Annotated[bytes, Label(23, "cm-device-key", KEY, "CM Device Key, 32 bytes")]
Members = Annotated[tuple[ids.EntityId, ...], Label(24, "members", MEMBERS, "PNEs that it is about, up to 64 IDs")]
Version = Annotated[int, Label(25, "version", _VERSION, "version of an inventory")]
Change = Annotated[
    int,
    Label(
        26,
        "change",
        number(1, 9),
        "change: 1 joined, 2 left, 3 expelled, 4 moved, 5 released, 6 gateway, 7 declined, 8 settled, 9 owner",
    ),
]
Owner = Annotated[ids.EntityId, Label(27, "owner", NAME, "owner's ID")]
Presence = Annotated[int, Label(28, "presence", number(1, 4), "presence: 1 connected, 2 idle, 3 asleep, 4 away")]
Age = Annotated[int, Label(29, "age", number(0, 2**32), "age of that news in seconds")]
Source = Annotated[int, Label(30, "source", number(1, 3), "source of it: 1 server, 2 PN GW, 3 the PNE")]
Mode = Annotated[int, Label(31, "mode", number(1, 3), "mode: 1 PNE, 2 PN GW, 3 both")]
After = Annotated[ids.EntityId, Label(32, "after", NAME, "after: the ID after which a page begins")]
More = Annotated[bool, Label(33, "more", FLAG, "more, bool")]
Addresses = Annotated[
    tuple[str, ...], Label(34, "addresses", ADDRESSES, "addresses, up to 4 texts `host:port`: a hint where to look")
]
Guest = Annotated[bool, Label(35, "guest", FLAG, "guest, bool")]
Networks = Annotated[tuple[ids.PnId, ...], Label(36, "networks", MEMBERS, "networks, up to 64 PN IDs")]
Generation = Annotated[
    int, Label(37, "generation", number(1, r.MAX_GENERATION), "generation of a CM Device Key, from 1")
]
SgId = Annotated[ids.SgId, Label(38, "sg-id", NAME, "SG ID")]
Service = Annotated[str, Label(39, "service", TEXT, "service, text of 1 to 64 bytes")]
Policy = Annotated[int, Label(40, "policy", number(1, 3), "policy: 1 open, 2 approval, 3 closed")]
Keyword = Annotated[str, Label(41, "keyword", TEXT, "keyword, in name or service")]
Standing = Annotated[
    int, Label(42, "standing", number(1, 4), "place on the list: 1 member, 2 invited, 3 pending, 4 barred")
]
MemberReq = Annotated[bool, Label(43, "member-req", FLAG, "member_req, bool: members too, where the asker is one")]
Groups = Annotated[tuple[ids.SgId, ...], Label(44, "groups", MEMBERS, "groups, up to 64 SG IDs")]
Epoch = Annotated[int, Label(45, "epoch", number(1, 2**53), "epoch: grows with every change of who is a member")]
GroupKey = Annotated[bytes, Label(46, "group-key", KEY, "Group Key, 32 bytes")]
Tree = Annotated[int, Label(47, "tree", number(1, 2**32), "number of the GKEK at this PN GW, from 1")]
Node = Annotated[int, Label(48, "node", number(1, r.MAX_NODE), "node of the tree, root 1")]
NodeKey = Annotated[bytes, Label(49, "node-key", KEY, "node key, 32 bytes")]
VerifyKey = Annotated[
    bytes, Label(50, "verify-key", octets(r.ED25519_BYTES), "Ed25519 public key: of the PN GW, or of a sender")
]
Signature = Annotated[
    bytes,
    Label(51, "signature", octets(r.SIGNATURE_BYTES), "Ed25519 signature: of the PN GW (72), or of the sender (75)"),
]
Seq = Annotated[bytes, Label(52, "seq", octets(r.SEQ_BYTES), "number of a message, 12 bytes")]
Sealed = Annotated[
    bytes, Label(53, "sealed", octets(*range(17, r.MAX_SEALED_BYTES + 1)), "sealed message, up to 4,160 bytes")
]
Run = Annotated[int, Label(54, "run", number(1, 2**32 - 1), "run, from 1")]
Vouched = Annotated[bool, Label(55, "vouched", FLAG, "vouched, bool")]
Keep = Annotated[int, Label(56, "keep", number(0, r.MAX_KEEP), "keep, seconds")]
Count = Annotated[
    int, Label(57, "count", number(0, 2**32), "how many have it: behind that PN GW; to the sender, of all")
]
