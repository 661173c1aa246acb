"""Primitives, key agreement and key schedule against published and own known answers, and what must not agree."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpns.crypto import aead, cm, ephemeral, group, local_eukey
from cpns.crypto import primitives as p
from cpns.crypto.schedule import Profile
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed, Refused, Result
from cpns.ids import EntityId
from cpns.wire.registry import Procedure, Suite
from tests.vectors import check

VECTORS = sorted(
    path for path in (Path(__file__).parents[1] / "vectors").glob("*.json") if not path.name.startswith("wire-")
)
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in VECTORS
    for case in json.loads(path.read_text())["cases"]
]
unhex = bytes.fromhex

# Known answers of the protocol


@pytest.mark.parametrize("case", CASES)
def test_key_schedule_vector(case: dict[str, Any]) -> None:
    """Every intermediate value that the second implementation gave."""
    assert len(case["outputs"]) > 0
    assert check.check_schedule(case) == []


def test_every_kind_of_case_is_among_the_vectors() -> None:
    cases: list[Any] = [parameters.values[0] for parameters in CASES]
    seen = {next(name for name, _compute in check._KINDS if name in case["inputs"]) for case in cases}
    assert seen == {name for name, _compute in check._KINDS}


def planted(tmp_path: Path, name: str, change: Any) -> str:
    """Return the path of a copy of a vector file with a changed first case."""
    content = json.loads((VECTORS[0].parent / name).read_text())
    change(content["cases"][0])
    path = tmp_path / name
    path.write_text(json.dumps(content))
    return str(path)


def flip(case: dict[str, Any], *path: str) -> None:
    for step in path[:-1]:
        case = case[step]
    text = case[path[-1]]
    case[path[-1]] = text[:-1] + ("0" if text[-1] != "0" else "1")


def test_make_vectors_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main([]) == 0
    assert "FAIL" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("key-schedule-1.json", lambda case: flip(case, "outputs", "hash_r")),
        ("key-schedule-1.json", lambda case: flip(case, "outputs", "th0")),
        ("key-schedule-1.json", lambda case: flip(case, "inputs", "rand_i")),
        ("key-schedule-1.json", lambda case: case["outputs"].update(more="00")),
        ("key-schedule-1.json", lambda case: case.update(inputs={})),
        ("key-schedule-3.json", lambda case: flip(case, "inputs", "eph_i")),
        ("key-schedule-3.json", lambda case: flip(case, "inputs", "eph_r")),
        ("groups-1.json", lambda case: flip(case, "outputs", "signature")),
        ("groups-1.json", lambda case: case["outputs"]["cover"].reverse()),
        ("credentials-1.json", lambda case: flip(case, "outputs", "check")),
        ("wire-1.json", lambda case: flip(case, "encoded")),
        ("wire-1.json", lambda case: case["body"].update({"2": "pne-9"})),
        ("wire-1.json", lambda case: case.update(type=2)),
        ("wire-1.json", lambda case: case.update(encoded="8208a1181115")),
    ],
)
def test_make_vectors_finds_a_planted_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, change: Any
) -> None:
    assert check.main([planted(tmp_path, name, change)]) == 1
    out = capsys.readouterr().out
    assert "FAIL: 1 case(s) differ" in out


# Published known answers


@pytest.mark.parametrize(
    ("ikm", "salt", "info", "prk", "okm"),
    [
        pytest.param(
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            id="A.1",
        ),
        pytest.param(
            bytes(range(0x00, 0x50)).hex(),
            bytes(range(0x60, 0xB0)).hex(),
            bytes(range(0xB0, 0x100)).hex(),
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8"
            "367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
            id="A.2",
        ),
        pytest.param(
            "0b" * 22,
            "",
            "",
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
            id="A.3",
        ),
    ],
)
def test_hkdf_rfc5869(ikm: str, salt: str, info: str, prk: str, okm: str) -> None:
    assert p.extract(unhex(salt), unhex(ikm)).hex() == prk
    assert p.expand(unhex(prk), unhex(info), len(okm) // 2).hex() == okm


def test_key_wrap_rfc3394_4_6() -> None:
    kek = bytes(range(32))
    data = unhex("00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f")
    wrapped = unhex("28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21")
    assert p.wrap_key(kek, data) == wrapped
    assert p.unwrap_key(kek, wrapped) == data


ALICE = unhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
BOB = unhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")


def test_x25519_rfc7748_6_1() -> None:
    assert p.x25519_public(ALICE).hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert p.x25519_public(BOB).hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert p.x25519_shared(ALICE, p.x25519_public(BOB)).hex() == shared
    assert p.x25519_shared(BOB, p.x25519_public(ALICE)).hex() == shared


def test_x25519_rfc7748_5_2() -> None:
    scalar = unhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    point = unhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    shared = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert p.x25519_shared(scalar, point).hex() == shared


def test_hmac_rfc4231_2() -> None:
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert p.mac(b"Jefe", b"what do ya want for nothing?").hex() == expected
    assert p.mac16(b"Jefe", b"what do ya want for nothing?").hex() == expected[:32]


def test_sha256_of_abc() -> None:
    assert p.digest(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# Encoding


@given(st.binary(max_size=8), st.binary(min_size=1, max_size=8), st.binary(max_size=8))
def test_enc_keeps_its_parts_apart(a: bytes, x: bytes, b: bytes) -> None:
    """Attack 14: moving bytes from one field to the next gives another input."""
    assert p.enc(a + x, b) != p.enc(a, x + b)
    assert p.enc(a, b) != p.enc(a + b)


def test_enc_is_deterministic_cbor_of_the_array() -> None:
    assert p.enc("cpns1 rand", b"\x01", None, True, 300).hex() == "856a63706e73312072616e644101f6f519012c"
    assert p.enc("a", Suite.X25519, Procedure.JOIN, Profile.PNE_GW.value) == p.enc("a", 2, 3, "pne-gw")
    assert p.enc(0) != p.enc(False) != p.enc(None)
    assert p.enc("a") != p.enc(b"a")


# Sealing and wrapping: another key, context or byte, and it does not open

KEY = bytes(range(32))


@pytest.mark.parametrize("size", [0, 8, 16, 39, 40, 41, 48])
def test_what_was_not_wrapped_does_not_open(size: int) -> None:
    with pytest.raises(AuthenticationFailed):
        p.unwrap_key(KEY, bytes(size))


@given(st.integers(0, 39), st.integers(1, 255))
def test_a_changed_wrapping_does_not_open(at: int, change: int) -> None:
    wrapped = bytearray(p.wrap_key(KEY, bytes(32)))
    wrapped[at] ^= change
    with pytest.raises(AuthenticationFailed):
        p.unwrap_key(KEY, bytes(wrapped))
    with pytest.raises(AuthenticationFailed):
        p.unwrap_key(bytes(32), p.wrap_key(KEY, bytes(32)))


@given(st.binary(max_size=40), st.integers(0, 200), st.integers(1, 255))
def test_sealed_data(plaintext: bytes, at: int, change: int) -> None:
    sealed = p.Box(KEY).seal(bytes(12), plaintext, b"row 1")
    assert p.Box(KEY).unseal(sealed, b"row 1") == plaintext
    changed = bytearray(sealed)
    changed[at % len(sealed)] ^= change
    for key, data, context in (
        (bytes(32), sealed, b"row 1"),
        (KEY, sealed, b"row 2"),
        (KEY, bytes(changed), b"row 1"),
        (KEY, sealed[:-1], b"row 1"),
        (KEY, sealed[:11], b"row 1"),
        (KEY, b"", b"row 1"),
    ):
        with pytest.raises(AuthenticationFailed):
            p.Box(key).unseal(data, context)


def test_argon2id_depends_on_all_it_is_given() -> None:
    base = p.stretch(b"pass", bytes(16), iterations=1, lanes=1, memory_kib=8)
    assert len(base) == 32
    assert p.stretch(b"pass", bytes(16), iterations=1, lanes=1, memory_kib=8) == base
    assert p.stretch(b"word", bytes(16), iterations=1, lanes=1, memory_kib=8) != base
    assert p.stretch(b"pass", bytes(15) + b"1", iterations=1, lanes=1, memory_kib=8) != base
    assert p.stretch(b"pass", bytes(16), iterations=2, lanes=1, memory_kib=8) != base


# Key agreement

SEED_I, SEED_R = bytes(range(96)), bytes(range(100, 196))
LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    unhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    unhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    unhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize(("suite", "size_i", "size_r"), [(1, None, None), (2, 32, 32), (3, 1216, 1120)])
def test_both_sides_agree(suite: int, size_i: int | None, size_r: int | None) -> None:
    own = ephemeral.initiate(suite, SEED_I)
    responder = ephemeral.Responder(SEED_R)
    ss, eph_r = responder.agree(suite, own.public)
    assert ephemeral.agree_as_initiator(own, eph_r) == ss
    assert [None if eph is None else len(eph) for eph in (own.public, eph_r)] == [size_i, size_r]
    assert len(ss) == (64 if suite == 3 else 32)
    assert (ss == bytes(32)) is (suite == 1)


def test_suite_3_is_the_mlkem_secret_then_the_x25519_secret() -> None:
    own = ephemeral.initiate(3, SEED_I)
    ss, eph_r = ephemeral.Responder(SEED_R).agree(3, own.public)
    x25519 = p.x25519_shared(SEED_I[:32], p.x25519_public(SEED_R[:32]))
    assert eph_r is not None
    assert ss == p.mlkem768_decapsulate(SEED_I[32:], eph_r[32:]) + x25519


def test_one_responder_serves_many_but_gives_each_its_own_secret() -> None:
    responder = ephemeral.Responder(SEED_R)
    first, eph_1 = responder.agree(2, ephemeral.initiate(2, SEED_I).public)
    second, eph_2 = responder.agree(2, ephemeral.initiate(2, SEED_R).public)
    assert first != second
    assert eph_1 == eph_2 == responder.x25519


def test_a_changed_ciphertext_gives_another_secret() -> None:
    own = ephemeral.initiate(3, SEED_I)
    ss, eph_r = ephemeral.Responder(SEED_R).agree(3, own.public)
    assert eph_r is not None
    changed = eph_r[:-1] + bytes([eph_r[-1] ^ 1])
    assert ephemeral.agree_as_initiator(own, changed) != ss


@pytest.mark.parametrize("point", LOW_ORDER)
@pytest.mark.parametrize("suite", [2, 3])
def test_a_point_that_gives_zero_is_refused(point: bytes, suite: int) -> None:
    own = ephemeral.initiate(suite, SEED_I)
    rest_i = (own.public or b"")[32:]
    with pytest.raises(AuthenticationFailed, match="bad_ephemeral_key"):
        ephemeral.Responder(SEED_R).agree(suite, point + rest_i)
    with pytest.raises(AuthenticationFailed, match="bad_ephemeral_key"):
        ephemeral.agree_as_initiator(own, point + bytes(1088 if suite == 3 else 0))


def test_an_encapsulation_key_out_of_range_is_refused() -> None:
    own = ephemeral.initiate(2, SEED_I).public or b""
    with pytest.raises(AuthenticationFailed, match="bad_ephemeral_key"):
        ephemeral.Responder(SEED_R).agree(3, own + b"\xff" * 1184)


@pytest.mark.parametrize("suite", [1, 2, 3])
@pytest.mark.parametrize("size", [None, 0, 31, 32, 33, 64, 1120, 1121, 1184, 1215, 1216, 1217])
def test_an_ephemeral_key_of_another_suite_is_refused(suite: int, size: int | None) -> None:
    """Nobody falls back: a size that is not the suite's is an error on both sides."""
    eph = None if size is None else bytes(size)
    if size != {1: None, 2: 32, 3: 1216}[suite]:
        with pytest.raises(AuthenticationFailed, match="does_not_fit_suite"):
            ephemeral.Responder(SEED_R).agree(suite, eph)
    if size != {1: None, 2: 32, 3: 1120}[suite]:
        with pytest.raises(AuthenticationFailed, match="does_not_fit_suite"):
            ephemeral.agree_as_initiator(ephemeral.initiate(suite, SEED_I), eph)


