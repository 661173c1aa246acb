"""A device that its gateway did not carry, and that is a guest elsewhere meanwhile: how it comes home."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cpns.domain.actor import OPERATOR
from cpns.errors import Refused
from cpns.gateway.app import Gateway
from cpns.ids import EntityId
from cpns.pne import loyalty, roam
from cpns.pne.app import Pne
from cpns.pne.config import Where
from cpns.pne.home_states import Settled
from cpns.transport import endpoint
from cpns.transport.errors import Answer, Code
from cpns.wire import application
from tests.integration.test_loyalty import QUICK, is_behind, settled, with_own_uplink
from tests.integration.test_roaming import Traffic, network_of, nothing_lost
from tests.support.tap import TcpTap
from tests.support.world import World, push_of, until, world


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(loyalty, "LOYALTY_SECONDS", 0.2)
    monkeypatch.setattr(roam, "RETURNS", (1.0, 0.5))
    async with world(tmp_path) as one:
        await one.start_server()
        yield one


class Neighbours:
    """Two gateways with a network each; watch is at home at the first, and knows both."""

    def __init__(self, first: Gateway, cable: TcpTap, second: Gateway, watch: Pne) -> None:
        self.first, self.cable, self.second, self.watch = first, cable, second, watch

    @classmethod
    async def move_in(cls, here: World, **options: Any) -> "Neighbours":
        first, cable = await with_own_uplink(here, "gw-1", uplink_patience=0.1)
        second = await here.start_gateway("gw-2")
        await here.joined_pne("resident", second)
        await here.joined_pne("brother", first)
        where = (here.pan(first), here.pan(second))
        return cls(first, cable, second, await settled(here, "watch", first, **{"gateways": where, **QUICK, **options}))

    async def cut(self) -> None:
        """The first has no uplink any more, and watch goes over to the second."""
        await self.cable.close()
        await until(lambda: is_behind(self.watch, "gw-2"))


async def guests(here: World, gateway: str) -> list[str]:
    return [one.pne_id for one in (await network_of(here, gateway)).members if one.guest]


@pytest.mark.req("FN-1", "FN-8", "DEF-3")
async def test_a_guest_comes_home_and_readings_go_on(here: World) -> None:
    there = await Neighbours.move_in(here)
    traffic = Traffic(there.watch, 0.05)
    await until(lambda: len(traffic.acknowledged) > 3)
    await there.cut()
    assert await guests(here, "gw-2") == ["watch"]
    before = len(traffic.acknowledged)
    await until(lambda: len(traffic.acknowledged) > before + 3)
    await there.cable.start()
    await until(lambda: is_behind(there.watch, "gw-1"))
    before = len(traffic.acknowledged)
    await until(lambda: len(traffic.acknowledged) > before + 3)
    await traffic.stop()
    await nothing_lost(here, traffic)
    assert await guests(here, "gw-2") == []
    assert not {one.pne_id for one in (await network_of(here, "gw-1")).members if one.guest}
    assert (
        await here.server.sending.send(EntityId("watch"), application.INBOX_PATH, push_of("home")) == "watch got home"
    )


async def test_it_stays_a_guest_while_its_home_has_no_uplink(here: World) -> None:
    """It sets up at home before it lets go: what fails there costs it nothing."""
    there = await Neighbours.move_in(here, timer=2.0)
    await there.cut()
    await until(lambda: not there.watch.is_joining)
    session, tried = there.watch._way.session, 0
    way_to = there.watch._finder.way_to

    async def counted(*arguments: Any) -> endpoint.Link:
        nonlocal tried
        tried += 1
        return await way_to(*arguments)

    there.watch._finder.way_to = counted  # type: ignore[assignment,method-assign]
    await until(lambda: tried >= 2, 60)
    assert there.watch._way.session is session
    await asyncio.wait_for(there.watch.send(there.watch.next_reading({"as": "guest"})), 40)


async def test_who_comes_home_by_itself_tries_no_more(here: World) -> None:
    """The uplink where it is a guest is away too: it looks elsewhere, and elsewhere is its home."""
    there = await Neighbours.move_in(here)
    await there.cut()
    there.watch._roaming._returning.cancel()  # type: ignore[union-attr]
    await there.cable.start()
    await there.first.uplink.wait(40)
    there.second._uplink_hint = lambda: Answer(Code.CHANGED, application.encode_away(60))  # type: ignore[method-assign]
    await until(lambda: is_behind(there.watch, "gw-1"))
    session = there.watch._way.session
    await asyncio.sleep(2.5)
    assert there.watch._way.session is session


def away(seconds: int) -> Callable[[], Answer]:
    """Return what a gateway says of its uplink."""
    return lambda: Answer(Code.CHANGED, application.encode_away(seconds))


async def goes_out_and_home(there: Neighbours) -> None:
    """Leave a home that lets everybody in, and says that it carries nobody; come back by itself."""
    there.first._uplink_hint = away(60)  # type: ignore[method-assign]
    await until(lambda: is_behind(there.watch, "gw-2"))
    there.first._uplink_hint = away(0)  # type: ignore[method-assign]
    await until(lambda: is_behind(there.watch, "gw-1"))
    await until(lambda: not there.watch.is_joining)


async def test_a_home_that_carries_for_a_moment_gets_its_guest_back_each_hour_only(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its guest would be in and out each five minutes for ever."""
    monkeypatch.setattr(roam, "RETURNS", (0.5, 1000.0))
    there = await Neighbours.move_in(here)
    await goes_out_and_home(there)
    there.first._uplink_hint = away(60)  # type: ignore[method-assign]
    await until(lambda: is_behind(there.watch, "gw-2"))
    there.first._uplink_hint = away(0)  # type: ignore[method-assign]
    await asyncio.sleep(2)
    assert is_behind(there.watch, "gw-2")


