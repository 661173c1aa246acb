"""Assignment, activation and rekey of CM Devices: each side against the other, and against PROTOCOL section 6.

`Values` and `CmRun` say the formulas a second time and call nothing of `cpns.crypto`.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpns.crypto import cm
from cpns.crypto.schedule import Profile
from cpns.crypto.secret import Secret
from cpns.domain.cm import CmKey
from cpns.errors import AuthenticationFailed, Refused, Result
from cpns.ids import EntityId
from cpns.protocol.cm_activate import device as activating
from cpns.protocol.cm_activate import server as activated
from cpns.protocol.cm_assign import mediator, server
from cpns.wire import cm_messages as m
from cpns.wire.messages import CmActivateRequest, CmActivateResponse
from tests.support.formula import Run, enc, expand, mac, shared
from tests.support.wire_strategies import NAMES

PNE, GW, GW2 = EntityId("pne-1"), EntityId("gw-1"), EntityId("gw-2")
SERVER, SERVER2 = EntityId("server.example"), EntityId("server2.example")
TXN, TXN2 = b"txn of 1", b"txn of 2"
SEED, SEED2 = bytes(range(32)), bytes(range(32, 64))
RAND_S, RAND_G, RAND_X = b"rand of server 1", b"rand of gateway1", b"another rand 123"

OCTETS_16, OCTETS_32 = st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32)


def shows(shown: object, secret: bytes) -> bool:
    """Whether *secret*, or a good part of it, can be read off what is printed for *shown*."""
    text = repr(shown) + str(shown)
    return any(form in text for form in (repr(secret)[2:-1], secret.hex(), repr(secret[:12])[2:-1], str([*secret])))


def flipped(value: bytes, bit: int = 0) -> bytes:
    at = bit // 8 % len(value)
    return value[:at] + bytes([value[at] ^ 1 << bit % 8]) + value[at + 1 :]


# --- the formulas


@dataclass(frozen=True)
class Values:
    """What steps 1 to 10 compute."""

    seed: bytes
    rand_s: bytes = RAND_S
    rand_g: bytes = RAND_G
    gateway: str = GW
    server: str = SERVER

    @property
    def prk(self) -> bytes:
        return mac(b"cpns1 cm", self.seed)

    @property
    def device(self) -> EntityId:
        raw = expand(self.prk, enc("cpns1 cm id", self.gateway, self.server), 15)
        return EntityId(f"cm-{base64.b32encode(raw).decode().lower()}")

    @property
    def key(self) -> bytes:
        return expand(self.prk, enc("cpns1 cm key", self.device, self.gateway, self.server), 32)

    @property
    def cck(self) -> bytes:
        info = enc("cpns1 cm confirm", self.device, self.gateway, self.server)
        return expand(mac(b"cpns1 cm confirm", self.key), info, 32)

    @property
    def code_s(self) -> bytes:
        return mac(self.cck, enc("cpns1 cm code server", self.rand_s, self.rand_g))[:16]

    @property
    def code_g(self) -> bytes:
        return mac(self.cck, enc("cpns1 cm code gw", self.rand_s, self.rand_g, self.code_s))[:16]


@dataclass(frozen=True)
class CmRun(Run):
    """`Run` of profile ``cm-server``: code_I stands where hash_I does, and is the binding."""

    @property
    def hash_i(self) -> bytes:
        named = enc("cpns1 cm hello", self.m1.cm_device_id, self.responder)
        hello = expand(mac(b"cpns1 cm hello", self.key), named, 32)
        said = (self.m1.suite, self.responder, self.m1.cm_device_id, self.m1.rand, self.m1.kid, self.m1.eph)
        return mac(hello, enc("cpns1 cm code hello", *said))[:16]

    @property
    def oscore_master_salt(self) -> bytes:
        return expand(self.session_key, enc("cpns1 oscore salt", self.th2), 16)


V = Values(SEED)

# --- assignment, steps 1 to 10


@dataclass(frozen=True)
class Assignment:
    """A whole run between two honest sides: every state and every message."""

    seed_awaited: mediator.AwaitingSeed
    wanted: m.CmAssignRequest
    id_awaited: server.AwaitingId
    given: m.CmAssignResponse
    code_s_awaited: mediator.AwaitingCode
    named: m.CmIdRequest
    code_g_awaited: server.AwaitingCode
    shown: m.CmIdResponse
    reply_awaited: mediator.AwaitingReply
    confirmed: m.CmConfirmRequest
    assigned: server.Assigned

    @property
    def reply(self) -> m.CmConfirmResponse:
        return m.CmConfirmResponse(self.wanted.txn, 0, self.assigned.cm_device_id)


def assign(
    values: Values = V, *, txn: bytes = TXN, pne: EntityId = PNE, gateway: str = GW, server_id: str = SERVER
) -> Assignment:
    own, its = EntityId(gateway), EntityId(server_id)
    seed_awaited, wanted = mediator.begin(txn=txn, device=pne, own_id=own, server_id=its)
    id_awaited, given_seed = server.offer(wanted, gateway=own, key_seed=Secret(values.seed), rand=values.rand_s)
    code_s_awaited, named = mediator.derive(seed_awaited, given_seed, values.rand_g)
    code_g_awaited, shown = server.identify(id_awaited, named, its)
    reply_awaited, confirmed = mediator.confirm(code_s_awaited, shown)
    assigned = server.confirm(code_g_awaited, confirmed)
    sides = (seed_awaited, wanted, id_awaited, given_seed, code_s_awaited, named, code_g_awaited, shown)
    return Assignment(*sides, reply_awaited, confirmed, assigned)


RUN = assign()


def test_every_message_of_an_assignment_is_what_section_6_says() -> None:
    assert RUN.wanted == m.CmAssignRequest(PNE, TXN)
    assert RUN.given == m.CmAssignResponse(TXN, SEED, RAND_S)
    assert RUN.named == m.CmIdRequest(TXN, V.device, RAND_G)
    assert RUN.shown == m.CmIdResponse(TXN, 0, V.code_s)
    assert RUN.confirmed == m.CmConfirmRequest(TXN, V.code_g)
    assert RUN.assigned == server.Assigned(PNE, GW, V.device, Secret(SEED))
    assert mediator.finish(RUN.reply_awaited, RUN.reply) == CmKey(V.device, 0, Secret(V.key))
    assert RUN.code_s_awaited.confirm_key == Secret(V.cck)
    assert len(V.device) == 27
    assert len({SEED, V.key, V.cck, V.prk}) == 4
    assert len({V.code_s, V.code_g}) == 2


@settings(max_examples=30)
@given(
    seed=OCTETS_32,
    rands=st.tuples(OCTETS_16, OCTETS_16),
    names=st.tuples(NAMES, NAMES, NAMES),
    txn=st.binary(min_size=8, max_size=8),
)
def test_both_sides_agree_whatever_is_drawn(
    seed: bytes, rands: tuple[bytes, bytes], names: tuple[str, str, str], txn: bytes
) -> None:
    pne, gateway, server_id = names
    values = Values(seed, *rands, gateway, server_id)
    run = assign(values, txn=txn, pne=EntityId(pne), gateway=gateway, server_id=server_id)
    codes = (run.shown.code, run.confirmed.code)
    assert (run.named.cm_device_id, codes) == (values.device, (values.code_s, values.code_g))
    assert run.assigned == server.Assigned(EntityId(pne), EntityId(gateway), values.device, Secret(seed))
    assert mediator.finish(run.reply_awaited, run.reply) == CmKey(values.device, 0, Secret(values.key))


def refuses(reason: str, step: Callable[[], object], result: Result = Result.AUTHENTICATION_FAILED) -> None:
    """Check that *step* returns no state and no message; what the side was in is as it was."""
    with pytest.raises(Refused) as caught:
        step()
    assert (caught.value.reason, caught.value.result) == (reason, result)
    assert isinstance(caught.value, AuthenticationFailed) is (result is Result.AUTHENTICATION_FAILED)


OTHER_TXNS = [TXN2, b"", TXN[:-1], TXN + b"\0", flipped(TXN)]


@pytest.mark.parametrize("txn", OTHER_TXNS)
def test_the_mediator_takes_nothing_of_another_run(txn: bytes) -> None:
    reason = "txn_of_another_run"
    refuses(reason, lambda: mediator.derive(RUN.seed_awaited, replace(RUN.given, txn=txn), RAND_G))
    refuses(reason, lambda: mediator.confirm(RUN.code_s_awaited, replace(RUN.shown, txn=txn)))
    refuses(reason, lambda: mediator.finish(RUN.reply_awaited, replace(RUN.reply, txn=txn)))
    assert assign() == RUN  # the run goes on from where it was


WRONG_IDS = {
    "another seed's": Values(SEED2).device,
    "another gateway's": Values(SEED, gateway=GW2).device,
    "another server's": Values(SEED, server=SERVER2).device,
    "gateway and server swapped": Values(SEED, gateway=SERVER, server=GW).device,
    "upper case": EntityId(V.device.upper()),
    "cut off": EntityId(V.device[:-1]),
    "longer": EntityId(V.device + "a"),
    "without its head": EntityId(V.device[3:]),
    "empty": EntityId(""),
    "the PNE": PNE,
}


@pytest.mark.parametrize("which", WRONG_IDS)
def test_the_server_takes_no_id_but_that_of_its_seed_and_this_gateway(which: str) -> None:
    wrong = replace(RUN.named, cm_device_id=WRONG_IDS[which])
    refuses("cm_device_id_does_not_verify", lambda: server.identify(RUN.id_awaited, wrong, SERVER))
    assert server.identify(RUN.id_awaited, RUN.named, SERVER) == (RUN.code_g_awaited, RUN.shown)


def test_the_gateways_identity_is_that_of_the_session() -> None:
    """CM-3 makes the ID of the PN GW's identity: what another PN GW overheard, or was given, is of no use to it."""
    state, _ = server.offer(RUN.wanted, gateway=GW2, key_seed=Secret(SEED), rand=RAND_S)
    refuses("cm_device_id_does_not_verify", lambda: server.identify(state, RUN.named, SERVER))
    own, named = mediator.derive(replace(RUN.seed_awaited, own_id=GW2), RUN.given, RAND_G)
    refuses("cm_device_id_does_not_verify", lambda: server.identify(RUN.id_awaited, named, SERVER))
    refuses("wrong_code_of_the_server", lambda: mediator.confirm(own, RUN.shown))


