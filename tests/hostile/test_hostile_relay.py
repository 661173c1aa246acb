"""A registered PN GW that meddles with what it relays between PNE and server, both ways, over real sockets (SES-3).

It may keep a message back; it can't change, repeat, reorder into another meaning, or make one up.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cpns.errors import NoAnswer, Unavailable
from cpns.transport.errors import UNIFORM_REFUSAL, Code, Hinted
from cpns.transport.relay import Sealed
from cpns.wire import application
from tests.support.hostile_gateway import Seal, flip
from tests.support.stage import stage, unharmed
from tests.support.tap import settled
from tests.support.world import SERVER, World, push_of, until, world

pytestmark = pytest.mark.req("SES-3")
Change = Callable[[Sealed], Sealed]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


CHANGES: dict[str, Change] = {
    "payload changed": lambda sealed: replace(sealed, payload=flip(sealed.payload[:-8]) + sealed.payload[-8:]),  # type: ignore[operator]
    "tag changed": lambda sealed: replace(sealed, payload=flip(sealed.payload) or b""),
    "payload cut": lambda sealed: replace(sealed, payload=sealed.payload[:-1]),
    "payload longer": lambda sealed: replace(sealed, payload=sealed.payload + b"\0"),
    "payload gone": lambda sealed: replace(sealed, payload=b""),
    "sequence number changed": lambda sealed: replace(sealed, oscore=next_number(sealed.oscore)),
    "option cut": lambda sealed: replace(sealed, oscore=(sealed.oscore or b"")[:-1]),
    "option gone": lambda sealed: replace(sealed, oscore=None),
}
FORGED: dict[str, Sealed] = {
    "success": Sealed(Code.CHANGED, None, b""),
    "success with a body": Sealed(Code.CHANGED, None, application.encode_text("opened")),
    "success, sealed by nobody": Sealed(Code.CHANGED, b"", bytes(20)),
    "refusal": Sealed(Code.UNAUTHORIZED, None, UNIFORM_REFUSAL.payload),
}


def next_number(option: bytes | None) -> bytes | None:
    """Return a request's option with its Partial IV one higher; an answer's, which has none, with one."""
    if not option:
        return b"\x01\x07"
    return option[:1] + bytes([option[1] ^ 1]) + option[2:]


def once(way: bool, to: str, change: Change) -> Seal:
    """Change the next request (True) or answer of an exchange that goes *to* somebody, and let all others pass."""
    done: list[Sealed] = []

    def seal(request: bool, destination: str, sealed: Sealed) -> Sealed:
        if request is not way or destination != to or done:
            return sealed
        done.append(sealed)
        return change(sealed)

    return seal


def each(way: bool, to: str, change: Change) -> Seal:
    """Change every such one."""
    return lambda request, destination, sealed: change(sealed) if (request, destination) == (way, to) else sealed


async def bodies(here: World, name: str) -> list[str]:
    return [one.body for one in await here.store.readings(0, 1000) if one.pne_id == name]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_reading_changed_on_its_way_up(here: World, change: str) -> None:
    """Refused by the server (or the relay), stored as sent and once when the PNE repeats it."""
    evil, bob = await stage(here)
    alice = await here.start_pne("alice", evil)
    await settled(alice)
    session = alice.sessions.with_peer(SERVER)
    evil.seal = once(True, SERVER, CHANGES[change])
    reading = alice.next_reading({"t": 21})
    with pytest.raises(Hinted) as ended:
        await alice._way.exchange("readings", application.encode_reading(reading))
    assert ended.value.answer == UNIFORM_REFUSAL
    assert await bodies(here, "alice") == []
    await alice.send(reading)
    assert await bodies(here, "alice") == ['{"t":21}']
    assert alice.sessions.with_peer(SERVER) is session
    await unharmed(here, bob)


@pytest.mark.parametrize("change", [change for change in CHANGES if change != "option cut"])
async def test_an_acknowledgement_changed_on_its_way_down(here: World, change: str) -> None:
    """The PNE does not take it for one, sends again, and the reading is stored once."""
    evil, bob = await stage(here)
    alice = await here.start_pne("alice", evil, request_timeout=0.5)
    await settled(alice)
    evil.seal = once(False, SERVER, CHANGES[change])
    reading = alice.next_reading({"t": 21})
    with pytest.raises(NoAnswer):
        await alice._way.exchange("readings", application.encode_reading(reading))
    await alice.send(reading)
    assert await bodies(here, "alice") == ['{"t":21}']
    await unharmed(here, bob)


@pytest.mark.parametrize("answer", FORGED)
async def test_an_acknowledgement_made_up(here: World, answer: str) -> None:
    """The gateway swallows the reading and says "stored" itself: the PNE does not believe it."""
    evil, bob = await stage(here)
    alice = await here.start_pne("alice", evil, request_timeout=0.5)
    await settled(alice)
    reading = alice.next_reading({"t": 21})

    class Swallows:
        async def carry(self, destination: str, sealed: Sealed) -> Sealed:
            return FORGED[answer]

    relay = evil.pans[0].endpoint._relay
    assert relay is not None
    route, relay._route = relay._route, lambda destination: Swallows()
    with pytest.raises(NoAnswer):
        await alice._way.exchange("readings", application.encode_reading(reading))
    assert await bodies(here, "alice") == []
    relay._route = route
    async with asyncio.timeout(40):
        await alice.send(reading)
    assert await bodies(here, "alice") == ['{"t":21}']
    await unharmed(here, bob)


@pytest.mark.parametrize("change", [change for change in CHANGES if change not in ("option cut", "option gone")])
@pytest.mark.parametrize("way", ["request", "answer"])
async def test_a_push_changed_on_its_way(here: World, change: str, way: str) -> None:
    """The device's application sees nothing, or the operator no answer; the next push arrives."""
    evil, bob = await stage(here)
    alice = await here.start_pne("alice", evil)
    await settled(alice)
    evil.seal = each(way == "request", "alice", CHANGES[change])  # not the first alone: that may be another than ours
    push = here.server.sending.send(alice.config.pne_id, "inbox", push_of("open the door"))
    if way == "request":
        with pytest.raises(Unavailable, match=r"4\.01"):
            await push
        assert here.inboxes["alice"] == []
    else:
        pushing = asyncio.ensure_future(push)
        await until(lambda: here.inboxes["alice"] == ["open the door"])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pushing, 0.6)
    evil.seal = None
    assert await here.server.sending.send(alice.config.pne_id, "ping", b"") == "here"
    await unharmed(here, bob)


