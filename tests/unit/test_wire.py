"""The codec: known answers, round trips, and what it must refuse."""

import contextlib
import json
import struct
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpns.errors import Result, WireError
from cpns.wire import cm_messages as cm
from cpns.wire import codec
from cpns.wire import group_messages as gm
from cpns.wire import messages as m
from cpns.wire import pn_messages as pm
from cpns.wire import sg_messages as sg
from cpns.wire.declare import MESSAGES, SHAPES, TITLES, Party, taken_by
from cpns.wire.registry import (
    MAX_ALIAS_BYTES,
    MAX_BODY,
    MAX_KEEP,
    MAX_MEMBERS,
    MAX_PAN_BODY,
    MAX_SEALED_BYTES,
    PAGE_BYTES,
)
from tests.support.wire_strategies import any_message, messages
from tests.vectors.check import check_wire

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "wire-1.json").read_text())["cases"]
ACTIVATE = m.ActivateRequest(1, "gw-1", bytes(16), b"\x01")  # type: ignore[arg-type]
BODY = codec.encode(ACTIVATE)


def refusal(data: bytes, *shapes: type[Any], **limits: int) -> WireError:
    """Return the error that *data* is refused with."""
    with pytest.raises(WireError) as caught:
        codec.decode(data, *(shapes or MESSAGES), **limits)
    return caught.value


def raw(kind: object, body: object) -> bytes:
    return cbor2.dumps([kind, body])


def activate(**changes: object) -> dict[int, object]:
    """Return the map of an ACTIVATE Request with labels set, or taken out where the value is None."""
    body: dict[int, object] = {1: 1, 2: "gw-1", 6: bytes(16), 7: b"\x01"}
    for name, value in changes.items():
        label = int(name.removeprefix("label_"))
        if value is None:
            body.pop(label, None)
        else:
            body[label] = value
    return dict(sorted(body.items()))


# Numbers of the wire


def test_message_types_are_those_of_the_protocol() -> None:
    """Numbers that are on the wire stay."""
    titles = (
        *("SETUP Request", "SETUP Response", "AUTHENTICATE Request", "AUTHENTICATE Response"),
        *("PNEstablishmentNotify", "ACTIVATE Request", "ACTIVATE Response", "Error"),
    )
    assert [TITLES[number] for number in range(1, 9)] == list(titles)
    others = (
        "CM-ASSIGN CM-ID CM-CONFIRM CM-KEY PNChangeNotify INVENTORY Entity_Discovery Gateway_Change PN_GW_Switching "
        "INVITE LEAVE EXPEL RELEASE PNStatusNotify CM-REKEY CMRotateNotify CM-RELEASE SG-CREATE SG-DISCOVERY SG-JOIN "
        "SG-INVITE SG-LEAVE SG-EXPEL SG_Owner_Change SG-DELETE SGChangeNotify SG-INVENTORY GROUP-KEY "
        "GROUP-KEY-UPDATE GKDK GroupKeyNotify GROUP-SENDER GROUP-MESSAGE"
    )
    expected = []
    for name in others.split():
        title = name.replace("_", " ")
        expected += [title] if title.endswith("Notify") else [f"{title} Request", f"{title} Response"]
    assert [TITLES[number] for number in range(16, 16 + len(expected))] == expected
    assert len(TITLES) == 8 + len(expected)


def test_labels_are_those_of_the_protocol() -> None:
    names = (
        "suite entity-id gateway-id server-id pn-id rand kid eph need-local pan-secure procedure wrapped "
        "wrapped-gateway proof txn entries result setup-type invite alias key-seed cm-device-id cm-device-key "
        "members version change owner presence age source mode after more addresses guest networks generation "
        "sg-id service policy keyword standing member-req groups epoch group-key tree node node-key "
        "verify-key signature seq sealed run vouched keep count"
    )
    found = {row.label.number: row.label.name for shape in SHAPES.values() for row in shape.rows}
    assert found == dict(enumerate(names.split(), start=1))


def test_a_label_means_one_kind_of_value() -> None:
    found = {(row.number, row.label.name, row.label.kind.cddl) for shape in SHAPES.values() for row in shape.rows}
    assert len({number for number, *_ in found}) == len(found)


