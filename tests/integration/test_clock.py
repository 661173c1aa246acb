"""A server whose clock is an hour ahead for a moment."""

import logging
from pathlib import Path

import pytest

from cpns.domain.inventory import Kind
from cpns.ids import EntityId
from cpns.server import app
from cpns.service import kept
from cpns.service.system import SystemClock
from tests.support.world import FAST, until, world


async def test_a_clock_that_is_ahead_for_a_moment_ends_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(app, "SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(kept, "EXPIRY_SECONDS", 0.05)
    right, ahead = SystemClock.now, [0.0]
    monkeypatch.setattr(SystemClock, "now", lambda self: right(self) + ahead[0])
    async with world(tmp_path) as here:
        await here.start_server()
        gateway = await here.start_gateway()
        await here.provision(Kind.PNE, "ann")
        await here.server.pushes.keep(EntityId("ann"), here.server.pushes.new("hello"), 600)
        ahead[0] = 2 * kept.JUMP_SECONDS
        await until(lambda: any("1 texts that would be over" in one.getMessage() for one in caplog.records), 20)
        await here.joined_pne("ann", gateway, **FAST)
        await until(lambda: here.inboxes["ann"] == ["hello"], 20)
        ahead[0] = 0.0
        await until(lambda: not here.server.pushes.waiting, 20)
