"""What a PN GW is told at its start."""

from dataclasses import dataclass
from pathlib import Path

from cpns.ids import EntityId
from cpns.wire.declare import Electives
from cpns.wire.registry import Mode


@dataclass(frozen=True, slots=True)
class PanConfig:
    """One PAN of the gateway.

    Attributes:
        secure: whether the operator knows it for a Secure PAN (DEF-9); then there is no hop session on it (SES-5).
    """

    host: str
    port: int
    secure: bool


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """See ``cpns gateway run --help`` for the meaning of each.

    Attributes:
        batch_window: seconds that a SETUP Request waits for others, to go to the server in one.
        answer_timeout: seconds that a PNE has for its AUTHENTICATE Response.
        setup_timeout: seconds that the server has for a SETUP, the PNEs' answers included.
        uplink_patience: seconds that a SETUP Request waits for an uplink that is away.
        keepalive: seconds of silence on the uplink before the server is asked for a sign of life.
        half_open: seconds after which a hop session that its PNE did not confirm is ended.
        session_age: seconds after which it authenticates to the server anew; after twice that a session is over.
        hold: seconds that a message of a PNE is kept while the uplink is away.
        mode: what it says it runs as; BOTH in a device that is a PNE too.
        more_servers: host and port of other processes of the server, tried in turn where one is away.
        server_order: whether they are preferred in that order; else gateways spread over them by their IDs.
        electives: what it says in M1 and M2 that older peers pass over; this version has nothing to say.
        take_over: whether it serves the PN of another PN GW when it is asked to (PN GW switching).
    """

    gateway_id: EntityId
    server_id: EntityId
    server_host: str
    server_port: int
    pans: tuple[PanConfig, ...]
    data: Path | None = None
    alias: str | None = None
    suite: int = 2
    lowest_suite: int = 1
    tls: bool = False
    tls_ca: Path | None = None
    announce: bool = True
    batch_window: float = 0.02
    answer_timeout: float = 5.0
    setup_timeout: float = 9.0
    uplink_patience: float = 6.0
    keepalive: float = 20.0
    half_open: float = 60.0
    session_age: float = 43200.0
    hold: float = 60.0
    take_over: bool = True
    mode: Mode = Mode.PN_GW
    more_servers: tuple[tuple[str, int], ...] = ()
    server_order: bool = False
    electives: Electives = ()
    trace: Path | None = None
