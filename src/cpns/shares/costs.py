"""What a message costs, in units of work, as far as its type and its length tell.

One unit is about 50 microseconds of one core of 2026. Entries, signatures and what else a message carries many of stand
in its length, rows of an answer in the first figure.
"""

from typing import Final

from cpns.wire.registry import CPNS_PATH, MessageType

KIB: Final = 1024
OPENED: Final = (1.0, 0.2)
"""Taking a message in, whatever it is: units, and units more for each KiB."""
APPLICATION: Final = (1.0, 0.5)
"""A reading, a status: one row."""
OTHER: Final = (2.0, 2.0)
"""A CPNS message that is not in the table."""
RELAYED: Final = 1.0
"""Carrying a message on, and its answer back."""
COSTS: Final[dict[int, tuple[float, float]]] = {
    MessageType.SETUP_REQUEST: (3.0, 20.0),
    MessageType.ACTIVATE_REQUEST: (5.0, 2.0),
    MessageType.CM_ASSIGN_REQUEST: (10.0, 2.0),
    MessageType.CM_REKEY_REQUEST: (10.0, 2.0),
    MessageType.INVENTORY_REQUEST: (10.0, 0.0),
    MessageType.SG_INVENTORY_REQUEST: (10.0, 0.0),
    MessageType.SG_DISCOVERY_REQUEST: (10.0, 0.0),
    MessageType.SG_CREATE_REQUEST: (10.0, 2.0),
    MessageType.SG_JOIN_REQUEST: (10.0, 2.0),
    MessageType.SG_LEAVE_REQUEST: (10.0, 2.0),
    MessageType.SG_INVITE_REQUEST: (6.0, 20.0),
    MessageType.SG_EXPEL_REQUEST: (6.0, 20.0),
    MessageType.INVITE_REQUEST: (6.0, 20.0),
    MessageType.EXPEL_REQUEST: (6.0, 20.0),
    MessageType.GROUP_KEY_UPDATE_REQUEST: (10.0, 2.0),
    MessageType.GROUP_MESSAGE_REQUEST: (8.0, 2.0),
}
"""What the handler of a CPNS message does: units, and units more for each KiB."""

_ONE_BYTE_MORE: Final = 0x18  # how CBOR begins a number from 24 on


def message_type(payload: bytes) -> int:
    """Return the type that a CPNS body names, without decoding it; 0 where it names none."""
    if len(payload) < 3:
        return 0
    return payload[2] if payload[1] == _ONE_BYTE_MORE else payload[1]


def opened(length: int) -> float:
    """Return what it costs to take in a message of *length* bytes."""
    return OPENED[0] + OPENED[1] * length / KIB


def handled(path: str, payload: bytes) -> float:
    """Return what it costs to handle a message that came to *path*."""
    fixed, each = COSTS.get(message_type(payload), OTHER) if path == CPNS_PATH else APPLICATION
    return fixed + each * len(payload) / KIB
