"""What a CPNS Server is told at its start."""

from dataclasses import dataclass
from pathlib import Path

from cpns.domain.group import MAX_GROUPS
from cpns.domain.member_list import Policy
from cpns.ids import EntityId
from cpns.wire.declare import Electives


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """See ``cpns server run --help`` for the meaning of each.

    Attributes:
        data: the folder with store, key-encryption key and admin socket.
        lowest_suite: 1, 2 or 3; nobody is let in with less.
        policy: of PNs that are made from now on.
        answer_timeout: seconds that a PN GW has for an AUTHENTICATE Response, its PNEs included.
        half_open: seconds after which a session that no message of the peer confirmed is ended.
        session_age: seconds after which any session is ended.
        cm_unused: seconds after which a CM Device that was never used is forgotten.
        owner_away: seconds that the owner of a service group may be away before another member follows it.
        readings_rate: readings a second that are taken of one device, on average; ten seconds' worth at once.
        readings_volume: bytes a day that the readings of one device may take in the store.
        max_groups: service groups that one PNE may be in; who is in more stays.
        nats: ``nats://host:port``, where the processes of one server reach each other; None: it is one process.
        workers: processes to run.
        electives: what it says in M2 that older peers pass over; this version has nothing to say.
        first: whether this one has the admin socket.
    """

    server_id: EntityId
    data: Path
    host: str = "127.0.0.1"
    port: int = 5683
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    lowest_suite: int = 1
    policy: Policy = Policy.OPEN
    answer_timeout: float = 8.0
    half_open: float = 60.0
    session_age: float = 86400.0
    cm_unused: float = 30 * 86400.0
    owner_away: float = 30 * 86400.0
    readings_rate: float = 20.0
    readings_volume: float = 64e6
    max_groups: int = MAX_GROUPS
    nats: str | None = None
    workers: int = 1
    first: bool = True
    electives: Electives = ()
    trace: Path | None = None
