"""A server whose clock is an hour ahead for a moment; sessions in hours to come."""

import itertools
import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cpns.coap.errors import SessionOver
from cpns.domain.actor import OPERATOR
from cpns.domain.inventory import Kind
from cpns.ids import EntityId
from cpns.server import upkeep
from cpns.service import kept
from cpns.service.system import SystemClock
from cpns.session.table import OVERDUE
from cpns.transport import oscore
from cpns.transport.coap import request_of
from tests.support.world import FAST, until, world

AGE = 43200.0
"""Seconds after which a PNE and a PN GW renew their sessions; those of the server end after twice that."""


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return what sets the clock of all parties so many seconds ahead; their timers go on as they did."""
    ahead = [0.0]
    monkeypatch.setattr(SystemClock, "monotonic", lambda self: time.monotonic() + ahead[0])
    monkeypatch.setattr(oscore, "monotonic", lambda: time.monotonic() + ahead[0])
    return lambda seconds: ahead.__setitem__(0, seconds)


async def test_a_clock_that_is_ahead_for_a_moment_ends_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(upkeep, "SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(kept, "EXPIRY_SECONDS", 0.05)
    right, ahead = SystemClock.now, [0.0]
    monkeypatch.setattr(SystemClock, "now", lambda self: right(self) + ahead[0])
    async with world(tmp_path) as here:
        await here.start_server()
        gateway = await here.start_gateway()
        await here.provision(Kind.PNE, "ann")
        await here.server.pushes.actions.keep(OPERATOR, EntityId("ann"), here.server.pushes.actions.new("hello"), 600)
        ahead[0] = 2 * kept.JUMP_SECONDS
        await until(lambda: any("1 texts that would be over" in one.getMessage() for one in caplog.records))
        await here.joined_pne("ann", gateway, **FAST)
        await until(lambda: here.inboxes["ann"] == ["hello"])
        ahead[0] = 0.0
        await until(lambda: not here.server.pushes.delivery.waiting)


@pytest.mark.req("SES-1", "SES-2")
@pytest.mark.parametrize("age", [AGE + 1, OVERDUE * AGE + 1])
async def test_sessions_grow_old_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: Callable[[float], None], age: float
) -> None:
    """Those that are due for renewal serve until the new ones stand; those that are over seal nothing, at no end."""
    monkeypatch.setattr(upkeep, "SWEEP_SECONDS", 0.1)
    monkeypatch.setattr("cpns.gateway.app.SWEEP_SECONDS", 0.1)
    async with world(tmp_path) as here:
        await here.start_server()
        gateway = await here.start_gateway(keepalive=0.5)
        pne = await here.joined_pne("ann", gateway, **FAST)
        await pne.send(pne.next_reading({"n": 0}))
        tables = (here.server.sessions, pne.sessions, gateway.pans[0].hops)
        older = [*itertools.chain(*tables), gateway.uplink.standing.session]
        assert sorted(one.profile for one in older) == 2 * ["gw-server"] + 2 * ["pne-gw"] + 2 * ["pne-server"]
        later(age)
        for one in older:
            if age > OVERDUE * AGE:
                with pytest.raises(SessionOver, match="session_too_old"):
                    request_of(one, "ping", b"")
            else:
                request_of(one, "ping", b"")
        for number in range(1, 10):
            await pne.send(pne.next_reading({"n": number}))
        await until(lambda: not set(older) & set(itertools.chain(*tables)))
        await until(lambda: gateway.uplink.standing is not None and gateway.uplink.standing.session not in older)
        await pne.send(pne.next_reading({"n": 10}))
        assert [one.body for one in await here.store.readings(0, 100)] == [f'{{"n":{n}}}' for n in range(11)]
