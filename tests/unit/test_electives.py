"""Labels from 128 on: who does not know one passes over it, and where they count they are bound (section 3)."""

import hashlib
from dataclasses import replace
from typing import Annotated, Any

import cbor2
import pytest

from cpns.crypto import cm as crypto_cm
from cpns.crypto.schedule import Profile, Transcript
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed, Result, WireError
from cpns.ids import EntityId, PnId
from cpns.protocol.cm_activate import device
from cpns.protocol.cm_activate import server as cm_server
from cpns.protocol.pne_auth import gateway, pne
from cpns.service.electives import ByTurns
from cpns.wire import application, codec, declare
from cpns.wire import fields as f
from cpns.wire import group_messages as gm
from cpns.wire import messages as m
from cpns.wire import pn_messages as pm
from cpns.wire.declare import MESSAGES, SHAPES, Electives, Label, Leg
from tests.support.formula import enc

SAID: Electives = ((128, 7), (129, b"new"), (300, "more"), (65535, True))
KEEPING = {one for one in SHAPES if SHAPES[one].keeps}
ACTIVATE = m.ActivateRequest(1, EntityId("gw-1"), bytes(16), b"\x01")


def body_with(message: Any, *others: tuple[int, object]) -> bytes:
    """Return the body of *message* with labels more, in their order."""
    kind, body = cbor2.loads(codec.encode(message))
    return cbor2.dumps([kind, dict(sorted({**body, **dict(others)}.items()))])


def refusal(data: bytes, shape: type[Any]) -> WireError:
    with pytest.raises(WireError) as caught:
        codec.decode(data, shape)
    return caught.value


# the boundary, and the bounds


def test_128_is_passed_over_and_127_is_not() -> None:
    error = m.ErrorBody(21)
    assert codec.decode(body_with(error, (128, 5)), m.ErrorBody) == error
    for label in (18, 127):
        assert refusal(body_with(error, (label, 5)), m.ErrorBody).reason == "unknown_label"
    assert codec.decode(body_with(error, (65535, 5)), m.ErrorBody) == error
    assert refusal(body_with(error, (65536, 5)), m.ErrorBody).reason == "bad_value_label_65536"


@pytest.mark.parametrize("value", [0, 2**64 - 1, True, False, b"", b"x" * 120, "", "more"])
def test_values_that_may_be(value: object) -> None:
    assert codec.decode(body_with(m.ErrorBody(21), (128, value)), m.ErrorBody) == m.ErrorBody(21)


@pytest.mark.parametrize("value", [-1, 1.5, None, [], [1], {}, {1: 2}])
def test_values_that_may_not(value: object) -> None:
    assert refusal(body_with(m.ErrorBody(21), (128, value)), m.ErrorBody).result is Result.BAD_REQUEST


def test_eight_of_them_and_128_bytes() -> None:
    """Bytes are those of labels and values as they are encoded: 2 for label 128, 2 more for a long value."""
    several = [(128 + number, number) for number in range(9)]
    codec.decode(body_with(m.ErrorBody(21), *several[:8]), m.ErrorBody)
    assert refusal(body_with(m.ErrorBody(21), *several), m.ErrorBody).reason == "too_many_electives"
    codec.decode(body_with(m.ErrorBody(21), (128, bytes(124))), m.ErrorBody)
    assert refusal(body_with(m.ErrorBody(21), (128, bytes(125))), m.ErrorBody).reason == "too_many_electives"
    entry = {2: "pne-1", 14: bytes(16), 128: bytes(124)}
    proofs = codec.decode(cbor2.dumps([4, {15: bytes(8), 16: [entry] * 64}]), m.GatewayProofs)  # a map each
    assert len(proofs.entries) == 64
    entry[128] = bytes(125)
    assert refusal(cbor2.dumps([4, {15: bytes(8), 16: [entry]}]), m.GatewayProofs).reason == "too_many_electives"


def test_types_are_never_elective() -> None:
    for kind in (127, 128, 200, 2**16):
        with pytest.raises(WireError) as caught:
            codec.decode(cbor2.dumps([kind, {128: 1}]), *MESSAGES)
        assert caught.value.result is Result.UNKNOWN_MESSAGE


def test_two_shapes_of_one_type_are_told_apart_by_what_is_critical() -> None:
    kind = {2: "alice", 38: "sg-1", 45: 1, 52: bytes(12), 53: bytes(17), 128: 1}
    up = {**kind, 24: [], 57: 0}
    shapes = (gm.GroupMessage, gm.GroupMessageUp, gm.GroupMessageKept)
    for body, shape in (
        (kind, gm.GroupMessage),
        (up, gm.GroupMessageUp),
        ({**kind, 46: bytes(32)}, gm.GroupMessageKept),
    ):
        found: Any = codec.decode(cbor2.dumps([75, dict(sorted(body.items()))]), *shapes)
        assert type(found) is shape


