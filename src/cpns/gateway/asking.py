"""One PAN with what serves it, and who asks on it."""

from dataclasses import dataclass

from cpns.gateway.config import PanConfig
from cpns.gateway.hop import Hop
from cpns.gateway.invite import Invitations
from cpns.gateway.members import Pan
from cpns.gateway.reach import Reach
from cpns.gateway.setup import Setup
from cpns.session.table import Session, Sessions
from cpns.shares.rate import RateLimit
from cpns.transport.endpoint import Endpoint, Inbound
from cpns.transport.relay import Relay


@dataclass(frozen=True, slots=True)
class WiredPan:
    """One PAN, and all that is wired to it."""

    config: PanConfig
    own: Pan
    endpoint: Endpoint
    hops: Sessions
    setup: Setup
    hop: Hop
    reach: Reach
    questions: RateLimit
    invitations: Invitations
    relay: Relay


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks on a PAN, and the hop session that proves it; None: nothing does, or the Secure PAN."""

    pan: WiredPan
    inbound: Inbound
    session: Session | None