def test_a_gateway_of_another_server_gets_nowhere() -> None:
    refuses("cm_device_id_does_not_verify", lambda: server.identify(RUN.id_awaited, RUN.named, SERVER2))
    state, named = mediator.derive(replace(RUN.seed_awaited, server_id=SERVER2), RUN.given, RAND_G)
    refuses("cm_device_id_does_not_verify", lambda: server.identify(RUN.id_awaited, named, SERVER))
    refuses("wrong_code_of_the_server", lambda: mediator.confirm(state, RUN.shown))


WRONG_CODES: dict[str, bytes | None] = {
    "none": None,
    "empty": b"",
    "zeros": bytes(16),
    "cut off": V.code_s[:-1],
    "longer": V.code_s + b"\0",
    "one bit": flipped(V.code_s),
    "its last bit": flipped(V.code_s, 127),
    "reflected": V.code_g,
    "rands swapped": Values(SEED, RAND_G, RAND_S).code_s,
    "an older rand_S": Values(SEED, rand_s=RAND_X).code_s,
    "an older rand_G": Values(SEED, rand_g=RAND_X).code_s,
    "another seed's": Values(SEED2).code_s,
    "another gateway's": Values(SEED, gateway=GW2).code_s,
    "another server's": Values(SEED, server=SERVER2).code_s,
    "the 32 byte MAC": mac(V.cck, enc("cpns1 cm code server", RAND_S, RAND_G)),
}


