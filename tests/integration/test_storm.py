"""A reconnect storm: the server restarts under many PNEs, and all are back without help, in few SETUPs."""

import asyncio
from pathlib import Path

import pytest

from cpns.pne.app import Pne
from tests.support.world import world

GATEWAYS, PNES = 4, 80


@pytest.mark.req("AUTH-G1", "AUTH-0")
async def test_all_pnes_are_back_after_a_restart_of_the_server(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.start_server()
        gateways = [await here.start_gateway(f"gw-{number}") for number in range(GATEWAYS)]
        pnes = [await here.start_pne(f"pne-{number}", gateways[number % GATEWAYS]) for number in range(PNES)]
        async with asyncio.timeout(60):
            await asyncio.gather(*(pne.wait_established() for pne in pnes))
        await here.stop(here.server)
        here.passed.clear()
        begun = asyncio.get_running_loop().time()
        await here.start_server()

        async def send(pne: Pne) -> None:
            await pne.send(pne.next_reading({"back": True}))

        async with asyncio.timeout(60):
            await asyncio.gather(*(send(pne) for pne in pnes))
        took = asyncio.get_running_loop().time() - begun
        setups = sum(one.what == "SETUP Request" and one.session == "gw-server" for one in here.passed)
        print(f"{PNES} PNEs behind {GATEWAYS} gateways were back in {took:.1f} s with {setups} SETUP Requests")
        assert await here.store.last_reading_number() == PNES
        assert setups < PNES