@pytest.mark.parametrize("what", ["carried it for an hour", "it was led to again"])
async def test_any_other_home_gets_its_guest_back_soon(here: World, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(roam, "RETURNS", (0.5, 1000.0))
    there = await Neighbours.move_in(here)
    await goes_out_and_home(there)
    if what == "carried it for an hour":
        home = there.watch._roaming.home
        assert isinstance(home.state, Settled)
        home.state = dataclasses.replace(home.state, back_at=here.now() - 1000.0)
    else:
        await there.watch.go(Where((here.pan(there.first), here.pan(there.second))))
    await goes_out_and_home(there)


@pytest.mark.parametrize("again", [True, False], ids=["led back", "led once"])
async def test_a_device_that_was_led_elsewhere_is_at_home_there(here: World, again: bool) -> None:
    there = await Neighbours.move_in(here)
    await there.watch.go(Where((here.pan(there.second), here.pan(there.first))))
    if again:
        await there.watch.go(Where((here.pan(there.first), here.pan(there.second))))
    session = there.watch._way.session
    await asyncio.sleep(2.5)
    assert there.watch._way.session is session
    assert is_behind(there.watch, "gw-1" if again else "gw-2")


async def test_a_device_that_could_not_be_led_elsewhere_still_comes_home(here: World) -> None:
    there = await Neighbours.move_in(here, timer=2.0)
    await there.cut()
    with pytest.raises(Refused):
        await there.watch.go(Where((("127.0.0.1", 9),)))
    await there.cable.start()
    await until(lambda: is_behind(there.watch, "gw-1"))


async def test_who_is_put_out_of_its_home_stays_where_it_is(here: World) -> None:
    """The server refuses it at home without a word, and says end to end that it is a guest of nobody."""
    there = await Neighbours.move_in(here)
    await there.cut()
    home = (await network_of(here, "gw-1")).network.pn_id
    await here.server.networks.actions.expel(home, OPERATOR, [EntityId("watch")])
    await there.cable.start()
    await there.first.uplink.wait(40)
    session = there.watch._way.session
    await there.watch.wake()
    await asyncio.sleep(2.5)
    assert there.watch._way.session is session
    assert is_behind(there.watch, "gw-2")


@pytest.mark.parametrize("older", [False, True], ids=["", "a server that says nothing"])
async def test_who_starts_while_its_home_is_away_is_told_where_it_is(
    here: World, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    """After a power cut the device may be there before its gateway is. An older server does not say so."""
    if older:
        monkeypatch.setattr(application, "encode_home", lambda home: b"")
    there = await Neighbours.move_in(here, timer=2.0)
    await there.cable.close()
    await here.stop(there.watch)
    again = await here.start_pne(
        "watch", there.first, gateways=there.watch.config.where.gateways, **{**QUICK, "timer": 2.0}
    )
    await until(lambda: is_behind(again, "gw-2"))
    assert await guests(here, "gw-2") == ["watch"]
    await there.cable.start()
    if older:
        await there.first.uplink.wait(40)
        await asyncio.sleep(2)
        assert is_behind(again, "gw-2")
    else:
        await until(lambda: is_behind(again, "gw-1"))


async def test_a_home_that_was_given_to_the_gateway_where_it_is_a_guest(here: World) -> None:
    there = await Neighbours.move_in(here)
    await there.cut()
    home = (await network_of(here, "gw-1")).network.pn_id
    await there.cable.start()
    await there.first.uplink.wait(40)
    await here.server.networks.actions.switch(home, EntityId("gw-2"), OPERATOR)
    await there.watch.wake()
    await until(lambda: there.watch.joined is not None and there.watch.joined.pn_id == home)
    assert is_behind(there.watch, "gw-2")


@pytest.mark.parametrize("led", ["to it alone", "into its network"])
async def test_who_is_told_where_to_go_is_at_home_there(here: World, led: str) -> None:
    there = await Neighbours.move_in(here)
    await here.stop(there.watch)
    to: dict[str, Any] = {"gateways": (here.pan(there.second),)}
    if led == "into its network":
        to["gateways"] += (here.pan(there.first),)
        to["join"] = (await network_of(here, "gw-2")).network.pn_id
    again = await settled(here, "watch", there.second, **{**QUICK, **to})
    session = again._way.session
    assert await guests(here, "gw-2") == ["watch"]
    await asyncio.sleep(2.5)
    assert again._way.session is session


async def test_a_herd_does_not_move_at_once(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits its own time, the least and twice as much: how long is drawn at random."""
    drawn = iter([1.0, 2.0])
    asked: list[tuple[float, float]] = []

    class Dice:
        @staticmethod
        def uniform(least: float, most: float) -> float:
            asked.append((least, most))
            return next(drawn, most)

    monkeypatch.setattr(loyalty, "LOYALTY_SECONDS", 1.5)
    there = await Neighbours.move_in(here)
    where = (here.pan(there.first), here.pan(there.second))
    lamp = await settled(here, "lamp", there.first, gateways=where, **QUICK)
    monkeypatch.setattr(loyalty, "jitter", Dice)
    began = here.now()
    await there.cable.close()
    await until(lambda: is_behind(there.watch, "gw-2") or is_behind(lamp, "gw-2"))
    assert here.now() - began >= 1.5
    await until(lambda: is_behind(there.watch, "gw-2") and is_behind(lamp, "gw-2"))
    assert here.now() - began >= 3.0
    assert set(asked) == {(1.0, 2.0)}
