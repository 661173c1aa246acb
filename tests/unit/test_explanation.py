"""What `cpns explain` says, from facts alone."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from cpns.admin.service import Admin
from cpns.crypto.secret import Secret
from cpns.domain.explanation import NEXT, Facts, explain
from cpns.domain.inventory import Entity, Kind, State, StoredReading
from cpns.errors import NotFound, Result
from cpns.ids import EntityId
from cpns.service.system import random_bytes
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
FINE = Facts(200.0, True, WATCH, HUB, True, 10.0, True, READING)


def test_all_is_well() -> None:
    found = explain(FINE)
    assert [one.good for one in found] == [True] * 5
    assert [one.age for one in found] == [100.0, 10.0, None, 10.0, 5.0]
    assert not any(one.next_step for one in found)


@pytest.mark.parametrize("reason", NEXT)
def test_every_reason_has_a_next_step(reason: str) -> None:
    device = dataclasses.replace(WATCH, last_result=Result.AUTHENTICATION_FAILED, last_reason=reason)
    attempt = explain(dataclasses.replace(FINE, device=device))[1]
    assert (attempt.good, attempt.next_step) == (False, NEXT[reason])
    assert reason in attempt.what


@pytest.mark.parametrize(
    ("change", "step", "good", "says"),
    [
        ({"device": dataclasses.replace(WATCH, state=State.REVOKED, revoked_at=150.0)}, 0, False, "revoked"),
        ({"device": dataclasses.replace(WATCH, last_result=None, last_at=None)}, 1, None, "none was ever seen"),
        ({"gateway_connected": False}, 2, False, "not connected"),
        ({"gateway": dataclasses.replace(HUB, state=State.REVOKED)}, 2, False, "revoked"),
        ({"gateway": None}, 2, None, "none is known"),
        ({"running": False, "session_age": None}, 2, None, "does not run"),
        ({"session_age": None}, 3, False, "none stands"),
        ({"confirmed": False}, 3, None, "has not used it"),
        ({"last_reading": None}, 4, None, "none was ever received"),
    ],
)
def test_each_hop(change: dict[str, Any], step: int, good: bool | None, says: str) -> None:
    finding = explain(dataclasses.replace(FINE, **change))[step]
    assert finding.good is good
    assert says in finding.what


async def test_it_is_told_of_a_live_device(tmp_path: Path) -> None:
    async with world(tmp_path) as one:
        server = await one.start_server()
        admin = Admin(SERVER, one.store, one.provisioning, server, CLOCK)
        gateway = await one.start_gateway(answer_timeout=0.5)
        pne = await one.joined_pne("pne-1", gateway)
        await pne.send(pne.next_reading({"n": 1}))
        assert [finding.good for finding in await admin.explain("pne-1")] == [True] * 5
        await one.provision(Kind.PNE, "pne-2")
        one.keys["pne-2"] = Secret(random_bytes(32))
        await one.start_pne("pne-2", gateway, timer=0.5)
        await one.refusal("pne-2")
        found = await admin.explain("pne-2")
        assert [finding.good for finding in found] == [True, False, True, False, None]
        assert "no_answer" in found[1].what  # its LocalEUKey copy does not open, so it says nothing
        with pytest.raises(NotFound):
            await admin.explain("pne-3")
