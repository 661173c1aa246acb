"""What a message costs, in units of work, as far as its type and its length tell.

One unit is about 50 microseconds of one core of 2026. Entries, signatures and what else a message carries many of stand
in its length, rows of an answer in the first figure.
"""

from typing import Final

from cpns.wire import cm_messages as cm
from cpns.wire import group_messages as gm
from cpns.wire import messages as m
from cpns.wire import pn_messages as pm
from cpns.wire import sg_messages as sg
from cpns.wire.registry import CPNS_PATH

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
    m.SetupRequest.TYPE: (3.0, 20.0),
    m.ActivateRequest.TYPE: (5.0, 2.0),
    cm.CmAssignRequest.TYPE: (10.0, 2.0),
    cm.CmRekeyRequest.TYPE: (10.0, 2.0),
    pm.InventoryRequest.TYPE: (10.0, 0.0),
    sg.SgInventoryRequest.TYPE: (10.0, 0.0),
    sg.SgDiscoveryRequest.TYPE: (10.0, 0.0),
    sg.SgCreateRequest.TYPE: (10.0, 2.0),
    sg.SgJoinRequest.TYPE: (10.0, 2.0),
    sg.SgLeaveRequest.TYPE: (10.0, 2.0),
    sg.SgInviteRequest.TYPE: (6.0, 20.0),
    sg.SgExpelRequest.TYPE: (6.0, 20.0),
    pm.InviteRequest.TYPE: (6.0, 20.0),
    pm.ExpelRequest.TYPE: (6.0, 20.0),
    gm.GroupKeyWanted.TYPE: (10.0, 2.0),
    gm.GroupMessage.TYPE: (8.0, 2.0),
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
