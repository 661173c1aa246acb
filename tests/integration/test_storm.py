"""Reconnect storms: the server is gone and comes again under many PNEs, and all are back in few SETUPs."""

import asyncio
from pathlib import Path

import pytest

from cpns.pne.app import Pne
from tests.support.storm import Back, storm
from tests.support.world import world

GATEWAYS, FEW, MANY = 10, 5, 50
SENDING_GATEWAYS, SENDING = 4, 80


async def struck(folder: Path, each: int) -> Back:
    """Return what it took to have all back after the end of the server, each PNE with a session that serves."""
    folder.mkdir()
    async with storm(folder, GATEWAYS, each) as one:
        back = await one.strike()
        assert await one.read() == GATEWAYS * each
    return back


@pytest.mark.long
@pytest.mark.req("AUTH-G1", "AUTH-0", "FN-1")
async def test_the_uplink_of_a_storm_grows_with_gateways_and_not_with_pnes(tmp_path: Path) -> None:
    few = await struck(tmp_path / "few", FEW)
    many = await struck(tmp_path / "many", MANY)
    print(f"\n{few}\n{many}")
    for back in (few, many):
        assert back.messages == 2 * back.sent.total(), "what the tap saw is what the PN GWs sent, and was answered"
        assert GATEWAYS <= back.setups < 3 * GATEWAYS
    assert many.pnes == 500
    assert many.per_gateway < 1.6 * few.per_gateway


@pytest.mark.req("AUTH-G1", "AUTH-0", "FN-1")
async def test_pnes_that_send_while_the_server_is_away_are_back_in_few_setups(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.start_server()
        gateways = [await here.start_gateway(f"gw-{number}") for number in range(SENDING_GATEWAYS)]
        pnes = [await here.start_pne(f"pne-{number}", gateways[number % len(gateways)]) for number in range(SENDING)]
        async with asyncio.timeout(200):
            await asyncio.gather(*(pne.wait_established() for pne in pnes))
        await here.stop(here.server)
        here.passed.clear()

        async def send(pne: Pne) -> None:
            await pne.send(pne.next_reading({"back": True}))

        async with asyncio.timeout(200), asyncio.TaskGroup() as sending:
            for pne in pnes:
                sending.create_task(send(pne))
            await asyncio.sleep(0)  # they have begun
            begun = asyncio.get_running_loop().time()
            await here.start_server()
        took = asyncio.get_running_loop().time() - begun
        setups = sum(one.what == "SETUP Request" and one.session == "gw-server" for one in here.passed)
        print(f"\n{SENDING} PNEs that send, behind {len(gateways)} gateways: {took:.1f} s, {setups} SETUP Requests")
        assert await here.store.last_reading_number() == SENDING
        assert setups < SENDING / 2