@pytest.mark.parametrize("which", WRONG_CODES)
def test_the_mediator_takes_no_other_code_of_the_server(which: str) -> None:
    wrong = replace(RUN.shown, code=WRONG_CODES[which])
    refuses("wrong_code_of_the_server", lambda: mediator.confirm(RUN.code_s_awaited, wrong))
    assert mediator.confirm(RUN.code_s_awaited, RUN.shown) == (RUN.reply_awaited, RUN.confirmed)


WRONG_ANSWERS = {
    "empty": b"",
    "zeros": bytes(16),
    "cut off": V.code_g[:-1],
    "longer": V.code_g + b"\0",
    "one bit": flipped(V.code_g),
    "its last bit": flipped(V.code_g, 127),
    "reflected": V.code_s,
    "rands swapped": Values(SEED, RAND_G, RAND_S).code_g,
    "an older rand_S": Values(SEED, rand_s=RAND_X).code_g,
    "an older rand_G": Values(SEED, rand_g=RAND_X).code_g,
    "another seed's": Values(SEED2).code_g,
    "another gateway's": Values(SEED, gateway=GW2).code_g,
    "another server's": Values(SEED, server=SERVER2).code_g,
    "without code_S": mac(V.cck, enc("cpns1 cm code gw", RAND_S, RAND_G))[:16],
}


