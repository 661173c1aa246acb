"""Members of groups that are silent, over real sockets: nobody else waits for them, and what is said is kept (FN-7)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns.domain.actor import OPERATOR
from cpns.gateway.app import Gateway
from cpns.ids import SgId
from cpns.pne.app import Pne
from cpns.pne.group_messages import Reached
from tests.support.groups import all_have, group_of
from tests.support.world import FAST, World, until, world

SILENT: Any = {"answer_timeout": 60.0}
"""A gateway that asks a silent member for a minute: whoever waits for that waits too long for these tests."""
SOON = 15.0


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("cpns.pne.groups.CATCH_UP_PAUSES", (0.3, 1.0))
    monkeypatch.setattr("cpns.gateway.group_messages.PATIENCE", 0.5)
    monkeypatch.setattr("cpns.server.messages.delivery.KEPT_SECONDS", 1.0)
    async with world(tmp_path) as one:
        await one.start_server()
        yield one


async def two_networks(here: World, **options: Any) -> tuple[SgId, dict[str, Pne], list[Gateway]]:
    """Return a group of three behind each of two PN GWs."""
    gateways = [await here.start_gateway(name, **SILENT) for name in ("gw-1", "gw-2")]
    sg_id, pnes = await group_of(here, 3, gateways[0], **options)
    far = [await here.joined_pne(f"far-{number}", gateways[1], **FAST) for number in range(3)]
    await asyncio.gather(*(pne.groups.join(sg_id) for pne in far))
    pnes += far
    await all_have(here, sg_id, *pnes)
    return sg_id, {pne.config.pne_id: pne for pne in pnes}, gateways


async def say(pne: Pne, sg_id: SgId, text: str) -> Reached | None:
    async with asyncio.timeout(SOON):
        return await pne.messages.send(sg_id, text)


def texts(here: World, name: str) -> list[str | None]:
    return [one.text for one in here.said[name]]


def never(*_: object) -> "asyncio.Future[Any]":
    """Whoever awaits it waits for ever."""
    return asyncio.get_running_loop().create_future()


async def all_hear(here: World, said: list[str], *names: str) -> None:
    await until(lambda: all(sorted(map(str, texts(here, name))) == sorted(said) for name in names), SOON)


@pytest.mark.req("FN-7")
async def test_a_sender_is_told_how_many_have_it(here: World) -> None:
    sg_id, pnes, _ = await two_networks(here)
    reached = await say(pnes["pne-0"], sg_id, "hello")
    assert reached is not None
    assert (reached.have, reached.missed, reached.kept) == (5, 0, True)
    await here.server.groups.actions.update(sg_id, OPERATOR, None, 0)
    await until(lambda: pnes["pne-0"].groups.views[sg_id].keep == 0)
    reached = await say(pnes["pne-0"], sg_id, "hello again")
    assert reached is not None
    assert (reached.have, reached.missed, reached.kept) == (5, 0, False)


@pytest.mark.req("FN-7", "FN-1")
@pytest.mark.parametrize("vouched", [False, True], ids=["signed", "vouched"])
async def test_a_text_waits_for_no_member_that_died(here: World, vouched: bool) -> None:
    """One behind each of two PN GWs, each asked for a minute. Each text is kept for them, and comes in order."""
    sg_id, pnes, gateways = await two_networks(here, vouched=vouched)
    for name in ("pne-2", "far-2"):
        await here.stop(pnes[name])
    said = [f"text {number}" for number in range(20)]
    reached = [await say(pnes["pne-0"], sg_id, text) for text in said]
    await all_hear(here, said, "pne-1", "far-0", "far-1")
    assert all(one is not None and one.have + one.missed == 5 and one.kept for one in reached)
    assert max(one.have for one in reached if one is not None) == 3
    assert set(await here.store.awaiting_group_messages()) >= {"pne-2", "far-2"}
    for name, gateway in (("pne-2", gateways[0]), ("far-2", gateways[1])):
        await here.joined_pne(name, gateway, **FAST)
    await until(lambda: all(texts(here, name) == said for name in ("pne-2", "far-2")), SOON)


@pytest.mark.req("FN-7", "FN-1")
async def test_a_text_waits_for_no_gateway_that_is_silent(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection stands, and it relays; whoever is behind it gets each text from the server, end to end."""
    monkeypatch.setattr("cpns.server.messages.delivery.HAND_ON_SECONDS", 60.0)
    sg_id, pnes, gateways = await two_networks(here)
    monkeypatch.setattr(gateways[1].messages, "brought", never)
    said = [f"text {number}" for number in range(10)]
    for text in said:
        await say(pnes["pne-0"], sg_id, text)
    await all_hear(here, said, "pne-1", "pne-2", "far-0", "far-1", "far-2")


@pytest.mark.req("FN-9", "DEF-6", "FN-7")
@pytest.mark.parametrize("silent", [1, 3])
@pytest.mark.parametrize("how", ["joins", "is expelled"])
async def test_a_new_epoch_waits_for_no_silent_member(here: World, how: str, silent: int) -> None:
    """Those that have a GKDK have the key at once, a newcomer its own; the text that follows waits for nobody either.

    Of several that are silent one after the other is given the next thing, for a minute each.
    """
    gateway = await here.start_gateway("gw-1", **SILENT)
    sg_id, pnes = await group_of(here, 5 + silent, gateway)
    comes = [await here.joined_pne(f"comer-{number}", gateway, **FAST) for number in range(2)]
    await all_have(here, sg_id, *pnes)
    for pne in pnes[5:]:
        await here.stop(pne)
    said = ["before"]
    await say(pnes[0], sg_id, said[0])
    for goes, comer in zip(pnes[3:5], comes, strict=True):
        if how == "joins":
            await comer.groups.join(sg_id)
        else:
            await pnes[0].groups.expel(sg_id, [goes.config.pne_id])
        await all_have(here, sg_id, *pnes[:3], *([comer] if how == "joins" else []))
        said.append(f"after {goes.config.pne_id}")
        await say(pnes[0], sg_id, said[-1])
        await all_hear(here, said, "pne-1", "pne-2")
