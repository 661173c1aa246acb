"""What a PNE is told at its start."""

from dataclasses import dataclass
from pathlib import Path

from cpns.crypto.secret import Secret
from cpns.ids import EntityId, PnId
from cpns.wire.declare import Electives
from cpns.wire.registry import SetupType


@dataclass(frozen=True, slots=True)
class Where:
    """Which PN GW to go through.

    Attributes:
        gateways: host and port of each to try; none: it asks on the PAN.
        gateway_id: the only one that will do, or None for any: the server's proof tells which it is.
        pan_secure: what this PNE believes of the PAN there.
    """

    gateways: tuple[tuple[str, int], ...] = ()
    gateway_id: EntityId | None = None
    pan_secure: bool = False


@dataclass(frozen=True, slots=True)
class PneConfig:
    """See ``cpns pne run --help`` for the meaning of each.

    Attributes:
        where: which PN GW it goes through, to begin with.
        timer: seconds that it waits for the AUTHENTICATE Request, and again for the SETUP Response.
        request_timeout: seconds that it waits for the answer to an application message.
        presence: seconds between its signs of life to the PN GW.
        sign_of_life: seconds without a message of the server after which it is given a sign of life; 0: never.
        session_age: seconds after which it sets up again by itself; after twice that its sessions are over.
        join: the PN to join first (procedure 3); None: it establishes one, or is taken into the one of its PN GW.
        setup_type: whom the PN GW is to invite when it establishes: nobody (1), all in reach (2), or *invite* (3).
        electives: what it says in M1 that older peers pass over; this version has nothing to say.
        waits: it sets up nothing by itself, and waits to be invited.
    """

    pne_id: EntityId
    server_id: EntityId
    eukey: Secret
    where: Where = Where()
    suite: int = 2
    timer: float = 10.0
    request_timeout: float = 6.0
    presence: float = 20.0
    session_age: float = 43200.0
    sign_of_life: float = 300.0
    join: PnId | None = None
    setup_type: int = SetupType.GATEWAY_ONLY
    invite: tuple[EntityId, ...] = ()
    waits: bool = False
    electives: Electives = ()
    trace: Path | None = None