@pytest.mark.parametrize("which", WRONG_ANSWERS)
def test_the_server_takes_no_other_code_of_the_gateway(which: str) -> None:
    wrong = replace(RUN.confirmed, code=WRONG_ANSWERS[which])
    refuses("wrong_code_of_the_gateway", lambda: server.confirm(RUN.code_g_awaited, wrong))
    assert server.confirm(RUN.code_g_awaited, RUN.confirmed) == RUN.assigned


@pytest.mark.parametrize("result", [*(one for one in Result if one is not Result.SUCCESS), 99])
def test_what_the_server_refuses_the_mediator_does_not_take(result: int) -> None:
    """Not even where the rest of the message is right."""
    why = Result.told(result, Result.AUTHENTICATION_FAILED)
    for step in (
        lambda: mediator.confirm(RUN.code_s_awaited, replace(RUN.shown, result=result)),
        lambda: mediator.finish(RUN.reply_awaited, replace(RUN.reply, result=result)),
    ):
        with pytest.raises(Refused) as caught:
            step()
        assert (caught.value.result, caught.value.reason) == (why, "server_refused_the_assignment")


@pytest.mark.parametrize("confirmed", [None, *WRONG_IDS.values()])
def test_the_mediator_takes_no_reply_about_another_id(confirmed: EntityId | None) -> None:
    wrong = replace(RUN.reply, cm_device_id=confirmed)
    refuses("server_confirms_another_id", lambda: mediator.finish(RUN.reply_awaited, wrong))


def test_no_state_of_an_assignment_prints_a_key() -> None:
    states = (RUN.seed_awaited, RUN.id_awaited, RUN.code_s_awaited, RUN.code_g_awaited, RUN.reply_awaited, RUN.assigned)
    for state in states:
        for secret in (SEED, V.key, V.cck, V.prk):
            assert not shows(state, secret), type(state)
    assert not shows(RUN.given, SEED)
    assert shows([SEED], SEED)  # so that it is known that `shows` finds one
    assert "cm-" in repr(RUN.reply_awaited)


def test_the_mediator_keeps_no_seed() -> None:
    for state in (RUN.code_s_awaited, RUN.reply_awaited):
        held = [getattr(state, one.name) for one in fields(state)]
        assert Secret(SEED) not in held
        assert SEED not in held


