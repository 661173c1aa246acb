"""A reading is stored once; an ID that comes again with another body is refused, and the first body stays."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns.errors import Refused, Result
from cpns.ids import EntityId
from cpns.pne.app import Pne
from cpns.store.server_store import ServerStore
from cpns.wire import application
from tests.support.costs import counted
from tests.support.raw import result_of
from tests.support.world import World, world


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


async def device(here: World) -> Pne:
    await here.start_server()
    return await here.joined_pne("pne-1", await here.start_gateway())


async def stored(here: World) -> list[Any]:
    return [json.loads(one.body) for one in await here.store.readings(0, 9)]


@pytest.mark.parametrize("body", [{"n": 2}, {"n": "1"}, {"n": True}, {"n": 1.0}, {"n": 1, "m": None}, {}], ids=str)
async def test_an_id_with_another_body_is_refused(
    here: World, caplog: pytest.LogCaptureFixture, body: dict[str, Any]
) -> None:
    """Inside the session, with a result of its own; what comes after it is taken."""
    pne = await device(here)
    first = pne.next_reading({"n": 1})
    await pne.send(first)
    other = first._replace(body=body)
    with pytest.raises(Refused, match="reading_id_taken") as caught:
        await pne.send(other)
    assert caught.value.result is Result.EXISTS
    answer = await pne._way.exchange(application.READINGS_PATH, application.encode_reading(other))
    assert result_of(answer) == ("4.03", Result.EXISTS)
    assert f"pne-1 gave a second reading the ID {first.reading_id.hex()}" in caplog.text
    await pne.send(pne.next_reading(body))
    assert await stored(here) == [{"n": 1}, body]


async def test_a_repetition_is_stored_once(here: World) -> None:
    """Also where the device made its CBOR anew, with its keys in another order."""
    pne = await device(here)
    first = pne.next_reading({"a": 1, "b": {"x": [1, 2], "y": "1"}})
    again: tuple[dict[str, Any], ...] = (first.body, {"b": {"y": "1", "x": [1, 2]}, "a": 1})
    for body in again:
        await pne.send(first._replace(body=body))
    assert await stored(here) == [first.body]


async def test_two_devices_may_give_one_id(here: World) -> None:
    one = await device(here)
    two = await here.joined_pne("pne-2", here.gateways[0])
    reading = one.next_reading({"n": 1})
    await one.send(reading)
    await two.send(reading._replace(body={"n": 2}))
    assert await stored(here) == [{"n": 1}, {"n": 2}]


async def test_a_new_reading_costs_no_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored is looked at for an ID that is there already, and for no other."""
    with counted(monkeypatch) as costs:
        store = ServerStore.open(tmp_path / "server.db")
        try:
            row = EntityId("pne"), EntityId("gw"), bytes(12)
            costs.begin()
            assert await store.add_reading(*row, "{}", "e2e", 1.0) == "{}"
            assert costs.spent["SQL SELECT"] == 0
            assert await store.add_reading(*row, '{"n":1}', "e2e", 2.0) == "{}"
            assert costs.spent["SQL SELECT"] == 1
        finally:
            await store.close()
