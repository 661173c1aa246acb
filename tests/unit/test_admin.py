"""The admin API over a real store, and over a running server: every route, every error, and no key but once."""

import asyncio
import contextlib
import dataclasses
import json
import os
import re
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cpns.admin import problems
from cpns.admin.api import create_app
from cpns.admin.client import LazyVault, answer_of, open_client
from cpns.admin.folder import Folder
from cpns.admin.listener import Listener
from cpns.admin.service import Admin
from cpns.crypto.secret import Secret
from cpns.domain.actor import OPERATOR
from cpns.domain.actor import SERVER as ITSELF
from cpns.domain.cm import NewCmDevice
from cpns.domain.credential import parse_credential
from cpns.domain.group import Group
from cpns.domain.inventory import Establishment, Kind, Membership, Outcome
from cpns.domain.member_list import Policy
from cpns.domain.network import Admitted
from cpns.errors import BadInput, Conflict, Gone, NotFound, Result, Unavailable, UserError
from cpns.gateway.app import Gateway
from cpns.ids import EntityId, PnId, SgId
from cpns.pne.app import Pne
from cpns.pne.inbox import Inbox
from cpns.ports import Vault
from cpns.service.provisioning import NoSessions, Provisioning
from cpns.service.system import random_bytes
from cpns.store.server_store import ServerStore
from cpns.store.vault import FileVault
from tests.support.world import CLOCK, SERVER, World, until, world

BASE = "http://cpns/api/v1"


@contextlib.asynccontextmanager
async def client_of(admin: Admin) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(admin), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
        yield client


@dataclasses.dataclass
class Offline:
    """The API of a server that does not run."""

    client: httpx.AsyncClient
    store: ServerStore
    provisioning: Provisioning

    async def reading(self, device: str, number: int) -> None:
        body = json.dumps({"n": number})
        await self.store.add_reading(EntityId(device), EntityId("gw-1"), bytes([number] * 12), body, "e2e", 1.5)

    async def network(self, pn_id: str, gateway: str, *devices: str, strangers: tuple[str, ...] = ()) -> None:
        """Make a PN of a gateway and devices that are made with it."""
        for kind, name in [(Kind.GATEWAY, gateway), *((Kind.PNE, device) for device in devices)]:
            await self.provisioning.add(OPERATOR, kind, name, None, "", may_own=kind is Kind.PNE)
        await self.establish(pn_id, gateway, *devices)
        await self.strangers(gateway, *strangers)

    async def strangers(self, gateway: str, *strangers: str, at: float = 1.5) -> None:
        """Commit what attempts of IDs that nobody provisioned change."""
        why = Result.AUTHENTICATION_FAILED, "unknown"
        await self.store.record(
            [Outcome(at, "refused", EntityId(one), ITSELF, *why, EntityId(gateway)) for one in strangers]
        )

    async def establish(self, pn_id: str, gateway: str, *devices: str, at: float = 1.5) -> Admitted:
        """Commit what a SETUP of *devices*, which exist, through a gateway changes."""
        return await self.store.establish(
            Establishment(
                *(PnId(pn_id), EntityId(gateway), None, Policy.OPEN, at),
                members=tuple(Membership(EntityId(device), True) for device in devices),
                moved_from={},
            )
        )

    async def cm_device(self, device: str, gateway: str, pne: str) -> None:
        """Commit what an assignment to *pne*, mediated by *gateway*, ends with."""
        ids = EntityId(device), EntityId(gateway), EntityId(pne)
        await self.store.assign_cm(NewCmDevice(*ids, b"sealed", device.encode(), 2.5))

    async def group(self, sg_id: str, owner: str) -> None:
        """Commit a new group."""
        await self.store.create_group(Group(SgId(sg_id), "family", None, EntityId(owner), Policy.OPEN, 1, 1, 2.5), 64)


@pytest.fixture
async def offline(tmp_path: Path) -> AsyncIterator[Offline]:
    store = ServerStore.open(tmp_path / "server.db")
    vault = FileVault(Secret(random_bytes(32)), random_bytes)
    provisioning = Provisioning(SERVER, store, vault, CLOCK, random_bytes, NoSessions())
    async with client_of(Admin(SERVER, store, provisioning, None, CLOCK)) as client:
        yield Offline(client, store, provisioning)
    await store.close()


