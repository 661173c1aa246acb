"""PNEs that go elsewhere, networks that get another gateway, gateways that are lost; and what waits meanwhile."""

import asyncio
import dataclasses
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns.crypto.schedule import Profile
from cpns.domain.actor import OPERATOR
from cpns.domain.inventory import Kind
from cpns.errors import Conflict, Refused, Result, Unavailable
from cpns.gateway.app import Gateway
from cpns.ids import EntityId
from cpns.pne.app import Pne
from cpns.pne.config import Where
from cpns.pne.inbox import Inbox
from cpns.pne.states import Lost, WokeUp
from cpns.service.system import random_bytes
from cpns.transport import discovery
from cpns.transport.errors import Code, Hinted
from cpns.wire import messages as m
from cpns.wire import pn_messages as pm
from cpns.wire.registry import Change, Mode
from tests.support.lossy import honest
from tests.support.raw import ScriptedGateway, ScriptedPne, ask, entry_of
from tests.support.tap import TcpTap, body_of, scene, settled
from tests.support.world import CLOCK, FAST, World, address_of, push_of, until, world


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


class Traffic:
    """Readings, one after the other, as fast as they are acknowledged, until it is stopped."""

    def __init__(self, pne: Pne, pause: float = 0.01) -> None:
        self.pne = pne
        self.sent = 0
        self.acknowledged: list[float] = []
        self._pause = pause
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            self.sent += 1
            await self.pne.send(self.pne.next_reading({"n": self.sent}))
            self.acknowledged.append(time.monotonic())
            await asyncio.sleep(self._pause)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def gap(self) -> float:
        """Return the longest time between two acknowledgements."""
        return max(b - a for a, b in zip(self.acknowledged, self.acknowledged[1:], strict=False))


async def nothing_lost(here: World, traffic: Traffic) -> None:
    """Every acknowledged reading is stored, and none twice."""
    rows = await here.store.readings(0, 10_000, traffic.pne.config.pne_id)
    stored = [json.loads(row.body)["n"] for row in rows]
    assert len(stored) == len(set(stored))
    assert set(stored) >= set(range(1, len(traffic.acknowledged) + 1))


async def network_of(here: World, gateway: str) -> Any:
    return next(pn for pn in await here.store.networks() if pn.network.gateway_id == gateway)


def via(here: World, name: str) -> str | None:
    session = here.server.sessions.with_peer(EntityId(name))
    return None if session is None else session.via


def hop(gateway: Gateway, name: str) -> object:
    return gateway.pans[0].hops.with_peer(EntityId(name))


# Roaming


@pytest.mark.req("FN-8", "FN-1", "DEF-3")
async def test_a_pne_roams_and_its_old_hop_key_dies(here: World) -> None:
    """It turns up at the other gateway by itself; the older one forgets it; readings go on, none lost or doubled."""
    await here.start_server()
    first, second = await here.start_gateway("gw-1", kept=True), await here.start_gateway("gw-2", kept=True)
    both = (here.pan(first), here.pan(second))
    pne = await here.joined_pne("alice", first, gateways=both, **FAST)
    await here.joined_pne("bob", first)
    await here.joined_pne("resident", second)
    traffic = Traffic(pne)
    await until(lambda: len(traffic.acknowledged) > 5)
    pne._finder.failed()  # it loses its gateway from sight
    pne.life.happens(Lost())
    await until(lambda: via(here, "alice") == "gw-2")
    before = len(traffic.acknowledged)
    await until(lambda: len(traffic.acknowledged) > before + 5)
    await traffic.stop()
    await nothing_lost(here, traffic)
    assert hop(first, "alice") is None
    assert (await network_of(here, "gw-2")).members[0].guest
    notices = await until(lambda: [one for one in here.changes["bob"] if one.change == Change.MOVED])
    assert notices[0].members == ("alice",)
    (moved,) = await here.audit("alice", "pne_moved")
    assert (moved.via, moved.reason) == ("gw-2", "from gw-1")


