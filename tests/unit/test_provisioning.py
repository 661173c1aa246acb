"""Provisioning through the admin API: what exists already, what is asked for twice, and what nobody provisioned."""

from typing import Any
from unittest import mock

import pytest

from cpns.domain.credential import parse_credential
from cpns.domain.inventory import Kind, Provisioned, State
from cpns.ids import EntityId
from tests.support.world import SERVER
from tests.unit.test_admin import Live, Offline, live, offline, problem, told

__all__ = ["live", "offline"]

KEY = bytes(range(7, 39)).hex()
OTHER = bytes(range(8, 40)).hex()


async def add(site: Offline, id: str, **more: Any) -> dict[str, Any]:
    return await told(await site.client.post("/devices", json={"id": id, **more}), 201)


async def refuses(site: Offline, status: int, code: str, id: str, **more: Any) -> str:
    body = await problem(await site.client.post("/devices", json={"id": id, **more}), status, code)
    return str(body["detail"])


async def read(site: Offline, text: str, **params: Any) -> dict[str, Any]:
    return await told(await site.client.post("/devices/import", content=text.encode(), params=params))


def bad(report: dict[str, Any]) -> list[tuple[int, str]]:
    return [(row["line"], row["code"]) for row in report["bad"]]


async def ids(site: Offline) -> list[str]:
    return [one["id"] for one in (await told(await site.client.get("/devices")))["items"]]


async def test_a_key_may_be_brought_and_the_same_again_is_done(offline: Offline) -> None:
    made = await add(offline, "lamp-1", key=KEY, note="hall")
    credential = parse_credential(made["credential"], Kind.PNE)
    assert (credential.eukey.reveal().hex(), credential.server_id) == (KEY, SERVER)
    assert await add(offline, "lamp-1", key=KEY, note="hall") == made
    assert [row.event for row in await offline.store.audit(EntityId("lamp-1"), 9)] == ["provisioned"]
    for other in ({"key": OTHER, "note": "hall"}, {"key": KEY, "note": "attic"}, {"note": "hall"}):
        assert "An ID serves once" in await refuses(offline, 409, "id_exists", "lamp-1", **other)
    assert "that of lamp-1" in await refuses(offline, 409, "key_exists", "lamp-2", key=KEY)
    await refuses(offline, 422, "bad_key", "lamp-2", key="mine")
    await refuses(offline, 422, "weak_key", "lamp-2", key="00" * 32)
    assert await ids(offline) == ["lamp-1"]

    gateway = {"id": "gw-1", "key": OTHER}
    first = await told(await offline.client.post("/gateways", json=gateway), 201)
    assert await told(await offline.client.post("/gateways", json=gateway), 201) == first
    await refuses(offline, 409, "id_exists", "gw-1", key=OTHER)


async def test_a_dry_run_says_what_would_be_refused(offline: Offline) -> None:
    await add(offline, "lamp-1", key=KEY)
    for body, status, code in (({"id": "lamp-1"}, 409, "id_exists"), ({"id": "lamp-2", "key": KEY}, 409, "key_exists")):
        await problem(await offline.client.post("/devices?dry_run=true", json=body), status, code)
    report = await read(offline, f"id,key\nlamp-2,{KEY}\nlamp-3,\n", dry_run=True)
    assert bad(report) == [(2, "key_exists")]
    assert await ids(offline) == ["lamp-1"]


async def test_a_gateway_has_to_be_provisioned(offline: Offline) -> None:
    await refuses(offline, 404, "unknown_gateway", "lamp-1", gateway="hub")
    await add(offline, "lamp-0")
    await refuses(offline, 404, "unknown_gateway", "lamp-1", gateway="lamp-0")
    sheet = "id,gateway\nlamp-1,hub\nlamp-2,\n"
    assert bad(await read(offline, sheet)) == [(2, "unknown_gateway")]
    await told(await offline.client.post("/gateways", json={"id": "hub"}), 201)
    assert (await read(offline, sheet))["imported"] == 2
    await told(await offline.client.post("/gateways/hub/revoke"))
    await refuses(offline, 409, "gateway_revoked", "lamp-3", gateway="hub")
    await add(offline, "lamp-3", gateway="hub", allow_unknown_gateway=True)
    await add(offline, "lamp-4", gateway="later", allow_unknown_gateway=True)
    report = await read(offline, "id,gateway\nlamp-5,much-later\n", allow_unknown_gateway=True)
    assert report["imported"] == 1
    shown = await told(await offline.client.get("/devices/lamp-5"))
    assert shown["gateway"] == "much-later"


