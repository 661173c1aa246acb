"""Hypothesis strategies for every message, entry and application payload of cpns.wire."""

import string
from typing import Any

from hypothesis import strategies as st

from cpns.wire.declare import MESSAGES, SHAPES
from cpns.wire.registry import MAX_ALIAS_BYTES

NAMES = st.text(string.ascii_letters + string.digits + "._:-", min_size=1, max_size=64)
_SUITES = st.integers(1, 3)
_PRINTABLE = st.characters(blacklist_categories=["C", "Z"], whitelist_characters=" ")
_ALIASES = st.text(_PRINTABLE, min_size=1, max_size=16).filter(
    lambda text: text.isprintable() and len(text.encode()) <= MAX_ALIAS_BYTES
)


def _octets(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


def _long_octets(size: int) -> st.SearchStrategy[bytes]:
    return _octets(8).map(lambda seed: (seed * (size // 8 + 1))[:size])


_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "suite": _SUITES,
    "entity-id": NAMES,
    "gateway-id": NAMES,
    "server-id": NAMES,
    "pn-id": NAMES,
    "rand": _octets(16),
    "kid": st.binary(min_size=1, max_size=7),
    "eph": st.one_of(_long_octets(32), _long_octets(32 + 1184), _long_octets(32 + 1088)),
    "need-local": st.booleans(),
    "pan-secure": st.booleans(),
    "procedure": st.integers(1, 3),
    "wrapped": _octets(40),
    "wrapped-gateway": _octets(40),
    "proof": _octets(16),
    "txn": _octets(8),
    "result": st.integers(0, 255),
    "setup-type": st.integers(1, 3),
    "invite": st.lists(NAMES, min_size=1, max_size=4).map(tuple),
    "alias": _ALIASES,
    "key-seed": _octets(32),
    "cm-device-id": NAMES,
    "cm-device-key": _octets(32),
    "members": st.lists(NAMES, max_size=4).map(tuple),
    "version": st.integers(0, 2**53),
    "change": st.integers(1, 9),
    "owner": NAMES,
    "presence": st.integers(1, 4),
    "age": st.integers(0, 2**32),
    "source": st.integers(1, 3),
    "mode": st.integers(1, 3),
    "after": NAMES,
    "more": st.booleans(),
    "addresses": st.lists(st.text("0123456789abcdef.:[]", min_size=1, max_size=20), max_size=4).map(tuple),
    "guest": st.booleans(),
    "sg-id": NAMES,
    "group-key": _octets(32),
    "tree": st.integers(1, 2**32),
    "node": st.integers(1, 2**16),
    "node-key": _octets(32),
    "verify-key": _octets(32),
    "signature": _octets(64),
    "seq": _octets(12),
    "sealed": st.binary(min_size=17, max_size=40),
    "run": st.integers(1, 2**32 - 1),
    "vouched": st.booleans(),
    "keep": st.integers(0, 7 * 86400),
    "count": st.integers(0, 2**32),
    "service": st.sampled_from(["music", "Straßenlärm", "x" * 64]),
    "policy": st.integers(1, 3),
    "keyword": st.sampled_from(["mus", "ä", "y" * 64]),
    "standing": st.integers(1, 4),
    "member-req": st.booleans(),
    "groups": st.lists(NAMES, max_size=4).map(tuple),
    "epoch": st.integers(1, 2**53),
    "generation": st.integers(1, 2**32),
    "networks": st.lists(NAMES, max_size=4).map(tuple),
}


def messages(shape: type[Any]) -> st.SearchStrategy[Any]:
    """Return valid messages (or entries) of *shape*, optional fields now there, now not."""
    arguments: dict[str, st.SearchStrategy[Any]] = {}
    for row in SHAPES[shape].rows:
        some = _VALUES[row.label.name] if row.entry is None else _some(row.entry)
        arguments[row.name] = some if row.required else st.none() | some
    return st.builds(shape, **arguments)


def _some(entry: type[Any]) -> st.SearchStrategy[Any]:
    return st.lists(messages(entry), min_size=1, max_size=3).map(tuple)


any_message: st.SearchStrategy[Any] = st.one_of([messages(shape) for shape in MESSAGES])

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
json_objects: st.SearchStrategy[Any] = st.dictionaries(st.text(max_size=8), json_values, max_size=4)