@pytest.mark.req("DEF-3", "FN-8")
async def test_two_gateways_claim_one_pne_and_the_newest_proof_wins(here: World) -> None:
    """One device runs at both gateways at once: the server keeps the newest session, and writes that down."""
    await here.start_server()
    first, second = await here.start_gateway("gw-1"), await here.start_gateway("gw-2")
    older = await here.joined_pne("alice", first)
    here.pause(older)
    newer = ScriptedPne("alice", here.keys["alice"])
    here.closes(newer)
    joined = await newer.join(here.pan(second))
    session = here.server.sessions.with_peer(EntityId("alice"))
    assert session is not None
    assert (session.via, session.keys.th2) == ("gw-2", joined.session.keys.th2)
    await until(lambda: first.members.get(EntityId("alice")) is None)
    assert hop(first, "alice") is None
    assert [row.reason for row in await here.audit("alice", "pne_moved")] == ["from gw-1"]
    with pytest.raises(Refused):
        await older.network.inventory()
    claim = ScriptedGateway("gw-3", await here.key(Kind.GATEWAY, "gw-3"))  # one that never saw it claims it too
    here.closes(claim)
    await claim.connect(here.address)
    stale = ScriptedPne("alice", here.keys["alice"])
    here.closes(stale)
    await claim.setup(entry_of(stale.begin()))
    assert via(here, "alice") == "gw-2"


@pytest.mark.req("FN-8")
async def test_gateways_are_found_by_coap_multicast(here: World) -> None:
    """Without mDNS: each gateway answers the group from its PAN, with its ID, mode and networks."""
    await here.start_server()
    first = await here.start_gateway("gw-1", announce=True, alias="hall")
    second = await here.start_gateway("gw-2", announce=True)
    await here.joined_pne("alice", first)
    heard: dict[tuple[str, int], pm.EntityDiscoveryResponse] = {}
    search = asyncio.create_task(
        discovery.ask(
            pm.EntityDiscoveryRequest(EntityId("bob"), Mode.PNE),
            lambda found, host, port: heard.update({(host, port): found}),
        )
    )
    await until(lambda: {here.pan(first), here.pan(second)} <= set(heard))
    search.cancel()
    await asyncio.gather(search, return_exceptions=True)
    for gateway in (first, second):
        found = heard[here.pan(gateway)]
        assert (found.entity_id, found.mode) == (gateway.config.gateway_id, Mode.PN_GW)
        assert found.networks == tuple(gateway.members.pns)


@pytest.mark.req("FN-8")
async def test_a_pne_that_was_told_of_no_gateway_finds_the_next_one_by_itself(here: World) -> None:
    """It looks on the PAN; the gateway that it found goes away; it looks again, and is back through another one."""
    await here.start_server()
    both = {name: await here.start_gateway(name, announce=True) for name in ("gw-a", "gw-b")}
    config = await here.pne_config("alice", ("", 0), **FAST)
    pne = Pne(dataclasses.replace(config, where=Where()), CLOCK, random_bytes, Inbox(lambda text: text))
    here.closes(pne)
    await pne.start()
    here.run(pne)
    first = await until(lambda: via(here, "alice"))
    await here.stop(both[first])
    other = next(name for name in both if name != first)
    await until(lambda: via(here, "alice") == other, 60)
    await pne.send(pne.next_reading({"found": other}))


# PN GW switching


@pytest.mark.req("FN-1", "FN-8", "DEF-3")
@pytest.mark.parametrize("how", ["operator", "gateway"])
async def test_a_network_is_handed_over_under_traffic(here: World, how: str) -> None:
    """All members go over by themselves, with new hop keys; the gap is printed; nothing is lost or doubled."""
    await here.start_server()
    first, second = await here.start_gateway("gw-1", kept=True), await here.start_gateway("gw-2", kept=True)
    await here.joined_pne("resident", second)  # the new gateway has a network of its own, and keeps it
    pnes = [await here.joined_pne(f"pne-{number}", first, **FAST) for number in range(4)]
    own = (await network_of(here, "gw-2")).network.pn_id
    pn = (await network_of(here, "gw-1")).network
    older = {pne.config.pne_id: pne.joined.local_eukey.reveal() for pne in pnes}  # type: ignore[union-attr]
    traffic = [Traffic(pne) for pne in pnes]
    await until(lambda: all(len(one.acknowledged) > 10 for one in traffic))
    if how == "operator":
        await here.server.networks.actions.switch(pn.pn_id, EntityId("gw-2"), OPERATOR)
    else:
        await first.switching.hand_over(pn.pn_id, EntityId("gw-2"))
    await until(lambda: all(via(here, pne.config.pne_id) == "gw-2" for pne in pnes))
    so_far = [len(one.acknowledged) for one in traffic]
    await until(lambda: all(len(o.acknowledged) > n + 10 for o, n in zip(traffic, so_far, strict=True)))
    for one in traffic:
        await one.stop()
        await nothing_lost(here, one)
    print(f"handover of {len(pnes)} PNEs: longest gap {max(one.gap() for one in traffic):.2f} s, nothing lost")
    after = next(one for one in await here.store.networks() if one.network.pn_id == pn.pn_id)
    assert (after.network.gateway_id, after.network.owner) == ("gw-2", pn.owner)
    assert {member.pne_id for member in after.members} == set(older)
    assert set(second.members.pns) == {own, pn.pn_id}
    assert pn.pn_id not in first.members.pns
    await until(lambda: len(first.members) == 0)
    for pne in pnes:
        assert hop(first, pne.config.pne_id) is None
        assert pne.joined is not None
        assert pne.joined.pn_id == pn.pn_id
        assert pne.joined.local_eukey.reveal() != older[pne.config.pne_id]  # type: ignore[union-attr]
        assert any(one.change == Change.GATEWAY for one in here.changes[pne.config.pne_id])


