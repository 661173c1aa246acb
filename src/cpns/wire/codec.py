"""Deterministic CBOR bodies ``[type, {label: value}]`` to typed messages and back (RFC 8949 4.2.1, PROTOCOL section 3).

`decode` lets in exactly what `encode` could have written: unknown types and labels, duplicates, indefinite lengths,
other orders and longer forms, tags, nesting over 6 and bodies over the limit all raise `WireError`, before any crypto.
"""

import typing
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from io import BytesIO
from typing import Any, Final, NoReturn, Protocol, TypeVar

import cbor2

from cpns.errors import Result, WireError
from cpns.ids import is_name
from cpns.wire import cm_messages as cm
from cpns.wire import group_messages as gm
from cpns.wire import messages as m
from cpns.wire import pn_messages as pm
from cpns.wire import registry as r
from cpns.wire import sg_messages as sg
from cpns.wire.registry import Label, MessageType


class Message(Protocol):
    """Any type of `cpns.wire.messages` that is a body."""

    TYPE: typing.ClassVar[MessageType]


M = TypeVar("M")
N = TypeVar("N")
Check = Callable[[object], bool]


def _octets(*sizes: int) -> Check:
    allowed = frozenset(sizes)
    return lambda value: type(value) is bytes and len(value) in allowed


def _number(low: int, high: int) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def _flag(value: object) -> bool:
    return value is True or value is False


def _names(value: object) -> bool:
    return type(value) is list and 0 < len(value) <= r.MAX_BATCH and all(map(is_name, value))


def _members(value: object) -> bool:
    return type(value) is list and len(value) <= r.MAX_MEMBERS and all(map(is_name, value))


def _addresses(value: object) -> bool:
    return (
        type(value) is list
        and len(value) <= r.MAX_ADDRESSES
        and all(type(one) is str and 0 < len(one) <= r.MAX_ADDRESS_CHARS and one.isprintable() for one in value)
    )


def is_alias(value: object) -> bool:
    """Whether *value* may be an alias."""
    return type(value) is str and value.isprintable() and 0 < len(value.encode()) <= r.MAX_ALIAS_BYTES


_EPH_SIZES = (
    r.X25519_BYTES,
    r.X25519_BYTES + r.MLKEM768_EK_BYTES,
    r.X25519_BYTES + r.MLKEM768_CT_BYTES,
)

FIELDS: dict[str, tuple[Label, Check]] = {
    "suite": (Label.SUITE, _number(1, 3)),
    "entity_id": (Label.ENTITY_ID, is_name),
    "gateway_id": (Label.GATEWAY_ID, is_name),
    "server_id": (Label.SERVER_ID, is_name),
    "pn_id": (Label.PN_ID, is_name),
    "rand": (Label.RAND, _octets(r.RAND_BYTES)),
    "kid": (Label.KID, _octets(*range(1, r.KID_MAX_BYTES + 1))),
    "eph": (Label.EPH, _octets(*_EPH_SIZES)),
    "need_local": (Label.NEED_LOCAL, _flag),
    "pan_secure": (Label.PAN_SECURE, _flag),
    "procedure": (Label.PROCEDURE, _number(1, 3)),
    "wrapped": (Label.WRAPPED, _octets(r.WRAPPED_BYTES)),
    "wrapped_gateway": (Label.WRAPPED_GATEWAY, _octets(r.WRAPPED_BYTES)),
    "proof": (Label.PROOF, _octets(r.PROOF_BYTES)),
    "txn": (Label.TXN, _octets(r.TXN_BYTES)),
    "entries": (Label.ENTRIES, lambda value: type(value) is list and 0 < len(value) <= r.MAX_BATCH),
    "result": (Label.RESULT, _number(0, 255)),
    "setup_type": (Label.SETUP_TYPE, _number(1, 3)),
    "invite": (Label.INVITE, _names),
    "alias": (Label.ALIAS, is_alias),
    "key_seed": (Label.KEY_SEED, _octets(r.KEY_BYTES)),
    "cm_device_id": (Label.CM_DEVICE_ID, is_name),
    "cm_device_key": (Label.CM_DEVICE_KEY, _octets(r.KEY_BYTES)),
    "members": (Label.MEMBERS, _members),
    "version": (Label.VERSION, _number(0, 2**53)),
    "change": (Label.CHANGE, _number(1, 9)),
    "owner": (Label.OWNER, is_name),
    "presence": (Label.PRESENCE, _number(1, 4)),
    "age": (Label.AGE, _number(0, 2**32)),
    "source": (Label.SOURCE, _number(1, 3)),
    "mode": (Label.MODE, _number(1, 3)),
    "after": (Label.AFTER, is_name),
    "more": (Label.MORE, _flag),
    "addresses": (Label.ADDRESSES, _addresses),
    "guest": (Label.GUEST, _flag),
    "networks": (Label.NETWORKS, _members),
    "sg_id": (Label.SG_ID, is_name),
    "service": (Label.SERVICE, is_alias),
    "policy": (Label.POLICY, _number(1, 3)),
    "keyword": (Label.KEYWORD, is_alias),
    "standing": (Label.STANDING, _number(1, 4)),
    "member_req": (Label.MEMBER_REQ, _flag),
    "groups": (Label.GROUPS, _members),
    "epoch": (Label.EPOCH, _number(1, 2**53)),
    "group_key": (Label.GROUP_KEY, _octets(r.KEY_BYTES)),
    "tree": (Label.TREE, _number(1, 2**32)),
    "node": (Label.NODE, _number(1, r.MAX_NODE)),
    "node_key": (Label.NODE_KEY, _octets(r.KEY_BYTES)),
    "verify_key": (Label.VERIFY_KEY, _octets(r.ED25519_BYTES)),
    "signature": (Label.SIGNATURE, _octets(r.SIGNATURE_BYTES)),
    "seq": (Label.SEQ, _octets(r.SEQ_BYTES)),
    "sealed": (Label.SEALED, _octets(*range(17, r.MAX_SEALED_BYTES + 1))),
    "run": (Label.RUN, _number(1, 2**32 - 1)),
    "vouched": (Label.VOUCHED, _flag),
    "keep": (Label.KEEP, _number(0, r.MAX_KEEP)),
    "count": (Label.COUNT, _number(0, 2**32)),
    "generation": (Label.GENERATION, _number(1, r.MAX_GENERATION)),
}
"""Attribute of a message to its label and to what its value must be."""