@pytest.mark.parametrize("suite", [0, 4, -1])
def test_an_unknown_suite_is_refused(suite: int) -> None:
    with pytest.raises(Refused) as caught:
        ephemeral.initiate(suite, SEED_I)
    assert caught.value.result is Result.SUITE_REFUSED
    with pytest.raises(AuthenticationFailed):
        ephemeral.Responder(SEED_R).agree(suite, bytes(1216))


# Derivations that bind their names


def test_gateway_copy_is_bound_to_session_run_and_gateway() -> None:
    prk = local_eukey.gateway_prk(Secret(KEY), Secret(bytes(32)))
    wrapped = local_eukey.GatewayWrap(prk).wrap(bytes(32), Secret(KEY))
    assert local_eukey.open_at_gateway(prk, bytes(32), wrapped) == Secret(KEY)
    for other, th0 in (
        (prk, KEY),
        (local_eukey.gateway_prk(Secret(bytes(32)), Secret(bytes(32))), bytes(32)),
        (local_eukey.gateway_prk(Secret(KEY), Secret(KEY)), bytes(32)),
    ):
        with pytest.raises(AuthenticationFailed):
            local_eukey.open_at_gateway(other, th0, wrapped)


def test_rand_server_depends_on_fresh_bytes_and_txn() -> None:
    given_ = [(KEY, bytes(32), bytes(8)), (bytes(32), bytes(32), bytes(8)), (KEY, KEY, bytes(8)), (KEY, bytes(32), KEY)]
    assert len({local_eukey.rand_server(Secret(key), fresh, txn) for key, fresh, txn in given_}) == 4
    assert len(local_eukey.rand_server(Secret(KEY), KEY, KEY)) == 16


