"""The messages that establish sessions (PROTOCOL section 3); see `cpns.wire.declare` for how one is declared.

M1 and M2 keep the electives that they came with: these are in th0, or are carried on.
"""

from cpns.wire import fields as f
from cpns.wire.declare import Electives, Leg, Message, answer, entry, message


@entry
class SetupEntry:
    """One PNE in the SETUP Request of the PN GW: what that PNE said (AUTH-G1)."""

    suite: f.Suite
    entity_id: f.EntityId
    rand: f.Rand
    kid: f.Kid
    need_local: f.NeedLocal
    pan_secure: f.PanSecure
    procedure: f.Procedure
    eph: f.Eph | None = None
    electives: Electives = ()


@message(1, "SETUP Request", Leg.PAN_TO_GATEWAY)
class SetupRequest(Message):
    """SETUP Request, originating PNE to PN GW (AUTH-P1, AUTH-P2)."""

    suite: f.Suite
    entity_id: f.EntityId
    rand: f.Rand
    kid: f.Kid
    need_local: f.NeedLocal
    pan_secure: f.PanSecure
    procedure: f.Procedure
    eph: f.Eph | None = None
    pn_id: f.PnId | None = None
    setup_type: f.SetupType | None = None
    invite: f.Invite | None = None
    electives: Electives = ()


@message(1, "SETUP Request", Leg.PAN_TO_PNE, Leg.GATEWAY_TO_MEMBER, grows=False)
class Invitation(Message):
    """SETUP Request, PN GW to invited PNE."""

    entity_id: f.EntityId
    gateway_id: f.GatewayId
    procedure: f.Procedure
    pn_id: f.PnId | None = None


@message(1, "SETUP Request", Leg.GATEWAY_TO_SERVER)
class GatewaySetupRequest(Message):
    """SETUP Request, PN GW to server: all PNEs of one procedure in one message (AUTH-G1)."""

    txn: f.Txn
    pan_secure: f.PanSecure
    entries: tuple[SetupEntry, ...]
    pn_id: f.PnId | None = None
    setup_type: f.SetupType | None = None
    name: f.Name | None = None


@answer(2, "SETUP Response", Invitation)
class InvitationAccepted(Message):
    """SETUP Response, invited PNE to PN GW: it accepts, and proves itself like an originating one."""

    result: f.Result
    suite: f.Suite
    entity_id: f.EntityId
    rand: f.Rand
    kid: f.Kid
    need_local: f.NeedLocal
    pan_secure: f.PanSecure
    eph: f.Eph | None = None
    electives: Electives = ()


@answer(2, "SETUP Response", Invitation, grows=False)
class InvitationRefused(Message):
    """SETUP Response, invited PNE to PN GW: it does not come."""

    result: f.Result


@entry
class OutcomeEntry:
    """One PNE in the server's SETUP Response; `guest` if it is one.

    With result 0 the proof is hash_server (AUTH-S4), else what may tell that PNE why; see `Proofs.hash_refused`.
    """

    entity_id: f.EntityId
    result: f.Result
    proof: f.Proof | None = None
    guest: f.Guest | None = None


@answer(2, "SETUP Response", GatewaySetupRequest)
class GatewaySetupResponse(Message):
    """SETUP Response, server to PN GW; `version` is that of the PN Inventory with those that were let in."""

    txn: f.Txn
    pn_id: f.PnId
    entries: tuple[OutcomeEntry, ...]
    version: f.Version | None = None


@answer(2, "SETUP Response", SetupRequest, grows=False)
class SetupResponse(Message):
    """SETUP Response, PN GW to originating PNE (AUTH-G6)."""

    result: f.Result
    pn_id: f.PnId
    proof: f.Proof | None = None


@entry
class ChallengeEntry:
    """One PNE in the server's AUTHENTICATE Request: kid_R and both copies of its LocalEUKey (AUTH-S1, AUTH-S2)."""

    entity_id: f.EntityId
    kid: f.Kid
    eph: f.Eph | None = None
    wrapped: f.Wrapped | None = None
    wrapped_gateway: f.WrappedGateway | None = None
    electives: Electives = ()