def test_results_are_unique() -> None:
    assert len(Result.__members__) == len({int(number) for number in Result})


def test_no_set_of_labels_fits_two_shapes_of_a_type_that_one_party_takes() -> None:
    """Two shapes can both fit only when neither requires a label that the other has not."""
    for receiver in Party:
        shapes = taken_by(receiver)
        for one, other in combinations(shapes, 2):
            a, b = SHAPES[one], SHAPES[other]
            assert one.TYPE != other.TYPE or not (a.required <= b.critical and b.required <= a.critical), (one, other)


def test_no_set_of_labels_fits_two_answers_to_one_request() -> None:
    for request in MESSAGES:
        answers = [one for one in MESSAGES if request in one.ANSWERS]
        for one, other in combinations(answers, 2):
            a, b = SHAPES[one], SHAPES[other]
            assert one.TYPE == other.TYPE
            assert not (a.required <= b.critical and b.required <= a.critical), (one, other)


# Known answers and round trips


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_vector(case: dict[str, Any]) -> None:
    assert check_wire(case) == []


@pytest.mark.parametrize("shape", MESSAGES, ids=lambda shape: shape.__name__)
def test_round_trip(shape: type[Any]) -> None:
    @settings(max_examples=25)
    @given(messages(shape))
    def run(message: Any) -> None:
        data = codec.encode(message)
        assert codec.decode(data, shape) == message
        again: Any = codec.decode(data, *codec.shapes_of(shape.TYPE))
        assert codec.encode(again) == data
        assert data == cbor2.dumps(cbor2.loads(data), canonical=True)

    run()


def test_a_decoded_message_is_hashable_and_frozen() -> None:
    message = codec.decode(BODY, m.ActivateRequest)
    assert hash(message) == hash(ACTIVATE)
    with pytest.raises(AttributeError):
        message.suite = 2  # type: ignore[misc]


# Any bytes give a message or WireError, never anything else; what decodes is what encode would have written


def check_invariant(data: bytes) -> None:
    """Decode *data* as any shape, and check the invariant of the codec."""
    try:
        message: Any = codec.decode(data, *MESSAGES)
    except WireError as error:
        result = error.result
    else:
        assert codec.encode(message) == data
        return
    assert result in {Result.BAD_REQUEST, Result.UNKNOWN_MESSAGE, Result.MISSING_FIELD, Result.TOO_MANY}


@settings(max_examples=300)
@given(st.binary(max_size=64))
def test_random_bytes(data: bytes) -> None:
    check_invariant(data)


@settings(max_examples=300)
@given(any_message, st.data())
def test_mutated_bodies(message: Any, data: st.DataObject) -> None:
    body = bytearray(codec.encode(message))
    for _ in range(data.draw(st.integers(1, 3), "changes")):
        at = data.draw(st.integers(0, max(0, len(body) - 1)), "at")
        how = data.draw(st.sampled_from(["set", "insert", "delete", "cut", "repeat"]), "how")
        if how == "set" and body:
            body[at] = data.draw(st.integers(0, 255), "byte")
        elif how == "insert":
            body[at:at] = data.draw(st.binary(min_size=1, max_size=4), "bytes")
        elif how == "delete":
            del body[at : at + data.draw(st.integers(1, 8), "count")]
        elif how == "cut":
            del body[at:]
        else:
            body[at:at] = body[at : at + 16]
    check_invariant(bytes(body))