# --- activation, steps 12 to 16

CM_DEVICE, OTHER_DEVICE = V.device, Values(SEED2).device
KEY, KEY2, KEY3 = Secret(V.key), Secret(SEED2), Secret(bytes(32))
SEED_I, SEED_R = bytes(range(96)), bytes(range(100, 196))
KID_I, KID_R = b"\x01\x02", b"\x03"
RAND_I, RAND_R = b"rand of device 1", b"rand of server 2"
SUITES = (2, 3)


def hello(suite: int = 2, **changes: Any) -> tuple[activating.AwaitingResponse, CmActivateRequest]:
    own = {"own_id": CM_DEVICE, "server_id": SERVER, "key": KEY, "rand": RAND_I, "kid": KID_I, "eph_seed": SEED_I}
    return activating.begin(suite=suite, **{**own, **changes})


def answer(
    request: CmActivateRequest, keys: tuple[Secret, ...] = (KEY,), **changes: Any
) -> tuple[activated.Answered, CmActivateResponse]:
    own = {"own_id": SERVER, "lowest_suite": 1, "rand": RAND_R, "kid": KID_R, "eph_seed": SEED_R}
    return activated.activate(request, keys=keys, **{**own, **changes})


HELLOS = {suite: hello(suite) for suite in SUITES}
ANSWERS = {suite: answer(HELLOS[suite][1]) for suite in SUITES}


def run_of(request: CmActivateRequest, response: CmActivateResponse, key: bytes = V.key) -> CmRun:
    ss = shared(request.suite, SEED_I, response.eph)
    return CmRun("cm-server", request, response, SERVER, key, ss, binding=request.code)


@pytest.mark.parametrize("suite", SUITES)
def test_an_activation_is_what_section_6_says(suite: int) -> None:
    state, request = HELLOS[suite]
    answered, response = ANSWERS[suite]
    run = run_of(request, response)
    public = HELLOS[2][1].eph
    assert public is not None
    eph = request.eph
    assert eph is not None
    assert (eph[:32], len(eph)) == (public, 32 if suite == 2 else 32 + 1184)
    assert request == CmActivateRequest(suite, CM_DEVICE, RAND_I, KID_I, run.hash_i, eph)
    assert response.eph is not None
    assert len(response.eph) == (32 if suite == 2 else 32 + 1088)
    assert response == CmActivateResponse(0, SERVER, RAND_R, KID_R, run.hash_r, response.eph)
    for side, own, peer in (
        (activating.finish(state, response), (CM_DEVICE, KID_I), (SERVER, KID_R)),
        (answered.established, (SERVER, KID_R), (CM_DEVICE, KID_I)),
    ):
        assert side.profile is Profile.CM_SERVER
        assert (side.own_id, side.own_kid, side.peer_id, side.peer_kid) == (*own, *peer)
        assert (side.th0, side.keys.th2) == (run.th0, run.th2)
        assert side.keys.oscore_master_secret() == Secret(run.oscore_master_secret)
        assert side.keys.oscore_master_salt() == run.oscore_master_salt
        assert side.keys.exporter() == Secret(run.exporter)


@settings(max_examples=15)
@given(
    suite=st.sampled_from(SUITES),
    key=OCTETS_32,
    names=st.tuples(NAMES, NAMES),
    rands=st.tuples(OCTETS_16, OCTETS_16),
    kids=st.lists(st.binary(min_size=1, max_size=7), min_size=2, max_size=2, unique=True),
)
def test_device_and_server_have_one_session_whatever_is_drawn(
    suite: int, key: bytes, names: tuple[str, str], rands: tuple[bytes, bytes], kids: list[bytes]
) -> None:
    own, its = map(EntityId, names)
    state, request = hello(suite, own_id=own, server_id=its, key=Secret(key), rand=rands[0], kid=kids[0])
    answered, response = answer(request, (Secret(key),), own_id=its, rand=rands[1], kid=kids[1])
    established = activating.finish(state, response)
    assert established.keys.oscore_master_secret() == answered.established.keys.oscore_master_secret()
    assert established.keys.exporter() == answered.established.keys.exporter()
    run = replace(run_of(request, response, key), responder=its)
    assert (request.code, response.code, established.th0) == (run.hash_i, run.hash_r, run.th0)


