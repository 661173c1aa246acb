"""The OSCORE of a session: one context for each, which knows how much was sent and when a new one is due."""

from typing import Any

import pytest

from cpns.coap.errors import CannotSend
from cpns.coap.message import Message
from cpns.coap.oscore import Limits
from cpns.crypto.schedule import Profile
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed
from cpns.ids import EntityId
from cpns.session.table import Session
from cpns.transport import oscore
from cpns.transport.coap import path_of, request_of, response_of
from cpns.transport.errors import Answer, Code


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