def test_a_decoy_key_is_stable_and_differs_per_entity_and_server() -> None:
    prk = local_eukey.decoy_prk(Secret(KEY))
    one = local_eukey.decoy_key(prk, EntityId("pne-1"))
    assert one == local_eukey.decoy_key(prk, EntityId("pne-1"))
    assert one != local_eukey.decoy_key(prk, EntityId("pne-2"))
    assert one != local_eukey.decoy_key(local_eukey.decoy_prk(Secret(bytes(32))), EntityId("pne-1"))


def test_group_key_opens_for_its_node_epoch_group_and_gateway_alone() -> None:
    gw = EntityId("gw-1")
    node = group.node_key(Secret(KEY), "sg-1", gw, 5)
    wrapped = group.wrap_group_key(node, "sg-1", gw, 1, 5, Secret(KEY))
    assert group.open_group_key(node, "sg-1", gw, 1, 5, wrapped) == Secret(KEY)
    for sg, gateway, epoch, number in (
        ("sg-2", gw, 1, 5),
        ("sg-1", "gw-2", 1, 5),
        ("sg-1", gw, 2, 5),
        ("sg-1", gw, 1, 4),
    ):
        with pytest.raises(AuthenticationFailed):
            group.open_group_key(node, sg, EntityId(gateway), epoch, number, wrapped)


