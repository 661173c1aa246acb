"""What `cpns explain` says, from facts alone."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from cpns.admin import service
from cpns.admin.service import Admin
from cpns.crypto.secret import Secret
from cpns.domain.actor import OPERATOR
from cpns.domain.explanation import Facts, explain
from cpns.domain.inventory import Entity, Kind, State, StoredReading
from cpns.domain.network import Present, Waiting
from cpns.domain.presence import Fact
from cpns.domain.process import Process
from cpns.domain.reasons import meaning
from cpns.errors import NotFound, Result, Unavailable
from cpns.ids import EntityId, PnId
from cpns.service.system import random_bytes
from cpns.wire.registry import Presence, Source
from tests.support.world import CLOCK, SERVER, world

WATCH = Entity(
    EntityId("watch"),
    Kind.PNE,
    State.ACTIVE,
    None,
    "",
    bytes(8),
    100.0,
    None,
    Result.SUCCESS,
    "",
    EntityId("hub"),
    190.0,
    None,
)
HUB = dataclasses.replace(WATCH, entity_id=EntityId("hub"), kind=Kind.GATEWAY, last_via=None)
READING = StoredReading(7, bytes(12), EntityId("watch"), EntityId("hub"), "e2e", 195.0, "{}")
MEMBER = (PnId("pn-1"), Present(EntityId("watch"), pan_secure=False, since=110.0, guest=False))
HEARD = Fact(Presence.CONNECTED, 194.0, Source.PNE)
ASLEEP = Fact(Presence.ASLEEP, 150.0, Source.GATEWAY)
FINE = Facts(200.0, True, WATCH, HUB, True, 10.0, True, READING, MEMBER, (), HEARD, owner=EntityId("watch"))
WAITS = Waiting(EntityId("watch"), PnId("pn-1"), EntityId("hub"), known=True, since=120.0, last=180.0, attempts=3)


def test_all_is_well() -> None:
    found = explain(FINE)
    assert [one.good for one in found] == [True] * 8
    assert [one.age for one in found] == [100.0, 10.0, 90.0, None, 10.0, 6.0, 5.0, None]
    assert not any(one.next_step for one in found)


def test_who_stands_in_for_an_owner_and_how_one_is_named() -> None:
    found = explain(dataclasses.replace(FINE, owner=None, stands_in=EntityId("lamp")))[-1]
    assert (found.step, found.good) == ("owner", None)
    assert "lamp came first" in found.what
    assert "`cpns network set pn-1 --owner DEVICE`" in found.next_step
    assert explain(dataclasses.replace(FINE, owner=None))[-1].what == "nobody owns it"


NOTED = (
    *("unknown", "revoked", "wrong_hash", "not_a_pne", "not_a_gateway", "not_admitted_through_this_gateway"),
    *("pan_mismatch", "no_local_eukey_on_open_pan", "suite_refused", "bad_request", "cloned", "pending_approval"),
    *("barred", "not_on_the_member_list", "no_answer"),
)
"""What the audit log has of devices that are not let in."""


@pytest.mark.parametrize("reason", NOTED)
def test_every_reason_has_a_next_step(reason: str) -> None:
    device = dataclasses.replace(WATCH, last_result=Result.AUTHENTICATION_FAILED, last_reason=reason)
    attempt = explain(dataclasses.replace(FINE, device=device))[1]
    assert (attempt.good, attempt.next_step) == (False, meaning(reason))
    assert reason in attempt.what


@pytest.mark.parametrize(
    ("change", "step", "good", "says"),
    [
        ({"device": dataclasses.replace(WATCH, state=State.REVOKED, revoked_at=150.0)}, 0, False, "revoked"),
        ({"device": dataclasses.replace(WATCH, last_result=None, last_at=None)}, 1, None, "none was ever seen"),
        ({"network": None}, 2, None, "in none"),
        ({"network": None, "waiting": (WAITS,)}, 2, False, "waits for pn-1"),
        ({"gateway_connected": False}, 3, False, "not connected"),
        ({"gateway": dataclasses.replace(HUB, state=State.REVOKED)}, 3, False, "revoked"),
        ({"gateway": None}, 3, None, "none is known"),
        ({"running": False, "session_age": None}, 3, None, "does not run"),
        ({"session_age": None}, 4, False, "none stands"),
        ({"gateway_connected": False, "unasked": ("b",)}, 3, None, "not connected to this process; other processes"),
        ({"session_age": None, "unasked": ("b",)}, 4, None, "none stands at this process; other processes can't"),
        ({"presence": None, "unasked": ("b",)}, 5, None, "not known here; other processes can't be asked"),
        ({"confirmed": False}, 4, None, "has not used it"),
        (
            {"presence": Fact(Presence.ASLEEP, 150.0, Source.GATEWAY), "texts": 2},
            5,
            None,
            "asleep, says its gateway; 2",
        ),
        ({"presence": Fact(Presence.AWAY, 150.0, Source.SERVER)}, 5, False, "away, says the server"),
        ({"presence": None}, 5, None, "does not run"),
        ({"answers": False}, 5, False, "connected, said the device itself; it does not answer now"),
        ({"last_reading": None}, 6, None, "none was ever received"),
        (
            {"clones": (3, 1.5, ("den", "hub"))},
            8,
            False,
            "the key of watch push each other out, at den and hub",
        ),
        ({"clones_of_gateway": (2, 0.5, ("10.0.0.1",))}, 8, False, "two gateways with the key of hub push"),
        ({"gateway_store_fails": True}, 8, False, "hub says that it can keep nothing"),
        ({"store": "the disk is full"}, 8, False, "the disk is full"),
        ({"excess": ("too_many_readings", 3, 1.5)}, 8, False, "over its share of readings a second, 3 times"),
        ({"excess_of_gateway": ("another", 1, 0.5)}, 8, False, "over its share of another, 1 times"),
    ],
)
def test_each_hop(change: dict[str, Any], step: int, good: bool | None, says: str) -> None:
    finding = explain(dataclasses.replace(FINE, **change))[step]
    assert finding.good is good
    assert says in finding.what


@pytest.mark.parametrize("created", [100.0, 199.0], ids=["before the server started", "after it"])
@pytest.mark.parametrize("attempt", [None, 90.0], ids=["never tried", "tried before it was provisioned"])
def test_nothing_is_older_than_the_device(created: float, attempt: float | None) -> None:
    """Whoever never came has no age but its own: what the server did before is no news of it."""
    ended = None if attempt is None else Result.AUTHENTICATION_FAILED
    device = dataclasses.replace(WATCH, created_at=created, last_result=ended, last_reason="unknown", last_at=attempt)
    away = Fact(Presence.AWAY, 150.0, Source.SERVER)
    nothing: dict[str, Any] = {
        "gateway": None,
        "session_age": None,
        "last_reading": None,
        "network": None,
        "owner": None,
    }
    found = explain(dataclasses.replace(FINE, device=device, presence=away, texts=1, **nothing))
    assert [one.age for one in found if one.age is not None] == [200.0 - created]
    assert (found[1].good, found[5].good) == (None, False)
    assert found[5].what == "never had a session here; 1 texts wait for it"


async def test_it_is_told_of_a_live_device(tmp_path: Path) -> None:
    async with world(tmp_path) as one:
        server = await one.start_server()
        admin = Admin(SERVER, one.store, one.provisioning, server, CLOCK)
        gateway = await one.start_gateway(answer_timeout=0.5)
        pne = await one.joined_pne("pne-1", gateway)
        await pne.send(pne.next_reading({"n": 1}))
        found = await admin.explain("pne-1")
        assert [finding.good for finding in found] == [*[True] * 7, None]
        assert "pne-1 came first" in found[-1].what
        assert pne.joined is not None
        await server.networks.actions.update(
            pne.joined.pn_id, OPERATOR, policy=None, alias=None, owner=EntityId("pne-1")
        )
        assert (await admin.explain("pne-1"))[-1].what == "pne-1 owns it"
        await one.provision(Kind.PNE, "pne-2")
        one.keys["pne-2"] = Secret(random_bytes(32))
        await one.start_pne("pne-2", gateway, timer=2.0)
        await one.refusal("pne-2")
        found = await admin.explain("pne-2")
        assert [finding.good for finding in found] == [True, False, None, True, False, False, None, None]
        assert "no_answer" in found[1].what  # its LocalEUKey copy does not open, so it says nothing
        with pytest.raises(NotFound):
            await admin.explain("pne-3")
        one.keys["stranger"] = Secret(random_bytes(32))
        await one.start_pne("stranger", gateway, timer=2.0)
        await one.refusal("stranger")
        (finding,) = await admin.explain("stranger")
        assert (finding.good, finding.step) == (False, "provisioned")
        assert "gw-1 named it" in finding.what
        assert "cpns device approve stranger" in finding.next_step


async def test_a_device_that_died_without_a_word_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By all that was heard of it, it is connected: it is asked."""
    monkeypatch.setattr(service, "ASK_SECONDS", 0.5)
    async with world(tmp_path) as one:
        server = await one.start_server()
        admin = Admin(SERVER, one.store, one.provisioning, server, CLOCK)
        pne = await one.joined_pne("pne-1", await one.start_gateway(), presence=1000.0)
        await pne.send(pne.next_reading({"n": 1}))
        await one.stop(pne)
        (reach,) = [finding for finding in await admin.explain("pne-1") if finding.step == "reach"]
        assert reach.good is False
        assert "it does not answer now" in reach.what


async def test_where_another_process_runs_it_is_named(tmp_path: Path) -> None:
    """The process of this folder died; the server itself runs on."""
    async with world(tmp_path) as one:
        await one.start_server()
        admin = Admin(SERVER, one.store, one.provisioning, None, CLOCK)
        await one.provision(Kind.PNE, "pne-1")
        with pytest.raises(Unavailable, match="start it with"):
            await admin.ping("pne-1")
        await one.store.is_there(Process("a" * 16, "two.example", 7, "two.example:5683", None, CLOCK.now()))
        with pytest.raises(Unavailable, match=r"process 7 on two.example .reached at two.example:5683.") as refused:
            await admin.ping("pne-1")
        assert refused.value.code == "server_not_running"
