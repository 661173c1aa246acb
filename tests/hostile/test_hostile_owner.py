"""The first device behind a gateway is hostile: it shuts out nobody, as being first proves nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cpns.domain.actor import OPERATOR
from cpns.domain.inventory import Kind
from cpns.domain.membership import EXPEL_SECONDS
from cpns.errors import Result
from cpns.ids import EntityId
from cpns.wire import codec
from cpns.wire import pn_messages as pm
from tests.support.raw import ScriptedPne, ask
from tests.support.tap import body_of
from tests.support.world import SERVER, World, until, world

READINGS = 20


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        await one.start_server()
        yield one


async def says(here: World, gateway: object, mallory: ScriptedPne, message: codec.Message) -> Result:
    """Let *mallory* ask for something end to end; return what the server says to it."""
    link = await mallory.link(here.pan(gateway))  # type: ignore[arg-type]
    answer = await ask(link, message, session=mallory.sessions.with_peer(SERVER))
    return Result(body_of(answer.payload).result)


@pytest.mark.req("FN-8")
@pytest.mark.parametrize("pause", [0.2, 0.1])
async def test_all_readings_of_another_device_get_through(here: World, pause: float) -> None:
    """It releases the network again and again, and bars the others; it is told 22, and one EXPEL a minute is done."""
    gateway = await here.start_gateway()
    mallory = ScriptedPne("mallory", await here.provision(Kind.PNE, "mallory"))
    here.closes(mallory)
    joined = await mallory.join(here.pan(gateway))
    alice = await here.joined_pne("alice", gateway)
    told: list[Result] = []

    async def attack() -> None:
        for message in (pm.ReleaseRequest(joined.pn_id), pm.ExpelRequest(joined.pn_id, (EntityId("alice"),))):
            told.append(await says(here, gateway, mallory, message))

    async def attacks() -> None:
        while True:
            await attack()
            await asyncio.sleep(pause)

    attacking = asyncio.create_task(attacks())
    for number in range(READINGS):
        await alice.send(alice.next_reading({"n": number}))
        await asyncio.sleep(pause)
    attacking.cancel()
    await asyncio.gather(attacking, return_exceptions=True)
    stored = await here.store.readings(0, 100)
    assert [one.body for one in stored] == [f'{{"n":{number}}}' for number in range(READINGS)]
    assert len(told) >= READINGS
    away = {Result.NOT_A_MEMBER}  # while alice, that was put out, comes back
    assert set(told) - away == {Result.NOT_ALLOWED, Result.SUCCESS, Result.TOO_MANY}
    assert told.count(Result.SUCCESS) == 1
    assert len(await here.audit("alice", "expelled")) == 1
    (pn,) = await here.store.networks()
    assert (pn.network.pn_id, pn.network.owner, pn.first) == (joined.pn_id, None, "mallory")
    assert dict(pn.listed) == {}  # nobody is barred
    assert EXPEL_SECONDS >= 60


@pytest.mark.req("FN-8")
async def test_one_that_may_own_takes_over(here: World) -> None:
    """From then on the first device has a member's rights alone, and the owner puts it out for good."""
    gateway = await here.start_gateway()
    mallory = ScriptedPne("mallory", await here.provision(Kind.PNE, "mallory"))
    here.closes(mallory)
    joined = await mallory.join(here.pan(gateway))
    await here.provision(Kind.PNE, "alice", may_own=True)
    alice = await here.joined_pne("alice", gateway)
    (pn,) = await here.store.networks()
    assert (pn.network.owner, pn.first) == ("alice", None)
    assert await says(here, gateway, mallory, pm.ExpelRequest(joined.pn_id, (EntityId("alice"),))) == 22
    copies = gateway.networks.copies
    await until(lambda: joined.pn_id in copies and copies[joined.pn_id].owner == "alice")  # it is asked for
    await alice.network.expel([EntityId("mallory")])
    (pn,) = await here.store.networks()
    assert dict(pn.listed) == {"mallory": "barred"}
    assert [row.event for row in await here.store.audit(EntityId("alice"), 9)].count("pn_owned") == 1


@pytest.mark.req("FN-8")
async def test_one_that_the_operator_names_takes_over(here: World) -> None:
    gateway = await here.start_gateway()
    await here.joined_pne("mallory", gateway)
    alice = await here.joined_pne("alice", gateway)
    assert alice.joined is not None
    await here.server.networks.actions.update(
        alice.joined.pn_id, OPERATOR, policy=None, alias=None, owner=EntityId("alice")
    )
    await alice.network.expel([EntityId("mallory")])
    (pn,) = await here.store.networks()
    assert dict(pn.listed) == {"mallory": "barred"}