@pytest.mark.req("FN-8")
async def test_a_switch_needs_both_gateways_or_the_operator(here: World) -> None:
    await here.start_server()
    first = await here.start_gateway("gw-1")
    second = await here.start_gateway("gw-2", take_over=False)
    pne = await here.joined_pne("alice", first)
    pn_id = (await network_of(here, "gw-1")).network.pn_id
    with pytest.raises(Refused, match="not_allowed"):
        await second.switching.take_over(pn_id)  # gw-1 gave it to nobody
    with pytest.raises(Refused, match="mode_not_supported"):
        await first.switching.hand_over(pn_id, EntityId("gw-2"))
    with pytest.raises(Refused, match="gateway_away"):
        await here.server.networks.actions.switch(pn_id, EntityId("gw-3"), OPERATOR)
    third = await here.start_gateway("gw-3")
    with pytest.raises(Refused, match="unknown_pn"):
        await third.switching.hand_over(pn_id, EntityId("gw-2"))
    assert (await network_of(here, "gw-1")).network.pn_id == pn_id
    assert pn_id in first.members.pns
    await pne.send(pne.next_reading({"still": "served"}))


async def test_of_two_switches_at_once_the_first_wins(here: World) -> None:
    await here.start_server()
    first = await here.start_gateway("gw-1")
    for name in ("gw-2", "gw-3"):
        await here.start_gateway(name)
    await here.joined_pne("alice", first)
    pn_id = (await network_of(here, "gw-1")).network.pn_id
    switches = (here.server.networks.actions.switch(pn_id, EntityId(name), OPERATOR) for name in ("gw-2", "gw-3"))
    ended = await asyncio.gather(*switches, return_exceptions=True)
    assert [type(one) for one in ended].count(Refused) == 1
    network = next(one.network for one in await here.store.networks() if one.network.pn_id == pn_id)
    assert network.gateway_id == ("gw-2" if ended[0] is None else "gw-3")


async def test_a_gateway_that_was_away_learns_that_its_network_went(here: World) -> None:
    await here.start_server()
    first = await here.start_gateway("gw-1", kept=True)
    second = await here.start_gateway("gw-2")
    await here.stop(await here.joined_pne("alice", first))
    pn_id = (await network_of(here, "gw-1")).network.pn_id
    await here.stop(first)
    await until(lambda: not here.server.pnes.is_connected_here(EntityId("gw-1")))
    await here.server.networks.actions.switch(pn_id, EntityId("gw-2"), OPERATOR)
    again = await here.start_gateway("gw-1", kept=True)
    assert (len(again.members), again.members.pns) == (0, [])
    assert pn_id in second.members.pns
    await here.joined_pne("alice", second, join=pn_id)


# A gateway that is lost


@pytest.mark.req("FN-1", "FN-8")
async def test_a_revoked_gateway_gets_nothing_more_and_its_pnes_go_elsewhere(here: World) -> None:
    await here.start_server()
    lost, other = await here.start_gateway("gw-1", kept=True), await here.start_gateway("gw-2")
    both = (here.pan(lost), here.pan(other))
    pnes = [await here.joined_pne(f"pne-{number}", lost, gateways=both, **FAST) for number in range(3)]
    safe = await here.joined_pne("safe", other)
    traffic = [Traffic(pne) for pne in pnes]
    await until(lambda: all(len(one.acknowledged) > 3 for one in traffic))
    standing = lost.uplink.standing
    assert standing is not None
    begun = time.monotonic()
    assert await here.provisioning.revoke(OPERATOR, "gw-1") == 4
    assert {session.peer_id for session in here.server.sessions} == {"gw-2", "safe"}
    with pytest.raises(Refused):
        await ask(standing.link, pm.InventoryRequest(), session=standing.session, seconds=1)
    held = await here.store.held_through(EntityId("gw-1"))
    assert {one.pne_id: one.establishments for one in held} == {f"pne-{number}": 1 for number in range(3)}
    assert all(one.readings >= 3 for one in held)
    await until(lambda: all(via(here, pne.config.pne_id) == "gw-2" for pne in pnes))
    print(f"3 PNEs of a revoked gateway were at another one after {time.monotonic() - begun:.1f} s")
    for one in traffic:
        await one.stop()
        await nothing_lost(here, one)
    await safe.send(safe.next_reading({"never": "noticed"}))
    assert lost.uplink.standing is None