# where they are kept


def test_m1_and_m2_keep_them_and_nothing_else_does() -> None:
    of_m1 = {m.SetupRequest, m.InvitationAccepted, m.SetupEntry, m.ActivateRequest, m.CmActivateRequest}
    of_m2 = {m.Challenge, m.ChallengeEntry, m.LinkChallengeFromServer, m.LinkChallengeFromGateway}
    assert of_m1 | of_m2 | {m.CmActivateResponse} == KEEPING
    meaningless = {m.Invitation, m.InvitationRefused, m.SetupResponse, m.Proof, m.PnEstablishmentNotify, m.ErrorBody}
    meaningless |= {m.ActivateResponse, pm.EntityDiscoveryRequest, pm.EntityDiscoveryResponse, gm.GroupKeyBroadcast}
    meaningless |= {pm.GatewayChangeRequest, pm.GatewayChangeResponse}
    meaningless |= {gm.GroupMessage, gm.GroupMessageUp, gm.GroupMessageKept}
    assert {one for one in MESSAGES if not one.GROWS} == meaningless
    assert not meaningless & KEEPING


def test_what_is_kept_comes_out_as_it_went_in() -> None:
    said = replace(ACTIVATE, electives=SAID)
    assert codec.encode(said) == body_with(ACTIVATE, *SAID)
    found = codec.decode(codec.encode(said), m.ActivateRequest)
    assert (found, codec.electives_of(found)) == (said, SAID)
    assert codec.carrying(ACTIVATE, SAID) == said
    assert codec.carrying(said, ()) == ACTIVATE
    assert codec.without_electives(codec.encode(said)) == codec.encode(ACTIVATE)
    assert codec.has_electives(codec.encode(said))
    assert not codec.has_electives(codec.encode(ACTIVATE))


def test_a_body_with_electives_in_its_entries_is_the_same_without() -> None:
    entry = m.SetupEntry(1, EntityId("alice"), bytes(16), b"k", True, False, 1)
    plain = m.GatewaySetupRequest(bytes(8), False, (entry,))
    grown = m.GatewaySetupRequest(bytes(8), False, (replace(entry, electives=SAID),))
    assert codec.without_electives(codec.encode(grown)) == codec.encode(plain)
    for none in (b"", b"\x00", cbor2.dumps([1, {16: [1]}]), cbor2.dumps([999, {128: 1}])):
        assert codec.without_electives(none) == none


# what is bound: formulas written down here


def th0_of(t: Transcript, *more: object) -> bytes:
    first = ("cpns1 th0", str(t.profile), t.suite, t.responder, t.gw, t.initiator, t.rand_i, t.kid_i, t.eph_i)
    second = (t.procedure, t.pn_id, t.need_local, t.pan_secure, t.rand_r, t.kid_r, t.eph_r, t.binding)
    return hashlib.sha256(enc(*first, *second, *more)).digest()


def test_th0_has_17_elements_without_and_19_with() -> None:
    ids = {"responder": EntityId("server"), "initiator": EntityId("alice"), "gw": EntityId("gw-1")}
    said = {"rand_i": bytes(16), "kid_i": b"i", "eph_i": None, "rand_r": bytes(16), "kid_r": b"r", "eph_r": None}
    t: Any = Transcript(Profile.PNE_SERVER, 1, **ids, **said, pn_id=PnId("pn-1"))  # type: ignore[arg-type]
    assert t.th0() == th0_of(t)
    assert replace(t, electives_i=SAID).th0() == th0_of(t, dict(SAID), None)
    assert replace(t, electives_r=SAID).th0() == th0_of(t, None, dict(SAID))
    both = replace(t, electives_i=SAID[:1], electives_r=SAID[1:])
    assert both.th0() == th0_of(t, dict(SAID[:1]), dict(SAID[1:]))


def test_code_i_covers_them() -> None:
    args = (Secret(bytes(32)), 2, EntityId("server"), EntityId("cm-1"), bytes(16), b"k", bytes(32))
    assert crypto_cm.code_hello(*args) == crypto_cm.code_hello(*args, ())
    assert len({crypto_cm.code_hello(*args, one) for one in ((), SAID, SAID[:1])}) == 3


def cm_run(says: Electives, answers: Electives) -> tuple[device.AwaitingResponse, m.CmActivateRequest, Any]:
    key, own, server = Secret(bytes(range(32))), EntityId("cm-1"), EntityId("server.example")
    state, request = device.begin(
        own_id=own, server_id=server, key=key, suite=2, rand=bytes(16), kid=b"i", eph_seed=bytes(96), electives=says
    )

    def answer(request: m.CmActivateRequest) -> m.CmActivateResponse:
        _, response = cm_server.activate(
            request,
            own_id=server,
            keys=[key],
            lowest_suite=1,
            rand=bytes(16),
            kid=b"rr",
            eph_seed=bytes(range(96)),
            electives=answers,
        )
        return response

    return state, request, answer


