"""Several processes of one server, over one PostgreSQL and NATS: it does not matter which one is asked."""

import asyncio
import contextlib
import io
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns.admin.service import Admin
from cpns.cli.run import NotedHandler
from cpns.crypto.secret import Secret
from cpns.domain.actor import OPERATOR
from cpns.domain.member_list import Policy
from cpns.errors import NoAnswer, Unavailable
from cpns.ids import EntityId, PnId
from cpns.service.system import SystemClock, random_bytes
from cpns.store.vault import FileVault
from cpns.transport.cluster import HELLO_SECONDS, connect
from cpns.wire import pn_messages as pm
from cpns.wire.registry import JoinPolicy, Presence
from tests.support.groups import all_have
from tests.support.nats import Nats
from tests.support.processes import processes, start
from tests.support.world import CLOCK, FAST, SERVER, World, push_of, until

Site = tuple[Nats, list[World]]
PATIENT: dict[str, Any] = {**FAST, "request_timeout": 5.0}
"""On busy cores PostgreSQL takes more than a second for a commit now and then."""


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr("cpns.pne.groups.CATCH_UP_PAUSES", (0.3, 1.0))
    async with processes(tmp_path, 2) as one:
        yield one


def admin(world: World) -> Admin:
    return Admin(SERVER, world.store, world.provisioning, world.server, SystemClock())


async def test_who_closes_does_not_call_nats_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with processes(tmp_path, 2):
        pass
    assert not [one for one in caplog.records if "away" in one.getMessage()]


async def test_no_callback_of_a_process_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With NATS there, gone and back; the loop would tell of it."""
    async with processes(tmp_path, 1) as (nats, (one,)):
        nats.stop()
        await until(lambda: not one.cluster.connected)  # type: ignore[union-attr]
        nats.start()
        await until(lambda: one.cluster.connected)  # type: ignore[union-attr]
        await one.stop(one.server)
        nats.stop()
        await start(one, nats)  # while it is away
    assert not [record.getMessage() for record in caplog.records if record.name == "asyncio"]


@pytest.mark.req("FN-1", "SES-2")
async def test_a_text_reaches_a_device_from_any_process(site: Site) -> None:
    _, (one, other) = site
    gateway = await one.start_gateway("gw-1")
    await one.joined_pne("alice", gateway, **FAST)
    for world in (one, other):
        assert await world.server.sending.send(EntityId("alice"), "inbox", push_of("hello")) == "alice got hello"
        assert await admin(world).ping("alice") < 5
        assert (await world.server.overview.session(EntityId("alice"))) is not None
        assert await world.server.pnes.connected([EntityId("alice"), EntityId("gw-1"), EntityId("x")]) == {
            "alice",
            "gw-1",
        }
        assert (await admin(world).status()).sessions == 2
        fact = (await world.server.reach.facts([EntityId("alice")]))[EntityId("alice")]
        assert fact.presence is Presence.CONNECTED
    assert one.inboxes["alice"] == ["hello", "hello"]
    await one.provision(one.kinds.PNE, "bob")
    with pytest.raises(Unavailable) as refused:
        await other.server.sending.send(EntityId("bob"), "inbox", push_of("hello"))
    assert refused.value.code == "not_established"


@pytest.mark.req("FN-1")
async def test_what_is_kept_at_one_process_is_given_by_the_other(site: Site) -> None:
    _, (one, other) = site
    gateway = await one.start_gateway("gw-1", answer_timeout=0.5)
    alice = await one.joined_pne("alice", gateway, **FAST)
    await alice.sleep()
    await until(lambda: one.server.reach.here(EntityId("alice")).presence is Presence.ASLEEP)
    await admin(other).send(OPERATOR, "alice", "later", 60)
    assert one.inboxes["alice"] == []
    await alice.wake()
    await until(lambda: one.inboxes["alice"] == ["later"])


@pytest.mark.req("FN-9")
@pytest.mark.parametrize("nats_is_there", [True, False], ids=["told", "found in the store"])
async def test_a_revocation_has_reached_every_process_when_it_returns(site: Site, nats_is_there: bool) -> None:
    """Also where they can't tell each other."""
    nats, (one, other) = site
    gateway = await one.start_gateway("gw-1")
    for name in ("alice", "bob"):
        await one.joined_pne(name, gateway, **FAST)
    if not nats_is_there:
        nats.stop()
        await until(lambda: not other.cluster.connected)  # type: ignore[union-attr]
    await other.provisioning.revoke(OPERATOR, EntityId("alice"))
    assert one.server.sessions.with_peer(EntityId("alice")) is None
    assert one.server.sessions.with_peer(EntityId("bob")) is not None
    if nats_is_there:
        assert gateway.members.get(EntityId("alice")) is None  # its hop key is gone too
    await other.provisioning.revoke(OPERATOR, EntityId("gw-1"))
    assert "gw-1" not in one.server.gateways
    assert one.server.sessions.with_peer(EntityId("bob")) is None


