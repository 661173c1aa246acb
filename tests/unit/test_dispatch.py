"""The tables of handlers: each takes what is declared for its leg, and nothing else gets to anybody."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_type_hints

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings

from cpns.errors import AuthenticationFailed, Refused, Result, WireError
from cpns.transport.dispatch import TAKEN, Row, Table, on
from cpns.transport.errors import Answer, Code
from cpns.wire import codec
from cpns.wire import messages as m
from cpns.wire import pn_messages as pm
from cpns.wire.cm_messages import CmRotateNotify
from cpns.wire.declare import MESSAGES, Leg, Message, Party, taken_by
from tests.support.fuzz import Mutator
from tests.support.wire_strategies import messages
from tests.support.world import FAST, World, world

_SOME: dict[str, tuple[Message, ...]] = {}


def some(shape: type[Message]) -> tuple[Message, ...]:
    """Return a few messages of *shape*, the same each time."""
    if shape.__name__ in _SOME:
        return _SOME[shape.__name__]
    found: list[Message] = []

    @settings(max_examples=4, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(messages(shape))
    def draw(message: Message) -> None:
        found.append(message)

    draw()
    _SOME[shape.__name__] = tuple(found)
    return _SOME[shape.__name__]


class Taken:
    """A table of one leg whose handlers note what they get."""

    def __init__(self, leg: Leg) -> None:
        self.got: list[Message] = []
        self.table: Table[str] = Table(leg, *(self._row(one) for one in MESSAGES if leg in one.LEGS))

    def _row(self, shape: type[Message]) -> Row[str]:
        async def handler(asker: str, message: Message) -> Answer:
            assert asker == "who asks"
            assert type(message) is shape
            self.got.append(message)
            return TAKEN

        return on(shape, handler)

    async def of(self, body: bytes) -> Answer | None:
        return await self.table.take("who asks", body)


@pytest.mark.req("SES-6")
@pytest.mark.parametrize("leg", Leg)
async def test_a_table_takes_what_is_declared_for_its_leg(leg: Leg) -> None:
    """All messages there are, by each leg: what is declared gets to its handler; all else is refused, and how."""
    taken = Taken(leg)
    for message in (one for shape in MESSAGES for one in some(shape)):
        body = codec.encode(message)
        meant = understood(body, leg.receiver)
        taken.got.clear()
        if meant is not None and leg in type(meant).LEGS:
            assert await taken.of(body) == TAKEN
            assert taken.got == [meant]
            continue
        kind: type[Refused] = WireError if meant is None or leg.session is not None else AuthenticationFailed
        with pytest.raises(kind):
            await taken.of(body)
        assert taken.got == []


def understood(body: bytes, receiver: Party) -> Message | None:
    """Return what *body* is to *receiver*, by whichever leg; shapes of one type may look alike to others."""
    try:
        message: Message = codec.decode(body, *taken_by(receiver))
    except WireError:
        return None
    return message


@pytest.mark.parametrize("leg", Leg)
async def test_whatever_is_changed_gets_to_a_handler_of_its_own_or_to_none(leg: Leg) -> None:
    taken = Taken(leg)
    mutant = Mutator(leg.limit + len(leg.name), [codec.encode(one) for shape in MESSAGES for one in some(shape)])
    outcomes: set[type[object]] = set()
    for _ in range(2000):
        body = mutant()
        taken.got.clear()
        try:
            await taken.of(body)
        except Refused as error:
            outcomes.add(type(error))
            assert taken.got == []
        else:
            outcomes.add(Answer)
            assert [codec.without_electives(codec.encode(one)) for one in taken.got] == [codec.without_electives(body)]
    assert WireError in outcomes


async def test_a_body_is_as_long_as_its_leg_allows() -> None:
    for leg in Leg:
        with pytest.raises(WireError) as caught:
            await Taken(leg).of(bytes(leg.limit + 1))
        assert caught.value.result is Result.TOO_MANY


def test_a_row_that_is_missing_or_one_too_many_is_found_at_the_start() -> None:
    async def handler(asker: str, message: Any) -> Answer:
        return TAKEN

    rows = [on(one, handler) for one in taken_by(Party.SERVER) if Leg.UPLINK_TO_SERVER in one.LEGS]
    assert Table(Leg.UPLINK_TO_SERVER, *rows).handlers.keys() == {m.ActivateRequest, m.CmActivateRequest}
    for wrong in (rows[1:], [*rows, rows[0]], [*rows, on(m.SetupRequest, handler)]):
        with pytest.raises(TypeError, match="UPLINK_TO_SERVER"):
            Table(Leg.UPLINK_TO_SERVER, *wrong)


async def test_what_a_handler_returns_is_the_answer() -> None:
    said: list[Any] = [pm.LeaveResponse(0), TAKEN, None]

    async def handler(asker: str, message: Any) -> Any:
        return said.pop(0)

    table = Table(Leg.UPLINK_TO_GATEWAY, on(m.LinkChallengeFromServer, handler))
    body = codec.encode(some(m.LinkChallengeFromServer)[0])
    assert await table.take("", body) == Answer(Code.CHANGED, cbor2.dumps([36, {17: 0}]))
    assert [await table.take("", body) for _ in range(2)] == [TAKEN, None]


async def test_of_two_tables_the_rows_of_the_first_go_first() -> None:
    member, open_ = Taken(Leg.GATEWAY_TO_MEMBER), Taken(Leg.PAN_TO_PNE)
    both = member.table.beside(open_.table)
    for shape in both.handlers:
        await both.take("who asks", codec.encode(some(shape)[0]))
    assert {type(one) for one in member.got} == set(member.table.handlers)
    assert {type(one) for one in open_.got} == open_.table.handlers.keys() - member.table.handlers.keys()
    with pytest.raises(AuthenticationFailed):
        await both.take("who asks", codec.encode(some(CmRotateNotify)[0]))


# the tables of the roles


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as running:
        yield running


async def test_each_handler_takes_its_own_message(here: World) -> None:
    """By its annotation; mypy holds the rows to that. Each leg has one table, at its receiver."""
    server = await here.start_server()
    gateway = await here.start_gateway()
    pne = await here.joined_pne("alice", gateway, **FAST)
    tables: list[Table[Any]] = [
        *(server.from_pne, server.from_gateway, server.from_uplink),
        *(gateway.from_server, gateway.unproved_server, gateway.from_member, gateway.on_open_pan),
        *(pne.from_server, pne.from_own_gateway, pne.from_strangers),
    ]
    assert sorted(table.leg.name for table in tables) == sorted(leg.name for leg in Leg)
    for table in tables:
        for shape, handler in table.handlers.items():
            hints = [hint for name, hint in get_type_hints(handler).items() if name != "return"]
            assert hints[-1] is shape or "M" in str(hints[-1]), handler
