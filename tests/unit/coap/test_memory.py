"""Message IDs and remembered messages: against plain models, and within their bounds."""

import contextlib
import gc
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpns.coap import datagram
from cpns.coap.confirmable import ANSWER_BYTES, MAX_ANSWERS_EACH
from cpns.coap.duplicates import ENTRY_BYTES, SHARE_BYTES, Duplicates, _Entry, _Share
from cpns.coap.errors import CannotSend
from cpns.coap.events import RequestArrived
from cpns.coap.message import Message
from cpns.coap.messaging import MessageLayer
from cpns.coap.mids import MessageIds
from cpns.coap.numbers import Type
from cpns.coap.tuning import Tuning
from cpns.transport.datagrams import Address, Ours
from tests.support.links import CHANGED, FORMS, POST

LIFETIME = 20.0
A_PEER = 640
"""Bytes that the message IDs of one peer take (`cpns.coap.mids`)."""


def test_each_id_serves_once_in_a_lifetime_and_all_of_them_serve() -> None:
    ids = MessageIds(0, LIFETIME)
    used = [ids.next("peer", 0.0) for _ in range(0x10000 - 4096)]
    assert len(set(used)) == len(used)
    used.extend(ids.next("peer", 0.0) for _ in range(4096))
    assert len(set(used)) == 0x10000
    with pytest.raises(CannotSend, match="message_ids_used_up"):
        ids.next("peer", LIFETIME - 0.1)
    assert ids.next("other", 0.0) not in (None, used[0])  # others do not wait for it
    assert ids.next("peer", LIFETIME + 0.1) == used[0]


@given(st.integers(0, 0xFFFF), st.lists(st.tuples(st.integers(1, 9000), st.floats(0, 8)), min_size=1, max_size=30))
@settings(max_examples=30)
def test_no_id_serves_again_too_early(first: int, bursts: list[tuple[int, float]]) -> None:
    ids, now, refused = MessageIds(first, LIFETIME), 0.0, 0
    last: dict[int, float] = {}
    for count, pause in bursts:
        for _ in range(count):
            try:
                mid = ids.next("peer", now)
            except CannotSend:
                refused += 1
                break
            assert now - last.get(mid, float("-inf")) >= LIFETIME
            last[mid] = now
        now += pause
    if sum(count for count, _ in bursts) < 61_440:
        assert refused == 0


def test_a_hop_never_runs_out_at_what_one_host_may_send() -> None:
    """2,000 messages a second, for a minute, to one peer, with the times of a PAN."""
    ids = MessageIds(7, Tuning(ack_timeout=0.4, max_latency=5.0).exchange_lifetime)
    for number in range(120_000):
        ids.next("peer", number / 2000)


def test_peers_that_are_forgotten_begin_elsewhere() -> None:
    ids = MessageIds(0, LIFETIME, peers=3)
    first = {peer: ids.next(peer, 0.0) for peer in "abcd"}
    assert len(set(first.values())) == 4
    assert ids.next("d", 0.0) == first["d"] + 1
    assert ids.next("a", 0.0) not in (first["a"], first["a"] + 1)


def at(host: str, port: int) -> tuple[Address, Ours]:
    """Return a remote as a PAN has it: everything in it made anew for each datagram."""
    return (host.encode().decode(), port), Ours(b"10.0.0.1".decode())


def host_of(remote: Any) -> str:
    return str(remote[0][0])