@pytest.mark.parametrize("up", [True, False], ids=["readings", "pushes"])
async def test_a_message_repeated(here: World, up: bool) -> None:
    """The gateway sends every sealed request twice: the second is refused, and nothing happens twice."""
    evil, bob = await stage(here)
    alice = await here.start_pne("alice", evil)
    await settled(alice)
    relay = (evil.pans[0].endpoint if up else evil._upward)._relay
    assert relay is not None
    route = relay._route
    second: list[Sealed] = []

    class Twice:
        def __init__(self, carrier: object) -> None:
            self.carrier = carrier

        async def carry(self, destination: str, sealed: Sealed) -> Sealed:
            answer: Sealed = await self.carrier.carry(destination, sealed)  # type: ignore[attr-defined]
            second.append(await self.carrier.carry(destination, sealed))  # type: ignore[attr-defined]
            return answer

    relay._route = lambda destination: Twice(route(destination))
    if up:
        await alice.send(alice.next_reading({"t": 1}))
        assert await bodies(here, "alice") == ['{"t":1}']
    else:
        await here.server.sending.send(alice.config.pne_id, "inbox", push_of("once"))
        assert here.inboxes["alice"] == ["once"]
    assert second
    assert {(one.code, one.oscore, one.payload) for one in second} == {
        (Code.UNAUTHORIZED, None, UNIFORM_REFUSAL.payload)
    }
    relay._route = route
    await unharmed(here, bob)


async def test_readings_reordered(here: World) -> None:
    """Held back and let go in reverse order: each is stored once, as it was sent (the window is 32 wide)."""
    evil, bob = await stage(here)
    alice = await here.start_pne("alice", evil)
    await settled(alice)
    relay = evil.pans[0].endpoint._relay
    assert relay is not None
    route = relay._route
    held: list[asyncio.Event] = []

    class Held:
        async def carry(self, destination: str, sealed: Sealed) -> Sealed:
            gate = asyncio.Event()
            held.append(gate)
            if len(held) == 8:
                for other in reversed(held):
                    other.set()
                    await asyncio.sleep(0.02)
            await gate.wait()
            carrier = route(destination)
            assert carrier is not None
            return await carrier.carry(destination, sealed)

    relay._route = lambda destination: Held()
    link, end = alice._way.link, alice.sessions.with_peer(SERVER)
    assert link is not None
    readings = [application.encode_reading(alice.next_reading({"n": number})) for number in range(8)]
    answers = await asyncio.gather(
        *(link.request("readings", one, timeout=5, session=end, accept=lambda a: a) for one in readings)
    )
    assert {answer.code for answer in answers} == {Code.CHANGED}
    got = await bodies(here, "alice")
    assert sorted(got) == [f'{{"n":{number}}}' for number in range(8)]
    assert got != sorted(got)
    relay._route = route
    await unharmed(here, bob)


async def test_acknowledgements_swapped(here: World) -> None:
    """The answer to one reading given to another: it opens for its own request alone."""
    evil, bob = await stage(here)
    alice = await here.start_pne("alice", evil, request_timeout=0.5)
    await settled(alice)
    answers: list[Sealed] = []

    def late(request: bool, destination: str, sealed: Sealed) -> Sealed:
        if request:
            return sealed
        answers.append(sealed)
        return answers[-2] if len(answers) > 1 else sealed

    evil.seal = late
    for number in range(2):
        reading = application.encode_reading(alice.next_reading({"n": number}))
        if number:
            with pytest.raises(NoAnswer):
                await alice._way.exchange("readings", reading)
        else:
            assert (await alice._way.exchange("readings", reading)).ok
    assert len(await bodies(here, "alice")) == 2
    evil.seal = None
    await unharmed(here, bob)


@pytest.mark.parametrize("other", ["bob", "evil", "nobody"])
async def test_a_reading_delivered_to_another(here: World, other: str) -> None:
    """A sealed push for alice delivered to bob: bob refuses; the relay knows no way to strangers."""
    evil, bob = await stage(here)
    alice = await here.start_pne("alice", evil)
    await settled(alice)
    relay = evil._upward._relay
    assert relay is not None
    route = relay._route
    relay._route = lambda destination: route(other)
    with pytest.raises(Unavailable):
        await here.server.sending.send(alice.config.pne_id, "inbox", push_of("for alice"))
    assert here.inboxes == {"alice": [], "bob": []}
    relay._route = route
    await unharmed(here, bob)
