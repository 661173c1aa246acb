"""Numbers of the wire beside types and labels (`declare`, `fields`): suites, procedures, what values mean, limits."""

from enum import IntEnum, StrEnum
from typing import Final


class Suite(IntEnum):
    """Key agreement added to the pre-shared key (PROTOCOL section 1). 2 and 3 give forward secrecy, 1 does not."""

    PSK = 1
    X25519 = 2
    X25519_MLKEM768 = 3


class Procedure(IntEnum):
    """Label 11: which procedure the PNE authenticates for (AUTH-0); 0 outside `pne-server`."""

    NONE = 0
    ESTABLISH = 1
    INVITE = 2
    JOIN = 3


class SetupType(IntEnum):
    """Label 18: whom a PN Establishment takes in."""

    GATEWAY_ONLY = 1
    ALL_IN_REACH = 2
    LISTED = 3


class Change(IntEnum):
    """Label 26: what changed in a PN."""

    JOINED = 1
    LEFT = 2
    EXPELLED = 3
    MOVED = 4
    """To another PN, through another PN GW."""
    RELEASED = 5
    GATEWAY = 6
    """PN GW switching: the PN GW change notification."""
    DECLINED = 7
    """Asked to come, and refused or did not answer: nothing changed."""
    SETTLED = 8
    """Alias, owner or policy."""
    OWNER = 9
    """The SG owner change notification."""


class Mode(IntEnum):
    """Label 31: as what a CPNS Device runs (DEF-2)."""

    PNE = 1
    PN_GW = 2
    BOTH = 3


class JoinPolicy(IntEnum):
    """Label 40: who may join a service group."""

    OPEN = 1
    APPROVAL = 2
    CLOSED = 3


class Place(IntEnum):
    """Label 42: a PNE's place on the list of a service group."""

    MEMBER = 1
    INVITED = 2
    PENDING = 3
    BARRED = 4


class GatewayStatus(StrEnum):
    """What a PN GW says of itself at ``/status``, inside its own session."""

    WELL = "well"
    STORE_FAILS = "store fails"


class Presence(IntEnum):
    """Label 28: how a member can be reached at the moment (FN-4)."""

    CONNECTED = 1
    IDLE = 2
    ASLEEP = 3
    AWAY = 4


class Source(IntEnum):
    """Label 30: who says so."""

    SERVER = 1
    GATEWAY = 2
    PNE = 3


# Specification constants (PROTOCOL sections 1, 3 and 4).
CONTENT_FORMAT: Final = 65060
CPNS_PATH: Final = "cpns"
KEY_BYTES: Final = 32
RAND_BYTES: Final = 16
PROOF_BYTES: Final = 16
TXN_BYTES: Final = 8
WRAPPED_BYTES: Final = 40
KID_MAX_BYTES: Final = 7
X25519_BYTES: Final = 32
MLKEM768_EK_BYTES: Final = 1184
MLKEM768_CT_BYTES: Final = 1088
ED25519_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
SEQ_BYTES: Final = 12
RUN_BYTES: Final = 4
START_BYTES: Final = 4
"""The first parts of a sender's number; the rest counts."""
MAX_SEALED_BYTES: Final = 4 * 1024 + 64
"""An application message of 4 KiB, its ID and its tag."""
MAX_KEEP: Final = 7 * 86400
"""Seconds that a message to a group may wait for a member."""
MAX_NODE: Final = 2**16
MAX_BATCH: Final = 64
MAX_DEPTH: Final = 6
MAX_BODY: Final = 65_000
"""Bytes of a body: with its code and options it is less than AES-CCM seals with a nonce of 13 bytes (65,535)."""
MAX_PAN_BODY: Final = 8 * 1024
PAGE_BYTES: Final = 7 * 1024
"""Bytes of a body with a part of an inventory: it has to get over a PAN."""
MAX_ALIAS_BYTES: Final = 64
MAX_MEMBERS: Final = 64
"""IDs that one message lists, so that it fits into a body of 8 KiB; an inventory is asked for in pages."""
NO_COPY: Final = 0
"""The version that a PN GW names to be told of members that are not in the PN, too."""
MAX_ADDRESSES: Final = 4
MAX_ADDRESS_CHARS: Final = 100
MAX_GENERATION: Final = 2**32
"""Of a CM Device Key: 0 is the one that the Key Seed gave, each rekey makes the next."""