@contextlib.contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """Give what tells how many bytes were taken, and are held, since."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    try:
        yield lambda: tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def asked(layer: MessageLayer, remotes: list[tuple[Address, Ours]], now: float) -> list[RequestArrived]:
    """Return a request of each of *remotes*, acknowledged, so that each answer goes by itself."""
    found: list[RequestArrived] = []
    for number, remote in enumerate(remotes):
        data = datagram.encode(Type.CON, number & 0xFFFF, Message(POST), number.to_bytes(4))
        for event in layer.receive(remote, data, now):
            assert isinstance(event, RequestArrived)
            found.append(event)
    layer.handle_timeout(now + 1.0)
    layer.take()
    return found


def test_late_answers_to_one_host_are_repeated_within_its_share_whatever_the_ports() -> None:
    """More go once (RFC 7252 5.2.3), and there is room again when those before are acknowledged or given up."""
    layer = MessageLayer(Tuning(), FORMS, 0, host_of)
    requests = asked(layer, [at("10.9.8.7", port) for port in range(1024, 4024)], 0.0)
    answer, kinds = Message(CHANGED, payload=bytes(100)), list[Type]()
    with traced() as held:
        for one in requests:
            layer.respond(one, answer, 1.0, 0.5)
            kinds.extend(datagram.decode(data).type for _, data in layer.take())
        most = kinds.count(Type.CON)
        assert 300 < most < 500
        assert kinds == [Type.CON] * most + [Type.NON] * (3000 - most)
        assert held() <= MAX_ANSWERS_EACH + len(requests) * A_PEER
    (other,) = asked(layer, [at("10.1.1.1", 5683)], 1.0)
    layer.respond(other, answer, 2.0, 0.5)
    ((_, data),) = layer.take()
    assert datagram.decode(data).type is Type.CON
    layer.receive(other.remote, datagram.empty(Type.ACK, datagram.decode(data).mid), 2.0)
    for now in range(3, 200):
        layer.handle_timeout(float(now))
    layer.take()
    confirmables = layer._confirmables
    assert (len(confirmables), confirmables._answers_of_all, dict(confirmables._answers)) == (0, 0, {})
    layer.respond(requests[-1], answer, 200.0, 0.5)
    ((_, data),) = layer.take()
    assert datagram.decode(data).type is Type.CON


def test_late_answers_to_all_hosts_have_a_bound_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpns.coap.confirmable.MAX_ANSWERS", 10 * ANSWER_BYTES)
    layer = MessageLayer(Tuning(), FORMS, 0, host_of)
    for one in asked(layer, [at(f"10.0.1.{number}", 5683) for number in range(20)], 0.0):
        layer.respond(one, Message(CHANGED), 1.0, 0.5)
    kinds = [datagram.decode(data).type for _, data in layer.take()]
    assert kinds == [Type.CON] * 10 + [Type.NON] * 10


def test_an_answer_takes_what_it_is_counted() -> None:
    """Each to a port of its own, with a payload or without, in its line."""
    for size in (0, 1000):
        layer = MessageLayer(Tuning(), FORMS, 0, host_of)
        requests = asked(layer, [at("10.9.8.7", port) for port in range(1024, 1224)], 0.0)
        with traced() as held:
            for one in requests:
                layer.respond(one, Message(CHANGED, payload=bytes(size)), 1.0, 0.5)
            layer.take()
            assert held() <= layer._confirmables._answers_of_all + len(requests) * A_PEER


def group(remote: object) -> object:
    return str(remote)[0]


class Model:
    """Everything is remembered, with its time."""

    def __init__(self) -> None:
        self.seen: dict[object, tuple[float, bytes | None]] = {}

    def find(self, key: object, now: float) -> tuple[float, bytes | None] | None:
        entry = self.seen.get(key)
        if entry is not None and now < entry[0]:
            return entry
        self.seen[key] = (now + LIFETIME, None)
        return None

    def answered(self, key: object, said: bytes) -> None:
        if key in self.seen:
            self.seen[key] = (self.seen[key][0], said)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.floats(0, 9), st.binary(max_size=3), st.booleans()),
        max_size=120,
    )
)
def test_with_room_for_all_it_is_the_plain_model(steps: list[tuple[str, int, float, bytes, bool]]) -> None:
    ours, model, now = Duplicates(LIFETIME, 10**9, group), Model(), 0.0
    for remote, digest, pause, said, wakes in steps:
        now += pause
        if wakes and ours.next_timeout is not None and ours.next_timeout <= now:
            ours.forget(now)
        key = (remote, digest)
        assert ours.find(key, now) == model.find(key, now)
        ours.answered(key, said)
        model.answered(key, said)
    ours.forget(now + LIFETIME + 1)
    ours.forget(now + 2 * LIFETIME + 2)
    assert (len(ours), ours.next_timeout, ours._total, dict(ours._held)) == (0, None, 0, {})


def test_a_flood_of_one_host_makes_it_forget_its_own() -> None:
    ours = Duplicates(LIFETIME, 100 * ENTRY_BYTES, group)
    for number in range(20):
        ours.find(("honest", number), 0.0)
        ours.answered(("honest", number), b"answer")
    for number in range(100_000):
        ours.find(("xflood", number), number / 100_000)
        assert ours._total <= 100 * ENTRY_BYTES
    assert all(ours.find(("honest", number), 2.0) == (LIFETIME, b"answer") for number in range(20))
    assert len(ours) <= 100


def test_long_answers_count_by_their_length() -> None:
    ours = Duplicates(LIFETIME, 1_000_000, group)
    for number in range(1000):
        ours.find(("a", number), 0.0)
        ours.answered(("a", number), bytes(8192))
    assert len(ours) == (1_000_000 - SHARE_BYTES) // (8192 + ENTRY_BYTES)
    assert ours.find(("a", 999), 0.0) == (LIFETIME, bytes(8192))


def test_who_is_forgotten_when_all_hold_one() -> None:
    ours = Duplicates(LIFETIME, 50 * (ENTRY_BYTES + SHARE_BYTES), lambda remote: remote)
    for number in range(1000):
        ours.find((number, 0), 0.0)
    assert len(ours) == len(ours._held) == len(ours._young.shares) == 50


@given(st.lists(st.tuples(st.sampled_from("aaaaabc"), st.integers(0, 900), st.floats(0, 3)), max_size=200))
def test_the_count_is_right_whatever_is_forgotten(steps: list[tuple[str, int, float]]) -> None:
    most = 8 * ENTRY_BYTES + 3 * SHARE_BYTES
    ours, now = Duplicates(LIFETIME, most, group), 0.0
    for index, (remote, size, pause) in enumerate(steps):
        now += pause
        ours.find((remote, index), now)
        ours.answered((remote, index), bytes(size))
        held: Counter[object] = Counter()
        for generation in {ours._young, ours._old}:
            left = dict(generation.entries)
            for name, share in generation.shares.items():
                numbers = list(chain(left, share))
                sizes = [ENTRY_BYTES + len(left.pop(number).said or b"") for number in numbers]
                assert share.held == SHARE_BYTES + sum(sizes)
                held[name] += share.held
            assert left == {}
        assert ours._held == held
        assert ours._total == held.total() <= most


def chain(entries: dict[int, _Entry], share: _Share) -> Iterator[int]:
    """Yield the numbers of the messages of one host, oldest first."""
    number = share.first
    yield number
    while number != share.last:
        number = entries[number].next
        yield number


@pytest.mark.parametrize("hosts", [1, 40, 4000])
@pytest.mark.parametrize("said", [0, 100])
def test_what_is_remembered_takes_no_more_than_its_bound(hosts: int, said: int) -> None:
    """However many hosts share it, and whatever was said."""
    most, layer = 1 << 20, MessageLayer(Tuning(empty_ack_delay=0.0), FORMS, 0, host_of, 1 << 20)
    with traced() as held:
        for number in range(8000):
            now = number / 100
            data = datagram.encode(Type.CON, number & 0xFFFF, Message(POST), number.to_bytes(4))
            for event in layer.receive(at(f"10.{hosts}.{number % hosts}", number % 60_000), data, now):
                if isinstance(event, RequestArrived) and said:
                    layer.respond(event, Message(CHANGED, payload=bytes(said)), now, 0.5)
            layer.handle_timeout(now)
            layer.take()
            if not number % 500:
                del event
                assert held() <= most
        assert held() > most / 2
