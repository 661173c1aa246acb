"""Payloads of application messages: what travels end to end once sessions stand.

These are CoAP requests to ordinary resources inside a session (PROTOCOL section 3), so a constrained device may write
its CBOR as it can: lengths definite, keys unique, depth and size bounded, but no deterministic order is asked for.
"""

import math
from typing import Final, NamedTuple

import cbor2

from cpns.errors import WireError
from cpns.ids import EntityId, PnId, is_name
from cpns.wire.codec import check_electives, load
from cpns.wire.declare import Electives

READINGS_PATH: Final = "readings"
STATUS_PATH: Final = "status"
INBOX_PATH: Final = "inbox"
PING_PATH: Final = "ping"
PRESENCE_PATH: Final = "presence"
REBALANCE_PATH: Final = "rebalance"

READING_ID_BYTES: Final = 12
PUSH_ID_BYTES: Final = 8
MAX_APPLICATION_BYTES: Final = 4 * 1024
MAX_TEXT_CHARS: Final = 1024
MAX_AWAY: Final = 2**32 - 1

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class Reading(NamedTuple):
    """One reading of a PNE.

    Attributes:
        reading_id: 12 bytes that the PNE never gives to another reading. A repetition is stored once; another body
            under the same ID is refused.
        body: a JSON object.
    """

    reading_id: bytes
    body: dict[str, Json]


class Push(NamedTuple):
    """A text for a PNE.

    Attributes:
        push_id: 8 bytes; the same where the server does not know whether it came through and sends it again.
    """

    push_id: bytes
    text: str


def _is_json(value: object) -> bool:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if type(value) is int:
        return -(2**63) <= value < 2**64
    if type(value) is float:
        return math.isfinite(value)  # JSON has no NaN and no infinity: whoever reads it later would stumble
    if type(value) is list:
        return all(map(_is_json, value))
    if type(value) is not dict:
        return False
    for key, item in value.items():  # a generator would cost as much as all that it looks at
        if type(key) is not str or not _is_json(item):
            return False
    return True


def encode_reading(reading: Reading) -> bytes:
    """Return the payload of ``POST /readings``: ``[reading_id, body]``.

    Raises:
        WireError: the body is no JSON object, is deeper than 6, or is over 4 KiB.
    """
    try:
        data = cbor2.dumps([reading.reading_id, reading.body])
    except Exception as error:
        raise WireError("bad_reading") from error
    decode_reading(data)
    return data


def decode_reading(data: bytes) -> Reading:
    """Return the reading in *data*.

    Raises:
        WireError: it is not one.
    """
    item = load(data, MAX_APPLICATION_BYTES, max_depth=8)
    if type(item) is not list or len(item) != 2:
        raise WireError("bad_reading")
    reading_id, body = item
    if type(reading_id) is not bytes or len(reading_id) != READING_ID_BYTES:
        raise WireError("bad_reading_id")
    if type(body) is not dict or not _is_json(body):
        raise WireError("bad_reading_body")
    return Reading(reading_id, body)


def encode_text(text: str) -> bytes:
    """Return the payload of ``POST /status``, and of the answers to ``POST /inbox`` and ``POST /ping``.

    Raises:
        WireError: over 1024 characters or 4 KiB, or no text that UTF-8 can carry.
    """
    try:
        data = cbor2.dumps(text)
    except Exception as error:
        raise WireError("bad_text") from error
    decode_text(data)
    return data


def decode_text(data: bytes) -> str:
    """Return the text in *data*.

    Raises:
        WireError: it is none, or over 1024 characters.
    """
    item = load(data, MAX_APPLICATION_BYTES)
    if type(item) is not str or len(item) > MAX_TEXT_CHARS:
        raise WireError("bad_text")
    return item


def encode_push(push: Push) -> bytes:
    """Return the payload of ``POST /inbox``: ``[push_id, text]``.

    Raises:
        WireError: as `encode_text`, the push ID counted.
    """
    encode_text(push.text)
    data = cbor2.dumps([push.push_id, push.text])
    decode_push(data)
    return data


def decode_push(data: bytes) -> Push:
    """Return the push in *data*.

    Raises:
        WireError: it is none, or its text is over 1024 characters.
    """
    return _push(load(data, MAX_APPLICATION_BYTES))


def _push(item: object) -> Push:
    if type(item) is not list or len(item) != 2 or type(item[0]) is not bytes or len(item[0]) != PUSH_ID_BYTES:
        raise WireError("bad_push")
    if type(item[1]) is not str or len(item[1]) > MAX_TEXT_CHARS:
        raise WireError("bad_text")
    return Push(item[0], item[1])


def encode_group_text(said: Push, electives: Electives = ()) -> bytes:
    """Return what a message to a group seals: ``[id, text]``, or ``[id, text, {label: value}]``.

    Raises:
        WireError: as `encode_push`.
    """
    encode_push(said)
    data = cbor2.dumps([said.push_id, said.text, *([dict(electives)] if electives else [])])
    decode_group_text(data)
    return data


def decode_group_text(data: bytes) -> Push:
    """Return what a message to a group says; electives are passed over, as this version knows none.

    Raises:
        WireError: it is none, its text is over 1024 characters, or it has a label that is not elective.
    """
    item = load(data, MAX_APPLICATION_BYTES)
    if type(item) is list and len(item) == 3:
        check_electives(item.pop())
    return _push(item)


Home = tuple[PnId, EntityId]
"""A PN, and the PN GW that serves it."""


def encode_home(home: Home | None) -> bytes:
    """Return the payload of the answer to a ``POST /status`` that says ``connected``.

    For a guest that is ``[PN ID, PN GW's ID]``, for others ``[]``.
    """
    return cbor2.dumps(list(home or ()))


def decode_home(data: bytes) -> Home | None:
    """Return what *data* says: the home of a guest, or None.

    Raises:
        WireError: it says nothing; so does an older server.
    """
    item = load(data, MAX_APPLICATION_BYTES)
    if item == []:
        return None
    if type(item) is not list or len(item) != 2 or not all(map(is_name, item)):
        raise WireError("bad_home")
    return PnId(item[0]), EntityId(item[1])


def encode_away(seconds: float) -> bytes:
    """Return the payload of the answer to ``POST /presence``: ``[seconds]`` that the uplink is away, 0 while it stands.

    A part of a second counts as one.
    """
    return cbor2.dumps([min(math.ceil(seconds), MAX_AWAY)])


def decode_away(data: bytes) -> int:
    """Return the seconds in *data*.

    Raises:
        WireError: it has none.
    """
    item = load(data, MAX_APPLICATION_BYTES)
    if type(item) is not list or len(item) != 1 or type(item[0]) is not int or not 0 <= item[0] <= MAX_AWAY:
        raise WireError("bad_away")
    return item[0]
