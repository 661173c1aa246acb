"""The key schedule: what each value depends on, and that both sides must agree on all of it."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpns.crypto.schedule import Profile, Proofs, Schedule, SessionKeys, Transcript
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed
from tests.support.wire_strategies import NAMES

RAND = st.binary(min_size=16, max_size=16)
KID = st.binary(min_size=1, max_size=7)
OCTETS_32 = st.binary(min_size=32, max_size=32)

ELECTIVES = st.dictionaries(
    st.integers(128, 65535), st.integers(0, 2**64 - 1) | st.binary(max_size=8) | st.text(max_size=8), max_size=3
).map(lambda found: tuple(sorted(found.items())))
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "profile": st.sampled_from(Profile),
    "suite": st.integers(1, 3),
    "responder": NAMES,
    "initiator": NAMES,
    "rand_i": RAND,
    "kid_i": KID,
    "eph_i": st.none() | OCTETS_32,
    "rand_r": RAND,
    "kid_r": KID,
    "eph_r": st.none() | OCTETS_32,
    "gw": st.none() | NAMES,
    "procedure": st.integers(0, 3),
    "pn_id": st.none() | NAMES,
    "need_local": st.booleans(),
    "pan_secure": st.booleans(),
    "binding": st.none() | OCTETS_32,
    "electives_i": ELECTIVES,
    "electives_r": ELECTIVES,
}
TRANSCRIPTS = st.builds(Transcript, **FIELDS)
KEY = Secret(bytes(range(32)))
SS = bytes(32)
LOCAL = Secret(bytes(range(32, 64)))


def transcript(**changes: Any) -> Transcript:
    base: dict[str, Any] = {
        "profile": Profile.PNE_SERVER,
        "suite": 2,
        "responder": "server",
        "initiator": "pne-1",
        "rand_i": b"i" * 16,
        "kid_i": b"\x01",
        "eph_i": b"I" * 32,
        "rand_r": b"r" * 16,
        "kid_r": b"\x02",
        "eph_r": b"R" * 32,
        "gw": "gw-1",
        "procedure": 1,
        "pn_id": "pn-1",
        "need_local": True,
    }
    return Transcript(**{**base, **changes})


def run(
    t: Transcript, key: Secret = KEY, ss: bytes = SS, wrapped: bytes | None = None
) -> tuple[Schedule, Proofs, SessionKeys]:
    """Return schedule, proofs and session keys of one side."""
    schedule = Schedule(key, t.th0(), ss)
    proofs = schedule.proofs(t.rand_i, t.rand_r, wrapped)
    hash_i = proofs.hash_i()
    return schedule, proofs, proofs.session_keys(hash_i, proofs.hash_r(hash_i))


def test_every_field_of_the_transcript_is_tested() -> None:
    assert set(FIELDS) == {field.name for field in fields(Transcript)}


@pytest.mark.parametrize("name", FIELDS)
def test_changing_a_field_changes_th0_and_the_proofs(name: str) -> None:
    """Attacks 1, 2, 7, 9: whoever lies about a field, the hashes no longer fit."""

    @given(TRANSCRIPTS, FIELDS[name])
    def check(t: Transcript, value: Any) -> None:
        if value == getattr(t, name):
            return
        changed = replace(t, **{name: value})
        assert changed.th0() != t.th0()
        _schedule, honest, _keys = run(t)
        _schedule, lied, _keys = run(changed)
        with pytest.raises(AuthenticationFailed):
            honest.verify_i(lied.hash_i())
        with pytest.raises(AuthenticationFailed):
            honest.verify_r(honest.hash_i(), lied.hash_r(lied.hash_i()))

    check()


@given(TRANSCRIPTS, OCTETS_32, OCTETS_32, st.none() | st.binary(min_size=40, max_size=40))
def test_both_sides_get_the_same(t: Transcript, key: bytes, ss: bytes, wrapped: bytes | None) -> None:
    schedule_i, side_i, keys_i = run(t, Secret(key), ss, wrapped)
    schedule_r, side_r, keys_r = run(replace(t), Secret(key), ss, wrapped)
    hash_i = side_i.hash_i()
    side_r.verify_i(hash_i)
    side_i.verify_r(hash_i, side_r.hash_r(hash_i))
    assert hash_i != side_r.hash_r(hash_i)
    assert schedule_i.session_key == schedule_r.session_key
    assert keys_i.oscore_master_secret() == keys_r.oscore_master_secret()
    assert keys_i.oscore_master_salt() == keys_r.oscore_master_salt()
    assert keys_i.exporter() == keys_r.exporter()


def test_lengths() -> None:
    schedule, proofs, keys = run(transcript())
    assert len(schedule.th0) == len(proofs.th1) == len(keys.th2) == 32
    assert len(schedule.session_key) == len(schedule.wrap_key()) == 32
    assert len(schedule.wrap(LOCAL)) == 40
    assert len(proofs.hash_i()) == len(proofs.hash_r(proofs.hash_i())) == 16
    assert (len(keys.oscore_master_secret()), len(keys.oscore_master_salt()), len(keys.exporter())) == (32, 16, 32)


def test_no_two_keys_of_a_run_are_equal() -> None:
    schedule, proofs, keys = run(transcript())
    hash_i = proofs.hash_i()
    values = [
        schedule.session_key.reveal(),
        schedule.wrap_key().reveal(),
        *schedule.intermediate().values(),
        schedule.th0,
        proofs.th1,
        keys.th2,
        keys.oscore_master_secret().reveal(),
        keys.exporter().reveal(),
    ]
    assert len(set(values)) == len(values)
    assert len({hash_i, proofs.hash_r(hash_i), keys.oscore_master_salt()}) == 3


@pytest.mark.parametrize("wrapped", [None, bytes(40), b"\x01" + bytes(39)])
def test_w_is_in_th1_and_in_every_proof(wrapped: bytes | None) -> None:
    """Attacks 3 and 4: hash_I confirms the W that was delivered, or its absence."""
    delivered = b"\x02" + bytes(39)
    schedule, proofs, keys = run(transcript(), wrapped=wrapped)
    other_schedule, other, other_keys = run(transcript(), wrapped=delivered)
    assert proofs.th1 != other.th1
    assert schedule.session_key == other_schedule.session_key
    assert keys.exporter() != other_keys.exporter()
    with pytest.raises(AuthenticationFailed):
        proofs.verify_i(other.hash_i())


@pytest.mark.parametrize(
    ("key", "ss"), [(Secret(bytes(32)), SS), (KEY, b"\x01" * 32), (Secret(bytes(range(1, 33))), SS)]
)
def test_a_wrong_key_or_shared_secret_fails(key: Secret, ss: bytes) -> None:
    schedule, honest, _keys = run(transcript())
    other_schedule, wrong, _keys = run(transcript(), key, ss)
    assert schedule.session_key != other_schedule.session_key
    hash_i = honest.hash_i()
    with pytest.raises(AuthenticationFailed):
        honest.verify_i(wrong.hash_i())
    with pytest.raises(AuthenticationFailed):
        honest.verify_r(hash_i, wrong.hash_r(hash_i))
    with pytest.raises(AuthenticationFailed):
        other_schedule.unwrap(schedule.wrap(LOCAL))


@given(st.integers(0, 15), st.integers(1, 255))
def test_a_changed_hash_fails(at: int, change: int) -> None:
    _schedule, proofs, _keys = run(transcript())
    hash_i = proofs.hash_i()
    hash_r = proofs.hash_r(hash_i)
    changed = bytearray(hash_i), bytearray(hash_r)
    changed[0][at] ^= change
    changed[1][at] ^= change
    with pytest.raises(AuthenticationFailed):
        proofs.verify_i(bytes(changed[0]))
    with pytest.raises(AuthenticationFailed):
        proofs.verify_r(hash_i, bytes(changed[1]))
    with pytest.raises(AuthenticationFailed):
        proofs.verify_r(bytes(changed[0]), hash_r)


@pytest.mark.parametrize("wrong", [b"", bytes(15), bytes(17), bytes(16)])
def test_a_hash_of_another_length_fails(wrong: bytes) -> None:
    _schedule, proofs, _keys = run(transcript())
    with pytest.raises(AuthenticationFailed):
        proofs.verify_i(wrong)
    with pytest.raises(AuthenticationFailed):
        proofs.verify_i(proofs.hash_i() + b"0")
    with pytest.raises(AuthenticationFailed):
        proofs.verify_r(proofs.hash_i(), wrong)


def test_a_proof_does_not_serve_the_other_direction() -> None:
    """Attack 7, reflection."""
    _schedule, proofs, _keys = run(transcript())
    hash_i = proofs.hash_i()
    with pytest.raises(AuthenticationFailed):
        proofs.verify_r(hash_i, hash_i)
    with pytest.raises(AuthenticationFailed):
        proofs.verify_i(proofs.hash_r(hash_i))


def test_w_opens_in_its_own_run_alone() -> None:
    """Attacks 3, 4 and 5."""
    schedule, _proofs, _keys = run(transcript())
    wrapped = schedule.wrap(LOCAL)
    assert schedule.unwrap(wrapped) == LOCAL
    for changes in ({"rand_r": b"x" * 16}, {"rand_i": b"x" * 16}, {"initiator": "pne-2"}, {"gw": "gw-2"}):
        other, _proofs, _keys = run(transcript(**changes))
        with pytest.raises(AuthenticationFailed):
            other.unwrap(wrapped)


def test_session_keys_depend_on_both_proofs() -> None:
    _schedule, proofs, _keys = run(transcript())
    hash_i = proofs.hash_i()
    hash_r = proofs.hash_r(hash_i)
    exporters = [proofs.session_keys(*hashes).exporter() for hashes in ((hash_i, hash_r), (hash_r, hash_i))]
    assert exporters[0] != exporters[1]
