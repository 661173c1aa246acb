"""Deterministic CBOR bodies ``[type, {label: value}]`` to typed messages and back (RFC 8949 4.2.1, PROTOCOL section 3).

What a message is made of is declared (`cpns.wire.declare`). `decode` lets in exactly what `encode` could have written,
and elective labels that it passes over: unknown types, other unknown labels, duplicates, indefinite lengths,
other orders and longer forms, tags, nesting over 6 and bodies over the limit all raise `WireError`, before any crypto.
"""

import typing
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any, Final, NoReturn, TypeVar

import cbor2

from cpns.errors import Result, WireError
from cpns.wire import (
    cm_messages,
    group_messages,
    messages,
    pn_messages,
    sg_messages,
)
from cpns.wire import registry as r
from cpns.wire.declare import (
    ENTRIES_LABEL,
    FIRST_ELECTIVE,
    LAST_LABEL,
    MAX_ELECTIVE_BYTES,
    MAX_ELECTIVES,
    MESSAGES,
    SHAPES,
    TITLES,
    Elective,
    Electives,
    Shape,
)
from cpns.wire.declare import Message as Message  # part of the face of this module

DECLARED: Final = (messages, cm_messages, pn_messages, sg_messages, group_messages)
"""Where messages are declared."""

M = TypeVar("M")
N = TypeVar("N")

_ENTRIES_HEAD: Final = 4
"""Bytes of label 16 and the head of its array, at most; and of a type, above those that a 0 has."""


def _to_map(message: object) -> dict[int, object]:
    shape = SHAPES[type(message)]
    body: dict[int, object] = {}
    for label, value in zip(shape.labels, shape.values(message)):  # noqa: B905  # as many, and it costs
        if value is None:
            continue
        if type(value) is tuple:
            value = list(map(_to_map, value)) if label == ENTRIES_LABEL else list(value)
        body[label] = value
    if shape.keeps and message.electives:  # type: ignore[attr-defined]  # who keeps them has them
        return dict(sorted({**body, **dict(message.electives)}.items()))  # type: ignore[attr-defined]
    return body


def _from_map(shape: Shape, body: dict[int, Any]) -> Any:  # noqa: ANN401  # whatever the shape is of
    values: dict[str, Any] = {}
    taken = 0
    for label, name, check, entry, required in shape.plan:
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
    if shape.grown or taken != len(body):
        others = tuple((label, value) for label, value in _electives(body) if name_of(shape, label) is None)
        taken += len(others)
        if shape.keeps and others:
            values["electives"] = others
    if taken != len(body):
        raise WireError("unknown_label")
    return shape.cls(**values)


def name_of(shape: Shape, label: int) -> str | None:
    """Return what *shape* calls *label*; None where it does not declare it."""
    return next((row.name for row in shape.rows if row.number == label), None)


def _electives(body: dict[int, Any]) -> Electives:
    """Return the electives of *body*, known or not; whoever passes over them is not to be burdened by them."""
    found = tuple((label, value) for label, value in body.items() if label >= FIRST_ELECTIVE)
    room = MAX_ELECTIVE_BYTES
    for label, value in found:
        if label > LAST_LABEL or type(value) not in (int, bool, bytes, str) or (type(value) is int and value < 0):
            raise WireError(f"bad_value_label_{label}")
        room -= len(cbor2.dumps(label)) + len(cbor2.dumps(value))
    if len(found) > MAX_ELECTIVES or room < 0:
        raise WireError("too_many_electives", Result.TOO_MANY)
    return found


def check_electives(value: object) -> None:
    """Check that *value* is a map of electives alone. Raises `WireError`."""
    if type(value) is not dict or not all(type(label) is int and label >= FIRST_ELECTIVE for label in value):
        raise WireError("unknown_label")
    _electives(value)


def electives_of(message: object) -> Electives:
    """Return all electives of the map of *message*, entries left out."""
    shape = SHAPES[type(message)]
    if not shape.grown:
        return typing.cast(Electives, getattr(message, "electives", ()))
    return tuple(
        (label, typing.cast(Elective, value)) for label, value in _to_map(message).items() if label >= FIRST_ELECTIVE
    )


def carrying(message: M, electives: Electives) -> M:
    """Return *message*, whose shape keeps electives, with exactly *electives*."""
    if not electives and not electives_of(message):
        return message
    shape = SHAPES[type(message)]
    values: dict[str, Any] = {row.name: None for row in shape.rows if row.label.elective}
    values["electives"] = tuple(sorted(one for one in electives if name_of(shape, one[0]) is None))
    values |= {name: value for label, value in electives if (name := name_of(shape, label)) is not None}
    return typing.cast(M, replace(typing.cast(Any, message), **values))


def has_electives(data: bytes) -> bool:
    """Whether the body *data* has electives, those of its entries counted."""
    return without_electives(data) != data


def without_electives(data: bytes) -> bytes:
    """Return the body *data* without electives, those of its entries left out too; as it is where it is no body."""

    def critical(body: dict[int, Any]) -> dict[int, Any]:
        return {label: value for label, value in body.items() if label < FIRST_ELECTIVE}

    try:
        kind, body = parse(data)
    except WireError:
        return data
    kept = critical(body)
    entries = kept.get(ENTRIES_LABEL)
    if type(entries) is list and all(map(_is_ordered_map, entries)):
        kept[ENTRIES_LABEL] = [critical(item) for item in entries]
    return cbor2.dumps([kind, kept])


def _entry(cls: type[Any], item: object) -> object:
    if not _is_ordered_map(item):
        raise WireError("bad_entry")
    return _from_map(SHAPES[cls], typing.cast(dict[int, Any], item))


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
    return cbor2.dumps([message.TYPE, _to_map(message)])


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
_NOTHING: Final = BytesIO()
"""What an idle decoder reads from, so that it keeps no body alive."""


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
    decoder.fp = _NOTHING
    _idle[max_depth] = decoder
    if stream.tell() != len(data):
        raise WireError("trailing_bytes")
    return item


def parse(data: bytes, limit: int = r.MAX_BODY) -> tuple[int, dict[int, Any]]:
    """Return type and map of a body that is deterministic CBOR, its values not yet checked.

    Raises:
        WireError: see the module.
    """
    item = load(data, limit)
    if type(item) is not list or len(item) != 2 or type(item[0]) is not int or not _is_ordered_map(item[1]):
        raise WireError("not_a_body")
    if item[0] not in TITLES:
        raise WireError("unknown_type", Result.UNKNOWN_MESSAGE)
    try:
        same = cbor2.dumps(item) == data
    except Exception as error:  # such as a value that decodes but has no encoding
        raise WireError("not_deterministic") from error
    if not same:
        raise WireError("not_deterministic")
    return item[0], item[1]


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
    candidates = [SHAPES[shape] for shape in shapes if shape.TYPE == kind]
    if not candidates:
        raise WireError("unexpected_message", Result.UNKNOWN_MESSAGE)
    if len(candidates) > 1:
        labels = frozenset(label for label in body if label < FIRST_ELECTIVE)
        for shape in candidates:
            if shape.required <= labels <= shape.critical:
                return _from_map(shape, body)
    return _from_map(candidates[0], body)  # raises, and says what is wrong with the likeliest


def shapes_of(kind: int) -> list[type[Any]]:
    """Return the message types that share the type number *kind*."""
    return [shape for shape in MESSAGES if shape.TYPE == kind]
