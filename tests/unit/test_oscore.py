"""The OSCORE of a session: one context for each, which knows how much was sent and when a new one is due."""

from math import inf
from typing import Any

import pytest

from cpns.coap.errors import CannotSend, SessionOver
from cpns.coap.message import Message
from cpns.coap.oscore import Limits
from cpns.crypto.schedule import Profile
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed
from cpns.ids import EntityId
from cpns.session.table import Session, Sessions
from cpns.transport import oscore
from cpns.transport.coap import path_of, request_of, response_of
from cpns.transport.errors import UNIFORM_REFUSAL, Answer, Code


class Keys:
    """RFC 8613 C.1."""

    def oscore_master_secret(self) -> Secret:
        return Secret(bytes.fromhex("0102030405060708090a0b0c0d0e0f10"))

    def oscore_master_salt(self) -> bytes:
        return bytes.fromhex("9e7ca92223786340")


def session(own_kid: bytes, peer_kid: bytes) -> Session:
    keys: Any = Keys()
    return Session(Profile.PNE_SERVER, EntityId("me"), EntityId("you"), own_kid, peer_kid, keys, 0.0)


def test_a_request_and_its_answer() -> None:
    here, there = session(b"\x01", b"\x02"), session(b"\x02", b"\x01")
    assert oscore.sent(here) == 0
    outer, asked = request_of(here, "readings", b"21.5")
    assert (outer.text(3), outer.value(9)) == ("you", b"\x09\x00\x02")
    inner, request = oscore.opened(there, outer)
    assert (path_of(inner), inner.payload) == ("readings", b"21.5")
    answer = response_of(Answer(Code.CHANGED, b"taken", 60), there, request)
    assert asked is not None
    assert oscore.unprotect_response(here, answer, asked) == Message(Code.CHANGED, b"", ((14, b"\x3c"),), b"taken")
    assert (oscore.sent(here), oscore.sent(there)) == (1, 0)


def test_the_key_is_that_of_the_session() -> None:
    """C.4, with the path of a request of ours left out: the keys come from the session, the sender is its peer's ID."""
    outer, _ = request_of(session(own_kid=b"\x01", peer_kid=b""), "tv1", b"")
    assert outer.payload[-8:] != bytes(8)
    with pytest.raises(AuthenticationFailed, match="protection_invalid"):
        oscore.opened(session(own_kid=b"\x02", peer_kid=b""), outer)
    oscore.opened(session(own_kid=b"", peer_kid=b"\x01"), outer)


def test_a_session_ends_where_nobody_makes_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oscore, "LIMITS", Limits(3))
    here = session(b"\x01", b"\x02")
    for _ in range(3):
        request_of(here, "readings", b"")
    with pytest.raises(CannotSend, match="session_used_up"):
        request_of(here, "readings", b"")


def test_a_session_that_is_too_old_seals_and_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """At either end, whatever was sent before: requests, and answers to those that came in time."""
    now = [100.0]
    monkeypatch.setattr(oscore, "monotonic", lambda: now[0])
    here, there = session(b"\x01", b"\x02"), session(b"\x02", b"\x01")
    for one in (here, there):
        one.since = now[0]
        Sessions(60.0).add(one)
    first, asked = request_of(here, "readings", b"1")
    late, _ = request_of(here, "readings", b"2")
    assert asked is not None
    now[0] = 159.9
    _, request = oscore.opened(there, first)
    answer = response_of(Answer(Code.CHANGED), there, request)
    now[0] = 160.0
    for one in (here, there):
        with pytest.raises(SessionOver, match="session_too_old"):
            request_of(one, "readings", b"")
    assert response_of(Answer(Code.CHANGED), there, request) == response_of(UNIFORM_REFUSAL), "it is not sealed"
    with pytest.raises(AuthenticationFailed, match="session_too_old"):
        oscore.opened(there, late)
    with pytest.raises(AuthenticationFailed, match="session_too_old"):
        oscore.unprotect_response(here, answer, asked)


def test_sessions_that_nobody_gave_an_age_have_none() -> None:
    one = session(b"\x01", b"\x02")
    Sessions().add(one)
    assert one.until == inf
