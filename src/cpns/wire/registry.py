"""Numbers of the wire: the one place where types, labels, suites, procedures and limits are given out.

Source: PROTOCOL section 3; types and labels from 24 on are this project's own (section 10).
"""

from enum import IntEnum, StrEnum
from typing import Final


class MessageType(IntEnum):
    """First element of every body."""

    SETUP_REQUEST = 1
    SETUP_RESPONSE = 2
    AUTHENTICATE_REQUEST = 3
    AUTHENTICATE_RESPONSE = 4
    PN_ESTABLISHMENT_NOTIFY = 5
    ACTIVATE_REQUEST = 6
    ACTIVATE_RESPONSE = 7
    ERROR = 8
    CM_ASSIGN_REQUEST = 16
    CM_ASSIGN_RESPONSE = 17
    CM_ID_REQUEST = 18
    CM_ID_RESPONSE = 19
    CM_CONFIRM_REQUEST = 20
    CM_CONFIRM_RESPONSE = 21
    CM_KEY_REQUEST = 22
    CM_KEY_RESPONSE = 23
    PN_CHANGE_NOTIFY = 24
    INVENTORY_REQUEST = 25
    INVENTORY_RESPONSE = 26
    ENTITY_DISCOVERY_REQUEST = 27
    ENTITY_DISCOVERY_RESPONSE = 28
    GATEWAY_CHANGE_REQUEST = 29
    GATEWAY_CHANGE_RESPONSE = 30
    PN_GW_SWITCHING_REQUEST = 31
    PN_GW_SWITCHING_RESPONSE = 32
    INVITE_REQUEST = 33
    INVITE_RESPONSE = 34
    LEAVE_REQUEST = 35
    LEAVE_RESPONSE = 36
    EXPEL_REQUEST = 37
    EXPEL_RESPONSE = 38
    RELEASE_REQUEST = 39
    RELEASE_RESPONSE = 40
    PN_STATUS_NOTIFY = 41
    CM_REKEY_REQUEST = 42
    CM_REKEY_RESPONSE = 43
    CM_ROTATE_NOTIFY = 44
    CM_RELEASE_REQUEST = 45
    CM_RELEASE_RESPONSE = 46
    SG_CREATE_REQUEST = 47
    SG_CREATE_RESPONSE = 48
    SG_DISCOVERY_REQUEST = 49
    SG_DISCOVERY_RESPONSE = 50
    SG_JOIN_REQUEST = 51
    SG_JOIN_RESPONSE = 52
    SG_INVITE_REQUEST = 53
    SG_INVITE_RESPONSE = 54
    SG_LEAVE_REQUEST = 55
    SG_LEAVE_RESPONSE = 56
    SG_EXPEL_REQUEST = 57
    SG_EXPEL_RESPONSE = 58
    SG_OWNER_CHANGE_REQUEST = 59
    SG_OWNER_CHANGE_RESPONSE = 60
    SG_DELETE_REQUEST = 61
    SG_DELETE_RESPONSE = 62
    SG_CHANGE_NOTIFY = 63
    SG_INVENTORY_REQUEST = 64
    SG_INVENTORY_RESPONSE = 65
    GROUP_KEY_REQUEST = 66
    GROUP_KEY_RESPONSE = 67
    GROUP_KEY_UPDATE_REQUEST = 68
    GROUP_KEY_UPDATE_RESPONSE = 69
    GKDK_REQUEST = 70
    GKDK_RESPONSE = 71
    GROUP_KEY_NOTIFY = 72
    GROUP_SENDER_REQUEST = 73
    GROUP_SENDER_RESPONSE = 74
    GROUP_MESSAGE_REQUEST = 75
    GROUP_MESSAGE_RESPONSE = 76

    @property
    def title(self) -> str:
        """The message's name as the seeds write it: ``SETUP Request``, ``PNEstablishmentNotify``."""
        verb, _, kind = self.name.rpartition("_")
        if kind == "NOTIFY":
            return "".join(word if word in _SHORT else word.capitalize() for word in verb.split("_")) + "Notify"
        if verb in _WRITTEN_OUT:
            return f"{_WRITTEN_OUT[verb]} {kind.capitalize()}"
        return f"{verb.replace('_', '-')} {kind.capitalize()}" if verb else "Error"


_SHORT: Final = ("PN", "CM", "SG")
_WRITTEN_OUT: Final = {
    "SG_OWNER_CHANGE": "SG Owner Change",
    "ENTITY_DISCOVERY": "Entity Discovery",
    "GATEWAY_CHANGE": "Gateway Change",
    "PN_GW_SWITCHING": "PN GW Switching",
}


class Label(IntEnum):
    """Keys of a body's map."""

    SUITE = 1
    ENTITY_ID = 2
    GATEWAY_ID = 3
    SERVER_ID = 4
    PN_ID = 5
    RAND = 6
    KID = 7
    EPH = 8
    NEED_LOCAL = 9
    PAN_SECURE = 10
    PROCEDURE = 11
    WRAPPED = 12
    WRAPPED_GATEWAY = 13
    PROOF = 14
    TXN = 15
    ENTRIES = 16
    RESULT = 17
    SETUP_TYPE = 18
    INVITE = 19
    ALIAS = 20
    KEY_SEED = 21
    CM_DEVICE_ID = 22
    CM_DEVICE_KEY = 23
    MEMBERS = 24
    VERSION = 25
    CHANGE = 26
    OWNER = 27
    PRESENCE = 28
    AGE = 29
    SOURCE = 30
    MODE = 31
    AFTER = 32
    MORE = 33
    ADDRESSES = 34
    GUEST = 35
    NETWORKS = 36
    GENERATION = 37
    SG_ID = 38
    SERVICE = 39
    POLICY = 40
    KEYWORD = 41
    STANDING = 42
    MEMBER_REQ = 43
    GROUPS = 44
    EPOCH = 45
    GROUP_KEY = 46
    TREE = 47
    NODE = 48
    NODE_KEY = 49
    VERIFY_KEY = 50
    SIGNATURE = 51
    SEQ = 52
    SEALED = 53
    RUN = 54
    VOUCHED = 55
    KEEP = 56
    COUNT = 57


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
