"""The messages of Changing-Mode devices as frozen types; see `cpns.wire.declare`.

16 to 23 are those of PROTOCOL section 3; 42 to 46 and the first leg of CM-ASSIGN are this project's own (section 12).
"""

from dataclasses import field

from cpns.wire import fields as f
from cpns.wire.declare import Leg, Message, answer, message


@message(16, "CM-ASSIGN Request", Leg.GATEWAY_TO_SERVER)
class CmAssignRequest(Message):
    """CM-ASSIGN Request, PN GW to server: for which PNE of its own it wants a Key Seed."""

    pne_id: f.EntityId
    txn: f.Txn


@answer(17, "CM-ASSIGN Response", CmAssignRequest)
class CmAssignResponse(Message):
    """CM-ASSIGN Response, server to PN GW: Key Seed and rand_S (CM-2)."""

    txn: f.Txn
    key_seed: f.KeySeed = field(repr=False)
    rand: f.Rand


@message(16, "CM-ASSIGN Request", Leg.MEMBER_TO_GATEWAY)
class CmWanted(Message):
    """CM-ASSIGN Request, CM Device to its PN GW: it can go direct, and wants ID and key for that."""

    pne_id: f.EntityId


@answer(17, "CM-ASSIGN Response", CmWanted)
class CmGiven(Message):
    """CM-ASSIGN Response, PN GW to CM Device: from now on it may use what CM-KEY Request brought."""

    result: f.Result


@message(18, "CM-ID Request", Leg.GATEWAY_TO_SERVER)
class CmIdRequest(Message):
    """CM-ID Request: CM Device ID and rand_G (CM-4)."""

    txn: f.Txn
    cm_device_id: f.CmDeviceId
    rand: f.Rand


@answer(19, "CM-ID Response", CmIdRequest)
class CmIdResponse(Message):
    """CM-ID Response: code_S (CM-6)."""

    txn: f.Txn
    result: f.Result
    code: f.Proof | None = None


@message(20, "CM-CONFIRM Request", Leg.GATEWAY_TO_SERVER)
class CmConfirmRequest(Message):
    """CM-CONFIRM Request: code_G (CM-8)."""

    txn: f.Txn
    code: f.Proof


@answer(21, "CM-CONFIRM Response", CmConfirmRequest)
class CmConfirmResponse(Message):
    """CM-CONFIRM Response (CM-10)."""

    txn: f.Txn
    result: f.Result
    cm_device_id: f.CmDeviceId | None = None


@message(22, "CM-KEY Request", Leg.GATEWAY_TO_MEMBER)
class CmKeyRequest(Message):
    """CM-KEY Request, PN GW to CM Device, in their hop session or on a Secure PAN (CM-11)."""

    cm_device_id: f.CmDeviceId
    cm_device_key: f.CmDeviceKey = field(repr=False)


@answer(23, "CM-KEY Response", CmKeyRequest)
class CmKeyResponse(Message):
    """CM-KEY Response."""

    result: f.Result


@message(45, "CM-RELEASE Request", Leg.GATEWAY_TO_SERVER)
class CmReleaseRequest(Message):
    """CM-RELEASE Request, PN GW to server: the CM Device did not take ID and key; nobody has them."""

    cm_device_id: f.CmDeviceId


@answer(46, "CM-RELEASE Response", CmReleaseRequest)
class CmReleaseResponse(Message):
    """CM-RELEASE Response."""

    result: f.Result


@message(42, "CM-REKEY Request", Leg.PNE_TO_SERVER)
class CmRekeyRequest(Message):
    """CM-REKEY Request, PNE of a CM Device to server, end to end: the key of which generation, and rand_C."""

    cm_device_id: f.CmDeviceId
    generation: f.Generation
    rand: f.Rand


@answer(43, "CM-REKEY Response", CmRekeyRequest)
class CmRekeyResponse(Message):
    """CM-REKEY Response: rand_S."""

    result: f.Result
    rand: f.Rand


@message(44, "CMRotateNotify", Leg.SERVER_TO_PNE)
class CmRotateNotify(Message):
    """CMRotateNotify, server to PNE, end to end: its CM Device is to take a fresh key (answered by an empty 2.04)."""

    cm_device_id: f.CmDeviceId