def test_a_cm_device_and_the_server_agree_on_them() -> None:
    state, request, answer = cm_run(SAID, SAID[:2])
    response = answer(request)
    assert response.electives == SAID[:2]
    device.finish(state, response)
    for changed in ((), SAID[:1], SAID):
        with pytest.raises(AuthenticationFailed, match="wrong_hash"):
            device.finish(state, replace(response, electives=changed))
    for changed in ((), SAID[:3], (*SAID[:3], (65535, False))):
        with pytest.raises(AuthenticationFailed, match="wrong_code"):
            answer(replace(request, electives=changed))
    _, quiet, answer = cm_run((), SAID)
    assert answer(quiet).electives == ()


# the PN GW carries them


def test_a_gateway_carries_them_unchanged_and_adds_none() -> None:
    _, request = pne.begin(
        own_id=EntityId("alice"),
        server_id=EntityId("server.example"),
        gateway_id=None,
        key=Secret(bytes(32)),
        suite=1,
        rand=bytes(16),
        kid=b"k",
        eph_seed=bytes(96),
        need_local=True,
        pan_secure=False,
        procedure=1,
        electives=tuple(reversed(SAID)),
    )
    assert request.electives == SAID  # in their order
    invited = gateway.accepted(pne.accept(request), EntityId("alice"), 1, None)
    assert invited == request
    _, message = gateway.gather([request], txn=bytes(8), pan_secure=False, pn_id=None, alias="home")
    assert [entry.electives for entry in message.entries] == [SAID]


# a group message grows inside what is sealed


def test_a_message_to_a_group_may_say_more() -> None:
    push = application.Push(bytes(8), "tea?")
    plain, grown = application.encode_group_text(push), application.encode_group_text(push, SAID)
    assert plain == application.encode_push(push)
    assert cbor2.loads(grown) == [bytes(8), "tea?", dict(SAID)]
    assert application.decode_group_text(plain) == application.decode_group_text(grown) == push
    with pytest.raises(WireError):
        application.decode_push(grown)


@pytest.mark.parametrize("third", [None, 1, {}, {127: 1}, {128: -1}, {128: [1]}, {"a": 1}, {True: 1}, {65536: 1}])
def test_what_else_stands_there_is_refused(third: object) -> None:
    data = cbor2.dumps([bytes(8), "tea?", third])
    if third == {}:
        assert application.decode_group_text(data).text == "tea?"
        return
    with pytest.raises(WireError):
        application.decode_group_text(data)
    with pytest.raises(WireError):
        application.decode_group_text(cbor2.dumps([bytes(8), "tea?", {128: 1}, {128: 1}]))


# how they are declared

WARMTH = Annotated[int, Label(200, "warmth", f.number(0, 255), "how warm it is")]


def undeclared(make: Any) -> Any:
    """Return what *make* declares, and forget it again."""
    before = list(MESSAGES), dict(declare.TITLES), dict(SHAPES)
    try:
        return make()
    finally:
        MESSAGES[:] = before[0]
        for number in declare.TITLES.keys() - before[1].keys():
            del declare.TITLES[number]
        for shape in SHAPES.keys() - before[2].keys():
            del SHAPES[shape]


def test_an_elective_has_a_default_and_has_to_mean_something() -> None:
    def required() -> None:
        @declare.message(90, "WARM Request", Leg.PNE_TO_SERVER)
        class Warm(declare.Message):
            warmth: WARMTH

    def meaningless() -> None:
        @declare.message(90, "WARM Request", Leg.PNE_TO_SERVER, grows=False)
        class Warm(declare.Message):
            warmth: WARMTH | None = None

    for make in (required, meaningless):
        with pytest.raises(TypeError, match="elective"):
            undeclared(make)


def test_a_known_elective_is_an_attribute() -> None:
    def grown() -> None:
        @declare.message(90, "WARM Request", Leg.PNE_TO_SERVER)
        class Warm(declare.Message):
            result: f.Result
            warmth: WARMTH | None = None
            electives: Electives = ()

        said = Warm(0, 7, ((300, "more"),))
        assert codec.decode(codec.encode(said), Warm) == said
        assert codec.electives_of(said) == ((200, 7), (300, "more"))
        assert codec.carrying(Warm(0), ((200, 7), (300, "more"))) == said
        with pytest.raises(WireError):
            codec.decode(cbor2.dumps([90, {17: 0, 200: 256}]), Warm)

    undeclared(grown)


# how a sender learns that its peer is older


def test_by_turns() -> None:
    says = ByTurns(SAID)
    heard = []
    for _ in range(4):
        heard.append(says.now())
        says.failed()
    assert heard == [SAID, (), SAID, ()]
    quiet = ByTurns(())
    quiet.failed()
    assert quiet.now() == ()
