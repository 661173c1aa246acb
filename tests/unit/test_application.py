"""Payloads of application messages."""

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpns.errors import WireError
from cpns.wire import application as a
from tests.support.wire_strategies import json_objects, json_values
from tests.unit.test_wire import sharing_bomb

ID = bytes(range(12))


@given(st.binary(min_size=12, max_size=12), json_objects)
def test_reading_round_trip(reading_id: bytes, body: Any) -> None:
    reading = a.Reading(reading_id, body)
    assert a.decode_reading(a.encode_reading(reading)) == reading


@given(json_objects)
def test_a_reading_may_be_encoded_in_any_order(body: Any) -> None:
    turned = dict(reversed(body.items()))
    assert a.decode_reading(cbor2.dumps([ID, turned])) == a.Reading(ID, body)


@given(st.text(max_size=1024))
def test_text_round_trip(text: str) -> None:
    assert a.decode_text(a.encode_text(text)) == text


@given(st.binary(max_size=48) | json_values.map(cbor2.dumps) | json_values.map(lambda v: cbor2.dumps([ID, {"a": v}])))
def test_any_bytes_give_a_payload_or_a_wire_error(data: bytes) -> None:
    for decode in (a.decode_reading, a.decode_text):
        try:
            decode(data)
        except WireError:
            continue


def nested(levels: int) -> dict[str, Any]:
    body: dict[str, Any] = {"a": 0}
    for _ in range(levels - 1):
        body = {"a": body}
    return body


@pytest.mark.parametrize(
    "item",
    [
        pytest.param([ID], id="no body"),
        pytest.param([ID, {}, 0], id="three"),
        pytest.param({0: ID, 1: {}}, id="map"),
        pytest.param([ID[:11], {}], id="short id"),
        pytest.param([ID + b"0", {}], id="long id"),
        pytest.param(["0" * 12, {}], id="text id"),
        pytest.param([ID, []], id="array for the object"),
        pytest.param([ID, {1: 2}], id="int key"),
        pytest.param([ID, {"a": {1: 2}}], id="int key further in"),
        pytest.param([ID, {"a": b"x"}], id="bytes"),
        pytest.param([ID, {"a": cbor2.undefined}], id="undefined"),
        pytest.param([ID, {"a": float("nan")}], id="not a number"),
        pytest.param([ID, {"a": [float("inf")]}], id="infinite"),
        pytest.param([ID, {"a": 2**64}], id="bignum"),
        pytest.param([ID, {"a": cbor2.CBORTag(1, 0)}], id="tag"),
        pytest.param([ID, {"a": -(2**63) - 1}], id="very negative"),
        pytest.param([ID, nested(8)], id="deep"),
        pytest.param([ID, {"a": "x" * 4096}], id="long"),
    ],
)
def test_no_reading(item: object) -> None:
    with pytest.raises(WireError):
        a.decode_reading(cbor2.dumps(item))


def test_a_reading_may_be_nested_in_seven_objects() -> None:
    assert a.decode_reading(cbor2.dumps([ID, nested(7)])).body == nested(7)


@pytest.mark.parametrize(
    "tail", ["a2616100616100", "bf616100ff", "a16161d81c81d81d00", "a1616181d81c81d81d00", "a000", "a0a0"]
)
def test_no_duplicates_indefinite_lengths_cycles_and_no_more_bytes(tail: str) -> None:
    with pytest.raises(WireError):
        a.decode_reading(b"\x82\x4c" + ID + bytes.fromhex(tail))


def test_shared_values_do_not_grow() -> None:
    values = sharing_bomb(8, 100)
    body = bytes([0xA0 | len(values)]) + b"".join(b"\x61" + bytes([97 + i]) + v for i, v in enumerate(values))
    with pytest.raises(WireError):
        a.decode_reading(b"\x82\x4c" + ID + body)


@pytest.mark.parametrize("body", [{"a": object()}, {"a": b"x"}, {1: 2}, [1], None, {"a": float("nan")}, nested(8)])
def test_a_reading_that_is_no_json_object_is_not_encoded(body: Any) -> None:
    with pytest.raises(WireError):
        a.encode_reading(a.Reading(ID, body))


@pytest.mark.parametrize("text", ["x" * 1025, "\U0001f600" * 1024, "\udc80"], ids=["long", "over 4 KiB", "surrogate"])
def test_text_that_is_not_encoded(text: str) -> None:
    with pytest.raises(WireError):
        a.encode_text(text)


@pytest.mark.parametrize("data", ["", "40", "00", "6161ff", "7f6161ff", "61ff", "8161" + "61"])
def test_no_text(data: str) -> None:
    with pytest.raises(WireError):
        a.decode_text(bytes.fromhex(data))