@pytest.mark.parametrize("nats_is_there", [True, False])
async def test_a_device_that_is_bound_elsewhere_has_no_session_at_any_process(site: Site, nats_is_there: bool) -> None:
    nats, (one, other) = site
    gateway = await one.start_gateway("gw-1")
    for name in ("alice", "bob"):
        await one.joined_pne(name, gateway, **FAST)
    if not nats_is_there:
        nats.stop()
        await until(lambda: not other.cluster.connected)  # type: ignore[union-attr]
    await other.provisioning.update(OPERATOR, EntityId("bob"), "gw-1", "hall")
    await other.provisioning.update(OPERATOR, EntityId("alice"), "gw-9", None, allow_unknown_gateway=True)
    assert one.server.sessions.with_peer(EntityId("alice")) is None
    assert one.server.sessions.with_peer(EntityId("bob")) is not None
    if nats_is_there:
        assert gateway.members.get(EntityId("alice")) is None


@pytest.mark.req("FN-7", "DEF-5", "DEF-6")
async def test_a_group_across_two_processes(site: Site) -> None:
    """Invited, keyed, told, heard, kept, and expelled, whichever process each member is behind."""
    _, (one, other) = site
    first, second = await one.start_gateway("gw-1", answer_timeout=0.5), await other.start_gateway("gw-2")
    ann, ben = [await one.joined_pne(name, first, **PATIENT) for name in ("ann", "ben")]
    cat, dan = [await other.joined_pne(name, second, **PATIENT) for name in ("cat", "dan")]
    one.accepting.add("cat")
    sg_id, results = await ann.groups.create("family", JoinPolicy.OPEN, invite=[EntityId("cat")])
    assert {pne: result.name for pne, result in results.items()} == {"cat": "SUCCESS"}
    for pne in (ben, dan):
        await pne.groups.join(sg_id)
    await all_have(one, sg_id, ann, ben, cat, dan)
    await ann.messages.send(sg_id, "one")
    await dan.messages.send(sg_id, "two")
    await until(lambda: [[t.text for t in one.said[name]] for name in ("ben", "cat")] == [["one", "two"]] * 2)
    await ben.sleep()
    await dan.messages.send(sg_id, "three")
    assert await one.store.awaiting_group_messages() == ["ben"]
    await ben.wake()
    await until(lambda: [t.text for t in one.said["ben"]] == ["one", "two", "three"])
    await ann.groups.pass_on(sg_id, EntityId("cat"))
    await cat.groups.expel(sg_id, [EntityId("ben")])
    await until(lambda: sg_id not in ben.groups.views)
    await all_have(one, sg_id, ann, cat, dan)


@pytest.mark.req("DEF-3", "FN-1")
async def test_members_are_put_out_and_networks_switched_across_processes(site: Site) -> None:
    _, (one, other) = site
    first, second = await one.start_gateway("gw-1"), await other.start_gateway("gw-2")
    ann = await one.joined_pne("ann", first, gateways=(one.pan(first), other.pan(second)), **FAST)
    ben = await one.joined_pne("ben", first, **FAST)
    assert ann.joined is not None
    pn_id = ann.joined.pn_id
    await admin(other).networks.expel(OPERATOR, pn_id, ["ben"])
    assert one.server.sessions.with_peer(EntityId("ben")) is None
    assert first.members.get(EntityId("ben")) is None
    assert ben.joined is not None
    await admin(one).networks.switch(OPERATOR, pn_id, "gw-2")
    await until(lambda: other.server.sessions.with_peer(EntityId("ann")) is not None)
    await until(lambda: one.server.sessions.with_peer(EntityId("ann")) is None)
    assert await one.server.sending.send(EntityId("ann"), "inbox", push_of("moved")) == "ann got moved"