async def test_id_exists_tells_the_truth(offline: Offline) -> None:
    await add(offline, "lamp-1")
    await told(await offline.client.post("/gateways", json={"id": "hub"}), 201)
    assert "exists as a gateway" in await refuses(offline, 409, "id_exists", "hub")
    assert "exists as a device" in await refuses(offline, 409, "id_exists", "lamp-1")
    await told(await offline.client.post("/devices/lamp-1/revoke"))
    for said in (
        await refuses(offline, 409, "id_exists", "lamp-1"),
        (await read(offline, "id\nlamp-1\n"))["bad"][0]["detail"],
        (await read(offline, "id\nlamp-1\n", new_only=True))["bad"][0]["detail"],
    ):
        assert "is revoked" in said
        assert "choose another ID" in said


async def test_new_only_leaves_what_is_there_and_names_what_differs(offline: Offline) -> None:
    await told(await offline.client.post("/gateways", json={"id": "hub"}), 201)
    sheet = f"id,gateway,note,key\nlamp-1,hub,hall,{KEY}\nlamp-2,,attic,\n"
    assert (await read(offline, sheet))["imported"] == 2
    assert bad(await read(offline, sheet)) == [(3, "id_exists")]  # lamp-1 has the same key: it is done

    report = await read(offline, sheet + "lamp-3,,,\nlamp-4,hub,,\n", new_only=True)
    assert (report["rows"], report["unchanged"], report["imported"], bad(report)) == (4, 2, 2, [])
    assert [one["id"] for one in report["credentials"]] == ["lamp-3", "lamp-4"]
    report = await read(offline, "id\nlamp-1\nlamp-4\n", new_only=True)
    assert (report["unchanged"], report["imported"], report["credentials"]) == (2, 0, [])

    differing = f"id,gateway,note,key\nlamp-1,,hall,\nlamp-2,,cellar,\nlamp-3,,,{OTHER}\nlamp-9,,,\n"
    report = await read(offline, differing, new_only=True)
    assert bad(report) == [(2, "differs"), (3, "differs"), (4, "differs")]
    assert "cpns device set lamp-1 --gateway" in report["bad"][0]["detail"]
    assert "'attic'" in report["bad"][1]["detail"]
    assert "lamp-9" not in await ids(offline)


async def test_one_mac_address_is_one_device(offline: Offline) -> None:
    sheet = "id\nAA-BB-CC-DD-EE-01\naa:bb:cc:dd:ee:01\naabbccddee01\n"
    report = await read(offline, sheet)
    assert bad(report) == [(3, "id_twice"), (4, "id_twice")]
    assert all("line 2" in row["detail"] for row in report["bad"])
    report = await read(offline, "id\nAA-BB-CC-DD-EE-01\n202611290001\n")
    [first, second] = report["credentials"]
    assert (first["given"], first["id"]) == ("AA-BB-CC-DD-EE-01", "aa:bb:cc:dd:ee:01")
    assert second["id"] == "202611290001"
    assert "/aa:bb:cc:dd:ee:01/" in first["credential"]
    assert bad(await read(offline, "id\nAABBCCDDEE01\n20:26:11:29:00:01\n")) == [(2, "id_exists"), (3, "id_exists")]
    assert bad(await read(offline, "id\nAABBCCDDEE01\n", new_only=True)) == [(2, "id_exists")]
    assert (await read(offline, "id\nAABB.CCDD.EE01\n", new_only=True))["unchanged"] == 1
    assert "another spelling of aa:bb:cc:dd:ee:01" in await refuses(offline, 409, "id_exists", "aabbccddee01")
    assert (await add(offline, "AA-BB-CC-DD-EE-02"))["id"] == "aa:bb:cc:dd:ee:02"

    for spelling in ("AABBCCDDEE01", "aa-bb-cc-dd-ee-01", "aabb.ccdd.ee01"):
        assert (await told(await offline.client.get(f"/devices/{spelling}")))["id"] == "aa:bb:cc:dd:ee:01"
    assert (await told(await offline.client.get("/devices/20-26-11-29-00-01")))["id"] == "202611290001"