SHAPES: Final = (*m.SHAPES, *cm.SHAPES, *pm.SHAPES, *sg.SHAPES, *gm.SHAPES)
"""All messages."""
ENTRIES: Final = (*m.ENTRIES, *pm.ENTRIES, *sg.ENTRIES, *gm.ENTRIES)
"""What stands in their label 16."""

_ENTRIES_HEAD: Final = 4
"""Bytes of label 16 and the head of its array, at most; and of a type, above those that a 0 has."""
_TYPES = frozenset(int(t) for t in MessageType)


def _entry_type(hint: Any) -> type[Any]:  # noqa: ANN401  # a type, as typing gives it
    """Return X of ``tuple[X, ...]`` or ``tuple[X, ...] | None``."""
    first: Any = typing.get_args(hint)[0]
    found: type[Any] = first if isinstance(first, type) and not typing.get_args(first) else typing.get_args(first)[0]
    return found


class _Shape:
    """What the codec knows of one message type: its labels in wire order."""

    def __init__(self, cls: type[Any]) -> None:
        hints = typing.get_type_hints(cls)
        rows = []
        for field in fields(cls):
            label, check = FIELDS[field.name]
            entry = _entry_type(hints[field.name]) if field.name == "entries" else None
            rows.append((int(label), field.name, check, entry, field.default is MISSING))
        self.rows = sorted(rows)
        self.labels = frozenset(row[0] for row in rows)
        self.required = frozenset(row[0] for row in rows if row[4])

    def fits(self, labels: frozenset[int]) -> bool:
        return self.required <= labels <= self.labels


_SHAPES: dict[type[Any], _Shape] = {cls: _Shape(cls) for cls in (*SHAPES, *ENTRIES)}


def _to_map(message: object) -> dict[int, object]:
    body: dict[int, object] = {}
    for label, name, _check, entry, _required in _SHAPES[type(message)].rows:
        value = getattr(message, name)
        if value is None:
            continue
        if entry is not None:
            value = [_to_map(item) for item in value]
        elif type(value) is tuple:
            value = list(value)
        body[label] = value
    return body


def _from_map(cls: type[M], body: dict[int, Any]) -> M:
    shape = _SHAPES[cls]
    values: dict[str, Any] = {}
    taken = 0
    for label, name, check, entry, required in shape.rows:
        if label not in body:
            if required:
                raise WireError(f"missing_label_{label}", Result.MISSING_FIELD)
            continue
        value = body[label]
        taken += 1
        if not check(value):
            raise WireError(f"bad_value_label_{label}")
        if entry is not None:
            value = tuple(_entry(entry, item) for item in value)
        elif type(value) is list:
            value = tuple(value)
        values[name] = value
    if taken != len(body):
        raise WireError("unknown_label")
    return cls(**values)


def _entry(cls: type[Any], item: object) -> object:
    if not _is_ordered_map(item):
        raise WireError("bad_entry")
    return _from_map(cls, typing.cast(dict[int, Any], item))


def _is_ordered_map(value: object) -> bool:
    if type(value) is not dict:
        return False
    previous = -1
    for key in value:
        if type(key) is not int or key <= previous:
            return False
        previous = key
    return True


def encode(message: Message) -> bytes:
    """Return the body of *message*, deterministic CBOR."""
    return cbor2.dumps([int(message.TYPE), _to_map(message)])