_ITEMS: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=4)
    | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.integers(-2, 30) | st.booleans() | st.text(max_size=2), inner, max_size=4)
        | st.builds(cbor2.CBORTag, st.sampled_from([0, 1, 2, 4, 5, 25, 28, 29, 30, 35, 36, 258, 260, 55799]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(st.integers(0, 24), _ITEMS, any_message, st.integers(1, 25))
def test_well_formed_but_wrong(kind: int, item: Any, message: Any, label: int) -> None:
    check_invariant(cbor2.dumps(item))
    check_invariant(raw(kind, item))
    number, body = cbor2.loads(codec.encode(message))
    check_invariant(raw(number, dict(sorted({**body, label: item}.items()))))


# What is refused, case by case


def test_the_base_of_the_cases_is_accepted() -> None:
    assert raw(6, activate()) == BODY
    assert codec.decode(BODY, m.ActivateRequest) == ACTIVATE


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bytes.fromhex("8208a211151115"), id="duplicate label"),
        pytest.param(bytes.fromhex("8208a2111518111815"), id="duplicate label, longer form"),
        pytest.param(bytes.fromhex("9f08a11115ff"), id="indefinite array"),
        pytest.param(bytes.fromhex("8208bf1115ff"), id="indefinite map"),
        pytest.param(bytes.fromhex("8210a10f5f44000000004400000000ff"), id="indefinite bytes"),
        pytest.param(BODY.replace(b"\x64gw-1", b"\x7f\x64gw-1\xff"), id="indefinite text"),
        pytest.param(bytes.fromhex("821808a11115"), id="type in a longer form"),
        pytest.param(bytes.fromhex("8208a1181115"), id="label in a longer form"),
        pytest.param(bytes.fromhex("8208a1111815")[:-1] + b"\x15", id="result in a longer form"),
        pytest.param(bytes.fromhex("8208a111190015"), id="result in two bytes"),
        pytest.param(bytes.fromhex("980208a11115"), id="array length in a longer form"),
        pytest.param(bytes.fromhex("8208b8011115"), id="map length in a longer form"),
        pytest.param(BODY.replace(b"\x64gw-1", b"\x78\x04gw-1"), id="text length in a longer form"),
        pytest.param(raw(6, dict(reversed(activate().items()))), id="unsorted labels"),
        pytest.param(BODY + b"\x00", id="trailing byte"),
        pytest.param(BODY + BODY, id="two bodies"),
        pytest.param(BODY[:-1], id="cut"),
        pytest.param(b"", id="empty"),
        pytest.param(raw(True, {17: 21}), id="bool for the type"),
        pytest.param(raw(8.0, {17: 21}), id="float for the type"),
        pytest.param(raw("8", {17: 21}), id="text for the type"),
        pytest.param(raw(8, [17, 21]), id="array for the map"),
        pytest.param(raw(8, None), id="null for the map"),
        pytest.param(cbor2.dumps([8]), id="one element"),
        pytest.param(cbor2.dumps([8, {17: 21}, 0]), id="three elements"),
        pytest.param(cbor2.dumps({8: {17: 21}}), id="map for the body"),
        pytest.param(raw(8, {"17": 21}), id="text for a label"),
        pytest.param(raw(8, {17.0: 21}), id="float for a label"),
        pytest.param(raw(6, {True: 1, **{k: v for k, v in activate().items() if k != 1}}), id="bool for a label"),
        pytest.param(raw(8, {-1: 0, 17: 21}), id="negative label"),
        pytest.param(raw(8, {17: 256}), id="result over 255"),
        pytest.param(raw(8, {17: -1}), id="negative result"),
        pytest.param(raw(8, {17: 21.0}), id="float for an int"),
        pytest.param(raw(8, {17: True}), id="bool for an int"),
        pytest.param(raw(8, {17: cbor2.undefined}), id="undefined"),
        pytest.param(raw(8, {17: None}), id="null"),
        pytest.param(raw(8, {17: cbor2.CBORSimpleValue(32)}), id="simple value"),
        pytest.param(raw(8, {17: cbor2.CBORTag(2, b"\x15")}), id="bignum for a small int"),
        pytest.param(raw(8, {17: 2**64}), id="bignum"),
        pytest.param(raw(8, {17: cbor2.CBORTag(1, 21)}), id="tag on an int"),
        pytest.param(cbor2.dumps(cbor2.CBORTag(55799, [8, {17: 21}])), id="self-described"),
        pytest.param(raw(6, activate(label_1=0)), id="suite 0"),
        pytest.param(raw(6, activate(label_1=4)), id="suite 4"),
        pytest.param(raw(6, activate(label_1=True)), id="bool for the suite"),
        pytest.param(raw(6, activate(label_2="")), id="empty ID"),
        pytest.param(raw(6, activate(label_2="a" * 65)), id="long ID"),
        pytest.param(raw(6, activate(label_2="a b")), id="space in an ID"),
        pytest.param(raw(6, activate(label_2="gw\n")), id="newline in an ID"),
        pytest.param(raw(6, activate(label_2="gw-\u0661")), id="digit of another script in an ID"),
        pytest.param(raw(6, activate(label_2=b"gw-1")), id="bytes for text"),
        pytest.param(BODY.replace(b"\x64gw-1", b"\x64gw-\xff"), id="no UTF-8"),
        pytest.param(raw(6, activate(label_6=bytes(15))), id="short rand"),
        pytest.param(raw(6, activate(label_6=bytes(17))), id="long rand"),
        pytest.param(raw(6, activate(label_6="a" * 16)), id="text for bytes"),
        pytest.param(raw(6, activate(label_7=b"")), id="empty kid"),
        pytest.param(raw(6, activate(label_7=bytes(8))), id="long kid"),
        pytest.param(raw(6, activate(label_8=bytes(33))), id="eph of no suite"),
        pytest.param(raw(6, activate(label_14=bytes(15))), id="short proof"),
        pytest.param(raw(6, activate(label_24=0)), id="label of nobody"),
        pytest.param(raw(6, activate(label_15=bytes(8))), id="label of another message"),
        pytest.param(raw(1, {2: "a", 3: "b", 11: 0}), id="procedure 0"),
        pytest.param(raw(1, {2: "a", 3: "b", 11: 4}), id="procedure 4"),
        pytest.param(raw(5, {5: "pn", 14: bytes(16), 17: False}), id="bool for the result"),
    ],
)
def test_bad_request(data: bytes) -> None:
    assert refusal(data).result is Result.BAD_REQUEST


