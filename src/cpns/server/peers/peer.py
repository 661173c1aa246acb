"""A PN GW, or CM Device, that has a session with this process."""

import logging
from dataclasses import dataclass, field
from typing import Final

from cpns.crypto.secret import Secret
from cpns.ids import EntityId, PnId
from cpns.protocol.cm_assign.server import AwaitingCode, AwaitingId
from cpns.session.table import Session
from cpns.shares.noted import by
from cpns.wire.registry import GatewayStatus

_log = logging.getLogger("cpns.server")

KID_BYTES: Final = 4
"""Length of the OSCORE IDs that the server hands out."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Device ID/Key Assignment under way; nothing of it is stored before it is confirmed."""

    state: AwaitingId | AwaitingCode
    since: float


@dataclass(slots=True)
class GatewayPeer:
    """A PN GW with a session.

    Attributes:
        prk: wraps its LocalEUKey copies; made of its session's exporter and its EUKey, or CM Device Key.
        pns: the PNs that it serves; the first is the one for a SETUP that names none, and is named at the first SETUP.
        served_since: the newest version of a PN that we were told of, and that decides whether it is one of these.
        told: the newest version of a PN that it was told of here.
        store_fails: whether it says that it can keep nothing.
        assignments: of CM Devices that it mediates, by their txn; they die with its session.
    """

    gateway_id: EntityId
    session: Session
    prk: Secret = field(repr=False)
    pns: list[PnId]
    served_since: dict[PnId, int] = field(default_factory=dict)
    told: dict[PnId, int] = field(default_factory=dict)
    store_fails: bool = False
    assignments: dict[bytes, Assignment] = field(default_factory=dict, repr=False)

    def says(self, status: str) -> None:
        """Take what it says of itself; what no version known here says counts for nothing."""
        if status not in (GatewayStatus.WELL, GatewayStatus.STORE_FAILS):
            return
        self.store_fails = status == GatewayStatus.STORE_FAILS
        said = (
            "gateway %s can keep nothing: its disk is full" if self.store_fails else "gateway %s keeps what it has to"
        )
        _log.warning(said, self.gateway_id, extra=by(self.gateway_id, state="store"))