@pytest.mark.req("FN-1")
async def test_a_process_that_ends_loses_its_connections_alone(site: Site) -> None:
    """Its PN GWs go to another, with all their PNEs in one SETUP; what is sent meanwhile is stored once."""
    nats, (one, other) = site
    gateway = await one.start_gateway("gw-1", kept=True, more_servers=(other.address,), server_order=True)
    pnes = [await one.joined_pne(f"pne-{number}", gateway, **FAST) for number in range(4)]
    for pne in pnes:
        await pne.send(pne.next_reading({"n": 1}))
    await one.stop(one.server)
    sending = [asyncio.create_task(pne.send(pne.next_reading({"n": 2}))) for pne in pnes]
    await asyncio.wait_for(asyncio.gather(*sending), 40)
    stored = await other.store.readings(0, 100)
    assert sorted((row.pne_id, row.body) for row in stored) == [
        (f"pne-{number}", f'{{"n":{n}}}') for number in range(4) for n in (1, 2)
    ]
    assert {pne.config.pne_id for pne in pnes} == {session.peer_id for session in other.server.sessions} - {"gw-1"}
    await start(one, nats)
    assert await one.server.sending.send(EntityId("pne-3"), "inbox", push_of("there")) == "pne-3 got there"


async def once_heard(process: World, push: bytes) -> str:
    """Send alice a text through *process*, as soon as that has heard of the other one."""
    async with asyncio.timeout(40):
        while True:
            with contextlib.suppress(Unavailable):
                return await process.server.sending.send(EntityId("alice"), "inbox", push)
            await asyncio.sleep(0.05)


@pytest.mark.req("FN-1")
async def test_without_nats_each_process_serves_its_own(site: Site) -> None:
    nats, (one, other) = site
    gateway = await one.start_gateway("gw-1")
    alice = await one.joined_pne("alice", gateway, **FAST)
    nats.stop()
    await until(lambda: not one.cluster.connected and not other.cluster.connected)  # type: ignore[union-attr]
    await alice.send(alice.next_reading({"n": 1}))
    assert await one.server.sending.send(EntityId("alice"), "inbox", push_of("here")) == "alice got here"
    with pytest.raises(Unavailable) as refused:
        await other.server.sending.send(EntityId("alice"), "inbox", push_of("there"))
    assert refused.value.code == "other_processes_away"
    await one.joined_pne("bob", gateway, **FAST)
    nats.start()
    await until(lambda: other.cluster.connected)  # type: ignore[union-attr]
    assert await once_heard(other, push_of("there")) == "alice got there"


async def test_readings_are_followed_from_any_process(site: Site) -> None:
    _, (one, other) = site
    gateway = await one.start_gateway("gw-1")
    alice = await one.joined_pne("alice", gateway, **FAST)
    following = other.server.readings.follow(0)
    first = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0.1)
    await alice.send(alice.next_reading({"n": 1}))
    assert (await asyncio.wait_for(first, 40)).body == '{"n":1}'


async def test_what_is_forged_or_said_again_over_nats_is_not_heard(site: Site) -> None:
    """By whoever can reach it, without the vault's key."""
    import nats as client

    nats, (one, other) = site
    gateway = await one.start_gateway("gw-1")
    await one.joined_pne("alice", gateway, **FAST)
    heard: list[Any] = []
    spy = await client.connect(nats.url)

    async def listen(message: Any) -> None:
        heard.append(message)

    await spy.subscribe("cpns.>", cb=listen)
    await spy.flush()
    asked: list[Any] = []

    async def handler(argument: Any) -> None:
        asked.append(argument)

    assert other.cluster is not None
    assert one.cluster is not None
    other.cluster.serve("test", handler)
    await one.cluster.ask("test", "a secret text")
    assert asked == ["a secret text"]
    assert all(b"secret" not in message.data for message in heard)
    for message in list(heard):
        await spy.publish(message.subject, message.data)
        await spy.publish(message.subject, message.data[:-1] + bytes([message.data[-1] ^ 1]))
        await spy.publish(message.subject, b"")
    await spy.flush()
    await asyncio.sleep(0.3)
    assert asked == ["a secret text"]
    assert await other.server.sending.send(EntityId("alice"), "inbox", push_of("still")) == "alice got still"
    await spy.close()


async def test_another_server_with_our_id_is_one_warning(site: Site) -> None:
    """It says that it is there three times a second, and nothing that it says opens with our vault."""
    nats, _ = site
    written = io.StringIO()
    handler = NotedHandler(logging.StreamHandler(written))
    logger = logging.getLogger("cpns.server")
    logger.addHandler(handler)
    try:
        strange = await connect(
            nats.url, SERVER, FileVault(Secret(random_bytes(32)), random_bytes), random_bytes, CLOCK
        )
        await asyncio.sleep(6 * HELLO_SECONDS)
        await strange.close()
    finally:
        logger.removeHandler(handler)
    (warning,) = written.getvalue().splitlines()
    assert SERVER in warning
    assert "vault" in warning
    handler.close()
    assert re.search(r"vault.*\((\d{2,}) times", written.getvalue())


