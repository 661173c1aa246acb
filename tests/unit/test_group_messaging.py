"""Messages to a group as pure steps: numbers, who sent, what opens, and each once (PROTOCOL section 7)."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpns.crypto import group, primitives
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed, Refused, Result
from cpns.ids import EntityId, SgId
from cpns.protocol.group_messaging import receiver
from cpns.protocol.group_messaging.receiver import REMEMBERED, Heard, Order
from cpns.protocol.group_messaging.sender import Sender
from cpns.wire.group_messages import GroupMessage

SG, ALICE = SgId("sg-1"), EntityId("alice")
KEY = Secret(bytes(range(32)))
SIGN = Secret(b"\x07" * 32)
VERIFY = group.verify_key(SIGN)


def sender(run: int = 1, start: bytes = b"abcd") -> Sender:
    return Sender(ALICE, run, start, SIGN)


def number(run: int, count: int, start: bytes = b"abcd") -> bytes:
    return run.to_bytes(4, "big") + start + count.to_bytes(4, "big")


@pytest.mark.req("FN-9")
def test_a_message_is_what_the_protocol_says() -> None:
    """Recomputed from section 7 and 15 with the library's primitives alone."""
    message = sender(3).seal(SG, 5, KEY, b"hello", signed=True)
    assert message.seq == number(3, 1)
    key = primitives.expand(
        primitives.extract(b"cpns1 sg", KEY.reveal()), primitives.enc("cpns1 sg sender", "sg-1", 5, "alice"), 32
    )
    context = primitives.enc("cpns1 sg message", "sg-1", 5, "alice", message.seq)
    assert primitives.Box(key).unseal(message.seq + message.sealed, context) == b"hello"
    signed = primitives.enc("cpns1 sg signature", "sg-1", 5, "alice", message.seq, message.sealed)
    assert message.signature is not None
    primitives.ed25519_verify(VERIFY, signed, message.signature)


@given(steps=st.lists(st.sampled_from(["sg-1", "sg-2", "restart"]), max_size=40))
def test_no_number_returns_and_each_is_higher_than_the_one_before(steps: list[str]) -> None:
    run, current = 1, sender()
    numbers: dict[str, list[bytes]] = {"sg-1": [], "sg-2": []}
    for step in steps:
        if step == "restart":
            run += 1
            current = sender(run, bytes([255 - run]) * 4)
        else:
            numbers[step].append(current.seal(SgId(step), 1, KEY, b"", signed=False).seq)
    for each in numbers.values():
        assert each == sorted(set(each))


def test_numbers_end_before_they_return() -> None:
    one = sender()
    one.counts[SG] = 2**32 - 2
    assert one.seal(SG, 1, KEY, b"", signed=False).seq == number(1, 2**32 - 1)
    with pytest.raises(Refused) as refused:
        one.seal(SG, 1, KEY, b"", signed=False)
    assert refused.value.result is Result.TOO_MANY


@pytest.mark.req("FN-9")
@pytest.mark.parametrize(
    "change",
    [
        {"sg_id": SgId("sg-2")},
        {"epoch": 6},
        {"sender": EntityId("bob")},
        {"seq": number(3, 2)},
        {"sealed": b"\x00" * 21},
        {"signature": b"\x01" * 64},
        {"signature": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_nothing_of_it_can_be_changed(change: dict[str, Any]) -> None:
    message = sender(3).seal(SG, 5, KEY, b"hello", signed=True)
    receiver.check_signature(message, VERIFY)
    assert receiver.open_message(message, KEY) == b"hello"
    changed = dataclasses.replace(message, **change)
    with pytest.raises(AuthenticationFailed):
        receiver.check_signature(changed, VERIFY)
    if "signature" not in change:
        with pytest.raises(AuthenticationFailed):
            receiver.open_message(changed, KEY)


@pytest.mark.req("FN-9")
def test_another_member_can_not_speak_for_a_sender() -> None:
    """It has the Group Key, so what it seals opens; the signature tells."""
    forged = Sender(ALICE, 1, b"abcd", Secret(b"\x08" * 32)).seal(SG, 5, KEY, b"send money", signed=True)
    assert receiver.open_message(forged, KEY) == b"send money"
    with pytest.raises(AuthenticationFailed):
        receiver.check_signature(forged, VERIFY)


def test_which_key_a_message_needs() -> None:
    message = GroupMessage(SG, 1, ALICE, number(3, 1), b"")
    assert receiver.needs_another_key(message, None)
    assert receiver.needs_another_key(message, 2)
    assert not receiver.needs_another_key(message, 3)
    with pytest.raises(Refused) as refused:
        receiver.needs_another_key(message, 4)
    assert refused.value.result is Result.KEY_EXPIRED


class Plain:
    """What `Heard` is to do, without a bound: a set of all numbers."""

    def __init__(self, floor: bytes) -> None:
        self.floor, self.taken, self.ids = floor, list[bytes](), set[bytes]()

    def order(self, seq: bytes, by_server: bool) -> Order:
        if seq in self.taken or (seq <= self.floor and not by_server):
            return Order.REPEATED
        return Order.LATE if self.taken and seq < max(self.taken) else Order.NEXT


@given(
    floor=st.integers(0, 5),
    arrivals=st.lists(st.tuples(st.integers(1, 30), st.booleans(), st.integers(0, 20)), max_size=REMEMBERED),
)
def test_each_is_taken_once_and_said_to_be_late_where_it_is(floor: int, arrivals: list[tuple[int, bool, int]]) -> None:
    heard, plain = Heard(number(1, floor)), Plain(number(1, floor))
    for count, by_server, message_id in arrivals:
        seq, name = number(1, count), message_id.to_bytes(8, "big")
        order = heard.order(seq, by_server=by_server)
        assert order is plain.order(seq, by_server)
        if order is Order.REPEATED:
            continue
        assert heard.has(name) is (name in plain.ids)
        heard.take(seq, name)
        plain.taken.append(seq)
        plain.ids.add(name)


@given(st.lists(st.integers(1, 500), min_size=REMEMBERED, max_size=200))
def test_what_is_too_old_to_tell_is_a_repetition(counts: list[int]) -> None:
    """The memory is bounded, and nothing is ever taken twice for that."""
    heard = Heard()
    taken: list[int] = []
    for count in counts:
        if heard.order(number(1, count), by_server=False) is not Order.REPEATED:
            heard.take(number(1, count), count.to_bytes(8, "big"))
            taken.append(count)
    assert len(set(taken)) == len(taken)
    assert len(heard.numbers) <= REMEMBERED
    assert len(heard.ids) <= REMEMBERED
