"""Cookies: made of who asks and from where, good for a minute or two, and nothing is kept for them."""

import hashlib
import hmac
import itertools
from typing import Any

import cbor2
import pytest

from cpns.coap import datagram
from cpns.coap.message import Message
from cpns.coap.numbers import Type
from cpns.crypto.cookie import CookieKey
from cpns.gateway.cookies import KEY_SECONDS, NUMBERS, Asker, Cookies
from cpns.ids import EntityId
from cpns.transport.coap import response_of
from cpns.transport.errors import UNIFORM_REFUSAL, Answer, Code
from cpns.wire import codec
from cpns.wire.messages import ActivateRequest, SetupRequest

POST = 2
ASKER = Asker("192.0.2.7", 40001, EntityId("ann"), bytes(16))


class Time:
    """A clock, and keys that are all different."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self._drawn = itertools.count(1)

    def now(self) -> float:
        raise AssertionError("the time of day is nothing to a cookie")

    def monotonic(self) -> float:
        return self.seconds

    def random(self, size: int) -> bytes:
        return next(self._drawn).to_bytes(size, "big")


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def cookies(time: Time) -> Cookies:
    return Cookies(time, time.random)


def test_it_is_a_key_number_and_what_that_key_makes_of_the_asker(cookies: Cookies) -> None:
    said = cbor2.dumps(["cpns1 echo", "192.0.2.7", 40001, "ann", bytes(16)])
    tag = hmac.new((1).to_bytes(32, "big"), said, hashlib.sha256).digest()[:8]
    assert cookies.made_for(ASKER) == b"\0" + tag
    assert len(cookies.made_for(ASKER)) == 9


@pytest.mark.parametrize(
    "other",
    [
        ASKER._replace(host="192.0.2.8"),
        ASKER._replace(port=40002),
        ASKER._replace(entity=EntityId("ben")),
        ASKER._replace(rand=bytes(15) + b"\1"),
    ],
)
def test_it_is_good_for_that_asker_alone(cookies: Cookies, other: Asker) -> None:
    assert cookies.fits(cookies.made_for(ASKER), ASKER)
    assert not cookies.fits(cookies.made_for(other), ASKER)
    assert not cookies.fits(cookies.made_for(ASKER), other)


def test_a_wrong_one_is_as_none(cookies: Cookies) -> None:
    good = cookies.made_for(ASKER)
    assert not cookies.fits(None, ASKER)
    assert not any(cookies.fits(good[:length], ASKER) for length in range(9))
    assert not any(cookies.fits(good + more, ASKER) for more in (b"\0", bytes(31)))
    for place in range(9):
        changed = bytes(byte ^ (place == number) for number, byte in enumerate(good))
        assert not cookies.fits(changed, ASKER)


def test_a_key_serves_a_minute_and_is_good_for_two(time: Time, cookies: Cookies) -> None:
    first = cookies.made_for(ASKER)
    time.seconds += KEY_SECONDS - 0.1
    assert cookies.made_for(ASKER) == first
    time.seconds += 0.1
    second = cookies.made_for(ASKER)
    assert (first[0], second[0]) == (0, 1)
    assert cookies.fits(first, ASKER)
    assert cookies.fits(second, ASKER)
    time.seconds += KEY_SECONDS - 0.1
    assert cookies.fits(first, ASKER)
    time.seconds += 0.1
    assert not cookies.fits(first, ASKER)
    assert cookies.fits(second, ASKER)


@pytest.mark.parametrize("idle", [2 * KEY_SECONDS, 3600.0])
def test_none_outlives_its_time_where_nobody_asks(time: Time, cookies: Cookies, idle: float) -> None:
    first = cookies.made_for(ASKER)
    time.seconds += idle
    assert not cookies.fits(first, ASKER)
    assert cookies.fits(cookies.made_for(ASKER), ASKER)
    assert not cookies.fits(first, ASKER)


def test_numbers_of_keys_come_again_and_their_keys_do_not(time: Time, cookies: Cookies) -> None:
    first = cookies.made_for(ASKER)
    for number in range(1, NUMBERS + 1):
        time.seconds += KEY_SECONDS
        assert cookies.made_for(ASKER)[0] == number % NUMBERS
    assert not cookies.fits(first, ASKER)


def test_an_asker_costs_the_same_whatever_it_says(cookies: Cookies, monkeypatch: pytest.MonkeyPatch) -> None:
    """One MAC to look at a cookie whose key there is, right or wrong, and one to make one."""
    made, tag = [0], CookieKey.tag

    def counted(self: CookieKey, host: str, port: int, entity: EntityId, rand: bytes) -> bytes:
        made[0] += 1
        return tag(self, host, port, entity, rand)

    good = cookies.made_for(ASKER)
    monkeypatch.setattr(CookieKey, "tag", counted)
    for cookie, macs in (
        (None, 0),
        (good, 1),
        (good[:-1] + b"\0", 1),
        (good[:1], 1),
        (good + bytes(31), 1),
        (b"\7", 0),
    ):
        made[0] = 0
        cookies.fits(cookie, ASKER)
        assert made[0] == macs
        cookies.made_for(ASKER)
        assert made[0] == macs + 1


def test_it_is_sent_as_an_echo_option(cookies: Cookies) -> None:
    """RFC 9175 2.2: number 252, elective."""
    cookie = cookies.made_for(ASKER)
    assert response_of(Answer(Code.UNAUTHORIZED, b"body", echo=cookie)).options == ((252, cookie),)


@pytest.mark.parametrize("token", [0, 2, 8])
def test_who_sends_it_sends_less_than_it_got(cookies: Cookies, token: int) -> None:
    """An acknowledgement besides included; the shortest M1s have no Content-Format, and an ID of one character."""
    end: dict[str, Any] = {"suite": 1, "entity_id": EntityId("a"), "rand": bytes(16), "kid": b"a"}
    setup = SetupRequest(**end, need_local=True, pan_secure=False, procedure=1)
    answer = response_of(Answer(UNIFORM_REFUSAL.code, UNIFORM_REFUSAL.payload, echo=cookies.made_for(ASKER)))
    said = datagram.encode(Type.ACK, 1, answer, bytes(token))
    for m1 in (setup, ActivateRequest(**end)):
        asked = datagram.encode(Type.CON, 1, Message(POST, b"", ((11, b"cpns"),), codec.encode(m1)), bytes(token))
        assert len(said) + len(datagram.empty(Type.ACK, 1)) < len(asked)