async def test_a_gateway_elsewhere_is_asked_or_said_to_be_away(site: Site) -> None:
    _, (_, other) = site
    request = pm.InviteRequest(PnId("pn-1"), (EntityId("alice"),))
    with pytest.raises(NoAnswer):
        await other.server.gateways.ask(EntityId("gw-1"), request, pm.InviteResponse, 1)


async def test_a_gateway_at_another_process_learns_of_a_group_where_there_is_no_bus(tmp_path: Path) -> None:
    """Each process follows what the others leave in the store."""
    async with processes(tmp_path, 2, alone=(0, 1)) as (_, (one, other)):
        first, second = await one.start_gateway("gw-1"), await other.start_gateway("gw-2")
        ann = await one.joined_pne("ann", first, **PATIENT)
        cat = await other.joined_pne("cat", second, **PATIENT)
        sg_id, _ = await ann.groups.create("family", JoinPolicy.OPEN)
        await cat.groups.join(sg_id)
        await until(lambda: all(sg_id in one.groups.copies for one in (first, second)))
        settled = await other.server.groups.actions.update(
            sg_id, OPERATOR, Policy.CLOSED, None
        )  # no epoch begins with that
        await until(lambda: first.groups.copies[sg_id].version >= settled.version)
        await other.server.groups.actions.expel(sg_id, OPERATOR, [EntityId("ann")])  # the last one behind its gateway
        await until(lambda: sg_id not in first.groups.copies and sg_id not in ann.groups.views)
        await one.server.groups.actions.delete(sg_id, OPERATOR)
        await until(lambda: sg_id not in second.groups.copies and sg_id not in cat.groups.views)


@pytest.mark.req("DEF-3", "FN-9")
async def test_a_gateway_at_another_process_learns_of_a_network_where_there_is_no_bus(tmp_path: Path) -> None:
    """Who was revoked, who was put out, what was settled, and the end of it."""
    async with processes(tmp_path, 2, alone=(0, 1)) as (_, (one, other)):
        gateway = await one.start_gateway("gw-1")
        alice, *_ = [await one.joined_pne(name, gateway, **PATIENT) for name in ("alice", "bob", "carol")]
        assert alice.joined is not None
        pn_id, copies = alice.joined.pn_id, gateway.networks.copies

        def members() -> set[str]:
            return {*copies[pn_id].members} if pn_id in copies else set()

        await until(lambda: members() == {"alice", "bob", "carol"})
        await other.provisioning.revoke(OPERATOR, "alice")
        await until(lambda: members() == {"bob", "carol"})
        await other.server.networks.actions.expel(pn_id, OPERATOR, [EntityId("carol")])
        await until(lambda: members() == {"bob"})
        assert [name for name in ("alice", "bob", "carol") if gateway.members.get(EntityId(name))] == ["bob"]
        await other.server.networks.actions.update(pn_id, OPERATOR, policy=None, alias="home", owner=None)
        await until(lambda: copies[pn_id].alias == "home")
        await other.server.networks.actions.release(pn_id, OPERATOR)
        await until(lambda: pn_id not in copies or copies[pn_id].alias is None)


@pytest.mark.req("FN-7", "DEF-6")
async def test_what_was_missed_of_a_group_without_nats_is_made_up_for(site: Site) -> None:
    nats, (one, other) = site
    first, second = await one.start_gateway("gw-1"), await other.start_gateway("gw-2")
    ann = await one.joined_pne("ann", first, **FAST)
    ben = await one.joined_pne("ben", first, **FAST)
    cat = await other.joined_pne("cat", second, **FAST)
    sg_id, _ = await ann.groups.create("family", JoinPolicy.OPEN)
    await cat.groups.join(sg_id)
    await all_have(one, sg_id, ann, cat)
    nats.stop()
    await until(lambda: not one.cluster.connected)  # type: ignore[union-attr]
    await ben.groups.join(sg_id)
    await ann.messages.send(sg_id, "kept for who is behind another process")
    nats.start()
    await all_have(one, sg_id, ann, ben, cat)
    await until(lambda: [said.text for said in one.said["cat"]])
