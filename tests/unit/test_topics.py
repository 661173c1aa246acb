"""What processes say to each other: typed, named once, and understood by the version before and after."""

import inspect
from dataclasses import dataclass, fields
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpns.ids import EntityId, PnId
from cpns.ports import topics
from cpns.ports.topics import GatewayServes, MembersOut, Nothing, Out, Topic, WorkSeen
from cpns.service.spoken import Misunderstood, plain, understood

ALL = [one for _, one in sorted(vars(topics).items()) if isinstance(one, Topic)]
SHAPES = sorted({shape for one in ALL for shape in (one.question, one.answer)}, key=lambda shape: shape.__name__)


def carried(value: object) -> Any:
    """Return what comes out of the bus at the other end."""
    return cbor2.loads(cbor2.dumps(plain(value)))


def is_same(one: object, other: object) -> bool:
    """Whether they are equal; what is no number is not equal to itself."""
    return one == other or repr(one) == repr(other)


def test_each_thing_has_its_own_name() -> None:
    assert len(ALL) > 20
    assert len({one.name for one in ALL}) == len(ALL)


def test_every_type_in_the_file_is_used() -> None:
    said = "".join(inspect.getsource(shape) for shape in SHAPES)
    known = [one for _, one in inspect.getmembers(topics, inspect.isclass) if one.__module__ == topics.__name__]
    assert {one.__name__ for one in known if one not in SHAPES and one.__name__ not in said} == {"Topic"}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
@settings(max_examples=20)
@given(data=st.data())
def test_what_is_said_is_understood(shape: type, data: st.DataObject) -> None:
    said = data.draw(st.from_type(shape))
    assert is_same(understood(shape, carried(said)), said)
    more = {**carried(said), "of a later version": [1, {"x": None}]}
    assert is_same(understood(shape, more), said)
    for one in fields(shape):
        less = {name: value for name, value in carried(said).items() if name != one.name}
        try:
            found: object = understood(shape, less)
        except Misunderstood:
            assert one.default is not None or one.name in less  # it has none
        else:
            assert getattr(found, one.name) == one.default


@dataclass(frozen=True)
class Later:
    """`MembersOut` as a version after this one could have it."""

    pnes: tuple[EntityId, ...]
    told: Out | None = None
    why: str = "no reason"


def test_two_versions_understand_each_other() -> None:
    new = Later((EntityId("a"),), Out(PnId("pn-1"), 3, 4), "expelled")
    old = understood(MembersOut, carried(new))
    assert old == MembersOut((EntityId("a"),), Out(PnId("pn-1"), 3, 4))
    assert understood(Later, carried(old)) == Later(old.pnes, old.told)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (Nothing, None),
        (Nothing, []),
        (GatewayServes, {"gateway": "g", "pn_id": "p"}),
        (GatewayServes, {"gateway": "g", "pn_id": "p", "now": 1}),
        (GatewayServes, {"gateway": b"g", "pn_id": "p", "now": True}),
        (MembersOut, {"pnes": "abc"}),
        (MembersOut, {"pnes": [1]}),
        (MembersOut, {"pnes": [], "told": {"pn_id": "p"}}),
        (WorkSeen, {"process": "x", "sessions": 1, "gateways": [], "room": [1]}),
    ],
)
def test_what_is_something_else_is_refused(shape: type, said: object) -> None:
    with pytest.raises(Misunderstood):
        understood(shape, said)