@pytest.mark.parametrize(("suite", "lowest"), [(1, 1), (1, 2), (1, 3), (2, 3), (0, 1)])
def test_a_suite_without_forward_secrecy_or_under_the_servers_is_refused(suite: int, lowest: int) -> None:
    """With a code that is right for it: a PN GW that mediated must not open what it recorded."""
    honest = HELLOS[2][1]
    run = CmRun("cm-server", replace(honest, suite=suite, eph=None if suite < 2 else honest.eph), None, SERVER, V.key)
    request = replace(run.m1, code=run.hash_i)
    refuses("suite_too_low", lambda: answer(request, lowest_suite=lowest), Result.SUITE_REFUSED)


@pytest.mark.parametrize(
    ("suite", "eph"),
    [(2, None), (2, HELLOS[3][1].eph), (3, None), (3, HELLOS[2][1].eph), (4, HELLOS[3][1].eph), (2, b""), (3, b"")],
)
def test_an_ephemeral_key_of_another_suite_is_refused_though_its_code_is_right(suite: int, eph: bytes | None) -> None:
    run = CmRun("cm-server", replace(HELLOS[2][1], suite=suite, eph=eph), None, SERVER, V.key)
    request = replace(run.m1, code=run.hash_i)
    refuses("ephemeral_key_does_not_fit_suite", lambda: answer(request))


def test_a_point_that_gives_zero_is_refused_though_its_code_is_right() -> None:
    run = CmRun("cm-server", replace(HELLOS[2][1], eph=bytes(32)), None, SERVER, V.key)
    refuses("bad_ephemeral_key", lambda: answer(replace(run.m1, code=run.hash_i)))


def changes_of(message: Any, field: str) -> list[Any]:
    """Return other values for a field of either message, of the kinds that somebody in between may put there."""
    value = getattr(message, field)
    if isinstance(value, bytes):
        bits = [flipped(value, bit) for bit in (0, 7, 8 * len(value) - 1)]
        return [*bits, value[:-1], value + b"\0", b"", bytes(len(value))]
    others: dict[str, list[Any]] = {
        "suite": [5 - message.suite, 4] if isinstance(message, CmActivateRequest) else [],
        "cm_device_id": [OTHER_DEVICE, EntityId(CM_DEVICE[:-1]), EntityId(CM_DEVICE.upper()), SERVER],
        "server_id": [SERVER2, EntityId(""), CM_DEVICE],
        "result": [int(one) for one in Result if one is not Result.SUCCESS],
    }
    return others[field]


REQUEST_FIELDS = ("suite", "cm_device_id", "rand", "kid", "eph", "code")
RESPONSE_FIELDS = ("result", "server_id", "rand", "kid", "eph", "code")


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("field", REQUEST_FIELDS)
def test_any_change_of_the_request_is_a_wrong_code(suite: int, field: str) -> None:
    _, request = HELLOS[suite]
    for value in changes_of(request, field) + [None] * (field == "eph"):
        changed: CmActivateRequest = replace(request, **{field: value})
        refuses("wrong_code", partial(answer, changed))


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("field", RESPONSE_FIELDS)
def test_any_change_of_the_response_is_refused(suite: int, field: str) -> None:
    state, _ = HELLOS[suite]
    _, response = ANSWERS[suite]
    for value in changes_of(response, field) + [None] * (field == "eph"):
        with pytest.raises(AuthenticationFailed):
            activating.finish(state, replace(response, **{field: value}))
    assert activating.finish(state, response).keys.exporter() == ANSWERS[suite][0].established.keys.exporter()