@pytest.mark.parametrize(("label", "value"), [(9, 0), (9, 1), (10, 0), (10, None), (10, "true")])
def test_only_a_bool_is_a_flag(label: int, value: object) -> None:
    body: dict[int, object] = {1: 1, 2: "p", 6: bytes(16), 7: b"k", 9: True, 10: False, 11: 1}
    codec.decode(raw(1, body), m.SetupRequest)
    assert refusal(raw(1, {**body, label: value}), m.SetupRequest).reason == f"bad_value_label_{label}"


@pytest.mark.parametrize("kind", [0, 9, 15, 77, 255, 2**32, -1])
def test_unknown_type(kind: int) -> None:
    assert refusal(raw(kind, {17: 21})).result is Result.UNKNOWN_MESSAGE


def test_a_message_that_may_not_come_here() -> None:
    error = refusal(BODY, m.SetupRequest, m.Proof)
    assert (error.result, error.reason) == (Result.UNKNOWN_MESSAGE, "unexpected_message")


@pytest.mark.parametrize("label", [1, 2, 6, 7])
def test_missing_label(label: int) -> None:
    error = refusal(raw(6, activate(**{f"label_{label}": None})))
    assert (error.result, error.reason) == (Result.MISSING_FIELD, f"missing_label_{label}")


def nested(depth: int) -> bytes:
    return b"\x81" * depth + b"\x00"


def test_nesting_over_six() -> None:
    codec.load(nested(6), MAX_BODY)
    with pytest.raises(WireError):
        codec.load(nested(7), MAX_BODY)
    with pytest.raises(WireError):
        codec.load(nested(60_000), MAX_BODY)


@settings(max_examples=300)
@given(
    st.lists(st.binary(max_size=40) | st.binary(min_size=1, max_size=40).map(lambda tail: nested(5) + tail), max_size=5)
)
def test_what_did_not_decode_leaves_nothing_behind(before: list[bytes]) -> None:
    for data in before:
        with contextlib.suppress(WireError):
            codec.load(data, MAX_BODY)
        assert codec.load(BODY, MAX_BODY) == cbor2.loads(BODY)
        codec.load(nested(6), MAX_BODY)
        with pytest.raises(WireError):
            codec.load(nested(7), MAX_BODY)