def page(make: Callable[..., M], entries: Sequence[object]) -> M:
    """Return a message with as many of *entries* as get over a PAN: up to 64, and one at the least.

    Args:
        make: makes the message, of `entries` (or None) and `more`: whether any are left.
        entries: in their order.
    """
    room = r.PAGE_BYTES - len(cbor2.dumps([0, _to_map(make(entries=None, more=False))])) - _ENTRIES_HEAD
    shown: list[object] = []
    for entry in entries[: r.MAX_BATCH]:
        room -= len(cbor2.dumps(_to_map(entry)))
        if room < 0 and shown:
            break
        shown.append(entry)
    return make(entries=tuple(shown) or None, more=len(shown) < len(entries))


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("tags are not used")


class _NoTags(dict[int, Callable[..., NoReturn]]):
    """A decoder for every tag, which refuses it before its content is used.

    What the library would make of tags is dangerous from a stranger: shared values (28, 29) grow a 1 kB body to
    gigabytes when it is encoded again, or make it contain itself; others compile patterns or parse mail.
    """

    def __missing__(self, tag: int) -> Callable[..., NoReturn]:
        return _refuse_tag


_NO_TAGS = _NoTags()
_idle: dict[int, cbor2.CBORDecoder] = {}
"""A decoder for each depth, while nobody uses it: to make one costs more than to decode a reading. Whoever takes it out
has it alone, and one that failed is not put back."""


def _decoder(stream: BytesIO, max_depth: int) -> cbor2.CBORDecoder:
    decoder = _idle.pop(max_depth, None)
    if decoder is not None:
        decoder.fp = stream
        return decoder
    return cbor2.CBORDecoder(
        stream,
        semantic_decoders=_NO_TAGS,
        tag_hook=_refuse_tag,
        max_depth=max_depth,
        allow_indefinite=False,
        allow_duplicate_keys=False,
    )


def load(data: bytes, limit: int, *, max_depth: int = r.MAX_DEPTH) -> object:
    """Return the one CBOR item that *data* is: size, depth, no tags, definite lengths and unique keys checked.

    Raises:
        WireError: it is longer than *limit* bytes, not CBOR of that kind, or something follows the item.
    """
    if len(data) > limit:
        raise WireError("too_long", Result.TOO_MANY)
    stream = BytesIO(data)
    try:
        decoder = _decoder(stream, max_depth)
        item: object = decoder.decode()
    except Exception as error:  # the decoder's errors are of many kinds, and none may pass (invariant of the codec)
        raise WireError("not_cbor") from error
    _idle[max_depth] = decoder
    if stream.tell() != len(data):
        raise WireError("trailing_bytes")
    return item


def parse(data: bytes, limit: int = r.MAX_BODY) -> tuple[MessageType, dict[int, Any]]:
    """Return type and map of a body that is deterministic CBOR, its values not yet checked.

    Raises:
        WireError: see the module.
    """
    item = load(data, limit)
    if type(item) is not list or len(item) != 2 or type(item[0]) is not int or not _is_ordered_map(item[1]):
        raise WireError("not_a_body")
    if item[0] not in _TYPES:
        raise WireError("unknown_type", Result.UNKNOWN_MESSAGE)
    try:
        same = cbor2.dumps(item) == data
    except Exception as error:  # such as a value that decodes but has no encoding
        raise WireError("not_deterministic") from error
    if not same:
        raise WireError("not_deterministic")
    return MessageType(item[0]), item[1]


@typing.overload
def decode(data: bytes, shape: type[M], /, *, limit: int = r.MAX_BODY) -> M: ...


@typing.overload
def decode(data: bytes, one: type[M], other: type[N], /, *, limit: int = r.MAX_BODY) -> M | N: ...


@typing.overload
def decode(data: bytes, /, *shapes: type[M], limit: int = r.MAX_BODY) -> M: ...


def decode(data: bytes, /, *shapes: type[Any], limit: int = r.MAX_BODY) -> object:
    """Return *data* as the first of *shapes* whose type and labels it has.

    Args:
        data: the body as received.
        shapes: the messages that may come here and now.
        limit: most bytes of a body (65,000; 8 KiB on the PAN).

    Raises:
        WireError: it is no such message; `result` tells which of 10, 11, 12 and 61 it is.
    """
    kind, body = parse(data, limit)
    candidates = [shape for shape in shapes if shape.TYPE is kind]
    if not candidates:
        raise WireError("unexpected_message", Result.UNKNOWN_MESSAGE)
    labels = frozenset(body)
    for shape in candidates:
        if _SHAPES[shape].fits(labels):
            return _from_map(shape, body)
    return _from_map(candidates[0], body)  # raises, and says what is wrong with the likeliest


def shapes_of(kind: MessageType) -> list[type[Any]]:
    """Return the message types that share the type number *kind*."""
    return [shape for shape in SHAPES if shape.TYPE is kind]