def test_cm_codes_differ_by_direction_and_name() -> None:
    """Attack 12: no code of the run is another one."""
    device, gw, server = EntityId("cm-1"), EntityId("gw-1"), EntityId("server")
    key = cm.cm_device_key(Secret(KEY), device, gw, server)
    confirm = cm.confirm_key(key, device, gw, server)
    rand = bytes(16)
    code_s = cm.code_server(confirm, rand, rand)
    hello = cm.code_hello(cm.hello_key(key, device, server), 2, server, device, rand, b"k", bytes(32))
    codes = [code_s, cm.code_gateway(confirm, rand, rand, code_s), hello]
    assert len(set(codes)) == 3
    assert cm.cm_device_key(Secret(KEY), EntityId("cm-2"), gw, server) != key
    assert cm.confirm_key(key, EntityId("cm-2"), gw, server) != confirm
    assert cm.cm_device_id(Secret(KEY), gw, server) != cm.cm_device_id(Secret(KEY), EntityId("gw-2"), server)
    assert len(cm.cm_device_id(Secret(KEY), gw, server)) == 27


def test_more_keys_than_stay_scheduled() -> None:
    keys = [aead.Ccm(number.to_bytes(aead.KEY_BYTES, "big")) for number in range(aead.SCHEDULED + 10)]
    nonce = bytes(aead.NONCE_BYTES)
    sealed = [key.seal(nonce, b"21.5", b"") for key in keys]
    assert len(set(sealed)) == len(keys)
    assert {key.unseal(nonce, one, b"") for key, one in zip(keys, sealed, strict=True)} == {b"21.5"}