def test_a_body_is_not_kept_behind_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder waits for the next one, and holds nothing of the last."""
    bodies: list[weakref.ref[BytesIO]] = []

    class Body(BytesIO):
        def __init__(self, data: bytes) -> None:
            super().__init__(data)
            bodies.append(weakref.ref(self))

    monkeypatch.setattr(codec, "BytesIO", Body)
    for data in (BODY, b"\xff", BODY):
        with contextlib.suppress(WireError):
            codec.parse(data)
    assert [one() for one in bodies] == [None] * 3


def test_threads_do_not_share_a_decoder() -> None:
    bodies = [cbor2.dumps([number] * 2000) for number in range(4)]

    def decoded(body: bytes) -> bool:
        return all(codec.load(body, MAX_BODY) == cbor2.loads(body) for _ in range(100))

    with ThreadPoolExecutor(len(bodies)) as pool:
        assert all(pool.map(decoded, bodies))


@pytest.mark.parametrize("limit", [MAX_PAN_BODY, MAX_BODY])
def test_too_long(limit: int) -> None:
    error = refusal(BODY + bytes(limit - len(BODY) + 1), limit=limit)
    assert (error.result, error.reason) == (Result.TOO_MANY, "too_long")
    assert refusal(BODY + bytes(limit - len(BODY)), limit=limit).reason == "trailing_bytes"


@pytest.mark.parametrize("head", [0x9B, 0xBB, 0x5B, 0x7B])
@pytest.mark.parametrize("length", [2**32 - 1, 2**63 - 1, 2**64 - 1])
def test_a_length_that_lies(head: int, length: int) -> None:
    assert refusal(bytes([head]) + struct.pack(">Q", length)).result is Result.BAD_REQUEST


def entry(number: int) -> m.ProofEntry:
    return m.ProofEntry(f"pne-{number}", result=51)  # type: ignore[arg-type]


def test_sixty_four_entries_and_no_more() -> None:
    for count, fits in ((0, False), (1, True), (64, True), (65, False)):
        data = codec.encode(m.GatewayProofs(bytes(8), tuple(map(entry, range(count)))))
        if fits:
            assert len(codec.decode(data, m.GatewayProofs).entries) == count
        else:
            assert refusal(data).reason == "bad_value_label_16"


@pytest.mark.parametrize(("suite", "eph", "fits"), [(1, None, True), (2, bytes(32), True), (3, bytes(1216), False)])
def test_sixty_four_pnes_fit_the_uplink_but_not_in_suite_3(suite: int, eph: bytes | None, fits: bool) -> None:
    """64 encapsulation keys are over 64 KiB: a PN GW has to split a batch of suite 3."""
    one = m.SetupEntry(suite, "a" * 64, bytes(16), bytes(7), True, False, 1, eph)  # type: ignore[arg-type]
    request = m.GatewaySetupRequest(bytes(8), False, (one,) * 64, "p" * 64, 3, "a" * 64)  # type: ignore[arg-type]
    assert (len(codec.encode(request)) <= MAX_BODY) is fits


@pytest.mark.parametrize("count", [0, 65])
def test_list_of_invited(count: int) -> None:
    body = {1: 1, 2: "p", 6: bytes(16), 7: b"k", 9: True, 10: False, 11: 1, 19: ["x"] * count}
    assert refusal(raw(1, body)).reason == "bad_value_label_19"


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({}, id="empty"),
        pytest.param([2, "pne-1"], id="array"),
        pytest.param(None, id="null"),
        pytest.param({14: bytes(16)}, id="without an ID"),
        pytest.param({2: "pne-1", 17: 51, 3: "gw-1"}, id="unsorted"),
        pytest.param({2: "pne-1", 3: "gw-1"}, id="label of no entry"),
        pytest.param({2: "pne-1", 14: bytes(17)}, id="long proof"),
        pytest.param({2: "pne-1", True: 1}, id="bool for a label"),
    ],
)
def test_bad_entry(bad: object) -> None:
    good = {2: "pne-1", 14: bytes(16)}
    codec.decode(raw(4, {15: bytes(8), 16: [good, good]}), m.GatewayProofs)
    refusal(raw(4, {15: bytes(8), 16: [good, bad]}))


@pytest.mark.parametrize("alias", ["", "a\nb", "\u202e", "x" * 65, "\u00e9" * 33, b"home", "\x00", "\ufffe"])
def test_bad_alias(alias: object) -> None:
    body = {10: False, 15: bytes(8), 16: [{1: 1, 2: "p", 6: bytes(16), 7: b"k", 9: True, 10: False, 11: 1}]}
    codec.decode(raw(1, {**body, 20: "h\u00f6me 1"}), m.GatewaySetupRequest)
    assert refusal(raw(1, {**body, 20: alias})).reason == "bad_value_label_20"


# Tags: refused before the library makes anything of them


def tag_head(tag: int) -> bytes:
    if tag < 24:
        return bytes([0xC0 | tag])
    if tag < 256:
        return bytes([0xD8, tag])
    return b"\xd9" + struct.pack(">H", tag) if tag < 65536 else b"\xda" + struct.pack(">I", tag)


def test_no_tag_is_decoded() -> None:
    """Whatever tags a later version of the library knows, none gets through."""
    for tag in (*range(2048), 43000, 55799, 65535, 65536, 2**32 - 1):
        for content in (b"\x00", b"\x61a", b"\x41a", b"\x82\x01\x02", b"\xa0"):
            with pytest.raises(WireError):
                codec.load(tag_head(tag) + content, MAX_BODY)


def sharing_bomb(levels: int, width: int) -> list[bytes]:
    """Return encoded values, each a shared array of *width* references to the one before."""
    head = b"\xd8\x1c\x98" + bytes([width])
    values = [head + b"\x00" * width]
    values.extend(head + bytes([0xD8, 0x1D, level]) * width for level in range(levels - 1))
    return values


def test_shared_values_do_not_grow() -> None:
    """A body of 2 kB that stands for 100 ** 8 values."""
    values = sharing_bomb(8, 100)
    body = b"\x82\x06" + bytes([0xA0 | len(values)]) + b"".join(bytes([i + 1]) + v for i, v in enumerate(values))
    assert refusal(body).result is Result.BAD_REQUEST


def test_a_pattern_is_not_compiled() -> None:
    """Compiling it would warn, which is an error here."""
    refusal(raw(8, {17: cbor2.CBORTag(35, "[[a]")}))


# Shapes against PROTOCOL section 3


def labels(text: str) -> tuple[set[int], set[int]]:
    words = text.split()
    return {int(word.rstrip("?")) for word in words}, {int(word) for word in words if not word.endswith("?")}


@pytest.mark.parametrize(
    ("shape", "kind", "text"),
    [
        (m.SetupRequest, 1, "1 2 5? 6 7 8? 9 10 11 18? 19?"),
        (m.GatewaySetupRequest, 1, "15 10 5? 18? 20? 16"),
        (m.SetupEntry, None, "1 2 6 7 8? 9 10 11"),
        (m.Invitation, 1, "2 3 5? 11"),
        (m.InvitationRefused, 2, "17"),
        (m.InvitationAccepted, 2, "17 1 2 6 7 8? 9 10"),
        (m.GatewaySetupResponse, 2, "15 5 16 25?"),  # 25 and 35 are this project's own
        (m.OutcomeEntry, None, "2 17 14? 35?"),
        (m.SetupResponse, 2, "17 5 14?"),
        (m.GatewayChallenge, 3, "15 4 5? 6 8? 16"),
        (m.ChallengeEntry, None, "2 7 8? 12? 13?"),
        (m.Challenge, 3, "3 4 5 6 7 8? 12?"),
        (m.LinkChallengeFromServer, 3, "4 6 7 8?"),
        (m.LinkChallengeFromGateway, 3, "3 6 7 8?"),
        (m.GatewayProofs, 4, "15 16"),
        (m.ProofEntry, None, "2 14? 17?"),
        (m.Proof, 4, "2 14"),
        (m.PnEstablishmentNotify, 5, "17 5 14?"),
        (m.ActivateRequest, 6, "1 2 6 7 8?"),
        (m.CmActivateRequest, 6, "1 2 6 7 8? 14"),
        (m.ActivateResponse, 7, "17 14?"),
        (m.CmActivateResponse, 7, "17 4 6 7 8? 14"),
        (m.ErrorBody, 8, "17"),
        (cm.CmAssignRequest, 16, "2 15"),  # 2 is this project's own, as are CmWanted and all after it
        (cm.CmAssignResponse, 17, "15 21 6"),
        (cm.CmIdRequest, 18, "15 22 6"),
        (cm.CmIdResponse, 19, "15 17 14?"),
        (cm.CmConfirmRequest, 20, "15 14"),
        (cm.CmConfirmResponse, 21, "15 17 22?"),
        (cm.CmKeyRequest, 22, "22 23"),
        (cm.CmKeyResponse, 23, "17"),
        (cm.CmWanted, 16, "2"),
        (cm.CmGiven, 17, "17"),
        (cm.CmRekeyRequest, 42, "22 37 6"),
        (cm.CmRekeyResponse, 43, "17 6"),
        (cm.CmRotateNotify, 44, "22"),
        (cm.CmReleaseRequest, 45, "22"),
        (cm.CmReleaseResponse, 46, "17"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_shape(shape: type[Any], kind: int | None, text: str) -> None:
    known = SHAPES[shape]
    assert (set(known.critical), set(known.required)) == labels(text)
    assert getattr(shape, "TYPE", None) == kind


def test_a_message_is_changed_by_replacing_it() -> None:
    changed: Callable[..., m.ActivateRequest] = replace
    assert codec.decode(codec.encode(changed(ACTIVATE, suite=2)), m.ActivateRequest).suite == 2


# --- pages


@given(st.lists(messages(sg.SgMemberEntry), max_size=80) | st.lists(messages(sg.SgEntry), max_size=20))
def test_a_page_has_what_gets_over_a_pan(entries: list[Any]) -> None:
    """As many as fit, and no more: with one more it would be too long, or of more than 64."""
    shape = sg.SgDiscoveryResponse if any(type(one) is sg.SgEntry for one in entries) else sg.SgInventoryResponse
    page: Any = codec.page(partial(shape, 0), entries)
    shown = page.entries or ()
    assert list(shown) == entries[: len(shown)]
    assert page.more is (len(shown) < len(entries))
    assert len(codec.encode(page)) <= PAGE_BYTES
    if page.more:
        longer = replace(page, entries=tuple(entries[: len(shown) + 1]))
        assert len(shown) == MAX_MEMBERS or len(codec.encode(longer)) > PAGE_BYTES - 4


LONGEST: Any = "x" * 64
LISTED: Any = (LONGEST,) * MAX_MEMBERS
TEXT = "t" * MAX_ALIAS_BYTES
OVER_A_PAN: list[Any] = [
    m.SetupRequest(3, LONGEST, bytes(16), bytes(7), True, False, 1, bytes(1216), LONGEST, 3, LISTED),
    pm.PnChangeNotify(LONGEST, LISTED, 2**53, 6, LONGEST, ("a" * 100,) * 4),
    pm.InventoryResponse(0, networks=LISTED, more=True),
    pm.EntityDiscoveryResponse(LONGEST, 3, True, LISTED, TEXT),
    pm.InviteRequest(LONGEST, LISTED),
    pm.InviteResponse(0, tuple(m.OutcomeEntry(LONGEST, 255) for _ in LISTED)),
    pm.ExpelRequest(LONGEST, LISTED),
    sg.SgCreateRequest(TEXT, 3, TEXT, LISTED, True, MAX_KEEP),
    sg.SgCreateResponse(0, LONGEST, tuple(m.OutcomeEntry(LONGEST, 255) for _ in LISTED)),
    sg.SgInviteRequest(LONGEST, LISTED),
    sg.SgInviteResponse(0, tuple(m.OutcomeEntry(LONGEST, 255) for _ in LISTED)),
    sg.SgExpelRequest(LONGEST, LISTED),
    sg.SgChangeNotify(LONGEST, LISTED, 2**53, 9, 2**53, LONGEST),
    sg.SgInventoryResponse(0, groups=LISTED, more=True),
    gm.GroupKeyBroadcast(
        *(LONGEST, LONGEST, 2**53, 2**32, (gm.WrappedEntry(2**16, bytes(40)),) * MAX_MEMBERS, bytes(64))
    ),
    gm.GroupMessage(LONGEST, 2**53, LONGEST, bytes(12), bytes(MAX_SEALED_BYTES), bytes(64)),
]


@pytest.mark.parametrize("message", OVER_A_PAN, ids=lambda one: type(one).__name__)
def test_what_goes_over_a_pan_fits_with_the_longest_names(message: Any) -> None:
    """Whatever lists IDs, or carries a message to a group; that pages of inventories do is shown above."""
    body = codec.encode(message)
    assert len(body) <= PAGE_BYTES
    assert codec.decode(body, type(message), limit=MAX_PAN_BODY) == message