@settings(max_examples=60)
@given(data=st.data(), suite=st.sampled_from(SUITES), bit=st.integers(0, 2**14))
def test_no_bit_of_either_message_can_be_flipped(data: st.DataObject, suite: int, bit: int) -> None:
    state, request = HELLOS[suite]
    _, response = ANSWERS[suite]
    field = data.draw(st.sampled_from(["rand", "kid", "eph", "code"]))
    said: dict[str, Any] = {field: flipped(getattr(request, field), bit)}
    refuses("wrong_code", lambda: answer(replace(request, **said)))
    heard: dict[str, Any] = {field: flipped(getattr(response, field), bit)}
    with pytest.raises(AuthenticationFailed):
        activating.finish(state, replace(response, **heard))


def test_the_response_says_why_it_is_not_taken() -> None:
    state, request = HELLOS[2]
    _, response = ANSWERS[2]
    refuses("refused_with_21", lambda: activating.finish(state, replace(response, result=21)))
    refuses("response_names_another_server", lambda: activating.finish(state, replace(response, server_id=SERVER2)))
    refuses("kids_are_equal", lambda: activating.finish(state, replace(response, kid=KID_I)))
    refuses("wrong_hash", lambda: activating.finish(state, replace(response, code=request.code or b"")))


def test_a_server_that_takes_our_kid_is_not_taken_though_its_code_is_right() -> None:
    state, request = HELLOS[2]
    _, response = answer(request, kid=KID_I)
    refuses("kids_are_equal", lambda: activating.finish(state, response))


@pytest.mark.parametrize("suite", SUITES)
def test_an_answer_to_an_older_hello_is_of_no_use(suite: int) -> None:
    """The server's code is about this code_I, and so about this rand, kid and ephemeral key."""
    for change in ({"rand": RAND_X}, {"kid": b"\x09"}, {"eph_seed": SEED_R}):
        _, older = hello(suite, **change)
        _, response = answer(older)
        with pytest.raises(AuthenticationFailed, match="wrong_hash"):
            activating.finish(HELLOS[suite][0], response)


def test_who_relays_to_another_server_or_under_another_id_gets_no_answer() -> None:
    _, request = HELLOS[2]
    refuses("wrong_code", lambda: answer(request, own_id=SERVER2))
    _, elsewhere = hello(server_id=SERVER2)
    refuses("wrong_code", lambda: answer(elsewhere))
    _, posing = hello(own_id=OTHER_DEVICE)
    refuses("wrong_code", lambda: answer(replace(posing, cm_device_id=CM_DEVICE)))


def test_codes_of_the_assignment_are_none_of_the_activation() -> None:
    """Each has a label of its own: what passed between PN GW and server is of no use here, nor the other way."""
    _, request = HELLOS[2]
    for code in (V.code_s, V.code_g, ANSWERS[2][1].code):
        refuses("wrong_code", partial(answer, replace(request, code=code)))
    state = HELLOS[2][0]
    for code in (V.code_s, V.code_g, state.code_i):
        with pytest.raises(AuthenticationFailed):
            activating.finish(state, replace(ANSWERS[2][1], code=code))


@pytest.mark.parametrize("profile", ["gw-server", "pne-gw"])
def test_an_answer_of_another_profile_is_refused(profile: str) -> None:
    """One key in two roles would otherwise let messages of one pass in the other (attack 7)."""
    state, request = HELLOS[2]
    _, response = ANSWERS[2]
    other = replace(run_of(request, response), profile=profile)
    refuses("wrong_hash", lambda: activating.finish(state, replace(response, code=other.hash_r)))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_keys_are_tried_in_order(which: int) -> None:
    keys = (KEY, KEY2, KEY3)
    state, request = hello(key=keys[which])
    answered, response = answer(request, keys)
    assert answered.which == which
    assert activating.finish(state, response).keys.exporter() == answered.established.keys.exporter()
    others = tuple(key for key in keys if key is not keys[which])
    refuses("wrong_code", lambda: answer(request, others))
    assert answer(request, (*others, keys[which]))[0].which == 2


