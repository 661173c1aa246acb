"""Check a file of known answers against the code: ``make vectors FILE=path``.

Two forms of file: cases with ``inputs`` and ``outputs`` (key schedules, groups, credentials), and cases with ``type``,
``body`` and ``encoded`` (wire). A case is recognised by the inputs it has, not by its name. Prints a line per case;
exit status 1 when any value differs.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cpns.crypto import cm, ephemeral, group, local_eukey
from cpns.crypto.schedule import Profile, Schedule, Transcript
from cpns.crypto.secret import Secret
from cpns.domain.credential import DeviceCredential, parse_credential
from cpns.domain.inventory import Kind
from cpns.errors import TOLD_TO_THE_PROVEN
from cpns.ids import EntityId, SgId
from cpns.protocol.group_keying import member, tree
from cpns.protocol.group_messaging import receiver
from cpns.protocol.group_messaging.sender import Sender
from cpns.wire import application, codec

Case = dict[str, Any]
_HEX = frozenset(
    "key rand_i kid_i eph_i rand_r kid_r eph_r binding local_eukey private_i ss exporter_gw_server eukey_gw th0 "
    "key_seed rand_s rand_g exporter_pne_server rand_c gkek group_key sign_key start message_id".split()
)


def _inputs(case: Case) -> Case:
    return {
        name: bytes.fromhex(value) if name in _HEX and isinstance(value, str) else value
        for name, value in case["inputs"].items()
    }


def _transcript(i: Case, profile: str, initiator: str, **more: Any) -> Transcript:
    return Transcript(
        profile=Profile(profile),
        suite=i["suite"],
        responder=i["responder"] if "responder" in i else i["server"],
        initiator=initiator,  # type: ignore[arg-type]
        rand_i=i["rand_i"],
        kid_i=i["kid_i"],
        eph_i=i["eph_i"],
        rand_r=i["rand_r"],
        kid_r=i["kid_r"],
        eph_r=i["eph_r"],
        **more,
    )


def _shared(i: Case) -> bytes:
    given: bytes | None = i.get("ss")
    if "private_i" in i:
        own = ephemeral.initiate(i["suite"], i["private_i"].ljust(ephemeral.SEED_BYTES, b"\0"))
        if own.public != i["eph_i"]:
            raise ValueError("eph_i is not the public key of private_i")
        computed = ephemeral.agree_as_initiator(own, i["eph_r"])
        if given is not None and given != computed:
            raise ValueError("ss is not what private_i and eph_r give")
        return computed
    return given if given is not None else bytes(32)


def _session(schedule: Schedule, keys: Any) -> Case:
    return {
        "th0": schedule.th0,
        **schedule.intermediate(),
        "session_key": schedule.session_key.reveal(),
        "th2": keys.th2,
        "oscore_master_secret": keys.oscore_master_secret().reveal(),
        "oscore_master_salt": keys.oscore_master_salt(),
        "exporter": keys.exporter().reveal(),
    }


def _exchange(i: Case) -> Case:
    transcript = _transcript(
        i,
        i["profile"],
        i["initiator"],
        gw=i["gw"],
        procedure=i["procedure"],
        pn_id=i["pn"],
        need_local=i["need"],
        pan_secure=i["pan_secure"],
        binding=i["binding"],
    )
    schedule = Schedule(Secret(i["key"]), transcript.th0(), _shared(i))
    local = i.get("local_eukey")
    wrapped = None
    if local is not None:
        wrapped = schedule.wrap(Secret(local))
        if schedule.unwrap(wrapped) != Secret(local):
            raise ValueError("what was wrapped does not open")
    proofs = schedule.proofs(i["rand_i"], i["rand_r"], wrapped)
    hash_i = proofs.hash_i()
    hash_r = proofs.hash_r(hash_i)
    proofs.verify_i(hash_i)
    proofs.verify_r(hash_i, hash_r)
    return {
        **_session(schedule, proofs.session_keys(hash_i, hash_r)),
        "wrap_key": schedule.wrap_key().reveal(),
        "wrapped": wrapped,
        "th1": proofs.th1,
        "hash_i": hash_i,
        "hash_r": hash_r,
        **{f"hash_refused_{result}": proofs.hash_refused(hash_i, result) for result in TOLD_TO_THE_PROVEN},
    }


def _gateway_copy(i: Case) -> Case:
    prk = local_eukey.gateway_prk(Secret(i["exporter_gw_server"]), Secret(i["eukey_gw"]))
    wrapped = local_eukey.GatewayWrap(prk).wrap(i["th0"], Secret(i["local_eukey"]))
    if local_eukey.open_at_gateway(prk, i["th0"], wrapped) != Secret(i["local_eukey"]):
        raise ValueError("what was wrapped does not open")
    return {"wrap_key": local_eukey.gateway_wrap_key(prk, i["th0"]).reveal(), "wrapped_gw": wrapped}


def _cm_assign(i: Case) -> Case:
    device = cm.cm_device_id(Secret(i["key_seed"]), i["gw"], i["server"])
    key = cm.cm_device_key(Secret(i["key_seed"]), device, i["gw"], i["server"])
    confirm = cm.confirm_key(key, device, i["gw"], i["server"])
    code_s = cm.code_server(confirm, i["rand_s"], i["rand_g"])
    return {
        "cm_id": device,
        "cm_key": key.reveal(),
        "confirm_key": confirm.reveal(),
        "code_server": code_s,
        "code_gw": cm.code_gateway(confirm, i["rand_s"], i["rand_g"], code_s),
    }


def _cm_activate(i: Case) -> Case:
    key = Secret(i["key"])
    hello = cm.hello_key(key, i["cm_id"], i["server"])
    code_i = cm.code_hello(hello, i["suite"], i["server"], i["cm_id"], i["rand_i"], i["kid_i"], i["eph_i"])
    transcript = _transcript(i, "cm-server", i["cm_id"], binding=code_i)
    schedule = Schedule(key, transcript.th0(), _shared(i))
    proofs = schedule.proofs(i["rand_i"], i["rand_r"], None)
    code_r = cm.code_responder(proofs, code_i)
    return {
        **_session(schedule, proofs.session_keys(code_i, code_r)),
        "hello_key": hello.reveal(),
        "code_i": code_i,
        "th1": proofs.th1,
        "code_r": code_r,
    }


def _cm_rekey(i: Case) -> Case:
    key = cm.rekey(
        Secret(i["exporter_pne_server"]), Secret(i["key"]), i["cm_id"], i["generation"], i["rand_c"], i["rand_s"]
    )
    return {"cm_key": key.reveal()}


def _group_node(i: Case) -> Case:
    key = group.node_key(Secret(i["gkek"]), i["sg"], i["gw"], i["node"])
    wrapped = group.wrap_group_key(key, i["sg"], i["gw"], i["epoch"], i["node"], Secret(i["group_key"]))
    if group.open_group_key(key, i["sg"], i["gw"], i["epoch"], i["node"], wrapped) != Secret(i["group_key"]):
        raise ValueError("what was wrapped does not open")
    return {"node_key": key.reveal(), "wrapped": wrapped}


def _group_sender(i: Case) -> Case:
    return {"sender_key": group.sender_key(Secret(i["group_key"]), i["sg"], i["epoch"], i["sender"]).reveal()}


def _broadcast(i: Case) -> Case:
    leaves = tuple((EntityId(f"pne-{leaf}"), leaf) for leaf in i["leaves"])
    own = tree.Tree(SgId(i["sg"]), EntityId(i["gw"]), i["tree"], Secret(i["gkek"]), i["depth"], 8, leaves)
    message = tree.broadcast(own, i["epoch"], Secret(i["group_key"]), Secret(i["sign_key"]))
    verify_key = group.verify_key(Secret(i["sign_key"]))
    for pne, _ in leaves:
        gkdk = tree.gkdk(own, pne, verify_key)
        if member.open_broadcast(member.take(gkdk, own.gateway_id), message) != Secret(i["group_key"]):
            raise ValueError("what was broadcast does not open")
    wrapped = [(one.node, one.wrapped) for one in message.entries]
    return {
        "verify_key": verify_key,
        "cover": [node for node, _ in wrapped],
        "wrapped": [one.hex() for _, one in wrapped],
        "signed": group.broadcast_input(i["sg"], i["gw"], i["epoch"], i["tree"], wrapped),
        "signature": message.signature,
        "body": codec.encode(message),
        "gkdk": codec.encode(gkdk),
    }


def _group_message(i: Case) -> Case:
    sg, epoch, pne = SgId(i["sg"]), i["epoch"], EntityId(i["sender"])
    key, signed = Secret(i["group_key"]), i["sign_key"]
    plaintext = application.encode_push(application.Push(i["message_id"], i["text"]))
    sender = Sender(pne, i["run"], i["start"], Secret(signed or bytes(32)), {sg: i["count"] - 1})
    message = sender.seal(sg, epoch, key, plaintext, signed=signed is not None)
    if receiver.open_message(message, key) != plaintext:
        raise ValueError("what was sealed does not open")
    computed: Case = {
        "seq": message.seq,
        "plaintext": plaintext,
        "sender_key": group.sender_key(key, sg, epoch, pne).reveal(),
        "aad": group.message_context(sg, epoch, pne, message.seq),
        "sealed": message.sealed,
        "body": codec.encode(message),
    }
    if signed is not None:
        computed["verify_key"] = group.verify_key(sender.sign_key)
        computed["signed"] = group.message_input(sg, epoch, pne, message.seq, message.sealed)
        computed["signature"] = message.signature
        receiver.check_signature(message, computed["verify_key"])
    return computed


def _credential(i: Case) -> Case:
    given = DeviceCredential(Kind(i["role"]), EntityId(i["id"]), EntityId(i["server"]), Secret(i["key"]))
    line = given.line().reveal().decode()
    if parse_credential(line, given.kind) != given:
        raise ValueError("the line is not read as it was written")
    return {"line": line, "check": line.rpartition("/")[2]}


_KINDS: tuple[tuple[str, Callable[[Case], Case]], ...] = (
    ("profile", _exchange),
    ("exporter_gw_server", _gateway_copy),
    ("key_seed", _cm_assign),
    ("exporter_pne_server", _cm_rekey),
    ("cm_id", _cm_activate),
    ("role", _credential),
    ("leaves", _broadcast),
    ("message_id", _group_message),
    ("gkek", _group_node),
    ("sender", _group_sender),
)
"""The input that tells a kind of case, and what computes its outputs; the first that fits."""


def check_schedule(case: Case) -> list[str]:
    """Return the names of the outputs of *case* that the code computes otherwise."""
    compute = next((function for name, function in _KINDS if name in case["inputs"]), None)
    if compute is None:
        return ["(inputs of an unknown kind)"]
    computed = compute(_inputs(case))
    shown = {name: value.hex() if isinstance(value, bytes) else value for name, value in computed.items()}
    return [name for name, value in case["outputs"].items() if name not in shown or shown[name] != value]


def from_json(value: Any) -> Any:
    """Return a body of the wire file's form as the codec has it."""
    if isinstance(value, dict):
        if set(value) == {"hex"}:
            return bytes.fromhex(value["hex"])
        return {int(label): from_json(item) for label, item in value.items()}
    return [from_json(item) for item in value] if isinstance(value, list) else value


def check_wire(case: Case) -> list[str]:
    """Return what differs between *case* and the codec: decoding, or encoding again."""
    encoded = bytes.fromhex(case["encoded"])
    kind, body = codec.parse(encoded)
    wrong = [] if (int(kind), body) == (case["type"], from_json(case["body"])) else ["decoded"]
    message = codec.decode(encoded, *codec.shapes_of(kind))
    return wrong if codec.encode(message) == encoded else [*wrong, "encoded"]


def main(paths: list[str]) -> int:
    """Check each file and return the exit status."""
    failed = 0
    for path in paths or sorted(map(str, Path(__file__).parent.glob("*.json"))):
        for case in json.loads(Path(path).read_text())["cases"]:
            try:
                wrong = check_wire(case) if "encoded" in case else check_schedule(case)
            except Exception as error:
                wrong = [f"{type(error).__name__}: {error}"]
            failed += bool(wrong)
            print(f"{'FAIL' if wrong else 'ok  '}  {case['name']}{': ' + ', '.join(wrong) if wrong else ''}")
    print(f"{'FAIL: ' + str(failed) + ' case(s) differ' if failed else 'all cases agree'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
