"""A Secret does not show, however it is handled by mistake."""

import copy
import dataclasses
import io
import json
import logging
import pickle
import pprint
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpns.crypto import ephemeral
from cpns.crypto.schedule import Profile, Schedule, Transcript
from cpns.crypto.secret import Secret

CANARY = b"canary-key-0123456789-abcdefghij"
FORMS = (CANARY.decode(), CANARY.hex(), CANARY.hex().upper(), repr(CANARY), str(list(CANARY)), "canary")


@dataclasses.dataclass(frozen=True)
class Holder:
    key: Secret
    name: str = "pne-1"


def assert_hidden(*texts: str) -> None:
    for text in texts:
        assert not any(form in text for form in FORMS), text


def test_it_does_not_show_in_text() -> None:
    secret = Secret(CANARY)
    holder = Holder(secret)
    assert_hidden(
        repr(secret), str(secret), f"{secret}", f"{secret!r:>50}", f"{secret:x}", f"{secret!s}", f"{secret!a}"
    )
    assert_hidden("%s" % secret, "%r" % (secret,), "{} {!r}".format(secret, secret), ascii(secret))  # noqa: UP031, UP032
    assert_hidden(repr(holder), str([secret]), str({"key": secret}), pprint.pformat(holder), repr((secret,)))
    assert repr(secret) == "<Secret of 32 bytes>"


def test_it_does_not_show_in_logs() -> None:
    stream = io.StringIO()
    logger = logging.Logger("canary")
    logger.addHandler(logging.StreamHandler(stream))
    secret = Secret(CANARY)
    logger.warning("%s %r %s", secret, secret, Holder(secret))
    logger.warning("%(key)s", {"key": secret})
    try:
        raise ValueError(secret)
    except ValueError:
        logger.exception("failed")
    assert stream.getvalue().count("Secret of 32 bytes") >= 4
    assert_hidden(stream.getvalue())


def test_it_does_not_show_in_a_traceback_with_locals() -> None:
    def fail(key: Secret) -> None:
        raise ValueError(f"bad key {key}")

    with pytest.raises(ValueError, match="bad key") as caught:
        fail(Secret(CANARY))
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    shown = "".join(frame for frame in report.format() if "CANARY =" not in frame)
    assert "key = <Secret of 32 bytes>" in shown
    assert_hidden(shown)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_not_pickled(protocol: int) -> None:
    for value in (Secret(CANARY), [Secret(CANARY)], Holder(Secret(CANARY))):
        with pytest.raises(TypeError):
            pickle.dumps(value, protocol)


def test_it_is_not_copied() -> None:
    secret = Secret(CANARY)
    for action in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            action(secret)
    with pytest.raises(TypeError):
        dataclasses.asdict(Holder(secret))
    with pytest.raises(TypeError):
        json.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps({"key": secret})


def test_it_is_not_taken_for_bytes() -> None:
    secret: Any = Secret(CANARY)
    for action in (bytes, bytearray, memoryview, list, iter, hash, vars):
        with pytest.raises(TypeError):
            action(secret)
    with pytest.raises(TypeError):
        b"".join([secret])
    assert not hasattr(secret, "__dict__")
    with pytest.raises(AttributeError):
        secret.value = b""


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_equality(a: bytes, b: bytes) -> None:
    assert (Secret(a) == Secret(b)) is (a == b)
    assert Secret(a) == Secret(a)
    assert not Secret(a) != Secret(a)
    assert len(Secret(a)) == len(a)
    assert Secret(a).reveal() == a


def test_it_equals_nothing_but_a_secret() -> None:
    other: object
    for other in (CANARY, CANARY.decode(), None, 0, bytearray(CANARY)):
        assert Secret(CANARY) != other


def test_equality_is_the_constant_time_one(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def bytes_eq(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return True

    monkeypatch.setattr("cpns.crypto.secret.constant_time.bytes_eq", bytes_eq)
    assert Secret(b"1") == Secret(b"2")
    assert compared == [(b"1", b"2")]


def test_it_keeps_its_own_bytes() -> None:
    buffer = bytearray(CANARY)
    secret = Secret(buffer)  # type: ignore[arg-type]
    buffer[0] = 0
    assert secret.reveal() == CANARY


def test_what_holds_keys_does_not_show_them() -> None:
    seed = CANARY * 3
    t = Transcript(
        Profile.GW_SERVER,
        1,
        "server",  # type: ignore[arg-type]
        "gw-1",  # type: ignore[arg-type]
        bytes(16),
        b"\x01",
        None,
        bytes(16),
        b"\x02",
        None,
    )
    schedule = Schedule(Secret(CANARY), t.th0(), bytes(32))
    proofs = schedule.proofs(bytes(16), bytes(16), None)
    keys = proofs.session_keys(bytes(16), bytes(16))
    shown = "".join(map(repr, (schedule, proofs, keys, ephemeral.initiate(2, seed), ephemeral.Responder(seed))))
    assert_hidden(shown)
    secret = schedule.session_key.reveal()
    assert repr(secret)[2:-1] not in shown
    assert secret.hex() not in shown