@pytest.mark.req("FN-8")
async def test_a_revoked_pne_gets_nothing_more(here: World) -> None:
    await here.start_server()
    gateway = await here.start_gateway()
    pne = await here.joined_pne("alice", gateway)
    here.pause(pne)
    await here.provisioning.revoke(OPERATOR, "alice")
    with pytest.raises(Refused):
        await pne.network.inventory()
    with pytest.raises(Unavailable, match="revoked"):
        await here.server.sending.send(EntityId("alice"), "inbox", push_of("still there?"))
    assert here.inboxes["alice"] == []
    assert pne._way.link is not None
    with pytest.raises(Hinted, match=r"4\.01"):  # its hop session is gone too
        await ask(pne._way.link, b"", path="presence", session=pne.sessions.with_peer(EntityId("gw-1")))


# What waits


@pytest.mark.req("FN-1", "SES-3")
async def test_sealed_messages_wait_for_the_uplink_in_their_order(here: World) -> None:
    """Ciphertext in memory; acknowledged end to end when the uplink is back; by then in order, and none twice."""
    await here.start_server()
    tap = TcpTap(here.address)
    host, port = await tap.start()
    here.closes(tap)
    gateway = await here.start_gateway(server_host=host, server_port=port)
    pne = await here.joined_pne("alice", gateway)
    await settled(pne)
    await tap.close()
    await until(lambda: gateway.uplink.standing is None)
    sending = [asyncio.create_task(pne.send(pne.next_reading({"n": n}))) for n in range(6)]
    await until(lambda: gateway.pans[0].relay.holding == 6)
    held = [item for queue in gateway.pans[0].relay._queues.values() for item in queue]
    assert all(b'"n"' not in item.sealed.payload and item.sealed.oscore for item in held)
    assert await here.store.readings(0, 10) == []
    await tap.start()
    async with asyncio.timeout(40):
        await asyncio.gather(*sending)
    assert [json.loads(row.body)["n"] for row in await here.store.readings(0, 10)] == list(range(6))
    assert gateway.pans[0].relay.holding == 0


@pytest.mark.req("FN-1")
async def test_what_waits_at_the_gateway_is_bounded(here: World) -> None:
    """By number for each PNE, and by age; what is over it is refused at once, and the PNE tries again."""
    await here.start_server()
    gateway = await here.start_gateway(hold=0.5)
    pne = await here.joined_pne("alice", gateway)
    await settled(pne)
    await here.stop(here.server)
    await until(lambda: gateway.uplink.standing is None)
    relay = gateway.pans[0].relay
    sending = [asyncio.create_task(pne.send(pne.next_reading({"n": n}))) for n in range(24)]
    await until(lambda: relay.holding == 16)
    await asyncio.sleep(0.1)
    assert relay.holding <= 16
    for task in sending:
        task.cancel()
    await asyncio.gather(*sending, return_exceptions=True)
    await until(lambda: relay.holding == 0)


@pytest.mark.req("FN-1")
async def test_texts_for_a_pne_that_sleeps_are_kept_and_come_in_order_once(here: World) -> None:
    """Over a restart of the server too, and through whichever gateway it comes back."""
    await here.start_server()
    first, second = await here.start_gateway("gw-1"), await here.start_gateway("gw-2")
    pne = await here.joined_pne("alice", first)
    await pne.sleep()
    for number in range(3):
        await here.server.pushes.actions.keep(
            OPERATOR, EntityId("alice"), here.server.pushes.actions.new(str(number)), 60
        )
    await here.server.pushes.actions.keep(OPERATOR, EntityId("alice"), here.server.pushes.actions.new("too late"), -1)
    await here.stop(pne)
    await here.stop(here.server)
    await here.start_server()
    await second.uplink.wait(40)
    assert here.inboxes["alice"] == []
    await here.joined_pne("alice", second)
    await until(lambda: len(here.inboxes["alice"]) == 3)
    assert here.inboxes["alice"] == ["0", "1", "2"]
    await until(lambda: not here.server.pushes.delivery.waits_for(EntityId("alice")))