@message(3, "AUTHENTICATE Request", Leg.SERVER_TO_GATEWAY)
class GatewayChallenge(Message):
    """AUTHENTICATE Request, server to PN GW; `eph` serves all entries of suite 2."""

    txn: f.Txn
    server_id: f.ServerId
    rand: f.Rand
    entries: tuple[ChallengeEntry, ...]
    pn_id: f.PnId | None = None
    eph: f.Eph | None = None


@message(3, "AUTHENTICATE Request", Leg.PAN_TO_PNE)
class Challenge(Message):
    """AUTHENTICATE Request, PN GW to PNE (AUTH-G2)."""

    gateway_id: f.GatewayId
    server_id: f.ServerId
    pn_id: f.PnId
    rand: f.Rand
    kid: f.Kid
    eph: f.Eph | None = None
    wrapped: f.Wrapped | None = None
    electives: Electives = ()


@message(3, "AUTHENTICATE Request", Leg.UPLINK_TO_GATEWAY)
class LinkChallengeFromServer(Message):
    """AUTHENTICATE Request inside ACTIVATE, server to PN GW (AUTH-7.5.5, M2)."""

    server_id: f.ServerId
    rand: f.Rand
    kid: f.Kid
    eph: f.Eph | None = None
    electives: Electives = ()


@message(3, "AUTHENTICATE Request", Leg.PAN_TO_PNE)
class LinkChallengeFromGateway(Message):
    """AUTHENTICATE Request inside ACTIVATE, PN GW to PNE (AUTH-G4, M2)."""

    gateway_id: f.GatewayId
    rand: f.Rand
    kid: f.Kid
    eph: f.Eph | None = None
    electives: Electives = ()


@entry
class ProofEntry:
    """One PNE in the PN GW's AUTHENTICATE Response: its hash_PNE, or the result that stands in for it."""

    entity_id: f.EntityId
    proof: f.Proof | None = None
    result: f.Result | None = None


@answer(4, "AUTHENTICATE Response", GatewayChallenge)
class GatewayProofs(Message):
    """AUTHENTICATE Response, PN GW to server (AUTH-G5)."""

    txn: f.Txn
    entries: tuple[ProofEntry, ...]


@answer(4, "AUTHENTICATE Response", Challenge, LinkChallengeFromServer, LinkChallengeFromGateway, grows=False)
class Proof(Message):
    """AUTHENTICATE Response: hash_I (AUTH-P4, and M3 of every ACTIVATE)."""

    entity_id: f.EntityId
    proof: f.Proof


@message(5, "PNEstablishmentNotify", Leg.PAN_TO_PNE, grows=False)
class PnEstablishmentNotify(Message):
    """PNEstablishmentNotify, PN GW to invited PNE (AUTH-G6)."""

    result: f.Result
    pn_id: f.PnId
    proof: f.Proof | None = None


@message(6, "ACTIVATE Request", Leg.UPLINK_TO_SERVER, Leg.PAN_TO_GATEWAY)
class ActivateRequest(Message):
    """ACTIVATE Request, M1 of `gw-server` and `pne-gw`."""

    suite: f.Suite
    entity_id: f.EntityId
    rand: f.Rand
    kid: f.Kid
    eph: f.Eph | None = None
    electives: Electives = ()


@message(6, "ACTIVATE Request", Leg.UPLINK_TO_SERVER)
class CmActivateRequest(Message):
    """ACTIVATE Request of profile `cm-server`, with the code of CM-12 (code_I)."""

    suite: f.Suite
    cm_device_id: f.EntityId
    rand: f.Rand
    kid: f.Kid
    code: f.Proof
    eph: f.Eph | None = None
    electives: Electives = ()


@answer(7, "ACTIVATE Response", ActivateRequest, grows=False)
class ActivateResponse(Message):
    """ACTIVATE Response, M4: result, and hash_R where it is 0."""

    result: f.Result
    proof: f.Proof | None = None


@answer(7, "ACTIVATE Response", CmActivateRequest)
class CmActivateResponse(Message):
    """ACTIVATE Response of profile `cm-server` (CM-14)."""

    result: f.Result
    server_id: f.ServerId
    rand: f.Rand
    kid: f.Kid
    code: f.Proof
    eph: f.Eph | None = None
    electives: Electives = ()


@answer(8, "Error", grows=False)
class ErrorBody(Message):
    """Body of an answer that is no message of a procedure."""

    result: f.Result
