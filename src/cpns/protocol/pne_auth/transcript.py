"""The transcript of one PNE's run, as PN GW and server both see it: from its entry in the SETUP Request, and M2."""

from cpns.crypto.schedule import Profile, Transcript
from cpns.ids import EntityId, PnId
from cpns.wire.codec import electives_of
from cpns.wire.declare import Electives
from cpns.wire.messages import SetupEntry


def transcript_of(
    entry: SetupEntry,
    server_id: EntityId,
    gateway_id: EntityId,
    pn_id: PnId,
    rand: bytes,
    kid: bytes,
    eph: bytes | None,
    electives: Electives,
) -> Transcript:
    """Return the transcript of *entry*'s run; *rand*, *kid*, *eph* and *electives* are those of the server."""
    return Transcript(
        profile=Profile.PNE_SERVER,
        suite=entry.suite,
        responder=server_id,
        initiator=entry.entity_id,
        rand_i=entry.rand,
        kid_i=entry.kid,
        eph_i=entry.eph,
        rand_r=rand,
        kid_r=kid,
        eph_r=eph,
        gw=gateway_id,
        procedure=entry.procedure,
        pn_id=pn_id,
        need_local=entry.need_local,
        pan_secure=entry.pan_secure,
        electives_i=electives_of(entry),
        electives_r=electives,
    )