@dataclasses.dataclass
class Live:
    """The API of a running server, with a gateway and a device."""

    client: httpx.AsyncClient
    admin: Admin
    world: World
    gateway: Gateway

    async def established(self) -> Pne:
        return await self.world.joined_pne("pne-1", self.gateway)


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    async with world(tmp_path) as one:
        server = await one.start_server()
        admin = Admin(SERVER, one.store, one.provisioning, server, CLOCK)
        async with client_of(admin) as client:
            yield Live(client, admin, one, await one.start_gateway())


async def told(response: httpx.Response, status: int = 200) -> dict[str, Any]:
    """Return the JSON of an answer with *status*."""
    assert response.status_code == status, response.text
    found: dict[str, Any] = response.json()
    return found


async def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Return the problem that an answer tells of."""
    body = await told(response, status)
    assert response.headers["content-type"] == "application/problem+json"
    assert set(body) == {"type", "title", "status", "code", "detail"}
    assert (body["status"], body["code"], body["type"]) == (status, code, f"urn:cpns:error:{code}")
    assert body["detail"]
    return body


# every route

ROUTES = [
    ("POST", "/gateways", {"json": {"id": "gw-1", "note": "hall"}}, 201),
    ("GET", "/pending", {}, 200),
    ("POST", "/gateways/{id}/settings", {"json": {"note": "cellar"}}, 200),
    ("POST", "/devices/{id}/approve", {"json": {"note": "waited"}}, 200),
    ("POST", "/devices/{id}/refuse", {"json": {}}, 404),
    ("POST", "/devices/{id}/settings", {"json": {"note": "cellar"}}, 200),
    ("POST", "/devices", {"json": {"id": "pne-4", "gateway": "gw-1"}}, 201),
    ("POST", "/devices/import", {"content": b"id,note\npne-2,\npne-3,x\n"}, 200),
    ("GET", "/gateways", {}, 200),
    ("GET", "/gateways/{id}", {}, 200),
    ("GET", "/devices", {}, 200),
    ("GET", "/devices/{id}", {}, 200),
    ("GET", "/devices/{id}/explain", {}, 200),
    ("GET", "/readings", {}, 200),
    ("GET", "/networks", {}, 200),
    ("GET", "/audit", {}, 200),
    ("POST", "/audit/prune", {"json": {"older": 1e9}}, 200),
    ("GET", "/events", {}, 200),
    ("GET", "/cursors", {}, 200),
    ("POST", "/cursors/{name}", {"json": {"number": 1}}, 200),
    ("POST", "/cursors/{name}/drop", {}, 200),
    ("GET", "/networks/{id}", {}, 200),
    ("POST", "/networks/{id}/settings", {"json": {"policy": "approval"}}, 200),
    ("POST", "/networks/{id}/invite", {"json": {"devices": ["pne-1", "pne-2"]}}, 200),
    ("POST", "/networks/{id}/expel", {"json": {"devices": ["pne-2"]}}, 200),
    ("POST", "/networks/{id}/switch", {"json": {"gateway": "nobody"}}, 404),
    ("GET", "/gateways/{id}/exposure", {}, 200),
    ("POST", "/networks/{id}/release", {}, 200),
    ("GET", "/status", {}, 200),
    ("GET", "/groups", {}, 200),
    ("GET", "/groups/{id}", {}, 200),
    ("POST", "/groups/{id}/settings", {"json": {"policy": "approval"}}, 200),
    ("POST", "/groups/{id}/invite", {"json": {"devices": ["pne-2"]}}, 200),
    ("POST", "/groups/{id}/owner", {"json": {"device": "pne-2"}}, 409),
    ("POST", "/groups/{id}/expel", {"json": {"devices": ["pne-2"]}}, 200),
    ("POST", "/groups/{id}/delete", {}, 200),
    ("GET", "/cm", {}, 200),
    ("GET", "/cm/{id}", {}, 200),
    ("POST", "/cm/rotate", {"json": {"devices": ["cm-1"]}}, 200),
    ("POST", "/cm/{id}/revoke", {"json": {"reassign": True}}, 200),
    ("POST", "/devices/{id}/send", {"json": {"text": "hello"}}, 503),
    ("POST", "/devices/{id}/ping", {}, 503),
    ("POST", "/gateways/{id}/revoke", {}, 200),
    ("POST", "/devices/{id}/revoke", {}, 200),
]


async def test_these_are_all_routes(offline: Offline) -> None:
    api = await told(await offline.client.get("/openapi.json"))
    described = {(method.upper(), path) for path, methods in api["paths"].items() for method in methods}
    assert described == {(method, f"/api/v1{path}") for method, path, _, _ in ROUTES}


TELLS_KEYS = {"/gateways", "/devices", "/devices/import", "/devices/{id}/approve"}
"""The POSTs to these make entities."""


async def test_every_route_answers_and_no_key_comes_out_but_once(offline: Offline) -> None:
    await offline.network("pn-1", "gw-0", "pne-0", strangers=("pne-1",))
    await offline.cm_device("cm-1", "gw-0", "pne-0")
    await offline.group("sg-1", "pne-0")
    names = {"gateways": "gw-1", "devices": "pne-1", "networks": "pn-1", "cm": "cm-1", "groups": "sg-1"}
    secrets: list[str] = []
    for method, path, more, status in ROUTES:
        where = path.replace("{id}", names.get(path.split("/")[1], "")).replace("{name}", "backup")
        response = await offline.client.request(method, where, **more)  # type: ignore[arg-type]
        await told(response, status)
        if method == "POST" and path in TELLS_KEYS:
            assert response.headers["cache-control"] == "no-store"
            secrets += re.findall(r"cpns1/[a-z]+/[^/]+/[^/]+/([A-Z2-7]{52})", response.text)
        else:
            assert not any(secret in response.text for secret in secrets), where
            assert "cpns1/" not in response.text
    assert len(set(secrets)) == 5
    for _, _, sealed in [(c.entity_id, c.kind, c.sealed_key) for c in await credentials(offline)]:
        assert sealed.hex() not in (await offline.client.get("/devices/pne-1")).text


async def credentials(offline: Offline) -> list[Any]:
    ids = [EntityId(name) for name in ("gw-1", "pne-1", "pne-2", "pne-3", "pne-4")]
    found = await offline.store.credentials(ids)
    assert len(found) == 5
    return list(found.values())


async def test_an_entity_comes_with_its_audit(offline: Offline) -> None:
    made = await told(
        await offline.client.post(
            "/devices", json={"id": "pne-1", "gateway": "gw-9", "note": "n", "allow_unknown_gateway": True}
        ),
        201,
    )
    credential = parse_credential(made["credential"], Kind.PNE)
    assert (credential.entity_id, credential.server_id) == ("pne-1", SERVER)
    await told(await offline.client.post("/devices/pne-1/revoke"))
    shown = await told(await offline.client.get("/devices/pne-1"))
    audit = shown.pop("audit")
    assert [row["event"] for row in audit] == ["revoked", "provisioned"]
    assert shown["state"] == "revoked"
    assert shown["revoked_at"].endswith("Z")
    assert (shown["gateway"], shown["note"], shown["pn_id"], shown["connected"]) == ("gw-9", "n", None, None)
    assert (await told(await offline.client.get("/devices")))["items"] == [shown]


async def test_the_kinds_are_kept_apart(offline: Offline) -> None:
    await told(await offline.client.post("/gateways", json={"id": "gw-1"}), 201)
    await problem(await offline.client.get("/devices/gw-1"), 404, "unknown_entity")
    await problem(await offline.client.post("/devices/gw-1/revoke"), 404, "unknown_entity")
    assert (await told(await offline.client.get("/gateways/gw-1")))["state"] == "active"


# import


async def test_a_dry_run_changes_nothing_and_tells_no_key(offline: Offline) -> None:
    content = b"id,note\npne-1,hall\npne-2,\n"
    report = await told(await offline.client.post("/devices/import?dry_run=true", content=content))
    made = [(one["line"], one["id"], one["given"], one["credential"]) for one in report.pop("credentials")]
    assert made == [(2, "pne-1", "pne-1", None), (3, "pne-2", "pne-2", None)]
    assert report == {"rows": 2, "separator": ",", "imported": 0, "unchanged": 0, "bad": []}
    would = await told(await offline.client.post("/devices?dry_run=true", json={"id": "pne-1"}), 201)
    assert would == {"id": "pne-1", "server": SERVER, "credential": None}
    assert (await told(await offline.client.get("/devices")))["items"] == []


async def test_one_bad_row_stops_the_import_and_each_is_named(offline: Offline) -> None:
    await offline.client.post("/devices", json={"id": "pne-0"})
    content = b"id,key\npne-1,\nbad id,\npne-0,\npne-1,\npne-2,nothex\npne-3,00\n"
    report = await told(await offline.client.post("/devices/import", content=content))
    bad = {row["line"]: row["code"] for row in report.pop("bad")}
    assert bad == {3: "bad_id", 4: "id_exists", 5: "id_twice", 6: "bad_key", 7: "weak_key"}
    assert report == {"rows": 6, "separator": ",", "imported": 0, "unchanged": 0, "credentials": []}
    assert len((await told(await offline.client.get("/devices")))["items"]) == 1


# errors


def test_every_family_of_user_errors_has_its_status() -> None:
    assert set(problems.STATUS) == set(UserError.__subclasses__())
    assert {error.__name__: int(status) for error, status in problems.STATUS.items()} == {
        "NotFound": 404,
        "Gone": 410,
        "Conflict": 409,
        "BadInput": 422,
        "Unavailable": 503,
    }


@pytest.mark.parametrize("family", [NotFound, Gone, Conflict, BadInput, Unavailable])
def test_an_error_survives_the_way(family: type[UserError]) -> None:
    error = family("some_code", "What to do.")
    body = problems.problem(problems.to_status(error), error.code, error.sentence)
    back = problems.to_error(problems.to_status(error), body)
    assert (type(back), back.code, back.sentence) == (family, "some_code", "What to do.")


def test_an_answer_that_is_no_problem_is_an_error_all_the_same() -> None:
    for content in (b"<html>", b"[1]", b""):
        with pytest.raises(UserError, match="502") as caught:
            answer_of(httpx.Response(502, content=content))
        assert caught.value.code == "server_failed"


ERRORS = [
    ("GET", "/devices/nobody", {}, 404, "unknown_entity"),
    ("GET", "/gateways/nobody", {}, 404, "unknown_entity"),
    ("POST", "/devices/nobody/revoke", {}, 404, "unknown_entity"),
    ("POST", "/gateways/nobody/revoke", {}, 404, "unknown_entity"),
    ("GET", "/readings?device=nobody", {}, 404, "unknown_entity"),
    ("POST", "/devices", {"json": {"id": "pne-1"}}, 409, "id_exists"),
    ("POST", "/gateways", {"json": {"id": "pne-1"}}, 409, "id_exists"),
    ("POST", "/devices", {"json": {"id": "no id"}}, 422, "bad_id"),
    ("POST", "/devices", {"json": {"id": "pne-2", "gateway": "no id"}}, 422, "bad_id"),
    ("POST", "/devices", {"json": {"id": SERVER}}, 422, "bad_id"),
    ("POST", "/devices", {"json": {"id": "pne-2", "key": "mine"}}, 422, "bad_key"),
    ("POST", "/devices", {"json": {"id": "pne-2", "secret": "mine"}}, 422, "bad_request"),
    ("POST", "/devices", {"json": {"id": "pne-2", "gateway": "gw-9"}}, 404, "unknown_gateway"),
    ("POST", "/devices", {"json": {"id": "pne-2", "note": "x" * 201}}, 422, "bad_note"),
    ("POST", "/devices", {"json": {"id": "pne-2", "note": "\0"}}, 422, "bad_note"),
    ("POST", "/devices", {"content": b'{"id": "pne-2", "note": "\\ud800"}'}, 422, "bad_request"),
    ("POST", "/devices", {"json": {}}, 422, "bad_request"),
    ("POST", "/devices", {"content": b"{"}, 422, "bad_request"),
    ("GET", "/readings?limit=0", {}, 422, "bad_request"),
    ("GET", "/readings?after=-1", {}, 422, "bad_request"),
    ("POST", "/devices/import", {"content": b"name\nx\n"}, 422, "bad_csv"),
    ("POST", "/devices/import", {"content": b"id,color\nx,red\n"}, 422, "bad_csv"),
    ("POST", "/devices/import", {"content": b"\xff\xfe"}, 422, "bad_csv"),
    ("POST", "/devices/import", {"content": b"id,note\n"}, 422, "no_rows"),
    ("POST", "/devices/pne-1/send", {"json": {"text": "x" * 1025}}, 422, "bad_text"),
    ("POST", "/devices/pne-1/send", {"json": {"text": "x", "keep": -1}}, 422, "bad_request"),
    ("POST", "/devices/pne-1/send", {"json": {"text": "x", "keep": "long"}}, 422, "bad_request"),
    ("POST", "/devices/pne-1/send", {"json": {"text": "x", "keep": 60}}, 503, "server_not_running"),
    ("POST", "/devices/pne-1/send", {"json": {"text": "x"}}, 503, "server_not_running"),
    ("POST", "/devices/pne-1/ping", {}, 503, "server_not_running"),
    ("GET", "/readings?follow=true", {}, 503, "server_not_running"),
    ("GET", "/events?follow=true", {}, 503, "server_not_running"),
    ("POST", "/cursors/no%20name", {"json": {}}, 422, "bad_name"),
    ("POST", "/cursors/backup", {"json": {"number": 999999}}, 404, "no_such_event"),
    ("POST", "/cursors/backup/drop", {}, 404, "unknown_cursor"),
    ("POST", "/audit/prune", {"json": {"older": -1}}, 422, "bad_request"),
    ("POST", "/audit/prune", {"json": {}}, 422, "bad_request"),
    ("GET", "/audit?limit=0", {}, 422, "bad_request"),
    ("GET", "/nothing", {}, 404, "no_such_resource"),
    ("DELETE", "/devices", {}, 405, "method_not_allowed"),
]


@pytest.mark.parametrize(("method", "path", "more", "status", "code"), ERRORS)
async def test_errors(offline: Offline, method: str, path: str, more: Any, status: int, code: str) -> None:
    await offline.client.post("/devices", json={"id": "pne-1"})
    await problem(await offline.client.request(method, path, **more), status, code)
    assert len((await told(await offline.client.get("/devices")))["items"]) == 1


async def test_what_was_sent_is_not_in_the_error(offline: Offline) -> None:
    response = await offline.client.post("/devices", json={"id": {"mine": "GEZDGNBV"}})
    await problem(response, 422, "bad_request")
    assert "GEZDGNBV" not in response.text


async def test_a_failure_of_ours_tells_nothing(offline: Offline, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail() -> list[Any]:
        raise RuntimeError("inner matters")

    monkeypatch.setattr(offline.store, "networks", fail)
    response = await offline.client.get("/networks")
    await problem(response, 500, "server_failed")
    assert "inner matters" not in response.text


# readings


async def test_readings_come_in_pages(offline: Offline) -> None:
    for name in ("pne-1", "pne-2"):
        await offline.client.post("/devices", json={"id": name})
    for number in range(1, 6):
        await offline.reading("pne-1" if number % 2 else "pne-2", number)
    page = await told(await offline.client.get("/readings?limit=2"))
    assert [one["body"]["n"] for one in page["items"]] == [1, 2]
    page = await told(await offline.client.get(f"/readings?after={page['next']}"))
    assert [one["body"]["n"] for one in page["items"]] == [3, 4, 5]
    assert (await told(await offline.client.get(f"/readings?after={page['next']}"))) == {"items": [], "next": 5}
    page = await told(await offline.client.get("/readings?device=pne-2"))
    assert [one["device"] for one in page["items"]] == ["pne-2", "pne-2"]
    first = page["items"][0]
    assert first["received_at"] == "1970-01-01T00:00:01.500Z"
    assert (first["id"], first["gateway"], first["verified"]) == ("02" * 12, "gw-1", "e2e")


async def test_following_is_live_for_everybody(live: Live) -> None:
    pne = await live.established()
    await pne.send(pne.next_reading({"n": 1}))

    async def follow(query: str) -> list[int]:
        response = await live.client.get(f"/readings?follow=true&{query}")
        assert response.headers["content-type"].startswith("application/x-ndjson")
        return [json.loads(line)["body"]["n"] for line in response.text.splitlines()]

    queries = ["limit=3", "limit=4&after=0", "limit=3&device=pne-1"]
    followers = [asyncio.create_task(follow(query)) for query in queries]
    await asyncio.sleep(0.1)
    for number in (2, 3, 4):
        await pne.send(pne.next_reading({"n": number}))
    assert await asyncio.wait_for(asyncio.gather(*followers), 40) == [[2, 3, 4], [1, 2, 3, 4], [2, 3, 4]]


async def test_followers_end_with_the_server(live: Live) -> None:
    following = asyncio.create_task(live.client.get("/readings?follow=true"))
    await asyncio.sleep(0.1)
    assert not following.done()
    live.admin.close()
    assert (await asyncio.wait_for(following, 40)).text == ""


async def test_following_nobody_is_an_error(live: Live) -> None:
    await problem(await live.client.get("/readings?follow=true&device=nobody"), 404, "unknown_entity")
    newest = (await told(await live.client.get("/status")))["last_reading"]
    beyond = await live.client.get(f"/readings?follow=true&after={newest + 1}")
    await problem(beyond, 404, "no_such_reading")


async def test_events_are_followed_and_none_is_missed(live: Live) -> None:
    newest = (await told(await live.client.get("/events?limit=10000")))["next"]
    following = asyncio.create_task(live.client.get(f"/events?follow=true&after={newest}&limit=2"))
    await asyncio.sleep(0.1)
    for name in ("one", "two"):
        await told(await live.client.post("/devices", json={"id": name}), 201)
    found = [json.loads(line) for line in (await asyncio.wait_for(following, 40)).text.splitlines()]
    assert [(one["kind"], one["subject"], one["role"], one["by"]) for one in found] == [
        ("provisioned", "one", "admin", "local"),
        ("provisioned", "two", "admin", "local"),
    ]
    beyond = await live.client.get("/events?follow=true&after=9999999")
    await problem(beyond, 404, "no_such_event")


async def test_who_sends_a_text_is_in_the_audit_log_and_what_is_not(live: Live) -> None:
    await live.established()
    await told(await live.client.post("/devices/pne-1/send", json={"text": "the code word"}))
    await live.world.server.refusals.flush()
    (row, *_) = (await told(await live.client.get("/audit?about=pne-1")))["items"][::-1]
    assert (row["event"], row["role"], row["by"]) == ("text_sent", "admin", "local")
    assert "code word" not in (await live.client.get("/audit")).text


async def test_who_follows_events_that_were_dropped_is_told_so(live: Live) -> None:
    await live.world.store.drop_kept(9e12)
    await problem(await live.client.get("/events?after=0"), 410, "events_gone")
    await problem(await live.client.get("/events?follow=true&after=0"), 410, "events_gone")


async def test_the_audit_log_says_who_did_what_and_is_pruned(offline: Offline) -> None:
    await offline.network("pn-1", "gw-0", "pne-0")
    await told(await offline.client.post("/networks/pn-1/settings", json={"policy": "closed"}))
    page = await told(await offline.client.get("/audit?about=pn-1"))
    assert [(one["event"], one["role"], one["by"]) for one in page["items"]] == [("pn_settled", "admin", "local")]
    rows = len((await told(await offline.client.get("/audit")))["items"])
    would = await told(await offline.client.post("/audit/prune?dry_run=true", json={"older": 0}))
    done = await told(await offline.client.post("/audit/prune", json={"older": 0}))
    assert would["rows"] == done["rows"] == rows
    (left,) = (await told(await offline.client.get("/audit")))["items"]
    assert (left["event"], left["by"], left["id"]) == ("audit_pruned", "local", SERVER)
    shown = await told(await offline.client.get("/devices/pne-0"))
    assert (shown["last_result"], shown["last_via"]) == ("success", "gw-0")  # that is not read off the log


# a running server


async def test_a_device_that_is_there_is_reached_and_revoked_at_once(live: Live) -> None:
    await live.established()
    answered = await told(await live.client.post("/devices/pne-1/send", json={"text": "hi", "keep": 60}))
    assert answered == {"answer": "pne-1 got hi", "kept_until": None}
    pong = await told(await live.client.post("/devices/pne-1/ping"))
    assert 0 < pong["seconds"] < 40
    status = await told(await live.client.get("/status"))
    (process,) = status.pop("processes")
    assert (process["condition"], process["here"], process["gateways"]) == ("up", True, ["gw-1"])
    assert status.pop("store") == {"name": str(live.world.place), "trouble": None}
    expected = {"id": SERVER, "running": True, "sessions": 2, "gateways": 1, "devices": 1, "last_reading": 0}
    expected["bus"] = None
    assert status == expected | {"listening": list(live.world.address)}
    shown = await told(await live.client.get("/devices/pne-1"))
    assert (shown["connected"], shown["last_result"], shown["last_via"]) == (True, "success", "gw-1")
    [network] = (await told(await live.client.get("/networks")))["items"]
    assert (network["id"], network["gateway"]) == (shown["pn_id"], "gw-1")
    assert [member["id"] for member in network["members"]] == ["pne-1"]

    assert await told(await live.client.post("/devices/pne-1/revoke")) == {"id": "pne-1", "ended": 1}
    shown = await told(await live.client.get("/devices/pne-1"))
    assert (shown["connected"], shown["state"], shown["pn_id"]) == (False, "revoked", None)
    answer = await live.client.post("/devices/pne-1/send", json={"text": "hi"})
    assert "revoked" in (await problem(answer, 503, "not_established"))["detail"]


async def test_each_reason_for_silence_has_its_code(live: Live) -> None:
    await live.client.post("/devices", json={"id": "pne-9"})
    await problem(await live.client.post("/devices/gw-1/ping"), 404, "unknown_entity")
    await problem(await live.client.post("/devices/pne-9/ping"), 503, "not_established")
    pne = await live.established()
    await live.world.stop(pne)
    await problem(await live.client.post("/devices/pne-1/ping"), 503, "asleep")
    await live.world.stop(live.gateway)
    await asyncio.sleep(0.1)
    await problem(await live.client.post("/devices/pne-1/ping"), 503, "gateway_away")


async def test_a_text_waits_for_a_device_that_is_away(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpns.store.waiting_queries.MAX_PUSHES", 2)

    async def send(text: str, keep: float = 60) -> httpx.Response:
        return await live.client.post("/devices/pne-9/send", json={"text": text, "keep": keep})

    await live.world.provision(Kind.PNE, "pne-9")
    for text in ("one", "two"):
        kept = await told(await send(text))
        assert kept["answer"] is None
        assert kept["kept_until"].endswith("Z")
    await problem(await send("three"), 409, "too_many_pushes")
    await problem(await send("three", keep=0), 503, "not_established")
    await problem(await send("x" * 1025), 422, "bad_text")

    await live.world.joined_pne("pne-9", live.gateway)
    await until(lambda: not live.world.server.pushes.delivery.waits_for(EntityId("pne-9")))
    assert live.world.inboxes["pne-9"] == ["one", "two"]
    assert await told(await send("three")) == {"answer": "pne-9 got three", "kept_until": None}


async def test_nothing_is_kept_for_a_device_that_is_revoked(live: Live) -> None:
    await live.client.post("/devices", json={"id": "pne-9"})
    await live.client.post("/devices/pne-9/revoke")
    answer = await live.client.post("/devices/pne-9/send", json={"text": "hi", "keep": 60})
    await problem(answer, 503, "not_established")


async def test_a_device_may_refuse(live: Live) -> None:
    pne = await live.established()
    pne._inbox = Inbox(lambda text: "x" * 2000)
    answer = await live.client.post("/devices/pne-1/send", json={"text": "hi"})
    await problem(answer, 409, "refused_by_device")


# the data folder


async def test_a_folder_is_made_private_and_once(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "deep" / "srv")
    assert await folder.create("server.example", None, random_bytes) == "server.example"
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.path.iterdir()} == {0o600}
    assert folder.server_id() == "server.example"
    with pytest.raises(Conflict) as caught:
        await folder.create("server.example", None, random_bytes)
    assert caught.value.code == "exists"


async def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "letter").touch()
    with pytest.raises(BadInput) as caught:
        await Folder(tmp_path).create("server.example", None, random_bytes)
    assert caught.value.code == "data_open_to_others"
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("content", "code"), [(None, "no_server"), ("id =", "bad_settings"), ("", "bad_settings"), ('id = "a b"', "bad_id")]
)
def test_a_folder_without_a_server(tmp_path: Path, content: str | None, code: str) -> None:
    if content is not None:
        (tmp_path / "server.toml").write_text(content)
    with pytest.raises(UserError) as caught:
        Folder(tmp_path).server_id()
    assert caught.value.code == code


async def test_one_server_holds_a_folder_and_visitors_know(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with pytest.raises(NotFound), folder.hold():
        pass
    await folder.create("server.example", None, random_bytes)
    with folder.visit() as alone, folder.visit() as also_alone:
        assert (alone, also_alone) == (True, True)
    with folder.hold():
        with folder.visit() as alone:
            assert not alone
        with pytest.raises(Conflict) as caught, folder.hold():
            pass
        assert caught.value.code == "server_running"
    with folder.hold():
        pass


async def test_a_server_waits_for_a_command_to_end(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    await folder.create("server.example", None, random_bytes)

    def start() -> None:
        with folder.hold():
            pass

    with folder.visit():
        starting = asyncio.create_task(asyncio.to_thread(start))
        await asyncio.sleep(0.2)
        assert not starting.done()
    await asyncio.wait_for(starting, 40)


# client and socket


async def test_without_a_server_the_client_has_the_api_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path / "srv")
    await folder.create("server.example", None, random_bytes)
    opened = 0

    def open_vault() -> Vault:
        nonlocal opened
        opened += 1
        return FileVault(Secret(folder.kek.read_bytes()), random_bytes)

    async with open_client(folder.path, open_vault) as client:
        assert (await told(await client.get("/status")))["running"] is False
        assert opened == 0
        await told(await client.post("/devices", json={"id": "pne-1"}), 201)
        await told(await client.post("/devices", json={"id": "pne-2"}), 201)
        assert opened == 1
        monkeypatch.setattr("cpns.admin.folder.COMMAND_PATIENCE", 0.1)
        with pytest.raises(Conflict), folder.hold():
            pass


async def test_a_lazy_vault_is_the_vault() -> None:
    checked: list[Vault] = []
    vault = LazyVault(lambda: FileVault(Secret(bytes(32)), random_bytes), checked.append)
    sealed = vault.seal("eukey", "pne-1", Secret(b"key"))
    assert vault.open("eukey", "pne-1", sealed) == Secret(b"key")
    assert len(checked) == 1


async def test_the_socket_is_for_its_owner_and_goes_with_the_server(live: Live, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "srv")
    await folder.create("server.example", None, random_bytes)
    with socket.socket(socket.AF_UNIX) as died:
        died.bind(str(folder.socket))
    umask = os.umask(0)
    try:
        with folder.hold():
            listener = Listener(live.admin, folder.socket)
            await listener.start()
            assert stat.S_IMODE(folder.socket.stat().st_mode) == 0o600
            async with open_client(folder.path, pytest.fail) as client:
                assert (await told(await client.get("/status")))["running"] is True
                async with client.stream("GET", "/readings?follow=true") as stream:
                    await asyncio.wait_for(listener.close(), 40)
                    assert [line async for line in stream.aiter_lines()] == []
        assert not folder.socket.exists()
        assert os.umask(0) == 0
    finally:
        os.umask(umask)


async def test_a_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpns.admin.client.START_PATIENCE", 0.1)
    folder = Folder(tmp_path / "srv")
    await folder.create("server.example", None, random_bytes)
    with folder.hold(), pytest.raises(Unavailable) as caught:
        async with open_client(folder.path, pytest.fail):
            pass
    assert caught.value.code == "server_not_answering"


async def test_a_path_too_long_for_a_socket(live: Live, tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    with pytest.raises(BadInput) as caught:
        await Listener(live.admin, deep / "admin.sock").start()
    assert caught.value.code == "data_path_too_long"
