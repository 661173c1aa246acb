"""Who is asked together with others: silent peers are waited for once, and until they are heard again."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from cpns.ids import EntityId
from cpns.service import patience
from cpns.service.patience import MAX_UNDER_WAY, Patience
from tests.support.world import until

ANN, BEN = EntityId("ann"), EntityId("ben")
SECONDS = 0.5


class Peers:
    """Ann answers at once, Ben when he is told to."""

    def __init__(self) -> None:
        self.signs: dict[EntityId, int] = {ANN: 0, BEN: 0}
        self.patience: Patience[str] = Patience(SECONDS, self.signs.get)
        self.asked: list[EntityId] = []
        self.speaks = asyncio.Event()

    async def ask(self) -> dict[EntityId, str]:
        return await self.patience.ask({ANN: self._ann, BEN: self._ben})

    async def _ann(self) -> str:
        return "here"

    async def _ben(self) -> str:
        self.asked.append(BEN)
        await self.speaks.wait()
        return "here too"


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    one = Peers()
    yield one
    await one.patience.close()


async def test_who_is_there_is_waited_for(peers: Peers) -> None:
    asyncio.get_running_loop().call_later(SECONDS / 50, peers.speaks.set)
    assert await peers.ask() == {ANN: "here", BEN: "here too"}
    assert await peers.patience.ask({}) == {}


async def test_who_is_silent_is_waited_for_once(peers: Peers) -> None:
    """And asked again and again, within bounds."""
    async with asyncio.timeout(100 * SECONDS / 2):
        for _ in range(100):
            assert await peers.ask() == {ANN: "here"}
    assert len(peers.asked) == MAX_UNDER_WAY


@pytest.mark.parametrize("how", ["answers", "is heard in another way"])
async def test_who_was_silent_is_waited_for_when_it_is_there_again(peers: Peers, how: str) -> None:
    assert await peers.ask() == {ANN: "here"}
    assert await peers.ask() == {ANN: "here"}
    if how == "answers":
        peers.speaks.set()
        await peers.ask()  # whether this is waited for depends on what came before
        await asyncio.sleep(SECONDS / 50)
    else:
        peers.signs[BEN] += 1
    peers.speaks.clear()
    asking = asyncio.create_task(peers.ask())
    await asyncio.sleep(0)
    assert not asking.done()
    await asyncio.sleep(0.01)
    assert not asking.done()
    peers.speaks.set()
    assert await asking == {ANN: "here", BEN: "here too"}


async def test_a_sign_of_life_without_an_answer_is_believed_once(peers: Peers) -> None:
    """Else who answers just late, and says between that it is there, would hold up each message for all."""
    waits = 0
    for _ in range(5):
        asking = asyncio.create_task(peers.ask())
        await asyncio.sleep(SECONDS / 50)
        waits += not asking.done()
        assert await asking == {ANN: "here"}
        peers.signs[BEN] += 1
    assert waits == 2
    peers.speaks.set()
    await peers.ask()
    await until(lambda: BEN not in peers.patience._silent)
    peers.speaks.clear()
    asking = asyncio.create_task(peers.ask())
    await asyncio.sleep(SECONDS / 50)
    assert not asking.done()
    peers.speaks.set()
    assert await asking == {ANN: "here", BEN: "here too"}


async def test_silent_peers_that_are_known_are_bounded(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "MAX_SILENT", 3)
    monkeypatch.setattr(peers.patience, "_seconds", 0.01)
    for number in range(5):
        await peers.patience.ask({EntityId(f"ben-{number}"): peers._ben})
    assert [*peers.patience._silent] == ["ben-2", "ben-3", "ben-4"]
