"""The admin API about personal networks and those who wait, of a server that does not run: what is done, and errors."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns.admin.service import Admin
from cpns.crypto.secret import Secret
from cpns.domain import told as sentences
from cpns.domain.actor import OPERATOR
from cpns.domain.credential import parse_credential
from cpns.domain.inventory import Kind
from cpns.domain.member_list import Standing
from cpns.domain.network import Admission
from cpns.errors import Conflict, NotFound, Refused, Result
from cpns.ids import EntityId, PnId
from cpns.service.provisioning import NoSessions, Provisioning
from cpns.service.system import random_bytes
from cpns.store import network_queries
from cpns.store.server_store import ServerStore
from cpns.store.vault import FileVault
from cpns.wire.registry import MAX_BATCH
from tests.support.world import CLOCK, SERVER
from tests.unit.test_admin import Offline, client_of, problem, told

PN = PnId("pn-1")
WHEN = "1970-01-01T00:00:01.500Z"
MEMBER = Admission(Result.SUCCESS, standing=Standing.MEMBER)


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Offline]:
    """The API of a server with pn-1 of gw-1, in which pne-1 (its owner) and pne-2 are; gw-2, pne-3 and pne-4."""
    store = ServerStore.open(tmp_path / "server.db")
    vault = FileVault(Secret(random_bytes(32)), random_bytes)
    provisioning = Provisioning(SERVER, store, vault, CLOCK, random_bytes, NoSessions())
    async with client_of(Admin(SERVER, store, provisioning, None, CLOCK)) as client:
        one = Offline(client, store, provisioning)
        await one.network(PN, "gw-1", "pne-1", "pne-2")
        await provisioning.add(OPERATOR, Kind.GATEWAY, "gw-2", None, "")
        for name in ("pne-3", "pne-4"):
            await provisioning.add(OPERATOR, Kind.PNE, name, None, "")
        yield one
    await store.close()


def member(name: str, **other: Any) -> dict[str, Any]:
    """A member as the API tells of it, where the server does not run."""
    fixed = {"since": WHEN, "guest": False, "pan_secure": True, "state": None, "at": None, "source": None}
    return {"id": name, **fixed, **other}


async def get(home: Offline, path: str, status: int = 200) -> dict[str, Any]:
    return await told(await home.client.get(path), status)


async def post(home: Offline, path: str, status: int = 200, **body: Any) -> dict[str, Any]:
    return await told(await home.client.post(path, json=body), status)


async def bad(home: Offline, path: str, status: int, code: str, **body: Any) -> str:
    """POST what is refused; return the sentence, after a look at whether all is as it was."""
    before = await home.store.networks(), await home.store.waiting(), await home.store.audit(None, 999)
    body = await problem(await home.client.post(path, json=body), status, code)
    assert (await home.store.networks(), await home.store.waiting(), await home.store.audit(None, 999)) == before
    return str(body["detail"])


async def last_event(home: Offline, name: str) -> tuple[str, str]:
    [row] = await home.store.audit(EntityId(name), 1)
    return row.event, row.actor.name


async def make_wait(home: Offline, *devices: str, pn_id: str = PN, gateway: str = "gw-1") -> None:
    """Let devices wait to be approved of."""
    await post(home, f"/networks/{pn_id}/settings", policy="approval")
    found = await home.establish(pn_id, gateway, *devices)
    assert {one.result for one in found.admissions.values()} == {Result.PENDING_APPROVAL}


# the PN Inventory


async def test_a_network_is_told_with_who_is_in_it_and_on_its_list(home: Offline) -> None:
    await make_wait(home, "pne-3")
    shown = await get(home, "/networks/pn-1")
    assert await get(home, "/networks") == {"items": [shown]}
    created = shown.pop("created_at")
    assert created == WHEN
    assert shown == {
        **{"id": "pn-1", "gateway": "gw-1", "alias": None, "owner": "pne-1", "policy": "approval", "version": 2},
        "stands_in": None,
        "members": [member("pne-1"), member("pne-2")],
        "listed": {"pne-3": "pending"},
    }


async def test_a_guest_is_told_as_one_in_both_networks(home: Offline) -> None:
    await home.network("pn-2", "gw-3", "pne-9")
    await home.establish("pn-2", "gw-3", "pne-2", at=2.0)
    guest = member("pne-2", guest=True, since="1970-01-01T00:00:02.000Z")
    assert (await get(home, "/networks/pn-2"))["members"] == [guest, member("pne-9")]
    assert (await get(home, "/networks/pn-1"))["listed"] == {"pne-2": "member"}
    assert (await get(home, "/devices/pne-2"))["pn_id"] == "pn-2"


async def test_no_network_is_an_empty_list(tmp_path: Path, home: Offline) -> None:
    await post(home, "/networks/pn-1/release")
    assert await get(home, "/networks") == {"items": []}


async def test_a_network_is_found_by_its_alias(home: Offline) -> None:
    await post(home, "/networks/pn-1/settings", alias="the home")
    assert (await get(home, "/networks/the home"))["id"] == "pn-1"
    assert await post(home, "/networks/the home/expel", devices=["pne-2"]) == {"id": "the home"}
    assert [one["id"] for one in (await get(home, "/networks/pn-1"))["members"]] == ["pne-1"]


async def test_an_alias_of_two_is_ambiguous_and_an_id_is_not(home: Offline) -> None:
    await home.network("pn-2", "gw-3", "pne-9")
    for pn_id in ("pn-1", "pn-2"):
        await post(home, f"/networks/{pn_id}/settings", alias="pn-1" if pn_id == "pn-2" else "flat")
    assert (await get(home, "/networks/pn-1"))["alias"] == "flat"
    await post(home, "/networks/pn-2/settings", alias="flat")
    answer = await problem(await home.client.get("/networks/flat"), 409, "ambiguous_alias")
    assert answer["detail"].endswith("pn-1, pn-2.")
    await bad(home, "/networks/flat/release", 409, "ambiguous_alias")
    await bad(home, "/networks/flat/expel", 409, "ambiguous_alias", devices=["pne-2"])


ACTIONS: dict[str, dict[str, Any]] = {
    "invite": {"devices": ["pne-2"]},
    "expel": {"devices": ["pne-2"]},
    "release": {},
    "switch": {"gateway": "gw-2"},
    "settings": {"policy": "closed"},
}


@pytest.mark.parametrize("action", ACTIONS)
async def test_an_unknown_network_is_told(home: Offline, action: str) -> None:
    await problem(await home.client.get("/networks/pn-9"), 404, "unknown_network")
    sentence = await bad(home, f"/networks/pn-9/{action}", 404, "unknown_network", **ACTIONS[action])
    assert "pn-9" in sentence


@pytest.mark.parametrize("action", [action for action in ACTIONS if action != "release"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"color": "red"}'])
async def test_a_body_that_does_not_fit_is_refused(home: Offline, action: str, content: bytes) -> None:
    await problem(await home.client.post(f"/networks/pn-1/{action}", content=content), 422, "bad_request")


# settings


async def test_settings_change_what_they_name(home: Offline) -> None:
    changed = await post(home, "/networks/pn-1/settings", policy="closed", alias="flat", owner="pne-2")
    assert (changed["policy"], changed["alias"], changed["owner"], changed["version"]) == ("closed", "flat", "pne-2", 2)
    assert await last_event(home, "pn-1") == ("pn_settled", "local")
    changed = await post(home, "/networks/pn-1/settings", policy="open")
    assert (changed["policy"], changed["alias"], changed["owner"], changed["version"]) == ("open", "flat", "pne-2", 3)
    assert await post(home, "/networks/pn-1/settings") == changed == await get(home, "/networks/pn-1")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"policy": "ajar"}, 422, "bad_request"),
        ({"alias": ""}, 422, "bad_request"),
        ({"alias": "x" * 65}, 422, "bad_request"),
        ({"version": 7}, 422, "bad_request"),
        ({"owner": "no id"}, 422, "bad_id"),
        ({"owner": ""}, 422, "bad_id"),
        ({"owner": "pne-9"}, 404, "unknown_entity"),
        ({"owner": "gw-1"}, 404, "unknown_entity"),
        ({"owner": "pne-3"}, 409, "owner_is_no_member"),
        ({"owner": "pne-3", "policy": "closed", "alias": "flat"}, 409, "owner_is_no_member"),
    ],
)
async def test_settings_that_can_not_be(home: Offline, body: dict[str, Any], status: int, code: str) -> None:
    await bad(home, "/networks/pn-1/settings", status, code, **body)


@pytest.mark.parametrize("alias", ["ü" * 64, "a\nb", "\x07"])
async def test_an_alias_that_the_wire_does_not_take(home: Offline, alias: str) -> None:
    assert (await home.client.post("/networks/pn-1/settings", json={"alias": alias})).status_code == 422


async def test_the_policy_counts_from_the_next_setup_on(home: Offline) -> None:
    await post(home, "/networks/pn-1/settings", policy="closed")
    found = await home.establish(PN, "gw-1", "pne-1", "pne-3")
    assert found.admissions == {"pne-1": MEMBER, "pne-3": Admission(Result.POLICY, "not_on_the_member_list")}
    assert (await get(home, "/networks/pn-1"))["listed"] == {}


# invite and expel


async def test_the_invited_are_listed_and_out_of_reach_of_a_server_that_rests(home: Offline) -> None:
    await post(home, "/networks/pn-1/settings", policy="closed")
    invited = await post(home, "/networks/pn-1/invite", devices=["pne-3", "pne-4", "pne-3"])
    assert invited == {"results": {"pne-3": "out_of_reach", "pne-4": "out_of_reach"}}
    assert (await get(home, "/networks/pn-1"))["listed"] == {"pne-3": "invited", "pne-4": "invited"}
    assert await last_event(home, "pne-3") == ("invited", "local")
    assert (await home.establish(PN, "gw-1", "pne-3")).admissions == {"pne-3": MEMBER}
    assert (await get(home, "/networks/pn-1"))["listed"] == {"pne-4": "invited"}


async def test_the_expelled_are_barred_until_they_are_invited(home: Offline) -> None:
    await post(home, "/networks/pn-1/invite", devices=["pne-3"])
    assert await post(home, "/networks/pn-1/expel", devices=["pne-1", "pne-3"]) == {"id": "pn-1"}
    shown = await get(home, "/networks/pn-1")
    assert ([one["id"] for one in shown["members"]], shown["owner"]) == (["pne-2"], "pne-2")
    assert shown["listed"] == {"pne-1": "barred", "pne-3": "barred"}
    assert await last_event(home, "pne-1") == ("expelled", "local")
    assert (await home.establish(PN, "gw-1", "pne-1")).admissions == {"pne-1": Admission(Result.NOT_ALLOWED, "barred")}
    await post(home, "/networks/pn-1/invite", devices=["pne-1"])
    assert (await home.establish(PN, "gw-1", "pne-1")).admissions == {"pne-1": MEMBER}


async def test_one_that_is_not_there_stops_the_expulsion(home: Offline) -> None:
    sentence = await bad(home, "/networks/pn-1/expel", 409, "not_in_this_pn", devices=["pne-2", "pne-3"])
    assert "cpns network show" in sentence


@pytest.mark.parametrize("action", ["invite", "expel"])
@pytest.mark.parametrize(
    ("devices", "status", "code"),
    [
        ([], 422, "bad_request"),
        (["pne-2"] * 65, 422, "bad_request"),
        ("pne-2", 422, "bad_request"),
        ([2], 422, "bad_request"),
        (["pne-2", "no id"], 422, "bad_id"),
        (["pne-2", ""], 422, "bad_id"),
        (["pne-2", "pne-9"], 404, "unknown_entity"),
        (["pne-2", "gw-1"], 404, "unknown_entity"),
    ],
)
async def test_devices_that_can_not_be(home: Offline, action: str, devices: Any, status: int, code: str) -> None:
    await bad(home, f"/networks/pn-1/{action}", status, code, devices=devices)


async def test_a_full_member_list_is_told(home: Offline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_queries, "MAX_LISTED", 2)
    sentence = await bad(home, "/networks/pn-1/invite", 409, "member_list_is_full", devices=["pne-3"])
    assert "full" in sentence


# release and switch


async def test_a_released_network_is_gone_and_its_devices_stay(home: Offline) -> None:
    assert await post(home, "/networks/pn-1/release") == {"id": "pn-1"}
    assert await get(home, "/networks") == {"items": []}
    await problem(await home.client.get("/networks/pn-1"), 404, "unknown_network")
    await bad(home, "/networks/pn-1/release", 404, "unknown_network")
    assert await last_event(home, "pn-1") == ("pn_released", "local")
    shown = await get(home, "/devices/pne-1")
    assert (shown["state"], shown["pn_id"]) == ("active", None)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"gateway": "gw-9"}, 404, "unknown_entity"),
        ({"gateway": "no id"}, 404, "unknown_entity"),
        ({"gateway": "pne-3"}, 404, "unknown_entity"),
        ({"gateway": None}, 422, "bad_request"),
    ],
)
async def test_a_switch_that_can_not_be(home: Offline, body: dict[str, Any], status: int, code: str) -> None:
    await bad(home, "/networks/pn-1/switch", status, code, **body)


async def test_a_switch_needs_the_new_gateway_to_agree(home: Offline) -> None:
    answer = await home.client.post("/networks/pn-1/switch", json={"gateway": "gw-2"})
    assert answer.json()["code"] == "gateway_away"
    assert (await get(home, "/networks/pn-1"))["gateway"] == "gw-1"


@pytest.mark.parametrize("action", ["invite", "expel"])
@pytest.mark.parametrize(
    ("devices", "code"),
    [([], "bad_request"), ([f"pne-{n}" for n in range(MAX_BATCH + 1)], "bad_request"), (["a b"], "bad_id")],
)
async def test_whom_an_action_on_a_group_names_is_checked(
    home: Offline, action: str, devices: list[str], code: str
) -> None:
    """Nobody is left out in silence."""
    await home.group("sg-1", "pne-1")
    await bad(home, f"/groups/sg-1/{action}", 422, code, devices=devices)


async def test_a_gateway_that_is_away_is_unavailable(home: Offline) -> None:
    await bad(home, "/networks/pn-1/switch", 503, "gateway_away", gateway="gw-2")


@pytest.mark.parametrize(
    ("error", "family", "code"),
    [
        (Refused(Result.UNKNOWN_PN, "no_such_pn"), NotFound, "unknown_network"),
        (Refused(Result.NOT_A_MEMBER, "not_in_this_pn"), Conflict, "not_in_this_pn"),
        (Refused(Result.NOT_A_MEMBER, "not_waiting"), Conflict, "not_waiting"),
        (Refused(Result.IN_PROGRESS, "switched_meanwhile"), Conflict, "switched_meanwhile"),
        (Refused(Result.EXISTS, "serves_it_already"), Conflict, "serves_it_already"),
        (Refused(Result.NOT_ALLOWED, "some_reason"), Conflict, "some_reason"),
    ],
)
def test_a_refusal_is_told_with_its_code(error: Refused, family: type[Exception], code: str) -> None:
    found = sentences.told(error)
    assert (type(found), found.code) == (family, code)
    assert found.sentence.endswith(".")


# who waits


async def test_those_that_wait_are_told_the_proven_first(home: Offline) -> None:
    assert await get(home, "/pending") == {"items": []}
    await make_wait(home, "pne-3")
    await home.strangers("gw-1", "a-stranger", at=2.0)
    await home.establish(PN, "gw-1", "pne-3", at=3.0)
    await home.strangers("gw-1", "a-stranger", at=3.0)
    later = {"via": "gw-1", "last": "1970-01-01T00:00:03.000Z", "attempts": 2}
    assert (await get(home, "/pending"))["items"] == [
        {"id": "pne-3", "known": True, "network": "pn-1", "since": WHEN, **later},
        {"id": "a-stranger", "known": False, "network": None, "since": "1970-01-01T00:00:02.000Z", **later},
    ]


async def test_the_approved_is_a_member_when_it_comes_again(home: Offline) -> None:
    await make_wait(home, "pne-3")
    assert await post(home, "/devices/pne-3/approve") == {"id": "pne-3", "server": None, "credential": None}
    assert await get(home, "/pending") == {"items": []}
    assert (await get(home, "/networks/pn-1"))["listed"] == {"pne-3": "member"}
    assert await last_event(home, "pne-3") == ("approved", "local")
    assert (await home.establish(PN, "gw-1", "pne-3")).admissions == {"pne-3": MEMBER}
    await bad(home, "/devices/pne-3/approve", 404, "not_waiting")


async def test_the_refused_is_barred(home: Offline) -> None:
    await make_wait(home, "pne-3")
    assert await post(home, "/devices/pne-3/refuse", network="pn-1") == {"id": "pne-3"}
    assert await get(home, "/pending") == {"items": []}
    assert (await get(home, "/networks/pn-1"))["listed"] == {"pne-3": "barred"}
    assert await last_event(home, "pne-3") == ("barred", "local")
    await bad(home, "/devices/pne-3/refuse", 404, "not_waiting")


async def test_an_approved_stranger_is_provisioned_and_its_key_told_once(home: Offline) -> None:
    await home.strangers("gw-1", "pne-9")
    response = await home.client.post("/devices/pne-9/approve", json={"note": "from the fair"})
    assert response.headers["cache-control"] == "no-store"
    credential = parse_credential((await told(response))["credential"], Kind.PNE)
    assert (credential.entity_id, credential.server_id) == ("pne-9", SERVER)
    shown = await get(home, "/devices/pne-9")
    assert (shown["state"], shown["note"], shown["gateway"], shown["pn_id"]) == ("active", "from the fair", None, None)
    assert await get(home, "/pending") == {"items": []}
    await bad(home, "/devices/pne-9/approve", 404, "not_waiting")


async def test_a_refused_stranger_is_forgotten_and_not_barred(home: Offline) -> None:
    await home.strangers("gw-1", "pne-9", "pne-8")
    assert await post(home, "/devices/pne-9/refuse") == {"id": "pne-9"}
    assert [one["id"] for one in (await get(home, "/pending"))["items"]] == ["pne-8"]
    assert (await get(home, "/networks/pn-1"))["listed"] == {}
    await problem(await home.client.get("/devices/pne-9"), 404, "unknown_entity")


@pytest.mark.parametrize("action", ["approve", "refuse"])
async def test_one_that_waits_for_two_networks_needs_one_named(home: Offline, action: str) -> None:
    await home.network("pn-2", "gw-3", "pne-9")
    await make_wait(home, "pne-3")
    await make_wait(home, "pne-3", pn_id="pn-2", gateway="gw-3")
    await post(home, "/networks/pn-2/settings", alias="flat")
    sentence = await bad(home, f"/devices/pne-3/{action}", 409, "which_network")
    assert "pn-1, pn-2" in sentence
    await post(home, f"/devices/pne-3/{action}", network="flat")
    expected = {"approve": "member", "refuse": "barred"}[action]
    assert (await get(home, "/networks/pn-2"))["listed"] == {"pne-3": expected}
    assert (await get(home, "/networks/pn-1"))["listed"] == {"pne-3": "pending"}
    assert [one["network"] for one in (await get(home, "/pending"))["items"]] == ["pn-1"]


@pytest.mark.parametrize("action", ["approve", "refuse"])
@pytest.mark.parametrize(
    ("device", "body", "status", "code"),
    [
        ("pne-1", {}, 404, "not_waiting"),
        ("pne-4", {}, 404, "not_waiting"),
        ("nobody", {}, 404, "not_waiting"),
        ("gw-1", {}, 404, "not_waiting"),
        ("pne-3", {"network": "pn-9"}, 404, "unknown_network"),
        ("pne-3", {"network": "pn-2"}, 404, "not_waiting"),
        ("pne-9", {"network": "pn-1"}, 404, "not_waiting"),
        ("pne-3", {"network": 1}, 422, "bad_request"),
        ("pne-3", {"color": "red"}, 422, "bad_request"),
    ],
)
async def test_decisions_that_can_not_be(
    home: Offline, action: str, device: str, body: dict[str, Any], status: int, code: str
) -> None:
    await home.network("pn-2", "gw-3", "pne-8")
    await make_wait(home, "pne-3")
    await home.strangers("gw-1", "pne-9")
    await bad(home, f"/devices/{device}/{action}", status, code, **body)


async def test_a_stranger_that_was_added_by_hand_waits_no_longer(home: Offline) -> None:
    await home.strangers("gw-1", "pne-9")
    await post(home, "/devices", 201, id="pne-9")
    await bad(home, "/devices/pne-9/approve", 404, "not_waiting")


async def test_a_revoked_device_waits_no_longer(home: Offline) -> None:
    await make_wait(home, "pne-3")
    await post(home, "/devices/pne-3/revoke")
    assert await get(home, "/pending") == {"items": []}
    assert (await get(home, "/networks/pn-1"))["listed"] == {}


# exposure


async def test_what_a_gateway_held_is_told(home: Offline) -> None:
    await home.establish(PN, "gw-1", "pne-2", at=2.0)
    await home.reading("pne-1", 1)
    await home.reading("pne-1", 2)
    assert await get(home, "/gateways/gw-1/exposure") == {
        "id": "gw-1",
        "networks": ["pn-1"],
        "devices": [
            {"device": "pne-1", "first": WHEN, "last": WHEN, "establishments": 1, "readings_carried": 2},
            {
                **{"device": "pne-2", "first": WHEN, "last": "1970-01-01T00:00:02.000Z"},
                **{"establishments": 2, "readings_carried": 0},
            },
        ],
        "cm_devices": [],
    }


async def test_which_cm_devices_a_gateway_set_up_is_told(home: Offline) -> None:
    """And of which of them it knows the key: a fresh one was agreed on behind its back."""
    for device, pne in (("cm-1", "pne-1"), ("cm-2", "pne-2")):
        await home.cm_device(device, "gw-1", pne)
    fresh = EntityId("cm-2")
    await home.store.rekey_cm(fresh, EntityId("pne-2"), 1, b"sealed anew", 2.5)
    await home.store.activate_cm(fresh, 1, 3.0)
    told = {one["id"]: one for one in (await get(home, "/gateways/gw-1/exposure"))["cm_devices"]}
    assert {id: one["known_to_gateway"] for id, one in told.items()} == {"cm-1": True, "cm-2": False}
    assert told["cm-2"] == {
        **{"id": "cm-2", "device": "pne-2", "gateway": "gw-1", "state": "active", "generation": 1},
        **{"known_to_gateway": False, "rotation_due": False, "connected": None, "revoked_at": None},
        **{"created_at": "1970-01-01T00:00:02.500Z", "used_at": "1970-01-01T00:00:03.000Z"},
    }
    assert (await get(home, "/gateways/gw-2/exposure"))["cm_devices"] == []


async def test_what_can_not_be_done_to_a_cm_device(home: Offline) -> None:
    for number in (1, 2):
        await home.cm_device(f"cm-{number}", f"gw-{number}", "pne-1")
    await bad(home, "/cm/pne-1/revoke", 409, "ambiguous_device")
    await bad(home, "/cm/nobody/revoke", 404, "unknown_cm_device")
    await bad(home, "/cm/gw-1/revoke", 404, "unknown_cm_device")
    await post(home, "/cm/cm-1/revoke", reassign=False)
    await bad(home, "/cm/rotate", 404, "unknown_cm_device", devices=["cm-2", "cm-1"])
    assert (await get(home, "/cm/pne-1"))["rotation_due"] is False  # the active one, and all or none
    assert [row["event"] for row in (await get(home, "/cm/cm-1"))["audit"]] == ["revoked", "cm_assigned"]


async def test_what_was_held_stays_true_when_the_network_is_gone(home: Offline) -> None:
    held = (await get(home, "/gateways/gw-1/exposure"))["devices"]
    await post(home, "/networks/pn-1/release")
    assert await get(home, "/gateways/gw-1/exposure") == {
        **{"id": "gw-1", "networks": [], "devices": held, "cm_devices": []}
    }
    assert await get(home, "/gateways/gw-2/exposure") == {
        **{"id": "gw-2", "networks": [], "devices": [], "cm_devices": []}
    }


async def test_a_gateway_of_two_networks_is_told_of(home: Offline) -> None:
    await home.establish("pn-2", "gw-1", "pne-3")
    assert (await get(home, "/gateways/gw-1/exposure"))["networks"] == ["pn-1", "pn-2"]
    assert [one["id"] for one in (await get(home, "/gateways"))["items"]] == ["gw-1", "gw-2"]
    assert (await get(home, "/status"))["gateways"] == 2


@pytest.mark.parametrize("gateway", ["gw-9", "pne-1"])
async def test_nobody_but_a_gateway_is_exposed(home: Offline, gateway: str) -> None:
    await problem(await home.client.get(f"/gateways/{gateway}/exposure"), 404, "unknown_entity")