async def test_a_text_that_came_twice_is_taken_once(here: World) -> None:
    await here.start_server()
    pne = await here.joined_pne("alice", await here.start_gateway())
    payload = push_of("open the door")
    answers = [await here.server.sending.send(pne.config.pne_id, "inbox", payload) for _ in range(2)]
    assert answers == ["alice got open the door"] * 2
    assert here.inboxes["alice"] == ["open the door"]


async def test_texts_that_wait_are_bounded(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpns.store.waiting_queries.MAX_PUSHES", 2)
    await here.start_server()
    await here.provision(Kind.PNE, "alice")
    pushes = here.server.pushes.actions
    for _ in range(2):
        await pushes.keep(OPERATOR, EntityId("alice"), pushes.new("x"), 60)
    with pytest.raises(Conflict, match="wait for alice"):
        await pushes.keep(OPERATOR, EntityId("alice"), pushes.new("x"), 60)


# A whole network comes back


@pytest.mark.req("AUTH-G1", "AUTH-0", "FN-1")
async def test_a_whole_network_is_brought_back_in_one_setup(here: World) -> None:
    """After a restart of the server the gateway asks its members, in their hop sessions, and sends one SETUP."""
    on = await scene(here, batch_window=0.2)
    pnes = await on.pnes([f"pne-{number}" for number in range(12)], presence=60.0)
    await here.stop(here.server)
    on.uplink.seen.clear()
    await here.start_server()
    async with asyncio.timeout(40):
        await on.gateway.uplink.wait(40)
        await until(lambda: len(here.server.sessions) == 13)
    for pne in pnes:
        await pne.send(pne.next_reading({"back": True}))
    requests = [one.body for one in on.on_uplink() if isinstance(one.body, m.GatewaySetupRequest)]
    assert [len(request.entries) for request in requests] == [12]
    (pn,) = await here.store.networks()
    assert pn.network.version == 1
    hops = on.gateway.pans[0].hops
    assert all(hops.with_peer(pne.config.pne_id) is not None for pne in pnes)
    assert here.server.sessions.with_peer(pnes[0].config.pne_id).profile is Profile.PNE_SERVER  # type: ignore[union-attr]


@pytest.mark.req("FN-1")
@pytest.mark.parametrize("how", ["asleep", "cut off"])
async def test_a_member_that_missed_the_call_is_asked_again_when_it_is_heard(here: World, how: str) -> None:
    """It sends nothing, so that it would never notice by itself that the server has lost it."""
    on = await scene(here)
    (pne,) = await on.pnes(["alice"], presence=0.4)
    if how == "asleep":
        await pne.sleep()
    else:
        on.pan.policy = lambda datagram: []
    await here.stop(here.server)
    await here.start_server()
    await on.gateway.uplink.wait(40)
    await until(lambda: on.gateway.members.astray == {"alice"})
    await asyncio.sleep(2.0)  # longer than the call is out
    assert here.server.sessions.with_peer(EntityId("alice")) is None
    on.pan.policy = honest
    if how == "asleep":
        pne.life.happens(WokeUp())
    await until(lambda: here.server.pnes.is_connected_here(EntityId("alice")))
    await until(lambda: on.gateway.members.astray == set())
    await here.server.sending.send(EntityId("alice"), "inbox", push_of("welcome back"))


async def test_an_invitation_back_from_a_stranger_is_not_taken(here: World) -> None:
    """Only inside the hop session: whoever sends one plainly to an established PNE learns nothing of it."""
    await here.start_server()
    gateway = await here.start_gateway()
    pne = await here.joined_pne("alice", gateway)
    stranger = ScriptedPne("mallory", await here.key(Kind.PNE, "mallory"))
    here.closes(stranger)
    link = await stranger.link(("127.0.0.1", address_of(pne._endpoint)[1]))
    assert pne.joined is not None
    answer = await ask(link, m.Invitation(EntityId("alice"), EntityId("gw-1"), 1, pne.joined.pn_id))
    assert body_of(answer.payload) == m.InvitationRefused(Result.ALREADY_MEMBER)
    notice = pm.PnChangeNotify(pne.joined.pn_id, (), 99, Change.RELEASED)
    assert (await ask(link, notice)).code == Code.UNAUTHORIZED
    assert here.changes["alice"] == []
    await pne.send(pne.next_reading({"still": "there"}))
