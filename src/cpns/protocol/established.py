"""What a finished authentication leaves at either end."""

from dataclasses import dataclass

from cpns.crypto.schedule import Profile, SessionKeys
from cpns.ids import EntityId


@dataclass(frozen=True, slots=True)
class Established:
    """One end of a session.

    Attributes:
        own_kid: the OSCORE ID by which this end is addressed (its Recipient ID).
        peer_kid: the one by which the peer is addressed (this end's Sender ID).
        th0: names the run; what `pne-gw` binds to.
    """

    profile: Profile
    own_id: EntityId
    peer_id: EntityId
    own_kid: bytes
    peer_kid: bytes
    keys: SessionKeys
    th0: bytes