async def test_a_gateway_is_found_in_any_spelling(offline: Offline) -> None:
    await told(await offline.client.post("/gateways", json={"id": "AA:BB:CC:DD:EE:01"}), 201)
    await add(offline, "lamp-1", gateway="aabbccddee01")
    assert (await told(await offline.client.get("/devices/lamp-1")))["gateway"] == "aa:bb:cc:dd:ee:01"
    report = await read(offline, "id,gateway\nlamp-1,AA-BB-CC-DD-EE-01\n", new_only=True)
    assert report["unchanged"] == 1


async def test_ids_from_before_are_found_and_told_apart(offline: Offline) -> None:
    await offline.strangers("gw-1", "AA-BB-CC-DD-EE-01")
    await told(await offline.client.post("/devices/AA-BB-CC-DD-EE-01/approve", json={}))
    assert "AA-BB-CC-DD-EE-01" in await ids(offline)  # it calls itself so, and IDs are bytes
    assert (await told(await offline.client.get("/devices/aabbccddee01")))["id"] == "AA-BB-CC-DD-EE-01"

    there = [
        Provisioned(EntityId(one), Kind.PNE, State.ACTIVE, None, "", b"") for one in ("aabbccddee01", "aabb.ccdd.ee01")
    ]
    with mock.patch.object(offline.store, "provisioned", mock.AsyncMock(return_value=there)):
        body = await problem(await offline.client.get("/devices/AABBCCDDEE01"), 409, "ambiguous_id")
    assert "aabbccddee01, aabb.ccdd.ee01" in body["detail"]


async def test_approving_with_a_key_may_be_asked_again(offline: Offline) -> None:
    await offline.strangers("gw-1", "lamp-1")
    would = await told(await offline.client.post("/devices/lamp-1/approve?dry_run=true", json={}))
    assert would == {"id": "lamp-1", "server": SERVER, "credential": None}
    made = await told(await offline.client.post("/devices/lamp-1/approve", json={"key": KEY}))
    assert parse_credential(made["credential"], Kind.PNE).eukey.reveal().hex() == KEY
    assert await told(await offline.client.post("/devices/lamp-1/approve", json={"key": KEY})) == made
    again = await offline.client.post("/devices/lamp-1/approve", json={"key": OTHER})
    await problem(again, 409, "id_exists")
    await problem(await offline.client.post("/devices/lamp-1/approve", json={}), 404, "not_waiting")


@pytest.mark.parametrize("note", ["=HYPERLINK(x)", "Küche", "'quoted'", "-1", "x" * 200])
async def test_a_note_is_kept_as_it_is(offline: Offline, note: str) -> None:
    assert (await read(offline, f"id,note\nlamp-1,{note}\n"))["imported"] == 1
    assert (await told(await offline.client.get("/devices/lamp-1")))["note"] == note
    assert bad(await read(offline, "id,note\nlamp-2," + "x" * 201)) == [(2, "bad_note")]


async def settle(site: Offline | Live, id: str, **new: Any) -> int:
    done = await told(await site.client.post(f"/devices/{id}/settings", json=new))
    assert done["id"] == id
    return int(done["ended"])