def test_the_first_of_two_equal_keys_is_the_one() -> None:
    assert answer(HELLOS[2][1], (KEY2, KEY, KEY))[0].which == 1
    refuses("wrong_code", lambda: answer(HELLOS[2][1], ()))


def test_all_keys_are_tried_whichever_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the time does not tell which one it was, or whether there is one."""
    tried: list[Secret] = []
    compute = cm.hello_key

    def counted(key: Secret, device: EntityId, server_id: EntityId) -> Secret:
        tried.append(key)
        return compute(key, device, server_id)

    for key in (KEY, KEY2, KEY3):
        _, request = hello(key=key)
        monkeypatch.setattr(cm, "hello_key", counted)
        tried.clear()
        if key is KEY3:
            refuses("wrong_code", partial(answer, request, (KEY, KEY2)))
        else:
            answer(request, (KEY, KEY2))
        assert tried == [KEY, KEY2]
        monkeypatch.undo()


@pytest.mark.parametrize("suite", SUITES)
def test_no_state_of_an_activation_prints_a_key(suite: int) -> None:
    state, request = HELLOS[suite]
    answered, response = ANSWERS[suite]
    run = run_of(request, response)
    secrets = [V.key, SEED_I, SEED_I[:32], SEED_I[32:], SEED_R, SEED_R[:32]]
    secrets += [run.ss, run.hs, run.session_key, run.oscore_master_secret, run.exporter]
    for shown in (state, request, answered, answered.established, response, activating.finish(state, response)):
        for secret in secrets:
            assert not shows(shown, secret), type(shown)


# --- a fresh key


def rekeyed(exporter: bytes, key: bytes, device: str, generation: int, rand_c: bytes, rand_s: bytes) -> bytes:
    return expand(mac(exporter, key), enc("cpns1 cm rekey", device, generation, rand_c, rand_s), 32)


@settings(max_examples=30)
@given(exporter=OCTETS_32, key=OCTETS_32, device=NAMES, generation=st.integers(1, 2**40), rand=OCTETS_16)
def test_a_fresh_key_is_what_section_6_says(
    exporter: bytes, key: bytes, device: str, generation: int, rand: bytes
) -> None:
    fresh = cm.rekey(Secret(exporter), Secret(key), EntityId(device), generation, rand, RAND_S)
    assert fresh == Secret(rekeyed(exporter, key, device, generation, rand, RAND_S))
    if rand != RAND_S:
        assert fresh != Secret(rekeyed(exporter, key, device, generation, RAND_S, rand))


def test_a_fresh_key_depends_on_all_that_goes_in() -> None:
    """On the exporter first of all: the PN GW that mediated has everything else."""
    base: tuple[Any, ...] = (Secret(SEED2), KEY, CM_DEVICE, 1, RAND_I, RAND_R)
    others: tuple[Any, ...] = (Secret(SEED), KEY2, OTHER_DEVICE, 2, RAND_X, RAND_X)
    made = [cm.rekey(*base)]
    for at, other in enumerate(others):
        made.append(cm.rekey(*(*base[:at], other, *base[at + 1 :])))
    assert len({key.reveal() for key in made}) == 7
    assert KEY not in made


def test_a_chain_of_fresh_keys_opens_sessions_of_its_own_alone() -> None:
    keys = [KEY]
    for generation in (1, 2):
        keys.append(cm.rekey(Secret(SEED2), keys[-1], CM_DEVICE, generation, RAND_I, RAND_R))
    for key in keys:
        _, request = hello(key=key)
        assert answer(request, tuple(keys))[0].which == keys.index(key)
