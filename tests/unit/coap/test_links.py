"""Three ends that ask each other over links that lose, double and reorder, in virtual time."""

from collections import Counter, defaultdict
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from cpns.coap import datagram
from cpns.coap.events import Exchange, ExchangeFailed, RequestArrived, ResponseArrived
from cpns.coap.message import Message
from cpns.coap.numbers import KINDS, Kind, Type
from cpns.coap.tuning import Tuning
from tests.support.links import CHANGED, POST, Ends

PAN = Tuning(ack_timeout=0.4, max_latency=5.0)
NAMES = "abc"


class Story:
    """The requests on one set of links, and their outcomes."""

    def __init__(self, seed: int, loss: float, doubled: float, delay: float, nstart: int) -> None:
        self.ends = Ends(NAMES, Tuning(PAN.ack_timeout, max_latency=PAN.max_latency, nstart=nstart), seed)
        self.ends.loss, self.ends.doubled, self.ends.delay = loss, doubled, delay
        self.ends.answer = self.answer
        self.random = self.ends.random
        self.asked: dict[tuple[str, bytes], tuple[Exchange, float]] = {}
        self.handled: Counter[bytes] = Counter()
        self.number = 0

    def answer(self, name: str, request: RequestArrived) -> None:
        """Answer at once, or late, or never; sometimes twice."""
        self.handled[request.message.payload] += 1
        for _ in range(self.random.choice((0, 1, 1, 1, 1, 2))):
            seconds = self.random.choice((0.0, 0.0, 0.05, 1.0, 8.0))
            self.ends.later(seconds, lambda: self.say(name, request))

    def say(self, name: str, request: RequestArrived) -> None:
        answer = Message(CHANGED, payload=request.message.payload)
        self.ends.layers[name].respond(request, answer, self.ends.now, self.ends.jitter())

    def ask(self, confirmable: bool) -> None:
        source, target = self.random.sample(NAMES, 2)
        self.number += 1
        token = self.number.to_bytes(4, "big")
        message = Message(POST, token, ((11, b"x"),), b"%s>%s %d" % (source.encode(), target.encode(), self.number))
        now = self.ends.now
        exchange = self.ends.layers[source].request(target, message, now, self.ends.jitter(), confirmable=confirmable)
        self.asked[source, token] = (exchange, now)
        if self.random.random() < 0.2:
            self.ends.later(self.random.random() * 3, lambda: self.ends.layers[source].close(exchange, self.ends.now))


def check_wire(ends: Ends) -> None:
    """What was sent keeps the rules of RFC 7252, whatever was lost."""
    copies: Counter[tuple[str, str, bytes]] = Counter()
    by_mid: dict[tuple[str, str, int], list[tuple[float, bytes]]] = defaultdict(list)
    for when, source, target, data, _ in ends.passed:
        type_, mid, message = datagram.decode(data)
        if type_ is Type.CON:
            copies[source, target, data] += 1
        if type_ in (Type.CON, Type.NON):
            assert KINDS[message.code] in (Kind.REQUEST, Kind.RESPONSE)
            by_mid[source, target, mid].append((when, data))
        else:
            assert KINDS[message.code] in (Kind.EMPTY, Kind.RESPONSE)
    assert max(copies.values(), default=0) <= 1 + ends.tuning.max_retransmit
    for sent in by_mid.values():
        for (before, first), (after, second) in pairwise(sent):
            assert first == second or after - before >= ends.tuning.exchange_lifetime


@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from((0.0, 0.2, 0.5, 0.8)),
    doubled=st.sampled_from((0.0, 0.3)),
    delay=st.sampled_from((0.0, 0.3, 4.9)),
    nstart=st.sampled_from((1, 1, 3)),
    count=st.integers(1, 25),
)
@settings(max_examples=60)
def test_links_that_lose_double_and_reorder(
    seed: int, loss: float, doubled: float, delay: float, nstart: int, count: int
) -> None:
    story = Story(seed, loss, doubled, delay, nstart)
    ends = story.ends
    confirmable = {}
    for _ in range(count):
        confirmable[story.number + 1] = story.random.random() < 0.8
        story.ask(confirmable[story.number + 1])
        ends.run(ends.now + story.random.choice((0.0, 0.0, 0.1, 2.0)))
    ends.run(ends.now + 5000)
    assert all(times == 1 for times in story.handled.values())  # never twice, whatever came twice
    check_wire(ends)
    failed = set()
    for name in NAMES:
        for event in ends.events[name]:
            if isinstance(event, ResponseArrived):
                source, number = event.message.payload.split(b">")[0], int(event.message.payload.split()[1])
                assert source.decode() == name
                assert story.asked[name, number.to_bytes(4, "big")][0] is event.exchange
            elif isinstance(event, ExchangeFailed):
                failed.add(event.exchange)
                assert event.reason in ("unacknowledged", "reset")
    if loss == 0.0:
        assert sum(story.handled.values()) >= sum(confirmable.values()) - len(failed) - closed_early(story)
    for name, layer in ends.layers.items():
        for exchange, _ in [found for (source, _), found in story.asked.items() if source == name]:
            layer.close(exchange, ends.now)
        assert len(layer._confirmables) == 0
        assert (layer._open, layer._unacknowledged) == ({}, {})
        assert layer.next_timeout() is None or ends.now >= 0
        ends.run(ends.now + 5 * ends.tuning.exchange_lifetime)
        assert len(layer._duplicates) == 0
        assert layer.next_timeout() is None


def closed_early(story: Story) -> int:
    """Return how many requests were never sent, as their exchange was closed while they stood in line."""
    sent = {datagram.decode(one[3]).message.payload for one in story.ends.passed}
    return sum(1 for (_, token) in story.asked if not any(b" %d" % int.from_bytes(token, "big") in p for p in sent))


def test_without_loss_each_request_is_handled_and_answered_once() -> None:
    ends = Ends(NAMES, PAN, seed=1)
    ends.doubled, ends.delay = 0.5, 0.2
    for number in range(200):
        message = Message(POST, number.to_bytes(2, "big"), (), b"%d" % number)
        ends.layers["a"].request("b", message, ends.now, ends.jitter())
        ends.run(ends.now + 0.5)
    ends.run(ends.now + 60)
    handled = [one.message.payload for one in ends.events["b"] if isinstance(one, RequestArrived)]
    answered = [one.message.payload for one in ends.events["a"] if isinstance(one, ResponseArrived)]
    assert sorted(handled) == sorted(set(answered)) == sorted(b"%d" % number for number in range(200))


def test_a_peer_that_is_not_there_costs_what_was_asked_of_it_and_ends() -> None:
    ends = Ends("a", PAN)
    for number in range(100):
        ends.layers["a"].request(f"gone-{number}", Message(POST, b"t"), 0.0, ends.jitter())
    ends.run(60)
    assert Counter(type(one) for one in ends.events["a"]) == {ExchangeFailed: 100}
    assert len(ends.passed) == 500
    assert ends.layers["a"].next_timeout() is None