async def test_gateway_and_note_of_a_device_can_be_changed(offline: Offline) -> None:
    for gateway in ("hub", "old"):
        await told(await offline.client.post("/gateways", json={"id": gateway}), 201)
    await add(offline, "lamp-1", gateway="hub", note="hall")

    async def now() -> tuple[str | None, str]:
        shown = await told(await offline.client.get("/devices/lamp-1"))
        return shown["gateway"], shown["note"]

    assert await settle(offline, "lamp-1", note="attic") == 0
    assert await now() == ("hub", "attic")
    await settle(offline, "lamp-1", gateway="old")
    assert await now() == ("old", "attic")
    await settle(offline, "lamp-1", gateway="", note="")
    assert await now() == (None, "")
    await settle(offline, "lamp-1", gateway="later", allow_unknown_gateway=True)
    assert [(row.event, row.reason) for row in await offline.store.audit(EntityId("lamp-1"), 9)] == [
        *(("bound", "later"), ("settled", ""), ("bound", "old"), ("settled", ""), ("provisioned", "")),
    ]
    await settle(offline, "lamp-1", gateway="later", note="", allow_unknown_gateway=True)  # as it is: no row
    assert len(await offline.store.audit(EntityId("lamp-1"), 9)) == 5

    where = "/devices/lamp-1/settings"
    await problem(await offline.client.post(where, json={"gateway": "nobody"}), 404, "unknown_gateway")
    await problem(await offline.client.post(where, json={"note": "x" * 201}), 422, "bad_note")
    await problem(await offline.client.post("/devices/hub/settings", json={"note": "x"}), 404, "unknown_entity")
    await told(await offline.client.post("/gateways/hub/settings", json={"note": "roof"}))
    assert (await told(await offline.client.get("/gateways/hub")))["note"] == "roof"
    await problem(await offline.client.post("/gateways/hub/settings", json={"gateway": "old"}), 422, "bad_request")
    await told(await offline.client.post("/devices/lamp-1/revoke"))
    await problem(await offline.client.post(where, json={"note": "x"}), 409, "revoked")


async def test_a_device_leaves_the_network_of_a_gateway_that_it_is_not_admitted_through(offline: Offline) -> None:
    await offline.network("pn-1", "hub", "lamp-1", "lamp-2")
    await told(await offline.client.post("/gateways", json={"id": "other"}), 201)
    before = await told(await offline.client.get("/networks/pn-1"))
    await settle(offline, "lamp-1", gateway="hub")
    assert await told(await offline.client.get("/networks/pn-1")) == before
    await settle(offline, "lamp-1", gateway="other")
    after = await told(await offline.client.get("/networks/pn-1"))
    assert [one["id"] for one in after["members"]] == ["lamp-2"]
    assert (after["listed"], after["version"]) == ({"lamp-1": "member"}, before["version"] + 1)
    # a SETUP through the old one that had begun before is decided in its own transaction
    admitted = await offline.establish("pn-1", "hub", "lamp-1", "lamp-2")
    told_why = {pne: one.reason for pne, one in admitted.admissions.items()}
    assert told_why == {"lamp-1": "not_admitted_through_this_gateway", "lamp-2": ""}
    assert [one["id"] for one in (await told(await offline.client.get("/networks/pn-1")))["members"]] == ["lamp-2"]


async def test_the_session_through_another_gateway_ends_in_that_moment(live: Live) -> None:
    pne = await live.established()
    await live.world.provision(Kind.GATEWAY, "gw-2")
    server = live.world.server
    assert await settle(live, "pne-1", note="hall") == 0
    assert await settle(live, "pne-1", gateway="gw-1") == 0
    assert server.sessions.with_peer(EntityId("pne-1")) is not None
    assert await settle(live, "pne-1", gateway="gw-2") == 1
    assert server.sessions.with_peer(EntityId("pne-1")) is None
    assert live.gateway.members.get(EntityId("pne-1")) is None  # it was told, before the command returned
    shown = await told(await live.client.get("/devices/pne-1"))
    assert (shown["connected"], shown["pn_id"], shown["gateway"]) == (False, None, "gw-2")

    await live.world.stop(pne)
    await live.world.joined_pne("pne-1", await live.world.start_gateway("gw-2"))
    session = server.sessions.with_peer(EntityId("pne-1"))
    assert session is not None
    assert session.via == "gw-2"
